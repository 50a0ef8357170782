//! Configuration: one table of settings, read from a TOML file and from `VESTIBULE__SECTION__KEY`.
//!
//! Every problem is found before anything is reported, each with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use model::TemperatureScale;
use toml::de::{DeTable, DeValue};

use self::setup::{Setup, THERMOSTATS_MAX};

#[path = "thermostat/setup.rs"]
pub mod setup;

/// Longest configuration file, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// The table of a thermostat; there may be none.
const THERMOSTAT: &str = "thermostat";

/// Most problems that are listed; the rest are counted.
const PROBLEMS_MAX: usize = 100;

/// What the hub is told by its owner.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home's name, shown to its members.
    pub home_name: String,
    /// The home's time zone.
    pub timezone: TimeZone,
    /// Unit of temperatures from devices that name none.
    pub units: TemperatureScale,
    /// Where devices speak MQTT.
    pub mqtt: Mqtt,
    /// Prefix of Home Assistant MQTT discovery.
    pub discovery_prefix: String,
    /// The household's listener.
    pub console_listen: SocketAddr,
    /// The partners' listener.
    pub partners_listen: SocketAddr,
    /// Where partners reach the partners' listener, if it is known.
    pub partners_public_url: Option<String>,
    /// Database file; `None` is `vestibule.db` in the data directory.
    pub store_url: Option<String>,
    /// How long bodies are kept beside the ledger.
    pub retention_days: u32,
    /// A maker's ceiling: Cedar policies, a file.
    pub ceiling: Option<PathBuf>,
    /// The thermostats that the hub runs.
    pub thermostats: Vec<Setup>,
    /// What Alexa may be sent unasked, as far as it is granted: nothing without these.
    pub alexa: Alexa,
}

/// Of the skill's page on sending events.
#[derive(Clone, Default)]
pub struct Alexa {
    /// `na`, `eu` or `fe`: where the customer's account is.
    pub region: Option<String>,
    /// Client id of the skill's messages.
    pub client_id: Option<String>,
    /// Its secret.
    pub client_secret: Option<String>,
    /// A pretend Amazon on this machine, in place of both of its addresses.
    pub pretend: Option<String>,
}

impl fmt::Debug for Alexa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alexa(..)")
    }
}

/// Where devices speak MQTT.
#[derive(Clone)]
pub enum Mqtt {
    /// A broker that is there already: `mqtt://user:password@host:port` or `mqtts://`.
    External(String),
    /// The hub's own broker, on this address.
    Embedded(SocketAddr),
}

impl fmt::Debug for Mqtt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The URL may hold a password.
            Mqtt::External(_) => f.write_str("External(..)"),
            Mqtt::Embedded(address) => write!(f, "Embedded({address})"),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file and line, or the environment variable.
    pub place: String,
    /// What is wrong and how to mend it.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

type Set = fn(&mut Draft, &str) -> Result<(), String>;

/// A setting: where it stands, what it is for, its default, and how it is read. The one table of all settings.
struct Setting {
    section: &'static str,
    key: &'static str,
    example: &'static str,
    comment: &'static str,
    /// Shown as a comment in the example, since it has no default.
    optional: bool,
    set: Set,
}

struct Draft {
    config: Config,
    mqtt_url: Option<String>,
    mqtt_listen: Option<SocketAddr>,
}

const SETTINGS: &[Setting] = &[
    Setting {
        section: "home",
        key: "name",
        example: "\"Home\"",
        comment: "The home's name, for its members; partners never see it.",
        optional: false,
        set: |d, v| {
            let fits = !v.is_empty() && v.chars().count() <= 80 && !v.chars().any(char::is_control);
            d.config.home_name = v.to_owned();
            if fits { Ok(()) } else { Err("use 1 to 80 characters".into()) }
        },
    },
    Setting {
        section: "home",
        key: "timezone",
        example: "\"UTC\"",
        comment: "IANA time zone, as in Europe/Paris: daily values are held from midnight to midnight there.",
        optional: false,
        set: |d, v| {
            d.config.timezone =
                TimeZone::get(v).map_err(|_| format!("`{v}` is no IANA time zone; write one like Europe/Paris"))?;
            Ok(())
        },
    },
    Setting {
        section: "home",
        key: "units",
        example: "\"celsius\"",
        comment: "celsius or fahrenheit: the unit of devices that name none.",
        optional: false,
        set: |d, v| {
            d.config.units = match v {
                "celsius" => TemperatureScale::Celsius,
                "fahrenheit" => TemperatureScale::Fahrenheit,
                _ => return Err(format!("`{v}` is no unit; write celsius or fahrenheit")),
            };
            Ok(())
        },
    },
    Setting {
        section: "mqtt",
        key: "listen",
        example: "\"127.0.0.1:1883\"",
        comment: "The hub's own broker. Beyond loopback, devices need a password: vestibule devices add NAME.",
        optional: false,
        set: |d, v| {
            d.mqtt_listen = Some(address(v)?);
            Ok(())
        },
    },
    Setting {
        section: "mqtt",
        key: "url",
        example: "\"mqtt://user:password@192.168.1.10:1883\"",
        comment: "A broker that is there already (instead of listen); mqtts:// for TLS.",
        optional: true,
        set: |d, v| {
            d.mqtt_url = Some(v.to_owned());
            let rest = v.strip_prefix("mqtt://").or_else(|| v.strip_prefix("mqtts://"));
            if rest.is_none_or(str::is_empty) {
                return Err("write mqtt://host:1883 or mqtts://host:8883, with user:password@ if needed".into());
            }
            devices::mqtt::hub::check_url(v).map_err(|e| e.to_string())
        },
    },
    Setting {
        section: "mqtt",
        key: "discovery_prefix",
        example: "\"homeassistant\"",
        comment: "Prefix of Home Assistant MQTT discovery.",
        optional: false,
        set: |d, v| {
            if v.is_empty() || v.len() > 64 || v.contains(['+', '#']) || v.starts_with('/') {
                return Err("write a topic without + and #".into());
            }
            d.config.discovery_prefix = v.to_owned();
            Ok(())
        },
    },
    Setting {
        section: "console",
        key: "listen",
        example: "\"127.0.0.1:8480\"",
        comment: "The household's pages and API. Keep it at home.",
        optional: false,
        set: |d, v| {
            d.config.console_listen = address(v)?;
            Ok(())
        },
    },
    Setting {
        section: "partners",
        key: "listen",
        example: "\"127.0.0.1:8481\"",
        comment: "Partners' directives: the only listener to put on the internet, behind HTTPS.",
        optional: false,
        set: |d, v| {
            d.config.partners_listen = address(v)?;
            Ok(())
        },
    },
    Setting {
        section: "partners",
        key: "public_url",
        example: "\"https://home.example.org\"",
        comment: "Where partners reach that listener.",
        optional: true,
        set: |d, v| {
            if !v.starts_with("https://") || v.len() > 512 {
                return Err("partners reach the hub over HTTPS: write https://...".into());
            }
            d.config.partners_public_url = Some(v.trim_end_matches('/').to_owned());
            Ok(())
        },
    },
    Setting {
        section: "store",
        key: "url",
        example: "\"sqlite:/var/lib/vestibule/vestibule.db\"",
        comment: "The database; without it, vestibule.db in the data directory.",
        optional: true,
        set: |d, v| {
            if !v.starts_with("sqlite:") {
                // A URL of another kind may hold a password: only its scheme is repeated.
                let scheme: String = v.split(':').next().unwrap_or_default().chars().take(20).collect();
                return Err(format!("`{scheme}` is not supported; this version stores in SQLite: write sqlite:PATH"));
            }
            d.config.store_url = Some(v.to_owned());
            let path = v.trim_start_matches("sqlite:").trim_start_matches("//");
            let folder = Path::new(path).parent().filter(|f| !f.as_os_str().is_empty());
            match folder {
                Some(folder) if !folder.is_dir() => Err(format!("there is no folder `{}`: make it", folder.display())),
                _ => Ok(()),
            }
        },
    },
    Setting {
        section: "ledger",
        key: "retention_days",
        example: "365",
        comment: "How long the bodies of messages are kept beside the ledger; their record stays.",
        optional: false,
        set: |d, v| {
            let days: u32 = v.parse().map_err(|_| "write a number of days".to_owned())?;
            if !(1..=36_500).contains(&days) {
                return Err("write 1 to 36500 days".into());
            }
            d.config.retention_days = days;
            Ok(())
        },
    },
    Setting {
        section: "policy",
        key: "ceiling",
        example: "\"/etc/vestibule/ceiling.cedar\"",
        comment: "Cedar policies that no grant can pass (a maker's, or your own).",
        optional: true,
        set: |d, v| {
            d.config.ceiling = Some(PathBuf::from(v));
            let text = std::fs::read_to_string(v).map_err(|e| format!("`{v}` can't be read: {e}"))?;
            policy::check_ceiling(&text).map_err(|e| e.to_string())
        },
    },
    Setting {
        section: "alexa",
        key: "region",
        example: "\"eu\"",
        comment: "Where your Amazon account is: na (America), eu (Europe, India) or fe (Japan, Australia).",
        optional: true,
        set: |d, v| {
            d.config.alexa.region = Some(v.to_owned());
            if ["na", "eu", "fe"].contains(&v) { Ok(()) } else { Err("write na, eu or fe".into()) }
        },
    },
    Setting {
        section: "alexa",
        key: "client_id",
        example: "\"amzn1.application-oa2-client.0123\"",
        comment: "Of the skill's page Permissions, Send Alexa Events; without it Alexa is sent nothing unasked.",
        optional: true,
        set: |d, v| {
            d.config.alexa.client_id = Some(v.to_owned());
            if (1..=256).contains(&v.len()) { Ok(()) } else { Err("copy the client id from that page".into()) }
        },
    },
    Setting {
        section: "alexa",
        key: "client_secret",
        example: "\"amzn1.oa2-cs.v1.0123\"",
        comment: "Of the same page. Better in the environment: VESTIBULE__ALEXA__CLIENT_SECRET.",
        optional: true,
        set: |d, v| {
            d.config.alexa.client_secret = Some(v.to_owned());
            if (1..=256).contains(&v.len()) { Ok(()) } else { Err("copy the client secret from that page".into()) }
        },
    },
    Setting {
        section: "alexa",
        key: "pretend",
        example: "\"http://127.0.0.1:9000\"",
        comment: "For tests: a pretend Amazon on this machine. No other address is taken.",
        optional: true,
        set: |d, v| {
            d.config.alexa.pretend = Some(v.to_owned());
            let address = v.strip_prefix("http://").and_then(|a| a.parse::<SocketAddr>().ok());
            match address.is_some_and(|a| a.ip().is_loopback()) {
                true => Ok(()),
                false => Err("Amazon's addresses are fixed; a test may name http://127.0.0.1:PORT alone".into()),
            }
        },
    },
];

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no address; write IP:PORT, as in 127.0.0.1:8480"))
}

impl Default for Config {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            home_name: "Home".into(),
            timezone: TimeZone::UTC,
            units: TemperatureScale::Celsius,
            mqtt: Mqtt::Embedded(loopback(1883)),
            discovery_prefix: "homeassistant".into(),
            console_listen: loopback(8480),
            partners_listen: loopback(8481),
            partners_public_url: None,
            store_url: None,
            retention_days: 365,
            ceiling: None,
            thermostats: Vec::new(),
            alexa: Alexa::default(),
        }
    }
}

impl Config {
    /// Reads a file (if one is given) and the environment, and reports every problem at once.
    ///
    /// # Errors
    /// All problems found, in the order of the file, then of the environment.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Problem>> {
        let named = file.map(|path| (path.display().to_string(), read(path)));
        Self::from_text(named, environment)
    }

    /// The same of a file that has been read: its name, and its text or why there is none.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(
        file: Option<(String, Result<String, String>)>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Problem>> {
        let mut draft = Draft { config: Config::default(), mqtt_url: None, mqtt_listen: None };
        let mut problems = Vec::new();
        match &file {
            Some((name, Ok(text))) => draft.take_file(name, text, &mut problems),
            Some((name, Err(text))) => problems.push(Problem { place: name.clone(), text: text.clone() }),
            None => {}
        }
        let environment: BTreeMap<String, String> =
            environment.filter(|(name, _)| name.starts_with("VESTIBULE__")).collect();
        for (name, value) in &environment {
            draft.take_variable(name, value, &mut problems);
        }
        let whole = file.map_or_else(|| "environment".to_owned(), |(name, _)| name);
        if draft.mqtt_url.is_some() && draft.mqtt_listen.is_some() {
            let text = "[mqtt] has both `url` and `listen`: keep one (an external broker, or the hub's own)".into();
            problems.push(Problem { place: whole.clone(), text });
        }
        let alexa = &draft.config.alexa;
        let given = [alexa.region.is_some(), alexa.client_id.is_some(), alexa.client_secret.is_some()];
        if given.contains(&true) && given.contains(&false) {
            let text = "[alexa] needs `region`, `client_id` and `client_secret` together, or none of them".into();
            problems.push(Problem { place: whole.clone(), text });
        }
        let (console, partners) = (draft.config.console_listen, draft.config.partners_listen);
        if console == partners && console.port() != 0 {
            let text = format!("[console] and [partners] both listen on {console}: give each its own port");
            problems.push(Problem { place: whole, text });
        }
        match (draft.mqtt_url, draft.mqtt_listen) {
            (Some(url), _) => draft.config.mqtt = Mqtt::External(url),
            (None, Some(listen)) => draft.config.mqtt = Mqtt::Embedded(listen),
            (None, None) => {}
        }
        if problems.is_empty() { Ok(draft.config) } else { Err(problems) }
    }

    /// The database of a data directory.
    pub fn store_url(&self, data: &Path) -> String {
        self.store_url.clone().unwrap_or_else(|| format!("sqlite:{}", data.join("vestibule.db").display()))
    }

    /// A commented configuration with every setting; as it stands it is the default.
    pub fn example() -> String {
        let mut out =
            String::from("# Vestibule's configuration. Each setting can also be given as VESTIBULE__SECTION__KEY.\n");
        let mut section = "";
        for s in SETTINGS {
            if s.section != section {
                section = s.section;
                out.push_str(&format!("\n[{section}]\n"));
            }
            let off = if s.optional { "# " } else { "" };
            out.push_str(&format!("# {}\n{off}{} = {}\n", s.comment, s.key, s.example));
        }
        out.push_str(&Setup::example());
        out
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("can't be read: {e}"))?.len();
    if size > FILE_MAX_BYTES {
        return Err(format!("is larger than {FILE_MAX_BYTES} bytes"));
    }
    std::fs::read_to_string(path).map_err(|e| format!("can't be read: {e}"))
}

fn find(section: &str, key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.section == section && s.key == key)
}

fn keys_of(section: &str) -> String {
    SETTINGS.iter().filter(|s| s.section == section).map(|s| s.key).collect::<Vec<_>>().join(", ")
}

fn sections() -> String {
    let mut names: Vec<_> = SETTINGS.iter().map(|s| s.section).chain([THERMOSTAT]).collect();
    names.dedup();
    names.join(", ")
}

impl Setting {
    /// The text of a value of the type that the example has.
    fn text(&self, value: &DeValue<'_>) -> Result<String, &'static str> {
        match (self.example.starts_with('"'), value) {
            (true, DeValue::String(text)) => Ok(text.to_string()),
            (true, _) => Err("write a text in quotes"),
            (false, DeValue::Integer(i)) => Ok(i.to_string()),
            (false, _) => Err("write a whole number, without quotes"),
        }
    }
}

impl Draft {
    fn take_file(&mut self, name: &str, text: &str, problems: &mut Vec<Problem>) {
        // The lines are counted once: a file of nothing but mistakes must not be read through for each.
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let line = |at: usize| ends.partition_point(|end| *end < at) + 1;
        let mut found: Vec<(usize, String)> = Vec::new();
        let mut thermostats = None;
        // A file with a mistake is read on: the rest may have others.
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |s| s.start);
            found.push((line(at), error.message().trim().replace('\n', "; ")));
        }
        let broken = !found.is_empty();
        for (section, value) in root.get_ref() {
            let (at, section) = (line(section.span().start), section.get_ref().as_ref());
            if section == THERMOSTAT {
                thermostats = Some((at, value.get_ref()));
                continue;
            }
            let DeValue::Table(table) = value.get_ref() else {
                found.push((at, format!("`{section}` stands outside a section; the sections are {}", sections())));
                continue;
            };
            if !SETTINGS.iter().any(|s| s.section == section) {
                found.push((at, format!("there is no section [{section}]; the sections are {}", sections())));
                continue;
            }
            for (key, value) in table {
                let (at, key) = (line(key.span().start), key.get_ref().as_ref());
                let problem = match find(section, key) {
                    None => Some(format!("there is no setting `{key}` in [{section}]; it has {}", keys_of(section))),
                    Some(setting) => {
                        let set = setting.text(value.get_ref()).map_err(str::to_owned);
                        let set = set.and_then(|text| (setting.set)(self, &text));
                        set.err().map(|e| format!("`{section}.{key}`: {e}"))
                    }
                };
                found.extend(problem.map(|text| (at, text)));
            }
        }
        // Its temperatures are in the home's units, which may stand further down.
        match thermostats {
            None => {}
            Some((at, DeValue::Array(list))) => {
                for (i, table) in list.iter().enumerate() {
                    let here = line(table.span().start);
                    match table.get_ref() {
                        DeValue::Table(_) if i == THERMOSTATS_MAX => {
                            found.push((here, format!("more than {THERMOSTATS_MAX} [[thermostat]]")));
                        }
                        DeValue::Table(_) if i > THERMOSTATS_MAX => {}
                        DeValue::Table(table) => match Setup::read(table, self.config.units) {
                            Ok(setup) => match self.config.thermostats.iter().find_map(|t| t.collides(&setup)) {
                                Some(problem) => found.push((here, problem)),
                                None => self.config.thermostats.push(setup),
                            },
                            Err(all) => {
                                found.extend(all.into_iter().map(|(p, text)| (p.map_or(here, line), text)));
                            }
                        },
                        _ => found.push((at, "a thermostat is a table: write [[thermostat]]".into())),
                    }
                }
            }
            Some((at, _)) => found.push((at, "a thermostat is written [[thermostat]], in two brackets".into())),
        }
        found.sort();
        if broken {
            // One mistake of writing is told once: what was made of its line is a guess.
            found.dedup_by_key(|(at, _)| *at);
        }
        let more = found.len().saturating_sub(PROBLEMS_MAX);
        let more_at = found.get(PROBLEMS_MAX).map(|(at, _)| *at);
        found.truncate(PROBLEMS_MAX);
        found.extend(more_at.map(|at| (at, format!("{more} more problems from here on are not listed"))));
        problems.extend(found.into_iter().map(|(at, text)| Problem { place: format!("{name}:{at}"), text }));
    }

    fn take_variable(&mut self, name: &str, value: &str, problems: &mut Vec<Problem>) {
        let mut parts = name.trim_start_matches("VESTIBULE__").splitn(2, "__");
        let section = parts.next().unwrap_or_default().to_lowercase();
        let key = parts.next().unwrap_or_default().to_lowercase();
        let problem = match find(&section, &key) {
            Some(setting) => (setting.set)(self, value).err(),
            None => Some(format!("there is no setting `{section}.{key}`; `vestibule check --example` lists them")),
        };
        problems.extend(problem.map(|text| Problem { place: name.to_owned(), text }));
        // What the environment says goes before the file.
        match name {
            "VESTIBULE__MQTT__URL" => self.mqtt_listen = None,
            "VESTIBULE__MQTT__LISTEN" => self.mqtt_url = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn every_problem_is_told_at_once_with_its_line() {
        let text = "[home]\nname = 3\ntimezone = \"Mars/Olympus\"\ncolour = \"red\"\n\n[mqtt]\nlisten = \"nowhere\"\n\n\
                    [shop]\nx = 1\n[store]\nurl = \"postgres://db\"\n[ledger]\nretention_days = [1]\n";
        let problems = load(text, &[("VESTIBULE__CONSOLE__LISTEN", "x"), ("VESTIBULE__A__B", "c")]).unwrap_err();
        let lines: Vec<String> = problems.iter().map(|p| p.place.rsplit(':').next().unwrap().to_owned()).collect();
        assert_eq!(lines, ["2", "3", "4", "7", "9", "12", "14", "VESTIBULE__A__B", "VESTIBULE__CONSOLE__LISTEN"]);
        assert!(problems[5].text.contains("sqlite:PATH"), "{}", problems[5]);
    }

    #[test]
    fn broken_toml_names_its_line() {
        let problems = load("[home]\nname = \"a\nb\"\n", &[]).unwrap_err();
        assert!(problems[0].place.ends_with(":2"), "{}", problems[0]);
        // What stands before and after it is read all the same.
        let problems = load("[home]\nunits = 7\nname = \n[store]\nurl = \"ftp:x\"\n", &[]).unwrap_err();
        let lines: Vec<&str> = problems.iter().map(|p| p.place.rsplit(':').next().unwrap()).collect();
        assert_eq!(lines, ["2", "3", "5"]);
    }

    #[test]
    fn the_example_is_the_default_and_the_environment_goes_first() {
        let config = load(&Config::example(), &[]).unwrap();
        assert_eq!(config.console_listen, Config::default().console_listen);
        let config = load("[mqtt]\nlisten = \"127.0.0.1:1\"\n", &[("VESTIBULE__MQTT__URL", "mqtt://h:2")]).unwrap();
        assert!(matches!(config.mqtt, Mqtt::External(_)));
        assert!(!format!("{config:?}").contains("mqtt://"));
        assert!(load("[mqtt]\nlisten = \"127.0.0.1:1\"\nurl = \"mqtt://h\"\n", &[]).is_err());
    }
}

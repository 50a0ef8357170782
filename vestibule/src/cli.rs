//! The command line.

#![expect(clippy::indexing_slicing, reason = "a key that JSON has not is null, no panic")]

mod grants;

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use links::oauth::ClientTerms;
use model::{ClientId, DeviceId, LinkId, MemberId, PartnerId};
use serde_json::Value;

use crate::commands::{Login, Request};
use crate::config::Config;
use crate::core::{Core, Role};
use crate::doctor::{self, Verdict};
use crate::infer::InferArgs;
use crate::thermostat::{self, ThermostatCmd};
use crate::{audit, control, demo, hub, infer};

/// Done.
const DONE: u8 = 0;
/// Failed.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;

/// Longest line that is read as a password, in bytes.
const PASSWORD_LINE_MAX_BYTES: u64 = 4096;

/// How often a question is put before it counts as not answered.
const ASK_TRIES: usize = 3;

/// Longest letter that `docket add --file` reads, in bytes.
const LETTER_MAX_BYTES: u64 = 256 * 1024;

#[derive(Parser)]
#[command(
    name = "vestibule",
    version,
    about = "What lets the small side say no and keep the product: a self-hosted hub between a home and its partners",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

/// Which home.
#[derive(Args)]
pub struct DataArgs {
    /// Data directory
    #[arg(long, value_name = "DIR", env = "VESTIBULE_DATA", default_value = "vestibule-data")]
    pub data: PathBuf,
    /// Configuration (TOML); see `vestibule check --example`. A running hub has its own
    #[arg(long, value_name = "FILE", env = "VESTIBULE_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
struct ShowArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Cmd {
    /// Show a simulated home and three links to a pretend Alexa, live on a page
    Demo(DemoArgs),
    /// Run the hub
    Serve(DataArgs),
    /// Check the configuration: every problem at once, each with its line
    Check {
        /// Configuration (TOML)
        #[arg(long, value_name = "FILE", env = "VESTIBULE_CONFIG")]
        config: Option<PathBuf>,
        /// Print a commented configuration with every setting
        #[arg(long)]
        example: bool,
    },
    /// Link a partner and print its access token, once
    Link {
        /// Who: alexa
        partner: String,
        /// What it gets: commands-only, routines, glance, convenience or everything (see `vestibule profile list`)
        #[arg(long, default_value = "commands-only")]
        profile: String,
        /// A sensor that may start routines, with the profile routines; may be given more than once
        #[arg(long = "sensor", value_name = "DEVICE")]
        sensors: Vec<String>,
        /// Print the token alone
        #[arg(long)]
        print_token: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the links
    Links(ShowArgs),
    /// End a link: its token and its grants are worth nothing from now on
    Unlink {
        /// Which (see `vestibule links`)
        id: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Clients: companies' software that members may link
    #[command(subcommand)]
    Client(ClientCmd),
    /// Members: who may log in to link
    #[command(subcommand)]
    Member(MemberCmd),
    /// Check whether a partner can reach this hub and be linked: exit code 1 when something is wrong
    Doctor {
        /// Who: alexa
        partner: String,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Profiles
    #[command(subcommand)]
    Profile(ProfileCmd),
    /// List the devices, and what was dropped and why
    #[command(args_conflicts_with_subcommands = true)]
    Devices {
        #[command(flatten)]
        show: ShowArgs,
        #[command(subcommand)]
        command: Option<DevicesCmd>,
    },
    /// What each partner may be told and may command: the matrix, why, and as a file
    #[command(subcommand)]
    Policy(grants::PolicyCmd),
    /// Grants, one by one
    #[command(subcommand)]
    Grant(grants::GrantCmd),
    /// Which grants the last days had a use for, which not, and what was refused: what a smallest set would be
    Suggest {
        /// Only of this partner or link
        link: Option<String>,
        /// How many days are looked at
        #[arg(long, default_value_t = 14)]
        days: u16,
        /// Grant in the file what was refused, too, as coarsely as it can be
        #[arg(long)]
        with_refused: bool,
        /// Write the grants here, for `policy diff` and `policy import`
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// PINs of links: what a person says to a partner before it may unlock or open
    #[command(subcommand)]
    Pin(grants::PinCmd),
    /// What members are told of new grants, until they have seen it
    #[command(subcommand)]
    Notice(grants::NoticeCmd),
    /// Windows: grants that count for a few minutes, when you say so
    #[command(subcommand)]
    Window(grants::WindowCmd),
    /// Measure how much of a home's life can be told from what partners are sent
    Infer(InferArgs),
    /// The docket: what partners demanded
    #[command(subcommand)]
    Docket(DocketCmd),
    /// The ledger: everything that left, and every refusal
    #[command(subcommand)]
    Ledger(LedgerCmd),
    /// The thermostat
    #[command(subcommand)]
    Thermostat(ThermostatCmd),
    /// Publish a recording (an ecobee web-portal export) as devices on an MQTT broker
    Replay {
        /// The recording
        file: PathBuf,
        /// The broker, as in mqtt://127.0.0.1:1883
        #[arg(long, value_name = "URL")]
        mqtt: String,
        /// How many times faster than it was recorded; 0 is as fast as the broker takes it
        #[arg(long, default_value_t = 0.0)]
        speed: f64,
        /// Print a summary as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Options of the demonstration.
#[derive(Args)]
pub struct DemoArgs {
    /// The household's page
    #[arg(long, value_name = "A:P", default_value = "127.0.0.1:8480")]
    pub console: SocketAddr,
    /// The partners' listener
    #[arg(long, value_name = "A:P", default_value = "127.0.0.1:8481")]
    pub partners: SocketAddr,
    /// The broker (a free port if not given)
    #[arg(long, value_name = "A:P", default_value = "127.0.0.1:0")]
    pub mqtt: SocketAddr,
    /// A broker elsewhere in place of the demonstration's own, as in mqtt://127.0.0.1:1883
    #[arg(long, value_name = "URL", conflicts_with = "mqtt")]
    pub broker: Option<String>,
    /// After how many days of home time bodies are erased; their record stays
    #[arg(long, value_name = "N", default_value_t = 365)]
    pub retention_days: u32,
    /// Replay this recording instead of simulating a home
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// How many times faster than the wall time passes in the home
    #[arg(long, value_name = "N", default_value_t = 720.0, value_parser = speed)]
    pub speed: f64,
    /// End after this long, counted from ready, as in 60s or 5m
    #[arg(long = "for", value_name = "60s", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// Data directory (a temporary one if not given)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print a summary as one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
enum ProfileCmd {
    /// Apply a profile to the devices known now: shows the difference, then grants
    Apply {
        /// The link (see `vestibule links`)
        link: String,
        /// commands-only, routines, glance, convenience or everything; the one applied last if not given
        #[arg(long)]
        profile: Option<String>,
        /// A sensor that may start routines, with the profile routines, in the place of those named before
        #[arg(long = "sensor", value_name = "DEVICE")]
        sensors: Vec<String>,
        /// Only show the difference
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List the profiles
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask three questions and propose a profile; nothing is granted
    Propose {
        /// An answer given beforehand, as in `tell=nothing`; may be given more than once
        #[arg(long = "answer", value_name = "QUESTION=ANSWER")]
        answers: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum ClientCmd {
    /// Register a client; prints its id and its secret, once
    Add {
        /// Whose: alexa
        partner: String,
        /// Where a member's browser may be sent back to; the partner's console shows it. May be given several times
        #[arg(long = "redirect-uri", value_name = "URI", required = true, num_args = 1..)]
        redirect_uris: Vec<String>,
        /// PKCE: required, or checked only if it is sent
        #[arg(long, value_name = "WHEN", value_parser = ["required", "if-sent"])]
        pkce: Option<String>,
        /// Whether each refresh gives a new refresh token
        #[arg(long, value_name = "BOOL")]
        rotate: Option<bool>,
        /// Without a secret: for software that can't keep one. It must use PKCE
        #[arg(long)]
        public: bool,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List the clients
    List(ShowArgs),
    /// Remove a client, and end the links that it holds
    Remove {
        /// Its id (see `vestibule client list`)
        id: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Subcommand)]
enum MemberCmd {
    /// Make a member, or give one a new password, read from the terminal or from standard input
    Add {
        /// Name to log in with
        name: String,
        /// owner: is asked before what tells who is at home takes force. resident: is told. A new member is an owner if not
        /// said
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Option<Role>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the members
    List(ShowArgs),
    /// Remove a member; links that they made stay
    Remove {
        /// Name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Subcommand)]
enum DevicesCmd {
    /// Make a name and password for a device at the hub's own broker
    Add {
        /// User name
        name: String,
        /// Give a name that is there already another password
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Give a device the household's own name
    Name {
        /// The device
        device: String,
        /// Its name; leave it out to take the name away
        name: Option<String>,
        /// Only towards this link
        #[arg(long)]
        link: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Say which room a device is in, for `grant add --room`; its own word counts where you say nothing (`suggested_area` in
    /// its MQTT discovery)
    Room {
        /// The device
        device: String,
        /// Its room; leave it out to leave it to the device
        room: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Make what a device senses (temperature, humidity, motion, contact) an endpoint of its own towards a partner, so that
    /// this can be reported unasked where the rest is not
    Split {
        /// The device
        device: String,
        /// Towards this link
        #[arg(long)]
        link: String,
        /// Put it together again
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Forget a device, its history and its grants
    Forget {
        /// The device
        device: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Subcommand)]
enum DocketCmd {
    /// Put a written demand on the docket
    Add {
        /// Who demands
        #[arg(long)]
        partner: String,
        /// The letter, a text file (- for standard input)
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Until when, as in 2026-12-31
        #[arg(long, value_name = "DATE")]
        deadline: Option<String>,
        /// What follows a refusal
        #[arg(long)]
        threat: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List written and observed demands
    List(ShowArgs),
}

#[derive(Subcommand)]
enum LedgerCmd {
    /// List the record, oldest first (with --json one JSON object per line)
    List(ShowArgs),
    /// Show one row with its body and its proof
    Show {
        /// Index in the ledger
        index: u64,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Recompute the whole tree and check every signature and body
    Verify(ShowArgs),
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let seconds: f64 = number.parse().map_err(|_| "write a duration like 60s, 5m or 1h".to_owned())?;
    let factor = match unit {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "ms" => 0.001,
        _ => return Err("write a duration like 60s, 5m or 1h".into()),
    };
    Duration::try_from_secs_f64(seconds * factor).map_err(|e| e.to_string())
}

/// How many times faster than the wall a demonstration's clock may run: so fast that a minute is a year.
const SPEED_MAX: f64 = 525_600.0;

fn speed(text: &str) -> Result<f64, String> {
    let fits = |speed: &f64| *speed > 0.0 && *speed <= SPEED_MAX;
    text.parse().ok().filter(fits).ok_or_else(|| format!("write a number above 0, at most {SPEED_MAX}"))
}

/// Why the program ends otherwise than well.
pub enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// It could not do what it was asked to.
    Failed(String),
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Failure::Failed(text)
    }
}

/// Reads the command line, does what it says, and gives the exit status: 0 done, 1 failed, 2 wrong usage.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("RUST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,vestibule=info,devices=info,egress=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::from(DONE),
        Err(Failure::Usage(text)) => {
            eprintln!("vestibule: {text}");
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(text)) => {
            // It may repeat what stands in a file: nothing that a terminal would obey.
            let text: String = text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
            eprintln!("vestibule: {text}");
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(command: Cmd) -> Result<(), Failure> {
    match command {
        Cmd::Demo(args) => runtime()?.block_on(demo::run(args)),
        Cmd::Serve(data) => {
            let config = configuration(data.config.as_deref())?;
            runtime()?.block_on(hub::serve(config, &data.data))
        }
        Cmd::Thermostat(command) => print(&thermostat::run(command)?),
        Cmd::Check { config, example } => {
            if example {
                return print(&Config::example());
            }
            configuration(config.as_deref())?;
            print("the configuration is good\n")
        }
        Cmd::Link { partner, profile, sensors, print_token, data } => {
            let partner = id(PartnerId::new(partner))?;
            let done = ask(&data, Request::Link { partner, profile, sensors: devices_of(sensors)? })?;
            if print_token {
                return print(&format!("{}\n", text(&done, "token")));
            }
            print(&format!(
                "linked {} as {} ({} devices, profile {})\naccess token, shown this once: {}\n",
                text(&done, "partner"),
                text(&done, "link"),
                done["devices"],
                text(&done, "profile"),
                text(&done, "token"),
            ))?;
            print(&said_of_waiting(done["waiting"].as_array().map_or(0, Vec::len)))
        }
        Cmd::Links(show) => {
            let done = ask(&show.data, Request::Links)?;
            listing(
                &show,
                &done,
                &["id", "partner", "profile", "created", "devices", "grants", "ends", "notice"],
                "no links yet",
            )
        }
        Cmd::Unlink { id: link, data } => {
            ask(&data, Request::Unlink { link: id(LinkId::new(link))? })?;
            print("unlinked; its token and grants are worth nothing from now on\n")
        }
        Cmd::Client(command) => client(command),
        Cmd::Doctor { partner, show } => doctor(partner, &show),
        Cmd::Member(command) => member(command),
        Cmd::Profile(ProfileCmd::Apply { link, profile, sensors, dry_run, show }) => {
            let (link, sensors) = (id(LinkId::new(link))?, devices_of(sensors)?);
            let request = Request::Profile { link, profile, sensors, apply: !dry_run };
            let done = ask(&show.data, request)?;
            if show.json {
                return print_json(&done);
            }
            for line in done["changes"].as_array().into_iter().flatten() {
                print(&format!("{}\n", line.as_str().unwrap_or_default()))?;
            }
            let word = if dry_run { "would be granted" } else { "granted" };
            print(&format!("{} {word}, {} taken back\n", done["added"], done["removed"]))?;
            print(&said_of_waiting(done["waiting"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)))
        }
        Cmd::Profile(ProfileCmd::List { json }) => profiles(json),
        Cmd::Profile(ProfileCmd::Propose { answers, json }) => propose(&answers, json),
        Cmd::Devices { command: None, show } => devices(&show),
        Cmd::Devices { command: Some(command), .. } => match command {
            DevicesCmd::Add { name, replace, data } => {
                let done = ask(&data, Request::DeviceAdd { name, replace })?;
                let (user, password) = (text(&done, "user"), text(&done, "password"));
                print(&format!("user: {user}\npassword, shown this once: {password}\n"))
            }
            DevicesCmd::Name { device, name, link, data } => {
                let link = link.map(|l| id(LinkId::new(l))).transpose()?;
                ask(&data, Request::Name { device: id(DeviceId::new(device))?, name, link })?;
                print("named\n")
            }
            DevicesCmd::Room { device, room, data } => {
                let done = ask(&data, Request::Room { device: id(DeviceId::new(device))?, room })?;
                match text(&done, "room").as_str() {
                    "" => print("it is in no room\n"),
                    room => print(&format!("it is in the room {room}\n")),
                }
            }
            DevicesCmd::Split { device, link, undo, data } => {
                let (device, link) = (id(DeviceId::new(device))?, id(LinkId::new(link))?);
                ask(&data, Request::Split { device, link, split: !undo })?;
                print(if undo { "one endpoint again" } else { "two endpoints: what it does, and what it senses" })?;
                print("; let Alexa discover devices again, if it is not told of such changes\n")
            }
            DevicesCmd::Forget { device, data } => {
                ask(&data, Request::Forget { device: id(DeviceId::new(device))? })?;
                print("forgotten\n")
            }
        },
        Cmd::Policy(command) => grants::policy(command),
        Cmd::Grant(command) => grants::grant(command),
        Cmd::Window(command) => grants::window(command),
        Cmd::Notice(command) => grants::notice(command),
        Cmd::Pin(command) => grants::pin(command),
        Cmd::Suggest { link, days, with_refused, out, show } => {
            grants::suggest(Request::Suggest { link, days, with_refused }, out.as_deref(), &show)
        }
        Cmd::Infer(args) => infer::run(&args, print),
        Cmd::Docket(DocketCmd::Add { partner, file, deadline, threat, data }) => {
            let text = text_file(&file, "the letter", LETTER_MAX_BYTES)?;
            let partner = id(PartnerId::new(partner))?;
            let done = ask(&data, Request::DocketAdd { partner, text, deadline, threat })?;
            print(&format!("on the docket as leaf {}\n", done["index"]))
        }
        Cmd::Docket(DocketCmd::List(show)) => {
            let done = ask(&show.data, Request::DocketList)?;
            let columns = ["index", "time", "partner", "observed", "count", "deadline", "threat", "text"];
            listing(&show, &done, &columns, "the docket is empty")
        }
        Cmd::Ledger(command) => ledger(command),
        Cmd::Replay { file, mqtt, speed, json } => runtime()?.block_on(hub::replay(file, mqtt, speed, json)),
    }
}

fn client(command: ClientCmd) -> Result<(), Failure> {
    match command {
        ClientCmd::Add { partner, redirect_uris, pkce, rotate, public, show } => {
            let partner = id(PartnerId::new(partner))?;
            let mut terms = ClientTerms::of_partner(&partner);
            terms.secret = !public;
            terms.pkce = pkce.map_or(terms.pkce || public, |when| when == "required");
            terms.rotate = rotate.unwrap_or(terms.rotate);
            let request = Request::ClientAdd { partner, redirects: redirect_uris, terms: Some(terms) };
            let done = ask(&show.data, request)?;
            if show.json {
                return print_json(&done);
            }
            let secret = match &done["client_secret"] {
                Value::Null => "none".to_owned(),
                secret => format!("{}    (shown this once)", shown(secret)),
            };
            print(&format!(
                "client id:          {}\nclient secret:      {secret}\nauthorization URI:  {}\naccess token URI:   {}\n",
                text(&done, "client_id"),
                text(&done, "authorization_endpoint"),
                text(&done, "token_endpoint"),
            ))
        }
        ClientCmd::List(show) => {
            let done = ask(&show.data, Request::Clients)?;
            listing(&show, &done, &["client_id", "partner", "pkce", "rotates", "links", "redirects"], "no clients yet")
        }
        ClientCmd::Remove { id: client, data } => {
            let done = ask(&data, Request::ClientRemove { client: id(ClientId::new(client))? })?;
            print(&format!("removed; {} links ended with it\n", done["links"]))
        }
    }
}

fn doctor(partner: String, show: &ShowArgs) -> Result<(), Failure> {
    let partner = id(PartnerId::new(partner))?;
    let checks = runtime()?.block_on(doctor::run(&partner, |request| control::ask(&show.data.data, &request)));
    let wrong = checks.iter().filter(|c| c.verdict == Verdict::Fail).count();
    if show.json {
        print_json(&serde_json::json!({"ok": wrong == 0, "checks": checks}))?;
    } else {
        for c in &checks {
            let word = match c.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Note => "note",
                Verdict::Fail => "FAIL",
            };
            print(&format!("{word}  {:<12} {}\n", c.check, c.text))?;
        }
    }
    if wrong == 0 { Ok(()) } else { Err(Failure::Failed(format!("{wrong} of {} checks failed", checks.len()))) }
}

fn member(command: MemberCmd) -> Result<(), Failure> {
    match command {
        MemberCmd::Add { name, role, data } => {
            id(MemberId::new(name.as_str()))?;
            let password = password()?;
            let done = ask(&data, Request::MemberAdd { name, password, role })?;
            let word = if done["changed"] == true { "has a new password" } else { "may log in now" };
            print(&format!("{} {word}\n", text(&done, "member")))
        }
        MemberCmd::List(show) => {
            let done = ask(&show.data, Request::Members)?;
            listing(&show, &done, &["member", "role", "created"], "no members yet: vestibule member add NAME")
        }
        MemberCmd::Remove { name, data } => {
            let done = ask(&data, Request::MemberRemove { name })?;
            print(&format!("removed; {} links that they made stay: see `vestibule links`\n", done["links"]))
        }
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "owner" => Ok(Role::Owner),
        "resident" => Ok(Role::Resident),
        _ => Err("there is no such role; there are owner and resident".to_owned()),
    }
}

/// A member, with the password that this one types, or that is the first line of standard input.
fn login(name: String) -> Result<Login, Failure> {
    id(MemberId::new(name.as_str()))?;
    let password = if std::io::stdin().is_terminal() {
        let prompt = format!("password of {name}: ");
        rpassword::prompt_password(prompt).map_err(|e| Failure::Failed(format!("the password can't be read: {e}")))?
    } else {
        password()?
    };
    Ok(Login { name, password })
}

/// What waits until other owners have agreed.
fn said_of_waiting(count: usize) -> String {
    match count {
        0 => String::new(),
        n => format!(
            "{n} of them must wait for a day, or until every owner has confirmed: see `vestibule grant list`, and \
             `vestibule grant confirm ID --member NAME`\n"
        ),
    }
}

/// A new password.
fn password() -> Result<String, Failure> {
    typed_twice("password")
}

/// Something secret: typed twice without being shown, or the first line of standard input.
///
/// # Errors
/// When it can't be read, or the two were not the same.
pub fn typed_twice(what: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::Failed(format!("the {what} can't be read: {e}"));
    let mut line = String::new();
    if !std::io::stdin().is_terminal() {
        use std::io::Read as _;
        std::io::BufRead::read_line(&mut std::io::stdin().lock().take(PASSWORD_LINE_MAX_BYTES), &mut line)
            .map_err(failed)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let first = rpassword::prompt_password(format!("{what}: ")).map_err(failed)?;
    let second = rpassword::prompt_password("again: ").map_err(failed)?;
    if first == second { Ok(first) } else { Err(Failure::Failed("the two were not the same; try again".into())) }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Failed(format!("no runtime: {e}")))
}

fn configuration(file: Option<&Path>) -> Result<Config, Failure> {
    Config::load(file, std::env::vars()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::Failed(format!("the configuration has {} problem(s):\n{}", lines.len(), lines.join("\n")))
    })
}

fn id<T>(parsed: Result<T, model::IdError>) -> Result<T, Failure> {
    parsed.map_err(|e| Failure::Usage(e.to_string()))
}

/// Asks the running hub, or opens the data directory when none runs.
///
/// # Errors
/// The hub's own word, or why the directory can't be opened.
pub fn ask(data: &DataArgs, request: Request) -> Result<Value, Failure> {
    if let Some(answer) = control::ask(&data.data, &request) {
        return answer.map_err(Failure::Failed);
    }
    let config = configuration(data.config.as_deref())?;
    if let Some(answer) = audit::of_copy(&data.data, &config, &request) {
        return answer.map_err(Failure::Failed);
    }
    runtime()?.block_on(async {
        let core = Core::open_for(&data.data, config, request.may_make_a_home()).await?;
        let answer = core.carry_out(request).await;
        core.close().await;
        answer.map_err(Failure::Failed)
    })
}

/// Writes to standard output; whoever stops reading (`| head`) ends the program quietly.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(i32::from(DONE)),
        Err(e) => Err(Failure::Failed(format!("standard output: {e}"))),
        Ok(()) => Ok(()),
    }
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

fn text(value: &Value, key: &str) -> String {
    shown(&value[key])
}

/// A value in a table. What a partner or device wrote is shown without control characters.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Widest column of a table, in characters.
const COLUMN_MAX_CHARS: usize = 60;

fn listing(show: &ShowArgs, rows: &Value, columns: &[&str], empty: &str) -> Result<(), Failure> {
    if show.json {
        return print_json(rows);
    }
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return print(&format!("{empty}\n"));
    }
    table(rows, columns)
}

fn table(rows: &[Value], columns: &[&str]) -> Result<(), Failure> {
    let cell = |row: &Value, column: &str| -> String { text(row, column).chars().take(COLUMN_MAX_CHARS).collect() };
    let width = |column: &&str| {
        let widest = rows.iter().map(|r| cell(r, column).chars().count()).max().unwrap_or(0);
        widest.max(column.len())
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    print(&line(columns.iter().map(|c| (*c).to_owned()).collect()))?;
    for row in rows {
        print(&line(columns.iter().map(|c| cell(row, c)).collect()))?;
    }
    Ok(())
}

/// Asks what was not answered beforehand, and says which profile fits.
fn propose(given: &[String], json: bool) -> Result<(), Failure> {
    let mut answers = BTreeMap::new();
    for answer in given {
        let (question, answer) = answer.split_once('=').unwrap_or((answer, ""));
        let Some(q) = policy::questions().iter().find(|q| q.slug == question) else {
            let known: Vec<&str> = policy::questions().iter().map(|q| q.slug.as_str()).collect();
            return Err(Failure::Usage(format!("there is no question `{question}`; there are {}", known.join(", "))));
        };
        if q.answers.iter().all(|a| a.slug != answer) {
            let known: Vec<&str> = q.answers.iter().map(|a| a.slug.as_str()).collect();
            return Err(Failure::Usage(format!("`{question}` is answered by one of {}", known.join(", "))));
        }
        answers.insert(question.to_owned(), answer.to_owned());
    }
    for question in policy::questions() {
        if !answers.contains_key(&question.slug) {
            answers.insert(question.slug.clone(), put(question)?);
        }
    }
    let Some(proposal) = policy::propose(&answers) else {
        return Err(Failure::Failed("no profile fits these answers".into()));
    };
    if json {
        return print_json(&serde_json::json!({"answers": answers, "profile": proposal.profile, "why": proposal.why}));
    }
    print(&format!(
        "{}: {}\nnothing is granted yet: vestibule link PARTNER --profile {0}, or vestibule profile apply LINK --profile {0}\n",
        proposal.profile, proposal.why
    ))
}

/// Puts one question to whoever sits at the terminal.
fn put(question: &policy::Question) -> Result<String, Failure> {
    let slugs: Vec<&str> = question.answers.iter().map(|a| a.slug.as_str()).collect();
    if !std::io::stdin().is_terminal() {
        let flag = format!("--answer {}={}", question.slug, slugs.join("|"));
        return Err(Failure::Usage(format!("nobody is there to ask \"{}\"; say {flag}", question.text)));
    }
    eprintln!("{}", question.text);
    for (n, answer) in (1..).zip(&question.answers) {
        eprintln!("  {n}  {}", answer.text);
    }
    for _ in 0..ASK_TRIES {
        eprint!("1 to {}: ", slugs.len());
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let _ = std::io::stdin().lock().read_line(&mut line);
        let number = line.trim().parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        if let Some(slug) = number.and_then(|n| slugs.get(n)) {
            return Ok((*slug).to_owned());
        }
    }
    Err(Failure::Failed("no answer was given".into()))
}

fn devices_of(names: Vec<String>) -> Result<Vec<DeviceId>, Failure> {
    names.into_iter().map(|d| id(DeviceId::new(d))).collect()
}

fn profiles(json: bool) -> Result<(), Failure> {
    if json {
        let list: Vec<Value> = policy::profiles()
            .iter()
            .map(|p| serde_json::json!({"slug": p.slug, "title": p.title, "summary": p.summary}))
            .collect();
        return print_json(&Value::Array(list));
    }
    for p in policy::profiles() {
        print(&format!("{}: {}\n  {}\n", p.slug, p.title, p.summary.trim().replace('\n', "\n  ")))?;
    }
    Ok(())
}

fn devices(show: &ShowArgs) -> Result<(), Failure> {
    let done = ask(&show.data, Request::Devices)?;
    if show.json {
        return print_json(&done);
    }
    let rows = done["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        print("no devices yet: they announce themselves by Home Assistant MQTT discovery\n")?;
    } else {
        let mut flat = Vec::new();
        for device in rows {
            for property in device["properties"].as_array().into_iter().flatten() {
                let mut row = property.clone();
                row["device"] = device["id"].clone();
                row["name"] = device["name"].clone();
                row["room"] = device["room"].clone();
                flat.push(row);
            }
        }
        table(&flat, &["device", "name", "room", "property", "shown", "time", "desired", "readings"])?;
    }
    let dropped: Vec<String> = done["dropped"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, n)| n.as_u64() != Some(0))
        .map(|(reason, n)| format!("{reason} {n}"))
        .collect();
    if dropped.is_empty() { Ok(()) } else { print(&format!("dropped: {}\n", dropped.join(", "))) }
}

/// A text that somebody wrote into a file, or to standard input.
fn text_file(file: &Path, what: &str, max_bytes: u64) -> Result<String, Failure> {
    use std::io::Read as _;
    let failed = |e: std::io::Error| Failure::Failed(format!("`{}` can't be read: {e}", file.display()));
    let mut bytes = Vec::new();
    let limit = max_bytes + 1;
    if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        std::fs::File::open(file).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    if bytes.len() as u64 >= limit {
        return Err(Failure::Failed(format!("{what} is longer than {max_bytes} bytes")));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::Failed(format!("{what} is not UTF-8 text; save it as UTF-8 and try again")))
}

fn ledger(command: LedgerCmd) -> Result<(), Failure> {
    match command {
        LedgerCmd::List(show) => {
            let mut from = 0;
            loop {
                let rows = ask(&show.data, Request::LedgerList { from, limit: audit::PAGE })?;
                let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
                let Some(last) = rows.last().and_then(|r| r["index"].as_u64()) else { return Ok(()) };
                if show.json {
                    for row in rows {
                        print_json(row)?;
                    }
                } else {
                    table(rows, &["index", "time", "type", "partner", "link", "trigger", "message", "bytes"])?;
                }
                from = last + 1;
            }
        }
        LedgerCmd::Show { index, show } => {
            let done = ask(&show.data, Request::LedgerShow { index })?;
            if show.json {
                return print_json(&done);
            }
            let pretty = serde_json::to_string_pretty(&done["leaf"]).unwrap_or_default();
            print(&format!("{pretty}\n"))?;
            match &done["body"] {
                Value::Null => print("body: none kept\n")?,
                body => print(&format!("body: {}\n", shown(body)))?,
            }
            print(&format!("proof:\n{}\n", done["proof"].as_str().unwrap_or_default()))
        }
        LedgerCmd::Verify(show) => {
            let done = ask(&show.data, Request::LedgerVerify)?;
            if show.json {
                print_json(&done)?;
            } else {
                let pretty = serde_json::to_string_pretty(&done).unwrap_or_default();
                print(&format!("{pretty}\n"))?;
            }
            if done["ok"] == true { Ok(()) } else { Err(Failure::Failed("the ledger does not verify".into())) }
        }
    }
}

//! A store that fails: nothing leaves that is not recorded, nothing acknowledged is lost, the home goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::directive;

use crate::harness::{
    Faults, Hub, Mosquitto, Publisher, Subscriber, control, full, get, program, publish, run, sha256, thermostats,
};
use crate::wire::{Answer, Wire, post};

/// Thermostats in the home.
const DEVICES: usize = 2;

/// Room on the small disk, in kilobytes.
const DISK_KB: u64 = 4096;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn unavailable(answer: &Answer) -> bool {
    answer.status == 503 && answer.body == alexa::constants::UNAVAILABLE
}

/// A home with a link, and what was seen of it from outside.
struct Story {
    mosquitto: Mosquitto,
    sensor: Publisher,
    reading: u32,
    data: PathBuf,
    token: String,
    endpoints: Vec<String>,
    /// Hashes of the bodies that came, and how often.
    told: BTreeMap<String, usize>,
    /// Demands that were confirmed.
    demands: BTreeSet<u64>,
}

impl Story {
    fn begin(data: PathBuf, start: impl FnOnce(&Path, &str) -> Hub) -> (Self, Hub) {
        let mosquitto = Mosquitto::start();
        thermostats(mosquitto.port, DEVICES);
        let hub = start(&data, &mosquitto.url());
        hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == DEVICES));
        let sensor = Publisher::start(mosquitto.port, "t0/temp");
        let (told, demands) = Default::default();
        let mut story =
            Self { mosquitto, sensor, reading: 0, data, token: String::new(), endpoints: Vec::new(), told, demands };
        story.token = story.link("everything").unwrap().1;
        let found = story.ask(&hub, "Alexa.Discovery", "Discover", json!({})).unwrap();
        let found: Value = serde_json::from_slice(&found.body).unwrap();
        let found = found["event"]["payload"]["endpoints"].as_array().unwrap();
        story.endpoints = found.iter().map(|e| e["endpointId"].as_str().unwrap().to_owned()).collect();
        (story, hub)
    }

    /// A new link: its id and its token.
    fn link(&self, profile: &str) -> Result<(String, String), String> {
        let done = control(&self.data, &json!({"link": {"partner": "alexa", "profile": profile}}))?;
        Ok((done["link"].as_str().unwrap().to_owned(), done["token"].as_str().unwrap().to_owned()))
    }

    /// Asks as the partner; what is told is noted.
    fn ask(&mut self, hub: &Hub, namespace: &str, name: &str, payload: Value) -> Result<Answer, Answer> {
        let endpoint = self.endpoints.first().cloned().unwrap_or_default();
        let body = directive(namespace, name, &endpoint, &self.token, payload).to_string();
        let answer = send(&hub.partners, body.as_bytes());
        if unavailable(&answer) {
            return Err(answer);
        }
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        *self.told.entry(sha256(&answer.body)).or_default() += 1;
        Ok(answer)
    }

    fn report_state(&mut self, hub: &Hub) -> Result<Answer, Answer> {
        self.ask(hub, "Alexa", "ReportState", json!({}))
    }

    fn set_temperature(&mut self, hub: &Hub, celsius: f64) -> Result<Answer, Answer> {
        let payload = json!({"targetSetpoint": {"value": celsius, "scale": "CELSIUS"}});
        self.ask(hub, "Alexa.ThermostatController", "SetTargetTemperature", payload)
    }

    fn demand(&mut self) -> Result<(), String> {
        let demand = json!({"partner": "alexa", "text": "Tell us more.", "deadline": null, "threat": null});
        let done = control(&self.data, &json!({"docket_add": demand}))?;
        self.demands.insert(done["index"].as_u64().unwrap());
        Ok(())
    }

    /// Whatever the ledger can do: readings come in and are shown, and the household's page is there.
    fn assert_home_works(&mut self, hub: &Hub) {
        self.reading += 1;
        let milli = 15_000 + self.reading * 10;
        self.sensor.publish(&format!("{:.2}", f64::from(milli) / 1000.0));
        let known = format!("\"value\":{milli}}}");
        hub.wait_until(&["devices"], |d| d.to_string().contains(&known));
        for path in ["/", "/api/overview", "/metrics"] {
            assert_eq!(get(&format!("{}{path}", hub.console)).0, 200, "{path}");
        }
    }

    /// Opened anew by the ordinary way, the record holds all that came out and all that was confirmed.
    fn assert_complete(&self, mut hub: Hub) -> Vec<Value> {
        hub.stop();
        let hub = Hub::start(&self.data, &self.mosquitto.url());
        let rows = hub.ledger();
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        for hash in rows.iter().filter(|r| r["type"] == "intent").filter_map(|r| r["body_sha256"].as_str()) {
            *kept.entry(hash.to_owned()).or_default() += 1;
        }
        let missing: Vec<_> = self.told.iter().filter(|(hash, times)| kept.get(*hash) < Some(times)).collect();
        assert!(missing.is_empty(), "{} of {} bodies that left are not recorded", missing.len(), self.told.len());
        for index in &self.demands {
            assert_eq!(rows[usize::try_from(*index).unwrap()]["type"], "demand", "leaf {index} was confirmed");
        }
        let report = hub.cli_json(&["ledger", "verify"]);
        assert_eq!(report["ok"], true, "{report}");
        rows
    }
}

fn send(base: &str, body: &[u8]) -> Answer {
    runtime().block_on(async {
        let mut wire = Wire::connect(base).await.unwrap();
        wire.write(&post(body, "")).await.unwrap();
        wire.answer().await.expect("an answer")
    })
}

fn health(hub: &Hub, wanted: u16) -> String {
    for _ in 0..600 {
        let (status, text) = get(&format!("{}/healthz", hub.console));
        if status == wanted {
            return text;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("/healthz never said {wanted}");
}

#[test]
fn whichever_write_fails_nothing_leaves_unrecorded_and_nothing_confirmed_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (mut story, hub) = Story::begin(dir.path().join("data"), |data, mqtt| Hub::start_with(data, mqtt, &faults));
    let orders = Subscriber::start(story.mosquitto.port, "+/sp/set");
    let links = control(&story.data, &json!("links")).unwrap();
    let main = links[0]["id"].as_str().unwrap().to_owned();
    let (mut failures, mut obeyed, mut ended, mut failing) = (0, 0, Vec::new(), BTreeSet::new());
    let all = BTreeSet::from(["link", "ask", "order", "demand", "narrow", "widen", "unlink"]);
    let passes = if full() { 20 } else { 1 };
    // Not persisted, and persisted although it was told as failed.
    for point in [faults::RECORD_BEFORE, faults::RECORD_AFTER].repeat(passes) {
        let (mut turn, mut quiet, mut rounds) = (1, 0, 0);
        loop {
            faults.arm(&format!("{point} fail {turn} 1"));
            let mut failed = BTreeMap::new();
            let mut note = |what: &'static str, bad: Option<String>| failed.extend(bad.map(|why| (what, why)));
            let link = story.link("glance");
            note("link", link.as_ref().err().map(ToString::to_string));
            note("ask", story.report_state(&hub).err().map(|e| format!("{e:?}")));
            let order = story.set_temperature(&hub, 18.0 + f64::from(rounds % 7));
            let done = |a: &Answer| String::from_utf8_lossy(&a.body).contains("\"name\":\"Response\"");
            obeyed += usize::from(order.as_ref().is_ok_and(done));
            note(
                "order",
                match order {
                    Ok(a) if done(&a) => None,
                    Ok(a) => Some(String::from_utf8_lossy(&a.body).into_owned()),
                    Err(e) => Some(format!("{e:?}")),
                },
            );
            note("demand", story.demand().err().map(|e| format!("{e:?}")));
            let narrow = json!({"profile": {"link": main, "profile": "glance", "apply": true}});
            let widen = json!({"profile": {"link": main, "profile": "everything", "apply": true}});
            note("narrow", control(&story.data, &narrow).err());
            note("widen", control(&story.data, &widen).err());
            // A link that is ended stays ended, whatever became of the record of it.
            if let Ok((id, token)) = link {
                let before = faults.hits();
                // What only takes back is tried again at once.
                control(&story.data, &json!({"unlink": {"link": id}})).unwrap();
                failing.extend((faults.hits() > before).then_some("unlink"));
                let ask = directive("Alexa", "ReportState", &story.endpoints[0], &token, json!({})).to_string();
                assert_eq!(send(&hub.partners, ask.as_bytes()).body, alexa::constants::BAD_TOKEN_EVENT);
                ended.push((id, token));
            }
            let hits = faults.hits();
            assert!(hits <= 1 && failed.len() <= hits, "{point} {turn}: {hits} writes failed, and so did {failed:#?}");
            failures += hits;
            failing.extend(failed.into_keys());
            // Outcomes are written together with whatever comes next, so there are not as many writes each time.
            quiet = if hits == 0 { quiet + 1 } else { 0 };
            if quiet == 2 && failing == all {
                break;
            }
            // One that always slipped through has its chance again.
            turn = if quiet == 2 { 1 } else { turn + 1 };
            rounds += 1;
            assert!(rounds < 200, "{point}: only {failing:?} ever failed");
        }
        failing.clear();
    }
    faults.arm("");
    story.assert_home_works(&hub);
    assert_eq!(health(&hub, 200), "ok\n");
    // What could not be made is not there: nobody has its token.
    let left = control(&story.data, &json!("links")).unwrap();
    assert_eq!(left.as_array().map(Vec::len), links.as_array().map(Vec::len), "{left}");
    let heard = orders.until_now(story.mosquitto.port, "t0/sp/set").len();
    let mqtt = story.mosquitto.url();
    let rows = story.assert_complete(hub);
    let commands = rows.iter().filter(|r| r["type"] == "command").count();
    assert!(
        0 < obeyed && obeyed <= heard && heard <= commands,
        "{obeyed} confirmed, {heard} carried out, {commands} recorded"
    );
    // What was taken back stays so after a restart, and so does what was given last.
    let hub = Hub::start(&story.data, &mqtt);
    let of = |what: &str| -> BTreeSet<&str> {
        let all = rows.iter().filter(|r| r["type"] == "link" && r["summary"] == what);
        all.map(|r| r["link"].as_str().unwrap()).collect()
    };
    // Each end is on the record (twice, where a write was told as failed and was none); so is that of a link whose making failed
    // half-way.
    let ended_ids: BTreeSet<&str> = ended.iter().map(|(id, _)| id.as_str()).collect();
    assert!(of("link revoked").is_superset(&ended_ids) && of("link created").is_superset(&of("link revoked")));
    let links = control(&story.data, &json!("links")).unwrap();
    let there: Vec<&str> = links.as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap()).collect();
    // One whose making was told as failed and was stored is gone: nobody has its token.
    assert_eq!(there, [main.as_str()]);
    for (_, token) in &ended {
        let ask = directive("Alexa", "ReportState", "x", token, json!({})).to_string();
        assert_eq!(send(&hub.partners, ask.as_bytes()).body, alexa::constants::BAD_TOKEN_EVENT);
    }
    assert!(story.set_temperature(&hub, 20.0).is_ok());
    println!("{failures} failed writes, {} bodies, {} demands confirmed", story.told.len(), story.demands.len());
}

#[test]
fn a_hub_whose_first_writes_fail_says_so_and_comes_up_the_next_time() {
    let mosquitto = Mosquitto::start();
    for point in [faults::RECORD_BEFORE, faults::RECORD_AFTER] {
        for turn in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let faults = Faults::new();
            faults.arm(&format!("{point} fail {turn} 1"));
            let up = Hub::try_spawn(faults.serve(&data, &mosquitto.url()), &data);
            let hits = faults.hits();
            faults.arm("");
            match up {
                Ok(hub) => drop(hub),
                Err(said) => assert!(hits == 1 && said.contains("a test made this fail"), "{said}"),
            }
            let hub = Hub::start(&data, &mosquitto.url());
            assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true, "{point} {turn}");
            if hits == 0 {
                assert!(turn > 1, "{point}: no write at the start: the test tells nothing");
                break;
            }
        }
    }
}

#[test]
fn while_the_ledger_cannot_record_the_home_goes_on_and_partners_get_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (mut story, hub) = Story::begin(dir.path().join("data"), |data, mqtt| Hub::start_with(data, mqtt, &faults));
    let orders = Subscriber::start(story.mosquitto.port, "+/sp/set");
    // As on a disk that has become read-only: neither the record nor the history can be written.
    faults.arm(&format!("{} fail 1 0\n{} fail 1 0", faults::RECORD_BEFORE, faults::HISTORY_BEFORE));
    for _ in 0..5 {
        assert!(story.report_state(&hub).is_err());
        assert!(story.set_temperature(&hub, 25.0).is_err());
        assert!(story.demand().is_err());
        story.assert_home_works(&hub);
    }
    assert!(health(&hub, 503).contains("store"));
    // It says so where monitoring looks, and carried nothing out.
    assert!(get(&format!("{}/metrics", hub.console)).1.contains("vestibule_not_recorded_total 10\n"));
    assert!(orders.until_now(story.mosquitto.port, "t0/sp/set").is_empty(), "an order was carried out unrecorded");
    faults.arm("");
    assert_eq!(health(&hub, 200), "ok\n");
    assert!(story.report_state(&hub).is_ok() && story.set_temperature(&hub, 21.0).is_ok() && story.demand().is_ok());
    story.assert_complete(hub);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "how slow an answer is, is measured by the wall clock")]
fn a_slow_disk_makes_answers_late_and_nothing_else() {
    const WAIT: Duration = Duration::from_millis(150);
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (mut story, hub) = Story::begin(dir.path().join("data"), |data, mqtt| Hub::start_with(data, mqtt, &faults));
    faults.arm(&format!("{} wait:{} 1 0", faults::RECORD_BEFORE, WAIT.as_millis()));
    let begin = Instant::now();
    assert!(story.report_state(&hub).is_ok());
    assert!(begin.elapsed() >= WAIT, "the answer left before the disk had it");
    // Those that wait together are written together: many at once take hardly longer than one.
    let asks: Vec<_> = (0..32)
        .map(|n| {
            let endpoint = story.endpoints[n % DEVICES].clone();
            directive("Alexa", "ReportState", &endpoint, &story.token, json!({})).to_string()
        })
        .collect();
    let base = hub.partners.as_str();
    let answers = std::thread::scope(|scope| {
        let all: Vec<_> = asks.iter().map(|ask| scope.spawn(|| send(base, ask.as_bytes()))).collect();
        // Meanwhile the home is as quick as ever.
        story.assert_home_works(&hub);
        all.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
    });
    for answer in &answers {
        assert_eq!(answer.status, 200);
        *story.told.entry(sha256(&answer.body)).or_default() += 1;
    }
    let writes = faults.hits();
    assert!(writes < 32, "{writes} writes for 33 messages: nothing was written together");
    faults.arm("");
    story.assert_complete(hub);
}

/// A small disk in memory, where this may be mounted; else a limit on the size of files, which is as hard.
struct SmallDisk {
    dir: tempfile::TempDir,
    mounted: bool,
}

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_KB}k"), "vestibule-test"])
            .arg(dir.path())
            .output()
            .is_ok_and(|out| out.status.success());
        Self { dir, mounted }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn serve(&self, data: &Path, mqtt: &str) -> Hub {
        let mut command = program();
        if !self.mounted {
            // Blocks of 512 bytes; the signal would end the program before it could be told.
            let limit = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
            let hub = command;
            command = Command::new("sh");
            command.args(["-c", limit, "sh", &(DISK_KB / 2).to_string()]).arg(hub.get_program());
        }
        command.args(["serve", "--data"]).arg(data).env("VESTIBULE__MQTT__URL", mqtt).env_remove("RUST_LOG");
        Hub::spawn(command, data)
    }

    /// What else lies on the disk.
    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Leaves so many bytes free.
    fn fill(&self, leave: usize) {
        if self.mounted {
            let _ = std::fs::write(self.ballast(), vec![1u8; usize::try_from(DISK_KB * 1024).unwrap()]);
            let len = std::fs::metadata(self.ballast()).unwrap().len();
            let file = std::fs::OpenOptions::new().write(true).open(self.ballast()).unwrap();
            file.set_len(len.saturating_sub(leave as u64)).unwrap();
        }
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.dir.path()).status();
        assert!(status.unwrap().success(), "{how}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg(self.dir.path()).status();
        }
    }
}

#[test]
fn on_a_full_disk_nothing_leaves_and_with_room_again_all_goes_on() {
    let disk = SmallDisk::new();
    let (mut story, hub) = Story::begin(disk.path(), |data, mqtt| disk.serve(data, mqtt));
    disk.fill(96 * 1024);
    let mut before = 0;
    // Discovery has the largest answers.
    while story.ask(&hub, "Alexa.Discovery", "Discover", json!({})).is_ok() {
        before += 1;
        assert!(before < 20_000, "the disk never got full");
    }
    assert!(before > 0 || disk.mounted, "the limit was reached before anything was told");
    for _ in 0..3 {
        assert!(story.set_temperature(&hub, 25.0).is_err());
        story.assert_home_works(&hub);
    }
    assert!(health(&hub, 503).contains("store"));
    let hub = if disk.mounted {
        std::fs::remove_file(disk.ballast()).unwrap();
        assert_eq!(health(&hub, 200), "ok\n");
        hub
    } else {
        // A limit is for a process's life.
        drop(hub);
        Hub::start(&story.data, &story.mosquitto.url())
    };
    assert!(story.report_state(&hub).is_ok() && story.set_temperature(&hub, 21.0).is_ok() && story.demand().is_ok());
    story.assert_complete(hub);
}

#[test]
fn on_a_read_only_disk_the_hub_says_so_and_harms_nothing() {
    let disk = SmallDisk::new();
    let (mut story, mut hub) = Story::begin(disk.path(), |data, mqtt| disk.serve(data, mqtt));
    assert!(story.report_state(&hub).is_ok());
    hub.stop();
    let read_only = |yes: bool| match disk.mounted {
        true => disk.remount(if yes { "ro" } else { "rw" }),
        false => {
            let mode = if yes { "a-w" } else { "u+w" };
            assert!(Command::new("chmod").args(["-R", mode]).arg(&story.data).status().unwrap().success());
        }
    };
    read_only(true);
    let data = story.data.display().to_string();
    for args in [&["serve", "--data", &data][..], &["link", "alexa", "--data", &data], &["devices", "--data", &data]] {
        let out = run(args);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(&data) && said.lines().count() == 1, "{args:?}: {said}");
    }
    read_only(false);
    publish(story.mosquitto.port, "t1/temp", "21.5");
    let hub = Hub::start(&story.data, &story.mosquitto.url());
    assert!(story.report_state(&hub).is_ok());
    story.assert_complete(hub);
}

//! What is told unasked: to a pretend Amazon over HTTP. The gate, the record and the sender are the real ones; in the first
//! tests the clock is moved by hand, in the last one the whole hub runs.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::Counters;
use devices::mqtt::house::{Event, House};
use egress::{
    Ended, EventLines, EventSettings, Events, Gateways, REFUSED_AGAIN_MS, RecordError, Recorder, Region, Tally,
};
use gate::{GateState, REPORT_GRID_MS, StateWrite};
use jiff::tz::TimeZone;
use ledger::{Draft, Receipt};
use links::Link;
use model::{Clock as _, GrantId, HouseholdId, LinkId, MemberId, PartnerId, TemperatureScale, Timestamp};
use serde_json::{Value, json};
use store::Store;
use store::ledger::{Append, LedgerWriter, Opening};
use testkit::schemas::event_faults;
use testkit::{FakeClock, PretendAlexa, PretendAmazon, Received, Whim};

use crate::harness::{Faults, Hub, Mosquitto, PATIENCE, Random, full, publish, sha256};

/// 2026-01-12, 12:00 UTC.
const NOON: i64 = 1_768_219_200_000;

struct Book(LedgerWriter);

impl Recorder for Book {
    async fn record(&self, drafts: Vec<Draft>, writes: Vec<StateWrite>) -> Result<Vec<Receipt>, RecordError> {
        let held = writes.into_iter().map(|w| (w.key, w.json)).collect();
        self.0.append(Append { drafts, held }).await.map_err(|_| RecordError)
    }

    fn note(&self, draft: Draft) {
        self.0.append_nowait(vec![draft]).unwrap();
    }
}

/// A home with sensors `s0`, `s1`, ... and a link that is granted Everything, or nothing unasked.
struct Home {
    amazon: PretendAmazon,
    events: Arc<Events<Book>>,
    state: Arc<Mutex<GateState>>,
    clock: Arc<FakeClock>,
    house: House,
    link: LinkId,
    writer: LedgerWriter,
    _folder: tempfile::TempDir,
}

impl Home {
    async fn new(sensors: usize, slug: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let household = HouseholdId::new("home").unwrap();
        let clock = Arc::new(FakeClock::at(Timestamp::from_millis(NOON)));
        let opening = Opening { household: household.clone(), seed: [7; 32], begin: Some(clock.now()) };
        let store = Store::open(&format!("sqlite:{}", folder.path().join("home.db").display())).unwrap();
        let writer = LedgerWriter::open(&store, &opening).unwrap();
        let none = policy::compile(&policy::Facts::empty(household.clone()), &[], None, clock.now()).unwrap();
        let state = Arc::new(Mutex::new(GateState::new(TimeZone::UTC, Arc::new(none))));
        let house =
            House::new("homeassistant", TemperatureScale::Celsius, Default::default(), Arc::new(Counters::default()));
        let amazon = PretendAmazon::start().await.unwrap();
        let settings = EventSettings {
            gateways: Gateways::new(Region::Europe, Some(amazon.url())).unwrap(),
            client_id: "skill-client".into(),
            client_secret: "skill-secret".into(),
        };
        let events = Arc::new(Events {
            state: Arc::clone(&state),
            recorder: Arc::new(Book(writer.clone())),
            clock: clock.clone(),
            tally: Arc::new(Tally::default()),
            settings,
            lines: Arc::new(EventLines::default()),
            ended: Mutex::default(),
        });
        let link = LinkId::new("events").unwrap();
        let mut home = Self { amazon, events, state, clock, house, link: link.clone(), writer, _folder: folder };
        for n in 0..sensors {
            let config = json!({
                "name": format!("Sensor {n}"), "uniq_id": format!("s{n}"), "stat_t": format!("s{n}/temp"),
                "dev_cla": "temperature", "unit_of_meas": "°C",
                "dev": {"ids": [format!("s{n}")], "name": format!("Sensor {n}")},
            });
            home.hear(&format!("homeassistant/sensor/s{n}/config"), &config.to_string());
            home.hear(&format!("s{n}/temp"), "20.00");
        }
        let partner = PartnerId::new("alexa").unwrap();
        let (mut made, _) = Link::new(link, household, partner, slug.into(), home.clock.now(), ([1; 32], [2; 32]));
        {
            let mut state = home.state.lock().unwrap();
            let known: Vec<_> = state.registry.iter().map(|(d, known)| (d.clone(), known.device_type())).collect();
            made.enroll(known.iter().map(|(d, t)| (d, *t)));
            state.links.insert(made);
        }
        home.grant(slug);
        home
    }

    fn hear(&mut self, topic: &str, payload: &str) {
        let mut state = self.state.lock().unwrap();
        for event in self.house.hear(topic, payload.as_bytes(), self.clock.now()) {
            match event {
                Event::Described { device, description } => drop(state.describe(&device, description).unwrap()),
                Event::Withdrawn { device } => drop(state.registry.withdraw(&device)),
                Event::Reading(reading) => drop(state.report(reading)),
            }
        }
    }

    fn grant(&self, slug: &str) {
        let mut state = self.state.lock().unwrap();
        let facts = state.facts(HouseholdId::new("home").unwrap(), |_| true);
        let owner = MemberId::new("owner").unwrap();
        let terms = policy::Terms { now: self.clock.now(), granted_by: owner.clone(), affects: vec![owner] };
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        let change = policy::apply(policy::profile(slug).unwrap(), &facts, &self.link, &[], &terms, ids).unwrap();
        let table = policy::compile(&facts, &change.add, None, terms.now).unwrap();
        state.replace_table(Arc::new(table), terms.now);
    }

    async fn accept(&self) -> bool {
        let link = self.state.lock().unwrap().links.shared(&self.link).unwrap();
        self.events.accept(&link, "a-code").await
    }

    /// Moves the clock and waits for the rounds that begin then.
    async fn pass(&self, millis: i64) {
        self.clock.advance(millis);
        for round in self.events.tick() {
            round.await.unwrap();
        }
    }

    fn set(&mut self, sensor: usize, degrees: &str) {
        self.hear(&format!("s{sensor}/temp"), degrees);
    }

    /// The values of the ChangeReports that Amazon took.
    fn values(&self) -> Vec<f64> {
        self.amazon.accepted("ChangeReport").iter().map(|r| changed(r)["value"]["value"].as_f64().unwrap()).collect()
    }

    /// Each body that Amazon got is on record, once for each time it was made, and no secret is beside it.
    async fn all_on_record(&self) {
        assert_eq!(self.amazon.faults(), Vec::<String>::new());
        let writer = self.writer.clone();
        let rows = tokio::task::spawn_blocking(move || {
            let size = writer.reader().size().unwrap();
            (0..size).map(|index| writer.reader().show(index).unwrap().unwrap()).collect::<Vec<_>>()
        })
        .await
        .unwrap();
        let hashes: BTreeSet<String> =
            rows.iter().filter_map(|r| r.row.body_sha256.map(|digest| digest.to_string())).collect();
        for received in self.amazon.received() {
            assert!(hashes.contains(&sha256(&received.body)), "not on record: {}", received.json);
        }
        for row in rows {
            let kept = format!("{:?} {:?}", row.leaf, row.body);
            for secret in ["Atza|", "Atzr", "skill-secret", "a-code"] {
                assert!(!kept.contains(secret), "{secret}: {kept}");
            }
        }
    }
}

fn changed(report: &Received) -> Value {
    report.json["event"]["payload"]["change"]["properties"][0].clone()
}

#[tokio::test]
async fn reports_leave_on_the_grid_and_say_neither_when_nor_why() {
    let mut home = Home::new(2, "everything").await;
    home.pass(REPORT_GRID_MS).await;
    assert!(home.amazon.received().is_empty(), "nothing is told before Amazon was let");
    assert!(home.accept().await);
    assert!(!home.accept().await, "a code is good once");
    home.pass(REPORT_GRID_MS - 1).await;
    assert_eq!(home.amazon.received().len(), 2, "nothing leaves before the tick");
    home.pass(1).await;
    let [added] = home.amazon.accepted("AddOrUpdateReport").try_into().unwrap();
    let endpoints = added.json["event"]["payload"]["endpoints"].as_array().unwrap();
    let promised = |e: &Value| {
        e["capabilities"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["interface"] == "Alexa" || c["properties"]["proactivelyReported"] == true)
    };
    assert!(endpoints.len() == 2 && endpoints.iter().any(promised), "{endpoints:?}");
    // How things are, once; then only what changes, at the tick after it, as it is then.
    assert_eq!(home.values(), [20.0, 20.0]);
    home.pass(3_217).await;
    home.set(0, "21.50");
    home.pass(1_000).await;
    home.set(0, "22.50");
    assert_eq!(home.values().len(), 2);
    home.pass(REPORT_GRID_MS - 4_217).await;
    assert_eq!(home.values()[2..], [22.5]);
    let report = home.amazon.accepted("ChangeReport").pop().unwrap();
    let tick = home.clock.now();
    assert_eq!(tick.floor_to(REPORT_GRID_MS), tick);
    let property = changed(&report);
    assert_eq!(property["timeOfSample"], tick.to_rfc3339());
    assert_eq!(property["uncertaintyInMilliseconds"], REPORT_GRID_MS);
    assert_eq!(report.json["event"]["payload"]["change"]["cause"], json!({"type": "PERIODIC_POLL"}));
    // What came and went within a tick is never told; nor is what stays.
    home.set(0, "30.00");
    home.set(0, "22.50");
    for _ in 0..6 {
        home.pass(REPORT_GRID_MS).await;
    }
    assert_eq!(home.values().len(), 3);
    home.all_on_record().await;
}

#[tokio::test]
async fn without_a_grant_nothing_is_told_unasked_and_what_is_taken_back_is_said() {
    let mut home = Home::new(1, "glance").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    home.set(0, "25.00");
    home.pass(REPORT_GRID_MS).await;
    assert!(home.amazon.accepted("ChangeReport").is_empty());
    let sent = home.amazon.accepted("AddOrUpdateReport").len();
    home.grant("everything");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.amazon.accepted("AddOrUpdateReport").len(), sent + 1, "the flags have changed");
    assert_eq!(home.values(), [25.0]);
    home.grant("commands-only");
    home.set(0, "26.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values(), [25.0]);
    let gone = home.amazon.accepted("DeleteReport");
    assert_eq!(gone.len(), 1, "a sensor that tells nothing and does nothing is gone");
    assert_eq!(gone[0].json["event"]["payload"]["endpoints"].as_array().map(Vec::len), Some(1));
    home.all_on_record().await;
}

#[tokio::test]
async fn many_devices_go_in_parts_and_smaller_ones_when_amazon_says_so() {
    let home = Home::new(65, "everything").await;
    home.amazon.with_events([Whim::Right, Whim::Answer(413, "REQUEST_ENTITY_TOO_LARGE_EXCEPTION")]);
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    let count = |r: &Received| r.json["event"]["payload"]["endpoints"].as_array().unwrap().len();
    let parts: Vec<usize> = home.amazon.accepted("AddOrUpdateReport").iter().map(count).collect();
    assert_eq!(parts, [30, 15, 15, 5]);
    assert_eq!(home.values().len(), 65);
    home.grant("commands-only");
    home.pass(REPORT_GRID_MS).await;
    let parts: Vec<usize> = home.amazon.accepted("DeleteReport").iter().map(count).collect();
    assert_eq!(parts, [30, 30, 5]);
    home.all_on_record().await;
}

#[tokio::test]
async fn tokens_are_renewed_before_they_end_and_once_when_amazon_says_so() {
    let mut home = Home::new(1, "everything").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    let tokens = |home: &Home| home.amazon.received().iter().filter(|r| r.path == "/auth/o2/token").count();
    assert_eq!(tokens(&home), 1);
    // An hour less five minutes.
    home.pass(3_600_000 - 300_000 - 2 * REPORT_GRID_MS).await;
    home.set(0, "21.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!((tokens(&home), home.values().len()), (2, 2));
    home.amazon.expire();
    home.set(0, "22.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!((tokens(&home), home.values().len()), (3, 3));
    // Refused with a new token as well: not a third time.
    home.amazon.with_events([Whim::Answer(401, "INVALID_ACCESS_TOKEN_EXCEPTION"), Whim::Answer(403, "")]);
    home.set(0, "23.00");
    let before = home.amazon.received().len();
    home.pass(REPORT_GRID_MS).await;
    assert_eq!((tokens(&home), home.amazon.received().len()), (4, before + 3));
    assert!(home.events.take_ended().is_empty());
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values().last(), Some(&23.0));
    home.all_on_record().await;
}

#[tokio::test]
async fn a_throttled_message_goes_again_three_times_a_second_apart_and_then_waits() {
    let mut home = Home::new(2, "everything").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    home.set(0, "21.00");
    home.amazon.with_events([Whim::Throttle(0), Whim::Throttle(1), Whim::Throttle(0)]);
    let (begun, before) = (tokio::time::Instant::now(), home.amazon.received().len());
    home.pass(REPORT_GRID_MS).await;
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!((home.values()[2..].to_vec(), home.amazon.received().len()), (vec![21.0], before + 4));
    // A fourth time is one too many: the rest is dropped, and what is so later is told later.
    home.set(0, "22.00");
    home.set(1, "22.00");
    home.amazon.with_events([const { Whim::Throttle(0) }; 4]);
    home.pass(REPORT_GRID_MS).await;
    assert_eq!((home.values().len(), home.amazon.received().len()), (3, before + 8));
    home.set(0, "23.00");
    home.pass(REPORT_GRID_MS).await;
    let mut told = home.values()[3..].to_vec();
    told.sort_by(f64::total_cmp);
    assert_eq!(told, [22.0, 23.0]);
    home.all_on_record().await;
}

#[tokio::test]
async fn what_is_taken_back_while_amazon_makes_it_wait_is_not_sent_again() {
    let mut home = Home::new(1, "everything").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    home.set(0, "21.00");
    home.amazon.with_events([Whim::Throttle(2)]);
    let before = home.amazon.received().len();
    let taken_back = async {
        while home.amazon.received().len() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        home.grant("glance");
    };
    tokio::join!(home.pass(REPORT_GRID_MS), taken_back);
    assert_eq!((home.values().len(), home.amazon.received().len()), (1, before + 1));
    home.all_on_record().await;
}

#[tokio::test]
async fn after_a_cut_off_it_is_told_how_things_are_and_nothing_of_the_meantime() {
    let mut home = Home::new(3, "everything").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values().len(), 3);
    let failing = [Whim::Answer(500, "INTERNAL_SERVICE_EXCEPTION"), Whim::HangUp, Whim::Answer(503, ""), Whim::HangUp];
    home.amazon.with_events(failing);
    let before = home.amazon.received().len();
    for n in 0..3 {
        home.set(n, "25.00");
    }
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.amazon.received().len(), before + 4, "the rest of the round is dropped");
    // Sensors 1 and 2 come back to what they were before it ends; 0 goes on.
    home.set(0, "26.00");
    home.set(1, "20.00");
    home.set(2, "20.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values()[3..], [26.0]);
    // What can't be reached is tried less and less often, and never in between.
    home.amazon.with_events(std::iter::repeat_n(Whim::HangUp, 8));
    home.set(0, "27.00");
    home.pass(REPORT_GRID_MS).await;
    home.pass(REPORT_GRID_MS).await;
    let received = home.amazon.received().len();
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.amazon.received().len(), received, "it rests for twice as long");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values()[4..], [27.0]);
    home.all_on_record().await;
}

#[tokio::test]
async fn what_amazon_finds_wrong_is_dropped_and_counted_and_a_skill_it_does_not_know_waits() {
    let mut home = Home::new(5, "everything").await;
    // One of five descriptions is wrong in its eyes: of the others it learns.
    let wrong = || Whim::Answer(400, "INVALID_REQUEST_EXCEPTION");
    home.amazon.with_events([wrong(), wrong(), wrong()]);
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    let parts = |home: &Home| -> Vec<usize> {
        let count = |r: &Received| r.json["event"]["payload"]["endpoints"].as_array().unwrap().len();
        home.amazon.accepted("AddOrUpdateReport").iter().map(count).collect()
    };
    assert_eq!((parts(&home), home.values().len()), (vec![1, 3], 4));
    assert_eq!(home.events.tally.events_refused(), 3);
    // A report that it finds wrong is not sent again as it is; the next one is.
    for (n, degrees) in ["21.00", "22.00"].into_iter().enumerate() {
        for sensor in 0..5 {
            home.set(sensor, degrees);
        }
        if n == 0 {
            home.amazon.with_events(std::iter::repeat_n(wrong(), 4));
        }
        for _ in 0..3 {
            home.pass(REPORT_GRID_MS).await;
        }
        assert_eq!((home.values().len(), home.events.tally.events_refused()), (4 + 4 * n, 7));
    }
    // Perhaps it was Amazon's own fault: an hour later it is asked again.
    home.pass(REFUSED_AGAIN_MS).await;
    assert_eq!((parts(&home), home.values().len()), (vec![1, 3, 1], 9));
    // No message is wrong where the skill itself is not found: nothing counts as taken, and it is tried less and less often.
    home.set(0, "23.00");
    home.amazon.with_events([Whim::Answer(404, "SKILL_NOT_FOUND_EXCEPTION")]);
    home.pass(REPORT_GRID_MS).await;
    assert_eq!((home.values().len(), home.events.tally.events_refused()), (9, 7));
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.values()[9..], [23.0]);
    home.all_on_record().await;
}

#[tokio::test]
async fn a_disabled_skill_and_a_grant_taken_back_end_the_link() {
    let mut home = Home::new(1, "everything").await;
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    home.amazon.disable();
    home.set(0, "21.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.events.take_ended(), [(home.link.clone(), Ended::SkillDisabled)]);
    let received = home.amazon.received().len();
    home.set(0, "22.00");
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.amazon.received().len(), received);

    let home = Home::new(1, "everything").await;
    assert!(home.accept().await);
    home.amazon.expire();
    home.amazon.disable();
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.events.take_ended(), [(home.link.clone(), Ended::Revoked)]);
    home.all_on_record().await;
}

#[tokio::test]
async fn days_with_a_hostile_amazon_lose_nothing_and_leave_nothing_behind() {
    let (sensors, rounds) = (4, if full() { 20_000 } else { 200 });
    let mut home = Home::new(sensors, "everything").await;
    let mut random = Random::new(3);
    let mut now = vec![20.0; sensors];
    assert!(home.accept().await);
    home.pass(REPORT_GRID_MS).await;
    for _ in 0..rounds {
        for (sensor, now) in now.iter_mut().enumerate() {
            if random.below(3) == 0 {
                *now = 15.0 + random.below(100) as f64 / 4.0;
                home.set(sensor, &format!("{now:.2}"));
            }
        }
        if random.below(25) == 0 {
            let whims = [
                Whim::Answer(400, "INVALID_REQUEST_EXCEPTION"),
                Whim::Answer(401, "INVALID_ACCESS_TOKEN_EXCEPTION"),
                Whim::Answer(403, "\u{0}; drop table held"),
                Whim::Answer(404, ""),
                Whim::Answer(413, "REQUEST_ENTITY_TOO_LARGE_EXCEPTION"),
                Whim::Answer(500, ""),
                Whim::Answer(302, ""),
                Whim::Throttle(0),
                Whim::HangUp,
            ];
            let whims = (0..1 + random.below(3)).map(|_| whims[random.below(whims.len())].clone()).collect::<Vec<_>>();
            match random.below(4) {
                0 => home.amazon.with_tokens(whims.into_iter().chain([Whim::Nonsense])),
                _ => home.amazon.with_events(whims),
            }
        }
        match random.below(60) {
            0 => home.amazon.expire(),
            1 => home.amazon.expires_in(i64::try_from(random.below(900)).unwrap()),
            2 => home.grant(["glance", "everything", "commands-only"][random.below(3)]),
            3 => assert!(!home.accept().await),
            _ => {}
        }
        home.pass(REPORT_GRID_MS * (1 + i64::try_from(random.below(4)).unwrap())).await;
        assert!(home.events.take_ended().is_empty(), "nobody has ended it");
    }
    // It is over: all is as if nothing had been.
    home.grant("everything");
    home.amazon.forget_whims();
    for (sensor, now) in now.iter_mut().enumerate() {
        *now = 40.0 + sensor as f64 / 2.0;
        home.set(sensor, &format!("{now:.1}"));
    }
    home.pass(3_600_000).await;
    home.pass(3_600_000).await;
    let mut last: Vec<f64> = home.values().split_off(home.values().len() - sensors);
    last.sort_by(f64::total_cmp);
    now.sort_by(f64::total_cmp);
    assert_eq!(last, now);
    // One round sends no more than there is to say, whatever waited before.
    let told = home.amazon.accepted("ChangeReport").len();
    home.pass(REPORT_GRID_MS).await;
    assert_eq!(home.amazon.accepted("ChangeReport").len(), told);
    home.all_on_record().await;
}

/// The hub's program with these points in it, and a pretend Amazon.
fn serve(faults: &Faults, data: &Path, mqtt: &str, amazon: &PretendAmazon) -> Command {
    let mut command = faults.serve(data, mqtt);
    command.env("VESTIBULE__ALEXA__REGION", "eu").env("VESTIBULE__ALEXA__PRETEND", amazon.url());
    command.env("VESTIBULE__ALEXA__CLIENT_ID", "skill-client").env("VESTIBULE__ALEXA__CLIENT_SECRET", "skill-secret");
    command
}

#[test]
fn killed_between_the_record_of_an_event_and_its_outcome_nothing_is_sent_twice_and_the_record_says_what_is_known() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let amazon = runtime.block_on(PretendAmazon::start()).unwrap();
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let (data, faults) = (dir.path().join("data"), Faults::new());
    let start = || Hub::spawn(serve(&faults, &data, &mosquitto.url(), &amazon), &data);
    for id in ["door", "other"] {
        let config = json!({"name": id, "uniq_id": id, "stat_t": format!("{id}/open"), "dev_cla": "door",
            "dev": {"ids": [id], "name": id}});
        publish(mosquitto.port, &format!("homeassistant/binary_sensor/{id}/config"), &config.to_string());
        publish(mosquitto.port, &format!("{id}/open"), "OFF");
    }
    let mut hub = start();
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == 2));
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let alexa = PretendAlexa::new(&hub.partners, &token);
    runtime.block_on(alexa.send("Alexa.Authorization", "AcceptGrant", "", json!({}))).unwrap();
    let reports = |all: &[Received]| all.iter().filter(|r| r.name() == "ChangeReport" && r.status == 202).count();
    let until = |count: usize| {
        let there = runtime.block_on(amazon.wait(|all| reports(all) >= count));
        assert!(there, "{count}: {:#?}", amazon.received());
        assert_eq!(reports(&amazon.received()), count, "{:#?}", amazon.accepted("ChangeReport"));
    };
    until(2);
    // Killed before a byte leaves, and after Amazon has taken it: the hub can't know which.
    let mut other = ["ON", "OFF"].into_iter().cycle();
    let mut expected = 2;
    for (point, taken, state) in [(faults::EVENT_SENT, 1, "ON"), (faults::EVENT_RECORDED, 0, "OFF")] {
        faults.arm(&format!("{point} kill 1 1"));
        publish(mosquitto.port, "door/open", state);
        assert!(hub.process.wait_until_dead(PATIENCE), "{point} was not reached");
        faults.arm("");
        expected += taken;
        until(expected);
        hub = start();
        let rows = hub.ledger();
        let last = rows.iter().rev().find(|r| r["message"] == "Alexa.ChangeReport").unwrap();
        let outcome = rows.iter().find(|r| r["type"] == "outcome" && r["intent"] == last["index"]);
        assert_eq!(outcome, None, "what became of it is not known, and nothing is claimed");
        // A round later, in which something else has changed, the door has not been told again.
        publish(mosquitto.port, "other/open", other.next().unwrap());
        expected += 1;
        until(expected);
    }
    // What changes from there on is told, of both.
    publish(mosquitto.port, "door/open", "ON");
    publish(mosquitto.port, "other/open", other.next().unwrap());
    until(expected + 2);
    assert_eq!(amazon.faults(), Vec::<String>::new());
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn a_slow_lock_is_answered_at_once_and_what_became_of_it_is_told_after_a_fixed_time() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let amazon = runtime.block_on(PretendAmazon::start()).unwrap();
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let lock = r#"{"name":"Door","uniq_id":"l","stat_t":"l/s","cmd_t":"l/set","dev":{"ids":["l"],"name":"Door"}}"#;
    publish(mosquitto.port, "homeassistant/lock/l/config", lock);
    let hub = Hub::spawn(serve(&Faults::new(), &data, &mosquitto.url(), &amazon), &data);
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == 1));
    publish(mosquitto.port, "l/s", "UNLOCKED");
    hub.wait_until(&["devices"], |d| d.to_string().contains("unlocked"));
    // One link that may see the lock after its commands, one that may not, and one to which nothing can be sent.
    let link = |profile: &str, accepts: bool| {
        let token = hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]).trim().to_owned();
        let alexa = PretendAlexa::new(&hub.partners, &token);
        runtime.block_on(alexa.discover()).unwrap();
        if accepts {
            amazon.forget_code();
            let answer = runtime.block_on(alexa.send("Alexa.Authorization", "AcceptGrant", "", json!({}))).unwrap();
            assert_eq!(answer.event(), "Alexa.Authorization.AcceptGrant.Response");
        }
        alexa
    };
    let (sees, blind, silent) = (link("everything", true), link("commands-only", true), link("commands-only", false));
    let ask = |alexa: &PretendAlexa| {
        let endpoint = alexa.endpoints()[0].clone();
        let answer = runtime.block_on(alexa.send("Alexa.LockController", "Lock", &endpoint, json!({}))).unwrap();
        assert_eq!(event_faults(&answer.json, false), Vec::<String>::new());
        (answer.event(), answer.json["event"]["header"]["correlationToken"].as_str().unwrap().to_owned())
    };
    let begun = tokio::time::Instant::now();
    assert_eq!(ask(&silent).0, "Alexa.Response");
    let tokens = [&sees, &blind].map(|alexa| {
        let (event, token) = ask(alexa);
        assert_eq!(event, "Alexa.DeferredResponse");
        token
    });
    assert!(begun.elapsed() < Duration::from_secs(8));
    // The bolt does not move.
    let outcomes = |all: &[Received]| all.iter().filter(|r| r.name() == "Response").count();
    assert_eq!(outcomes(&amazon.received()), 0);
    assert!(runtime.block_on(amazon.wait(|all| outcomes(all) == 2)), "{:?}", amazon.received());
    assert!(begun.elapsed() >= Duration::from_secs(u64::from(alexa::limits::DEFERRAL_S)), "neither sooner nor later");
    let told = |token: &str| {
        let all = amazon.accepted("Response");
        let one =
            all.iter().find(|r| r.json["event"]["header"]["correlationToken"] == token).expect("an outcome").clone();
        let state = one.json["context"]["properties"].as_array().unwrap().iter().find(|p| p["name"] == "lockState");
        state.map(|p| p["value"].as_str().unwrap().to_owned())
    };
    // Who may see it learns how it is; who may not hears its own words, whatever the bolt does.
    assert_eq!(told(&tokens[0]).as_deref(), Some("UNLOCKED"));
    assert_eq!(told(&tokens[1]).as_deref(), Some("LOCKED"));
    assert_eq!(amazon.faults(), Vec::<String>::new());
    let rows = hub.ledger();
    for received in amazon.accepted("Response") {
        let hash = sha256(&received.body);
        let row = rows.iter().find(|r| r["body_sha256"] == hash.as_str()).expect("it is on record");
        assert_eq!((&row["trigger"], &row["message"]), (&json!("directive_response"), &json!("Alexa.Response")));
    }
}

#[test]
fn a_hub_is_let_tells_restarts_and_is_disabled() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let amazon = runtime.block_on(PretendAmazon::start()).unwrap();
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let faults = Faults::new();
    let start = || Hub::spawn(serve(&faults, &data, &mosquitto.url(), &amazon), &data);
    let door = r#"{"name":"Door","uniq_id":"d","stat_t":"d/open","dev_cla":"door","dev":{"ids":["d"],"name":"Door"}}"#;
    publish(mosquitto.port, "homeassistant/binary_sensor/d/config", door);
    let mut hub = start();
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == 1));
    publish(mosquitto.port, "d/open", "OFF");
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let alexa = PretendAlexa::new(&hub.partners, &token);
    let grant = || runtime.block_on(alexa.send("Alexa.Authorization", "AcceptGrant", "", json!({}))).unwrap();
    assert_eq!(grant().event(), "Alexa.Authorization.AcceptGrant.Response");
    assert_eq!(grant().json["event"]["payload"]["type"], "ACCEPT_GRANT_FAILED");
    let state = |r: &Received| changed(r)["value"].as_str().map(str::to_owned);
    let told = |wanted: &str| {
        let is = |all: &[Received]| {
            let last = all.iter().rev().find(|r| r.name() == "ChangeReport" && r.status == 202);
            last.and_then(state).as_deref() == Some(wanted)
        };
        assert!(runtime.block_on(amazon.wait(is)), "{wanted}: {:?}", amazon.received());
    };
    told("NOT_DETECTED");
    publish(mosquitto.port, "d/open", "ON");
    told("DETECTED");
    hub.stop();
    let before = amazon.accepted("ChangeReport").len();
    hub = start();
    publish(mosquitto.port, "d/open", "ON");
    publish(mosquitto.port, "d/open", "OFF");
    told("NOT_DETECTED");
    assert_eq!(amazon.accepted("ChangeReport").len(), before + 1, "what was told before the restart is not told again");
    assert_eq!(amazon.accepted("AddOrUpdateReport").len(), 1);
    // Everything that Amazon got is in the ledger.
    let kept: BTreeSet<String> =
        hub.ledger().iter().filter_map(|r| r["body_sha256"].as_str().map(str::to_owned)).collect();
    for received in amazon.received() {
        assert!(kept.contains(&sha256(&received.body)), "{}", received.json);
    }
    amazon.disable();
    publish(mosquitto.port, "d/open", "ON");
    hub.wait_until(&["links"], |links| links.as_array().is_some_and(Vec::is_empty));
    assert_eq!(amazon.faults(), Vec::<String>::new());
    hub.stop();
    let said = hub.process.said();
    assert_eq!(said.matches("the skill was disabled").count(), 1, "{said}");
    let database = rusqlite::Connection::open(data.join("vestibule.db")).unwrap();
    let left: Vec<String> = database
        .prepare("select key from held")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for prefix in ["lwa/", "announced/", "reported/", "doubt/", "link/", "grant/"] {
        assert!(!left.iter().any(|key| key.starts_with(prefix)), "what was unlinked is still there: {left:?}");
    }
}

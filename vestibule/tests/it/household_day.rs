//! One written day of a household (`workloads/household-day.toml`) under each profile, side by side: how many facts and
//! messages leave, and which of the household's own wishes come true. The partners' listener, the gate and the record
//! are the real ones; the home is simulated, and its clock goes from step to step.

use std::sync::{Arc, Mutex};

use devices::Counters;
use devices::mqtt::house::{Event, House};
use devices::simulator::Simulation;
use egress::{AgreeFault, Agreed, Choice, Counts, Egress, Linking, RecordError, Recorder, Tally};
use gate::{Actuator, ActuatorError, GateState, Order, StateWrite};
use jiff::tz::TimeZone;
use ledger::{Draft, Receipt};
use links::oauth::{AuthorizeFault, AuthorizeRequest, Credentials, PartnerWords, TokenError, TokenRequest};
use links::{Link, Token};
use model::{Clock as _, DeviceType, GrantId, HouseholdId, LinkId, MemberId, PartnerId, TemperatureScale, Timestamp};
use policy::{Does, Works};
use store::Store;
use store::ledger::{Append, LedgerWriter, Opening};
use testkit::{Act, FakeClock, PretendAlexa, Workload};

const DAY: &str = include_str!("../../../workloads/household-day.toml");
/// 2026-01-12, a Monday, 00:00 UTC.
const MIDNIGHT: i64 = 1_768_176_000_000;
const SEED: u64 = 20;

struct Home {
    house: House,
    simulation: Simulation,
}

struct Hub {
    home: Mutex<Home>,
    state: Arc<Mutex<GateState>>,
    clock: Arc<FakeClock>,
    writer: LedgerWriter,
}

/// The house of this day links no further partner.
struct Nobody;

impl Linking for Nobody {
    fn issuer(&self) -> String {
        String::new()
    }

    fn authorize(&self, _: &str) -> Result<(AuthorizeRequest, PartnerWords), AuthorizeFault> {
        Err(AuthorizeFault::Unknown)
    }

    fn log_in(&self, _: &str, _: &str) -> Option<MemberId> {
        None
    }

    fn choice(&self, _: &AuthorizeRequest) -> Result<Choice, String> {
        Err("nobody is linked".into())
    }

    async fn agree(&self, _: &Agreed) -> Result<Token, AgreeFault> {
        Err(AgreeFault::Failed("nobody is linked".into()))
    }

    fn client(&self, _: &Credentials) -> Result<(), TokenError> {
        Err(TokenError::InvalidClient)
    }

    async fn token(&self, _: &Credentials, _: TokenRequest) -> Result<Option<Receipt>, TokenError> {
        Err(TokenError::InvalidClient)
    }
}

impl Hub {
    /// What the home says arrives at once.
    fn hear(&self, publications: Vec<devices::simulator::Publication>) {
        let mut home = self.home.lock().unwrap();
        let mut state = self.state.lock().unwrap();
        for p in publications {
            for event in home.house.hear(&p.topic, p.payload.as_bytes(), self.clock.now()) {
                match event {
                    Event::Described { device, description } => drop(state.describe(&device, description).unwrap()),
                    Event::Withdrawn { device } => drop(state.registry.withdraw(&device)),
                    Event::Reading(reading) => drop(state.report(reading)),
                }
            }
        }
    }

    /// The home lives on, minute by minute.
    fn live_until(&self, time: i64) {
        let mut now = self.clock.now().as_millis();
        while now < time {
            now = (now + 60_000).min(time);
            self.clock.set(Timestamp::from_millis(now));
            let told = self.home.lock().unwrap().simulation.step_to(Timestamp::from_millis(now));
            self.hear(told);
        }
    }
}

impl Actuator for Hub {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        let told = {
            let mut home = self.home.lock().unwrap();
            let (publications, _) = home
                .house
                .command(&order.device, &order.desired, order.time)
                .map_err(|_| ActuatorError::NotSupported)?;
            let mut told = Vec::new();
            for p in publications {
                told.extend(home.simulation.handle(&p.topic, p.payload.as_bytes(), order.time));
            }
            told
        };
        self.hear(told);
        Ok(())
    }
}

impl Recorder for Hub {
    async fn record(&self, drafts: Vec<Draft>, writes: Vec<StateWrite>) -> Result<Vec<Receipt>, RecordError> {
        let held = writes.into_iter().map(|w| (w.key, w.json)).collect();
        self.writer.append(Append { drafts, held }).await.map_err(|_| RecordError)
    }

    fn note(&self, draft: Draft) {
        self.writer.append_nowait(vec![draft]).unwrap();
    }
}

/// A day under a profile: the counts, each wish of the household with whether it came true, and each task that was tried, with
/// that and what the table says of it.
type Day = (Counts, Vec<(String, bool)>, Vec<(String, bool, Option<Works>)>);

/// Lives the day under a profile.
async fn live(slug: &str) -> Day {
    let folder = tempfile::tempdir().unwrap();
    let household = HouseholdId::new("home").unwrap();
    let clock = Arc::new(FakeClock::at(Timestamp::from_millis(MIDNIGHT)));
    let opening = Opening { household: household.clone(), seed: [7; 32], begin: Some(clock.now()) };
    let store = Store::open(&format!("sqlite:{}", folder.path().join("day.db").display())).unwrap();
    let none = policy::compile(&policy::Facts::empty(household.clone()), &[], None, clock.now()).unwrap();
    let state = Arc::new(Mutex::new(GateState::new(TimeZone::UTC, Arc::new(none))));
    let simulation = Simulation::new(SEED, MIDNIGHT, TimeZone::UTC);
    let announced = simulation.announce();
    let house =
        House::new("homeassistant", TemperatureScale::Celsius, Default::default(), Arc::new(Counters::default()));
    let hub = Arc::new(Hub {
        home: Mutex::new(Home { house, simulation }),
        state: Arc::clone(&state),
        clock: Arc::clone(&clock),
        writer: LedgerWriter::open(&store, &opening).unwrap(),
    });
    hub.hear(announced);

    let partner = PartnerId::new("alexa").unwrap();
    let id = LinkId::new("day").unwrap();
    let random = ([1; 32], [2; 32]);
    let (mut link, token) = Link::new(id.clone(), household.clone(), partner, slug.into(), clock.now(), random);
    let (table, facts) = {
        let mut state = state.lock().unwrap();
        let known: Vec<_> = state.registry.iter().map(|(d, known)| (d.clone(), known.device_type())).collect();
        assert!(known.iter().any(|(_, t)| *t == DeviceType::Thermostat), "the home announced itself");
        link.enroll(known.iter().map(|(d, t)| (d, *t)));
        state.links.insert(link);
        let facts = state.facts(household.clone(), |_| true);
        let owner = MemberId::new("owner").unwrap();
        let terms = policy::Terms { now: clock.now(), granted_by: owner.clone(), affects: vec![owner] };
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        let change = policy::apply(policy::profile(slug).unwrap(), &facts, &id, &[], &terms, ids).unwrap();
        let table = policy::compile(&facts, &change.add, None, terms.now).unwrap();
        let table = Arc::new(table);
        state.replace_table(Arc::clone(&table), terms.now);
        (table, facts)
    };

    let tally = Arc::new(Tally::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (actuator, recorder) = (Arc::clone(&hub), Arc::clone(&hub));
    let parts = Egress { state, actuator, recorder, clock: clock.clone(), tally: Arc::clone(&tally), events: None };
    let router = egress::router(parts, Arc::new(Nobody));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(egress::serve(listener, router, egress::Door::new("partners", 64), async {
        let _ = stopped.await;
    }));

    let alexa = PretendAlexa::new(&base, token.reveal());
    alexa.discover().await.unwrap();
    let mut wishes = Vec::new();
    for step in Workload::parse(DAY).unwrap().steps().unwrap() {
        hub.live_until(MIDNIGHT + step.at_ms);
        let (_, done) = alexa.perform(&step.act).await.unwrap();
        let says = match step.act {
            Act::Ask { says, .. } | Act::Command { says, .. } => says,
            Act::PollAll => continue,
        };
        wishes.push((says, done.unwrap()));
    }
    let counts = tally.link(&id);
    // What is no wish of the day.
    let order = |device: &str, property: &str, value: serde_json::Value| Act::Command {
        says: String::new(),
        device: device.to_owned(),
        property: property.to_owned(),
        value,
        relative: false,
    };
    let unlocked = alexa.perform(&order("door_lock", "lock_state", "unlocked".into())).await.unwrap().1.unwrap();
    let set = alexa.perform(&order("thermostat", "occupied_heating_setpoint", 19.5.into())).await.unwrap().1.unwrap();
    let now = clock.now().as_millis();
    hub.live_until(now + 55_000);
    let tile = alexa.endpoint_with("Alexa.ThermostatController", None).unwrap();
    let tile = alexa.report_state(&tile).await.unwrap();
    let tile = tile.property("Alexa.ThermostatController", "targetSetpoint").map(|p| p["value"].clone());
    let tile = set && tile == Some(19.5.into());
    let mut tasks = Vec::new();
    for task in policy::tasks(DAY).unwrap() {
        let done = match task.does {
            Does::Command | Does::Ask => {
                let mut same = wishes.iter().filter(|(says, _)| *says == task.says).map(|(_, done)| *done).peekable();
                assert!(same.peek().is_some(), "`{}` is a wish of the day", task.says);
                same.all(|done| done)
            }
            Does::Open => unlocked,
            Does::Tile => tile,
            Does::Routine => continue,
        };
        let works = task.works(&table, &facts, &id, false);
        tasks.push((task.says, done, works));
    }
    stop.send(()).unwrap();
    drop(alexa);
    served.await.unwrap();
    (counts, wishes, tasks)
}

#[test]
fn the_same_day_under_each_profile_side_by_side() {
    let day = |slug: &'static str| tokio::runtime::Runtime::new().unwrap().block_on(live(slug));
    let (commands_only, glance, everything) = (day("commands-only"), day("glance"), day("everything"));
    println!("{:<14} {:>7} {:>9} {:>9} {:>9} {:>7}", "profile", "facts", "messages", "bytes", "withheld", "wishes");
    let all = [("Commands only", &commands_only), ("Glance", &glance), ("Everything", &everything)];
    for (name, (counts, wishes, tasks)) in all {
        let done = wishes.iter().filter(|(_, done)| *done).count();
        let Counts { facts, messages_out, bytes_out, properties_withheld, .. } = counts;
        let row = format!("{name:<14} {facts:>7} {messages_out:>9} {bytes_out:>9} {properties_withheld:>9}");
        println!("{row} {done:>4}/{}", wishes.len());
        // Every message was answered, and none was wrong.
        assert_eq!((counts.errors, counts.messages_out), (0, counts.asked), "{name}");
        // The table says of each task what came of it.
        assert!(tasks.len() >= 9, "{tasks:?}");
        for (says, done, works) in tasks {
            assert_eq!(*works, Some(if *done { Works::Yes } else { Works::No }), "{name}: {says}");
        }
    }
    let failed = |(_, wishes, _): &Day| -> Vec<String> {
        wishes.iter().filter(|(_, done)| !done).map(|(says, _)| says.clone()).collect()
    };
    // Everything that certification asks for makes every wish come true; Glance all but the questions that tell when
    // people come, go and sleep; Commands only every order, and no question.
    assert_eq!(failed(&everything), Vec::<String>::new());
    let doors = ["is the garage closed?", "is the front door locked?", "is the light in the hall on?"];
    assert!(failed(&glance).iter().all(|says| doors.contains(&says.as_str())), "{:?}", failed(&glance));
    assert!(failed(&commands_only).iter().all(|says| says.ends_with('?')), "{:?}", failed(&commands_only));
    assert!(failed(&commands_only).len() > failed(&glance).len());
    // Under Commands only discovery tells the types of devices, and no reading leaves; Glance's grid makes the many polls
    // of an open app worth an hourly sample.
    let passing = |(.., tasks): &Day| tasks.iter().filter(|(_, done, _)| *done).count();
    assert!(passing(&commands_only) < passing(&glance) && passing(&glance) < passing(&everything));
    let facts = |(counts, ..): &Day| counts.facts;
    assert!(facts(&commands_only) <= 6, "{}", facts(&commands_only));
    assert!(facts(&commands_only) < facts(&glance) && facts(&glance) * 2 < facts(&everything));
}

//! The gate as a partner meets it: held, coarse, never false, and deaf to what is withheld.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use disclosure::{ActError, Acted, Command, Disclosed, Features, Gate, Refusal, Secret};
use gate::{Actuator, ActuatorError, GateState, Order, PinFault, Session};
use home::{Description, PropertyDescription, Reading};
use jiff::tz::TimeZone;
use links::Link;
use links::pin::Pin;
use model::{
    Class, DeviceId, EndpointId, GrantId, HouseholdId, LinkId, LockState, MemberId, PartnerId, Property, SystemMode,
    Timestamp, Trigger, Value,
};
use proptest::prelude::*;

const MINUTE: i64 = 60_000;
/// A full hour: every short grid has a tick here.
const START: i64 = 1_768_212_000_000;

#[derive(Default)]
struct Broker(Mutex<Vec<Order>>, Mutex<Option<Pin>>, Mutex<Option<Edit>>);

/// A table that comes into force while a PIN is looked at.
type Edit = (Arc<Mutex<GateState>>, Arc<policy::Table>);

impl Actuator for Broker {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        self.0.lock().unwrap().push(order);
        Ok(())
    }

    /// As a hub does, with its PIN in a store.
    async fn check_pin(&self, _: &LinkId, pin: Secret, now: Timestamp) -> Result<(), PinFault> {
        if let Some((state, table)) = self.2.lock().unwrap().take() {
            state.lock().unwrap().replace_table(table, now);
        }
        let mut kept = self.1.lock().unwrap();
        let tried = kept.as_ref().ok_or(PinFault::Wrong)?.attempt(now).map_err(|_| PinFault::Locked)?;
        let fits = tried.fits(pin.reveal());
        *kept = Some(if fits { tried.right() } else { tried });
        if fits { Ok(()) } else { Err(PinFault::Wrong) }
    }
}

struct House {
    state: Arc<Mutex<GateState>>,
    broker: Arc<Broker>,
    link: Link,
    now: i64,
}

fn thermostat() -> DeviceId {
    DeviceId::new("thermostat").unwrap()
}

fn household() -> HouseholdId {
    HouseholdId::new("home").unwrap()
}

/// A home with a thermostat that has one property of every nature, and one link with a profile.
fn house(profile: &str) -> House {
    let empty = policy::compile(&policy::Facts::empty(household()), &[], None, Timestamp::default()).unwrap();
    let mut state = GateState::new(TimeZone::UTC, Arc::new(empty));
    let plain = |command| PropertyDescription { class: Class::None, command };
    let properties = BTreeMap::from([
        (Property::LocalTemperature, plain(false)),
        (Property::OccupiedHeatingSetpoint, plain(true)),
        (Property::SystemMode, plain(true)),
        (Property::RelativeHumidity, plain(false)),
        (Property::Motion, plain(false)),
        (Property::LockState, plain(true)),
    ]);
    let features = Features {
        modes: vec![SystemMode::Off, SystemMode::Heat],
        single_setpoint: true,
        min_setpoint_milli: Some(5_000),
        max_setpoint_milli: Some(30_000),
        ..Features::default()
    };
    let description = Description { name: "Alice".into(), properties, features, ..Description::default() };
    state.describe(&thermostat(), description).unwrap();
    let (mut link, _) = Link::new(
        LinkId::new("l").unwrap(),
        household(),
        PartnerId::new("alexa").unwrap(),
        profile.into(),
        Timestamp::from_millis(START),
        ([1; 32], [2; 32]),
    );
    link.enroll([(&thermostat(), model::DeviceType::Thermostat)]);
    state.links.insert(link.clone());
    let mut house = House { state: Arc::new(Mutex::new(state)), broker: Arc::default(), link, now: START };
    house.grant(profile);
    house
}

fn terms(now: i64) -> policy::Terms {
    let owner = MemberId::new("owner").unwrap();
    policy::Terms { now: Timestamp::from_millis(now), granted_by: owner.clone(), affects: vec![owner] }
}

/// A grant of something of the thermostat.
fn granted(link: &Link, n: &str, property: Property, what: policy::What) -> policy::Grant {
    let cell = (household(), link.id.clone(), thermostat(), property);
    policy::Grant::new(GrantId::new(n).unwrap(), cell, what, &terms(START))
}

impl House {
    fn grant(&mut self, profile: &str) -> Vec<gate::StateWrite> {
        let table = self.table(profile);
        self.state.lock().unwrap().replace_table(Arc::new(table), Timestamp::from_millis(self.now))
    }

    /// The table of a profile, granted now.
    fn table(&self, profile: &str) -> policy::Table {
        let facts = self.state.lock().unwrap().facts(household(), |_| true);
        let terms = terms(self.now);
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        let profile = policy::profile(profile).unwrap();
        let change = policy::apply(profile, &facts, &self.link.id, &[], &terms, ids).unwrap();
        policy::compile(&facts, &change.add, None, terms.now).unwrap()
    }

    fn report(&self, property: Property, value: Value) {
        let time = Timestamp::from_millis(self.now);
        self.state.lock().unwrap().report(Reading { device: thermostat(), property, value, time });
    }

    fn session(&self) -> Session<Broker> {
        let now = Timestamp::from_millis(self.now);
        let (state, broker) = (Arc::clone(&self.state), Arc::clone(&self.broker));
        Session::new(state, broker, &self.link, now, "Test".into(), "id".into())
    }

    fn endpoint(&self) -> EndpointId {
        self.link.endpoint(&thermostat())
    }

    fn poll(&self) -> Vec<Disclosed> {
        self.session().ask_all(&self.endpoint(), Trigger::PartnerPoll)
    }

    fn polled(&self, property: Property) -> Option<(Value, i64)> {
        let all = self.poll();
        let found = all.iter().find(|d| d.property() == property)?;
        Some((found.value().clone(), (found.time().as_millis() - START) / MINUTE))
    }

    fn act(&self, command: Command) -> Result<Acted, ActError> {
        let mut session = self.session();
        let endpoint = self.endpoint();
        block_on(session.act(endpoint, command))
    }
}

/// Runs a future that never waits for anything.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the future waits"),
    }
}

fn set_point(milli: i32) -> Command {
    Command::SetSetpoint { target: Some(Value::Temperature(milli)), heating: None, cooling: None }
}

#[test]
fn glance_holds_and_rounds_and_a_grant_starts_with_what_is_true_then() {
    let mut house = house("commands-only");
    house.now = START + 5 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(19_000));
    house.now = START + 20 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(22_600));
    assert_eq!(house.poll(), []);
    // Granted now: the first answer is what is true now, not what was at the tick.
    house.grant("glance");
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(23_000), 20)));
    house.now += 10 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(18_000));
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(23_000), 20)), "held");
    house.now = START + 61 * MINUTE;
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(18_000), 60)), "the next tick");
    // A clock that steps back shows no older tick.
    house.now = START + 10 * MINUTE;
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(18_000), 60)));
}

/// Told when it asks, at this rung, and nothing else.
fn only(house: &House, rung: model::Rung) -> policy::Table {
    let what = policy::What::Disclose { trigger: Trigger::PartnerPoll, rung };
    let grants = [granted(&house.link, rung.as_str(), Property::LocalTemperature, what)];
    let facts = house.state.lock().unwrap().facts(household(), |_| true);
    policy::compile(&facts, &grants, None, Timestamp::from_millis(house.now)).unwrap()
}

#[test]
fn what_has_a_dead_band_begins_with_its_own_value() {
    let mut house = house("commands-only");
    house.report(Property::LocalTemperature, Value::Temperature(19_100));
    house.now = START + 61 * MINUTE;
    // It would round to 20, and tell so on which side of the border it is.
    house.report(Property::LocalTemperature, Value::Temperature(19_600));
    let now = Timestamp::from_millis(house.now);
    for rung in [model::Rung::HourSteady, model::Rung::Hour, model::Rung::HourSteady] {
        let table = only(&house, rung);
        house.state.lock().unwrap().replace_table(Arc::new(table), now);
        let told = if rung == model::Rung::Hour { 19_100 } else { 19_000 };
        assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(told), 60)), "{rung}");
    }
}

/// Between a mean and what is held nothing is told, for neither gives the other; that is no new beginning.
#[test]
fn a_change_of_rung_begins_nothing_anew_although_nothing_is_told_in_between() {
    let mut house = house("commands-only");
    house.report(Property::LocalTemperature, Value::Temperature(19_000));
    let put = |house: &House, table: policy::Table| {
        house.state.lock().unwrap().replace_table(Arc::new(table), Timestamp::from_millis(house.now))
    };
    put(&house, only(&house, model::Rung::HourMean));
    house.now = START + 61 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(23_000));
    let (before, after) = (only(&house, model::Rung::HourMean), only(&house, model::Rung::Hour));
    put(&house, before.meet(&after));
    assert_eq!(house.polled(Property::LocalTemperature), None);
    put(&house, after);
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(19_000), 60)));
}

#[test]
fn an_agent_is_told_how_often_and_a_voice_assistant_is_not() {
    let mut house = house("commands-only");
    let (mut agent, _) = Link::new(
        LinkId::new("a").unwrap(),
        household(),
        PartnerId::new("somebodys-agent").unwrap(),
        "commands-only".into(),
        Timestamp::from_millis(START),
        ([3; 32], [4; 32]),
    );
    agent.enroll([(&thermostat(), model::DeviceType::Thermostat)]);
    house.state.lock().unwrap().links.insert(agent.clone());
    let count = policy::What::Disclose { trigger: Trigger::PartnerPoll, rung: model::Rung::DayCount };
    let both = [&agent, &house.link];
    let grants: Vec<_> = [Property::Motion, Property::LockState]
        .into_iter()
        .flat_map(|p| both.map(|link| granted(link, &format!("{}-{p}", link.id), p, count)))
        .collect();
    let facts = house.state.lock().unwrap().facts(household(), |_| true);
    let table = policy::compile(&facts, &grants, None, Timestamp::from_millis(START)).unwrap();
    house.state.lock().unwrap().replace_table(Arc::new(table), Timestamp::from_millis(START));
    for n in 0..6 {
        house.now = START + n * 60 * MINUTE;
        house.report(Property::Motion, Value::Bool(n % 2 == 1));
        house.report(Property::LockState, Value::LockState(LockState::Locked));
    }
    house.now = START + 18 * 60 * MINUTE;
    house.report(Property::LockState, Value::LockState(LockState::Unlocked));
    // The day began before the first reading: how often it was then, nobody knows.
    let told = |house: &House| -> Vec<(Property, Value)> {
        let all = house.poll();
        all.iter().map(|d| (d.property(), d.value().clone())).collect()
    };
    let assistant = std::mem::replace(&mut house.link, agent);
    assert_eq!(told(&house), []);
    house.now = START + 20 * 60 * MINUTE;
    house.report(Property::Motion, Value::Bool(false));
    house.report(Property::Motion, Value::Bool(true));
    house.now = START + 40 * 60 * MINUTE;
    let counts = [(Property::Motion, Value::Count(1)), (Property::LockState, Value::Count(1))];
    assert_eq!(told(&house), counts);
    house.link = assistant;
    assert_eq!(told(&house), []);
    let mut session = house.session();
    session.ask_all(&house.endpoint(), Trigger::PartnerPoll);
    assert!(session.finish().decided.iter().all(|d| d.outcome == Err(Refusal::NoGrant)));
}

/// A message that was not recorded stored nothing: the next one that shows the same value takes it along, or a restart
/// would show another value within the same tick.
#[test]
fn what_a_message_depends_on_is_stored_with_each_until_one_is_recorded() {
    let mut house = house("glance");
    house.report(Property::OccupiedHeatingSetpoint, Value::Temperature(20_000));
    house.now = START + 90 * MINUTE;
    let keys = |mut session: Session<Broker>, command: Option<Command>| {
        match command {
            Some(command) => drop(block_on(session.act(house.endpoint(), command)).unwrap()),
            None => drop(session.ask_all(&house.endpoint(), Trigger::PartnerPoll)),
        }
        let writes = session.finish().writes;
        let keys: Vec<String> = writes.iter().map(|w| w.key.split('/').next().unwrap().to_owned()).collect();
        (writes, keys)
    };
    let (_not_recorded, first) = keys(house.session(), None);
    let (writes, second) = keys(house.session(), None);
    assert_eq!((first, second), (vec!["known".to_owned()], vec!["known".to_owned()]));
    house.state.lock().unwrap().settle(&writes);
    assert!(keys(house.session(), None).1.is_empty());

    let (older, set) = keys(house.session(), Some(set_point(21_000)));
    assert!(set.contains(&"told".to_owned()));
    let (newer, _) = keys(house.session(), Some(set_point(22_000)));
    // The older one is durable, the newer one is not yet.
    house.state.lock().unwrap().settle(&older);
    assert_eq!(keys(house.session(), None).1, ["told"]);
    house.state.lock().unwrap().settle(&newer);
    assert!(keys(house.session(), None).1.is_empty());
}

#[test]
fn what_a_link_has_set_replaces_its_held_sample_at_once_and_asking_for_the_change_does_not_tell_it() {
    let mut house = house("glance");
    house.report(Property::OccupiedHeatingSetpoint, Value::Temperature(20_000));
    house.now = START + 90 * MINUTE;
    assert_eq!(house.polled(Property::OccupiedHeatingSetpoint), Some((Value::Temperature(20_000), 0)));
    let acted = house.act(set_point(21_500)).unwrap();
    assert_eq!(acted.echo[0].value(), &Value::Temperature(21_500));
    assert_eq!(acted.context, []);
    // As exactly as it said it, on a rung that rounds, and over a restart: a tile must not jump to what nobody has set.
    assert_eq!(house.polled(Property::OccupiedHeatingSetpoint), Some((Value::Temperature(21_500), 90)));
    // A change is carried out from where the home really is, and not told before the next tick.
    let acted = house.act(Command::AdjustSetpoint { delta_milli: 1_000 }).unwrap();
    assert_eq!(acted, Acted::default());
    let orders = house.broker.0.lock().unwrap();
    assert_eq!(orders[1].desired[0].value, Value::Temperature(22_500));
    drop(orders);
    assert_eq!(house.polled(Property::OccupiedHeatingSetpoint), Some((Value::Temperature(21_500), 90)));
}

#[test]
fn an_error_that_would_tell_the_mode_needs_the_grant_for_the_mode() {
    for (profile, expected) in
        [("everything", Err(ActError::ThermostatIsOff)), ("glance", Ok(1)), ("commands-only", Ok(1))]
    {
        let house = house(profile);
        house.report(Property::SystemMode, Value::SystemMode(SystemMode::Off));
        assert_eq!(house.act(set_point(21_000)).map(|a| a.echo.len()), expected, "{profile}");
        let too_hot = house.act(set_point(40_000));
        if profile != "everything" {
            let (min, max) = (Value::Temperature(5_000), Value::Temperature(30_000));
            assert_eq!(too_hot, Err(ActError::OutOfRange { min, max }), "the range is no state");
        }
    }
}

#[test]
fn what_wants_the_pin_is_done_with_it_alone_and_what_does_not_fit_is_on_record() {
    let mut house = house("everything");
    let grant = |n: &str, open, code| policy::Grant {
        code,
        ..granted(&house.link, n, Property::LockState, policy::What::Control { open })
    };
    let put = |house: &mut House, grants: &[policy::Grant]| {
        let facts = house.state.lock().unwrap().facts(household(), |_| true);
        let table = policy::compile(&facts, grants, None, Timestamp::from_millis(START)).unwrap();
        house.state.lock().unwrap().replace_table(Arc::new(table), Timestamp::from_millis(house.now));
    };
    // Nothing is said of a code: to unlock it takes the PIN, to lock it does not.
    let (open, lock) = (grant("open", true, None), grant("lock", false, None));
    put(&mut house, &[open.clone(), lock.clone()]);
    let with = |house: &House, pin: Option<&str>, to| {
        let mut session = house.session();
        let endpoint = house.endpoint();
        let done = block_on(session.act_with(endpoint, Command::SetLock(to), pin.map(Secret::new)));
        let finished = session.finish();
        let refused: Vec<_> =
            finished.decided.iter().filter_map(|d| Some((d.property, d.outcome.clone().err()?))).collect();
        let orders = house.broker.0.lock().unwrap().len();
        let said = format!("{finished:?} {done:?}");
        assert!(pin.is_none_or(|pin| !said.contains(pin)), "{said}");
        (done.map(|_| ()), refused.into_iter().rfind(|(_, r)| r.is_policy() && *r != Refusal::NoGrant), orders)
    };
    let unlock = |house: &House, pin| with(house, pin, LockState::Unlocked);
    let refusal = |r: Refusal, orders| (Err(ActError::Refused(r)), Some((Property::LockState, r)), orders);
    assert_eq!(unlock(&house, None), refusal(Refusal::PinNeeded, 0));
    // The link has none: none fits.
    assert_eq!(unlock(&house, Some("471147")), refusal(Refusal::PinWrong, 0));
    *house.broker.1.lock().unwrap() = Some(Pin::new("471147", &[7; 16]).unwrap());
    assert_eq!(unlock(&house, Some("471147")), (Ok(()), None, 1));
    assert_eq!(unlock(&house, Some("471148")), refusal(Refusal::PinWrong, 1));
    assert_eq!(with(&house, None, LockState::Locked), (Ok(()), None, 2));
    for _ in 0..4 {
        assert_eq!(unlock(&house, Some("471148")), refusal(Refusal::PinWrong, 2));
    }
    assert_eq!(unlock(&house, Some("471147")), refusal(Refusal::PinLocked, 2));
    house.now += links::pin::PIN_LOCKOUT_MS;
    assert_eq!(unlock(&house, Some("471147")), (Ok(()), None, 3));
    // Where the household takes the partner's word no PIN is looked at; and it can ask for one before a lock is locked, too.
    house.now += MINUTE;
    let trusted = policy::Grant { code: Some(policy::Code::Partner), ..open.clone() };
    let asked = policy::Grant { code: Some(policy::Code::Pin), ..lock };
    put(&mut house, &[trusted, asked]);
    assert_eq!(unlock(&house, None), (Ok(()), None, 4));
    assert_eq!(with(&house, None, LockState::Locked), refusal(Refusal::PinNeeded, 4));
    // Taken back while the PIN is looked at: it fits, and opens nothing.
    put(&mut house, &[open]);
    let other = Arc::new(house.table("commands-only"));
    *house.broker.2.lock().unwrap() = Some((Arc::clone(&house.state), other));
    let (done, _, orders) = unlock(&house, Some("471147"));
    assert!(done.is_err() && orders == 4, "{done:?} {orders}");
}

#[test]
fn a_strange_endpoint_is_none_at_all_and_commands_need_their_grant() {
    let mut house = house("everything");
    let strange = EndpointId::new("0123456789abcdef0123456789abcdef").unwrap();
    assert!(house.session().endpoint(&strange).is_none());
    assert_eq!(house.session().ask_all(&strange, Trigger::PartnerPoll), []);
    let refused = block_on(house.session().act(strange, Command::SetOnOff(true)));
    assert_eq!(refused, Err(ActError::Refused(Refusal::NoSuchEndpoint)));
    assert!(house.act(Command::SetLock(LockState::Unlocked)).is_ok());
    // Without a grant the same endpoint commands nothing.
    let empty =
        policy::compile(&house.state.lock().unwrap().facts(household(), |_| true), &[], None, Timestamp::default());
    house.now += MINUTE;
    house.state.lock().unwrap().replace_table(Arc::new(empty.unwrap()), Timestamp::from_millis(house.now));
    assert_eq!(house.act(Command::SetLock(LockState::Unlocked)), Err(ActError::Refused(Refusal::NoGrant)));
    assert_eq!(house.session().endpoints(), []);
    assert_eq!(house.broker.0.lock().unwrap().len(), 1);
}

#[test]
fn what_is_gone_is_neither_announced_nor_told_nor_commanded_and_only_who_may_see_it_can_tell() {
    let lock = || Command::SetLock(LockState::Unlocked);
    for profile in ["everything", "commands-only"] {
        let house = house(profile);
        house.report(Property::LocalTemperature, Value::Temperature(20_000));
        house.report(Property::LockState, Value::LockState(LockState::Locked));
        let described = house.state.lock().unwrap().registry.get(&thermostat()).unwrap().description.clone();
        let has = |p: Property| {
            let views = house.session().endpoints();
            views.iter().any(|v| v.capabilities.iter().any(|c| c.property == p))
        };
        let hash = || {
            let state = house.state.lock().unwrap();
            let facts = state.facts(household(), |_| true);
            policy::compile(&facts, &[], None, Timestamp::default()).unwrap().table_hash()
        };
        let (before, facts) = (house.session().endpoints(), hash());
        assert!(has(Property::LockState));
        // A component is taken out of it.
        let mut without = described.clone();
        without.properties.remove(&Property::LockState);
        house.state.lock().unwrap().describe(&thermostat(), without).unwrap();
        assert!(!has(Property::LockState) && has(Property::OccupiedHeatingSetpoint));
        assert!(house.poll().iter().all(|d| d.property() != Property::LockState));
        assert_eq!(house.act(lock()), Err(ActError::Refused(Refusal::NotSupported)));
        assert_eq!(hash(), facts, "no decision tells it");
        // All of it is gone.
        house.state.lock().unwrap().registry.withdraw(&thermostat());
        assert_eq!((house.session().endpoints(), house.poll()), (Vec::new(), Vec::new()));
        assert!(house.session().endpoint(&house.endpoint()).is_none());
        assert_eq!(house.act(set_point(21_000)), Err(ActError::Refused(Refusal::NoSuchEndpoint)));
        assert_eq!(hash(), facts);
        assert!(house.broker.0.lock().unwrap().is_empty());
        // Back again, it is what it was.
        house.state.lock().unwrap().describe(&thermostat(), described).unwrap();
        assert_eq!(house.session().endpoints(), before);
    }
    // To a link without a grant it is always the same.
    let house = house("everything");
    let empty =
        policy::compile(&house.state.lock().unwrap().facts(household(), |_| true), &[], None, Timestamp::default());
    house.state.lock().unwrap().replace_table(Arc::new(empty.unwrap()), Timestamp::from_millis(house.now));
    let seen = || (house.session().endpoints(), house.poll(), house.act(lock()), house.act(set_point(21_000)));
    let before = seen();
    let mut nothing = house.state.lock().unwrap().registry.get(&thermostat()).unwrap().description.clone();
    nothing.properties.clear();
    house.state.lock().unwrap().describe(&thermostat(), nothing).unwrap();
    assert_eq!(seen(), before);
    house.state.lock().unwrap().registry.withdraw(&thermostat());
    assert_eq!(seen(), before);
}

/// Puts a house's own table in force in a state that begins on what an earlier one has stored.
fn started_again(house: &House, writes: &[gate::StateWrite]) -> GateState {
    let old = house.state.lock().unwrap();
    let mut new = GateState::new(TimeZone::UTC, Arc::clone(old.table()));
    old.registry.iter().for_each(|(id, known)| new.registry.restore(id.clone(), known.clone()));
    old.home.iter().for_each(|(device, p, known)| new.home.restore(device.clone(), p, known.clone()));
    old.links.iter().for_each(|link| new.links.insert(link.clone()));
    // As the store has it in the end.
    let mut stored = BTreeMap::new();
    for write in writes.iter().filter(|w| !w.key.starts_with("link/")) {
        match &write.json {
            Some(json) => drop(stored.insert(&write.key, json)),
            None => drop(stored.remove(&write.key)),
        }
    }
    stored.into_iter().for_each(|(key, json)| assert!(new.restore(key, json), "{key}"));
    new.resume(Arc::clone(old.table()));
    new
}

/// What was forgotten with its grant stays so over a restart: granted again in the same tick it would come back from the store.
#[test]
fn what_was_taken_back_does_not_come_back_with_a_restart() {
    let mut house = house("commands-only");
    house.report(Property::LocalTemperature, Value::Temperature(19_000));
    house.now = START + 5 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(23_000));
    house.now = START + 10 * MINUTE;
    let mut writes = house.grant("glance");
    assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(23_000), 10)));
    writes.extend(house.grant("commands-only"));
    // For a while at once, then held again: what began with the first grant is over.
    house.now = START + 20 * MINUTE;
    writes.extend(house.grant("everything"));
    house.now = START + 30 * MINUTE;
    writes.extend(house.grant("glance"));
    let held = house.polled(Property::LocalTemperature);
    let new = started_again(&house, &writes);
    *house.state.lock().unwrap() = new;
    assert_eq!(house.polled(Property::LocalTemperature), held);
}

/// Hours and windows begin where the rung's own tick is. Were each opening a first reading, who opens often would be told more
/// often than the rung allows, at times that lie on no grid.
#[test]
fn opening_a_window_buys_nothing_fresher_than_the_rung() {
    let mut house = house("commands-only");
    house.report(Property::LocalTemperature, Value::Temperature(19_000));
    house.now = START + 70 * MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(23_000));
    // Granted for a window, which is shut; it opens, shuts, and opens again.
    let shut = Arc::clone(house.state.lock().unwrap().table());
    house.grant("glance");
    let granted = Arc::clone(house.state.lock().unwrap().table());
    let table = |counts: bool| {
        let held = house.table(if counts { "glance" } else { "commands-only" });
        Arc::new(held.with_conditions(Some(Arc::clone(&granted)), None))
    };
    let (opened, closed) = (table(true), table(false));
    let state = Arc::clone(&house.state);
    let put = |table: &Arc<policy::Table>, now: i64| {
        state.lock().unwrap().replace_table(Arc::clone(table), Timestamp::from_millis(now));
    };
    put(&shut, house.now);
    put(&closed, house.now);
    let mut told = Vec::new();
    for n in 0..3 {
        house.now = START + (71 + 2 * n) * MINUTE;
        house.report(Property::LocalTemperature, Value::Temperature(24_000 + 1_000 * n as i32));
        put(&opened, house.now);
        told.push(house.polled(Property::LocalTemperature));
        house.now += MINUTE;
        put(&closed, house.now);
        assert_eq!(house.polled(Property::LocalTemperature), None);
    }
    assert!(told.iter().all(|t| t.as_ref().is_some_and(|(v, _)| *v == Value::Temperature(19_000))), "{told:?}");
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
}

#[test]
fn a_restart_lets_go_of_no_held_value_even_when_the_clock_was_set_back() {
    let mut house = house("glance");
    house.report(Property::LocalTemperature, Value::Temperature(20_000));
    house.now = START + 61 * MINUTE;
    let mut session = house.session();
    session.ask_all(&house.endpoint(), Trigger::PartnerPoll);
    let mut writes = session.finish().writes;
    house.now += MINUTE;
    house.report(Property::LocalTemperature, Value::Temperature(25_000));
    writes.extend(house.state.lock().unwrap().keep_time(Timestamp::from_millis(START + 65 * MINUTE)));
    let new = started_again(&house, &writes);
    *house.state.lock().unwrap() = new;
    for now in [START + 70 * MINUTE, START + 20 * MINUTE] {
        house.now = now;
        assert_eq!(house.polled(Property::LocalTemperature), Some((Value::Temperature(20_000), 60)));
    }
}

#[test]
fn when_a_reading_came_is_not_in_the_time_of_an_answer() {
    let mut house = house("commands-only");
    house.now = START + 30 * MINUTE;
    house.report(Property::Motion, Value::Bool(true));
    // The clock is set back before anybody asks.
    house.now = START + 10 * MINUTE;
    let acted = house.act(set_point(21_000)).unwrap();
    assert_eq!(acted.echo[0].time(), Timestamp::from_millis(house.now));
}

#[test]
fn an_order_that_leads_nowhere_is_answered_and_recorded_like_any_other() {
    let house = house("commands-only");
    let adjust = || house.act(Command::AdjustSetpoint { delta_milli: 1_000 });
    // Nothing is known to start from.
    let unknown = adjust();
    house.report(Property::OccupiedHeatingSetpoint, Value::Temperature(20_000));
    assert_eq!(unknown, adjust());
    let orders = house.broker.0.lock().unwrap();
    let desired: Vec<usize> = orders.iter().map(|o| o.desired.len()).collect();
    assert_eq!(desired, [0, 1]);
}

/// A broker that has the order while the household edits its grants.
struct Slow(Arc<Mutex<GateState>>, Arc<policy::Table>);

impl Actuator for Slow {
    async fn carry_out(&self, _: Order) -> Result<(), ActuatorError> {
        self.0.lock().unwrap().replace_table(Arc::clone(&self.1), Timestamp::from_millis(START));
        Ok(())
    }
}

#[test]
fn what_is_taken_back_while_the_broker_has_an_order_is_not_told_in_its_answer() {
    let told = |typed: bool| {
        let house = house("everything");
        house.report(Property::LocalTemperature, Value::Temperature(20_000));
        let grant = |n: &str, property, trigger| {
            granted(&house.link, n, property, policy::What::Disclose { trigger, rung: model::Rung::Live })
        };
        let mut left = vec![
            grant("a", Property::LocalTemperature, Trigger::DirectiveResponse),
            grant("b", Property::LocalTemperature, Trigger::PartnerPoll),
        ];
        left.extend(typed.then(|| grant("c", Property::DeviceTypeName, Trigger::Discovery)));
        let facts = house.state.lock().unwrap().facts(household(), |_| true);
        let table = policy::compile(&facts, &left, None, Timestamp::from_millis(START)).unwrap();
        let slow = Arc::new(Slow(Arc::clone(&house.state), Arc::new(table)));
        let (state, now) = (Arc::clone(&house.state), Timestamp::from_millis(START));
        let mut session = Session::new(state, slow, &house.link, now, "Test".into(), "id".into());
        let acted = block_on(session.act(house.endpoint(), set_point(21_000))).unwrap();
        acted.context.iter().map(Disclosed::property).collect::<Vec<_>>()
    };
    assert_eq!(told(true), [Property::LocalTemperature]);
    // Nor anything of a device that the link may not even know of any more.
    assert_eq!(told(false), []);
}

/// A broker that takes an order when it is told to.
#[derive(Default)]
struct SlowBroker {
    orders: Mutex<Vec<Order>>,
    open: Mutex<bool>,
}

impl Actuator for SlowBroker {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        self.orders.lock().unwrap().push(order);
        std::future::poll_fn(|_| match *self.open.lock().unwrap() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
        Ok(())
    }
}

#[test]
fn a_directive_that_comes_twice_acts_once_and_is_answered_twice() {
    let mut house = house("everything");
    house.report(Property::OccupiedHeatingSetpoint, Value::Temperature(20_000));
    let warmer = |house: &House, request: &str, delta_milli: i32| {
        let mut session = house.session().asked_as(Some(request));
        block_on(session.act(house.endpoint(), Command::AdjustSetpoint { delta_milli })).unwrap().context
    };
    let orders = |house: &House| house.broker.0.lock().unwrap().len();
    house.now += 1;
    let first = warmer(&house, "m1", 1_000);
    assert_eq!(warmer(&house, "m1", 1_000), first, "the same answer");
    assert_eq!(orders(&house), 1, "and one order");
    // Another message, and the same id for something else, are new orders.
    house.now += 1;
    warmer(&house, "m2", 1_000);
    warmer(&house, "m2", 500);
    assert_eq!(orders(&house), 3);
    // What a link may no longer see is not told again, nor is it carried out again.
    house.grant("commands-only");
    assert_eq!(warmer(&house, "m1", 1_000), []);
    assert_eq!(orders(&house), 3);
    // After the window it is a new directive.
    house.now += gate::ONCE_WINDOW_MS + 10;
    warmer(&house, "m1", 1_000);
    assert_eq!(orders(&house), 4);
    // The memory has a limit, and what falls out of it is counted.
    for n in 0..=gate::ONCE_PER_LINK_MAX {
        warmer(&house, &format!("many{n}"), 1);
    }
    assert!(house.state.lock().unwrap().commands_forgotten() > 0);
}

#[test]
fn a_directive_that_is_repeated_while_the_first_is_under_way_waits_for_its_end() {
    let house = house("everything");
    let broker = Arc::new(SlowBroker::default());
    let lock = || {
        let now = Timestamp::from_millis(house.now);
        let mut session =
            Session::new(Arc::clone(&house.state), Arc::clone(&broker), &house.link, now, "Test".into(), "id".into())
                .asked_as(Some("m1"));
        let endpoint = house.endpoint();
        Box::pin(async move { session.act(endpoint, Command::SetLock(LockState::Locked)).await.map(|a| a.echo.len()) })
    };
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let (mut first, mut second, mut third) = (lock(), lock(), lock());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    *broker.open.lock().unwrap() = true;
    assert!(second.as_mut().poll(&mut context).is_pending(), "the first has not ended");
    assert_eq!(first.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(1)));
    assert_eq!(second.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(1)));
    assert_eq!(third.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(1)));
    assert_eq!(broker.orders.lock().unwrap().len(), 1);
    // Whoever hangs up has acted all the same.
    *broker.open.lock().unwrap() = false;
    let hung_up = |request: &'static str| {
        let now = Timestamp::from_millis(house.now);
        let mut session =
            Session::new(Arc::clone(&house.state), Arc::clone(&broker), &house.link, now, "Test".into(), "id".into())
                .asked_as(Some(request));
        let endpoint = house.endpoint();
        Box::pin(async move { session.act(endpoint, Command::SetLock(LockState::Locked)).await.is_ok() })
    };
    let mut gone = hung_up("m2");
    assert!(gone.as_mut().poll(&mut context).is_pending());
    drop(gone);
    assert_eq!(hung_up("m2").as_mut().poll(&mut context), std::task::Poll::Ready(true));
    assert_eq!(broker.orders.lock().unwrap().len(), 2);
}

/// What happens in a home in one minute.
#[derive(Clone, Debug)]
enum Event {
    Temperature(i32),
    Humidity(u16),
    Motion(bool),
    Lock(bool),
    SetPoint(i32),
}

/// What a partner does.
#[derive(Clone, Debug)]
enum Move {
    Poll,
    Discover,
    Set(i32),
    Adjust(i32),
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (15_000i32..28_000).prop_map(Event::Temperature),
        (0u16..10_000).prop_map(Event::Humidity),
        any::<bool>().prop_map(Event::Motion),
        any::<bool>().prop_map(Event::Lock),
        (15_000i32..28_000).prop_map(Event::SetPoint),
    ]
}

fn partner_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => Just(Move::Poll),
        1 => Just(Move::Discover),
        1 => (15_000i32..28_000).prop_map(Move::Set),
        1 => (-3_000i32..3_000).prop_map(Move::Adjust),
        2 => Just(Move::Nothing),
    ]
}

fn live(house: &mut House, minute: usize, events: &[Event], partner: &Move, trace: &mut Vec<String>) {
    house.now = START + minute as i64 * MINUTE + 1;
    for event in events {
        match event {
            Event::Temperature(t) => house.report(Property::LocalTemperature, Value::Temperature(*t)),
            Event::Humidity(h) => house.report(Property::RelativeHumidity, Value::Percent(*h)),
            Event::Motion(m) => house.report(Property::Motion, Value::Bool(*m)),
            Event::Lock(l) => {
                let lock = if *l { LockState::Locked } else { LockState::Unlocked };
                house.report(Property::LockState, Value::LockState(lock));
            }
            Event::SetPoint(t) => house.report(Property::OccupiedHeatingSetpoint, Value::Temperature(*t)),
        }
    }
    house.now += 1;
    match partner {
        Move::Poll => trace.push(format!("{:?}", house.poll())),
        Move::Discover => trace.push(format!("{:?}", house.session().endpoints())),
        Move::Set(t) => trace.push(format!("{:?}", house.act(set_point(*t)))),
        Move::Adjust(d) => trace.push(format!("{:?}", house.act(Command::AdjustSetpoint { delta_milli: *d }))),
        Move::Nothing => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Two homes whose released views are equal (the same rounded temperature and set point at each full hour) and which
    /// differ in everything else give a partner, whatever it does, the same trace to the byte.
    #[test]
    fn withheld_data_can_not_change_what_is_told(
        profile in prop::sample::select(vec!["commands-only", "glance"]),
        one in prop::collection::vec(prop::collection::vec(event(), 0..3), 180),
        other in prop::collection::vec(prop::collection::vec(event(), 0..3), 180),
        moves in prop::collection::vec(partner_move(), 180),
        at_tick in prop::collection::vec((15i32..28, -400i32..400, -400i32..400, 15_000i32..28_000), 4),
    ) {
        let mut homes = [house(profile), house(profile)];
        let mut traces = [Vec::new(), Vec::new()];
        for minute in 0..180 {
            for (n, home) in homes.iter_mut().enumerate() {
                let mut events = if n == 0 { one[minute].clone() } else { other[minute].clone() };
                // Just before each tick the permitted values fall into the same bucket; and at the beginning they are
                // there before anybody asks.
                if minute == 0 || minute % 60 == 59 {
                    let (degrees, a, b, set) = at_tick[(minute + 1) / 60];
                    events.push(Event::Temperature(degrees * 1000 + if n == 0 { a } else { b }));
                    events.push(Event::SetPoint(set));
                    if minute == 0 {
                        events.drain(..events.len() - 2);
                        // Other withheld things may be there or not.
                        if n == 0 { events.push(Event::Motion(true)); }
                    }
                }
                live(home, minute, &events, &moves[minute], &mut traces[n]);
            }
        }
        prop_assert_eq!(&traces[0], &traces[1]);
    }
}

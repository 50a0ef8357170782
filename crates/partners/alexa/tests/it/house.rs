//! A home with one device of every sort, the real gate, and one link of Alexa.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alexa::Reply;
use disclosure::Features;
use gate::{Actuator, ActuatorError, GateState, Order, Session};
use home::{Description, PropertyDescription, Reading};
use jiff::tz::TimeZone;
use links::Link;
use model::{
    Class, DeviceId, GrantId, HouseholdId, LinkId, MemberId, PartnerId, Property, SystemMode, Timestamp, Value,
};
use policy::{Grant, What};
use serde_json::{Value as Json, json};

use crate::schema;

/// A full hour: every short grid has a tick here.
pub const START: i64 = 1_768_212_000_000;

/// The id of every event. The real ones are random.
pub const MESSAGE_ID: &str = "00000000-0000-4000-8000-0000000000ff";

/// What a broker does with an order.
#[derive(Clone, Copy, Default)]
pub enum Mood {
    #[default]
    Takes,
    NotRecorded,
    Down,
}

#[derive(Default)]
pub struct Broker {
    pub orders: Mutex<Vec<Order>>,
    pub mood: Mutex<Mood>,
}

impl Actuator for Broker {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        match *self.mood.lock().unwrap() {
            Mood::Takes => {}
            Mood::NotRecorded => return Err(ActuatorError::NotRecorded),
            Mood::Down => return Err(ActuatorError::BrokerUnreachable),
        }
        self.orders.lock().unwrap().push(order);
        Ok(())
    }
}

pub struct House {
    pub state: Arc<Mutex<GateState>>,
    pub broker: Arc<Broker>,
    pub link: Link,
    pub now: i64,
}

pub fn device(id: &str) -> DeviceId {
    DeviceId::new(id).unwrap()
}

fn household() -> HouseholdId {
    HouseholdId::new("home").unwrap()
}

fn described(name: &str, class: Class, sets: &[Property], tells: &[Property], features: Features) -> Description {
    let entry = |command| move |p: &Property| (*p, PropertyDescription { class, command });
    let properties: BTreeMap<_, _> = sets.iter().map(entry(true)).chain(tells.iter().map(entry(false))).collect();
    Description {
        name: format!("SECRET name of {name}"),
        properties,
        features,
        vendor: Some("SECRET maker".into()),
        product: Some("SECRET model".into()),
        serial: Some(format!("SECRET serial of {name}")),
        firmware: Some("SECRET firmware".into()),
        room: Some("SECRET room".into()),
    }
}

/// One device of every sort.
pub fn devices() -> Vec<(&'static str, Description)> {
    use Property as P;
    let thermostat = Features {
        modes: ["off", "auto", "cool", "heat", "emergency_heat", "fan_only", "dry"]
            .iter()
            .filter_map(|m| SystemMode::parse(m))
            .collect(),
        min_setpoint_milli: Some(5_000),
        max_setpoint_milli: Some(30_000),
        single_setpoint: true,
        ..Features::default()
    };
    let dual = Features {
        dual_setpoints: true,
        single_setpoint: false,
        min_setpoint_delta_milli: Some(2_000),
        ..thermostat.clone()
    };
    let triple = Features { single_setpoint: true, triple_setpoints: true, schedules: true, ..dual.clone() };
    let heating = Features { modes: vec![SystemMode::Off, SystemMode::Heat], ..thermostat.clone() };
    let lamp = Features { min_color_kelvin: Some(2_200), max_color_kelvin: Some(6_500), ..Features::default() };
    let none = Features::default;
    let (heat, cool, mode) = (P::OccupiedHeatingSetpoint, P::OccupiedCoolingSetpoint, P::SystemMode);
    let sensed = [P::LocalTemperature, P::RelativeHumidity, P::RunningState];
    vec![
        ("radiator", described("radiator", Class::None, &[heat, mode], &sensed, heating)),
        ("dual", described("dual", Class::None, &[heat, cool, mode], &sensed, dual)),
        (
            "triple",
            described(
                "triple",
                Class::None,
                &[heat, cool, P::OccupiedSetpoint, mode, P::SetpointHold, P::SetpointHoldDuration],
                &sensed,
                triple,
            ),
        ),
        ("lock", described("lock", Class::Door, &[P::LockState], &[P::BatteryPercent], none())),
        ("garage", described("garage", Class::Garage, &[P::DoorState, P::CoverPosition], &[], none())),
        ("blind", described("blind", Class::Blind, &[P::DoorState, P::CoverPosition, P::CoverTilt], &[], none())),
        ("shutter", described("shutter", Class::Blind, &[P::DoorState], &[], none())),
        (
            "lamp",
            described("lamp", Class::Light, &[P::OnOff, P::CurrentLevel, P::ColorTemperature, P::Color], &[], lamp),
        ),
        (
            "fan",
            described("fan", Class::Fan, &[P::OnOff, P::FanPercent, P::FanOscillation, P::FanDirection], &[], none()),
        ),
        ("plug", described("plug", Class::Switch, &[P::OnOff], &[P::ActivePower, P::CumulativeEnergy], none())),
        ("scene", described("scene", Class::None, &[P::Scene], &[], none())),
        ("contact", described("contact", Class::Window, &[], &[P::ContactOpen, P::BatteryPercent], none())),
        ("motion", described("motion", Class::None, &[], &[P::Motion, P::Occupancy], none())),
        (
            "climate",
            described(
                "climate",
                Class::None,
                &[],
                &[P::LocalTemperature, P::RelativeHumidity, P::BatteryPercent, P::Co2Concentration],
                none(),
            ),
        ),
        ("smoke", described("smoke", Class::None, &[], &[P::SmokeState, P::CoState, P::LeakState], none())),
    ]
}

impl House {
    /// Every device, reporting nothing yet, with a profile granted. `no-opening` is Commands only without what opens.
    pub fn new(profile: &str) -> House {
        // Compiling the policies of so many devices takes a while, and gives the same each time.
        static TABLES: Mutex<BTreeMap<String, Arc<policy::Table>>> = Mutex::new(BTreeMap::new());
        let house = House::without_grants(devices());
        let mut tables = TABLES.lock().unwrap();
        let table = tables.entry(profile.to_owned()).or_insert_with(|| house.table(&house.grants(profile)));
        house.state.lock().unwrap().replace_table(Arc::clone(table), Timestamp::from_millis(START));
        house
    }

    pub fn of(devices: Vec<(&str, Description)>, profile: &str) -> House {
        let mut house = House::without_grants(devices);
        house.grant(profile);
        house
    }

    fn without_grants(devices: Vec<(&str, Description)>) -> House {
        let empty = policy::compile(&policy::Facts::empty(household()), &[], None, Timestamp::default()).unwrap();
        let mut state = GateState::new(TimeZone::UTC, Arc::new(empty));
        let start = Timestamp::from_millis(START);
        let (id, partner) = (LinkId::new("l").unwrap(), PartnerId::new("alexa").unwrap());
        let (mut link, _) = Link::new(id, household(), partner, "test".into(), start, ([1; 32], [2; 32]));
        for (name, description) in devices {
            state.describe(&device(name), description).unwrap();
            let device_type = state.registry.get(&device(name)).unwrap().device_type();
            link.enroll([(&device(name), device_type)]);
        }
        state.links.insert(link.clone());
        House { state: Arc::new(Mutex::new(state)), broker: Arc::default(), link, now: START }
    }

    /// What a profile grants here; where it takes named sensors, all are named.
    pub fn grants(&self, profile: &str) -> Vec<Grant> {
        if profile == "no-opening" {
            let opens = |g: &Grant| g.what == What::Control { open: true };
            return self.grants("commands-only").into_iter().filter(|g| !opens(g)).collect();
        }
        let facts = self.state.lock().unwrap().facts(household(), |_| true);
        let owner = MemberId::new("owner").unwrap();
        let now = Timestamp::from_millis(self.now);
        let terms = policy::Terms { now, granted_by: owner.clone(), affects: vec![owner] };
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        let profile = policy::profile(profile).unwrap();
        let named = profile.of_named();
        let is_named = |d: &&policy::DeviceFact| d.properties.iter().any(|(p, _)| named.contains(p));
        let profile = profile.naming(facts.devices.iter().filter(is_named).map(|d| d.device.clone()));
        policy::apply(&profile, &facts, &self.link.id, &[], &terms, ids).unwrap().add
    }

    pub fn put_in_force(&mut self, grants: &[Grant]) {
        let table = self.table(grants);
        self.state.lock().unwrap().replace_table(table, Timestamp::from_millis(self.now));
    }

    fn table(&self, grants: &[Grant]) -> Arc<policy::Table> {
        let facts = self.state.lock().unwrap().facts(household(), |_| true);
        Arc::new(policy::compile(&facts, grants, None, Timestamp::from_millis(self.now)).unwrap())
    }

    pub fn grant(&mut self, profile: &str) {
        let grants = self.grants(profile);
        self.put_in_force(&grants);
    }

    /// Everything but what is told of one property.
    pub fn grant_all_but_told(&mut self, withheld: &[Property]) {
        let told = |g: &Grant| matches!(g.what, What::Disclose { .. }) && withheld.contains(&g.property);
        let grants: Vec<Grant> = self.grants("everything").into_iter().filter(|g| !told(g)).collect();
        self.put_in_force(&grants);
    }

    pub fn report(&self, id: &str, property: Property, value: Value) {
        let time = Timestamp::from_millis(self.now);
        self.state.lock().unwrap().report(Reading { device: device(id), property, value, time });
    }

    /// A whole home's state.
    pub fn report_all(&self) {
        use model::{Color, DoorState, FanDirection, LockState, RunningState};
        let t = Value::Temperature;
        for id in ["radiator", "dual", "triple"] {
            self.report(id, Property::LocalTemperature, t(20_437));
            self.report(id, Property::RelativeHumidity, Value::Percent(4_321));
            self.report(id, Property::RunningState, Value::RunningState(RunningState::Heating));
            self.report(id, Property::OccupiedHeatingSetpoint, t(20_000));
        }
        for id in ["dual", "triple"] {
            self.report(id, Property::OccupiedCoolingSetpoint, t(25_500));
            self.report(id, Property::SystemMode, Value::SystemMode(SystemMode::Auto));
        }
        self.report("triple", Property::OccupiedSetpoint, t(22_500));
        self.report("radiator", Property::SystemMode, Value::SystemMode(SystemMode::Heat));
        self.report("lock", Property::LockState, Value::LockState(LockState::Locked));
        self.report("lock", Property::BatteryPercent, Value::Percent(1_900));
        self.report("garage", Property::DoorState, Value::DoorState(DoorState::Closed));
        self.report("garage", Property::CoverPosition, Value::Percent(0));
        self.report("blind", Property::DoorState, Value::DoorState(DoorState::Open));
        self.report("blind", Property::CoverPosition, Value::Percent(4_000));
        self.report("blind", Property::CoverTilt, Value::Percent(7_500));
        self.report("shutter", Property::DoorState, Value::DoorState(DoorState::Opening));
        self.report("lamp", Property::OnOff, Value::Bool(true));
        self.report("lamp", Property::CurrentLevel, Value::Percent(4_200));
        self.report("lamp", Property::Color, Value::Color(Color { hue: 12_345, saturation: 6_789 }));
        self.report("fan", Property::OnOff, Value::Bool(true));
        self.report("fan", Property::FanPercent, Value::Percent(3_300));
        self.report("fan", Property::FanOscillation, Value::Bool(true));
        self.report("fan", Property::FanDirection, Value::FanDirection(FanDirection::Reverse));
        self.report("plug", Property::OnOff, Value::Bool(false));
        self.report("plug", Property::ActivePower, Value::Power(123_456));
        self.report("contact", Property::ContactOpen, Value::Bool(true));
        self.report("contact", Property::BatteryPercent, Value::Percent(8_800));
        self.report("motion", Property::Motion, Value::Bool(true));
        self.report("climate", Property::LocalTemperature, t(19_950));
        self.report("climate", Property::RelativeHumidity, Value::Percent(5_678));
        self.report("climate", Property::BatteryPercent, Value::Percent(6_400));
        self.report("climate", Property::Co2Concentration, Value::Ppm(987));
        self.report("smoke", Property::SmokeState, Value::Bool(true));
        for (id, _) in devices() {
            self.report(id, Property::Reachable, Value::Bool(true));
        }
        // A lamp reports what it shows: white now, the colour before.
        let time = Timestamp::from_millis(self.now + 1);
        let (property, value) = (Property::ColorTemperature, Value::ColorTemperature(3_456));
        self.state.lock().unwrap().report(Reading { device: device("lamp"), property, value, time });
    }

    pub fn endpoint(&self, id: &str) -> String {
        self.link.endpoint(&device(id)).as_str().to_owned()
    }

    /// A directive to a device, as Alexa writes it.
    pub fn directive(&self, id: &str, (namespace, name, instance): (&str, &str, &str), payload: Json) -> Json {
        let mut header = json!({"namespace": namespace, "name": name, "payloadVersion": "3", "messageId": "request-1"});
        let scope = json!({"type": "BearerToken", "token": "a-token-of-the-customer"});
        match namespace {
            "Alexa.Discovery" => json!({"directive": {"header": header, "payload": {"scope": scope}}}),
            "Alexa.Authorization" => {
                let grant = json!({"type": "OAuth2.AuthorizationCode", "code": "a-code-of-the-customer"});
                json!({"directive": {"header": header, "payload": {"grant": grant, "grantee": scope}}})
            }
            _ => {
                if !instance.is_empty() {
                    header["instance"] = json!(instance);
                }
                header["correlationToken"] = json!("correlation-1");
                let endpoint = json!({"scope": scope, "endpointId": self.endpoint(id), "cookie": {}});
                json!({"directive": {"header": header, "endpoint": endpoint, "payload": payload}})
            }
        }
    }

    /// Sends a directive as the hub does: what comes again under the same id is not done again.
    pub fn send_once(&self, directive: &Json) -> Json {
        self.answer(directive, true).event()
    }

    /// Sends a directive; the event that comes back is valid by its schema and holds no token.
    pub fn send(&self, directive: &Json) -> Reply {
        self.answer(directive, false)
    }

    fn answer(&self, directive: &Json, once: bool) -> Reply {
        let parsed = alexa::parse(directive.to_string().as_bytes()).unwrap();
        let now = Timestamp::from_millis(self.now);
        let (state, broker) = (Arc::clone(&self.state), Arc::clone(&self.broker));
        let session = Session::new(state, broker, &self.link, now, "Test".into(), MESSAGE_ID.into());
        let mut session = session.asked_as(parsed.message_id().filter(|_| once));
        let reply = block_on(alexa::answer(&mut session, &parsed));
        schema::check_event(&reply.event());
        assert!(!reply.event().to_string().contains("of-the-customer"), "{}", reply.event());
        reply
    }

    /// Sends a directive that is valid itself.
    pub fn ask(&self, id: &str, what: (&str, &str, &str), payload: Json) -> Json {
        let directive = self.directive(id, what, payload);
        schema::check_directive(&directive);
        self.send(&directive).event()
    }

    pub fn poll(&self, id: &str) -> Json {
        self.ask(id, ("Alexa", "ReportState", ""), json!({}))
    }

    pub fn discover(&self) -> Json {
        self.ask("", ("Alexa.Discovery", "Discover", ""), json!({}))
    }

    /// The desired values of the last order.
    pub fn last_order(&self) -> Vec<(Property, Value)> {
        let orders = self.broker.orders.lock().unwrap();
        orders.last().unwrap().desired.iter().map(|d| (d.property, d.value.clone())).collect()
    }
}

/// The value of a property in an event's context.
pub fn told<'a>(event: &'a Json, name: &str) -> Option<&'a Json> {
    let all = event["context"]["properties"].as_array()?;
    all.iter().find(|p| p["name"] == name).map(|p| &p["value"])
}

/// The error of an event: namespace and type.
pub fn error(event: &Json) -> Option<(&str, &str)> {
    let header = &event["event"]["header"];
    (header["name"] == "ErrorResponse")
        .then(|| (header["namespace"].as_str().unwrap(), event["event"]["payload"]["type"].as_str().unwrap()))
}

/// Runs a future that never waits for anything.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("the future waits"),
    }
}

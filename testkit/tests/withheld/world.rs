//! Homes and what they grant.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, OnceLock};

use disclosure::Features;
use gate::GateState;
use home::{Description, PropertyDescription};
use jiff::tz::TimeZone;
use links::Link;
use model::{
    ALL_RUNGS, ALL_TRIGGERS, Class, Color, DeviceId, DoorState, FanDirection, GrantId, HouseholdId, Kind, LinkId,
    LockState, MemberId, PartnerId, Property, Rung, RunningState, SystemMode, Timestamp, Trigger, Value,
};
use policy::{Code, Grant, Table, What};
use testkit::released::{Allowed, Given, Shape, Takes};

use crate::rng::Rng;

/// Saturday afternoon; the clocks of Paris go forward in the night.
pub const START: i64 = 1_774_712_345_678;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;

/// How many worlds there are: the policies of each are compiled once.
const WORLDS: usize = 36;

/// So many devices of the universe are in one.
const DEVICES: usize = 8;

pub fn zone() -> TimeZone {
    TimeZone::get("Europe/Paris").unwrap()
}

/// The home's midnights around the story, by the zone's own rules: one hour after UTC's, then two.
pub fn midnights() -> Vec<Timestamp> {
    let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    [
        "2026-03-26T23:00:00Z",
        "2026-03-27T23:00:00Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T22:00:00Z",
        "2026-03-30T22:00:00Z",
    ]
    .map(at)
    .into()
}

pub fn household() -> HouseholdId {
    HouseholdId::new("home").unwrap()
}

/// A device of the universe. Those that begin with `x-` are never granted, and may come at any time.
pub struct Device {
    pub id: DeviceId,
    pub description: Description,
}

impl Device {
    pub fn is_extra(&self) -> bool {
        self.id.as_str().starts_with("x-")
    }
}

fn device(id: &str, features: Features, properties: &[(Property, bool, Class)]) -> Device {
    let properties =
        properties.iter().map(|(p, command, class)| (*p, PropertyDescription { class: *class, command: *command }));
    let text = |what: &str| Some(format!("{what} of {id}"));
    let description = Description {
        name: format!("Name of {id}"),
        properties: properties.collect(),
        features,
        vendor: text("Maker"),
        product: text("Model"),
        serial: text("Serial"),
        firmware: text("Firmware"),
        room: text("Room"),
    };
    Device { id: DeviceId::new(id).unwrap(), description }
}

fn thermostat(dual: bool) -> Features {
    Features {
        modes: vec![SystemMode::Off, SystemMode::Heat, SystemMode::Cool, SystemMode::Auto],
        min_setpoint_milli: Some(5_000),
        max_setpoint_milli: Some(30_000),
        min_setpoint_delta_milli: dual.then_some(1_000),
        dual_setpoints: dual,
        single_setpoint: true,
        ..Features::default()
    }
}

/// Three set points at once, and a schedule.
fn triple() -> Features {
    Features { triple_setpoints: true, schedules: true, ..thermostat(true) }
}

fn white() -> Features {
    Features { min_color_kelvin: Some(2_200), max_color_kelvin: Some(6_000), ..Features::default() }
}

/// Every device that a home may have.
pub static UNIVERSE: LazyLock<Vec<Device>> = LazyLock::new(|| {
    use Property as P;
    let (n, f) = (Class::None, Features::default);
    vec![
        device(
            "t-heat",
            thermostat(false),
            &[
                (P::LocalTemperature, false, n),
                (P::OccupiedHeatingSetpoint, true, n),
                (P::SystemMode, true, n),
                (P::RelativeHumidity, false, n),
                (P::Motion, false, n),
            ],
        ),
        device(
            "t-dual",
            thermostat(true),
            &[
                (P::LocalTemperature, false, n),
                (P::OccupiedHeatingSetpoint, true, n),
                (P::OccupiedCoolingSetpoint, true, n),
                (P::SystemMode, true, n),
                (P::RunningState, false, n),
                (P::Co2Concentration, false, n),
            ],
        ),
        device(
            "t-cool",
            thermostat(false),
            &[(P::LocalTemperature, false, n), (P::OccupiedCoolingSetpoint, true, n), (P::SystemMode, true, n)],
        ),
        device(
            "t-meter",
            f(),
            &[(P::RunningState, false, n), (P::LocalTemperature, false, n), (P::OutdoorTemperature, false, n)],
        ),
        device(
            "door",
            f(),
            &[(P::LockState, true, n), (P::ContactOpen, false, Class::Door), (P::BatteryPercent, false, n)],
        ),
        device("garage", f(), &[(P::DoorState, true, Class::Garage), (P::Motion, false, n)]),
        device(
            "t-triple",
            triple(),
            &[
                (P::LocalTemperature, false, n),
                (P::OccupiedSetpoint, true, n),
                (P::OccupiedHeatingSetpoint, true, n),
                (P::OccupiedCoolingSetpoint, true, n),
                (P::SystemMode, true, n),
                (P::SetpointHold, true, n),
                (P::SetpointHoldDuration, true, n),
            ],
        ),
        device(
            "lamp",
            white(),
            &[
                (P::OnOff, true, Class::Light),
                (P::CurrentLevel, true, n),
                (P::ColorTemperature, true, n),
                (P::Color, true, n),
                (P::ActivePower, false, n),
            ],
        ),
        device(
            "blind",
            f(),
            &[
                (P::CoverPosition, true, Class::Blind),
                (P::CoverTilt, true, Class::Blind),
                (P::DoorState, true, Class::Blind),
                (P::BatteryPercent, false, n),
            ],
        ),
        device("awning", f(), &[(P::DoorState, true, Class::Blind), (P::CoverTilt, false, Class::Blind)]),
        device("shutter", f(), &[(P::CoverPosition, true, Class::Window), (P::ContactOpen, false, Class::Window)]),
        device(
            "fan",
            f(),
            &[
                (P::OnOff, true, Class::Fan),
                (P::FanPercent, true, n),
                (P::FanOscillation, true, n),
                (P::FanDirection, true, n),
                (P::RelativeHumidity, false, n),
            ],
        ),
        device("scene", f(), &[(P::Scene, true, n), (P::BatteryPercent, false, n)]),
        device(
            "air",
            f(),
            &[
                (P::LocalTemperature, false, n),
                (P::RelativeHumidity, false, n),
                (P::VocConcentration, false, n),
                (P::Motion, false, n),
                (P::Occupancy, false, n),
                (P::BatteryPercent, false, n),
            ],
        ),
        device(
            "plug",
            f(),
            &[(P::OnOff, true, Class::Switch), (P::ActivePower, false, n), (P::CumulativeEnergy, false, n)],
        ),
        device(
            "alarm",
            f(),
            &[
                (P::SmokeState, false, n),
                (P::CoState, false, n),
                (P::LeakState, false, n),
                (P::BatteryPercent, false, n),
            ],
        ),
        device(
            "x-thermostat",
            thermostat(false),
            &[(P::LocalTemperature, false, n), (P::OccupiedHeatingSetpoint, true, n), (P::SystemMode, true, n)],
        ),
        device("x-lamp", f(), &[(P::OnOff, true, Class::Light), (P::CurrentLevel, true, n)]),
        device("x-blind", f(), &[(P::CoverPosition, true, Class::Blind), (P::CoverTilt, true, Class::Blind)]),
        device(
            "x-air",
            f(),
            &[(P::LocalTemperature, false, n), (P::RelativeHumidity, false, n), (P::Occupancy, false, n)],
        ),
    ]
});

/// A device as the released view knows it.
pub fn shape(description: &Description) -> Shape {
    let types = description.properties.iter().map(|(p, d)| (*p, &d.class));
    let device_type = model::DeviceType::of(types);
    let metadata = [
        (Property::NodeLabel, Some(description.name.clone())),
        (Property::DeviceTypeName, Some(device_type.as_str().to_owned())),
        (Property::VendorName, description.vendor.clone()),
        (Property::ProductName, description.product.clone()),
        (Property::SerialNumber, description.serial.clone()),
        (Property::SoftwareVersion, description.firmware.clone()),
    ];
    let kinds = description.properties.iter().map(|(p, d)| Kind::of(*p, d.class));
    let f = &description.features;
    Shape {
        properties: description.properties.iter().map(|(p, d)| (*p, d.command)).collect(),
        device_type: Some(device_type),
        closes_home: kinds.into_iter().any(|kind| matches!(kind, Kind::Opening | Kind::Lock)),
        takes: Takes {
            modes: f.modes.clone(),
            range_milli: (f.min_setpoint_milli, f.max_setpoint_milli),
            least_milli: f.min_setpoint_delta_milli,
            dual: f.dual_setpoints,
            single: f.single_setpoint,
            triple: f.triple_setpoints,
            schedules: f.schedules,
            kelvin: (f.min_color_kelvin, f.max_color_kelvin),
        },
        metadata: metadata.into_iter().filter_map(|(p, text)| Some((p, text?))).collect(),
        household_name: None,
    }
}

/// A value of a property.
pub fn value(rng: &mut Rng, property: Property) -> Value {
    use Property as P;
    match property {
        P::LocalTemperature | P::OutdoorTemperature => Value::Temperature(17_000 + rng.below(6_000) as i32),
        P::OccupiedSetpoint => Value::Temperature(18_000 + rng.below(10) as i32 * 500),
        P::SetpointHoldDuration => Value::Minutes(rng.below(240) as u16),
        P::ColorTemperature => Value::ColorTemperature(2_200 + rng.below(3_800) as u16),
        P::Color => Value::Color(Color { hue: rng.below(36_001) as u16, saturation: rng.below(10_001) as u16 }),
        P::FanDirection => Value::FanDirection(*rng.pick(&[FanDirection::Forward, FanDirection::Reverse])),
        P::OccupiedHeatingSetpoint => Value::Temperature(16_000 + rng.below(10) as i32 * 500),
        P::OccupiedCoolingSetpoint => Value::Temperature(22_000 + rng.below(10) as i32 * 500),
        P::SystemMode => Value::SystemMode(*rng.pick(&[
            SystemMode::Off,
            SystemMode::Heat,
            SystemMode::Cool,
            SystemMode::Auto,
            SystemMode::Auto,
        ])),
        P::RunningState => {
            Value::RunningState(*rng.pick(&[RunningState::Idle, RunningState::Heating, RunningState::Cooling]))
        }
        P::RelativeHumidity | P::CurrentLevel | P::BatteryPercent | P::CoverPosition | P::CoverTilt | P::FanPercent => {
            Value::Percent(rng.below(10_001) as u16)
        }
        P::Co2Concentration | P::VocConcentration => Value::Ppm(400 + rng.below(1200) as u32),
        P::ActivePower => Value::Power(rng.below(2_000_000) as i64),
        P::CumulativeEnergy => Value::Energy(100_000 + rng.below(9_000) as i64),
        P::LockState => Value::LockState(*rng.pick(&[LockState::Locked, LockState::Unlocked, LockState::Jammed])),
        P::DoorState => Value::DoorState(*rng.pick(&[DoorState::Open, DoorState::Closed, DoorState::Opening])),
        _ => Value::Bool(rng.below(2) == 0),
    }
}

/// A home, and its grants to the link from one edit to the next.
pub struct World {
    /// Indexes into [`UNIVERSE`].
    pub devices: Vec<usize>,
    pub phases: Vec<Vec<Given>>,
    /// When those grants expire that do.
    pub expiry: Timestamp,
    /// The link may be told unasked.
    pub reports: bool,
    tables: Vec<[OnceLock<Arc<Table>>; 2]>,
    pub link: Link,
    pub other: Link,
}

pub static ALL: LazyLock<Vec<World>> = LazyLock::new(|| (0..WORLDS).map(World::new).collect());

fn link(id: &str, seed: u8) -> Link {
    let (partner, at) = (PartnerId::new("alexa").unwrap(), Timestamp::from_millis(START));
    let id = LinkId::new(id).unwrap();
    let (mut link, _) = Link::new(id, household(), partner, "glance".into(), at, ([seed; 32], [seed + 1; 32]));
    let all: Vec<_> = UNIVERSE
        .iter()
        .filter(|d| !d.is_extra())
        .map(|d| (&d.id, model::DeviceType::of(d.description.properties.iter().map(|(p, d)| (*p, &d.class)))))
        .collect();
    link.enroll(all);
    link
}

impl World {
    fn new(n: usize) -> Self {
        let mut rng = Rng::new(0xA11CE + n as u64);
        let mut devices: Vec<usize> = (0..UNIVERSE.len()).filter(|i| !UNIVERSE[*i].is_extra()).collect();
        while devices.len() > DEVICES {
            let out = rng.below(devices.len() as u64) as usize;
            devices.remove(out);
        }
        // A thermostat of each sort is in enough of them.
        let wanted = [0, 6, 2, 1, 3, 6][n % 6];
        if !devices.contains(&wanted) {
            devices[0] = wanted;
        }
        // So is a lock, since what becomes of an order is told of locks alone.
        let lock = UNIVERSE.iter().position(|d| d.id.as_str() == "door");
        if let Some(lock) = lock.filter(|lock| n.is_multiple_of(2) && !devices.contains(lock)) {
            devices[1] = lock;
        }
        devices.sort_unstable();
        devices.dedup();
        let expiry = Timestamp::from_millis(START + 70 * MINUTE + rng.below(120) as i64 * MINUTE);
        let phases: Vec<Vec<Given>> = (0..3)
            .map(|phase| {
                let mut given = match (n + phase) % 12 {
                    0 => profile("commands-only", &devices),
                    1 => profile("glance", &devices),
                    2 => profile("convenience", &devices),
                    3 => profile("everything", &devices),
                    4 => profile("routines", &devices),
                    5 => half_told(&mut rng, profile("convenience", &devices)),
                    6 => singles(&mut rng, &devices),
                    7 => half_told(&mut rng, profile("everything", &devices)),
                    8 => slower(&mut rng, profile("everything", &devices)),
                    9 => unsecured(profile("everything", &devices)),
                    10 => worked_out(&mut rng, profile("everything", &devices)),
                    _ => [profile("commands-only", &devices), singles(&mut rng, &devices)].concat(),
                };
                for g in &mut given {
                    if rng.below(4) == 0 {
                        g.expires = Some(expiry);
                    }
                }
                given
            })
            .collect();
        // To each there is one in which some grants are outside their hours, or their window is shut. What describes a device
        // counts at all times.
        let shut: Vec<Vec<Given>> = phases
            .iter()
            .map(|given| {
                let mut given = given.clone();
                for g in given.iter_mut().filter(|g| !g.property.is_metadata()) {
                    g.counts = rng.below(3) > 0;
                }
                given
            })
            .collect();
        let phases: Vec<Vec<Given>> = phases.into_iter().chain(shut).collect();
        let tables = phases.iter().map(|_| [OnceLock::new(), OnceLock::new()]).collect();
        let reports = !n.is_multiple_of(3);
        World { devices, phases, expiry, reports, tables, link: link("link", 1), other: link("other", 7) }
    }

    pub fn devices(&self) -> impl Iterator<Item = &'static Device> {
        self.devices.iter().map(|i| &UNIVERSE[*i])
    }

    /// The table of a phase, before or after grants have expired.
    pub fn table(&self, phase: usize, expired: bool) -> Arc<Table> {
        let compile = || {
            let mut all = GateState::new(TimeZone::UTC, Arc::new(nothing()));
            // What the table doesn't know is refused: the devices that nobody granted are left out.
            for d in self.devices() {
                all.describe(&d.id, d.description.clone()).unwrap();
            }
            all.links.insert(self.link.clone());
            all.links.insert(self.other.clone());
            let facts = all.facts(household(), |_| true);
            let others = profile("everything", &self.devices);
            let now = if expired { self.expiry } else { Timestamp::from_millis(START) };
            let compiled = |which: &dyn Fn(&Given) -> bool| {
                let given = self.phases[phase].iter().enumerate().filter(|(_, g)| which(g));
                let mut grants: Vec<Grant> = given.map(|(i, g)| grant(i, &self.link, g)).collect();
                grants.extend(others.iter().enumerate().map(|(i, g)| grant(100_000 + i, &self.other, g)));
                policy::compile(&facts, &grants, None, now).unwrap()
            };
            let is_conditional = self.phases[phase].iter().any(|g| !g.counts);
            let promised = is_conditional.then(|| Arc::new(compiled(&|_| true)));
            Arc::new(
                compiled(&|g| g.counts || matches!(g.allowed, Allowed::Commands { .. }))
                    .with_conditions(promised, None),
            )
        };
        Arc::clone(self.tables[phase][usize::from(expired)].get_or_init(compile))
    }
}

/// The table of a home that shares nothing.
pub fn nothing() -> Table {
    policy::compile(&policy::Facts::empty(household()), &[], None, Timestamp::default()).unwrap()
}

fn grant(id: usize, link: &Link, g: &Given) -> Grant {
    let owner = MemberId::new("owner").unwrap();
    let terms = policy::Terms { now: Timestamp::from_millis(START), granted_by: owner.clone(), affects: vec![owner] };
    let what = match g.allowed {
        Allowed::Told(trigger, rung) => What::Disclose { trigger, rung },
        Allowed::Commands { open } => What::Control { open },
    };
    let cell = (household(), link.id.clone(), g.device.clone(), g.property);
    Grant {
        expires: g.expires,
        // Nobody has a PIN here: what wants one is as good as refused, and announced.
        code: match g.allowed {
            Allowed::Commands { .. } if !g.counts => Some(Code::Pin),
            Allowed::Commands { open: true } => Some(Code::Partner),
            _ => None,
        },
        ..Grant::new(GrantId::new(format!("g{id}")).unwrap(), cell, what, &terms)
    }
}

/// What a profile grants of these devices.
fn profile(slug: &str, devices: &[usize]) -> Vec<Given> {
    let mut state = GateState::new(TimeZone::UTC, Arc::new(nothing()));
    for i in devices {
        state.describe(&UNIVERSE[*i].id, UNIVERSE[*i].description.clone()).unwrap();
    }
    let link = link("link", 1);
    state.links.insert(link.clone());
    let facts = state.facts(household(), |_| true);
    let owner = MemberId::new("owner").unwrap();
    let terms = policy::Terms { now: Timestamp::from_millis(START), granted_by: owner.clone(), affects: vec![owner] };
    let mut n = 0;
    let ids = || {
        n += 1;
        GrantId::new(format!("p{n}")).ok()
    };
    // Of sensors that are named, each second one.
    let named = devices.iter().step_by(2).map(|i| UNIVERSE[*i].id.clone());
    let profile = policy::profile(slug).unwrap().naming(named);
    let change = policy::apply(&profile, &facts, &link.id, &[], &terms, ids).unwrap();
    let given = change.add.into_iter().map(|g| Given {
        device: g.device,
        property: g.property,
        allowed: match g.what {
            What::Disclose { trigger, rung } => Allowed::Told(trigger, rung),
            What::Control { open } => Allowed::Commands { open },
        },
        expires: None,
        counts: true,
    });
    given.collect()
}

/// The same, but that each second device tells nothing of its state: edited row by row.
fn half_told(rng: &mut Rng, mut given: Vec<Given>) -> Vec<Given> {
    let quiet: BTreeMap<DeviceId, bool> = given.iter().map(|g| (g.device.clone(), rng.below(2) == 0)).collect();
    let is_state = |g: &Given| matches!(g.allowed, Allowed::Told(..)) && !g.property.is_metadata();
    given.retain(|g| !(is_state(g) && quiet[&g.device]));
    given
}

/// The same, but nothing of who comes and goes: locks, doors, motion and alarms are obeyed, and not told.
fn unsecured(mut given: Vec<Given>) -> Vec<Given> {
    let is_secret = |g: &Given| {
        let of = UNIVERSE.iter().find(|d| d.id == g.device).and_then(|d| d.description.properties.get(&g.property));
        let kind = model::Kind::of(g.property, of.map_or(Class::None, |d| d.class));
        use model::Kind::{Alarm, Lock, Opening, Presence};
        matches!(kind, Lock | Opening | Presence | Alarm) && matches!(g.allowed, Allowed::Told(..))
    };
    given.retain(|g| !is_secret(g));
    given
}

/// The same, but all state at a rung of its own.
fn slower(rng: &mut Rng, mut given: Vec<Given>) -> Vec<Given> {
    for g in given.iter_mut().filter(|g| !g.property.is_metadata() && !g.property.is_live_only()) {
        if let Allowed::Told(_, rung) = &mut g.allowed {
            *rung = *rng.pick(&ALL_RUNGS);
        }
    }
    given
}

/// The same, but of all state what is worked out of many readings.
fn worked_out(rng: &mut Rng, mut given: Vec<Given>) -> Vec<Given> {
    use Rung::{DayMean, HourLate, HourMean, HourSteady};
    for g in given.iter_mut().filter(|g| !g.property.is_metadata() && !g.property.is_live_only()) {
        if let Allowed::Told(_, rung) = &mut g.allowed {
            let all = [HourMean, HourMean, DayMean, HourLate, HourSteady].into_iter().filter(|r| g.property.takes(*r));
            *rung = *rng.pick(&all.collect::<Vec<_>>());
        }
    }
    given
}

/// Single grants at random, each at a rung of its own.
fn singles(rng: &mut Rng, devices: &[usize]) -> Vec<Given> {
    let mut all = Vec::new();
    for i in devices {
        let d = &UNIVERSE[*i];
        let mut give = |property, allowed| {
            all.push(Given { device: d.id.clone(), property, allowed, expires: None, counts: true })
        };
        if rng.below(8) > 0 {
            give(Property::DeviceTypeName, Allowed::Told(Trigger::Discovery, model::Rung::Live));
        }
        for property in [Property::NodeLabel, Property::VendorName, Property::ProductName] {
            if rng.below(3) == 0 {
                give(property, Allowed::Told(Trigger::Discovery, *rng.pick(&ALL_RUNGS)));
            }
        }
        for property in d.description.properties.keys().copied().chain([Property::Reachable]) {
            for trigger in ALL_TRIGGERS {
                if rng.below(3) == 0 && trigger != Trigger::Discovery {
                    give(property, Allowed::Told(trigger, *rng.pick(&ALL_RUNGS)));
                }
            }
            for open in [false, true] {
                if rng.below(3) > 0 {
                    give(property, Allowed::Commands { open });
                }
            }
        }
    }
    all
}

/// Everything that a device of the universe can tell.
pub fn told_by(device: &Device) -> Vec<Property> {
    let known: BTreeMap<Property, ()> = device.description.properties.keys().map(|p| (*p, ())).collect();
    // A scene has no state.
    known.into_keys().filter(|p| *p != Property::Scene).chain([Property::Reachable]).collect()
}

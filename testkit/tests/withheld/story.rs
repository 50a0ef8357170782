//! What happens: the public part of a story (clock, faults, grants, when the partner moves) and the home's part.

use gate::Steady;
use model::{Kind, Property, Timestamp, Value};

use crate::rng::Rng;
use crate::world::{HOUR, MINUTE, START, UNIVERSE, World, told_by, value};

/// What goes wrong, or is unusual, in a story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    DeviceOffline,
    /// A device, or a property of it, is withdrawn for a while.
    DeviceGone,
    /// What a device has said reaches the hub later, all at once: until then the hub goes by what came before, and dates by
    /// arrival, since no convention of the devices carries a time.
    Late,
    /// The retained messages of a device come again, newer than what was asked of it meanwhile.
    Duplicated,
    /// It comes late and in another order: of a property, and over properties, what was said first comes last.
    OutOfOrder,
    BrokerLoss,
    Restart,
    QueueFull,
    ClockBack,
    ClockForward,
    GrantsEdited,
    GrantsEditedWhileAsked,
    GrantsExpired,
}

pub const FAULTS: [Fault; 14] = [
    Fault::None,
    Fault::DeviceOffline,
    Fault::DeviceGone,
    Fault::Late,
    Fault::Duplicated,
    Fault::OutOfOrder,
    Fault::BrokerLoss,
    Fault::Restart,
    Fault::QueueFull,
    Fault::ClockBack,
    Fault::ClockForward,
    Fault::GrantsEdited,
    Fault::GrantsEditedWhileAsked,
    Fault::GrantsExpired,
];

/// What is withheld, in which two homes of a pair differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// Of an allowed property, what falls into the same bucket.
    InBucket,
    /// Of an allowed property, what happens between the ticks.
    BetweenTicks,
    /// When a reading came.
    SampleTime,
    /// A property of this kind that the link is not told.
    Kind(Kind),
    /// What the device says of itself.
    Metadata,
    /// A device that is not granted.
    OtherDevice,
    /// A device, or a property, that has gone away: one that the link knows nothing of, or while nobody asked.
    Withdrawn,
    /// What another link asks and commands.
    OtherLink,
}

/// Every sort of withheld thing.
pub fn all_withheld() -> Vec<Withheld> {
    let kinds = Kind::ALL.into_iter().map(Withheld::Kind);
    let others = [
        Withheld::InBucket,
        Withheld::BetweenTicks,
        Withheld::SampleTime,
        Withheld::Metadata,
        Withheld::OtherDevice,
        Withheld::Withdrawn,
        Withheld::OtherLink,
    ];
    others.into_iter().chain(kinds).collect()
}

/// What the home does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    Reading(usize, Property, Value),
    /// A device of the universe describes itself; the number makes the text that is nobody's business differ.
    Describe(usize, u32),
    Withdraw(usize),
    /// A device describes itself without one of its properties.
    Without(usize, Property),
    /// Another link polls a device, or commands it.
    OtherPolls(usize),
    OtherAdjusts(usize, i32),
}

/// What everybody may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Public {
    /// The wall clock steps by so many milliseconds.
    Clock(i64),
    /// The hub starts again.
    Restart,
    Broker(bool),
    Recorder(bool),
    /// The grants of this phase are in force.
    Grants(usize),
    /// A tick comes at which the link is told unasked.
    Round,
    /// The partner moves.
    Move,
    /// The partner moves, and while its order is with the broker the grants of this phase come into force.
    MoveWhile(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Home(Home),
    Public(Public),
}

/// Something that happens at a time of the monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: i64,
    pub what: What,
    pub fault: Fault,
}

/// How the partner plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Polls,
    DiscoveryStorm,
    NoOpCommands,
    Commands,
    /// What is said seldom: of the hub's own affairs, nonsense, and locks, whose outcome comes later.
    Seldom,
    All,
}

#[derive(Clone, Debug)]
pub struct Story {
    pub seed: u64,
    pub world: usize,
    pub strategy: Strategy,
    pub steps: Vec<Step>,
    pub duration: i64,
}

impl Story {
    /// The story of a seed.
    pub fn new(seed: u64, worlds: usize) -> Self {
        let mut rng = Rng::new(seed);
        let world_index = rng.below(worlds as u64) as usize;
        let world = &crate::world::ALL[world_index];
        let strategy = *rng.pick(&[
            Strategy::Polls,
            Strategy::DiscoveryStorm,
            Strategy::NoOpCommands,
            Strategy::Commands,
            Strategy::Seldom,
            Strategy::All,
            Strategy::All,
            Strategy::All,
            Strategy::All,
        ]);
        let duration = *rng.pick(&[2 * HOUR, 3 * HOUR, 6 * HOUR, 30 * HOUR]);
        let mut story = Story { seed, world: world_index, strategy, steps: Vec::new(), duration };
        for (n, index) in world.devices.iter().enumerate() {
            story.push(n as i64 * 10, What::Home(Home::Describe(*index, 0)), Fault::None);
        }
        story.push(500, What::Public(Public::Grants(0)), Fault::None);
        // Most properties have a first reading early on.
        for index in &world.devices {
            for property in told_by(&UNIVERSE[*index]) {
                let at = if rng.below(4) > 0 { 100 + rng.below(300) as i64 } else { rng.below(duration as u64) as i64 };
                if rng.below(8) > 0 {
                    let v = first(&mut rng, property);
                    story.push(at, What::Home(Home::Reading(*index, property, v)), Fault::None);
                }
            }
        }
        for _ in 0..20 + rng.below(20) {
            let (index, property) = any_property(&mut rng, &world.devices);
            let v = value(&mut rng, property);
            let at = rng.below(duration as u64) as i64;
            story.push(at, What::Home(Home::Reading(index, property, v)), Fault::None);
            if rng.below(12) == 0 {
                let gone = Value::Bool(false);
                story.push(at, What::Home(Home::Reading(index, Property::Reachable, gone)), Fault::DeviceOffline);
                if rng.below(2) == 0 {
                    story.push(
                        at + 30 * MINUTE,
                        What::Home(Home::Reading(index, Property::Reachable, Value::Bool(true))),
                        Fault::None,
                    );
                }
            }
        }
        for _ in 0..10 + rng.below(12) {
            let at =
                if rng.below(3) == 0 { rng.below(duration as u64) as i64 } else { rng.below(2 * HOUR as u64) as i64 };
            story.push(600 + at, What::Public(Public::Move), Fault::None);
        }
        for _ in 0..if world.reports { 4 + rng.below(5) } else { 0 } {
            let at = rng.below(duration as u64) as i64;
            story.push(600 + at, What::Public(Public::Round), Fault::None);
        }
        for _ in 0..rng.below(4) {
            let at = 600 + rng.below(duration as u64 * 3 / 4) as i64;
            let until = at + rng.below(40 * MINUTE as u64) as i64;
            match rng.below(13) {
                10 => story.again(at, *rng.pick(&world.devices)),
                11 => story.hold_back(at, until, *rng.pick(&world.devices), false),
                12 => story.hold_back(at, until, *rng.pick(&world.devices), true),
                8 | 9 => {
                    let phase = rng.below(6) as usize;
                    story.push(at, What::Public(Public::MoveWhile(phase)), Fault::GrantsEditedWhileAsked);
                }
                7 => {
                    let index = *rng.pick(&world.devices);
                    let properties: Vec<_> = UNIVERSE[index].description.properties.keys().copied().collect();
                    let gone = match rng.below(2) {
                        0 => Home::Withdraw(index),
                        _ => Home::Without(index, *rng.pick(&properties)),
                    };
                    story.push(at, What::Home(gone), Fault::DeviceGone);
                    if rng.below(4) > 0 {
                        story.push(until, What::Home(Home::Describe(index, 0)), Fault::None);
                    }
                }
                0 => {
                    story.push(at, What::Public(Public::Broker(false)), Fault::BrokerLoss);
                    story.push(until, What::Public(Public::Broker(true)), Fault::None);
                    // It subscribes anew, and has the retained messages again.
                    world.devices.iter().for_each(|device| story.again(until, *device));
                }
                1 => {
                    story.push(at, What::Public(Public::Restart), Fault::Restart);
                    world.devices.iter().for_each(|device| story.again(at + 1, *device));
                }
                2 => {
                    story.push(at, What::Public(Public::Recorder(false)), Fault::QueueFull);
                    story.push(until, What::Public(Public::Recorder(true)), Fault::None);
                }
                3 => story.push(
                    at,
                    What::Public(Public::Clock(-(rng.below(90 * MINUTE as u64) as i64))),
                    Fault::ClockBack,
                ),
                4 => story.push(
                    at,
                    What::Public(Public::Clock(rng.below(90 * MINUTE as u64) as i64)),
                    Fault::ClockForward,
                ),
                5 => {
                    story.push(
                        at,
                        What::Public(Public::Clock(-(rng.below(20 * MINUTE as u64) as i64))),
                        Fault::ClockBack,
                    );
                    story.push(at + 1, What::Public(Public::Restart), Fault::Restart);
                }
                _ => {
                    // Other grants, or the same within other hours.
                    let phase = 1 + rng.below(5) as usize;
                    story.push(at, What::Public(Public::Grants(phase)), Fault::GrantsEdited);
                    if rng.below(2) == 0 {
                        story.push(until, What::Public(Public::Grants(0)), Fault::GrantsEdited);
                    }
                }
            }
            // Somebody asks while it lasts.
            story.push(at + (until - at) / 2 + 2, What::Public(Public::Move), Fault::None);
            if world.reports {
                story.push(at + (until - at) / 2 + 3, What::Public(Public::Round), Fault::None);
            }
            // And a while after.
            story.push(until + 5 + rng.below(10 * MINUTE as u64) as i64, What::Public(Public::Move), Fault::None);
        }
        story.sort();
        story
    }

    pub fn world(&self) -> &'static World {
        &crate::world::ALL[self.world]
    }

    fn push(&mut self, at: i64, what: What, fault: Fault) {
        self.steps.push(Step { at, what, fault });
    }

    /// What a device says from here to there comes at the end, at one time; backwards, if it is `turned`.
    fn hold_back(&mut self, from: i64, to: i64, device: usize, turned: bool) {
        let fault = if turned { Fault::OutOfOrder } else { Fault::Late };
        // It has something to say meanwhile, of one property more than once.
        let mut rng = Rng::new(self.seed ^ from as u64);
        let all = told_by(&UNIVERSE[device]);
        let often = *rng.pick(&all);
        for property in [often, *rng.pick(&all), often] {
            let at = from + rng.below((to - from).max(1) as u64) as i64;
            let v = value(&mut rng, property);
            self.push(at, What::Home(Home::Reading(device, property, v)), Fault::None);
        }
        self.sort();
        let is_held = |s: &Step| {
            (from..=to).contains(&s.at) && matches!(&s.what, What::Home(Home::Reading(i, ..)) if *i == device)
        };
        let mut held: Vec<Step> = self.steps.extract_if(.., |s| is_held(s)).collect();
        if turned {
            held.reverse();
        }
        self.steps.extend(held.into_iter().map(|s| Step { at: to, fault, ..s }));
    }

    /// Everything that a device has said last comes again.
    fn again(&mut self, at: i64, device: usize) {
        self.sort();
        let mut last = std::collections::BTreeMap::new();
        for step in self.steps.iter().filter(|s| s.at < at) {
            if let What::Home(Home::Reading(index, property, v)) = &step.what
                && *index == device
            {
                last.insert(*property, v.clone());
            }
        }
        for (property, v) in last {
            self.push(at, What::Home(Home::Reading(device, property, v)), Fault::Duplicated);
        }
    }

    pub fn sort(&mut self) {
        self.steps.sort_by_key(|s| s.at);
    }

    /// Changes something of the home; nothing when the dice fell on nothing.
    pub fn mutate(&mut self, rng: &mut Rng) -> Option<()> {
        let world = self.world();
        let readings: Vec<usize> =
            (0..self.steps.len()).filter(|i| matches!(self.steps[*i].what, What::Home(Home::Reading(..)))).collect();
        let at = 600 + rng.below(self.duration as u64) as i64;
        let i = *rng.pick(&readings);
        let What::Home(Home::Reading(index, property, old)) = self.steps[i].what.clone() else { return None };
        let then = self.steps[i].at;
        match rng.below(13) {
            0 => {
                let new = near(rng, &old)?;
                self.steps[i].what = What::Home(Home::Reading(index, property, new));
            }
            1 => {
                let new = value(rng, property);
                self.steps[i].what = What::Home(Home::Reading(index, property, new));
            }
            2 => {
                let (low, high) = (then - 20 * MINUTE, then + 20 * MINUTE);
                let to = (low + rng.below((high - low) as u64) as i64).max(100);
                self.steps[i].at = to;
                self.sort();
            }
            3 => {
                self.steps.remove(i);
            }
            4 | 5 => {
                let (index, property) = any_property(rng, &world.devices);
                let v = value(rng, property);
                self.push(at, What::Home(Home::Reading(index, property, v)), Fault::None);
                self.sort();
            }
            6 => {
                let index = *rng.pick(&world.devices);
                self.push(at, What::Home(Home::Describe(index, 1 + rng.below(9) as u32)), Fault::None);
                self.sort();
            }
            7 => {
                let extras: Vec<usize> = (0..UNIVERSE.len()).filter(|i| UNIVERSE[*i].is_extra()).collect();
                let index = *rng.pick(&extras);
                self.push(at, What::Home(Home::Describe(index, 0)), Fault::None);
                for property in told_by(&UNIVERSE[index]) {
                    let v = value(rng, property);
                    self.push(
                        at + 1 + rng.below(1000) as i64,
                        What::Home(Home::Reading(index, property, v)),
                        Fault::None,
                    );
                }
                self.sort();
            }
            // Something goes away. It comes back soon, or is nobody's business; else the view differs.
            8 => {
                let index = rng.below(UNIVERSE.len() as u64) as usize;
                let device = &UNIVERSE[index];
                if !device.is_extra() && !world.devices.contains(&index) {
                    return None;
                }
                if device.is_extra() {
                    self.push(at, What::Home(Home::Describe(index, 0)), Fault::None);
                }
                let properties: Vec<_> = device.description.properties.keys().copied().collect();
                let gone = match rng.below(2) {
                    0 => Home::Withdraw(index),
                    _ => Home::Without(index, *rng.pick(&properties)),
                };
                self.push(at + 1000, What::Home(gone), Fault::None);
                if rng.below(3) > 0 {
                    let back = at + 2000 + rng.below(10 * MINUTE as u64) as i64;
                    self.push(back, What::Home(Home::Describe(index, 0)), Fault::None);
                }
                self.sort();
            }
            // One property has had another history, or none.
            11 | 12 => {
                let (index, property) = any_property(rng, &world.devices);
                let none = rng.below(3) == 0;
                let of =
                    |s: &Step| matches!(&s.what, What::Home(Home::Reading(i, p, _)) if (*i, *p) == (index, property));
                if none {
                    self.steps.retain(|s| !of(s));
                }
                for step in self.steps.iter_mut().filter(|s| of(s)) {
                    step.what = What::Home(Home::Reading(index, property, value(rng, property)));
                }
            }
            9 => {
                let index = *rng.pick(&world.devices);
                self.push(at, What::Home(Home::OtherPolls(index)), Fault::None);
                self.sort();
            }
            _ => {
                let index = *rng.pick(&world.devices);
                self.push(at, What::Home(Home::OtherAdjusts(index, rng.below(4000) as i32 - 2000)), Fault::None);
                self.sort();
            }
        }
        Some(())
    }
}

fn first(rng: &mut Rng, property: Property) -> Value {
    if property == Property::Reachable { Value::Bool(rng.below(4) > 0) } else { value(rng, property) }
}

/// A property of the home; set points and modes more often than their number would give, since commands start from them, and
/// kinds of which a home has little as often as others.
fn any_property(rng: &mut Rng, devices: &[usize]) -> (usize, Property) {
    let kind = |p: &Property| Kind::of(*p, model::Class::None);
    if rng.below(4) == 0 {
        let wanted = *rng.pick(&[Kind::Lock, Kind::Alarm, Kind::Opening, Kind::Presence, Kind::Covering]);
        let is_wanted = |i: usize, p: &Property| {
            let class = UNIVERSE[i].description.properties.get(p).map_or(model::Class::None, |d| d.class);
            Kind::of(*p, class) == wanted
        };
        let of = |i: usize| told_by(&UNIVERSE[i]).into_iter().filter(move |p| is_wanted(i, p)).map(move |p| (i, p));
        let all: Vec<(usize, Property)> = devices.iter().flat_map(|i| of(*i)).collect();
        if !all.is_empty() {
            return *rng.pick(&all);
        }
    }
    let index = *rng.pick(devices);
    let all = told_by(&UNIVERSE[index]);
    let comfort: Vec<Property> = all.iter().copied().filter(|p| kind(p) == Kind::Comfort).collect();
    if !comfort.is_empty() && rng.below(2) == 0 { (index, *rng.pick(&comfort)) } else { (index, *rng.pick(&all)) }
}

/// Another value, a little away.
fn near(rng: &mut Rng, old: &Value) -> Option<Value> {
    let by = rng.below(901) as i64 - 450;
    match old {
        Value::Temperature(m) => Some(Value::Temperature(m + by as i32)),
        Value::Percent(h) => Some(Value::Percent((i64::from(*h) + by).clamp(0, 10_000) as u16)),
        Value::Ppm(p) => Some(Value::Ppm((i64::from(*p) + by / 5).max(0) as u32)),
        Value::Power(p) => Some(Value::Power(p + by * 100)),
        Value::Energy(e) => Some(Value::Energy(e + by)),
        _ => None,
    }
}

/// The public clock of a story: what the hub's clock shows at each moment of the monotonic one. The home has no part in it.
pub struct Timeline {
    /// From this moment on: the steady clock, and the least time that a restarted hub begins with.
    parts: Vec<(i64, Steady, Timestamp)>,
    /// Ticks at which time is kept, and when.
    pub kept: Vec<(i64, Timestamp)>,
    /// From this moment of a restart on, a hub that ran before it had shown this time.
    peaks: Vec<(i64, Timestamp)>,
    /// Beats at which the grants expire that do, and the time then.
    pub expiries: Vec<(i64, Timestamp)>,
}

const QUARTER: i64 = 15 * MINUTE;

impl Timeline {
    pub fn new(story: &Story) -> Self {
        let beat = (story.duration / 250).max(MINUTE);
        let mut wall = START;
        let mut steady = Steady::new(Timestamp::from_millis(START), 0);
        let (mut floor, mut stored) = (Timestamp::default(), Timestamp::default());
        let (mut parts, mut kept, mut expiries) = (vec![(0, steady, floor)], Vec::new(), Vec::new());
        let expiry = story.world().expiry;
        let (mut is_past, mut peaks) = (false, Vec::new());
        let mut next = beat;
        let shown = |steady: &Steady, floor: Timestamp, at: i64| steady.now(at).max(floor);
        let events = story.steps.iter().filter(|s| matches!(s.what, What::Public(Public::Clock(_) | Public::Restart)));
        for step in events.map(Some).chain([None]) {
            let until = step.map_or(story.duration + 2 * HOUR, |s| s.at);
            while next <= until {
                steady.beat(Timestamp::from_millis(wall + next), next);
                parts.push((next, steady, floor));
                let now = shown(&steady, floor, next);
                if expiry <= now && !is_past {
                    expiries.push((next, now));
                }
                is_past = expiry <= now;
                let tick = now.floor_to(QUARTER);
                if tick > stored {
                    stored = tick;
                    kept.push((next, now));
                }
                next += beat;
            }
            match step.map(|s| &s.what) {
                Some(What::Public(Public::Clock(by))) => wall += by,
                Some(What::Public(Public::Restart)) => {
                    peaks.push((until, shown(&steady, floor, until)));
                    steady = Steady::new(Timestamp::from_millis(wall + until), until);
                    floor = stored;
                    parts.push((until, steady, floor));
                }
                _ => {}
            }
        }
        Self { parts, kept, peaks, expiries }
    }

    /// A restarted hub, whose clock was set back, shows a time from before its restart: it knows that only to a quarter of an
    /// hour. What it would tell unasked then is told in no story: of which tick it is, the readings decide.
    pub fn is_behind(&self, at: i64) -> bool {
        self.peaks.iter().any(|(from, peak)| *from <= at && self.at(at) < *peak)
    }

    /// The hub's time.
    pub fn at(&self, at: i64) -> Timestamp {
        let part = self.parts.partition_point(|(from, ..)| *from <= at).saturating_sub(1);
        let (_, steady, floor) = &self.parts[part];
        steady.now(at).max(*floor)
    }
}

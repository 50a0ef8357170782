//! The released view: what one link may know at each of its questions, written from the words of the design and without the
//! gate. It is given the history of readings, the household's grants, this link's own commands and the public clock.
//!
//! Two histories with the same view must look the same on the wire. What is here and nowhere in the view is withheld.

mod ladder;
mod order;

use std::collections::{BTreeMap, BTreeSet};

use model::{ALL_PROPERTIES, ALL_TRIGGERS, DeviceId, DeviceType, Grid, Property, Rung, Timestamp, Trigger, Value};

pub use order::{Takes, Wish};

/// What is told unasked is looked at on a grid of ten seconds at least.
const UNASKED_GRID_MS: i64 = 10_000;

/// What a household has allowed this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    /// To be told, at this rung.
    Told(Trigger, Rung),
    /// To command; `open` for what opens the home.
    Commands {
        /// Unlocking and opening.
        open: bool,
    },
}

/// One grant to this link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Of this device.
    pub device: DeviceId,
    /// This property.
    pub property: Property,
    /// What.
    pub allowed: Allowed,
    /// Until when.
    pub expires: Option<Timestamp>,
    /// It is within its hours, and its window is open. Of one that is not, the link may know that it will be.
    pub counts: bool,
}

/// A device as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Its properties, and whether each takes commands.
    pub properties: BTreeMap<Property, bool>,
    /// What it is.
    pub device_type: Option<DeviceType>,
    /// Its covers, doors and locks close the home: any way up opens it.
    pub closes_home: bool,
    /// What it takes: known to whoever may know of the device.
    pub takes: Takes,
    /// Its name, type, maker and so on, each known by its own grant alone.
    pub metadata: BTreeMap<Property, String>,
    /// The household's name for it.
    pub household_name: Option<String>,
}

/// What a command was. What comes of it follows from this, from what the link may see, and from the home's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// To this device, if the endpoint was one.
    pub device: Option<DeviceId>,
    /// The words of the partner, without anything of the home.
    pub words: String,
    /// What they ask for; nothing when they can't be meant.
    pub wish: Option<Wish>,
    /// The capability that they name is one of such devices alone.
    pub of: Option<DeviceType>,
    /// What is public: the broker was reachable, the hub could record.
    pub weather: (bool, bool),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reading came.
    Reading(DeviceId, Property, Value),
    /// A device came, or describes itself anew.
    Described(DeviceId, Shape),
    /// A device has withdrawn its description: it is not there until it describes itself again.
    Withdrawn(DeviceId),
    /// The clock beat: what has expired by now is no longer granted.
    Beat,
    /// The household's grants to this link are these from now on.
    Grants(Vec<Given>),
    /// The link asked which devices there are.
    Discover,
    /// The link asked for the state of a device, if the endpoint was one.
    Report(Option<DeviceId>),
    /// The link gave a command.
    Command(Command),
    /// The link gave a command, and while the broker had it the household's grants became these; or right after it, when it
    /// did not get that far.
    CommandWhile(Command, Vec<Given>),
    /// Another link, which may see and command everything, gave a command.
    OtherCommand(DeviceId, Wish, (bool, bool)),
    /// The link is told, unasked, what has become of a command of its own that was answered with a promise to do so.
    Outcome(Command),
    /// The link may be told unasked, from now on.
    Reports,
    /// A tick at which the link is told unasked, and whether the hub could record.
    Round(bool),
    /// The link sent something that has nothing to do with a device.
    Other,
}

/// A value that the link may know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// The property.
    pub property: Property,
    /// As exact as it is granted.
    pub value: Value,
    /// The time that may be shown with it.
    pub time: Timestamp,
    /// As what it was granted.
    pub rung: Rung,
}

/// What the link may know at one of its questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Values.
    pub facts: Vec<Fact>,
    /// Everything else: descriptions, names, whether it may command, what is public.
    pub words: Vec<String>,
    /// Of a command: it is answered as one that was handed to the broker.
    pub handed: Option<bool>,
}

type Cell = (DeviceId, Property, Trigger);

/// The link knows this value exactly.
#[derive(Clone, Copy, Debug)]
struct Exact(bool);

/// The view of one link, as history goes on.
#[derive(Clone, Debug, Default)]
pub struct Released {
    readings: BTreeMap<(DeviceId, Property), Vec<(Timestamp, Value)>>,
    /// What somebody asked for last, by whichever link.
    desired: BTreeMap<(DeviceId, Property), (Timestamp, Value)>,
    /// What ever took commands.
    took: BTreeSet<(DeviceId, Property)>,
    reports: bool,
    shapes: BTreeMap<DeviceId, Shape>,
    gone: BTreeSet<DeviceId>,
    grants: Vec<Given>,
    /// The finest rung of each cell, and what may be commanded, by the grants that hold.
    rungs: BTreeMap<Cell, Rung>,
    commands: BTreeSet<(DeviceId, Property, bool)>,
    /// The same, whenever the conditions of grants are met: what the link may know that it can ask and do.
    promised: BTreeSet<Cell>,
    promised_commands: BTreeSet<(DeviceId, Property, bool)>,
    /// What replaces a held value: what the link has set or was told at once, which it knows exactly; or what was true when it
    /// was granted.
    instead: BTreeMap<Cell, (Timestamp, Value, Exact)>,
    /// Devices that were ever announced, in the order in which that happened; together in one entry when at once.
    announced: Vec<BTreeSet<DeviceId>>,
    midnights: Vec<Timestamp>,
}

impl Released {
    /// A home with nothing in it. `midnights` are the home's, in order: the days' grid.
    pub fn new(midnights: Vec<Timestamp>) -> Self {
        Self { midnights, ..Self::default() }
    }

    /// Takes in what happened at a time of the public clock; gives the view when it was a question.
    pub fn step(&mut self, now: Timestamp, event: &Event) -> Option<View> {
        match event {
            Event::Beat => {
                self.grants.retain(|g| g.expires.is_none_or(|t| t > now));
                self.reopen(now);
                None
            }
            Event::Reading(device, property, value) => {
                let all = self.readings.entry((device.clone(), *property)).or_default();
                let time = all.last().map_or(now, |(t, _)| now.max(*t));
                all.push((time, value.clone()));
                None
            }
            Event::Described(device, shape) => {
                let taken = shape.properties.iter().filter(|(_, commanded)| **commanded);
                self.took.extend(taken.map(|(p, _)| (device.clone(), *p)));
                self.shapes.insert(device.clone(), shape.clone());
                self.gone.remove(device);
                self.announce();
                None
            }
            Event::Withdrawn(device) => {
                self.gone.insert(device.clone());
                None
            }
            Event::Grants(grants) => {
                self.edit(grants, now);
                None
            }
            Event::Discover => Some(self.discovery()),
            Event::Report(device) => Some(self.state(device.as_ref(), now)),
            Event::Command(command) => Some(self.command(command, None, now)),
            Event::CommandWhile(command, grants) => Some(self.command(command, Some(grants), now)),
            Event::OtherCommand(device, wish, weather) => {
                self.other(device, wish, *weather, now);
                None
            }
            Event::Outcome(command) => Some(self.outcome(command, now)),
            Event::Reports => {
                self.reports = true;
                self.announce();
                None
            }
            Event::Round(recorded) => Some(self.round(*recorded, now)),
            Event::Other => Some(View::default()),
        }
    }

    fn edit(&mut self, grants: &[Given], now: Timestamp) {
        self.grants = grants.iter().filter(|g| g.expires.is_none_or(|t| t > now)).cloned().collect();
        self.reopen(now);
    }

    /// Default deny: the finest rung of the grants that name this cell, and nothing without one. Locks, doors and alarms are
    /// exact or refused.
    fn decide(&mut self) {
        (self.rungs, self.commands) = Default::default();
        (self.promised, self.promised_commands) = Default::default();
        for g in &self.grants {
            match g.allowed {
                Allowed::Told(trigger, rung) => {
                    let Some(rung) = ladder::finest(rung, g.property) else { continue };
                    self.promised.insert((g.device.clone(), g.property, trigger));
                    if g.counts {
                        let finest = self.rungs.entry((g.device.clone(), g.property, trigger)).or_insert(rung);
                        *finest = rung.min(*finest);
                    }
                }
                Allowed::Commands { open } => {
                    self.promised_commands.insert((g.device.clone(), g.property, open));
                    if g.counts {
                        self.commands.insert((g.device.clone(), g.property, open));
                    }
                }
            }
        }
    }

    fn rung(&self, cell: &Cell) -> Option<Rung> {
        self.rungs.get(cell).copied()
    }

    fn may(&self, device: &DeviceId, property: Property, open: bool) -> bool {
        self.commands.contains(&(device.clone(), property, open))
    }

    /// Whether the link may know that it is told this, at some times.
    fn is_promised(&self, device: &DeviceId, property: Property, trigger: Trigger) -> bool {
        self.promised.contains(&(device.clone(), property, trigger))
    }

    /// Whether it may know that it may command this, at some times.
    fn may_at_times(&self, device: &DeviceId, property: Property, open: bool) -> bool {
        self.promised_commands.contains(&(device.clone(), property, open))
    }

    /// The first reading after a grant answers at once and is held until the next tick: what is newly granted begins with
    /// what is true now. What only begins to count shows the last tick, like any other. What is granted no longer, or does not
    /// count, is forgotten.
    fn reopen(&mut self, now: Timestamp) {
        let before = std::mem::take(&mut self.promised);
        self.decide();
        for (cell, rung) in self.rungs.iter().filter(|(cell, _)| !before.contains(cell)) {
            let (device, property, _) = cell;
            let newest = self.readings.get(&(device.clone(), *property)).and_then(|all| all.last());
            if let (true, Some((_, value))) = (ladder::is_of_now(*rung), newest) {
                self.instead.insert(cell.clone(), (now, value.clone(), Exact(false)));
            }
        }
        self.instead.retain(|cell, _| self.rungs.contains_key(cell));
        self.announce();
    }

    /// Notes which devices the link may know of that it could not before.
    fn announce(&mut self) {
        let known: BTreeSet<&DeviceId> = self.announced.iter().flatten().collect();
        let new =
            self.shapes.keys().filter(|d| !known.contains(d) && self.announces(d)).cloned().collect::<BTreeSet<_>>();
        if !new.is_empty() {
            self.announced.push(new);
        }
    }

    /// A device that is there, as it describes itself. What it has withdrawn, the whole of it or a property, is neither
    /// announced nor told nor commanded.
    fn there(&self, device: &DeviceId) -> Option<&Shape> {
        self.shapes.get(device).filter(|_| !self.gone.contains(device))
    }

    /// Whether the link may know that there is this device: its type is granted, and something of it to be told when asked,
    /// or to command.
    fn announces(&self, device: &DeviceId) -> bool {
        let typed = self.is_promised(device, Property::DeviceTypeName, Trigger::Discovery);
        let Some(shape) = self.there(device).filter(|_| typed) else { return false };
        shape.properties.iter().any(|(p, commanded)| {
            let told = |t| self.is_promised(device, *p, t);
            told(Trigger::PartnerPoll)
                || (self.reports && told(Trigger::ProactiveReport))
                || (*commanded && (self.may_at_times(device, *p, false) || self.may_at_times(device, *p, true)))
        })
    }

    /// The last tick of a grid. The home's clock is whole hours away from UTC, and is set in the first quarter of a day, if
    /// at all.
    fn tick(&self, grid: Grid, now: Timestamp) -> Timestamp {
        match grid {
            Grid::None => now,
            Grid::Every(ms) => Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(ms)),
            Grid::Hour => Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(3_600_000)),
            Grid::QuarterDay => {
                let quarters =
                    self.midnights.iter().flat_map(|m| [-18, -12, -6, 0].map(|h| m.plus_millis(h * 3_600_000)));
                quarters.filter(|q| *q <= now).max().unwrap_or_default()
            }
            Grid::Day => self.midnights.iter().copied().rfind(|m| *m <= now).unwrap_or_default(),
        }
    }

    /// The last day that is over.
    fn yesterday(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let end = self.tick(Grid::Day, now);
        (self.tick(Grid::Day, end.plus_millis(-1)), end)
    }

    /// What the link may be told of one property, for one reason.
    fn fact(&self, cell: &Cell, now: Timestamp) -> Option<Fact> {
        let rung = self.rung(cell)?;
        let (device, property, trigger) = cell;
        let readings = self.readings.get(&(device.clone(), *property));
        if let Some(found) = ladder::derived(self, (*property, rung), readings.map_or(&[], Vec::as_slice), now) {
            let instead = self.instead.get(cell).filter(|(t, _, _)| *t > found.as_of);
            let (time, value) = match instead {
                Some((time, value, Exact(true))) if !ladder::is_of_a_window(rung) => (*time, value.clone()),
                _ => found.sample?,
            };
            return Some(Fact { property: *property, value, time, rung });
        }
        let grid = match (trigger, rung.grid()) {
            // What is told unasked is never told when it happens.
            (Trigger::ProactiveReport, Grid::None) => Grid::Every(UNASKED_GRID_MS),
            (_, grid) => grid,
        };
        let (time, value, Exact(known)) = if grid == Grid::None {
            let (time, value) = readings?.last()?.clone();
            (time, value, Exact(true))
        } else {
            let tick = self.tick(grid, now);
            // What it was at the tick; or the first reading of all, when that came later.
            let at_tick = || {
                let all = readings?;
                let before = all.iter().rfind(|(t, _)| *t < tick).map(|(_, v)| (tick, v.clone()));
                let (time, value) = before.or_else(|| all.first().cloned())?;
                Some((time, value, Exact(false)))
            };
            self.instead.get(cell).filter(|(t, _, _)| *t > tick).cloned().or_else(at_tick)?
        };
        let is_coarse = matches!(rung, Rung::HourCoarse | Rung::HourSteady | Rung::QuarterDayCoarse | Rung::DayCoarse);
        let value = if is_coarse && !known { coarse(&value) } else { value };
        Some(Fact { property: *property, value, time, rung })
    }

    fn facts(&self, device: &DeviceId, trigger: Trigger, now: Timestamp) -> Vec<Fact> {
        let Some(shape) = self.there(device) else { return Vec::new() };
        let all = ALL_PROPERTIES.iter().filter(|p| shape.properties.contains_key(p) || **p == Property::Reachable);
        all.filter_map(|p| self.fact(&(device.clone(), *p, trigger), now)).collect()
    }

    /// What is known of a device by its description, and what the link may do with it.
    fn described(&self, device: &DeviceId) -> Vec<String> {
        let Some(shape) = self.there(device).filter(|_| self.announces(device)) else { return Vec::new() };
        let mut words = vec![format!("{device} {:?} {:?}", shape.device_type, shape.takes)];
        for (p, commanded) in &shape.properties {
            let polled = self.rung(&(device.clone(), *p, Trigger::PartnerPoll));
            let asked = self.is_promised(device, *p, Trigger::PartnerPoll);
            let may = |open| *commanded && self.may_at_times(device, *p, open);
            let unasked = self.unasked(device, *p);
            words.push(format!("{p} {polled:?} {asked} {} {} {unasked}", may(false), may(true)));
        }
        words.push(format!("{:?}", self.rung(&(device.clone(), Property::Reachable, Trigger::PartnerPoll))));
        words.push(format!("{}", self.is_promised(device, Property::Reachable, Trigger::PartnerPoll)));
        words.push(format!("{}", self.unasked(device, Property::Reachable)));
        words
    }

    /// Whether the link is told a property unasked, at some times.
    fn unasked(&self, device: &DeviceId, property: Property) -> bool {
        self.reports && self.is_promised(device, property, Trigger::ProactiveReport)
    }

    fn discovery(&self) -> View {
        let mut words = vec![format!("{:?}", self.announced)];
        for (device, shape) in self.shapes.iter().filter(|(d, _)| self.announces(d)) {
            words.extend(self.described(device));
            for (property, text) in &shape.metadata {
                match (property, self.rung(&(device.clone(), *property, Trigger::Discovery))) {
                    // The coarse form of a name is the one that the household chose.
                    (Property::NodeLabel, Some(rung)) => {
                        let own = Some(text).filter(|_| {
                            !matches!(
                                rung,
                                Rung::HourCoarse | Rung::HourSteady | Rung::QuarterDayCoarse | Rung::DayCoarse
                            )
                        });
                        words.push(format!("{:?}", shape.household_name.as_ref().or(own)));
                    }
                    (_, Some(_)) => words.push(text.clone()),
                    (_, None) => {}
                }
            }
        }
        View { words, ..View::default() }
    }

    /// Unasked, it may be told what there is, and what is granted so.
    fn round(&self, recorded: bool, now: Timestamp) -> View {
        let mut view = self.discovery();
        view.words.push(format!("{recorded}"));
        for device in self.shapes.keys().filter(|d| self.reports && self.announces(d)) {
            view.facts.extend(self.facts(device, Trigger::ProactiveReport, now));
        }
        view
    }

    fn state(&self, device: Option<&DeviceId>, now: Timestamp) -> View {
        // The hour is public: what is constant is dated on it.
        let hour = format!("{:?}", self.tick(Rung::Hour.grid(), now));
        match device.filter(|d| self.announces(d)) {
            None => View::default(),
            Some(d) => {
                let words = self.described(d).into_iter().chain([hour]).collect();
                View { facts: self.facts(d, Trigger::PartnerPoll, now), words, handed: None }
            }
        }
    }

    /// What the partner itself said, what is public, what the device takes; and what it is granted beside. It is obeyed by
    /// the grants from before, and told of by those that are in force when the broker has it.
    fn command(&mut self, c: &Command, meanwhile: Option<&[Given]>, now: Timestamp) -> View {
        let mut view = View { handed: Some(false), ..View::default() };
        view.words = vec![c.words.clone(), format!("{:?} {now:?}", c.weather)];
        let known = c.device.clone().filter(|d| self.announces(d));
        view.words.extend(known.iter().flat_map(|d| self.described(d)));
        // What speaks against it in the home's state is said before what the description has against it.
        let granted = known.filter(|device| self.is_granted(device, c));
        let unopposed = granted.filter(|device| !self.objects(device, c, &mut view, now));
        let Some((led_to, device)) = unopposed.and_then(|d| Some((self.leads_to(&d, c.wish.as_ref()?)?, d))) else {
            meanwhile.into_iter().for_each(|grants| self.edit(grants, now));
            return view;
        };
        meanwhile.into_iter().for_each(|grants| self.edit(grants, now));
        if c.weather != (true, true) {
            return view;
        }
        view.handed = Some(true);
        self.desire(&device, &led_to, now);
        if !self.announces(&device) {
            return view;
        }
        view.words.extend(self.described(&device));
        // A value that this link has just set replaces its held sample. A target alone, where there are more set points than
        // one, has set none that the link could name.
        let said = self.said(&device, c);
        let is_set = |p: Property| p != Property::OccupiedSetpoint || said.len() > 1;
        for (property, value) in said.iter().filter(|(p, _)| is_set(*p)) {
            self.replace(&device, *property, now, value);
        }
        for fact in self.facts(&device, Trigger::DirectiveResponse, now) {
            if said.iter().any(|(p, _)| *p == fact.property) {
                continue;
            }
            // Granted at once: what the command changed is told as asked for.
            let changed = led_to.iter().find(|(p, _)| *p == fact.property).filter(|_| fact.rung == Rung::Live);
            let fact = match changed {
                Some((_, value)) => Fact { value: value.clone(), time: now, ..fact },
                None => fact,
            };
            // And so does one that it was just told at once.
            if fact.rung == Rung::Live {
                self.replace(&device, fact.property, fact.time, &fact.value);
            }
            view.facts.push(fact);
        }
        view
    }

    /// What it may see of the device after its commands, as that is by now; and what it said itself.
    fn outcome(&self, c: &Command, now: Timestamp) -> View {
        let Some(device) = c.device.as_ref().filter(|d| self.announces(d)) else { return View::default() };
        let mut words = self.described(device);
        words.extend([c.words.clone(), format!("{now:?}")]);
        View { facts: self.facts(device, Trigger::DirectiveResponse, now), words, handed: None }
    }

    fn replace(&mut self, device: &DeviceId, property: Property, time: Timestamp, value: &Value) {
        for trigger in ALL_TRIGGERS {
            let cell = (device.clone(), property, trigger);
            let held = self.rung(&cell).is_some_and(|rung| rung != Rung::Live && !ladder::is_of_a_window(rung));
            if held && self.instead.get(&cell).is_none_or(|(t, _, _)| *t <= time) {
                self.instead.insert(cell, (time, value.clone(), Exact(true)));
            }
        }
    }
}

/// To whole degrees, tens of percent, 200 ppm, 100 W, 1 kWh; half goes away from zero.
fn coarse(value: &Value) -> Value {
    let near = |number: i64, step: i64| {
        let half = if number < 0 { -step / 2 } else { step / 2 };
        (number + half) / step * step
    };
    match value {
        Value::Temperature(milli) => Value::Temperature(near(i64::from(*milli), 1000) as i32),
        Value::Percent(hundredths) => Value::Percent(near(i64::from(*hundredths), 1000) as u16),
        Value::Ppm(ppm) => Value::Ppm(near(i64::from(*ppm), 200) as u32),
        Value::Power(milliwatts) => Value::Power(near(*milliwatts, 100_000)),
        Value::Energy(watt_hours) => Value::Energy(near(*watt_hours, 1000)),
        exact => exact.clone(),
    }
}

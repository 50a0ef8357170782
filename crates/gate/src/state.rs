//! What the gate knows: the home, the table, the links, and what each link was told last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use disclosure::Capability;
use home::{HomeState, Known, Reading, Registered, Registry, RegistryError, Sample, Update, Wall};
use jiff::tz::TimeZone;
use links::Links;
use model::{ALL_TRIGGERS, DeviceId, Grid, HouseholdId, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use policy::{DeviceFact, Facts, LinkFact, Table};
use serde::{Deserialize, Serialize};

use crate::clock::{GRIDS, REPORT_GRID_MS, moments, tick};
use crate::once::Lately;
use crate::shape::shape;

/// A change of what the gate remembers, to be stored in the same transaction as the INTENT of the message that
/// depends on it: after a crash the same tick must show the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Where: `known/DEVICE/PROPERTY`, `told/LINK/DEVICE/PROPERTY/TRIGGER`, `link/LINK`, `clock` or `unseen`.
    pub key: String,
    /// JSON; none deletes.
    pub json: Option<String>,
    /// What [`GateState::settle`] takes off.
    debt: Debt,
}

impl StateWrite {
    /// A write of another room, which goes with a message.
    pub fn new(key: String, json: String) -> Self {
        Self { key, json: Some(json), debt: Debt::None }
    }
}

/// What is owed to the store until a write of it is known to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Debt {
    Known(DeviceId, Property, Grid, Timestamp),
    Told(ToldKey),
    /// Nothing: it is stored again when it changes.
    None,
}

/// Of whom, of what, and for which reason: rungs differ from trigger to trigger.
type ToldKey = (LinkId, DeviceId, Property, Trigger);

/// Time is stored once in this interval, the shortest grid.
const KEEP_TIME_MS: i64 = 15 * 60_000;

/// For so long it is known that nobody looked: that is longer than the two days of which means and counts are told last.
const UNSEEN_FOR_MS: i64 = 4 * 86_400_000;

/// So many gaps are told apart; further ones make one with the last.
const UNSEEN_MAX: usize = 64;

/// What stands in for a held sample of one link until the next tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    #[serde(flatten)]
    sample: Sample,
    /// The link knows it exactly, for it has set it itself or was told it exactly: rounded, it would only look as if somebody
    /// had set something else.
    #[serde(default)]
    exact: bool,
}

/// The values with which what is newly granted begins (see [`GateState::begin`]).
#[derive(Clone, Debug, Default)]
pub struct Begun(Vec<(ToldKey, Told)>);

impl Begun {
    /// What must be stored of them.
    pub fn writes(&self) -> Vec<StateWrite> {
        self.0.iter().filter_map(|(key, told)| told_write(key, told)).collect()
    }
}

/// What the gate knows. One per household; shared behind a lock that is held for one look-up at a time.
pub struct GateState {
    /// The newest readings.
    pub home: HomeState,
    /// The devices.
    pub registry: Registry,
    /// The links and what they call the devices.
    pub links: Links,
    /// The links that events can be sent on: only to them is a report promised.
    reporting: BTreeSet<LinkId>,
    table: Arc<Table>,
    /// How many tables were put in force.
    edition: u64,
    zone: TimeZone,
    /// A value that a link has just set, was just told, or that was true when it was granted: it stands in for the
    /// held sample of that link until the next tick.
    told: BTreeMap<ToldKey, Told>,
    /// The latest time at which something was asked, changed or [kept](GateState::keep_time): a clock that steps back never
    /// shows an older tick. Readings don't move it on, since when they come is the home's secret.
    latest: Timestamp,
    /// The tick up to which time has been given out for storing.
    kept: Timestamp,
    /// When time was kept last; none before it ever was.
    beat: Option<Timestamp>,
    /// When nobody looked, from and to: no time was kept for a quarter of an hour or longer.
    unseen: Vec<(Timestamp, Timestamp)>,
    unseen_owed: bool,
    /// Which ticks of `known` are stored, so that a poll stores nothing new.
    stored: BTreeMap<(DeviceId, Property), (Grid, Timestamp)>,
    /// What is in `told` and not known to be stored: every message that shows it stores it again until one is recorded.
    owed: BTreeSet<ToldKey>,
    /// Commands that came lately: each acts once.
    pub(crate) lately: Lately,
}

impl GateState {
    /// An empty home with nothing shared.
    pub fn new(zone: TimeZone, table: Arc<Table>) -> Self {
        Self {
            home: HomeState::default(),
            registry: Registry::default(),
            links: Links::default(),
            reporting: BTreeSet::new(),
            table,
            edition: 0,
            zone,
            told: BTreeMap::new(),
            latest: Timestamp::default(),
            kept: Timestamp::default(),
            beat: None,
            unseen: Vec::new(),
            unseen_owed: false,
            stored: BTreeMap::new(),
            owed: BTreeSet::new(),
            lately: Lately::default(),
        }
    }

    /// Commands that were forgotten before their time, because a link sent more than
    /// [`ONCE_PER_LINK_MAX`](crate::ONCE_PER_LINK_MAX): repeated, they would act again.
    pub fn commands_forgotten(&self) -> u64 {
        self.lately.forgotten()
    }

    /// The table in force.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Notes whether events can be sent on a link. Gives what must be stored: what is told unasked alone is announced with it.
    pub fn set_reporting(&mut self, link: &LinkId, reports: bool) -> Vec<StateWrite> {
        if reports {
            self.reporting.insert(link.clone())
        } else {
            self.reporting.remove(link)
        };
        self.number()
    }

    /// Whether events can be sent on a link.
    pub fn is_reporting(&self, link: &LinkId) -> bool {
        self.reporting.contains(link)
    }

    /// The home's time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What there is to decide about, for compiling the table.
    pub fn facts(&self, household: HouseholdId, is_gatekeeper: impl Fn(&PartnerId) -> bool) -> Facts {
        let links = self
            .links
            .iter()
            .map(|l| LinkFact {
                link: l.id.clone(),
                partner: l.partner.clone(),
                gatekeeper: is_gatekeeper(&l.partner),
                agent: links::is_agent(&l.partner),
            })
            .collect();
        let devices = self
            .registry
            .iter()
            .map(|(id, known)| DeviceFact {
                device: id.clone(),
                device_type: known.device_type(),
                properties: pinned(known).map(|p| (p, known.kind(p))).collect(),
            })
            .collect();
        Facts { household, links, devices }
    }

    /// The time to answer at: never earlier than any before.
    pub fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// The latest time at which it answered, or that was kept before a restart.
    pub fn time(&self) -> Timestamp {
        self.latest
    }

    /// Notes the time, whatever happens or doesn't happen in the home; to be called again and again by the clock alone. Once
    /// in the shortest interval there is something to store: a hub that starts again shows no older tick, although the
    /// clock may have been set back.
    pub fn keep_time(&mut self, now: Timestamp) -> Vec<StateWrite> {
        let time = self.advance(now);
        self.look(time);
        self.beat = Some(time);
        let tick = time.floor_to(KEEP_TIME_MS);
        if tick <= self.kept {
            return Vec::new();
        }
        self.kept = tick;
        let mut writes = vec![StateWrite::new(CLOCK.to_owned(), tick.as_millis().to_string())];
        if std::mem::take(&mut self.unseen_owed)
            && let Ok(json) = serde_json::to_string(&self.unseen)
        {
            writes.push(StateWrite::new(UNSEEN.to_owned(), json));
        }
        writes
    }

    /// Notes when no time was kept, before anything is worked out of the time that has passed. Of gaps that no day that is still told of
    /// can have there is no need any more.
    fn look(&mut self, now: Timestamp) {
        let Some(beat) = self.beat.filter(|beat| now >= beat.plus_millis(KEEP_TIME_MS)) else { return };
        self.beat = Some(now);
        self.unseen.retain(|(_, to)| to.plus_millis(UNSEEN_FOR_MS) > now);
        let is_full = self.unseen.len() >= UNSEEN_MAX;
        match self.unseen.last_mut().filter(|_| is_full) {
            Some((_, to)) => *to = now,
            None => self.unseen.push((beat, now)),
        }
        self.unseen_owed = true;
    }

    /// Takes a reading in. Its time is never before that of an earlier reading of the same property.
    pub fn report(&mut self, mut reading: Reading) -> Update {
        let before = self.home.reported(&reading.device, reading.property).map(|s| s.time);
        reading.time = reading.time.max(self.latest).max(before.unwrap_or_default());
        self.look(reading.time);
        let ticks = GRIDS.map(|grid| (grid, tick(grid, reading.time, &self.zone)));
        let wall = Wall { moments: &|time| moments(time, &self.zone), unseen: &self.unseen };
        self.home.report(reading, &ticks, &wall)
    }

    /// Takes a device's description in.
    ///
    /// # Errors
    /// See [`Registry::describe`].
    pub fn describe(&mut self, id: &DeviceId, description: home::Description) -> Result<bool, RegistryError> {
        self.registry.describe(id, description)
    }

    /// Forgets the readings of a device, and what links were told of it.
    pub fn forget(&mut self, device: &DeviceId) {
        self.home.forget(device);
        self.told.retain(|(_, d, _, _), _| d != device);
        self.owed.retain(|(_, d, _, _)| d != device);
        self.stored.retain(|(d, _), _| d != device);
    }

    /// Puts the table in force with which the hub was running before it stopped: nothing is new, and what was held is still
    /// held.
    pub fn resume(&mut self, table: Arc<Table>) -> Vec<StateWrite> {
        let mut writes = self.forget_withheld(&table);
        self.table = table;
        writes.extend(self.number());
        writes
    }

    /// Forgets what stands in for held values that are told no longer; in the store as well, or a restart would bring it back,
    /// were it granted again by then.
    fn forget_withheld(&mut self, table: &Table) -> Vec<StateWrite> {
        let mut writes = Vec::new();
        self.told.retain(|key, _| {
            let (link, device, property, trigger) = key;
            let stays = table.stays(link, device, *property, *trigger);
            if !stays {
                writes.push(StateWrite { key: told_key(key), json: None, debt: Debt::None });
            }
            stays
        });
        self.owed.retain(|key| self.told.contains_key(key));
        writes
    }

    /// Puts a new table in force. What a link may newly be told on a grid starts with what is true now ("the first reading
    /// after a grant answers at once and is held until the next tick"); what it may be told no longer is forgotten. Where hours
    /// or a window begin nothing is new: the rung's own tick is shown, or opening often would buy more than the rung allows.
    /// Gives what must be stored.
    pub fn replace_table(&mut self, table: Arc<Table>, now: Timestamp) -> Vec<StateWrite> {
        let begun = self.begin(&table, now);
        self.replace_begun(table, begun, now)
    }

    /// The same, with the values of an earlier moment, which are stored together with the grants.
    pub fn replace_begun(&mut self, table: Arc<Table>, mut begun: Begun, now: Timestamp) -> Vec<StateWrite> {
        self.advance(now);
        // What was forgotten in between stays so.
        begun.0.retain(|((link, device, property, trigger), _)| {
            self.home.reported(device, *property).is_some()
                && self.links.get(link).is_some()
                && table.decide(link, device, *property, *trigger).rung.is_ok()
        });
        let mut writes = begun.writes();
        writes.extend(self.forget_withheld(&table));
        self.owed.extend(begun.0.iter().map(|(key, _)| key.clone()));
        self.told.extend(begun.0);
        self.table = table;
        self.edition += 1;
        writes.extend(self.number());
        writes
    }

    /// Which table is in force: another number, perhaps another answer.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// The values with which newly granted cells begin under a table, to be made durable together with the grants: a hub that
    /// dies in between must not begin with an older value. They are of the time given, which is the time of the consent, not
    /// of whoever asked last.
    pub fn begin(&self, table: &Table, now: Timestamp) -> Begun {
        let mut begun = Vec::new();
        for link in self.links.iter().map(|l| &l.id) {
            for (device, _, property) in properties(&self.registry).filter(|(_, _, p)| !p.is_metadata()) {
                let Some(sample) = self.home.reported(device, property) else { continue };
                for trigger in ALL_TRIGGERS {
                    let is_new = !self.table.promised().stays(link, device, property, trigger);
                    if is_new && table.decide(link, device, property, trigger).rung.is_ok_and(begins) {
                        let key = (link.clone(), device.clone(), property, trigger);
                        let sample = Sample { value: sample.value.clone(), time: now };
                        begun.push((key, Told { sample, exact: false }));
                    }
                }
            }
        }
        Begun(begun)
    }

    /// Numbers the devices that a link may know of and could not before.
    fn number(&mut self) -> Vec<StateWrite> {
        let links: Vec<LinkId> = self.links.iter().map(|l| l.id.clone()).collect();
        let mut writes = Vec::new();
        for id in links {
            let Some(link) = self.links.get(&id) else { continue };
            let devices =
                link.devices().filter(|(device, known)| known.number.is_none() && self.announces(&id, device));
            let new: Vec<DeviceId> = devices.map(|(device, _)| device.clone()).collect();
            let Some(link) = self.links.get_mut(&id) else { continue };
            if link.announce(&new)
                && let Ok(json) = serde_json::to_string(link)
            {
                writes.push(StateWrite::new(format!("link/{id}"), json));
            }
        }
        writes
    }

    /// Whether a link may know that there is this device.
    pub(crate) fn announces(&self, link: &LinkId, device: &DeviceId) -> bool {
        let reports = self.is_reporting(link);
        self.registry.get(device).is_some_and(|known| {
            let table = self.table.promised();
            announced(table, link, device, &capabilities(table, (link, reports), device, known))
        })
    }

    /// Notes that a link has set or was told a value: it replaces its held samples at once.
    pub(crate) fn tell(
        &mut self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        sample: &Sample,
    ) -> Vec<StateWrite> {
        let mut writes = Vec::new();
        for trigger in ALL_TRIGGERS {
            let rung = self.table.decide(link, device, property, trigger).rung;
            let key = (link.clone(), device.clone(), property, trigger);
            let newer = self.told.get(&key).is_none_or(|old| old.sample.time <= sample.time);
            if newer && rung.is_ok_and(stands_in) {
                let told = Told { sample: sample.clone(), exact: true };
                writes.extend(told_write(&key, &told));
                self.owed.insert(key.clone());
                self.told.insert(key, told);
            }
        }
        writes
    }

    /// These writes are durable. Until then each message that depends on one takes it along: one that was not recorded
    /// has stored nothing, and of two at once either may be recorded first.
    pub fn settle(&mut self, writes: &[StateWrite]) {
        for write in writes {
            match &write.debt {
                Debt::Known(device, property, grid, tick) => {
                    self.stored.insert((device.clone(), *property), (*grid, *tick));
                }
                Debt::None => {}
                // What was told anew in between is another debt.
                Debt::Told(key) => {
                    if self.told.get(key).and_then(|sample| told_write(key, sample)).as_ref() == Some(write) {
                        self.owed.remove(key);
                    }
                }
            }
        }
    }

    /// The sample that a rung shows this link at `now`, with what must be stored along with it.
    pub(crate) fn sample(
        &mut self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        (trigger, rung): (Trigger, Rung),
        now: Timestamp,
    ) -> (Option<Sample>, Vec<StateWrite>) {
        let grid = match (trigger, rung.grid()) {
            // What is told unasked is never told when it happens.
            (Trigger::ProactiveReport, Grid::None) => Grid::Every(REPORT_GRID_MS),
            (_, grid) => grid,
        };
        if grid == Grid::None {
            let newest = self.home.reported(device, property).cloned();
            return (newest.map(|sample| shape(property, sample, rung)), Vec::new());
        }
        self.look(now);
        let (mut tick, held) = match rung {
            Rung::HourMean | Rung::HourLate | Rung::HourSteady | Rung::DayMean | Rung::DayCount => {
                let wall = Wall { moments: &|time| self::moments(time, &self.zone), unseen: &self.unseen };
                (tick(grid, now, &self.zone), self.home.derived(device, property, rung, now, &wall))
            }
            _ => {
                let tick = tick(grid, now, &self.zone);
                (tick, self.home.at_tick(device, property, grid, tick))
            }
        };
        let cell = (device.clone(), property);
        let mut writes = Vec::new();
        if held.is_some() && self.stored.get(&cell) != Some(&(grid, tick)) {
            let known = self.home.known(device, property);
            writes.extend(known.and_then(|k| known_write(device, property, k, (grid, tick))));
        }
        let is_late = rung == Rung::HourLate;
        if is_late {
            // What this link has set counts until the full hour that is shown has come after it.
            tick = self::tick(grid, tick.plus_millis(-1), &self.zone);
        }
        let key = (link.clone(), device.clone(), property, trigger);
        // What it was when it was granted stands in for nothing that does not begin so.
        let counts = |told: &&Told| stands_in(rung) && (told.exact || begins(rung)) && told.sample.time > tick;
        let told = self.told.get(&key).filter(counts);
        if self.owed.contains(&key) {
            writes.extend(told.and_then(|told| told_write(&key, told)));
        }
        let sample = match told {
            Some(Told { sample, exact: true }) => Some(sample.clone()),
            Some(Told { sample, exact: false }) => Some(shape(property, sample.clone(), rung)),
            None if rung == Rung::HourSteady => held,
            None => held.map(|sample| shape(property, sample, rung)),
        };
        (sample, writes)
    }

    /// Puts back one entry that was stored before a restart. False when the key or the JSON is not understood.
    pub fn restore(&mut self, key: &str, json: &str) -> bool {
        let parts: Vec<&str> = key.split('/').collect();
        let property = |name: &str| Property::parse(name);
        match parts.as_slice() {
            ["known", device, p] => {
                let (Ok(device), Some(p), Ok(known)) =
                    (DeviceId::new(*device), property(p), serde_json::from_str::<Known>(json))
                else {
                    return false;
                };
                self.home.restore(device, p, known);
                true
            }
            ["told", link, device, p, rest @ ..] => {
                // Before triggers were told apart, only polls were held.
                let trigger = match rest {
                    [] => Some(Trigger::PartnerPoll),
                    [name] => ALL_TRIGGERS.into_iter().find(|t| t.as_str() == *name),
                    _ => None,
                };
                let (Ok(link), Ok(device), Some(p), Some(trigger), Ok(told)) = (
                    LinkId::new(*link),
                    DeviceId::new(*device),
                    property(p),
                    trigger,
                    serde_json::from_str::<Told>(json),
                ) else {
                    return false;
                };
                self.told.insert((link, device, p, trigger), told);
                true
            }
            [CLOCK] => {
                let Ok(millis) = serde_json::from_str::<i64>(json) else { return false };
                self.kept = self.advance(Timestamp::from_millis(millis));
                self.beat = Some(self.kept);
                true
            }
            [UNSEEN] => {
                let Ok(unseen) = serde_json::from_str(json) else { return false };
                self.unseen = unseen;
                true
            }
            _ => false,
        }
    }
}

/// Whether what is newly granted at this rung begins with what is true now, until the next tick. What is late never shows what is
/// true now; what has a dead band would tell on which side of a step's border it is, and a mean or a count has none.
fn begins(rung: Rung) -> bool {
    stands_in(rung) && !matches!(rung, Rung::HourLate | Rung::HourSteady)
}

/// Whether a value that the link knows (it has set it, or was told it) replaces what this rung holds, so that it is not told
/// otherwise. A mean or a count is of another matter.
fn stands_in(rung: Rung) -> bool {
    rung != Rung::Live && !rung.is_aggregate()
}

/// Every property that any device ever had, metadata and reachability too.
pub(crate) fn properties(registry: &Registry) -> impl Iterator<Item = (&DeviceId, &Registered, Property)> {
    registry.iter().flat_map(|(id, known)| pinned(known).map(move |p| (id, known, p)))
}

/// Every property that a device ever had, in the order of the table. Policy speaks of these: that one is gone changes no
/// decision, so it can't be seen in one.
pub(crate) fn pinned(known: &Registered) -> impl Iterator<Item = Property> {
    let always = |p: Property| p.is_metadata() || p == Property::Reachable;
    model::ALL_PROPERTIES.iter().copied().filter(move |p| always(*p) || known.pins.contains_key(p))
}

/// Every property that a device has now; none when it is not there.
pub(crate) fn of_device(known: &Registered) -> impl Iterator<Item = Property> {
    model::ALL_PROPERTIES.iter().copied().filter(|p| known.has(*p))
}

/// What a link can do with a device, and be told of it.
pub(crate) fn capabilities(
    table: &Table,
    (link, reports): (&LinkId, bool),
    device: &DeviceId,
    known: &Registered,
) -> Vec<Capability> {
    let mut capabilities = Vec::new();
    for property in of_device(known).filter(|p| !p.is_metadata()) {
        let takes = known.description.properties.get(&property).is_some_and(|d| d.command);
        // How often something began is not how it is.
        let is_value =
            |trigger| table.decide(link, device, property, trigger).rung.is_ok_and(|rung| rung != Rung::DayCount);
        let capability = Capability {
            property,
            poll: is_value(Trigger::PartnerPoll),
            proactive: reports && is_value(Trigger::ProactiveReport),
            command: takes && table.may(link, device, property, false).is_ok(),
            command_open: takes && table.may(link, device, property, true).is_ok(),
        };
        let told = capability.poll || capability.proactive || is_counted(table, link, device, property);
        if told || capability.command || capability.command_open || property == Property::Reachable {
            capabilities.push(capability);
        }
    }
    capabilities
}

/// Whether a link that asks is told how often something began.
fn is_counted(table: &Table, link: &LinkId, device: &DeviceId, property: Property) -> bool {
    table.decide(link, device, property, Trigger::PartnerPoll).rung == Ok(Rung::DayCount)
}

/// Whether a link may know that there is this device: its type is granted, and something that it can do or be told.
pub(crate) fn announced(table: &Table, link: &LinkId, device: &DeviceId, capabilities: &[Capability]) -> bool {
    let told = |c: &Capability| {
        (c.poll || c.proactive || is_counted(table, link, device, c.property)) && c.property != Property::Reachable
    };
    let speaks = |c: &Capability| c.command || c.command_open || told(c);
    let is_typed = table.decide(link, device, Property::DeviceTypeName, Trigger::Discovery).rung.is_ok();
    is_typed && capabilities.iter().any(speaks)
}

/// Key of the stored time.
const CLOCK: &str = "clock";

/// Key of when nobody looked.
const UNSEEN: &str = "unseen";

fn told_key((link, device, property, trigger): &ToldKey) -> String {
    format!("told/{link}/{device}/{property}/{trigger}")
}

fn told_write(key: &ToldKey, told: &Told) -> Option<StateWrite> {
    let json = serde_json::to_string(told).ok()?;
    Some(StateWrite { key: told_key(key), json: Some(json), debt: Debt::Told(key.clone()) })
}

/// The stored form of what is known of one property.
fn known_write(device: &DeviceId, property: Property, known: &Known, at: (Grid, Timestamp)) -> Option<StateWrite> {
    let json = serde_json::to_string(known).ok()?;
    let debt = Debt::Known(device.clone(), property, at.0, at.1);
    Some(StateWrite { key: format!("known/{device}/{property}"), json: Some(json), debt })
}

#[cfg(test)]
mod tests {
    use model::{ALL_RUNGS, Value};
    use policy::Facts;

    use super::*;

    const MINUTE: i64 = 60_000;
    const PROPERTY: Property = Property::LocalTemperature;

    fn empty(zone: &str) -> GateState {
        let home = HouseholdId::new("home").unwrap();
        let table = policy::compile(&Facts::empty(home), &[], None, Timestamp::default()).unwrap();
        GateState::new(TimeZone::get(zone).unwrap(), Arc::new(table))
    }

    fn device() -> DeviceId {
        DeviceId::new("d").unwrap()
    }

    fn read(state: &mut GateState, time: Timestamp, value: Value) {
        let property = if value.number().is_some() { PROPERTY } else { Property::ContactOpen };
        state.report(Reading { device: device(), property, value, time });
    }

    fn shown(state: &mut GateState, rung: Rung, now: Timestamp) -> Option<(Value, i64)> {
        let link = LinkId::new("l").unwrap();
        let property = if rung == Rung::DayCount { Property::ContactOpen } else { PROPERTY };
        let (sample, _) = state.sample(&link, &device(), property, (Trigger::PartnerPoll, rung), now);
        sample.map(|s| (s.value, s.time.as_millis()))
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    /// Whoever sees a rung can work out all that it gives: played to another home as if it were the readings, it leads to the
    /// same. So a partner with a coarser rung knows nothing that one with the finer does not; in whole and half hours from
    /// Greenwich, and over the nights in which clocks are set.
    #[test]
    fn what_a_rung_gives_follows_from_it_alone() {
        let mut seed = 0x5EED_u64;
        let mut below = |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        for (zone, start) in [
            ("Europe/Paris", "2026-03-28T05:07:00Z"),
            ("Europe/Paris", "2026-10-24T05:07:00Z"),
            ("Asia/Kolkata", "2026-05-01T05:07:00Z"),
            // By half an hour: hours of 30 and 90 minutes.
            ("Australia/Lord_Howe", "2026-04-03T20:07:00Z"),
            ("Australia/Lord_Howe", "2026-10-02T20:07:00Z"),
        ] {
            let start = at(start);
            let mut home = empty(zone);
            let steps: Vec<Timestamp> = (0..4 * 24 * 4).map(|n| start.plus_millis(n * 15 * MINUTE)).collect();
            let mut seen: BTreeMap<Rung, Vec<Option<(Value, i64)>>> = BTreeMap::new();
            let (mut milli, mut next) = (20_000, start);
            for now in &steps {
                while next < *now {
                    read(&mut home, next, Value::Temperature(milli));
                    milli += below(1_201) as i32 - 600;
                    // Now and then it is silent for hours.
                    let pause = if below(40) == 0 { 60 + below(400) } else { 1 + below(11) };
                    next = next.plus_millis(pause as i64 * MINUTE);
                }
                for rung in ALL_RUNGS {
                    seen.entry(rung).or_default().push(shown(&mut home, rung, *now));
                }
            }
            for finer in
                ALL_RUNGS.into_iter().filter(|r| r.gives().len() > 1 && !matches!(r, Rung::Live | Rung::HourMean))
            {
                let mut other = empty(zone);
                let mut played: Vec<(Value, i64)> = seen[&finer].iter().flatten().cloned().collect();
                played.dedup();
                let mut played = played.into_iter().peekable();
                let from = played.peek().map(|(_, time)| *time).unwrap();
                let mut compared = 0;
                for (n, now) in steps.iter().enumerate() {
                    while let Some((value, time)) = played.next_if(|(_, time)| *time <= now.as_millis()) {
                        read(&mut other, Timestamp::from_millis(time - 1), value);
                    }
                    for coarser in finer.gives().iter().filter(|r| **r != finer) {
                        let (is, was) = (shown(&mut other, *coarser, *now), &seen[coarser][n]);
                        // Once two whole days have passed: what was before the first reading, the other home can't know.
                        if now.as_millis() - from > 50 * 60 * MINUTE {
                            assert_eq!(is.as_ref(), was.as_ref(), "{zone}: {coarser} out of {finer} at {now:?}");
                            compared += 1;
                        }
                    }
                }
                assert!(compared > 0, "{finer}");
            }
            // A mean is of what has passed, so it can't be played.
            let means: BTreeMap<i64, i64> =
                seen[&Rung::HourMean].iter().flatten().map(|(value, time)| (*time, value.number().unwrap())).collect();
            let days: Vec<&(Value, i64)> = seen[&Rung::DayMean].iter().flatten().collect();
            for (value, end) in days.into_iter().filter(|(_, end)| *end > start.as_millis() + 24 * 60 * MINUTE) {
                let begin = tick(Grid::Day, Timestamp::from_millis(*end - 1), &home.zone).as_millis();
                let of_day: Vec<i64> = means.range(begin + 1..=*end).map(|(_, mean)| *mean).collect();
                let mean = (of_day.iter().sum::<i64>() as f64 / of_day.len() as f64).round() as i32;
                assert_eq!(PROPERTY.coarse(&Value::Temperature(mean)), *value, "{zone} {of_day:?}");
            }
        }
    }

    /// What follows from readings depends on nobody's asking: one home is asked at each quarter of an hour, and its twin so seldom
    /// that hours and days lie between.
    #[test]
    fn who_is_asked_and_who_is_not_say_the_same_of_hours_and_days_that_are_over() {
        for (zone, start) in [
            ("Europe/Paris", "2026-10-23T05:07:00Z"),
            ("Australia/Lord_Howe", "2026-04-02T20:07:00Z"),
            ("Australia/Lord_Howe", "2026-10-01T20:07:00Z"),
        ] {
            for (every, pause) in [(7, 1), (31, 3), (37, 40), (11, 200), (41, 600)] {
                let (mut asked, mut silent) = (empty(zone), empty(zone));
                let mut compared = 0;
                for n in 0..5 * 24 * 4_i64 {
                    let now = at(start).plus_millis(n * 15 * MINUTE);
                    if n % pause == 0 {
                        let value = Value::Temperature(20_000 + (n * 7_919 % 4_000) as i32);
                        for home in [&mut asked, &mut silent] {
                            read(home, now, value.clone());
                            read(home, now, Value::Bool(n % 2 == 0));
                        }
                    }
                    let shown = |home: &mut GateState| ALL_RUNGS.map(|rung| shown(home, rung, now.plus_millis(MINUTE)));
                    let told = shown(&mut asked);
                    if n % every == 0 {
                        assert_eq!(shown(&mut silent), told, "{zone}, {n}");
                        compared += 1;
                    }
                }
                assert!(compared > 10);
            }
        }
    }

    /// Of a day in which the hub did not run for a quarter of an hour nothing is counted, over restarts too; that a device is silent, or
    /// that the hub is started again at once, is no such gap.
    #[test]
    fn of_a_day_that_was_not_seen_whole_nothing_is_counted() {
        let day = at("2026-05-02T00:00:00Z");
        let time = |minutes: i64| day.plus_millis(minutes * MINUTE);
        const DAY: i64 = 24 * 60;
        // From and to, in minutes; whether it is started again in the gap; and of which days there is a count.
        for (gap, restarts, counted) in [
            (None, false, [true; 3]),
            (Some((DAY + 605, DAY + 607)), true, [true; 3]),
            (Some((DAY + 605, DAY + 607)), false, [true; 3]),
            (Some((DAY + 600, DAY + 615)), true, [true, false, true]),
            (Some((DAY + 600, DAY + 615)), false, [true, false, true]),
            (Some((DAY - 5, DAY + 12)), true, [false, false, true]),
            (Some((600, 2 * DAY + 60)), true, [false; 3]),
        ] {
            for asks in [false, true] {
                let mut home = empty("UTC");
                let mut writes = Vec::new();
                read(&mut home, time(-30), Value::Bool(false));
                let mut counts = Vec::new();
                for now in -20..3 * DAY + 10 {
                    if gap.is_some_and(|(from, to)| (from..to).contains(&now)) {
                        continue;
                    }
                    if let Some((_, to)) = gap
                        && restarts
                        && [to, to + 30].contains(&now)
                    {
                        let known = home.home.known(&device(), Property::ContactOpen).unwrap().clone();
                        home = empty("UTC");
                        home.home.restore(device(), Property::ContactOpen, known);
                        for StateWrite { key, json, .. } in &writes {
                            assert!(home.restore(key, json.as_deref().unwrap()));
                        }
                    }
                    // Whoever comes first after a gap: a question, or the clock.
                    let count = |home: &mut GateState| shown(home, Rung::DayCount, time(now)).map(|(value, _)| value);
                    if asks {
                        count(&mut home);
                    }
                    writes.extend(home.keep_time(time(now)));
                    if now == 500 {
                        read(&mut home, time(now), Value::Bool(true));
                    }
                    if now > DAY && now % DAY == 9 || gap.is_some_and(|(_, to)| now == to.max(DAY)) {
                        counts.push((now / DAY, count(&mut home)));
                    }
                }
                for (today, count) in counts {
                    let expected = Value::Count(u32::from(today == 1));
                    assert_eq!(count, counted[today as usize - 1].then_some(expected), "{gap:?} {restarts} {today}");
                }
            }
        }
    }

    /// In another zone the windows that were open have no end: they begin anew, and until one has closed there is no value.
    #[test]
    fn in_another_time_zone_windows_begin_anew() {
        let start = at("2026-05-02T21:05:00Z");
        let mut home = empty("Europe/Paris");
        for n in 0..60 {
            let time = start.plus_millis(n * 30 * MINUTE);
            read(&mut home, time, Value::Temperature(20_000 + n as i32));
            read(&mut home, time, Value::Bool(n % 2 == 0));
        }
        let windows = [Rung::HourMean, Rung::DayMean, Rung::DayCount, Rung::HourLate];
        let now = start.plus_millis(60 * 30 * MINUTE);
        assert!(windows.iter().all(|rung| shown(&mut home, *rung, now).is_some()));
        home.zone = TimeZone::get("Asia/Kolkata").unwrap();
        let soon = now.plus_millis(15 * MINUTE);
        assert_eq!(windows.map(|rung| shown(&mut home, rung, soon)), [const { None }; 4]);
        let later = at("2026-05-04T07:30:00Z");
        let mean = Some((Value::Temperature(20_059), later.as_millis()));
        assert_eq!((shown(&mut home, Rung::HourMean, later), shown(&mut home, Rung::DayMean, later)), (mean, None));
        // The day in which it changed was not seen whole; the next one was.
        assert_eq!(shown(&mut home, Rung::DayCount, at("2026-05-04T19:00:00Z")), None);
        let whole = at("2026-05-05T18:30:00Z");
        assert_eq!(shown(&mut home, Rung::DayCount, whole), Some((Value::Count(0), whole.as_millis())));
    }

    #[test]
    fn means_counts_and_what_is_late_are_of_what_was_and_change_at_the_tick_alone() {
        let mut home = empty("UTC");
        let (c, open) = (Value::Temperature, Value::Bool);
        let day = at("2026-05-02T00:00:00Z");
        let time = |hours: f64| day.plus_millis((hours * 60.0) as i64 * MINUTE);
        read(&mut home, time(-3.9), c(18_000));
        read(&mut home, time(-3.9), open(true));
        // Of windows that were seen in part only, there is a mean of what was known, and no count.
        assert_eq!(shown(&mut home, Rung::HourMean, time(-3.1)), None);
        assert_eq!(shown(&mut home, Rung::HourMean, time(-3.0)), Some((c(18_000), time(-3.0).as_millis())));
        assert_eq!(shown(&mut home, Rung::DayCount, time(1.0)), None);
        assert_eq!(shown(&mut home, Rung::DayMean, time(1.0)), Some((c(18_000), day.as_millis())));
        // At the quarters of this hour: 18, 20, 20, 23.
        read(&mut home, time(8.1), c(20_000));
        read(&mut home, time(8.6), c(23_000));
        assert_eq!(shown(&mut home, Rung::HourMean, time(8.9)), Some((c(18_000), time(8.0).as_millis())));
        let mean = Some((c(20_250), time(9.0).as_millis()));
        assert_eq!(shown(&mut home, Rung::HourMean, time(9.0)), mean);
        read(&mut home, time(9.5), c(5_000));
        assert_eq!(shown(&mut home, Rung::HourMean, time(9.99)), mean);
        // An hour late: what it was at nine is told from ten on.
        assert_eq!(shown(&mut home, Rung::HourLate, time(9.99)), Some((c(18_000), time(8.0).as_millis())));
        assert_eq!(shown(&mut home, Rung::HourLate, time(10.0)), Some((c(23_000), time(9.0).as_millis())));
        // With a dead band: 19.6 rounds to 20, and stays 19 for who comes from 19.
        for (hour, milli, steady) in [(11.0, 19_100, 19), (12.0, 19_600, 19), (13.0, 19_800, 20), (14.0, 19_300, 20)] {
            read(&mut home, time(hour - 0.2), c(milli));
            assert_eq!(
                shown(&mut home, Rung::HourSteady, time(hour)),
                Some((c(steady * 1000), time(hour).as_millis()))
            );
        }
        // Opened three times; what was open stays so.
        for (hour, is_open) in
            [(9.0, false), (9.1, true), (9.2, true), (9.3, false), (9.4, true), (15.0, false), (23.9, true)]
        {
            read(&mut home, time(hour), open(is_open));
        }
        assert_eq!(shown(&mut home, Rung::DayCount, time(24.1)), Some((Value::Count(3), time(24.0).as_millis())));
        read(&mut home, time(24.2), open(false));
        read(&mut home, time(24.3), open(true));
        assert_eq!(shown(&mut home, Rung::DayCount, time(40.0)), Some((Value::Count(3), time(24.0).as_millis())));
        assert_eq!(shown(&mut home, Rung::DayCount, time(50.0)), Some((Value::Count(1), time(48.0).as_millis())));
        assert_eq!(shown(&mut home, Rung::DayCount, time(100.0)), Some((Value::Count(0), time(96.0).as_millis())));
        // A day whose hours were 18 for nine, then what they were; rounded.
        let day_mean = shown(&mut home, Rung::DayMean, time(30.0));
        assert_eq!(day_mean, shown(&mut home, Rung::DayMean, time(47.9)));
        // Over a restart too, in the middle of a window and silent since.
        let known = home.home.known(&device(), PROPERTY).unwrap().clone();
        let mut again = empty("UTC");
        let json = serde_json::to_string(&known).unwrap();
        assert!(again.restore(&format!("known/d/{PROPERTY}"), &json));
        for (rung, hours) in
            [(Rung::HourMean, 50.0), (Rung::DayMean, 49.0), (Rung::HourLate, 50.0), (Rung::HourSteady, 70.0)]
        {
            assert!(shown(&mut again, rung, time(hours)).is_some());
            assert_eq!(shown(&mut again, rung, time(hours)), shown(&mut home, rung, time(hours)), "{rung}");
        }
    }
}

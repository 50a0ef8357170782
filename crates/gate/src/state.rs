//! What the gate knows: the home, the table, the links, and what each link was told last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use disclosure::Capability;
use home::{HomeState, Known, Reading, Registered, Registry, RegistryError, Sample, Update};
use jiff::tz::TimeZone;
use links::Links;
use model::{ALL_TRIGGERS, DeviceId, Grid, HouseholdId, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use policy::{DeviceFact, Facts, LinkFact, Table};
use serde::{Deserialize, Serialize};

use crate::clock::{GRIDS, REPORT_GRID_MS, tick};
use crate::once::Lately;
use crate::shape::shape;

/// A change of what the gate remembers, to be stored in the same transaction as the INTENT of the message that
/// depends on it: after a crash the same tick must show the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Where: `known/DEVICE/PROPERTY`, `told/LINK/DEVICE/PROPERTY/TRIGGER`, `link/LINK` or `clock`.
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
    pub fn keep_time(&mut self, now: Timestamp) -> Option<StateWrite> {
        let tick = self.advance(now).floor_to(KEEP_TIME_MS);
        if tick <= self.kept {
            return None;
        }
        self.kept = tick;
        Some(StateWrite::new(CLOCK.to_owned(), tick.as_millis().to_string()))
    }

    /// Takes a reading in. Its time is never before that of an earlier reading of the same property.
    pub fn report(&mut self, mut reading: Reading) -> Update {
        let before = self.home.reported(&reading.device, reading.property).map(|s| s.time);
        reading.time = reading.time.max(self.latest).max(before.unwrap_or_default());
        let ticks = GRIDS.map(|grid| (grid, tick(grid, reading.time, &self.zone)));
        self.home.report(reading, &ticks)
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
            let is_told = table.decide(link, device, *property, *trigger).rung.is_ok();
            if !is_told {
                writes.push(StateWrite { key: told_key(key), json: None, debt: Debt::None });
            }
            is_told
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
                    let rung = |t: &Table| t.decide(link, device, property, trigger).rung.ok();
                    if rung(self.table.promised()).is_none() && rung(table).is_some_and(|r| r != Rung::Live) {
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
            if newer && rung.is_ok_and(|r| r != Rung::Live) {
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
        let tick = tick(grid, now, &self.zone);
        let held = self.home.at_tick(device, property, grid, tick);
        let cell = (device.clone(), property);
        let mut writes = Vec::new();
        if held.is_some() && self.stored.get(&cell) != Some(&(grid, tick)) {
            let known = self.home.known(device, property);
            writes.extend(known.and_then(|k| known_write(device, property, k, (grid, tick))));
        }
        let key = (link.clone(), device.clone(), property, trigger);
        let told = self.told.get(&key).filter(|told| told.sample.time > tick);
        if self.owed.contains(&key) {
            writes.extend(told.and_then(|told| told_write(&key, told)));
        }
        let sample = match told {
            Some(Told { sample, exact: true }) => Some(sample.clone()),
            Some(Told { sample, exact: false }) => Some(shape(property, sample.clone(), rung)),
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
                true
            }
            _ => false,
        }
    }
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
        let capability = Capability {
            property,
            poll: table.decide(link, device, property, Trigger::PartnerPoll).rung.is_ok(),
            proactive: reports && table.decide(link, device, property, Trigger::ProactiveReport).rung.is_ok(),
            command: takes && table.may(link, device, property, false).is_ok(),
            command_open: takes && table.may(link, device, property, true).is_ok(),
        };
        let told = capability.poll || capability.proactive;
        if told || capability.command || capability.command_open || property == Property::Reachable {
            capabilities.push(capability);
        }
    }
    capabilities
}

/// Whether a link may know that there is this device: its type is granted, and something that it can do or be told.
pub(crate) fn announced(table: &Table, link: &LinkId, device: &DeviceId, capabilities: &[Capability]) -> bool {
    let told = |c: &Capability| (c.poll || c.proactive) && c.property != Property::Reachable;
    let speaks = |c: &Capability| c.command || c.command_open || told(c);
    let is_typed = table.decide(link, device, Property::DeviceTypeName, Trigger::Discovery).rung.is_ok();
    is_typed && capabilities.iter().any(speaks)
}

/// Key of the stored time.
const CLOCK: &str = "clock";

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

//! What the gate knows: the home, the table, the links, and what each link was told last.

use std::collections::BTreeMap;
use std::sync::Arc;

use home::{HomeState, Known, Reading, Registered, Registry, RegistryError, Sample, Update};
use jiff::tz::TimeZone;
use links::Links;
use model::{DeviceId, Grid, HouseholdId, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use policy::{DeviceFact, Facts, LinkFact, Table};

use crate::clock::{GRIDS, tick};
use crate::once::Lately;

/// A change of what the gate remembers, to be stored in the same transaction as the INTENT of the message that
/// depends on it: after a crash the same tick must show the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// Where: `known/DEVICE/PROPERTY` or `told/LINK/DEVICE/PROPERTY`.
    pub key: String,
    /// JSON.
    pub json: String,
}

/// What the gate knows. One per household; shared behind a lock that is held for one look-up at a time.
pub struct GateState {
    /// The newest readings.
    pub home: HomeState,
    /// The devices.
    pub registry: Registry,
    /// The links and what they call the devices.
    pub links: Links,
    table: Arc<Table>,
    zone: TimeZone,
    /// A value that a link has just set, was just told, or that was true when it was granted: it stands in for the
    /// held sample of that link until the next tick.
    told: BTreeMap<(LinkId, DeviceId, Property), Sample>,
    /// The latest time seen: a clock that steps back never shows an older tick.
    latest: Timestamp,
    /// Which ticks of `known` have been given out for storing, so that a poll stores nothing new.
    stored: BTreeMap<(DeviceId, Property), (Grid, Timestamp)>,
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
            table,
            zone,
            told: BTreeMap::new(),
            latest: Timestamp::default(),
            stored: BTreeMap::new(),
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

    /// The home's time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// What there is to decide about, for compiling the table.
    pub fn facts(&self, household: HouseholdId, is_gatekeeper: impl Fn(&PartnerId) -> bool) -> Facts {
        let links = self
            .links
            .iter()
            .map(|l| LinkFact { link: l.id.clone(), partner: l.partner.clone(), gatekeeper: is_gatekeeper(&l.partner) })
            .collect();
        let devices = self
            .registry
            .iter()
            .map(|(id, known)| DeviceFact {
                device: id.clone(),
                device_type: known.device_type(),
                properties: of_device(known).map(|p| (p, known.kind(p))).collect(),
            })
            .collect();
        Facts { household, links, devices }
    }

    /// The time to answer at: never earlier than any before.
    pub fn advance(&mut self, now: Timestamp) -> Timestamp {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// Takes a reading in.
    pub fn report(&mut self, mut reading: Reading) -> Update {
        reading.time = self.advance(reading.time);
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

    /// Puts a new table in force. What a link may newly poll on a grid starts with what is true now ("the first reading
    /// after a grant answers at once and is held until the next tick"); what it may poll no longer is forgotten.
    pub fn replace_table(&mut self, table: Arc<Table>, now: Timestamp) -> Vec<StateWrite> {
        let now = self.advance(now);
        let mut writes = Vec::new();
        let links: Vec<LinkId> = self.links.iter().map(|l| l.id.clone()).collect();
        let cells: Vec<(DeviceId, Property)> = properties(&self.registry).map(|(d, _, p)| (d.clone(), p)).collect();
        for link in &links {
            for (device, property) in &cells {
                let rung = |t: &Table| t.decide(link, device, *property, Trigger::PartnerPoll).rung.ok();
                let (before, after) = (rung(&self.table), rung(&table));
                let key = (link.clone(), device.clone(), *property);
                match (before, after) {
                    (None, Some(rung)) if rung != Rung::Live => {
                        if let Some(sample) = self.home.reported(device, *property) {
                            let sample = Sample { value: sample.value.clone(), time: now };
                            writes.extend(told_write(&key, &sample));
                            self.told.insert(key, sample);
                        }
                    }
                    (Some(_), None) => {
                        self.told.remove(&key);
                    }
                    _ => {}
                }
            }
        }
        self.told.retain(|(link, _, _), _| links.contains(link));
        self.table = table;
        writes
    }

    /// Notes that a link has set or was told a value: it replaces its held sample at once.
    pub(crate) fn tell(
        &mut self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        sample: Sample,
    ) -> Option<StateWrite> {
        let key = (link.clone(), device.clone(), property);
        let write = told_write(&key, &sample);
        self.told.insert(key, sample);
        write
    }

    /// The sample that a rung would show this link at `now`, exact, with what must be stored along with it.
    pub(crate) fn sample(
        &mut self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        rung: Rung,
        now: Timestamp,
    ) -> (Option<Sample>, Option<StateWrite>) {
        let grid = rung.grid();
        if grid == Grid::None {
            return (self.home.reported(device, property).cloned(), None);
        }
        let tick = tick(grid, now, &self.zone);
        let held = self.home.at_tick(device, property, grid, tick);
        let cell = (device.clone(), property);
        let write = if held.is_some() && self.stored.get(&cell) != Some(&(grid, tick)) {
            self.stored.insert(cell, (grid, tick));
            self.home.known(device, property).and_then(|k| known_write(device, property, k))
        } else {
            None
        };
        let told = self.told.get(&(link.clone(), device.clone(), property)).filter(|s| s.time > tick);
        (told.cloned().or(held), write)
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
                let newer = |k: &Known| k.reported.as_ref().map(|s| s.time);
                if self.home.known(&device, p).is_none_or(|old| newer(old) <= newer(&known)) {
                    self.home.restore(device, p, known);
                }
                true
            }
            ["told", link, device, p] => {
                let (Ok(link), Ok(device), Some(p), Ok(sample)) =
                    (LinkId::new(*link), DeviceId::new(*device), property(p), serde_json::from_str::<Sample>(json))
                else {
                    return false;
                };
                self.told.insert((link, device, p), sample);
                true
            }
            _ => false,
        }
    }
}

/// Every property of every device, metadata and reachability too.
pub(crate) fn properties(registry: &Registry) -> impl Iterator<Item = (&DeviceId, &Registered, Property)> {
    registry.iter().flat_map(|(id, known)| of_device(known).map(move |p| (id, known, p)))
}

/// Every property of a device, in the order of the table.
pub(crate) fn of_device(known: &Registered) -> impl Iterator<Item = Property> {
    model::ALL_PROPERTIES
        .iter()
        .copied()
        .filter(|p| p.is_metadata() || *p == Property::Reachable || known.description.properties.contains_key(p))
}

fn told_write((link, device, property): &(LinkId, DeviceId, Property), sample: &Sample) -> Option<StateWrite> {
    let json = serde_json::to_string(sample).ok()?;
    Some(StateWrite { key: format!("told/{link}/{device}/{property}"), json })
}

/// The stored form of what is known of one property.
pub(crate) fn known_write(device: &DeviceId, property: Property, known: &Known) -> Option<StateWrite> {
    let json = serde_json::to_string(known).ok()?;
    Some(StateWrite { key: format!("known/{device}/{property}"), json })
}

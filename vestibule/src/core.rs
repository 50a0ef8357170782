//! The hub's heart: home state, links, grants and ledger of one household, over one data directory. A running hub and
//! the command line alone use the same; only one of them at a time, by the lock on the directory.

#![expect(clippy::indexing_slicing, reason = "a key that JSON has not is null, no panic")]

mod consent;
mod grants;
mod linking;
mod owed;
mod pins;
mod renewal;
mod simulate;
mod suggest;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use comfort::Caller;
use devices::mqtt::broker::{self, DeviceUsers};
use devices::{Counters, DropReason};
use egress::{Door, Ended, EventLines, EventSettings, Gateways, RecordError, Recorder, Region, Tally};
use gate::{GateState, StateWrite};
use home::{Description, Reading, Registered, RegistryError, Update};
use ledger::{Body, Digest, Draft, LinkEvent, Receipt};
use links::{LINKS_MAX, Limiter, Link};
use model::{Clock, DeviceId, GrantId, HouseholdId, LinkId, MemberId, PartnerId, Property, Timestamp};
use policy::{Change, Grant, Moment, Name, Profile, Table, Windows};
use serde_json::{Value, json};
use store::ledger::{Append, Filter, LedgerWriter, Opening};
use store::{History, Store};

use crate::audit;
use crate::clock::NotBefore;
use crate::commands::{Login, Request};
use crate::config::{Config, Mqtt};
use crate::observed::Observed;
use crate::thermostat::unit::{Order, Times, Unit};
use consent::{By, Household};
pub use linking::Role;
use owed::{Entries, Owed};
use renewal::Renewal;

/// The only household of a self-hosted hub.
const HOUSEHOLD: &str = "home";

/// The member in whose name the command line acts: whoever may read the data directory.
const OWNER: &str = "owner";

/// Bytes of the broker password that `devices add` makes.
const PASSWORD_BYTES: usize = 18;

/// The signing key in the data directory.
pub const KEY_FILE: &str = "signing.key";

/// How often devices are stored before a grant, while they go on describing themselves.
const SAVE_TRIES: usize = 16;

/// Rooms that are named where somebody has named one that is not there.
const ROOMS_NAMED_MAX: usize = 16;

/// Longest name that the household gives, in characters.
const NAME_MAX_CHARS: usize = 128;

/// What was taken back and could not be recorded, in the data directory.
const OWED_FILE: &str = "taken-back";

/// How long an order waits for the thermostat's next step.
const STEP_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How the hub's name at the broker begins.
const CLIENT_ID_PREFIX: &str = "vestibule-";

/// What runs beside the core when the hub is up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Running {
    /// The broker is connected.
    pub devices: bool,
    /// Both listeners are up.
    pub listeners: bool,
}

/// One household's hub without its sockets.
pub struct Core {
    data: PathBuf,
    config: Config,
    household: HouseholdId,
    client_id: String,
    users: DeviceUsers,
    clock: Arc<dyn Clock>,
    /// Shared with egress, which holds it for one look-up at a time.
    pub gate: Arc<Mutex<GateState>>,
    /// Readings over time.
    pub history: History,
    /// What partners asked.
    pub tally: Arc<Tally>,
    writer: LedgerWriter,
    grants: Mutex<BTreeMap<GrantId, Grant>>,
    /// Windows that the household has opened.
    windows: Mutex<Windows>,
    /// What is set of their buttons.
    buttons: Mutex<BTreeMap<Name, Button>>,
    /// The buttons that have been announced at the broker.
    announced_buttons: Mutex<BTreeSet<String>>,
    /// What is told unasked, link by link.
    pub events: Arc<EventLines>,
    /// Amazon's addresses and the skill's secrets, if they are set.
    event_settings: Option<EventSettings>,
    /// Who may link partners.
    members: Mutex<BTreeMap<MemberId, linking::Member>>,
    /// What waits for other owners, and what members are told.
    consent: Mutex<Household>,
    /// The links' PINs.
    pins: Mutex<BTreeMap<LinkId, links::pin::Pin>>,
    /// One PIN is looked at at a time. Taken after `tokens`, if both are.
    pin_checks: tokio::sync::Mutex<()>,
    /// One change of links, grants or devices at a time.
    changing: tokio::sync::Mutex<()>,
    /// One change of tokens at a time, from memory to the store. Taken after `changing`, if both are.
    tokens: tokio::sync::Mutex<()>,
    /// When ends that come near were said last.
    announced: Mutex<Option<Timestamp>>,
    /// Where the partners' listener is, once it is.
    partners_at: OnceLock<SocketAddr>,
    /// Something changed that the table is compiled from.
    stale: std::sync::atomic::AtomicBool,
    /// Whether time stood when the table was compiled.
    stood: std::sync::atomic::AtomicBool,
    /// Devices whose description is not stored yet.
    unsaved: Mutex<BTreeSet<DeviceId>>,
    /// What devices can tell or do since they were stored last, and members have not been told of.
    newcomers: Mutex<consent::Newcomers>,
    /// One edit of what members are told at a time. Taken after `changing`, if both are.
    telling: tokio::sync::Mutex<()>,
    running: Mutex<Running>,
    doors: Mutex<Vec<Arc<Door>>>,
    counters: Arc<Counters>,
    readings: Mutex<BTreeMap<DeviceId, BTreeMap<model::Property, u64>>>,
    /// Why devices were not taken in, each said once.
    said: Mutex<BTreeSet<DropReason>>,
    verified: Mutex<Option<bool>>,
    observed: Mutex<Observed>,
    /// Wrong passwords with orders: each member's, and those of names that nobody has.
    order_logins: (Mutex<Limiter>, Mutex<Limiter>),
    /// What was taken back and could not be recorded.
    owed: Owed,
    /// What was agreed to for links that are renewed, until the partner fetches its tokens.
    renewals: Mutex<BTreeMap<LinkId, Renewal>>,
    ceiling: Option<String>,
    /// The home's thermostats.
    thermostats: Vec<Arc<Unit>>,
    /// Held until the process ends, whatever ends it.
    _lock: File,
}

/// What decides a cell fits into the record of a message.
const _: () = assert!(policy::CELL_POLICIES_MAX <= ledger::limits::POLICIES_MAX);

/// Gives the ledger to egress.
pub struct LedgerRecorder(LedgerWriter);

impl Recorder for LedgerRecorder {
    async fn record(&self, drafts: Vec<Draft>, writes: Vec<StateWrite>) -> Result<Vec<Receipt>, RecordError> {
        let held = held(writes);
        self.0.append(Append { drafts, held }).await.map_err(|error| {
            tracing::error!(%error, "nothing leaves: the ledger could not record");
            RecordError
        })
    }

    fn note(&self, draft: Draft) {
        // The writer counts and logs what it loses; the outcome is then unknown.
        let _ = self.0.append_nowait(vec![draft]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no randomness: {e}"))?;
    Ok(bytes)
}

/// A short random id.
///
/// # Errors
/// When the system gives no randomness.
pub fn random_id(prefix: &str) -> Result<String, String> {
    let hex: String = random::<6>()?.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{prefix}-{hex}"))
}

impl Core {
    /// Opens a data directory for the command line; `make` says whether one may be made that is not there.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when there is none and none may be made.
    pub async fn open_for(data: &Path, config: Config, make: bool) -> Result<Arc<Self>, String> {
        if !make && !data.is_dir() {
            return Err(format!(
                "there is no data directory `{}`: give that of your hub with --data, or start a hub with `vestibule serve`",
                data.display()
            ));
        }
        Self::open(data, config, Arc::new(crate::clock::WallClock::new())).await
    }

    /// Opens a data directory, making it if it is not there.
    ///
    /// # Errors
    /// When another hub runs on it, or it can't be read or written.
    pub async fn open(data: &Path, config: Config, clock: Arc<dyn Clock>) -> Result<Arc<Self>, String> {
        let failed = |what: &str, e: std::io::Error| format!("`{}`: {what}: {e}", data.display());
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .map_err(|e| failed("the data directory can't be made", e))?;
        let lock_file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(data.join("lock"))
            .map_err(|e| failed("the data directory can't be written", e))?;
        lock_file.try_lock().map_err(|_| {
            format!("`{}` is in use by another vestibule; stop it, or choose another --data", data.display())
        })?;
        let seed = signing_key(&data.join(KEY_FILE)).map_err(|e| failed("the signing key", e))?;
        let client_id = client_id(&data.join("client.id")).map_err(|e| failed("the name of the MQTT client", e))?;
        let household = HouseholdId::new(HOUSEHOLD).map_err(|e| e.to_string())?;
        let damaged = |e: &dyn std::error::Error| format!("{}; if it is damaged, put a backup in its place", chain(e));
        let store = Store::open(&config.store_url(data)).map_err(|e| damaged(&e))?;
        let opening = Opening { household: household.clone(), seed, begin: Some(clock.now()) };
        let writer = LedgerWriter::open(&store, &opening).map_err(|e| damaged(&e))?;
        let mut stored: BTreeMap<String, String> =
            writer.reader().load_held().map_err(|e| chain(&e))?.into_iter().collect();
        let (owed, otherwise) = Owed::open(&data.join(OWED_FILE), &mut stored)?;
        let (history, known) = History::open(&data.join("history.db")).map_err(|e| chain(&e))?;
        let ceiling = match &config.ceiling {
            None => None,
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .map_err(|e| format!("`{}`: the ceiling can't be read: {e}", path.display()))?,
            ),
        };
        let empty = policy::compile(&policy::Facts::empty(household.clone()), &[], ceiling.as_deref(), clock.now())
            .map_err(|e| chain(&e))?;
        let mut gate = GateState::new(config.timezone.clone(), Arc::new(empty));
        for row in known {
            gate.home.restore(row.device, row.property, row.known);
        }
        let event_settings = event_settings(&config)?;
        let events = Arc::new(EventLines::default());
        let users = DeviceUsers::default();
        let (mut grants, mut members, mut renewals) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut windows = Windows::new();
        let mut consent = Household::default();
        let (mut pins, mut buttons, mut announced_buttons) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for (key, value) in stored {
            if let Some(name) = key.strip_prefix("mqttuser/") {
                let hash = serde_json::from_str(&value).map_err(|e| format!("the store holds `{key}` wrongly: {e}"))?;
                users.insert(name.to_owned(), hash);
            } else if let Some(read) = events.restore(&key, &value) {
                if !read {
                    return Err(format!("the store holds `{key}`, which this version can't read"));
                }
            } else if let Some(read) = consent.restore(&key, &value).or_else(|| pins::restore(&mut pins, &key, &value))
            {
                if !read {
                    return Err(unreadable(&key));
                }
            } else if let Some(name) = key.strip_prefix(WINDOW) {
                let until = name.parse().ok().zip(serde_json::from_str(&value).ok().map(Timestamp::from_millis));
                windows.extend([until.ok_or_else(|| unreadable(&key))?]);
            } else if let Some(name) = key.strip_prefix(BUTTON) {
                let button = name.parse().ok().zip(serde_json::from_str(&value).ok());
                buttons.extend([button.ok_or_else(|| unreadable(&key))?]);
            } else if key == BUTTONS {
                announced_buttons = serde_json::from_str(&value).map_err(|_| unreadable(&key))?;
            } else if let Some(link) = key.strip_prefix(renewal::PREFIX) {
                renewal::restore(&mut renewals, link, &value).ok_or_else(|| unreadable(&key))?;
            } else if !restore(&mut gate, &mut grants, &mut members, &key, &value) {
                return Err(unreadable(&key));
            }
        }
        // The hub's time was kept with all that depends on it.
        let clock: Arc<dyn Clock> = Arc::new(NotBefore::new(clock, gate.time()));
        let has_expired = grants.values().any(|g| !g.holds_at(clock.now()));
        let thermostats = Unit::open_all(data, &config.thermostats, &config.timezone, &client_id, clock.now())?;
        let core = Arc::new(Self {
            data: data.to_owned(),
            config,
            household,
            client_id,
            users,
            clock,
            gate: Arc::new(Mutex::new(gate)),
            history,
            tally: Arc::new(Tally::default()),
            writer,
            grants: Mutex::new(grants),
            windows: Mutex::new(windows),
            buttons: Mutex::new(buttons),
            announced_buttons: Mutex::new(announced_buttons),
            events,
            event_settings,
            members: Mutex::new(members),
            consent: Mutex::new(consent),
            pins: Mutex::new(pins),
            pin_checks: tokio::sync::Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            tokens: tokio::sync::Mutex::default(),
            announced: Mutex::default(),
            partners_at: OnceLock::new(),
            // What expired while no hub ran is ended by the scheduler's first look.
            stale: std::sync::atomic::AtomicBool::new(has_expired),
            stood: std::sync::atomic::AtomicBool::default(),
            unsaved: Mutex::default(),
            newcomers: Mutex::default(),
            telling: tokio::sync::Mutex::default(),
            running: Mutex::default(),
            doors: Mutex::default(),
            counters: Arc::new(Counters::default()),
            readings: Mutex::default(),
            said: Mutex::default(),
            verified: Mutex::default(),
            observed: Mutex::default(),
            order_logins: (
                Mutex::new(Limiter::new(egress::LOGIN_BURST, egress::LOGIN_INTERVAL_MS, egress::OAUTH_KEYS_MAX)),
                Mutex::new(Limiter::new(egress::LOGIN_ALL_BURST, egress::LOGIN_ALL_INTERVAL_MS, 1)),
            ),
            owed,
            renewals: Mutex::new(renewals),
            ceiling,
            thermostats: thermostats.into_iter().map(Arc::new).collect(),
            _lock: lock_file,
        });
        core.restore_demands()?;
        let table = core.compile()?;
        let mut writes = core.state().resume(Arc::new(table));
        if core.event_settings.is_some() {
            for link in core.events.linked() {
                writes.extend(core.state().set_reporting(&link, true));
            }
        }
        let mut entries = held(writes);
        // A PIN that is left of a link that has ended opens nothing.
        lock(&core.pins).retain(|link, _| {
            let is_there = core.state().links.get(link).is_some();
            if !is_there {
                entries.push((pins::key(link), None));
            }
            is_there
        });
        // With what is owed, before anything else happens.
        let leaves = core.leaves_of_what_was_otherwise(&otherwise)?;
        core.append(leaves, entries).await?;
        Ok(core)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The time, and the time of day as the system tells it.
    pub fn times(&self) -> Times {
        Times { now: self.clock.now(), wall: self.clock.told() }
    }

    /// The clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Drops by reason, shared with the device room.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Kinds of the properties that are known, so that a device can't change them while the hub is down.
    pub fn pins(&self) -> BTreeMap<(DeviceId, model::Property), model::Kind> {
        let gate = self.state();
        let all = gate.registry.iter();
        all.flat_map(|(id, d)| d.pins.keys().map(|p| ((id.clone(), *p), d.kind(*p)))).collect()
    }

    /// The gate's state, for one look.
    pub fn state(&self) -> MutexGuard<'_, GateState> {
        lock(&self.gate)
    }

    /// The ledger for egress.
    pub fn recorder(&self) -> Arc<LedgerRecorder> {
        Arc::new(LedgerRecorder(self.writer.clone()))
    }

    /// The name of the home's time zone.
    pub fn zone_name(&self) -> String {
        self.config.timezone.iana_name().unwrap_or("UTC").to_owned()
    }

    /// Records what waits and closes the files.
    pub async fn close(&self) {
        self.save_devices().await;
        self.flush_refusals().await;
        self.history.flush().await;
        let writer = self.writer.clone();
        let _ = tokio::task::spawn_blocking(move || writer.close()).await;
    }

    /// The thermostats that this hub runs: those that are configured.
    pub fn thermostats(&self) -> &[Arc<Unit>] {
        if self.config.thermostats.is_empty() { &[] } else { &self.thermostats }
    }

    /// The thermostat of this name; without a name the only one.
    fn thermostat(&self, name: Option<&str>) -> Result<Arc<Unit>, String> {
        let names = || self.thermostats.iter().map(|u| u.setup().name.clone()).collect::<Vec<_>>().join(", ");
        match (name, &self.thermostats[..]) {
            (_, []) => Err("there is no thermostat: write [[thermostat]] into the hub's configuration \
                            (`vestibule check --example` shows it)"
                .into()),
            (None, [only]) => Ok(Arc::clone(only)),
            (None, _) => Err(format!("there are several thermostats: say which with --thermostat: {}", names())),
            (Some(name), all) => {
                let found = all.iter().find(|u| u.setup().name.eq_ignore_ascii_case(name));
                found.cloned().ok_or_else(|| format!("there is no thermostat `{name}`; there is {}", names()))
            }
        }
    }

    /// The file of a thermostat's history: of the only one, of the one of this name; where there is none, of the first.
    fn thermostat_file(&self, name: Option<&str>) -> Result<PathBuf, String> {
        if self.thermostats.is_empty() && name.is_none() {
            return Ok(self.data.join(crate::thermostat::FILE));
        }
        self.thermostat(name).map(|unit| unit.path.clone())
    }

    /// Whether the broker is connected.
    pub fn devices_are_up(&self) -> bool {
        lock(&self.running).devices
    }

    /// What is needed to tell Alexa anything unasked, if it is set.
    pub fn event_settings(&self) -> Option<EventSettings> {
        self.event_settings.clone()
    }

    /// Waits for a change of links or grants to be recorded; as long as this is held, no other begins.
    pub async fn between_changes(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Unlinks what the partner itself has ended.
    pub async fn ended(&self, link: &LinkId, why: Ended) {
        tracing::warn!(%link, "{}: the link is ended", why.words());
        if let Err(error) = self.unlink(link.clone()).await {
            tracing::error!(%link, %error, "a link that the partner has ended could not be unlinked");
        }
    }

    /// Notes what is up.
    pub fn set_running(&self, change: impl FnOnce(&mut Running)) {
        change(&mut lock(&self.running));
    }

    /// Notes a listener's door, for the metrics.
    pub fn watch_door(&self, door: Arc<Door>) {
        lock(&self.doors).push(door);
    }

    /// Notes where the partners' listener is.
    pub fn set_partners(&self, at: SocketAddr) {
        let _ = self.partners_at.set(at);
    }

    /// Whether devices, store and listeners are up; else what is down.
    ///
    /// # Errors
    /// The names of what is down.
    pub fn healthy(&self) -> Result<(), Vec<String>> {
        let running = *lock(&self.running);
        let store = self.writer.reader().size().is_ok() && !self.writer.stats().failing;
        let down: Vec<String> = [("devices", running.devices), ("store", store), ("listeners", running.listeners)]
            .into_iter()
            .filter(|(_, up)| !up)
            .map(|(name, _)| name.to_owned())
            .collect();
        if down.is_empty() { Ok(()) } else { Err(down) }
    }

    /// Moves the gate's time on; called by the clock alone.
    ///
    /// # Errors
    /// When the time can't be stored.
    pub async fn keep_clock(&self) -> Result<(), String> {
        let now = self.now();
        let write = self.state().keep_time(now);
        self.put(held(write)).await
    }

    // ---- Devices ----

    /// Takes a reading in: home state at once, history within a second.
    pub async fn report(&self, reading: Reading) {
        let (device, property) = (reading.device.clone(), reading.property);
        let (update, known) = {
            let mut gate = self.state();
            // Of a device that is not known nothing is kept: there is no end of such names.
            if gate.registry.get(&device).is_none() {
                self.counters.count(DropReason::NoSuchDevice, None);
                return;
            }
            *lock(&self.readings).entry(device.clone()).or_default().entry(property).or_default() += 1;
            let update = gate.report(reading);
            (update, gate.home.known(&device, property).cloned())
        };
        match (update, known) {
            (Update::Stale, _) | (_, None) => {}
            (update, Some(known)) => {
                if self.history.note(device, property, known, update == Update::Changed).await.is_err() {
                    tracing::error!("the history has stopped");
                }
            }
        }
    }

    /// Takes devices' descriptions in, or that they have withdrawn them (none). They are stored within a second
    /// ([`Core::save_devices`]), many in one commit: a device that describes itself anew all the time must not hold the
    /// readings of others back. Before anything is granted it is stored, so that its kinds are pinned for as long as a grant
    /// holds.
    pub async fn describe(&self, devices: Vec<(DeviceId, Option<Description>)>) {
        let shape = |gate: &GateState, device: &DeviceId| {
            // With what can be commanded: a device that is announced by it is numbered with the next table.
            gate.registry.get(device).map(|d| (d.present, d.device_type(), d.description.properties.clone()))
        };
        let mut granted: BTreeSet<DeviceId> = lock(&self.grants).values().map(|g| g.device.clone()).collect();
        granted.extend(lock(&self.renewals).values().flat_map(Renewal::devices).cloned());
        granted.extend(lock(&self.consent).pending.values().map(|p| p.grant.device.clone()));
        let mut forgotten = Vec::new();
        let has_members = !lock(&self.members).is_empty();
        {
            let mut gate = self.state();
            for (device, description) in devices {
                let before = shape(&gate, &device);
                let pins = gate.registry.get(&device).map(|d| d.pins.keys().copied().collect::<BTreeSet<_>>());
                let room = gate.registry.get(&device).map(|d| d.room().map(str::to_owned));
                let done = match description {
                    Some(description) => match gate.describe(&device, description.clone()) {
                        Err(RegistryError::TooManyDevices) => {
                            match gate.registry.make_room(|id| granted.contains(id)) {
                                Some((gone, known)) => {
                                    gate.forget(&gone);
                                    self.owed.later(Vec::new(), keys_of(&gone, &known));
                                    lock(&self.newcomers).forget(&gone);
                                    forgotten.push(gone);
                                    gate.describe(&device, description)
                                }
                                None => Err(RegistryError::TooManyDevices),
                            }
                        }
                        done => done,
                    },
                    None => Ok(gate.registry.withdraw(&device)),
                };
                match done {
                    Ok(true) => {
                        // To who becomes a member later it is no news.
                        let known = gate.registry.get(&device).filter(|_| has_members);
                        if let (Some(_), Some(room)) = (known, room.flatten()) {
                            lock(&self.newcomers).described(&device, room);
                        }
                        lock(&self.newcomers).note(&device, pins, known.into_iter().flat_map(|d| d.pins.keys()));
                        if before != shape(&gate, &device) {
                            self.mark_stale();
                        }
                        lock(&self.unsaved).insert(device);
                    }
                    Ok(false) => {}
                    Err(error) => self.not_taken(&device, &error),
                }
            }
        }
        for device in forgotten {
            if self.history.forget(device).await.is_err() {
                tracing::error!("the history has stopped");
            }
        }
    }

    /// Counts a description that was not taken; the first of each reason is logged.
    fn not_taken(&self, device: &DeviceId, error: &RegistryError) {
        let reason = match error {
            RegistryError::TooManyDevices => DropReason::TooManyDevices,
            RegistryError::TooManyProperties => DropReason::TooManyEntities,
            RegistryError::KindChanged { .. } => DropReason::ConfigInvalid,
        };
        self.counters.count(reason, None);
        if lock(&self.said).insert(reason) {
            tracing::warn!(%device, %error, "a device was not taken in; more of them are only counted, as `{reason}`");
        }
    }

    /// Stores the descriptions that have changed.
    pub async fn save_devices(&self) {
        // One that is under way ends first: what it has taken out is stored by then, or is here again.
        let _telling = self.telling.lock().await;
        let unsaved = std::mem::take(&mut *lock(&self.unsaved));
        if unsaved.is_empty() {
            return;
        }
        let mut held: Entries = {
            let gate = self.state();
            let json = |d: &DeviceId| gate.registry.get(d).and_then(|d| serde_json::to_string(d).ok());
            unsaved.iter().map(|d| (format!("device/{d}"), json(d))).collect()
        };
        // Members are told in the same transaction: what is known to the home is announced, whatever happens.
        let mut newcomers = std::mem::take(&mut *lock(&self.newcomers));
        let told = self.announced(&mut newcomers);
        held.extend(told.clone());
        // Nothing of it is owed: it is tried again as a whole.
        match self.try_append(&[], &held).await {
            Ok(_) => self.keep(&told),
            Err(error) => {
                tracing::error!(%error, "devices' descriptions could not be stored yet");
                lock(&self.unsaved).extend(unsaved);
                lock(&self.newcomers).again(newcomers);
            }
        }
    }

    fn mark_stale(&self) {
        self.stale.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    // ---- Policy ----

    /// Compiles the table from what is known and granted now.
    fn compile(&self) -> Result<Table, String> {
        let facts = self.facts();
        let grants: Vec<Grant> = lock(&self.grants).values().cloned().collect();
        let windows = lock(&self.windows).clone();
        table_at(&facts, grants, self.ceiling.as_deref(), self.at_moment(&windows, self.now())).map_err(|e| chain(&e))
    }

    /// The same on a thread of its own: of a large home it takes long, and answers don't wait for it.
    async fn compile_aside(&self, grants: Vec<Grant>, now: Timestamp) -> Result<Table, String> {
        let windows = lock(&self.windows).clone();
        self.compile_under(grants, windows, now).await
    }

    /// The same, with other windows open.
    async fn compile_under(&self, grants: Vec<Grant>, windows: Windows, now: Timestamp) -> Result<Table, String> {
        // Such a grant is in no table, so none would be due for it.
        if grants.iter().any(|g| !g.holds_at(now)) {
            self.mark_stale();
        }
        let (facts, ceiling, zone) = (self.facts(), self.ceiling.clone(), self.config.timezone.clone());
        let stands = self.clock.stands();
        let compiled = tokio::task::spawn_blocking(move || {
            table_at(&facts, grants, ceiling.as_deref(), Moment { now, zone: &zone, windows: &windows, stands })
        });
        compiled.await.map_err(|e| e.to_string())?.map_err(|e| chain(&e))
    }

    fn at_moment<'a>(&'a self, windows: &'a Windows, now: Timestamp) -> Moment<'a> {
        Moment { now, zone: &self.config.timezone, windows, stands: self.clock.stands() }
    }

    fn facts(&self) -> policy::Facts {
        let gate = self.state();
        gate.facts(self.household.clone(), links::is_gatekeeper)
    }

    /// How long nothing is due, at most so long, and never no time at all.
    pub fn idle(&self, at_most: Duration) -> Duration {
        let next = self.state().table().next_change();
        let left = next.map(|t| u64::try_from(t.as_millis() - self.now().as_millis()).unwrap_or(0));
        left.map_or(at_most, |ms| at_most.min(Duration::from_millis(ms.max(10))))
    }

    /// Recompiles when devices have come, a grant has expired, one that waited takes force, or hours or a window have begun or
    /// ended. Called by the scheduler.
    /// What ends is refused before that is recorded, what begins is told after.
    pub async fn recompile_if_due(&self) -> Result<(), String> {
        use std::sync::atomic::Ordering::SeqCst;
        let stands = self.clock.stands();
        let is_due = self.state().table().next_change().is_some_and(|t| t <= self.now());
        if !(is_due || self.stale.load(SeqCst) || stands != self.stood.load(SeqCst) || self.is_pending_due(self.now()))
        {
            return Ok(());
        }
        // Before anything is told of a device its kinds are pinned.
        self.save_devices().await;
        let _one = self.changing.lock().await;
        self.stale.store(false, SeqCst);
        self.stood.store(stands, SeqCst);
        // The moment is that of the work: while this waited another change may have been made for a later one.
        let now = self.now();
        let mut done = self.bring_in_due(now).await;
        // What ends does not wait for what begins.
        done = self.renew_table(now).await.and(done);
        if done.is_err() {
            self.mark_stale();
        }
        done
    }

    /// Does what is due before somebody looks. What can't be recorded is not in force: what is shown is.
    async fn bring_up_to_date(&self) {
        if let Err(error) = self.recompile_if_due().await {
            tracing::warn!(%error, "what is due could not be done before the policies were shown");
        }
    }

    async fn renew_table(&self, now: Timestamp) -> Result<(), String> {
        let before = Arc::clone(self.state().table());
        let (grants, ended) = ended_at(&lock(&self.grants), now)?;
        let stands = self.clock.stands();
        let (windows, closed): (Windows, Windows) =
            lock(&self.windows).clone().into_iter().partition(|(_, until)| now < *until && !stands);
        let all: Vec<Grant> = grants.values().cloned().collect();
        let table = match self.compile_under(all.clone(), windows.clone(), now).await {
            Ok(table) => Arc::new(table),
            Err(error) => {
                // Whatever else fails, what has ended has: all that it decided is refused until a table can be made.
                let (holding, _) = policy::in_force(all, self.at_moment(&windows, now));
                let holding: BTreeMap<&GrantId, &Grant> = holding.iter().map(|g| (&g.id, g)).collect();
                let standing = lock(&self.grants).clone();
                let gone = standing.values().filter(|g| holding.get(&g.id) != Some(g)).map(|g| g.id.to_string());
                let writes = self.state().replace_table(Arc::new(before.without(&gone.collect())), now);
                self.put(self::held(writes)).await?;
                return Err(error);
            }
        };
        *lock(&self.grants) = grants;
        *lock(&self.windows) = windows;
        faults::pass(faults::TABLE_COMPILED);
        let (previous, next) = (Digest::new(before.policy_hash()), Digest::new(table.policy_hash()));
        let mut entries = ended.entries;
        entries.extend(closed.keys().map(|name| (format!("{WINDOW}{name}"), None)));
        if previous != next {
            let mut held = self::held(self.state().replace_table(Arc::new(before.meet(&table)), now));
            held.append(&mut entries);
            let change = match (ended.expired, ended.stepped) {
                (0, 0) if stands => format!("{CLOCK_SET_BACK}: hours and windows wait for it"),
                (0, 0) => "hours or windows of grants have begun or ended".to_owned(),
                (expired, 0) => format!("{expired} grants expired"),
                (expired, stepped) => format!("{expired} grants expired, {stepped} tell a rung less"),
            };
            let leaf = policy_leaf(now, (previous, next), "hub", change, None, Vec::new())?;
            // In vain, what begins waits: the table that was put in force is due again at once.
            self.append(vec![leaf], held).await?;
        }
        entries.extend(self::held(self.state().replace_table(table, now)));
        self.put(entries).await
    }

    /// Puts a changed set of grants in force and records it, all in one transaction. Narrowing takes effect before it is
    /// recorded, widening after: in doubt less is shared. What stays granted stays open all the time. When it can't be
    /// recorded, what it takes back is taken back, and nothing else is done.
    async fn change_grants(&self, change: Changing<'_>) -> Result<(), String> {
        let Changing { links, add, remove, by, text, profile, mut drafts, mut held, whole } = change;
        // What waited and is not meant any more is gone at once, like what is taken back below.
        let unmeant: Entries = held.iter().filter(|(_, json)| json.is_none()).cloned().collect();
        self.keep(&unmeant);
        let before = Arc::clone(self.state().table());
        let previous = Digest::new(before.policy_hash());
        let mut narrowed = lock(&self.grants).clone();
        // What is replaced by as much goes only with what replaces it.
        let taken = policy::taken_back(&add, &remove, &narrowed);
        let mut after = narrowed.clone();
        taken.iter().for_each(|id| drop(narrowed.remove(id)));
        remove.iter().for_each(|id| drop(after.remove(id)));
        after.extend(add.iter().map(|g| (g.id.clone(), g.clone())));
        let widened = match self.compile_aside(after.values().cloned().collect(), self.now()).await {
            Ok(table) => table,
            // What is taken back is taken back, whatever else fails.
            Err(error) => {
                *lock(&self.grants) = narrowed;
                self.narrow((links, by), &taken, previous, held, None).await?;
                return Err(error);
            }
        };
        if !taken.is_empty() {
            *lock(&self.grants) = narrowed;
            let now = self.now();
            let writes = self.state().replace_table(Arc::new(before.meet(&widened)), now);
            held.extend(self::held(writes));
        }
        faults::pass(faults::GRANTS_NARROWED);
        let next = Digest::new(widened.policy_hash());
        let now = self.now();
        drafts.push(self.policy_leaf_of(now, (previous, next), by, text.clone(), links)?);
        let mut given = whole;
        if let (Some(profile), [link]) = (profile, links) {
            let mut link = link.clone();
            profile.clone_into(&mut link.profile);
            given.push((format!("link/{}", link.id), Some(to_json(&link)?)));
        }
        for grant in &add {
            given.push((format!("grant/{}", grant.id), Some(to_json(grant)?)));
        }
        let only_takes = given.is_empty();
        // What is replaced by as much stands unless that comes.
        let replaced = remove.iter().filter(|id| !taken.contains(id));
        given.extend(replaced.map(|id| (format!("grant/{id}"), None)));
        let mut puts = held.clone();
        puts.extend(taken.iter().map(|id| (format!("grant/{id}"), None)));
        // The value with which a grant begins is stored along with it.
        let begun = self.state().begin(&widened, now);
        puts.extend(self::held(begun.writes()));
        let recorded = match only_takes {
            true => self.try_append(&drafts, &[&puts[..], &given].concat()).await,
            false => self.try_give(by.as_str(), &drafts, &puts, &given).await,
        };
        if let Err(error) = recorded {
            // Owed is what has come true: that something was taken back, and nothing given.
            drafts.pop();
            self.owed.later(drafts, Vec::new());
            self.narrow((links, by), &taken, previous, held, only_takes.then_some(text)).await?;
            return if only_takes { Ok(()) } else { Err(error) };
        }
        self.keep(&puts);
        self.keep(&given);
        if let (Some(profile), [link]) = (profile, links)
            && let Some(link) = self.state().links.get_mut(&link.id)
        {
            profile.clone_into(&mut link.profile);
        }
        faults::pass(faults::GRANTS_RECORDED);
        self.put_in_force(after, widened, begun, now).await;
        Ok(())
    }

    /// Puts in force what has been recorded.
    async fn put_in_force(&self, grants: BTreeMap<GrantId, Grant>, table: Table, begun: gate::Begun, now: Timestamp) {
        *lock(&self.grants) = grants;
        let writes = self.state().replace_begun(Arc::new(table), begun, now);
        if let Err(error) = self.put(held(writes)).await {
            tracing::error!(%error, "what is held for a link could not be stored yet");
        }
    }

    /// Puts the grants that are left in force and records that the others were taken back, now or when it can be. Where nothing
    /// was taken back, nothing is done.
    async fn narrow(
        &self,
        (links, by): (&[Link], &MemberId),
        remove: &[GrantId],
        previous: Digest,
        mut held: Entries,
        text: Option<String>,
    ) -> Result<(), String> {
        if remove.is_empty() && held.iter().all(|(_, json)| json.is_some()) {
            return Ok(());
        }
        let now = self.now();
        let grants: Vec<Grant> = lock(&self.grants).values().cloned().collect();
        let table = match self.compile_aside(grants, now).await {
            Ok(table) => table,
            // All that they had a part in is refused until a table can be made.
            Err(error) => {
                tracing::error!(%error, "the policies could not be compiled: more is refused than was taken back");
                self.mark_stale();
                let standing = Arc::clone(self.state().table());
                standing.without(&remove.iter().map(ToString::to_string).collect())
            }
        };
        let next = Digest::new(table.policy_hash());
        let writes = self.state().replace_table(Arc::new(table), now);
        held.extend(self::held(writes));
        held.extend(remove.iter().map(|id| (format!("grant/{id}"), None)));
        let change = text.unwrap_or_else(|| match remove.len() {
            0 => "what waited was taken back".to_owned(),
            count => format!("{count} grants taken back"),
        });
        let leaf = self.policy_leaf_of(now, (previous, next), by, change, links)?;
        self.append(vec![leaf], held).await.map(drop)
    }

    /// Appends what gives something (`given`), with what else is stored with it. What can't be recorded may be stored all the same.
    /// It is told as failed: so it is put back as it was before anything else is written, also over a restart. Else it would come
    /// true with one, and nobody would know of it. While the disk takes nothing it is not even tried.
    async fn try_give(
        &self,
        by: &str,
        drafts: &[Draft],
        puts: &[(String, Option<String>)],
        given: &[(String, Option<String>)],
    ) -> Result<Vec<Receipt>, String> {
        if self.writer.stats().failing {
            self.settle().await;
            if self.writer.stats().failing {
                return Err("the disk takes nothing: nothing can be recorded, so nothing is given".into());
            }
        }
        let done = self.try_append(drafts, &[puts, given].concat()).await;
        if done.is_err() {
            self.unmake(by, given);
        }
        done
    }

    /// Has what a change in vain has put stored as it is.
    fn unmake(&self, by: &str, given: &[(String, Option<String>)]) {
        let entry = |(key, _): &(String, Option<String>)| {
            let is = self.as_it_is(key);
            debug_assert!(is.is_some(), "nobody says what `{key}` is to be when it can't be stored");
            Some((key.clone(), is?))
        };
        let entries: Entries = given.iter().filter_map(entry).collect();
        let hash = Digest::new(self.state().table().policy_hash());
        let text = "a change could not be confirmed, and was not made".to_owned();
        let leaf = policy_leaf(self.now(), (hash, hash), by, text, None, Vec::new());
        if !self.owed.keep(leaf.into_iter().collect(), &entries) {
            tracing::error!(
                "what was told as failed may come true with a restart, unless the disk takes something before it"
            );
        }
    }

    /// What the store is to hold of a key: none of one that this is not said of.
    fn as_it_is(&self, key: &str) -> Option<Option<String>> {
        let json = |value: Option<Result<String, String>>| value.and_then(Result::ok);
        if let Some(id) = key.strip_prefix("grant/") {
            return Some(json(GrantId::new(id).ok().and_then(|id| lock(&self.grants).get(&id).map(to_json))));
        }
        if let Some(id) = key.strip_prefix("link/") {
            return Some(json(LinkId::new(id).ok().and_then(|id| self.state().links.get(&id).map(to_json))));
        }
        if let Some(id) = key.strip_prefix("member/") {
            return Some(json(MemberId::new(id).ok().and_then(|id| lock(&self.members).get(&id).map(to_json))));
        }
        if let Some(link) = key.strip_prefix(renewal::PREFIX) {
            return Some(json(LinkId::new(link).ok().and_then(|id| lock(&self.renewals).get(&id).map(to_json))));
        }
        lock(&self.consent)
            .entry(key)
            .or_else(|| pins::entry(&lock(&self.pins), key))
            .or_else(|| self.state().links.oauth.entry(key))
    }

    /// What the record says of what is otherwise than it was stored at the last stop: then what was taken back could not be
    /// recorded, or what was told as failed was stored all the same.
    fn leaves_of_what_was_otherwise(&self, otherwise: &Entries) -> Result<Vec<Draft>, String> {
        let now = self.now();
        let mut leaves = Vec::new();
        let (mut counts, mut others) = (BTreeMap::<&str, usize>::new(), 0);
        for (key, before) in otherwise {
            let words = match key.split_once('/').map_or("", |(kind, _)| kind) {
                "grant" => "grants",
                "pending" => "grants that waited",
                "link" => "links",
                "member" => "members",
                "pin" => "PINs",
                "family" => "tokens of links",
                _ => {
                    others += 1;
                    continue;
                }
            };
            *counts.entry(words).or_default() += 1;
            // Of a link that was ended the record says so in its own words.
            let link = before.as_ref().filter(|_| words == "links").and_then(|b| serde_json::from_str::<Link>(b).ok());
            if let Some(link) = link.filter(|l| self.state().links.get(&l.id).is_none()) {
                leaves.push(linking::link_leaf(now, &link, LinkEvent::Revoked)?);
            }
        }
        if counts.is_empty() {
            if others > 0 {
                tracing::info!("{others} stored entries are as they were told to be when the hub stopped");
            }
            return Ok(leaves);
        }
        let counts: Vec<String> = counts.iter().map(|(words, n)| format!("{words}: {n}")).collect();
        let text = format!(
            "what was taken back, or not made, could not be stored before the hub stopped, and is so now ({})",
            counts.join(", ")
        );
        let hash = Digest::new(self.state().table().policy_hash());
        leaves.push(policy_leaf(now, (hash, hash), "hub", text, None, Vec::new())?);
        Ok(leaves)
    }

    /// The leaf of a change of grants: of one link by its name, of several without.
    fn policy_leaf_of(
        &self,
        now: Timestamp,
        hashes: (Digest, Digest),
        by: &MemberId,
        change: String,
        links: &[Link],
    ) -> Result<Draft, String> {
        let mut demands: Vec<u64> = links.iter().flat_map(|l| self.tally.demands_of(&l.partner)).collect();
        demands.sort_unstable();
        demands.dedup();
        let newest = demands.split_off(demands.len().saturating_sub(ledger::limits::DEMANDS_MAX));
        let link = match links {
            [one] => Some(one.id.clone()),
            _ => None,
        };
        policy_leaf(now, hashes, by.as_str(), change, link, newest)
    }

    // ---- Ledger ----

    /// Appends. What it deletes was taken back: when it can't be recorded, that holds nevertheless, and waits.
    async fn append(&self, drafts: Vec<Draft>, held: Entries) -> Result<Vec<Receipt>, String> {
        match self.try_append(&drafts, &held).await {
            Ok(receipts) => Ok(receipts),
            Err(error) => {
                if held.iter().all(|(_, json)| json.is_some()) {
                    return Err(error);
                }
                // With what members are told of it.
                let is_owed = |(key, json): &(String, Option<String>)| json.is_none() || consent::is_notice(key);
                let gone: Entries = held.into_iter().filter(is_owed).collect();
                Err(match self.owed.keep(drafts, &gone) {
                    true => format!(
                        "it is in force, and not recorded yet; a restart leaves it so, and it is tried again: {error}"
                    ),
                    false => format!(
                        "it is in force, and not recorded yet, so a restart would undo it; it is tried again: {error}"
                    ),
                })
            }
        }
    }

    /// Records that something was taken back, also by what it puts. An error means that a restart could undo it.
    async fn take_back(&self, drafts: Vec<Draft>, taken: Entries) -> Result<(), String> {
        let Err(error) = self.try_append(&drafts, &taken).await else { return Ok(()) };
        tracing::warn!(%error, "what was taken back could not be recorded; it is in force, and is tried again");
        if self.owed.keep(drafts, &taken) { Ok(()) } else { Err(error) }
    }

    /// Appends, with what is owed. When it fails, what was owed is owed still, and nothing more.
    async fn try_append(&self, drafts: &[Draft], held: &[(String, Option<String>)]) -> Result<Vec<Receipt>, String> {
        let lent = self.owed.lend().await;
        if drafts.is_empty() && held.is_empty() && lent.drafts.is_empty() && lent.taken.is_empty() {
            return Ok(Vec::new());
        }
        let all = Append {
            drafts: drafts.iter().chain(&lent.drafts).cloned().collect(),
            // What is late comes first: it may have been put anew since.
            held: lent.taken.iter().chain(held).cloned().collect(),
        };
        let receipts = self.writer.append(all).await.map_err(|error| chain(&error))?;
        lent.done();
        Ok(receipts.into_iter().take(drafts.len()).collect())
    }

    /// Records what could not be recorded before, and finds out whether the ledger records again.
    pub async fn settle(&self) {
        if !self.owed.is_empty() || self.writer.stats().failing {
            // There is no such key: deleting it writes nothing, and needs all that a write needs.
            let probe = vec![("probe".to_owned(), None)];
            if self.writer.append(Append { drafts: Vec::new(), held: probe }).await.is_ok() {
                let _ = self.append(Vec::new(), Vec::new()).await;
            }
        }
    }

    async fn put(&self, held: Vec<(String, Option<String>)>) -> Result<(), String> {
        self.append(Vec::new(), held).await.map(drop)
    }

    /// Records the refusals summed so far.
    pub async fn flush_refusals(&self) {
        let policy_set = Digest::new(self.state().table().policy_hash());
        let drafts = self.tally.take_refusals(self.now(), policy_set);
        if let Err(error) = self.append(drafts, Vec::new()).await {
            tracing::error!(%error, "refusals could not be recorded");
        }
    }

    /// Erases bodies that are older than the retention. False when it must be tried again.
    pub async fn erase_old_bodies(&self) -> bool {
        let before = self.now().plus_millis(-i64::from(self.config.retention_days) * 86_400_000);
        match self.writer.erase_before(before).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "bodies past their retention were erased; their record stays"),
            Err(error) => {
                tracing::warn!(error = chain(&error), "old bodies could not be erased yet; it is tried again");
                return false;
            }
        }
        true
    }

    /// Verifies the ledger and remembers the result for the page.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn verify(&self) -> Result<ledger::Report, String> {
        let writer = self.writer.clone();
        let report = tokio::task::spawn_blocking(move || {
            let key = writer.verifier_key().to_owned();
            writer.reader().verify(Some(&key))
        })
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| chain(&e))?;
        *lock(&self.verified) = Some(report.ok());
        Ok(report)
    }

    /// Size, root and state of the ledger, for the page.
    pub fn ledger_summary(&self) -> Value {
        let stats = self.writer.stats();
        let head = self.writer.reader().head().ok().flatten();
        // The third line of a checkpoint is the root hash (C2SP tlog-checkpoint).
        let root = head.as_ref().and_then(|h| h.checkpoint.lines().nth(2).map(str::to_owned));
        let counts = self.tally.all();
        json!({
            "leaves": stats.size, "bytes": counts.bytes_out, "root": root, "verified": *lock(&self.verified),
            "intents": counts.messages_out, "refusals": counts.properties_withheld,
        })
    }

    fn restore_demands(&self) -> Result<(), String> {
        let filter = Filter { kind: Some("demand".into()), ..Filter::default() };
        let rows = self.writer.reader().list(0, 1000, &filter).map_err(|e| chain(&e))?;
        for row in rows {
            let index = row.index;
            row.partner.into_iter().for_each(|partner| self.tally.demand(partner, index));
        }
        Ok(())
    }

    /// The docket: written demands, then observed ones.
    pub fn docket_rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for (_, index) in self.tally.demands() {
            let Ok(Some(shown)) = self.writer.reader().show(index) else { continue };
            rows.push(json!({
                "index": index, "time": shown.leaf.get("time"), "partner": shown.row.partner,
                "text": shown.body.unwrap_or_else(|| "(the letter was erased; its hash stays)".into()),
                "deadline": shown.leaf.get("deadline"), "threat": shown.leaf.get("threat"),
                "observed": false, "count": 1,
            }));
        }
        let mut observed = lock(&self.observed);
        observed.read_on(self.writer.reader());
        rows.extend(observed.rows());
        rows
    }

    // ---- The command line's requests ----

    /// Does what the command line asks.
    ///
    /// # Errors
    /// Why not, in words for a person.
    pub async fn carry_out(&self, request: Request) -> Result<Value, String> {
        match request {
            Request::Devices => Ok(self.devices()),
            Request::DeviceAdd { name, replace } => self.add_device_user(name, replace).await,
            Request::Name { device, name, link } => self.name(device, name, link).await,
            Request::Room { device, room } => self.put_into_room(&device, room).await,
            Request::Split { device, link, split } => self.split(&device, &link, split).await,
            Request::Forget { device } => self.forget(device).await,
            Request::PolicyShow => self.policy_show().await,
            Request::PolicyExplain { partner, property, action } => {
                self.policy_explain(&partner, property, action).await
            }
            Request::PolicyImpact { link } => self.policy_impact(link.as_deref()).await,
            Request::PolicyDiff { document, ceiling } => self.policy_diff(document.as_deref(), ceiling.as_deref()),
            Request::PolicySimulate { from, to, document, ceiling, every } => {
                self.policy_simulate(&from, &to, (document.as_deref(), ceiling), every).await
            }
            Request::Recorded { days } => self.recorded_days(days).await,
            Request::PolicyExport { cedar } => self.policy_export(cedar),
            Request::PolicyImport { document, doing } => self.policy_import(&document, &doing).await,
            Request::GrantAdd { wish, doing } => self.grant_add(wish, &doing).await,
            Request::GrantList { link } => self.grant_list(link.as_deref()),
            Request::Suggest { link, days, with_refused } => self.suggest(link.as_deref(), days, with_refused).await,
            Request::Windows => Ok(self.window_rows()),
            Request::WindowOpen { name, minutes } => self.window_open(name, minutes, None).await,
            Request::WindowButton { name, minutes, off } => self.window_button(name, minutes, off).await,
            Request::WindowClose { name } => self.window_close(&name).await,
            Request::GrantRevoke { selection } => self.grant_revoke(&selection).await,
            Request::GrantRenew { selection, days } => self.grant_renew(&selection, days).await,
            Request::GrantConfirm { selection, member } => self.grant_confirm(&selection, &member).await,
            Request::PinSet { link, pin } => self.pin_set(&link, pin).await,
            Request::PinClear { link } => self.pin_clear(&link).await,
            Request::Pins => Ok(self.pin_rows()),
            Request::Notices => Ok(self.notice_rows()),
            Request::NoticesSeen { member } => self.notices_seen(&member).await,
            Request::Links => Ok(self.link_rows()),
            Request::Link { partner, profile, sensors } => self.link(partner, &profile, sensors).await,
            Request::Unlink { link } => self.unlink(link).await,
            Request::ClientAdd { partner, redirects, terms } => self.client_add(partner, redirects, terms).await,
            Request::Clients => Ok(self.client_rows()),
            Request::ClientRemove { client } => self.client_remove(&client).await,
            Request::Doctor { partner } => self.doctor(&partner),
            Request::DoctorBegin { partner } => self.doctor_begin(partner).await,
            Request::MemberAdd { name, password, role } => self.member_add(&name, password, role).await,
            Request::Members => Ok(self.member_rows()),
            Request::MemberRemove { name } => self.member_remove(&name).await,
            Request::Profile { link, profile, sensors, apply } => self.profile(link, profile, sensors, apply).await,
            Request::DocketAdd { partner, text, deadline, threat } => {
                self.docket_add(partner, &text, deadline, threat).await
            }
            Request::DocketList => {
                self.flush_refusals().await;
                Ok(Value::Array(self.docket_rows().into_iter().map(with_time_text).collect()))
            }
            Request::LedgerList { from, limit } => audit::rows(self.writer.reader(), from, limit),
            Request::LedgerShow { index } => audit::row(self.writer.reader(), index),
            Request::LedgerVerify => audit::verdict(&self.verify().await?, self.writer.verifier_key()),
            Request::Thermostat(order) => {
                // Who only looks, looks at all of them.
                if self.thermostats.len() > 1 && order.is_of_all() {
                    let mut all = Vec::new();
                    for unit in &self.thermostats {
                        all.push(self.thermostat_order(Arc::clone(unit), order.clone(), Caller::owner(OWNER)).await?);
                    }
                    return Ok(Value::Array(all));
                }
                self.thermostat_order(self.thermostat(None)?, order, Caller::owner(OWNER)).await
            }
            Request::ThermostatOf { name, order } => {
                self.thermostat_order(self.thermostat(Some(&name))?, order, Caller::owner(OWNER)).await
            }
            Request::ThermostatImport { text, name } => {
                let (file, zone, now) =
                    (self.thermostat_file(name.as_deref())?, self.config.timezone.clone(), self.now());
                blocking(move || crate::thermostat::import_text(&file, &zone, &text, now)).await
            }
            Request::ThermostatExport { name } => {
                let (file, zone) = (self.thermostat_file(name.as_deref())?, self.config.timezone.clone());
                blocking(move || crate::thermostat::export_of(&file, &zone)).await
            }
            Request::ThermostatReport { month, name } => {
                let (file, zone) = (self.thermostat_file(name.as_deref())?, self.config.timezone.clone());
                let alerts = self.thermostat(name.as_deref()).map(|unit| unit.alert_texts()).unwrap_or_default();
                let mut report = blocking(move || crate::thermostat::report_of(&file, &zone, &month)).await?;
                if !alerts.is_empty() {
                    report["alerts"] = json!(alerts);
                }
                Ok(report)
            }
        }
    }

    /// What an owner asks of a thermostat. A running one has taken its next step when this comes back.
    /// Carries out what a member orders of a thermostat with the password. Owners are not held by its lock.
    ///
    /// # Errors
    /// See [`console::OrderFault`].
    pub async fn member_order(&self, asked: console::MemberOrder) -> Result<Value, console::OrderFault> {
        use console::OrderFault;
        let console::MemberOrder { thermostat, member, password, order } = asked;
        if lock(&self.members).is_empty() {
            let why = "nobody is a member: `vestibule member add NAME` makes one, who may order with the password";
            return Err(OrderFault::NotAMember(why.into()));
        }
        // Names that can't be a member's share one limit.
        let key = MemberId::new(member.as_str()).map_or_else(|_| "?".to_owned(), |m| m.to_string());
        let (own, strangers) = &self.order_logins;
        let is_member = MemberId::new(key.as_str()).is_ok_and(|id| lock(&self.members).contains_key(&id));
        // Who guesses under names that nobody has locks nobody out.
        let taken = match is_member {
            true => lock(own).take(&key, self.now()),
            false => lock(strangers).take("all", self.now()),
        };
        taken.map_err(|wait| OrderFault::TooMany(wait.unsigned_abs() / 1000 + 1))?;
        let by = self.by(Some(&Login { name: member, password })).await.map_err(OrderFault::NotAMember)?;
        lock(own).forget(&key);
        let name = by.id().map_err(OrderFault::Refused)?;
        let caller = Caller { name: name.as_str(), owner: self.owners().contains(&name) };
        let unit = self.thermostat(Some(&thermostat)).map_err(OrderFault::NoThermostat)?;
        let order = serde_json::from_value(order)
            .map_err(|e| OrderFault::Refused(format!("this is no order: {e}; see docs/thermostat.md")))?;
        self.thermostat_order(unit, order, caller).await.map_err(OrderFault::Refused)
    }

    async fn thermostat_order(&self, unit: Arc<Unit>, order: Order, caller: Caller<'_>) -> Result<Value, String> {
        let now = self.times();
        let mut steps = unit.steps.subscribe();
        let changes = !order.only_looks();
        let asked = Arc::clone(&unit);
        let asks_privacy = matches!(order, Order::Privacy { .. });
        let (name, owner) = (caller.name.to_owned(), caller.owner);
        let mut answer = blocking(move || asked.order(&order, Caller { name: &name, owner }, now)).await?;
        if asks_privacy {
            answer["told"] = Value::Array(self.told_set_points(&unit.device));
        }
        if changes && unit.is_running() {
            let _ = tokio::time::timeout(STEP_PATIENCE, steps.changed()).await;
        }
        Ok(answer)
    }

    /// Which links are told a thermostat's set points or temperature when they ask, and how precisely.
    fn told_set_points(&self, device: &DeviceId) -> Vec<Value> {
        use model::{Property, Trigger};
        let gate = self.state();
        let properties =
            [Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint, Property::LocalTemperature];
        let mut told = Vec::new();
        for link in gate.links.iter() {
            for property in properties {
                if let Ok(rung) = gate.table().decide(&link.id, device, property, Trigger::PartnerPoll).rung {
                    told.push(json!({"link": link.id, "partner": link.partner, "property": property, "rung": rung}));
                }
            }
        }
        told
    }

    fn devices(&self) -> Value {
        let gate = self.state();
        let readings = lock(&self.readings);
        let list: Vec<Value> = gate
            .registry
            .iter()
            .map(|(id, known)| {
                let counts = readings.get(id);
                let mut all: Vec<model::Property> = known.description.properties.keys().copied().collect();
                if gate.home.known(id, model::Property::Reachable).is_some() {
                    all.push(model::Property::Reachable);
                }
                let properties: Vec<Value> = all
                    .into_iter()
                    .map(|p| {
                        let reported = gate.home.reported(id, p);
                        let desired = gate.home.desired(id, p);
                        json!({
                            "property": p, "kind": known.kind(p).as_str(),
                            "value": reported.map(|s| &s.value), "shown": reported.map(|s| s.value.to_string()),
                            "time": reported.map(|s| s.time.to_rfc3339()),
                            "desired": desired.map(|s| s.value.to_string()),
                            "command": known.description.properties.get(&p).is_some_and(|d| d.command),
                            "readings": counts.and_then(|c| c.get(&p)).copied().unwrap_or(0),
                        })
                    })
                    .collect();
                json!({
                    "id": id, "name": known.household_name.as_ref().unwrap_or(&known.description.name),
                    "room": known.room(), "type": known.device_type(), "present": known.present, "vendor": known.description.vendor,
                    "product": known.description.product, "properties": properties,
                })
            })
            .collect();
        let dropped: serde_json::Map<String, Value> = self
            .counters
            .dropped()
            .into_iter()
            .map(|(reason, count): (DropReason, u64)| (reason.as_str().to_owned(), json!(count)))
            .collect();
        let total: u64 = readings.values().flat_map(BTreeMap::values).sum();
        json!({"devices": list, "readings": total, "dropped": dropped})
    }

    async fn add_device_user(&self, name: String, replace: bool) -> Result<Value, String> {
        if matches!(self.config.mqtt, Mqtt::External(_)) {
            let mend = "make the name and password at that broker";
            return Err(format!("devices speak with the broker of `[mqtt] url`, which is not the hub's own; {mend}"));
        }
        let _one = self.changing.lock().await;
        let id = DeviceId::new(name).map_err(|e| e.to_string())?;
        if id.as_str() == broker::HUB {
            return Err(format!("`{id}` is the hub's own name at its broker; choose another"));
        }
        if self.users.hash(id.as_str()).is_some() && !replace {
            return Err(format!("`{id}` has a password already; `--replace` makes a new one"));
        }
        let bytes = random::<PASSWORD_BYTES>()?;
        let password = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        let hash = broker::hash_password(&password, &random::<16>()?).map_err(|e| chain(&e))?;
        self.put(vec![(format!("mqttuser/{id}"), Some(to_json(&hash)?))]).await?;
        self.users.insert(id.to_string(), hash);
        Ok(json!({"user": id, "password": password}))
    }

    /// Users of the hub's own broker.
    pub fn device_users(&self) -> DeviceUsers {
        self.users.clone()
    }

    /// What the hub calls itself at the broker; no other hub has this name.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    async fn name(&self, device: DeviceId, name: Option<String>, link: Option<LinkId>) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let name = name.map(|n| n.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect::<String>());
        let (key, json) = {
            let mut gate = self.state();
            match &link {
                None => {
                    if !gate.registry.rename(&device, name) {
                        return Err(format!("there is no device `{device}`; `vestibule devices` lists them"));
                    }
                    (format!("device/{device}"), gate.registry.get(&device).map(to_json).transpose()?)
                }
                Some(id) => {
                    let link = gate.links.get_mut(id).ok_or_else(|| no_link(id))?;
                    if !link.rename(&device, name) {
                        return Err(format!("the link `{id}` does not know the device `{device}`"));
                    }
                    (format!("link/{id}"), Some(to_json(link)?))
                }
            }
        };
        self.put(vec![(key, json)]).await?;
        Ok(json!({}))
    }

    /// The household says which room a device is in. What is granted of it stays granted; members are told.
    async fn put_into_room(&self, device: &DeviceId, room: Option<String>) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let room = room.map(|r| r.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect::<String>());
        let room = room.map(|r| r.trim().to_owned()).filter(|r| !r.is_empty());
        let now = {
            let mut gate = self.state();
            let room_of = |gate: &GateState| gate.registry.get(device).and_then(|d| d.room().map(str::to_owned));
            let before = room_of(&gate);
            if !gate.registry.put_into(device, room) {
                return Err(format!("there is no device `{device}`; `vestibule devices` lists them"));
            }
            if let Some(before) = before {
                lock(&self.newcomers).described(device, before);
            }
            room_of(&gate)
        };
        lock(&self.unsaved).insert(device.clone());
        self.store_devices().await?;
        Ok(json!({"device": device, "room": now}))
    }

    /// The devices that are in a room now.
    fn devices_in(&self, room: &str) -> Result<BTreeSet<DeviceId>, String> {
        let gate = self.state();
        let found: BTreeSet<DeviceId> =
            gate.registry.iter().filter(|(_, d)| d.is_in(room)).map(|(id, _)| id.clone()).collect();
        if found.is_empty() {
            let rooms: BTreeSet<&str> = gate.registry.iter().filter_map(|(_, d)| d.room()).collect();
            let rooms: Vec<&str> = rooms.into_iter().take(ROOMS_NAMED_MAX).collect();
            let there =
                if rooms.is_empty() { "no room is known".into() } else { format!("there is {}", rooms.join(", ")) };
            return Err(format!(
                "no device is in the room `{room}`; {there}: `vestibule devices room` puts a device into one"
            ));
        }
        Ok(found)
    }

    async fn split(&self, device: &DeviceId, link: &LinkId, split: bool) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let entry = {
            let mut gate = self.state();
            let known = gate.links.get_mut(link).ok_or_else(|| no_link(link))?;
            if !known.split(device, split) {
                return Err(format!("the link `{link}` does not know the device `{device}`"));
            }
            to_json(known)?
        };
        self.put(vec![(format!("link/{link}"), Some(entry))]).await?;
        Ok(json!({}))
    }

    async fn forget(&self, device: DeviceId) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let removed: Vec<GrantId> = {
            let mut gate = self.state();
            if !gate.registry.forget(&device) {
                return Err(format!("there is no device `{device}`; `vestibule devices` lists them"));
            }
            gate.forget(&device);
            lock(&self.readings).remove(&device);
            let mut grants = lock(&self.grants);
            let gone: Vec<GrantId> = grants.values().filter(|g| g.device == device).map(|g| g.id.clone()).collect();
            gone.iter().for_each(|id| drop(grants.remove(id)));
            gone
        };
        let table = self.compile()?;
        let next = Digest::new(table.policy_hash());
        let now = self.now();
        let previous = Digest::new(self.state().table().policy_hash());
        self.state().replace_table(Arc::new(table), now);
        let mut held: Vec<(String, Option<String>)> = removed.iter().map(|id| (format!("grant/{id}"), None)).collect();
        held.push((format!("device/{device}"), None));
        // What was agreed to of it, and not fetched yet, was of the device that it was.
        for (link, renewal) in lock(&self.renewals).iter_mut() {
            if renewal.forget(&device) {
                held.push((renewal::key(link), Some(to_json(renewal)?)));
            }
        }
        let waited = self.waiting_keys(|p| p.grant.device == device);
        self.keep(&waited);
        held.extend(waited);
        let known = self.writer.reader().load_held().map_err(|e| chain(&e))?;
        let of_device = |key: &String| {
            key.strip_prefix("known/").is_some_and(|k| k.split('/').next() == Some(device.as_str()))
                || key.strip_prefix("told/").is_some_and(|k| k.split('/').nth(1) == Some(device.as_str()))
        };
        held.extend(known.into_iter().filter(|(k, _)| of_device(k)).map(|(k, _)| (k, None)));
        let change = format!("device {device} was forgotten, with {} grants", removed.len());
        self.append(vec![policy_leaf(now, (previous, next), OWNER, change, None, Vec::new())?], held).await?;
        self.history.forget(device).await.map_err(|e| chain(&e))?;
        Ok(json!({"grants": removed.len()}))
    }

    async fn policy_show(&self) -> Result<Value, String> {
        self.bring_up_to_date().await;
        // What is granted and gives nothing now: it waits for owners, for its hours or for a window.
        let mut waiting: BTreeMap<_, Vec<Value>> = BTreeMap::new();
        for (grant, when) in self.waiting(|_| true) {
            let (action, rung) = match grant.what {
                policy::What::Disclose { trigger, rung } => (trigger.as_str(), Some(rung)),
                policy::What::Control { open: false } => ("control", None),
                policy::What::Control { open: true } => ("open", None),
            };
            let told = json!({
                "action": action, "rung": rung, "grant": grant.id, "when": when, "words": policy::in_words(grant.what),
            });
            waiting.entry((grant.link, grant.device, grant.property)).or_default().push(told);
        }
        let gate = self.state();
        let table = Arc::clone(gate.table());
        let mut rows = Vec::new();
        for row in table.matrix() {
            let mut json = serde_json::to_value(&row).map_err(|e| e.to_string())?;
            let cell = (row.link.clone(), row.device.clone(), row.property);
            json["waiting"] = Value::Array(waiting.remove(&cell).unwrap_or_default());
            json["profile"] = json!(gate.links.get(&row.link).map(|l| l.profile.clone()));
            rows.push(json);
        }
        let hex = |hash: [u8; 32]| Digest::new(hash);
        Ok(json!({"rows": rows, "policy_sha256": hex(table.policy_hash()), "table_sha256": hex(table.table_hash())}))
    }

    fn link_rows(&self) -> Value {
        let now = self.now();
        let ids: Vec<LinkId> = self.state().links.iter().map(|l| l.id.clone()).collect();
        let ends: BTreeMap<LinkId, _> = ids.into_iter().map(|id| (id.clone(), self.link_end(&id, now))).collect();
        let pending = self.pending_rows();
        let gate = self.state();
        let grants = lock(&self.grants);
        let rows: Vec<Value> = gate
            .links
            .iter()
            .map(|l| {
                let counts = self.tally.link(&l.id);
                let family = gate.links.oauth.family(&l.id);
                let (end, notice) = ends.get(&l.id).cloned().unwrap_or_default();
                let in_part: Vec<DeviceId> = self
                    .tally
                    .granted_in_part(&l.id)
                    .iter()
                    .filter_map(|e| l.find(e).map(|(d, _)| d.clone()))
                    .collect();
                let notice = match (notice, in_part.first()) {
                    (None, Some(first)) => Some(format!(
                        "{} devices are granted unasked in part alone, so nothing of them is sent so (Alexa would poll \
                         them as a whole): grant the rest, or `vestibule devices split {first} --link {}`",
                        in_part.len(),
                        l.id
                    )),
                    (notice, _) => notice,
                };
                json!({
                    "id": l.id, "partner": l.partner, "profile": l.profile, "created": l.created.to_rfc3339(),
                    "devices": l.devices().count(), "grants": grants.values().filter(|g| g.link == l.id).count(),
                    "waiting": pending.iter().filter(|(g, _)| g.link == l.id).count(),
                    "client": family.map(|f| &f.client), "member": family.map(|f| &f.member),
                    "refreshed": family.map(|f| f.refreshed.to_rfc3339()),
                    "tokens_until": family.map(|f| f.expires.to_rfc3339()),
                    "stopped": family.and_then(|f| f.stopped).map(|s| s.why),
                    "ends": end.map(Timestamp::to_rfc3339), "notice": notice, "in_part": in_part,
                    "asked": counts.asked, "messages_out": counts.messages_out, "facts": counts.facts,
                })
            })
            .collect();
        Value::Array(rows)
    }

    async fn link(&self, partner: PartnerId, slug: &str, sensors: Vec<DeviceId>) -> Result<Value, String> {
        linking::known_partner(&partner)?;
        let _one = self.changing.lock().await;
        let profile = self.profile_for(slug, sensors)?;
        if self.state().links.len() >= LINKS_MAX {
            return Err(format!("there are {LINKS_MAX} links already; end one with `vestibule unlink ID`"));
        }
        let id = LinkId::new(random_id("lnk")?).map_err(|e| e.to_string())?;
        let now = self.now();
        let secrets = (random()?, random()?);
        let (link, token) =
            Link::new(id.clone(), self.household.clone(), partner.clone(), profile.slug.clone(), now, secrets);
        let leaf = ledger::Link {
            partner: partner.clone(),
            link: id.clone(),
            event: LinkEvent::Created,
            profile: Some(profile.slug.clone()),
        };
        let leaf = Draft::link(now, leaf).map_err(|e| chain(&e))?;
        // A link without grants shares nothing: it may be there before they are.
        let key = format!("link/{id}");
        if let Err(error) = self.append(vec![leaf], vec![(key.clone(), Some(to_json(&link)?))]).await {
            // It may be stored all the same, and nobody has its token.
            let _ = self.put(vec![(key, None)]).await;
            return Err(error);
        }
        self.state().links.insert(link);
        let applied = match self.apply_profile(&id, &profile, &By::Shell, self.facts().devices).await {
            Ok(applied) => applied,
            Err(error) => {
                // Nobody has its token: it would only take the place of another.
                let _tokens = self.tokens.lock().await;
                if let Err(error) = self.end_link(id).await {
                    tracing::warn!(%error, "a link that could not be made is ended");
                }
                return Err(error);
            }
        };
        let devices = self.state().links.get(&id).map_or(0, |l| l.devices().count());
        Ok(json!({
            "link": id, "partner": partner, "profile": profile.slug, "token": token.reveal(), "devices": devices,
            "grants": applied.added - applied.waiting.len(), "waiting": applied.waiting,
        }))
    }

    async fn unlink(&self, id: LinkId) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let _tokens = self.tokens.lock().await;
        self.end_link(id).await
    }

    /// The same for who holds `changing` and `tokens`.
    async fn end_link(&self, id: LinkId) -> Result<Value, String> {
        // At once: the tokens are worth nothing from here on, whatever happens to the record.
        let link = self.state().links.remove(&id).ok_or_else(|| no_link(&id))?;
        let tokens = self.state().links.oauth.remove_link(&id);
        let remove: Vec<GrantId> = lock(&self.grants).values().filter(|g| g.link == id).map(|g| g.id.clone()).collect();
        let now = self.now();
        let leaf =
            ledger::Link { partner: link.partner.clone(), link: id.clone(), event: LinkEvent::Revoked, profile: None };
        let leaf = Draft::link(now, leaf).map_err(|e| chain(&e))?;
        let change = format!("link ended, with {} grants", remove.len());
        // What it was told last is of no use without the link: where it can't be read, it stays behind and harms nobody.
        let told = self.writer.reader().load_held().unwrap_or_default();
        let prefix = format!("told/{id}/");
        self.events.forget(&id);
        let _ = self.state().set_reporting(&id, false);
        let mut held = vec![(format!("link/{id}"), None)];
        held.extend(tokens);
        if lock(&self.renewals).remove(&id).is_some() {
            held.push((renewal::key(&id), None));
        }
        held.extend(self.waiting_keys(|p| p.grant.link == id));
        {
            // While one is looked at, what counts against it is written: it goes after that, and none comes.
            let _checked = self.pin_checks.lock().await;
            lock(&self.pins).remove(&id);
        }
        held.push((pins::key(&id), None));
        let of_link = |key: &str| key.starts_with(&prefix) || EventLines::is_of(key, &id);
        held.extend(told.into_iter().filter(|(k, _)| of_link(k)).map(|(k, _)| (k, None)));
        self.change_grants(Changing {
            links: &[link],
            add: Vec::new(),
            remove,
            by: &owner()?,
            text: change,
            profile: None,
            drafts: vec![leaf],
            held,
            whole: Vec::new(),
        })
        .await?;
        self.tally.forget(&id);
        Ok(json!({}))
    }

    async fn profile(
        &self,
        id: LinkId,
        slug: Option<String>,
        sensors: Vec<DeviceId>,
        apply: bool,
    ) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let slug = match slug {
            Some(slug) => slug,
            None => self.state().links.get(&id).ok_or_else(|| no_link(&id))?.profile.clone(),
        };
        let profile = self.profile_for(&slug, sensors)?;
        if apply {
            let applied = self.apply_profile(&id, &profile, &By::Shell, self.facts().devices).await?;
            let Applied { added, removed, rows, waiting } = applied;
            return Ok(json!({"added": added, "removed": removed, "changes": rows, "waiting": waiting.len()}));
        }
        let change = self.difference(&id, &profile, &owner()?, self.facts().devices)?;
        let (added, removed) = (change.add.len(), change.remove.len());
        let is_left = is_left(&id, &change.add);
        let waiting = self.would_wait((change.add.clone(), change.remove), &is_left, &By::Shell)?;
        Ok(json!({"added": added, "removed": removed, "changes": change.rows, "waiting": waiting}))
    }

    /// The profile with this slug, for these sensors.
    fn profile_for(&self, slug: &str, sensors: Vec<DeviceId>) -> Result<Profile, String> {
        let profile = find_profile(slug)?;
        let properties = profile.of_named();
        if let (Some(first), true) = (sensors.first(), properties.is_empty()) {
            return Err(format!("the profile {slug} takes no sensors by name (`{first}` was named)"));
        }
        let facts = self.facts();
        let fits = |d: &policy::DeviceFact| d.properties.iter().any(|(p, _)| properties.contains(p));
        for sensor in &sensors {
            if !facts.devices.iter().any(|d| d.device == *sensor && fits(d)) {
                let known: Vec<&str> = properties.iter().map(|p| p.as_str()).collect();
                return Err(format!(
                    "`{sensor}` is no sensor of {}; `vestibule devices` lists what there is",
                    known.join(", ")
                ));
            }
        }
        Ok(profile.naming(sensors))
    }

    /// What applying a profile to these devices would change.
    fn difference(
        &self,
        id: &LinkId,
        profile: &Profile,
        by: &MemberId,
        devices: Vec<policy::DeviceFact>,
    ) -> Result<Change, String> {
        let link = self.state().links.get(id).cloned().ok_or_else(|| no_link(id))?;
        let facts = policy::Facts { devices, ..self.facts() };
        let grants: Vec<Grant> = lock(&self.grants).values().filter(|g| g.link == *id).cloned().collect();
        let mut fresh = Vec::new();
        // Ids are made beforehand, so that a lack of randomness is an error and not a repeated id.
        let cells: usize = facts.devices.iter().map(|d| d.properties.len()).sum();
        for _ in 0..cells.saturating_mul(model::ALL_TRIGGERS.len() + 2) {
            fresh.push(GrantId::new(random_id("g")?).map_err(|e| e.to_string())?);
        }
        let mut ids = fresh.into_iter();
        let terms = policy::Terms { now: self.now(), granted_by: by.clone(), affects: self.affected(by) };
        policy::apply(profile, &facts, &link.id, &grants, &terms, || ids.next()).map_err(|e| chain(&e))
    }

    /// What is granted must be what is stored: a device can't come back as something else after a crash.
    async fn store_devices(&self) -> Result<(), String> {
        for _ in 0..SAVE_TRIES {
            self.save_devices().await;
            if lock(&self.unsaved).is_empty() {
                return Ok(());
            }
        }
        Err("the devices could not be stored: see the log, or try again when they are quiet".into())
    }

    /// Gives every device known now its id on a link, and gives the link.
    fn enroll(&self, id: &LinkId) -> Result<Link, String> {
        let mut gate = self.state();
        let types: Vec<(DeviceId, model::DeviceType)> =
            gate.registry.iter().map(|(d, known)| (d.clone(), known.device_type())).collect();
        let link = gate.links.get_mut(id).ok_or_else(|| no_link(id))?;
        link.enroll(types.iter().map(|(d, t)| (d, *t)));
        Ok(link.clone())
    }

    /// Gives a link what a profile says of these devices, and takes the rest from it. The devices are those that whoever
    /// applies it has looked at: one that comes meanwhile waits.
    async fn apply_profile(
        &self,
        id: &LinkId,
        profile: &Profile,
        by: &By,
        devices: Vec<policy::DeviceFact>,
    ) -> Result<Applied, String> {
        self.store_devices().await?;
        let change = self.difference(id, profile, &by.id()?, devices)?;
        let link = self.enroll(id)?;
        let wanted: Vec<Grant> = change.add.clone();
        let is_left = is_left(id, &wanted);
        let (added, removed) = (change.add.len(), change.remove.len());
        let text = format!("profile {} applied: {added} granted, {removed} taken back", profile.slug);
        let gift = consent::Gift {
            links: &[link],
            add: change.add,
            remove: change.remove,
            unmeant: &is_left,
            text,
            profile: Some(&profile.slug),
            held: Vec::new(),
        };
        let waiting = self.give(gift, by).await?;
        Ok(Applied { added, removed, rows: change.rows, waiting })
    }

    async fn docket_add(
        &self,
        partner: PartnerId,
        text: &str,
        deadline: Option<String>,
        threat: Option<String>,
    ) -> Result<Value, String> {
        if text.trim().is_empty() {
            return Err("the letter is empty: the docket keeps what was demanded, in the partner's own words".into());
        }
        if let Some(day) = &deadline
            && day.parse::<jiff::civil::Date>().map_or(true, |date| date.to_string() != *day)
        {
            return Err(format!("`{day}` is no day: write it as 2026-12-31"));
        }
        let demand = ledger::Demand { asked_by: partner.to_string(), partner: partner.clone(), deadline, threat };
        let draft = Draft::demand(self.now(), demand, text).map_err(|e| chain(&e))?;
        let receipts = self.append(vec![draft], Vec::new()).await?;
        let index = receipts.first().map(Receipt::index).ok_or("the ledger gave no receipt")?;
        self.tally.demand(partner, index);
        Ok(json!({"index": index}))
    }

    /// Records a command before it is carried out.
    ///
    /// # Errors
    /// When it is not certain that it is recorded: then it must not be carried out.
    pub async fn record_command(&self, order: &gate::Order) -> Result<(), String> {
        let leaf = ledger::Command {
            partner: order.partner.clone(),
            link: order.link.clone(),
            message: order.message.clone(),
            device: order.device.clone(),
            command: order.command.to_owned(),
            properties: order.desired.iter().map(|d| d.property).collect(),
            policy_set: Digest::new(order.policy_set),
            policies: order.policies.clone(),
        };
        // The values asked for are the partner's own words: they lie beside the tree, erasable.
        let values: Vec<Value> =
            order.desired.iter().map(|d| json!({"property": d.property, "value": d.value})).collect();
        let body = Body::new(Value::Array(values).to_string().into_bytes());
        let draft = Draft::command(order.time, leaf, Some(body)).map_err(|e| chain(&e))?;
        self.append(vec![draft], Vec::new()).await.map(drop)
    }

    /// Metrics in Prometheus' text form. They are on the household's listener only.
    pub fn metrics(&self) -> String {
        use std::fmt::Write as _;
        let (counts, stats) = (self.tally.all(), self.writer.stats());
        let (unauthenticated, rejected, not_recorded) = self.tally.constant_answers();
        let mut out = String::new();
        let mut one = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a string can't fail.
            let _ = write!(
                out,
                "# HELP vestibule_{name} {help}\n# TYPE vestibule_{name} {kind}\nvestibule_{name} {value}\n"
            );
        };
        one("asked_total", "counter", "Messages of linked partners.", counts.asked);
        one("answered_total", "counter", "Of them answered with something.", counts.answered);
        one("refused_total", "counter", "Of them refused by policy.", counts.refused);
        one("errors_total", "counter", "Of them wrong or failed.", counts.errors);
        one(
            "properties_withheld_total",
            "counter",
            "Values that an answer had room for, and that were withheld.",
            counts.properties_withheld,
        );
        one("messages_out_total", "counter", "Bodies that left.", counts.messages_out);
        one("bytes_out_total", "counter", "Bytes of the bodies that left.", counts.bytes_out);
        one("unauthenticated_total", "counter", "Requests without a valid token.", unauthenticated);
        one("rejected_total", "counter", "Requests that were no directive.", rejected);
        one("not_recorded_total", "counter", "Answers held back because they could not be recorded.", not_recorded);
        one(
            "events_refused_total",
            "counter",
            "Events that a partner found wrong, and that were dropped.",
            self.tally.events_refused(),
        );
        one("ledger_leaves", "gauge", "Leaves in the ledger.", stats.size);
        one("ledger_commits_total", "counter", "Transactions of the ledger.", stats.commits);
        one(
            "ledger_refused_full_total",
            "counter",
            "Requests refused because the ledger's queue was full.",
            stats.refused_full,
        );
        one("ledger_failed_total", "counter", "Requests that failed in the store.", stats.failed);
        one("ledger_lost_total", "counter", "Outcomes that were not recorded.", stats.lost);
        let readings: u64 = lock(&self.readings).values().flat_map(BTreeMap::values).sum();
        one("readings_total", "counter", "Readings taken in.", readings);
        let gate = self.state();
        one("devices", "gauge", "Devices known.", gate.registry.iter().count() as u64);
        one("links", "gauge", "Links.", gate.links.len() as u64);
        one(
            "commands_forgotten_total",
            "counter",
            "Commands forgotten before their time: repeated, they would act again.",
            gate.commands_forgotten(),
        );
        for (name, kind, help) in [
            ("connections", "gauge", "Connections open, by listener."),
            ("connections_total", "counter", "Connections taken, by listener."),
            ("connections_shed_total", "counter", "Connections cut because the listener was full, by listener."),
            (
                "connections_stalled_total",
                "counter",
                "Connections cut because they neither asked nor took their answer.",
            ),
            (
                "connections_broken_total",
                "counter",
                "Connections that broke the protocol or were too slow with a header.",
            ),
        ] {
            let _ = write!(out, "# HELP vestibule_{name} {help}\n# TYPE vestibule_{name} {kind}\n");
            for door in lock(&self.doors).iter() {
                let counts = door.counts();
                let value = match name {
                    "connections" => counts.open,
                    "connections_total" => counts.taken,
                    "connections_shed_total" => counts.shed,
                    "connections_stalled_total" => counts.stalled,
                    _ => counts.broken,
                };
                let _ = writeln!(out, "vestibule_{name}{{listener=\"{}\"}} {value}", door.name());
            }
        }
        out.push_str("# HELP vestibule_dropped_total Messages of devices that were dropped, by reason.\n");
        out.push_str("# TYPE vestibule_dropped_total counter\n");
        for (reason, count) in self.counters.dropped() {
            let _ = writeln!(out, "vestibule_dropped_total{{reason=\"{}\"}} {count}", reason.as_str());
        }
        out
    }
}

fn unreadable(key: &str) -> String {
    format!("the store holds `{key}`, which this version can't read; use the newer program")
}

/// What waits on a link and is not of the profile that is applied: it is not meant any more.
fn is_left(link: &LinkId, wanted: &[Grant]) -> impl Fn(&consent::Pending) -> bool + Sync {
    move |p| p.grant.link == *link && !wanted.iter().any(|g| policy::is_of_same(g, &p.grant))
}

/// Where an ungranted device is stored.
fn keys_of(device: &DeviceId, known: &Registered) -> impl Iterator<Item = String> {
    let properties = known.pins.keys().copied().chain([model::Property::Reachable]);
    let known = properties.map(move |p| format!("known/{device}/{p}"));
    std::iter::once(format!("device/{device}")).chain(known)
}

/// The gate's writes, as the store takes them.
fn held(writes: impl IntoIterator<Item = StateWrite>) -> Vec<(String, Option<String>)> {
    writes.into_iter().map(|w| (w.key, w.json)).collect()
}

/// The settings of events, if there are any.
fn event_settings(config: &Config) -> Result<Option<EventSettings>, String> {
    let alexa = &config.alexa;
    let (Some(region), Some(client_id), Some(client_secret)) = (&alexa.region, &alexa.client_id, &alexa.client_secret)
    else {
        return Ok(None);
    };
    let region = Region::parse(region).ok_or_else(|| format!("`{region}` is no region of Amazon's"))?;
    let gateways = Gateways::new(region, alexa.pretend.as_deref()).map_err(|e| chain(&e))?;
    Ok(Some(EventSettings { gateways, client_id: client_id.clone(), client_secret: client_secret.clone() }))
}

/// The member in whose name the command line acts.
fn owner() -> Result<MemberId, String> {
    MemberId::new(OWNER).map_err(|e| e.to_string())
}

fn no_link(id: &LinkId) -> String {
    format!("there is no link `{id}`; `vestibule links` lists them")
}

/// The profile with this slug.
///
/// # Errors
/// When there is none, in words.
pub fn find_profile(slug: &str) -> Result<&'static Profile, String> {
    policy::profile(slug).ok_or_else(|| {
        let known: Vec<&str> = policy::profiles().iter().map(|p| p.slug.as_str()).collect();
        format!("there is no profile `{slug}`; there are {}", known.join(", "))
    })
}

/// A change of policies, from one set's hash to another's. `demands` are the written demands of the partner that it answers.
fn policy_leaf(
    now: Timestamp,
    (previous, policy_set): (Digest, Digest),
    by: &str,
    change: String,
    link: Option<LinkId>,
    demands: Vec<u64>,
) -> Result<Draft, String> {
    let leaf = ledger::Policy { policy_set, previous: Some(previous), by: by.to_owned(), change, link, demands };
    Draft::policy(now, leaf, None).map_err(|e| chain(&e))
}

fn to_json(value: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|e| e.to_string())
}

/// Puts one stored entry back.
fn restore(
    gate: &mut GateState,
    grants: &mut BTreeMap<GrantId, Grant>,
    members: &mut BTreeMap<MemberId, linking::Member>,
    key: &str,
    value: &str,
) -> bool {
    if let Some(read) = gate.links.oauth.restore(key, value) {
        return read;
    }
    match key.split_once('/') {
        Some(("link", _)) => serde_json::from_str::<Link>(value).map(|l| gate.links.insert(l)).is_ok(),
        Some(("grant", _)) => {
            serde_json::from_str::<Grant>(value).map(|g| drop(grants.insert(g.id.clone(), g))).is_ok()
        }
        Some(("device", id)) => match (DeviceId::new(id), serde_json::from_str::<Registered>(value)) {
            (Ok(id), Ok(device)) => {
                gate.registry.restore(id, device);
                true
            }
            _ => false,
        },
        Some(("member", id)) => linking::restore_member(members, id, value),
        _ => gate.restore(key, value),
    }
}

/// What the record says where hours and windows end since time stands.
const CLOCK_SET_BACK: &str = "the clock was set back";

/// Key of the stored windows.
const WINDOW: &str = "window/";

/// Key of what is set of a window's button.
const BUTTON: &str = "button/";

/// Key of the buttons that have been announced at the broker.
const BUTTONS: &str = "buttons";

/// For how many minutes a window opens where nobody says otherwise.
const WINDOW_MINUTES: u16 = 10;

/// A window's button.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Button {
    /// For how many minutes it opens.
    minutes: u16,
    /// There is none at the broker.
    off: bool,
}

impl Default for Button {
    fn default() -> Self {
        Self { minutes: WINDOW_MINUTES, off: false }
    }
}

/// A change of grants.
struct Changing<'a> {
    /// Of which links.
    links: &'a [Link],
    /// What is given. It may be there already, and is then as it is here.
    add: Vec<Grant>,
    /// What is taken back.
    remove: Vec<GrantId>,
    /// In whose name.
    by: &'a MemberId,
    /// What the record says of it.
    text: String,
    /// The profile that the only link of it is given so.
    profile: Option<&'a str>,
    /// Leaves that are recorded with its own.
    drafts: Vec<Draft>,
    /// What is stored with it. What this deletes is taken back, and that holds whatever becomes of the rest.
    held: Entries,
    /// What is stored only together with all the rest: what waits, and what members are told.
    whole: Entries,
}

/// What became of a profile that was applied.
struct Applied {
    added: usize,
    removed: usize,
    rows: Vec<String>,
    /// What of the added waits.
    waiting: Vec<GrantId>,
}

/// What has come to an end.
#[derive(Default)]
struct EndedGrants {
    expired: usize,
    /// Those that go on, a rung coarser.
    stepped: usize,
    /// What to store.
    entries: Entries,
}

/// The grants that are left at a time: without those that have expired, and with what some of them become.
fn ended_at(
    grants: &BTreeMap<GrantId, Grant>,
    now: Timestamp,
) -> Result<(BTreeMap<GrantId, Grant>, EndedGrants), String> {
    let (mut left, mut ended) = (grants.clone(), EndedGrants::default());
    for grant in grants.values().filter(|g| !g.holds_at(now)) {
        let key = format!("grant/{}", grant.id);
        left.remove(&grant.id);
        match grant.step_down().filter(|g| g.holds_at(now)) {
            Some(less) => {
                ended.stepped += 1;
                ended.entries.push((key, Some(to_json(&less)?)));
                left.insert(less.id.clone(), less);
            }
            None => {
                ended.expired += 1;
                ended.entries.push((key, None));
            }
        }
    }
    // Nothing of a device can be told or commanded unless the partner may know what it is, for as long. What is told a rung less
    // keeps its name: it would be another device.
    let named = grants.values().filter(|g| !g.holds_at(now));
    for grant in named.filter(|g| matches!(g.property, Property::DeviceTypeName | Property::NodeLabel)) {
        let is_its = |g: &&Grant| {
            (&g.link, &g.device) == (&grant.link, &grant.device)
                && !g.property.is_metadata()
                && (g.stepped_down || grant.property == Property::DeviceTypeName)
        };
        if let Some(until) = left.values().filter(is_its).filter_map(|g| g.expires).max() {
            let kept = Grant { expires: Some(until), ..grant.clone() };
            let key = format!("grant/{}", grant.id);
            ended.entries.retain(|(k, _)| *k != key);
            ended.entries.push((key, Some(to_json(&kept)?)));
            ended.expired -= 1;
            left.insert(kept.id.clone(), kept);
        }
    }
    Ok((left, ended))
}

/// The table at a moment: of the grants whose conditions are met, beside what all of them together promise.
fn table_at(
    facts: &policy::Facts,
    grants: Vec<Grant>,
    ceiling: Option<&str>,
    moment: Moment<'_>,
) -> Result<Table, policy::CompileError> {
    let is_conditional = grants.iter().any(Grant::is_conditional);
    let promised = is_conditional.then(|| policy::compile(facts, &grants, ceiling, moment.now)).transpose()?;
    let (held, next) = policy::in_force(grants, moment);
    Ok(policy::compile(facts, &held, ceiling, moment.now)?.with_conditions(promised.map(Arc::new), next))
}

/// The secret bytes of the signing key; made when there is none.
fn signing_key(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut seed = [0u8; 32];
    match File::open(path) {
        Ok(mut file) => {
            file.read_exact(&mut seed).map_err(|e| {
                let mend = "it has fewer than 32 bytes: put a backup in its place (without it the ledger can't go on)";
                std::io::Error::new(e.kind(), mend)
            })?;
            Ok(seed)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
            let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
            file.write_all(&seed)?;
            file.sync_all()?;
            Ok(seed)
        }
        Err(e) => Err(e),
    }
}

/// The hub's name at the broker; made when there is none. A broker puts out the older of two clients of one name, so two hubs
/// must not have the same. At most 23 bytes with what stands behind it: more a broker may refuse.
fn client_id(path: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(id) if id.starts_with(CLIENT_ID_PREFIX) => return Ok(id.trim().to_owned()),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(_) | Err(_) => {}
    }
    let random: String = random::<5>().map_err(std::io::Error::other)?.iter().map(|b| format!("{b:02x}")).collect();
    let id = format!("{CLIENT_ID_PREFIX}{random}");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    Ok(id)
}

/// Runs what waits for a file where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A docket row with its time as text, for the command line.
fn with_time_text(mut row: Value) -> Value {
    if let Some(ms) = row["time"].as_i64() {
        row["time"] = json!(Timestamp::from_millis(ms).to_rfc3339());
    }
    row
}

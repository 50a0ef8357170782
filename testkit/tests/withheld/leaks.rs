//! Leaks planted around the product, never in it: a gate that sits on the real one and knows more, a renderer and a sender
//! that do. Each must be found by the pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use disclosure::{ActError, Acted, Answer, Capability, Command, Disclosed, EndpointView, Gate, Question, Refusal};
use gate::{Decided, GateState, Session};
use model::{DeviceId, EndpointId, LockState, Property, Rung, SystemMode, Timestamp, Trigger, Value};
use policy::Table;
use serde_json::{Value as Json, json};

use crate::rng::{Rng, hash};
use crate::run::{Broker, Frame};
use crate::world::World;

macro_rules! leaks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A way to tell what is withheld.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Leak { $($(#[$doc])* $name,)* }

        pub const LEAKS: &[Leak] = &[$(Leak::$name,)*];
    };
}

leaks! {
    /// The newest value in place of the held one.
    NewestForHeld,
    /// The newest value in place of the mean of an hour or a day that is over.
    NewestForMean,
    /// What is late is not late.
    LateIsOfNow,
    /// What has a dead band is rounded anew.
    SteadyIsRounded,
    /// The sensor's own time in place of the tick.
    TrueSampleTime,
    /// The exact value where a rounded one is granted.
    ExactForCoarse,
    /// Rounded towards where the value has gone since.
    RoundedByDirection,
    /// A command that changes nothing lets go of the held value.
    HoldResetByNoOp,
    /// Every third poll is answered fresh.
    HoldResetByPolling,
    /// A discovery lets go of the held values.
    HoldResetByDiscovery,
    /// A restart lets go of the held values.
    HoldResetByRestart,
    /// The grants of yesterday are honoured.
    ExpiredGrantHonoured,
    /// What nobody granted is polled with the rest.
    RefusedIsTold,
    /// Locks are told under a grant to command them.
    CommandGrantTells,
    /// A desired value of another link is told as if it were reported.
    DesiredOfOthersIsTold,
    /// A held value is left out when the device is not reachable.
    MissingWhenUnreachable,
    /// A property is left out when its newest value is unusual.
    MissingWhenChanged,
    /// A polled value comes in the order of the newest readings.
    OrderOfPropertiesByRecency,
    /// Names count the devices that are not granted.
    NumbersCountAll,
    /// The device's own name.
    OwnName,
    /// The device that spoke last comes first.
    OrderOfEndpointsByActivity,
    /// A new device is announced.
    NewDeviceAnnounced,
    /// A device that comes back has another number.
    BackAgainIsNumberedAnew,
    /// Of a device that comes back the held values are let go.
    BackAgainBeginsAfresh,
    /// Firmware, to those who may not know it.
    FirmwareTold,
    /// A capability appears when the first value has come.
    CapabilityWhenKnown,
    /// Modes in the order in which they are in force.
    ModesBeginWithTheCurrent,
    /// The range shrinks to what the home is set to.
    RangeFollowsSetpoint,
    /// "The thermostat is off", to those who may not know.
    OffTellsMode,
    /// "The device does not answer", to those who may not know.
    UnreachableTold,
    /// An error when there is nothing to start from.
    UnknownStateIsAnError,
    /// An error when the change would leave the range.
    AdjustOutOfRange,
    /// An answer to a change says where it ended.
    AdjustTellsResult,
    /// The target is repeated under the set point that is in force.
    TargetTellsSetpointInForce,
    /// An answer carries a snapshot of everything.
    ContextIsASnapshot,
    /// The command is refused when it would change nothing.
    NothingToDoIsAnError,
    /// The answer is dated by the last reading.
    ClockFollowsReadings,
    /// The uncertainty is the value's age.
    UncertaintyIsTheAge,
    /// Connectivity as it is.
    ConnectivityAsItIs,
    /// The cause of the last change.
    CauseOfChange,
    /// The body is padded by how much is known of the home.
    BodyPadding,
    /// A withheld property is there, with null for its value.
    NullWhenWithheld,
    /// An error's message names the state.
    MessageTellsState,
    /// Fields in the order of the last activity.
    FieldOrderByActivity,
    /// Ids from a counter that everything in the hub shares.
    SharedIdCounter,
    /// Ids made from the home's state.
    IdFromState,
    /// A header with a count of readings, as metrics have it.
    MetricsHeader,
    /// A header with the length of a queue.
    QueueLengthHeader,
    /// A header with a hash of the home.
    EntityTag,
    /// A header with the time of the last change.
    LastModified,
    /// The connection is closed when the home is busy.
    ConnectionClose,
    /// 202 when the device has not obeyed yet.
    DeferredStatus,
    /// An answer waits for the device when it is reachable.
    WaitsForTheDevice,
    /// The answer waits longer for what is refused.
    RefusalTakesLess,
    /// 429 when the home has sent many readings.
    BusyHomeLimitsPartners,
    /// The answer comes twice when something changed.
    AnsweredTwice,
    /// What is withheld is stripped, and the message sent.
    StrippedButSent,
    /// A coarse value is reported when it changes.
    SentOnChange,
    /// A new device is reported.
    AddReport,
    /// A device that went away is reported.
    DeleteReport,
    /// A sign of life with each command of another link.
    OtherLinkHeard,
    /// Unasked, the newest value in place of the one at the tick.
    UnaskedIsTheNewest,
    /// Unasked, the cause is whether somebody has asked for it.
    UnaskedTellsCause,
    /// Unasked, the order of the properties is that of their last change.
    UnaskedInOrderOfChange,
    /// The answer waits for the messages that a device delivers at once.
    WaitsForBacklog,
    /// A blind on its way is not told where it is.
    BlindOnItsWayIsMissing,
    /// A blind that is there already takes no command.
    BlindThereIsAnError,
    /// A change of brightness says where it ended.
    DimmingTellsResult,
    /// A lamp that shows a colour takes no white.
    ColorTellsItself,
    /// A lock that is there already is answered for at once.
    DeferredOnlyWhenNeeded,
    /// The outcome says where the lock is.
    OutcomeTellsLock,
}

/// What the planted leak knows.
pub struct Spy {
    leak: Option<Leak>,
    pub table_before: Option<Arc<Table>>,
    /// What other links did.
    pub other: u64,
    readings: u64,
    since_ask: u64,
    /// How many readings came at the last time at which one did, and the most since the partner asked.
    at_once: u32,
    backlog: u32,
    last: Option<(DeviceId, Property, Timestamp)>,
    came: BTreeMap<DeviceId, u64>,
    new: BTreeSet<DeviceId>,
    gone: BTreeSet<DeviceId>,
    back: BTreeSet<DeviceId>,
    fresh: bool,
    polls: u64,
    queue: Vec<Frame>,
}

fn get<T>(state: &Mutex<GateState>, with: impl FnOnce(&mut GateState) -> T) -> T {
    with(&mut state.lock().unwrap())
}

fn newest(state: &GateState, device: &DeviceId, property: Property) -> Option<(Value, Timestamp)> {
    state.home.reported(device, property).map(|s| (s.value.clone(), s.time))
}

#[expect(clippy::disallowed_methods, reason = "a leak makes what only the gate may make")]
fn forge(property: Property, value: Value, time: Timestamp, rung: Rung) -> Disclosed {
    Disclosed::from_gate(property, value, time, rung)
}

fn frame(body: Json) -> Frame {
    Frame { status: 200, headers: Vec::new(), body: body.to_string().into_bytes(), waits: 1, tick: None }
}

impl Spy {
    pub fn new(leak: Option<Leak>) -> Self {
        Spy {
            leak,
            table_before: None,
            other: 0,
            readings: 0,
            since_ask: 0,
            at_once: 0,
            backlog: 0,
            last: None,
            came: BTreeMap::new(),
            new: BTreeSet::new(),
            gone: BTreeSet::new(),
            back: BTreeSet::new(),
            fresh: false,
            polls: 0,
            queue: Vec::new(),
        }
    }

    fn is(&self, leak: Leak) -> bool {
        self.leak == Some(leak)
    }

    pub fn reading(
        &mut self,
        state: &Mutex<GateState>,
        device: &DeviceId,
        property: Property,
        value: &Value,
        now: Timestamp,
    ) {
        if self.leak.is_none() {
            return;
        }
        self.readings += 1;
        self.since_ask += 1;
        let before = get(state, |s| newest(s, device, property)).map(|(v, _)| property.coarse(&v));
        if self.is(Leak::SentOnChange) && before != Some(property.coarse(value)) {
            self.queue.push(frame(json!({"event": "ChangeReport", "value": format!("{:?}", property.coarse(value))})));
        }
        if self.is(Leak::StrippedButSent) {
            self.queue.push(frame(json!({"event": "ChangeReport", "properties": []})));
        }
        let again = self.last.as_ref().is_some_and(|(d, _, t)| d == device && *t == now);
        self.at_once = if again { self.at_once + 1 } else { 1 };
        self.backlog = self.backlog.max(self.at_once);
        self.last = Some((device.clone(), property, now));
        *self.came.entry(device.clone()).or_default() = self.readings;
    }

    pub fn described(&mut self, device: &DeviceId) {
        if self.is(Leak::AddReport) {
            self.queue.push(frame(json!({"event": "AddOrUpdateReport"})));
        }
        if self.gone.remove(device) {
            self.back.insert(device.clone());
        }
        self.new.insert(device.clone());
    }

    pub fn withdrawn(&mut self, device: &DeviceId) {
        if self.is(Leak::DeleteReport) {
            self.queue.push(frame(json!({"event": "DeleteReport"})));
        }
        self.gone.insert(device.clone());
    }

    pub fn restarted(&mut self, _: &Mutex<GateState>, _: Timestamp) {
        if self.is(Leak::HoldResetByRestart) {
            self.fresh = true;
        }
    }

    /// Frames that nobody asked for.
    pub fn unsolicited(&mut self, _: &Mutex<GateState>, _: &World, _: Timestamp) -> Vec<Frame> {
        if self.is(Leak::OtherLinkHeard) {
            for _ in 0..std::mem::take(&mut self.other) {
                self.queue.push(frame(json!({"event": "Ping"})));
            }
        }
        std::mem::take(&mut self.queue)
    }

    /// An id for a message; random for each that is sent.
    pub fn message_id(&self, seed: u64, sent: usize) -> String {
        let mut rng = Rng::new(seed ^ (sent as u64) << 32);
        let state = self.last.as_ref().map_or(0, |(_, _, t)| t.as_millis() as u64);
        match self.leak {
            Some(Leak::SharedIdCounter) => format!("id-{}", sent as u64 + self.readings + self.other),
            Some(Leak::IdFromState) => format!("id-{:x}", hash(&state.to_le_bytes())),
            _ => format!("id-{:016x}", rng.next()),
        }
    }

    pub fn now(&self, now: Timestamp) -> Timestamp {
        match &self.last {
            Some((_, _, last)) if self.is(Leak::ClockFollowsReadings) => last.plus_millis(7),
            _ => now,
        }
    }

    /// Changes an event before it is written.
    pub fn render(
        &mut self,
        event: &mut Json,
        state: &Mutex<GateState>,
        decided: &[Decided],
        world: &World,
        device: Option<&DeviceId>,
        now: Timestamp,
    ) {
        let Some(leak) = self.leak else { return };
        let device = device.cloned().unwrap_or_else(|| world.devices().next().unwrap().id.clone());
        let read = |p: Property| get(state, |s| newest(s, &device, p));
        let refused: Vec<&Decided> = decided.iter().filter(|d| d.outcome.is_err()).collect();
        let is_there = || read(Property::LockState).is_some_and(|(v, _)| v == Value::LockState(LockState::Locked));
        if leak == Leak::DeferredOnlyWhenNeeded && event["event"]["header"]["name"] == "DeferredResponse" && is_there()
        {
            event["event"]["header"]["name"] = json!("Response");
        }
        let properties = event.pointer_mut("/context/properties").and_then(Json::as_array_mut);
        match (leak, properties) {
            (Leak::UncertaintyIsTheAge, Some(all)) => {
                let age = read(Property::LocalTemperature).map_or(0, |(_, t)| now.as_millis() - t.as_millis());
                all.iter_mut().for_each(|p| p["uncertaintyInMilliseconds"] = json!(age));
            }
            (Leak::ConnectivityAsItIs, Some(all))
                if read(Property::Reachable).is_some_and(|(v, _)| v == Value::Bool(false)) =>
            {
                let health = all.iter_mut().filter(|p| p["name"] == "connectivity");
                health.for_each(|p| p["value"] = json!({"value": "UNREACHABLE"}));
            }
            (Leak::NullWhenWithheld, Some(all)) => {
                for d in refused.iter().filter(|d| read(d.property).is_some()) {
                    all.push(json!({"name": d.property.as_str(), "value": null}));
                }
            }
            (Leak::OrderOfPropertiesByRecency, Some(all))
                if self.last.as_ref().is_some_and(|(_, p, _)| (*p as usize).is_multiple_of(2)) =>
            {
                all.reverse();
            }
            (Leak::CauseOfChange, Some(_)) => {
                let desired =
                    get(state, |s| s.home.desired(&device, Property::OccupiedHeatingSetpoint).map(|d| d.time));
                let reported = read(Property::OccupiedHeatingSetpoint).map(|(_, t)| t);
                let cause = if desired > reported { "APP_INTERACTION" } else { "PHYSICAL_INTERACTION" };
                event["event"]["payload"] = json!({"cause": {"type": cause}});
            }
            (Leak::BodyPadding, _) => {
                let known = get(state, |s| s.home.iter().count());
                event["event"]["padding"] = json!(" ".repeat(known));
            }
            (Leak::MessageTellsState, _) => {
                if let Some(message) = event.pointer_mut("/event/payload/message") {
                    let newest = self.last.as_ref().map(|(_, p, _)| p.label());
                    *message = json!(format!("{} Last heard of: {newest:?}", message.as_str().unwrap()));
                }
            }
            (Leak::FieldOrderByActivity, _) if self.since_ask.is_multiple_of(2) => {
                if let Json::Object(all) = event {
                    let reversed = all.clone().into_iter().rev().collect();
                    *all = reversed;
                    all.insert("".into(), Json::Null);
                    all.remove("");
                }
                event["event"]["header"].as_object_mut().unwrap().sort_keys();
            }
            _ => {}
        }
    }

    /// Changes an event that nobody asked for.
    pub fn render_unasked(&mut self, event: &mut Json, state: &Mutex<GateState>, world: &World) {
        let Some(id) = event.pointer("/event/endpoint/endpointId").and_then(Json::as_str) else { return };
        let device = world.devices().find(|d| world.link.endpoint(&d.id).as_str() == id).map(|d| d.id.clone());
        if let (Some(Leak::OutcomeTellsLock), Some(device), "Response") =
            (self.leak, &device, event["event"]["header"]["name"].as_str().unwrap_or_default())
        {
            event["context"]["lock"] = json!(get(state, |s| newest(s, device, Property::LockState).map(|(v, _)| v)));
        }
        let asked_for = |d: &DeviceId| get(state, |s| s.home.iter().any(|(x, _, k)| x == d && k.desired.is_some()));
        let Some(change) = event.pointer_mut("/event/payload/change") else { return };
        match self.leak {
            Some(Leak::UnaskedTellsCause) if device.as_ref().is_some_and(asked_for) => {
                change["cause"]["type"] = json!("APP_INTERACTION");
            }
            Some(Leak::UnaskedInOrderOfChange)
                if self.last.as_ref().is_some_and(|(_, p, _)| (*p as usize).is_multiple_of(2)) =>
            {
                change["properties"].as_array_mut().unwrap().reverse();
            }
            _ => {}
        }
    }

    /// Sends an answer.
    pub fn send(
        &mut self,
        mut answer: Frame,
        state: &Mutex<GateState>,
        world: &World,
        device: Option<&DeviceId>,
        now: Timestamp,
    ) -> Vec<Frame> {
        let (since, backlog) = (std::mem::take(&mut self.since_ask), std::mem::take(&mut self.backlog));
        let Some(leak) = self.leak else { return vec![answer] };
        let reachable = |d: &DeviceId| {
            get(state, |s| newest(s, d, Property::Reachable)).is_none_or(|(v, _)| v == Value::Bool(true))
        };
        let device = device.cloned().unwrap_or_else(|| world.devices().next().unwrap().id.clone());
        match leak {
            Leak::MetricsHeader => answer.headers.push(format!("x-readings: {}", self.readings)),
            Leak::QueueLengthHeader => answer.headers.push(format!("x-queue: {since}")),
            Leak::EntityTag => {
                let all = get(state, |s| {
                    s.home.iter().map(|(d, p, k)| format!("{d}{p}{:?}", k.reported)).collect::<String>()
                });
                answer.headers.push(format!("etag: {:x}", hash(all.as_bytes())));
            }
            Leak::LastModified => {
                answer.headers.push(format!("last-modified: {:?}", self.last.as_ref().map(|(_, _, t)| *t)))
            }
            Leak::WaitsForBacklog if backlog >= 3 => answer.waits += backlog,
            Leak::ConnectionClose if since > 4 => answer.headers.push("connection: close".into()),
            Leak::DeferredStatus if !reachable(&device) => answer.status = 202,
            Leak::WaitsForTheDevice if reachable(&device) => answer.waits += 1,
            Leak::RefusalTakesLess => {
                let known = get(state, |s| s.home.iter().filter(|(d, _, _)| **d == device).count());
                answer.waits += known as u32;
            }
            Leak::BusyHomeLimitsPartners if since > 6 => answer.status = 429,
            Leak::AnsweredTwice
                if self.last.as_ref().is_some_and(|(_, _, t)| now.as_millis() - t.as_millis() < 120_000) =>
            {
                return vec![answer.clone(), answer];
            }
            _ => {}
        }
        vec![answer]
    }
}

/// The gate with a leak. Without one it only keeps what was given out.
pub struct Leaky<'a> {
    inner: Session<Broker>,
    spy: &'a mut Spy,
    state: &'a Arc<Mutex<GateState>>,
    world: &'a World,
    given: Vec<Disclosed>,
    found: bool,
}

impl<'a> Leaky<'a> {
    pub fn new(inner: Session<Broker>, spy: &'a mut Spy, state: &'a Arc<Mutex<GateState>>, world: &'a World) -> Self {
        Self { inner, spy, state, world, given: Vec::new(), found: false }
    }

    pub fn into_parts(self) -> (Session<Broker>, Vec<Disclosed>, bool) {
        (self.inner, self.given, self.found)
    }

    fn device(&self, endpoint: &EndpointId) -> Option<DeviceId> {
        self.world.devices().find(|d| self.world.link.endpoint(&d.id) == *endpoint).map(|d| d.id.clone())
    }

    fn newest(&self, device: &DeviceId, property: Property) -> Option<(Value, Timestamp)> {
        get(self.state, |s| newest(s, device, property))
    }

    fn view(&mut self, mut view: EndpointView) -> Option<EndpointView> {
        let Some(leak) = self.spy.leak else { return Some(view) };
        let device = self.device(&view.id)?;
        let newest = |p: Property| get(self.state, |s| newest(s, &device, p));
        match leak {
            Leak::NumbersCountAll => {
                let same =
                    get(self.state, |s| s.registry.iter().filter(|(_, d)| d.device_type() == view.device_type).count());
                view.name = format!("{} {same}", view.device_type.neutral_name());
            }
            Leak::OwnName => {
                view.name = get(self.state, |s| s.registry.get(&device).map(|d| d.description.name.clone()))?
            }
            Leak::BackAgainIsNumberedAnew if self.spy.back.contains(&device) => view.name.push_str(" 2"),
            Leak::FirmwareTold => {
                let firmware =
                    get(self.state, |s| s.registry.get(&device).and_then(|d| d.description.firmware.clone()))?;
                let property = Property::SoftwareVersion;
                view.metadata.push(forge(property, Value::Text(firmware), self.inner.now(), Rung::Live));
            }
            Leak::CapabilityWhenKnown => {
                for property in [Property::RelativeHumidity, Property::ContactOpen, Property::Motion, Property::OnOff] {
                    let has = view.capabilities.iter().any(|c| c.property == property);
                    if !has && newest(property).is_some() {
                        let (poll, proactive, command, command_open) = (true, false, false, false);
                        view.capabilities.push(Capability { property, poll, proactive, command, command_open });
                    }
                }
            }
            Leak::ModesBeginWithTheCurrent => {
                if let Some((Value::SystemMode(mode), _)) = newest(Property::SystemMode) {
                    view.features.modes.sort_by_key(|m| *m != mode);
                }
            }
            _ => {}
        }
        Some(view)
    }

    /// A value in place of one that the gate gave.
    fn twist(&self, device: &DeviceId, d: Disclosed, trigger: Trigger) -> Option<Disclosed> {
        let Some(leak) = self.spy.leak else { return Some(d) };
        let unasked = trigger == Trigger::ProactiveReport;
        let held = d.rung() != Rung::Live;
        let Some((value, time)) = self.newest(device, d.property()) else { return Some(d) };
        let again = |value: Value, time: Timestamp| Some(forge(d.property(), value, time, d.rung()));
        let shaped = if d.rung().is_coarse() { d.property().coarse(&value) } else { value.clone() };
        match leak {
            Leak::NewestForHeld if held => again(shaped, d.time()),
            Leak::NewestForMean if d.rung().is_aggregate() => again(shaped, d.time()),
            Leak::LateIsOfNow if d.rung() == Rung::HourLate => again(value, d.time()),
            Leak::SteadyIsRounded if d.rung() == Rung::HourSteady => again(shaped, d.time()),
            Leak::UnaskedIsTheNewest if unasked => again(shaped, d.time()),
            Leak::BlindOnItsWayIsMissing if d.property() == Property::CoverPosition && held && shaped != *d.value() => {
                None
            }
            Leak::HoldResetByNoOp | Leak::HoldResetByDiscovery | Leak::HoldResetByRestart if held && self.spy.fresh => {
                again(shaped, d.time())
            }
            Leak::BackAgainBeginsAfresh if held && self.spy.back.contains(device) => again(shaped, d.time()),
            Leak::HoldResetByPolling if held && self.spy.polls.is_multiple_of(3) => again(shaped, d.time()),
            Leak::TrueSampleTime if held => again(d.value().clone(), time),
            Leak::ExactForCoarse if d.rung().is_coarse() && shaped == *d.value() => again(value, d.time()),
            Leak::RoundedByDirection if held => match (d.value(), &value) {
                (Value::Temperature(t), Value::Temperature(raw)) => {
                    again(Value::Temperature(t + if raw > t { 1000 } else { 0 }), d.time())
                }
                _ => Some(d),
            },
            Leak::MissingWhenUnreachable if held => {
                let away = self.newest(device, Property::Reachable).is_some_and(|(v, _)| v == Value::Bool(false));
                if away { None } else { Some(d) }
            }
            Leak::MissingWhenChanged if held && shaped != *d.value() => None,
            Leak::DesiredOfOthersIsTold => {
                let desired = get(self.state, |s| s.home.desired(device, d.property()).map(|s| s.value.clone()));
                match desired {
                    Some(value) => again(value, d.time()),
                    None => Some(d),
                }
            }
            _ => Some(d),
        }
    }

    fn error(&self, device: &DeviceId, command: &Command) -> Option<ActError> {
        let is_setpoint = matches!(command, Command::SetSetpoint { .. } | Command::AdjustSetpoint { .. });
        let newest = |p: Property| self.newest(device, p).map(|(v, _)| v);
        let setpoint = newest(Property::OccupiedHeatingSetpoint).or_else(|| newest(Property::OccupiedCoolingSetpoint));
        match (self.spy.leak?, command) {
            (Leak::OffTellsMode, _)
                if is_setpoint && newest(Property::SystemMode) == Some(Value::SystemMode(SystemMode::Off)) =>
            {
                Some(ActError::ThermostatIsOff)
            }
            (Leak::UnreachableTold, _) if newest(Property::Reachable) == Some(Value::Bool(false)) => {
                Some(ActError::Unreachable)
            }
            (Leak::UnknownStateIsAnError, Command::AdjustSetpoint { .. }) if setpoint.is_none() => {
                Some(ActError::Refused(Refusal::NoValue))
            }
            (Leak::AdjustOutOfRange, Command::AdjustSetpoint { delta_milli }) => match setpoint {
                Some(Value::Temperature(t)) if !(5_000..=24_000).contains(&(t + delta_milli)) => {
                    Some(ActError::OutOfRange { min: Value::Temperature(5_000), max: Value::Temperature(30_000) })
                }
                _ => None,
            },
            (Leak::RangeFollowsSetpoint, Command::SetSetpoint { target: Some(Value::Temperature(t)), .. }) => {
                match setpoint {
                    Some(Value::Temperature(now)) if (t - now).abs() > 3_000 => {
                        Some(ActError::OutOfRange { min: Value::Temperature(5_000), max: Value::Temperature(30_000) })
                    }
                    _ => None,
                }
            }
            (Leak::BlindThereIsAnError, Command::SetPart(part, to))
                if newest(part.property())
                    .is_some_and(|v| matches!(v, Value::Percent(p) if p.abs_diff(*to) < 1_000)) =>
            {
                Some(ActError::Refused(Refusal::NotSupported))
            }
            (Leak::ColorTellsItself, Command::AdjustColorTemperature(_)) => {
                let time = |p: Property| self.newest(device, p).map(|(_, t)| t);
                (time(Property::Color) > time(Property::ColorTemperature)).then_some(ActError::ShowsColor)
            }
            (Leak::NothingToDoIsAnError, Command::SetOnOff(on))
                if newest(Property::OnOff) == Some(Value::Bool(*on)) =>
            {
                Some(ActError::Refused(Refusal::NotSupported))
            }
            (Leak::NothingToDoIsAnError, Command::SetLock(lock))
                if newest(Property::LockState) == Some(Value::LockState(*lock)) =>
            {
                Some(ActError::Refused(Refusal::NotSupported))
            }
            _ => None,
        }
    }
}

impl Gate for Leaky<'_> {
    fn endpoints(&mut self) -> Vec<EndpointView> {
        let views = self.inner.endpoints();
        if self.spy.is(Leak::HoldResetByDiscovery) {
            self.spy.fresh = true;
        }
        let mut views: Vec<EndpointView> = views.into_iter().filter_map(|v| self.view(v)).collect();
        if self.spy.is(Leak::OrderOfEndpointsByActivity) {
            views.sort_by_key(|v| self.device(&v.id).and_then(|d| self.spy.came.get(&d).copied()));
        }
        if self.spy.is(Leak::NewDeviceAnnounced)
            && let Some(first) = views.first().cloned()
        {
            for extra in self.spy.new.iter().filter(|d| d.as_str().starts_with("x-")) {
                views.push(EndpointView {
                    id: self.world.link.endpoint(extra),
                    name: "Device".into(),
                    ..first.clone()
                });
            }
        }
        views
    }

    fn endpoint(&mut self, id: &EndpointId) -> Option<EndpointView> {
        let view = self.inner.endpoint(id)?;
        self.found = true;
        self.view(view)
    }

    fn ask(&mut self, question: Question) -> Answer {
        self.inner.ask(question)
    }

    fn ask_all(&mut self, endpoint: &EndpointId, trigger: Trigger) -> Vec<Disclosed> {
        let all = self.inner.ask_all(endpoint, trigger);
        self.given.extend(all.clone());
        self.spy.polls += 1;
        let (Some(device), Some(leak)) = (self.device(endpoint), self.spy.leak) else { return all };
        let mut all: Vec<Disclosed> = all.into_iter().filter_map(|d| self.twist(&device, d, trigger)).collect();
        let has = |all: &[Disclosed], p: Property| all.iter().any(|d| d.property() == p);
        let properties: Vec<Property> =
            get(self.state, |s| s.registry.get(&device).map(|k| k.description.properties.keys().copied().collect()))
                .unwrap_or_default();
        for p in properties {
            let Some((value, time)) = self.newest(&device, p) else { continue };
            let link = &self.world.link.id;
            let before = self.spy.table_before.as_ref().map(|t| t.decide(link, &device, p, Trigger::PartnerPoll).rung);
            let tell = match leak {
                Leak::ExpiredGrantHonoured => before.is_some_and(|rung| rung.is_ok()),
                Leak::RefusedIsTold => true,
                Leak::CommandGrantTells => get(self.state, |s| s.table().may(link, &device, p, false).is_ok()),
                _ => false,
            };
            if tell && !has(&all, p) {
                all.push(forge(p, value, time, Rung::Live));
            }
        }
        all
    }

    async fn act(&mut self, endpoint: EndpointId, command: Command) -> Result<Acted, ActError> {
        let device = self.device(&endpoint);
        let before =
            device.as_ref().map(|d| get(self.state, |s| s.home.desired(d, Property::OccupiedHeatingSetpoint).cloned()));
        let acted = self.inner.act(endpoint, command.clone()).await;
        if let Ok(acted) = &acted {
            self.given.extend(acted.context.clone());
        }
        let (Some(leak), Some(device)) = (self.spy.leak, device) else { return acted };
        let mut acted = acted?;
        if let Some(error) = self.error(&device, &command) {
            return Err(error);
        }
        if leak == Leak::HoldResetByNoOp {
            self.spy.fresh = true;
        }
        let now = self.inner.now();
        let desired = |p: Property| get(self.state, |s| s.home.desired(&device, p).cloned());
        match (leak, &command) {
            (Leak::AdjustTellsResult, Command::AdjustSetpoint { .. }) => {
                if let Some(sample) = desired(Property::OccupiedHeatingSetpoint) {
                    acted.context.push(forge(Property::OccupiedHeatingSetpoint, sample.value, now, Rung::Live));
                    let heat = Value::SystemMode(SystemMode::Heat);
                    acted.context.push(forge(Property::SystemMode, heat, now, Rung::Live));
                }
            }
            (Leak::DimmingTellsResult, Command::AdjustLevel(_)) => {
                if let Some(sample) = desired(Property::CurrentLevel) {
                    acted.context.push(forge(Property::CurrentLevel, sample.value, now, Rung::Live));
                }
            }
            (Leak::TargetTellsSetpointInForce, Command::SetSetpoint { target: Some(_), .. }) => {
                let heats = Some(desired(Property::OccupiedHeatingSetpoint)) != before;
                if !heats {
                    acted.echo.clear();
                }
            }
            (Leak::ContextIsASnapshot, _) => {
                let properties: Vec<Property> = get(self.state, |s| {
                    s.registry.get(&device).map(|k| k.description.properties.keys().copied().collect())
                })
                .unwrap_or_default();
                for p in properties {
                    if let Some((value, time)) = self.newest(&device, p)
                        && acted.context.iter().chain(&acted.echo).all(|d| d.property() != p)
                    {
                        acted.context.push(forge(p, value, time, Rung::Live));
                    }
                }
            }
            _ => {}
        }
        Ok(acted)
    }

    fn sends(&self) -> bool {
        self.inner.sends()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn message_id(&mut self) -> String {
        self.inner.message_id()
    }
}

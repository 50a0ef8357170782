//! One message of one link: what it asked, what came out, what was refused.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use disclosure::{
    ActError, Acted, Answer, Capability, Command, Disclosed, EndpointView, Features, Gate, Question, Refusal, Secret,
};
use home::{Desired, PlanError, Registered, Sample, nearest_white, objections, plan};
use links::{Link, Part};
use model::{DeviceId, DeviceType, EndpointId, Kind, LinkId, PartnerId, Property, Rung, Timestamp, Trigger, Value};

use policy::Code;

use crate::once::{Once, once};
use crate::state::{GateState, StateWrite, announced, capabilities, of_device};

/// A decision of the gate, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The device.
    pub device: DeviceId,
    /// The property asked for or commanded.
    pub property: Property,
    /// Its kind.
    pub kind: Kind,
    /// Why it would leave.
    pub trigger: Trigger,
    /// What was shown, or the refusal.
    pub outcome: Result<Shown, Refusal>,
    /// The policies that decided.
    pub policies: Arc<[String]>,
}

/// What was shown of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How coarse and how old.
    pub rung: Rung,
    /// The time shown with it.
    pub time: Timestamp,
    /// The shaped value.
    pub value: Value,
}

/// What a message came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Each decision, in the order of the questions.
    pub decided: Vec<Decided>,
    /// What only repeats what the partner itself set: device, property, value, time.
    pub echoed: Vec<(DeviceId, Property, Value, Timestamp)>,
    /// What must be stored in the same transaction as the INTENT; then [`GateState::settle`] is to be told.
    pub writes: Vec<StateWrite>,
    /// Hash of the policies that decided.
    pub policy_set: [u8; 32],
}

/// A command that policy has authorised and the home has planned.
#[derive(Clone, Debug)]
pub struct Order {
    /// Who gives it.
    pub link: LinkId,
    /// The partner behind the link.
    pub partner: PartnerId,
    /// For which device.
    pub device: DeviceId,
    /// The partner's own name of the message that gave it.
    pub message: String,
    /// The command's name.
    pub command: &'static str,
    /// Hash of the policies in force.
    pub policy_set: [u8; 32],
    /// What the device should become. Nothing when the home can't tell what (it knows no value to start from): the order is
    /// recorded, and waits for the broker, all the same.
    pub desired: Vec<Desired>,
    /// The policies that allowed it.
    pub policies: Arc<[String]>,
    /// When.
    pub time: Timestamp,
}

/// Why an order was not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActuatorError {
    /// It could not be recorded: nothing was sent.
    NotRecorded,
    /// The broker did not take it.
    BrokerUnreachable,
    /// The device takes no such command.
    NotSupported,
}

/// Why a PIN was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinFault {
    /// It is another one, or the link has none.
    Wrong,
    /// Too many were wrong.
    Locked,
    /// The attempt could not be counted, so it was not tried.
    NotRecorded,
}

/// Records an order, then hands it to the broker. Comes back when the broker has it.
pub trait Actuator: Send + Sync + 'static {
    /// Records and hands over.
    fn carry_out(&self, order: Order) -> impl Future<Output = Result<(), ActuatorError>> + Send;

    /// Holds a PIN against the link's, after the attempt has been counted durably. Where there are no PINs, none fits.
    fn check_pin(
        &self,
        _link: &LinkId,
        _pin: Secret,
        _now: Timestamp,
    ) -> impl Future<Output = Result<(), PinFault>> + Send {
        std::future::ready(Err(PinFault::Wrong))
    }
}

/// The gate for one message of one authenticated link.
pub struct Session<A> {
    state: Arc<Mutex<GateState>>,
    actuator: Arc<A>,
    link: LinkId,
    partner: PartnerId,
    now: Timestamp,
    message: String,
    message_id: String,
    request: Option<String>,
    decided: Vec<Decided>,
    echoed: Vec<(DeviceId, Property, Value, Timestamp)>,
    writes: Vec<StateWrite>,
}

impl<A: Actuator> Session<A> {
    /// Opens the gate for one message. `message` is the partner's name for it (for the record), `message_id` a fresh
    /// random id, used if a message leaves.
    pub fn new(
        state: Arc<Mutex<GateState>>,
        actuator: Arc<A>,
        link: &Link,
        now: Timestamp,
        message: String,
        message_id: String,
    ) -> Self {
        let now = lock(&state).advance(now);
        Self {
            state,
            actuator,
            link: link.id.clone(),
            partner: link.partner.clone(),
            now,
            message,
            message_id,
            request: None,
            decided: Vec::new(),
            echoed: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// The partner's own id of the message: a command that comes again under it is not carried out again.
    #[must_use]
    pub fn asked_as(mut self, request: Option<&str>) -> Self {
        self.request = request.map(str::to_owned);
        self
    }

    /// What was decided, and what must be stored with the INTENT.
    pub fn finish(self) -> Finished {
        let policy_set = lock(&self.state).table().policy_hash();
        Finished { decided: self.decided, echoed: self.echoed, writes: self.writes, policy_set }
    }

    fn device(&self, state: &GateState, endpoint: &EndpointId) -> Option<(DeviceId, Part)> {
        let link = state.links.get(&self.link)?;
        let (device, part) = link.find(endpoint)?;
        state.registry.get(device).map(|_| (device.clone(), part))
    }

    /// Decides and samples one property. The same work is done whether it is withheld or not.
    fn look(&mut self, state: &mut GateState, device: &DeviceId, property: Property, trigger: Trigger) -> Answer {
        let table = Arc::clone(state.table());
        let decision = table.decide(&self.link, device, property, trigger);
        let kind = state.registry.get(device).map_or(Kind::Unknown, |k| k.kind(property));
        let rung = decision.rung.unwrap_or(Rung::HourCoarse);
        let (sample, writes) = if property.is_metadata() {
            let value = state.registry.get(device).and_then(|k| metadata(k, property, rung));
            (value.map(|value| Sample { value, time: self.now }), Vec::new())
        } else {
            state.sample(&self.link, device, property, (trigger, rung), self.now)
        };
        // What is not there has no value, whatever it said last.
        let sample = sample.filter(|_| state.registry.get(device).is_some_and(|k| k.has(property)));
        let outcome = match (decision.rung, &sample) {
            (Err(refusal), _) => Err(refusal),
            (Ok(_), None) => Err(Refusal::NoValue),
            (Ok(rung), Some(s)) => Ok(Shown { rung, time: s.time, value: s.value.clone() }),
        };
        self.writes.extend(writes);
        let policies = Arc::clone(decision.policies);
        let answer = match &outcome {
            Ok(shown) => Answer::Disclosed(disclose(property, shown.value.clone(), shown.time, shown.rung)),
            Err(refusal) => Answer::Refused(*refusal),
        };
        self.decided.push(Decided { device: device.clone(), property, kind, trigger, outcome, policies });
        answer
    }

    /// A device as this link may know it, or `None` when it may not know of it. At discovery each question about the
    /// device itself is written down, so that the record shows what was refused.
    fn view(
        &mut self,
        state: &mut GateState,
        (device, id, part): (&DeviceId, EndpointId, Part),
        trigger: Option<Trigger>,
    ) -> Option<EndpointView> {
        let table = Arc::clone(state.table());
        let known = state.registry.get(device)?;
        let link = state.links.get(&self.link)?;
        let on_link = link.device(device)?.clone();
        let promised = table.promised();
        let mut capabilities = capabilities(promised, (&self.link, state.is_reporting(&self.link)), device, known);
        let announced = announced(promised, &self.link, device, &capabilities);
        capabilities.retain(|c| belongs(c.property, part));
        let (device_type, features) = match part {
            Part::Sensor => (sensor_type(&capabilities), Features::default()),
            Part::Whole | Part::Control => (known.device_type(), known.description.features.clone()),
        };
        let mut told = Vec::new();
        let before = self.decided.len();
        if let Some(trigger) = trigger {
            let asked: Vec<Property> = of_device(known).filter(|p| p.is_metadata()).collect();
            for p in asked {
                told.extend(self.look(state, device, p, trigger).disclosed());
            }
        }
        if part == Part::Sensor {
            // Decided for the other part already: once is enough for the record.
            self.decided.truncate(before);
        }
        // It is numbered when a table that announces it comes into force. What has withdrawn itself has nothing to announce.
        let (true, Some(number)) = (announced, on_link.number) else { return None };
        let granted = told.iter().find(|d| d.property() == Property::NodeLabel).map(Disclosed::value);
        let mut name = match (&on_link.name, granted) {
            (Some(for_this_partner), _) => for_this_partner.clone(),
            (None, Some(Value::Text(name))) => name.clone(),
            _ => format!("{} {}", on_link.device_type.neutral_name(), number),
        };
        if part == Part::Sensor {
            name.push_str(SENSOR_NAME);
        }
        let is_detail = |d: &Disclosed| !matches!(d.property(), Property::NodeLabel | Property::DeviceTypeName);
        let metadata = told.into_iter().filter(is_detail).collect();
        Some(EndpointView { id, name, device_type, metadata, capabilities, features })
    }
}

/// What stands behind the name of a device, in the name of the endpoint that is what it senses.
const SENSOR_NAME: &str = " sensor";

/// What a device senses, and nobody commands: of a device that is split it is an endpoint of its own.
const SENSED: [Property; 5] = [
    Property::LocalTemperature,
    Property::RelativeHumidity,
    Property::Motion,
    Property::Occupancy,
    Property::ContactOpen,
];

/// Whether a property is of this part of a device. Whether it answers is of both.
fn belongs(property: Property, part: Part) -> bool {
    match part {
        Part::Whole => true,
        Part::Control => !SENSED.contains(&property),
        Part::Sensor => SENSED.contains(&property) || property == Property::Reachable,
    }
}

/// What an endpoint is that is what a device senses: by what this link is granted of it.
fn sensor_type(capabilities: &[Capability]) -> DeviceType {
    let has = |property: Property| capabilities.iter().any(|c| c.property == property);
    match () {
        () if has(Property::LocalTemperature) => DeviceType::TemperatureSensor,
        () if has(Property::RelativeHumidity) => DeviceType::HumiditySensor,
        () if has(Property::ContactOpen) => DeviceType::ContactSensor,
        () if has(Property::Motion) || has(Property::Occupancy) => DeviceType::OccupancySensor,
        () => DeviceType::Unknown,
    }
}

/// What a device says of itself. The coarse form of a name is the one that the household chose; a device's own name
/// (a room, a serial number, whatever its maker put there) is the fine form.
fn metadata(known: &Registered, property: Property, rung: Rung) -> Option<Value> {
    let d = &known.description;
    let text = match property {
        Property::NodeLabel if rung.is_coarse() => known.household_name.clone(),
        Property::NodeLabel => Some(known.household_name.clone().unwrap_or_else(|| d.name.clone())),
        Property::DeviceTypeName => Some(known.device_type().as_str().to_owned()),
        Property::VendorName => d.vendor.clone(),
        Property::ProductName => d.product.clone(),
        Property::SerialNumber => d.serial.clone(),
        Property::SoftwareVersion => d.firmware.clone(),
        _ => None,
    };
    text.filter(|t| !t.is_empty()).map(Value::Text)
}

#[expect(clippy::disallowed_methods, reason = "the gate is the one place that makes disclosed values")]
fn disclose(property: Property, value: Value, time: Timestamp, rung: Rung) -> Disclosed {
    Disclosed::from_gate(property, value, time, rung)
}

pub(crate) fn lock(state: &Mutex<GateState>) -> MutexGuard<'_, GateState> {
    // A panic while the lock was held can't leave half a change behind that matters: each change is one insert.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Actuator> Gate for Session<A> {
    fn endpoints(&mut self) -> Vec<EndpointView> {
        let shared = Arc::clone(&self.state);
        let mut state = lock(&shared);
        let endpoints: Vec<(DeviceId, EndpointId, Part)> = match state.links.get(&self.link) {
            Some(link) => {
                let of =
                    |id: &DeviceId| link.endpoints(id).into_iter().map(|(e, part)| (id.clone(), e, part)).collect();
                link.devices().flat_map(|(id, _)| -> Vec<_> { of(id) }).collect()
            }
            None => Vec::new(),
        };
        let mut views: Vec<EndpointView> = endpoints
            .into_iter()
            .filter_map(|(device, id, part)| self.view(&mut state, (&device, id, part), Some(Trigger::Discovery)))
            .collect();
        views.sort_by(|a, b| a.id.cmp(&b.id));
        views
    }

    fn endpoint(&mut self, id: &EndpointId) -> Option<EndpointView> {
        let shared = Arc::clone(&self.state);
        let mut state = lock(&shared);
        let (device, part) = self.device(&state, id)?;
        self.view(&mut state, (&device, id.clone(), part), None)
    }

    fn ask(&mut self, question: Question) -> Answer {
        let shared = Arc::clone(&self.state);
        let mut state = lock(&shared);
        match self.device(&state, &question.endpoint) {
            Some((_, part)) if !belongs(question.property, part) => Answer::Refused(Refusal::NotSupported),
            Some((device, _)) => self.look(&mut state, &device, question.property, question.trigger),
            None => Answer::Refused(Refusal::NoSuchEndpoint),
        }
    }

    fn ask_all(&mut self, endpoint: &EndpointId, trigger: Trigger) -> Vec<Disclosed> {
        let shared = Arc::clone(&self.state);
        let mut state = lock(&shared);
        let Some((device, part)) = self.device(&state, endpoint) else { return Vec::new() };
        let asked: Vec<Property> = match state.registry.get(&device) {
            Some(known) => of_device(known).filter(|p| !p.is_metadata() && belongs(*p, part)).collect(),
            None => Vec::new(),
        };
        asked.into_iter().filter_map(|p| self.look(&mut state, &device, p, trigger).disclosed()).collect()
    }

    async fn act(&mut self, endpoint: EndpointId, command: Command) -> Result<Acted, ActError> {
        self.act_with(endpoint, command, None).await
    }

    async fn act_with(
        &mut self,
        endpoint: EndpointId,
        command: Command,
        pin: Option<Secret>,
    ) -> Result<Acted, ActError> {
        let shared = Arc::clone(&self.state);
        let (allowed, part) = {
            let state = lock(&shared);
            let (device, part) = self.device(&state, &endpoint).ok_or(ActError::Refused(Refusal::NoSuchEndpoint))?;
            if part == Part::Sensor {
                return Err(NOT_SUPPORTED);
            }
            (self.allowed(&state, device, &command)?, part)
        };
        let device = allowed.device.clone();
        let allowed = if allowed.code == Some(Code::Pin) {
            self.check(&allowed, pin).await?;
            // Looking at a code takes time, in which the command may have been taken back.
            let now = self.allowed(&lock(&shared), device.clone(), &command)?;
            Some(now).filter(|now| now.code == Some(Code::Pin)).ok_or(ActError::Refused(Refusal::NoGrant))?
        } else {
            allowed
        };
        let asked = (&device, &command);
        let (ended, at) = match once(&shared, &self.link, self.request.as_deref(), asked, self.now).await {
            // Told again as it ended, as far as the link may see it now.
            Once::Again(Err(error), at) if !self.sees(&lock(&shared), &device, error.reveals()) => (Ok(Vec::new()), at),
            Once::Again(ended, at) => (ended, at),
            Once::First(first) => {
                let ended = self.carry_out(allowed, &command).await;
                first.ended(ended.clone());
                (ended, self.now)
            }
        };
        let desired = ended?;
        Ok(self.acted(&mut lock(&shared), (&device, part), &command, &desired, at))
    }

    fn sends(&self) -> bool {
        lock(&self.state).is_reporting(&self.link)
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn message_id(&mut self) -> String {
        self.message_id.clone()
    }
}

impl<A: Actuator> Session<A> {
    /// Whether policy allows a command.
    fn allowed(&mut self, state: &GateState, device: DeviceId, command: &Command) -> Result<Allowed, ActError> {
        let table = Arc::clone(state.table());
        let property = commanded(state, &device, command);
        let known = state.registry.get(&device).cloned().ok_or(ActError::Refused(Refusal::NoSuchEndpoint))?;
        let Some(property) = property else {
            let no_schedule = matches!(command, Command::ResumeSchedule);
            let error = if no_schedule { ActError::ScheduleUnsupported } else { NOT_SUPPORTED };
            return Err(error);
        };
        let kind = known.kind(property);
        let opens = command.opens(kind);
        match table.may(&self.link, &device, property, opens) {
            Ok(policies) => {
                let (policies, policy_set) = (Arc::clone(policies), table.policy_hash());
                let code = table.code(&self.link, &device, property, opens);
                Ok(Allowed { device, known, property, code, policies, policy_set })
            }
            Err(refusal) => {
                let (trigger, outcome) = (Trigger::DirectiveResponse, Err(refusal));
                self.decided.push(Decided { device, property, kind, trigger, outcome, policies: Arc::new([]) });
                Err(ActError::Refused(refusal))
            }
        }
    }

    /// Holds what came with a command against the link's PIN. What does not fit is on record as a refusal.
    async fn check(&mut self, allowed: &Allowed, pin: Option<Secret>) -> Result<(), ActError> {
        let refusal = match pin {
            None => Refusal::PinNeeded,
            Some(pin) => {
                let actuator = Arc::clone(&self.actuator);
                match actuator.check_pin(&self.link, pin, self.now).await {
                    Ok(()) => return Ok(()),
                    Err(PinFault::NotRecorded) => return Err(ActError::NotRecorded),
                    Err(PinFault::Wrong) => Refusal::PinWrong,
                    Err(PinFault::Locked) => Refusal::PinLocked,
                }
            }
        };
        let (device, property) = (allowed.device.clone(), allowed.property);
        let (kind, trigger) = (allowed.known.kind(property), Trigger::DirectiveResponse);
        let policies = Arc::clone(&allowed.policies);
        self.decided.push(Decided { device, property, kind, trigger, outcome: Err(refusal), policies });
        Err(ActError::Refused(refusal))
    }

    /// True when the link may see each of these after its commands, exact.
    fn sees(&self, state: &GateState, device: &DeviceId, properties: &[Property]) -> bool {
        let see = |p: &Property| state.table().decide(&self.link, device, *p, Trigger::DirectiveResponse).rung;
        properties.iter().all(|p| see(p) == Ok(Rung::Live))
    }

    /// Plans, records and hands over. What the home's state has against a command is told to a link that may see that
    /// state; for any other the command is handed over as if there were nothing, be it an order that asks for nothing
    /// (because there is no value yet to start from): the same work, and the same answer.
    async fn carry_out(&mut self, allowed: Allowed, command: &Command) -> Result<Vec<Desired>, ActError> {
        let Allowed { device, known, policies, policy_set, .. } = allowed;
        // Only now: that it is gone is told to nobody who may not command it.
        if !known.present {
            return Err(ActError::Refused(Refusal::NoSuchEndpoint));
        }
        let shared = Arc::clone(&self.state);
        let mut desired = {
            let state = lock(&shared);
            let objections = objections(&device, &known, &state.home, command);
            if let Some(told) = objections.into_iter().find(|o| self.sees(&state, &device, o.reveals())) {
                return Err(told);
            }
            match plan(&device, &known, &state.home, command) {
                Ok(desired) => desired,
                Err(PlanError::NotKnown) => Vec::new(),
                Err(error) => return Err(wrong(error)),
            }
        };
        let order = Order {
            link: self.link.clone(),
            partner: self.partner.clone(),
            device: device.clone(),
            message: self.message.clone(),
            command: command.name(),
            policy_set,
            desired: desired.clone(),
            policies,
            time: self.now,
        };
        let handed = self.actuator.carry_out(order).await;
        let mut state = lock(&shared);
        match handed {
            Ok(()) => {}
            Err(ActuatorError::NotRecorded) => return Err(ActError::NotRecorded),
            Err(ActuatorError::BrokerUnreachable) => return Err(ActError::BridgeUnreachable),
            // Its description says that it takes this, so it has gone away since: that is its reachability.
            Err(ActuatorError::NotSupported) if self.sees(&state, &device, ActError::Unreachable.reveals()) => {
                return Err(ActError::Unreachable);
            }
            Err(ActuatorError::NotSupported) => desired.clear(),
        }
        // The time of the question, however long the broker took and whatever came in meanwhile.
        for d in &desired {
            let reported = state.home.reported(&device, d.property).map(|s| s.time).unwrap_or_default();
            state.home.desire(device.clone(), d.property, d.value.clone(), self.now.max(reported.plus_millis(1)));
        }
        Ok(desired)
    }

    /// What the partner may see after its command: what the command itself said (at the time when it came first), and what it
    /// is granted beside.
    fn acted(
        &mut self,
        state: &mut GateState,
        (device, part): (&DeviceId, Part),
        command: &Command,
        desired: &[Desired],
        at: Timestamp,
    ) -> Acted {
        let said = said(command, state.registry.get(device));
        // Of a device with more set points than one, which of them a target alone went to depends on the mode: that is the
        // home's too.
        let is_alone = |p: Property| p == Property::OccupiedSetpoint && said.len() == 1;
        // While the broker had the order, the household may have taken back that the link knows of the device at all.
        let is_known = state.announces(&self.link, device);
        for (property, value) in said.iter().filter(|(p, _)| is_known && !is_alone(*p)) {
            let sample = Sample { value: value.clone(), time: at };
            self.writes.extend(state.tell(&self.link, device, *property, &sample));
        }
        let mut context = Vec::new();
        let asked: Vec<Property> = match state.registry.get(device) {
            Some(known) if is_known => of_device(known).filter(|p| !p.is_metadata() && belongs(*p, part)).collect(),
            _ => Vec::new(),
        };
        for property in asked {
            if said.iter().any(|(p, _)| *p == property) {
                continue;
            }
            let Answer::Disclosed(mut seen) = self.look(state, device, property, Trigger::DirectiveResponse) else {
                continue;
            };
            // On a grid it is what was held before the command: where that led is told at the next tick.
            if seen.rung() == Rung::Live {
                // What this command has just changed is told as asked for: the device has not reported it yet. One that
                // came before may have been overtaken since.
                let overtaken = at < self.now && seen.time() > at;
                if let Some(d) = desired.iter().find(|d| d.property == property && !overtaken) {
                    seen = disclose(property, d.value.clone(), at, Rung::Live);
                }
                let sample = Sample { value: seen.value().clone(), time: seen.time() };
                self.writes.extend(state.tell(&self.link, device, property, &sample));
            }
            context.push(seen);
        }
        self.echoed.extend(said.iter().map(|(p, v)| (device.clone(), *p, v.clone(), at)));
        let echo = said.into_iter().map(|(p, v)| disclose(p, v, at, Rung::Live)).collect();
        Acted { echo, context }
    }
}

const NOT_SUPPORTED: ActError = ActError::Refused(Refusal::NotSupported);

/// A command that policy allows.
struct Allowed {
    device: DeviceId,
    known: Registered,
    property: Property,
    /// Who must have asked for a code.
    code: Option<Code>,
    policies: Arc<[String]>,
    policy_set: [u8; 32],
}

/// What the device's description has against a command.
fn wrong(error: PlanError) -> ActError {
    match error {
        PlanError::OutOfRange { min_milli, max_milli } => {
            ActError::OutOfRange { min: Value::Temperature(min_milli), max: Value::Temperature(max_milli) }
        }
        PlanError::UnsupportedMode => ActError::UnsupportedMode,
        PlanError::DualSetpointsUnsupported => ActError::DualSetpointsUnsupported,
        PlanError::TripleSetpointsUnsupported => ActError::TripleSetpointsUnsupported,
        PlanError::SetpointsTooClose { min_delta_milli } => ActError::SetpointsTooClose { min_delta_milli },
        PlanError::ScheduleUnsupported => ActError::ScheduleUnsupported,
        PlanError::NotSupported | PlanError::NotKnown => NOT_SUPPORTED,
    }
}

/// What a command itself fully says, in the hub's units: the partner's own words.
fn said(command: &Command, known: Option<&Registered>) -> Vec<(Property, Value)> {
    let takes = |p: Property| known.is_some_and(|k| k.description.properties.get(&p).is_some_and(|d| d.command));
    match command {
        Command::SetSetpoint { target, heating, cooling } | Command::HoldSetpoint { target, heating, cooling, .. } => {
            // Which of two set points a lone target goes to depends on the mode: it is said by neither's name.
            let one = match (takes(Property::OccupiedHeatingSetpoint), takes(Property::OccupiedCoolingSetpoint)) {
                (true, false) => Property::OccupiedHeatingSetpoint,
                (false, true) => Property::OccupiedCoolingSetpoint,
                _ => Property::OccupiedSetpoint,
            };
            [
                (one, target.as_ref()),
                (Property::OccupiedHeatingSetpoint, heating.as_ref()),
                (Property::OccupiedCoolingSetpoint, cooling.as_ref()),
            ]
            .into_iter()
            .filter_map(|(p, v)| v.map(|v| (p, v.clone())))
            .collect()
        }
        Command::ResumeSchedule => vec![(Property::SetpointHold, Value::Bool(false))],
        Command::SetSystemMode(mode) => vec![(Property::SystemMode, Value::SystemMode(*mode))],
        Command::SetOnOff(on) => vec![(Property::OnOff, Value::Bool(*on))],
        Command::SetLevel(level) => vec![(Property::CurrentLevel, Value::Percent(*level))],
        Command::SetPart(part, to) => vec![(part.property(), Value::Percent(*to))],
        // The nearest that the lamp has, from its description: no state.
        Command::SetColorTemperature(wanted) => {
            let white = known.map(|k| nearest_white(&k.description.features, i32::from(*wanted)));
            white.into_iter().map(|kelvin| (Property::ColorTemperature, Value::ColorTemperature(kelvin))).collect()
        }
        Command::SetColor(color) => vec![(Property::Color, Value::Color(*color))],
        Command::SetOscillation(on) => vec![(Property::FanOscillation, Value::Bool(*on))],
        Command::SetFanDirection(way) => vec![(Property::FanDirection, Value::FanDirection(*way))],
        Command::ActivateScene => Vec::new(),
        Command::SetLock(lock) => vec![(Property::LockState, Value::LockState(*lock))],
        Command::SetDoor(door) => vec![(Property::DoorState, Value::DoorState(*door))],
        // What these lead to depends on where they started: that is the home's, not the partner's.
        Command::AdjustSetpoint { .. }
        | Command::AdjustLevel(_)
        | Command::AdjustColorTemperature(_)
        | Command::AdjustPart(..) => Vec::new(),
    }
}

/// The property by which a command is authorised, if the device takes it: of a thermostat that only cools, a set point
/// is the cooling one.
fn commanded(state: &GateState, device: &DeviceId, command: &Command) -> Option<Property> {
    let known = state.registry.get(device)?;
    // By its pins: that it no longer takes it is said after policy, by the plan.
    let takes = |p: Property| known.pins.get(&p).is_some_and(|d| d.command);
    let first = command.property();
    let other = match first {
        Property::OccupiedHeatingSetpoint => Property::OccupiedCoolingSetpoint,
        Property::OccupiedCoolingSetpoint => Property::OccupiedHeatingSetpoint,
        p => p,
    };
    [first, other].into_iter().find(|p| takes(*p))
}

//! Lives a story through the real gate and the real Alexa crate, and keeps what left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alexa::parse;
use disclosure::{Command as Order1, Disclosed, Gate};
use gate::{Actuator, ActuatorError, GateState, Order, Session, StateWrite};
use home::{Description, Reading};
use links::Link;
use model::{DoorState, LockState, Property, SystemMode, Timestamp, Trigger, Value};
use serde_json::{Value as Json, json};
use testkit::released::{Command, Event};

use crate::leaks::{Leak, Leaky, Spy};
use crate::rng::{Rng, hash};
use crate::story::{Home, Public, Step, Story, Strategy, Timeline, What};
use crate::world::{HOUR, MINUTE, START, UNIVERSE, World, nothing, shape, zone};

/// What the partner sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    Discover,
    ReportState,
    SetTargetTemperature,
    AdjustTargetTemperature,
    SetThermostatMode,
    Power,
    SetBrightness,
    AdjustBrightness,
    Lock,
    SetMode,
    AcceptGrant,
    Unknown,
}

pub const MESSAGES: [Message; 12] = [
    Message::Discover,
    Message::ReportState,
    Message::SetTargetTemperature,
    Message::AdjustTargetTemperature,
    Message::SetThermostatMode,
    Message::Power,
    Message::SetBrightness,
    Message::AdjustBrightness,
    Message::Lock,
    Message::SetMode,
    Message::AcceptGrant,
    Message::Unknown,
];

/// What leaves at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub status: u16,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// For how many things (a commit, the broker, a device) was waited before it left: the latency, without a clock.
    pub waits: u32,
}

/// A life, as the partner saw it and as it was.
#[derive(Default)]
pub struct Life {
    pub frames: Vec<Frame>,
    /// What happened, with the public time. A question has the number of frames that had left when it was answered.
    pub events: Vec<(Timestamp, Event)>,
    pub asked: Vec<Asked>,
    /// Orders that reached the broker. They are the home's.
    pub orders: usize,
}

/// A question and its answer.
pub struct Asked {
    pub at: i64,
    pub message: Message,
    /// Frames that had left with the answer.
    pub frames: usize,
    /// Position in the events.
    pub event: usize,
    /// What the gate gave out for it.
    pub given: Vec<Disclosed>,
    /// The endpoint was one that is announced.
    pub found: bool,
}

/// A table that is to come into force.
type Edit = (Arc<Mutex<GateState>>, Arc<policy::Table>, Timestamp);

/// A broker that takes orders.
#[derive(Default)]
pub struct Broker {
    pub orders: Mutex<Vec<Order>>,
    weather: Mutex<Weather>,
    /// What happens in the hub while the next order is here: a table comes into force.
    meanwhile: Mutex<Option<Edit>>,
    /// What is to be stored of that.
    writes: Mutex<Vec<StateWrite>>,
}

#[derive(Clone, Default)]
struct Weather {
    broker: bool,
    recorder: bool,
    waits: u32,
}

impl Actuator for Broker {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        if let Some((state, table, now)) = self.meanwhile.lock().unwrap().take() {
            *self.writes.lock().unwrap() = state.lock().unwrap().replace_table(table, now);
        }
        let mut weather = self.weather.lock().unwrap();
        // The commit of the order.
        weather.waits += 1;
        if !weather.recorder {
            return Err(ActuatorError::NotRecorded);
        }
        weather.waits += 1;
        if !weather.broker {
            return Err(ActuatorError::BrokerUnreachable);
        }
        self.orders.lock().unwrap().push(order);
        Ok(())
    }
}

pub struct Hub {
    world: &'static World,
    pub state: Arc<Mutex<GateState>>,
    pub broker: Arc<Broker>,
    pub spy: Spy,
    /// What the store holds besides devices and history.
    held: BTreeMap<String, String>,
    phase: usize,
    granted: bool,
    expired: bool,
    weather: Weather,
    /// The partner: what it was told last.
    endpoints: Vec<String>,
    mood: u64,
    moves: u64,
    life: Life,
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

/// Lives a story.
pub fn live(story: &Story, timeline: &Timeline, leak: Option<Leak>) -> Life {
    let world = story.world();
    let state = Arc::new(Mutex::new(GateState::new(zone(), EMPTY.clone())));
    state.lock().unwrap().links.insert(world.link.clone());
    state.lock().unwrap().links.insert(world.other.clone());
    let weather = Weather { broker: true, recorder: true, ..Weather::default() };
    let mut hub = Hub {
        world,
        state,
        broker: Arc::default(),
        spy: Spy::new(leak),
        held: BTreeMap::new(),
        phase: 0,
        granted: false,
        expired: false,
        weather,
        endpoints: Vec::new(),
        mood: story.seed,
        moves: 0,
        life: Life::default(),
    };
    let mut kept = timeline.kept.iter().peekable();
    let mut expiries = timeline.expiries.iter().peekable();
    for step in &story.steps {
        while let Some((_, now)) = expiries.next_if(|(at, _)| *at <= step.at) {
            hub.expire(*now);
        }
        while let Some((_, shown)) = kept.next_if(|(at, _)| *at <= step.at) {
            let write = hub.state.lock().unwrap().keep_time(*shown);
            hub.store(write);
        }
        hub.step(story, step, timeline.at(step.at));
    }
    hub.life
}

static EMPTY: std::sync::LazyLock<Arc<policy::Table>> = std::sync::LazyLock::new(|| Arc::new(nothing()));

/// The description of a device of the universe, the `n`th time that it speaks.
pub fn described(index: usize, n: u32) -> Description {
    let mut d = UNIVERSE[index].description.clone();
    if n > 0 {
        let more = |t: &mut Option<String>| t.iter_mut().for_each(|t| t.push_str(&format!(" ({n})")));
        [&mut d.vendor, &mut d.product, &mut d.serial, &mut d.firmware].into_iter().for_each(more);
        d.name.push_str(&format!(" ({n})"));
    }
    d
}

/// The description of a device of the universe that has lost a property.
pub fn described_without(index: usize, property: Property) -> Description {
    let mut d = described(index, 0);
    d.properties.remove(&property);
    d
}

impl Hub {
    fn store(&mut self, writes: impl IntoIterator<Item = gate::StateWrite>) {
        self.held.extend(writes.into_iter().map(|w| (w.key, w.json)));
    }

    fn log(&mut self, now: Timestamp, event: Event) {
        self.life.events.push((now, event));
    }

    fn step(&mut self, story: &Story, step: &Step, now: Timestamp) {
        match &step.what {
            What::Home(home) => self.home(home, now),
            What::Public(Public::Clock(_)) => {}
            What::Public(Public::Restart) => self.restart(now),
            What::Public(Public::Broker(up)) => self.weather.broker = *up,
            What::Public(Public::Recorder(up)) => self.weather.recorder = *up,
            What::Public(Public::Grants(phase)) => self.edit(*phase, now),
            What::Public(Public::Move) => self.ask(story, step.at, now, None),
            What::Public(Public::MoveWhile(phase)) => {
                let table = self.world.table(*phase, self.world.expiry <= now);
                *self.broker.meanwhile.lock().unwrap() = Some((Arc::clone(&self.state), table, now));
                self.ask(story, step.at, now, Some(*phase));
                // It was no order, or none that the gate let through.
                if self.broker.meanwhile.lock().unwrap().take().is_some() {
                    self.edit(*phase, now);
                }
            }
        }
        let frames = self.spy.unsolicited(&self.state, self.world, now);
        self.life.frames.extend(frames);
    }

    fn edit(&mut self, phase: usize, now: Timestamp) {
        // After a restart with a clock that was set back, grants may hold again.
        (self.phase, self.granted, self.expired) = (phase, true, self.world.expiry <= now);
        self.log(now, Event::Grants(self.world.phases[phase].clone()));
        self.replace(now);
    }

    /// Grants expire: the scheduler puts the table without them in force.
    fn expire(&mut self, now: Timestamp) {
        self.log(now, Event::Beat);
        self.expired = true;
        if self.granted {
            self.spy.table_before = Some(Arc::clone(self.state.lock().unwrap().table()));
            self.replace(now);
        }
    }

    fn replace(&mut self, now: Timestamp) {
        let table = self.world.table(self.phase, self.expired);
        let writes = self.state.lock().unwrap().replace_table(table, now);
        self.store(writes);
    }

    fn home(&mut self, home: &Home, now: Timestamp) {
        match home {
            Home::Reading(index, property, value) => {
                let (device, property, value) = (UNIVERSE[*index].id.clone(), *property, value.clone());
                // A device that is not there says nothing.
                if self.state.lock().unwrap().registry.get(&device).is_none() {
                    return;
                }
                self.spy.reading(&self.state, &device, property, &value, now);
                self.log(now, Event::Reading(device.clone(), property, value.clone()));
                self.state.lock().unwrap().report(Reading { device, property, value, time: now });
            }
            Home::Describe(index, n) => self.describe(*index, described(*index, *n), now),
            Home::Without(index, property) => self.describe(*index, described_without(*index, *property), now),
            Home::Withdraw(index) => {
                let device = &UNIVERSE[*index].id;
                self.log(now, Event::Withdrawn(device.clone()));
                self.spy.withdrawn(device);
                self.state.lock().unwrap().registry.withdraw(device);
            }
            Home::OtherPolls(index) => self.other(*index, None, now),
            Home::OtherAdjusts(index, delta) => self.other(*index, Some(*delta), now),
        }
    }

    fn describe(&mut self, index: usize, description: Description, now: Timestamp) {
        let device = &UNIVERSE[index].id;
        self.log(now, Event::Described(device.clone(), shape(&description)));
        self.spy.described(device);
        self.state.lock().unwrap().describe(device, description).unwrap();
        if self.granted {
            self.replace(now);
        }
    }

    /// Another link of another partner, which is granted everything.
    fn other(&mut self, index: usize, adjusts: Option<i32>, now: Timestamp) {
        *self.broker.weather.lock().unwrap() = self.weather.clone();
        let (link, device) = (&self.world.other, &UNIVERSE[index].id);
        let mut session = self.session(link, now, "other".to_owned());
        let endpoint = link.endpoint(device);
        match adjusts {
            None => drop(session.ask_all(&endpoint, Trigger::PartnerPoll)),
            Some(delta_milli) => drop(block_on(session.act(endpoint, Order1::AdjustSetpoint { delta_milli }))),
        }
        let writes = session.finish().writes;
        if self.weather.recorder {
            self.store(writes);
        }
        self.spy.other += 1;
    }

    fn session(&self, link: &Link, now: Timestamp, id: String) -> Session<Broker> {
        Session::new(Arc::clone(&self.state), Arc::clone(&self.broker), link, now, "Test".into(), id)
    }

    /// Stops and starts on the same store; what was known of the home is there, as its file holds it.
    fn restart(&mut self, now: Timestamp) {
        let mut new = GateState::new(zone(), EMPTY.clone());
        {
            let old = self.state.lock().unwrap();
            for (id, known) in old.registry.iter() {
                new.registry.restore(id.clone(), serde_json::from_str(&serde_json::to_string(known).unwrap()).unwrap());
            }
            for (device, property, known) in old.home.iter() {
                let known = serde_json::from_str(&serde_json::to_string(known).unwrap()).unwrap();
                new.home.restore(device.clone(), property, known);
            }
            new.links.insert(self.world.link.clone());
            new.links.insert(self.world.other.clone());
        }
        for (key, json) in &self.held {
            match key.strip_prefix("link/") {
                Some(_) => new.links.insert(serde_json::from_str(json).unwrap()),
                None => assert!(new.restore(key, json), "{key}"),
            }
        }
        let table = if self.granted { self.world.table(self.phase, self.expired) } else { EMPTY.clone() };
        let writes = new.resume(table);
        self.store(writes);
        *self.state.lock().unwrap() = new;
        self.spy.restarted(&self.state, now);
    }

    fn ask(&mut self, story: &Story, at: i64, now: Timestamp, meanwhile: Option<usize>) {
        self.moves += 1;
        let mut rng = Rng::new(self.mood ^ self.moves.wrapping_mul(0x9E37_79B9));
        let turn = Turn::choose(story.strategy, self.moves, &self.endpoints, &mut rng);
        let device = self.world.devices().find(|d| self.world.link.endpoint(&d.id).as_str() == turn.endpoint);
        let device = device.map(|d| d.id.clone());
        let body = turn.bytes();
        let directive = parse(&body).unwrap();
        *self.broker.weather.lock().unwrap() = self.weather.clone();
        let before = self.broker.orders.lock().unwrap().len();
        let id = self.spy.message_id(story.seed, self.life.frames.len());
        let session = self.session(&self.world.link, self.spy.now(now), id);
        let mut leaky = Leaky::new(session, &mut self.spy, &self.state, self.world);
        let reply = block_on(alexa::answer(&mut leaky, &directive));
        let (session, given, found) = leaky.into_parts();
        let finished = session.finish();
        let edited = meanwhile.filter(|_| self.broker.meanwhile.lock().unwrap().is_none());
        if let Some(phase) = edited {
            (self.phase, self.granted, self.expired) = (phase, true, self.world.expiry <= now);
            let writes = std::mem::take(&mut *self.broker.writes.lock().unwrap());
            self.store(writes);
        }
        let orders: Vec<Order> = self.broker.orders.lock().unwrap()[before..].to_vec();
        // The commit of the INTENT.
        let waits = self.broker.weather.lock().unwrap().waits + 1;
        let mut event = reply.event;
        self.spy.render(&mut event, &self.state, &finished.decided, self.world, device.as_ref(), now);
        let frame = if self.weather.recorder {
            self.store(finished.writes);
            Frame { status: 200, headers: Vec::new(), body: serde_json::to_vec(&event).unwrap(), waits }
        } else {
            Frame { status: 503, headers: Vec::new(), body: alexa::constants::UNAVAILABLE.to_vec(), waits }
        };
        let frames = self.spy.send(frame, &self.state, self.world, device.as_ref(), now);
        // The partner learns from it.
        let answer = frames.first().cloned().unwrap();
        let json: Json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
        if let Some(found) = json["event"]["payload"]["endpoints"].as_array() {
            self.endpoints = found.iter().filter_map(|e| e["endpointId"].as_str().map(str::to_owned)).collect();
        }
        self.mood = self.mood.rotate_left(7) ^ hash(&answer.body) ^ u64::from(answer.status);
        self.life.frames.extend(frames);
        self.life.orders += orders.len();
        let handed = answer.status == 200 && json["event"]["header"]["name"] == "Response";
        let weather = (self.weather.broker, self.weather.recorder);
        let led_to = orders.iter().flat_map(|o| o.desired.iter().map(|d| (d.property, d.value.clone()))).collect();
        let event = match turn.message {
            Message::Discover => Event::Discover,
            Message::ReportState => Event::Report(device),
            Message::AcceptGrant | Message::Unknown => Event::Other,
            _ => {
                let command = Command {
                    device,
                    words: format!("{:?} {}", turn.message, turn.payload),
                    target: turn.target,
                    said: turn.said,
                    handed,
                    led_to,
                    weather,
                };
                match edited {
                    Some(phase) => Event::CommandWhile(command, self.world.phases[phase].clone()),
                    None => Event::Command(command),
                }
            }
        };
        let asked = Asked {
            at,
            message: turn.message,
            frames: self.life.frames.len(),
            event: self.life.events.len(),
            given,
            found,
        };
        self.life.asked.push(asked);
        self.log(now, event);
    }
}

/// A move of the partner.
struct Turn {
    message: Message,
    namespace: &'static str,
    name: &'static str,
    endpoint: String,
    payload: Json,
    target: Option<Value>,
    said: Vec<(Property, Value)>,
    id: u64,
}

impl Turn {
    /// What the partner does next: by its strategy, and by everything that it was told so far (which is in the dice).
    fn choose(strategy: Strategy, n: u64, endpoints: &[String], rng: &mut Rng) -> Self {
        let message = match strategy {
            _ if n == 1 || endpoints.is_empty() && rng.below(2) == 0 => Message::Discover,
            Strategy::Polls if rng.below(8) > 0 => Message::ReportState,
            Strategy::DiscoveryStorm if rng.below(3) > 0 => Message::Discover,
            Strategy::NoOpCommands if rng.below(2) == 0 => Message::ReportState,
            Strategy::NoOpCommands => Message::AdjustTargetTemperature,
            Strategy::Commands if n.is_multiple_of(3) => Message::ReportState,
            Strategy::Commands if n.is_multiple_of(2) => *rng.pick(&[
                Message::SetTargetTemperature,
                Message::SetTargetTemperature,
                Message::AdjustTargetTemperature,
            ]),
            _ => *rng.pick(&MESSAGES),
        };
        let endpoint = match endpoints.len() {
            0 => "0123456789abcdef0123456789abcdef".to_owned(),
            _ if rng.below(30) == 0 => "0123456789abcdef0123456789abcdef".to_owned(),
            _ => rng.pick(endpoints).clone(),
        };
        let celsius = |half: u64| json!({"value": half as f64 / 2.0, "scale": "CELSIUS"});
        let milli = |half: u64| Value::Temperature(half as i32 * 500);
        let mut turn = Turn {
            message,
            namespace: "Alexa",
            name: "ReportState",
            endpoint,
            payload: json!({}),
            target: None,
            said: Vec::new(),
            id: rng.next(),
        };
        let (namespace, name) = match message {
            Message::Discover => ("Alexa.Discovery", "Discover"),
            Message::ReportState => ("Alexa", "ReportState"),
            Message::SetTargetTemperature => {
                let (low, high) = (30 + rng.below(20), 42 + rng.below(20));
                match rng.below(4) {
                    0 => {
                        turn.payload = json!({"lowerSetpoint": celsius(low), "upperSetpoint": celsius(high)});
                        turn.said = vec![
                            (Property::OccupiedHeatingSetpoint, milli(low)),
                            (Property::OccupiedCoolingSetpoint, milli(high)),
                        ];
                    }
                    1 => {
                        turn.payload = json!({"upperSetpoint": celsius(high)});
                        turn.said = vec![(Property::OccupiedCoolingSetpoint, milli(high))];
                    }
                    _ => {
                        let any = if rng.below(6) == 0 { 90 } else { low };
                        turn.payload = json!({"targetSetpoint": celsius(any)});
                        turn.target = Some(milli(any));
                    }
                }
                ("Alexa.ThermostatController", "SetTargetTemperature")
            }
            Message::AdjustTargetTemperature => {
                let by = match strategy {
                    Strategy::NoOpCommands => 0.0,
                    _ => rng.below(13) as f64 - 6.0,
                };
                turn.payload = json!({"targetSetpointDelta": {"value": by, "scale": "CELSIUS"}});
                ("Alexa.ThermostatController", "AdjustTargetTemperature")
            }
            Message::SetThermostatMode => {
                let (word, mode) = *rng.pick(&[
                    ("OFF", SystemMode::Off),
                    ("HEAT", SystemMode::Heat),
                    ("COOL", SystemMode::Cool),
                    ("AUTO", SystemMode::Auto),
                    ("EM_HEAT", SystemMode::EmergencyHeat),
                ]);
                turn.payload = json!({"thermostatMode": {"value": word}});
                turn.said = vec![(Property::SystemMode, Value::SystemMode(mode))];
                ("Alexa.ThermostatController", "SetThermostatMode")
            }
            Message::Power => {
                let on = rng.below(2) == 0;
                turn.said = vec![(Property::OnOff, Value::Bool(on))];
                ("Alexa.PowerController", if on { "TurnOn" } else { "TurnOff" })
            }
            Message::SetBrightness => {
                let percent = rng.below(102);
                turn.payload = json!({"brightness": percent});
                turn.said = vec![(Property::CurrentLevel, Value::Percent(percent as u16 * 100))];
                ("Alexa.BrightnessController", "SetBrightness")
            }
            Message::AdjustBrightness => {
                turn.payload = json!({"brightnessDelta": rng.below(61) as i64 - 30});
                ("Alexa.BrightnessController", "AdjustBrightness")
            }
            Message::Lock => {
                let lock = rng.below(2) == 0;
                let state = if lock { LockState::Locked } else { LockState::Unlocked };
                turn.said = vec![(Property::LockState, Value::LockState(state))];
                ("Alexa.LockController", if lock { "Lock" } else { "Unlock" })
            }
            Message::SetMode => {
                let (word, state) =
                    *rng.pick(&[("Position.Up", DoorState::Open), ("Position.Down", DoorState::Closed)]);
                turn.payload = json!({"mode": word});
                turn.said = vec![(Property::DoorState, Value::DoorState(state))];
                ("Alexa.ModeController", "SetMode")
            }
            Message::AcceptGrant => ("Alexa.Authorization", "AcceptGrant"),
            Message::Unknown => ("Alexa.Strange", "Thing"),
        };
        (turn.namespace, turn.name) = (namespace, name);
        turn
    }

    fn bytes(&self) -> Vec<u8> {
        let mut d = testkit::directive(self.namespace, self.name, &self.endpoint, "vst_token", self.payload.clone());
        d["directive"]["header"]["messageId"] = json!(format!("m-{:016x}", self.id));
        if d["directive"]["header"]["correlationToken"].is_string() {
            d["directive"]["header"]["correlationToken"] = json!(format!("c-{:016x}", self.id));
        }
        if self.name == "SetMode" {
            d["directive"]["header"]["instance"] = json!("GarageDoor.Position");
        }
        d.to_string().into_bytes()
    }
}

/// Where in the day a story begins, for people who read a failure.
pub fn clock_text(now: Timestamp) -> String {
    let ms = now.as_millis() - START;
    format!("{} (+{} h {} min)", now.to_rfc3339(), ms / HOUR, ms % HOUR / MINUTE)
}

//! Lives a story through the real gate and the real Alexa crate, and keeps what left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alexa::parse;
use alexa::report::{self, Deferred, Report, Reported};
use disclosure::{Command as Order1, Disclosed, Gate};
use gate::{Actuator, ActuatorError, GateState, Order, Session, StateWrite};
use home::{Description, Reading};
use links::Link;
use model::{
    Color, DeviceType, DoorState, EndpointId, FanDirection, LockState, Property, SystemMode, Timestamp, Trigger, Value,
};
use serde_json::{Value as Json, json};
use testkit::released::{Command, Event, Wish};

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
    ResumeSchedule,
    SetThermostatMode,
    Power,
    SetBrightness,
    AdjustBrightness,
    SetColorTemperature,
    ChangeColorTemperature,
    SetColor,
    SetRangeValue,
    AdjustRangeValue,
    SetPowerLevel,
    AdjustPowerLevel,
    SetPercentage,
    AdjustPercentage,
    Toggle,
    Activate,
    Lock,
    SetMode,
    AcceptGrant,
    Unknown,
    ChangeReport,
    AddOrUpdateReport,
    DeleteReport,
    /// What has become of a command that was answered with a promise to tell it.
    Outcome,
    /// A tick at which nothing was told unasked: that is seen too.
    QuietRound,
}

/// What it asks: the first of these every device can be asked.
pub const DIRECTIVES: [Message; 24] = [
    Message::Discover,
    Message::ReportState,
    Message::SetTargetTemperature,
    Message::AdjustTargetTemperature,
    Message::ResumeSchedule,
    Message::SetThermostatMode,
    Message::Power,
    Message::SetBrightness,
    Message::AdjustBrightness,
    Message::SetColorTemperature,
    Message::ChangeColorTemperature,
    Message::SetColor,
    Message::SetRangeValue,
    Message::AdjustRangeValue,
    Message::SetPowerLevel,
    Message::AdjustPowerLevel,
    Message::SetPercentage,
    Message::AdjustPercentage,
    Message::Toggle,
    Message::Activate,
    Message::Lock,
    Message::SetMode,
    Message::AcceptGrant,
    Message::Unknown,
];

/// What it is told unasked.
pub const EVENTS: [Message; 5] =
    [Message::ChangeReport, Message::AddOrUpdateReport, Message::DeleteReport, Message::Outcome, Message::QuietRound];

/// An outcome that is due at a time of the monotonic clock.
struct Due {
    at: i64,
    deferred: Deferred,
    command: Command,
}

/// What leaves at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub status: u16,
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    /// For how many things (a commit, the broker, a device) was waited before it left: the latency, without a clock.
    pub waits: u32,
    /// Of what nobody asked for: the tick.
    pub tick: Option<Timestamp>,
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
    /// It was answered as what is handed to the broker; of commands alone.
    pub handed: Option<bool>,
    /// The messages that count: one that the device takes, or those that left unasked.
    pub messages: Vec<Message>,
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
    endpoints: Vec<(String, Vec<String>)>,
    /// What it has taken unasked.
    announced: BTreeMap<EndpointId, String>,
    reported: BTreeMap<EndpointId, Reported>,
    /// What it was promised to be told. A hub that stops keeps none of it.
    due: Vec<Due>,
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
        announced: BTreeMap::new(),
        reported: BTreeMap::new(),
        due: Vec::new(),
        mood: story.seed,
        moves: 0,
        life: Life::default(),
    };
    if world.reports {
        hub.log(timeline.at(0), Event::Reports);
        let writes = hub.state.lock().unwrap().set_reporting(&world.link.id, true);
        hub.store(writes);
    }
    let mut kept = timeline.kept.iter().peekable();
    let mut expiries = timeline.expiries.iter().peekable();
    for step in &story.steps {
        while let Some((at, now)) = expiries.next_if(|(at, _)| *at <= step.at) {
            hub.outcomes(story, *at, timeline);
            hub.expire(*now);
        }
        while let Some((at, shown)) = kept.next_if(|(at, _)| *at <= step.at) {
            hub.outcomes(story, *at, timeline);
            let write = hub.state.lock().unwrap().keep_time(*shown);
            hub.store(write);
        }
        hub.outcomes(story, step.at, timeline);
        if step.what != What::Public(Public::Round) || !timeline.is_behind(step.at) {
            hub.step(story, step, timeline.at(step.at));
        }
    }
    hub.outcomes(story, i64::MAX, timeline);
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
        for write in writes {
            match write.json {
                Some(json) => drop(self.held.insert(write.key, json)),
                None => drop(self.held.remove(&write.key)),
            }
        }
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
            What::Public(Public::Round) => self.round(story, step.at, now),
            What::Public(Public::Move) => self.ask(story, step.at, now, None),
            What::Public(Public::MoveWhile(phase)) => {
                let table = self.world.table(*phase, self.world.expiry <= now);
                *self.broker.meanwhile.lock().unwrap() = Some((Arc::clone(&self.state), table, now));
                self.ask(story, step.at, now, Some(*phase));
                // It was no order, or none that the gate let through.
                if self.broker.meanwhile.lock().unwrap().take().is_some() {
                    match self.life.events.last() {
                        Some((_, Event::CommandWhile(..))) => {
                            (self.phase, self.granted, self.expired) = (*phase, true, self.world.expiry <= now);
                            self.replace(now);
                        }
                        _ => self.edit(*phase, now),
                    }
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
        if let Some(by) = adjusts {
            let weather = (self.weather.broker, self.weather.recorder);
            self.life.events.push((now, Event::OtherCommand(device.clone(), Wish::Warmer(by), weather)));
        }
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
        let mut writes = new.resume(table);
        if self.world.reports {
            writes.extend(new.set_reporting(&self.world.link.id, true));
        }
        self.store(writes);
        *self.state.lock().unwrap() = new;
        self.due.clear();
        self.spy.restarted(&self.state, now);
    }

    /// A tick at which the link is told unasked: which devices there are, then what has changed of each, as the sender of events
    /// goes about it. Between these ticks nothing gets through to the partner.
    fn round(&mut self, story: &Story, at: i64, now: Timestamp) {
        let tick = Some(Timestamp::from_millis(now.as_millis() - now.as_millis().rem_euclid(gate::REPORT_GRID_MS)));
        let (mut given, mut messages) = (Vec::new(), Vec::new());
        if self.weather.recorder {
            let found = self.unasked(story, now, &mut given, |gate| (report::endpoints(gate), None)).0;
            let texts: BTreeMap<EndpointId, String> =
                found.endpoints.iter().map(|(id, json, _)| (id.clone(), json.clone())).collect();
            let gone: Vec<EndpointId> = self.announced.keys().filter(|id| !texts.contains_key(*id)).cloned().collect();
            let changed =
                found.endpoints.into_iter().filter(|(id, _, _)| self.announced.get(id) != texts.get(id)).collect();
            for chunk in report::chunks(changed) {
                self.unasked(story, now, &mut given, |gate| ((), Some(report::add_or_update(gate, &chunk))));
                messages.push(Message::AddOrUpdateReport);
                chunk.iter().for_each(|(id, _, _)| drop(self.reported.remove(id)));
            }
            if !gone.is_empty() {
                self.unasked(story, now, &mut given, |gate| ((), Some(report::delete(gate, &gone))));
                messages.push(Message::DeleteReport);
                gone.iter().for_each(|id| drop(self.reported.remove(id)));
            }
            self.announced = texts;
            for id in self.announced.keys().cloned().collect::<Vec<_>>() {
                let before = self.reported.get(&id).cloned().unwrap_or_default();
                let taken = self.unasked(story, now, &mut given, |gate| {
                    match report::change(gate, &id, &before, gate::REPORT_GRID_MS) {
                        Some((report, taken)) => (Some(taken), Some(report)),
                        None => (None, None),
                    }
                });
                if let Some(taken) = taken.0 {
                    self.reported.insert(id, taken);
                    messages.push(Message::ChangeReport);
                }
            }
        }
        for frame in self.life.frames.iter_mut().rev().take(messages.len()) {
            frame.tick = tick;
        }
        if messages.is_empty() {
            messages.push(Message::QuietRound);
        }
        let (frames, event) = (self.life.frames.len(), self.life.events.len());
        let message = Message::QuietRound;
        let asked = Asked { at, message, frames, event, given, found: true, handed: None, messages };
        self.life.asked.push(asked);
        self.log(now, Event::Round(self.weather.recorder));
    }

    /// Tells the outcomes that are due: always as long after the answer, whatever the device did meanwhile.
    fn outcomes(&mut self, story: &Story, until: i64, timeline: &Timeline) {
        for due in self.due.extract_if(.., |due| due.at <= until).collect::<Vec<_>>() {
            let now = timeline.at(due.at);
            let mut given = Vec::new();
            if self.weather.recorder {
                self.unasked(story, now, &mut given, |gate| ((), report::outcome(gate, &due.deferred)));
            }
            let (frames, event) = (self.life.frames.len(), self.life.events.len());
            let messages = vec![Message::Outcome];
            let message = Message::Outcome;
            self.life.asked.push(Asked {
                at: due.at,
                message,
                frames,
                event,
                given,
                found: true,
                handed: None,
                messages,
            });
            self.log(now, Event::Outcome(due.command));
        }
    }

    /// One message that nobody asked for, if there is one to send.
    fn unasked<T>(
        &mut self,
        story: &Story,
        now: Timestamp,
        given: &mut Vec<Disclosed>,
        make: impl FnOnce(&mut Leaky<'_>) -> (T, Option<Report>),
    ) -> (T, bool) {
        let id = self.spy.message_id(story.seed, self.life.frames.len());
        let session = self.session(&self.world.link, now, id);
        let mut leaky = Leaky::new(session, &mut self.spy, &self.state, self.world);
        let (made, report) = make(&mut leaky);
        let (session, told, _) = leaky.into_parts();
        given.extend(told);
        let Some(report) = report else { return (made, false) };
        let finished = session.finish();
        let mut event: Json = serde_json::from_slice(&report.kept()).unwrap();
        self.spy.render_unasked(&mut event, &self.state, self.world);
        self.store(finished.writes);
        let body = serde_json::to_vec(&event).unwrap();
        self.life.frames.push(Frame { status: 200, headers: Vec::new(), body, waits: 1, tick: None });
        (made, true)
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
        let orders = self.broker.orders.lock().unwrap().len() - before;
        // The commit of the INTENT.
        let waits = self.broker.weather.lock().unwrap().waits + 1;
        let (mut event, deferred) = (reply.event(), reply.deferred);
        self.spy.render(&mut event, &self.state, &finished.decided, self.world, device.as_ref(), now);
        let frame = if self.weather.recorder {
            self.store(finished.writes);
            Frame { status: 200, headers: Vec::new(), body: serde_json::to_vec(&event).unwrap(), waits, tick: None }
        } else {
            Frame { status: 503, headers: Vec::new(), body: alexa::constants::UNAVAILABLE.to_vec(), waits, tick: None }
        };
        let frames = self.spy.send(frame, &self.state, self.world, device.as_ref(), now);
        // The partner learns from it.
        let answer = frames.first().cloned().unwrap();
        let json: Json = serde_json::from_slice(&answer.body).unwrap_or(Json::Null);
        if let Some(found) = json["event"]["payload"]["endpoints"].as_array() {
            self.endpoints =
                found.iter().filter_map(|e| Some((e["endpointId"].as_str()?.to_owned(), named(e)))).collect();
        }
        self.mood = self.mood.rotate_left(7) ^ hash(&answer.body) ^ u64::from(answer.status);
        self.life.frames.extend(frames);
        self.life.orders += orders;
        let name = json["event"]["header"]["name"].as_str().unwrap_or_default();
        let handed = answer.status == 200 && matches!(name, "Response" | "ActivationStarted" | "DeferredResponse");
        let weather = (self.weather.broker, self.weather.recorder);
        let is_command =
            !matches!(turn.message, Message::Discover | Message::ReportState | Message::AcceptGrant | Message::Unknown);
        let event = match turn.message {
            Message::Discover => Event::Discover,
            Message::ReportState => Event::Report(device),
            Message::AcceptGrant | Message::Unknown => Event::Other,
            _ => {
                let words = format!("{:?} {} {:?} {}", turn.message, turn.name, turn.instance, turn.payload);
                let command = Command { device, words, wish: turn.wish, of: turn.of, weather };
                if let Some(deferred) = deferred.filter(|_| answer.status == 200) {
                    let at = at + i64::from(alexa::limits::DEFERRAL_S) * 1000;
                    self.due.push(Due { at, deferred, command: command.clone() });
                }
                match meanwhile {
                    Some(phase) => Event::CommandWhile(command, self.world.phases[phase].clone()),
                    None => Event::Command(command),
                }
            }
        };
        // What the device does not take tells little: it is not counted.
        let is_taken = !is_command || (found && json["event"]["payload"]["type"] != "INVALID_DIRECTIVE");
        let asked = Asked {
            at,
            message: turn.message,
            frames: self.life.frames.len(),
            event: self.life.events.len(),
            given,
            found,
            handed: is_command.then_some(handed),
            messages: is_taken.then_some(turn.message).into_iter().collect(),
        };
        self.life.asked.push(asked);
        self.log(now, event);
    }
}

/// The capabilities of an endpoint in Discovery, each with its instance.
fn named(endpoint: &Json) -> Vec<String> {
    let all = endpoint["capabilities"].as_array().into_iter().flatten();
    all.map(|c| format!("{}/{}", c["interface"].as_str().unwrap_or(""), c["instance"].as_str().unwrap_or(""))).collect()
}

/// A move of the partner.
struct Turn {
    message: Message,
    namespace: &'static str,
    name: &'static str,
    instance: Option<&'static str>,
    endpoint: String,
    payload: Json,
    wish: Option<Wish>,
    of: Option<DeviceType>,
    id: u64,
}

impl Turn {
    /// What the partner does next: by its strategy, and by everything that it was told so far (which is in the dice).
    fn choose(strategy: Strategy, n: u64, endpoints: &[(String, Vec<String>)], rng: &mut Rng) -> Self {
        // Mostly it says what Discovery has named a device for.
        let mut turn = Turn::draw(strategy, n, endpoints, rng);
        for _ in 0..4 {
            if turn.is_for_one_of(endpoints) {
                break;
            }
            turn = Turn::draw(strategy, n, endpoints, rng);
        }
        turn.id = rng.next();
        let fitting: Vec<&(String, Vec<String>)> = endpoints.iter().filter(|e| turn.fits(e)).collect();
        if endpoints.is_empty() || rng.below(30) == 0 {
            return turn;
        }
        turn.endpoint = match fitting.as_slice() {
            [] => rng.pick(endpoints).0.clone(),
            _ if rng.below(10) == 0 => rng.pick(endpoints).0.clone(),
            fitting => rng.pick(fitting).0.clone(),
        };
        turn
    }

    fn is_for_one_of(&self, endpoints: &[(String, Vec<String>)]) -> bool {
        let is_for_the_hub =
            matches!(self.message, Message::Discover | Message::ReportState | Message::AcceptGrant | Message::Unknown);
        is_for_the_hub || endpoints.iter().any(|e| self.fits(e))
    }

    /// Whether Discovery has named this endpoint for it.
    fn fits(&self, endpoint: &(String, Vec<String>)) -> bool {
        endpoint.1.contains(&format!("{}/{}", self.namespace, self.instance.unwrap_or_default()))
    }

    /// What it could say, to nobody yet.
    fn draw(strategy: Strategy, n: u64, endpoints: &[(String, Vec<String>)], rng: &mut Rng) -> Self {
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
                Message::Lock,
                Message::SetRangeValue,
            ]),
            Strategy::Seldom if rng.below(3) > 0 => {
                *rng.pick(&[Message::Lock, Message::Lock, Message::AcceptGrant, Message::Unknown])
            }
            _ => *rng.pick(&DIRECTIVES),
        };
        let mut turn = Turn {
            message,
            namespace: "Alexa",
            name: "ReportState",
            instance: None,
            endpoint: "0123456789abcdef0123456789abcdef".to_owned(),
            payload: json!({}),
            wish: None,
            of: None,
            id: 0,
        };
        turn.say(strategy, rng);
        turn
    }

    /// The directive itself, and what it asks for.
    fn say(&mut self, strategy: Strategy, rng: &mut Rng) {
        let celsius = |half: u64| json!({"value": half as f64 / 2.0, "scale": "CELSIUS"});
        let milli = |half: u64| half as i32 * 500;
        let set = |p: Property, v: Value| Some(Wish::Set(p, v));
        let (blind, thermostat) = (Some(DeviceType::WindowCovering), "Alexa.ThermostatController");
        // A share, and a change of it: what is out of range can't be meant.
        let share = rng.below(102);
        let by = rng.below(61) as i64 - 30;
        let set_part = |p: Property| (share <= 100).then(|| Wish::Set(p, Value::Percent(share as u16 * 100)));
        let more = |p: Property| Some(Wish::More(p, by as i32 * 100));
        let ranges = [
            ("Blind.Lift", Property::CoverPosition, blind),
            ("Blind.Tilt", Property::CoverTilt, blind),
            ("Fan.Speed", Property::FanPercent, None),
        ];
        let (namespace, name) = match self.message {
            Message::Discover => ("Alexa.Discovery", "Discover"),
            Message::ReportState => ("Alexa", "ReportState"),
            Message::SetTargetTemperature => {
                let (low, high) = (30 + rng.below(20), 42 + rng.below(20));
                let any = if rng.below(6) == 0 { 90 } else { low };
                let (target, lower, upper) = match rng.below(8) {
                    0 | 1 => (None, Some(low), Some(high)),
                    2 => (None, None, Some(high)),
                    3 => (None, Some(low), None),
                    4 => (Some(any), Some(low), Some(high)),
                    _ => (Some(any), None, None),
                };
                let minutes = (rng.below(4) == 0).then_some(90u16);
                let mut payload = serde_json::Map::new();
                for (key, t) in [("targetSetpoint", target), ("lowerSetpoint", lower), ("upperSetpoint", upper)] {
                    payload.extend(t.map(|t| (key.to_owned(), celsius(t))));
                }
                payload.extend(minutes.map(|_| ("schedule".to_owned(), json!({"duration": "PT1H30M"}))));
                self.payload = payload.into();
                self.wish = Some(Wish::Setpoints(target.map(milli), lower.map(milli), upper.map(milli), minutes));
                (thermostat, "SetTargetTemperature")
            }
            Message::AdjustTargetTemperature => {
                let by = match strategy {
                    Strategy::NoOpCommands => 0,
                    _ => rng.below(13) as i32 - 6,
                };
                self.payload = json!({"targetSetpointDelta": {"value": f64::from(by), "scale": "CELSIUS"}});
                self.wish = Some(Wish::Warmer(by * 1000));
                (thermostat, "AdjustTargetTemperature")
            }
            Message::ResumeSchedule => {
                self.wish = set(Property::SetpointHold, Value::Bool(false));
                (thermostat, "ResumeSchedule")
            }
            Message::SetThermostatMode => {
                let (word, mode) = *rng.pick(&[
                    ("OFF", SystemMode::Off),
                    ("HEAT", SystemMode::Heat),
                    ("COOL", SystemMode::Cool),
                    ("AUTO", SystemMode::Auto),
                    ("EM_HEAT", SystemMode::EmergencyHeat),
                ]);
                self.payload = json!({"thermostatMode": {"value": word}});
                self.wish = set(Property::SystemMode, Value::SystemMode(mode));
                (thermostat, "SetThermostatMode")
            }
            Message::Power => {
                let on = rng.below(2) == 0;
                self.wish = set(Property::OnOff, Value::Bool(on));
                ("Alexa.PowerController", if on { "TurnOn" } else { "TurnOff" })
            }
            Message::SetBrightness => {
                self.payload = json!({"brightness": share});
                self.wish = set_part(Property::CurrentLevel);
                ("Alexa.BrightnessController", "SetBrightness")
            }
            Message::AdjustBrightness => {
                self.payload = json!({"brightnessDelta": by});
                self.wish = more(Property::CurrentLevel);
                ("Alexa.BrightnessController", "AdjustBrightness")
            }
            Message::SetColorTemperature => {
                let kelvin = 1_000 + rng.below(9_000) as u16;
                self.payload = json!({"colorTemperatureInKelvin": kelvin});
                self.wish = set(Property::ColorTemperature, Value::ColorTemperature(kelvin));
                ("Alexa.ColorTemperatureController", "SetColorTemperature")
            }
            Message::ChangeColorTemperature => {
                let (name, by) = *rng.pick(&[("IncreaseColorTemperature", 500), ("DecreaseColorTemperature", -500)]);
                self.wish = Some(Wish::Whiter(by));
                ("Alexa.ColorTemperatureController", name)
            }
            Message::SetColor => {
                let (hue, saturation) = (rng.below(361) as u16, rng.below(101) as u16);
                self.payload = json!({"color": {
                    "hue": f64::from(hue), "saturation": f64::from(saturation) / 100.0, "brightness": 1.0,
                }});
                let color = Color { hue: hue * 100, saturation: saturation * 100 };
                self.wish = set(Property::Color, Value::Color(color));
                ("Alexa.ColorController", "SetColor")
            }
            Message::SetRangeValue | Message::AdjustRangeValue => {
                let (instance, property, of) = *rng.pick(&ranges);
                (self.instance, self.of) = (Some(instance), of);
                if self.message == Message::SetRangeValue {
                    self.payload = json!({"rangeValue": share});
                    self.wish = set_part(property);
                    ("Alexa.RangeController", "SetRangeValue")
                } else {
                    self.payload = json!({"rangeValueDelta": by, "rangeValueDeltaDefault": false});
                    self.wish = more(property);
                    ("Alexa.RangeController", "AdjustRangeValue")
                }
            }
            Message::SetPowerLevel => {
                self.payload = json!({"powerLevel": share});
                self.wish = set_part(Property::FanPercent);
                ("Alexa.PowerLevelController", "SetPowerLevel")
            }
            Message::AdjustPowerLevel => {
                self.payload = json!({"powerLevelDelta": by});
                self.wish = more(Property::FanPercent);
                ("Alexa.PowerLevelController", "AdjustPowerLevel")
            }
            Message::SetPercentage => {
                self.payload = json!({"percentage": share});
                (self.wish, self.of) = (set_part(Property::CoverPosition), blind);
                ("Alexa.PercentageController", "SetPercentage")
            }
            Message::AdjustPercentage => {
                self.payload = json!({"percentageDelta": by});
                (self.wish, self.of) = (more(Property::CoverPosition), blind);
                ("Alexa.PercentageController", "AdjustPercentage")
            }
            Message::Toggle => {
                let on = rng.below(2) == 0;
                self.instance = Some("Fan.Oscillate");
                self.wish = set(Property::FanOscillation, Value::Bool(on));
                ("Alexa.ToggleController", if on { "TurnOn" } else { "TurnOff" })
            }
            Message::Activate => {
                self.wish = set(Property::Scene, Value::Bool(true));
                ("Alexa.SceneController", "Activate")
            }
            Message::Lock => {
                let lock = rng.below(2) == 0;
                let state = if lock { LockState::Locked } else { LockState::Unlocked };
                self.wish = set(Property::LockState, Value::LockState(state));
                ("Alexa.LockController", if lock { "Lock" } else { "Unlock" })
            }
            Message::SetMode => {
                let doors =
                    [("GarageDoor.Position", DeviceType::GarageDoor), ("Blind.Position", DeviceType::WindowCovering)];
                let (up, third) = (rng.below(2) == 0, rng.below(3) as usize);
                let word = match doors.get(third) {
                    Some((instance, of)) => {
                        (self.instance, self.of) = (Some(*instance), Some(*of));
                        let state = if up { DoorState::Open } else { DoorState::Closed };
                        self.wish = set(Property::DoorState, Value::DoorState(state));
                        if up { "Position.Up" } else { "Position.Down" }
                    }
                    None => {
                        self.instance = Some("Fan.Direction");
                        let way = if up { FanDirection::Forward } else { FanDirection::Reverse };
                        self.wish = set(Property::FanDirection, Value::FanDirection(way));
                        if up { "Direction.Forward" } else { "Direction.Reverse" }
                    }
                };
                self.payload = json!({"mode": word});
                ("Alexa.ModeController", "SetMode")
            }
            Message::AcceptGrant => ("Alexa.Authorization", "AcceptGrant"),
            _ => ("Alexa.Strange", "Thing"),
        };
        (self.namespace, self.name) = (namespace, name);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut d = testkit::directive(self.namespace, self.name, &self.endpoint, "vst_token", self.payload.clone());
        d["directive"]["header"]["messageId"] = json!(format!("m-{:016x}", self.id));
        if d["directive"]["header"]["correlationToken"].is_string() {
            d["directive"]["header"]["correlationToken"] = json!(format!("c-{:016x}", self.id));
        }
        if let Some(instance) = self.instance {
            d["directive"]["header"]["instance"] = json!(instance);
        }
        d.to_string().into_bytes()
    }
}

/// Where in the day a story begins, for people who read a failure.
pub fn clock_text(now: Timestamp) -> String {
    let ms = now.as_millis() - START;
    format!("{} (+{} h {} min)", now.to_rfc3339(), ms / HOUR, ms % HOUR / MINUTE)
}

//! A simulated home that speaks MQTT as real devices do, so that the hub can't tell it from one.
//!
//! [`Simulation`] is pure: time comes in as an argument, and the same seed gives the same home. [`run`] connects it to
//! a broker and a clock. Inside: a house with two heat capacities under the weather of a real typical year, a heating
//! thermostat with minimum run and off times, a garage door, a front door with lock and contact, a motion detector,
//! a light, a metering plug, a battery-powered bedroom sensor, and two residents who live their days there.
//! All values are in °C and SI units.

mod discovery;
mod residents;
#[cfg(test)]
pub(crate) mod test_broker;
mod thermostat;
pub(crate) mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use model::{Clock, Timestamp};
use rumqttc::{ClientBuildError, MqttOptions, PublishOptions, QoS};
use serde_json::json;
use tokio::sync::watch;

use self::residents::{Act, Planned, RESIDENTS};
use self::thermostat::{Mode, Thermostat};
use self::wire::{Status, Wire};
use comfort::simulate::house::{House, Inputs, Parameters};
use comfort::simulate::rng::Rng;
use comfort::simulate::weather::{Outdoors, Weather};

/// One step of the simulation, ms. Short enough for a door that moves.
const STEP_MS: i64 = 5_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// A clock that jumps further ahead than this is followed from this long before its new time, ms.
const MAX_CATCH_UP_MS: i64 = 7 * DAY_MS;
/// How often the running simulation looks at its clock.
const TICK: Duration = Duration::from_millis(100);

/// How long the garage door takes from shut to open, ms.
const GARAGE_TRAVEL_MS: i64 = 15_000;
/// How long the bolt of the front door takes, ms: until the next step.
const BOLT_TRAVEL_MS: i64 = STEP_MS;
/// The motion detector goes quiet so long after the last movement, ms.
const MOTION_HOLD_MS: i64 = 60_000;
/// How likely a person who is up passes the hall in a given minute.
const HALL_PER_MINUTE: f64 = 0.08;
/// Below this irradiance it is dark indoors, W/m².
const DUSK: f64 = 20.0;
/// Windows are opened above this air temperature and shut below the second, °C.
const WINDOWS_OPEN_C: f64 = 25.0;
const WINDOWS_SHUT_C: f64 = 23.0;

/// Heat of the fridge and what is always on, of the stove and of the light at full power, W.
const BASE_LOAD_W: f64 = 180.0;
const STOVE_W: f64 = 1500.0;
const LIGHT_W: f64 = 40.0;
/// Steam of cooking and of a shower, g/h.
const COOKING_STEAM: f64 = 700.0;
const SHOWER_STEAM: f64 = 1600.0;
/// Largest brightness, as the light counts it.
const FULL: u8 = 255;

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// Whether the broker keeps it for those who come later.
    pub retain: bool,
}

/// The simulated home at one moment. Deterministic: the same seed, start and zone, given the same times and commands,
/// publish the same messages.
#[derive(Clone, Debug)]
pub struct Simulation {
    seed: u64,
    zone: TimeZone,
    now_ms: i64,
    today: Option<Date>,
    weather: Weather,
    outdoors: Outdoors,
    house: House,
    thermostat: Thermostat,
    acts: VecDeque<Planned>,
    people: [Person; RESIDENTS],
    windows_open: bool,
    cooking: bool,
    shower: bool,
    garage: Garage,
    lock: Lock,
    front_door_open: bool,
    motion_until_ms: i64,
    light_on: bool,
    light_level: u8,
    /// The residents have dealt with today's dusk.
    dusk_seen: bool,
    plug_on: bool,
    plug_tenth_watts: i64,
    /// Energy through the plug, tenths of a watt times ms.
    plug_energy: i64,
    reported: Reported,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Person {
    home: bool,
    awake: bool,
}

/// A garage door: where it stands (0 shut, [`GARAGE_TRAVEL_MS`] open) and where to it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Garage {
    position_ms: i64,
    motor: Motor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motor {
    Still,
    Opening,
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lock {
    locked: bool,
    /// Until then the bolt moves, ms.
    moving_until_ms: i64,
}

/// What the devices last said, in the steps in which they say it: only a change is published.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reported {
    climate: Climate,
    /// Humidity %, CO2 ppm.
    air: (i32, i32),
    garage: &'static str,
    lock: &'static str,
    contact_open: bool,
    /// Motion, battery %.
    motion: (bool, i64),
    /// On, brightness.
    light: (bool, u8),
    /// On, tenths of a watt, hundredths of a kWh.
    plug: (bool, i64, i64),
    /// Tenths of °C, humidity %, battery %.
    bedroom: (i32, i32, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Climate {
    tenths: i32,
    set_point: i32,
    mode: Mode,
    heating: bool,
}

impl Simulation {
    /// A home as it is at this time (ms since the epoch) in this time zone, after a day and more of normal life, so
    /// that temperatures and people are where they should be.
    pub fn new(seed: u64, start_ms: i64, timezone: TimeZone) -> Self {
        let start_ms =
            start_ms.clamp(jiff::Timestamp::MIN.as_millisecond() + 2 * DAY_MS, jiff::Timestamp::MAX.as_millisecond());
        let yesterday = local(&timezone, start_ms - DAY_MS).date();
        let midnight =
            timezone.to_timestamp(yesterday.at(0, 0, 0, 0)).map_or(start_ms - DAY_MS, jiff::Timestamp::as_millisecond);
        let weather = Weather::vendored();
        let civil = local(&timezone, midnight);
        let outdoors = weather.at(civil);
        // In winter the night's set point; in summer about what it is outside.
        let house = House::at(Parameters::medium(), outdoors.temperature_c.clamp(18.0, 26.0));
        let thermostat = Thermostat::new(civil);
        let mut simulation = Self {
            seed,
            now_ms: midnight - midnight.rem_euclid(STEP_MS),
            today: None,
            weather,
            outdoors,
            reported: Reported {
                climate: Climate { tenths: 0, set_point: 0, mode: Mode::Off, heating: false },
                air: (0, 0),
                garage: "",
                lock: "",
                contact_open: false,
                motion: (false, 0),
                light: (false, 0),
                plug: (false, 0, 0),
                bedroom: (0, 0, 0),
            },
            house,
            thermostat,
            zone: timezone,
            acts: VecDeque::new(),
            people: [Person { home: true, awake: false }; RESIDENTS],
            windows_open: false,
            cooking: false,
            shower: false,
            garage: Garage { position_ms: 0, motor: Motor::Still },
            lock: Lock { locked: true, moving_until_ms: i64::MIN },
            front_door_open: false,
            motion_until_ms: i64::MIN,
            light_on: false,
            light_level: FULL,
            dusk_seen: false,
            plug_on: false,
            plug_tenth_watts: 0,
            plug_energy: 0,
        };
        while simulation.now_ms + STEP_MS <= start_ms {
            simulation.advance();
        }
        simulation.reported = simulation.report();
        simulation
    }

    /// What each device says of itself, then that it answers, then its present state: to be sent at every connection.
    pub fn announce(&self) -> Vec<Publication> {
        let mut all = discovery::configs();
        all.push(retained(discovery::AVAILABILITY, "online"));
        publish_changes(None, &self.report(), &mut all);
        all
    }

    /// What the broker is to say when the connection is lost, and what is said at a goodbye.
    pub fn will(&self) -> Publication {
        retained(discovery::AVAILABILITY, "offline")
    }

    /// The topic filters under which commands come.
    pub fn command_filters(&self) -> [String; 3] {
        ["+/set", "+/+/set", "+/set/+"].map(|filter| format!("{}/{filter}", discovery::BASE))
    }

    /// Lives on until this time and tells every change on the way. A time that has passed changes nothing; a jump of
    /// more than seven days is cut to its last seven.
    pub fn step_to(&mut self, time: Timestamp) -> Vec<Publication> {
        let time_ms = time.as_millis();
        let mut out = Vec::new();
        if time_ms.saturating_sub(self.now_ms) > MAX_CATCH_UP_MS {
            let resume = time_ms - MAX_CATCH_UP_MS;
            self.now_ms = resume - resume.rem_euclid(STEP_MS);
        }
        while self.now_ms.saturating_add(STEP_MS) <= time_ms {
            self.advance();
            self.publish(&mut out);
        }
        out
    }

    /// Carries a command out and tells what it changes at once; what takes longer follows from [`step_to`]. A command
    /// that a device doesn't understand changes nothing.
    ///
    /// [`step_to`]: Self::step_to
    pub fn handle(&mut self, topic: &str, payload: &[u8], time: Timestamp) -> Vec<Publication> {
        let mut out = self.step_to(time);
        let Ok(payload) = std::str::from_utf8(payload) else {
            return out;
        };
        let payload = payload.trim();
        match topic.strip_prefix(discovery::BASE).unwrap_or_default() {
            "/thermostat/set/temperature" => {
                if !payload.parse().is_ok_and(|celsius| self.thermostat.set(celsius)) {
                    return out;
                }
            }
            "/thermostat/set/mode" => match payload {
                "heat" => self.thermostat.mode = Mode::Heat,
                "off" => self.thermostat.mode = Mode::Off,
                _ => return out,
            },
            "/garage/door/set" => match payload {
                "OPEN" => self.garage.move_to(Motor::Opening),
                "CLOSE" => self.garage.move_to(Motor::Closing),
                "STOP" => self.garage.motor = Motor::Still,
                _ => return out,
            },
            "/front_door/lock/set" => match payload {
                "LOCK" => self.turn_bolt(true),
                "UNLOCK" => self.turn_bolt(false),
                _ => return out,
            },
            "/living_room_light/set" => match payload {
                "ON" => self.light_on = true,
                "OFF" => self.light_on = false,
                _ => return out,
            },
            "/living_room_light/set/brightness" => match payload.parse() {
                Ok(level) => self.dim(level),
                Err(_) => return out,
            },
            "/tv_plug/set" => match payload {
                "ON" => self.switch_plug(true),
                "OFF" => self.switch_plug(false),
                _ => return out,
            },
            _ => return out,
        }
        self.publish(&mut out);
        out
    }

    fn publish(&mut self, out: &mut Vec<Publication>) {
        let report = self.report();
        if report != self.reported {
            publish_changes(Some(&self.reported), &report, out);
            self.reported = report;
        }
    }

    /// One step.
    fn advance(&mut self) {
        self.now_ms += STEP_MS;
        if self.now_ms.rem_euclid(MINUTE_MS) == 0 || self.today.is_none() {
            self.each_minute();
        }
        while let Some(&(time, act)) = self.acts.front().filter(|(time, _)| *time <= self.now_ms) {
            self.acts.pop_front();
            self.perform(act, time);
        }
        self.garage.advance();
        self.thermostat.control(self.now_ms, self.house.sensor_c);
        let up = self.people.iter().filter(|p| p.home && p.awake).count() as u8;
        let asleep = self.people.iter().filter(|p| p.home && !p.awake).count() as u8;
        let light_w = if self.light_on { LIGHT_W * f64::from(self.light_level) / f64::from(FULL) } else { 0.0 };
        let inputs = Inputs {
            outdoors: self.outdoors,
            heating_w: self.thermostat.output_w(self.now_ms),
            appliances_w: BASE_LOAD_W
                + light_w
                + self.plug_tenth_watts as f64 / 10.0
                + if self.cooking { STOVE_W } else { 0.0 },
            steam_g_h: if self.cooking { COOKING_STEAM } else { 0.0 } + if self.shower { SHOWER_STEAM } else { 0.0 },
            awake: up,
            asleep,
            windows_open: self.windows_open,
        };
        self.house.step(STEP_MS as f64 / 1000.0, &inputs);
        self.plug_energy += self.plug_tenth_watts * STEP_MS;
    }

    /// What needs no finer look than once a minute: weather, program, the day's plan, and people's small decisions.
    fn each_minute(&mut self) {
        let civil = local(&self.zone, self.now_ms);
        self.outdoors = self.weather.at(standard(&self.zone, self.now_ms));
        self.thermostat.follow_program(civil);
        if self.today != Some(civil.date()) {
            self.today = Some(civil.date());
            self.dusk_seen = false;
            self.acts.extend(residents::plan(self.seed, civil.date(), &self.zone));
        }
        let up = self.people.iter().filter(|p| p.home && p.awake).count();
        let mut chance = Rng::new(self.seed, 2, self.now_ms.div_euclid(MINUTE_MS));
        if chance.chance(HALL_PER_MINUTE * up as f64) {
            self.perform(Act::PassHall, self.now_ms);
        }
        if self.plug_on {
            // What is on the screen.
            self.plug_tenth_watts = chance.around(980, 90);
        }
        if up > 0 {
            let warm = if self.windows_open { WINDOWS_SHUT_C } else { WINDOWS_OPEN_C };
            self.windows_open = self.house.air_c > warm && self.outdoors.temperature_c < self.house.air_c;
            if !self.dusk_seen && civil.hour() >= 15 && self.outdoors.irradiance < DUSK {
                self.dusk_seen = true;
                self.dim(200);
            }
        } else if self.people.iter().all(|p| !p.home) {
            self.windows_open = false;
        }
    }

    fn perform(&mut self, act: Act, time: i64) {
        let anybody_up = self.people.iter().any(|p| p.home && p.awake);
        match act {
            Act::Wake(who) => self.person(who, |p| p.awake = true),
            Act::GoToBed(who) => {
                self.person(who, |p| p.awake = false);
                self.leave_rooms_dark();
            }
            Act::Leave(who) => {
                self.person(who, |p| p.home = false);
                self.leave_rooms_dark();
            }
            Act::Return(who) => self.person(who, |p| p.home = true),
            Act::PassHall => {
                if self.people.iter().any(|p| p.home) {
                    self.motion_until_ms = time.max(self.now_ms) + MOTION_HOLD_MS;
                }
            }
            Act::OpenGarage => self.garage.move_to(Motor::Opening),
            Act::CloseGarage => self.garage.move_to(Motor::Closing),
            Act::Unlock => self.turn_bolt(false),
            Act::Lock => self.turn_bolt(true),
            Act::OpenDoor => self.front_door_open = true,
            Act::CloseDoor => self.front_door_open = false,
            Act::Shower(on) => self.shower = on && anybody_up,
            Act::Cook(on) => self.cooking = on && anybody_up,
            Act::Television(on) => {
                if on && anybody_up {
                    self.switch_plug(true);
                    if self.light_on {
                        self.dim(90);
                    }
                } else {
                    self.switch_plug(false);
                }
            }
        }
    }

    fn person(&mut self, who: usize, change: impl FnOnce(&mut Person)) {
        if let Some(person) = self.people.get_mut(who) {
            change(person);
        }
    }

    /// The last one up switches everything off.
    fn leave_rooms_dark(&mut self) {
        if !self.people.iter().any(|p| p.home && p.awake) {
            self.light_on = false;
            self.cooking = false;
            self.switch_plug(false);
        }
    }

    fn dim(&mut self, level: u8) {
        self.light_on = level > 0;
        if level > 0 {
            self.light_level = level;
        }
    }

    fn switch_plug(&mut self, on: bool) {
        if self.plug_on != on {
            self.plug_on = on;
            self.plug_tenth_watts = if on { 900 } else { 0 };
        }
    }

    fn turn_bolt(&mut self, locked: bool) {
        if self.lock.locked != locked {
            self.lock = Lock { locked, moving_until_ms: self.now_ms + BOLT_TRAVEL_MS };
        }
    }

    /// What the devices would say now.
    fn report(&self) -> Reported {
        let day = self.now_ms.div_euclid(DAY_MS);
        Reported {
            climate: Climate {
                tenths: tenths(self.house.sensor_c),
                set_point: self.thermostat.set_point,
                mode: self.thermostat.mode,
                heating: self.thermostat.heating,
            },
            air: (self.house.humidity().round() as i32, (self.house.co2_ppm / 10.0).round() as i32 * 10),
            garage: self.garage.state(),
            lock: match (self.lock.locked, self.lock.moving_until_ms > self.now_ms) {
                (true, false) => "LOCKED",
                (true, true) => "LOCKING",
                (false, false) => "UNLOCKED",
                (false, true) => "UNLOCKING",
            },
            contact_open: self.front_door_open,
            motion: (self.motion_until_ms > self.now_ms, battery(day)),
            light: (self.light_on, self.light_level),
            // Watt hours come from tenths of a watt times ms by 3.6e7.
            plug: (self.plug_on, self.plug_tenth_watts, self.plug_energy / 360_000_000),
            bedroom: (tenths(self.house.bedroom_c), self.house.bedroom_humidity().round() as i32, battery(day + 200)),
        }
    }
}

/// Why the simulated home could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The MQTT client refused its settings.
    #[error("the simulated home can't start its mqtt client: {0}")]
    Client(#[from] ClientBuildError),
}

/// Connects the home to a broker and lets it live by this clock until `shutdown` turns true (or its sender is gone).
/// While the broker is away the home lives on; when it is back, everything is announced again.
///
/// # Errors
/// When the MQTT client can't be built. A broker that can't be reached is no error: it is tried again.
pub async fn run(
    mut simulation: Simulation,
    mqtt_host: String,
    mqtt_port: u16,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), SimulatorError> {
    let options = MqttOptions::new(wire::client_id("simulated-home"), (mqtt_host, mqtt_port));
    let mut wire = Wire::start(options, &simulation.will())?;
    let mut announced = 0;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let publications = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some((_, command)) = wire.commands.recv() => {
                let topic = String::from_utf8_lossy(&command.topic);
                simulation.handle(&topic, &command.payload, clock.now())
            }
            _ = tick.tick() => simulation.step_to(clock.now()),
        };
        // Nothing is sent into a connection that is down: all of it is told anew when it is back.
        let connection = match *wire.status.borrow() {
            Status::Up(connection) => connection,
            Status::Down { .. } => continue,
        };
        if connection != announced {
            announced = connection;
            for filter in simulation.command_filters() {
                if let Err(error) = wire.client.try_subscribe(filter, QoS::AtLeastOnce) {
                    tracing::warn!(%error, "the simulated home could not ask for its commands");
                }
            }
            if !send(&wire, simulation.announce(), &mut shutdown).await {
                break;
            }
        } else if !send(&wire, publications, &mut shutdown).await {
            break;
        }
    }
    let _ = wire.client.try_publish(
        simulation.will().topic,
        simulation.will().payload,
        PublishOptions::new(QoS::AtLeastOnce).retained(),
    );
    wire.finish().await;
    Ok(())
}

/// Queues the messages, waiting where the queue is full; false when it is time to stop.
async fn send(wire: &Wire, publications: Vec<Publication>, shutdown: &mut watch::Receiver<bool>) -> bool {
    for publication in publications {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(publication.retain);
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return false,
            sent = wire.client.publish(publication.topic, publication.payload, options) => {
                if let Err(error) = sent {
                    tracing::warn!(%error, "a simulated device could not be heard");
                    return true;
                }
            }
        }
    }
    true
}

impl Garage {
    /// Starts the motor, unless the door is there already.
    fn move_to(&mut self, motor: Motor) {
        let there = match motor {
            Motor::Opening => self.position_ms == GARAGE_TRAVEL_MS,
            Motor::Closing => self.position_ms == 0,
            Motor::Still => true,
        };
        self.motor = if there { Motor::Still } else { motor };
    }

    fn advance(&mut self) {
        match self.motor {
            Motor::Still => return,
            Motor::Opening => self.position_ms += STEP_MS,
            Motor::Closing => self.position_ms -= STEP_MS,
        }
        self.position_ms = self.position_ms.clamp(0, GARAGE_TRAVEL_MS);
        self.move_to(self.motor);
    }

    /// As a Home Assistant cover says it. A door stopped half-way is open: it is not shut.
    fn state(self) -> &'static str {
        match self.motor {
            Motor::Opening => "opening",
            Motor::Closing => "closing",
            Motor::Still if self.position_ms == 0 => "closed",
            Motor::Still => "open",
        }
    }
}

/// Adds the state messages of the devices whose report differs; all of them without an old report.
fn publish_changes(old: Option<&Reported>, new: &Reported, out: &mut Vec<Publication>) {
    let on_off = |on: bool| if on { "ON" } else { "OFF" };
    let mut say = |topic: &str, changed: bool, payload: &dyn Fn() -> String| {
        if changed {
            out.push(retained(topic, payload()));
        }
    };
    let differs = |same: fn(&Reported, &Reported) -> bool| old.is_none_or(|old| !same(old, new));

    say(&format!("{}/state", discovery::THERMOSTAT), differs(|a, b| a.climate == b.climate), &|| {
        let climate = &new.climate;
        let mode = if climate.mode == Mode::Heat { "heat" } else { "off" };
        let running = match (climate.heating, climate.mode) {
            (true, _) => "heat",
            (false, Mode::Heat) => "idle",
            (false, Mode::Off) => "off",
        };
        json!({
            "local_temperature": f64::from(climate.tenths) / 10.0,
            "set_point": f64::from(climate.set_point) / 10.0,
            "mode": mode,
            "running_state": running,
        })
        .to_string()
    });
    say(&format!("{}/air", discovery::THERMOSTAT), differs(|a, b| a.air == b.air), &|| {
        json!({"humidity": new.air.0, "co2": new.air.1}).to_string()
    });
    say(&format!("{}/state", discovery::GARAGE), differs(|a, b| a.garage == b.garage), &|| new.garage.to_owned());
    say(&format!("{}/state", discovery::LOCK), differs(|a, b| a.lock == b.lock), &|| new.lock.to_owned());
    say(discovery::CONTACT, differs(|a, b| a.contact_open == b.contact_open), &|| on_off(new.contact_open).to_owned());
    say(discovery::MOTION, differs(|a, b| a.motion == b.motion), &|| {
        json!({"motion": new.motion.0, "battery": new.motion.1}).to_string()
    });
    say(&format!("{}/state", discovery::LIGHT), differs(|a, b| a.light == b.light), &|| {
        json!({"state": on_off(new.light.0), "brightness": new.light.1}).to_string()
    });
    say(&format!("{}/state", discovery::PLUG), differs(|a, b| a.plug == b.plug), &|| {
        json!({
            "state": on_off(new.plug.0),
            "power": new.plug.1 as f64 / 10.0,
            "energy": new.plug.2 as f64 / 100.0,
        })
        .to_string()
    });
    say(discovery::BEDROOM, differs(|a, b| a.bedroom == b.bedroom), &|| {
        json!({
            "temperature": f64::from(new.bedroom.0) / 10.0,
            "humidity": new.bedroom.1,
            "battery": new.bedroom.2,
        })
        .to_string()
    });
}

fn retained(topic: &str, payload: impl Into<String>) -> Publication {
    Publication { topic: topic.to_owned(), payload: payload.into(), retain: true }
}

fn tenths(celsius: f64) -> i32 {
    (celsius * 10.0).round() as i32
}

/// A cell that loses one percent in nine days, from 100 to 20, and is then replaced.
fn battery(day: i64) -> i64 {
    100 - day.rem_euclid(9 * 80) / 9
}

fn local(zone: &TimeZone, time_ms: i64) -> DateTime {
    zone.to_datetime(jiff::Timestamp::from_millisecond(time_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// Local time without summer time, by which the sun goes.
fn standard(zone: &TimeZone, time_ms: i64) -> DateTime {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let shift = if zone.to_offset_info(time).dst().is_dst() { 60 * MINUTE_MS } else { 0 };
    local(zone, time_ms - shift)
}

#[cfg(test)]
mod tests;

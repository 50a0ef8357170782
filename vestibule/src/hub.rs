//! The running hub: broker, devices, listeners, control socket and the tasks that keep time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use devices::mqtt::broker::{self, Broker};
use devices::mqtt::hub::{self, Mqtt, PublishError};
use devices::mqtt::inbox::Inbox;
use disclosure::Secret;
use egress::Events;
use gate::{Actuator, ActuatorError, Order, PinFault};
use model::{LinkId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cli::Failure;
use crate::clock::WallClock;
use crate::config::{Config, Mqtt as MqttAt};
use crate::control;
use crate::core::{Core, LedgerRecorder, chain};
use crate::page::Page;
use crate::server::Listeners;
use crate::thermostat::{self, service};
use crate::windows;

/// How often the hub looks whether something is due.
const TICK: Duration = Duration::from_secs(1);

/// How often the hub looks at the clock.
const BEAT: Duration = Duration::from_secs(1);

/// How often old bodies are erased, in the hub's time.
const ERASE_EVERY_MS: i64 = 6 * 3_600_000;

/// How often a running hub verifies its ledger.
const VERIFY_EVERY: Duration = Duration::from_secs(3600);

/// The same while a demonstration runs.
const VERIFY_EVERY_DEMO: Duration = Duration::from_secs(10);

/// A hub that is up.
pub struct Up {
    /// The household's listener.
    pub console: SocketAddr,
    /// The partners' listener.
    pub partners: SocketAddr,
    /// The hub's own broker, if it has one.
    pub broker: Option<SocketAddr>,
    core: Arc<Core>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    thermostats: Vec<JoinHandle<()>>,
    embedded: Option<Broker>,
}

/// Records a command, then hands it to the broker.
pub struct MqttActuator {
    core: Arc<Core>,
    mqtt: Arc<Mqtt>,
}

impl Actuator for MqttActuator {
    async fn carry_out(&self, order: Order) -> Result<(), ActuatorError> {
        if let Err(error) = self.core.record_command(&order).await {
            tracing::error!(%error, "a command could not be recorded and was not carried out");
            return Err(ActuatorError::NotRecorded);
        }
        faults::pass(faults::COMMAND_RECORDED);
        self.mqtt.carry_out(&order.device, &order.desired).await.map_err(|error| match error {
            PublishError::NotSupported => ActuatorError::NotSupported,
            error => {
                tracing::warn!(device = %order.device, %error, "a command did not reach the broker");
                ActuatorError::BrokerUnreachable
            }
        })
    }

    async fn check_pin(&self, link: &LinkId, pin: Secret, now: Timestamp) -> Result<(), PinFault> {
        self.core.check_pin(link, pin, now).await
    }
}

/// Brings a hub up on an open core.
///
/// # Errors
/// When a port is taken or the broker's address is wrong.
pub async fn start(core: &Arc<Core>, speed: f64, demo: bool) -> Result<Up, Failure> {
    let config = core.config().clone();
    let (stop, stopped) = watch::channel(false);
    let listeners = Listeners::bind(config.console_listen, config.partners_listen).await?;
    let (console, partners) = listeners.addresses()?;
    core.set_partners(partners);
    let (embedded, url) = own_broker(core, &config).await?;
    let own = embedded.as_ref().map(Broker::address);

    let inbox = Arc::new(Inbox::new(core.counters()));
    let mqtt = Mqtt::start(
        hub::Config {
            url: url.clone(),
            client_id: core.client_id().to_owned(),
            own: format!("{}/button/{}", config.discovery_prefix, windows::object_prefix(core.client_id())),
            discovery_prefix: config.discovery_prefix.clone(),
            home_unit: config.units,
            clock: core.clock(),
            pins: core.pins(),
            counters: core.counters(),
        },
        Arc::clone(&inbox),
    )
    .map_err(|e| chain(&e))?;
    let mut tasks = vec![tokio::spawn(take_in(Arc::clone(core), inbox))];
    tasks.push(tokio::spawn(keep_policy(Arc::clone(core))));
    tasks.push(tokio::spawn(keep_time(Arc::clone(core))));
    tasks.push(tokio::spawn(keep_clock(Arc::clone(core))));
    tasks.push(tokio::spawn(keep_verified(Arc::clone(core), if demo { VERIFY_EVERY_DEMO } else { VERIFY_EVERY })));
    control::serve(Arc::clone(core)).await?;

    tasks.push(tokio::spawn(windows::run(Arc::clone(core), url.clone())));
    let page = Page::new(Arc::clone(core), speed, demo);
    let mqtt = Arc::new(mqtt);
    let mut thermostats = Vec::new();
    for unit in core.thermostats().iter().cloned() {
        let at = service::At { core: Arc::clone(core), unit, mqtt: Arc::clone(&mqtt), url: url.clone(), speed };
        thermostats.push(tokio::spawn(service::run(at, stopped.clone())));
    }
    let left = thermostat::unit::left(core.data(), core.thermostats())?;
    if !left.is_empty() {
        tasks.push(tokio::spawn(service::clear(url, core.client_id().to_owned(), left)));
    }
    let actuator = Arc::new(MqttActuator { core: Arc::clone(core), mqtt });
    let events = core.event_settings().map(|settings| {
        Arc::new(Events {
            state: Arc::clone(&core.gate),
            recorder: core.recorder(),
            clock: core.clock(),
            tally: Arc::clone(&core.tally),
            settings,
            lines: Arc::clone(&core.events),
            ended: Mutex::default(),
        })
    });
    tasks.extend(events.clone().map(|events| tokio::spawn(keep_events(Arc::clone(core), events))));
    let listeners = listeners.serve(core, actuator, &page, events, &stopped);
    core.set_running(|r| r.listeners = true);
    eprintln!("vestibule: console: http://{console}/");
    eprintln!("vestibule: partners: http://{partners}/");
    if let Some(address) = own {
        eprintln!("vestibule: mqtt: mqtt://{address}");
    }
    Ok(Up { console, partners, broker: own, core: Arc::clone(core), stop, listeners, tasks, thermostats, embedded })
}

/// The hub's own broker if it is to have one, and the URL at which devices are heard.
async fn own_broker(core: &Core, config: &Config) -> Result<(Option<Broker>, String), Failure> {
    match &config.mqtt {
        MqttAt::External(url) => Ok((None, url.clone())),
        MqttAt::Embedded(listen) => {
            let own = broker::Config {
                listen: *listen,
                users: core.device_users(),
                hub_client_id: core.client_id().to_owned(),
                data: core.data().join("mqtt"),
            };
            let broker = Broker::start(own).await.map_err(|e| chain(&e))?;
            let url = broker.hub_url();
            Ok((Some(broker), url))
        }
    }
}

/// Takes device events in.
async fn take_in(core: Arc<Core>, inbox: Arc<Inbox>) {
    loop {
        let batch = inbox.take().await;
        if let Some(up) = batch.connected {
            core.set_running(|r| r.devices = up);
        }
        core.describe(batch.devices).await;
        for reading in batch.readings {
            core.report(reading).await;
        }
    }
}

/// Keeps the table to the time: grants expire, hours and windows begin and end, whatever else there is to do.
async fn keep_policy(core: Arc<Core>) {
    loop {
        tokio::time::sleep(core.idle(TICK)).await;
        if let Err(error) = core.recompile_if_due().await {
            tracing::error!(%error, "the decision table could not be renewed: what has ended is refused, what begins waits");
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Does what is due: sums of refusals, retention.
async fn keep_time(core: Arc<Core>) {
    let mut refusals = core.now();
    let mut erased = Timestamp::default();
    loop {
        tokio::time::sleep(TICK).await;
        core.settle().await;
        core.save_devices().await;
        core.announce_ends().await;
        let now = core.now();
        if now.as_millis() - refusals.as_millis() >= egress::REFUSAL_TICK_MS {
            refusals = now;
            core.flush_refusals().await;
        }
        if now.as_millis() - erased.as_millis() >= ERASE_EVERY_MS && core.erase_old_bodies().await {
            erased = now;
        }
    }
}

/// Begins the rounds of what is told unasked, and unlinks what a partner has ended.
async fn keep_events(core: Arc<Core>, events: Arc<Events<LedgerRecorder>>) {
    loop {
        tokio::time::sleep(TICK).await;
        drop(events.tick());
        for (link, why) in events.take_ended() {
            core.ended(&link, why).await;
        }
    }
}

/// Moves the gate's time on, whatever happens in the home or not.
async fn keep_clock(core: Arc<Core>) {
    loop {
        if let Err(error) = core.keep_clock().await {
            tracing::error!(%error, "the time could not be stored; a clock set back while the hub is down may show an older tick");
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Verifies the ledger again and again.
async fn keep_verified(core: Arc<Core>, every: Duration) {
    loop {
        match core.verify().await {
            Ok(report) if report.ok() => {}
            Ok(report) => tracing::error!(problem = ?report.first_problem, "THE LEDGER DOES NOT VERIFY"),
            Err(error) => tracing::error!(%error, "the ledger could not be verified"),
        }
        tokio::time::sleep(every).await;
    }
}

impl Up {
    /// Says that everything is up.
    pub fn say_ready(&self) {
        eprintln!("vestibule: ready");
    }

    /// Takes no more requests, finishes those in flight, and ends all tasks.
    pub async fn stop(self) {
        self.core.set_running(|r| r.listeners = false);
        let _ = self.stop.send(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
        // Before the devices' tasks end: they switch everything off.
        for thermostat in self.thermostats {
            let _ = thermostat.await;
        }
        // A change that is in force and not yet on record would be undone by the next start.
        let quiet = self.core.between_changes().await;
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        drop(quiet);
        if let Some(broker) = self.embedded {
            broker.stop().await;
        }
    }
}

/// The signals that end the program in order: Ctrl-C and SIGTERM.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From here on a signal ends nothing by itself: one that comes before [`Signals::asked`] is kept for it. So it is
    /// called before anything starts, else a stop in the first moment would be a kill.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(|e| Failure::Failed(format!("signals can't be received: {e}")));
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Waits for one.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// `vestibule serve`.
///
/// # Errors
/// When the hub can't come up.
pub async fn serve(config: Config, data: &Path) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    #[cfg(debug_assertions)]
    if let Some(clock) = crate::clock::MovedClock::from_environment() {
        // A test moves the time: there is nothing to beat.
        let core = Core::open(data, config, Arc::new(clock)).await?;
        return serve_until(signals, &core, crate::clock::MovedClock::SPEED).await;
    }
    let clock = Arc::new(WallClock::new());
    let core = Core::open(data, config, clock.clone()).await?;
    let beats = tokio::spawn(async move {
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            beats.tick().await;
            clock.beat();
        }
    });
    let done = serve_until(signals, &core, 1.0).await;
    beats.abort();
    done
}

async fn serve_until(mut signals: Signals, core: &Arc<Core>, speed: f64) -> Result<(), Failure> {
    let up = start(core, speed, false).await?;
    up.say_ready();
    signals.asked().await;
    eprintln!("vestibule: stopping");
    up.stop().await;
    core.close().await;
    Ok(())
}

/// `vestibule replay`.
///
/// # Errors
/// When the recording can't be read or the broker not reached.
pub async fn replay(file: PathBuf, mqtt: String, speed: f64, json: bool) -> Result<(), Failure> {
    if !(speed.is_finite() && speed >= 0.0) {
        return Err(Failure::Usage("--speed is 0 or more".into()));
    }
    let options = devices::replay::Options { file, mqtt_url: mqtt, speed, stay_online: true };
    let summary = devices::replay::run(options, |progress| {
        if let devices::replay::Progress::Skipped(problem) = progress {
            eprintln!("vestibule: {problem}");
        }
    })
    .await
    .map_err(|e| chain(&e))?;
    if json {
        let text = serde_json::to_string(&summary).map_err(|e| e.to_string())?;
        println!("{text}");
    } else {
        println!("{} rows, {} messages published, {} lines skipped", summary.rows, summary.published, summary.skipped);
    }
    Ok(())
}

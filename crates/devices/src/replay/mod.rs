//! Replays a recording of a real home: the CSV of an ecobee portal becomes discovered MQTT devices, in the
//! recording's own units and, if asked, at its own pace.
//!
//! Each row becomes at most one message for the thermostat, one for the outdoor temperature and one for each sensor.
//! Messages go with QoS 1 and back-pressure: [`run`] returns when the broker has acknowledged all of them.

mod devices;
mod hear;
mod ordonez;
mod recording;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use model::Property;
use rumqttc::{
    ClientBuildError, ClientError, MqttOptions, OptionError, PublishNotice, PublishOptions, QoS, TlsError, Transport,
};
use serde::Serialize;
use tokio::sync::watch;

pub use self::hear::{Heard, hear};
pub use self::recording::{HeaderError, Layout, LineError, Row, Rows, Scale, SensorRow, parse};
use crate::simulator::Publication;
use crate::simulator::wire::{self, Status, Wire};

/// How many unreadable lines are listed; all are counted.
pub const MAX_LISTED_LINES: usize = 100;
/// How many messages may wait for their acknowledgement; reading stops until there are fewer.
const MAX_UNACKNOWLEDGED: usize = 100;
/// Attempts to connect in a row before the replay gives up (some three seconds).
const MAX_ATTEMPTS: u32 = 6;
/// How often unacknowledged messages are sent again after the broker forgot the session.
const MAX_RESENDS: u32 = 10;
/// The longest pause between two rows, in the recording's time: longer gaps are cut to it.
const MAX_GAP: Duration = Duration::from_secs(3600);
/// The slowest and the fastest pace, besides 0: as fast as possible.
const MIN_SPEED: f64 = 0.01;
const MAX_SPEED: f64 = 1e9;
/// The least time that each message is given, so that listeners keep up: a broker acknowledges what it has taken, and
/// then drops what a slow listener doesn't fetch (Mosquitto keeps 1,000 messages for each).
const MESSAGE_PACE: Duration = Duration::from_micros(400);
/// Rows between two signs of progress.
const PROGRESS_ROWS: u64 = 500;
/// Ports where the URL has none.
const TLS_PORT: u16 = 8883;

/// What to replay, where to and how fast.
#[derive(Clone, Debug)]
pub struct Options {
    /// The recording.
    pub file: PathBuf,
    /// The broker, `mqtt://[user:password@]host[:port]`, or `mqtts://` with TLS.
    pub mqtt_url: String,
    /// Times faster than it was recorded; 0 is as fast as a listener of the broker can be expected to take it (2,500
    /// messages a second).
    pub speed: f64,
    /// Whether the devices stay available when the recording has ended, showing its last values; else they go offline.
    pub stay_online: bool,
}

/// How long listeners have between the devices' descriptions and their first values, as real devices give it.
const SUBSCRIBE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// A sign of life while the replay runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The broker has taken the devices' descriptions.
    Announced {
        /// How many devices.
        devices: usize,
    },
    /// A line was skipped.
    Skipped(LineError),
    /// So many rows have been read.
    Rows(u64),
}

/// What was replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines after the header that aren't blank, the skipped ones included.
    pub rows: u64,
    /// Rows with the control temperature.
    pub with_control_temperature: u64,
    /// Rows with the outdoor temperature and nothing else.
    pub outdoor_only: u64,
    /// State messages that the broker acknowledged (descriptions and availability are not counted).
    pub published: u64,
    /// Values in those messages.
    pub readings: u64,
    /// The same by property.
    pub readings_by_property: BTreeMap<&'static str, u64>,
    /// Lines that couldn't be read.
    pub skipped: u64,
    /// The first [`MAX_LISTED_LINES`] of them.
    pub skipped_lines: Vec<Skipped>,
    /// Columns of the recording that have no place in the devices.
    pub ignored_columns: Vec<String>,
}

/// A line that couldn't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its number in the file, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file can't be opened.
    #[error("can't open {}: {source}", path.display())]
    File {
        /// The recording.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no ecobee export.
    #[error("{}: {source}", path.display())]
    Header {
        /// The recording.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// Not a speed.
    #[error("speed {0} is no speed: use 0 (as fast as possible) or {MIN_SPEED} to {MAX_SPEED} (1 is real time)")]
    Speed(f64),
    /// The URL isn't one of a broker.
    #[error("the broker's url can't be used ({0}): it looks like mqtt://user:password@host:1883, or mqtts://")]
    Url(#[from] OptionError),
    /// The TLS client can't be set up.
    #[error("tls can't be set up: {0}")]
    Tls(#[from] TlsError),
    /// The MQTT client refused its settings.
    #[error("the mqtt client can't be set up: {0}")]
    Client(#[from] ClientBuildError),
    /// The broker doesn't answer.
    #[error("the broker can't be reached after {attempts} attempts: {reason}")]
    Broker {
        /// How many attempts in a row.
        attempts: u32,
        /// What the last one said.
        reason: String,
    },
    /// The broker takes messages but doesn't acknowledge them.
    #[error("the broker dropped the session {MAX_RESENDS} times with messages unacknowledged")]
    Resends,
    /// The connection's task is gone.
    #[error("a message could not be queued: {0}")]
    Queue(#[from] ClientError),
}

/// Replays a recording into a broker and returns when every message is acknowledged.
///
/// # Errors
/// When the file or the URL can't be used, or the broker can't be reached. Lines that can't be read are no error: they
/// are skipped and reported.
pub async fn run(options: Options, progress: impl FnMut(Progress)) -> Result<Summary, ReplayError> {
    replay(options, MESSAGE_PACE, progress).await
}

async fn replay(options: Options, pace: Duration, mut progress: impl FnMut(Progress)) -> Result<Summary, ReplayError> {
    if options.speed != 0.0 && !(MIN_SPEED..=MAX_SPEED).contains(&options.speed) {
        return Err(ReplayError::Speed(options.speed));
    }
    let path = options.file;
    let file = File::open(&path).map_err(|source| ReplayError::File { path: path.clone(), source })?;
    let rows = parse(BufReader::new(file)).map_err(|source| ReplayError::Header { path, source })?;
    let home = devices::Home::new(rows.layout());
    let mut summary = Summary { ignored_columns: rows.layout().ignored.clone(), ..Summary::default() };

    let wire = Wire::start(mqtt_options(&options.mqtt_url)?, &home.availability("offline"))?;
    let mut sender = Sender { wire, window: VecDeque::new(), announcement: home.announce(), connection: 0, resends: 0 };
    sender.connect().await?;
    sender.flush().await?;
    progress(Progress::Announced { devices: home.devices() });
    // Who hears of a device must first subscribe to its topics; before that its first values would be lost.
    tokio::time::sleep(SUBSCRIBE_PATIENCE).await;

    let mut due = tokio::time::Instant::now();
    let mut last: Option<jiff::civil::DateTime> = None;
    for row in rows {
        summary.rows += 1;
        if summary.rows.is_multiple_of(PROGRESS_ROWS) {
            progress(Progress::Rows(summary.rows));
        }
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                summary.skipped += 1;
                if summary.skipped_lines.len() < MAX_LISTED_LINES {
                    summary.skipped_lines.push(Skipped { line: error.line, reason: error.reason.clone() });
                }
                progress(Progress::Skipped(error));
                continue;
            }
        };
        summary.with_control_temperature += u64::from(row.has_control_temperature());
        summary.outdoor_only += u64::from(row.has_outdoor_only());
        if options.speed > 0.0 {
            // Where the clocks went back, or lines are out of order, there is no pause.
            let gap = last.and_then(|last| Duration::try_from(row.time.duration_since(last)).ok());
            due += gap.unwrap_or_default().min(MAX_GAP).div_f64(options.speed);
        }
        tokio::time::sleep_until(due).await;
        last = Some(row.time);
        let messages = home.messages(&row);
        // Time lost to a slow broker is not caught up in a burst.
        let earliest = tokio::time::Instant::now() + pace.saturating_mul(messages.len() as u32);
        for message in messages {
            for property in message.properties {
                count(&mut summary, property);
            }
            summary.published += 1;
            sender.send(message.publication).await?;
        }
        due = due.max(earliest);
    }
    sender.flush().await?;
    if !options.stay_online {
        sender.send(home.availability("offline")).await?;
        sender.flush().await?;
    }
    sender.wire.finish().await;
    Ok(summary)
}

fn count(summary: &mut Summary, property: Property) {
    summary.readings += 1;
    *summary.readings_by_property.entry(property.as_str()).or_default() += 1;
}

/// Client settings from a broker's URL.
fn mqtt_options(url: &str) -> Result<MqttOptions, ReplayError> {
    let (plain, tls) = without_tls(url);
    let separator = if plain.contains('?') { '&' } else { '?' };
    let id = wire::client_id("vestibule-replay");
    let mut options = MqttOptions::parse_url(format!("{plain}{separator}client_id={id}"))?;
    if tls {
        options.set_transport(Transport::try_tls_with_default_config()?);
    }
    Ok(options)
}

/// An `mqtts` URL as an `mqtt` one with its port, and whether it was one: the client takes TLS as a setting of its own.
fn without_tls(url: &str) -> (String, bool) {
    let Some(rest) = url.strip_prefix("mqtts://") else { return (url.to_owned(), false) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
    let port = if has_port { String::new() } else { format!(":{TLS_PORT}") };
    (format!("mqtt://{authority}{port}{path}"), true)
}

/// Sends in order, keeps what isn't acknowledged, and sends it again when the broker has forgotten the session.
struct Sender {
    wire: Wire,
    window: VecDeque<(Publication, PublishNotice)>,
    /// What is said at each connection.
    announcement: Vec<Publication>,
    connection: u64,
    resends: u32,
}

impl Sender {
    /// Waits for the first connection and announces the devices.
    async fn connect(&mut self) -> Result<(), ReplayError> {
        let mut status = self.wire.status.clone();
        patiently(&mut status, self.wire.status.wait_for(|status| matches!(status, Status::Up(_)))).await?.ok();
        self.announce_if_new().await
    }

    async fn send(&mut self, publication: Publication) -> Result<(), ReplayError> {
        self.announce_if_new().await?;
        while self.window.len() >= MAX_UNACKNOWLEDGED {
            self.confirm_oldest().await?;
        }
        self.queue(publication).await
    }

    /// Waits until everything is acknowledged.
    async fn flush(&mut self) -> Result<(), ReplayError> {
        while !self.window.is_empty() {
            self.confirm_oldest().await?;
        }
        Ok(())
    }

    /// After a reconnection the broker has told the world that the devices are offline, and may have lost all else.
    async fn announce_if_new(&mut self) -> Result<(), ReplayError> {
        let connection = match *self.wire.status.borrow() {
            Status::Up(connection) => connection,
            Status::Down { .. } => self.connection,
        };
        if connection != self.connection {
            self.connection = connection;
            for publication in self.announcement.clone() {
                self.queue(publication).await?;
            }
        }
        Ok(())
    }

    async fn queue(&mut self, publication: Publication) -> Result<(), ReplayError> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(publication.retain);
        let (topic, payload) = (publication.topic.clone(), publication.payload.clone());
        let queued = self.wire.client.publish_tracked(topic, payload, options);
        let notice = patiently(&mut self.wire.status.clone(), queued).await??;
        self.window.push_back((publication, notice));
        Ok(())
    }

    async fn confirm_oldest(&mut self) -> Result<(), ReplayError> {
        let Some((publication, notice)) = self.window.pop_front() else {
            return Ok(());
        };
        if patiently(&mut self.wire.status.clone(), notice.wait_async()).await?.is_ok() {
            return Ok(());
        }
        // The session was reset. All that came after goes again too: an old value must not arrive last.
        self.resends += 1;
        if self.resends > MAX_RESENDS {
            return Err(ReplayError::Resends);
        }
        let rest: Vec<_> = self.window.drain(..).map(|(publication, _)| publication).collect();
        self.announce_if_new().await?;
        self.queue(publication).await?;
        for publication in rest {
            self.queue(publication).await?;
        }
        Ok(())
    }
}

/// Waits for something that the connection must bring, until the connection has failed too often.
async fn patiently<T>(status: &mut watch::Receiver<Status>, future: impl Future<Output = T>) -> Result<T, ReplayError> {
    let given_up = |status: &Status| matches!(status, Status::Down { attempts, .. } if *attempts >= MAX_ATTEMPTS);
    tokio::select! {
        biased;
        done = future => Ok(done),
        failed = status.wait_for(given_up) => Err(match failed.as_deref() {
            Ok(Status::Down { attempts, reason }) => ReplayError::Broker { attempts: *attempts, reason: reason.clone() },
            _ => ReplayError::Broker { attempts: 0, reason: "the connection has ended".to_owned() },
        }),
    }
}

#[cfg(test)]
mod tests;

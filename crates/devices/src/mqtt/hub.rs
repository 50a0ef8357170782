//! The connections to the broker: one hears devices, the other hands commands over. What a broker sends on one connection
//! it sends in order, so on one alone the acknowledgement of a command would wait behind all that a babbling device says;
//! and giving a command up would end every subscription.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use home::Desired;
use model::{Clock, DeviceId, Kind, Property, TemperatureScale};
use rumqttc::{
    AsyncClient, Event as MqttEvent, EventLoop, MqttOptions, Packet, PublishOptions, QoS, SubscribeFilter, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::counters::{Counters, DropReason};
use crate::mqtt::house::{self, House, PAYLOAD_MAX_BYTES, Publication};
use crate::mqtt::inbox::Inbox;
use crate::mqtt::sieve::Sieve;

/// Longest packet taken from the broker, bytes: one with the longest topic there can be, and more payload than is read, so
/// that one which was cut to this length (see `sieve`) is seen to be too long. The client library's own default of 10 KiB
/// would end the connection at the first larger retained message.
pub const PACKET_MAX_BYTES: usize = PAYLOAD_MAX_BYTES + 1 + TOPIC_FIELD_MAX_BYTES + 2;

/// Longest topic of a PUBLISH with its length, as MQTT can write it.
const TOPIC_FIELD_MAX_BYTES: usize = 2 + u16::MAX as usize;

/// How long the broker may take to acknowledge all messages of a command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a command waits for the connection, which may just be coming back.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 1024;

/// Commands sent and not yet acknowledged.
const IN_FLIGHT_MAX: u16 = 64;

/// Topics in one subscription.
const SUBSCRIBE_CHUNK: usize = 100;

/// Seconds between signs of life.
const KEEP_ALIVE_S: u16 = 30;

/// Pause before the first attempt to connect again; doubled each time up to the longest.
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// Longest pause between attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A connection that stood this long was a good one: the next pause is the shortest again.
const STEADY: Duration = Duration::from_secs(60);

/// What the name of the connection for commands ends with: short, since MQTT 3.1.1 lets a broker refuse names of more than 23
/// bytes.
pub const COMMANDS_SUFFIX: &str = "-c";

/// What to connect to, and how to understand what is heard.
#[derive(Clone)]
pub struct Config {
    /// `mqtt://user:password@host:port` or `mqtts://`.
    pub url: String,
    /// Name of this client at the broker; the connection for commands has [`COMMANDS_SUFFIX`] behind it. No other client may
    /// have it or guess it: a broker lets the newer one of two with the same name put the older one out.
    pub client_id: String,
    /// How the topics begin under which the hub itself announces what is no device; what is heard there is not counted.
    pub own: String,
    /// Prefix of Home Assistant MQTT discovery.
    pub discovery_prefix: String,
    /// Unit of temperatures from devices that name none.
    pub home_unit: TemperatureScale,
    /// Kinds of properties that the home knows already.
    pub pins: BTreeMap<(DeviceId, Property), Kind>,
    /// The time at which readings arrive.
    pub clock: Arc<dyn Clock>,
    /// Where drops are counted.
    pub counters: Arc<Counters>,
}

/// The URL is none.
#[derive(Debug, thiserror::Error)]
#[error("`[mqtt] url` can't be used: {0}; write mqtt://user:password@host:1883")]
pub struct UrlError(String);

/// A command was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The device takes no such command.
    #[error("the device takes no such command")]
    NotSupported,
    /// There is no broker now. Nothing is kept for later: an order to unlock must not come an hour late.
    #[error("the broker is not connected")]
    NotConnected,
    /// The broker did not acknowledge in time; the connection was cut, so that it is not sent later.
    #[error("the broker did not acknowledge within {} s", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
}

struct Shared {
    house: Mutex<House>,
    /// The client for commands, while it is connected.
    commands: watch::Sender<Option<AsyncClient>>,
    cut: watch::Sender<u64>,
    inbox: Arc<Inbox>,
    /// Which connections stand.
    up: Mutex<BTreeSet<Role>>,
    own: String,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Hear,
    Command,
}

const ROLES: [Role; 2] = [Role::Hear, Role::Command];

/// Connections that are kept up until this is dropped.
pub struct Mqtt {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a broker's URL can be used, without connecting.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), UrlError> {
    parse(url, "check").map(drop)
}

fn options(config: &Config, role: Role) -> Result<MqttOptions, UrlError> {
    let suffix = if role == Role::Command { COMMANDS_SUFFIX } else { "" };
    let mut options = parse(&config.url, &format!("{}{suffix}", config.client_id))?;
    options.set_keep_alive(KEEP_ALIVE_S);
    options.set_clean_session(true);
    options.set_max_packet_size(PACKET_MAX_BYTES, PACKET_MAX_BYTES);
    options.set_inflight(IN_FLIGHT_MAX);
    Ok(options)
}

/// The options of a connection.
pub(crate) fn parse(url: &str, client_id: &str) -> Result<MqttOptions, UrlError> {
    let failed = |e: &dyn std::fmt::Display| UrlError(e.to_string());
    // The library wants the client's name in the URL.
    let tls = url.strip_prefix("mqtts://");
    let plain = tls.map_or_else(|| url.to_owned(), |rest| format!("mqtt://{rest}"));
    let (port_less, default_port) = (!has_port(&plain), if tls.is_some() { 8883 } else { 1883 });
    let plain = if port_less { format!("{}:{default_port}", plain.trim_end_matches('/')) } else { plain };
    let separator = if plain.contains('?') { '&' } else { '?' };
    let url = format!("{plain}{separator}client_id={client_id}");
    let mut options = MqttOptions::parse_url(url).map_err(|e| failed(&e))?;
    if tls.is_some() {
        // Here the packets can't be seen below TLS: a broker with TLS has to refuse what is too large itself.
        options.set_transport(Transport::try_tls_with_default_config().map_err(|e| failed(&e))?);
    } else {
        options.set_socket_connector(|host, network| async move {
            rumqttc::default_socket_connect(host, network).await.map(Sieve::new)
        });
    }
    Ok(options)
}

/// Whether the authority of a URL ends with a port.
fn has_port(url: &str) -> bool {
    let authority = url.split("://").nth(1).unwrap_or_default();
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.rsplit(':')
        .next()
        .is_some_and(|p| host.contains(':') && !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
        && !host.ends_with(']')
}

impl Mqtt {
    /// Connects, and keeps connecting. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn start(config: Config, inbox: Arc<Inbox>) -> Result<Self, UrlError> {
        let options = ROLES.map(|role| options(&config, role).map(|o| (role, o)));
        let house = House::new(&config.discovery_prefix, config.home_unit, config.pins, Arc::clone(&config.counters));
        let shared = Arc::new(Shared {
            house: Mutex::new(house),
            commands: watch::Sender::new(None),
            cut: watch::Sender::new(0),
            inbox,
            up: Mutex::default(),
            own: config.own,
            clock: config.clock,
            counters: config.counters,
        });
        let mut tasks = Vec::new();
        for options in options {
            let (role, options) = options?;
            tasks.push(tokio::spawn(keep_connected(Arc::clone(&shared), role, options)));
        }
        Ok(Self { shared, tasks })
    }

    /// Hands an order to the broker; comes back when the broker has acknowledged it, or after [`CONNECT_PATIENCE`] and
    /// [`COMMAND_TIMEOUT`].
    ///
    /// # Errors
    /// When the device takes no such command, there is no broker now, or it does not acknowledge in time.
    pub async fn carry_out(&self, device: &DeviceId, desired: &[Desired]) -> Result<(), PublishError> {
        let now = self.shared.clock.now();
        // The broker first: whether it is there tells nothing of the device, and what the device takes might.
        let mut commands = self.shared.commands.subscribe();
        let client = match tokio::time::timeout(CONNECT_PATIENCE, commands.wait_for(Option::is_some)).await {
            Ok(Ok(client)) => client.clone().ok_or(PublishError::NotConnected)?,
            Ok(Err(_)) | Err(_) => return Err(PublishError::NotConnected),
        };
        let (publications, optimistic) =
            lock(&self.shared.house).command(device, desired, now).map_err(|_| PublishError::NotSupported)?;
        // In a task of its own: who gave the order may not wait for the end, and then too it must not be sent late.
        let shared = Arc::clone(&self.shared);
        let handed = tokio::spawn(async move {
            let Ok(done) = tokio::time::timeout(COMMAND_TIMEOUT, hand_over(&client, publications)).await else {
                shared.cut.send_modify(|n| *n += 1);
                return Err(PublishError::TimedOut);
            };
            done
        });
        handed.await.map_err(|_| PublishError::NotConnected)??;
        for reading in optimistic {
            self.shared.inbox.put(house::Event::Reading(reading));
        }
        Ok(())
    }
}

/// Publishes, and waits until all is acknowledged.
async fn hand_over(client: &AsyncClient, publications: Vec<Publication>) -> Result<(), PublishError> {
    let mut notices = Vec::new();
    for p in publications {
        let how = PublishOptions::new(QoS::AtLeastOnce).retain(p.retain);
        let notice = client.publish_tracked(p.topic, p.payload, how).await.map_err(|_| PublishError::NotConnected)?;
        notices.push(notice);
    }
    for notice in notices {
        notice.wait_async().await.map_err(|_| PublishError::NotConnected)?;
    }
    Ok(())
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Each connection has a client of its own: what was not sent over one is never sent over the next.
async fn keep_connected(shared: Arc<Shared>, role: Role, options: MqttOptions) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let mut cut = shared.cut.subscribe();
        let built = AsyncClient::builder(options.clone()).capacity(REQUESTS_MAX).try_build();
        let mut since = None;
        match built {
            Ok((client, mut events)) => {
                let is_cut = async {
                    match role {
                        Role::Command => drop(cut.changed().await),
                        Role::Hear => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = converse(&shared, role, &client, &mut events, &mut since) => {}
                    () = is_cut => tracing::warn!("the broker did not acknowledge a command: the connection for commands was cut"),
                }
            }
            Err(error) => tracing::error!(%error, "the broker can't be spoken to"),
        }
        shared.stands(role, false);
        if since.is_some_and(|t: Instant| t.elapsed() >= STEADY) {
            backoff = BACKOFF_MIN;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

impl Shared {
    /// Notes that a connection stands or has ended. The hub is connected while both stand.
    fn stands(&self, role: Role, stands: bool) {
        let mut up = lock(&self.up);
        let before = up.len() == ROLES.len();
        if stands {
            up.insert(role)
        } else {
            up.remove(&role)
        };
        if role == Role::Command && !stands {
            self.commands.send_replace(None);
        }
        let after = up.len() == ROLES.len();
        if before != after {
            self.inbox.set_connected(after);
        }
    }
}

/// Speaks with the broker until the connection ends; notes since when it stood. What came in is put by, never waited for:
/// acknowledgements are read at once.
async fn converse(
    shared: &Shared,
    role: Role,
    client: &AsyncClient,
    events: &mut EventLoop,
    since: &mut Option<Instant>,
) {
    let (wanted, mut subscriptions) = mpsc::unbounded_channel::<Vec<String>>();
    // Asking for subscriptions waits for the event loop, so it can't be done from within it.
    let asker = client.clone();
    let mut subscriber = tokio::task::JoinSet::new();
    subscriber.spawn(async move {
        while let Some(topics) = subscriptions.recv().await {
            for chunk in topics.chunks(SUBSCRIBE_CHUNK) {
                let filters = chunk.iter().map(|t| SubscribeFilter::new(t.clone(), QoS::AtLeastOnce));
                if asker.subscribe_many(filters).await.is_err() {
                    return;
                }
            }
        }
    });
    loop {
        match events.poll().await {
            Ok(MqttEvent::Incoming(Packet::ConnAck(_))) => {
                *since = Some(Instant::now());
                tracing::info!(?role, "connected to the broker");
                match role {
                    Role::Command => drop(shared.commands.send_replace(Some(client.clone()))),
                    Role::Hear => {
                        let mut house = lock(&shared.house);
                        house.take_new_topics();
                        let _ = wanted.send([house.discovery_filters(), house.topics()].concat());
                    }
                }
                shared.stands(role, true);
            }
            Ok(MqttEvent::Incoming(Packet::SubAck(ack))) => {
                let refused = ack.return_codes.iter().filter(|c| **c == rumqttc::SubscribeReasonCode::Failure).count();
                (0..refused).for_each(|_| shared.counters.count(DropReason::SubscriptionRefused, None));
            }
            Ok(MqttEvent::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                if topic.starts_with(&shared.own) {
                    continue;
                }
                let (heard, new) = {
                    let mut house = lock(&shared.house);
                    let heard = house.hear(&topic, &publish.payload, shared.clock.now());
                    (heard, house.take_new_topics())
                };
                if !new.is_empty() {
                    let _ = wanted.send(new);
                }
                heard.into_iter().for_each(|event| shared.inbox.put(event));
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(?role, %error, "no connection to the broker");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_and_without_port_and_password() {
        for (url, port) in [
            ("mqtt://127.0.0.1:1884", true),
            ("mqtt://user:pass@host", false),
            ("mqtt://user:pass@host:1", true),
            ("mqtt://host/", false),
            ("mqtt://[::1]:1883", true),
        ] {
            assert_eq!(has_port(url), port, "{url}");
        }
    }
}

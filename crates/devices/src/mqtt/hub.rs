//! The connection to the broker: hears devices and hands commands over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use home::Desired;
use model::{Clock, DeviceId, Kind, Property, TemperatureScale};
use rumqttc::{
    AsyncClient, Event as MqttEvent, EventLoop, MqttOptions, Packet, PublishOptions, QoS, SubscribeFilter, Transport,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::counters::{Counters, DropReason};
use crate::mqtt::house::{self, House};

/// Largest packet taken from the broker, bytes. The client library's own default of 10 KiB would end the connection at the
/// first larger retained message.
pub const PACKET_MAX_BYTES: usize = (1 << 20) + 4096;

/// How long the broker may take to acknowledge a command.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(4);

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

/// What to connect to, and how to understand what is heard.
#[derive(Clone)]
pub struct Config {
    /// `mqtt://user:password@host:port` or `mqtts://`.
    pub url: String,
    /// Name of this client at the broker.
    pub client_id: String,
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

/// What the connection tells the hub.
#[derive(Debug)]
pub enum Event {
    /// Something was heard.
    Heard(Box<house::Event>),
    /// The broker is there, and all subscriptions are asked for.
    Connected,
    /// The broker is gone; the connection is tried again.
    Disconnected,
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
    client: Mutex<Option<AsyncClient>>,
    cut: watch::Sender<u64>,
    events: mpsc::Sender<Event>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
}

/// A connection that is kept up until this is dropped.
pub struct Mqtt {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn options(config: &Config) -> Result<MqttOptions, UrlError> {
    let failed = |e: &dyn std::fmt::Display| UrlError(e.to_string());
    // The library wants the client's name in the URL.
    let tls = config.url.strip_prefix("mqtts://");
    let plain = tls.map_or_else(|| config.url.clone(), |rest| format!("mqtt://{rest}"));
    let (port_less, default_port) = (!has_port(&plain), if tls.is_some() { 8883 } else { 1883 });
    let plain = if port_less { format!("{}:{default_port}", plain.trim_end_matches('/')) } else { plain };
    let separator = if plain.contains('?') { '&' } else { '?' };
    let url = format!("{plain}{separator}client_id={}", config.client_id);
    let mut options = MqttOptions::parse_url(url).map_err(|e| failed(&e))?;
    if tls.is_some() {
        options.set_transport(Transport::try_tls_with_default_config().map_err(|e| failed(&e))?);
    }
    options.set_keep_alive(KEEP_ALIVE_S);
    options.set_clean_session(true);
    options.set_max_packet_size(PACKET_MAX_BYTES, PACKET_MAX_BYTES);
    options.set_inflight(IN_FLIGHT_MAX);
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
    pub fn start(config: Config, events: mpsc::Sender<Event>) -> Result<Self, UrlError> {
        let options = options(&config)?;
        let house = House::new(&config.discovery_prefix, config.home_unit, config.pins, Arc::clone(&config.counters));
        let shared = Arc::new(Shared {
            house: Mutex::new(house),
            client: Mutex::new(None),
            cut: watch::Sender::new(0),
            events,
            clock: config.clock,
            counters: config.counters,
        });
        let task = tokio::spawn(keep_connected(Arc::clone(&shared), options));
        Ok(Self { shared, task })
    }

    /// Hands an order to the broker; comes back when the broker has acknowledged it.
    ///
    /// # Errors
    /// When the device takes no such command, there is no broker now, or it does not acknowledge in time.
    pub async fn carry_out(&self, device: &DeviceId, desired: &[Desired]) -> Result<(), PublishError> {
        let now = self.shared.clock.now();
        let (publications, optimistic) =
            lock(&self.shared.house).command(device, desired, now).map_err(|_| PublishError::NotSupported)?;
        let client = lock(&self.shared.client).clone().ok_or(PublishError::NotConnected)?;
        let mut notices = Vec::new();
        for p in publications {
            let how = PublishOptions::new(QoS::AtLeastOnce).retain(p.retain);
            let notice =
                client.publish_tracked(p.topic, p.payload, how).await.map_err(|_| PublishError::NotConnected)?;
            notices.push(notice);
        }
        // One time limit for all of them: a partner waits for the answer.
        let deadline = tokio::time::Instant::now() + COMMAND_TIMEOUT;
        for notice in notices {
            match tokio::time::timeout_at(deadline, notice.wait_async()).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(PublishError::NotConnected),
                Err(_) => {
                    self.shared.cut.send_modify(|n| *n += 1);
                    return Err(PublishError::TimedOut);
                }
            }
        }
        for reading in optimistic {
            // A hub that is stopping takes no readings any more.
            let _ = self.shared.events.send(Event::Heard(Box::new(house::Event::Reading(reading)))).await;
        }
        Ok(())
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Each connection has a client of its own: what was not sent over one is never sent over the next.
async fn keep_connected(shared: Arc<Shared>, options: MqttOptions) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let mut cut = shared.cut.subscribe();
        let built = AsyncClient::builder(options.clone()).capacity(REQUESTS_MAX).try_build();
        let was_up = match built {
            Ok((client, mut events)) => {
                let up = tokio::select! {
                    up = converse(&shared, &client, &mut events) => up,
                    _ = cut.changed() => true,
                };
                *lock(&shared.client) = None;
                up
            }
            Err(error) => {
                tracing::error!(%error, "the broker can't be spoken to");
                false
            }
        };
        if was_up {
            backoff = BACKOFF_MIN;
            if shared.events.send(Event::Disconnected).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Speaks with the broker until the connection ends. True when it had stood.
async fn converse(shared: &Shared, client: &AsyncClient, events: &mut EventLoop) -> bool {
    let mut up = false;
    let (wanted, mut subscriptions) = mpsc::unbounded_channel::<Vec<String>>();
    // Asking for subscriptions waits for the event loop, so it can't be done from within it.
    let asker = client.clone();
    let subscriber = tokio::spawn(async move {
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
                up = true;
                tracing::info!("connected to the broker");
                let topics = {
                    let mut house = lock(&shared.house);
                    house.take_new_topics();
                    [house.discovery_filters(), house.topics()].concat()
                };
                let _ = wanted.send(topics);
                *lock(&shared.client) = Some(client.clone());
                if shared.events.send(Event::Connected).await.is_err() {
                    break;
                }
            }
            Ok(MqttEvent::Incoming(Packet::SubAck(ack))) => {
                let refused = ack.return_codes.iter().filter(|c| **c == rumqttc::SubscribeReasonCode::Failure).count();
                (0..refused).for_each(|_| shared.counters.count(DropReason::SubscriptionRefused, None));
            }
            Ok(MqttEvent::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic).into_owned();
                let (heard, new) = {
                    let mut house = lock(&shared.house);
                    let heard = house.hear(&topic, &publish.payload, shared.clock.now());
                    (heard, house.take_new_topics())
                };
                if !new.is_empty() {
                    let _ = wanted.send(new);
                }
                for event in heard {
                    // Waiting here holds the broker back: nothing is dropped.
                    if shared.events.send(Event::Heard(Box::new(event))).await.is_err() {
                        subscriber.abort();
                        return up;
                    }
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection to the broker");
                break;
            }
        }
    }
    subscriber.abort();
    up
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

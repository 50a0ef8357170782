//! One connection to the broker, as the simulator and the replay both need it: reconnects, says when it is up, hands
//! on what arrives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{AsyncClient, ClientBuildError, ConnectionError, Event, LastWill, MqttOptions, Packet, Publish, QoS};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Publication;

/// Largest packet taken or sent, bytes. The client's own default of 10 KiB is fatal with large retained messages.
const MAX_PACKET_BYTES: usize = 1 << 20;
/// Messages waiting for the connection; more wait in their sender (back-pressure).
const MAX_QUEUED_REQUESTS: usize = 256;
/// Messages sent and not yet acknowledged.
const MAX_IN_FLIGHT: u16 = 100;
/// Commands received and not yet carried out; more are dropped and logged.
const MAX_QUEUED_COMMANDS: usize = 256;
/// Seconds between signs of life.
const KEEP_ALIVE_S: u16 = 20;
/// The first and the longest pause before the next attempt to connect.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// How long a goodbye may take.
const MAX_GOODBYE: Duration = Duration::from_secs(5);

/// A client id of this process that no other connection of it has.
pub(crate) fn client_id(purpose: &str) -> String {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    format!("{purpose}-{}-{}", std::process::id(), CONNECTIONS.fetch_add(1, Ordering::Relaxed))
}

/// How the connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Not yet connected, or lost: so many attempts since it last stood, and what the last one said.
    Down { attempts: u32, reason: String },
    /// Connected for the n-th time; the broker may have forgotten everything before.
    Up(u64),
}

/// A connection and the task that drives it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) client: AsyncClient,
    pub(crate) status: watch::Receiver<Status>,
    /// What arrives, and when it did.
    pub(crate) commands: mpsc::Receiver<(Instant, Publish)>,
    pump: JoinHandle<()>,
}

impl Wire {
    /// Starts to connect; `will` is what the broker says when this connection is lost.
    pub(crate) fn start(mut options: MqttOptions, will: &Publication) -> Result<Self, ClientBuildError> {
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        options.set_keep_alive(KEEP_ALIVE_S);
        options.set_inflight(MAX_IN_FLIGHT);
        options.set_last_will(LastWill::new(will.topic.clone(), will.payload.clone(), QoS::AtLeastOnce, will.retain));
        let (client, mut events) = AsyncClient::builder(options).capacity(MAX_QUEUED_REQUESTS).try_build()?;
        let (status_in, status) = watch::channel(Status::Down { attempts: 0, reason: String::new() });
        let (commands_in, commands) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let pump = tokio::spawn(async move {
            let (mut connections, mut failures) = (0, 0_u32);
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        connections += 1;
                        failures = 0;
                        status_in.send_replace(Status::Up(connections));
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        if commands_in.try_send((Instant::now(), publish)).is_err() {
                            tracing::warn!("a command was dropped: {MAX_QUEUED_COMMANDS} are waiting");
                        }
                    }
                    Ok(_) => {}
                    Err(ConnectionError::RequestsDone) => break,
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        let reason = error.to_string();
                        status_in.send_replace(Status::Down { attempts: failures, reason });
                        let backoff = MIN_BACKOFF.saturating_mul(1 << (failures - 1).min(10));
                        tokio::time::sleep(backoff.min(MAX_BACKOFF)).await;
                    }
                }
            }
        });
        Ok(Self { client, status, commands, pump })
    }

    /// Sends what is queued, disconnects and waits for it, not for ever.
    pub(crate) async fn finish(mut self) {
        let goodbye = async {
            if self.client.disconnect().await.is_ok() {
                let _ = (&mut self.pump).await;
            }
        };
        let _ = tokio::time::timeout(MAX_GOODBYE, goodbye).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

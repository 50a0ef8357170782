//! What the hub itself is at the broker: a device that it publishes, and the orders that come for it. A connection of its
//! own, so that the broker's last will says when the hub is gone.

use rumqttc::{ClientBuildError, PublishOptions, QoS};
use tokio::time::Instant;

use crate::mqtt::house::Publication;
use crate::mqtt::hub::{self, UrlError};
use crate::simulator::wire::{Status, Wire};

/// Longest order that is read, bytes.
const ORDER_MAX_BYTES: usize = 1024;
/// Longest message of a topic that is listened to, bytes: a day of prices by the minute.
const SAID_MAX_BYTES: usize = 256 * 1024;

/// A device of the hub's own at the broker.
#[derive(Debug)]
pub struct Face {
    wire: Wire,
    orders: String,
    topics: Vec<String>,
    connection: u64,
}

/// What comes from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaceEvent {
    /// The connection stands (again): everything is to be said anew.
    Connected,
    /// Somebody orders something.
    Order {
        /// On this topic.
        topic: String,
        /// In these words.
        payload: String,
        /// When it came: whoever hears it may be busy until much later.
        at: Instant,
    },
    /// Something was said on a topic that is listened to, now or before: the broker may have kept it.
    Said {
        /// On this topic.
        topic: String,
        /// In these words.
        payload: String,
    },
}

/// It can't be started.
#[derive(Debug, thiserror::Error)]
pub enum FaceError {
    /// The broker's URL is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The MQTT client refused its settings.
    #[error("the mqtt client can't be made: {0}; check `[mqtt] url`")]
    Client(#[from] ClientBuildError),
}

impl Face {
    /// Starts to connect. `will` is what the broker says when the connection is lost, `orders` the filter under which orders
    /// come. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn start(url: &str, client_id: &str, will: &Publication, orders: &str) -> Result<Self, FaceError> {
        let mut options = hub::parse(url, client_id)?;
        options.set_clean_session(true);
        let will = crate::simulator::Publication {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            retain: will.retain,
        };
        Ok(Self { wire: Wire::start(options, &will)?, orders: orders.to_owned(), topics: Vec::new(), connection: 0 })
    }

    /// Listens to these topics too, from the next connection on.
    #[must_use]
    pub fn listening(mut self, topics: Vec<String>) -> Self {
        self.topics = topics;
        self
    }

    fn subscribe(&self) -> bool {
        let mut filters = std::iter::once(&self.orders).chain(&self.topics);
        filters.all(|filter| self.wire.client.try_subscribe(filter, QoS::AtLeastOnce).is_ok())
    }

    /// The next thing that comes. May be dropped and called again.
    pub async fn next(&mut self) -> FaceEvent {
        loop {
            let now = match *self.wire.status.borrow_and_update() {
                Status::Up(connection) => connection,
                Status::Down { .. } => self.connection,
            };
            if now != self.connection && self.subscribe() {
                self.connection = now;
                return FaceEvent::Connected;
            }
            tokio::select! {
                changed = self.wire.status.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                order = self.wire.commands.recv() => {
                    let Some((at, order)) = order else { return std::future::pending().await };
                    let Ok(topic) = String::from_utf8(order.topic.to_vec()) else { continue };
                    let said = self.topics.contains(&topic);
                    let longest = if said { SAID_MAX_BYTES } else { ORDER_MAX_BYTES };
                    let bytes = order.payload.len();
                    // An order that the broker kept is of another time.
                    if order.retain && !said || bytes > longest {
                        if said {
                            tracing::warn!(topic, bytes, longest, "a message is too long to be read");
                        }
                        continue;
                    }
                    let Ok(payload) = String::from_utf8(order.payload.to_vec()) else { continue };
                    return match said {
                        true => FaceEvent::Said { topic, payload },
                        false => FaceEvent::Order { topic, payload, at },
                    };
                }
            }
        }
    }

    /// Says something, if the connection stands; when it comes back, all is said anew.
    pub async fn publish(&self, publication: Publication) {
        if matches!(*self.wire.status.borrow(), Status::Down { .. }) {
            return;
        }
        let how = PublishOptions::new(QoS::AtLeastOnce).retain(publication.retain);
        if let Err(error) = self.wire.client.try_publish(publication.topic, publication.payload, how) {
            tracing::warn!(%error, "the hub's own device could not be heard");
        }
    }

    /// Sends what is queued and disconnects.
    pub async fn finish(self) {
        self.wire.finish().await;
    }
}

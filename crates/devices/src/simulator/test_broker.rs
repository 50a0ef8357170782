//! A broker for tests, in this process and on a free port, and an ear that hears everything said there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt5::broker::{BrokerConfig, MqttBroker, StorageBackendType, StorageConfig};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS};

/// A running broker and its ear.
pub(crate) struct TestBroker {
    pub(crate) port: u16,
    client: AsyncClient,
    heard: Arc<Mutex<Vec<(String, String)>>>,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        let storage = StorageConfig { backend: StorageBackendType::Memory, ..StorageConfig::default() };
        let config = BrokerConfig { storage_config: storage, ..BrokerConfig::default() };
        let config = config.with_bind_address(([127, 0, 0, 1], 0)).with_max_packet_size(1 << 20);
        let mut broker = MqttBroker::with_config(config).await.unwrap();
        let port = broker.local_addr().unwrap().port();
        tokio::spawn(async move { broker.run().await });
        let mut options = MqttOptions::new("ear", ("127.0.0.1".to_owned(), port));
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
        client.subscribe("#", QoS::AtLeastOnce).await.unwrap();
        let (subscribed, wait) = tokio::sync::oneshot::channel();
        let mut subscribed = Some(subscribed);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Packet::SubAck(_)) => drop(subscribed.take().map(|s| s.send(()))),
                    Event::Incoming(Packet::Publish(said)) => {
                        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                        log.lock().unwrap().push((text(&said.topic), text(&said.payload)));
                    }
                    _ => {}
                }
            }
        });
        wait.await.unwrap();
        Self { port, client, heard }
    }

    /// Everything heard, once this is true of it.
    pub(crate) async fn heard_until(&self, done: impl Fn(&[(String, String)]) -> bool) -> Vec<(String, String)> {
        let wait = async {
            while !done(&self.heard.lock().unwrap()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the ear heard less than it should");
        self.heard.lock().unwrap().clone()
    }

    pub(crate) async fn say(&self, topic: &str, payload: &str) {
        self.client.publish(topic, payload, PublishOptions::new(QoS::AtLeastOnce)).await.unwrap();
    }
}

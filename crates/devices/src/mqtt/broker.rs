//! The hub's own broker, for homes that have none: crate mqtt5, with the limits that a home needs.
//!
//! Anonymous clients are taken on loopback only. Beyond it each device needs a name and password (`vestibule devices add`).
//! Nobody speaks on `homeassistant/status`: that is Home Assistant's own word.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _};
use mqtt5::broker::auth::{AuthProvider, AuthResult};
use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};
use mqtt5::packet::connect::ConnectPacket;
use tokio::task::JoinHandle;

/// Most clients at once.
pub const CLIENTS_MAX: usize = 1000;

/// Most retained messages.
pub const RETAINED_MAX: usize = 50_000;

/// Largest packet, bytes.
pub const PACKET_MAX_BYTES: usize = (1 << 20) + 4096;

/// Messages that wait for one slow client.
const QUEUED_MAX: usize = 100_000;

/// How long stopping may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Name under which the hub itself connects; no device may have it.
pub const HUB: &str = "vestibule";

/// Home Assistant's own topic.
const BIRTH: &str = "homeassistant/status";

/// Devices' names and password hashes (see [`hash_password`]). Clones are the same list: a name that is added holds at once.
#[derive(Clone, Default)]
pub struct DeviceUsers(Arc<RwLock<HashMap<String, String>>>);

impl DeviceUsers {
    /// Adds a name, or gives it another password: whoever is connected under it stays so.
    pub fn insert(&self, name: String, hash: String) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, hash);
    }

    /// The password hash of a name.
    pub fn hash(&self, name: &str) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// What the broker needs.
#[derive(Clone)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Who may connect from beyond this machine.
    pub users: DeviceUsers,
    /// What the hub's own clients are called, or begin with. A newer client puts out an older one of the same name, so these
    /// are for the hub alone.
    pub hub_client_id: String,
    /// Where retained messages are kept; made if it is not there.
    pub data: PathBuf,
}

/// The broker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address is taken or not this machine's.
    #[error("the broker can't have {address}: {reason}; stop what uses it, or set [mqtt] listen to another")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// A password could not be hashed.
    #[error("a password could not be hashed: {0}")]
    Hash(String),
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// Hashes a device's password (argon2id) with a salt of 16 random bytes.
///
/// # Errors
/// When the hash can't be made.
pub fn hash_password(password: &str, salt: &[u8; 16]) -> Result<String, BrokerError> {
    let failed = |e: &dyn std::fmt::Display| BrokerError::Hash(e.to_string());
    let salt = SaltString::encode_b64(salt).map_err(|e| failed(&e))?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(|e| failed(&e))?;
    Ok(hash.to_string())
}

struct Users {
    anonymous: bool,
    devices: DeviceUsers,
    hub_client_id: String,
    /// The hub's own password, made at each start.
    hub: String,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl AuthProvider for Users {
    fn authenticate<'a>(&'a self, connect: &'a ConnectPacket, _: SocketAddr) -> Answer<'a, mqtt5::Result<AuthResult>> {
        let name = connect.username.clone();
        let password = connect.password.as_ref().map(|p| p.to_vec()).unwrap_or_default();
        let as_hub = connect.client_id.starts_with(&self.hub_client_id);
        Box::pin(async move {
            if as_hub && name.as_deref() != Some(HUB) {
                return Ok(refused());
            }
            let Some(name) = name else {
                return Ok(if self.anonymous { AuthResult::success() } else { refused() });
            };
            if name == HUB {
                let same = subtle::ConstantTimeEq::ct_eq(self.hub.as_bytes(), password.as_slice());
                return Ok(if bool::from(same) { AuthResult::success_with_user(name) } else { refused() });
            }
            let Some(hash) = self.devices.hash(&name) else {
                return Ok(if self.anonymous { AuthResult::success() } else { refused() });
            };
            // argon2 is slow on purpose: not on the threads that serve others.
            let fits = tokio::task::spawn_blocking(move || {
                PasswordHash::new(&hash)
                    .is_ok_and(|parsed| Argon2::default().verify_password(&password, &parsed).is_ok())
            });
            Ok(if fits.await.unwrap_or(false) { AuthResult::success_with_user(name) } else { refused() })
        })
    }

    fn authorize_publish<'a>(&'a self, _: &str, _: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { topic != BIRTH })
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, _: Option<&'a str>, _: &'a str) -> Answer<'a, bool> {
        Box::pin(async move { true })
    }
}

fn refused() -> AuthResult {
    AuthResult::fail(mqtt5::types::ReasonCode::BadUsernameOrPassword)
}

/// A broker that runs until it is stopped.
pub struct Broker {
    address: SocketAddr,
    hub_url: String,
    handle: BrokerShutdownHandle,
    task: JoinHandle<()>,
}

impl Broker {
    /// Brings the broker up; port 0 is a free port.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn start(config: Config) -> Result<Self, BrokerError> {
        let mut secret = [0u8; 24];
        getrandom::fill(&mut secret).map_err(|_| BrokerError::Random)?;
        let hub: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let storage = StorageConfig::new()
            .with_backend(StorageBackend::File)
            .with_base_dir(config.data)
            .with_max_queued_messages_per_client(QUEUED_MAX);
        let broker_config = BrokerConfig::default()
            .with_bind_addresses(vec![config.listen])
            .with_max_clients(CLIENTS_MAX)
            .with_max_packet_size(PACKET_MAX_BYTES)
            .with_max_retained_messages(RETAINED_MAX)
            .with_max_retained_message_size(PACKET_MAX_BYTES)
            .with_client_channel_capacity(QUEUED_MAX)
            .with_sys_topics_enabled(false)
            .with_storage(storage);
        let failed = |reason: String| BrokerError::Listen { address: config.listen, reason };
        let broker = MqttBroker::with_config(broker_config).await.map_err(|e| failed(e.to_string()))?;
        let (anonymous, hub_client_id) = (config.listen.ip().is_loopback(), config.hub_client_id);
        let users = Users { anonymous, devices: config.users, hub_client_id, hub };
        let hub_password = users.hub.clone();
        let mut broker = broker.with_auth_provider(Arc::new(users));
        let address = broker.local_addr().ok_or_else(|| failed("no address was bound".into()))?;
        let near = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
        let hub_url = format!("mqtt://{HUB}:{hub_password}@{}", SocketAddr::new(near, address.port()));
        let handle = broker.shutdown_handle();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the hub's own broker has stopped");
            }
        });
        Ok(Self { address, hub_url, handle, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL at which the hub itself connects, with a password that nobody else has.
    pub fn hub_url(&self) -> String {
        self.hub_url.clone()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.handle.shutdown();
        if tokio::time::timeout(STOP_TIMEOUT, self.task).await.is_err() {
            tracing::warn!("the hub's own broker did not stop in time");
        }
    }
}

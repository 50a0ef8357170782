//! The two listeners. They share no routes.

use std::net::SocketAddr;
use std::sync::Arc;

use egress::Egress;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::core::Core;
use crate::hub::MqttActuator;
use crate::page::Page;

/// Both listeners, bound.
pub struct Listeners {
    console: TcpListener,
    partners: TcpListener,
}

async fn bind(what: &str, address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|e| {
        format!("the {what} listener can't have {address}: {e}; stop what uses it, or set [{what}] listen to another")
    })
}

impl Listeners {
    /// Binds both.
    ///
    /// # Errors
    /// When an address is taken or not this machine's.
    pub async fn bind(console: SocketAddr, partners: SocketAddr) -> Result<Self, String> {
        Ok(Self { console: bind("console", console).await?, partners: bind("partners", partners).await? })
    }

    /// The addresses: the household's, the partners'.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr), String> {
        let address = |l: &TcpListener| l.local_addr().map_err(|e| e.to_string());
        Ok((address(&self.console)?, address(&self.partners)?))
    }

    /// Serves until `stop` says true; then finishes what is in flight.
    pub fn serve(
        self,
        core: &Arc<Core>,
        actuator: Arc<MqttActuator>,
        page: &Arc<Page>,
        stop: &watch::Receiver<bool>,
    ) -> Vec<JoinHandle<()>> {
        let wait = |stop: &watch::Receiver<bool>| {
            let mut stop = stop.clone();
            async move {
                // The sender is gone only when the hub is: that is a stop too.
                let _ = stop.wait_for(|s| *s).await;
            }
        };
        let parts = Egress {
            state: Arc::clone(&core.gate),
            actuator,
            recorder: core.recorder(),
            clock: core.clock(),
            tally: Arc::clone(&core.tally),
        };
        let egress = egress::router(parts, Arc::clone(core));
        let partners_stop = wait(stop);
        let partners = tokio::spawn(async move {
            egress::serve(self.partners, egress, partners_stop).await;
        });
        let options = console::Options { listen: self.console.local_addr().ok(), ..console::Options::default() };
        let router = console::router(Arc::clone(page) as Arc<dyn console::Source>, options);
        let (console_stop, page) = (wait(stop), Arc::clone(page));
        let console = tokio::spawn(async move {
            let stop = async move {
                console_stop.await;
                page.close();
            };
            if let Err(error) = axum::serve(self.console, router).with_graceful_shutdown(stop).await {
                tracing::error!(%error, "the household's listener broke");
            }
        });
        vec![partners, console]
    }
}

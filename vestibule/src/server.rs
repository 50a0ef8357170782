//! The two listeners. They share no routes.

use std::net::SocketAddr;
use std::sync::Arc;

use egress::{CONNECTIONS_MAX, CONSOLE_CONNECTIONS_MAX, Door, Egress, Events};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::core::{Core, LedgerRecorder};
use crate::hub::MqttActuator;
use crate::page::Page;

/// Both listeners, bound.
pub struct Listeners {
    console: TcpListener,
    partners: TcpListener,
}

/// File handles that the hub needs beside connections: databases, the control socket, the brokers and their clients.
const FILES_RESERVED: u64 = 256;

/// File handles that the hub asks the system for: every listener full, and its own broker.
const FILES_WANTED: u64 = 4096;

/// How many file handles there are, after asking for more: shells and service managers often give 1024.
fn files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let have = getrlimit(Resource::Nofile);
    // No limit is written as none.
    let (Some(soft), most) = (have.current, have.maximum.unwrap_or(FILES_WANTED)) else { return FILES_WANTED };
    let wanted = FILES_WANTED.min(most);
    if soft >= wanted {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: have.maximum }) {
        Ok(()) => wanted,
        Err(_) => soft,
    }
}

/// Most connections of the partners' listener and of the household's: full, they leave the rest of the hub its handles.
fn connections(files: u64) -> (usize, usize) {
    let for_both = usize::try_from(files.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX);
    let console = (for_both / 4).clamp(8, CONSOLE_CONNECTIONS_MAX);
    ((for_both / 2).clamp(8, CONNECTIONS_MAX), console)
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
        events: Option<Arc<Events<LedgerRecorder>>>,
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
            events,
        };
        let egress = egress::router(parts, Arc::clone(core));
        let (partners_most, console_most) = connections(files());
        let (partners_door, console_door) = (Door::new("partners", partners_most), Door::new("console", console_most));
        core.watch_door(Arc::clone(&partners_door));
        core.watch_door(Arc::clone(&console_door));
        let partners_stop = wait(stop);
        let partners = tokio::spawn(async move {
            egress::serve(self.partners, egress, partners_door, partners_stop).await;
        });
        let options = console::Options { listen: self.console.local_addr().ok(), ..console::Options::default() };
        let router = console::router(Arc::clone(page) as Arc<dyn console::Source>, options);
        let (console_stop, page) = (wait(stop), Arc::clone(page));
        let console = tokio::spawn(async move {
            let stop = async move {
                console_stop.await;
                page.close();
            };
            egress::serve(self.console, router, console_door, stop).await;
        });
        vec![partners, console]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_listeners_leave_the_rest_of_the_hub_its_file_handles() {
        assert_eq!(connections(FILES_WANTED), (CONNECTIONS_MAX, CONSOLE_CONNECTIONS_MAX));
        for files in [0, 64, 256, 300, 1024, 2048, u64::MAX] {
            let (partners, console) = connections(files);
            assert!(partners >= 8 && console >= 8, "{files}");
            let left = files.saturating_sub((partners + console) as u64);
            assert!(files <= FILES_RESERVED + 64 || left >= FILES_RESERVED, "{files}: {partners} and {console}");
        }
    }
}

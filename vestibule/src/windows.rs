//! A button for each window that grants name, at the broker: Home Assistant finds it, and an automation or a switch on the wall presses
//! it. What a press does is what `vestibule window open` does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use devices::mqtt::face::{Face, FaceEvent};
use devices::mqtt::house::Publication;
use ledger::Digest;
use policy::Name;
use serde_json::json;

use crate::core::Core;

/// How often is looked which windows there are.
const LOOK: Duration = Duration::from_secs(1);

/// Most buttons that are announced; further windows have none.
pub const BUTTONS_MAX: usize = 64;

/// Hexadecimal digits of a window's name in topics: its SHA-256, cut, since a name may hold what no topic may.
const SLUG_DIGITS: usize = 16;

/// What a window is called in topics.
fn slug(name: &Name) -> String {
    Digest::of(name.as_str().as_bytes()).to_string().chars().take(SLUG_DIGITS).collect()
}

/// Where the buttons lie at the broker.
struct Topics {
    base: String,
    discovery: String,
    id: String,
}

impl Topics {
    fn config(&self, slug: &str) -> String {
        format!("{}/{}{slug}/config", self.discovery, object_prefix(&self.id))
    }

    fn status(&self, word: &str) -> Publication {
        Publication { topic: format!("{}/status", self.base), payload: word.to_owned(), retain: true }
    }

    /// Home Assistant's description of a button.
    fn button(&self, name: &Name, minutes: u16) -> Publication {
        let slug = slug(name);
        let config = json!({
            "name": format!("Open {name} for {minutes} minutes"),
            "unique_id": format!("{}{slug}", object_prefix(&self.id)),
            "command_topic": format!("{}/{slug}/press", self.base),
            "availability_topic": format!("{}/status", self.base),
            "retain": false,
            "device": {
                "identifiers": [format!("{}_windows", self.id)], "name": "Vestibule windows", "manufacturer": "Vestibule",
                "model": "Windows", "sw_version": env!("CARGO_PKG_VERSION"),
            },
        });
        Publication { topic: self.config(&slug), payload: config.to_string(), retain: true }
    }
}

/// What a button says when it is pressed: Home Assistant's own word, where none is set.
const PRESS: &str = "PRESS";

/// How the discovery names of the hub's own buttons begin.
pub fn object_prefix(client_id: &str) -> String {
    format!("{client_id}_window_")
}

/// Announces the buttons and obeys them, until it is dropped.
pub async fn run(core: Arc<Core>, url: String) {
    let id = core.client_id().to_owned();
    let discovery = format!("{}/button", core.config().discovery_prefix);
    let topics = Topics { base: format!("vestibule/{id}/window"), discovery, id };
    let mut face: Option<Face> = None;
    // What was said over this connection.
    let mut said: BTreeMap<String, u16> = BTreeMap::new();
    let mut connected = false;
    loop {
        let buttons = core.buttons();
        let told: BTreeSet<String> = core.announced_buttons();
        if face.is_none() && !(buttons.is_empty() && told.is_empty()) {
            let orders = format!("{}/+/press", topics.base);
            match Face::start(&url, &format!("{}-w", topics.id), &topics.status("offline"), &orders) {
                Ok(started) => face = Some(started),
                Err(error) => {
                    tracing::error!(%error, "the windows' buttons can't speak with the broker");
                    return;
                }
            }
        }
        let Some(face) = &mut face else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if connected {
            let wanted: BTreeMap<String, (&Name, u16)> =
                buttons.iter().map(|(name, minutes)| (slug(name), (name, *minutes))).collect();
            let all: BTreeSet<String> = wanted.keys().cloned().collect();
            // Which ones are announced is stored first: what is not meant any more is taken out, over restarts too.
            let either: BTreeSet<String> = all.union(&told).cloned().collect();
            if either != told && core.keep_announced(&either).await.is_err() {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            for gone in told.difference(&all) {
                let nothing = Publication { topic: topics.config(gone), payload: String::new(), retain: true };
                face.publish(nothing).await;
                said.remove(gone);
            }
            if all != either && core.keep_announced(&all).await.is_err() {
                tracing::warn!("which windows have buttons could not be stored yet");
            }
            for (slug, (name, minutes)) in wanted {
                if said.get(&slug) != Some(&minutes) {
                    face.publish(topics.button(name, minutes)).await;
                    said.insert(slug, minutes);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            event = face.next() => match event {
                FaceEvent::Connected => {
                    connected = true;
                    said.clear();
                    face.publish(topics.status("online")).await;
                }
                // Clearing what the broker has kept is heard as an order without words.
                FaceEvent::Order { payload, .. } if payload != PRESS => {}
                FaceEvent::Order { topic, at, .. } => {
                    let pressed = topic.strip_prefix(&format!("{}/", topics.base)).and_then(|t| t.strip_suffix("/press"));
                    let name = buttons.iter().map(|(name, _)| name).find(|name| Some(slug(name).as_str()) == pressed);
                    match name {
                        Some(name) => if let Err(error) = core.window_pressed(name, at).await {
                            tracing::warn!(window = %name, %error, "a window was not opened by its button");
                        },
                        None => tracing::warn!("a button was pressed of a window that no grant names"),
                    }
                }
                // It listens to nothing else.
                FaceEvent::Said { .. } => {}
            }
        }
    }
}

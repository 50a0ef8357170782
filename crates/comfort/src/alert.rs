//! Alerts and reminders.

use serde::{Deserialize, Serialize};

/// Most alerts at once.
pub const ALERTS_MAX: usize = 64;

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "about", content = "of")]
pub enum About {
    /// A sensor is stale, frozen, impossible or offline.
    Sensor(String),
    /// None of the sensors that should take part is believed: others stand in.
    Fallback,
    /// No sensor is believed.
    NoSensor,
    /// A room is below the frost floor.
    FrostFloor,
    /// A room is above the high limit.
    HighLimit,
    /// Everything has been paused for hours, since a window is told to be open.
    WindowOpen,
    /// Colder than the household wants to hear of.
    Cold,
    /// Warmer.
    Hot,
    /// The air is too dry.
    Dry,
    /// The air is too damp.
    Damp,
    /// Heating or cooling has run for long without any effect.
    NoResponse,
    /// A sensor departs slowly from the others.
    Drift(String),
    /// Equipment starts and stops more often than it is asked to, or is satisfied almost at once.
    ShortCycles,
    /// Equipment was stopped because it ran for too long.
    LongRun,
    /// Auxiliary heat runs for long.
    AuxRuntime,
    /// Something is due: the reminder of this name.
    Reminder(String),
    /// A sensor's battery is low.
    Battery(String),
    /// The wall clock is not to be believed: the program goes on by the time that has passed.
    Clock,
    /// A relay can't be switched, or does not do as it was told.
    Relay(String),
    /// The broker can't be reached.
    Broker,
    /// Nothing but this hub guards the house from frost.
    HubOnlyFrost,
}

/// An alert that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What about.
    #[serde(flatten)]
    pub about: About,
    /// In words.
    pub text: String,
    /// Since when, milliseconds since the epoch.
    pub since_ms: i64,
    /// Somebody has seen it.
    pub acknowledged: bool,
}

/// The alerts that stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    alerts: Vec<Alert>,
}

impl Alerts {
    /// All of them, the oldest first.
    pub fn all(&self) -> &[Alert] {
        &self.alerts
    }

    /// Raises or ends one. The text is made only when it is new.
    pub(crate) fn set(&mut self, about: About, stands: bool, wall_ms: i64, text: impl FnOnce() -> String) {
        let known = self.alerts.iter().position(|a| a.about == about);
        match (stands, known) {
            (true, None) if self.alerts.len() < ALERTS_MAX => {
                self.alerts.push(Alert { about, text: text(), since_ms: wall_ms, acknowledged: false });
            }
            (false, Some(index)) => {
                self.alerts.remove(index);
            }
            _ => {}
        }
    }

    /// Ends the alerts of which `over` says so.
    pub(crate) fn end(&mut self, over: impl Fn(&About) -> bool) {
        self.alerts.retain(|a| !over(&a.about));
    }

    /// Somebody has seen it. What it was about; `None`: there is no such alert. Alerts are counted from 1, as they are listed.
    pub fn acknowledge(&mut self, number: usize) -> Option<About> {
        let found = self.alerts.get_mut(number.checked_sub(1)?)?;
        found.acknowledged = true;
        Some(found.about.clone())
    }
}

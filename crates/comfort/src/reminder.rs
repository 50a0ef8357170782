//! Reminders: what is due after so many hours of running, or so many days. Counted on, restart after restart, until
//! somebody says that it is done.

use serde::{Deserialize, Serialize};

use crate::guard::{Call, Output};
use crate::settings::{Equipment, Settings};

/// Most reminders.
pub const REMINDERS_MAX: usize = 16;
/// Longest name, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest life: hours of running, or days.
pub const LIFE_MAX: u32 = 100_000;
/// Milliseconds of an hour and of a day.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What a reminder counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Counts {
    /// Hours in which air goes through the filter: the fan, heating or cooling.
    Air,
    /// Hours of heating, auxiliary heat included.
    Heating,
    /// Hours of cooling.
    Cooling,
    /// Hours of auxiliary heat.
    Aux,
    /// Hours of the humidifier.
    Humidifier,
    /// Hours of the dehumidifier.
    Dehumidifier,
    /// Hours of the ventilator.
    Ventilator,
    /// Days in which the hub ran.
    Days,
}

impl Counts {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Air,
        Self::Heating,
        Self::Cooling,
        Self::Aux,
        Self::Humidifier,
        Self::Dehumidifier,
        Self::Ventilator,
        Self::Days,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Air => "air",
            Self::Heating => "heating",
            Self::Cooling => "cooling",
            Self::Aux => "aux",
            Self::Humidifier => "humidifier",
            Self::Dehumidifier => "dehumidifier",
            Self::Ventilator => "ventilator",
            Self::Days => "days",
        }
    }

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == word)
    }

    fn runs(self, relays: Call) -> bool {
        match self {
            Self::Air => relays.has(Output::Fan) || relays.heats() || relays.cools(),
            Self::Heating => relays.heats(),
            Self::Cooling => relays.cools(),
            Self::Aux => relays.has(Output::Aux),
            Self::Humidifier => relays.has(Output::Humidifier),
            Self::Dehumidifier => relays.has(Output::Dehumidifier),
            Self::Ventilator => relays.has(Output::Ventilator),
            Self::Days => true,
        }
    }

    const fn unit_ms(self) -> u64 {
        if matches!(self, Self::Days) { DAY_MS } else { HOUR_MS }
    }
}

/// One reminder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reminder {
    /// Its name, as in `filter`.
    pub name: String,
    /// What it counts.
    pub counts: Counts,
    /// Due after so many hours (or days).
    pub life: u32,
    used_ms: u64,
}

impl Reminder {
    /// Hours (or days) since it was done last.
    pub fn used(&self) -> f64 {
        self.used_ms as f64 / self.counts.unit_ms() as f64
    }

    /// It is due.
    pub fn due(&self) -> bool {
        self.used_ms >= u64::from(self.life).saturating_mul(self.counts.unit_ms())
    }

    /// What it says when it is due.
    pub fn text(&self) -> String {
        let unit = match self.counts {
            Counts::Air => "hours of moving air",
            Counts::Heating => "hours of heating",
            Counts::Cooling => "hours of cooling",
            Counts::Aux => "hours of auxiliary heat",
            Counts::Humidifier => "hours of the humidifier",
            Counts::Dehumidifier => "hours of the dehumidifier",
            Counts::Ventilator => "hours of the ventilator",
            Counts::Days => "days",
        };
        format!("{} is due: {:.0} {unit} since it was done last, of {}", self.name, self.used(), self.life)
    }
}

/// A reminder that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReminderError {
    /// There are too many.
    #[error("at most {REMINDERS_MAX} reminders: remove one first")]
    Full,
    /// Its name or life is out of bounds.
    #[error("a reminder has a name of 1 to {NAME_CHARS_MAX} characters, and a life of 1 to {LIFE_MAX} hours or days")]
    Bounds,
}

/// The reminders of a thermostat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reminders(Vec<Reminder>);

impl Reminders {
    /// With which a thermostat begins: the filter, where air is moved.
    pub fn usual(equipment: &Equipment, settings: &Settings) -> Self {
        let moves_air = equipment.has_forced_air || equipment.cool_stages > 0;
        let filter = |life| Reminder { name: "filter".into(), counts: Counts::Air, life, used_ms: 0 };
        Self(settings.filter_life_h.filter(|_| moves_air).map(filter).into_iter().collect())
    }

    /// All of them.
    pub fn all(&self) -> &[Reminder] {
        &self.0
    }

    /// Makes one, or changes the one of this name, which keeps what it has counted if it counts the same.
    ///
    /// # Errors
    /// When it can't be.
    pub fn put(&mut self, name: &str, counts: Counts, life: u32) -> Result<(), ReminderError> {
        let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if !fits || !(1..=LIFE_MAX).contains(&life) {
            return Err(ReminderError::Bounds);
        }
        let full = self.0.len() >= REMINDERS_MAX;
        let known = self.0.iter_mut().find(|r| r.name == name);
        match known {
            Some(known) if known.counts == counts => known.life = life,
            Some(known) => (known.counts, known.life, known.used_ms) = (counts, life, 0),
            None if full => return Err(ReminderError::Full),
            None => self.0.push(Reminder { name: name.to_owned(), counts, life, used_ms: 0 }),
        }
        Ok(())
    }

    /// It is done: counting begins anew. `false`: there is none of this name.
    pub fn done(&mut self, name: &str) -> bool {
        let found = self.0.iter_mut().find(|r| r.name == name);
        found.map(|r| r.used_ms = 0).is_some()
    }

    /// Takes one away. `false`: there is none of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|r| r.name != name);
        self.0.len() < before
    }

    /// So much time has passed with these relays.
    pub(crate) fn pass(&mut self, relays: Call, dt_ms: u64) {
        for reminder in self.0.iter_mut().filter(|r| r.counts.runs(relays)) {
            reminder.used_ms = reminder.used_ms.saturating_add(dt_ms);
        }
    }
}

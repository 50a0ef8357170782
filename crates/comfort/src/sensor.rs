//! Sensors: which take part, what they say together, and which are not believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::temperature::{Delta, Temp, mean};

/// Most sensors of a thermostat.
pub const SENSORS_MAX: usize = 64;
/// Rooms are never so cold or hot: such a value is the sensor's.
pub const POSSIBLE: (Temp, Temp) = (Temp::from_tenths_c(-300), Temp::from_tenths_c(600));
/// A room doesn't change by more than this between two readings a few minutes apart.
pub const JUMP_MAX: Delta = Delta::from_milli_k(6000);
/// After this time a jump is a change.
pub const JUMP_WINDOW_MS: u64 = 10 * 60_000;
/// A sensor whose steps are at most this is fine: its value moves all the time.
pub const FINE_STEP: Delta = Delta::from_milli_k(300);
/// A coarse sensor may stand still so many times longer than a fine one before it counts as frozen.
pub const COARSE_FROZEN_FACTOR: u64 = 8;
/// Below this the battery is to be changed, %.
pub const BATTERY_LOW: u8 = 15;
/// Follow me: a room joins the average after so much presence.
pub const FOLLOW_JOIN_MS: u64 = 10 * 60_000;
/// Follow me: it leaves after so long without.
pub const FOLLOW_LEAVE_MS: u64 = 60 * 60_000;

/// A sensor that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SensorConfig {
    /// Its id, as comfort settings name it.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Added to what it says (`tempCorrection`).
    #[serde(default)]
    pub offset: Delta,
    /// Out of use it is heard but weighs nothing.
    #[serde(default = "yes")]
    pub in_use: bool,
}

fn yes() -> bool {
    true
}

/// What a sensor says at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SensorReading {
    /// Temperature, before the offset.
    pub temperature: Option<Temp>,
    /// Relative humidity, %.
    pub humidity: Option<u8>,
    /// Somebody was seen.
    pub occupied: Option<bool>,
    /// Battery, %.
    pub battery: Option<u8>,
    /// The device said that it is gone, or its broker did.
    pub offline: bool,
}

/// Why a sensor is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LeftOut {
    /// It has said nothing yet, or nothing since the start.
    NeverHeard,
    /// It said that it is gone.
    Offline,
    /// It has said nothing for too long.
    Stale,
    /// Its value has not moved for too long.
    Frozen,
    /// Its value can't be.
    Impossible,
    /// Not in the comfort setting that runs.
    NotParticipating,
    /// Out of use.
    NotInUse,
}

impl LeftOut {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverHeard => "not heard since the start",
            Self::Offline => "offline",
            Self::Stale => "silent for too long",
            Self::Frozen => "frozen",
            Self::Impossible => "impossible value",
            Self::NotParticipating => "not in this comfort setting",
            Self::NotInUse => "out of use",
        }
    }

    /// Whether it is a fault.
    pub fn is_fault(self) -> bool {
        !matches!(self, Self::NotParticipating | Self::NotInUse)
    }
}

/// What is remembered of one sensor. Times are on the monotonic clock of this run; those of presence are below zero when they are of
/// an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    temperature: Option<Temp>,
    humidity: Option<u8>,
    battery: Option<u8>,
    #[serde(skip)]
    heard_ms: Option<u64>,
    #[serde(skip)]
    humidity_ms: u64,
    #[serde(skip)]
    moved_ms: u64,
    #[serde(skip)]
    offline: bool,
    /// A jump that waits for its time.
    #[serde(skip)]
    jump: Option<(Temp, u64)>,
    #[serde(skip)]
    impossible: bool,
    /// The smallest step seen.
    step: Option<Delta>,
    occupied_ms: Option<i64>,
    occupied_since_ms: Option<i64>,
    #[serde(default)]
    followed: bool,
    /// It has told in this run whether somebody is there.
    #[serde(skip)]
    tells: bool,
}

/// A time of this run that may be compared with those before it.
fn signed(mono_ms: u64) -> i64 {
    i64::try_from(mono_ms).unwrap_or(i64::MAX)
}

/// How long ago that was.
fn since(mono_ms: u64, at_ms: i64) -> u64 {
    u64::try_from(signed(mono_ms).saturating_sub(at_ms)).unwrap_or(0)
}

/// Every sensor's last word.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sensors {
    known: BTreeMap<String, Known>,
}

/// What the sensors say together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fused {
    /// The mean of those that took part; `None`: no sensor is believed.
    pub temperature: Option<Temp>,
    /// The coldest room of all that are believed, taking part or not.
    pub coldest: Option<Temp>,
    /// The hottest.
    pub hottest: Option<Temp>,
    /// Mean relative humidity, %.
    pub humidity: Option<u8>,
    /// How many took part.
    pub used: usize,
    /// None of those that should take part was believed; others stood in.
    pub fallback: bool,
}

impl Sensors {
    /// Hears a sensor. Unknown ids beyond [`SENSORS_MAX`] are not heard: `false`.
    pub fn hear(&mut self, id: &str, reading: &SensorReading, mono_ms: u64) -> bool {
        if !self.known.contains_key(id) {
            if self.known.len() >= SENSORS_MAX {
                return false;
            }
            self.known.insert(id.to_owned(), Known::default());
        }
        let Some(known) = self.known.get_mut(id) else { return false };
        // A room's motion detector, which may be a device of its own, says nothing of the thermometer's being there.
        let of_thermometer = reading.temperature.is_some() || reading.humidity.is_some() || reading.battery.is_some();
        if reading.offline || of_thermometer {
            known.offline = reading.offline;
        }
        if reading.offline {
            return true;
        }
        known.battery = reading.battery.or(known.battery);
        if let Some(humidity) = reading.humidity.filter(|h| *h <= 100) {
            known.humidity = Some(humidity);
            known.humidity_ms = mono_ms;
        }
        if let Some(occupied) = reading.occupied {
            known.tells = true;
            if occupied {
                known.occupied_ms = Some(signed(mono_ms));
                let came_ms = *known.occupied_since_ms.get_or_insert(signed(mono_ms));
                known.followed |= since(mono_ms, came_ms) >= FOLLOW_JOIN_MS;
            } else {
                // Not seen for a while is a visit that has ended; a room that was joined is left after an hour.
                let gone_ms = known.occupied_ms.map_or(u64::MAX, |seen| since(mono_ms, seen));
                if gone_ms > FOLLOW_JOIN_MS {
                    known.occupied_since_ms = None;
                }
                known.followed &= gone_ms < FOLLOW_LEAVE_MS;
            }
        }
        let Some(temperature) = reading.temperature else { return true };
        if temperature < POSSIBLE.0 || temperature > POSSIBLE.1 {
            known.impossible = true;
            return true;
        }
        if let (Some(last), Some(heard)) = (known.temperature, known.heard_ms) {
            let step = Delta::from_milli_k(temperature.above(last).milli_k().saturating_abs());
            if step > JUMP_MAX && mono_ms.saturating_sub(heard) < JUMP_WINDOW_MS {
                // A change this quick is believed when it lasts.
                let since = match known.jump {
                    Some((to, since)) if temperature.above(to).milli_k().abs() <= JUMP_MAX.milli_k() => since,
                    _ => mono_ms,
                };
                known.jump = Some((temperature, since));
                if mono_ms.saturating_sub(since) < JUMP_WINDOW_MS {
                    known.impossible = true;
                    known.heard_ms = Some(mono_ms);
                    return true;
                }
            }
            if step > Delta::ZERO {
                known.moved_ms = mono_ms;
                known.step = Some(known.step.map_or(step, |least| least.min(step)));
            }
        } else {
            known.moved_ms = mono_ms;
        }
        known.jump = None;
        known.impossible = false;
        known.temperature = Some(temperature);
        known.heard_ms = Some(mono_ms);
        true
    }

    /// Forgets sensors that are no longer configured, unless they tell whether somebody is there.
    pub(crate) fn prune(&mut self, all: &[SensorConfig]) {
        let is_configured = |id: &String| all.iter().any(|s| s.id == *id);
        self.known.retain(|id, known| known.occupied_ms.is_some() || is_configured(id));
        self.known.iter_mut().filter(|(id, _)| !is_configured(id)).for_each(|(_, known)| known.battery = None);
    }

    /// A new run: nothing has been heard on its clock, which is at zero where that of the last one was at `last_ms`. When somebody
    /// was seen is known all the same; the time between the two counts as none.
    pub fn restarted(&mut self, last_ms: u64) {
        let before = |at_ms: Option<i64>| at_ms.map(|at_ms| at_ms.saturating_sub(signed(last_ms)));
        for known in self.known.values_mut() {
            *known = Known {
                temperature: known.temperature,
                battery: known.battery,
                step: known.step,
                occupied_ms: before(known.occupied_ms),
                occupied_since_ms: before(known.occupied_since_ms),
                followed: known.followed,
                ..Known::default()
            };
        }
    }

    fn verdict(&self, config: &SensorConfig, settings: &Settings, mono_ms: u64) -> Result<(Temp, &Known), LeftOut> {
        if !config.in_use {
            return Err(LeftOut::NotInUse);
        }
        let known = self.known.get(&config.id).ok_or(LeftOut::NeverHeard)?;
        if known.offline {
            return Err(LeftOut::Offline);
        }
        if known.impossible {
            return Err(LeftOut::Impossible);
        }
        let (Some(heard), Some(temperature)) = (known.heard_ms, known.temperature) else {
            return Err(LeftOut::NeverHeard);
        };
        if mono_ms.saturating_sub(heard) > u64::from(settings.sensor_stale_s) * 1000 {
            return Err(LeftOut::Stale);
        }
        let fine = known.step.is_some_and(|step| step <= FINE_STEP);
        let patience = u64::from(settings.sensor_frozen_s) * 1000 * if fine { 1 } else { COARSE_FROZEN_FACTOR };
        if mono_ms.saturating_sub(known.moved_ms) > patience {
            return Err(LeftOut::Frozen);
        }
        Ok((temperature.plus(config.offset), known))
    }

    /// What the sensors say together: the mean of the believed ones among `participants` (empty: all), or of every
    /// believed one if there is none among them.
    pub fn fuse(&self, all: &[SensorConfig], participants: &[String], settings: &Settings, mono_ms: u64) -> Fused {
        let mut chosen = Vec::new();
        let mut others = Vec::new();
        let mut humidity = (0u32, 0u32);
        for config in all {
            let Ok((temperature, known)) = self.verdict(config, settings, mono_ms) else { continue };
            others.push(temperature);
            let takes_part = participants.is_empty() || participants.contains(&config.id);
            let followed = settings.follow_me_comfort && follows(known, mono_ms);
            if takes_part || followed {
                chosen.push(temperature);
            }
            let fresh = mono_ms.saturating_sub(known.humidity_ms) <= u64::from(settings.sensor_stale_s) * 1000;
            if let Some(percent) = known.humidity.filter(|_| fresh) {
                humidity = (humidity.0 + u32::from(percent), humidity.1 + 1);
            }
        }
        let fallback = chosen.is_empty() && !others.is_empty();
        let used = if fallback { &others } else { &chosen };
        Fused {
            temperature: mean(used),
            coldest: others.iter().min().copied(),
            hottest: others.iter().max().copied(),
            humidity: humidity.0.checked_div(humidity.1).and_then(|h| u8::try_from(h).ok()),
            used: used.len(),
            fallback,
        }
    }

    /// Each sensor with its value (offset included) and why it is left out, if it is.
    pub fn list<'a>(
        &'a self,
        all: &'a [SensorConfig],
        participants: &'a [String],
        settings: &'a Settings,
        mono_ms: u64,
    ) -> impl Iterator<Item = (&'a SensorConfig, Option<Temp>, Option<LeftOut>)> {
        all.iter().map(move |config| {
            let last = self.known.get(&config.id).and_then(|k| k.temperature).map(|t| t.plus(config.offset));
            match self.verdict(config, settings, mono_ms) {
                Err(why) => (config, last, Some(why)),
                Ok(_) if !participants.is_empty() && !participants.contains(&config.id) => {
                    (config, last, Some(LeftOut::NotParticipating))
                }
                Ok(_) => (config, last, None),
            }
        })
    }

    /// The sensors whose battery is low.
    pub fn low_batteries(&self) -> impl Iterator<Item = (&str, u8)> {
        self.known.iter().filter_map(|(id, k)| Some((id.as_str(), k.battery.filter(|b| *b < BATTERY_LOW)?)))
    }

    /// How long ago anybody was seen; `None`: never.
    pub fn last_seen_ms(&self, mono_ms: u64) -> Option<u64> {
        self.known.values().filter_map(|k| k.occupied_ms).max().map(|seen| since(mono_ms, seen))
    }

    /// Whether any sensor has told in this run whether somebody is there.
    pub fn tells(&self) -> bool {
        self.known.values().any(|k| k.tells)
    }
}

/// Follow me: the room was joined, and somebody was there within the hour.
fn follows(known: &Known, mono_ms: u64) -> bool {
    known.followed && known.occupied_ms.is_some_and(|seen| since(mono_ms, seen) < FOLLOW_LEAVE_MS)
}

//! What goes wrong in a house: drawn by a seed, so that a failure can be played again.

use super::rng::Rng;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A sensor repeats its last value.
    Freeze {
        /// Which sensor; `None`: all.
        sensor: Option<usize>,
    },
    /// A sensor says nothing.
    Silence {
        /// Which sensor; `None`: all.
        sensor: Option<usize>,
    },
    /// A sensor says what can't be, or jumps.
    Nonsense {
        /// Which sensor.
        sensor: usize,
        /// What it says, °C.
        celsius: f64,
    },
    /// The broker is gone: no readings, no commands.
    Broker,
    /// The hub restarts; the relays stay.
    Restart,
    /// Everything is without power.
    PowerCut,
    /// The wall clock is wrong by so much.
    Clock {
        /// Milliseconds.
        step_ms: i64,
        /// The system believes it nevertheless.
        trusted: bool,
    },
    /// The outdoor temperature is not known.
    NoOutdoor,
    /// Somebody plays with the thermostat: a request each minute.
    Fiddling,
}

/// A fault and its time, minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// First minute.
    pub from_min: u64,
    /// First minute after it.
    pub to_min: u64,
    /// What.
    pub kind: Kind,
}

/// Mean minutes between two faults of any kind.
const MEAN_GAP_MIN: f64 = 1000.0;

/// The faults of so many minutes.
pub fn draw(seed: u64, minutes: u64) -> Vec<Fault> {
    let mut rng = Rng::new(seed, 21, 0);
    let mut faults = Vec::new();
    let mut at = 0.0;
    loop {
        at += -MEAN_GAP_MIN * (1.0 - rng.unit()).max(1e-9).ln();
        let from_min = at as u64;
        if from_min >= minutes {
            return faults;
        }
        let mut pick = |n: i64| usize::try_from(rng.around(n / 2, n / 2)).unwrap_or(0);
        let which = pick(8);
        let sensor = match pick(2) {
            2 => None,
            other => Some(other),
        };
        let (kind, longest) = match which {
            0 => (Kind::Freeze { sensor }, 720.0),
            1 => (Kind::Silence { sensor }, 480.0),
            2 => {
                let celsius = [85.0, -127.0, 0.0, 35.0].get(pick(2)).copied().unwrap_or(35.0);
                (Kind::Nonsense { sensor: sensor.unwrap_or(0), celsius }, 5.0)
            }
            3 => (Kind::Broker, 180.0),
            4 => (Kind::Restart, 10.0),
            5 => (Kind::PowerCut, 120.0),
            6 => {
                let step_ms = rng.around(0, 3 * 86_400_000);
                (Kind::Clock { step_ms, trusted: rng.chance(0.5) }, 600.0)
            }
            7 => (Kind::NoOutdoor, 600.0),
            _ => (Kind::Fiddling, 60.0),
        };
        let length = 1 + (rng.unit() * rng.unit() * longest) as u64;
        faults.push(Fault { from_min, to_min: from_min + length, kind });
    }
}

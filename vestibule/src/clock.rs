//! The wall clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gate::Steady;
use model::{Clock, Timestamp};

/// The time of day as the operating system has it, except that it never steps back (see [`Steady`]).
pub struct WallClock {
    steady: Mutex<Steady>,
    started: Instant,
}

impl WallClock {
    /// The time now, and from now on.
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
    pub fn new() -> Self {
        Self { steady: Mutex::new(Steady::new(wall(), 0)), started: Instant::now() }
    }

    fn monotonic_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Looks at the operating system's clock. To be called again and again, by the clock alone.
    pub fn beat(&self) {
        let monotonic_ms = self.monotonic_ms();
        self.steady.lock().unwrap_or_else(PoisonError::into_inner).beat(wall(), monotonic_ms);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
fn wall() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner).now(self.monotonic_ms())
    }

    fn told(&self) -> Timestamp {
        wall()
    }

    fn stands(&self) -> bool {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner).stands()
    }
}

/// A clock that does not go back behind the time at which the hub was when it last stored it: a board without a battery may
/// start years ago. Until it has caught up, time stands.
pub struct NotBefore {
    clock: Arc<dyn Clock>,
    stored: Timestamp,
}

impl NotBefore {
    /// The clock, from the stored time on.
    pub fn new(clock: Arc<dyn Clock>, stored: Timestamp) -> Self {
        Self { clock, stored }
    }
}

impl Clock for NotBefore {
    fn now(&self) -> Timestamp {
        self.clock.now().max(self.stored)
    }

    fn told(&self) -> Timestamp {
        self.clock.told()
    }

    fn stands(&self) -> bool {
        self.clock.stands() || self.clock.now().plus_millis(gate::AHEAD_MAX_MS) < self.stored
    }
}

/// A clock that a test moves: a file has the time in milliseconds since the epoch. In builds for development alone.
#[cfg(debug_assertions)]
pub struct MovedClock {
    file: std::path::PathBuf,
    last: std::sync::atomic::AtomicI64,
}

#[cfg(debug_assertions)]
impl MovedClock {
    /// It may run much faster than the wall.
    pub const SPEED: f64 = 1000.0;

    /// The clock that `VESTIBULE_CLOCK` names.
    pub fn from_environment() -> Option<Self> {
        let file = std::env::var_os("VESTIBULE_CLOCK")?.into();
        Some(Self { file, last: std::sync::atomic::AtomicI64::new(0) })
    }
}

#[cfg(debug_assertions)]
impl MovedClock {
    fn read(&self) -> Option<i64> {
        std::fs::read_to_string(&self.file).ok()?.trim().parse().ok()
    }
}

#[cfg(debug_assertions)]
impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        use std::sync::atomic::Ordering;
        let read = self.read();
        let last = self.last.load(Ordering::SeqCst);
        let now = read.unwrap_or(last).max(last);
        self.last.store(now, Ordering::SeqCst);
        Timestamp::from_millis(now)
    }

    fn told(&self) -> Timestamp {
        self.read().map_or_else(|| self.now(), Timestamp::from_millis)
    }

    fn stands(&self) -> bool {
        self.read().is_some_and(|read| read + gate::AHEAD_MAX_MS < self.last.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_is_told_where_time_stands() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("clock");
        let at = |ms: i64| {
            std::fs::write(&file, ms.to_string()).expect("written");
            Timestamp::from_millis(ms)
        };
        let moved = MovedClock { file: file.clone(), last: std::sync::atomic::AtomicI64::new(0) };
        let clock = NotBefore::new(Arc::new(moved), Timestamp::from_millis(5_000_000));
        let late = at(9_000_000);
        assert_eq!((clock.now(), clock.told()), (late, late));
        let early = at(1_000_000);
        assert_eq!((clock.now(), clock.told()), (late, early));
        assert!(clock.stands());
    }
}

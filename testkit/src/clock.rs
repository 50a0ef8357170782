//! Clocks.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use model::{Clock, Timestamp};

/// A clock that starts at a given time and runs at a multiple of the real speed. All parts of a demonstration share
/// one, so that rungs, grid, expiry and readings stay together.
pub struct ScaledClock {
    started: Instant,
    base: Timestamp,
    speed: f64,
}

impl ScaledClock {
    /// A clock that shows `base` now and then runs `speed` times as fast as the wall. A speed that is not above zero
    /// is taken as 1.
    #[expect(clippy::disallowed_methods, reason = "this is the edge where time is made")]
    pub fn new(base: Timestamp, speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self { started: Instant::now(), base, speed }
    }

    /// How many times faster than the wall it runs.
    pub fn speed(&self) -> f64 {
        self.speed
    }
}

impl Clock for ScaledClock {
    fn now(&self) -> Timestamp {
        let passed = self.started.elapsed().as_secs_f64() * 1000.0 * self.speed;
        self.base.plus_millis(passed as i64)
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct FakeClock(AtomicI64);

impl FakeClock {
    /// A clock that shows this time.
    pub fn at(time: Timestamp) -> Self {
        Self(AtomicI64::new(time.as_millis()))
    }

    /// Shows another time from now on; it may be an earlier one.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_millis(), Ordering::SeqCst);
    }

    /// Moves on by milliseconds.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

//! History: on change, thinned with age.

use model::{Timestamp, Value};

use crate::state::Sample;

/// Readings younger than this are kept as they came: 48 hours.
pub const HISTORY_FINE_MS: i64 = 48 * 3_600_000;

/// Older readings are thinned to one per this interval: 5 minutes.
pub const HISTORY_STEP_MS: i64 = 5 * 60_000;

/// Which of these samples (of one property, in order of time) stay: all younger than [`HISTORY_FINE_MS`], and of older
/// ones the last in each interval of [`HISTORY_STEP_MS`], so that the value at each interval's end is kept. Of what has few
/// states the last of each state stays: that somebody moved, or that a door was open, does not vanish because it was short.
pub fn thin(samples: &[Sample], now: Timestamp) -> Vec<bool> {
    let fine_from = now.plus_millis(-HISTORY_FINE_MS);
    let step = |s: &Sample| s.time.floor_to(HISTORY_STEP_MS);
    let mut stays: Vec<bool> = Vec::with_capacity(samples.len());
    // The states of this interval that come later: it is gone through backwards.
    let mut later: Vec<&Value> = Vec::new();
    let mut interval = None;
    for sample in samples.iter().rev() {
        if interval != Some(step(sample)) {
            interval = Some(step(sample));
            later.clear();
        }
        let is_news = later.is_empty() || (has_few_states(&sample.value) && !later.contains(&&sample.value));
        if is_news {
            later.push(&sample.value);
        }
        stays.push(sample.time >= fine_from || is_news);
    }
    stays.reverse();
    stays
}

fn has_few_states(value: &Value) -> bool {
    use Value::{Bool, DoorState, FanDirection, LockState, RunningState, SystemMode};
    matches!(value, Bool(_) | DoorState(_) | FanDirection(_) | LockState(_) | RunningState(_) | SystemMode(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_samples_keep_the_last_of_each_interval() {
        let at = |ms| Sample { value: Value::Temperature(ms as i32), time: Timestamp::from_millis(ms) };
        let samples = [at(0), at(1000), at(HISTORY_STEP_MS), at(HISTORY_STEP_MS + HISTORY_FINE_MS)];
        let now = Timestamp::from_millis(HISTORY_STEP_MS + HISTORY_FINE_MS + 1);
        assert_eq!(thin(&samples, now), [false, true, true, true]);
    }

    #[test]
    fn that_somebody_moved_does_not_vanish_with_age() {
        let moved = [false, true, false, true, false];
        let samples: Vec<Sample> = (0..)
            .zip(moved)
            .map(|(n, moved)| Sample { value: Value::Bool(moved), time: Timestamp::from_millis(n * 60_000) })
            .collect();
        let now = Timestamp::from_millis(HISTORY_FINE_MS * 2);
        assert_eq!(thin(&samples, now), [false, false, false, true, true]);
    }
}

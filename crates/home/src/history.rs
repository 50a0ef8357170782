//! History: on change, thinned with age.

use model::Timestamp;

use crate::state::Sample;

/// Readings younger than this are kept as they came: 48 hours.
pub const HISTORY_FINE_MS: i64 = 48 * 3_600_000;

/// Older readings are thinned to one per this interval: 5 minutes.
pub const HISTORY_STEP_MS: i64 = 5 * 60_000;

/// Which of these samples (of one property, in order of time) stay: all younger than [`HISTORY_FINE_MS`], and of older
/// ones the last in each interval of [`HISTORY_STEP_MS`], so that the value at each interval's end is kept.
pub fn thin(samples: &[Sample], now: Timestamp) -> Vec<bool> {
    let fine_from = now.plus_millis(-HISTORY_FINE_MS);
    samples
        .iter()
        .enumerate()
        .map(|(i, s)| {
            s.time >= fine_from
                || samples
                    .get(i + 1)
                    .is_none_or(|next| next.time.floor_to(HISTORY_STEP_MS) != s.time.floor_to(HISTORY_STEP_MS))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Value;

    #[test]
    fn old_samples_keep_the_last_of_each_interval() {
        let at = |ms| Sample { value: Value::Bool(true), time: Timestamp::from_millis(ms) };
        let samples = [at(0), at(1000), at(HISTORY_STEP_MS), at(HISTORY_STEP_MS + HISTORY_FINE_MS)];
        let now = Timestamp::from_millis(HISTORY_STEP_MS + HISTORY_FINE_MS + 1);
        assert_eq!(thin(&samples, now), [false, true, true, true]);
    }
}

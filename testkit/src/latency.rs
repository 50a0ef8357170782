//! Distributions of answer times, and how far apart two of them are.

use std::time::Duration;

/// Answer times, sorted.
#[derive(Clone, Debug)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// From what was measured.
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The time within which this share of the answers came (0.5 is the median); zero when there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = (share.clamp(0.0, 1.0) * last as f64).round() as usize;
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The Kolmogorov-Smirnov distance: the greatest difference between the two shares of answers that had come by any
    /// moment. 0 for equal distributions, 1 for such as do not touch.
    pub fn distance(&self, other: &Self) -> f64 {
        let by = |all: &[Duration], t: Duration| all.partition_point(|x| *x <= t) as f64 / all.len().max(1) as f64;
        let moments = self.0.iter().chain(&other.0);
        moments.map(|t| (by(&self.0, *t) - by(&other.0, *t)).abs()).fold(0.0, f64::max)
    }

    /// The distance beyond which two samples of one distribution lie by chance in one of a thousand cases.
    pub fn chance(&self, other: &Self) -> f64 {
        let (n, m) = (self.0.len().max(1) as f64, other.0.len().max(1) as f64);
        1.949 * ((n + m) / (n * m)).sqrt()
    }

    /// One line: how many, median, 99th percentile.
    pub fn summary(&self) -> String {
        format!("n {:6}  median {:>9.3?}  p99 {:>9.3?}", self.0.len(), self.quantile(0.5), self.quantile(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_none_all_or_between() {
        let of = |from: u64, to: u64| Latencies::new((from..to).map(Duration::from_micros).collect());
        assert_eq!(of(0, 100).distance(&of(0, 100)), 0.0);
        assert_eq!(of(0, 100).distance(&of(100, 200)), 1.0);
        assert!((of(0, 100).distance(&of(50, 150)) - 0.5).abs() < 0.02);
        assert_eq!(
            (of(0, 101).quantile(0.5), of(0, 101).quantile(0.99)),
            (Duration::from_micros(50), Duration::from_micros(99))
        );
        assert!(of(0, 1000).chance(&of(0, 1000)) < 0.1);
    }
}

//! How much one thing tells of another, in bits, beside what chance alone would show.

use std::collections::BTreeMap;

use crate::random::Random;

/// How often the days are put in another order.
const ORDERS: usize = 200;

/// What of the orders lies below [`Information::chance`].
const SHARE: f64 = 0.95;

/// Mutual information and what chance makes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Information {
    /// Bits, with Miller's and Madow's correction for few cases; never below 0.
    pub bits: f64,
    /// What 95 % of the orders stay below: the same days, put beside the truth of other days, so that what both have of the
    /// clock stays in both.
    pub chance: f64,
}

/// Mutual information of what was seen and what is true, slot by slot of each day. Every day has as many slots.
pub fn information(seen: &[Vec<u32>], truth: &[Vec<bool>], random: &mut Random) -> Information {
    let bits = mutual(seen.iter(), truth);
    let mut order: Vec<&Vec<u32>> = seen.iter().collect();
    let mut chances: Vec<f64> = (0..ORDERS)
        .map(|_| {
            random.shuffle(&mut order);
            mutual(order.iter().copied(), truth)
        })
        .collect();
    chances.sort_by(f64::total_cmp);
    let at = (SHARE * (ORDERS - 1) as f64).round() as usize;
    Information { bits, chance: chances.get(at).copied().unwrap_or(0.0) }
}

fn mutual<'a>(seen: impl Iterator<Item = &'a Vec<u32>>, truth: &[Vec<bool>]) -> f64 {
    let (mut both, mut left, mut right) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut count = 0.0;
    for (seen, truth) in seen.zip(truth).flat_map(|(seen, truth)| seen.iter().zip(truth)) {
        *both.entry((*seen, *truth)).or_insert(0.0) += 1.0;
        *left.entry(*seen).or_insert(0.0) += 1.0;
        *right.entry(*truth).or_insert(0.0) += 1.0;
        count += 1.0;
    }
    if count < 1.0 {
        return 0.0;
    }
    let entropy = |counts: &mut dyn Iterator<Item = f64>| {
        let (mut sum, mut cells) = (0.0, 0.0);
        for n in counts {
            sum -= n / count * (n / count).log2();
            cells += 1.0;
        }
        // Miller and Madow, 1955, in bits.
        sum + (cells - 1.0) / (2.0 * count * std::f64::consts::LN_2)
    };
    let sum = entropy(&mut left.into_values()) + entropy(&mut right.into_values());
    (sum - entropy(&mut both.into_values())).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_a_bit_a_constant_tells_nothing_and_the_clock_is_not_counted() {
        let mut random = Random::new(3);
        let truth: Vec<Vec<bool>> = (0..30).map(|_| (0..96).map(|_| random.below(2) == 0).collect()).collect();
        let seen = |of: &dyn Fn(usize, bool) -> u32| -> Vec<Vec<u32>> {
            truth.iter().map(|day| day.iter().enumerate().map(|(slot, t)| of(slot, *t)).collect()).collect()
        };
        let all = information(&seen(&|_, t| u32::from(t)), &truth, &mut random);
        assert!((all.bits - 1.0).abs() < 0.01 && all.chance < 0.01, "{all:?}");
        let none = information(&seen(&|_, _| 7), &truth, &mut random);
        assert_eq!((none.bits, none.chance), (0.0, 0.0));
        // Both follow the clock: there is information, and no more than on days that are put together by chance.
        let clock: Vec<Vec<bool>> = (0..30).map(|_| (0..96).map(|slot| slot >= 48).collect()).collect();
        let by_clock = information(&seen(&|slot, _| u32::from(slot >= 48)), &clock, &mut random);
        assert!(by_clock.bits > 0.99 && by_clock.chance >= by_clock.bits, "{by_clock:?}");
    }
}

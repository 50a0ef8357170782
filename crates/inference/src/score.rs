//! How good a guess is: area under the curve, balanced accuracy, and how far a difference may be chance.

use crate::random::Random;

/// How often days are drawn anew.
const DRAWS: usize = 1000;

/// Share of the draws outside the interval, at each end.
const TAIL: f64 = 0.025;

/// The chance that a true case scores higher than a false one; ties count half. None when there are only true cases, or only
/// false ones.
pub fn auc(scores: &[f64], truth: &[bool]) -> Option<f64> {
    let weights = vec![1.0; scores.len()];
    weighted(&order(scores), scores, truth, &weights)
}

/// Mean of the share of true cases that were guessed true and of false ones that were guessed false.
pub fn balanced_accuracy(guesses: &[bool], truth: &[bool]) -> Option<f64> {
    let share = |of: bool| {
        let all = truth.iter().filter(|t| **t == of).count();
        let hit = guesses.iter().zip(truth).filter(|(guess, t)| **t == of && guess == t).count();
        (all > 0).then(|| hit as f64 / all as f64)
    };
    Some((share(true)? + share(false)?) / 2.0)
}

/// By how much one guess is better than another of the same cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Increment {
    /// Lower end of the 95 % interval of the difference of the areas.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The interval of `auc(scores) - auc(prior)`, by drawing whole days with replacement: within a day cases depend on each
/// other. `days` says for each case which day it is of.
pub fn increment(
    scores: &[f64],
    prior: &[f64],
    truth: &[bool],
    days: &[usize],
    random: &mut Random,
) -> Option<Increment> {
    let last = days.iter().copied().max()?;
    let mut present = vec![false; last + 1];
    days.iter().for_each(|day| present.iter_mut().skip(*day).take(1).for_each(|p| *p = true));
    let present: Vec<usize> = present.iter().enumerate().filter(|(_, p)| **p).map(|(day, _)| day).collect();
    let (by_score, by_prior) = (order(scores), order(prior));
    let mut differences = Vec::with_capacity(DRAWS);
    let mut of_day = vec![0.0; last + 1];
    for _ in 0..DRAWS {
        of_day.iter_mut().for_each(|w| *w = 0.0);
        for _ in 0..present.len() {
            let drawn = present.get(random.below(present.len())).copied().unwrap_or(0);
            of_day.iter_mut().skip(drawn).take(1).for_each(|w| *w += 1.0);
        }
        let weights: Vec<f64> = days.iter().map(|day| of_day.get(*day).copied().unwrap_or(0.0)).collect();
        let new = weighted(&by_score, scores, truth, &weights);
        // Days of one sort alone tell nothing.
        differences.extend(new.zip(weighted(&by_prior, prior, truth, &weights)).map(|(a, b)| a - b));
    }
    differences.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (share * (differences.len().saturating_sub(1)) as f64).round() as usize;
        differences.get(index).copied()
    };
    Some(Increment { low: at(TAIL)?, high: at(1.0 - TAIL)? })
}

/// Positions from the lowest score to the highest.
fn order(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| value(scores, *a).total_cmp(&value(scores, *b)));
    order
}

fn value(list: &[f64], at: usize) -> f64 {
    list.get(at).copied().unwrap_or(0.0)
}

fn weighted(order: &[usize], scores: &[f64], truth: &[bool], weights: &[f64]) -> Option<f64> {
    let (mut below, mut won, mut positives) = (0.0, 0.0, 0.0);
    let (mut tied, mut tied_true) = (0.0, 0.0);
    let mut last = f64::NEG_INFINITY;
    for at in order {
        let (score, weight) = (value(scores, *at), value(weights, *at));
        if score > last {
            won += tied_true * (below + tied / 2.0);
            below += tied;
            (tied, tied_true, last) = (0.0, 0.0, score);
        }
        if truth.get(*at) == Some(&true) {
            tied_true += weight;
            positives += weight;
        } else {
            tied += weight;
        }
    }
    won += tied_true * (below + tied / 2.0);
    below += tied;
    (positives > 0.0 && below > 0.0).then(|| won / (positives * below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_chance_that_a_true_case_scores_higher() {
        let truth = [true, false, true, false];
        assert_eq!(auc(&[0.9, 0.1, 0.8, 0.2], &truth), Some(1.0));
        assert_eq!(auc(&[0.1, 0.9, 0.2, 0.8], &truth), Some(0.0));
        assert_eq!(auc(&[0.5; 4], &truth), Some(0.5));
        // Pairs: 0.9 > 0.8, 0.9 > 0.3, 0.5 < 0.8, 0.5 > 0.3.
        assert_eq!(auc(&[0.9, 0.8, 0.5, 0.3], &truth), Some(0.75));
        assert_eq!(auc(&[0.9], &[true]), None);
        assert_eq!(balanced_accuracy(&[true, true, true, false], &truth), Some(0.75));
    }

    #[test]
    fn the_interval_covers_no_difference_and_leaves_it_out_where_there_is_one() {
        let mut random = Random::new(7);
        let days: Vec<usize> = (0..600).map(|i| i / 20).collect();
        let truth: Vec<bool> = (0..600).map(|_| random.below(2) == 0).collect();
        let noise = |random: &mut Random| -> Vec<f64> { (0..600).map(|_| random.below(1000) as f64).collect() };
        let (one, other) = (noise(&mut random), noise(&mut random));
        let none = increment(&one, &other, &truth, &days, &mut random).unwrap();
        assert!(none.low < 0.0 && none.high > 0.0, "{none:?}");
        let known: Vec<f64> = truth.iter().zip(&one).map(|(t, n)| n + if *t { 500.0 } else { 0.0 }).collect();
        let some = increment(&known, &other, &truth, &days, &mut random).unwrap();
        assert!(some.low > 0.2 && some.high < 0.6, "{some:?}");
        let same = increment(&one, &one, &truth, &days, &mut random).unwrap();
        assert_eq!((same.low, same.high), (0.0, 0.0));
    }
}

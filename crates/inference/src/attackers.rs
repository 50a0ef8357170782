//! Three attackers: logistic regression, boosted trees, and a sequence model on top of the first. Their settings are fixed:
//! the attacker is a measure, and a measure is not tuned to what it measures.

/// Inverse strength of the regression's penalty (as in the reference measurements).
const PENALTY_C: f64 = 0.05;
/// Steps of its descent; what is left of the way after them changes no area in the third digit.
const STEPS: usize = 150;
/// Rounds by which the steepest direction is found.
const POWER_ROUNDS: usize = 12;
/// Trees, each with this many levels of questions.
const TREES: usize = 60;
const LEVELS: usize = 2;
/// How much of each tree counts.
const SHRINKAGE: f64 = 0.1;
/// Penalty on a leaf, and the least weight that it may have.
const LEAF_PENALTY: f64 = 5.0;
const LEAF_MIN: f64 = 2.0;
/// Into how many parts a number is divided.
const BINS: usize = 24;
/// Changes of state are counted by the quarter of the day, beginning with so many of each.
const QUARTERS: usize = 4;
const CHANGES_BEFORE: f64 = 0.5;

/// Which attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attacker {
    /// Logistic regression with balanced classes.
    Regression,
    /// Gradient-boosted trees.
    Trees,
    /// Two hidden states with changes by the quarter of the day, seen through the regression; of the past alone.
    Sequence,
}

impl Attacker {
    /// All three.
    pub const ALL: [Attacker; 3] = [Attacker::Regression, Attacker::Trees, Attacker::Sequence];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Attacker::Regression => "logistic_regression",
            Attacker::Trees => "boosted_trees",
            Attacker::Sequence => "sequence",
        }
    }
}

/// Cases to learn from or to guess: rows of as many numbers each.
#[derive(Clone, Debug, Default)]
pub struct Attack {
    /// Numbers, row by row.
    pub rows: Vec<Vec<f64>>,
    /// What is true.
    pub truth: Vec<bool>,
    /// The day of each; cases of one day follow each other in time.
    pub days: Vec<usize>,
    /// The minute of the home's day.
    pub minutes: Vec<i32>,
}

/// A guess: a score (the higher, the likelier) and a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// From 0 to 1.
    pub score: f64,
    /// Taken for true.
    pub is_true: bool,
}

impl Attack {
    /// The cases that fit.
    pub fn only(&self, fits: impl Fn(usize) -> bool) -> Attack {
        let mut part = Attack::default();
        let all = self.rows.iter().zip(&self.truth).zip(self.days.iter().zip(&self.minutes));
        for ((row, truth), (day, minute)) in all {
            if fits(*day) {
                part.rows.push(row.clone());
                part.truth.push(*truth);
                part.days.push(*day);
                part.minutes.push(*minute);
            }
        }
        part
    }

    /// How much each case counts, so that true and false ones count the same together. None when all are one.
    fn weights(&self) -> Option<Vec<f64>> {
        let yes = self.truth.iter().filter(|t| **t).count() as f64;
        let all = self.truth.len() as f64;
        let no = all - yes;
        (yes > 0.0 && no > 0.0).then(|| self.truth.iter().map(|t| all / (2.0 * if *t { yes } else { no })).collect())
    }

    /// What the three attackers, having learnt from this, guess of others. None when there is nothing to learn: all cases are
    /// true, or all false.
    pub fn guess(&self, others: &Attack) -> Option<[Vec<Guess>; 3]> {
        let weights = self.weights()?;
        let scale = Scale::of(&self.rows);
        let (known, asked) = (scale.apply(&self.rows), scale.apply(&others.rows));
        let regression = Regression::fit(&known, &self.truth, &weights);
        let trees = Trees::fit(&known, &self.truth, &weights);
        let plain = |score: f64| Guess { score, is_true: score > 0.5 };
        let by_regression: Vec<Guess> = asked.iter().map(|row| plain(logistic(regression.score(row)))).collect();
        let by_trees = asked.iter().map(|row| plain(logistic(trees.score(row)))).collect();
        let by_sequence = self.filter(others, &by_regression);
        Some([by_regression, by_trees, by_sequence])
    }

    /// The sequence model: what the regression says of each case, and how states follow each other within a day.
    fn filter(&self, others: &Attack, seen: &[Guess]) -> Vec<Guess> {
        let share = self.truth.iter().filter(|t| **t).count() as f64 / self.truth.len().max(1) as f64;
        let mut changes = [[CHANGES_BEFORE; 2]; 2 * QUARTERS];
        let pairs = self.truth.iter().zip(&self.days).zip(&self.minutes);
        let next = self.truth.iter().zip(&self.days).skip(1);
        for (((before, day), minute), (after, day_after)) in pairs.zip(next) {
            if day == day_after
                && let Some(row) = changes.get_mut(place(*before, *minute))
            {
                let [no, yes] = row;
                *(if *after { yes } else { no }) += 1.0;
            }
        }
        let mut guesses = Vec::with_capacity(seen.len());
        let mut state: Option<(usize, i32, f64)> = None;
        for ((guess, day), minute) in seen.iter().zip(&others.days).zip(&others.minutes) {
            let before = match state {
                Some((of, at, yes)) if of == *day => {
                    let stays = |before: bool| {
                        let [no, yes] = changes.get(place(before, at)).copied().unwrap_or([1.0; 2]);
                        yes / (no + yes)
                    };
                    yes * stays(true) + (1.0 - yes) * stays(false)
                }
                _ => share,
            };
            // The regression has balanced classes: its odds are the likelihoods' ratio.
            let (yes, no) = (before * guess.score.max(1e-6), (1.0 - before) * (1.0 - guess.score).max(1e-6));
            let yes = yes / (yes + no);
            state = Some((*day, *minute, yes));
            guesses.push(Guess { score: yes, is_true: yes > share });
        }
        guesses
    }
}

fn place(state: bool, minute: i32) -> usize {
    let quarter = usize::try_from(minute).unwrap_or(0) * QUARTERS / 1440;
    quarter.min(QUARTERS - 1) * 2 + usize::from(state)
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Means and deviations of the columns that differ at all.
struct Scale(Vec<(usize, f64, f64)>);

impl Scale {
    fn of(rows: &[Vec<f64>]) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let count = rows.len().max(1) as f64;
        let mut sums = vec![(0.0, 0.0); columns];
        for row in rows {
            sums.iter_mut().zip(row).for_each(|(sum, x)| sum.0 += x);
        }
        for row in rows {
            for (sum, x) in sums.iter_mut().zip(row) {
                sum.1 += (x - sum.0 / count).powi(2);
            }
        }
        let scaled = sums.iter().enumerate().map(|(at, (sum, squares))| (at, sum / count, (squares / count).sqrt()));
        Self(scaled.filter(|(_, _, deviation)| *deviation > 1e-9).collect())
    }

    fn apply(&self, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let one = |row: &Vec<f64>| {
            let scaled = self.0.iter().map(|(at, mean, deviation)| {
                let x = row.get(*at).copied().unwrap_or(*mean);
                // What was never seen before is not taken for more than it is.
                ((x - mean) / deviation).clamp(-8.0, 8.0)
            });
            scaled.collect()
        };
        rows.iter().map(one).collect()
    }
}

/// Weights and the constant.
struct Regression {
    weights: Vec<f64>,
    constant: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Regression {
    fn score(&self, row: &[f64]) -> f64 {
        dot(&self.weights, row) + self.constant
    }

    /// Accelerated descent with the step that the steepest direction allows.
    fn fit(rows: &[Vec<f64>], truth: &[bool], weights: &[f64]) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let penalty = 1.0 / PENALTY_C;
        let steepest = steepest(rows, weights, columns) / 4.0 + penalty;
        // The constant has no penalty; its own steepness is a quarter of all weights.
        let steepest = steepest + weights.iter().sum::<f64>() / 4.0;
        let ratio = (penalty / steepest).sqrt();
        let momentum = (1.0 - ratio) / (1.0 + ratio);
        let mut at = Self { weights: vec![0.0; columns], constant: 0.0 };
        let mut ahead = Self { weights: vec![0.0; columns], constant: 0.0 };
        let mut slope = vec![0.0; columns];
        for _ in 0..STEPS {
            slope.iter_mut().zip(&ahead.weights).for_each(|(g, w)| *g = penalty * w);
            let mut slope_constant = 0.0;
            for ((row, truth), weight) in rows.iter().zip(truth).zip(weights) {
                let error = weight * (logistic(ahead.score(row)) - f64::from(u8::from(*truth)));
                slope.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
                slope_constant += error;
            }
            for ((old, ahead), g) in at.weights.iter_mut().zip(&mut ahead.weights).zip(&slope) {
                let new = *ahead - g / steepest;
                *ahead = new + momentum * (new - *old);
                *old = new;
            }
            let new = ahead.constant - slope_constant / steepest;
            ahead.constant = new + momentum * (new - at.constant);
            at.constant = new;
        }
        at
    }
}

/// The largest eigenvalue of the weighted squares.
fn steepest(rows: &[Vec<f64>], weights: &[f64], columns: usize) -> f64 {
    let mut direction = vec![1.0 / (columns.max(1) as f64).sqrt(); columns];
    let mut largest = 0.0;
    for _ in 0..POWER_ROUNDS {
        let mut next = vec![0.0; columns];
        for (row, weight) in rows.iter().zip(weights) {
            let along = weight * dot(row, &direction);
            next.iter_mut().zip(row).for_each(|(n, x)| *n += along * x);
        }
        largest = dot(&next, &next).sqrt();
        if largest <= 0.0 {
            return 0.0;
        }
        direction = next.iter().map(|n| n / largest).collect();
    }
    // A little more than what was found: the power rounds come from below.
    largest * 1.1
}

/// A tree: at each inner node a column and the highest bin that goes left; at each leaf what it adds.
struct Tree {
    questions: Vec<(usize, usize)>,
    leaves: Vec<f64>,
}

struct Trees {
    /// Upper ends of the bins of each column.
    ends: Vec<Vec<f64>>,
    trees: Vec<Tree>,
}

/// Gradient and curvature.
type Pull = (f64, f64);

fn gain((g, h): Pull) -> f64 {
    g * g / (h + LEAF_PENALTY)
}

impl Trees {
    fn score(&self, row: &[f64]) -> f64 {
        let bins: Vec<usize> = row.iter().zip(&self.ends).map(|(x, ends)| bin(*x, ends)).collect();
        let leaf = |tree: &Tree| {
            let mut node = 0;
            for _ in 0..LEVELS {
                let (column, highest) = tree.questions.get(node).copied().unwrap_or((0, BINS));
                node = 2 * node + 1 + usize::from(bins.get(column).copied().unwrap_or(0) > highest);
            }
            tree.leaves.get(node + 1 - (1 << LEVELS)).copied().unwrap_or(0.0)
        };
        self.trees.iter().map(leaf).sum()
    }

    fn fit(rows: &[Vec<f64>], truth: &[bool], weights: &[f64]) -> Self {
        let columns = rows.first().map_or(0, Vec::len);
        let ends: Vec<Vec<f64>> = (0..columns).map(|c| ends(rows, c)).collect();
        // By column: one column is gone through at a time.
        let codes: Vec<Vec<u8>> = ends
            .iter()
            .enumerate()
            .map(|(c, ends)| {
                let of = |row: &Vec<f64>| bin(row.get(c).copied().unwrap_or(0.0), ends);
                rows.iter().map(|row| u8::try_from(of(row)).unwrap_or(u8::MAX)).collect()
            })
            .collect();
        let mut scores = vec![0.0; rows.len()];
        let mut trees = Vec::with_capacity(TREES);
        for _ in 0..TREES {
            let pulls: Vec<Pull> = scores
                .iter()
                .zip(truth)
                .zip(weights)
                .map(|((score, truth), weight)| {
                    let p = logistic(*score);
                    (weight * (p - f64::from(u8::from(*truth))), weight * p * (1.0 - p))
                })
                .collect();
            let (tree, places) = grow(&codes, &pulls);
            for (score, place) in scores.iter_mut().zip(places) {
                *score += tree.leaves.get(place).copied().unwrap_or(0.0);
            }
            trees.push(tree);
        }
        Self { ends, trees }
    }
}

/// Ends of bins with about as many values in each.
fn ends(rows: &[Vec<f64>], column: usize) -> Vec<f64> {
    let mut values: Vec<f64> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values.get(part * values.len() / BINS).copied();
    let mut ends: Vec<f64> = (1..BINS).filter_map(at).collect();
    ends.dedup();
    ends
}

fn bin(x: f64, ends: &[f64]) -> usize {
    ends.partition_point(|end| *end < x)
}

/// Grows one tree, and says on which leaf each case comes to lie.
fn grow(codes: &[Vec<u8>], pulls: &[Pull]) -> (Tree, Vec<usize>) {
    let mut places = vec![0usize; pulls.len()];
    let mut questions = Vec::new();
    for level in 0..LEVELS {
        let nodes = 1usize << level;
        let mut best = vec![(0.0, (0usize, BINS)); nodes];
        for (column, codes) in codes.iter().enumerate() {
            let mut sums = vec![(0.0, 0.0); nodes * BINS];
            for ((code, place), pull) in codes.iter().zip(&places).zip(pulls) {
                if let Some(sum) = sums.get_mut(place * BINS + usize::from(*code)) {
                    sum.0 += pull.0;
                    sum.1 += pull.1;
                }
            }
            for (best, sums) in best.iter_mut().zip(sums.chunks(BINS)) {
                let all = sums.iter().fold((0.0, 0.0), |a: Pull, b| (a.0 + b.0, a.1 + b.1));
                let mut left = (0.0, 0.0);
                for (highest, sum) in sums.iter().enumerate() {
                    left = (left.0 + sum.0, left.1 + sum.1);
                    let right = (all.0 - left.0, all.1 - left.1);
                    if left.1 < LEAF_MIN || right.1 < LEAF_MIN {
                        continue;
                    }
                    let won = gain(left) + gain(right) - gain(all);
                    if won > best.0 {
                        *best = (won, (column, highest));
                    }
                }
            }
        }
        for (at, place) in places.iter_mut().enumerate() {
            let (column, highest) = best.get(*place).map_or((0, BINS), |b| b.1);
            let code = codes.get(column).and_then(|c| c.get(at)).copied().unwrap_or(0);
            *place = 2 * *place + usize::from(usize::from(code) > highest);
        }
        questions.extend(best.into_iter().map(|(_, question)| question));
    }
    let mut sums = [(0.0, 0.0); 1 << LEVELS];
    for (place, pull) in places.iter().zip(pulls) {
        if let Some(sum) = sums.get_mut(*place) {
            sum.0 += pull.0;
            sum.1 += pull.1;
        }
    }
    let leaves = sums.iter().map(|(g, h)| -SHRINKAGE * g / (h + LEAF_PENALTY)).collect();
    (Tree { questions, leaves }, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::score::auc;

    /// Cases of 24 days, of which the numbers tell as much as `of` says.
    fn cases(seed: u64, of: impl Fn(bool, f64, f64) -> Vec<f64>) -> Attack {
        let mut random = Random::new(seed);
        let mut all = Attack::default();
        for day in 0..24 {
            for quarter in 0..40 {
                let truth = random.below(3) == 0;
                let mut noise = || random.below(2000) as f64 / 1000.0 - 1.0;
                all.rows.push(of(truth, noise(), noise()));
                all.truth.push(truth);
                all.days.push(day);
                all.minutes.push(quarter * 15);
            }
        }
        all
    }

    fn areas(all: &Attack) -> [f64; 3] {
        let (known, asked) = (all.only(|day| day % 2 == 0), all.only(|day| day % 2 == 1));
        known.guess(&asked).unwrap().map(|guesses| {
            let scores: Vec<f64> = guesses.iter().map(|g| g.score).collect();
            auc(&scores, &asked.truth).unwrap()
        })
    }

    #[test]
    fn what_tells_all_is_found_by_each_and_what_tells_nothing_by_none() {
        let all = areas(&cases(1, |truth, a, b| vec![if truth { 2.0 } else { -2.0 } + a, b]));
        assert!(all.iter().all(|area| *area > 0.999), "{all:?}");
        let none = areas(&cases(2, |_, a, b| vec![a, b, 0.0]));
        assert!(none.iter().all(|area| (0.42..0.58).contains(area)), "{none:?}");
        let one_sort = Attack { truth: vec![true; 3], rows: vec![vec![1.0]; 3], days: vec![0; 3], minutes: vec![0; 3] };
        assert!(one_sort.guess(&one_sort).is_none());
    }

    #[test]
    fn the_regression_is_the_known_one_and_the_trees_find_what_it_can_not() {
        // Two points of one weight each: w solves w / C = 2 (1 - s(w)), with C = 0.05, so w = 0.0953.
        let fit = Regression::fit(&[vec![1.0], vec![-1.0]], &[true, false], &[1.0, 1.0]);
        let wanted = 2.0 * PENALTY_C * (1.0 - logistic(fit.weights[0]));
        assert!((fit.weights[0] - wanted).abs() < 1e-9 && fit.constant.abs() < 1e-9, "{}", fit.weights[0]);
        // True where the two numbers have one sign: no straight line tells that.
        let cross = cases(3, |truth, a, b| vec![a, if truth { b.abs() * a.signum() } else { -b.abs() * a.signum() }]);
        let [regression, trees, _] = areas(&cross);
        assert!(regression < 0.65 && trees > 0.9, "{regression} {trees}");
    }

    #[test]
    fn the_sequence_model_knows_that_things_stay_as_they_are() {
        // Away from 10 to 14 h on each second day; each case alone tells little.
        let mut all = cases(4, |_, a, b| vec![a, b]);
        let mut random = Random::new(5);
        for ((row, truth), (day, minute)) in
            all.rows.iter_mut().zip(&mut all.truth).zip(all.days.iter().zip(&all.minutes))
        {
            *truth = day / 2 % 2 == 0 && (150..450).contains(minute);
            row[0] = f64::from(u8::from(*truth)) + random.below(4000) as f64 / 1000.0;
        }
        let [regression, _, sequence] = areas(&all);
        assert!(sequence > regression + 0.05, "{regression} {sequence}");
    }
}

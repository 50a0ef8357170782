//! One home, and what each policy gives away of it.

use crate::attackers::{Attack, Attacker, Guess};
use crate::features::{Features, Seen};
use crate::information::{Information, information};
use crate::random::Random;
use crate::score::{Increment, auc, balanced_accuracy, increment};
use crate::truth::{Local, Samples, Target, Truth};

/// Into how many parts the days are divided: from all others is learnt what is guessed of one.
const PARTS: usize = 6;

/// Windows of a day in which messages are counted, and how long one is.
const WINDOWS: usize = 96;
const WINDOW_MS: i64 = 15 * 60_000;

/// Sizes of messages are told apart by so many bytes, as on the wire without padding.
const SIZE_BYTES: u64 = 64;

/// A home with its truth.
pub struct Study<'a> {
    /// The first and the last moment, in milliseconds.
    pub span: (i64, i64),
    /// What was.
    pub truth: &'a Truth,
    /// The home's clock.
    pub local: &'a dyn Fn(i64) -> Local,
    /// For what is drawn.
    pub seed: u64,
}

/// What was found about one target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// By the attacker that does best with what was told.
    pub auc: f64,
    /// Which it is.
    pub attacker: Attacker,
    /// Its share of right verdicts, true and false ones counting the same.
    pub balanced_accuracy: f64,
    /// By the attacker that does best with the prior alone.
    pub prior_auc: f64,
    /// How far the difference may be chance.
    pub increment: Increment,
    /// Cases asked for, and how many of them are true.
    pub cases: (usize, usize),
}

/// What one policy gives away.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    /// By target; none where a home has only days of one sort.
    pub targets: Vec<(Target, Option<Found>)>,
    /// What the number of messages in a quarter of an hour tells of whether nobody is at home.
    pub count: Information,
    /// What the time of the first of them does.
    pub times: Information,
    /// What their bytes do.
    pub sizes: Information,
}

/// What is given away by what was seen. With another home, the attackers learn there, from what a partner under the same
/// policy saw of it, and know nothing of this one beforehand.
pub fn leaks(study: &Study<'_>, seen: &Seen, elsewhere: Option<(&Study<'_>, &Seen)>) -> Leak {
    let target = |target: Target| {
        let samples = study.truth.samples(target, study.span, study.local);
        let full = seen.features(&samples.times, study.local);
        let prior = seen.prior(&samples.times, study.local);
        let found = match elsewhere {
            None => {
                let of = |features: Features| best(&samples, &within(&case(&samples, features.rows)));
                compare(&samples, of(full), of(prior), study.seed)
            }
            Some((there, seen_there)) => {
                let known = there.truth.samples(target, there.span, there.local);
                let full_there = seen_there.features(&known.times, there.local);
                let prior_there = seen_there.prior(&known.times, there.local);
                let of = |here: &Features, there: Features| {
                    // What both homes have, in the order of this one.
                    let shared: Vec<String> =
                        here.names.iter().filter(|name| there.names.contains(name)).cloned().collect();
                    let learnt = case(&known, there.pick(&shared).rows);
                    best(&samples, &learnt.guess(&case(&samples, here.pick(&shared).rows)))
                };
                compare(&samples, of(&full, full_there), of(&prior, prior_there), study.seed)
            }
        };
        (target, found)
    };
    let (count, times, sizes) = messages(study, seen);
    Leak { targets: Target::ALL.map(target).into(), count, times, sizes }
}

fn case(samples: &Samples, rows: Vec<Vec<f64>>) -> Attack {
    Attack { rows, truth: samples.truth.clone(), days: samples.days.clone(), minutes: samples.minutes.clone() }
}

/// Guesses of each day, learnt from the days of the other parts.
fn within(all: &Attack) -> Option<[Vec<Guess>; 3]> {
    let none = Guess { score: 0.5, is_true: false };
    let mut guesses = [(); 3].map(|()| vec![none; all.truth.len()]);
    for part in 0..PARTS {
        let is_asked = |day: usize| day % PARTS == part;
        let asked = all.only(is_asked);
        if asked.truth.is_empty() {
            continue;
        }
        let places = all.days.iter().enumerate().filter(|(_, day)| is_asked(**day)).map(|(at, _)| at);
        let found = all.only(|day| !is_asked(day)).guess(&asked)?;
        let places: Vec<usize> = places.collect();
        for (all, found) in guesses.iter_mut().zip(found) {
            for (place, guess) in places.iter().zip(found) {
                all.iter_mut().skip(*place).take(1).for_each(|g| *g = guess);
            }
        }
    }
    Some(guesses)
}

type Best = (Attacker, f64, Vec<Guess>);

/// Messages of a quarter of an hour.
#[derive(Clone, Copy, Default)]
struct Window {
    is_recorded: bool,
    is_empty: bool,
    count: u64,
    /// Minute of the first message, from 1; 0 without any.
    first: u64,
    bytes: u64,
}

fn best(samples: &Samples, guesses: &Option<[Vec<Guess>; 3]>) -> Option<Best> {
    let mut best: Option<Best> = None;
    for (attacker, guesses) in Attacker::ALL.into_iter().zip(guesses.as_ref()?) {
        let scores: Vec<f64> = guesses.iter().map(|g| g.score).collect();
        let area = auc(&scores, &samples.truth)?;
        if best.as_ref().is_none_or(|b| area > b.1) {
            best = Some((attacker, area, guesses.clone()));
        }
    }
    best
}

fn compare(samples: &Samples, told: Option<Best>, prior: Option<Best>, seed: u64) -> Option<Found> {
    let ((attacker, area, told), (_, prior_auc, prior)) = (told?, prior?);
    let scores = |guesses: &[Guess]| guesses.iter().map(|g| g.score).collect::<Vec<f64>>();
    let verdicts: Vec<bool> = told.iter().map(|g| g.is_true).collect();
    let mut random = Random::new(seed);
    Some(Found {
        auc: area,
        attacker,
        balanced_accuracy: balanced_accuracy(&verdicts, &samples.truth)?,
        prior_auc,
        increment: increment(&scores(&told), &scores(&prior), &samples.truth, &samples.days, &mut random)?,
        cases: (samples.truth.len(), samples.truth.iter().filter(|t| **t).count()),
    })
}

/// What the messages tell by being there, whatever is in them: number, first time and bytes in each quarter of an hour.
fn messages(study: &Study<'_>, seen: &Seen) -> (Information, Information, Information) {
    let first = (study.local)(study.span.0).day;
    let mut days: Vec<Vec<Window>> = Vec::new();
    let mut messages = seen.messages.iter().peekable();
    let mut at = study.span.0.div_euclid(WINDOW_MS) * WINDOW_MS;
    while at < study.span.1 {
        let now = (study.local)(at);
        let day = usize::try_from(now.day - first).unwrap_or(0);
        while days.len() <= day {
            days.push(vec![Window::default(); WINDOWS]);
        }
        let mut window = Window { is_recorded: study.truth.is_recorded_at(at), ..Window::default() };
        window.is_empty = study.truth.is_empty_at(at);
        while let Some((sent, size)) = messages.next_if(|(sent, _)| *sent < at + WINDOW_MS) {
            if window.count == 0 {
                window.first = 1 + u64::try_from((sent - at).max(0) / 60_000).unwrap_or(0);
            }
            window.count += 1;
            window.bytes += u64::from(*size);
        }
        let slot = usize::try_from(now.minute / 15).unwrap_or(0);
        if let Some(place) = days.get_mut(day).and_then(|d| d.get_mut(slot)) {
            *place = window;
        }
        at += WINDOW_MS;
    }
    // Whole days alone can change places with each other.
    days.retain(|day| day.iter().all(|window| window.is_recorded));
    let truth: Vec<Vec<bool>> = days.iter().map(|day| day.iter().map(|window| window.is_empty).collect()).collect();
    let mut random = Random::new(study.seed);
    let mut told = |of: fn(&Window) -> u64| {
        let symbol = |window: &Window| u32::try_from(of(window)).unwrap_or(u32::MAX);
        let seen: Vec<Vec<u32>> = days.iter().map(|day| day.iter().map(symbol).collect()).collect();
        information(&seen, &truth, &mut random)
    };
    (told(|w| w.count), told(|w| w.first), told(|w| w.bytes / SIZE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Series;
    use crate::truth::nobody_home;

    const HOUR: i64 = 3_600_000;
    const DAYS: i64 = 24;

    fn local(at: i64) -> Local {
        let day = at.div_euclid(24 * HOUR);
        Local { day, minute: (at.rem_euclid(24 * HOUR) / 60_000) as i32, weekend: day % 7 > 4 }
    }

    /// A home that is left each day at another hour, and for the last four days altogether.
    fn truth() -> Truth {
        let mut random = Random::new(9);
        let mut active = Vec::new();
        for day in 0..DAYS - 4 {
            let left = 8 + random.below(9) as i64;
            for hour in (7..22).filter(|hour| !(left..left + 4).contains(hour)) {
                for part in 0..4 {
                    let at = (day * 24 + hour) * HOUR + part * HOUR / 4;
                    active.push((at, at + 60_000));
                }
            }
        }
        let span = (0, DAYS * 24 * HOUR);
        Truth { empty: nobody_home(&active, span, &local), active, recorded: vec![span] }
    }

    fn seen(of: impl Fn(i64) -> f64) -> Seen {
        let span = (0, DAYS * 24 * HOUR);
        let times = (0..DAYS * 288).map(|step| step * 300_000);
        let points: Vec<(i64, f64)> = times.map(|t| (t, of(t))).collect();
        let messages = points.iter().map(|(t, _)| (*t, 400)).collect();
        let series = Series { device: "t".into(), property: "temperature".into(), is_binary: false, points };
        Seen { span, series: vec![series], messages, commands: Vec::new() }
    }

    #[test]
    fn what_follows_absence_tells_it_what_does_not_tells_nothing_and_each_run_is_the_same() {
        let truth = truth();
        let study = Study { span: (0, DAYS * 24 * HOUR), truth: &truth, local: &local, seed: 1 };
        let follows = seen(|t| if truth.is_empty_at(t) { 17.0 } else { 21.0 });
        let leak = leaks(&study, &follows, None);
        for (target, found) in &leak.targets[..2] {
            let found = found.unwrap();
            assert!(found.auc > 0.97 && found.increment.low > 0.05, "{target:?} {found:?}");
            assert!(found.balanced_accuracy > 0.9, "{found:?}");
        }
        assert!(leak.count.bits < 1e-9 && leak.times.bits < 1e-9, "messages on a grid tell nothing: {leak:?}");
        assert_eq!(leaks(&study, &follows, None), leak);

        let constant = leaks(&study, &seen(|_| 20.0), None);
        for (target, found) in &constant.targets {
            let Increment { low, high } = found.unwrap().increment;
            assert!(low <= 0.0 && high >= 0.0 && high - low < 0.1, "{target:?} {found:?}");
        }

        // Learnt in another home: what they have both is what counts.
        let there = Study { seed: 2, ..study };
        let found = leaks(&study, &follows, Some((&there, &follows))).targets[0].1.unwrap();
        assert!(found.auc > 0.97, "{found:?}");
    }

    #[test]
    fn a_message_that_is_sent_when_somebody_is_there_tells_by_being_sent() {
        let truth = truth();
        let study = Study { span: (0, DAYS * 24 * HOUR), truth: &truth, local: &local, seed: 1 };
        let mut on_change = seen(|_| 20.0);
        on_change.messages = truth.active.iter().map(|(start, _)| (*start, 400)).collect();
        let leak = leaks(&study, &on_change, None);
        assert!(leak.count.bits > 0.1 && leak.count.bits > 2.0 * leak.count.chance, "{leak:?}");
        let now = leak.targets[0].1.unwrap();
        assert!(now.increment.low > 0.05, "{now:?}");
    }
}

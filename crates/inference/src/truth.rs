//! What is to be guessed: whether nobody is at home now, whether all are away for days, when a home wakes and sleeps.

/// An absence lasts at least this long, in milliseconds: 90 minutes without a sign of life that begin by day.
pub const EMPTY_MIN_MS: i64 = 90 * 60_000;

/// What begins at night is sleep, unless it lasts this long.
const EMPTY_NIGHT_MIN_MS: i64 = 14 * HOUR_MS;

/// The day, for that: from 6 to 21 o'clock.
const DAY_HOURS: std::ops::Range<i32> = 6..21;

/// When nobody at home is asked for, every quarter of an hour: from 7 to 22 o'clock.
const WAKING_MINUTES: std::ops::Range<i32> = 7 * 60..22 * 60;

/// Between two questions about now.
const NOW_EVERY_MS: i64 = 15 * 60_000;

/// Between two questions about the rhythm.
const RHYTHM_EVERY_MS: i64 = 30 * 60_000;

/// Somebody is up who gave a sign of life this recently.
const ACTIVE_MS: i64 = 15 * 60_000;

/// When it is asked whether all are away for days: at this minute of each day.
const DAY_ASKED_MINUTE: i32 = 23 * 60 + 45;

/// Away for days: an absence of this length that covers the waking hours of the day but for one.
const DAYS_MIN_MS: i64 = 24 * HOUR_MS;
const DAY_EMPTY_MIN_MS: i64 = 14 * HOUR_MS;

const HOUR_MS: i64 = 3_600_000;

/// A moment as the home's clock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Which day, counted from any.
    pub day: i64,
    /// Minute of the day.
    pub minute: i32,
    /// Saturday or Sunday.
    pub weekend: bool,
}

/// What is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Nobody is at home now (asked from 7 to 22 o'clock).
    NobodyHomeNow,
    /// Nobody is at home on this day, and has not been, or will not be, for a day at least.
    AwayForDays,
    /// Somebody is up and about now (asked day and night).
    DailyRhythm,
}

impl Target {
    /// All.
    pub const ALL: [Target; 3] = [Target::NobodyHomeNow, Target::AwayForDays, Target::DailyRhythm];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Target::NobodyHomeNow => "nobody_home_now",
            Target::AwayForDays => "away_for_days",
            Target::DailyRhythm => "daily_rhythm",
        }
    }
}

/// What was, in milliseconds since the epoch; each list in order, without overlaps.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Signs of life.
    pub active: Vec<(i64, i64)>,
    /// Nobody at home.
    pub empty: Vec<(i64, i64)>,
    /// What was recorded; of other times nothing is asked.
    pub recorded: Vec<(i64, i64)>,
}

/// Moments at which a target is asked for, and what is true then.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// When.
    pub times: Vec<i64>,
    /// What is true.
    pub truth: Vec<bool>,
    /// The home's day of each.
    pub days: Vec<usize>,
    /// The home's minute of each.
    pub minutes: Vec<i32>,
}

/// When nobody was at home, by the signs of life alone: [`EMPTY_MIN_MS`] without any that begin by day, or half a day and more
/// that begin at night.
pub fn nobody_home(active: &[(i64, i64)], (from, to): (i64, i64), local: &dyn Fn(i64) -> Local) -> Vec<(i64, i64)> {
    let ends = std::iter::once(from).chain(active.iter().map(|(_, end)| *end));
    let starts = active.iter().map(|(start, _)| *start).chain([to]);
    let is_empty = |(start, end): &(i64, i64)| {
        let by_day = DAY_HOURS.contains(&(local(*start).minute / 60));
        end - start >= if by_day { EMPTY_MIN_MS } else { EMPTY_NIGHT_MIN_MS }
    };
    ends.zip(starts).filter(is_empty).collect()
}

fn covers(spans: &[(i64, i64)], at: i64) -> bool {
    let after = spans.partition_point(|(start, _)| *start <= at);
    after.checked_sub(1).and_then(|i| spans.get(i)).is_some_and(|(_, end)| at < *end)
}

fn overlap((a, b): (i64, i64), (c, d): (i64, i64)) -> i64 {
    (b.min(d) - a.max(c)).max(0)
}

impl Truth {
    /// Whether nobody is at home.
    pub fn is_empty_at(&self, at: i64) -> bool {
        covers(&self.empty, at)
    }

    /// Whether this moment was recorded.
    pub fn is_recorded_at(&self, at: i64) -> bool {
        covers(&self.recorded, at)
    }

    /// The moments at which a target is asked for.
    pub fn samples(&self, target: Target, (from, to): (i64, i64), local: &dyn Fn(i64) -> Local) -> Samples {
        let every = if target == Target::DailyRhythm { RHYTHM_EVERY_MS } else { NOW_EVERY_MS };
        let first = local(from).day;
        let mut samples = Samples::default();
        let mut at = from.div_euclid(every) * every;
        while at < to {
            let now = local(at);
            let truth = match target {
                Target::NobodyHomeNow => WAKING_MINUTES.contains(&now.minute).then(|| self.is_empty_at(at)),
                Target::DailyRhythm => Some(self.is_active(at)),
                Target::AwayForDays => (now.minute == DAY_ASKED_MINUTE).then(|| self.is_away_on(at)),
            };
            if let Some(truth) = truth
                && at >= from
                && self.is_recorded_at(at)
            {
                samples.times.push(at);
                samples.truth.push(truth);
                samples.days.push(usize::try_from(now.day - first).unwrap_or(0));
                samples.minutes.push(now.minute);
            }
            at += every;
        }
        samples
    }

    fn is_active(&self, at: i64) -> bool {
        let until = self.active.partition_point(|(start, _)| *start <= at);
        let last = until.checked_sub(1).and_then(|i| self.active.get(i));
        last.is_some_and(|(_, end)| *end > at - ACTIVE_MS)
    }

    /// `at` is late in the day.
    fn is_away_on(&self, at: i64) -> bool {
        let minutes = |m: i32| i64::from(m - DAY_ASKED_MINUTE) * 60_000;
        let waking = (at + minutes(WAKING_MINUTES.start), at + minutes(WAKING_MINUTES.end));
        let long = self.empty.iter().filter(|(start, end)| end - start >= DAYS_MIN_MS);
        long.map(|span| overlap(*span, waking)).sum::<i64>() >= DAY_EMPTY_MIN_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(at: i64) -> Local {
        let day = at.div_euclid(24 * HOUR_MS);
        Local { day, minute: (at.rem_euclid(24 * HOUR_MS) / 60_000) as i32, weekend: day % 7 > 4 }
    }

    #[test]
    fn an_absence_is_a_long_silence_that_is_no_sleep() {
        let h = |hours: f64| (hours * HOUR_MS as f64) as i64;
        // Up from 7 to 9, back from 17 to 22, asleep; the next day nothing but at 7, and then not for three days.
        let active = [(h(7.0), h(9.0)), (h(10.0), h(10.1)), (h(17.0), h(22.0)), (h(31.0), h(31.5))];
        let span = (0, h(120.0));
        let truth = Truth { empty: nobody_home(&active, span, &local), active: active.into(), recorded: vec![span] };
        assert_eq!(truth.empty, [(h(10.1), h(17.0)), (h(31.5), h(120.0))]);
        let now = truth.samples(Target::NobodyHomeNow, span, &local);
        assert_eq!((now.times.len(), now.truth.iter().filter(|t| **t).count()), (5 * 60, 27 + 58 + 3 * 60));
        let away = truth.samples(Target::AwayForDays, span, &local);
        assert_eq!(away.truth, [false, true, true, true, true]);
        let up = truth.samples(Target::DailyRhythm, span, &local);
        assert_eq!(up.times.len(), 5 * 48);
        assert_eq!(up.truth.iter().filter(|t| **t).count(), 5 + 1 + 11 + 2);
    }
}

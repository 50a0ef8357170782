//! What follows from the readings of a property at each full quarter of an hour, hour and day: means and counts of windows that
//! have closed, what was shown an hour ago, what stays put near the border of two steps.
//!
//! All of it is a function of the readings and the home's clock, whoever asks and however often; each rung of those from which it
//! follows ([`Rung::gives`](model::Rung::gives)).

use model::{Property, Rung, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::state::Sample;

const QUARTER_MS: i64 = 15 * 60_000;
/// The last ticks at or before a moment, and those before them. Each day begins with an hour and each hour with a quarter of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Of the quarters of an hour.
    pub quarter: Timestamp,
    /// Of the full hours.
    pub hour: Timestamp,
    /// The full hour before that.
    pub hour_before: Timestamp,
    /// The full hour after it: where clocks are set by half an hour, it comes half an hour sooner or later.
    pub hour_end: Timestamp,
    /// Of the midnights.
    pub day: Timestamp,
    /// The midnight before that.
    pub day_before: Timestamp,
}

impl Moments {
    /// All of them at one time: for a reading of which nothing is to be added up.
    pub fn of_one(time: Timestamp) -> Self {
        Self { quarter: time, hour: time, hour_before: time, hour_end: time, day: time, day_before: time }
    }
}

/// The clock on the home's wall.
#[derive(Clone, Copy)]
pub struct Wall<'a> {
    /// Its ticks about a moment.
    pub moments: &'a dyn Fn(Timestamp) -> Moments,
    /// When nobody looked (the hub did not run, or its time leapt), from and to: of a day that has such a gap nothing is counted. That a
    /// device is silent is none.
    pub unseen: &'a [(Timestamp, Timestamp)],
}

impl Wall<'static> {
    /// None at all: for readings of which nothing is to be added up.
    pub const NONE: Self = Self { moments: &Moments::of_one, unseen: &[] };
}

/// A sum over a window that is open, and of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sum(i64, u32);

impl Sum {
    fn add(&mut self, number: i64, times: i64) {
        let times = times.clamp(0, i64::from(u32::MAX));
        self.0 = self.0.saturating_add(number.saturating_mul(times));
        self.1 = self.1.saturating_add(times as u32);
    }

    /// Half away from zero.
    fn mean(self) -> Option<i64> {
        let (sum, times) = (i128::from(self.0), i128::from(self.1));
        let half = if sum < 0 { -times } else { times };
        let mean = (sum * 2 + half).checked_div(times * 2)?;
        i64::try_from(mean).ok()
    }
}

/// Full quarters of an hour after one moment, up to another.
fn quarters(from: Timestamp, to: Timestamp) -> i64 {
    to.as_millis().saturating_sub(from.as_millis()) / QUARTER_MS
}

/// What follows from the readings of one property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Derived {
    /// The last quarter of an hour that was taken in.
    quarter: Timestamp,
    /// The beginnings of the hour and the day that are open, which are the ends of those that closed last.
    hour: Timestamp,
    day: Timestamp,
    /// Over the quarters of this hour, and over the means of this day's hours.
    hour_sum: Sum,
    day_sum: Sum,
    /// How often it began this day.
    begun: u32,
    /// What it was at the full hour, and at the one before; none before the first reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_hour: Option<Sample>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    late: Option<Sample>,
    steady: Sample,
    /// The first reading is from before this day.
    whole_day: bool,
    /// Of the last hour and the last day that closed, if anything was known in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hour_mean: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day_mean: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day_count: Option<u32>,
}

impl Derived {
    /// Begins with the first reading: of what was before it nothing is known.
    pub(crate) fn new(property: Property, first: &Sample, at: Moments) -> Self {
        Self::begin(Sample { value: property.coarse(&first.value), time: first.time }, at)
    }

    /// Windows of which nothing is known yet.
    fn begin(steady: Sample, at: Moments) -> Self {
        Self {
            quarter: at.quarter,
            hour: at.hour,
            day: at.day,
            hour_sum: Sum::default(),
            day_sum: Sum::default(),
            begun: 0,
            at_hour: None,
            late: None,
            steady,
            whole_day: false,
            hour_mean: None,
            day_mean: None,
            day_count: None,
        }
    }

    /// How far it has come.
    pub(crate) fn quarter(&self) -> Timestamp {
        self.quarter
    }

    /// Another reading has come, in the quarter of an hour that was taken in last.
    pub(crate) fn change(&mut self, from: &Value, to: &Value) {
        if from.is_begun() == Some(false) && to.is_begun() == Some(true) {
            self.begun = self.begun.saturating_add(1);
        }
    }

    /// Goes on to a moment, hour by hour. `value` is the newest, which was true at every tick that has come since. Where the ticks do not
    /// follow one another, since the home is in another time zone, the windows begin anew.
    pub(crate) fn go_on(&mut self, property: Property, value: &Value, now: Timestamp, wall: &Wall<'_>) {
        let at = (wall.moments)(now);
        // A clock that steps back changes nothing.
        if at.quarter <= self.quarter {
            return;
        }
        let number = value.number().filter(|_| property.has_mean());
        if at.day_before > self.day {
            self.skip(property, value, &(wall.moments)(at.day_before));
        }
        while self.hour < at.hour {
            let next = (wall.moments)(self.hour).hour_end;
            let opens = (wall.moments)(next);
            let is_same_day = opens.day == self.day;
            let follows = next > self.hour && (opens.hour, opens.hour_before) == (next, self.hour);
            if !follows || !(is_same_day || (opens.day, opens.day_before) == (next, self.day)) {
                break;
            }
            number.inspect(|n| self.hour_sum.add(*n, quarters(self.quarter, next) - 1));
            self.hour_mean = self.hour_sum.mean();
            self.hour_mean.inspect(|mean| self.day_sum.add(*mean, 1));
            if !is_same_day {
                self.close_day(next, wall);
            }
            let sample = Sample { value: value.clone(), time: next };
            self.late = self.at_hour.replace(sample);
            self.steady = Sample { value: property.steady(&self.steady.value, value), time: next };
            (self.hour, self.quarter, self.hour_sum) = (next, next, Sum::default());
            number.inspect(|n| self.hour_sum.add(*n, 1));
        }
        if (self.hour, self.day) == (at.hour, at.day) {
            number.inspect(|n| self.hour_sum.add(*n, quarters(self.quarter, at.quarter)));
            self.quarter = at.quarter;
        } else {
            *self = Self::begin(self.steady.clone(), at);
        }
    }

    /// The day that was open ends.
    fn close_day(&mut self, end: Timestamp, wall: &Wall<'_>) {
        let is_seen = self.whole_day && !wall.unseen.iter().any(|(from, to)| *from < end && *to > self.day);
        self.day_count = is_seen.then_some(self.begun);
        self.day_mean = self.day_sum.mean();
        (self.day, self.begun, self.whole_day, self.day_sum) = (end, 0, true, Sum::default());
    }

    /// Leaves out hours of one value, up to the beginning of a day; what is told of the hours and the day before it is told of later ones
    /// by the time that a whole day has followed.
    fn skip(&mut self, property: Property, value: &Value, at: &Moments) {
        let steady = Sample { value: property.steady(&self.steady.value, value), time: at.hour };
        *self = Self { whole_day: true, ..Self::begin(steady, *at) };
        self.at_hour = Some(Sample { value: value.clone(), time: at.hour });
        value.number().filter(|_| property.has_mean()).inspect(|n| self.hour_sum.add(*n, 1));
    }

    /// What a rung shows; none of a rung that is no such thing, and before the first window has closed (of a count, the first
    /// whole day). `like` is a value of the property. The time is the end of the window; of what is late, the full hour at which
    /// it was so.
    pub(crate) fn sample(&self, property: Property, rung: Rung, like: &Value) -> Option<Sample> {
        match rung {
            Rung::HourLate => self.late.clone(),
            Rung::HourSteady => Some(self.steady.clone()),
            Rung::HourMean => self.hour_mean.map(|n| Sample { value: like.with_number(n), time: self.hour }),
            Rung::DayMean => {
                let value = |n| property.coarse(&like.with_number(n));
                self.day_mean.map(|n| Sample { value: value(n), time: self.day })
            }
            Rung::DayCount => self.day_count.map(|n| Sample { value: Value::Count(n), time: self.day }),
            Rung::Live
            | Rung::QuarterHour
            | Rung::Hour
            | Rung::HourCoarse
            | Rung::QuarterDayCoarse
            | Rung::DayCoarse => None,
        }
    }
}

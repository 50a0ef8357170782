//! What follows from the readings of a property at each full quarter of an hour, hour and day: means and counts of windows that
//! have closed, what was shown an hour ago, what stays put near the border of two steps.
//!
//! All of it is a function of the readings and the home's clock, whoever asks and however often; each rung of those from which it
//! follows ([`Rung::gives`](model::Rung::gives)).

use model::{Property, Rung, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::state::Sample;

const QUARTER_MS: i64 = 15 * 60_000;
const HOUR_MS: i64 = 3_600_000;

/// The last ticks at or before a moment, and those before them. Each day begins with an hour and each hour with a quarter of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Of the quarters of an hour.
    pub quarter: Timestamp,
    /// Of the full hours.
    pub hour: Timestamp,
    /// The full hour before that.
    pub hour_before: Timestamp,
    /// Of the midnights.
    pub day: Timestamp,
    /// The midnight before that.
    pub day_before: Timestamp,
}

impl Moments {
    /// All of them at one time: for a reading of which nothing is to be added up.
    pub fn of_one(time: Timestamp) -> Self {
        Self { quarter: time, hour: time, hour_before: time, day: time, day_before: time }
    }
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
        Self {
            quarter: at.quarter,
            hour: at.hour,
            day: at.day,
            hour_sum: Sum::default(),
            day_sum: Sum::default(),
            begun: 0,
            at_hour: None,
            late: None,
            steady: Sample { value: property.coarse(&first.value), time: first.time },
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

    /// Goes on to a moment. `value` is the newest, which was true at every tick that has come since.
    pub(crate) fn go_on(&mut self, property: Property, value: &Value, at: Moments) {
        // A clock that steps back changes nothing.
        if at.quarter <= self.quarter {
            return;
        }
        let number = value.number().filter(|_| property.has_mean());
        let quarters = |from: Timestamp, to: Timestamp| to.as_millis().saturating_sub(from.as_millis()) / QUARTER_MS;
        if at.hour > self.hour {
            let follows = at.hour_before == self.hour;
            // Hours of the wall's clock are whole ones but where it is set by less, and then only in the night.
            let end = if follows { at.hour } else { self.hour.plus_millis(HOUR_MS) };
            number.inspect(|n| self.hour_sum.add(*n, quarters(self.quarter, end) - 1));
            let closed = self.hour_sum.mean();
            self.close_days(number, closed, end, at);
            let sample = |time| Some(Sample { value: value.clone(), time });
            (self.late, self.hour_mean) =
                if follows { (self.at_hour.take(), closed) } else { (sample(at.hour_before), number) };
            self.at_hour = sample(at.hour);
            self.steady = Sample { value: property.steady(&self.steady.value, value), time: at.hour };
            self.hour = at.hour;
            self.hour_sum = Sum::default();
            number.inspect(|n| self.hour_sum.add(*n, quarters(at.hour, at.quarter) + 1));
        } else {
            number.inspect(|n| self.hour_sum.add(*n, quarters(self.quarter, at.quarter)));
        }
        self.quarter = at.quarter;
    }

    /// The hour that ends at `end` has closed with this mean; after it come hours of one value up to the one that is open now.
    fn close_days(&mut self, number: Option<i64>, closed: Option<i64>, end: Timestamp, at: Moments) {
        let hours = |from: Timestamp, to: Timestamp| to.as_millis().saturating_sub(from.as_millis()) / HOUR_MS;
        closed.inspect(|mean| self.day_sum.add(*mean, 1));
        if at.day <= self.day {
            number.inspect(|n| self.day_sum.add(*n, hours(end, at.hour)));
            return;
        }
        (self.day_mean, self.day_count) = if at.day_before == self.day {
            number.inspect(|n| self.day_sum.add(*n, hours(end, at.day)));
            (self.day_sum.mean(), self.whole_day.then_some(self.begun))
        } else {
            (number, Some(0))
        };
        self.day = at.day;
        self.begun = 0;
        self.whole_day = true;
        self.day_sum = Sum::default();
        number.inspect(|n| self.day_sum.add(*n, hours(at.day.max(end), at.hour)));
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

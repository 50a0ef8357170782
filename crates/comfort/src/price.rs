//! What power costs: a time-of-use plan as bills print it, and prices that the household hears (day ahead, or of now). Where
//! power is dear, set points give way; before it, the house is warmed or cooled in advance. Never beyond the limits that the
//! household set, and off unless it asked for it.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::temperature::{Delta, Temp};

/// Most rates of a plan.
pub const RATES_MAX: usize = 64;
/// Most prices of one message, equal neighbours counted as one: five days in steps of five minutes, or a day in minutes.
pub const HEARD_MAX: usize = 5 * 288;
/// Most that are kept: besides a message as long, two days in quarters of an hour.
const KEPT_MAX: usize = HEARD_MAX + 2 * 96;
/// A price without an end holds for so long, milliseconds.
pub const HEARD_NOW_MS: i64 = 3_600_000;
/// Prices further ahead than this are not believed, milliseconds.
const AHEAD_MAX_MS: i64 = 4 * 86_400_000;
/// Past prices are kept so long, milliseconds: what is dear shows beside them.
const PAST_MS: i64 = 86_400_000;
/// Prices are looked at each so many milliseconds: no plan changes within a quarter of an hour.
pub const STEP_MS: i64 = 900_000;
/// Dear is what costs so many times the day's mean.
pub const DEAR: f64 = 1.2;
/// How far ahead dear hours are looked for, in steps.
const LOOK_AHEAD_STEPS: i64 = 96;
/// Of a day so many steps must be known for its mean to count.
const KNOWN_STEPS_LEAST: u32 = 48;
/// The greatest price and the least (negative ones exist).
pub const PRICE_MAX: f64 = 1_000_000.0;

/// A rate of a plan: hours of some days of some months.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Days on which it begins, Monday first.
    pub days: [bool; 7],
    /// Months, January first.
    pub months: [bool; 12],
    /// Begins, minutes after midnight, 0 to 1439.
    pub from_min: u16,
    /// Ends, minutes after midnight, 1 to 1440; not after its beginning, it ends on the next day.
    pub to_min: u16,
    /// Price of a kilowatt hour, in whatever coin.
    pub price: f64,
}

impl Rate {
    fn covers(&self, at: DateTime) -> bool {
        let minute = u16::try_from(i32::from(at.hour()) * 60 + i32::from(at.minute())).unwrap_or(0);
        let on = |date: Date| {
            let day = usize::try_from(date.weekday().to_monday_zero_offset()).ok();
            let month = usize::try_from(date.month() - 1).ok();
            day.and_then(|d| self.days.get(d)).copied().unwrap_or(false)
                && month.and_then(|m| self.months.get(m)).copied().unwrap_or(false)
        };
        if self.from_min < self.to_min {
            return on(at.date()) && (self.from_min..self.to_min).contains(&minute);
        }
        minute >= self.from_min && on(at.date()) || minute < self.to_min && at.date().yesterday().is_ok_and(on)
    }
}

/// A price that was heard, for a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heard {
    /// From, milliseconds since the epoch.
    pub start_ms: i64,
    /// Until (not included).
    pub end_ms: i64,
    /// Price of a kilowatt hour.
    pub price: f64,
}

/// A list of prices that is longer than what is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} prices are more than the {HEARD_MAX} that are taken at once: send them for longer spans (nothing is done for the sake of a price more \
     often than each quarter of an hour), or for fewer days"
)]
pub struct TooManyPrices(pub usize);

/// The prices that were heard, in order and without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeardPrices(Vec<Heard>);

impl HeardPrices {
    /// Takes prices in; what is new goes before what was heard for the same time. How many were taken.
    ///
    /// # Errors
    /// When there are too many; then none is taken.
    pub fn hear(&mut self, new: &[Heard], wall_ms: i64) -> Result<usize, TooManyPrices> {
        let believed = |h: &&Heard| {
            h.start_ms < h.end_ms
                && h.end_ms > wall_ms - PAST_MS
                && h.end_ms < wall_ms.saturating_add(AHEAD_MAX_MS)
                && h.price.is_finite()
                && h.price.abs() <= PRICE_MAX
        };
        let believed: Vec<Heard> = new.iter().filter(believed).copied().collect();
        let (taken, spans) = (believed.len(), merged(believed));
        if spans.len() > HEARD_MAX {
            return Err(TooManyPrices(spans.len()));
        }
        for heard in spans {
            let mut kept = Vec::with_capacity(self.0.len() + 2);
            for old in &self.0 {
                if old.start_ms < heard.start_ms {
                    kept.push(Heard { end_ms: old.end_ms.min(heard.start_ms), ..*old });
                }
                if old.end_ms > heard.end_ms {
                    kept.push(Heard { start_ms: old.start_ms.max(heard.end_ms), ..*old });
                }
            }
            kept.push(heard);
            kept.sort_by_key(|h| h.start_ms);
            self.0 = kept;
        }
        self.0 = merged(std::mem::take(&mut self.0));
        // Of what is past, nothing is looked at but the price at each quarter of an hour.
        let now_ms = step_of(wall_ms);
        let counts = |h: &Heard| h.end_ms > now_ms || step_of(h.start_ms + STEP_MS - 1) < h.end_ms;
        self.0.retain(|h| h.end_ms > wall_ms - PAST_MS && counts(h));
        let over = self.0.len().saturating_sub(KEPT_MAX);
        self.0.drain(..over);
        Ok(taken)
    }

    fn at(&self, wall_ms: i64) -> Option<f64> {
        let after = self.0.partition_point(|h| h.start_ms <= wall_ms);
        let last = self.0.get(after.checked_sub(1)?)?;
        (wall_ms < last.end_ms).then_some(last.price)
    }
}

/// The quarter of an hour in which an instant lies.
fn step_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(STEP_MS) * STEP_MS
}

/// Neighbours of one price are one span.
fn merged(spans: Vec<Heard>) -> Vec<Heard> {
    let mut all: Vec<Heard> = Vec::with_capacity(spans.len());
    for span in spans {
        match all.last_mut().filter(|last| last.end_ms == span.start_ms && last.price == span.price) {
            Some(last) => last.end_ms = span.end_ms,
            None => all.push(span),
        }
    }
    all
}

/// What a household pays, and how far its comfort may give way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PricePlan {
    /// Rates as the bill has them; of two that cover an hour the later one counts. May be empty, where prices are heard.
    pub rates: Vec<Rate>,
    /// While power is dear, set points give way by so much.
    pub set_back: Delta,
    /// Before it is dear, the house is warmed or cooled so far beyond them.
    pub ahead: Delta,
    /// For the sake of a price or of a utility's request no set point of heating goes below the first of these, none of cooling
    /// above the second, and none of either beyond them in advance.
    pub limits: (Temp, Temp),
}

/// What a price does to the set points beneath it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Move {
    /// Heating goes up by so much (negative: down).
    pub heat: Delta,
    /// Cooling goes up by so much (negative: down).
    pub cool: Delta,
    /// Not beyond these.
    pub limits: (Temp, Temp),
}

impl Move {
    /// Less heating and less cooling by so much, within limits (`None`: there are none).
    pub const fn giving_way(by: Delta, limits: Option<(Temp, Temp)>) -> Self {
        let limits = match limits {
            Some(limits) => limits,
            None => (Temp::from_milli_c(i32::MIN), Temp::from_milli_c(i32::MAX)),
        };
        Self { heat: Delta::from_milli_k(by.milli_k().saturating_neg()), cool: by, limits }
    }

    /// The set points moved. One that lies beyond the limits already stays where it is.
    pub fn apply(&self, heat: Temp, cool: Temp) -> (Temp, Temp) {
        let (low, high) = self.limits;
        let toward = |from: Temp, by: Delta| {
            let to = from.plus(by);
            if by < Delta::ZERO { to.max(low).min(from) } else { to.min(high).max(from) }
        };
        (toward(heat, self.heat), toward(cool, self.cool))
    }
}

/// What power costs now and soon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// The price now.
    pub price: f64,
    /// The day's mean.
    pub mean: f64,
    /// It is dear now.
    pub dear: bool,
    /// Until when it is so, milliseconds since the epoch; looked for over a day.
    pub until_ms: i64,
    /// The next dear hours begin, if any are known.
    pub next_dear_ms: Option<i64>,
}

/// The days whose mean is known by now.
#[derive(Default)]
struct Means(Vec<(Date, Option<f64>)>);

impl PricePlan {
    /// The price at an instant; `None`: nothing is known of it.
    pub fn price_at(&self, heard: &HeardPrices, wall_ms: i64, zone: &TimeZone) -> Option<f64> {
        heard.at(wall_ms).or_else(|| {
            let civil = zone.to_datetime(Timestamp::from_millisecond(wall_ms).ok()?);
            self.rates.iter().rev().find(|r| r.covers(civil)).map(|r| r.price)
        })
    }

    /// The mean over the day in which an instant lies; where too little of it is known, over the 24 hours before.
    fn mean(&self, heard: &HeardPrices, wall_ms: i64, zone: &TimeZone, means: &mut Means) -> Option<f64> {
        let instant = Timestamp::from_millisecond(wall_ms).ok()?;
        let date = zone.to_datetime(instant).date();
        if let Some((_, mean)) = means.0.iter().find(|(d, _)| *d == date) {
            return *mean;
        }
        let midnight =
            zone.to_ambiguous_zoned_datetime(date.to_datetime(jiff::civil::Time::midnight())).compatible().ok()?;
        let over = |from_ms: i64| {
            let prices = (0..PAST_MS / STEP_MS).filter_map(|i| self.price_at(heard, from_ms + i * STEP_MS, zone));
            let (sum, count) = prices.fold((0.0, 0u32), |(sum, count), price| (sum + price, count + 1));
            (count >= KNOWN_STEPS_LEAST).then(|| sum / f64::from(count))
        };
        let mean = over(midnight.timestamp().as_millisecond()).or_else(|| over(step_of(wall_ms) - PAST_MS));
        means.0.push((date, mean));
        mean
    }

    fn dear_at(
        &self,
        heard: &HeardPrices,
        wall_ms: i64,
        zone: &TimeZone,
        means: &mut Means,
    ) -> Option<(f64, f64, bool)> {
        let price = self.price_at(heard, wall_ms, zone)?;
        let mean = self.mean(heard, wall_ms, zone, means)?;
        Some((price, mean, price > mean + (DEAR - 1.0) * mean.abs()))
    }

    /// What power costs now and soon; `None`: nothing is known of it.
    pub fn outlook(&self, heard: &HeardPrices, wall_ms: i64, zone: &TimeZone) -> Option<Outlook> {
        let mut means = Means::default();
        let (price, mean, dear) = self.dear_at(heard, wall_ms, zone, &mut means)?;
        let step = step_of(wall_ms);
        let mut until_ms = None;
        let mut next_dear_ms = None;
        for ahead in 1..=LOOK_AHEAD_STEPS {
            let at_ms = step + ahead * STEP_MS;
            let then = self.dear_at(heard, at_ms, zone, &mut means).is_some_and(|(.., dear)| dear);
            if then != dear {
                until_ms = until_ms.or(Some(at_ms));
            }
            if then && until_ms.is_some() {
                next_dear_ms = Some(at_ms);
                break;
            }
        }
        let until_ms = until_ms.unwrap_or(step + LOOK_AHEAD_STEPS * STEP_MS);
        Some(Outlook { price, mean, dear, until_ms, next_dear_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YORK: &str = "America/New_York";

    fn zone() -> TimeZone {
        TimeZone::get(NEW_YORK).unwrap()
    }

    fn at(month: i8, day: i8, hour: i8, minute: i8) -> i64 {
        zone()
            .to_ambiguous_zoned_datetime(jiff::civil::date(2026, month, day).at(hour, minute, 0, 0))
            .compatible()
            .unwrap()
            .timestamp()
            .as_millisecond()
    }

    /// A bill: 12 at all times; on working days of summer 45 from 16 to 21; at night, over midnight, 8.
    fn bill() -> PricePlan {
        let (mut working, mut summer) = ([false; 7], [false; 12]);
        working[..5].fill(true);
        summer[5..9].fill(true);
        let rate = |days, months, from: u16, to: u16, price| Rate {
            days,
            months,
            from_min: from * 60,
            to_min: to * 60,
            price,
        };
        PricePlan {
            rates: vec![
                rate([true; 7], [true; 12], 0, 24, 12.0),
                rate([true; 7], [true; 12], 23, 6, 8.0),
                rate(working, summer, 16, 21, 45.0),
            ],
            set_back: Delta::from_milli_k(2000),
            ahead: Delta::from_milli_k(1000),
            limits: (Temp::from_tenths_c(180), Temp::from_tenths_c(260)),
        }
    }

    #[test]
    fn a_bill_is_read_by_the_clock_on_the_wall_over_midnight_weekends_and_seasons() {
        let (plan, none) = (bill(), HeardPrices::default());
        let price = |at_ms| plan.price_at(&none, at_ms, &zone());
        // Wednesday, 8 July 2026.
        assert_eq!(price(at(7, 8, 15, 59)), Some(12.0));
        assert_eq!(price(at(7, 8, 16, 0)), Some(45.0));
        assert_eq!(price(at(7, 8, 21, 0)), Some(12.0));
        assert_eq!(price(at(7, 11, 17, 0)), Some(12.0), "a Saturday");
        assert_eq!(price(at(12, 9, 17, 0)), Some(12.0), "winter");
        assert_eq!((price(at(7, 8, 23, 0)), price(at(7, 9, 5, 59))), (Some(8.0), Some(8.0)));
        let noon = plan.outlook(&none, at(7, 8, 12, 7), &zone()).unwrap();
        assert_eq!((noon.dear, noon.next_dear_ms), (false, Some(at(7, 8, 16, 0))));
        let dear = plan.outlook(&none, at(7, 8, 17, 7), &zone()).unwrap();
        assert_eq!((dear.dear, dear.until_ms), (true, at(7, 8, 21, 0)));
        let weekend = plan.outlook(&none, at(7, 11, 3, 0), &zone()).unwrap();
        assert_eq!((weekend.dear, weekend.next_dear_ms), (false, None), "12 is not dear beside a night of 8");
    }

    #[test]
    fn prices_that_are_heard_go_before_the_bill_and_nonsense_is_not_believed() {
        let plan = bill();
        let mut heard = HeardPrices::default();
        let noon = at(12, 9, 12, 0);
        let of = |from_h: i64, to_h: i64, price| Heard {
            start_ms: noon + from_h * 3_600_000,
            end_ms: noon + to_h * 3_600_000,
            price,
        };
        assert_eq!(heard.hear(&[of(0, 6, 10.0), of(2, 3, 60.0)], noon), Ok(2));
        let look = plan.outlook(&heard, noon, &zone()).unwrap();
        assert_eq!((look.price, look.dear, look.next_dear_ms), (10.0, false, Some(noon + 2 * 3_600_000)));
        assert_eq!(plan.price_at(&heard, noon + 4 * 3_600_000, &zone()), Some(10.0), "a span is split by a newer one");
        assert_eq!(heard.hear(&[of(1, 1, 9.0), of(0, 9999, 9.0), of(0, 1, f64::NAN), of(-99, -98, 9.0)], noon), Ok(0));
        for hour in 0..2000 {
            heard.hear(&[of(hour % 80, hour % 80 + 1, hour as f64)], noon).unwrap();
        }
        assert!(heard.0.len() <= KEPT_MAX);
        assert!(heard.0.windows(2).all(|w| w[0].end_ms <= w[1].start_ms));
    }

    #[test]
    fn a_price_a_minute_is_heard_to_its_end_and_a_list_that_is_too_long_is_refused() {
        let plan = PricePlan { rates: Vec::new(), ..bill() };
        let begin = at(7, 8, 0, 0);
        let minute = |n: i64, price| Heard { start_ms: begin + n * 60_000, end_ms: begin + (n + 1) * 60_000, price };
        // Two days by the minute, as a market without an opinion would send it: dear from 17 to 19 of each.
        let dear = |n: i64| (17 * 60..19 * 60).contains(&(n % 1440));
        let flat: Vec<Heard> = (0..2 * 1440).map(|n| minute(n, if dear(n) { 50.0 } else { 10.0 })).collect();
        let mut heard = HeardPrices::default();
        assert_eq!(heard.hear(&flat, begin), Ok(2880));
        assert_eq!(heard.0.len(), 5);
        let look = plan.outlook(&heard, begin, &zone()).unwrap();
        assert_eq!((look.dear, look.next_dear_ms), (false, Some(at(7, 8, 17, 0))));
        assert_eq!(plan.outlook(&heard, at(7, 9, 18, 0), &zone()).unwrap().until_ms, at(7, 9, 19, 0));
        // A day in which no minute costs what the one before it did fits, also with such a day behind.
        let restless = |from: i64| -> Vec<Heard> {
            (from..from + 1440).map(|n| minute(n, if dear(n) { 50.0 } else { 10.0 } + (n % 2) as f64)).collect()
        };
        for day in 0..2 {
            assert_eq!(heard.hear(&restless(day * 1440), begin + day * 86_400_000), Ok(1440));
        }
        assert!((HEARD_MAX..=KEPT_MAX).contains(&heard.0.len()), "{}", heard.0.len());
        let look = plan.outlook(&heard, at(7, 9, 0, 0), &zone()).unwrap();
        assert_eq!((look.dear, look.next_dear_ms), (false, Some(at(7, 9, 17, 0))));
        let long: Vec<Heard> = restless(0).into_iter().chain(restless(1440)).collect();
        let before = heard.clone();
        assert_eq!(heard.hear(&long, begin), Err(TooManyPrices(2880)));
        assert_eq!(heard, before);
        // A meter says the price of now each half a minute, never twice the same: the day's mean is known all the same.
        let mut heard = HeardPrices::default();
        for half in 0..2 * (1440 + 18 * 60) {
            let now = begin + half * 30_000;
            let price = if dear(half / 2) { 50.0 } else { 10.0 } + (half % 7) as f64 / 10.0;
            heard.hear(&[Heard { start_ms: now, end_ms: now + HEARD_NOW_MS, price }], now).unwrap();
        }
        assert!(heard.0.len() < 200, "{}", heard.0.len());
        let look = plan.outlook(&heard, at(7, 9, 18, 0), &zone()).unwrap();
        assert!(look.dear && (12.0..16.0).contains(&look.mean), "{look:?}");
    }

    #[test]
    fn a_move_stops_at_the_limits_and_brings_nothing_back_that_lies_beyond_them() {
        let c = Temp::from_tenths_c;
        let k = Delta::from_milli_k;
        let limits = (c(180), c(260));
        let save = Move { heat: k(-2000), cool: k(2000), limits };
        assert_eq!(save.apply(c(210), c(240)), (c(190), c(260)));
        assert_eq!(save.apply(c(190), c(250)), (c(180), c(260)));
        assert_eq!(save.apply(c(160), c(280)), (c(160), c(280)), "away stays away");
        let ahead = Move { heat: k(1000), cool: Delta::ZERO, limits };
        assert_eq!(ahead.apply(c(255), c(270)), (c(260), c(270)));
    }
}

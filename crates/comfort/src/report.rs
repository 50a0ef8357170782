//! Reports: runtime by day and month, degree days, and EPA's metric of savings.
//!
//! EPA's connected-thermostat metric, from its published method: on core days (at least 30 minutes of one mode and none of
//! the other) the demand is the mean over the hours of what the difference of indoors and outdoors exceeds a balance
//! `tau` by, `tau` being fitted so that runtime is `alpha` times the demand. The savings compare with a house held at its own
//! comfortable temperature (the 10th percentile of indoor temperatures in cooling, the 90th in heating).

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use serde::Serialize;

/// Base of degree days, °F.
pub const DEGREE_DAY_BASE_F: f64 = 65.0;
/// A core day has at least so many minutes of its mode.
const CORE_MINUTES: f64 = 30.0;
/// Balances that are tried, °F: least, most and step.
const TAU_F: (f64, f64, f64) = (-15.0, 40.0, 0.05);
/// Fewest core days for which the metric is computed.
pub const CORE_DAYS_MIN: usize = 5;
/// Hours of a day.
const HOURS: usize = 24;

/// Five minutes, as far as reports need them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Local time at its start.
    pub at: DateTime,
    /// Control temperature, °F.
    pub indoor_f: Option<f64>,
    /// Outdoor temperature, °F.
    pub outdoor_f: Option<f64>,
    /// Seconds of heating, auxiliary heat included.
    pub heating_s: f64,
    /// Seconds of cooling.
    pub cooling_s: f64,
    /// Seconds of fan.
    pub fan_s: f64,
}

/// One day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Day {
    /// Its date.
    pub date: String,
    /// Hours of heating.
    pub heating_h: f64,
    /// Hours of cooling.
    pub cooling_h: f64,
    /// Hours of fan.
    pub fan_h: f64,
    /// Mean indoors, °F.
    pub indoor_f: Option<f64>,
    /// Mean outdoors, °F.
    pub outdoor_f: Option<f64>,
    /// Degrees Fahrenheit below 65, as the day's mean.
    pub heating_degree_days_f: f64,
    /// Degrees Fahrenheit above 65.
    pub cooling_degree_days_f: f64,
    /// Five minutes with a temperature.
    pub rows: u32,
}

/// EPA's metric for one mode.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Epa {
    /// Days behind it. Under some fifty of them it is an indication, not a claim.
    pub core_days: usize,
    /// Balance, °F.
    pub tau_f: f64,
    /// Minutes of runtime a day for each °F of demand.
    pub alpha_min_per_f: f64,
    /// The comfortable temperature that it compares with, °F.
    pub baseline_f: f64,
    /// Share of runtime saved against it, %.
    pub savings_percent: f64,
    /// Coefficient of variation of the fit's errors.
    pub cvrmse: f64,
}

/// EPA's metric for both modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct EpaReport {
    /// Heating; `None`: too few core days.
    pub heating: Option<Epa>,
    /// Cooling.
    pub cooling: Option<Epa>,
}

/// A month.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// As in 2023-06.
    pub month: String,
    /// Hours of heating, cooling and fan.
    pub heating_h: f64,
    /// Hours of cooling.
    pub cooling_h: f64,
    /// Hours of fan.
    pub fan_h: f64,
    /// Degree days of the days that have an outdoor temperature.
    pub heating_degree_days_f: f64,
    /// The same for cooling.
    pub cooling_degree_days_f: f64,
    /// Hours of heating for each heating degree day.
    pub heating_h_per_degree_day: Option<f64>,
    /// Hours of cooling for each cooling degree day.
    pub cooling_h_per_degree_day: Option<f64>,
    /// Starts of heating: five minutes that have some after five that had none.
    pub heating_starts: u32,
    /// Starts of cooling.
    pub cooling_starts: u32,
    /// Mean minutes of heating for each start; short ones wear equipment out.
    pub heating_min_per_start: Option<f64>,
    /// The same for cooling.
    pub cooling_min_per_start: Option<f64>,
    /// Its days.
    pub days: Vec<Day>,
    /// EPA's metric over this month alone.
    pub epa_of_month: EpaReport,
    /// EPA's metric over the whole history.
    pub epa: EpaReport,
}

fn mean(sum: f64, count: u32) -> Option<f64> {
    (count > 0).then(|| sum / f64::from(count))
}

#[derive(Clone, Copy, Debug, Default)]
struct Hour {
    indoor: f64,
    outdoor: f64,
    both: u32,
}

#[derive(Clone, Debug, Default)]
struct Gathered {
    heating_s: f64,
    cooling_s: f64,
    fan_s: f64,
    indoor: (f64, u32),
    outdoor: (f64, u32),
    hours: [Hour; HOURS],
}

fn gather(rows: &[Row]) -> BTreeMap<Date, Gathered> {
    let mut days: BTreeMap<Date, Gathered> = BTreeMap::new();
    for row in rows {
        let day = days.entry(row.at.date()).or_default();
        day.heating_s += row.heating_s;
        day.cooling_s += row.cooling_s;
        day.fan_s += row.fan_s;
        if let Some(t) = row.indoor_f {
            day.indoor = (day.indoor.0 + t, day.indoor.1 + 1);
        }
        if let Some(t) = row.outdoor_f {
            day.outdoor = (day.outdoor.0 + t, day.outdoor.1 + 1);
        }
        let hour = usize::try_from(row.at.hour()).ok().and_then(|h| day.hours.get_mut(h));
        if let (Some(hour), Some(indoor), Some(outdoor)) = (hour, row.indoor_f, row.outdoor_f) {
            hour.indoor += indoor;
            hour.outdoor += outdoor;
            hour.both += 1;
        }
    }
    days
}

/// The report of a month, from the whole history (rows in any order).
pub fn month(rows: &[Row], year: i16, month: i8) -> Report {
    let days = gather(rows);
    let mine: BTreeMap<Date, Gathered> =
        days.iter().filter(|(d, _)| d.year() == year && d.month() == month).map(|(d, g)| (*d, g.clone())).collect();
    let mut report = Report { month: format!("{year:04}-{month:02}"), ..Report::default() };
    for (date, gathered) in &mine {
        let outdoor_f = mean(gathered.outdoor.0, gathered.outdoor.1);
        let day = Day {
            date: date.to_string(),
            heating_h: gathered.heating_s / 3600.0,
            cooling_h: gathered.cooling_s / 3600.0,
            fan_h: gathered.fan_s / 3600.0,
            indoor_f: mean(gathered.indoor.0, gathered.indoor.1),
            outdoor_f,
            heating_degree_days_f: outdoor_f.map_or(0.0, |t| (DEGREE_DAY_BASE_F - t).max(0.0)),
            cooling_degree_days_f: outdoor_f.map_or(0.0, |t| (t - DEGREE_DAY_BASE_F).max(0.0)),
            rows: gathered.indoor.1,
        };
        report.heating_h += day.heating_h;
        report.cooling_h += day.cooling_h;
        report.fan_h += day.fan_h;
        report.heating_degree_days_f += day.heating_degree_days_f;
        report.cooling_degree_days_f += day.cooling_degree_days_f;
        report.days.push(day);
    }
    let over = |hours: f64, degree_days: f64| (degree_days > 0.0 && hours > 0.0).then(|| hours / degree_days);
    report.heating_h_per_degree_day = over(report.heating_h, report.heating_degree_days_f);
    report.cooling_h_per_degree_day = over(report.cooling_h, report.cooling_degree_days_f);
    (report.heating_starts, report.cooling_starts) =
        (starts(rows, year, month, |r| r.heating_s), starts(rows, year, month, |r| r.cooling_s));
    let per_start = |hours: f64, starts: u32| (starts > 0).then(|| hours * 60.0 / f64::from(starts));
    report.heating_min_per_start = per_start(report.heating_h, report.heating_starts);
    report.cooling_min_per_start = per_start(report.cooling_h, report.cooling_starts);
    report.epa_of_month = epa_of(&mine);
    report.epa = epa_of(&days);
    report
}

/// How often something began within a month.
fn starts(rows: &[Row], year: i16, month: i8, seconds: impl Fn(&Row) -> f64) -> u32 {
    let mut mine: Vec<&Row> = rows.iter().filter(|r| r.at.year() == year && r.at.month() == month).collect();
    mine.sort_by_key(|r| r.at);
    let began = mine.windows(2).filter(|w| matches!(w, [a, b] if seconds(a) <= 0.0 && seconds(b) > 0.0)).count();
    let first = mine.first().is_some_and(|r| seconds(r) > 0.0);
    u32::try_from(began + usize::from(first)).unwrap_or(u32::MAX)
}

fn epa_of(days: &BTreeMap<Date, Gathered>) -> EpaReport {
    EpaReport { heating: epa(days, true), cooling: epa(days, false) }
}

/// One core day: minutes of runtime, and indoors and outdoors hour by hour.
struct Core {
    minutes: f64,
    hours: Vec<(f64, f64)>,
}

impl Core {
    /// Mean over the day of what the difference exceeds the balance by, °F.
    fn demand(&self, heating: bool, tau: f64, held_at: Option<f64>) -> f64 {
        let hours = self.hours.iter().map(|(indoor, outdoor)| {
            let difference = held_at.unwrap_or(*indoor) - outdoor;
            if heating { (difference - tau).max(0.0) } else { (tau - difference).max(0.0) }
        });
        hours.sum::<f64>() / HOURS as f64
    }
}

fn epa(days: &BTreeMap<Date, Gathered>, heating: bool) -> Option<Epa> {
    let core: Vec<Core> = days
        .values()
        .filter_map(|day| {
            let (mine, other) = if heating { (day.heating_s, day.cooling_s) } else { (day.cooling_s, day.heating_s) };
            let whole = day.hours.iter().all(|hour| hour.both > 0);
            let hours = day.hours.iter().map(|h| (h.indoor / f64::from(h.both), h.outdoor / f64::from(h.both)));
            (whole && mine / 60.0 >= CORE_MINUTES && other <= 0.0)
                .then(|| Core { minutes: mine / 60.0, hours: hours.collect() })
        })
        .collect();
    if core.len() < CORE_DAYS_MIN {
        return None;
    }
    let run: f64 = core.iter().map(|c| c.minutes).sum();
    let fit = |tau: f64| -> Option<(f64, f64)> {
        let demands: Vec<f64> = core.iter().map(|c| c.demand(heating, tau, None)).collect();
        let total: f64 = demands.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let alpha = run / total;
        let squares = core.iter().zip(&demands).map(|(c, d)| (c.minutes - alpha * d).powi(2)).sum();
        Some((squares, alpha))
    };
    let (least, most, step) = TAU_F;
    let steps = ((most - least) / step).round() as i32;
    let mut best: Option<(f64, f64, f64)> = None;
    for index in 0..=steps {
        let tau = least + f64::from(index) * step;
        if let Some((squares, alpha)) = fit(tau)
            && best.is_none_or(|(least, ..)| squares < least)
        {
            best = Some((squares, alpha, tau));
        }
    }
    let (squares, alpha, tau_f) = best?;
    let mut indoors: Vec<f64> = core.iter().flat_map(|c| c.hours.iter().map(|(indoor, _)| *indoor)).collect();
    indoors.sort_by(f64::total_cmp);
    let baseline_f = percentile(&indoors, if heating { 0.9 } else { 0.1 })?;
    let held: f64 = core.iter().map(|c| alpha * c.demand(heating, tau_f, Some(baseline_f))).sum();
    if held <= 0.0 {
        return None;
    }
    let days = core.len() as f64;
    Some(Epa {
        core_days: core.len(),
        tau_f,
        alpha_min_per_f: alpha,
        baseline_f,
        savings_percent: 100.0 * (1.0 - run / held),
        cvrmse: (squares / days).sqrt() / (run / days),
    })
}

/// Linear between the two nearest of a sorted list.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = sorted.len().checked_sub(1)? as f64 * share;
    let below = *sorted.get(place.floor() as usize)?;
    let above = *sorted.get(place.ceil() as usize)?;
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    /// A house with a balance of 10 °F and 6 minutes of heating for each °F, held 4 °F lower at night.
    fn winter() -> Vec<Row> {
        let mut rows = Vec::new();
        for day in 1..=20i8 {
            for slot in 0..288i32 {
                let hour = i8::try_from(slot / 12).unwrap();
                let at = date(2024, 1, day).at(hour, i8::try_from(slot % 12 * 5).unwrap(), 0, 0);
                let indoor = if (7..23).contains(&hour) { 70.0 } else { 66.0 };
                let outdoor = 20.0 + f64::from(day % 7) * 3.0;
                let demand = (indoor - outdoor - 10.0f64).max(0.0) / 288.0;
                let heating_s = demand * 6.0 * 60.0;
                rows.push(Row { at, indoor_f: Some(indoor), outdoor_f: Some(outdoor), heating_s, ..Row::default() });
            }
        }
        rows
    }

    #[test]
    fn a_house_of_known_balance_is_found_again_with_its_savings() {
        let report = month(&winter(), 2024, 1);
        let epa = report.epa.heating.unwrap();
        assert_eq!((epa.core_days, report.epa.cooling), (20, None));
        assert!((epa.tau_f - 10.0).abs() < 0.1 && (epa.alpha_min_per_f - 6.0).abs() < 0.05, "{epa:?}");
        assert!((epa.baseline_f - 70.0).abs() < 1e-9 && epa.cvrmse < 0.01);
        // Held at 70 all day it would have needed 4 °F more for 8 of 24 hours.
        let (mut run, mut held) = (0.0, 0.0);
        for day in 1..=20 {
            let outdoor = 20.0 + f64::from(day % 7) * 3.0;
            run += (70.0 - outdoor - 10.0) * 16.0 / 24.0 + (66.0 - outdoor - 10.0) * 8.0 / 24.0;
            held += 70.0 - outdoor - 10.0;
        }
        assert!((epa.savings_percent - 100.0 * (1.0 - run / held)).abs() < 0.2, "{epa:?}");
        assert_eq!(report.days.len(), 20);
        // This house heats a little in each five minutes: one start, and hours of it.
        assert_eq!((report.heating_starts, report.cooling_starts), (1, 0));
        assert_eq!(report.heating_min_per_start, Some(report.heating_h * 60.0));
        let hours: f64 = winter().iter().map(|r| r.heating_s / 3600.0).sum();
        assert!((report.heating_h - hours).abs() < 1e-6);
        assert!((report.days[0].heating_degree_days_f - 42.0).abs() < 1e-9);
        assert_eq!(month(&winter(), 2024, 2).days.len(), 0);
    }
}

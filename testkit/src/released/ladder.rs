//! The ladder from the words of the design: which rungs follow from which, of which property there are which, and what those show
//! that are worked out of many readings.

use model::{Grid, Property, Rung, Timestamp, Value};

use super::{Released, coarse};

const MINUTE: i64 = 60_000;
const QUARTER: i64 = 15 * MINUTE;
const HOUR: i64 = 60 * MINUTE;

/// Locks, doors and alarms are exact or refused, never held.
fn exact_or_refused(property: Property) -> bool {
    use Property::{CoState, ContactOpen, DoorState, LeakState, LockState, SmokeState};
    matches!(property, LockState | DoorState | ContactOpen | SmokeState | CoState | LeakState)
}

/// What is measured and changes gradually.
fn flows(property: Property) -> bool {
    use Property::{
        ActivePower, Co2Concentration, LocalTemperature, OutdoorTemperature, RelativeHumidity, VocConcentration,
    };
    matches!(
        property,
        ActivePower | Co2Concentration | LocalTemperature | OutdoorTemperature | RelativeHumidity | VocConcentration
    )
}

/// The rung at which a partner without a word for a count is told a property, under a grant of this one.
pub(super) fn finest(granted: Rung, property: Property) -> Option<Rung> {
    if exact_or_refused(property) {
        return (granted == Rung::Live).then_some(Rung::Live);
    }
    match granted {
        Rung::HourMean | Rung::DayMean => flows(property).then_some(granted),
        // Nothing is rounded that has no number.
        Rung::HourSteady => {
            use Property::{
                BatteryPercent, CoverPosition, CoverTilt, CumulativeEnergy, CurrentLevel, FanPercent,
                OccupiedCoolingSetpoint, OccupiedHeatingSetpoint, OccupiedSetpoint,
            };
            let is_number = matches!(
                property,
                BatteryPercent
                    | CoverPosition
                    | CoverTilt
                    | CumulativeEnergy
                    | CurrentLevel
                    | FanPercent
                    | OccupiedCoolingSetpoint
                    | OccupiedHeatingSetpoint
                    | OccupiedSetpoint
            );
            (is_number || flows(property)).then_some(granted)
        }
        Rung::HourLate => (!property.is_metadata()).then_some(granted),
        Rung::DayCount => None,
        _ => Some(granted),
    }
}

/// Whether what is newly granted begins with what is true now.
pub(super) fn is_of_now(rung: Rung) -> bool {
    !matches!(rung, Rung::Live | Rung::HourLate | Rung::HourSteady) && !is_of_a_window(rung)
}

/// A mean or a count: what the link has set itself is no part of it.
pub(super) fn is_of_a_window(rung: Rung) -> bool {
    matches!(rung, Rung::HourMean | Rung::DayMean | Rung::DayCount)
}

/// What a rung shows that is worked out of many readings.
pub(super) struct Derived {
    /// What the link knows itself from after this takes its place.
    pub(super) as_of: Timestamp,
    pub(super) sample: Option<(Timestamp, Value)>,
}

/// None of a rung that is no such thing.
pub(super) fn derived(
    home: &Released,
    (property, rung): (Property, Rung),
    readings: &[(Timestamp, Value)],
    now: Timestamp,
) -> Option<Derived> {
    let hour = home.tick(Grid::Hour, now);
    // What it was at a tick: what came before it.
    let was = |tick: Timestamp| readings.iter().rfind(|(t, _)| *t < tick).map(|(_, v)| v.clone());
    match rung {
        Rung::HourLate => {
            let before = hour.plus_millis(-HOUR);
            Some(Derived { as_of: before, sample: was(before).map(|v| (before, v)) })
        }
        Rung::HourSteady => Some(Derived { as_of: hour, sample: steady(readings, hour, was) }),
        Rung::HourMean => {
            let mean = mean_of_hour(readings, hour.plus_millis(-HOUR));
            Some(Derived { as_of: hour, sample: Some(hour).zip(mean.and_then(|n| like(readings, n))) })
        }
        Rung::DayMean => {
            let (begin, end) = home.yesterday(now);
            let hours = (0..).map(|n| begin.plus_millis(n * HOUR)).take_while(|t| *t < end);
            let mean = mean(hours.filter_map(|t| mean_of_hour(readings, t)));
            let value = mean.and_then(|n| like(readings, n)).map(|v| coarse(&v));
            Some(Derived { as_of: end, sample: Some(end).zip(value).filter(|_| flows(property)) })
        }
        _ => None,
    }
}

/// Rounded at each full hour; but it stays for as long as it is within three quarters of a step.
fn steady(
    readings: &[(Timestamp, Value)],
    hour: Timestamp,
    was: impl Fn(Timestamp) -> Option<Value>,
) -> Option<(Timestamp, Value)> {
    let (first, value) = readings.first()?;
    let (mut time, mut shown) = (*first, coarse(value));
    let begin = first.as_millis() - first.as_millis().rem_euclid(HOUR);
    for tick in (1..).map(|n| Timestamp::from_millis(begin + n * HOUR)).take_while(|t| *t <= hour) {
        let value = was(tick)?;
        let step = number(&coarse_step(&value))?;
        if (number(&value)? - number(&shown)?).abs() * 4 > step * 3 {
            shown = coarse(&value);
        }
        time = tick;
    }
    Some((time, shown))
}

/// A step, as a value.
fn coarse_step(value: &Value) -> Value {
    match value {
        Value::Temperature(_) => Value::Temperature(1000),
        Value::Percent(_) => Value::Percent(1000),
        Value::Ppm(_) => Value::Ppm(200),
        Value::Power(_) => Value::Power(100_000),
        _ => Value::Energy(1000),
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Temperature(n) => Some(i64::from(*n)),
        Value::Percent(n) => Some(i64::from(*n)),
        Value::Ppm(n) => Some(i64::from(*n)),
        Value::Power(n) | Value::Energy(n) => Some(*n),
        _ => None,
    }
}

fn like(readings: &[(Timestamp, Value)], n: i64) -> Option<Value> {
    match readings.first()?.1 {
        Value::Temperature(_) => Some(Value::Temperature(n as i32)),
        Value::Percent(_) => Some(Value::Percent(n as u16)),
        Value::Ppm(_) => Some(Value::Ppm(n as u32)),
        Value::Power(_) => Some(Value::Power(n)),
        _ => None,
    }
}

/// Half away from zero.
fn mean(numbers: impl Iterator<Item = i64>) -> Option<i64> {
    let all: Vec<i64> = numbers.collect();
    let (sum, count) = (all.iter().sum::<i64>(), all.len() as i64);
    (count > 0).then(|| (2 * sum + if sum < 0 { -count } else { count }) / (2 * count))
}

/// Of what it was at its four quarters, as far as it was known.
fn mean_of_hour(readings: &[(Timestamp, Value)], begin: Timestamp) -> Option<i64> {
    let quarters = (0..4).map(|n| begin.plus_millis(n * QUARTER));
    let was = |tick: Timestamp| readings.iter().rfind(|(t, _)| *t < tick).and_then(|(_, v)| number(v));
    mean(quarters.filter_map(was))
}

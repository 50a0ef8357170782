//! The newest reading of each property, desired and reported kept apart.

use std::collections::BTreeMap;

use model::{DeviceId, Grid, Property, Rung, Timestamp, Value};
use serde::{Deserialize, Serialize};

use crate::derived::{Derived, Wall};

/// One value of a property of a device with its sample time, typed and unit-checked. Lives here and not in `model`,
/// so that what can't see `home` can't name a raw reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reading {
    /// The device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// The value.
    pub value: Value,
    /// When it was sampled: its arrival.
    pub time: Timestamp,
}

/// A value and when it was sampled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sample {
    /// The value.
    pub value: Value,
    /// When it was true.
    pub time: Timestamp,
}

/// What a reading did to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The value changed (or is the first).
    Changed,
    /// The same value, newer.
    Same,
    /// Older than what is known: ignored.
    Stale,
}

/// What is known of one property: the newest value, and what it was at the last tick of each grid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Newest reported value.
    pub reported: Option<Sample>,
    /// Newest value that somebody asked for.
    pub desired: Option<Sample>,
    /// The value as of the last tick, one entry per grid.
    held: Vec<Held>,
    /// Means, counts and the like. What was stored by an earlier version has none until time goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    derived: Option<Derived>,
}

/// A value as of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    grid: Grid,
    tick: Timestamp,
    /// Its time is the tick, or later when the first reading of all came within the interval.
    sample: Sample,
}

/// The state of one home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HomeState {
    known: BTreeMap<(DeviceId, Property), Known>,
}

impl HomeState {
    /// Takes a reading in. `grids` are the grids on which values are held, each with its last tick at or before the
    /// reading's time; the value as of that tick is kept, since the reading replaces the newest. What follows from readings goes
    /// on by the clock on the `wall`.
    pub fn report(&mut self, reading: Reading, ticks: &[(Grid, Timestamp)], wall: &Wall<'_>) -> Update {
        let property = reading.property;
        let known = self.known.entry((reading.device, property)).or_default();
        if known.reported.as_ref().is_some_and(|old| reading.time < old.time) {
            return Update::Stale;
        }
        known.hold(ticks);
        known.go_on(property, reading.time, wall);
        let sample = Sample { value: reading.value, time: reading.time };
        for (grid, tick) in ticks {
            if !known.held.iter().any(|h| h.grid == *grid) {
                known.held.push(Held { grid: *grid, tick: *tick, sample: sample.clone() });
            }
        }
        match (&mut known.derived, &known.reported) {
            (Some(derived), Some(old)) => derived.change(&old.value, &sample.value),
            (derived, _) => *derived = Some(Derived::new(property, &sample, (wall.moments)(sample.time))),
        }
        let changed = known.reported.as_ref().is_none_or(|old| old.value != sample.value);
        known.reported = Some(sample);
        if changed { Update::Changed } else { Update::Same }
    }

    /// Notes what somebody asked for.
    pub fn desire(&mut self, device: DeviceId, property: Property, value: Value, time: Timestamp) {
        self.known.entry((device, property)).or_default().desired = Some(Sample { value, time });
    }

    /// The newest reported value.
    pub fn reported(&self, device: &DeviceId, property: Property) -> Option<&Sample> {
        self.get(device, property)?.reported.as_ref()
    }

    /// The newest value that somebody asked for.
    pub fn desired(&self, device: &DeviceId, property: Property) -> Option<&Sample> {
        self.get(device, property)?.desired.as_ref()
    }

    /// The value as of `tick` on `grid`: a function of the readings alone, whoever asks and however often. The sample's
    /// time is the tick, except when the first reading of all came after it: that one is held until the next tick.
    pub fn at_tick(&mut self, device: &DeviceId, property: Property, grid: Grid, tick: Timestamp) -> Option<Sample> {
        let known = self.known.get_mut(&(device.clone(), property))?;
        known.hold(&[(grid, tick)]);
        known.held.iter().find(|h| h.grid == grid).map(|h| h.sample.clone())
    }

    /// What a rung shows that is worked out of many readings (a mean, a count, what is late, what has a dead band), as of this
    /// moment; none before there is any. Like [`HomeState::at_tick`] it depends on nobody's asking.
    pub fn derived(
        &mut self,
        device: &DeviceId,
        property: Property,
        rung: Rung,
        now: Timestamp,
        wall: &Wall<'_>,
    ) -> Option<Sample> {
        let known = self.known.get_mut(&(device.clone(), property))?;
        known.go_on(property, now, wall);
        known.derived.as_ref()?.sample(property, rung, &known.reported.as_ref()?.value)
    }

    /// Everything known, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, Property, &Known)> {
        self.known.iter().map(|((d, p), k)| (d, *p, k))
    }

    /// Puts back what was known before a restart. Of two records of one property the later parts count, and of equally old
    /// parts those that were put back first.
    pub fn restore(&mut self, device: DeviceId, property: Property, known: Known) {
        match self.known.get_mut(&(device.clone(), property)) {
            Some(before) => before.absorb(known),
            None => drop(self.known.insert((device, property), known)),
        }
    }

    /// What is known of one property.
    pub fn known(&self, device: &DeviceId, property: Property) -> Option<&Known> {
        self.get(device, property)
    }

    /// Forgets a device.
    pub fn forget(&mut self, device: &DeviceId) {
        self.known.retain(|(d, _), _| d != device);
    }

    fn get(&self, device: &DeviceId, property: Property) -> Option<&Known> {
        self.known.get(&(device.clone(), property))
    }
}

impl Known {
    fn absorb(&mut self, other: Known) {
        let is_later =
            |new: &Option<Sample>, old: &Option<Sample>| new.as_ref().map(|s| s.time) > old.as_ref().map(|s| s.time);
        // In one quarter of an hour there may be several readings.
        let progress = |known: &Known| {
            (known.derived.as_ref().map(Derived::quarter), known.reported.as_ref().map(|sample| sample.time))
        };
        let has_gone_further = other.derived.is_some() && progress(&other) > progress(self);
        if is_later(&other.reported, &self.reported) {
            self.reported = other.reported;
        }
        if is_later(&other.desired, &self.desired) {
            self.desired = other.desired;
        }
        for held in other.held {
            match self.held.iter_mut().find(|h| h.grid == held.grid) {
                None => self.held.push(held),
                Some(before) if before.tick < held.tick => *before = held,
                Some(_) => {}
            }
        }
        if has_gone_further {
            self.derived = other.derived;
        }
    }

    /// The newest was true at every tick since.
    fn go_on(&mut self, property: Property, now: Timestamp, wall: &Wall<'_>) {
        let Some(newest) = &self.reported else { return };
        let begin = || Derived::new(property, newest, (wall.moments)(newest.time));
        self.derived.get_or_insert_with(begin).go_on(property, &newest.value, now, wall);
    }

    /// Moves each grid's held value on to its newest tick: the newest value known so far is what was true then.
    fn hold(&mut self, ticks: &[(Grid, Timestamp)]) {
        let Some(newest) = &self.reported else { return };
        for (grid, tick) in ticks {
            // A clock that steps back never shows an older tick.
            let time = newest.time.max(*tick);
            let next = Held { grid: *grid, tick: *tick, sample: Sample { value: newest.value.clone(), time } };
            match self.held.iter_mut().find(|h| h.grid == *grid) {
                None => self.held.push(next),
                Some(held) if held.tick < *tick => *held = next,
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derived::Moments;

    const HOUR: Grid = Grid::Hour;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    fn reading(minutes: i64, milli: i32) -> Reading {
        Reading {
            device: DeviceId::new("t").unwrap(),
            property: Property::LocalTemperature,
            value: Value::Temperature(milli),
            time: at(minutes),
        }
    }

    fn wall() -> Wall<'static> {
        Wall { moments: &moments, unseen: &[] }
    }

    /// A home in Greenwich in winter.
    fn moments(time: Timestamp) -> Moments {
        let (quarter, hour, day) = (time.floor_to(900_000), time.floor_to(3_600_000), time.floor_to(86_400_000));
        let (hour_before, day_before) = (hour.plus_millis(-3_600_000), day.plus_millis(-86_400_000));
        Moments { quarter, hour, hour_before, hour_end: hour.plus_millis(3_600_000), day, day_before }
    }

    fn take(home: &mut HomeState, r: Reading) -> Update {
        let tick = r.time.floor_to(3_600_000);
        home.report(r, &[(HOUR, tick)], &wall())
    }

    fn held(home: &mut HomeState, now: i64) -> Option<(Value, i64)> {
        let tick = at(now).floor_to(3_600_000);
        home.at_tick(&DeviceId::new("t").unwrap(), Property::LocalTemperature, HOUR, tick)
            .map(|s| (s.value, s.time.as_millis() / 60_000))
    }

    #[test]
    fn the_first_reading_is_held_until_the_next_tick_whenever_it_is_asked_for() {
        let mut home = HomeState::default();
        assert_eq!(held(&mut home, 10), None);
        take(&mut home, reading(12, 20_000));
        take(&mut home, reading(40, 25_000));
        assert_eq!(held(&mut home, 41), Some((Value::Temperature(20_000), 12)));
        assert_eq!(held(&mut home, 59), Some((Value::Temperature(20_000), 12)));
        // At the tick the newest was 25 °C; a reading after the tick does not change what was true at it.
        take(&mut home, reading(65, 30_000));
        assert_eq!(held(&mut home, 70), Some((Value::Temperature(25_000), 60)));
        // A clock that steps back never shows an older tick.
        assert_eq!(held(&mut home, 30), Some((Value::Temperature(25_000), 60)));
    }

    #[test]
    fn of_two_records_the_later_parts_count() {
        let device = DeviceId::new("t").unwrap();
        let record = |home: &HomeState| home.known(&device, Property::LocalTemperature).unwrap().clone();
        let mut home = HomeState::default();
        take(&mut home, reading(10, 20_000));
        let history = record(&home);
        held(&mut home, 70);
        let asked = record(&home);
        // A clock that stands for one that was set back: another value at the same time.
        take(&mut home, reading(10, 21_000));
        let newest = record(&home);
        let put_back = |records: &[&Known]| {
            let mut home = HomeState::default();
            records.iter().for_each(|k| home.restore(device.clone(), Property::LocalTemperature, (*k).clone()));
            (home.reported(&device, Property::LocalTemperature).unwrap().value.clone(), held(&mut home, 70))
        };
        let value = Value::Temperature;
        assert_eq!(put_back(&[&newest, &asked]), (value(21_000), Some((value(20_000), 60))));
        assert_eq!(put_back(&[&history, &asked]), (value(20_000), Some((value(20_000), 60))));
        assert_eq!(put_back(&[&asked, &history]), (value(20_000), Some((value(20_000), 60))));
    }

    /// Of two records of one quarter of an hour, that with the later reading knows what has begun by it.
    #[test]
    fn of_two_records_of_one_quarter_of_an_hour_the_one_with_the_later_reading_counts() {
        let (device, property) = (DeviceId::new("d").unwrap(), Property::ContactOpen);
        let mut home = HomeState::default();
        let open = |home: &mut HomeState, minutes: i64, is_open| {
            let reading = Reading { device: device.clone(), property, value: Value::Bool(is_open), time: at(minutes) };
            home.report(reading, &[], &wall());
            home.known(&device, property).unwrap().clone()
        };
        open(&mut home, -60, false);
        let (before, after) = (open(&mut home, 31, false), open(&mut home, 32, true));
        for records in [[&before, &after], [&after, &before]] {
            let mut home = HomeState::default();
            records.into_iter().for_each(|known| home.restore(device.clone(), property, known.clone()));
            let count = home.derived(&device, property, Rung::DayCount, at(24 * 60 + 1), &wall());
            assert_eq!(count.map(|s| s.value), Some(Value::Count(1)));
        }
    }

    /// An earlier version stored no more than the newest: what follows from it is as of full hours all the same.
    #[test]
    fn a_record_of_an_earlier_version_goes_on_from_its_newest_reading() {
        let device = DeviceId::new("t").unwrap();
        let mut home = HomeState::default();
        take(&mut home, reading(10, 20_400));
        let known = home.known(&device, Property::LocalTemperature).unwrap();
        let mut json = serde_json::to_value(known).unwrap();
        assert!(json.as_object_mut().unwrap().remove("derived").is_some());
        let mut again = HomeState::default();
        again.restore(device.clone(), Property::LocalTemperature, serde_json::from_value(json).unwrap());
        take(&mut again, reading(130, 26_000));
        let mut shown = |rung| {
            let sample = again.derived(&device, Property::LocalTemperature, rung, at(131), &wall());
            sample.map(|s| (s.value, s.time))
        };
        assert_eq!(shown(Rung::HourSteady), Some((Value::Temperature(20_000), at(120))));
        assert_eq!(shown(Rung::HourMean), Some((Value::Temperature(20_400), at(120))));
        assert_eq!(shown(Rung::HourLate), Some((Value::Temperature(20_400), at(60))));
    }

    #[test]
    fn asking_or_not_asking_changes_nothing() {
        let (mut asked, mut quiet) = (HomeState::default(), HomeState::default());
        for m in 0..300 {
            let r = reading(m, 20_000 + (m as i32 * 37) % 4000);
            take(&mut asked, r.clone());
            take(&mut quiet, r);
            held(&mut asked, m);
        }
        assert_eq!(held(&mut asked, 301), held(&mut quiet, 301));
    }

    #[test]
    fn old_readings_are_ignored_and_desired_is_kept_apart() {
        let mut home = HomeState::default();
        let device = DeviceId::new("t").unwrap();
        assert_eq!(take(&mut home, reading(10, 20_000)), Update::Changed);
        assert_eq!(take(&mut home, reading(9, 10_000)), Update::Stale);
        assert_eq!(take(&mut home, reading(11, 20_000)), Update::Same);
        home.desire(device.clone(), Property::LocalTemperature, Value::Temperature(1), at(12));
        assert_eq!(home.reported(&device, Property::LocalTemperature).unwrap().value, Value::Temperature(20_000));
    }
}

//! A recording as the hub would have taken it in, without a broker: its devices publish, and the device room hears.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use home::{Description, Reading};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::{DeviceId, TemperatureScale, Timestamp};

use super::{ReplayError, devices, ordonez, parse};
use crate::counters::Counters;
use crate::mqtt::house::{Event, House};
use crate::simulator::Publication;

/// What a recording says.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Its devices.
    pub devices: BTreeMap<DeviceId, Description>,
    /// What they said, in order of time. A recording's local times are taken as UTC: it does not say where it was made.
    pub readings: Vec<Reading>,
    /// From when to when nobody was at home, where the residents have said so themselves.
    pub nobody_home: Option<Vec<(Timestamp, Timestamp)>>,
    /// Lines that could not be read.
    pub skipped: u64,
}

/// Hears a whole recording: an ecobee export, or one of the Ordóñez logs (by the name of its file of sensors or of its
/// file of activities).
///
/// # Errors
/// When the file can't be opened, or is none of these.
pub fn hear(path: &Path) -> Result<Heard, ReplayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ReplayError::File { path, source }
    };
    if let Some((sensors, activities)) = ordonez::files(path) {
        let (lines, skipped) = ordonez::read(&sensors).map_err(failed(&sensors))?;
        let (said, unread) = ordonez::read(&activities).map_err(failed(&activities))?;
        let mut ear = Ear::new();
        let (descriptions, messages) = ordonez::messages(&lines);
        for publication in &descriptions {
            ear.hear(publication, Timestamp::default());
        }
        for (time, publication) in &messages {
            ear.hear(publication, utc(*time));
        }
        let nobody_home = ordonez::leaving(&said).into_iter().map(|(from, to)| (utc(from), utc(to))).collect();
        return Ok(Heard { nobody_home: Some(nobody_home), skipped: skipped + unread, ..ear.heard });
    }
    let file = File::open(path).map_err(failed(path))?;
    let rows = parse(BufReader::new(file)).map_err(|source| ReplayError::Header { path: path.to_owned(), source })?;
    let home = devices::Home::new(rows.layout());
    let mut ear = Ear::new();
    for publication in home.announce() {
        ear.hear(&publication, Timestamp::default());
    }
    for row in rows {
        let Ok(row) = row else {
            ear.heard.skipped += 1;
            continue;
        };
        for message in home.messages(&row) {
            ear.hear(&message.publication, utc(row.time));
        }
    }
    Ok(ear.heard)
}

fn utc(time: DateTime) -> Timestamp {
    let zoned = time.to_zoned_datetime(TimeZone::UTC);
    Timestamp::from_millis(zoned.map(|z| z.timestamp().as_millisecond()).unwrap_or_default())
}

/// The device room, and what it has heard.
struct Ear {
    house: House,
    heard: Heard,
}

impl Ear {
    fn new() -> Self {
        let counters = Arc::new(Counters::default());
        let house = House::new("homeassistant", TemperatureScale::Celsius, BTreeMap::new(), counters);
        Self { house, heard: Heard::default() }
    }

    fn hear(&mut self, publication: &Publication, now: Timestamp) {
        for event in self.house.hear(&publication.topic, publication.payload.as_bytes(), now) {
            match event {
                Event::Described { device, description } => drop(self.heard.devices.insert(device, description)),
                Event::Withdrawn { device } => drop(self.heard.devices.remove(&device)),
                Event::Reading(reading) => {
                    // Out of order where the clocks went back: of one home time goes forward.
                    let last = self.heard.readings.last().map(|r| r.time).unwrap_or_default();
                    self.heard.readings.push(Reading { time: reading.time.max(last), ..reading });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{Property, Value};

    use super::*;

    #[test]
    fn a_recording_is_heard_as_the_hub_hears_it_in_its_units() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("export.csv");
        std::fs::write(&file, include_bytes!("fixtures/oddities.csv")).unwrap();
        let heard = hear(&file).unwrap();
        assert!(heard.devices.len() > 1 && heard.nobody_home.is_none(), "{:?}", heard.devices.keys());
        let temperatures = heard.readings.iter().filter(|r| r.property == Property::LocalTemperature);
        let mut seen = 0;
        for reading in temperatures {
            let Value::Temperature(milli) = reading.value else { panic!("{reading:?}") };
            assert!((10_000..40_000).contains(&milli), "{reading:?}");
            seen += 1;
        }
        assert!(seen > 0 && heard.readings.is_sorted_by_key(|r| r.time));
    }

    #[test]
    fn a_log_of_activities_says_when_nobody_was_at_home() {
        let dir = tempfile::tempdir().unwrap();
        let head = "Start time\tEnd time\n----\t----\n";
        let file = |name: &str| dir.path().join(name);
        let leaving = "2011-11-28 12:00:00\t2011-11-28 14:00:00\tLeaving\n";
        std::fs::write(file("X_ADLs.txt"), format!("{head}{leaving}")).unwrap();
        let door = "2011-11-28 12:00:10\t2011-11-28 12:00:14\tMaindoor\tMagnetic\tEntrance\n";
        std::fs::write(file("X_Sensors.txt"), format!("{head}{door}")).unwrap();
        for named in ["X_Sensors.txt", "X_ADLs.txt"] {
            let heard = hear(&file(named)).unwrap();
            let (from, to) = heard.nobody_home.unwrap()[0];
            assert_eq!(to.as_millis() - from.as_millis(), 2 * 3_600_000);
            let contact = heard.readings.iter().filter(|r| r.property == Property::ContactOpen).count();
            assert_eq!((heard.devices.len(), contact), (1, 2));
        }
    }
}

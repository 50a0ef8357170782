//! Reads the Ordóñez logs ("ADLs Recognition Using Binary Sensors", UCI): two homes with contacts, motion detectors and
//! pressure mats, each event with its start and end, and beside them what the residents say they did.
//!
//! A table of text: two lines of header, then start, end and words, separated by tabs and blanks as it came.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use serde_json::json;

use crate::simulator::Publication;

/// Longest file that is read, in bytes (the real ones have under 200 KB).
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Root of the topics.
const BASE: &str = "ordonez";

/// What stands for the sensors and the activities in the two files' names.
const SENSORS: &str = "_Sensors";
const ACTIVITIES: &str = "_ADLs";

/// How the residents call that nobody is at home.
const LEAVING: &str = "Leaving";

/// Lines of header.
const HEADER_LINES: usize = 2;

/// One line: from when to when, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) start: DateTime,
    pub(super) end: DateTime,
    pub(super) words: Vec<String>,
}

/// The file of sensors and the file of activities, where `file` is named as one of the two.
pub(super) fn files(file: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = file.file_name()?.to_str()?;
    let (sensors, activities) = if name.contains(SENSORS) {
        (name.to_owned(), name.replace(SENSORS, ACTIVITIES))
    } else if name.contains(ACTIVITIES) {
        (name.replace(ACTIVITIES, SENSORS), name.to_owned())
    } else {
        return None;
    };
    Some((file.with_file_name(sensors), file.with_file_name(activities)))
}

/// The lines of a file in the order of their starts, and how many could not be read.
pub(super) fn read(file: &Path) -> std::io::Result<(Vec<Line>, u64)> {
    if std::fs::metadata(file)?.len() > FILE_MAX_BYTES {
        let reason = format!("it is longer than {FILE_MAX_BYTES} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, reason));
    }
    Ok(parse(&std::fs::read_to_string(file)?))
}

fn parse(text: &str) -> (Vec<Line>, u64) {
    let rows = text.lines().skip(HEADER_LINES).filter(|line| !line.trim().is_empty());
    let (mut lines, mut skipped) = (Vec::new(), 0);
    for row in rows {
        match line(row) {
            Some(line) => lines.push(line),
            None => skipped += 1,
        }
    }
    lines.sort_by_key(|line| line.start);
    (lines, skipped)
}

fn line(row: &str) -> Option<Line> {
    let mut words = row.split_whitespace();
    let mut time = || format!("{}T{}", words.next()?, words.next()?).parse::<DateTime>().ok();
    let (start, end) = (time()?, time()?);
    let words: Vec<String> = words.map(str::to_owned).collect();
    (start <= end && !words.is_empty()).then_some(Line { start, end, words })
}

/// From when to when the residents say that nobody was at home.
pub(super) fn leaving(lines: &[Line]) -> Vec<(DateTime, DateTime)> {
    let away = lines.iter().filter(|line| line.words.first().is_some_and(|word| word == LEAVING));
    away.map(|line| (line.start, line.end)).collect()
}

/// The sensors' descriptions, and what they say, in order of time.
pub(super) fn messages(lines: &[Line]) -> (Vec<Publication>, Vec<(DateTime, Publication)>) {
    let mut descriptions: Vec<Publication> = Vec::new();
    let mut said = Vec::new();
    for line in lines {
        let name = line.words.join(" ");
        let id: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
        let topic = format!("{BASE}/{id}");
        let config = format!("homeassistant/binary_sensor/{BASE}_{id}/config");
        if !descriptions.iter().any(|d| d.topic == config) {
            let payload = json!({
                "name": null, "uniq_id": format!("{BASE}_{id}"), "dev_cla": class(&line.words), "stat_t": topic,
                "dev": {"ids": [format!("{BASE}_{id}")], "name": name, "mdl": "recording"},
            });
            descriptions.push(Publication { topic: config, payload: payload.to_string(), retain: true });
        }
        for (time, state) in [(line.start, "ON"), (line.end, "OFF")] {
            said.push((time, Publication { topic: topic.clone(), payload: state.to_owned(), retain: true }));
        }
    }
    said.sort_by_key(|(time, _)| *time);
    (descriptions, said)
}

/// Home Assistant's word for a sensor: what a flush or an appliance does is a movement of a thing.
fn class(words: &[String]) -> &'static str {
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    match () {
        () if has("Maindoor") => "door",
        () if has("Magnetic") => "opening",
        () if has("PIR") => "motion",
        () if has("Pressure") => "occupancy",
        () => "moving",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_whatever_stands_between_the_words() {
        let text = "Start time \tEnd time \tActivity\n-----\t----\n\
            2011-11-28 10:21:24\t\t2011-11-28 10:21:31 \t Maindoor\tMagnetic\t\tEntrance\n\
            2011-11-28 02:27:59\t\t2011-11-28 10:18:11\t\tBed\t\t\tPressure\tBedroom\n\
            2011-11-28 early\t2011-11-28 10:18:11\tBed\n";
        let (lines, skipped) = parse(text);
        assert_eq!((lines.len(), skipped), (2, 1));
        assert_eq!(lines[0].words, ["Bed", "Pressure", "Bedroom"]);
        let (descriptions, said) = messages(&lines);
        assert_eq!((descriptions.len(), said.len()), (2, 4));
        assert!(descriptions[1].payload.contains(r#""dev_cla":"door""#));
        assert_eq!((said[1].1.payload.as_str(), said[3].1.payload.as_str()), ("OFF", "OFF"));
    }
}

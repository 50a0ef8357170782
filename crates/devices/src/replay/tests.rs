use std::io::Cursor;
use std::path::Path;

use jiff::civil::date;

use super::*;
use crate::simulator::test_broker::TestBroker;

const ODDITIES: &[u8] = include_bytes!("fixtures/oddities.csv");

/// The recordings' folder, or a loud word that the test is skipped.
fn recording(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("VESTIBULE_RECORDINGS") else {
        eprintln!("SKIPPED: VESTIBULE_RECORDINGS not set");
        return None;
    };
    Some(Path::new(&folder).join("ecobee").join(name))
}

#[test]
fn every_oddity_is_read_or_reported_with_its_line() {
    let rows = parse(Cursor::new(ODDITIES)).unwrap();
    let layout = rows.layout().clone();
    assert_eq!((layout.name.as_str(), layout.identifier.as_str()), ("Hallway", "5113 0000"));
    assert_eq!(layout.scale, Scale::Fahrenheit);
    assert_eq!(layout.sensors, ["Thermostat", "Kids, upstairs", "Café"]);
    assert_eq!(layout.ignored, ["Wind Speed (km/h)", "Back Door (contact)"]);

    let (rows, errors): (Vec<_>, Vec<_>) = rows.partition(Result::is_ok);
    let errors: Vec<String> = errors.into_iter().map(|e| e.unwrap_err().to_string()).collect();
    assert_eq!(
        errors,
        [
            "line 11: \"Current Temp (F)\" is \"sixty\", which is no number",
            "line 12: \"1/32/26\" is no date",
            "line 13: \"quarter past\" is no time",
            "line 16: \"Current Temp (F)\" is \"NaN\", which is no number",
            "line 17: \"7\" stands beyond the last of 26 columns",
        ]
    );
    let rows: Vec<Row> = rows.into_iter().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|r| r.line).collect::<Vec<_>>(), [7, 8, 9, 14, 15, 18, 19, 20]);
    let [first, blended, outdoor, odd_time, open_quote, cool, .., empty] = &rows[..] else { panic!("{rows:?}") };

    assert_eq!(first.time, date(2026, 1, 4).at(0, 0, 0, 0));
    assert_eq!((first.temperature, first.humidity, first.outdoor), (Some(65.7), Some(33.0), Some(20.5)));
    assert_eq!((first.heating_s, first.cooling_s, first.fan_s), (Some(300.0), Some(0.0), Some(300.0)));
    assert_eq!((first.co2, first.voc), (Some(640.0), Some(510.0)));
    assert_eq!(first.sensors[2], SensorRow { temperature: Some(65.0), motion: Some(true) });
    assert_eq!(blended.event.as_deref(), Some("(SmartRecovery)"));
    assert_eq!(blended.heat_set_point, Some(67.4));
    assert_eq!(blended.sensors[0].motion, Some(true));
    assert_eq!(blended.sensors[2], SensorRow::default());
    assert!(outdoor.has_outdoor_only() && !outdoor.has_control_temperature());
    assert_eq!(odd_time.time, date(2026, 1, 4).at(0, 25, 0, 0));
    assert_eq!(odd_time.event.as_deref(), Some("hold, by \"hand\""));
    assert_eq!((open_quote.time.minute(), open_quote.temperature), (30, None));
    assert_eq!(cool.temperature, Some(66.1));
    assert_eq!(empty, &Row { line: 20, time: empty.time, sensors: vec![SensorRow::default(); 3], ..Row::default() });

    // What the devices make of it.
    let home = devices::Home::new(&layout);
    let said = |row: &Row| {
        home.messages(row).into_iter().map(|m| (m.publication.topic, m.publication.payload)).collect::<Vec<_>>()
    };
    let json = |row: &Row| serde_json::from_str::<serde_json::Value>(&said(row)[0].1).unwrap();
    assert_eq!(json(first)["action"], "heating");
    assert_eq!(json(first)["mode"], "heat_cool");
    assert_eq!(json(blended)["action"], "fan");
    assert_eq!(json(odd_time)["action"], "off");
    assert_eq!(json(cool)["action"], "cooling");
    assert_eq!(said(outdoor), [("recording/ecobee_5113_0000/outdoor".to_owned(), "20.3".to_owned())]);
    assert_eq!(said(empty), []);
}

#[test]
fn dates_follow_the_preamble_and_scales_the_header() {
    let file = |end: &str, header: &str, line: &str| {
        let text = format!("#,End,date,{end}\nDate,Time,{header}\n{line}\n");
        parse(Cursor::new(text.into_bytes())).map(|rows| (rows.layout().scale, rows.collect::<Vec<_>>()))
    };
    let row = |end, line| file(end, "Current Temp (C)", line).unwrap().1.remove(0);
    assert_eq!(row("7/10/23", "6/9/23,0:00,21.5").unwrap().time.date(), date(2023, 6, 9));
    assert_eq!(row("13.07.2023", "09.06.2023,23:59:59,21.5").unwrap().time, date(2023, 6, 9).at(23, 59, 59, 0));
    assert_eq!(row("", "2023-06-09,12:00 PM,21.5").unwrap().time, date(2023, 6, 9).at(12, 0, 0, 0));
    for bad in ["6/9,0:00", "2/29/23,0:00", "6/9/23,24:00", "6/9/23,13:00 PM", "6/9/23,", ",0:00,1", "6/9/23,0:-5"] {
        assert!(row("7/10/23", bad).is_err(), "{bad}");
    }
    assert_eq!(file("", "Current Temp (C)", "").unwrap().0, Scale::Celsius);
    assert!(matches!(file("", "Current Temp (C),Outdoor Temp (F)", ""), Err(HeaderError::MixedScales { line: 2 })));
    assert!(matches!(parse(Cursor::new("a,b\n".repeat(999).into_bytes())), Err(HeaderError::Missing)));
    // A line without an end is one bad line, not the end of memory, and the next is read.
    let long = format!("{}\n6/9/23,0:00,21.5", "x".repeat(1 << 20));
    let rows = file("7/10/23", "Current Temp (C)", &long).unwrap().1;
    assert_eq!((rows[0].is_err(), rows[1].as_ref().unwrap().temperature), (true, Some(21.5)));
}

#[test]
fn any_bytes_are_read_without_a_panic() {
    use proptest::prelude::*;
    let header = ODDITIES.split_inclusive(|b| *b == b'\n').take(6).flatten().copied().collect::<Vec<_>>();
    proptest!(ProptestConfig::with_cases(200), |(bytes in proptest::collection::vec(any::<u8>(), 0..400), whole: bool)| {
        let text = if whole { bytes } else { [header.clone(), bytes].concat() };
        if let Ok(rows) = parse(Cursor::new(text)) {
            rows.for_each(drop);
        }
    });
}

#[test]
fn the_real_recording_has_what_was_counted_in_it() {
    let Some(path) = recording("report_thermostat.csv") else {
        return;
    };
    let rows = parse(BufReader::new(File::open(path).unwrap())).unwrap();
    assert_eq!(rows.layout().sensors.len(), 10);
    let rows: Vec<Row> = rows.map(Result::unwrap).collect();
    assert_eq!(rows.len(), 9216);
    assert_eq!(rows.iter().filter(|r| r.has_control_temperature()).count(), 9095);
    assert_eq!(rows.iter().filter(|r| r.has_outdoor_only()).count(), 13);
    assert_eq!(rows.iter().filter(|r| r.event.as_deref() == Some("(SmartRecovery)")).count(), 70);
    assert_eq!(rows[0].time, date(2023, 6, 9).at(0, 0, 0, 0));
    assert_eq!(rows[9215].time, date(2023, 7, 10).at(23, 55, 0, 0));

    let excerpt = recording("DR_Simulation.csv").unwrap();
    let rows: Vec<Row> = parse(BufReader::new(File::open(excerpt).unwrap())).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.iter().filter(|r| r.has_control_temperature()).count(), 288);
}

#[test]
fn urls_of_brokers() {
    let broker = |url: &str| {
        let options = mqtt_options(url).unwrap();
        options.broker().tcp_address().map(|(host, port)| (host.to_owned(), port)).unwrap()
    };
    assert_eq!(broker("mqtt://broker"), ("broker".to_owned(), 1883));
    assert_eq!(broker("mqtt://u:p%40@broker:1884?keep_alive_secs=9"), ("broker".to_owned(), 1884));
    let plain = |url: &str| without_tls(url).0;
    assert_eq!(plain("mqtts://u:p@broker/?keep_alive_secs=9"), "mqtt://u:p@broker:8883/?keep_alive_secs=9");
    assert_eq!(plain("mqtts://broker:1"), "mqtt://broker:1");
    assert_eq!(plain("mqtts://[::1]"), "mqtt://[::1]:8883");
    for url in ["http://broker", "broker", "", "mqtts://", "mqtt://b?nonsense=1"] {
        assert!(matches!(mqtt_options(url), Err(ReplayError::Url(_))), "{url}");
    }
}

fn options(file: PathBuf, port: u16) -> Options {
    Options { file, mqtt_url: format!("mqtt://127.0.0.1:{port}"), speed: 0.0, stay_online: false }
}

#[tokio::test]
async fn a_replay_says_everything_to_the_broker_and_counts_it() {
    let broker = TestBroker::start().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replay/fixtures/oddities.csv");
    let mut skipped = Vec::new();
    let summary = run(options(file, broker.port), |progress| {
        if let Progress::Skipped(error) = progress {
            skipped.push(error.line);
        }
    })
    .await
    .unwrap();
    assert_eq!((summary.rows, summary.with_control_temperature, summary.outdoor_only), (13, 4, 1));
    assert_eq!((summary.skipped, summary.skipped_lines.len()), (5, 5));
    assert_eq!(skipped, [11, 12, 13, 16, 17]);

    let heard = broker.heard_until(|all| all.last().is_some_and(|last| last.1 == "offline")).await;
    let states: Vec<_> =
        heard.iter().filter(|(t, _)| t.starts_with("recording/") && !t.ends_with("availability")).collect();
    assert_eq!(states.len() as u64, summary.published);
    let configs = heard.iter().filter(|(topic, _)| topic.starts_with("homeassistant/")).count();
    assert_eq!(configs, 1 + 2 * 3);
    let temperatures = states.iter().filter(|(_, payload)| payload.contains("\"temperature\"")).count();
    assert_eq!(temperatures as u64, summary.readings_by_property["local_temperature"]);
    assert_eq!(summary.readings, summary.readings_by_property.values().sum::<u64>());
}

#[tokio::test]
async fn the_whole_real_recording_arrives() {
    let Some(path) = recording("report_thermostat.csv") else {
        return;
    };
    let broker = TestBroker::start().await;
    // The ear keeps up without a pace.
    let summary = replay(options(path, broker.port), Duration::ZERO, |_| ()).await.unwrap();
    assert_eq!((summary.rows, summary.skipped), (9216, 0));
    assert_eq!((summary.with_control_temperature, summary.outdoor_only), (9095, 13));
    assert_eq!(summary.readings_by_property["relative_humidity"], 9095);
    let heard = broker.heard_until(|all| all.last().is_some_and(|last| last.1 == "offline")).await;
    let states = heard.iter().filter(|(t, _)| t.starts_with("recording/")).count() as u64;
    assert_eq!(states, summary.published + 2, "state messages, and availability twice");
}

#[tokio::test]
async fn what_cannot_be_replayed_says_why() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let missing = run(options(PathBuf::from("no such file"), free), |_| ()).await.unwrap_err();
    assert!(missing.to_string().starts_with("can't open no such file: "), "{missing}");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/replay/fixtures/oddities.csv");
    let slow = Options { speed: -1.0, ..options(file.clone(), free) };
    assert!(matches!(run(slow, |_| ()).await, Err(ReplayError::Speed(_))));
    let nobody = run(options(file, free), |_| ()).await.unwrap_err();
    assert!(matches!(nobody, ReplayError::Broker { attempts: MAX_ATTEMPTS, .. }), "{nobody}");
}

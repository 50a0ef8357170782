//! The thermostat from the command line: the simulated house beside the real recording, imports, exports, reports.

use crate::harness::{recordings, run, run_json, run_ok, skipped};

fn recording(test: &str) -> Option<String> {
    let folder = recordings();
    if folder.is_none() {
        skipped(test, "VESTIBULE_RECORDINGS is not set");
    }
    folder.map(|f| f.join("ecobee/report_thermostat.csv").to_str().unwrap().to_owned())
}

/// The bars that a thermostat has to pass beside the one that was recorded.
#[test]
fn the_thermostat_does_better_than_the_recorded_one_in_its_house() {
    let Some(file) = recording("the_thermostat_does_better_than_the_recorded_one_in_its_house") else { return };
    for seed in ["1", "2", "77"] {
        let ours = run_json(&["thermostat", "simulate", "--recording", &file, "--seed", seed, "--json"]);
        let number = |key: &str| ours[key].as_f64().unwrap();
        let theirs = |key: &str| ours["recording"][key].as_f64().unwrap();
        assert!(number("over_1f_share") <= 0.017, "{ours}");
        assert!(number("starts_per_hour_max") <= 4.0 && number("off_s_min") >= 300.0, "{ours}");
        assert!(number("discomfort_fh_per_day") <= 1.05 * theirs("discomfort_fh_per_day"), "{ours}");
        assert!(number("runtime_h") <= 1.05 * theirs("runtime_h"), "{ours}");
        assert_eq!(ours["guards_broken"], 0);
        // Its own control's seconds are played as they were recorded: 51.0 h.
        assert!((theirs("runtime_h") - 50.98).abs() < 0.05, "{ours}");
        let errors: Vec<f64> = ours["arrival_error_f"].as_array().unwrap().iter().filter_map(|e| e.as_f64()).collect();
        let near = errors.iter().filter(|e| e.abs() <= 0.5).count();
        assert!(errors.len() >= 10 && near * 10 >= errors.len() * 8, "{errors:?}");
    }
}

#[test]
fn another_house_can_be_given_in_either_notation() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let toml = write("house.toml", "mass_outdoor_h = 20.0\nheat_f_h = 12.0\n");
    let json = write("house.json", "{\n  \"mass_outdoor_h\": 20.0,\n  // a remark\n  \"heat_f_h\": 12.0\n}");
    let days = |house: &str| run_json(&["thermostat", "simulate", "--days", "20", "--house", house, "--json"]);
    let (a, b) = (days(&toml), days(&json));
    assert_eq!(a, b);
    assert_ne!(a, run_json(&["thermostat", "simulate", "--days", "20", "--json"]));
    assert_eq!(a["guards_broken"], 0);
    let bad = run(&["thermostat", "simulate", "--days", "2", "--house", &write("bad.toml", "cool_w = -1.0\n")]);
    assert_eq!(bad.status.code(), Some(1));
    let told = String::from_utf8(bad.stderr).unwrap();
    assert!(told.contains("bad.toml") && told.contains("cool_w"), "{told}");
}

#[test]
fn a_seed_with_faults_is_printed_and_plays_again() {
    let once = run_ok(&["thermostat", "simulate", "--days", "15", "--faults", "--seed", "42"]);
    assert!(once.contains("seed 42"), "{once}");
    assert_eq!(once, run_ok(&["thermostat", "simulate", "--days", "15", "--faults", "--seed", "42"]));
    assert_ne!(once, run_ok(&["thermostat", "simulate", "--days", "15", "--faults", "--seed", "43"]));
}

#[test]
fn the_real_export_comes_out_to_the_byte_and_is_reported() {
    let Some(file) = recording("the_real_export_comes_out_to_the_byte_and_is_reported") else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let out = folder.path().join("out.csv");
    let imported = run_json(&["thermostat", "import", &file, "--json", "--data", &data]);
    assert_eq!((imported["rows"].as_u64(), imported["new_rows"].as_u64()), (Some(9216), Some(9216)));
    // Twice is once.
    let again = run_json(&["thermostat", "import", &file, "--json", "--data", &data]);
    assert_eq!(again["new_rows"], 0);
    run_ok(&["thermostat", "export", out.to_str().unwrap(), "--data", &data]);
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&file).unwrap(), "the export differs from the import");
    let report = run_json(&["thermostat", "report", "--month", "2023-06", "--json", "--data", &data]);
    let straight = run_json(&["thermostat", "report", "--month", "2023-06", "--json", "--recording", &file]);
    assert_eq!(report, straight);
    let epa = &report["epa"]["cooling"];
    let near = |key: &str, golden: f64, by: f64| {
        let value = epa[key].as_f64().unwrap();
        assert!((value - golden).abs() <= by, "{key} is {value}, not {golden}");
    };
    assert_eq!(epa["core_days"], 19);
    near("tau_f", 19.5, 0.06);
    near("savings_percent", 16.2, 0.05);
    near("baseline_f", 71.7, 0.05);
    near("alpha_min_per_f", 8.9, 0.05);
    near("cvrmse", 0.47, 0.006);
    assert_eq!(report["days"].as_array().unwrap().len(), 22);
}

#[test]
fn what_is_no_export_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let file = folder.path().join("x.csv");
    std::fs::write(&file, "a,b\n1,2\n").unwrap();
    let out = run(&["thermostat", "import", file.to_str().unwrap(), "--data", &data]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8(out.stderr).unwrap().contains("Date,Time"));
    let out = run(&["thermostat", "report", "--month", "June", "--data", &data]);
    assert_eq!(out.status.code(), Some(1));
}

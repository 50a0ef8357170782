//! What each shipped profile grants, as a file that a reviewer reads: a change of policy is a diff.

use std::fmt::Write as _;
use std::path::Path;

use model::{ALL_PROPERTIES, ALL_TRIGGERS, Class, Kind};
use policy::{What, profiles};

#[test]
fn the_matrix_of_profiles_is_the_one_on_file() {
    let mut text = String::new();
    for profile in profiles() {
        writeln!(text, "# {}", profile.slug).unwrap();
        for property in ALL_PROPERTIES {
            let granted = profile.grants(*property, Kind::of(*property, Class::None));
            let cells: Vec<String> = ALL_TRIGGERS
                .iter()
                .map(|t| {
                    let rung = granted.iter().find_map(|w| match w {
                        What::Disclose { trigger, rung } if trigger == t => Some(rung.as_str()),
                        _ => None,
                    });
                    format!("{t}={}", rung.unwrap_or("-"))
                })
                .collect();
            let may = |open: bool| if granted.contains(&What::Control { open }) { "yes" } else { "-" };
            writeln!(text, "{:<26} {} control={} open={}", property.as_str(), cells.join(" "), may(false), may(true))
                .unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        golden, text,
        "the profiles grant something else than tests/golden/matrix.txt: set UPDATE_GOLDEN=1 if meant"
    );
}

//! What each shipped profile comes to, for each type of device and each of its properties, as a file that a reviewer
//! reads: the compiled table after the profile was applied. A change of policy is a diff.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use model::{
    ALL_PROPERTIES, ALL_TRIGGERS, Class, DeviceId, DeviceType, GrantId, HouseholdId, Kind, LinkId, MemberId, PartnerId,
    Property, Timestamp, Trigger,
};
use policy::{DeviceFact, Facts, LinkFact, Table, Terms, apply, compile, profiles};

/// Every nature of property that tells types and kinds apart.
const NATURES: &[(Property, Class)] = &[
    (Property::LocalTemperature, Class::None),
    (Property::OutdoorTemperature, Class::None),
    (Property::OccupiedHeatingSetpoint, Class::None),
    (Property::OccupiedCoolingSetpoint, Class::None),
    (Property::OccupiedSetpoint, Class::None),
    (Property::SetpointHold, Class::None),
    (Property::SetpointHoldDuration, Class::None),
    (Property::SystemMode, Class::None),
    (Property::RunningState, Class::None),
    (Property::RelativeHumidity, Class::None),
    (Property::Co2Concentration, Class::None),
    (Property::VocConcentration, Class::None),
    (Property::Motion, Class::None),
    (Property::Occupancy, Class::None),
    (Property::ContactOpen, Class::Door),
    (Property::ContactOpen, Class::Window),
    (Property::DoorState, Class::Garage),
    (Property::DoorState, Class::Gate),
    (Property::DoorState, Class::Blind),
    (Property::CoverPosition, Class::Garage),
    (Property::CoverPosition, Class::Blind),
    (Property::CoverTilt, Class::Blind),
    (Property::LockState, Class::Door),
    (Property::OnOff, Class::Light),
    (Property::OnOff, Class::Fan),
    (Property::OnOff, Class::Switch),
    (Property::CurrentLevel, Class::Light),
    (Property::ColorTemperature, Class::Light),
    (Property::Color, Class::Light),
    (Property::FanPercent, Class::Fan),
    (Property::FanOscillation, Class::Fan),
    (Property::FanDirection, Class::Fan),
    (Property::Scene, Class::None),
    (Property::SmokeState, Class::None),
    (Property::CoState, Class::None),
    (Property::LeakState, Class::None),
    (Property::ActivePower, Class::None),
    (Property::CumulativeEnergy, Class::None),
    (Property::BatteryPercent, Class::None),
];

/// What describes a device, whatever it is.
const DESCRIBED: &[Property] = &[
    Property::Reachable,
    Property::NodeLabel,
    Property::DeviceTypeName,
    Property::VendorName,
    Property::ProductName,
    Property::SerialNumber,
    Property::SoftwareVersion,
];

/// One device for each nature, with what describes it; and one with a property of unknown kind.
fn home() -> (Facts, Vec<String>) {
    let mut titles = Vec::new();
    let mut devices = Vec::new();
    let mut add = |property: Property, class: Class, kind: Kind| {
        let device_type = DeviceType::of([(property, &class)]);
        let described = DESCRIBED.iter().map(|p| (*p, Kind::of(*p, Class::None)));
        let class = format!("{class:?}").to_lowercase();
        titles.push(match class.as_str() {
            "none" => format!("{device_type}: {property}"),
            class => format!("{device_type}: {property} of a {class}"),
        });
        devices.push(DeviceFact {
            device: DeviceId::new(format!("d{}", devices.len())).unwrap(),
            device_type,
            properties: std::iter::once((property, kind)).chain(described).collect(),
        });
    };
    for (property, class) in NATURES {
        add(*property, *class, Kind::of(*property, *class));
    }
    add(Property::OnOff, Class::None, Kind::Unknown);
    let facts = Facts {
        household: HouseholdId::new("home").unwrap(),
        links: vec![LinkFact {
            link: link(),
            partner: PartnerId::new("alexa").unwrap(),
            gatekeeper: true,
            agent: false,
        }],
        devices,
    };
    (facts, titles)
}

fn link() -> LinkId {
    LinkId::new("link").unwrap()
}

/// One line: a property, and what each trigger and command comes to. The finest rung allowed stands for itself and all
/// that are coarser.
fn line(table: &Table, device: &DeviceFact, property: Property, kind: Kind) -> String {
    let told = |trigger: Trigger| {
        let rung = table.decide(&link(), &device.device, property, trigger).rung;
        rung.map_or("-", |r| r.as_str())
    };
    let may = |open| if table.may(&link(), &device.device, property, open).is_ok() { "yes" } else { "-" };
    let mut text = format!("  {:<26} {:<13}", property.as_str(), kind.as_str());
    for trigger in ALL_TRIGGERS {
        let _ = write!(text, "{:<13}", told(trigger));
    }
    let _ = write!(text, "{:<8}{}", may(false), may(true));
    text
}

#[test]
fn the_matrix_of_profiles_is_the_one_on_file() {
    let (facts, titles) = home();
    let owner = MemberId::new("owner").unwrap();
    let mut text = String::from(
        "What each profile comes to. A cell is the finest rung at which\n\
         the property is told for that trigger, `-` when it is refused. One block for each nature of device and property.\n",
    );
    let mut seen = BTreeSet::new();
    for profile in profiles() {
        let terms = Terms { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner.clone()] };
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        // Where a profile takes named sensors, all are named.
        let named = profile.of_named();
        let is_named = |d: &&DeviceFact| d.properties.iter().any(|(p, _)| named.contains(p));
        let sensors = facts.devices.iter().filter(is_named).map(|d| d.device.clone());
        let profile = &profile.naming(sensors);
        let grants = apply(profile, &facts, &link(), &[], &terms, ids).unwrap().add;
        let table = compile(&facts, &grants, None, Timestamp::default()).unwrap();
        writeln!(
            text,
            "\n# {}\n\n  {:<26} {:<13}{:<13}{:<13}{:<13}{:<13}{:<8}open",
            profile.slug, "property", "kind", "discovery", "response", "poll", "report", "control"
        )
        .unwrap();
        for (device, title) in facts.devices.iter().zip(&titles) {
            writeln!(text, "{title}").unwrap();
            for (property, kind) in &device.properties {
                seen.insert(*property);
                writeln!(text, "{}", line(&table, device, *property, *kind).trim_end()).unwrap();
            }
        }
    }
    assert_eq!(seen.len(), ALL_PROPERTIES.len(), "a property is in no device of this test");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/matrix.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let differ = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "the profiles come to something else than tests/golden/matrix.txt, from line {:?} on: `{}` is now `{}`; \
         set UPDATE_GOLDEN=1 if meant, and let the diff be read",
        differ.map(|n| n + 1),
        differ.and_then(|n| golden.lines().nth(n)).unwrap_or("the end"),
        differ.and_then(|n| text.lines().nth(n)).unwrap_or("the end"),
    );
}

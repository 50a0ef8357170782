//! The arrows between rooms, read from `cargo metadata`: they point only downwards, partner crates
//! reach only the outward face of the house, and each library that opens a door (a socket, a clock,
//! a database, randomness) stays in the rooms that are named for it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::shell;

/// The rooms from the top to the bottom of the house. A room may use only those below it; rooms of
/// one floor may not use each other. A new room fails the test until it is given its place here and
/// in ARCHITECTURE.md.
const FLOORS: &[&[&str]] = &[
    // The two binaries.
    &["vestibule", "prove"],
    &["console"],
    &["egress", "exposure"],
    // One crate for each partner.
    &["alexa"],
    &["gate"],
    &["devices"],
    // Behind the traits that links, ledger, policy and home define: so it stands above them.
    &["store"],
    &["links"],
    &["ledger"],
    &["policy"],
    &["comfort"],
    &["home"],
    &["disclosure"],
    &["model"],
    // Statistics over numbers: it knows of no home.
    &["inference"],
    // Points at which tests make the program fail; empty in a release build.
    &["faults"],
];

/// Outside the house: no room may use them, save as below.
const OUTSIDE: &[&str] = &["bench", "hostile", "testkit", "xtask"];

/// Rooms that may use `testkit` outside their tests: the binary, for the demo's pretend partners.
const MAY_USE_TESTKIT: &[&str] = &["vestibule"];

/// Where partner crates live, and all of our crates that they may reach.
const PARTNERS_FOLDER: &str = "/crates/partners/";
const PARTNERS_MAY_REACH: &[&str] = &["disclosure", "model"];

/// Rooms whose outputs are functions of their inputs (partner crates are too): no input or output,
/// no clock, no randomness.
const PURE: &[&str] = &["model", "disclosure", "home", "comfort", "policy", "ledger", "links", "exposure", "inference"];

/// Libraries that open a door, the rooms that may use each of them directly, and why. What is not
/// named here may be used by any room; what stands outside the house may use anything.
const DOORS: &[(&str, &[&str], &str)] = &[
    ("axum", &["console", "egress"], "the two listeners"),
    ("hyper", &["egress"], "HTTP towards partners"),
    ("hyper-util", &["egress"], "as hyper"),
    ("reqwest", &[], "egress speaks hyper: one HTTP client is enough"),
    ("ureq", &[], "as reqwest"),
    ("rumqttc-v4-next", &["devices", "vestibule"], "the MQTT client, and `vestibule replay`"),
    ("mqtt5", &["devices"], "the embedded broker"),
    ("rustix", &["faults", "vestibule"], "a test's `kill -9` from within; how many files may be open"),
    ("rusqlite", &["store"], "one room has SQL"),
    (
        "tokio",
        &["console", "egress", "devices", "store", "vestibule", "prove"],
        "rooms with sockets, threads or processes",
    ),
    ("cedar-policy-symcc", &["prove"], "heavy, and of no use to the hub"),
    ("rustls", &["egress"], "TLS towards partners"),
    ("tokio-rustls", &["egress"], "as rustls"),
    ("rustls-native-certs", &["egress"], "as rustls"),
    ("getrandom", &["store", "egress", "devices", "vestibule"], "randomness enters at the edges, as an argument"),
    ("rand", &[], "as getrandom"),
    ("tempfile", &["vestibule"], "the demo's data directory"),
];

/// What `cargo metadata --no-deps` says, as far as it matters here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    rust_version: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Package {
    /// What it needs outside its tests: normal and build dependencies, optional ones included.
    fn uses(&self) -> impl Iterator<Item = &str> {
        let dependencies = self.dependencies.iter();
        dependencies.filter(|dependency| dependency.kind.as_deref() != Some("dev")).map(|it| it.name.as_str())
    }

    fn is_partner(&self) -> bool {
        self.manifest_path.replace('\\', "/").contains(PARTNERS_FOLDER)
    }
}

fn metadata(arguments: &[&str]) -> Metadata {
    let mut command = shell::cargo(&["metadata", "--format-version", "1", "--locked"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every fault in the arrows, in words.
fn faults(packages: &[Package]) -> Vec<String> {
    let floors: BTreeMap<&str, usize> =
        FLOORS.iter().enumerate().flat_map(|(floor, rooms)| rooms.iter().map(move |room| (*room, floor))).collect();
    let by_name: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let outside = OUTSIDE.contains(&name);
        let floor = floors.get(name);
        if floor.is_none() && !outside {
            faults.push(format!("`{name}` has no place among the floors"));
        }
        for used in package.uses() {
            if let (Some(floor), Some(used_floor)) = (floor, floors.get(used))
                && used_floor <= floor
            {
                faults.push(format!("`{name}` uses `{used}`, which is not below it"));
            }
            if OUTSIDE.contains(&used) && !outside && !(used == "testkit" && MAY_USE_TESTKIT.contains(&name)) {
                faults.push(format!("`{name}` uses `{used}` outside its tests"));
            }
            if let Some((_, rooms, why)) = DOORS.iter().find(|(library, ..)| *library == used)
                && !rooms.contains(&name)
                && !outside
            {
                faults.push(format!("`{name}` uses `{used}`, kept to {rooms:?}: {why}"));
            }
        }
        if package.is_partner() {
            for reached in reach(name, &by_name) {
                if !PARTNERS_MAY_REACH.contains(&reached) {
                    faults.push(format!("partner `{name}` can reach `{reached}`"));
                }
            }
        }
    }
    faults
}

/// All of our crates that one can reach, itself left out.
fn reach<'a>(name: &str, by_name: &BTreeMap<&'a str, &'a Package>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Package> = by_name.get(name).copied().into_iter().collect();
    while let Some(package) = open.pop() {
        for used in package.uses().filter_map(|used| by_name.get(used)) {
            if reached.insert(used.name.as_str()) {
                open.push(used);
            }
        }
    }
    reached
}

fn package(name: &str, folder: &str, uses: &[(&str, Option<&str>)]) -> Package {
    let dependency =
        |(name, kind): &(&str, Option<&str>)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) };
    Package {
        name: name.to_owned(),
        manifest_path: format!("/clone{folder}{name}/Cargo.toml"),
        rust_version: None,
        dependencies: uses.iter().map(dependency).collect(),
    }
}

#[test]
fn arrows_point_only_downwards() {
    let found = faults(&metadata(&["--no-deps"]).packages);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_tables_name_only_rooms_that_exist() {
    let rooms: BTreeSet<String> = metadata(&["--no-deps"]).packages.into_iter().map(|package| package.name).collect();
    let named = FLOORS.iter().copied().flatten().chain(OUTSIDE).chain(MAY_USE_TESTKIT).chain(PURE);
    for name in named.chain(PARTNERS_MAY_REACH).chain(DOORS.iter().flat_map(|(_, rooms, _)| *rooms)) {
        assert!(rooms.contains(*name), "no crate is called `{name}`");
    }
    for (library, rooms, _) in DOORS {
        let pure: Vec<_> = rooms.iter().filter(|room| PURE.contains(room)).collect();
        assert!(pure.is_empty(), "pure rooms may not use {library}: {pure:?}");
    }
}

#[test]
fn each_wrong_arrow_is_found() {
    let check = |package: Package, expected: &[&str]| {
        let home = self::package("home", "/crates/", &[("model", None)]);
        let gate = self::package("gate", "/crates/", &[("home", None)]);
        let found = faults(&[home, gate, package]);
        assert_eq!(found, expected);
    };
    check(package("policy", "/crates/", &[("gate", None)]), &["`policy` uses `gate`, which is not below it"]);
    check(package("policy", "/crates/", &[("gate", Some("dev")), ("testkit", Some("dev"))]), &[]);
    check(package("policy", "/crates/", &[("testkit", Some("build"))]), &["`policy` uses `testkit` outside its tests"]);
    check(package("attic", "/crates/", &[]), &["`attic` has no place among the floors"]);
    check(
        package("alexa", "/crates/partners/", &[("gate", None), ("disclosure", None)]),
        &["partner `alexa` can reach `gate`", "partner `alexa` can reach `home`"],
    );
    check(package("model", "/crates/", &[("rand", None)]), &["`model` uses `rand`, kept to []: as getrandom"]);
    check(package("vestibule", "/", &[("testkit", None), ("tokio", None)]), &[]);
}

/// The Rust that the workspace states is no older than what its dependencies need to be built here.
#[test]
fn the_stated_rust_is_new_enough_for_every_dependency() {
    let host = String::from_utf8(shell::command("rustc", &["-vV"]).output().unwrap().stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let packages = metadata(&["--filter-platform", host]).packages;
    let version = |package: &Package| -> Option<Vec<u32>> {
        let text = package.rust_version.as_deref()?;
        Some(text.split('.').map(|part| part.parse().unwrap()).chain([0, 0]).take(3).collect())
    };
    let stated = packages.iter().find(|package| package.name == "xtask").and_then(version).unwrap();
    let newer: Vec<&str> = packages
        .iter()
        .filter(|package| version(package).is_some_and(|needed| needed > stated))
        .map(|package| package.name.as_str())
        .collect();
    assert!(newer.is_empty(), "these need a newer Rust than {stated:?}: raise `rust-version`: {newer:?}");
}

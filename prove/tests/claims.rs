//! Claims decided in both ways: of the shipped profiles, of broken ones, of random grants; and without a solver.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use home::{Description, PropertyDescription, Registry};
use links::Link;
use model::{
    ALL_RUNGS, ALL_TRIGGERS, Class, DeviceId, DeviceType, GrantId, HouseholdId, Kind, LinkId, MemberId, PartnerId,
    Property, Rung, Timestamp, Trigger,
};
use policy::{DeviceFact, Document, Facts, Grant, LinkFact, Profile, What, profiles};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prove::{
    Claim, Line, Ready, SOLVER_TIMEOUT, STACK_BYTES, Solver, Subject, Verdict, of_document, of_home, of_profile, prove,
    standing,
};
use serde_json::Value;
use store::Store;
use store::ledger::{Append, LedgerWriter, Opening};
use tempfile::TempDir;

fn cvc5() -> OsString {
    let named = std::env::var_os("VESTIBULE_CVC5").map(PathBuf::from);
    let found = named.into_iter().chain([PathBuf::from("/usr/bin/cvc5")]).find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("cvc5 is not installed: `cargo xtask test` installs it")).into()
}

fn solver() -> Solver {
    let solver = Solver::at(cvc5(), SOLVER_TIMEOUT);
    assert!(solver.version.is_ok(), "{:?}", solver.version);
    solver
}

/// All claims about one subject.
fn lines(claims: &[Claim], subject: &Subject, solver: &mut Solver) -> Vec<Line> {
    let mut ready = Ready::new(subject).unwrap();
    claims.iter().map(|claim| prove(claim, &mut ready, solver).unwrap()).collect()
}

fn verdicts(line: &Line) -> (Verdict, Verdict) {
    (line.exhaustive, line.solver)
}

/// Where formulas have room to nest.
fn deep(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap().join().unwrap();
}

#[test]
fn every_shipped_profile_keeps_its_claims_in_this_home_and_in_all() {
    deep(|| {
        let mut solver = solver();
        let claims = standing().unwrap();
        for profile in profiles() {
            let of_profile_: Vec<Claim> = claims.iter().filter(|c| c.is_of_profile(&profile.slug)).cloned().collect();
            assert!(of_profile_.len() >= 5, "{}", profile.slug);
            for line in lines(&of_profile_, &of_profile(profile).unwrap(), &mut solver) {
                assert!(line.is_proven() && !line.vacuous, "{line:?}");
                assert_eq!(verdicts(&line), (Verdict::Proven, Verdict::Proven), "{line:?}");
                let derivable: Vec<&str> = line.derivable_from.iter().map(|p| p.as_str()).collect();
                if (profile.slug.as_str(), line.claim.as_str()) == ("glance", "motion-never-told") {
                    assert!(
                        derivable.contains(&"occupied_heating_setpoint"),
                        "an away set-back tells it: {derivable:?}"
                    );
                }
                if profile.slug == "commands-only" {
                    assert!(derivable.is_empty(), "nothing is told that could tell: {line:?}");
                }
            }
        }
    });
}

#[test]
fn a_profile_that_breaks_its_claims_is_caught_and_the_authoriser_confirms_it() {
    deep(|| {
        let glance = include_str!("../../crates/policy/profiles/glance.toml");
        let motion = "[[rule]]\ntrigger = \"proactive_report\"\nproperties = [\"motion\"]\nrung = \"day_coarse\"\n\n";
        let broken = glance.replacen("[[cost]]", &format!("{motion}[[cost]]"), 1);
        let finer = glance.replace(
            "properties = [\"local_temperature\"]\nrung = \"hour_coarse\"",
            "properties = [\"local_temperature\"]\nrung = \"hour\"",
        );
        assert_ne!(finer, glance);
        let mut solver = solver();
        for (text, refuted) in [
            (broken, vec!["motion-never-told", "nothing-unasked"]),
            (finer, vec!["temperature-never-finer-than-1-degree"]),
        ] {
            let profile: Profile = toml::from_str(&text).unwrap();
            let claims: Vec<Claim> = standing().unwrap().into_iter().filter(|c| c.is_of_profile("glance")).collect();
            let mut found = Vec::new();
            for line in lines(&claims, &of_profile(&profile).unwrap(), &mut solver) {
                assert!(!line.disagreement, "{line:?}");
                if !line.is_proven() {
                    assert_eq!(verdicts(&line), (Verdict::Refuted, Verdict::Refuted));
                    let example = line.example.unwrap();
                    assert!(example.confirmed, "{example:?}");
                    assert!(line.counterexample.unwrap().contains(example.property.label()));
                    found.push(line.claim);
                }
            }
            assert_eq!(found, refuted);
        }
    });
}

/// The built-in ceiling without one of its policies.
fn without(id: &str) -> String {
    let parts = policy::Ceiling::BUILT_IN.split("@id(");
    let kept: Vec<&str> = parts.filter(|part| !part.starts_with(&format!("\"{id}\""))).collect();
    let text = kept.join("@id(");
    assert!(!text.contains(id) && text.len() < policy::Ceiling::BUILT_IN.len());
    text
}

#[test]
fn what_holds_by_the_ceiling_alone_is_refuted_without_it_of_profiles_homes_and_files() {
    deep(|| {
        let mut solver = solver();
        let claims = |ids: &[&str]| -> Vec<Claim> {
            standing().unwrap().into_iter().filter(|c| ids.contains(&c.id.as_str())).collect()
        };
        let of_agents = claims(&["agent-never-unlocks", "agent-never-commands"]);
        let open = grant(1, "agent", "lock", Property::LockState, What::Control { open: true });
        let control = grant(2, "agent", "lock", Property::LockState, What::Control { open: false });
        let both = vec![open, control];
        let document = || Document::new(id(HouseholdId::new("home")), both.clone());
        let everything = policy::profile("everything").unwrap();
        let subjects = || {
            [
                of_profile(everything).unwrap(),
                home(both.clone(), None),
                of_document(document(), None, &of_agents).unwrap(),
            ]
        };
        for subject in subjects() {
            for line in lines(&of_agents, &subject, &mut solver) {
                assert_eq!(verdicts(&line), (Verdict::Proven, Verdict::Proven), "{line:?}");
                assert!(!line.vacuous, "{line:?}");
            }
        }
        for subject in subjects() {
            for line in lines(&of_agents, &subject.under(without("vestibule-agents-read")), &mut solver) {
                assert_eq!(verdicts(&line), (Verdict::Refuted, Verdict::Refuted), "{line:?}");
                assert!(!line.disagreement && line.example.as_ref().is_some_and(|e| e.confirmed), "{line:?}");
            }
        }
        // No grant is written so: what permits to open on a bare word is found by the solver alone.
        let bare = claims(&["nothing-opens-on-a-bare-word"]);
        let line = lines(&bare, &of_profile(everything).unwrap(), &mut solver).remove(0);
        assert_eq!(verdicts(&line), (Verdict::Proven, Verdict::Proven), "{line:?}");
    });
}

#[test]
fn what_gives_it_away_is_named_where_the_home_has_nothing_else_and_garages_have_contacts() {
    let claims: Vec<Claim> = standing().unwrap();
    let of = |id: &str| claims.iter().filter(|c| c.id == id).cloned().collect::<Vec<_>>();
    let mut none = Solver::at("no-such-program".into(), SOLVER_TIMEOUT);
    // A home with a thermostat and no motion sensor.
    let mut facts = facts();
    facts.devices.retain(|d| d.device.as_str() == "thermostat");
    let warm = grant(1, "alexa", "thermostat", Property::LocalTemperature, told(Trigger::PartnerPoll, Rung::DayCoarse));
    let subject = of_home(facts, vec![warm], None, Timestamp::default());
    let line = lines(&of("motion-never-told"), &subject, &mut none).remove(0);
    assert!(line.is_proven() && line.vacuous, "{line:?}");
    assert_eq!(line.derivable_from, [Property::LocalTemperature]);
    // A garage door with a contact of its own.
    let mut facts = self::facts();
    let garage = facts.devices.iter_mut().find(|d| d.device.as_str() == "garage").unwrap();
    garage.properties.push((Property::ContactOpen, Kind::Opening));
    let contact = grant(1, "alexa", "garage", Property::ContactOpen, told(Trigger::ProactiveReport, Rung::Live));
    let subject = of_home(facts, vec![contact], None, Timestamp::default());
    assert!(!lines(&of("garage-door-never-unasked"), &subject, &mut none).remove(0).is_proven());
}

#[test]
fn a_files_links_may_be_anybodys() {
    deep(|| {
        let mut solver = solver();
        let claims = Claim::parse(
            "[[claim]]\nid = \"g\"\nsays = \"Google is told no motion.\"\nnever = \"told\"\npartners = [\"google\"]\n\
             properties = [\"motion\"]\n[[claim]]\nid = \"a\"\nsays = \"Nor is who has no gatekeeper behind it.\"\n\
             never = \"told\"\ngatekeeper = false\nproperties = [\"motion\"]\n",
        )
        .unwrap();
        let grants = vec![grant(1, "lnk", "hall", Property::Motion, told(Trigger::PartnerPoll, Rung::Live))];
        let subject = of_document(Document::new(id(HouseholdId::new("home")), grants), None, &claims).unwrap();
        for line in lines(&claims, &subject, &mut solver) {
            assert_eq!(verdicts(&line), (Verdict::Refuted, Verdict::Refuted), "{line:?}");
            assert!(!line.disagreement, "{line:?}");
        }
    });
}

const TYPES: [(&str, DeviceType, Class, &[Property]); 4] = [
    ("thermostat", DeviceType::Thermostat, Class::None, &[Property::LocalTemperature, Property::SystemMode]),
    ("garage", DeviceType::GarageDoor, Class::Garage, &[Property::DoorState, Property::SerialNumber]),
    ("lock", DeviceType::DoorLock, Class::None, &[Property::LockState]),
    ("hall", DeviceType::OccupancySensor, Class::None, &[Property::Motion]),
];

fn id<T>(parsed: Result<T, model::IdError>) -> T {
    parsed.unwrap()
}

fn facts() -> Facts {
    let link = |name: &str| {
        let partner = id(PartnerId::new(name));
        let (gatekeeper, agent) = (links::is_gatekeeper(&partner), links::is_agent(&partner));
        LinkFact { link: id(LinkId::new(name)), gatekeeper, agent, partner }
    };
    let device = |(name, device_type, class, properties): &(&str, DeviceType, Class, &[Property])| DeviceFact {
        device: id(DeviceId::new(*name)),
        device_type: *device_type,
        properties: properties.iter().map(|p| (*p, Kind::of(*p, *class))).collect(),
    };
    let mut devices: Vec<DeviceFact> = TYPES.iter().map(device).collect();
    devices.push(DeviceFact {
        device: id(DeviceId::new("stranger")),
        device_type: DeviceType::Unknown,
        properties: vec![(Property::OnOff, Kind::Unknown)],
    });
    Facts { household: id(HouseholdId::new("home")), links: vec![link("alexa"), link("agent")], devices }
}

fn grant(n: usize, link: &str, device: &str, property: Property, what: What) -> Grant {
    let cell = (id(HouseholdId::new("home")), id(LinkId::new(link)), id(DeviceId::new(device)), property);
    let granted_by = id(MemberId::new("owner"));
    let terms = policy::Terms { now: Timestamp::default(), granted_by, affects: Vec::new() };
    Grant::new(id(GrantId::new(format!("g{n}"))), cell, what, &terms)
}

fn told(trigger: Trigger, rung: Rung) -> What {
    What::Disclose { trigger, rung }
}

fn home(grants: Vec<Grant>, maker: Option<&str>) -> Subject {
    of_home(facts(), grants, maker.map(str::to_owned), Timestamp::default())
}

fn whatever_grants() -> impl Strategy<Value = Vec<Grant>> {
    let natures: Vec<(String, Property)> = facts()
        .devices
        .iter()
        .flat_map(|d| d.properties.iter().map(|(p, _)| (d.device.to_string(), *p)).collect::<Vec<_>>())
        // Of what the home does not have.
        .chain([("gone".to_owned(), Property::Motion)])
        .collect();
    let disclose = (prop::sample::select(&ALL_TRIGGERS[..]), prop::sample::select(&ALL_RUNGS[..]));
    let what = prop_oneof![
        3 => disclose.prop_map(|(trigger, rung)| told(trigger, rung)),
        1 => prop::bool::ANY.prop_map(|open| What::Control { open }),
    ];
    let one = (prop::sample::select(&["alexa", "agent"][..]), prop::sample::select(natures), what);
    prop::collection::vec(one, 0..10).prop_map(|all| {
        let grants = all.into_iter().enumerate();
        grants.map(|(n, (link, (device, property), what))| grant(n, link, &device, property, what)).collect()
    })
}

/// A claim of whatever form.
fn whatever_claim() -> impl Strategy<Value = Claim> {
    let list = |name: &'static str, of: &'static [&'static str]| {
        prop::option::weighted(0.15, prop::sample::subsequence(of, 1..=2)).prop_map(move |some| {
            let quoted = |some: Vec<&str>| some.iter().map(|s| format!("\"{s}\"")).collect::<Vec<_>>().join(", ");
            some.map_or_else(String::new, |some| format!("{name} = [{}]\n", quoted(some)))
        })
    };
    let narrow = (
        list("partners", &["alexa", "agent"]),
        list("properties", &["motion", "local_temperature", "door_state", "lock_state", "on_off"]),
        list("kinds", &["presence", "temperature", "opening", "lock", "unknown"]),
        list("device_types", &["garage_door", "door_lock", "unknown"]),
        list("devices", &["hall", "garage", "elsewhere"]),
        list("reveals", &["occupancy", "belongings"]),
    );
    let how = (
        prop::sample::select(
            &["", "gatekeeper = true\n", "gatekeeper = false\n", "except_partners = [\"alexa\"]\n"][..],
        ),
        prop::sample::select(&["", "", "came_by = \"art4_request\"\n"][..]),
        prop::sample::select(&["", "", "ungranted = true\n"][..]),
        prop_oneof![
            Just("never = \"anything\"\n".to_owned()),
            Just("never = \"opened\"\n".to_owned()),
            Just("never = \"commanded\"\n".to_owned()),
            (list("triggers", &["partner_poll", "proactive_report"]), prop::sample::subsequence(&ALL_RUNGS[..], 1..=2))
                .prop_map(|(triggers, rungs)| {
                    let names: Vec<String> = rungs.iter().map(|rung| format!("\"{rung}\"")).collect();
                    let finer = match (rungs.contains(&Rung::Live), &names[..]) {
                        (true, _) => String::new(),
                        (false, [one]) => format!("finer_than = {one}\n"),
                        (false, some) => format!("finer_than = [{}]\n", some.join(", ")),
                    };
                    format!("never = \"told\"\n{triggers}{finer}")
                }),
        ],
    );
    (narrow, how).prop_map(|((a, b, c, d, e, f), (g, h, i, j))| {
        let text = format!("[[claim]]\nid = \"any\"\nsays = \"any\"\n{a}{b}{c}{d}{e}{f}{g}{h}{i}{j}");
        Claim::parse(&text).unwrap().remove(0)
    })
}

#[test]
fn the_solver_and_the_table_agree_on_whatever_claim_about_whatever_grants() {
    let full = std::env::var("VESTIBULE_FORM").is_ok_and(|form| form == "full");
    let cases = if full { 1_000 } else { 40 };
    deep(move || {
        let mut runner = TestRunner::new_with_rng(
            Config { cases, failure_persistence: None, ..Config::default() },
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        let solver = std::cell::RefCell::new(solver());
        let counts = std::cell::RefCell::new([0; 2]);
        let what = (whatever_grants(), prop::collection::vec(whatever_claim(), 1..3), prop::bool::ANY);
        runner
            .run(&what, |(grants, claims, as_file)| {
                // A file says less of the home than the home does.
                let subject = if as_file {
                    of_document(Document::new(id(HouseholdId::new("home")), grants), None, &claims).unwrap()
                } else {
                    home(grants, None)
                };
                for line in lines(&claims, &subject, &mut solver.borrow_mut()) {
                    prop_assert!(!line.disagreement && line.exhaustive == line.solver, "{line:?}");
                    counts.borrow_mut()[usize::from(line.is_proven())] += 1;
                }
                Ok(())
            })
            .unwrap();
        let [refuted, proven] = counts.into_inner();
        assert!(refuted >= 5 && proven >= 20, "{refuted} refuted, {proven} proven: one-sided");
    });
}

#[test]
fn a_claim_is_refuted_by_one_grant_and_holds_again_under_a_ceiling_and_nothing_is_proven_by_a_ceiling_that_fails() {
    let claims = Claim::parse(
        "[[claim]]\nid = \"hall\"\nsays = \"Nobody is told who is in the hall.\"\nnever = \"told\"\ndevices = [\"hall\"]\n\
         [[claim]]\nid = \"attic\"\nsays = \"Nor in the attic.\"\nnever = \"told\"\ndevices = [\"attic\"]",
    )
    .unwrap();
    let grants = || vec![grant(7, "alexa", "hall", Property::Motion, told(Trigger::PartnerPoll, Rung::Live))];
    let mut solver = solver();
    let mut of = |maker| lines(&claims, &home(grants(), maker), &mut solver);
    let plain = of(None);
    assert_eq!(verdicts(&plain[0]), (Verdict::Refuted, Verdict::Refuted));
    assert_eq!(
        plain[0].counterexample.as_deref(),
        Some("alexa (link alexa) would be told when it asks, exact, at once: the motion of `hall`, by g7")
    );
    assert!(plain[1].is_proven() && plain[1].vacuous, "{:?}", plain[1]);
    let forbids = "@id(\"x\") forbid(principal, action, resource) when { principal.gatekeeper };";
    assert_eq!(verdicts(&of(Some(forbids))[0]), (Verdict::Proven, Verdict::Proven));
    // The hub refuses, because it fails; Cedar skips it, and so would the solver.
    let fails = "@id(\"x\") forbid(principal, action, resource) when { 9223372036854775807 + 1 == 0 };";
    let failing = &of(Some(fails))[0];
    assert_eq!(verdicts(failing), (Verdict::Proven, Verdict::Unavailable));
    assert!(failing.notes.iter().any(|n| n.contains("x can fail")), "{failing:?}");
}

#[test]
fn what_is_allowed_for_another_reason_or_by_another_property_is_named() {
    let claims = standing().unwrap();
    let wanted = ["garage-door-never-unasked", "motion-never-told"];
    let claims: Vec<Claim> = claims.into_iter().filter(|c| wanted.contains(&c.id.as_str())).collect();
    let grants = vec![
        grant(1, "alexa", "garage", Property::DoorState, told(Trigger::PartnerPoll, Rung::Live)),
        grant(2, "agent", "thermostat", Property::LocalTemperature, told(Trigger::PartnerPoll, Rung::DayCoarse)),
    ];
    let lines = lines(&claims, &home(grants, None), &mut Solver::at("no-such-program".into(), SOLVER_TIMEOUT));
    let derivable = |id: &str| {
        let line = lines.iter().find(|l| l.claim == id).unwrap();
        assert!(line.is_proven() && line.solver == Verdict::Unavailable, "{line:?}");
        line.derivable_from.clone()
    };
    assert_eq!(derivable("motion-never-told"), [Property::LocalTemperature, Property::DoorState]);
    assert_eq!(derivable("garage-door-never-unasked"), [Property::DoorState]);
}

/// A program in place of cvc5.
fn pretend(folder: &TempDir, name: &str, body: &str) -> OsString {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n[ \"$1\" = --version ] && echo cvc5 pretend && exit\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.into()
}

#[test]
fn a_solver_that_lies_is_a_disagreement_and_one_that_hangs_or_dies_is_no_word() {
    let folder = tempfile::tempdir().unwrap();
    let claims = standing().unwrap();
    let claims: Vec<Claim> = claims.into_iter().filter(|c| c.id == "motion-never-told").collect();
    let grants = vec![grant(1, "agent", "hall", Property::Motion, told(Trigger::ProactiveReport, Rung::Live))];
    let subject = home(grants, None);
    let with = |program| lines(&claims, &subject, &mut Solver::at(program, Duration::from_millis(200))).remove(0);
    let lies =
        with(pretend(&folder, "lies", "while read -r line; do case $line in *check-sat*) echo unsat;; esac; done"));
    assert_eq!(verdicts(&lies), (Verdict::Refuted, Verdict::Proven));
    assert!(lies.disagreement && !lies.is_proven(), "{lies:?}");
    assert!(lies.notes.iter().any(|n| n.starts_with("DISAGREEMENT")), "{lies:?}");
    let hangs = with(pretend(&folder, "hangs", "while read -r line; do :; done"));
    let dies = with(pretend(&folder, "dies", "exit 1"));
    let mute =
        with(pretend(&folder, "mute", "while read -r line; do case $line in *check-sat*) echo unknown;; esac; done"));
    for (line, why) in [(hangs, "longer than 0.2 s"), (dies, "solver"), (mute, "does not know")] {
        assert_eq!(verdicts(&line), (Verdict::Refuted, Verdict::Unavailable));
        assert!(!line.disagreement && line.notes.iter().any(|n| n.contains(why)), "{line:?}");
    }
}

/// The program, with a cvc5 or without.
fn program(arguments: &[&str], cvc5: OsString) -> (Output, Vec<Value>) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_vestibule-prove")).args(arguments).env("CVC5", cvc5).output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = if arguments.contains(&"--json") {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    } else {
        Vec::new()
    };
    (output, lines)
}

fn json(value: impl serde::Serialize) -> Option<String> {
    Some(serde_json::to_string(&value).unwrap())
}

/// A home in its data directory, as a hub leaves it.
fn data(grants: &[Grant], more: &[(&str, Value)], clock: Timestamp) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", folder.path().join("vestibule.db").display())).unwrap();
    let household = id(HouseholdId::new("home"));
    let opening = Opening { household: household.clone(), seed: [7; 32], begin: Some(Timestamp::default()) };
    let writer = LedgerWriter::open(&store, &opening).unwrap();
    let mut held = vec![("clock".to_owned(), Some(clock.as_millis().to_string()))];
    for name in ["alexa", "agent"] {
        let (link, partner) = (id(LinkId::new(name)), id(PartnerId::new(name)));
        let none = "commands-only".to_owned();
        let (link, _) = Link::new(link, household.clone(), partner, none, Timestamp::default(), ([3; 32], [4; 32]));
        held.push((format!("link/{name}"), json(link)));
    }
    let mut registry = Registry::default();
    for (name, _, class, properties) in TYPES {
        let properties =
            properties.iter().filter(|p| !p.is_metadata()).map(|p| (*p, PropertyDescription { class, command: true }));
        let description = Description { properties: properties.collect(), ..Description::default() };
        let device = id(DeviceId::new(name));
        registry.describe(&device, description).unwrap();
        let known = registry.get(&device).unwrap();
        held.push((format!("device/{name}"), json(known)));
    }
    held.extend(grants.iter().map(|g| (format!("grant/{}", g.id), json(g))));
    held.extend(more.iter().map(|(key, value)| ((*key).to_owned(), json(value))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(writer.append(Append { drafts: Vec::new(), held })).unwrap();
    writer.close();
    folder
}

#[test]
fn a_data_directory_is_read_beside_its_hub_by_the_hubs_own_clock() {
    let hour = |h: i64| Timestamp::from_millis(h * 3_600_000);
    let ends = |n, device, property, end| Grant {
        expires: Some(end),
        ..grant(n, "alexa", device, property, told(Trigger::ProactiveReport, Rung::Live))
    };
    // By today's clock all have ended long ago.
    let grants = [ends(1, "hall", Property::Motion, hour(5)), ends(2, "garage", Property::DoorState, hour(20))];
    let folder = data(&grants, &[], hour(10));
    let store = folder.path().join("vestibule.db");
    let hub = LedgerWriter::open(
        &Store::open(&format!("sqlite:{}", store.display())).unwrap(),
        &Opening { household: id(HouseholdId::new("home")), seed: [7; 32], begin: None },
    )
    .unwrap();
    let listed = || {
        let all = std::fs::read_dir(folder.path()).unwrap();
        let mut all: Vec<_> = all.map(|e| e.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = (std::fs::read(&store).unwrap(), listed());
    let directory = folder.path().to_str().unwrap().to_owned();
    let (output, lines) = program(&["--data", &directory, "--json"], cvc5());
    assert_eq!(before, (std::fs::read(&store).unwrap(), listed()), "nothing is written");
    hub.close();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let refuted: Vec<&Value> = lines.iter().filter(|l| l["exhaustive"] == "refuted").collect();
    let ids: Vec<&str> = refuted.iter().map(|l| l["claim"].as_str().unwrap()).collect();
    assert_eq!(ids, ["garage-door-never-unasked", "nothing-unasked", "locks-and-doors-never-told"]);
    for line in &lines {
        assert_eq!(line["exhaustive"], line["solver"], "{line}");
        assert!(line["ms"].as_f64().unwrap() > 0.0, "{line}");
    }
    let said = refuted[0]["counterexample"].as_str().unwrap();
    assert_eq!(said, "alexa (link alexa) would be told unasked, exact, at once: the door state of `garage`, by g2");
    let (missing, _) = program(&["--data", "no-such-directory"], cvc5());
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-directory"));
}

#[test]
fn what_is_agreed_to_and_waits_counts_as_if_it_were_in_force() {
    let agreed = |n, property| grant(n, "alexa", "hall", property, told(Trigger::PartnerPoll, Rung::Live));
    let waits = serde_json::json!({"grant": agreed(1, Property::Motion), "replaces": [], "from": 0, "confirmed": []});
    let renewal = serde_json::json!({
        "member": "alice", "profile": "everything", "add": [agreed(2, Property::Motion)], "remove": [], "standing": "",
    });
    for (key, value) in [("pending/g1", waits), ("renewal/alexa", renewal)] {
        let folder = data(&[], &[(key, value)], Timestamp::default());
        let directory = folder.path().to_str().unwrap().to_owned();
        let (output, lines) = program(&["--data", &directory, "--json"], "no-such-program".into());
        let refuted: Vec<&Value> = lines.iter().filter(|l| l["exhaustive"] == "refuted").map(|l| &l["claim"]).collect();
        assert_eq!(refuted, ["motion-never-told"], "{key}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("1 grants are agreed to and wait"), "{output:?}");
    }
}

#[test]
fn a_claim_that_can_not_be_written_as_a_script_does_not_keep_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let many: Vec<Grant> = (0..prove::SOLVER_POLICIES_MAX + 1)
        .map(|n| grant(n, "lnk", &format!("d{n}"), Property::Motion, told(Trigger::PartnerPoll, Rung::Live)))
        .collect();
    let policy = folder.path().join("many.json");
    std::fs::write(&policy, serde_json::to_string(&Document::new(id(HouseholdId::new("home")), many)).unwrap())
        .unwrap();
    let claims = folder.path().join("claims.toml");
    let claim = |id, trigger| {
        format!(
            "[[claim]]\nid = \"{id}\"\nsays = \"x\"\nnever = \"told\"\nproperties = [\"motion\"]\ntriggers = [\"{trigger}\"]\n"
        )
    };
    std::fs::write(&claims, claim("first", "partner_poll") + &claim("second", "proactive_report")).unwrap();
    let out = folder.path().join("out");
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (output, lines) =
        program(&["--policy", &text(&policy), "--claims", &text(&claims), "--out", &text(&out), "--json"], cvc5());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(lines[0]["solver"], "unavailable");
    assert_eq!((&lines[1]["exhaustive"], &lines[1]["solver"]), (&"proven".into(), &"proven".into()), "{}", lines[1]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("claim `first` has no script"));
    assert!(out.join("second.proactive_report.smt2").is_file() && out.join("check.sh").is_file());
}

#[test]
fn a_file_of_grants_is_taken_in_both_forms_and_its_scripts_are_checked_again_by_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let grants = vec![
        grant(1, "lnk-1", "garage", Property::DoorState, told(Trigger::PartnerPoll, Rung::Live)),
        grant(2, "lnk-1", "heat", Property::LocalTemperature, told(Trigger::PartnerPoll, Rung::HourCoarse)),
        grant(3, "lnk-1", "garage", Property::DoorState, What::Control { open: true }),
    ];
    let document = Document::new(id(HouseholdId::new("home")), grants);
    let claims = file(
        "claims.toml",
        "[[claim]]\nid = \"doors\"\nsays = \"No door is told.\"\nnever = \"told\"\nproperties = [\"door_state\"]\n\
         [[claim]]\nid = \"warm\"\nsays = \"No exact temperature.\"\nnever = \"told\"\n\
         properties = [\"local_temperature\"]\nfiner_than = \"hour_coarse\"\n",
    );
    let out = folder.path().join("out");
    let out_text = out.to_str().unwrap().to_owned();
    for (name, text) in [("g.json", serde_json::to_string(&document).unwrap()), ("g.cedar", document.to_cedar())] {
        let policy = file(name, &text);
        let (output, lines) =
            program(&["--policy", &policy, "--claims", &claims, "--out", &out_text, "--json"], cvc5());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said: Vec<(&Value, &Value, &Value)> =
            lines.iter().map(|l| (&l["claim"], &l["exhaustive"], &l["solver"])).collect();
        let (refuted, proven) = (Value::from("refuted"), Value::from("proven"));
        assert_eq!(said, [(&"doors".into(), &refuted, &refuted), (&"warm".into(), &proven, &proven)]);
        assert!(lines[1]["counterexample"].is_null());
        let (readable, _) = program(&["--policy", &policy, "--claims", &claims], cvc5());
        let readable = String::from_utf8(readable.stdout).unwrap();
        assert!(readable.contains("REFUTED  No door is told.") && readable.contains("1 of 2 proven"), "{readable}");
    }
    let check = || {
        let output = Command::new("sh").arg(out.join("check.sh")).env("CVC5", cvc5()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(check(), (true, "8 checked, 0 wrong\n".to_owned()));
    let script = out.join("doors.partner_poll.smt2");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("(check-sat)", "(assert false)\n(check-sat)")).unwrap();
    let (well, said) = check();
    assert!(!well && said.starts_with("doors.partner_poll.smt2: expected sat, got unsat"), "{said}");
}

#[test]
fn without_a_solver_it_says_so_and_decides_alone_and_wrong_usage_is_told_apart() {
    let none = || OsString::from("no-such-program");
    let folder = data(&[], &[], Timestamp::default());
    let directory = folder.path().to_str().unwrap().to_owned();
    let (output, lines) = program(&["--data", &directory, "--json"], none());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(lines.len() >= 10 && lines.iter().all(|l| l["solver"] == "unavailable" && l["exhaustive"] == "proven"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("install cvc5"));
    let (readable, _) = program(&["--data", &directory], none());
    assert!(String::from_utf8_lossy(&readable.stdout).contains("No solver"), "{readable:?}");
    for wrong in [&["--data", ".", "--policy", "x"][..], &["--claims", "no-such-file"], &["--nonsense"]] {
        assert_eq!(program(wrong, none()).0.status.code(), Some(2), "{wrong:?}");
    }
}

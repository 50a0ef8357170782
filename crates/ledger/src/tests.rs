//! Tests of the log as a whole, over a store in memory, with faults and with tampering.

use model::{DeviceId, HouseholdId, Kind, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use proptest::prelude::*;
use tlog_tiles::record_hash;

use crate::limits::{
    CHANGE_MAX_BYTES, COMMAND_MAX_BYTES, DEMANDS_MAX, INTEGER_MAX, ITEMS_MAX, LEAF_MAX_BYTES, MESSAGE_MAX_BYTES,
    POLICIES_MAX, POLICY_ID_MAX_BYTES, PROFILE_MAX_BYTES, PROPERTIES_MAX, REASON_MAX_BYTES, SALT_BYTES,
    THREAT_MAX_BYTES, WHO_MAX_BYTES,
};
use crate::tree::Edge;
use crate::*;

const SEED: [u8; 32] = [42; 32];
const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_123);

fn household() -> HouseholdId {
    HouseholdId::new("home-1").unwrap()
}

fn partner() -> PartnerId {
    PartnerId::new("alexa").unwrap()
}

fn link() -> LinkId {
    LinkId::new("link-7f").unwrap()
}

fn key() -> SigningKey {
    SigningKey::new("vestibule/t3st", &SEED).unwrap()
}

/// Salts that differ, without randomness.
fn salts() -> impl FnMut() -> Option<[u8; SALT_BYTES]> {
    let mut n = 0u128;
    move || {
        n += 1;
        Some(n.to_be_bytes())
    }
}

fn item(n: usize) -> Item {
    Item {
        device: DeviceId::new(format!("thermostat-{n}")).unwrap(),
        property: Property::LocalTemperature,
        kind: Kind::Temperature,
        rung: Rung::HourCoarse,
        tick: Timestamp::from_millis(1_763_996_400_000),
        policies: ["grant-1".into(), "ceiling".into()].into(),
    }
}

fn intent_of(items: Vec<Item>) -> Intent {
    Intent {
        partner: partner(),
        link: link(),
        trigger: Trigger::PartnerPoll,
        message: "Alexa.StateReport".into(),
        policy_set: Digest::of(b"policies"),
        items,
        more: 0,
    }
}

fn refused(n: usize) -> Refused {
    Refused {
        device: DeviceId::new(format!("lock-{n}")).unwrap(),
        property: Property::LockState,
        trigger: Trigger::PartnerPoll,
        reason: "no_grant".into(),
        count: 1200,
    }
}

fn refusals_of(items: Vec<Refused>) -> Refusals {
    let tick = Timestamp::from_millis(1_763_996_400_000);
    Refusals { partner: partner(), link: link(), tick, policy_set: Digest::of(b"policies"), items, demands: vec![7] }
}

fn intent(body: &str) -> Draft {
    Draft::intent(NOW, intent_of(vec![item(1)]), Body::new(body.as_bytes())).unwrap()
}

/// One draft of each type that is drafted.
fn drafts() -> Vec<Draft> {
    let command = Command {
        partner: partner(),
        link: link(),
        message: "Alexa.ThermostatController/SetTargetTemperature".into(),
        device: DeviceId::new("thermostat-1").unwrap(),
        command: "set_heating_setpoint".into(),
        properties: vec![Property::OccupiedHeatingSetpoint],
        policy_set: Digest::of(b"policies"),
        policies: ["grant-2".into()].into(),
    };
    let policy = Policy {
        policy_set: Digest::of(b"policies"),
        previous: Some(Digest::of(b"")),
        by: "anna".into(),
        change: "profile glance for Alexa".into(),
        link: Some(link()),
        demands: vec![],
    };
    let demand = Demand {
        partner: partner(),
        asked_by: "Works with Alexa, certification".into(),
        deadline: Some("2026-12-31".into()),
        threat: Some("the badge is withdrawn".into()),
    };
    let linked =
        Link { partner: partner(), link: link(), event: LinkEvent::Created, profile: Some("commands-only".into()) };
    vec![
        Draft::link(NOW, linked).unwrap(),
        Draft::policy(NOW, policy, Some(Body::new(*b"permit(principal, action, resource);"))).unwrap(),
        Draft::demand(NOW, demand, "Report the state of every device at all times.").unwrap(),
        Draft::command(NOW, command, Some(Body::redacted(*b"{\"token\":\"secret\"}", *b"{\"token\":\"-\"}"))).unwrap(),
        intent(r#"{"temperature":21.0}"#),
        Draft::refusals(NOW, refusals_of(vec![refused(1), refused(2)])).unwrap(),
    ]
}

fn new_log(store: &mut impl LedgerStore) -> Log {
    Log::create(store, &SEED, NewLog { household: household(), random: "t3st".into(), time: NOW }).unwrap()
}

/// A small ledger with every type in it: 1 + 6 + 1 leaves.
fn sample() -> MemoryStore {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    let receipts = log.append(drafts(), &mut salts(), &mut store).unwrap();
    let sent = receipts.into_iter().nth(4).unwrap().outcome(NOW, SendResult::Sent).unwrap();
    log.append(vec![sent], &mut salts(), &mut store).unwrap();
    store
}

/// A well-signed ledger of arbitrary leaves, such as this crate never writes.
fn forged(leaves: Vec<Vec<u8>>) -> MemoryStore {
    let mut edge = Edge::default();
    let hashes = leaves.iter().flat_map(|leaf| edge.push(record_hash(leaf)).unwrap()).map(Digest::from).collect();
    let checkpoint = key().sign(edge.size(), edge.root().unwrap()).unwrap();
    let head = Some(StoredHead { size: edge.size(), checkpoint });
    MemoryStore { head, leaves, hashes, bodies: Default::default() }
}

fn report(store: &MemoryStore) -> Report {
    verify(store, &key().verifier_key()).unwrap()
}

fn problem(store: &MemoryStore) -> String {
    let report = report(store);
    assert!(!report.ok());
    report.first_problem.unwrap()
}

#[test]
fn every_type_is_written_as_version_1_has_it() {
    // Leaves of version 1 are for ever: when this test fails, the format has changed and needs a new version.
    let golden = include_str!("../golden/leaves-v1.jsonl");
    let store = sample();
    let written: Vec<&str> = store.leaves.iter().map(|leaf| std::str::from_utf8(leaf).unwrap()).collect();
    assert_eq!(written.join("\n"), golden.trim_end());
    for leaf in &store.leaves {
        assert_eq!(Leaf::decode(leaf).unwrap().encode().unwrap(), *leaf);
        assert!(!String::from_utf8_lossy(leaf).contains("21.0"));
    }
    let report = report(&store);
    assert!(report.ok(), "{report:?}");
    assert_eq!((report.size, report.leaves, report.intents, report.outcomes, report.unknown_outcomes), (8, 8, 1, 1, 0));
    assert_eq!((report.bodies, report.redacted_bodies, report.missing_bodies, report.body_mismatches), (4, 1, 0, 0));
}

#[test]
fn only_the_canonical_form_decodes() {
    for leaf in sample().leaves {
        let text = String::from_utf8(leaf).unwrap();
        let time = format!("\"time\":{}", NOW.as_millis());
        for changed in [
            text.replacen(",\"", ", \"", 1),
            text.replacen('{', "{\"a\":1,", 1),
            text.replacen("\"v\":1", "\"v\":1,\"v\":1", 1),
            text.replacen("\"v\":1", "\"v\":1,\"x\":null", 1),
            text.replacen("home-1", "h\\u006fme-1", 1),
            text.replacen(&time, &format!("{time}.0"), 1),
            format!("{text}\n"),
            format!("[{text}]"),
        ] {
            assert_ne!(changed, text);
            assert!(Leaf::decode(changed.as_bytes()).is_err(), "{changed}");
        }
    }
}

#[test]
fn unknown_versions_and_types_are_named() {
    let text = String::from_utf8(sample().leaves.remove(0)).unwrap();
    let error = |from: &str, to: &str| Leaf::decode(text.replace(from, to).as_bytes()).unwrap_err().to_string();
    assert!(error("\"v\":1", "\"v\":2").contains("version 2"));
    assert!(error("\"v\":1", "\"w\":1").contains("version none"));
    assert!(error("\"genesis\"", "\"budget\"").contains("`budget`"));
}

#[test]
fn a_leaf_fits_an_entry_bundle() {
    // Every text at its limit, of characters that need six bytes each; every list at its limit.
    let text = |max: usize| "\u{1}".repeat(max);
    let id = "x".repeat(128);
    let policies = vec![text(POLICY_ID_MAX_BYTES); POLICIES_MAX];
    let (partner, link) = (PartnerId::new(id.clone()).unwrap(), LinkId::new(id.clone()).unwrap());
    let device = DeviceId::new(id.clone()).unwrap();
    let tick = Timestamp::from_millis(-INTEGER_MAX);
    let demands = vec![INTEGER_MAX.unsigned_abs(); DEMANDS_MAX];
    let wide = Item {
        device: device.clone(),
        property: Property::OccupiedHeatingSetpoint,
        kind: Kind::Connectivity,
        rung: Rung::QuarterHour,
        tick,
        policies: policies.clone().into(),
    };
    let refused = Refused {
        device: device.clone(),
        property: Property::OccupiedHeatingSetpoint,
        trigger: Trigger::DirectiveResponse,
        reason: text(REASON_MAX_BYTES),
        count: INTEGER_MAX.unsigned_abs(),
    };
    let digest = Digest::of(b"");
    let drafts = vec![
        Draft::intent(
            tick,
            Intent {
                partner: partner.clone(),
                link: link.clone(),
                message: text(MESSAGE_MAX_BYTES),
                ..intent_of(vec![wide; 40])
            },
            Body::redacted(*b"x", *b"y"),
        ),
        Draft::refusals(
            tick,
            Refusals {
                partner: partner.clone(),
                link: link.clone(),
                demands: demands.clone(),
                ..refusals_of(vec![refused; 900])
            },
        ),
        Draft::command(
            tick,
            Command {
                partner: partner.clone(),
                link: link.clone(),
                message: text(MESSAGE_MAX_BYTES),
                device,
                command: text(COMMAND_MAX_BYTES),
                properties: vec![Property::OccupiedHeatingSetpoint; PROPERTIES_MAX],
                policy_set: digest,
                policies: policies.into(),
            },
            Some(Body::redacted(*b"x", *b"y")),
        ),
        Draft::policy(
            tick,
            Policy {
                policy_set: digest,
                previous: Some(digest),
                by: text(WHO_MAX_BYTES),
                change: text(CHANGE_MAX_BYTES),
                link: Some(link.clone()),
                demands,
            },
            None,
        ),
        Draft::demand(
            tick,
            Demand {
                partner: partner.clone(),
                asked_by: text(WHO_MAX_BYTES),
                deadline: Some("2026-12-31".into()),
                threat: Some(text(THREAT_MAX_BYTES)),
            },
            "",
        ),
        Draft::link(tick, Link { partner, link, event: LinkEvent::Revoked, profile: Some(text(PROFILE_MAX_BYTES)) }),
    ];
    let mut store = MemoryStore::default();
    let new = NewLog { household: HouseholdId::new(id).unwrap(), random: "a".repeat(64), time: tick };
    let mut log = Log::create(&mut store, &SEED, new).unwrap();
    let drafts = drafts.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(log.append(drafts, &mut salts(), &mut store).unwrap().len(), 6);
    assert!(store.leaves.iter().map(Vec::len).max().unwrap() <= LEAF_MAX_BYTES);
    assert!(verify(&store, &log.verifier_key()).unwrap().ok());

    // One more than each limit is refused when drafted.
    let long = |n: usize| "x".repeat(n + 1);
    assert!(
        Draft::intent(NOW, Intent { message: long(MESSAGE_MAX_BYTES), ..intent_of(vec![]) }, Body::new(*b"")).is_err()
    );
    assert!(Draft::intent(NOW, intent_of(vec![item(0); ITEMS_MAX + 1]), Body::new(*b"")).is_err());
    assert!(Draft::intent(NOW, intent_of(vec![]), Body::new(vec![0; limits::BODY_MAX_BYTES + 1])).is_err());
    assert!(Draft::refusals(Timestamp::from_millis(i64::MAX), refusals_of(vec![])).is_err());
    let demand = |deadline: &str| Demand {
        partner: self::partner(),
        asked_by: String::new(),
        deadline: Some(deadline.into()),
        threat: None,
    };
    for bad in ["soon", "2026-13-01", "2026-12-32", "31.12.2026", "2026-12-3é", ""] {
        assert!(Draft::demand(NOW, demand(bad), "").is_err(), "{bad}");
    }
}

#[test]
fn many_items_continue_in_more_leaves() {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    let many = (0..1000).map(item).collect::<Vec<_>>();
    let draft = Draft::intent(NOW, intent_of(many.clone()), Body::new(*b"{}")).unwrap();
    let refused: Vec<Refused> = (0..1000).map(refused).collect();
    let sums = Draft::refusals(NOW, refusals_of(refused.clone())).unwrap();
    let receipts = log.append(vec![draft, sums, intent("next")], &mut salts(), &mut store).unwrap();

    let leaves: Vec<Leaf> = store.leaves.iter().map(|leaf| Leaf::decode(leaf).unwrap()).collect();
    let Entry::Intent(first) = &leaves[1].entry else { panic!("leaf 1 is no intent") };
    assert!(first.more > 0);
    let mut seen = first.items.clone();
    let mut seen_refused = Vec::new();
    for leaf in &leaves[2..] {
        match &leaf.entry {
            Entry::More(more) => {
                assert_eq!((more.of, leaf.body), (1, None));
                seen.extend(more.items.clone());
            }
            Entry::Refusals(r) => seen_refused.extend(r.items.clone()),
            _ => {}
        }
    }
    assert_eq!((seen, seen_refused), (many, refused));
    assert_eq!(receipts.iter().map(Receipt::index).collect::<Vec<_>>(), [1, first.more + 2, log.size() - 1]);
    assert!(report(&store).ok());

    // Without the last of the `more` leaves, the items are not complete.
    let mut cut = store.leaves.clone();
    cut.truncate(usize::try_from(first.more).unwrap() + 1);
    assert!(problem(&forged(cut)).contains("lacks 1 leaves of items"));
}

#[test]
fn the_receipt_holds_the_recorded_bytes() {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    let redacted = Draft::intent(NOW, intent_of(vec![]), Body::redacted(*b"token=abc", *b"token=-")).unwrap();
    let receipts = log.append(vec![intent("hello"), redacted], &mut salts(), &mut store).unwrap();
    for (receipt, wire, kept) in [(&receipts[0], "hello", "hello"), (&receipts[1], "token=abc", "token=-")] {
        assert_eq!(receipt.body().unwrap().as_ref(), wire.as_bytes());
        assert_eq!(receipt.body_sha256(), Some(Digest::of(wire.as_bytes())));
        assert_eq!(receipt.checkpoint(), log.checkpoint());
        let leaf = Leaf::decode(&store.leaves[usize::try_from(receipt.index()).unwrap()]).unwrap();
        let stored = store.body(receipt.index()).unwrap().unwrap();
        assert_eq!(leaf.body.unwrap().commitment, Digest::salted(&stored.salt, wire.as_bytes()));
        assert_eq!(stored.kept, kept.as_bytes());
        let row = Row::new(&leaf, Some(stored.sha256));
        assert_eq!((row.bytes, row.body_sha256), (Some(wire.len() as u64), receipt.body_sha256()));
    }
}

#[test]
fn without_randomness_nothing_is_recorded() {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    assert!(matches!(log.append(vec![intent("a")], &mut || None, &mut store), Err(AppendError::NoSalt)));
    // Nothing was written, and the log goes on.
    assert_eq!(store.leaves.len(), 1);
    assert!(log.append(vec![intent("a")], &mut salts(), &mut store).is_ok());
}

#[test]
fn an_outcome_needs_an_open_intent() {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    let mut receipts = log.append(drafts(), &mut salts(), &mut store).unwrap().into_iter();
    assert!(matches!(receipts.next().unwrap().outcome(NOW, SendResult::Sent), Err(LeafError::NotAnIntent(1))));

    let genuine = sample().leaves;
    let again = |n: u64, intent: u64| {
        let entry = Entry::Outcome(Outcome { intent, result: SendResult::Sent });
        Leaf { index: n, time: NOW, household: household(), entry, body: None }.encode().unwrap()
    };
    for intent in [5, 2, 99] {
        let leaves = [genuine.clone(), vec![again(8, intent)]].concat();
        assert!(problem(&forged(leaves)).contains("is no intent without an outcome"), "{intent}");
    }
}

#[test]
fn misplaced_leaves_are_found() {
    let genuine = sample().leaves;
    assert!(report(&forged(genuine.clone())).ok());
    let mut swapped = genuine.clone();
    swapped.swap(1, 2);
    assert!(problem(&forged(swapped)).contains("leaf 1 says it is leaf 2"));
    assert!(problem(&forged(genuine[1..].to_vec())).contains("leaf 0 says it is leaf 1"));
    assert!(problem(&forged([genuine.clone(), vec![genuine[0].clone()]].concat())).contains("leaf 8"));
    let mut foreign = genuine.clone();
    foreign[3] = String::from_utf8(foreign[3].clone()).unwrap().replace("home-1", "home-2").into_bytes();
    assert!(problem(&forged(foreign)).contains("another household"));
}

/// Every way to tamper with a store that has no key: none may verify.
#[test]
fn tampering_is_found() {
    let genuine = sample();
    let mut cases: Vec<(String, MemoryStore)> = Vec::new();
    let mut case = |name: String, change: &dyn Fn(&mut MemoryStore)| {
        let mut store = genuine.clone();
        change(&mut store);
        cases.push((name, store));
    };
    for i in 0..genuine.leaves.len() {
        case(format!("leaf {i} changed"), &|s| *s.leaves[i].last_mut().unwrap() ^= 1);
        case(format!("leaf {i} removed"), &|s| drop(s.leaves.remove(i)));
        case(format!("leaf {i} doubled"), &|s| s.leaves.insert(i, s.leaves[i].clone()));
        case(format!("leaf {i} put behind the end"), &|s| s.leaves.push(s.leaves[i].clone()));
    }
    case("leaves swapped".into(), &|s| s.leaves.swap(2, 3));
    for i in 0..genuine.hashes.len() {
        case(format!("hash {i} changed"), &|s| s.hashes[i] = Digest::of(b"other"));
    }
    case("hash missing".into(), &|s| s.hashes.truncate(s.hashes.len() - 1));
    for index in genuine.bodies.keys() {
        case(format!("body {index} changed"), &|s| s.bodies.get_mut(index).unwrap().kept.push(b' '));
        case(format!("salt {index} changed"), &|s| s.bodies.get_mut(index).unwrap().salt[0] ^= 1);
    }
    case("plain hash changed".into(), &|s| s.bodies.get_mut(&5).unwrap().sha256 = Digest::of(b"other"));
    case("size changed".into(), &|s| s.head.as_mut().unwrap().size -= 1);
    case("size grown".into(), &|s| s.head.as_mut().unwrap().size += 1);
    case("checkpoint of another size".into(), &|s| {
        let head = s.head.as_mut().unwrap();
        head.checkpoint = head.checkpoint.replacen("\n8\n", "\n7\n", 1);
    });
    case("signature changed".into(), &|s| {
        let head = s.head.as_mut().unwrap();
        let at = head.checkpoint.len() - 20;
        let other = if head.checkpoint.as_bytes()[at] == b'A' { "B" } else { "A" };
        head.checkpoint.replace_range(at..=at, other);
    });
    case("all gone".into(), &|s| *s = MemoryStore::default());
    for (name, store) in &cases {
        let report = report(store);
        assert!(!report.ok() && report.problems > 0 && report.first_problem.is_some(), "{name}: {report:?}");
    }
    // The right ledger, but another key.
    let other = SigningKey::new("vestibule/t3st", &[1; 32]).unwrap().verifier_key();
    assert!(!verify(&genuine, &other).unwrap().ok());

    // Erasing is no tampering.
    let mut erased = genuine.clone();
    erased.bodies.clear();
    let report = report(&erased);
    assert!(report.ok());
    assert_eq!((report.bodies, report.missing_bodies), (0, 4));
}

#[test]
fn a_ledger_that_does_not_fit_is_not_opened() {
    let genuine = sample();
    assert_eq!(Log::open(&genuine, &SEED).unwrap().size(), 8);
    assert!(matches!(Log::open(&genuine, &[1; 32]), Err(OpenError::Checkpoint(_))));
    assert!(matches!(Log::open(&MemoryStore::default(), &SEED), Err(OpenError::Empty)));
    let new = NewLog { household: household(), random: "t3st".into(), time: NOW };
    assert!(matches!(Log::create(&mut genuine.clone(), &SEED, new), Err(OpenError::Exists)));
    for change in [
        (|s: &mut MemoryStore| s.hashes[0] = Digest::of(b"")) as fn(&mut MemoryStore),
        |s| *s.hashes.last_mut().unwrap() = Digest::of(b""),
        |s| s.leaves[0][20] ^= 1,
        |s| *s.leaves.last_mut().unwrap() = b"{}".to_vec(),
        |s| drop(s.leaves.pop()),
        |s| s.head.as_mut().unwrap().size -= 1,
    ] {
        let mut store = genuine.clone();
        change(&mut store);
        assert!(Log::open(&store, &SEED).is_err());
    }
}

#[test]
fn two_writers_cannot_fork_the_tree() {
    let mut store = MemoryStore::default();
    let mut one = new_log(&mut store);
    let mut two = Log::open(&store, &SEED).unwrap();
    one.append(vec![intent("one")], &mut salts(), &mut store).unwrap();
    assert!(matches!(two.append(vec![intent("two")], &mut salts(), &mut store), Err(AppendError::Store(_))));
    assert_eq!(report(&store).leaves, 2);
    assert!(report(&store).ok());
}

/// Fails at one write, before or after it persists.
struct Faulty {
    inner: MemoryStore,
    writes_left: usize,
    persists: bool,
}

impl LedgerStore for Faulty {
    fn head(&self) -> Result<Option<StoredHead>, StoreError> {
        self.inner.head()
    }
    fn hashes(&self, positions: &[u64]) -> Result<Vec<Digest>, StoreError> {
        self.inner.hashes(positions)
    }
    fn leaves(&self, range: std::ops::Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.inner.leaves(range)
    }
    fn body(&self, index: u64) -> Result<Option<StoredBody>, StoreError> {
        self.inner.body(index)
    }
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let fails = self.writes_left == 0;
        self.writes_left = self.writes_left.wrapping_sub(1);
        if !fails || self.persists {
            self.inner.write(batch)?;
        }
        if fails { Err(StoreError::message("injected")) } else { Ok(()) }
    }
}

#[test]
fn a_failed_write_poisons_until_reopened() {
    const WRITES: usize = 6;
    for persists in [false, true] {
        for fails_at in 0..WRITES {
            let mut store = Faulty { inner: MemoryStore::default(), writes_left: fails_at, persists };
            let new = NewLog { household: household(), random: "t3st".into(), time: NOW };
            let mut log = Log::create(&mut store, &SEED, new.clone()).or_else(|e| {
                assert!(matches!(e, OpenError::Genesis(_)) && fails_at == 0);
                if persists { Log::open(&store, &SEED) } else { Log::create(&mut store, &SEED, new) }
            });
            let log = log.as_mut().unwrap();
            let mut acknowledged = Vec::new();
            let mut failures = usize::from(fails_at == 0);
            for n in 0..WRITES {
                let batch = vec![intent(&format!("{n} a")), intent(&format!("{n} b"))];
                let before = log.size();
                match log.append(batch.clone(), &mut salts(), &mut store) {
                    Ok(receipts) => acknowledged.extend(receipts),
                    Err(AppendError::Store(_)) => {
                        failures += 1;
                        assert!(matches!(log.append(batch, &mut salts(), &mut store), Err(AppendError::Poisoned)));
                        *log = Log::open(&store, &SEED).unwrap();
                        assert_eq!(log.size(), before + if persists { 2 } else { 0 });
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            assert_eq!(failures, 1, "{fails_at} {persists}");
            assert!(report(&store.inner).ok());
            for receipt in acknowledged {
                let leaf = &store.inner.leaves[usize::try_from(receipt.index()).unwrap()];
                assert_eq!(receipt.leaf_hash(), record_hash(leaf).into());
            }
        }
    }
}

/// A ledger of this many leaves.
fn ledger_of(size: u64) -> MemoryStore {
    let mut store = MemoryStore::default();
    let mut log = new_log(&mut store);
    let drafts = (1..size).map(|n| intent(&n.to_string())).collect();
    log.append(drafts, &mut salts(), &mut store).unwrap();
    store
}

#[test]
fn a_proof_proves_one_leaf_only() {
    use ct_merkle::{InclusionProof, RootHash};

    let vkey = key().verifier_key();
    for size in [1, 2, 3, 7, 8, 21] {
        let store = ledger_of(size);
        for index in 0..size {
            let text = prove(&store, index).unwrap();
            for (other, leaf) in (0..).zip(&store.leaves) {
                match verify_proof(&text, leaf, &vkey) {
                    Ok(proven) => assert_eq!((proven.index, proven.head.size, other), (index, size, index)),
                    Err(e) => assert!(other != index && matches!(e, ProofError::Wrong(_))),
                }
            }
            // The second implementation accepts the same hashes.
            let leaf = &store.leaves[usize::try_from(index).unwrap()];
            let head = verify_checkpoint(&store.head.as_ref().unwrap().checkpoint, &vkey).unwrap();
            let hashes = text.split("\n\n").next().unwrap().lines().skip(2);
            let bytes = hashes.flat_map(|line| tlog_tiles::Hash::parse_hash(line).unwrap().0).collect();
            RootHash::<sha2::Sha256>::new((*head.root.as_bytes()).into(), size)
                .verify_inclusion(leaf, index, &InclusionProof::try_from_bytes(bytes).unwrap())
                .unwrap();
            // Extra data is allowed and means nothing.
            let extra = text.replacen("\nindex", "\nextra aGVsbG8=\nindex", 1);
            assert!(verify_proof(&extra, leaf, &vkey).is_ok());
        }
        assert!(matches!(prove(&store, size), Err(ProofError::NoLeaf { .. })));
    }
    assert!(matches!(prove(&MemoryStore::default(), 0), Err(ProofError::NoLeaf { .. })));
}

/// One ledger and a proof of it, made once: signing is slow without optimisation.
static PROVEN: std::sync::LazyLock<(Vec<u8>, String)> = std::sync::LazyLock::new(|| {
    let store = ledger_of(11);
    (store.leaves[6].clone(), prove(&store, 6).unwrap())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_character_of_a_proof_goes_unseen(at in 0usize..600, to in any::<char>()) {
        let (leaf, text) = &*PROVEN;
        let mut chars: Vec<char> = text.chars().collect();
        let at = at % chars.len();
        prop_assume!(chars[at] != to);
        chars[at] = to;
        let changed: String = chars.into_iter().collect();
        // What is not covered: a second signature line of somebody else, which can't come from one character.
        prop_assert!(verify_proof(&changed, leaf, &key().verifier_key()).is_err());
    }

    #[test]
    fn reading_foreign_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _leaf = Leaf::decode(&bytes);
        let _leaf = Leaf::decode(text.as_bytes());
        let _proof = verify_proof(&text, &bytes, &text);
        let _proof = verify_proof(&format!("c2sp.org/tlog-proof@v1\nindex 0\n{text}\n\n{text}"), &bytes, &key().verifier_key());
        let _head = verify_checkpoint(&text, &key().verifier_key());
    }

    #[test]
    fn batches_of_any_shape_give_the_tree_of_their_leaves(sizes in prop::collection::vec(0usize..9, 0..12)) {
        let mut store = MemoryStore::default();
        let mut log = new_log(&mut store);
        for (n, size) in sizes.iter().enumerate() {
            let before = log.size();
            let drafts = (0..*size).map(|i| intent(&format!("{n} {i}"))).collect();
            let receipts = log.append(drafts, &mut salts(), &mut store).unwrap();
            let indexes: Vec<u64> = receipts.iter().map(Receipt::index).collect();
            prop_assert_eq!(indexes, (before..log.size()).collect::<Vec<_>>());
            prop_assert_eq!(log.size() - before, *size as u64);
        }
        let report = report(&store);
        prop_assert!(report.ok());
        let mut other = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
        store.leaves.iter().for_each(|leaf| other.push(leaf.clone()));
        let root = other.root();
        let ours = report.root.unwrap();
        prop_assert_eq!(ours.as_bytes().as_slice(), root.as_bytes().as_slice());
        let reopened = Log::open(&store, &SEED).unwrap();
        prop_assert_eq!(reopened.checkpoint(), log.checkpoint());
    }
}

/// Each MUST of the spec names a test that exists.
#[test]
fn the_spec_is_held_by_tests() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let spec = std::fs::read_to_string(format!("{root}/docs/specs/ledger.md")).unwrap();
    let mut sources = String::new();
    for folder in ["crates/ledger/src", "crates/store/src", "crates/store/tests"] {
        for file in std::fs::read_dir(format!("{root}/{folder}")).into_iter().flatten() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut musts = 0;
    for id in (1..).map(|n| format!("L{n}")).take_while(|id| spec.contains(&format!("**[{id}]**"))) {
        musts += 1;
        let row = spec.lines().find(|line| line.starts_with(&format!("| {id} |")));
        let test = row.and_then(|row| row.split('`').nth(1)).unwrap_or_else(|| panic!("{id} names no test"));
        assert!(sources.contains(&format!("fn {test}(")), "{id}: there is no test `{test}`");
    }
    assert_eq!(musts, spec.matches("**[L").count(), "the numbers have a gap");
}

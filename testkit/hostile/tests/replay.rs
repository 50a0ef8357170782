//! Replays the corpus through every parser, and deterministic mutations of each seed: under stable Rust, as part of the
//! tests. With `VESTIBULE_FORM=full` a hundred times as many. What a fuzzer finds is put into the corpus, and stays.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostile::{TARGETS, Target};

/// Mutations of each target's seeds in all, in the short form.
const MUTATIONS: usize = 2500;

/// The same in the full form.
const MUTATIONS_FULL: usize = 250_000;

/// Longest input that is made, bytes.
const INPUT_MAX_BYTES: usize = 128 * 1024;

/// Most processor time for one input, unoptimised.
const INPUT_TIME_MAX: Duration = Duration::from_secs(3);

/// Most memory of this process ever, KiB: all targets at once, each with an input and what it makes of it.
const MEMORY_MAX_KIB: u64 = 512 * 1024;

/// What parsers trip over.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "{{",
    "}}",
    "{%",
    "%}",
    "\n",
    "\r\n",
    "\n---\n",
    "\0",
    "-",
    "0",
    "1e999",
    "-1e308",
    "9223372036854775808",
    "18446744073709551616",
    "NaN",
    "null",
    "true",
    "\\u0000",
    "\\ud800",
    "\u{202e}",
    "\u{feff}",
    "\u{1b}[2J",
    "é",
    "🏠",
    "%s",
    "{}",
    "[]",
    "range(99999999)",
    " * 99999999",
    "~",
    "+",
    "#",
    "../",
    "'",
    "2025-02-30",
    "24:00:00",
    "<script>",
    "ZZZZ",
    "AAAA=",
    "\u{2014} ",
];

/// SplitMix64: the same inputs at each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    /// A place in bytes, the end included.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// A part of bytes, mostly a small one.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.place(bytes);
        let longest = if self.below(4) == 0 { bytes.len() } else { 24 };
        let to = from + self.below((bytes.len() - from).min(longest) + 1);
        &bytes[from..to]
    }

    /// One to four changes.
    fn mutate(&mut self, seed: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            match self.below(9) {
                0 | 1 if !bytes.is_empty() => {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
                2 if !bytes.is_empty() => {
                    let at = self.below(bytes.len());
                    bytes[at] = self.below(256) as u8;
                }
                3 => bytes.truncate(self.place(&bytes.clone())),
                4 => {
                    let part = self.part(&bytes).len();
                    let at = self.below(bytes.len() - part + 1);
                    bytes.drain(at..at + part);
                }
                5 => {
                    let (at, token) = (self.place(&bytes), TOKENS[self.below(TOKENS.len())]);
                    bytes.splice(at..at, token.bytes());
                }
                6 => {
                    // One thing, many times.
                    let part = if self.below(2) == 0 {
                        self.part(&bytes).to_vec()
                    } else {
                        TOKENS[self.below(TOKENS.len())].as_bytes().to_vec()
                    };
                    let times = [2, 20, 200, 20_000][self.below(4)].min(INPUT_MAX_BYTES / part.len().max(1));
                    let at = self.place(&bytes);
                    bytes.splice(at..at, part.repeat(times));
                }
                7 => {
                    // The head of this and the tail of another.
                    let other = &others[self.below(others.len())];
                    let (head, tail) = (self.place(&bytes), self.place(other));
                    bytes.truncate(head);
                    bytes.extend_from_slice(&other[tail..]);
                }
                _ => {
                    let other = &others[self.below(others.len())];
                    let part = self.part(other).to_vec();
                    let at = self.place(&bytes);
                    bytes.splice(at..at, part);
                }
            }
            bytes.truncate(INPUT_MAX_BYTES);
        }
        bytes
    }
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// The seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus(target);
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    all.sort();
    all
}

/// Processor time that this thread has had: what a busy machine does beside is not the parser's.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
}

fn try_one(target: &Target, from: &str, bytes: &[u8]) {
    let begin = processor_time();
    let stood = catch_unwind(|| (target.run)(bytes)).is_ok();
    let took = processor_time().saturating_sub(begin);
    if stood && took < INPUT_TIME_MAX {
        return;
    }
    let shown: String = bytes.escape_ascii().to_string().chars().take(4000).collect();
    assert!(stood, "{} does not stand {} bytes made from {from}: {shown}", target.name, bytes.len());
    panic!("{} takes {took:?} for {} bytes made from {from}: {shown}", target.name, bytes.len());
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).unwrap();
    let seeds = seeds(name);
    assert!(seeds.len() >= 3, "{name} has {} seeds only", seeds.len());
    let bytes: Vec<Vec<u8>> = seeds.iter().map(|(_, bytes)| bytes.clone()).collect();
    for (from, bytes) in &seeds {
        try_one(target, from, bytes);
    }
    let full = std::env::var("VESTIBULE_FORM").is_ok_and(|form| form == "full");
    let mutations = if full { MUTATIONS_FULL } else { MUTATIONS };
    let mut dice = Dice(name.bytes().fold(7, |sum, b| sum * 31 + u64::from(b)));
    for n in 0..mutations {
        let (from, seed) = &seeds[n % seeds.len()];
        let input = dice.mutate(seed, &bytes);
        try_one(target, from, &input);
    }
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(peak < MEMORY_MAX_KIB, "{peak} KiB after {name}");
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_has_its_replay_its_corpus_and_its_fuzzer() {
            let names = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|t| t.name).collect::<Vec<_>>(), names);
            let manifest = std::fs::read_to_string(corpus("..").join("Cargo.toml")).unwrap();
            for name in names {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no target `{name}`");
                let fuzzer = corpus("..").join("fuzz_targets").join(format!("{name}.rs"));
                let text = std::fs::read_to_string(&fuzzer).unwrap();
                assert!(text.contains(&format!("hostile::{name}(")), "{}", fuzzer.display());
            }
        }
    };
}

replays! { discovery template directive token oauth recording config leaf proof stored body }

/// The seeds of `leaf` and `proof` come from this log; `UPDATE_GOLDEN=1` writes them anew.
#[test]
fn the_records_in_the_corpus_are_those_of_todays_format() {
    use ledger::{Body, Draft, LedgerStore as _, Log, MemoryStore, NewLog};
    let time = model::Timestamp::from_millis(1_768_212_000_000);
    let mut store = MemoryStore::default();
    let household = model::HouseholdId::new("home").unwrap();
    let new = NewLog { household, random: "0123456789abcdef".into(), time };
    let mut log = Log::create(&mut store, &[7; 32], new).unwrap();
    let (partner, link) = (model::PartnerId::new("alexa").unwrap(), model::LinkId::new("l").unwrap());
    let policy_set = ledger::Digest::of(b"policies");
    let item = ledger::Item {
        device: model::DeviceId::new("d").unwrap(),
        property: model::Property::LocalTemperature,
        kind: model::Kind::Temperature,
        rung: model::Rung::HourCoarse,
        tick: time,
        policies: ["g0".into()].into(),
    };
    let intent = ledger::Intent {
        partner: partner.clone(),
        link: link.clone(),
        trigger: model::Trigger::PartnerPoll,
        message: "Alexa.StateReport".into(),
        policy_set,
        items: vec![item],
        more: 0,
    };
    let created = ledger::Link {
        partner: partner.clone(),
        link,
        event: ledger::LinkEvent::Created,
        profile: Some("glance".into()),
    };
    let demand =
        ledger::Demand { asked_by: "alexa".into(), partner, deadline: Some("2027-01-01".into()), threat: None };
    let drafts = vec![
        Draft::link(time, created).unwrap(),
        Draft::intent(time, intent, Body::new(b"{}".to_vec())).unwrap(),
        Draft::demand(time, demand, "Report all state.").unwrap(),
    ];
    let receipts = log.append(drafts, &mut || Some([5; 16]), &mut store).unwrap();
    let outcome = receipts.into_iter().nth(1).unwrap().outcome(time, ledger::SendResult::Sent).unwrap();
    log.append(vec![outcome], &mut || Some([5; 16]), &mut store).unwrap();
    let mut files =
        vec![(corpus("../../testkit/hostile/src").join("verifier.key"), format!("{}\n", log.verifier_key()))];
    for (index, leaf) in (0..).zip(store.leaves(0..log.size()).unwrap()) {
        let leaf = String::from_utf8(leaf).unwrap();
        let proof = ledger::prove(&store, index).unwrap();
        files.push((corpus("proof").join(format!("leaf-{index}")), format!("{proof}\n---\n{leaf}")));
        files.push((corpus("leaf").join(format!("leaf-{index}")), leaf));
    }
    for (path, text) in files {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let on_file = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(on_file, text, "{}: set UPDATE_GOLDEN=1 if the format has changed on purpose", path.display());
    }
}

/// The seeds must reach the inside of their parsers: a corpus that is refused at the door tries nothing.
#[test]
fn seeds_reach_the_inside() {
    let valid = |target: &str, accepts: fn(&[u8]) -> bool| seeds(target).iter().filter(|(_, b)| accepts(b)).count();
    assert!(valid("directive", |b| alexa::parse(b).is_ok_and(|d| !d.is_malformed())) >= 5);
    assert!(valid("leaf", |b| ledger::Leaf::decode(b).is_ok()) >= 3);
    assert!(valid("body", |b| store::ledger::unpack(b).is_ok()) >= 1);
    assert!(valid("recording", |b| devices::replay::parse(b).is_ok()) >= 1);
    assert!(
        valid("stored", |b| serde_json::from_slice::<serde_json::Value>(b.split(|c| *c == b'\n').nth(1).unwrap())
            .is_ok())
            >= 3
    );
    let proven = valid("proof", |b| {
        let text = String::from_utf8_lossy(b).into_owned();
        text.rsplit_once("\n---\n").is_some_and(|(proof, leaf)| {
            ledger::verify_proof(proof, leaf.as_bytes(), hostile::VERIFIER_KEY.trim()).is_ok()
        })
    });
    assert!(proven >= 2, "{proven}");
}

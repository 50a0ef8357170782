//! The ledger in SQLite, from outside: concurrency, crashes, erasure, and reading beside the writer.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise, its helpers too")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use ledger::{Body, Digest, Draft, Intent, Item, Leaf, SendResult, verify_proof};
use model::{DeviceId, HouseholdId, Kind, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use store::Store;
use store::ledger::{Append, Filter, LedgerError, LedgerReader, LedgerWriter, Opening, ReadError};

const SEED: [u8; 32] = [5; 32];
const CHILD: &str = "VESTIBULE_TEST_LEDGER";

fn time(n: i64) -> Timestamp {
    Timestamp::from_millis(1_764_000_000_000 + n)
}

fn opening() -> Opening {
    Opening { household: HouseholdId::new("home").unwrap(), seed: SEED, begin: Some(time(0)) }
}

fn store(folder: &Path) -> Store {
    Store::open(&format!("sqlite:{}", folder.join("v.db").display())).unwrap()
}

fn intent(at: i64, link: &str, body: &str) -> Draft {
    let item = Item {
        device: DeviceId::new("thermostat-1").unwrap(),
        property: Property::LocalTemperature,
        kind: Kind::Temperature,
        rung: Rung::HourCoarse,
        tick: time(0),
        policies: ["grant-1".into()].into(),
    };
    let intent = Intent {
        partner: PartnerId::new("alexa").unwrap(),
        link: LinkId::new(link).unwrap(),
        trigger: Trigger::PartnerPoll,
        message: "Alexa.StateReport".into(),
        policy_set: Digest::of(b"policies"),
        items: vec![item],
        more: 0,
    };
    Draft::intent(time(at), intent, Body::new(body.as_bytes())).unwrap()
}

fn append(draft: Draft) -> Append {
    Append { drafts: vec![draft], held: vec![] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_appends_get_every_index_once_and_survive() {
    const TASKS: u64 = 8;
    const EACH: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let writer = LedgerWriter::open(&store, &opening()).unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for n in 0..EACH {
                    let body = format!("{task} {n}");
                    let held = vec![(format!("held {task}"), Some(n.to_string()))];
                    let drafts = vec![intent(1, "link-1", &body)];
                    let receipt = writer.append(Append { drafts, held }).await.unwrap().pop().unwrap();
                    seen.push((receipt.index(), Digest::of(body.as_bytes())));
                    writer.append_nowait(vec![receipt.outcome(time(2), SendResult::Sent).unwrap()]).unwrap();
                }
                seen
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    let verifier_key = writer.verifier_key().to_owned();
    let checked = LedgerReader::open(&store, None).unwrap();
    drop(writer);

    let all = checked.list(0, 10_000, &Filter::default()).unwrap();
    assert_eq!(all.iter().map(|row| row.index).collect::<Vec<_>>(), (0..=2 * TASKS * EACH).collect::<Vec<_>>());
    let distinct: BTreeSet<u64> = acknowledged.iter().map(|(index, _)| *index).collect();
    assert_eq!(distinct.len() as u64, TASKS * EACH);
    for (index, sha256) in acknowledged {
        assert_eq!(all[usize::try_from(index).unwrap()].body_sha256, Some(sha256));
    }
    let held: Vec<_> = (0..TASKS).map(|task| (format!("held {task}"), (EACH - 1).to_string())).collect();
    assert_eq!(checked.load_held().unwrap(), held);
    let report = checked.verify(Some(&verifier_key)).unwrap();
    assert!(report.ok(), "{report:?}");
    assert_eq!((report.intents, report.unknown_outcomes), (TASKS * EACH, 0));

    // Opened again, it goes on where it stopped.
    let writer = LedgerWriter::open(&store, &opening()).unwrap();
    let receipt = writer.append(append(intent(3, "link-1", "again"))).await.unwrap().pop().unwrap();
    assert_eq!(receipt.index(), report.size);
}

/// What [`killed_at_any_time_nothing_acknowledged_is_lost`] runs as a child process and kills; by itself it does nothing.
#[test]
fn child_that_appends_until_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let writer = LedgerWriter::open(&store(Path::new(&folder)), &opening()).unwrap();
        // Bodies past their time are erased meanwhile, so that it is killed in the middle of that, too.
        let eraser = writer.clone();
        tokio::spawn(async move {
            loop {
                eraser.append(append(intent(-10, "link-1", "old"))).await.unwrap();
                eraser.erase_before(time(0)).await.unwrap();
            }
        });
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let body = format!("{} {task} {n}", std::process::id());
                        let held = vec![(format!("held {task}"), Some(body.clone()))];
                        let drafts = vec![intent(1, "link-1", &body)];
                        let receipt = writer.append(Append { drafts, held }).await.unwrap().pop().unwrap();
                        writeln!(std::io::stdout(), "\nack {} {body}", receipt.index()).unwrap();
                        writer.append_nowait(vec![receipt.outcome(time(2), SendResult::Sent).unwrap()]).unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn killed_at_any_time_nothing_acknowledged_is_lost() {
    const ROUNDS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut erased) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_appends_until_killed", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Kill after another number of acknowledgements each round; the rest of the pipe counts, too.
        let mut acks = Vec::new();
        let kill_at = 1 + round * 13 % 47;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((index, body)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) else { continue };
            acks.push((index.parse::<u64>().unwrap(), body.to_owned()));
            if acks.len() == kill_at {
                child.kill().unwrap();
            }
        }
        assert!(acks.len() >= kill_at, "the child ended by itself: {:?}", child.wait());
        child.wait().unwrap();

        let writer = LedgerWriter::open(&store(folder.path()), &opening()).unwrap();
        for (index, body) in &acks {
            let shown = writer.reader().show(*index).unwrap().unwrap();
            assert_eq!(shown.body.as_deref(), Some(body.as_str()));
            assert_eq!(shown.row.body_sha256, Some(Digest::of(body.as_bytes())));
        }
        // A held value is never older than the last acknowledged intent of its task.
        let held = writer.reader().load_held().unwrap();
        for (index, body) in &acks {
            let mut words = body.split(' ');
            let (pid, task) = (words.next().unwrap(), words.next().unwrap());
            let n: u64 = words.next().unwrap().parse().unwrap();
            let (_, value) = held.iter().find(|(key, _)| *key == format!("held {task}")).unwrap();
            assert!(value.starts_with(pid), "{index}: {value}");
            assert!(value.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= n);
        }
        acknowledged += acks.len();
        let report = writer.reader().verify(Some(writer.verifier_key())).unwrap();
        assert!(report.ok() && report.missing_bodies >= erased, "{report:?}");
        erased = report.missing_bodies;
        assert!(report.intents >= acknowledged as u64);
    }
    assert!(erased > 0, "nothing was erased meanwhile");
}

/// The file and its write-ahead log, all bytes.
fn raw(folder: &Path) -> Vec<u8> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with("-shm"))
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn erasing_leaves_no_trace_and_the_tree_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let writer = LedgerWriter::open(&store, &opening()).unwrap();
    let mut traces = Vec::new();
    // More than one chunk of erasing, and one body over several pages.
    let old = (0..1200).map(|n| intent(n, "link-1", &format!("old {n}"))).collect();
    writer.append(Append { drafts: old, held: vec![] }).await.unwrap();
    let long: String = (0..3000u64).map(|n| format!("{:x}", n * n * 7919 % 100_003)).collect();
    writer.append(append(intent(1300, "link-1", &long))).await.unwrap();
    writer.append(append(intent(5000, "link-1", "young"))).await.unwrap();
    let connection = store.connect_read().unwrap();
    let columns = ["body", "salt", "sha256"];
    for index in [1, 600, 1201, 1202] {
        for column in columns {
            let sql = format!("SELECT {column} FROM ledger_body WHERE idx = ?1");
            let bytes: Vec<u8> = connection.query_row(&sql, [index], |row| row.get(0)).unwrap();
            traces.push((index, bytes));
        }
    }
    let before = raw(folder.path());
    for (_, trace) in &traces {
        assert!(contains(&before, &trace[..trace.len().min(200)]));
    }

    // A long read holds the write-ahead log: that is said, and appends go on.
    connection.execute_batch("BEGIN; SELECT count(*) FROM ledger_body").unwrap();
    assert!(matches!(writer.erase_before(time(1000)).await, Err(LedgerError::Store(_))));
    writer.append(append(intent(6000, "link-1", "meanwhile"))).await.unwrap();
    connection.execute_batch("COMMIT").unwrap();
    assert_eq!(writer.erase_before(time(2000)).await.unwrap(), 201);
    assert_eq!(writer.erase_before(time(2000)).await.unwrap(), 0);
    let after = raw(folder.path());
    for (index, trace) in &traces {
        for part in trace.chunks(16).filter(|part| part.len() > 6) {
            assert_eq!(contains(&after, part), *index == 1202, "body {index}");
        }
    }
    let rows = writer.reader().list(1, 10_000, &Filter::default()).unwrap();
    assert!(rows[..1201].iter().all(|row| row.body_sha256.is_none() && row.bytes.is_some()));
    assert_eq!(rows[1201].body_sha256, Some(Digest::of(b"young")));
    assert_eq!(serde_json::to_value(&rows[0]).unwrap()["body_sha256"], serde_json::Value::Null);
    let report = writer.reader().verify(Some(writer.verifier_key())).unwrap();
    assert!(report.ok(), "{report:?}");
    assert_eq!((report.missing_bodies, report.bodies), (1201, 2));
}

#[tokio::test]
async fn what_is_listed_shown_and_proven_is_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert!(matches!(LedgerReader::open(&store, None), Err(ReadError::NoHousehold)));
    let must_be_there = Opening { begin: None, ..opening() };
    assert!(matches!(LedgerWriter::open(&store, &must_be_there), Err(LedgerError::Open(_))));
    let writer = LedgerWriter::open(&store, &opening()).unwrap();
    for n in 0..6 {
        writer.append(append(intent(n, if n % 2 == 0 { "even" } else { "odd" }, "{\"v\":21.5}"))).await.unwrap();
    }
    let wrong_key = Opening { seed: [6; 32], ..opening() };
    assert!(matches!(LedgerWriter::open(&store, &wrong_key), Err(LedgerError::Open(_))));

    // A reader of its own, as the command line opens it beside a running hub.
    let beside = Store::open_existing(&format!("sqlite:{}", store.path().display())).unwrap();
    let reader = LedgerReader::open(&beside, None).unwrap();
    assert_eq!((reader.household().as_str(), reader.size().unwrap()), ("home", 7));
    let odd = Filter { link: Some(LinkId::new("odd").unwrap()), ..Filter::default() };
    let indexes = |from, limit, filter: &Filter| -> Vec<u64> {
        reader.list(from, limit, filter).unwrap().iter().map(|row| row.index).collect()
    };
    assert_eq!(indexes(0, 10, &odd), [2, 4, 6]);
    assert_eq!(indexes(3, 1, &odd), [4]);
    assert_eq!(indexes(0, 10, &Filter { kind: Some("genesis".into()), ..Filter::default() }), [0]);
    assert_eq!(indexes(6, 10, &Filter { partner: Some(PartnerId::new("alexa").unwrap()), ..odd.clone() }), [6]);
    assert!(indexes(0, 10, &Filter { partner: Some(PartnerId::new("google").unwrap()), ..odd }).is_empty());

    let line = serde_json::to_value(&reader.list(1, 1, &Filter::default()).unwrap()[0]).unwrap();
    let expected = [
        ("index", serde_json::json!(1)),
        ("time", "2025-11-24T16:00:00.000Z".into()),
        ("type", "intent".into()),
        ("partner", "alexa".into()),
        ("link", "even".into()),
        ("trigger", "partner_poll".into()),
        ("bytes", 10.into()),
        ("body_sha256", Digest::of(b"{\"v\":21.5}").to_string().into()),
    ];
    for (key, value) in expected {
        assert_eq!(line[key], value, "{key}");
    }

    let shown = reader.show(3).unwrap().unwrap();
    assert_eq!(shown.body.as_deref(), Some("{\"v\":21.5}"));
    let connection = beside.connect_read().unwrap();
    let leaf: String =
        connection.query_row("SELECT leaf FROM ledger_leaf WHERE idx = 3", [], |row| row.get(0)).unwrap();
    assert_eq!(Leaf::decode(leaf.as_bytes()).unwrap().to_object().unwrap(), shown.leaf);
    let proven = verify_proof(&shown.proof, leaf.as_bytes(), writer.verifier_key()).unwrap();
    assert_eq!((proven.index, proven.head.size), (3, 7));
    assert!(reader.show(7).unwrap().is_none());

    // A leaf changed in the file is found, with the first leaf's own key as well.
    assert!(reader.verify(None).unwrap().ok());
    let changed = "UPDATE ledger_leaf SET leaf = replace(leaf, '\"odd\"', '\"even\"') WHERE idx = 4";
    store.connect().unwrap().execute(changed, []).unwrap();
    let report = reader.verify(None).unwrap();
    assert!(!report.ok() && report.first_problem.unwrap().contains("leaf 4"));
}

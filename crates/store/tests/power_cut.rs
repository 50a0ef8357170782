//! The power goes at any moment: every prefix of what was written to the database is opened by the ordinary way.
//!
//! SQLite in write-ahead mode writes in a known order: frames at the end of the log, then (at a checkpoint) pages of the
//! database, then from the start of the log again. So the files after each confirmed write are kept, and between two of
//! them every state is made that a cut could leave: the log up to any frame, or into one, or with holes among what no
//! sync had confirmed yet; then the database with any number of the pages of a checkpoint.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::path::Path;

use ledger::{Body, Digest, Draft, Intent};
use model::{HouseholdId, LinkId, PartnerId, Timestamp, Trigger};
use store::Store;
use store::ledger::{Append, LedgerWriter, Opening};

/// Bytes of a page, of the header of a frame, and of the log's own header (sqlite.org/fileformat2.html).
const PAGE: usize = 4096;
const FRAME: usize = 24 + PAGE;
const LOG_HEADER: usize = 32;

fn full() -> bool {
    std::env::var_os("VESTIBULE_FORM").is_some_and(|form| form == "full")
}

fn time(n: i64) -> Timestamp {
    Timestamp::from_millis(1_764_000_000_000 + n)
}

fn opening() -> Opening {
    Opening { household: HouseholdId::new("home").unwrap(), seed: [5; 32], begin: None }
}

fn store(folder: &Path) -> Store {
    Store::open(&format!("sqlite:{}", folder.join("v.db").display())).unwrap()
}

fn intent(at: i64, body: Vec<u8>) -> Draft {
    let intent = Intent {
        partner: PartnerId::new("alexa").unwrap(),
        link: LinkId::new("link-1").unwrap(),
        trigger: Trigger::PartnerPoll,
        message: "Alexa.StateReport".into(),
        policy_set: Digest::of(b"policies"),
        items: vec![],
        more: 0,
    };
    Draft::intent(time(at), intent, Body::new(body)).unwrap()
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }

    /// Bytes that don't compress.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// The files when a write had been confirmed, and what was confirmed until then.
struct Confirmed {
    database: Vec<u8>,
    log: Vec<u8>,
    /// Leaves in the tree, and the held value.
    size: u64,
    held: Option<String>,
    /// Bodies by index; none once erased.
    bodies: Vec<(u64, Option<Digest>)>,
}

impl Confirmed {
    fn now(folder: &Path, before: Option<&Confirmed>, writer: &LedgerWriter) -> Self {
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap_or_default();
        let bodies = before.map(|b| b.bodies.clone()).unwrap_or_default();
        let held = before.and_then(|b| b.held.clone());
        Self { database: read("v.db"), log: read("v.db-wal"), size: writer.stats().size, held, bodies }
    }
}

/// A folder in memory where there is one: what is tried is which bytes are there, and not how long a disk takes.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens these files as a hub would after the power is back, and holds them against what was confirmed before and after.
fn assert_recovers(database: &[u8], log: &[u8], before: &Confirmed, after: &Confirmed, what: &str) {
    let folder = folder();
    std::fs::write(folder.path().join("v.db"), database).unwrap();
    std::fs::write(folder.path().join("v.db-wal"), log).unwrap();
    let writer = LedgerWriter::open(&store(folder.path()), &opening()).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    let size = writer.stats().size;
    // All that was confirmed; of what was under way all or nothing.
    let there = if size == before.size { before } else { after };
    assert!(size == before.size || size == after.size, "{what}: {size} leaves of {} or {}", before.size, after.size);
    let report = writer.reader().verify(Some(writer.verifier_key())).unwrap();
    assert!(report.ok(), "{what}: {report:?}");
    for (index, digest) in &there.bodies {
        // Erasing may or may not have got through.
        let row = writer.reader().show(*index).unwrap().unwrap().row;
        let erased = after.bodies.iter().any(|(i, d)| i == index && d.is_none());
        assert!(row.body_sha256 == *digest || (erased && row.body_sha256.is_none()), "{what}: body {index}");
    }
    let held = writer.reader().load_held().unwrap();
    let held = held.first().map(|(_, value)| value.clone());
    assert!(held == before.held || held == after.held, "{what}: {held:?}");
    if size == after.size && after.size != before.size {
        assert_eq!(held, after.held, "{what}: leaves and held values came apart");
    }
}

/// Every state between two confirmed ones; how many there were.
fn cut_between(before: &Confirmed, after: &Confirmed, random: &mut Random) -> usize {
    let mut tried = 0;
    let mut attempt = |database: &[u8], log: &[u8], what: String| {
        assert_recovers(database, log, before, after, &what);
        tried += 1;
    };
    // The log is written from its first byte that differs, up to the last. Emptying it is the last step of all.
    let emptied = after.log.is_empty() && !before.log.is_empty();
    let log = if emptied { &before.log } else { &after.log };
    let first = log.iter().zip(&before.log).position(|(a, b)| a != b).unwrap_or(before.log.len().min(log.len()));
    let last = (0..log.len()).rev().find(|i| before.log.get(*i) != log.get(*i)).map_or(first, |i| i + 1);
    let up_to = |cut: usize| [&log[..cut], before.log.get(cut..).unwrap_or_default()].concat();
    let boundaries: Vec<usize> = (0..).map(|n| LOG_HEADER + n * FRAME).take_while(|cut| *cut < last).collect();
    let new: Vec<usize> = boundaries.into_iter().filter(|cut| *cut >= first).collect();
    let every = if full() { 1 } else { 1 + new.len() / 4 };
    for cut in new.iter().step_by(every).copied().chain([first, last]) {
        attempt(&before.database, &up_to(cut), format!("the log up to {cut}"));
        let torn = (cut + 1 + random.below(FRAME - 1)).min(last);
        attempt(&before.database, &up_to(torn), format!("the log torn at {torn}"));
    }
    // What no sync has confirmed may reach the disk in any order, sector by sector.
    for _ in 0..(if full() { 8 } else { 1 }) {
        let mut holes = up_to(last);
        let sectors = (last - first).div_ceil(512);
        for _ in 0..sectors.min(1 + random.below(4)) {
            let from = first + random.below(sectors) * 512;
            let to = (from + 512).min(last);
            for (place, byte) in holes[from..to].iter_mut().zip(from..) {
                *place = before.log.get(byte).copied().unwrap_or(0);
            }
        }
        attempt(&before.database, &holes, "the log with holes".into());
    }
    // A checkpoint: the log is whole and synced, and pages go into the database in some order, one perhaps in part.
    let changed: Vec<usize> = (0..after.database.len().div_ceil(PAGE))
        .filter(|page| {
            before.database.get(page * PAGE..(page + 1) * PAGE) != after.database.get(page * PAGE..(page + 1) * PAGE)
        })
        .collect();
    if !changed.is_empty() {
        let every = if full() { 1 } else { 1 + changed.len() / 6 };
        for done in (0..=changed.len()).step_by(every) {
            let mut database = before.database.clone();
            database.resize(after.database.len().max(database.len()), 0);
            for (n, page) in changed.iter().enumerate().take(done + 1) {
                let end = if n < done { PAGE } else { random.below(PAGE) };
                let range = page * PAGE..(page * PAGE + end).min(after.database.len());
                database[range.clone()].copy_from_slice(&after.database[range]);
            }
            attempt(&database, log, format!("{done} of {} pages of a checkpoint", changed.len()));
        }
    }
    attempt(&after.database, &after.log, "all of it".into());
    tried
}

#[tokio::test]
async fn power_cut_at_any_moment_and_the_tree_verifies_with_all_that_was_confirmed() {
    let folder = folder();
    let store = store(folder.path());
    let mut random = Random(7);
    let writer = LedgerWriter::open(&store, &Opening { begin: Some(time(0)), ..opening() }).unwrap();
    let mut steps = vec![Confirmed::now(folder.path(), None, &writer)];
    let commits = if full() { 400 } else { 24 };
    for n in 0..commits {
        let len = if n % 5 == 0 { 20_000 + random.below(20_000) } else { 300 + random.below(3000) };
        let drafts: Vec<Draft> = (0..1 + random.below(3)).map(|_| intent(n, random.bytes(len))).collect();
        let value = format!("\"{n}\"");
        let held = vec![("key".to_owned(), Some(value.clone()))];
        let receipts = writer.append(Append { drafts, held }).await.unwrap();
        let mut step = Confirmed::now(folder.path(), steps.last(), &writer);
        step.held = Some(value);
        step.bodies.extend(receipts.iter().map(|r| (r.index(), r.body_sha256())));
        steps.push(step);
        if n % 6 == 2 {
            // In life, when the log has a thousand pages.
            store.connect().unwrap().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
            steps.push(Confirmed::now(folder.path(), steps.last(), &writer));
        }
        if n % 12 == 11 {
            // Erased while a reader holds the log: in the log alone. Then the log is emptied.
            let reader = store.connect_read().unwrap();
            reader.execute_batch("BEGIN; SELECT count(*) FROM ledger_body").unwrap();
            writer.erase_before(time(n - 4)).await.unwrap_err();
            let mut step = Confirmed::now(folder.path(), steps.last(), &writer);
            for (index, digest) in &mut step.bodies {
                if writer.reader().show(*index).unwrap().unwrap().row.body_sha256.is_none() {
                    *digest = None;
                }
            }
            steps.push(step);
            reader.execute_batch("COMMIT").unwrap();
            writer.erase_before(time(n - 4)).await.unwrap();
            steps.push(Confirmed::now(folder.path(), steps.last(), &writer));
        }
    }
    let tried: usize = steps.windows(2).map(|pair| cut_between(&pair[0], &pair[1], &mut random)).sum();
    let count = |test: fn(&[Confirmed]) -> bool| steps.windows(2).filter(|pair| test(pair)).count();
    // What can happen has happened: the log grew, began anew, went into the database, and was emptied.
    let grew = count(|p| p[1].log.len() > p[0].log.len() && p[1].log.starts_with(&p[0].log));
    let anew = count(|p| {
        p[1].log.get(..LOG_HEADER) != p[0].log.get(..LOG_HEADER) && !p[0].log.is_empty() && !p[1].log.is_empty()
    });
    let checkpoints = count(|p| p[0].database != p[1].database);
    let emptied = count(|p| !p[0].log.is_empty() && p[1].log.is_empty());
    assert!(grew > 8 && anew > 1 && checkpoints > 3 && emptied > 1, "{grew} {anew} {checkpoints} {emptied}");
    println!(
        "{tried} states after {} confirmed writes; {checkpoints} checkpoints, {anew} times the log anew",
        steps.len()
    );
}

//! The writer thread: it alone appends, and commits all that waits in one transaction.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ledger::limits::SALT_BYTES;
use ledger::{AppendError, Draft, LedgerStore, Log, NewLog, Receipt, StoreError};
use model::{HouseholdId, Timestamp};
use tokio::sync::oneshot;

use super::reader::{LedgerReader, ReadError};
use super::tree::{ERASE_MAX_BODIES, SqliteLedger};
use crate::{OpenError, Store, household_key};

/// Most requests that wait for the writer. One more is refused, and counted.
pub const QUEUE_MAX_JOBS: usize = 1024;

/// Most bytes of bodies and held values that wait for the writer. More are refused, and counted.
pub const QUEUE_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Most requests that are committed together.
pub const BATCH_MAX_JOBS: usize = 256;

/// Characters of the random part of an origin: 80 bits.
const ORIGIN_CHARS: usize = 16;

/// The ledger of one household, open for writing. Clones share one writer thread; when the last one is dropped, what
/// waits is written and the thread ends.
#[derive(Clone, Debug)]
pub struct LedgerWriter {
    inner: Arc<Inner>,
}

/// What to open.
#[derive(Clone)]
pub struct Opening {
    /// Whose ledger.
    pub household: HouseholdId,
    /// The 32 secret bytes of the signing key.
    pub seed: [u8; 32],
    /// The time now, if a ledger may be begun where there is none. Without it, a missing ledger is an error: a wrong
    /// path must not begin a second history.
    pub begin: Option<Timestamp>,
}

/// What to append together: durable whole or not at all.
#[derive(Debug, Default)]
pub struct Append {
    /// The leaves.
    pub drafts: Vec<Draft>,
    /// Keys and values that must survive a restart together with them; none deletes the key.
    pub held: Vec<(String, Option<String>)>,
}

/// Why nothing is known to be recorded. In doubt, nothing may be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// Too much waits for the disk.
    #[error("the ledger's queue is full ({QUEUE_MAX_JOBS} requests or {QUEUE_MAX_BYTES} bytes): the disk is too slow")]
    Full,
    /// The writer has ended.
    #[error("the ledger is closed")]
    Closed,
    /// The log could not be opened.
    #[error("the ledger can't be opened")]
    Open(#[source] Arc<ledger::OpenError>),
    /// The file could not be opened.
    #[error("the ledger's file can't be opened")]
    File(#[source] Arc<OpenError>),
    /// The log did not append.
    #[error("the ledger did not record it")]
    Append(#[source] Arc<AppendError>),
    /// Another work of the store failed.
    #[error("the ledger's store failed")]
    Store(#[source] Arc<StoreError>),
    /// The reader could not be opened.
    #[error("the ledger can't be read")]
    Read(#[source] Arc<ReadError>),
    /// No thread or no randomness.
    #[error("the system gave no {0}")]
    System(&'static str),
}

/// What the writer has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Leaves in the tree.
    pub size: u64,
    /// Drafts recorded.
    pub recorded: u64,
    /// Transactions for them.
    pub commits: u64,
    /// Requests refused because the queue was full.
    pub refused_full: u64,
    /// Requests that failed in the store.
    pub failed: u64,
    /// Drafts that were given to [`LedgerWriter::append_nowait`] and not recorded.
    pub lost: u64,
    /// The last write failed in the store: nothing is recorded now.
    pub failing: bool,
}

#[derive(Debug)]
struct Inner {
    /// Some until the last clone is dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Arc<Counters>,
    reader: LedgerReader,
    verifier_key: String,
}

#[derive(Debug, Default)]
struct Counters {
    size: AtomicU64,
    recorded: AtomicU64,
    commits: AtomicU64,
    refused_full: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    failing: AtomicBool,
    waiting_bytes: AtomicUsize,
}

type Answer<T> = oneshot::Sender<Result<T, LedgerError>>;

enum Job {
    Append(Waiting),
    Erase(Timestamp, Answer<u64>),
    EmptyWal(Answer<()>),
    Close,
}

struct Waiting {
    append: Append,
    bytes: usize,
    /// None when nobody waits.
    answer: Option<Answer<Vec<Receipt>>>,
}

impl LedgerWriter {
    /// Opens the ledger of a household, or begins it when [`Opening::begin`] says so, and starts the writer thread.
    ///
    /// # Errors
    /// When the store or the log can't be opened; see [`ledger::OpenError`].
    pub fn open(store: &Store, opening: &Opening) -> Result<Self, LedgerError> {
        let connection = store.connect().map_err(|e| LedgerError::File(Arc::new(e)))?;
        let key = household_key(&connection, &opening.household)
            .map_err(|e| LedgerError::Store(Arc::new(StoreError::new("the household can't be read", e))))?;
        let mut tree = SqliteLedger::new(connection, key);
        let empty = tree.head().map_err(|e| LedgerError::Store(Arc::new(e)))?.is_none();
        let log = match opening.begin {
            Some(time) if empty => {
                let new = NewLog { household: opening.household.clone(), random: random_name()?, time };
                Log::create(&mut tree, &opening.seed, new)
            }
            _ => Log::open(&tree, &opening.seed),
        }
        .map_err(|e| LedgerError::Open(Arc::new(e)))?;
        let reader = LedgerReader::open(store, Some(&opening.household)).map_err(|e| LedgerError::Read(Arc::new(e)))?;
        Self::start(tree, log, opening.seed, reader)
    }

    fn start(tree: SqliteLedger, log: Log, seed: [u8; 32], reader: LedgerReader) -> Result<Self, LedgerError> {
        let (jobs, queue) = sync_channel(QUEUE_MAX_JOBS);
        let counters = Arc::new(Counters::default());
        counters.size.store(log.size(), Ordering::Relaxed);
        let verifier_key = log.verifier_key();
        let mut writer = Writer { tree, log: Some(log), seed, counters: Arc::clone(&counters) };
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(&queue))
            .map_err(|_| LedgerError::System("thread"))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { inner: Arc::new(Inner { jobs: Some(jobs), thread, counters, reader, verifier_key }) })
    }

    /// Appends, and returns one receipt for each draft when all are durable. What was accepted is recorded even when
    /// the caller stops waiting.
    ///
    /// # Errors
    /// When the queue is full, the ledger closed, or the store failed. Then nothing may be sent: whether it was
    /// recorded is not known.
    pub async fn append(&self, append: Append) -> Result<Vec<Receipt>, LedgerError> {
        let (answer, result) = oneshot::channel();
        self.send_append(append, Some(answer))?;
        result.await.map_err(|_| LedgerError::Closed)?
    }

    /// Appends without waiting: for outcomes, whose loss means "unknown". A failure in the store is counted
    /// ([`Stats::lost`]) and logged.
    ///
    /// # Errors
    /// When the queue is full or the ledger closed; that is counted, too.
    pub fn append_nowait(&self, drafts: Vec<Draft>) -> Result<(), LedgerError> {
        let count = drafts.len();
        self.send_append(Append { drafts, held: Vec::new() }, None).inspect_err(|_| {
            add(&self.inner.counters.lost, count);
        })
    }

    /// Erases the bodies of leaves older than a time, with salts and plain hashes, from the file and its write-ahead
    /// log. Returns how many. Appends go on in between.
    ///
    /// # Errors
    /// When the store failed, or a long read kept the write-ahead log: then call it again.
    pub async fn erase_before(&self, time: Timestamp) -> Result<u64, LedgerError> {
        let mut erased = 0u64;
        loop {
            let some = self.ask(|answer| Job::Erase(time, answer)).await?;
            erased = erased.saturating_add(some);
            if some < ERASE_MAX_BODIES.unsigned_abs() {
                break;
            }
        }
        self.ask(Job::EmptyWal).await?;
        Ok(erased)
    }

    /// Reads over a connection of its own.
    pub fn reader(&self) -> &LedgerReader {
        &self.inner.reader
    }

    /// The public key that verifies this ledger.
    pub fn verifier_key(&self) -> &str {
        &self.inner.verifier_key
    }

    /// What the writer has done, without asking it.
    pub fn stats(&self) -> Stats {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let c = &self.inner.counters;
        Stats {
            size: read(&c.size),
            recorded: read(&c.recorded),
            commits: read(&c.commits),
            refused_full: read(&c.refused_full),
            failed: read(&c.failed),
            lost: read(&c.lost),
            failing: c.failing.load(Ordering::Relaxed),
        }
    }

    /// Writes what waits, and ends the writer thread. Blocks until then. Later calls are refused as closed.
    pub fn close(&self) {
        if let Some(jobs) = &self.inner.jobs {
            // An error means that the thread has ended already.
            let _ended = jobs.send(Job::Close);
        }
        self.inner.join();
    }

    fn send_append(&self, append: Append, answer: Option<Answer<Vec<Receipt>>>) -> Result<(), LedgerError> {
        let held = append.held.iter().map(|(key, json)| key.len() + json.as_ref().map_or(0, String::len));
        let bytes = append.drafts.iter().map(Draft::body_bytes).chain(held).fold(0, usize::saturating_add);
        let waiting = &self.inner.counters.waiting_bytes;
        if waiting.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > QUEUE_MAX_BYTES {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
            add(&self.inner.counters.refused_full, 1);
            return Err(LedgerError::Full);
        }
        self.send(Job::Append(Waiting { append, bytes, answer })).inspect_err(|_| {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
        })
    }

    fn send(&self, job: Job) -> Result<(), LedgerError> {
        let jobs = self.inner.jobs.as_ref().ok_or(LedgerError::Closed)?;
        jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => {
                add(&self.inner.counters.refused_full, 1);
                LedgerError::Full
            }
            TrySendError::Disconnected(_) => LedgerError::Closed,
        })
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, LedgerError> {
        let (answer, result) = oneshot::channel();
        self.send(job(answer))?;
        result.await.map_err(|_| LedgerError::Closed)?
    }
}

impl Inner {
    fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the ledger's writer thread ended by a panic");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread ends when nobody can send any more and all that waited is written.
        self.jobs = None;
        self.join();
    }
}

impl std::fmt::Debug for Opening {
    // The seed is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opening({})", self.household)
    }
}

/// What the thread owns.
struct Writer {
    tree: SqliteLedger,
    /// None after a failed write, until it has been opened again.
    log: Option<Log>,
    seed: [u8; 32],
    counters: Arc<Counters>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
            match job {
                Job::Append(first) => {
                    // Whatever waits already goes into the same transaction; nobody waits for company.
                    let mut batch = vec![first];
                    while batch.len() < BATCH_MAX_JOBS {
                        match queue.try_recv() {
                            Ok(Job::Append(more)) => batch.push(more),
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(batch);
                }
                Job::Erase(time, answer) => {
                    reply(answer, self.tree.erase_some(time).map_err(|e| LedgerError::Store(Arc::new(e))));
                }
                Job::EmptyWal(answer) => {
                    reply(answer, self.tree.empty_wal().map_err(|e| LedgerError::Store(Arc::new(e))));
                }
                Job::Close => return,
            }
        }
    }

    fn commit(&mut self, batch: Vec<Waiting>) {
        let mut drafts = Vec::new();
        let mut held = Vec::new();
        let mut waiting = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for job in batch {
            bytes += job.bytes;
            waiting.push((job.append.drafts.len(), job.answer));
            drafts.extend(job.append.drafts);
            held.extend(job.append.held);
        }
        let count = drafts.len();
        let result = self.write(drafts, held);
        self.counters.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        faults::pass(faults::RECORD_ANSWER);
        // A draft that does not fit is no fault of the store.
        let failing = result.as_ref().is_err_and(
            |e| !matches!(e, LedgerError::Append(e) if !matches!(**e, AppendError::Store(_) | AppendError::Poisoned)),
        );
        self.counters.failing.store(failing, Ordering::Relaxed);
        match result {
            Ok(receipts) => {
                add(&self.counters.recorded, count);
                add(&self.counters.commits, 1);
                let mut receipts = receipts.into_iter();
                for (count, answer) in waiting {
                    let mine = receipts.by_ref().take(count).collect();
                    if let Some(answer) = answer {
                        reply(answer, Ok(mine));
                    }
                }
            }
            Err(error) => {
                add(&self.counters.failed, waiting.len());
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger did not record {count} drafts");
                for (count, answer) in waiting {
                    match answer {
                        Some(answer) => reply(answer, Err(error.clone())),
                        None => add(&self.counters.lost, count),
                    }
                }
            }
        }
    }

    fn write(&mut self, drafts: Vec<Draft>, held: Vec<(String, Option<String>)>) -> Result<Vec<Receipt>, LedgerError> {
        let mut log = match self.log.take() {
            Some(log) => log,
            None => Log::open(&self.tree, &self.seed).map_err(|e| LedgerError::Open(Arc::new(e)))?,
        };
        if drafts.is_empty() {
            let stored = self.tree.write_held_alone(&held);
            self.log = Some(log);
            return stored.map(|()| Vec::new()).map_err(|e| LedgerError::Store(Arc::new(e)));
        }
        self.tree.stage_held(held);
        let result = log.append(drafts, &mut random_salt, &mut self.tree);
        self.counters.size.store(log.size(), Ordering::Relaxed);
        // A poisoned log stays away: the next write opens it again from what is stored.
        if !matches!(result, Err(AppendError::Store(_) | AppendError::Poisoned)) {
            self.log = Some(log);
        }
        result.map_err(|e| LedgerError::Append(Arc::new(e)))
    }
}

fn reply<T>(answer: Answer<T>, result: Result<T, LedgerError>) {
    // Who stopped waiting doesn't want it.
    let _gone = answer.send(result);
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn random_salt() -> Option<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).ok().map(|()| salt)
}

fn random_name() -> Result<String, LedgerError> {
    let mut bytes = [0u8; ORIGIN_CHARS];
    getrandom::fill(&mut bytes).map_err(|_| LedgerError::System("randomness"))?;
    // 32 characters, so that each is as likely as the others.
    let alphabet = b"abcdefghijklmnopqrstuvwxyz234567";
    Ok(bytes.iter().filter_map(|b| alphabet.get(usize::from(b % 32))).map(|c| char::from(*c)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Body, Digest, Intent};
    use model::{LinkId, PartnerId, Trigger};

    fn intent(body: Vec<u8>) -> Draft {
        let intent = Intent {
            partner: PartnerId::new("alexa").unwrap(),
            link: LinkId::new("link-1").unwrap(),
            trigger: Trigger::PartnerPoll,
            message: "Alexa.StateReport".into(),
            policy_set: Digest::of(b""),
            items: vec![],
            more: 0,
        };
        Draft::intent(Timestamp::from_millis(1), intent, Body::new(body)).unwrap()
    }

    fn append(body: Vec<u8>) -> Append {
        Append { drafts: vec![intent(body)], held: vec![("key".into(), Some("1".into()))] }
    }

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&format!("sqlite:{}", folder.path().join("v.db").display())).unwrap()
    }

    fn opening() -> Opening {
        let household = HouseholdId::new("home").unwrap();
        Opening { household, seed: [3; 32], begin: Some(Timestamp::from_millis(0)) }
    }

    /// A writer over a connection that has been crippled by `pragma`.
    fn crippled(store: &Store, pragma: &str) -> LedgerWriter {
        let tree = SqliteLedger::new(store.connect().unwrap(), 1);
        tree.connection.execute_batch(pragma).unwrap();
        let log = Log::open(&tree, &opening().seed).unwrap();
        let reader = LedgerReader::open(store, None).unwrap();
        LedgerWriter::start(tree, log, opening().seed, reader).unwrap()
    }

    /// Bytes that don't compress.
    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_disk_that_is_full_or_read_only_acknowledges_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        LedgerWriter::open(&store, &opening()).unwrap().append(append(noise(1000))).await.unwrap();

        let writer = crippled(&store, "PRAGMA query_only = on");
        for _ in 0..3 {
            let error = writer.append(append(noise(10))).await.unwrap_err();
            assert!(matches!(error, LedgerError::Append(_)), "{error}");
        }
        writer.append_nowait(vec![intent(noise(10))]).unwrap();
        writer.close();
        let stats = writer.stats();
        assert_eq!((stats.size, stats.recorded, stats.failed, stats.lost), (2, 0, 4, 1));

        let writer = crippled(&store, "PRAGMA max_page_count = 40");
        let mut acknowledged = 0;
        let mut errors = 0;
        for _ in 0..20 {
            match writer.append(append(noise(20_000))).await {
                Ok(receipts) => acknowledged += receipts.len() as u64,
                Err(LedgerError::Append(_)) => errors += 1,
                Err(e) => panic!("{e}"),
            }
        }
        // What is small still fits: the log has opened itself again.
        acknowledged += writer.append(append(vec![])).await.map_or(0, |receipts| receipts.len() as u64);
        assert!(acknowledged > 0 && errors > 0);
        assert_eq!(writer.reader().size().unwrap(), 2 + acknowledged);
        let report = writer.reader().verify(Some(writer.verifier_key())).unwrap();
        assert!(report.ok(), "{report:?}");
        drop(writer);

        // With room again, it goes on.
        let writer = LedgerWriter::open(&store, &opening()).unwrap();
        writer.append(append(noise(20_000))).await.unwrap();
        assert_eq!(writer.stats().size, 3 + acknowledged);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder);
        let writer = LedgerWriter::open(&store, &opening()).unwrap();
        // Somebody else's transaction stops the thread while we fill the queue.
        let blocker = store.connect().unwrap();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut accepted = 0u64;
        let error = loop {
            match writer.append_nowait(vec![intent(vec![])]) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LedgerError::Full));
        assert!(accepted >= QUEUE_MAX_JOBS as u64);
        assert_eq!((writer.stats().refused_full, writer.stats().lost), (1, 1));
        blocker.execute_batch("ROLLBACK").unwrap();
        writer.close();
        // What was accepted is written, in few transactions.
        let stats = writer.stats();
        assert_eq!((stats.recorded, stats.size, stats.lost), (accepted, accepted + 1, 1));
        assert!(stats.commits <= 2 + accepted.div_ceil(BATCH_MAX_JOBS as u64), "{stats:?}");
        assert!(matches!(writer.append(append(vec![])).await, Err(LedgerError::Closed)));
    }

    #[tokio::test]
    async fn a_queue_is_bounded_in_bytes_too() {
        let folder = tempfile::tempdir().unwrap();
        let writer = LedgerWriter::open(&store(&folder), &opening()).unwrap();
        let huge = vec![("key".to_owned(), Some("x".repeat(QUEUE_MAX_BYTES + 1)))];
        let error = writer.append(Append { drafts: vec![intent(vec![])], held: huge }).await.unwrap_err();
        assert!(matches!(error, LedgerError::Full));
        // The room is given back.
        writer.append(append(noise(100))).await.unwrap();
        assert_eq!(writer.inner.counters.waiting_bytes.load(Ordering::Relaxed), 0);
        // Values alone are stored, and deleted, without a leaf.
        let size = writer.stats().size;
        for (value, expected) in [(Some("2".to_owned()), vec![("key".to_owned(), "2".to_owned())]), (None, vec![])] {
            writer.append(Append { drafts: vec![], held: vec![("key".into(), value)] }).await.unwrap();
            assert_eq!(writer.reader().load_held().unwrap(), expected);
        }
        assert_eq!(writer.stats().size, size);
    }
}

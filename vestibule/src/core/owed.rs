//! What was taken back from a partner and could not be recorded yet. It is in force, and must not come back with a restart: the
//! next write takes it along, and until then it stands in a file of its own. So does what is to stand in the store where a change
//! was told as failed, and may be stored all the same.
//!
//! The file has its full size from the beginning, so that there is room for it on a full disk. Each line has a number, and stands
//! behind its SHA-256: a line that was cut off by a crash was confirmed to nobody, and is not read. The write that takes lines
//! along stores the number of the last, and none up to that one counts from then on, whatever is left of the file: what was given
//! or taken back since must not be undone by a line from before. Where the file can't be written either, the disk takes nothing
//! at all; then what was taken back is refused for as long as the hub runs, and whoever asked for it is told that it is not stored.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;

use ledger::{Digest, Draft};

use super::lock;

/// Size of the file, in bytes: the grants of a large home fit in.
const FILE_BYTES: usize = 1 << 20;

/// Most leaves that wait to be recorded later; further ones are said in the log alone.
const OWED_MAX_DRAFTS: usize = 1024;

/// The store's key of the number of the last line that was taken along.
const SETTLED: &str = "owed";

/// Keys of the store with what they are to hold; none deletes.
pub(super) type Entries = Vec<(String, Option<String>)>;

/// What waits.
#[derive(Default)]
struct Waiting {
    drafts: Vec<Draft>,
    taken: BTreeMap<String, Option<String>>,
    /// The number of the last line.
    number: u64,
    /// The number up to which no line counts, as the store has it.
    settled: u64,
    /// A write takes some of it along now.
    lent: bool,
    /// Some of it stands in no file.
    only_in_memory: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.taken.is_empty()
    }

    fn add(&mut self, drafts: Vec<Draft>) {
        self.drafts.extend(drafts);
        if self.drafts.len() > OWED_MAX_DRAFTS {
            tracing::error!("too much waits to be recorded later: some of it never will be");
            self.drafts.truncate(OWED_MAX_DRAFTS);
        }
    }
}

/// What waits, and its file.
pub(super) struct Owed {
    waiting: Mutex<Waiting>,
    file: Mutex<Lines>,
    /// While something waits there is one write at a time, so that none of what it takes along is written over what is newer.
    turn: tokio::sync::Mutex<()>,
}

impl Owed {
    /// Opens the file over what is stored. What stands in it and counts waits again, and is laid over the stored entries: they are
    /// read as they are to be. Gives those that were otherwise, as they were.
    pub(super) fn open(path: &Path, stored: &mut BTreeMap<String, String>) -> Result<(Self, Entries), String> {
        let settled = match stored.remove(SETTLED) {
            None => 0,
            Some(text) => text.parse().map_err(|_| super::unreadable(SETTLED))?,
        };
        let (lines, found, number) = Lines::open(path, settled)
            .map_err(|e| format!("what was taken back: `{}` can't be read or written: {e}", path.display()))?;
        let taken: BTreeMap<String, Option<String>> = found.into_iter().collect();
        let mut otherwise = Entries::new();
        for (key, value) in &taken {
            let before = match value {
                Some(value) => stored.insert(key.clone(), value.clone()),
                None => stored.remove(key),
            };
            if before != *value {
                otherwise.push((key.clone(), before));
            }
        }
        let waiting = Waiting { taken, number, settled, ..Waiting::default() };
        Ok((
            Self { waiting: Mutex::new(waiting), file: Mutex::new(lines), turn: tokio::sync::Mutex::default() },
            otherwise,
        ))
    }

    /// Leaves to be recorded later, and keys to be deleted whose return would harm nobody.
    pub(super) fn later(&self, drafts: Vec<Draft>, gone: impl IntoIterator<Item = String>) {
        let mut waiting = lock(&self.waiting);
        waiting.add(drafts);
        waiting.taken.extend(gone.into_iter().map(|key| (key, None)));
    }

    /// What was taken back: true when it holds after a restart as well. It waits for the disk.
    pub(super) fn keep(&self, drafts: Vec<Draft>, taken: &Entries) -> bool {
        // Held throughout: a write that takes it along must not find the file empty, and leave a line that comes after it.
        let mut file = lock(&self.file);
        let number = {
            let mut waiting = lock(&self.waiting);
            waiting.add(drafts);
            waiting.taken.extend(taken.iter().cloned());
            waiting.number += u64::from(!taken.is_empty());
            waiting.number
        };
        let kept = file.add(number, taken);
        if let Err(error) = &kept {
            tracing::error!(%error, "what was taken back can't be stored anywhere: it is refused until the hub stops");
            lock(&self.waiting).only_in_memory = true;
        }
        kept.is_ok()
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.is_empty() && !waiting.lent
    }

    /// Whether something that was taken back would come back with a restart.
    pub(super) fn is_only_in_memory(&self) -> bool {
        lock(&self.waiting).only_in_memory
    }

    /// Takes out what waits, for one write. It waits again unless that write is done.
    pub(super) async fn lend(&self) -> Lent<'_> {
        let mut lent = Lent { owed: self, drafts: Vec::new(), taken: Entries::new(), turn: None };
        if self.is_empty() {
            return lent;
        }
        let turn = self.turn.lock().await;
        let mut waiting = lock(&self.waiting);
        waiting.lent = true;
        lent.drafts = std::mem::take(&mut waiting.drafts);
        lent.taken = std::mem::take(&mut waiting.taken).into_iter().collect();
        if waiting.number > waiting.settled {
            lent.taken.push((SETTLED.to_owned(), Some(waiting.number.to_string())));
        }
        lent.turn = Some((turn, waiting.number));
        drop(waiting);
        lent
    }
}

/// What one write takes along.
pub(super) struct Lent<'a> {
    owed: &'a Owed,
    pub(super) drafts: Vec<Draft>,
    /// To be written before what else the write has.
    pub(super) taken: Entries,
    /// That it is this write's turn, with the number of the last line that it takes along. None where nothing waited.
    turn: Option<(tokio::sync::MutexGuard<'a, ()>, u64)>,
}

impl Lent<'_> {
    /// It is written.
    pub(super) fn done(mut self) {
        let Some((_turn, number)) = self.turn.take() else { return };
        let owed = self.owed;
        // In this order, so that what comes to wait meanwhile is not wiped out with it.
        let mut file = lock(&owed.file);
        let mut waiting = lock(&owed.waiting);
        (waiting.lent, waiting.settled) = (false, number);
        if waiting.is_empty() {
            waiting.only_in_memory = false;
            drop(waiting);
            if let Err(error) = file.clear() {
                tracing::warn!(%error, "a file of what has been recorded since could not be emptied; none of it counts");
            }
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // Nothing is left of it when it is done.
        if self.turn.is_none() {
            return;
        }
        let mut waiting = lock(&self.owed.waiting);
        waiting.lent = false;
        let (later, newer) = (std::mem::take(&mut waiting.drafts), std::mem::take(&mut waiting.taken));
        waiting.drafts = std::mem::take(&mut self.drafts);
        waiting.taken = std::mem::take(&mut self.taken).into_iter().filter(|(key, _)| key != SETTLED).collect();
        waiting.add(later);
        waiting.taken.extend(newer);
    }
}

/// The file: lines, and zeros behind the last.
struct Lines {
    file: File,
    /// Where the next line begins.
    at: u64,
    /// Up to here something may have been written.
    end: u64,
    /// None of its lines counts, and not all of them are wiped out.
    is_over: bool,
}

impl Lines {
    /// The file, what its lines hold that count, and the number of the last line.
    fn open(path: &Path, settled: u64) -> std::io::Result<(Self, Entries, u64)> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(FILE_BYTES);
        if size < FILE_BYTES {
            file.write_all_at(&vec![0; FILE_BYTES - size], size as u64)?;
            file.sync_all()?;
        }
        let mut bytes = vec![0; FILE_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let (mut at, mut end, mut last) = (0, 0, settled);
        let mut found = Entries::new();
        let mut is_unread = false;
        // What can't be read is of a line that was cut off, or that had been wiped out in part: what counts may stand behind it.
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            end += line.len() as u64;
            match read(line) {
                Some((number, entries)) if number > settled => {
                    found.extend(entries);
                    (at, last) = (end, last.max(number));
                    if std::mem::take(&mut is_unread) {
                        tracing::error!("a line of what was taken back can't be read; look at `vestibule grant list`");
                    }
                }
                Some(_) => {}
                None => is_unread = true,
            }
        }
        let is_over = found.is_empty() && bytes.iter().any(|b| *b != 0);
        let mut lines = Self { file, at, end: FILE_BYTES as u64, is_over };
        if is_over && let Err(error) = lines.clear() {
            tracing::warn!(%error, "a file of what has been recorded since could not be emptied; none of it counts");
        }
        Ok((lines, found, last))
    }

    fn add(&mut self, number: u64, entries: &Entries) -> std::io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.is_over {
            self.clear()?;
        }
        let json = serde_json::to_string(&(number, entries))?;
        let line = format!("{} {json}\n\0", Digest::of(json.as_bytes()));
        if self.at + line.len() as u64 > FILE_BYTES as u64 {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.end = self.end.max(self.at + line.len() as u64);
        self.file.write_all_at(line.as_bytes(), self.at)?;
        self.file.sync_data()?;
        self.at += line.len() as u64 - 1;
        Ok(())
    }

    /// Wipes the lines out, all of them: there are hashes of PINs and passwords among them.
    fn clear(&mut self) -> std::io::Result<()> {
        let used = usize::try_from(self.end).unwrap_or(FILE_BYTES).min(FILE_BYTES);
        if used > 0 {
            self.is_over = true;
            self.file.write_all_at(&vec![0; used], 0)?;
            self.file.sync_data()?;
        }
        (self.at, self.end, self.is_over) = (0, 0, false);
        Ok(())
    }
}

/// One line's number and entries, if it is whole.
fn read(line: &[u8]) -> Option<(u64, Entries)> {
    let (hash, json) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    if Digest::of(json.as_bytes()).to_string() != hash {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(keys: &[&str]) -> Entries {
        keys.iter().map(|k| ((*k).to_owned(), k.strip_prefix('+').map(str::to_owned))).collect()
    }

    fn open(path: &Path, settled: &str) -> (Owed, Entries) {
        let mut stored = BTreeMap::from([(SETTLED.to_owned(), settled.to_owned()), ("c".to_owned(), "old".to_owned())]);
        Owed::open(path, &mut stored).unwrap()
    }

    async fn waiting(path: &Path, settled: &str) -> Vec<String> {
        let taken = open(path, settled).0.lend().await.taken.clone();
        taken.into_iter().map(|(key, value)| format!("{key}={}", value.unwrap_or_default())).collect()
    }

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_crash_and_is_gone_once_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owed");
        let (owed, _) = open(&path, "0");
        assert!(owed.is_empty());
        assert!(owed.keep(Vec::new(), &entries(&["link/a", "+family/b"])) && owed.keep(Vec::new(), &entries(&["c"])));
        // A crash in the middle of the next line.
        let end = std::fs::read(&path).unwrap().iter().position(|b| *b == 0).unwrap() as u64;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"0123 [3,[[\"x\",nu", end).unwrap();
        let (owed, otherwise) = open(&path, "0");
        // It is told what of it was stored otherwise.
        assert_eq!(otherwise, [("+family/b".to_owned(), None), ("c".to_owned(), Some("old".to_owned()))]);
        // A write that fails, with something new meanwhile; then one that is done.
        let lent = owed.lend().await;
        let keys = |lent: &Lent<'_>| lent.taken.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&lent), ["+family/b", "c", "link/a", SETTLED]);
        assert!(owed.keep(Vec::new(), &vec![("c".to_owned(), Some("newer".to_owned()))]) && !owed.is_empty());
        drop(lent);
        let lent = owed.lend().await;
        assert_eq!((lent.taken.len(), &lent.taken[1].1), (4, &Some("newer".to_owned())));
        assert_eq!(lent.taken[3], (SETTLED.to_owned(), Some("3".to_owned())));
        // Something comes to wait while it is written: the file stays, and only that of it counts.
        assert!(owed.keep(Vec::new(), &entries(&["d"])));
        lent.done();
        assert_eq!(waiting(&path, "3").await, ["d=", "owed=4"]);
        // Who writes meanwhile waits for its turn, so that nothing old is written over it.
        let lent = owed.lend().await;
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), owed.lend()).await.is_err());
        lent.done();
        assert!(owed.is_empty() && owed.lend().await.taken.is_empty());
        assert_eq!(waiting(&path, "4").await, Vec::<String>::new());
        // Where it does not fit, that is said.
        assert!(!owed.keep(Vec::new(), &vec![("x".repeat(FILE_BYTES), None)]) && owed.is_only_in_memory());
        owed.lend().await.done();
        assert!(!owed.is_only_in_memory());
    }

    #[tokio::test]
    async fn what_has_been_written_does_not_count_again_whatever_is_left_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owed");
        let (owed, _) = open(&path, "0");
        assert!(owed.keep(Vec::new(), &entries(&["+grant/a"])) && owed.keep(Vec::new(), &entries(&["grant/b"])));
        let left = std::fs::read(&path).unwrap();
        owed.lend().await.done();
        assert!(std::fs::read(&path).unwrap().iter().all(|b| *b == 0), "nothing of it can be read any more");
        // That the file was emptied did not reach the disk.
        std::fs::write(&path, &left).unwrap();
        assert_eq!(waiting(&path, "2").await, Vec::<String>::new());
        assert!(std::fs::read(&path).unwrap().iter().all(|b| *b == 0));
        // Or in part: what counts stands behind what can't be read.
        std::fs::write(&path, &left).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 80], 0).unwrap();
        assert_eq!(waiting(&path, "1").await, ["grant/b=", "owed=2"]);
        let (owed, _) = open(&path, "2");
        assert!(owed.keep(Vec::new(), &entries(&["grant/c"])));
        assert_eq!(waiting(&path, "2").await, ["grant/c=", "owed=3"]);
    }
}

//! What was taken back from a partner and could not be recorded yet. It is in force, and must not come back with a restart: the
//! next write takes it along, and until then it stands in a file of its own.
//!
//! The file has its full size from the beginning, so that there is room for it on a full disk. Each line is one taking back,
//! behind its SHA-256: a line that was cut off by a crash was confirmed to nobody, and is not read. Where the file can't be
//! written either, the disk takes nothing at all; then what was taken back is refused for as long as the hub runs, and
//! whoever asked for it is told that it is not stored.

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

/// Keys of the store with what they are to hold; none deletes.
pub(super) type Entries = Vec<(String, Option<String>)>;

/// What waits.
#[derive(Default)]
struct Waiting {
    drafts: Vec<Draft>,
    taken: BTreeMap<String, Option<String>>,
    /// How many writes take some of it along now.
    lent: usize,
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
}

impl Owed {
    /// Opens the file. What stands in it waits again, and must be stored before anything else is read.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let (lines, found) = Lines::open(path)?;
        let waiting = Waiting { taken: found.into_iter().collect(), ..Waiting::default() };
        Ok(Self { waiting: Mutex::new(waiting), file: Mutex::new(lines) })
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
        {
            let mut waiting = lock(&self.waiting);
            waiting.add(drafts);
            waiting.taken.extend(taken.iter().cloned());
        }
        let kept = file.add(taken);
        if let Err(error) = &kept {
            tracing::error!(%error, "what was taken back can't be stored anywhere: it is refused until the hub stops");
            lock(&self.waiting).only_in_memory = true;
        }
        kept.is_ok()
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.is_empty() && waiting.lent == 0
    }

    /// Whether something that was taken back would come back with a restart.
    pub(super) fn is_only_in_memory(&self) -> bool {
        lock(&self.waiting).only_in_memory
    }

    /// Takes out what waits, for one write. It waits again unless that write is done.
    pub(super) fn lend(&self) -> Lent<'_> {
        let mut waiting = lock(&self.waiting);
        waiting.lent += 1;
        let (drafts, taken) = (std::mem::take(&mut waiting.drafts), std::mem::take(&mut waiting.taken));
        Lent { owed: self, drafts, taken }
    }
}

/// What one write takes along.
pub(super) struct Lent<'a> {
    owed: &'a Owed,
    pub(super) drafts: Vec<Draft>,
    pub(super) taken: BTreeMap<String, Option<String>>,
}

impl Lent<'_> {
    /// It is written.
    pub(super) fn done(mut self) {
        self.drafts.clear();
        self.taken.clear();
        let owed = self.owed;
        drop(self);
        // In this order, so that what comes to wait meanwhile is not wiped out with it. Also by a write that took nothing along:
        // of two at once the one that did may have ended first, and had to leave the file for the other.
        let mut file = lock(&owed.file);
        let mut waiting = lock(&owed.waiting);
        if waiting.is_empty() && waiting.lent == 0 {
            waiting.only_in_memory = false;
            drop(waiting);
            if let Err(error) = file.clear() {
                tracing::warn!(%error, "what is recorded now will be recorded again at the next start");
            }
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.owed.waiting);
        waiting.lent = waiting.lent.saturating_sub(1);
        let (later, newer) = (std::mem::take(&mut waiting.drafts), std::mem::take(&mut waiting.taken));
        waiting.drafts = std::mem::take(&mut self.drafts);
        waiting.taken = std::mem::take(&mut self.taken);
        waiting.add(later);
        waiting.taken.extend(newer);
    }
}

/// The file: lines, and a zero behind the last.
struct Lines {
    file: File,
    /// Where the next line begins.
    at: u64,
}

impl Lines {
    fn open(path: &Path) -> std::io::Result<(Self, Entries)> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(FILE_BYTES);
        if size < FILE_BYTES {
            file.write_all_at(&vec![0; FILE_BYTES - size], size as u64)?;
            file.sync_all()?;
        }
        let mut bytes = vec![0; FILE_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let mut lines = Self { file, at: 0 };
        let mut found = Entries::new();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(entries) = read(line) else { break };
            found.extend(entries);
            lines.at += line.len() as u64;
        }
        Ok((lines, found))
    }

    fn add(&mut self, entries: &Entries) -> std::io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let json = serde_json::to_string(entries)?;
        let line = format!("{} {json}\n\0", Digest::of(json.as_bytes()));
        if self.at + line.len() as u64 > FILE_BYTES as u64 {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        }
        self.file.write_all_at(line.as_bytes(), self.at)?;
        self.file.sync_data()?;
        self.at += line.len() as u64 - 1;
        Ok(())
    }

    fn clear(&mut self) -> std::io::Result<()> {
        if self.at > 0 {
            self.at = 0;
            self.file.write_all_at(&[0], 0)?;
            self.file.sync_data()?;
        }
        Ok(())
    }
}

/// One line's entries, if it is whole.
fn read(line: &[u8]) -> Option<Entries> {
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

    fn waiting(path: &Path) -> Vec<String> {
        Owed::open(path).unwrap().lend().taken.keys().cloned().collect()
    }

    #[test]
    fn what_was_kept_is_there_after_a_crash_and_is_gone_once_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("owed");
        let owed = Owed::open(&path).unwrap();
        assert!(owed.is_empty());
        assert!(owed.keep(Vec::new(), &entries(&["link/a", "+family/b"])) && owed.keep(Vec::new(), &entries(&["c"])));
        // A crash in the middle of the next line.
        let end = std::fs::read(&path).unwrap().iter().position(|b| *b == 0).unwrap() as u64;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"0123 [[\"x\",nu", end).unwrap();
        let owed = Owed::open(&path).unwrap();
        // A write that fails, with something new meanwhile; then one that is done.
        let lent = owed.lend();
        assert_eq!(lent.taken.keys().collect::<Vec<_>>(), ["+family/b", "c", "link/a"]);
        assert!(owed.keep(Vec::new(), &vec![("c".to_owned(), Some("newer".to_owned()))]) && !owed.is_empty());
        drop(lent);
        let lent = owed.lend();
        assert_eq!((lent.taken.len(), lent.taken["c"].as_deref()), (3, Some("newer")));
        // Something comes to wait while it is written: the file stays.
        assert!(owed.keep(Vec::new(), &entries(&["d"])));
        lent.done();
        assert!(waiting(&path).contains(&"d".to_owned()));
        owed.lend().done();
        assert!(owed.is_empty() && waiting(&path).is_empty());
        // Two writes at once, of which the one that took it along ends first.
        assert!(owed.keep(Vec::new(), &entries(&["e"])));
        let (first, second) = (owed.lend(), owed.lend());
        first.done();
        second.done();
        assert!(owed.is_empty() && waiting(&path).is_empty(), "the file is empty after both");
        // Where it does not fit, that is said.
        assert!(!owed.keep(Vec::new(), &vec![("x".repeat(FILE_BYTES), None)]) && owed.is_only_in_memory());
        owed.lend().done();
        assert!(!owed.is_only_in_memory());
    }
}

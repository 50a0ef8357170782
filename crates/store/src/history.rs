//! Home state and history, in a file and on a connection of their own: a busy sensor can't be heard in the latency of an
//! answer. Written at most [`BEHIND_MS`] late, so a crash may lose that much of the history (never of the record).

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use home::{HISTORY_FINE_MS, Known, Sample, thin};
use model::{DeviceId, Property, Timestamp};
use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot};

/// Readings wait at most this long before they are written, in milliseconds.
pub const BEHIND_MS: u64 = 1000;

/// Readings that may wait; beyond it whoever brings them waits too, down to the broker.
pub const QUEUE_MAX: usize = 16_384;

/// Most readings in one transaction.
const BATCH_MAX: usize = 4096;

/// Most samples that one look into the history gives.
pub const SAMPLES_MAX: usize = 50_000;

/// How many writes pass between two rounds of thinning.
const THIN_EVERY: u64 = 20_000;

/// How long a reader waits for the writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS known (device TEXT NOT NULL, property TEXT NOT NULL, json TEXT NOT NULL,
        PRIMARY KEY (device, property)) WITHOUT ROWID, STRICT;
    CREATE TABLE IF NOT EXISTS sample (device TEXT NOT NULL, property TEXT NOT NULL, time INTEGER NOT NULL,
        value TEXT NOT NULL, PRIMARY KEY (device, property, time)) WITHOUT ROWID, STRICT;
";

/// The history could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// SQLite's word.
    #[error("the history in `{path}` can't be used; if the file is damaged, move it away (only history is lost)")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file can't be made.
    #[error("the history in `{path}` can't be made; check that the folder is writable")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The writer has ended.
    #[error("the history's writer has ended")]
    Ended,
}

/// What is stored of one property.
#[derive(Clone, Debug)]
pub struct KnownRow {
    /// The device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// What was known.
    pub known: Known,
}

enum Message {
    Note { device: DeviceId, property: Property, known: Box<Known>, changed: bool },
    Forget { device: DeviceId },
    Flush(oneshot::Sender<()>),
}

/// The history of a home.
pub struct History {
    sender: mpsc::Sender<Message>,
    reader: Mutex<Connection>,
    path: PathBuf,
}

impl History {
    /// Opens or makes the file and gives what was known when it was last written.
    ///
    /// # Errors
    /// When the file can't be opened or is no such database.
    pub fn open(path: &Path) -> Result<(Self, Vec<KnownRow>), HistoryError> {
        let wrap = |source| HistoryError::Sqlite { path: path.to_owned(), source };
        // Made before SQLite makes it, so that it and the files beside it are its owner's alone.
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|source| HistoryError::File { path: path.to_owned(), source })?;
        let writer = connect(path).map_err(wrap)?;
        writer.execute_batch(SCHEMA).map_err(wrap)?;
        let known = load(&writer).map_err(wrap)?;
        let reader = connect(path).map_err(wrap)?;
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        // One thread owns the writing connection until the last sender is gone.
        std::thread::spawn(move || write_all(&writer, receiver));
        Ok((Self { sender, reader: Mutex::new(reader), path: path.to_owned() }, known))
    }

    /// Notes what is known of a property; when the value changed, as a sample of the history too. Waits while
    /// `QUEUE_MAX` readings wait.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn note(
        &self,
        device: DeviceId,
        property: Property,
        known: Known,
        changed: bool,
    ) -> Result<(), HistoryError> {
        let message = Message::Note { device, property, known: Box::new(known), changed };
        self.sender.send(message).await.map_err(|_| HistoryError::Ended)
    }

    /// Removes a device's state and history.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn forget(&self, device: DeviceId) -> Result<(), HistoryError> {
        self.sender.send(Message::Forget { device }).await.map_err(|_| HistoryError::Ended)
    }

    /// Waits until all that was noted before is written.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Samples of a property from `from` to `to`, and the last before `from`; at most `SAMPLES_MAX`, the newest.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(
        &self,
        device: &DeviceId,
        property: Property,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Sample>, HistoryError> {
        let wrap = |source| HistoryError::Sqlite { path: self.path.clone(), source };
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = reader
            .prepare_cached(
                "SELECT time, value FROM sample WHERE device = ?1 AND property = ?2 AND time <= ?4 AND time >=
                     coalesce((SELECT max(time) FROM sample WHERE device = ?1 AND property = ?2 AND time <= ?3), ?3)
                 ORDER BY time DESC LIMIT ?5",
            )
            .map_err(wrap)?;
        let limit = i64::try_from(SAMPLES_MAX).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![device.as_str(), property.as_str(), from.as_millis(), to.as_millis(), limit], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(wrap)?;
        let mut samples = Vec::new();
        for row in rows {
            let (time, value) = row.map_err(wrap)?;
            // A value of a later version is passed over: it can't be shown, and nothing else suffers.
            if let Ok(value) = serde_json::from_str(&value) {
                samples.push(Sample { value, time: Timestamp::from_millis(time) });
            }
        }
        samples.reverse();
        Ok(samples)
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL: a power cut may take the last transactions, and never the file. The record is elsewhere, with FULL.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    Ok(connection)
}

fn load(connection: &Connection) -> Result<Vec<KnownRow>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT device, property, json FROM known")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    let mut known = Vec::new();
    for row in rows {
        let (device, property, json) = row?;
        let parsed = (DeviceId::new(device), Property::parse(&property), serde_json::from_str(&json));
        if let (Ok(device), Some(property), Ok(k)) = parsed {
            known.push(KnownRow { device, property, known: k });
        }
    }
    Ok(known)
}

fn write_all(connection: &Connection, mut receiver: mpsc::Receiver<Message>) {
    let mut batch = Vec::new();
    let mut written = 0u64;
    while receiver.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut waiting = Vec::new();
        let count = batch.len() as u64;
        let newest = batch.iter().filter_map(newest).max();
        if let Err(error) = write(connection, &mut batch, &mut waiting) {
            tracing::error!(%error, readings = count, "history was not written (disk full?)");
        }
        batch.clear();
        for done in waiting {
            let _ = done.send(());
        }
        written += count;
        if written >= THIN_EVERY {
            written = 0;
            if let Some(Err(error)) = newest.map(|now| thin_all(connection, now)) {
                tracing::error!(%error, "history was not thinned");
            }
        } else if receiver.is_empty() {
            // Let readings gather: one transaction for many.
            std::thread::sleep(Duration::from_millis(BEHIND_MS / 10));
        }
    }
}

fn newest(message: &Message) -> Option<Timestamp> {
    match message {
        Message::Note { known, .. } => known.reported.as_ref().map(|s| s.time),
        _ => None,
    }
}

fn write(
    connection: &Connection,
    batch: &mut Vec<Message>,
    waiting: &mut Vec<oneshot::Sender<()>>,
) -> Result<(), rusqlite::Error> {
    let transaction = connection.unchecked_transaction()?;
    {
        let mut known = transaction.prepare_cached(
            "INSERT INTO known (device, property, json) VALUES (?1, ?2, ?3)
             ON CONFLICT (device, property) DO UPDATE SET json = excluded.json",
        )?;
        let mut sample = transaction.prepare_cached(
            "INSERT INTO sample (device, property, time, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (device, property, time) DO UPDATE SET value = excluded.value",
        )?;
        // Of one property only the newest state is written: a busy sensor has many in a batch.
        let mut newest = BTreeMap::new();
        for message in batch.drain(..) {
            match message {
                Message::Note { device, property, known: k, changed } => {
                    if let (true, Some(s)) = (changed, &k.reported) {
                        let value = serde_json::to_string(&s.value).unwrap_or_default();
                        sample.execute(params![device.as_str(), property.as_str(), s.time.as_millis(), value])?;
                    }
                    newest.insert((device, property), k);
                }
                Message::Forget { device } => {
                    newest.retain(|(d, _), _| *d != device);
                    transaction.execute("DELETE FROM known WHERE device = ?1", [device.as_str()])?;
                    transaction.execute("DELETE FROM sample WHERE device = ?1", [device.as_str()])?;
                }
                Message::Flush(done) => waiting.push(done),
            }
        }
        for ((device, property), k) in newest {
            let json = serde_json::to_string(&k).unwrap_or_default();
            known.execute(params![device.as_str(), property.as_str(), json])?;
        }
    }
    let failed = |e| rusqlite::Error::ToSqlConversionFailure(Box::new(e));
    faults::at(faults::HISTORY_BEFORE).map_err(failed)?;
    transaction.commit()?;
    faults::at(faults::HISTORY_AFTER).map_err(failed)
}

/// Thins what is older than [`HISTORY_FINE_MS`], property by property.
fn thin_all(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    let before = now.plus_millis(-HISTORY_FINE_MS).as_millis();
    let cells: Vec<(String, String)> = connection
        .prepare("SELECT DISTINCT device, property FROM sample WHERE time < ?1")?
        .query_map([before], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (device, property) in cells {
        let rows: Vec<(i64, String)> = connection
            .prepare_cached(
                "SELECT time, value FROM sample WHERE device = ?1 AND property = ?2 AND time < ?3 ORDER BY time",
            )?
            .query_map(params![device, property, before], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        // A value of a later version stays for it.
        let sample = |(time, value): (i64, String)| {
            let value = serde_json::from_str(&value).ok()?;
            Some(Sample { value, time: Timestamp::from_millis(time) })
        };
        let samples: Vec<Sample> = rows.into_iter().filter_map(sample).collect();
        let transaction = connection.unchecked_transaction()?;
        for (sample, stays) in samples.iter().zip(thin(&samples, now)) {
            if !stays {
                transaction
                    .prepare_cached("DELETE FROM sample WHERE device = ?1 AND property = ?2 AND time = ?3")?
                    .execute(params![device, property, sample.time.as_millis()])?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use home::{HomeState, Reading, Wall};
    use model::Value;

    use super::*;

    fn known_at(minute: i64, milli: i32) -> (DeviceId, Known) {
        let device = DeviceId::new("t").unwrap();
        let mut home = HomeState::default();
        let time = Timestamp::from_millis(minute * 60_000);
        let value = Value::Temperature(milli);
        let reading = Reading { device: device.clone(), property: Property::LocalTemperature, value, time };
        home.report(reading, &[], &Wall::NONE);
        let known = home.known(&device, Property::LocalTemperature).unwrap().clone();
        (device, known)
    }

    #[tokio::test]
    async fn what_was_known_and_what_was_before_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        {
            let (history, before) = History::open(&path).unwrap();
            assert!(before.is_empty());
            for m in 0..10 {
                let (device, known) = known_at(m, 20_000 + m as i32);
                history.note(device, Property::LocalTemperature, known, true).await.unwrap();
            }
            history.flush().await;
        }
        let (history, after) = History::open(&path).unwrap();
        assert_eq!(after.len(), 1);
        assert_eq!(after[0].known.reported.as_ref().unwrap().value, Value::Temperature(20_009));
        let at = |m: i64| Timestamp::from_millis(m * 60_000);
        let samples = history.read(&after[0].device, Property::LocalTemperature, at(3).plus_millis(1), at(5)).unwrap();
        let minutes: Vec<_> = samples.iter().map(|s| s.time.as_millis() / 60_000).collect();
        // The last before the start is there too: it is what was true at the start.
        assert_eq!(minutes, [3, 4, 5]);
        history.forget(after[0].device.clone()).await.unwrap();
        history.flush().await;
        assert!(history.read(&after[0].device, Property::LocalTemperature, at(0), at(9)).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_is_no_database_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        std::fs::write(&path, "not a database, but quite long enough to be mistaken for one by its size alone")
            .unwrap();
        assert!(History::open(&path).err().unwrap().to_string().contains("history.db"));
    }
}

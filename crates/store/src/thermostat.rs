//! The thermostat's own file: its state over restarts, five minutes in a row for years, and imported sheets. Apart from the
//! record and from the devices' history, so that none of them waits for another.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

/// How long one connection waits for another's write.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Most intervals that one look gives: ten years.
pub const INTERVALS_MAX: usize = 10 * 366 * 288;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE IF NOT EXISTS interval (at INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS sheet (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, layout TEXT NOT NULL,
        touched INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS row (sheet INTEGER NOT NULL, place TEXT NOT NULL, cells TEXT NOT NULL,
        PRIMARY KEY (sheet, place)) WITHOUT ROWID, STRICT;
";

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ThermostatStoreError {
    /// SQLite's word.
    #[error("the thermostat's file `{path}` can't be used; if it is damaged, move it away (its history is lost)")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file can't be made.
    #[error("the thermostat's file `{path}` can't be made; check that the folder is writable")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The thermostat's file. Everything in it is JSON that its writer understands.
#[derive(Debug)]
pub struct ThermostatStore {
    connection: Connection,
    path: PathBuf,
}

/// A sheet as it was put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSheet {
    /// How it is written.
    pub layout: String,
    /// Its rows, in the order of their places.
    pub rows: Vec<String>,
}

impl ThermostatStore {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// When it can't be opened or is no such database.
    pub fn open(path: &Path) -> Result<Self, ThermostatStoreError> {
        let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|source| ThermostatStoreError::File { path: path.to_owned(), source })?;
        let open = || -> Result<Connection, rusqlite::Error> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // FULL: what the guards know must survive a power cut.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "secure_delete", "ON")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = open().map_err(|source| ThermostatStoreError::Sqlite { path: path.to_owned(), source })?;
        Ok(Self { connection, path: path.to_owned() })
    }

    fn wrap<T>(&self, result: Result<T, rusqlite::Error>) -> Result<T, ThermostatStoreError> {
        result.map_err(|source| ThermostatStoreError::Sqlite { path: self.path.clone(), source })
    }

    /// Keeps things over restarts, durably and all together: what the thermostat saves, what members chose, ...
    ///
    /// # Errors
    /// When the file can't be written; nothing is then.
    pub fn put_states(&self, all: &[(&str, &str)]) -> Result<(), ThermostatStoreError> {
        let sql = "INSERT INTO state (key, json) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET json = excluded.json";
        let write = || {
            let transaction = self.connection.unchecked_transaction()?;
            for (key, json) in all {
                transaction.execute(sql, params![key, json])?;
            }
            transaction.commit()
        };
        self.wrap(write())
    }

    /// What was kept.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn state(&self, key: &str) -> Result<Option<String>, ThermostatStoreError> {
        let sql = "SELECT json FROM state WHERE key = ?1";
        self.wrap(self.connection.query_row(sql, params![key], |row| row.get(0)).optional())
    }

    /// Adds five minutes; the same start again replaces.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put_interval(&self, at_ms: i64, json: &str) -> Result<(), ThermostatStoreError> {
        let sql = "INSERT INTO interval (at, json) VALUES (?1, ?2) ON CONFLICT (at) DO UPDATE SET json = excluded.json";
        self.wrap(self.connection.execute(sql, params![at_ms, json])).map(|_| ())
    }

    /// The intervals that begin in `from..to`, in order; at most ten years.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn intervals(&self, from_ms: i64, to_ms: i64) -> Result<Vec<String>, ThermostatStoreError> {
        let read = || {
            let sql = "SELECT json FROM interval WHERE at >= ?1 AND at < ?2 ORDER BY at LIMIT ?3";
            let mut statement = self.connection.prepare(sql)?;
            let limit = i64::try_from(INTERVALS_MAX).unwrap_or(i64::MAX);
            statement.query_map(params![from_ms, to_ms, limit], |row| row.get(0))?.collect()
        };
        self.wrap(read())
    }

    /// Puts a sheet's rows in; rows of the same place are replaced. `key` says which sheet, `at_ms` when it was put in.
    /// How many rows are new.
    ///
    /// # Errors
    /// When the file can't be written; nothing is then.
    pub fn put_sheet(
        &mut self,
        key: &str,
        layout: &str,
        rows: &[(String, String)],
        at_ms: i64,
    ) -> Result<u64, ThermostatStoreError> {
        let path = self.path.clone();
        let mut write = || -> Result<u64, rusqlite::Error> {
            let transaction = self.connection.transaction()?;
            transaction.execute(
                "INSERT INTO sheet (key, layout, touched) VALUES (?1, ?2, ?3)
                 ON CONFLICT (key) DO UPDATE SET layout = excluded.layout, touched = excluded.touched",
                params![key, layout, at_ms],
            )?;
            let id: i64 = transaction.query_row("SELECT id FROM sheet WHERE key = ?1", params![key], |r| r.get(0))?;
            let count = "SELECT count(*) FROM row WHERE sheet = ?1";
            let before: i64 = transaction.query_row(count, params![id], |r| r.get(0))?;
            {
                let mut put = transaction.prepare(
                    "INSERT INTO row (sheet, place, cells) VALUES (?1, ?2, ?3)
                     ON CONFLICT (sheet, place) DO UPDATE SET cells = excluded.cells",
                )?;
                for (place, cells) in rows {
                    put.execute(params![id, place, cells])?;
                }
            }
            let after: i64 = transaction.query_row(count, params![id], |r| r.get(0))?;
            transaction.commit()?;
            Ok(u64::try_from(after - before).unwrap_or(0))
        };
        write().map_err(|source| ThermostatStoreError::Sqlite { path, source })
    }

    /// The sheet that was put in last; `None`: there is none.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn sheet(&self) -> Result<Option<StoredSheet>, ThermostatStoreError> {
        let read = || -> Result<Option<StoredSheet>, rusqlite::Error> {
            let sql = "SELECT id, layout FROM sheet ORDER BY touched DESC, id DESC LIMIT 1";
            let found = self.connection.query_row(sql, [], |r| Ok((r.get::<_, i64>(0)?, r.get(1)?))).optional()?;
            let Some((id, layout)) = found else { return Ok(None) };
            let mut statement = self.connection.prepare("SELECT cells FROM row WHERE sheet = ?1 ORDER BY place")?;
            let rows = statement.query_map(params![id], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(Some(StoredSheet { layout, rows }))
        };
        self.wrap(read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thermostat.db");
        let row = |place: &str, cells: &str| (place.to_owned(), cells.to_owned());
        {
            let mut store = ThermostatStore::open(&path).unwrap();
            assert_eq!((store.sheet().unwrap(), store.state("a").unwrap()), (None, None));
            assert_eq!(store.put_sheet("k", "one", &[row("2", "b"), row("1", "a")], 1).unwrap(), 2);
            assert_eq!(store.put_sheet("k", "two", &[row("2", "B"), row("3", "c")], 2).unwrap(), 1);
            store.put_states(&[("a", "1"), ("b", "3")]).unwrap();
            store.put_states(&[("a", "2")]).unwrap();
            for at in [20, 10, 30, 20] {
                store.put_interval(at, &at.to_string()).unwrap();
            }
        }
        let store = ThermostatStore::open(&path).unwrap();
        let rows = ["a", "B", "c"].map(str::to_owned).to_vec();
        assert_eq!(store.sheet().unwrap(), Some(StoredSheet { layout: "two".into(), rows }));
        assert_eq!(store.state("a").unwrap().as_deref(), Some("2"));
        assert_eq!(store.state("b").unwrap().as_deref(), Some("3"));
        assert_eq!(store.intervals(10, 30).unwrap(), ["10", "20"]);
    }
}

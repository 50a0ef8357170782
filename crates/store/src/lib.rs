//! SQLite behind the traits that home, links, policy and ledger define.
//!
//! One file. Each module that needs it opens its own connections with [`Store::connect`] and [`Store::connect_read`].
//! Durability: WAL with `synchronous=FULL`, so that what a commit confirmed survives a power cut; `secure_delete`, so
//! that what was erased is gone from free pages.

mod history;
pub mod ledger;
mod thermostat;

pub use history::{History, HistoryError, KnownRow, SAMPLES_MAX};
pub use thermostat::{StoredSheet, ThermostatStore, ThermostatStoreError};

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::HouseholdId;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

/// The schema, step by step. The number of steps done is the file's `user_version`. Only ever append: a step that was
/// released must not change.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_ledger.sql")];

/// How long a connection waits for another one's write lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A database file that is there, private to its owner, and of this program's schema.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of a kind that is supported.
    #[error("`{0}` is not a supported store: write `sqlite:PATH` or `sqlite://PATH`")]
    Url(String),
    /// The file can't be made or opened.
    #[error("the store `{path}` can't be opened; check that the folder exists and is writable")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no store to read.
    #[error("there is no store at `{0}`; check the data directory")]
    Missing(PathBuf),
    /// The file is from a newer program.
    #[error("the store `{path}` has schema {found}, this program knows up to {known}; use a newer program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The file is from an older program, and was opened only to be read.
    #[error("the store `{path}` has the old schema {found}; start the hub once to bring it up to {known}")]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The schema needed.
        known: i64,
    },
    /// SQLite failed.
    #[error("the store `{path}` failed while opening")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

impl Store {
    /// Opens the file of a URL, `sqlite:PATH` or `sqlite://PATH`, and brings its schema up to date. Makes the file with
    /// mode 0600 when it isn't there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(url: &str) -> Result<Self, OpenError> {
        let store = Self { path: path_of(url)? };
        make_private(&store.path).map_err(|source| OpenError::File { path: store.path.clone(), source })?;
        let mut connection = store.connect()?;
        store.migrate(&mut connection)?;
        Ok(store)
    }

    /// Opens the file of a URL to read it only: nothing is made, nothing is migrated.
    ///
    /// # Errors
    /// See [`OpenError`]; when the file is missing or has another schema, above all.
    pub fn open_existing(url: &str) -> Result<Self, OpenError> {
        let store = Self { path: path_of(url)? };
        if !store.path.is_file() {
            return Err(OpenError::Missing(store.path));
        }
        let connection = store.connect_read()?;
        let (found, known) = (store.version(&connection)?, known_version());
        if found < known {
            return Err(OpenError::Older { path: store.path, found, known });
        }
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new connection that reads and writes.
    ///
    /// # Errors
    /// When SQLite can't open the file.
    pub fn connect(&self) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.sqlite(Connection::open_with_flags(&self.path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "full")?;
            connection.pragma_update_and_check(None, "secure_delete", "on", |_| Ok(()))?;
            connection.pragma_update(None, "foreign_keys", "on")?;
            connection.pragma_update(None, "trusted_schema", "off")?;
            Ok(connection)
        }))
    }

    /// A new connection that only reads. Beside a running writer it sees snapshots.
    ///
    /// # Errors
    /// When SQLite can't open the file.
    pub fn connect_read(&self) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.sqlite(Connection::open_with_flags(&self.path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.pragma_update(None, "trusted_schema", "off")?;
            Ok(connection)
        }))
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), OpenError> {
        let done = self.version(connection)?;
        let todo = usize::try_from(done).ok().and_then(|done| MIGRATIONS.get(done..)).unwrap_or_default();
        for (version, sql) in (done.saturating_add(1)..).zip(todo) {
            self.sqlite(step(connection, version, sql))?;
        }
        Ok(())
    }

    fn version(&self, connection: &Connection) -> Result<i64, OpenError> {
        let found = self.sqlite(connection.pragma_query_value(None, "user_version", |row| row.get(0)))?;
        let known = known_version();
        if found > known { Err(OpenError::Newer { path: self.path.clone(), found, known }) } else { Ok(found) }
    }

    fn sqlite<T>(&self, result: rusqlite::Result<T>) -> Result<T, OpenError> {
        result.map_err(|source| OpenError::Sqlite { path: self.path.clone(), source })
    }
}

/// The number of a household in this file, made if it has none yet. Every table refers to households by it.
///
/// # Errors
/// When SQLite fails.
pub fn household_key(connection: &Connection, household: &HouseholdId) -> rusqlite::Result<i64> {
    connection.execute("INSERT OR IGNORE INTO household (name) VALUES (?1)", [household.as_str()])?;
    connection.query_row("SELECT id FROM household WHERE name = ?1", [household.as_str()], |row| row.get(0))
}

/// The number of a household in this file, if it has one. With no name, that of the only household.
///
/// # Errors
/// When SQLite fails.
pub fn find_household(
    connection: &Connection,
    household: Option<&HouseholdId>,
) -> rusqlite::Result<Option<(i64, String)>> {
    connection
        .query_row(
            "SELECT id, name FROM household
             WHERE name = ?1 OR (?1 IS NULL AND (SELECT count(*) FROM household) = 1)",
            [household.map(HouseholdId::as_str)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
}

fn step(connection: &mut Connection, version: i64, sql: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn path_of(url: &str) -> Result<PathBuf, OpenError> {
    // A password may stand in a URL of another kind: only the scheme is repeated.
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
    match path {
        // `:memory:` would forget the record.
        Some(path) if !path.is_empty() && !path.starts_with(':') => Ok(PathBuf::from(path)),
        Some(_) => Err(OpenError::Url("sqlite: without a path".to_owned())),
        None => Err(OpenError::Url(scheme.chars().take(40).collect())),
    }
}

/// Makes the file with mode 0600 before SQLite can make it with another; its journal gets the same mode from it.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
    }
    #[cfg(not(unix))]
    options.open(path).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_is_supported_and_passwords_are_not_repeated() {
        assert_eq!(path_of("sqlite:/a/b.db").unwrap(), Path::new("/a/b.db"));
        assert_eq!(path_of("sqlite:///a/b.db").unwrap(), Path::new("/a/b.db"));
        assert_eq!(path_of("sqlite:b.db").unwrap(), Path::new("b.db"));
        for bad in ["postgres://u:secret@h/d", "sqlite:", "sqlite://", "sqlite::memory:", "", "b.db"] {
            let error = path_of(bad).unwrap_err().to_string();
            assert!(error.contains("sqlite:PATH") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_file_is_private_durable_and_of_one_schema() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.db");
        let url = format!("sqlite:{}", path.display());
        assert!(matches!(Store::open_existing(&url), Err(OpenError::Missing(_))));
        // A file that was too open is closed.
        std::fs::write(&path, "").unwrap();
        let store = Store::open(&url).unwrap();
        let connection = store.connect().unwrap();
        #[cfg(unix)]
        for file in ["v.db", "v.db-wal", "v.db-shm"] {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), pragma("synchronous"), pragma("secure_delete")), ("wal", 2, 1));

        assert!(store.connect_read().unwrap().execute("DELETE FROM household", []).is_err());
        Store::open_existing(&url).unwrap();
        connection.pragma_update(None, "user_version", known_version() + 1).unwrap();
        assert!(matches!(Store::open(&url), Err(OpenError::Newer { .. })));
        connection.pragma_update(None, "user_version", 0).unwrap();
        assert!(matches!(Store::open_existing(&url), Err(OpenError::Older { .. })));
        assert!(matches!(Store::open("sqlite:/nowhere/at/all/v.db"), Err(OpenError::File { .. })));
    }
}

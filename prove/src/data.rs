//! A home out of its data directory, read beside a running hub: nothing is locked, made or written.

use std::path::Path;
use std::sync::Arc;

use gate::GateState;
use home::Registered;
use jiff::tz::TimeZone;
use links::Link;
use model::{DeviceId, Timestamp};
use policy::{CompileError, Facts, Grant};
use serde::Deserialize;
use store::ledger::LedgerReader;
use store::{OpenError, Store};

use crate::subject::{Subject, of_home};

/// The store in a data directory.
const STORE: &str = "vestibule.db";

/// Why a home can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The store can't be opened.
    #[error("the home can't be read")]
    Open(#[from] OpenError),
    /// The store can't be read.
    #[error("the home can't be read")]
    Read(#[from] store::ledger::ReadError),
    /// Something in it is from another version.
    #[error("the store holds `{0}`, which this version can't read; use the newer program")]
    Held(String),
    /// The shipped schema is broken.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// What of a grant that waits for other owners is of use here.
#[derive(Deserialize)]
struct Pending {
    grant: Grant,
}

/// What of a link that is made anew is: what is added once its partner has fetched the new tokens.
#[derive(Deserialize)]
struct Renewal {
    add: Vec<Grant>,
}

/// The home of a data directory as it was stored last, under its maker's ceiling. What a grant's end is held against is the
/// hub's own clock, as far as it was stored: the hub may run in another time (a demonstration does), and a grant that has
/// ended since must not make a claim true.
///
/// # Errors
/// When there is none or it can't be read.
pub fn of_data(data: &Path, maker: Option<String>) -> Result<Subject, DataError> {
    let store = Store::open_existing(&format!("sqlite:{}", data.join(STORE).display()))?;
    let reader = LedgerReader::open(&store, None)?;
    let household = reader.household().clone();
    let empty = policy::compile(&Facts::empty(household.clone()), &[], None, Timestamp::default())?;
    // Only what there is to decide about: no value, no time.
    let mut gate = GateState::new(TimeZone::UTC, Arc::new(empty));
    let (mut grants, mut agreed): (Vec<Grant>, Vec<Grant>) = (Vec::new(), Vec::new());
    for (key, value) in reader.load_held()? {
        let read = match key.split_once('/') {
            Some(("link", _)) => serde_json::from_str::<Link>(&value).map(|link| gate.links.insert(link)).is_ok(),
            Some(("grant", _)) => serde_json::from_str(&value).map(|grant| grants.push(grant)).is_ok(),
            // Given, and not in force yet: nobody decides about it again.
            Some(("pending", _)) => serde_json::from_str(&value).map(|Pending { grant }| agreed.push(grant)).is_ok(),
            Some(("renewal", _)) => serde_json::from_str(&value).map(|Renewal { add }| agreed.extend(add)).is_ok(),
            Some(("device", id)) => match (DeviceId::new(id), serde_json::from_str::<Registered>(&value)) {
                (Ok(id), Ok(device)) => {
                    gate.registry.restore(id, device);
                    true
                }
                _ => false,
            },
            // The clock; of the rest nothing is needed.
            None => gate.restore(&key, &value) || key != "clock",
            _ => true,
        };
        if !read {
            return Err(DataError::Held(key));
        }
    }
    let now = gate.advance(Timestamp::default());
    let waiting = agreed.len();
    grants.extend(agreed);
    let mut subject = of_home(gate.facts(household, links::is_gatekeeper), grants, maker, now);
    if waiting > 0 {
        subject.notes.push(format!(
            "{waiting} grants are agreed to and wait, for other owners, for a day, or for the partner's new tokens: they count here as \
             if they were in force."
        ));
    }
    Ok(subject)
}

//! What the command line can ask, of a running hub or of its data directory.

use model::{DeviceId, LinkId, PartnerId};
use serde::{Deserialize, Serialize};

/// A request. The running hub and the command line alone carry it out by the same code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// All devices, with what was dropped.
    Devices,
    /// Makes a name and password for a device at the hub's own broker.
    DeviceAdd {
        /// User name.
        name: String,
    },
    /// Gives a device the household's name, for all partners or for one link.
    Name {
        /// The device.
        device: DeviceId,
        /// Its name; none takes it away.
        name: Option<String>,
        /// Only on this link.
        link: Option<LinkId>,
    },
    /// Forgets a device, its pins, its history and its grants.
    Forget {
        /// The device.
        device: DeviceId,
    },
    /// The whole matrix.
    PolicyShow,
    /// All links.
    Links,
    /// Makes a link.
    Link {
        /// Who.
        partner: PartnerId,
        /// Profile slug.
        profile: String,
    },
    /// Ends a link.
    Unlink {
        /// Which.
        link: LinkId,
    },
    /// Applies a profile to the devices known now; without `apply`, only shows the difference.
    Profile {
        /// Which link.
        link: LinkId,
        /// Profile slug; none is the one applied last.
        profile: Option<String>,
        /// Do it.
        apply: bool,
    },
    /// Puts a written demand on the docket.
    DocketAdd {
        /// Who demands.
        partner: PartnerId,
        /// In what words.
        text: String,
        /// Until when.
        deadline: Option<String>,
        /// What follows.
        threat: Option<String>,
    },
    /// The docket: written demands and observed ones.
    DocketList,
    /// Rows of the ledger from an index on.
    LedgerList {
        /// First index.
        from: u64,
        /// How many.
        limit: u64,
    },
    /// One row with its body and proof.
    LedgerShow {
        /// Which.
        index: u64,
    },
    /// Recomputes everything.
    LedgerVerify,
    /// Takes a thermostat's export in: ecobee's, Home Assistant's or beestat's.
    ThermostatImport {
        /// The file's text.
        text: String,
    },
    /// The thermostat's history in ecobee's layout.
    ThermostatExport,
    /// Runtime, degree days and EPA's metric of a month.
    ThermostatReport {
        /// As in 2023-06.
        month: String,
    },
}

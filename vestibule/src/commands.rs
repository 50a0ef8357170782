//! What the command line can ask, of a running hub or of its data directory.

use links::oauth::ClientTerms;
use model::{ClientId, DeviceId, GrantId, Kind, LinkId, PartnerId, Property, Rung, Trigger};
use policy::{Action, Code, Hours, Name};
use serde::{Deserialize, Serialize};

use crate::core::Role;

/// A request. The running hub and the command line alone carry it out by the same code.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// All devices, with what was dropped.
    Devices,
    /// Makes a name and password for a device at the hub's own broker.
    DeviceAdd {
        /// User name.
        name: String,
        /// Gives a name that is there another password.
        replace: bool,
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
    /// Says which room a device is in.
    Room {
        /// The device.
        device: DeviceId,
        /// Its room; none leaves it to the device's own word.
        room: Option<String>,
    },
    /// Makes what a device senses an endpoint of its own on a link, or puts it together again.
    Split {
        /// The device.
        device: DeviceId,
        /// The link.
        link: LinkId,
        /// True to split, false to put together.
        split: bool,
    },
    /// Forgets a device, its pins, its history and its grants.
    Forget {
        /// The device.
        device: DeviceId,
    },
    /// The whole matrix.
    PolicyShow,
    /// Why a partner is told a property, or may command it, or not.
    PolicyExplain {
        /// The partner, or the id of one of its links.
        partner: String,
        /// Of every device that has it.
        property: Property,
        /// Only this; none is being told, for whatever reason.
        action: Option<Action>,
    },
    /// What works at a partner, and what does not.
    PolicyImpact {
        /// The partner, or the id of one of its links; none is all.
        link: Option<String>,
    },
    /// What the grants of a file, or another ceiling, would let through and stop.
    PolicyDiff {
        /// Grants in place of those in force: a file's text.
        document: Option<String>,
        /// A maker's ceiling in place of the one in force: a file's text.
        ceiling: Option<String>,
    },
    /// What each link would have been sent over recorded days.
    PolicySimulate {
        /// The first day or moment.
        from: String,
        /// The first day or moment that no longer counts.
        to: String,
        /// Grants in place of those in force: a file's text.
        document: Option<String>,
        /// A maker's ceiling in place of the one in force: a file's text.
        ceiling: Option<String>,
        /// How often each device is asked for, in minutes.
        every: u16,
    },
    /// The newest whole days of the home's history, and when partners gave commands.
    Recorded {
        /// How many.
        days: u16,
    },
    /// All grants as a file.
    PolicyExport {
        /// As Cedar text; else as JSON.
        cedar: bool,
    },
    /// Puts the grants of a file in the place of those in force, or only shows the difference.
    PolicyImport {
        /// The file's text.
        document: String,
        /// Whether to do it.
        doing: Doing,
    },
    /// Gives grants by hand, or only shows the difference.
    GrantAdd {
        /// What.
        wish: GrantWish,
        /// Whether to do it.
        doing: Doing,
    },
    /// The grants, of one link or partner or all.
    GrantList {
        /// The partner, or the id of one of its links.
        link: Option<String>,
    },
    /// Takes grants back.
    GrantRevoke {
        /// Which.
        selection: GrantSelection,
    },
    /// Lets grants last longer.
    GrantRenew {
        /// Which.
        selection: GrantSelection,
        /// For how many days from now; none is as long as such a grant may last.
        days: Option<u16>,
    },
    /// An owner agrees to grants that wait.
    GrantConfirm {
        /// Which.
        selection: GrantSelection,
        /// Who.
        member: Login,
    },
    /// Gives a link a PIN, in place of the one that it has.
    PinSet {
        /// The link, or a partner that has one.
        link: String,
        /// Its digits.
        pin: String,
    },
    /// Takes a link's PIN away.
    PinClear {
        /// The link, or a partner that has one.
        link: String,
    },
    /// Which links have a PIN, and which take none for a while.
    Pins,
    /// What members are told and have not all seen.
    Notices,
    /// A member has seen what there is.
    NoticesSeen {
        /// Who.
        member: Login,
    },
    /// What of the grants the last days had a use for, and what was refused.
    Suggest {
        /// Only of this partner or link.
        link: Option<String>,
        /// How many days.
        days: u16,
        /// Whether the file grants what was refused.
        with_refused: bool,
    },
    /// The windows that grants name, and until when each is open.
    Windows,
    /// Opens a window for some minutes.
    WindowOpen {
        /// Its name, as a grant has it.
        name: Name,
        /// 1 to [`policy::WINDOW_MAX_MINUTES`]; none is what is set for it.
        minutes: Option<u16>,
    },
    /// Sets for how long a window opens where nobody says otherwise, and whether it has a button at the broker.
    WindowButton {
        /// Its name, as a grant has it.
        name: Name,
        /// 1 to [`policy::WINDOW_MAX_MINUTES`]; none leaves it.
        minutes: Option<u16>,
        /// Whether it has none; none leaves it.
        off: Option<bool>,
    },
    /// Closes a window.
    WindowClose {
        /// Its name.
        name: Name,
    },
    /// All links.
    Links,
    /// Makes a link.
    Link {
        /// Who.
        partner: PartnerId,
        /// Profile slug.
        profile: String,
        /// The sensors that the profile is for, if it takes names.
        #[serde(default)]
        sensors: Vec<DeviceId>,
    },
    /// Ends a link.
    Unlink {
        /// Which.
        link: LinkId,
    },
    /// Registers a partner's software, so that members can link it.
    ClientAdd {
        /// Whose.
        partner: PartnerId,
        /// Where a member's browser may be sent back to.
        redirects: Vec<String>,
        /// What differs from other clients; none is what the partner's documentation allows.
        terms: Option<ClientTerms>,
    },
    /// All registered clients.
    Clients,
    /// Removes a client and ends the links that it holds.
    ClientRemove {
        /// Which.
        client: ClientId,
    },
    /// Makes a member, or gives one a new password.
    MemberAdd {
        /// Name.
        name: String,
        /// Password.
        password: String,
        /// What the member has a say in; none leaves it, and makes a new one an owner.
        #[serde(default)]
        role: Option<Role>,
    },
    /// All members.
    Members,
    /// Removes a member.
    MemberRemove {
        /// Name.
        name: String,
    },
    /// What `doctor` wants to know of a running hub.
    Doctor {
        /// Of which partner.
        partner: PartnerId,
    },
    /// Makes a client and a code for `doctor`, to link itself with, without any grant.
    DoctorBegin {
        /// As which partner.
        partner: PartnerId,
    },
    /// Applies a profile to the devices known now; without `apply`, only shows the difference.
    Profile {
        /// Which link.
        link: LinkId,
        /// Profile slug; none is the one applied last.
        profile: Option<String>,
        /// The sensors that it is for, if it takes names; none leaves those that it has.
        #[serde(default)]
        sensors: Vec<DeviceId>,
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
    /// To the only thermostat.
    Thermostat(crate::thermostat::unit::Order),
    /// To one of several.
    ThermostatOf {
        /// Its name.
        name: String,
        /// What is asked.
        order: crate::thermostat::unit::Order,
    },
    /// Takes a thermostat's export in: ecobee's, Home Assistant's or beestat's.
    ThermostatImport {
        /// The file's text.
        text: String,
        /// Of this one of several.
        #[serde(default)]
        name: Option<String>,
    },
    /// The thermostat's history in ecobee's layout.
    ThermostatExport {
        /// Of this one of several.
        #[serde(default)]
        name: Option<String>,
    },
    /// Runtime, degree days and EPA's metric of a month.
    ThermostatReport {
        /// As in 2023-06.
        month: String,
        /// Of this one of several.
        #[serde(default)]
        name: Option<String>,
    },
}

/// Whether to make a change or only to show it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doing {
    /// Make it.
    pub apply: bool,
    /// What the answer that was shown had as `shown`: if something else would change by now, nothing is done.
    #[serde(default)]
    pub shown: Option<String>,
    /// In whose name; none is in that of whoever may read the data directory.
    #[serde(default)]
    pub member: Option<Login>,
}

/// A member, with the password that shows it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({})", self.name)
    }
}

/// What a member wants to grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantWish {
    /// The link, or a partner that has one.
    pub link: String,
    /// Only of this device.
    pub device: Option<DeviceId>,
    /// Only of devices that are in this room now.
    #[serde(default)]
    pub room: Option<String>,
    /// Only of devices of which it is this kind.
    pub kind: Option<Kind>,
    /// The property.
    pub property: Property,
    /// To be told for these reasons.
    pub triggers: Vec<Trigger>,
    /// The finest rung that is told.
    pub rung: Rung,
    /// To be commanded.
    pub control: bool,
    /// To be unlocked or opened.
    pub open: bool,
    /// For how many days; none is as long as such a grant may last.
    pub days: Option<u16>,
    /// Only within these hours.
    #[serde(default)]
    pub hours: Vec<Hours>,
    /// Only while this window is open.
    #[serde(default)]
    pub window: Option<Name>,
    /// The partner's routine that it is for.
    #[serde(default)]
    pub routine: Option<Name>,
    /// Commands only with this code.
    #[serde(default)]
    pub code: Option<Code>,
}

/// Grants that are meant: all that fit everything that is named.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantSelection {
    /// Their ids.
    pub ids: Vec<GrantId>,
    /// The partner, or the id of one of its links.
    pub link: Option<String>,
    /// The routine that they are for.
    #[serde(default)]
    pub routine: Option<Name>,
    /// Their device.
    pub device: Option<DeviceId>,
    /// The room that their device is in now.
    #[serde(default)]
    pub room: Option<String>,
    /// Their property.
    pub property: Option<Property>,
}

impl Request {
    /// Whether it makes sense on a data directory that is not there yet: what sets a home up before the hub runs first. For
    /// any other a missing directory is a mistyped one.
    pub fn may_make_a_home(&self) -> bool {
        matches!(
            self,
            Self::Link { .. } | Self::DeviceAdd { .. } | Self::DocketAdd { .. } | Self::ThermostatImport { .. }
        )
    }
}

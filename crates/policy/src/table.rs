//! The decision table: what the hot path looks up, and the matrix that the household sees.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use disclosure::Refusal;
use model::{
    ALL_PROPERTIES, ALL_TRIGGERS, DeviceId, Kind, LinkId, PartnerId, Property, Reveals, Rung, Timestamp, Trigger,
};
use serde::Serialize;

use crate::grant::{Code, code_words};
use crate::world::Action;

/// What the policies say of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The finest rung that is allowed, or why none is.
    pub rung: Result<Rung, Refusal>,
    /// The policies that decided.
    pub policies: &'a Arc<[String]>,
}

/// Cells of one property: four triggers, then control and open.
pub(crate) const CELLS: usize = ALL_TRIGGERS.len() + 2;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    /// The finest rung allowed; for commands [`Rung::Live`] means yes.
    pub(crate) rung: Result<Rung, Refusal>,
    /// Of a command: the weakest code with which it is allowed; none when it needs none.
    pub(crate) code: Option<Code>,
    pub(crate) policies: Arc<[String]>,
    /// The rungs behind it that are allowed as well, in order, each with the policies that decided.
    pub(crate) also: Vec<(Rung, Arc<[String]>)>,
    /// Refused for only as long as a change is on its way: before and after it, something is told.
    pub(crate) passing: bool,
}

impl Cell {
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self { rung: Err(refusal), code: None, policies: Arc::clone(&NO_POLICIES), also: Vec::new(), passing: false }
    }

    /// Of something told: what these rungs, in order, come to; none when there is none.
    fn told(mut rungs: impl Iterator<Item = (Rung, Arc<[String]>)>) -> Option<Self> {
        let (rung, policies) = rungs.next()?;
        Some(Self { rung: Ok(rung), code: None, policies, also: rungs.collect(), passing: false })
    }

    /// Every rung that is allowed, in order, with the policies that decided.
    fn rungs(&self) -> impl Iterator<Item = (Rung, &Arc<[String]>)> {
        let finest = self.rung.ok().map(|rung| (rung, &self.policies));
        finest.into_iter().chain(self.also.iter().map(|(rung, policies)| (*rung, policies)))
    }

    /// What both allow of something told: the finest rung that is among those of both, by the policies of which it is the finest.
    fn meet(&self, other: &Cell) -> Self {
        let (Ok(_), Ok(_)) = (self.rung, other.rung) else {
            return if self.rung.is_err() { self } else { other }.clone();
        };
        let is_of = |cell: &Cell, rung| cell.rungs().any(|(r, _)| r == rung);
        let finest = self.rungs().map(|(rung, _)| rung).find(|rung| is_of(other, *rung));
        let by = if other.rung.ok() == finest && self.rung.ok() != finest { other } else { self };
        let beside = if std::ptr::eq(by, self) { other } else { self };
        let both = by.rungs().filter(|(rung, _)| is_of(beside, *rung));
        let both = both.map(|(rung, policies)| (rung, Arc::clone(policies)));
        Self::told(both).unwrap_or_else(|| Self { passing: true, ..Self::refused(Refusal::NoGrant) })
    }

    /// What both allow of a command: with the stronger code.
    fn meet_command(&self, other: &Cell) -> Self {
        let is_mine = self.rung.is_err() || (other.rung.is_ok() && other.code <= self.code);
        if is_mine { self } else { other }.clone()
    }
}

/// All cells of one device on one link: [`CELLS`] for each property, in the order of [`ALL_PROPERTIES`]; properties that
/// the device does not have are `None`.
pub(crate) type Row = Vec<Option<Box<[Cell; CELLS]>>>;

/// The whole decision space of a household, evaluated.
#[derive(Debug)]
pub struct Table {
    pub(crate) rows: HashMap<LinkId, HashMap<DeviceId, Row>>,
    pub(crate) partners: HashMap<LinkId, PartnerId>,
    pub(crate) kinds: HashMap<(DeviceId, Property), Kind>,
    pub(crate) next_expiry: Option<Timestamp>,
    /// What the grants come to whenever their conditions are met, where that is more.
    pub(crate) promised: Option<Arc<Table>>,
    pub(crate) policy_hash: [u8; 32],
    pub(crate) table_hash: [u8; 32],
}

/// One line of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MatrixRow {
    /// The link.
    pub link: LinkId,
    /// The partner.
    pub partner: PartnerId,
    /// The device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// How sensitive it is.
    pub kind: Kind,
    /// What somebody who is told could infer.
    pub reveals: &'static [Reveals],
    /// Rung or refusal.
    pub discovery: &'static str,
    /// Rung or refusal.
    pub directive_response: &'static str,
    /// Rung or refusal.
    pub partner_poll: &'static str,
    /// Rung or refusal.
    pub proactive_report: &'static str,
    /// `yes` or the refusal.
    pub control: &'static str,
    /// `yes` or the refusal.
    pub open: &'static str,
    /// The code that commanding it needs, if it needs one.
    pub control_code: Option<Code>,
    /// The code that opening it needs.
    pub open_code: Option<Code>,
    /// The policies that decided any of these cells.
    pub policies: Vec<String>,
}

/// Nothing decided: that alone refuses.
static NO_POLICIES: LazyLock<Arc<[String]>> = LazyLock::new(|| Arc::new([]));

impl Table {
    pub(crate) fn cell(&self, link: &LinkId, device: &DeviceId, property: Property, index: usize) -> Option<&Cell> {
        self.rows.get(link)?.get(device)?.get(property.index())?.as_ref()?.get(index)
    }

    /// Decides by one look-up. What the table does not know is refused.
    pub fn decide(&self, link: &LinkId, device: &DeviceId, property: Property, trigger: Trigger) -> Decision<'_> {
        self.decide_action(link, device, property, Action::Told(trigger))
    }

    /// The same of whatever a link would do: of a command, [`Rung::Live`] means yes.
    pub fn decide_action(&self, link: &LinkId, device: &DeviceId, property: Property, action: Action) -> Decision<'_> {
        match self.cell(link, device, property, action.index()) {
            Some(cell) => Decision { rung: cell.rung, policies: &cell.policies },
            None => Decision { rung: Err(Refusal::NoGrant), policies: &NO_POLICIES },
        }
    }

    /// Every rung at which a link may be told a property, in the order in which they are asked for: the first is told.
    pub fn rungs(
        &self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        trigger: Trigger,
    ) -> impl Iterator<Item = Rung> + '_ {
        let cell = self.cell(link, device, property, Action::Told(trigger).index());
        cell.into_iter().flat_map(Cell::rungs).map(|(rung, _)| rung)
    }

    /// Whether the cell is open, or shut only while a change is on its way: what is held for it is not forgotten, and nothing in it
    /// begins anew.
    pub fn stays(&self, link: &LinkId, device: &DeviceId, property: Property, trigger: Trigger) -> bool {
        let index = Action::Told(trigger).index();
        self.cell(link, device, property, index).is_some_and(|cell| cell.rung.is_ok() || cell.passing)
    }

    /// Whether a link may command a property; `open` for unlocking and opening. Gives the policies that allow it.
    ///
    /// # Errors
    /// The refusal.
    pub fn may(
        &self,
        link: &LinkId,
        device: &DeviceId,
        property: Property,
        open: bool,
    ) -> Result<&Arc<[String]>, Refusal> {
        let index = ALL_TRIGGERS.len() + usize::from(open);
        let cell = self.cell(link, device, property, index).ok_or(Refusal::NoGrant)?;
        cell.rung.map(|_| &cell.policies)
    }

    /// The code that a command needs which [`may`](Table::may) allows; none when it needs none.
    pub fn code(&self, link: &LinkId, device: &DeviceId, property: Property, open: bool) -> Option<Code> {
        self.cell(link, device, property, ALL_TRIGGERS.len() + usize::from(open))?.code
    }

    /// What both tables allow: of each cell the finest rung that both do, and the stronger code. It stands for as long as a change of
    /// grants is not recorded, so that what stays granted never closes. It bears the hash of this table, which allows all of it.
    pub fn meet(&self, other: &Table) -> Table {
        let meet = |link: &LinkId, device: &DeviceId, property: Property| -> Option<Box<[Cell; CELLS]>> {
            let mine = self.rows.get(link)?.get(device)?.get(property.index())?.as_ref()?;
            let cell = |(index, mine): (usize, &Cell)| match other.cell(link, device, property, index) {
                Some(theirs) if index < ALL_TRIGGERS.len() => mine.meet(theirs),
                Some(theirs) => mine.meet_command(theirs),
                None if mine.rung.is_err() => mine.clone(),
                None => Cell::refused(Refusal::NoGrant),
            };
            let cells: Vec<Cell> = mine.iter().enumerate().map(cell).collect();
            <[Cell; CELLS]>::try_from(cells).ok().map(Box::new)
        };
        let row = |link: &LinkId, device: &DeviceId| -> Row {
            ALL_PROPERTIES.iter().map(|property| meet(link, device, *property)).collect()
        };
        let rows = self.rows.iter().map(|(link, devices)| {
            (link.clone(), devices.keys().map(|device| (device.clone(), row(link, device))).collect())
        });
        Table {
            rows: rows.collect(),
            partners: self.partners.clone(),
            kinds: self.kinds.clone(),
            next_expiry: self.next_expiry,
            // Where one of them has conditions, what was promised stays so: a device that was announced does not go for a while.
            promised: (self.promised.is_some() || other.promised.is_some())
                .then(|| Arc::new(self.promised().meet(other.promised()))),
            policy_hash: self.policy_hash,
            table_hash: self.table_hash,
        }
    }

    /// This table without all that any of these policies has a part in: more may be refused than must, and nothing is allowed
    /// that they alone allow.
    #[must_use]
    pub fn without(&self, policies: &BTreeSet<String>) -> Table {
        let is_of = |by: &Arc<[String]>| by.iter().any(|p| policies.contains(p));
        let left = |cell: &Cell| match is_of(&cell.policies) {
            true => Cell::refused(Refusal::NoGrant),
            false => {
                let also = cell.also.iter().filter(|(_, by)| !is_of(by)).cloned().collect();
                Cell { also, ..cell.clone() }
            }
        };
        let row = |row: &Row| -> Row {
            row.iter().map(|cells| cells.as_ref().map(|cells| Box::new(cells.each_ref().map(left)))).collect()
        };
        let rows = self.rows.iter().map(|(link, devices)| {
            (link.clone(), devices.iter().map(|(device, cells)| (device.clone(), row(cells))).collect())
        });
        Table {
            rows: rows.collect(),
            partners: self.partners.clone(),
            kinds: self.kinds.clone(),
            promised: self.promised.clone(),
            ..*self
        }
    }

    /// Why a cell is as it is, in one sentence.
    pub fn explain(&self, link: &LinkId, device: &DeviceId, property: Property, action: Action) -> String {
        let Some(partner) = self.partners.get(link) else {
            return format!("There is no link `{link}`: what is not known is refused.");
        };
        let label = property.label();
        let Some(cell) = self.cell(link, device, property, action.index()) else {
            return format!("`{device}` has no {label} that policies know: what is not known is refused.");
        };
        let by = cell.policies.join(", ");
        let (does, does_not, what) = match action {
            Action::Told(trigger) => ("is told", "is not told", format!("the {label} of `{device}` at {trigger}")),
            Action::Control => ("may command", "may not command", format!("the {label} of `{device}`")),
            Action::Open => ("may unlock or open", "may not unlock or open", format!("`{device}` by its {label}")),
        };
        let how = match action {
            Action::Told(_) => cell.rung.ok().map(|rung| rung_words(rung).to_owned()),
            Action::Control | Action::Open => cell.code.map(|code| code_words(code).to_owned()),
        };
        let how = how.map_or(String::new(), |how| format!(", {how}"));
        match cell.rung {
            Ok(_) => format!("{partner} {does} {what}{how}, by {by}."),
            Err(Refusal::Ceiling) => format!("{partner} {does_not} {what}: {by} forbids it, whatever is granted."),
            Err(Refusal::PolicyError) => {
                format!("{partner} {does_not} {what}: {by} failed, and an error is a refusal.")
            }
            Err(_) => format!("{partner} {does_not} {what}: nobody has granted it."),
        }
    }

    /// When the next grant expires, or the conditions of one may be met or no longer be: the table must be compiled anew then.
    pub fn next_change(&self) -> Option<Timestamp> {
        self.next_expiry
    }

    /// The same, where the conditions of some grants are settled: what they come to whenever those are met, and when they may
    /// next be other than now.
    #[must_use]
    pub fn with_conditions(self, promised: Option<Arc<Table>>, next: Option<Timestamp>) -> Self {
        Self { next_expiry: self.next_expiry.into_iter().chain(next).min(), promised, ..self }
    }

    /// What the link may be promised: that a device is there and what can be done with it does not come and go with the
    /// hours.
    pub fn promised(&self) -> &Table {
        self.promised.as_deref().unwrap_or(self)
    }

    /// SHA-256 over the schema and all policies in force.
    pub fn policy_hash(&self) -> [u8; 32] {
        self.policy_hash
    }

    /// SHA-256 over the cells.
    pub fn table_hash(&self) -> [u8; 32] {
        self.table_hash
    }

    /// Every cell, in order.
    pub fn matrix(&self) -> Vec<MatrixRow> {
        let mut rows = Vec::new();
        for (link, devices) in &self.rows {
            let Some(partner) = self.partners.get(link) else { continue };
            for (device, row) in devices {
                for (property, cells) in ALL_PROPERTIES.iter().zip(row) {
                    let Some(cells) = cells else { continue };
                    let kind = self.kinds.get(&(device.clone(), *property)).copied().unwrap_or(Kind::Unknown);
                    let [discovery, directive_response, partner_poll, proactive_report, control, open] = cells.as_ref();
                    let yes = |c: &Cell| c.rung.map_or_else(Refusal::as_str, |_| "yes");
                    let mut policies: Vec<String> = cells.iter().flat_map(|c| c.policies.iter().cloned()).collect();
                    policies.sort();
                    policies.dedup();
                    rows.push(MatrixRow {
                        link: link.clone(),
                        partner: partner.clone(),
                        device: device.clone(),
                        property: *property,
                        kind,
                        reveals: kind.reveals(),
                        discovery: said(discovery),
                        directive_response: said(directive_response),
                        partner_poll: said(partner_poll),
                        proactive_report: said(proactive_report),
                        control: yes(control),
                        open: yes(open),
                        control_code: control.code,
                        open_code: open.code,
                        policies,
                    });
                }
            }
        }
        rows.sort_by(|a, b| (&a.link, &a.device, a.property).cmp(&(&b.link, &b.device, b.property)));
        rows
    }
}

fn said(cell: &Cell) -> &'static str {
    cell.rung.map_or_else(Refusal::as_str, Rung::as_str)
}

/// How fine and how fresh, in plain words.
pub fn rung_words(rung: Rung) -> &'static str {
    match rung {
        Rung::Live => "exact, at once",
        Rung::QuarterHour => "exact, held for 15 minutes",
        Rung::Hour => "exact, held for an hour",
        Rung::HourMean => "the mean of the last full hour",
        Rung::HourLate => "exact, as an hour before the last full hour",
        Rung::HourCoarse => "rounded, held for an hour",
        Rung::HourSteady => "rounded with a dead band, held for an hour",
        Rung::QuarterDayCoarse => "rounded, held for a quarter of a day",
        Rung::DayCoarse => "rounded, held for a day",
        Rung::DayMean => "the mean of yesterday, rounded",
        Rung::DayCount => "how often yesterday",
    }
}

//! Several people's say: in whose name a change is made, what of it waits until every owner has agreed or a day has passed, and
//! what members are told of it.
//!
//! Whoever may read the data directory could take everything out of it, and acts as an owner here. That others are asked holds
//! among people who live together; it is no lock against who runs the machine.

use policy::{divide, is_of_same, merged, takes_force, waits, widens, wider};
use serde::{Deserialize, Serialize};

use super::linking::Role;
use super::*;
use crate::commands::{GrantSelection, Login};

/// Most notices that are kept; the oldest goes first, and that is said in the log.
const NOTICES_MAX: usize = 256;

/// Lines of one notice; further ones are counted.
const NOTICE_LINES_MAX: usize = 20;

/// Characters of a new device's own name that members are told.
const NEWCOMER_NAME_MAX_CHARS: usize = 48;

/// Most grants that wait.
const PENDING_MAX: usize = 10_000;

/// Who speaks where nobody has done anything.
const HUB: &str = "hub";

/// What members are told of devices and properties that have come.
const NEWCOMERS: &str = "new in this home, and shared with nobody until a member grants it";

/// What members are told of devices that are in another room, and of which something is granted.
const MOVED: &str = "in another room now: what is granted of it stays granted until a member takes it back";

/// How the keys of what waits begin in the store.
const PENDING: &str = "pending/";

/// How those of notices begin.
const NOTICE: &str = "notice/";

/// In whose name a change is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Of whoever may read the data directory.
    Shell,
    /// Of a member who has shown the password.
    Member(MemberId),
}

impl By {
    /// As the record has it.
    pub(super) fn id(&self) -> Result<MemberId, String> {
        match self {
            By::Shell => owner(),
            By::Member(id) => Ok(id.clone()),
        }
    }
}

/// A grant that has been given and gives nothing yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pending {
    pub(super) grant: Grant,
    /// The grants in whose place it comes.
    pub(super) replaces: Vec<GrantId>,
    /// When it takes force if nobody takes it back.
    pub(super) from: Timestamp,
    /// The owners who have agreed.
    confirmed: BTreeSet<MemberId>,
}

impl Pending {
    /// Whether a grant would give the same, for less than a day longer or shorter.
    fn is_for(&self, new: &Grant) -> bool {
        let same = |a: &Grant, b: &Grant| {
            is_of_same(a, b)
                && (a.what, &a.hours, &a.window, &a.routine, &a.profile)
                    == (b.what, &b.hours, &b.window, &b.routine, &b.profile)
        };
        same(&self.grant, new)
            && !widens(new, std::iter::once(&self.grant))
            && !widens(&self.grant, std::iter::once(new))
    }
}

/// What members are told until they have seen it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Notice {
    time: Timestamp,
    by: MemberId,
    text: String,
    lines: Vec<String>,
    /// Lines beyond those.
    more: usize,
    /// When some of it takes force, where that waits.
    from: Option<Timestamp>,
    unseen: BTreeSet<MemberId>,
}

/// What is new of one device.
#[derive(Debug, Default)]
struct News {
    is_new: bool,
    properties: BTreeSet<Property>,
    /// The room that it was in when members were told last.
    room: Option<String>,
}

/// Devices that have come, properties that are new on those that were there, and the rooms that devices were in.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    of: BTreeMap<DeviceId, News>,
    /// Ids for the notices of it: told again after it could not be stored, it is the same notice.
    ids: BTreeMap<&'static str, String>,
}

impl Newcomers {
    /// A device has described itself: `before` is what was known of it, none for one that was not.
    pub(super) fn note<'a>(
        &mut self,
        device: &DeviceId,
        before: Option<BTreeSet<Property>>,
        now: impl Iterator<Item = &'a Property>,
    ) {
        let is_new = before.is_none();
        let before = before.unwrap_or_default();
        let new: BTreeSet<Property> = now.copied().filter(|p| !before.contains(p) && !p.is_metadata()).collect();
        if !new.is_empty() {
            let news = self.of.entry(device.clone()).or_default();
            news.is_new |= is_new;
            news.properties.extend(new);
        }
    }

    /// A device that was in this room is described anew, or put into another.
    pub(super) fn described(&mut self, device: &DeviceId, room: String) {
        self.of.entry(device.clone()).or_default().room.get_or_insert(room);
    }

    /// A device is gone.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        self.of.remove(device);
    }

    /// They could not be told of: they are told of later.
    pub(super) fn again(&mut self, earlier: Newcomers) {
        for (device, earlier) in earlier.of {
            let news = self.of.entry(device).or_default();
            news.is_new |= earlier.is_new;
            news.properties.extend(earlier.properties);
            news.room = earlier.room.or(news.room.take());
        }
        self.ids.extend(earlier.ids);
    }
}

/// What waits and what is told, of one home.
#[derive(Debug, Default)]
pub(super) struct Household {
    pub(super) pending: BTreeMap<GrantId, Pending>,
    notices: BTreeMap<String, Notice>,
}

impl Household {
    /// Takes a stored entry in: none when it is of something else, false when it can't be read.
    pub(super) fn restore(&mut self, key: &str, value: &str) -> Option<bool> {
        if let Some(id) = key.strip_prefix(PENDING) {
            let read = GrantId::new(id).ok().zip(serde_json::from_str(value).ok());
            return Some(read.map(|(id, pending)| self.pending.insert(id, pending)).is_some());
        }
        let id = key.strip_prefix(NOTICE)?;
        Some(serde_json::from_str(value).map(|notice| self.notices.insert(id.to_owned(), notice)).is_ok())
    }

    /// What the store is to hold of a key: none of one that is of something else.
    pub(super) fn entry(&self, key: &str) -> Option<Option<String>> {
        if let Some(id) = key.strip_prefix(PENDING) {
            return Some(GrantId::new(id).ok().and_then(|id| to_json(self.pending.get(&id)?).ok()));
        }
        let id = key.strip_prefix(NOTICE)?;
        Some(self.notices.get(id).and_then(|notice| to_json(notice).ok()))
    }
}

/// What a member gives and takes back.
pub(super) struct Gift<'a> {
    /// Of which links.
    pub(super) links: &'a [Link],
    pub(super) add: Vec<Grant>,
    pub(super) remove: Vec<GrantId>,
    /// What waits and is not meant any more, beside what this itself takes the place of.
    pub(super) unmeant: &'a (dyn Fn(&Pending) -> bool + Sync),
    /// What the record says of it.
    pub(super) text: String,
    /// The profile that the only link of it is given so.
    pub(super) profile: Option<&'a str>,
    /// What is stored with it.
    pub(super) held: Entries,
}

/// A change that is thought through to its new table.
pub(super) struct Widened {
    pub(super) grants: BTreeMap<GrantId, Grant>,
    pub(super) table: Table,
    pub(super) begun: gate::Begun,
    pub(super) leaf: Draft,
    /// What is stored of it, beside the values that grants begin with.
    pub(super) puts: Entries,
}

/// A gift, and what becomes of what waits.
struct Sorted {
    /// In words, what is given that was not.
    told: Vec<String>,
    add: Vec<Grant>,
    remove: Vec<GrantId>,
    /// What is given anew and is to wait, each with what it comes in the place of.
    fresh: Vec<(Grant, Vec<GrantId>)>,
    /// What waits already, and goes on waiting: with a new agreement, or as it is.
    agreed: Vec<Pending>,
    kept: BTreeSet<GrantId>,
    /// What waited and takes force, since every owner has agreed by now.
    ready: Vec<Pending>,
    /// What waited and is taken back.
    gone: Vec<GrantId>,
    /// What waited and gives way to what comes in its place.
    superseded: Vec<GrantId>,
}

/// Whether a stored entry is what members are told.
pub(super) fn is_notice(key: &str) -> bool {
    key.starts_with(NOTICE)
}

/// The store's key of a grant that waits.
pub(super) fn pending_key(id: &GrantId) -> String {
    format!("{PENDING}{id}")
}

pub(super) fn fresh() -> Option<GrantId> {
    GrantId::new(random_id("g").ok()?).ok()
}

impl Core {
    // ---- Who ----

    /// The owners of the home, by name.
    pub(super) fn owners(&self) -> BTreeSet<MemberId> {
        let members = lock(&self.members);
        members.iter().filter(|(_, m)| m.role == Role::Owner).map(|(id, _)| id.clone()).collect()
    }

    /// Whom what is told of the home affects: all its members; whoever gives it, where none is registered.
    pub(super) fn affected(&self, by: &MemberId) -> Vec<MemberId> {
        let members: Vec<MemberId> = lock(&self.members).keys().cloned().collect();
        if members.is_empty() { vec![by.clone()] } else { members }
    }

    /// The owners who are still to be asked. One who gives it alone, with the password or from the machine itself, is every owner.
    fn to_be_asked(&self, by: &By) -> BTreeSet<MemberId> {
        let mut owners = self.owners();
        match by {
            By::Shell if owners.len() <= 1 => owners.clear(),
            By::Shell => {}
            By::Member(id) => drop(owners.remove(id)),
        }
        owners
    }

    /// In whose name a change is made: that of the member who shows a password, if there is one.
    pub(super) async fn by(&self, login: Option<&Login>) -> Result<By, String> {
        let Some(login) = login.cloned() else { return Ok(By::Shell) };
        let id = MemberId::new(login.name.as_str()).ok();
        let kept = id.as_ref().and_then(|id| lock(&self.members).get(id).map(|m| m.hash.clone()));
        let fits = blocking(move || Ok(links::password::verify(&login.password, kept.as_deref()))).await?;
        let id = id.filter(|_| fits);
        id.map(By::Member).ok_or_else(|| "there is no such member, or the password is another one".to_owned())
    }

    // ---- Giving ----

    /// Divides a change into what counts at once and what waits.
    pub(super) fn divided(&self, change: (Vec<Grant>, Vec<GrantId>), by: &By) -> Result<policy::Divided, String> {
        if self.to_be_asked(by).is_empty() {
            return Ok(policy::Divided { add: change.0, remove: change.1, later: Vec::new() });
        }
        let kinds: BTreeMap<(DeviceId, model::Property), model::Kind> = {
            let facts = self.facts();
            let of = |d: &policy::DeviceFact| {
                d.properties.iter().map(|(p, kind)| ((d.device.clone(), *p), *kind)).collect::<Vec<_>>()
            };
            facts.devices.iter().flat_map(of).collect()
        };
        let is_asked = |grant: &Grant| {
            let kind = kinds.get(&(grant.device.clone(), grant.property));
            waits(grant.what, kind.copied().unwrap_or(model::Kind::Unknown))
        };
        let standing = lock(&self.grants).clone();
        divide(change, &standing, is_asked, fresh).map_err(|e| chain(&e))
    }

    /// How many grants of this gift would wait.
    pub(super) fn would_wait(
        &self,
        change: (Vec<Grant>, Vec<GrantId>),
        unmeant: &(dyn Fn(&Pending) -> bool + Sync),
        by: &By,
    ) -> Result<usize, String> {
        let sorted = self.sorted(change, unmeant, by)?;
        Ok(sorted.fresh.len() + sorted.kept.len())
    }

    /// Sorts a gift: what counts at once, what waits, and what becomes of what waits already.
    fn sorted(
        &self,
        change: (Vec<Grant>, Vec<GrantId>),
        unmeant: &(dyn Fn(&Pending) -> bool + Sync),
        by: &By,
    ) -> Result<Sorted, String> {
        let standing = lock(&self.grants).clone();
        let change = merged(change, &standing);
        let told = wider(&standing, &change.0);
        let wanted = change.0.clone();
        let policy::Divided { add, remove, later } = self.divided(change, by)?;
        let taken: BTreeSet<&GrantId> = remove.iter().collect();
        let (mut kept, mut fresh, mut agreed) = (BTreeSet::new(), Vec::new(), Vec::new());
        let (mut gone, mut superseded) = (Vec::new(), Vec::new());
        let giver = self.owners().into_iter().find(|owner| *by == By::Member(owner.clone()));
        // What waits already goes on waiting, and who gives it again agrees to it. What waited for the same thing otherwise, or in
        // the place of what is taken back, is not meant any more.
        let household = lock(&self.consent);
        for (new, instead) in later {
            let is_it = |p: &&Pending| {
                p.is_for(&new) && !p.replaces.iter().any(|id| taken.contains(id)) && p.replaces == instead
            };
            let Some(same) = household.pending.values().find(is_it) else {
                fresh.push((new, instead));
                continue;
            };
            kept.insert(same.grant.id.clone());
            if let Some(owner) = giver.iter().find(|owner| !same.confirmed.contains(*owner)) {
                let mut same = same.clone();
                same.confirmed.insert(owner.clone());
                agreed.push(same);
            }
        }
        for p in household.pending.values().filter(|p| !kept.contains(&p.grant.id)) {
            if unmeant(p) || p.replaces.iter().any(|id| taken.contains(id)) {
                gone.push(p.grant.id.clone());
            } else if wanted.iter().any(|new| is_of_same(new, &p.grant)) {
                superseded.push(p.grant.id.clone());
            }
        }
        drop(household);
        let (ready, agreed): (Vec<Pending>, Vec<Pending>) = agreed.into_iter().partition(|p| self.is_agreed(p));
        kept.retain(|id| ready.iter().all(|p| p.grant.id != *id));
        Ok(Sorted { told, add, remove, fresh, agreed, kept, ready, gone, superseded })
    }

    /// Gives and takes back: what narrows at once, what every owner is to agree to later. Members are told what is new. All of
    /// it is one change: what waited is gone only when what comes in its place is recorded, but for what is taken back. Gives
    /// the ids of what waits. The caller holds `changing`.
    pub(super) async fn give(&self, gift: Gift<'_>, by: &By) -> Result<Vec<GrantId>, String> {
        let Gift { links, add, remove, unmeant, mut text, profile, mut held } = gift;
        let mut whole = Entries::new();
        let now = self.now();
        let Sorted { told, mut add, mut remove, fresh, agreed, kept, ready, gone, superseded } =
            self.sorted((add, remove), unmeant, by)?;
        if !gone.is_empty() {
            text = format!("{text}; {} that waited are taken back", gone.len());
        }
        held.extend(gone.iter().map(|id| (pending_key(id), None)));
        whole.extend(superseded.iter().map(|id| (pending_key(id), None)));
        if !ready.is_empty() {
            text = format!("{text}; {} that waited take force: every owner has confirmed them", ready.len());
        }
        for p in ready {
            whole.push((pending_key(&p.grant.id), None));
            remove.extend(p.replaces.into_iter().filter(|id| lock(&self.grants).contains_key(id)));
            add.extend(Some(p.grant).filter(|g| g.holds_at(now)));
        }
        if !agreed.is_empty() {
            text = format!("{text}; {} that wait are confirmed", agreed.len());
        }
        for p in &agreed {
            whole.push((pending_key(&p.grant.id), Some(to_json(p)?)));
        }
        let waiting = self.pend(fresh, by, &mut whole)?;
        let from = waiting.iter().map(|(_, from)| *from).chain(agreed.iter().map(|p| p.from)).max();
        if !told.is_empty() {
            whole.extend(self.notice(by, &text, told, from)?);
        }
        if let Some((_, from)) = waiting.first() {
            text = format!("{text}; {} wait until {}", waiting.len(), from.to_rfc3339());
        }
        let by = &by.id()?;
        self.change_grants(Changing { links, add, remove, by, text, profile, drafts: Vec::new(), held, whole }).await?;
        Ok(waiting.into_iter().map(|(id, _)| id).chain(kept).collect())
    }

    /// Whether every owner has agreed.
    fn is_agreed(&self, pending: &Pending) -> bool {
        self.owners().is_subset(&pending.confirmed)
    }

    /// Puts entries for grants that wait beside others, and gives their ids with when they take force.
    pub(super) fn pend(
        &self,
        later: Vec<(Grant, Vec<GrantId>)>,
        by: &By,
        held: &mut Entries,
    ) -> Result<Vec<(GrantId, Timestamp)>, String> {
        if lock(&self.consent).pending.len() + later.len() > PENDING_MAX {
            return Err(format!("more than {PENDING_MAX} grants would wait: confirm or revoke some of them first"));
        }
        // The gate's time never steps back, over restarts too: a clock that is set back and forth brings nothing forward.
        let now = self.now();
        let from = takes_force(self.state().advance(now));
        let confirmed: BTreeSet<MemberId> = match by {
            By::Member(id) if self.owners().contains(id) => BTreeSet::from([id.clone()]),
            _ => BTreeSet::new(),
        };
        let mut waiting = Vec::new();
        for (grant, replaces) in later {
            let id = grant.id.clone();
            let pending = Pending { grant, replaces, from, confirmed: confirmed.clone() };
            held.push((pending_key(&id), Some(to_json(&pending)?)));
            waiting.push((id, from));
        }
        Ok(waiting)
    }

    /// The entry of a notice to every member but the one who knows already.
    pub(super) fn notice(
        &self,
        by: &By,
        text: &str,
        mut lines: Vec<String>,
        from: Option<Timestamp>,
    ) -> Result<Option<(String, Option<String>)>, String> {
        let giver = by.id()?;
        let knows = |id: &MemberId| *by == By::Member(id.clone());
        let unseen: BTreeSet<MemberId> = lock(&self.members).keys().filter(|id| !knows(id)).cloned().collect();
        if unseen.is_empty() {
            return Ok(None);
        }
        let more = lines.len().saturating_sub(NOTICE_LINES_MAX);
        lines.truncate(NOTICE_LINES_MAX);
        let notice = Notice { time: self.now(), by: giver, text: text.to_owned(), lines, more, from, unseen };
        Ok(Some((format!("{NOTICE}{}", random_id("n")?), Some(to_json(&notice)?))))
    }

    /// The entries of what members are told of newcomers, and of what was put into another room though something is granted of it.
    pub(super) fn announced(&self, newcomers: &mut Newcomers) -> Entries {
        // The device's own words: a person may know it by them, and nothing depends on them.
        let short =
            |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(NEWCOMER_NAME_MAX_CHARS).collect() };
        let grants_of = |device: &DeviceId| {
            let standing = lock(&self.grants).values().filter(|g| g.device == *device).count();
            standing + lock(&self.consent).pending.values().filter(|p| p.grant.device == *device).count()
        };
        let (mut new, mut moved) = (Vec::new(), Vec::new());
        for (device, news) in &newcomers.of {
            let (name, room) = {
                let gate = self.state();
                let known = gate.registry.get(device);
                let name = known.map(|d| short(&d.description.name)).unwrap_or_default();
                (name, known.and_then(|d| d.room().map(str::to_owned)))
            };
            let labels: Vec<&str> = news.properties.iter().map(|p| p.label()).collect();
            if !labels.is_empty() {
                let what = if news.is_new { "a new device" } else { "new on this device" };
                new.push((None, format!("{device} \u{201c}{name}\u{201d}, {what}: {}", labels.join(", "))));
            }
            let Some(before) = news.room.as_ref().filter(|before| room.as_ref() != Some(before)) else { continue };
            let grants = grants_of(device);
            if grants > 0 {
                let line = format!("{device} \u{201c}{name}\u{201d}, ");
                let to = room.map_or("none".to_owned(), |room| format!("\u{201c}{}\u{201d}", short(&room)));
                let rest = format!("from the room \u{201c}{}\u{201d} to {to}; grants: {grants}", short(before));
                moved.push((Some(format!("{device} ")), line + &rest));
            }
        }
        let told = [self.grown_notice(newcomers, NEWCOMERS, new), self.grown_notice(newcomers, MOVED, moved)];
        told.into_iter().flatten().collect()
    }

    /// The entry of a notice of the hub's, which grows for as long as nobody has seen it. A line takes the place of one that begins
    /// as is said with it.
    fn grown_notice(
        &self,
        newcomers: &mut Newcomers,
        text: &'static str,
        lines: Vec<(Option<String>, String)>,
    ) -> Option<(String, Option<String>)> {
        let all: BTreeSet<MemberId> = lock(&self.members).keys().cloned().collect();
        let hub = MemberId::new(HUB).ok()?;
        if lines.is_empty() || all.is_empty() {
            return None;
        }
        let unseen = {
            let household = lock(&self.consent);
            let is_it = |(_, n): &(&String, &Notice)| n.by == hub && n.text == text && n.unseen == all;
            household.notices.iter().find(is_it).map(|(id, n)| (id.clone(), n.clone()))
        };
        let (id, mut notice) = match unseen {
            Some(it) => it,
            None => {
                let id = match newcomers.ids.get(text) {
                    Some(id) => id.clone(),
                    None => newcomers.ids.entry(text).or_insert(random_id("n").ok()?).clone(),
                };
                let (by, time, text) = (hub, self.now(), text.to_owned());
                (id, Notice { time, by, text, lines: Vec::new(), more: 0, from: None, unseen: all })
            }
        };
        notice.time = self.now();
        for (instead, line) in lines {
            if let Some(begin) = instead {
                notice.lines.retain(|old| !old.starts_with(&begin));
            }
            if notice.lines.contains(&line) {
                continue;
            }
            if notice.lines.len() < NOTICE_LINES_MAX { notice.lines.push(line) } else { notice.more += 1 }
        }
        Some((format!("{NOTICE}{id}"), Some(to_json(&notice).ok()?)))
    }

    /// Takes in what has been stored of the household.
    pub(super) fn keep(&self, entries: &Entries) {
        let mut household = lock(&self.consent);
        for (key, value) in entries {
            match value {
                Some(value) => drop(household.restore(key, value)),
                None => {
                    if let Some(id) = key.strip_prefix(PENDING).and_then(|id| GrantId::new(id).ok()) {
                        household.pending.remove(&id);
                    } else if let Some(id) = key.strip_prefix(NOTICE) {
                        household.notices.remove(id);
                    }
                }
            }
        }
        while household.notices.len() > NOTICES_MAX {
            let oldest = household.notices.iter().min_by_key(|(_, n)| n.time).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { return };
            tracing::warn!("there are more than {NOTICES_MAX} notices: the oldest goes, seen or not");
            household.notices.remove(&oldest);
            self.owed.later(Vec::new(), [format!("{NOTICE}{oldest}")]);
        }
    }

    /// Where in the store stands what waits and fits, to be deleted with something else.
    pub(super) fn waiting_keys(&self, fits: impl Fn(&Pending) -> bool) -> Entries {
        let household = lock(&self.consent);
        household.pending.values().filter(|p| fits(p)).map(|p| (pending_key(&p.grant.id), None)).collect()
    }

    /// Thinks a change that only widens through, so that it can be recorded with something else.
    pub(super) async fn widened(
        &self,
        (add, remove): (&[Grant], &[GrantId]),
        by: &str,
        text: String,
        link: Option<LinkId>,
        now: Timestamp,
    ) -> Result<Widened, String> {
        let mut grants = lock(&self.grants).clone();
        remove.iter().for_each(|id| drop(grants.remove(id)));
        grants.extend(add.iter().map(|g| (g.id.clone(), g.clone())));
        let table = self.compile_aside(grants.values().cloned().collect(), now).await?;
        let hashes = (Digest::new(self.state().table().policy_hash()), Digest::new(table.policy_hash()));
        let leaf = policy_leaf(now, hashes, by, text, link, Vec::new())?;
        let mut puts: Entries = remove.iter().map(|id| (format!("grant/{id}"), None)).collect();
        for grant in add {
            puts.push((format!("grant/{}", grant.id), Some(to_json(grant)?)));
        }
        let begun = self.state().begin(&table, now);
        Ok(Widened { grants, table, begun, leaf, puts })
    }

    // ---- What waits ----

    /// Whether something that waits is due.
    pub(super) fn is_pending_due(&self, now: Timestamp) -> bool {
        lock(&self.consent).pending.values().any(|p| p.from <= now)
    }

    /// Puts in force what has waited for its day. The caller holds `changing`.
    pub(super) async fn bring_in_due(&self, now: Timestamp) -> Result<(), String> {
        let due: Vec<Pending> = {
            let household = lock(&self.consent);
            household.pending.values().filter(|p| p.from <= now).cloned().collect()
        };
        self.bring_in(due, ("hub", &By::Shell), "take force, a day after they were given").await
    }

    /// Puts in force what has waited: all of it is recorded first, or nothing happens. Whoever else is a member is told.
    async fn bring_in(&self, due: Vec<Pending>, (by, knows): (&str, &By), why: &str) -> Result<(), String> {
        if due.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let mut gone: Entries = due.iter().map(|p| (pending_key(&p.grant.id), None)).collect();
        let replaces: Vec<GrantId> = due.iter().flat_map(|p| p.replaces.iter().cloned()).collect();
        let links: BTreeSet<LinkId> = due.iter().map(|p| p.grant.link.clone()).collect();
        let link = links.first().filter(|_| links.len() == 1).cloned();
        let add: Vec<Grant> = due.into_iter().map(|p| p.grant).filter(|g| g.holds_at(now)).collect();
        let standing = lock(&self.grants).clone();
        let remove: Vec<GrantId> = replaces.into_iter().filter(|id| standing.contains_key(id)).collect();
        let (add, remove) = merged((add, remove), &standing);
        let text = format!("{} grants {why}", add.len());
        let told = wider(&standing, &add);
        let mut widened = self.widened((&add, &remove), by, text.clone(), link, now).await?;
        if !told.is_empty() {
            gone.extend(self.notice(knows, &text, told, None)?);
        }
        widened.puts.extend(gone.iter().cloned());
        // The value with which a grant begins is stored along with it.
        let begun = held(widened.begun.writes());
        self.try_give(by, std::slice::from_ref(&widened.leaf), &begun, &widened.puts).await?;
        self.keep(&gone);
        self.put_in_force(widened.grants, widened.table, widened.begun, now).await;
        Ok(())
    }

    /// An owner agrees to what waits; what every owner has agreed to takes force.
    pub(super) async fn grant_confirm(&self, selection: &GrantSelection, login: &Login) -> Result<Value, String> {
        let by = self.by(Some(login)).await?;
        let By::Member(member) = &by else { return Err("name the owner who confirms".into()) };
        if !self.owners().contains(member) {
            return Err(format!("`{member}` is no owner: what waits takes force when its day has passed"));
        }
        let _one = self.changing.lock().await;
        let mut found = self.pending_selected(selection)?;
        if found.is_empty() {
            return Err("nothing that waits is named by this; `vestibule grant list` lists it".into());
        }
        for p in &mut found {
            p.confirmed.insert(member.clone());
        }
        let (ready, waiting): (Vec<Pending>, Vec<Pending>) = found.into_iter().partition(|p| self.is_agreed(p));
        if !waiting.is_empty() {
            let text = format!("{} grants that wait are confirmed by {member}", waiting.len());
            let grants: Vec<Grant> = waiting.iter().map(|p| p.grant.clone()).collect();
            let until = waiting.iter().map(|p| p.from).max();
            let mut entries = Entries::new();
            for p in &waiting {
                entries.push((pending_key(&p.grant.id), Some(to_json(p)?)));
            }
            entries.extend(self.notice(&by, &text, wider(&BTreeMap::new(), &grants), until)?);
            self.tell(text, &by, entries).await?;
        }
        let (in_force, why) = (ready.len(), "take force: every owner has confirmed them");
        self.bring_in(ready, (member.as_str(), &by), why).await?;
        let waiting: Vec<GrantId> = waiting.into_iter().map(|p| p.grant.id).collect();
        Ok(json!({"confirmed": in_force + waiting.len(), "in_force": in_force, "waiting": waiting}))
    }

    /// Records what a member has done that leaves the table as it is, with what is stored of it, and takes that in. Nothing is
    /// done when it can't be recorded.
    pub(super) async fn tell(&self, text: String, by: &By, entries: Entries) -> Result<(), String> {
        let (hash, by) = (Digest::new(self.state().table().policy_hash()), by.id()?);
        let leaf = policy_leaf(self.now(), (hash, hash), by.as_str(), text, None, Vec::new())?;
        self.try_give(by.as_str(), &[leaf], &[], &entries).await?;
        self.keep(&entries);
        Ok(())
    }

    /// What waits of what a selection names.
    pub(super) fn pending_selected(&self, selection: &GrantSelection) -> Result<Vec<Pending>, String> {
        let fits = self.fitting(selection)?;
        Ok(lock(&self.consent).pending.values().filter(|p| fits(&p.grant)).cloned().collect())
    }

    /// What waits, as it is shown: the grant, until when, and who has agreed.
    pub(super) fn pending_rows(&self) -> Vec<(Grant, Value)> {
        let owners = self.owners();
        let household = lock(&self.consent);
        let row = |p: &Pending| {
            let missing: Vec<&MemberId> = owners.difference(&p.confirmed).collect();
            let waits = json!({"until": p.from.to_rfc3339(), "confirmed": p.confirmed, "missing": missing});
            (p.grant.clone(), waits)
        };
        household.pending.values().map(row).collect()
    }

    /// The same, one line each, for the household's page.
    pub fn waiting_rows(&self) -> Value {
        let partner = |link: &LinkId| self.state().links.get(link).map(|l| l.partner.clone());
        let row = |(grant, mut waits): (Grant, Value)| {
            let what = policy::in_words(grant.what);
            waits["id"] = json!(grant.id);
            waits["by"] = json!(grant.granted_by);
            waits["partner"] = json!(partner(&grant.link));
            waits["words"] = json!(format!("{} {}: {what}", grant.device, grant.property.label()));
            waits
        };
        self.pending_rows().into_iter().take(NOTICES_MAX).map(row).collect()
    }

    // ---- What members are told ----

    /// The notices that somebody has not seen, oldest first.
    pub fn notice_rows(&self) -> Value {
        let household = lock(&self.consent);
        let mut all: Vec<(&String, &Notice)> = household.notices.iter().collect();
        all.sort_by_key(|(_, n)| n.time);
        let row = |(id, n): (&String, &Notice)| {
            json!({
                "id": id, "time": n.time.to_rfc3339(), "by": n.by, "text": n.text, "lines": n.lines, "more": n.more,
                "from": n.from.map(Timestamp::to_rfc3339), "unseen_by": n.unseen,
            })
        };
        Value::Array(all.into_iter().map(row).collect())
    }

    /// A member has seen the notices that there are.
    pub(super) async fn notices_seen(&self, login: &Login) -> Result<Value, String> {
        let By::Member(member) = self.by(Some(login)).await? else { return Err("name the member".into()) };
        let _one = self.changing.lock().await;
        let _telling = self.telling.lock().await;
        let (seen, entries) = self.without(&member)?;
        self.try_append(&[], &entries).await?;
        self.keep(&entries);
        Ok(json!({"seen": seen}))
    }

    /// The notices as they are when this member needs none of them any more; what all have seen is gone.
    pub(super) fn without(&self, member: &MemberId) -> Result<(usize, Entries), String> {
        let household = lock(&self.consent);
        let mut entries = Entries::new();
        for (id, notice) in household.notices.iter().filter(|(_, n)| n.unseen.contains(member)) {
            let mut notice = notice.clone();
            notice.unseen.remove(member);
            let json = if notice.unseen.is_empty() { None } else { Some(to_json(&notice)?) };
            entries.push((format!("{NOTICE}{id}"), json));
        }
        Ok((entries.len(), entries))
    }
}

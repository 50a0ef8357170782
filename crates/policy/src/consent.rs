//! When what is granted takes force. What narrows counts at once. In a home with several owners, what is told unasked, or tells
//! whether somebody is at home, waits for a day, unless every owner agrees: nobody opens the home of others overnight.

use std::collections::{BTreeMap, BTreeSet};

use model::{DeviceId, GrantId, Kind, LinkId, Property, Reveals, Timestamp, Trigger};

use crate::compile::CompileError;
use crate::grant::{Code, Grant, What, in_words};
use crate::when::{Hours, Name};

/// How long what is granted waits when it waits, in milliseconds.
pub const WAIT_MS: i64 = 86_400_000;

/// An end that moves by less is no longer consent.
const LONGER_FROM_MS: i64 = 86_400_000;

/// Whether a grant of this is one that owners are given a day for: what is told unasked, and what tells whether somebody is at
/// home, now or for days.
pub fn waits(what: What, kind: Kind) -> bool {
    match what {
        What::Disclose { trigger: Trigger::ProactiveReport, .. } => true,
        What::Disclose { .. } => kind.reveals().iter().any(|r| matches!(r, Reveals::Occupancy | Reveals::Absence)),
        What::Control { .. } => false,
    }
}

/// A change of grants in two steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divided {
    /// What is given at once.
    pub add: Vec<Grant>,
    /// What is taken back at once.
    pub remove: Vec<GrantId>,
    /// What waits, each with the grants in whose place it will come.
    pub later: Vec<(Grant, Vec<GrantId>)>,
}

/// Whether two grants are of one thing, at whatever rung and under whatever conditions.
pub fn is_of_same(a: &Grant, b: &Grant) -> bool {
    (&a.link, &a.device, a.property) == (&b.link, &b.device, b.property) && a.what.is_same(b.what)
}

/// All that a grant gives, and for what; not by whom, nor how long.
type Given<'a> = (&'a LinkId, &'a DeviceId, Property, What, &'a [Hours], [Option<&'a Name>; 2], Option<Code>);

fn given(grant: &Grant) -> Given<'_> {
    let names = [grant.window.as_ref(), grant.routine.as_ref()];
    (&grant.link, &grant.device, grant.property, grant.what, &grant.hours, names, grant.needs())
}

/// A change in which what is given takes the place of all that gives the same: of what was told as failed and is stored all the
/// same, and is given again, one is left. Of two in the change itself that is the one that lasts longer.
pub fn merged(
    (mut add, mut remove): (Vec<Grant>, Vec<GrantId>),
    standing: &BTreeMap<GrantId, Grant>,
) -> (Vec<Grant>, Vec<GrantId>) {
    let end = |grant: &Grant| grant.expires.map_or(i64::MAX, Timestamp::as_millis);
    let mut last: BTreeMap<Given<'_>, &Grant> = BTreeMap::new();
    for new in &add {
        let kept = last.entry(given(new)).or_insert(new);
        if end(new) > end(kept) {
            *kept = new;
        }
    }
    let ids: BTreeSet<GrantId> = last.values().map(|g| g.id.clone()).collect();
    let doubled = standing.values().filter(|old| !ids.contains(&old.id) && last.contains_key(&given(old)));
    remove.extend(doubled.map(|old| old.id.clone()));
    add.retain(|g| ids.contains(&g.id));
    remove.sort();
    remove.dedup();
    (add, remove)
}

/// Which of these grants are taken back, and not only replaced by what lets through as much.
pub fn taken_back(add: &[Grant], remove: &[GrantId], standing: &BTreeMap<GrantId, Grant>) -> Vec<GrantId> {
    let mut of_cell: BTreeMap<_, Vec<&Grant>> = BTreeMap::new();
    for new in add {
        of_cell.entry((&new.link, &new.device, new.property)).or_default().push(new);
    }
    let is_taken = |id: &&GrantId| {
        let Some(old) = standing.get(*id) else { return true };
        let new = of_cell.get(&(&old.link, &old.device, old.property)).into_iter().flatten().copied();
        widens(old, new)
    };
    remove.iter().filter(is_taken).cloned().collect()
}

/// Whether, while both stand, the first lets through all that the second does.
fn reaches(a: &Grant, b: &Grant) -> bool {
    let finer = match (a.what, b.what) {
        (What::Disclose { rung: a, .. }, What::Disclose { rung: b, .. }) => a.gives().contains(&b),
        _ => true,
    };
    finer && a.needs() <= b.needs() && (!a.is_conditional() || (&a.hours, &a.window) == (&b.hours, &b.window))
}

/// Whether a grant lets through more than those that stand: something finer, at more times, or for longer.
pub fn widens<'a>(new: &Grant, mut standing: impl Iterator<Item = &'a Grant>) -> bool {
    let lasts = |old: &Grant| match (old.expires, new.expires) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(old), Some(new)) => new.as_millis().saturating_sub(old.as_millis()) < LONGER_FROM_MS,
    };
    !standing.any(|old| is_of_same(old, new) && reaches(old, new) && lasts(old))
}

/// What both of two grants of one thing let through, as a grant like the first; none when that can't be said by one.
fn meet(new: &Grant, old: &Grant, id: GrantId) -> Option<Grant> {
    let what = match (new.what, old.what) {
        (What::Disclose { trigger, rung: a }, What::Disclose { rung: b, .. }) => {
            let less = model::ALL_RUNGS.into_iter().find(|r| a.gives().contains(r) && b.gives().contains(r));
            What::Disclose { trigger, rung: less.filter(|r| new.property.takes(*r))? }
        }
        (what, _) => what,
    };
    let when = match (new.is_conditional(), old.is_conditional()) {
        (_, false) => new,
        (false, true) => old,
        (true, true) => Some(old).filter(|_| (&new.hours, &new.window) == (&old.hours, &old.window))?,
    };
    let expires = match (new.expires, old.expires) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    Some(Grant { id, what, hours: when.hours.clone(), window: when.window.clone(), expires, ..new.clone() })
}

/// Divides a change into what counts at once and what waits. Where something that waits takes the place of a grant that it
/// covers, that one stands meanwhile; of one that it does not cover, what both let through stands. `ids` gives fresh ids.
///
/// # Errors
/// When `ids` runs out.
pub fn divide(
    (add, remove): (Vec<Grant>, Vec<GrantId>),
    standing: &BTreeMap<GrantId, Grant>,
    waits: impl Fn(&Grant) -> bool,
    mut ids: impl FnMut() -> Option<GrantId>,
) -> Result<Divided, CompileError> {
    let replaced: BTreeSet<GrantId> =
        remove.iter().cloned().chain(add.iter().map(|g| g.id.clone()).filter(|id| standing.contains_key(id))).collect();
    let mut divided = Divided::default();
    let (mut kept, mut narrowed) = (BTreeSet::new(), BTreeSet::new());
    let mut of_cell: BTreeMap<_, Vec<&Grant>> = BTreeMap::new();
    for old in standing.values() {
        of_cell.entry((&old.link, &old.device, old.property)).or_default().push(old);
    }
    for new in add {
        let all = of_cell.get(&(&new.link, &new.device, new.property)).map_or(&[][..], Vec::as_slice);
        let same: Vec<&Grant> = all.iter().copied().filter(|old| is_of_same(old, &new)).collect();
        if !waits(&new) {
            divided.add.push(new);
            continue;
        }
        if !widens(&new, same.iter().copied()) {
            // Nor does it become longer: who renews each day would never be asked.
            let ends = same.iter().filter(|old| reaches(old, &new)).map(|old| old.expires);
            let last = ends.max_by_key(|end| end.map_or(i64::MAX, Timestamp::as_millis)).flatten();
            let expires = new.expires.into_iter().chain(last).min().filter(|_| new.expires.is_some() || last.is_some());
            divided.add.push(Grant { expires, ..new });
            continue;
        }
        let mut instead = Vec::new();
        for old in same.into_iter().filter(|old| replaced.contains(&old.id)) {
            if reaches(&new, old) {
                kept.insert(old.id.clone());
                instead.push(old.id.clone());
                continue;
            }
            narrowed.insert(old.id.clone());
            if let Some(less) = meet(&new, old, ids().ok_or(CompileError::NoId)?) {
                instead.push(less.id.clone());
                divided.add.push(less);
            }
        }
        let id = if standing.contains_key(&new.id) { ids().ok_or(CompileError::NoId)? } else { new.id.clone() };
        divided.later.push((Grant { id, ..new }, instead));
    }
    divided.remove = remove.into_iter().filter(|id| !kept.contains(id)).chain(narrowed).collect();
    divided.remove.sort();
    divided.remove.dedup();
    Ok(divided)
}

/// What these grants let through beside what stands, one line each, without what only describes a device.
pub fn wider(standing: &BTreeMap<GrantId, Grant>, add: &[Grant]) -> Vec<String> {
    let is_news = |new: &&Grant| !new.property.is_metadata() && widens(new, standing.values());
    let line = |grant: &Grant| {
        let conditions = Some(grant.conditions()).filter(|c| !c.is_empty()).map(|c| format!(", {c}"));
        format!(
            "{} {}: {}{}",
            grant.device,
            grant.property.label(),
            in_words(grant.what),
            conditions.unwrap_or_default()
        )
    };
    add.iter().filter(is_news).map(line).collect()
}

/// When what is granted now takes force if it waits. `now` is to be a time that never steps back.
pub fn takes_force(now: Timestamp) -> Timestamp {
    now.plus_millis(WAIT_MS)
}

#[cfg(test)]
mod tests {
    use model::{DeviceId, HouseholdId, LinkId, Property, Rung};

    use super::*;
    use crate::profile::Terms;

    fn grant(id: &str, rung: Rung, days: i64) -> Grant {
        let (home, link) = (HouseholdId::new("home").unwrap(), LinkId::new("l").unwrap());
        let cell = (home, link, DeviceId::new("d").unwrap(), Property::LocalTemperature);
        let what = What::Disclose { trigger: Trigger::PartnerPoll, rung };
        let granted = Grant::new(GrantId::new(id).unwrap(), cell, what, &Terms::of_owner());
        Grant { expires: Some(Timestamp::from_millis(days * 86_400_000)), ..granted }
    }

    fn standing(grants: &[Grant]) -> BTreeMap<GrantId, Grant> {
        grants.iter().map(|g| (g.id.clone(), g.clone())).collect()
    }

    fn divided(old: &[Grant], add: Vec<Grant>) -> Divided {
        let remove = old.iter().map(|g| g.id.clone()).collect();
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("fresh-{n}")).ok()
        };
        divide((add, remove), &standing(old), |_| true, ids).unwrap()
    }

    #[test]
    fn what_is_told_unasked_or_tells_who_is_at_home_waits_and_commands_do_not() {
        let told = |trigger| What::Disclose { trigger, rung: Rung::Live };
        assert!(waits(told(Trigger::ProactiveReport), Kind::Battery));
        assert!(waits(told(Trigger::PartnerPoll), Kind::Presence));
        assert!(waits(told(Trigger::DirectiveResponse), Kind::Temperature));
        assert!(!waits(told(Trigger::PartnerPoll), Kind::Battery));
        assert!(!waits(told(Trigger::Discovery), Kind::Metadata));
        assert!(!waits(What::Control { open: true }, Kind::Lock));
    }

    #[test]
    fn who_renews_each_day_is_asked_all_the_same() {
        let old = grant("old", Rung::Live, 30);
        let mut standing = standing(std::slice::from_ref(&old));
        for day in 1..10 {
            let end = old.expires.unwrap().plus_millis(day * 23 * 3_600_000);
            let renewed = Grant { expires: Some(end), ..old.clone() };
            let all = divide((vec![renewed], Vec::new()), &standing, |_| true, || GrantId::new("fresh").ok()).unwrap();
            assert!(all.later.is_empty() || day > 1, "{day}");
            standing.extend(all.add.into_iter().map(|g| (g.id.clone(), g)));
            assert_eq!(standing[&old.id].expires, old.expires, "{day}");
        }
    }

    #[test]
    fn what_is_finer_waits_and_what_it_replaces_stands_meanwhile() {
        let (old, new) = (grant("old", Rung::HourCoarse, 100), grant("new", Rung::Live, 180));
        let all = divided(std::slice::from_ref(&old), vec![new.clone()]);
        assert_eq!((all.add.len(), all.remove.len()), (0, 0));
        assert_eq!(all.later, [(new, vec![old.id])]);
    }

    #[test]
    fn what_is_coarser_and_for_longer_is_coarser_at_once_and_longer_later() {
        let (old, new) = (grant("old", Rung::Live, 100), grant("new", Rung::HourCoarse, 180));
        let all = divided(std::slice::from_ref(&old), vec![new.clone()]);
        assert_eq!(all.remove, [old.id]);
        let [less] = all.add.as_slice() else { panic!("{:?}", all.add) };
        assert_eq!((less.what, less.expires), (new.what, old.expires));
        assert_eq!(all.later, [(new, vec![less.id.clone()])]);
        // No wider than what stands: at once.
        let coarser = grant("new", Rung::HourCoarse, 100);
        let all = divided(&[grant("old", Rung::Live, 100)], vec![coarser.clone()]);
        assert_eq!((all.add, all.remove.len(), all.later.len()), (vec![coarser], 1, 0));
    }

    #[test]
    fn what_is_given_again_takes_the_place_of_all_that_gives_the_same_and_of_nothing_else() {
        let hours = |text: &str| vec![text.parse().unwrap()];
        let others = [
            grant("finer", Rung::Live, 100),
            Grant { hours: hours("daily 22:00-06:00"), ..grant("hours", Rung::Hour, 100) },
            Grant { window: Some("guests".parse().unwrap()), ..grant("window", Rung::Hour, 100) },
            Grant { routine: Some("guests".parse().unwrap()), ..grant("routine", Rung::Hour, 100) },
            Grant { device: DeviceId::new("other").unwrap(), ..grant("device", Rung::Hour, 100) },
        ];
        let twins = [grant("a", Rung::Hour, 50), grant("b", Rung::Hour, 200)];
        let all = standing(&[&others[..], &twins].concat());
        let new = [grant("shorter", Rung::Hour, 90), grant("longer", Rung::Hour, 100)];
        let (add, remove) = merged((new.to_vec(), Vec::new()), &all);
        assert_eq!(add, new[1..]);
        assert_eq!(remove, [GrantId::new("a").unwrap(), GrantId::new("b").unwrap()]);
        // Renewed, both become one.
        let renewed = twins.map(|g| Grant { expires: new[1].expires, ..g });
        let (add, remove) = merged((renewed.to_vec(), Vec::new()), &all);
        assert_eq!((add, remove), (renewed[..1].to_vec(), vec![GrantId::new("b").unwrap()]));
    }

    #[test]
    fn what_is_replaced_by_as_much_is_not_taken_back() {
        let old = grant("old", Rung::Hour, 100);
        for (new, is_taken) in [
            (grant("finer", Rung::Live, 100), false),
            (grant("same", Rung::Hour, 100), false),
            (grant("coarser", Rung::HourCoarse, 100), true),
            (grant("shorter", Rung::Live, 50), true),
            (Grant { hours: vec!["daily 22:00-06:00".parse().unwrap()], ..grant("hours", Rung::Live, 100) }, true),
            (Grant { device: DeviceId::new("other").unwrap(), ..grant("device", Rung::Live, 100) }, true),
        ] {
            let taken = taken_back(
                std::slice::from_ref(&new),
                std::slice::from_ref(&old.id),
                &standing(std::slice::from_ref(&old)),
            );
            assert_eq!(!taken.is_empty(), is_taken, "{}", new.id);
        }
    }

    #[test]
    fn other_hours_wait_and_what_is_in_both_stands() {
        let hours = |text: &str| vec![text.parse().unwrap()];
        let always = grant("old", Rung::HourCoarse, 100);
        let at_night = Grant { hours: hours("daily 22:00-06:00"), ..grant("new", Rung::Live, 100) };
        let all = divided(std::slice::from_ref(&always), vec![at_night.clone()]);
        let [less] = all.add.as_slice() else { panic!("{:?}", all.add) };
        assert_eq!((less.what, &less.hours), (always.what, &at_night.hours));
        assert_eq!((all.remove, all.later.len()), (vec![always.id.clone()], 1));
        // At all times in place of some: those stand until then.
        let all = divided(std::slice::from_ref(&at_night), vec![Grant { hours: Vec::new(), ..at_night.clone() }]);
        assert_eq!((all.add.len(), all.remove.len(), all.later.len()), (0, 0, 1));
        assert_ne!(all.later[0].0.id, at_night.id, "the one that waits has an id of its own");
        // Two spans that one grant can't say together: nothing meanwhile.
        let by_day = Grant { hours: hours("daily 09:00-12:00"), ..grant("day", Rung::Live, 100) };
        let all = divided(std::slice::from_ref(&by_day), vec![at_night]);
        assert_eq!((all.add.len(), all.remove.len(), all.later.len()), (0, 1, 1));
    }
}

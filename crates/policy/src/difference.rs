//! What a change of grants newly lets through and what it stops, cell by cell over the whole home: nothing is sampled.

use std::collections::BTreeMap;

use model::{ALL_PROPERTIES, ALL_TRIGGERS, DeviceId, Kind, LinkId, PartnerId, Property, Reveals, Rung, Timestamp};
use serde::Serialize;

use crate::grant::{Code, Grant, What, code_words, in_words};
use crate::table::{CELLS, Table};

/// A cell that differs between two tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
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
    /// The trigger, or `control` or `open`.
    pub action: &'static str,
    /// The rung before; none when it was refused.
    pub before: Option<Rung>,
    /// The rung after; none when it is refused.
    pub after: Option<Rung>,
    /// In one line.
    pub words: String,
}

/// The difference of two tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What would newly flow, or flow finer or fresher. One can't be had from the other, so a rung that is only different
    /// stands here.
    pub flows: Vec<Changed>,
    /// What would stop, or become coarser.
    pub stops: Vec<Changed>,
}

/// An end that moves by less is not told.
const LONGER_FROM_MS: i64 = 86_400_000;

/// What would be allowed for longer, by a day or more, or under other conditions: a grant of something that is granted already,
/// and that would end later, or count at other times. One line each.
pub fn longer(before: &[Grant], after: &[Grant]) -> Vec<String> {
    type Thing<'a> = (&'a LinkId, &'a DeviceId, Property, What);
    // An end that never comes is the latest.
    let end = |grant: &Grant| grant.expires.map_or(i64::MAX, Timestamp::as_millis);
    let mut ends: BTreeMap<Thing<'_>, i64> = BTreeMap::new();
    for grant in before {
        let known = ends.entry((&grant.link, &grant.device, grant.property, grant.what)).or_insert(i64::MIN);
        *known = (*known).max(end(grant));
    }
    // To the day: the same wish a moment later is the same.
    let words = |end: i64| match end {
        i64::MAX => "for ever".to_owned(),
        millis => {
            format!("until {}", Timestamp::from_millis(millis).to_rfc3339().split('T').next().unwrap_or_default())
        }
    };
    let standing = |grant: &Grant| -> Vec<&Grant> {
        let same = |g: &&Grant| (&g.link, &g.device, g.property) == (&grant.link, &grant.device, grant.property);
        // At whichever rung: a coarser one at more hours is more all the same.
        before.iter().filter(same).filter(|g| g.what.is_same(grant.what)).collect()
    };
    let at_other_times = after.iter().filter_map(|grant| {
        let was = standing(grant);
        let is_news = !was.is_empty() && was.iter().all(|g| g.is_conditional() && g.conditions() != grant.conditions());
        let or_always = |text: String| if text.is_empty() { "at all times".to_owned() } else { text };
        is_news.then(|| {
            let (label, what) = (grant.property.label(), in_words(grant.what));
            let was: Vec<String> = was.iter().map(|g| or_always(g.conditions())).collect();
            format!("{} {label}: {what}, {} (now: {})", grant.device, or_always(grant.conditions()), was.join("; "))
        })
    });
    let at_other_times: Vec<String> = at_other_times.collect();
    let mut lines: Vec<String> = after
        .iter()
        .filter_map(|grant| {
            let was = *ends.get(&(&grant.link, &grant.device, grant.property, grant.what))?;
            (end(grant).saturating_sub(was) >= LONGER_FROM_MS).then(|| {
                let (label, what) = (grant.property.label(), in_words(grant.what));
                format!("{} {label}: {what}, {} (now: {})", grant.device, words(end(grant)), words(was))
            })
        })
        .chain(at_other_times)
        .collect();
    lines.sort();
    lines
}

/// What differs between the table before and the one after.
pub fn difference(before: &Table, after: &Table) -> Difference {
    let mut all = Difference::default();
    let links = before.partners.iter().chain(after.partners.iter().filter(|(l, _)| !before.partners.contains_key(*l)));
    for (link, partner) in links {
        let devices = |table: &Table| -> Vec<DeviceId> {
            table.rows.get(link).map(|rows| rows.keys().cloned().collect()).unwrap_or_default()
        };
        let mut both = devices(before);
        both.extend(devices(after));
        both.sort();
        both.dedup();
        for device in both {
            for (property, index) in ALL_PROPERTIES.iter().flat_map(|p| (0..CELLS).map(move |index| (*p, index))) {
                let allowed = |table: &Table| {
                    let cell = table.cell(link, &device, property, index)?;
                    cell.rung.ok().map(|rung| (rung, cell.code))
                };
                let (was, is) = (allowed(before), allowed(after));
                if was == is {
                    continue;
                }
                let what = |rung: Rung| match ALL_TRIGGERS.get(index) {
                    Some(trigger) => What::Disclose { trigger: *trigger, rung },
                    None => What::Control { open: index > ALL_TRIGGERS.len() },
                };
                let kind_of = |table: &Table| table.kinds.get(&(device.clone(), property)).copied();
                let kind = kind_of(after).or_else(|| kind_of(before)).unwrap_or(Kind::Unknown);
                let words = |(rung, code): (Rung, Option<Code>)| match code {
                    None => in_words(what(rung)),
                    Some(code) => format!("{}, {}", in_words(what(rung)), code_words(code)),
                };
                let said = match (was, is) {
                    (Some(was), Some(is)) => format!("{} (now: {})", words(is), words(was)),
                    (None, Some(is)) => words(is),
                    (Some(was), None) => format!("no longer {}", words(was)),
                    (None, None) => String::new(),
                };
                let changed = Changed {
                    link: link.clone(),
                    partner: partner.clone(),
                    device: device.clone(),
                    property,
                    kind,
                    reveals: kind.reveals(),
                    action: match what(Rung::Live) {
                        What::Disclose { trigger, .. } => trigger.as_str(),
                        What::Control { open: true } => "open",
                        What::Control { open: false } => "control",
                    },
                    before: was.map(|(rung, _)| rung),
                    after: is.map(|(rung, _)| rung),
                    words: format!("{partner} {device} {}: {said}", property.label()),
                };
                let coarser = matches!((was, is), (Some((was, weak)), Some((is, strong)))
                    if was.gives().contains(&is) && weak <= strong);
                if is.is_none() || coarser { all.stops.push(changed) } else { all.flows.push(changed) }
            }
        }
    }
    let order = |a: &Changed, b: &Changed| {
        (&a.link, &a.device, a.property, a.action).cmp(&(&b.link, &b.device, b.property, b.action))
    };
    all.flows.sort_by(order);
    all.stops.sort_by(order);
    all
}

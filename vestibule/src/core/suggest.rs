//! The smallest grants under which the last days would have gone as they did: what was used stays, what was not is named, and so is
//! what was refused. Read from the record alone; nothing is changed.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Entry, Leaf};
use model::{DeviceId, GrantId, LinkId, Property, Rung, Timestamp, Trigger};
use policy::{Document, Grant, Terms, What, days_at_most, in_words};
use serde_json::{Value, json};
use store::Store;
use store::ledger::LedgerReader;

use super::{Core, blocking, chain, lock, owner, random_id};

/// Most days that are looked at.
const DAYS_MAX: u16 = 90;

const DAY_MS: i64 = 86_400_000;

/// Leaves that are read at once.
const LEAVES_AT_ONCE: u64 = 1000;

/// How often something happened, and on which days.
#[derive(Clone, Debug, Default)]
struct Times {
    count: u64,
    days: BTreeSet<i64>,
}

impl Times {
    fn add(&mut self, count: u64, time: Timestamp) {
        self.count += count;
        self.days.insert(time.as_millis().div_euclid(DAY_MS));
    }

    fn json(&self) -> Value {
        json!({"count": self.count, "days": self.days.len()})
    }
}

type Cell = (LinkId, DeviceId, Property, Trigger);

/// What the record says of some days.
#[derive(Default)]
struct Seen {
    /// What was told, by what it was told for.
    told: BTreeMap<Cell, Times>,
    /// Commands, by the grant that allowed them, and by what they were for.
    by_grant: BTreeMap<String, Times>,
    commands: BTreeMap<(LinkId, DeviceId, Property), Times>,
    /// What nobody had granted.
    refused: BTreeMap<Cell, Times>,
    /// The messages that leaves with more of their items speak of.
    intents: BTreeMap<u64, (LinkId, Trigger)>,
}

impl Seen {
    fn take(&mut self, leaf: Leaf) {
        let time = leaf.time;
        match leaf.entry {
            Entry::Intent(intent) => {
                for item in &intent.items {
                    let cell = (intent.link.clone(), item.device.clone(), item.property, intent.trigger);
                    self.told.entry(cell).or_default().add(1, time);
                }
                if intent.more > 0 {
                    self.intents.insert(leaf.index, (intent.link, intent.trigger));
                }
            }
            Entry::More(more) => {
                let Some((link, trigger)) = self.intents.get(&more.of) else { return };
                for item in &more.items {
                    let cell = (link.clone(), item.device.clone(), item.property, *trigger);
                    self.told.entry(cell).or_default().add(1, time);
                }
            }
            Entry::Command(command) => {
                for id in command.policies.iter() {
                    self.by_grant.entry(id.clone()).or_default().add(1, time);
                }
                for property in command.properties {
                    let cell = (command.link.clone(), command.device.clone(), property);
                    self.commands.entry(cell).or_default().add(1, time);
                }
            }
            Entry::Refusals(refusals) => {
                for item in refusals.items.into_iter().filter(|i| i.reason == disclosure::Refusal::NoGrant.as_str()) {
                    let cell = (refusals.link.clone(), item.device, item.property, item.trigger);
                    self.refused.entry(cell).or_default().add(item.count, time);
                }
            }
            _ => {}
        }
    }

    /// How often a grant was of use.
    fn of(&self, grant: &Grant) -> Times {
        match grant.what {
            What::Disclose { trigger, .. } => {
                let cell = (grant.link.clone(), grant.device.clone(), grant.property, trigger);
                self.told.get(&cell).cloned().unwrap_or_default()
            }
            What::Control { open } => {
                let by_id = self.by_grant.get(grant.id.as_str()).cloned();
                // A grant that was renewed has another id. What opens the home is not kept by guess.
                let cell = (grant.link.clone(), grant.device.clone(), grant.property);
                by_id.or_else(|| self.commands.get(&cell).filter(|_| !open).cloned()).unwrap_or_default()
            }
        }
    }
}

impl Core {
    /// What of the grants the last days had a use for, and what was refused. `with_refused` grants in the file what was
    /// refused, as coarsely as it can be.
    pub(super) async fn suggest(&self, who: Option<&str>, days: u16, with_refused: bool) -> Result<Value, String> {
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(format!("--days is 1 to {DAYS_MAX}"));
        }
        self.bring_up_to_date().await;
        let links = match who {
            Some(who) => self.links_named(who)?,
            None => self.state().links.iter().cloned().collect(),
        };
        let (to, household) = (self.now(), self.household.clone());
        let store = Store::open(&self.config.store_url(&self.data)).map_err(|e| chain(&e))?;
        // A connection of its own, in whose way nobody stands.
        let reader = LedgerReader::open(&store, Some(&household)).map_err(|e| chain(&e))?;
        let from = to.plus_millis(-i64::from(days) * DAY_MS);
        let seen = blocking(move || {
            let mut seen = Seen::default();
            let size = reader.size().map_err(|e| chain(&e))?;
            let leaves = |from: u64, to: u64| reader.leaves(from..to).map_err(|e| chain(&e));
            let mut next = size;
            while next > 0 && leaves(next - 1, next)?.first().is_some_and(|l| l.time >= from) {
                next = next.saturating_sub(LEAVES_AT_ONCE);
            }
            while next < size {
                let end = size.min(next + LEAVES_AT_ONCE);
                leaves(next, end)?.into_iter().filter(|l| l.time >= from).for_each(|leaf| seen.take(leaf));
                next = end;
            }
            Ok(seen)
        })
        .await?;
        let table = std::sync::Arc::clone(self.state().table());
        let facts = self.facts();
        let kind = |device: &DeviceId, property: Property| {
            let device = facts.devices.iter().find(|d| d.device == *device);
            device.and_then(|d| d.properties.iter().find(|(p, _)| *p == property)).map(|(_, kind)| *kind)
        };
        let (mut kept_all, mut rows) = (Vec::new(), Vec::new());
        for link in &links {
            let mine = self.grants_of(|g| g.link == link.id);
            let uses: Vec<(Grant, Times)> = mine.into_iter().map(|g| (g.clone(), seen.of(&g))).collect();
            let describes = |g: &Grant| g.property.is_metadata() || g.property == Property::Reachable;
            let busy: BTreeSet<&DeviceId> =
                uses.iter().filter(|(g, t)| !describes(g) && t.count > 0).map(|(g, _)| &g.device).collect();
            // What a device is called is of use as long as something else of it is.
            let is_kept = |g: &Grant, t: &Times| if describes(g) { busy.contains(&g.device) } else { t.count > 0 };
            let row = |(g, times): &(Grant, Times)| {
                json!({
                    "id": g.id, "device": g.device, "property": g.property, "words": in_words(g.what),
                    "conditions": g.conditions(), "used": times.json(),
                    "reveals": kind(&g.device, g.property).map(|k| k.reveals()),
                })
            };
            let (keep, unused): (Vec<_>, Vec<_>) = uses.iter().partition(|(g, t)| is_kept(g, t));
            let mut refused = Vec::new();
            for ((_, device, property, trigger), times) in seen.refused.iter().filter(|(c, _)| c.0 == link.id) {
                let Some(kind) = kind(device, *property) else { continue };
                // After an order of its own the partner is refused what it was not granted then, which nobody asked for; where it
                // has no grant to command, the order itself was refused. What is granted at some times was refused at others.
                let is_order = *trigger == Trigger::DirectiveResponse;
                let is_granted = match is_order {
                    true => table.promised().may(&link.id, device, *property, false).is_ok(),
                    false => table.promised().decide(&link.id, device, *property, *trigger).rung.is_ok(),
                };
                if property.is_metadata() || is_granted {
                    continue;
                }
                let rung = if property.is_live_only() { Rung::Live } else { Rung::HourCoarse };
                let what = match is_order {
                    true => What::Control { open: false },
                    false => What::Disclose { trigger: *trigger, rung },
                };
                let how = match is_order {
                    true => "--control".to_owned(),
                    false => format!("--trigger {trigger} --rung {rung}"),
                };
                refused.push(json!({
                    "device": device, "property": property, "asked": times.json(), "words": in_words(what),
                    "reveals": kind.reveals(),
                    "grant": format!("vestibule grant add {} {} --device {device} {how}", link.id, property.as_str()),
                }));
                // A question names a device, and every property of it counts as refused: that one wanted the lamp's power does not
                // open the door's state, which has no coarser form.
                let is_by_the_way = *trigger == Trigger::PartnerPoll && property.is_live_only();
                if with_refused && !is_by_the_way {
                    kept_all.push(self.would_be(link.id.clone(), device.clone(), *property, what)?);
                }
            }
            kept_all.extend(keep.iter().map(|(g, _)| g.clone()));
            rows.push(json!({
                "link": link.id, "partner": link.partner, "profile": link.profile,
                "keep": keep.into_iter().map(row).collect::<Vec<_>>(),
                "unused": unused.into_iter().map(row).collect::<Vec<_>>(), "refused": refused,
            }));
        }
        // The grants of links that nobody asked about stay in the file: it takes the place of all.
        let asked: BTreeSet<&LinkId> = links.iter().map(|l| &l.id).collect();
        kept_all.extend(lock(&self.grants).values().filter(|g| !asked.contains(&g.link)).cloned());
        let document = Document::new(self.household.clone(), kept_all);
        let document = serde_json::to_string_pretty(&document).map_err(|e| e.to_string())?;
        Ok(json!({
            "from": from.to_rfc3339(), "to": to.to_rfc3339(), "links": rows, "document": format!("{document}\n"),
        }))
    }

    /// A grant that nobody has given yet.
    fn would_be(&self, link: LinkId, device: DeviceId, property: Property, what: What) -> Result<Grant, String> {
        let (now, granted_by) = (self.now(), owner()?);
        let terms = Terms { now, affects: self.affected(&granted_by), granted_by };
        let id = GrantId::new(random_id("g")?).map_err(|e| e.to_string())?;
        let expires = Some(now.plus_millis(days_at_most(what) * DAY_MS));
        Ok(Grant { expires, ..Grant::new(id, (self.household.clone(), link, device, property), what, &terms) })
    }
}

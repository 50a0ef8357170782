//! A link that is made anew while its old tokens still open it. What a member takes from it is taken at once. What is added
//! waits until the partner has fetched the new tokens: the old ones may be in other hands, and nobody agreed to tell those
//! more. The rest comes in the same transaction as the tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger::{Digest, Draft, Receipt};
use links::oauth::Entry;
use model::{DeviceId, GrantId, LinkId, MemberId, Property};
use policy::{Change, DeviceFact, Grant, Profile, What};
use serde::{Deserialize, Serialize};

use super::{Core, held, lock, no_link, policy_leaf, to_json};

/// How the keys of the store begin.
pub(super) const PREFIX: &str = "renewal/";

/// What was agreed to and waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Renewal {
    member: MemberId,
    /// The profile, by slug.
    profile: String,
    add: Vec<Grant>,
    /// Grants in whose place others come.
    remove: Vec<GrantId>,
    /// The link's grants, as they were then: when the household has changed them since, that is what counts.
    standing: String,
}

impl Renewal {
    /// The devices of which something was agreed to.
    pub(super) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.add.iter().map(|g| &g.device)
    }

    /// Nothing is added of this device. False when nothing would have been.
    pub(super) fn forget(&mut self, device: &DeviceId) -> bool {
        let before = self.add.len();
        self.add.retain(|g| g.device != *device);
        self.add.len() < before
    }
}

/// Where it is stored.
pub(super) fn key(link: &LinkId) -> String {
    format!("{PREFIX}{link}")
}

/// Puts a stored one back.
pub(super) fn restore(renewals: &mut BTreeMap<LinkId, Renewal>, link: &str, json: &str) -> Option<()> {
    renewals.insert(LinkId::new(link).ok()?, serde_json::from_str(json).ok()?);
    Some(())
}

/// Whether `new` covers all that `old` lets through.
fn covers(new: What, old: What) -> bool {
    match (new, old) {
        // Rungs are ordered from fine to coarse.
        (What::Disclose { rung: new, .. }, What::Disclose { rung: old, .. }) => new <= old,
        _ => true,
    }
}

/// Splits a change into what narrows, and what adds. The second may replace grants by such that cover them.
fn split(change: Change, standing: &BTreeMap<GrantId, Grant>) -> (Change, Change) {
    let (mut now, mut later) = (Change::default(), Change::default());
    let mut add: BTreeMap<(DeviceId, Property), Vec<Grant>> = BTreeMap::new();
    for grant in change.add {
        add.entry((grant.device.clone(), grant.property)).or_default().push(grant);
    }
    for id in change.remove {
        let Some(old) = standing.get(&id) else { continue };
        let mut same = add.get_mut(&(old.device.clone(), old.property)).into_iter().flatten();
        let covered = same.any(|new| new.what.is_same(old.what) && covers(new.what, old.what));
        if covered { later.remove.push(id) } else { now.remove.push(id) }
    }
    let narrowed: BTreeSet<&GrantId> = now.remove.iter().collect();
    let gone: Vec<&Grant> = standing.values().filter(|g| narrowed.contains(&g.id)).collect();
    for grant in add.into_values().flatten() {
        let is_of = |old: &&&Grant| {
            old.device == grant.device && old.property == grant.property && old.what.is_same(grant.what)
        };
        let replaced: Vec<&Grant> = gone.iter().filter(is_of).copied().collect();
        // What counted at some times alone must not count at all of them for whoever holds the old tokens; and until then
        // nothing lasts longer than what it stands for.
        let last =
            replaced.iter().map(|old| old.expires).max_by_key(|end| end.map_or(i64::MAX, model::Timestamp::as_millis));
        match last {
            Some(end) if !replaced.iter().any(|old| old.is_conditional()) => {
                let expires = match (grant.expires, end) {
                    (Some(new), Some(old)) => Some(new.min(old)),
                    (new, old) => new.or(old),
                };
                now.add.push(Grant { expires, ..grant });
            }
            _ => later.add.push(grant),
        }
    }
    (now, later)
}

impl Core {
    /// What the link's grants are, in one word.
    fn standing(&self, link: &LinkId) -> String {
        let all: Vec<Grant> = lock(&self.grants).values().filter(|g| g.link == *link).cloned().collect();
        Digest::of(&serde_json::to_vec(&all).unwrap_or_default()).to_string()
    }

    /// A member has agreed to a profile for a link that has tokens: narrows it at once, and keeps the rest. The caller holds
    /// `changing`.
    pub(super) async fn renew(
        &self,
        id: &LinkId,
        profile: &Profile,
        by: &MemberId,
        devices: Vec<DeviceFact>,
    ) -> Result<(), String> {
        self.store_devices().await?;
        let change = self.difference(id, profile, by, devices)?;
        let link = self.state().links.get(id).cloned().ok_or_else(|| no_link(id))?;
        let (now, later) = split(change, &lock(&self.grants).clone());
        if !(now.add.is_empty() && now.remove.is_empty()) {
            let text = format!(
                "profile {} agreed to anew: {} taken back at once, {} made coarser",
                profile.slug,
                now.remove.len(),
                now.add.len()
            );
            self.change_grants(&[link], (now.add, now.remove), by, text, Vec::new(), Vec::new()).await?;
        }
        let renewal = Renewal {
            member: by.clone(),
            profile: profile.slug.clone(),
            add: later.add,
            remove: later.remove,
            standing: self.standing(id),
        };
        self.put(vec![(key(id), Some(to_json(&renewal)?))]).await?;
        lock(&self.renewals).insert(id.clone(), renewal);
        Ok(())
    }

    /// Records the new tokens of a link together with what was agreed to add, and puts that in force. `intent` is the record
    /// of the answer, `entries` what is stored with it.
    pub(super) async fn exchange_renewed(
        &self,
        id: &LinkId,
        renewal: Renewal,
        intent: Draft,
        entries: Vec<Entry>,
    ) -> Result<Option<Receipt>, String> {
        let now = self.now();
        let (mut drafts, mut puts) = (vec![intent], entries);
        puts.push((key(id), None));
        let mut after = None;
        if renewal.standing == self.standing(id) {
            let mut grants = lock(&self.grants).clone();
            renewal.remove.iter().for_each(|id| drop(grants.remove(id)));
            grants.extend(renewal.add.iter().map(|g| (g.id.clone(), g.clone())));
            self.enroll(id)?;
            let mut link = self.state().links.get(id).cloned().ok_or_else(|| no_link(id))?;
            link.profile.clone_from(&renewal.profile);
            let table = self.compile_aside(grants.values().cloned().collect(), now).await?;
            let hashes = (Digest::new(self.state().table().policy_hash()), Digest::new(table.policy_hash()));
            let (added, removed) = (renewal.add.len(), renewal.remove.len());
            let text = format!("profile {} in force anew: {added} granted, {removed} replaced", renewal.profile);
            drafts.push(policy_leaf(now, hashes, renewal.member.as_str(), text, Some(id.clone()), Vec::new())?);
            puts.push((format!("link/{id}"), Some(to_json(&link)?)));
            puts.extend(renewal.remove.iter().map(|id| (format!("grant/{id}"), None)));
            for grant in &renewal.add {
                puts.push((format!("grant/{}", grant.id), Some(to_json(grant)?)));
            }
            let begun = self.state().begin(&table, now);
            puts.extend(held(begun.writes()));
            after = Some((grants, table, begun));
        } else {
            tracing::warn!(link = %id, "its grants were changed after it was agreed to anew: they stay as they are");
        }
        // Nothing of it is owed when it fails: then the old tokens and grants stand, and the code is still good.
        let receipts = self.try_append(&drafts, &puts).await?;
        lock(&self.renewals).remove(id);
        if let Some((grants, table, begun)) = after {
            *lock(&self.grants) = grants;
            if let Some(link) = self.state().links.get_mut(id) {
                link.profile = renewal.profile;
            }
            let writes = self.state().replace_begun(Arc::new(table), begun, now);
            if let Err(error) = self.put(held(writes)).await {
                tracing::error!(%error, "what is held for a link could not be stored yet");
            }
        }
        Ok(receipts.into_iter().next())
    }

    /// Forgets what was agreed to and never fetched. Gives what to delete from the store.
    pub(super) fn forget_renewals(&self) -> Vec<Entry> {
        let now = self.now();
        let state = self.state();
        let mut renewals = lock(&self.renewals);
        let over: Vec<LinkId> =
            renewals.keys().filter(|link| !state.links.oauth.is_waiting(link, now)).cloned().collect();
        over.iter().for_each(|link| drop(renewals.remove(link)));
        over.iter().map(|link| (key(link), None)).collect()
    }
}

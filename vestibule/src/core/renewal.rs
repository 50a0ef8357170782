//! A link that is made anew while its old tokens still open it. What a member takes from it is taken at once. What is added
//! waits until the partner has fetched the new tokens: the old ones may be in other hands, and nobody agreed to tell those
//! more. The rest comes in the same transaction as the tokens.

use std::collections::BTreeMap;

use ledger::{Digest, Draft, Receipt};
use links::oauth::Entry;
use model::{DeviceId, GrantId, LinkId, MemberId};
use policy::{DeviceFact, Grant, Profile, divide};
use serde::{Deserialize, Serialize};

use super::consent::{self, By};
use super::{Changing, Core, lock, no_link, to_json};

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

fn in_one_word(grants: &[Grant]) -> String {
    Digest::of(&serde_json::to_vec(grants).unwrap_or_default()).to_string()
}

impl Core {
    /// What the link's grants are, in one word.
    fn standing(&self, link: &LinkId) -> String {
        let mut all: Vec<Grant> = lock(&self.grants).values().filter(|g| g.link == *link).cloned().collect();
        // What waits counts as much: it is what the household means by now.
        all.extend(lock(&self.consent).pending.values().map(|p| p.grant.clone()).filter(|g| g.link == *link));
        in_one_word(&all)
    }

    /// A member has agreed to a profile for a link that has tokens: narrows it at once, and keeps the rest. The caller holds
    /// `changing`.
    pub(super) async fn renew(
        &self,
        id: &LinkId,
        profile: &Profile,
        by: &By,
        devices: Vec<DeviceFact>,
    ) -> Result<(), String> {
        self.store_devices().await?;
        let member = by.id()?;
        let change = self.difference(id, profile, &member, devices)?;
        let link = self.state().links.get(id).cloned().ok_or_else(|| no_link(id))?;
        let standing = lock(&self.grants).clone();
        // Whatever widens waits here, commands too: the old tokens may be in other hands.
        let now =
            divide((change.add, change.remove), &standing, |_| true, consent::fresh).map_err(|e| super::chain(&e))?;
        // What waited on this link is what was agreed to before.
        let held = self.waiting_keys(|p| p.grant.link == *id);
        let mut left = standing;
        now.remove.iter().for_each(|id| drop(left.remove(id)));
        left.extend(now.add.iter().map(|g| (g.id.clone(), g.clone())));
        let left: Vec<Grant> = left.into_values().filter(|g| g.link == *id).collect();
        let (add, remove): (Vec<Grant>, Vec<Vec<GrantId>>) = now.later.into_iter().unzip();
        let renewal = Renewal {
            member,
            profile: profile.slug.clone(),
            add,
            remove: remove.into_iter().flatten().collect(),
            standing: in_one_word(&left),
        };
        let whole = vec![(key(id), Some(to_json(&renewal)?))];
        if now.add.is_empty() && now.remove.is_empty() && held.is_empty() {
            self.try_give(renewal.member.as_str(), &[], &[], &whole).await?;
        } else {
            let text = format!(
                "profile {} agreed to anew: {} taken back at once, {} made coarser",
                profile.slug,
                now.remove.len(),
                now.add.len()
            );
            let by = &renewal.member;
            let (add, remove, drafts) = (now.add, now.remove, Vec::new());
            let (links, profile) = (&[link][..], None);
            self.change_grants(Changing { links, add, remove, by, text, profile, drafts, held, whole }).await?;
        }
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
        let (mut after, mut beside) = (None, super::Entries::new());
        if renewal.standing == self.standing(id) {
            let by = By::Member(renewal.member.clone());
            let told = policy::wider(&lock(&self.grants).clone(), &renewal.add);
            // Of a home with several owners some of it goes on waiting, for them.
            let change = self.divided((renewal.add.clone(), renewal.remove.clone()), &by)?;
            let waiting = self.pend(change.later, &by, &mut puts)?;
            let (added, removed) = (change.add.len(), change.remove.len());
            let mut text = format!("profile {} in force anew: {added} granted, {removed} replaced", renewal.profile);
            if let Some((_, from)) = waiting.first() {
                text = format!("{text}; {} wait until {}", waiting.len(), from.to_rfc3339());
            }
            if !told.is_empty() {
                puts.extend(self.notice(&by, &text, told, waiting.first().map(|(_, from)| *from))?);
            }
            self.enroll(id)?;
            let mut link = self.state().links.get(id).cloned().ok_or_else(|| no_link(id))?;
            link.profile.clone_from(&renewal.profile);
            let by = renewal.member.as_str();
            let widened = self.widened((&change.add, &change.remove), by, text, Some(id.clone()), now).await?;
            drafts.push(widened.leaf.clone());
            puts.push((format!("link/{id}"), Some(to_json(&link)?)));
            puts.extend(widened.puts.iter().cloned());
            beside = super::held(widened.begun.writes());
            after = Some(widened);
        } else {
            tracing::warn!(link = %id, "its grants were changed after it was agreed to anew: they stay as they are");
        }
        // When it fails the old tokens and grants stand, and the code is still good.
        let receipts = self.try_give(renewal.member.as_str(), &drafts, &beside, &puts).await?;
        self.keep(&puts);
        lock(&self.renewals).remove(id);
        if let Some(widened) = after {
            if let Some(link) = self.state().links.get_mut(id) {
                link.profile = renewal.profile;
            }
            self.put_in_force(widened.grants, widened.table, widened.begun, now).await;
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

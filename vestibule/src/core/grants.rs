//! Grants one by one: given, taken back, renewed, explained, compared, and as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use disclosure::Refusal;
use ledger::Digest;
use links::Link;
use model::{ALL_RUNGS, ALL_TRIGGERS, DeviceId, GrantId, LinkId, Property, Rung, Timestamp, Trigger};
use policy::{
    Action, Code, Difference, Document, Grant, HOURS_MAX, Name, Table, Terms, WINDOW_MAX_MINUTES, What, Windows,
    days_at_most, difference, in_words, longer,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::consent::{By, Gift, Pending};
use super::{
    BUTTON, BUTTONS, Button, Changing, Core, OWNER, WINDOW, chain, held, lock, no_link, owner, policy_leaf, random_id,
    to_json,
};
use crate::commands::{Doing, GrantSelection, GrantWish};

const DAY_MS: i64 = 86_400_000;

/// A button that is pressed again within this time does nothing.
const PRESS_AGAIN_MS: i64 = 30_000;

/// A press that is older when it would be obeyed, behind a slow disk, is not: whoever pressed may be elsewhere by then.
const PRESS_OBEYED_WITHIN: Duration = Duration::from_secs(5);

/// Characters of a room's name that the record has.
const ROOM_RECORDED_MAX_CHARS: usize = 40;

/// Who opens a window by its button, as the record has it: whoever may speak at the broker.
const BROKER: &str = "mqtt";

/// A change of grants that has been thought through, and not made.
struct Planned {
    links: Vec<LinkId>,
    add: Vec<Grant>,
    remove: Vec<GrantId>,
    difference: Difference,
    longer: Vec<String>,
}

impl Planned {
    /// Stands for what a person was shown: the same only while the same would change.
    fn shown(&self) -> String {
        let all = serde_json::to_vec(&(&self.difference, &self.longer, self.conditions())).unwrap_or_default();
        Digest::of(&all).to_string()
    }

    /// When what is granted counts, and what it is for.
    fn conditions(&self) -> BTreeSet<String> {
        self.add.iter().map(Grant::conditions).filter(|c| !c.is_empty()).collect()
    }
}

impl Core {
    /// Links of a partner, or the one with this id.
    pub(super) fn links_named(&self, who: &str) -> Result<Vec<Link>, String> {
        let gate = self.state();
        let is = |l: &&Link| l.id.as_str() == who || l.partner.as_str() == who;
        let found: Vec<Link> = gate.links.iter().filter(is).cloned().collect();
        if found.is_empty() {
            return Err(format!("`{who}` is neither a linked partner nor a link; `vestibule links` lists them"));
        }
        Ok(found)
    }

    pub(super) fn one_link(&self, who: &str) -> Result<Link, String> {
        let mut found = self.links_named(who)?;
        match (found.pop(), found.is_empty()) {
            (Some(link), true) => Ok(link),
            _ => Err(format!("`{who}` has several links; name one of them by its id (`vestibule links`)")),
        }
    }

    pub(super) fn grants_of(&self, fits: impl Fn(&Grant) -> bool) -> Vec<Grant> {
        lock(&self.grants).values().filter(|g| fits(g)).cloned().collect()
    }

    /// The table as it would be with these grants instead.
    fn compile_with(&self, grants: &[Grant], now: Timestamp) -> Result<Table, String> {
        policy::compile(&self.facts(), grants, self.ceiling.as_deref(), now).map_err(|e| chain(&e))
    }

    /// Thinks a change through: what it would let through, stop, and let last longer.
    fn planned(&self, links: Vec<LinkId>, add: Vec<Grant>, remove: Vec<GrantId>) -> Result<Planned, String> {
        let now = self.now();
        let gone: BTreeSet<&GrantId> = remove.iter().chain(add.iter().map(|g| &g.id)).collect();
        let before = self.grants_of(|_| true);
        let mut after = self.grants_of(|g| !gone.contains(&g.id));
        after.extend(add.iter().cloned());
        let difference = difference(&self.compile_with(&before, now)?, &self.compile_with(&after, now)?);
        Ok(Planned { links, difference, longer: longer(&before, &after), add, remove })
    }

    /// Gives a grant for each device that fits; shows first what it would let through.
    pub(super) async fn grant_add(&self, wish: GrantWish, doing: &Doing) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        self.store_devices().await?;
        let by = self.by(doing.member.as_ref()).await?;
        let planned = self.plan_add(&wish, &by)?;
        // A leaf takes no more.
        let cut = |room: &String| room.chars().take(ROOM_RECORDED_MAX_CHARS).collect::<String>();
        let of = wish.room.as_ref().map_or(String::new(), |room| format!(" for the devices in the room {}", cut(room)));
        let text = format!("{} granted by hand{of}, {} replaced", planned.add.len(), planned.remove.len());
        self.finish_plan(planned, text, &by, doing, &|_| false).await
    }

    fn plan_add(&self, wish: &GrantWish, by: &By) -> Result<Planned, String> {
        let link = self.one_link(&wish.link)?;
        let now = self.now();
        let mut wanted: Vec<What> =
            wish.triggers.iter().map(|t| What::Disclose { trigger: *t, rung: wish.rung }).collect();
        wanted.extend(wish.control.then_some(What::Control { open: false }));
        wanted.extend(wish.open.then_some(What::Control { open: true }));
        if wanted.is_empty() {
            return Err("name what is granted: --trigger (and --rung), --control or --open".into());
        }
        wanted.sort_unstable();
        wanted.dedup();
        if wish.hours.len() > HOURS_MAX {
            return Err(format!("name at most {HOURS_MAX} spans of hours"));
        }
        if wish.code.is_some() && !(wish.control || wish.open) {
            return Err("a code is asked for before a command: name --control or --open with it".into());
        }
        let hands_pins = links::hands_pins(&link.partner);
        if !hands_pins && (wish.code == Some(Code::Pin) || (wish.open && wish.code.is_none())) {
            return Err(format!(
                "{} hands no PIN over: it asks for a code of its own before it sends an order to unlock or open, as far as it \
                 is set up in its app. If that is enough for you, say --partner-code; else leave --open out",
                link.partner
            ));
        }
        let property = wish.property;
        if !property.takes(wish.rung) && !wish.triggers.is_empty() {
            let all: Vec<&str> = ALL_RUNGS.iter().filter(|r| property.takes(**r)).map(|r| r.as_str()).collect();
            return Err(format!("the {} has no rung {}: it has {}", property.label(), wish.rung, all.join(", ")));
        }
        if wish.rung == Rung::DayCount && !wish.triggers.is_empty() && !links::is_agent(&link.partner) {
            return Err(format!(
                "{} has no word for how often something happened: agents alone are told {}",
                link.partner, wish.rung
            ));
        }
        let describes = property.is_metadata() || property == Property::Reachable;
        if describes && (wish.window.is_some() || !wish.hours.is_empty()) {
            return Err(format!("the {} counts at all times: leave out --hours and --window", property.label()));
        }
        let facts = self.facts();
        let in_room = wish.room.as_deref().map(|room| self.devices_in(room)).transpose()?;
        let fits = |d: &&policy::DeviceFact| {
            in_room.as_ref().is_none_or(|all| all.contains(&d.device))
                && wish.device.as_ref().is_none_or(|id| d.device == *id)
                && d.properties.iter().any(|(p, kind)| *p == property && wish.kind.is_none_or(|k| *kind == k))
        };
        let devices: Vec<&policy::DeviceFact> = facts.devices.iter().filter(fits).collect();
        if devices.is_empty() {
            let of = match (&wish.device, &wish.room) {
                (Some(device), None) => format!("`{device}`"),
                (Some(device), Some(room)) => format!("no device `{device}` in the room `{room}`"),
                (None, Some(room)) => format!("no device in the room `{room}`"),
                (None, None) => "no device".to_owned(),
            };
            return Err(format!("{of} has {}; `vestibule devices` lists what there is", property.as_str()));
        }
        let existing = self.grants_of(|g| g.link == link.id);
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        let granted_by = by.id()?;
        let terms = Terms { now, affects: self.affected(&granted_by), granted_by };
        let new = |device: &DeviceId, property: Property, what: What| -> Result<Grant, String> {
            let days = wish.days.map_or(days_at_most(what), i64::from);
            if !(1..=days_at_most(what)).contains(&days) {
                let most = days_at_most(what);
                return Err(format!(
                    "{}: a grant of it lasts 1 to {most} days, then it is asked for again",
                    in_words(what)
                ));
            }
            let cell = (facts.household.clone(), link.id.clone(), device.clone(), property);
            Ok(Grant {
                expires: Some(now.plus_millis(days * DAY_MS)),
                hours: wish.hours.clone(),
                window: wish.window.clone(),
                routine: wish.routine.clone(),
                code: wish.code.filter(|_| matches!(what, What::Control { .. })),
                ..Grant::new(GrantId::new(random_id("g")?).map_err(|e| e.to_string())?, cell, what, &terms)
            })
        };
        for device in devices {
            for what in &wanted {
                // One grant of one thing: the same again lasts longer, and a new rung takes the place of the old one.
                let granted = new(&device.device, property, *what)?;
                let same = |g: &&Grant| g.device == device.device && g.property == property && g.what.is_same(*what);
                let mut standing: Vec<&Grant> = existing.iter().filter(same).collect();
                let kept = standing.iter().position(|g| g.what == *what).map(|at| standing.remove(at));
                remove.extend(standing.into_iter().map(|g| g.id.clone()));
                add.push(Grant { id: kept.map_or(granted.id.clone(), |g| g.id.clone()), ..granted });
            }
            // Nothing of a device can be told or commanded unless the partner may know what it is, for as long.
            if property == Property::DeviceTypeName {
                continue;
            }
            let typed = What::Disclose { trigger: Trigger::Discovery, rung: Rung::Live };
            let of_type = |g: &&Grant| {
                g.device == device.device && g.property == Property::DeviceTypeName && g.what.is_same(typed)
            };
            let known: Vec<&Grant> = existing.iter().filter(of_type).collect();
            let needed = add.iter().filter(|g| g.device == device.device).map(|g| g.expires).max().flatten();
            let lasts = |g: &Grant| match (g.expires, needed) {
                (Some(end), Some(needed)) => end.plus_millis(DAY_MS) >= needed,
                (end, _) => end.is_none(),
            };
            if !known.iter().any(|g| lasts(g)) {
                let granted = new(&device.device, Property::DeviceTypeName, typed)?;
                let id = known.first().map_or(granted.id.clone(), |g| g.id.clone());
                // That there is such a device is told at all hours: it would come and go otherwise.
                add.push(Grant { id, expires: needed, hours: Vec::new(), window: None, ..granted });
            }
        }
        remove.sort();
        remove.dedup();
        let allowed = self.compile_with(&add, now)?;
        for grant in &add {
            let refused = match grant.what {
                What::Disclose { trigger, .. } => {
                    allowed.decide(&link.id, &grant.device, grant.property, trigger).rung.err()
                }
                What::Control { open } => allowed.may(&link.id, &grant.device, grant.property, open).err(),
            };
            if refused.is_some() {
                let (label, device) = (grant.property.label(), &grant.device);
                let by = forbidding(&allowed, &link.id, grant);
                return Err(format!(
                    "the {label} of `{device}` can't be granted so: {by} forbids it, whatever is granted"
                ));
            }
        }
        self.planned(vec![link.id], add, remove)
    }

    /// Makes a planned change, or only shows it. All of it is made, or nothing is granted. `unmeant` is what waits and goes with it.
    async fn finish_plan(
        &self,
        planned: Planned,
        text: String,
        by: &By,
        doing: &Doing,
        unmeant: &(dyn Fn(&Pending) -> bool + Sync),
    ) -> Result<Value, String> {
        let shown = planned.shown();
        if doing.shown.as_ref().is_some_and(|before| *before != shown) {
            return Err("the home or its grants have changed since this was shown: nothing was done; look again".into());
        }
        let conditions = planned.conditions();
        let Planned { links, add, remove, difference, longer } = planned;
        let waits = self.would_wait((add.clone(), remove.clone()), unmeant, by)?;
        let mut answer = json!({
            "links": links, "added": add.len(), "removed": remove.len(), "applied": doing.apply, "shown": shown,
            "conditions": conditions, "waits": waits, "waiting": [],
            "grants": add.iter().map(|g| &g.id).collect::<Vec<_>>(), "difference": difference, "longer": longer,
        });
        let changes = !(add.is_empty() && remove.is_empty() && self.waiting_keys(unmeant).is_empty());
        if doing.apply && changes {
            let links = links.iter().map(|id| self.enroll(id)).collect::<Result<Vec<_>, _>>()?;
            let mut held = Vec::new();
            for link in &links {
                held.push((format!("link/{}", link.id), Some(to_json(link)?)));
            }
            let gift = Gift { links: &links, add, remove, unmeant, text, profile: None, held };
            answer["waiting"] = json!(self.give(gift, by).await?);
        }
        Ok(answer)
    }

    /// The grants, newest last.
    pub(super) fn grant_list(&self, who: Option<&str>) -> Result<Value, String> {
        let links: Option<BTreeSet<LinkId>> =
            who.map(|who| self.links_named(who)).transpose()?.map(|l| l.into_iter().map(|l| l.id).collect());
        let now = self.now();
        let windows = lock(&self.windows).clone();
        let moment = self.at_moment(&windows, now);
        let mut grants = self.grants_of(|g| links.as_ref().is_none_or(|l| l.contains(&g.link)));
        grants.sort_by(|a, b| (&a.link, &a.device, a.property, a.what).cmp(&(&b.link, &b.device, b.property, b.what)));
        let row = |g: &Grant, waits: Option<Value>| {
            let days = g.expires.map(|t| (t.as_millis() - now.as_millis()).div_euclid(DAY_MS));
            let mut row = serde_json::to_value(g).unwrap_or_default();
            let in_force = waits.as_ref().map(in_force_when);
            let conditions: Vec<String> =
                in_force.into_iter().chain([g.conditions()]).filter(|c| !c.is_empty()).collect();
            let conditions = conditions.join(", ");
            row["words"] = json!(in_words(g.what));
            row["counts_now"] = json!(waits.is_none() && moment.meets(g));
            row["waits"] = json!(waits);
            row["conditions"] = json!(conditions);
            row["created"] = json!(g.created.to_rfc3339());
            row["expires"] = json!(g.expires.map(Timestamp::to_rfc3339));
            row["days_left"] = json!(days);
            row
        };
        let mut rows: Vec<Value> = grants.iter().map(|g| row(g, None)).collect();
        let waiting = self.pending_rows().into_iter();
        let waiting = waiting.filter(|(g, _)| links.as_ref().is_none_or(|l| l.contains(&g.link)));
        rows.extend(waiting.map(|(g, waits)| row(&g, Some(waits))));
        Ok(Value::Array(rows))
    }

    /// Whether a selection names a grant.
    pub(super) fn fitting<'a>(
        &self,
        selection: &'a GrantSelection,
    ) -> Result<impl Fn(&Grant) -> bool + use<'a>, String> {
        let links: Option<BTreeSet<LinkId>> = match &selection.link {
            Some(who) => Some(self.links_named(who)?.into_iter().map(|l| l.id).collect()),
            None => None,
        };
        let in_room = selection.room.as_deref().map(|room| self.devices_in(room)).transpose()?;
        let names_none =
            selection.ids.is_empty() && links.is_none() && selection.routine.is_none() && in_room.is_none();
        if names_none && selection.device.is_none() && selection.property.is_none() {
            return Err(
                "name the grants: by id (`vestibule grant list`), --link, --routine, --device, --room or --property"
                    .into(),
            );
        }
        Ok(move |g: &Grant| {
            (selection.ids.is_empty() || selection.ids.contains(&g.id))
                && links.as_ref().is_none_or(|l| l.contains(&g.link))
                && selection.routine.as_ref().is_none_or(|r| g.routine.as_ref() == Some(r))
                && selection.device.as_ref().is_none_or(|d| g.device == *d)
                && in_room.as_ref().is_none_or(|all| all.contains(&g.device))
                && selection.property.is_none_or(|p| g.property == p)
        })
    }

    /// The grants in force that a selection names, and what it names of those that wait.
    fn selected(&self, selection: &GrantSelection) -> Result<(Vec<Grant>, BTreeSet<GrantId>), String> {
        let found = self.grants_of(self.fitting(selection)?);
        let waiting: BTreeSet<GrantId> = self.pending_selected(selection)?.into_iter().map(|p| p.grant.id).collect();
        let there: BTreeSet<&GrantId> = found.iter().map(|g| &g.id).chain(&waiting).collect();
        if let Some(missing) = selection.ids.iter().find(|id| !there.contains(id)) {
            return Err(format!("there is no grant `{missing}` among those named; `vestibule grant list` lists them"));
        }
        if found.is_empty() && waiting.is_empty() {
            return Err("no grant is named by this; `vestibule grant list` lists them".into());
        }
        Ok((found, waiting))
    }

    /// Takes grants back: in force at once.
    pub(super) async fn grant_revoke(&self, selection: &GrantSelection) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let (grants, waiting) = self.selected(selection)?;
        let links = self.links_of(&grants)?;
        let remove: Vec<GrantId> = grants.into_iter().map(|g| g.id).collect();
        let is_meant = |p: &Pending| waiting.contains(&p.grant.id) || p.replaces.iter().any(|id| remove.contains(id));
        let held = self.waiting_keys(is_meant);
        let (removed, waited) = (remove.len(), held.len());
        let planned = self.planned(links.iter().map(|l| l.id.clone()).collect(), Vec::new(), remove)?;
        let text = match (removed, waited) {
            (removed, 0) => format!("{removed} grants taken back"),
            (0, waited) => format!("{waited} grants that waited are taken back"),
            (removed, waited) => format!("{removed} grants taken back, and {waited} that waited"),
        };
        self.change_grants(Changing {
            links: &links,
            add: Vec::new(),
            remove: planned.remove,
            by: &owner()?,
            text,
            profile: None,
            drafts: Vec::new(),
            held,
            whole: Vec::new(),
        })
        .await?;
        Ok(json!({"removed": removed + waited, "stops": planned.difference.stops}))
    }

    /// Renews grants: the same for as long again, never for less.
    pub(super) async fn grant_renew(&self, selection: &GrantSelection, days: Option<u16>) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let now = self.now();
        let by = owner()?;
        let (grants, _) = self.selected(selection)?;
        let links = self.links_of(&grants)?;
        let mut add = Vec::new();
        for grant in grants {
            let most = days_at_most(grant.what);
            let days = days.map_or(most, i64::from);
            if !(1..=most).contains(&days) {
                return Err(format!("`{}` lasts 1 to {most} days, then it is asked for again", grant.id));
            }
            let expires = grant.expires.map(|t| t.max(now.plus_millis(days * DAY_MS)));
            // What told a rung less since it expired goes on so: the finer rung is asked for by `grant add`.
            let (granted_by, affects) = (by.clone(), self.affected(&by));
            add.push(Grant { expires, granted_by, affects, created: now, stepped_down: false, ..grant });
        }
        let renewed = add.len();
        if renewed == 0 {
            return Err("what is named by this waits, and has nothing to renew".into());
        }
        let gift = Gift {
            links: &links,
            add,
            remove: Vec::new(),
            unmeant: &|_| false,
            text: format!("{renewed} grants renewed"),
            profile: None,
            held: Vec::new(),
        };
        let waiting = self.give(gift, &By::Shell).await?;
        Ok(json!({"renewed": renewed, "waiting": waiting}))
    }

    /// The windows that grants name, and those that are open.
    pub(super) fn window_rows(&self) -> Value {
        let open = lock(&self.windows).clone();
        let named = self.grants_of(|g| g.window.is_some());
        let names: BTreeSet<&Name> = named.iter().filter_map(|g| g.window.as_ref()).chain(open.keys()).collect();
        let buttons = lock(&self.buttons).clone();
        let row = |name: &Name| {
            let grants = named.iter().filter(|g| g.window.as_ref() == Some(name)).count();
            let button = buttons.get(name).copied().unwrap_or_default();
            json!({
                "window": name, "open_until": open.get(name).map(|t| t.to_rfc3339()), "grants": grants,
                "minutes": button.minutes, "button": !button.off,
            })
        };
        Value::Array(names.into_iter().map(row).collect())
    }

    /// Says for how many minutes a window opens where nobody says otherwise, and whether it has a button at the broker.
    pub(super) async fn window_button(
        &self,
        name: Name,
        minutes: Option<u16>,
        off: Option<bool>,
    ) -> Result<Value, String> {
        let before = lock(&self.buttons).get(&name).copied().unwrap_or_default();
        let button = Button { minutes: minutes.unwrap_or(before.minutes), off: off.unwrap_or(before.off) };
        if !(1..=WINDOW_MAX_MINUTES).contains(&button.minutes) {
            return Err(format!("a window is open for 1 to {WINDOW_MAX_MINUTES} minutes"));
        }
        let _one = self.changing.lock().await;
        if self.grants_of(|g| g.window.as_ref() == Some(&name)).is_empty() {
            return Err(no_window(&name));
        }
        self.try_append(&[], &[(format!("{BUTTON}{name}"), Some(to_json(&button)?))]).await?;
        lock(&self.buttons).insert(name.clone(), button);
        Ok(json!({"window": name, "minutes": button.minutes, "button": !button.off}))
    }

    /// The windows that have a button, each with for how many minutes it opens.
    pub fn buttons(&self) -> Vec<(Name, u16)> {
        let named: BTreeSet<Name> =
            self.grants_of(|g| g.window.is_some()).into_iter().filter_map(|g| g.window).collect();
        let settings = lock(&self.buttons);
        let of = |name: Name| {
            let button = settings.get(&name).copied().unwrap_or_default();
            (!button.off).then_some((name, button.minutes))
        };
        named.into_iter().filter_map(of).take(crate::windows::BUTTONS_MAX).collect()
    }

    /// Which buttons have been announced at the broker, by their names there.
    pub fn announced_buttons(&self) -> BTreeSet<String> {
        lock(&self.announced_buttons).clone()
    }

    /// Stores that.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn keep_announced(&self, slugs: &BTreeSet<String>) -> Result<(), String> {
        self.try_append(&[], &[(BUTTONS.to_owned(), Some(to_json(slugs)?))]).await?;
        lock(&self.announced_buttons).clone_from(slugs);
        Ok(())
    }

    /// Somebody has pressed a window's button, then. Pressed again right away it does nothing, so that nobody fills the record by it.
    ///
    /// # Errors
    /// Why the window was not opened.
    pub async fn window_pressed(&self, name: &Name, at: Instant) -> Result<(), String> {
        let minutes = lock(&self.buttons).get(name).copied().unwrap_or_default().minutes;
        let since = lock(&self.windows).get(name).map(|until| until.plus_millis(-i64::from(minutes) * 60_000));
        if since.is_some_and(|since| self.now().as_millis() - since.as_millis() < PRESS_AGAIN_MS) {
            return Ok(());
        }
        self.window_open(name.clone(), Some(minutes), Some(at)).await.map(drop)
    }

    /// Opens a window: what it lets through is recorded first. `pressed` is when its button was, if it was that.
    pub(super) async fn window_open(
        &self,
        name: Name,
        minutes: Option<u16>,
        pressed: Option<Instant>,
    ) -> Result<Value, String> {
        let usual = lock(&self.buttons).get(&name).copied().unwrap_or_default().minutes;
        let minutes = minutes.unwrap_or(usual);
        if !(1..=WINDOW_MAX_MINUTES).contains(&minutes) {
            return Err(format!("a window is open for 1 to {WINDOW_MAX_MINUTES} minutes"));
        }
        let _one = self.changing.lock().await;
        let named = self.grants_of(|g| g.window.as_ref() == Some(&name));
        if named.is_empty() {
            return Err(no_window(&name));
        }
        // Its minutes would begin when nobody thinks of it any more.
        if self.clock.stands() {
            return Err("the clock was set back: windows are shut until it has caught up; see that it is right".into());
        }
        let now = self.now();
        let until = now.plus_millis(i64::from(minutes) * 60_000);
        let mut windows = lock(&self.windows).clone();
        windows.insert(name.clone(), until);
        let table = self.compile_under(self.grants_of(|_| true), windows.clone(), now).await?;
        let (by, how) = if pressed.is_some() { (BROKER, ", by its button") } else { (OWNER, "") };
        let change = format!("window {name} opened until {}, for {} grants{how}", until.to_rfc3339(), named.len());
        let entry = (format!("{WINDOW}{name}"), Some(to_json(&until.as_millis())?));
        let is_late = || pressed.is_some_and(|at| at.elapsed() > PRESS_OBEYED_WITHIN);
        let late = || {
            let most = PRESS_OBEYED_WITHIN.as_secs();
            format!("its button was pressed more than {most} seconds ago: press it again, if it is still meant")
        };
        if is_late() {
            return Err(late());
        }
        // It is stored as open only once it is: after a restart in between nobody has opened it.
        self.try_give(by, &[self.window_leaf(&table, change, by)?], &[], &[]).await?;
        if is_late() {
            // It is on record, and has let nothing through.
            let text = format!("window {name} was not opened after all: {}", late());
            let next = Digest::new(self.state().table().policy_hash());
            let hashes = (Digest::new(table.policy_hash()), next);
            let leaf = policy_leaf(self.now(), hashes, by, text, None, Vec::new())?;
            if self.try_append(std::slice::from_ref(&leaf), &[]).await.is_err() {
                self.owed.later(vec![leaf], Vec::new());
            }
            return Err(late());
        }
        *lock(&self.windows) = windows;
        let mut entries = held(self.state().replace_table(Arc::new(table), now));
        entries.push(entry);
        if let Err(error) = self.put(entries).await {
            tracing::error!(%error, "that a window is open could not be stored: a restart would shut it");
        }
        Ok(json!({"window": name, "open_until": until.to_rfc3339(), "grants": named.len()}))
    }

    /// Closes a window: in force at once.
    pub(super) async fn window_close(&self, name: &Name) -> Result<Value, String> {
        let _one = self.changing.lock().await;
        let mut windows: Windows = lock(&self.windows).clone();
        if windows.remove(name).is_none() {
            return Err(format!("the window \u{201c}{name}\u{201d} is not open; `vestibule window list` lists them"));
        }
        let now = self.now();
        let table = self.compile_under(self.grants_of(|_| true), windows.clone(), now).await?;
        let leaf = self.window_leaf(&table, format!("window {name} closed"), OWNER)?;
        *lock(&self.windows) = windows;
        let mut entries = held(self.state().replace_table(Arc::new(table), now));
        entries.push((format!("{WINDOW}{name}"), None));
        self.append(vec![leaf], entries).await?;
        Ok(json!({"window": name}))
    }

    fn window_leaf(&self, table: &Table, change: String, by: &str) -> Result<ledger::Draft, String> {
        let previous = Digest::new(self.state().table().policy_hash());
        let next = Digest::new(table.policy_hash());
        policy_leaf(self.now(), (previous, next), by, change, None, Vec::new())
    }

    /// The links of grants, each once.
    fn links_of(&self, grants: &[Grant]) -> Result<Vec<Link>, String> {
        let ids: BTreeSet<&LinkId> = grants.iter().map(|g| &g.link).collect();
        let gate = self.state();
        ids.into_iter().map(|id| gate.links.get(id).cloned().ok_or_else(|| no_link(id))).collect()
    }

    /// Why a partner is told a property, or may command it, or not, device by device, and what would change it.
    pub(super) async fn policy_explain(
        &self,
        who: &str,
        property: Property,
        action: Option<Action>,
    ) -> Result<Value, String> {
        self.bring_up_to_date().await;
        let links = self.links_named(who)?;
        let table = Arc::clone(self.state().table());
        let devices: Vec<DeviceId> = {
            let facts = self.facts();
            let has = |d: &policy::DeviceFact| d.properties.iter().any(|(p, _)| *p == property);
            facts.devices.into_iter().filter(has).map(|d| d.device).collect()
        };
        if devices.is_empty() {
            return Err(format!("no device has {}; `vestibule devices` lists what there is", property.as_str()));
        }
        let actions = action.map_or(ALL_TRIGGERS.map(Action::Told).to_vec(), |action| vec![action]);
        let mut rows = Vec::new();
        for link in &links {
            for device in &devices {
                for action in &actions {
                    rows.push(self.explained(&table, link, device, property, *action));
                }
            }
        }
        Ok(Value::Array(rows))
    }

    /// Grants that fit and give nothing now, with when they will: those that wait for owners, for their hours or for a window.
    pub(super) fn waiting(&self, fits: impl Fn(&Grant) -> bool) -> Vec<(Grant, String)> {
        let now = self.now();
        let windows = lock(&self.windows).clone();
        let moment = self.at_moment(&windows, now);
        let conditional = self.grants_of(|g| fits(g) && !moment.meets(g)).into_iter().map(|g| {
            let when = g.conditions();
            (g, when)
        });
        let pending = self.pending_rows().into_iter().filter(|(g, _)| fits(g)).map(|(g, waits)| {
            let when = [in_force_when(&waits), g.conditions()];
            (g, when.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(", "))
        });
        conditional.chain(pending).collect()
    }

    fn explained(&self, table: &Table, link: &Link, device: &DeviceId, property: Property, action: Action) -> Value {
        let decision = table.decide_action(&link.id, device, property, action);
        let mut grants = Vec::new();
        for policy in decision.policies.iter() {
            let id = GrantId::new(policy.as_str()).ok();
            grants.extend(id.and_then(|id| lock(&self.grants).get(&id).cloned()));
        }
        let waiting: Vec<(Grant, String)> = match decision.rung {
            Err(Refusal::NoGrant) => self
                .waiting(|g| (&g.link, &g.device, g.property) == (&link.id, device, property) && action.is_of(g.what)),
            _ => Vec::new(),
        };
        let add =
            |what: String| format!("vestibule grant add {} {} --device {device} {what}", link.id, property.as_str());
        let change = match (decision.rung, action) {
            (Err(_), _) if !waiting.is_empty() => {
                let when: Vec<&str> = waiting.iter().map(|(_, when)| when.as_str()).collect();
                format!("nothing: it is granted, {}", when.join("; "))
            }
            (Ok(_), _) if grants.is_empty() => String::new(),
            (Ok(_), _) => {
                let ids: Vec<&str> = grants.iter().map(|g| g.id.as_str()).collect();
                format!("vestibule grant revoke {}", ids.join(" "))
            }
            // Discovery tells what a device is, and of its readings nothing.
            (Err(Refusal::NoGrant), Action::Told(trigger))
                if property.is_metadata() != (trigger == Trigger::Discovery) =>
            {
                "nothing: there it is never told".to_owned()
            }
            (Err(Refusal::NoGrant), Action::Told(trigger)) => {
                let rung = if property.is_live_only() { Rung::Live } else { Rung::HourCoarse };
                add(format!("--trigger {trigger} --rung {rung}"))
            }
            (Err(Refusal::NoGrant), _) if !self.is_commanded(device, property, action) => {
                "nothing: the device takes no such command".to_owned()
            }
            (Err(Refusal::NoGrant), Action::Control) => add("--control".to_owned()),
            (Err(Refusal::NoGrant), Action::Open) if links::hands_pins(&link.partner) => add("--open".to_owned()),
            (Err(Refusal::NoGrant), Action::Open) => add("--open --partner-code".to_owned()),
            (Err(_), _) => "nothing that this household can do: the ceiling stands above its grants".to_owned(),
        };
        let needs = match decision.rung {
            Ok(_) => self.needed(table, link, device, property, action),
            Err(_) => None,
        };
        let trigger = match action {
            Action::Told(trigger) => Some(trigger),
            Action::Control | Action::Open => None,
        };
        json!({
            "link": link.id, "partner": link.partner, "device": device, "property": property, "trigger": trigger,
            "action": action.as_str(), "allowed": decision.rung.is_ok(), "rung": decision.rung.ok().filter(|_| trigger.is_some()),
            "refusal": decision.rung.err().map(|r| r.as_str()), "needs": needs,
            "policies": decision.policies.to_vec(), "why": table.explain(&link.id, device, property, action),
            "granted": grants.iter().map(|g| (g, g.conditions())).chain(waiting.iter().map(|(g, w)| (g, w.clone()))).map(|(g, when)| json!({
                "conditions": when, "id": g.id, "by": g.granted_by, "affects": g.affects, "created": g.created.to_rfc3339(),
                "expires": g.expires.map(Timestamp::to_rfc3339), "profile": g.profile,
            })).collect::<Vec<_>>(),
            "change": change,
        })
    }

    /// Whether a device takes this sort of command for a property.
    fn is_commanded(&self, device: &DeviceId, property: Property, action: Action) -> bool {
        let gate = self.state();
        let known = gate.registry.get(device);
        known.is_some_and(|d| {
            d.description.properties.get(&property).is_some_and(|p| p.command)
                && (action != Action::Open || policy::opens(property, d.kind(property)))
        })
    }

    /// What a command that is allowed needs beside that, and does not have.
    fn needed(
        &self,
        table: &Table,
        link: &Link,
        device: &DeviceId,
        property: Property,
        action: Action,
    ) -> Option<String> {
        let open = match action {
            Action::Told(_) => return None,
            Action::Control => false,
            Action::Open => true,
        };
        let id = &link.id;
        if !self.is_commanded(device, property, action) {
            return Some("a device that takes such a command: this one does not".to_owned());
        }
        if table.decide(id, device, Property::DeviceTypeName, Trigger::Discovery).rung.is_err() {
            let name = Property::DeviceTypeName.as_str();
            return Some(format!(
                "to know of the device: vestibule grant add {id} {name} --device {device} --trigger discovery --rung live"
            ));
        }
        if table.code(id, device, property, open) != Some(Code::Pin) {
            return None;
        }
        match lock(&self.pins).get(id) {
            None => Some(format!("a PIN, and the link has none: vestibule pin set {id}")),
            Some(pin) => pin
                .locked(self.now())
                .map(|until| format!("a PIN, and none is taken until {}, for too many were wrong", until.to_rfc3339())),
        }
    }

    /// What works at each link, and what does not.
    pub(super) async fn policy_impact(&self, who: Option<&str>) -> Result<Value, String> {
        self.bring_up_to_date().await;
        let links = match who {
            Some(who) => self.links_named(who)?,
            None => self.state().links.iter().cloned().collect(),
        };
        let (table, facts) = (Arc::clone(self.state().table()), self.facts());
        // What is never sent starts nothing.
        let reporting: Vec<LinkId> = {
            let state = self.state();
            links.iter().filter(|l| state.is_reporting(&l.id)).map(|l| l.id.clone()).collect()
        };
        let rows = links.iter().flat_map(|link| policy::impact(&table, &facts, &link.id, reporting.contains(&link.id)));
        serde_json::to_value(rows.collect::<Vec<_>>()).map_err(|e| e.to_string())
    }

    /// All grants, in either form.
    pub(super) fn policy_export(&self, cedar: bool) -> Result<Value, String> {
        let document = Document::new(self.household.clone(), self.grants_of(|_| true));
        let text = if cedar {
            document.to_cedar()
        } else {
            serde_json::to_string_pretty(&document).map(|t| format!("{t}\n")).map_err(|e| e.to_string())?
        };
        Ok(json!({"text": text, "grants": document.grants.len()}))
    }

    /// What the grants of a file would let through and stop, in place of those in force.
    pub(super) fn policy_diff(&self, document: Option<&str>, ceiling: Option<&str>) -> Result<Value, String> {
        let (now, standing) = (self.now(), self.grants_of(|_| true));
        let grants = match document {
            Some(text) => self.read_document(text)?.grants,
            None => standing.clone(),
        };
        let before = self.compile_with(&standing, now)?;
        let after = match ceiling {
            Some(_) => policy::compile(&self.facts(), &grants, ceiling, now).map_err(|e| chain(&e))?,
            None => self.compile_with(&grants, now)?,
        };
        let difference = difference(&before, &after);
        let longer = longer(&standing, &grants);
        let example = difference.flows.first().or(difference.stops.first()).map(|c| c.words.clone());
        Ok(json!({
            "only_narrows": difference.flows.is_empty() && longer.is_empty(), "example": example,
            "flows": difference.flows, "stops": difference.stops, "longer": longer,
        }))
    }

    /// Puts the grants of a file in the place of those in force; without `apply`, only shows the difference.
    pub(super) async fn policy_import(&self, text: &str, doing: &Doing) -> Result<Value, String> {
        let document = self.read_document(text)?;
        let _one = self.changing.lock().await;
        self.store_devices().await?;
        self.known_to_the_home(&document)?;
        let now = self.now();
        let by = self.by(doing.member.as_ref()).await?;
        let giver = by.id()?;
        let affects = self.affected(&giver);
        let standing: BTreeMap<GrantId, Grant> = lock(&self.grants).clone();
        let is_kept = |g: &&Grant| standing.get(&g.id) == Some(*g);
        let kept: BTreeSet<&GrantId> = document.grants.iter().filter(is_kept).map(|g| &g.id).collect();
        let mut add = Vec::new();
        for grant in document.grants.iter().filter(|g| !kept.contains(&g.id)) {
            // Consent is given by whoever imports, now: a file can't give it in another's name, nor for longer, nor under
            // the name of a profile.
            let longest = now.plus_millis(days_at_most(grant.what) * DAY_MS);
            add.push(Grant {
                id: GrantId::new(random_id("g")?).map_err(|e| e.to_string())?,
                expires: Some(grant.expires.map_or(longest, |t| t.min(longest))),
                granted_by: giver.clone(),
                affects: affects.clone(),
                created: now,
                profile: None,
                ..grant.clone()
            });
        }
        let remove: Vec<GrantId> = standing.keys().filter(|id| !kept.contains(id)).cloned().collect();
        let touched = add.iter().map(|g| &g.link).chain(remove.iter().filter_map(|id| Some(&standing.get(id)?.link)));
        let links: BTreeSet<LinkId> = touched.cloned().collect();
        let wanted = add.clone();
        let change = format!("grants imported: {} granted, {} taken back", add.len(), remove.len());
        let planned = self.planned(links.into_iter().collect(), add, remove)?;
        // What waits and is not in the file is not meant any more.
        let is_left = |p: &Pending| !wanted.iter().any(|g| policy::is_of_same(g, &p.grant));
        self.finish_plan(planned, change, &by, doing, &is_left).await
    }

    /// A document of this household.
    pub(super) fn read_document(&self, text: &str) -> Result<Document, String> {
        let document = Document::parse(text).map_err(|e| chain(&e))?;
        if document.household != self.household {
            return Err(format!(
                "the file is of the household `{}`, and this one is `{}`",
                document.household, self.household
            ));
        }
        self.known_to_the_home(&document)?;
        Ok(document)
    }

    /// Whether there are the links and devices that a document speaks of.
    fn known_to_the_home(&self, document: &Document) -> Result<(), String> {
        let gate = self.state();
        for grant in &document.grants {
            if gate.links.get(&grant.link).is_none() {
                return Err(format!("grant `{}`: {}", grant.id, no_link(&grant.link)));
            }
            if gate.registry.get(&grant.device).is_none() {
                return Err(format!("grant `{}`: there is no device `{}`", grant.id, grant.device));
            }
        }
        Ok(())
    }
}

fn no_window(name: &Name) -> String {
    format!("no grant is for a window \u{201c}{name}\u{201d}; `vestibule window list` lists them")
}

/// When something that waits takes force, in words.
fn in_force_when(waits: &Value) -> String {
    let missing: Vec<&str> = waits["missing"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let until = waits["until"].as_str().unwrap_or_default();
    format!("waits until {until}, or until {} confirms", missing.join(" and "))
}

/// The ceiling's policies that stand against a grant.
fn forbidding(table: &Table, link: &LinkId, grant: &Grant) -> String {
    let row = table
        .matrix()
        .into_iter()
        .find(|r| r.link == *link && r.device == grant.device && r.property == grant.property);
    let named = row.map(|r| r.policies).unwrap_or_default();
    let ceiling: Vec<String> = named.into_iter().filter(|p| *p != grant.id.to_string()).collect();
    if ceiling.is_empty() { "the ceiling".to_owned() } else { ceiling.join(", ") }
}

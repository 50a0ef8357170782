//! What each link would have been sent over the home's own recorded days, by the code that answers it today.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use exposure::{Count, Recorded, Span};
use home::Reading;
use jiff::tz::TimeZone;
use links::Link;
use model::{EndpointId, GrantId, Timestamp};
use policy::{Grant, Moment, Name, Table, Windows};
use serde_json::{Value, json};
use store::ledger::Filter;

use super::{CLOCK_SET_BACK, Core, blocking, chain, lock, table_at};
use crate::infer::Days;

/// Most days that are played at once.
const DAYS_MAX: i64 = 31;

const DAY_MS: i64 = 86_400_000;

/// So much of the history before the days is looked at as well: the day before, whole, whenever the first one begins.
const BEFORE_MS: i64 = 2 * DAY_MS + 3_600_000;

/// Commands that are read from the ledger at once.
const COMMANDS_AT_ONCE: usize = 1000;

/// Readings of all devices that are looked at at once; of what lies before the days that are asked for, so many again.
const READINGS_MAX: usize = 2_000_000;

/// Bytes of the messages that are listed, of all links together; further ones are counted alone.
const LISTED_MAX_BYTES: usize = 32 << 20;

/// What stands beside the body of a listed message takes no more than so many bytes.
const LISTED_BESIDE_BYTES: usize = 512;

/// Messages of one link that are listed; further ones are counted alone. A message that says what the last one about its
/// device said is listed with that.
const LISTED_MAX: usize = 20_000;

impl Core {
    /// What each link would have been sent from `from` up to `to`, if these grants had been in force all the time, under
    /// this ceiling or the one that stands.
    pub(super) async fn policy_simulate(
        &self,
        from: &str,
        to: &str,
        (document, ceiling): (Option<&str>, Option<String>),
        every: u16,
    ) -> Result<Value, String> {
        self.bring_up_to_date().await;
        let span = Span { from: self.moment(from)?, to: self.moment(to)? };
        let days = span.to.as_millis().saturating_sub(span.from.as_millis());
        // A day on which the clock is set back has an hour more.
        if !(1..=DAYS_MAX * DAY_MS + 60 * 60_000).contains(&days) {
            return Err(format!("--to is after --from, by {DAYS_MAX} days at most"));
        }
        let now = self.now();
        let grants: Vec<Grant> = match document {
            Some(text) => self.read_document(text)?.grants,
            None => lock(&self.grants).values().cloned().collect(),
        };
        let (facts, ceiling) = (self.facts(), ceiling.or_else(|| self.ceiling.clone()));
        // What was told in the first hours follows from the days before: a mean, a held value.
        let recorded = self.recorded(span, BEFORE_MS).await?;
        let links: Vec<Link> = self.state().links.iter().cloned().collect();
        let poll_ms = i64::from(every) * 60_000;
        // Those that have ended by now are not among them, and the others stand all the time.
        let grants: Vec<Grant> = grants.into_iter().filter(|g| g.holds_at(now)).collect();
        let opened = self.opened_windows(&grants, span)?;
        blocking(move || {
            let named: BTreeSet<&Name> = grants.iter().filter_map(|g| g.window.as_ref()).collect();
            let shut: Vec<Name> =
                named.into_iter().filter(|name| opened.iter().all(|o| o.name != **name)).cloned().collect();
            let standing = grants.into_iter().map(|g| Grant { expires: None, ..g }).collect();
            let tables = tables_over(span, (&facts, standing, ceiling.as_deref()), &recorded.zone, &opened)?;
            let mut room = LISTED_MAX_BYTES;
            let one = |mut link: Link| {
                // What was never granted to it before gets its id now, as a grant would give it.
                link.enroll(recorded.devices.iter().map(|(id, device)| (id, device.device_type())));
                of_link(&recorded, (&link, &tables), span, poll_ms, &mut room)
            };
            let links = links.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
            let row =
                |o: &Opened| json!({"window": o.name, "from": o.from.to_rfc3339(), "until": o.until.to_rfc3339()});
            Ok(json!({
                "from": span.from.to_rfc3339(), "to": span.to.to_rfc3339(), "every": every, "links": links,
                "windows": opened.iter().map(row).collect::<Vec<_>>(), "shut": shut,
            }))
        })
        .await
    }

    /// When the windows that these grants name were open, by the record.
    fn opened_windows(&self, grants: &[Grant], span: Span) -> Result<Vec<Opened>, String> {
        let names: BTreeSet<&Name> = grants.iter().filter_map(|g| g.window.as_ref()).collect();
        let mut all: Vec<Opened> = Vec::new();
        if names.is_empty() {
            return Ok(all);
        }
        let filter = Filter { kind: Some("policy".into()), ..Filter::default() };
        let mut next = 0;
        loop {
            let rows = self.writer.reader().list(next, COMMANDS_AT_ONCE, &filter).map_err(|e| chain(&e))?;
            let Some(last) = rows.last() else { break };
            next = last.index + 1;
            for row in &rows {
                let Some(time) = Timestamp::from_rfc3339(&row.time) else { continue };
                if row.summary.starts_with(CLOCK_SET_BACK) {
                    all.iter_mut().for_each(|o| o.until = o.until.min(time));
                }
                for name in &names {
                    match said_of_window(&row.summary, name) {
                        // Opened again while it is open, it is open for longer.
                        Some(Said::Opened(until)) => all.push(Opened { name: (*name).clone(), from: time, until }),
                        // What was open before stays so.
                        Some(Said::NotOpened) => {
                            if let Some(at) = all.iter().rposition(|o| o.name == **name) {
                                all.remove(at);
                            }
                        }
                        Some(Said::Closed) => {
                            let open = all.iter_mut().filter(|o| o.name == **name);
                            open.for_each(|o| o.until = o.until.min(time));
                        }
                        None => {}
                    }
                }
            }
        }
        all.retain(|o| o.from < o.until && o.until > span.from && o.from < span.to);
        Ok(all)
    }

    /// The home's history of some days, with what was true when they began, and of so many milliseconds before them.
    pub(super) async fn recorded(&self, days: Span, before_ms: i64) -> Result<Recorded, String> {
        let span = Span { from: days.from.plus_millis(-before_ms), ..days };
        let mut asked_for = 0;
        self.history.flush().await;
        let devices: BTreeMap<_, _> = {
            let gate = self.state();
            gate.registry.iter().map(|(id, device)| (id.clone(), device.clone())).collect()
        };
        let mut readings = Vec::new();
        for (id, device) in &devices {
            let properties = device.pins.keys().copied().chain([model::Property::Reachable]);
            for property in properties {
                let mut to = span.to;
                loop {
                    let samples = self.history.read(id, property, span.from, to).map_err(|e| chain(&e))?;
                    let is_all = samples.len() < store::SAMPLES_MAX;
                    let first = samples.first().map(|s| s.time);
                    let reading =
                        |s: home::Sample| Reading { device: id.clone(), property, value: s.value, time: s.time };
                    asked_for += samples.iter().filter(|s| s.time >= days.from).count();
                    readings.extend(samples.into_iter().map(reading));
                    if asked_for.max(readings.len() - asked_for) > READINGS_MAX {
                        return Err(format!(
                            "the home has said more than {READINGS_MAX} things in these days: take fewer"
                        ));
                    }
                    // It gives the newest: what is before them is asked for next.
                    match first.filter(|first| !is_all && *first > span.from) {
                        Some(first) => to = first.plus_millis(-1),
                        None => break,
                    }
                }
            }
        }
        // Of one time in the order of the devices: each property has its own.
        readings.sort_by_key(|r| r.time);
        let zone = self.config.timezone.clone();
        Ok(Recorded { zone, household: self.household.clone(), devices, readings })
    }

    /// The newest days of the history, as the command line measures them.
    pub(super) async fn recorded_days(&self, days: u16) -> Result<Value, String> {
        let now = self.now();
        let from = now.plus_millis(-DAY_MS * (1 + i64::from(days).min(DAYS_MAX)));
        let Recorded { household, devices, mut readings, .. } = self.recorded(Span { from, to: now }, 0).await?;
        // What was true before the first day has come in by then.
        readings.iter_mut().for_each(|r| r.time = r.time.max(from));
        let filter = Filter { kind: Some("command".into()), ..Filter::default() };
        let (mut commands, mut next) = (Vec::new(), 0);
        loop {
            let rows = self.writer.reader().list(next, COMMANDS_AT_ONCE, &filter).map_err(|e| chain(&e))?;
            let Some(last) = rows.last() else { break };
            next = last.index + 1;
            commands.extend(rows.iter().filter_map(|row| Timestamp::from_rfc3339(&row.time)).filter(|t| *t >= from));
        }
        let days = Days { zone: self.zone_name(), household, devices, readings, commands };
        serde_json::to_value(days).map_err(|e| e.to_string())
    }

    /// A day of the home or a moment.
    fn moment(&self, text: &str) -> Result<Timestamp, String> {
        if let Some(time) = Timestamp::from_rfc3339(text) {
            return Ok(time);
        }
        let civil = text
            .parse::<jiff::civil::DateTime>()
            .or_else(|_| text.parse::<jiff::civil::Date>().map(|day| day.to_datetime(jiff::civil::Time::midnight())));
        let zoned = civil.and_then(|time| time.to_zoned_datetime(self.config.timezone.clone())).map_err(|_| {
            format!("`{text}` is no time: write a day of the home as 2026-11-20, or a moment as 2026-11-20T08:00:00Z")
        })?;
        Ok(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    }
}

/// What the record says of a window.
#[derive(Debug, PartialEq)]
enum Said {
    Opened(Timestamp),
    NotOpened,
    Closed,
}

/// What a leaf of the record says of this window, and of no other: one window's name may be how another's begins. A leaf is as the
/// record sums it up: what changed, and by whom.
fn said_of_window(summary: &str, name: &Name) -> Option<Said> {
    let (change, _by) = summary.rsplit_once(" (by ")?;
    let what = change.strip_prefix(&format!("window {name} "))?;
    if what == "closed" {
        return Some(Said::Closed);
    }
    if what.starts_with("was not opened after all: ") {
        return Some(Said::NotOpened);
    }
    let (until, rest) = what.strip_prefix("opened until ")?.split_once(", for ")?;
    let (count, _) = rest.split_once(" grants").filter(|(_, how)| how.is_empty() || how.starts_with(','))?;
    count.parse::<usize>().ok()?;
    Timestamp::from_rfc3339(until).map(Said::Opened)
}

/// A window that was open.
struct Opened {
    name: Name,
    from: Timestamp,
    until: Timestamp,
}

/// What is granted over some days, each table from its time on: at each edge of hours, and where a window was opened or shut.
fn tables_over(
    span: Span,
    (facts, grants, ceiling): (&policy::Facts, Vec<Grant>, Option<&str>),
    zone: &TimeZone,
    opened: &[Opened],
) -> Result<Vec<(Timestamp, Arc<Table>)>, String> {
    let (mut tables, mut now) = (Vec::new(), span.from);
    // Which grants count comes again from day to day.
    let mut known: BTreeMap<Vec<GrantId>, Arc<Table>> = BTreeMap::new();
    loop {
        let mut windows = Windows::new();
        for o in opened.iter().filter(|o| o.from <= now && now < o.until) {
            let until = windows.entry(o.name.clone()).or_insert(o.until);
            *until = o.until.max(*until);
        }
        let moment = Moment { now, zone, windows: &windows, stands: false };
        let (counting, next) = policy::in_force(grants.clone(), moment);
        let ids: Vec<GrantId> = counting.into_iter().map(|g| g.id).collect();
        let table = match known.get(&ids) {
            Some(table) => Arc::clone(table),
            None => {
                let table = Arc::new(table_at(facts, grants.clone(), ceiling, moment).map_err(|e| chain(&e))?);
                known.insert(ids, Arc::clone(&table));
                table
            }
        };
        tables.push((now, table));
        let begins = opened.iter().map(|o| o.from).filter(|from| *from > now);
        match next.into_iter().chain(begins).min().filter(|next| *next < span.to) {
            Some(next) => now = next,
            None => return Ok(tables),
        }
    }
}

fn of_link(
    recorded: &Recorded,
    (link, tables): (&Link, &[(Timestamp, Arc<Table>)]),
    span: Span,
    poll_ms: i64,
    room: &mut usize,
) -> Result<Value, String> {
    let mut count = Count::new(recorded.zone.clone());
    let mut listed: Vec<Value> = Vec::new();
    let mut left_out = 0u64;
    // The last message of each sort about each device: where it is listed, and its bytes.
    let mut last: BTreeMap<(Option<EndpointId>, String), (usize, Vec<u8>)> = BTreeMap::new();
    exposure::expose(recorded, (link, tables), span, poll_ms, |sent| {
        count.add(&sent);
        let key = (sent.endpoint.clone(), sent.message.clone());
        if let Some((at, body)) = last.get(&key)
            && *body == sent.body
        {
            if let Some(again) = listed.get_mut(*at).and_then(|m| m.get_mut("again")) {
                *again = json!(again.as_u64().unwrap_or_default() + 1);
            }
            return;
        }
        let left = room.checked_sub(sent.body.len() + LISTED_BESIDE_BYTES).filter(|_| listed.len() < LISTED_MAX);
        if let Some(left) = left {
            *room = left;
        } else {
            left_out += 1;
            last.remove(&key);
            return;
        }
        let device = sent.endpoint.as_ref().and_then(|id| link.find(id)).map(|(device, _)| device);
        listed.push(json!({
            "time": sent.time.to_rfc3339(), "message": sent.message, "trigger": sent.trigger, "endpoint": sent.endpoint,
            "device": device, "bytes": sent.body.len(), "facts": sent.facts.len(), "again": 0,
            "body": serde_json::from_slice::<Value>(&sent.body).unwrap_or_default(),
        }));
        last.insert(key, (listed.len() - 1, sent.body));
    })
    .map_err(|e| e.to_string())?;
    let days: Vec<Value> = count
        .days()
        .iter()
        .map(|(day, c)| json!({"day": day.to_string(), "messages": c.messages, "bytes": c.bytes, "facts": c.facts}))
        .collect();
    Ok(json!({
        "link": link.id, "partner": link.partner, "profile": link.profile, "days": days, "total": count.total(),
        "messages": listed, "left_out": left_out,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_record_says_of_a_window_is_said_of_no_other() {
        let (guests, friends): (Name, Name) = ("guests".parse().unwrap(), "guests & friends".parse().unwrap());
        let said = |change: &str| {
            let summary = format!("{change} (by owner)");
            (said_of_window(&summary, &guests), said_of_window(&summary, &friends))
        };
        let until = Timestamp::from_rfc3339("2026-11-20T08:15:00Z").unwrap();
        let opened = "opened until 2026-11-20T08:15:00Z, for 2 grants";
        assert_eq!(said(&format!("window guests {opened}")), (Some(Said::Opened(until)), None));
        assert_eq!(
            said(&format!("window guests & friends {opened}, by its button")),
            (None, Some(Said::Opened(until)))
        );
        assert_eq!(said("window guests & friends closed"), (None, Some(Said::Closed)));
        assert_eq!(said("window guests was not opened after all: late"), (Some(Said::NotOpened), None));
        assert_eq!(said("window guests & friends was not opened after all: late"), (None, Some(Said::NotOpened)));
        assert_eq!(said("3 grants take force"), (None, None));
    }
}

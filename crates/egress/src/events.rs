//! What is told unasked: who may be told at all (Login with Amazon), when (on the grid, never when something happens), and
//! what becomes of it.
//!
//! Nothing waits in a queue with what it held then. A round looks at each endpoint in turn, under the grants in force at that
//! moment, and sends what differs from what Amazon took last; whatever changed since the last tick goes in one message. When
//! Amazon can't be reached, the rest of the round is dropped; the next one that gets through says how things are then, and
//! nothing of what they were meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alexa::Found;
use alexa::report::{self, Deferred, Report, Reported};
use bytes::Bytes;
use gate::{Actuator, ActuatorError, Decided, GateState, Order, REPORT_GRID_MS, Session, StateWrite};
use ledger::{Body, Digest, Draft, Intent, Receipt, SendResult};
use links::Link;
use model::{Clock, EndpointId, LinkId, Timestamp, Trigger};
use serde::{Deserialize, Serialize};

use crate::directives::{Recorder, asked, items, left, uuid_v4};
use crate::gateway::{Answer, EVENTS_PATH, Gateways, SendError, TOKENS_PATH, Wire};
use crate::limits::{
    ACCEPT_TIMEOUT, BACKOFF_MAX_MS, BACKOFF_MIN_MS, DEFERRED_MAX, EVENT_REPORTS_MAX, MANAGE_GRID_MS, REFRESH_EARLY_MS,
    REFUSED_AGAIN_MS, RETRIES_MAX, RETRY_AFTER_MAX, THROTTLE_PAUSE, TOKEN_MAX_BYTES,
};
use crate::probe::ProbeError;
use crate::tally::{Outcome, Tally};

/// What the household has from the skill's own page, and where events go.
#[derive(Clone)]
pub struct EventSettings {
    /// Amazon's addresses.
    pub gateways: Gateways,
    /// The skill's client id for messages.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

impl std::fmt::Debug for EventSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventSettings(redacted)")
    }
}

/// Why events of a link are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Amazon says that the customer has disabled the skill.
    SkillDisabled,
    /// Amazon's token was taken back.
    Revoked,
}

impl Ended {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Ended::SkillDisabled => "Amazon says that the skill was disabled",
            Ended::Revoked => "Amazon has taken the right to send events back",
        }
    }
}

/// What is known of one link's events.
#[derive(Default)]
struct Line {
    /// Fetches access tokens. Without one, nothing is sent.
    refresh: Option<String>,
    access: Option<(String, Timestamp)>,
    wire: Option<Wire>,
    /// What Amazon has taken of each endpoint: a digest of its description.
    announced: BTreeMap<EndpointId, String>,
    /// What Amazon has taken of each endpoint's state.
    reported: BTreeMap<EndpointId, Reported>,
    /// Descriptions that Amazon has refused: the same is not sent again for a while.
    refused: BTreeMap<EndpointId, String>,
    /// States that Amazon has refused.
    refused_states: BTreeMap<EndpointId, Reported>,
    /// States that were on their way when the hub was killed.
    doubts: BTreeMap<EndpointId, Doubt>,
    /// Since when these count.
    refused_since: Timestamp,
    /// The last tick at which something was looked at.
    tick: Timestamp,
    /// The last at which descriptions were, and the policies of then.
    managed: (Timestamp, [u8; 32]),
    incident: Option<Incident>,
    failures: u32,
    retry_at: Timestamp,
}

/// A state that Amazon may have taken or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Doubt {
    /// What it held for certain before.
    before: Reported,
    /// What was sent, or was about to be.
    sent: Reported,
}

/// Something goes wrong: said once, counted from then on.
struct Incident {
    dropped: u64,
}

/// A directive whose outcome waits to be told: its link, endpoint and correlation token.
type Waiting = (LinkId, EndpointId, String);

/// Events of all links: what survives a restart, and what is known since.
#[derive(Default)]
pub struct EventLines {
    lines: Mutex<BTreeMap<LinkId, Arc<tokio::sync::Mutex<Line>>>>,
    deferred: Mutex<BTreeSet<Waiting>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGrant {
    refresh_token: String,
}

impl EventLines {
    fn all(&self) -> MutexGuard<'_, BTreeMap<LinkId, Arc<tokio::sync::Mutex<Line>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deferred(&self) -> MutexGuard<'_, BTreeSet<Waiting>> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, link: &LinkId) -> Arc<tokio::sync::Mutex<Line>> {
        Arc::clone(self.all().entry(link.clone()).or_default())
    }

    /// The links that events could be sent on.
    pub fn linked(&self) -> Vec<LinkId> {
        let all = self.all();
        let linked = all.iter().filter(|(_, line)| line.try_lock().map_or(true, |line| line.refresh.is_some()));
        linked.map(|(id, _)| id.clone()).collect()
    }

    /// Whether a stored entry is one of these, of this link: to be deleted with it.
    pub fn is_of(key: &str, link: &LinkId) -> bool {
        let mut parts = key.split('/');
        matches!(parts.next(), Some("lwa" | "announced" | "reported" | "doubt")) && parts.next() == Some(link.as_str())
    }

    /// A link has ended.
    pub fn forget(&self, link: &LinkId) {
        self.all().remove(link);
    }

    /// Puts back what was stored; none when the key is another's, false when it can't be read.
    pub fn restore(&self, key: &str, json: &str) -> Option<bool> {
        let parts: Vec<&str> = key.split('/').collect();
        let done = match parts.as_slice() {
            ["lwa", link] => serde_json::from_str(json)
                .ok()
                .and_then(|grant: StoredGrant| self.put_back(link, |line| line.refresh = Some(grant.refresh_token))),
            ["announced", link] => serde_json::from_str(json)
                .ok()
                .and_then(|announced| self.put_back(link, |line| line.announced = announced)),
            ["reported", link, endpoint] => EndpointId::new(*endpoint).ok().and_then(|id| {
                let reported = serde_json::from_str(json).ok()?;
                self.put_back(link, |line| drop(line.reported.insert(id, reported)))
            }),
            ["doubt", link, endpoint] => EndpointId::new(*endpoint).ok().and_then(|id| {
                let doubt: Option<Doubt> = serde_json::from_str(json).ok()?;
                self.put_back(link, |line| line.doubts.extend(doubt.map(|doubt| (id, doubt))))
            }),
            _ => return None,
        };
        Some(done.is_some())
    }

    fn put_back(&self, link: &str, change: impl FnOnce(&mut Line)) -> Option<()> {
        let line = self.line(&LinkId::new(link).ok()?);
        change(&mut *line.try_lock().ok()?);
        Some(())
    }
}

/// Sends events. One for a hub.
pub struct Events<R> {
    /// The gate's state.
    pub state: Arc<Mutex<GateState>>,
    /// The ledger.
    pub recorder: Arc<R>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What left.
    pub tally: Arc<Tally>,
    /// The skill.
    pub settings: EventSettings,
    /// The links.
    pub lines: Arc<EventLines>,
    /// What ended and is not yet unlinked.
    pub ended: Mutex<Vec<(LinkId, Ended)>>,
}

/// A command is never given here.
struct Nothing;

impl Actuator for Nothing {
    async fn carry_out(&self, _: Order) -> Result<(), ActuatorError> {
        Err(ActuatorError::NotSupported)
    }
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Accepted,
    /// There is nothing to send any more: the link is gone, or the policies have changed since it was looked at.
    GivenUp,
    /// Amazon finds the message itself wrong: it is never sent again as it is.
    Refused,
    /// Amazon wants it in smaller parts.
    TooLarge,
    /// Nothing gets through now.
    CutOff,
    Ended(Ended),
}

/// Why there is no token.
enum NoToken {
    Revoked,
    /// The answer says what is wrong with the request or the settings.
    Refused(String),
    CutOff(String),
}

/// An answer, or none after all tries.
enum Delivered {
    Answered(Answer),
    Throttled,
    CutOff(String),
    /// It may be told no longer.
    GivenUp,
}

/// Under what a message was looked at: it leaves under no other.
struct Look {
    link: Arc<Link>,
    policies: [u8; 32],
    edition: u64,
}

impl<R: Recorder> Events<R> {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What ended since this was asked last.
    pub fn take_ended(&self) -> Vec<(LinkId, Ended)> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a round for each link whose grid has moved on, unless its last round still goes on: then what changed
    /// meanwhile goes with the next. Gives the rounds, for who wants to wait for them.
    pub fn tick(self: &Arc<Self>) -> Vec<tokio::task::JoinHandle<()>> {
        let now = self.clock.now();
        let tick = now.floor_to(REPORT_GRID_MS);
        let lines: Vec<_> = self.lines.all().iter().map(|(id, line)| (id.clone(), Arc::clone(line))).collect();
        let mut rounds = Vec::new();
        for (id, line) in lines {
            let Ok(mut line) = line.try_lock_owned() else { continue };
            if line.refresh.is_none() || tick <= line.tick {
                continue;
            }
            // Nothing leaves before the first tick that this hub has seen begin.
            let first = line.tick == Timestamp::default();
            line.tick = tick;
            if first || now < line.retry_at {
                continue;
            }
            let events = Arc::clone(self);
            rounds.push(tokio::spawn(async move { events.round(&id, &mut line, tick).await }));
        }
        rounds
    }

    async fn round(&self, id: &LinkId, line: &mut Line, tick: Timestamp) {
        let since = tick.floor_to(REFUSED_AGAIN_MS);
        if line.refused_since != since {
            // What a kill left in doubt counts from the first round on.
            if line.refused_since != Timestamp::default() {
                line.refused.clear();
                line.refused_states.clear();
                // No state is like this: whatever there is now is told.
                line.doubts.values_mut().for_each(|doubt| doubt.sent.clear());
            }
            line.refused_since = since;
        }
        let done = match self.manage(id, line, tick).await {
            Sent::Accepted => self.report(id, line).await,
            other => other,
        };
        match done {
            Sent::Ended(why) => self.end(id, line, why),
            Sent::CutOff => {
                // The rest of the round is dropped: the next one says how things are then.
                let pause = BACKOFF_MIN_MS.saturating_mul(1 << line.failures.min(16)).min(BACKOFF_MAX_MS);
                line.failures += 1;
                line.retry_at = self.clock.now().plus_millis(pause);
                line.wire = None;
            }
            Sent::Accepted | Sent::GivenUp | Sent::Refused | Sent::TooLarge => {}
        }
    }

    /// Tells the outcome of a directive that was answered with a DeferredResponse, when its time has come: always as long
    /// after it, whatever the device did meanwhile. A directive that comes twice has one outcome.
    pub(crate) fn defer(self: &Arc<Self>, link: &LinkId, deferred: Deferred) {
        let key = (link.clone(), deferred.endpoint.clone(), deferred.correlation.clone());
        {
            let mut waiting = self.lines.deferred();
            if waiting.contains(&key) {
                return;
            }
            if waiting.len() >= DEFERRED_MAX {
                tracing::warn!(%link, "too many slow commands at once: Alexa is not told what became of one");
                return;
            }
            waiting.insert(key.clone());
        }
        let due = tokio::time::Instant::now() + Duration::from_secs(u64::from(alexa::limits::DEFERRAL_S));
        let events = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            events.tell_outcome(&key.0, &deferred).await;
            events.lines.deferred().remove(&key);
        });
    }

    async fn tell_outcome(&self, id: &LinkId, deferred: &Deferred) {
        let Some(line) = self.lines.all().get(id).cloned() else { return };
        let mut line = line.lock_owned().await;
        if line.refresh.is_none() {
            return;
        }
        for _ in 0..=RETRIES_MAX {
            let Some((look, mut session)) = self.session(id, "Alexa.Response") else { return };
            let Some(report) = report::outcome(&mut session, deferred) else { return };
            let done = session.finish();
            match self.send(&mut line, &look, &report, &done.decided, &done.writes).await {
                Sent::Ended(why) => return self.end(id, &mut line, why),
                // It was promised: under the policies that came meanwhile it is looked at anew.
                Sent::GivenUp => {}
                _ => return,
            }
        }
    }

    fn end(&self, id: &LinkId, line: &mut Line, why: Ended) {
        line.refresh = None;
        line.access = None;
        line.wire = None;
        self.state().set_reporting(id, false);
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push((id.clone(), why));
    }

    /// Tells which devices there are, where that has changed.
    async fn manage(&self, id: &LinkId, line: &mut Line, tick: Timestamp) -> Sent {
        let policies = self.state().table().policy_hash();
        let grid = tick.floor_to(MANAGE_GRID_MS);
        if line.managed == (grid, policies) {
            return Sent::Accepted;
        }
        let Some((look, mut session)) = self.session(id, "Alexa.Discovery.AddOrUpdateReport") else {
            return Sent::GivenUp;
        };
        let Found { endpoints: found, mixed, .. } = report::endpoints(&mut session);
        self.tally.in_part(id, mixed);
        let decided = session.finish();
        let digests: BTreeMap<EndpointId, String> =
            found.iter().map(|(id, json, _)| (id.clone(), Digest::of(json.as_bytes()).to_string())).collect();
        let gone: Vec<EndpointId> = line.announced.keys().filter(|id| !digests.contains_key(*id)).cloned().collect();
        line.refused.retain(|id, _| digests.contains_key(id));
        let is_news = |id: &EndpointId| {
            let digest = digests.get(id);
            line.announced.get(id) != digest && line.refused.get(id) != digest
        };
        let changed = found.into_iter().filter(|(id, _, _)| is_news(id)).collect();
        let mut chunks = report::chunks(changed);
        chunks.reverse();
        while let Some(chunk) = chunks.pop() {
            let Some((_, mut session)) = self.session(id, "Alexa.Discovery.AddOrUpdateReport") else {
                return Sent::GivenUp;
            };
            let report = report::add_or_update(&mut session, &chunk);
            match self.send(line, &look, &report, &decided.decided, &decided.writes).await {
                // Of several that were refused together, perhaps one alone is wrong.
                Sent::TooLarge | Sent::Refused if chunk.len() > 1 => {
                    let (first, second) = chunk.split_at(chunk.len() / 2);
                    chunks.extend([second.to_vec(), first.to_vec()]);
                    continue;
                }
                Sent::Refused | Sent::TooLarge => {
                    for (endpoint, _, _) in &chunk {
                        line.refused.extend(digests.get(endpoint).map(|digest| (endpoint.clone(), digest.clone())));
                    }
                    continue;
                }
                Sent::Accepted => {}
                other => return other,
            }
            for (endpoint, _, _) in &chunk {
                line.announced.extend(digests.get(endpoint).map(|digest| (endpoint.clone(), digest.clone())));
                // What it is comes anew with what it may be told to be.
                line.reported.remove(endpoint);
                line.doubts.remove(endpoint);
                line.refused_states.remove(endpoint);
            }
            if !self.store(id, vec![announced(id, line)]).await {
                return Sent::CutOff;
            }
        }
        for chunk in gone.chunks(alexa::limits::REPORT_ENDPOINTS_MAX) {
            let Some((_, mut session)) = self.session(id, "Alexa.Discovery.DeleteReport") else {
                return Sent::GivenUp;
            };
            let report = report::delete(&mut session, chunk);
            match self.send(line, &look, &report, &[], &[]).await {
                // What Amazon does not know it can't forget either: no use in asking again.
                Sent::Accepted | Sent::Refused | Sent::TooLarge => {}
                other => return other,
            }
            for endpoint in chunk {
                line.announced.remove(endpoint);
                line.reported.remove(endpoint);
            }
            if !self.store(id, vec![announced(id, line)]).await {
                return Sent::CutOff;
            }
        }
        line.managed = (grid, policies);
        Sent::Accepted
    }

    /// Tells what has changed.
    async fn report(&self, id: &LinkId, line: &mut Line) -> Sent {
        let endpoints: Vec<EndpointId> = line.announced.keys().take(EVENT_REPORTS_MAX).cloned().collect();
        for endpoint in endpoints {
            let Some((look, mut session)) = self.session(id, "Alexa.ChangeReport") else { return Sent::GivenUp };
            let mut before = line.reported.get(&endpoint).cloned().unwrap_or_default();
            let in_doubt = line.doubts.get(&endpoint);
            if let Some(doubt) = in_doubt {
                // What Amazon holds for certain is where both agree.
                before.clone_from(&doubt.before);
                before.retain(|name, value| doubt.sent.get(name) == Some(value));
            }
            let Some((report, now)) = report::change(&mut session, &endpoint, &before, REPORT_GRID_MS) else {
                continue;
            };
            if line.refused_states.get(&endpoint) == Some(&now) || in_doubt.is_some_and(|d| d.sent == now) {
                continue;
            }
            let done = session.finish();
            let json = serde_json::to_string(&now).unwrap_or_default();
            // Stored with the intent: killed from here on, nobody knows whether Amazon has it, and it is not sent twice.
            let mut writes = done.writes;
            let on_its_way = Doubt { before, sent: now.clone() };
            writes.push(doubt(id, &endpoint, Some(&on_its_way)));
            let sent = self.send(line, &look, &report, &done.decided, &writes).await;
            let mut known = Vec::new();
            match &sent {
                Sent::Accepted => {
                    line.refused_states.remove(&endpoint);
                    line.doubts.remove(&endpoint);
                    line.reported.insert(endpoint.clone(), now);
                    known.push(StateWrite::new(format!("reported/{id}/{endpoint}"), json));
                }
                Sent::Refused | Sent::TooLarge => drop(line.refused_states.insert(endpoint.clone(), now)),
                Sent::GivenUp | Sent::CutOff => {}
                Sent::Ended(_) => return sent,
            }
            known.push(doubt(id, &endpoint, line.doubts.get(&endpoint)));
            if !self.store(id, known).await {
                return Sent::CutOff;
            }
            if matches!(sent, Sent::GivenUp | Sent::CutOff) {
                return sent;
            }
        }
        Sent::Accepted
    }

    /// Stores what was taken, as long as there is the link.
    async fn store(&self, id: &LinkId, writes: Vec<StateWrite>) -> bool {
        if self.state().links.get(id).is_none() {
            return false;
        }
        self.recorder.record(Vec::new(), writes).await.is_ok()
    }

    fn session(&self, id: &LinkId, message: &str) -> Option<(Look, Session<Nothing>)> {
        let look = {
            let state = self.state();
            Look { link: state.links.shared(id)?, policies: state.table().policy_hash(), edition: state.edition() }
        };
        let now = self.clock.now();
        let state = Arc::clone(&self.state);
        let session = Session::new(state, Arc::new(Nothing), &look.link, now, message.to_owned(), uuid_v4());
        Some((look, session))
    }

    /// Whether what was looked at may still be told. Fetching a token, and waiting for Amazon, takes minutes.
    fn holds(&self, look: &Look) -> bool {
        let state = self.state();
        // The same table, not one that bears its hash: while a change is on its way less is open.
        state.edition() == look.edition && state.links.get(&look.link.id).is_some()
    }

    /// Records one message, sends it, and says what became of it.
    async fn send(
        &self,
        line: &mut Line,
        look: &Look,
        report: &Report,
        decided: &[Decided],
        writes: &[StateWrite],
    ) -> Sent {
        let link = &look.link;
        let told = report.told.iter().collect();
        let leaving: Vec<Decided> =
            decided.iter().filter(|d| d.outcome.is_ok() && left(link, &told, &d.device, d.property)).cloned().collect();
        let mut fresh = false;
        loop {
            let token = match self.access(line, link, fresh).await {
                Ok(token) => token,
                Err(NoToken::Revoked) => return Sent::Ended(Ended::Revoked),
                Err(NoToken::Refused(why) | NoToken::CutOff(why)) => {
                    self.trouble(link, line, &format!("no token for events: {why}"));
                    return Sent::CutOff;
                }
            };
            if !self.holds(look) {
                return Sent::GivenUp;
            }
            let wire = report.wire(&token);
            let (bytes, policy_set) = (wire.len(), Digest::new(look.policies));
            let intent = Intent {
                partner: link.partner.clone(),
                link: link.id.clone(),
                trigger: report.trigger,
                message: report.message.to_owned(),
                policy_set,
                items: items(&leaving),
                more: 0,
            };
            let Some(receipt) = self.record(intent, Body::redacted(wire, report.kept()), writes).await else {
                return Sent::CutOff;
            };
            self.state().settle(writes);
            let now = self.clock.now();
            self.tally.unasked(asked(link, now, report.message, Outcome::Answered, &leaving, &[], bytes));
            faults::pass(faults::EVENT_RECORDED);
            let body = receipt.body().map(|b| Bytes::copy_from_slice(b)).unwrap_or_default();
            let mut wire = line.wire.take().unwrap_or_else(|| self.settings.gateways.events());
            let to = (EVENTS_PATH, "application/json", Some(token.as_str()));
            let delivered = self.deliver(&mut wire, to, body, || self.holds(look)).await;
            line.wire = Some(wire);
            faults::pass(faults::EVENT_SENT);
            let (delivered, result) = delivered;
            self.outcome(receipt, result);
            let answer = match delivered {
                Delivered::Answered(answer) => answer,
                Delivered::GivenUp => return Sent::GivenUp,
                Delivered::Throttled => {
                    self.trouble(link, line, "Amazon takes no more events for now");
                    return Sent::CutOff;
                }
                Delivered::CutOff(why) => {
                    self.trouble(link, line, &format!("Amazon's event gateway: {why}"));
                    return Sent::CutOff;
                }
            };
            match (answer.status, code(&answer)) {
                (200..300, _) => {
                    line.failures = 0;
                    if let Some(incident) = line.incident.take() {
                        tracing::info!(link = %link.id, "Amazon takes events again; {} were dropped", incident.dropped);
                    }
                    return Sent::Accepted;
                }
                (403, "SKILL_DISABLED_EXCEPTION") => return Sent::Ended(Ended::SkillDisabled),
                // It may be the token alone: with a new one it is tried once more.
                (401 | 403, _) if !fresh => fresh = true,
                (401 | 403, code) => {
                    self.trouble(
                        link,
                        line,
                        &format!("Amazon refuses events ({} {code}){}", answer.status, mend(code)),
                    );
                    return Sent::CutOff;
                }
                (413, _) => {
                    self.trouble(link, line, "an event is too large for Amazon");
                    return Sent::TooLarge;
                }
                // It finds the message wrong. Sent again it would be wrong again.
                (400, code) => {
                    self.tally.event_refused();
                    self.trouble(link, line, &format!("Amazon finds an event wrong (400 {code}), and it is dropped"));
                    return Sent::Refused;
                }
                (status, code) => {
                    self.trouble(link, line, &format!("Amazon takes no events ({status} {code}){}", mend(code)));
                    return Sent::CutOff;
                }
            }
        }
    }

    /// One line in the log for one incident; the rest is counted.
    fn trouble(&self, link: &Link, line: &mut Line, what: &str) {
        match &mut line.incident {
            Some(incident) => incident.dropped += 1,
            None => {
                tracing::warn!(link = %link.id, "{what}; events are dropped until it is over");
                line.incident = Some(Incident { dropped: 1 });
            }
        }
    }

    async fn record(&self, intent: Intent, body: Body, writes: &[StateWrite]) -> Option<Receipt> {
        let draft = match Draft::intent(self.clock.now(), intent, body) {
            Ok(draft) => draft,
            Err(error) => {
                tracing::error!(%error, "an event could not be written to the ledger and was not sent");
                return None;
            }
        };
        self.recorder.record(vec![draft], writes.to_vec()).await.ok()?.into_iter().next()
    }

    fn outcome(&self, receipt: Receipt, result: SendResult) {
        match receipt.outcome(self.clock.now(), result) {
            Ok(draft) => self.recorder.note(draft),
            Err(error) => tracing::error!(%error, "an outcome could not be written"),
        }
    }

    /// Posts a recorded body, again if that is worth it: what is throttled three times, at least a second apart; what fails
    /// on Amazon's side or on the way as often, with pauses that grow from a second; as long as it may be told.
    async fn deliver(
        &self,
        wire: &mut Wire,
        (path, kind, bearer): (&str, &str, Option<&str>),
        body: Bytes,
        may_be_told: impl Fn() -> bool,
    ) -> (Delivered, SendResult) {
        let (mut throttled, mut failed) = (0u32, 0u32);
        // Whether any byte may have left.
        let mut left = false;
        loop {
            if !may_be_told() {
                let result = if left { SendResult::Failed } else { SendResult::Aborted };
                return (Delivered::GivenUp, result);
            }
            let answer = wire.post(path, kind, bearer, body.clone(), self.clock.now()).await;
            let why = match answer {
                Ok(answer) if answer.status == 429 => {
                    left = true;
                    if throttled >= RETRIES_MAX {
                        return (Delivered::Throttled, SendResult::Failed);
                    }
                    throttled += 1;
                    let asked = Duration::from_secs(answer.retry_after.unwrap_or(0)).min(RETRY_AFTER_MAX);
                    tokio::time::sleep(asked.max(THROTTLE_PAUSE)).await;
                    continue;
                }
                Ok(answer) if answer.status >= 500 => {
                    left = true;
                    format!("it answers {}", answer.status)
                }
                Ok(answer) => {
                    let result = if answer.status < 300 { SendResult::Sent } else { SendResult::Failed };
                    return (Delivered::Answered(answer), result);
                }
                Err(error) => {
                    left |= !matches!(
                        error,
                        SendError::Reach(ProbeError::Connect { .. } | ProbeError::Tls(_) | ProbeError::Roots)
                    );
                    chain(&error)
                }
            };
            if failed >= RETRIES_MAX {
                let result = if left { SendResult::Failed } else { SendResult::Aborted };
                return (Delivered::CutOff(why), result);
            }
            tokio::time::sleep(THROTTLE_PAUSE * (1 << failed)).await;
            failed += 1;
        }
    }

    // ---- Login with Amazon ----

    /// Takes the code of an AcceptGrant: the right to send events on this link. False when it is worth nothing.
    pub async fn accept(&self, link: &Link, code: &str) -> bool {
        let taken = tokio::time::timeout(ACCEPT_TIMEOUT, async {
            let line = self.lines.line(&link.id);
            let mut line = line.lock().await;
            let (grant, now) = (("authorization_code", "code", code), self.clock.now());
            let (refresh, access) = match self.fetch(link, grant, Trigger::DirectiveResponse).await {
                Ok((Some(refresh), access)) => (refresh, access),
                Ok((None, _)) => return false,
                Err(NoToken::Revoked) => return false,
                Err(NoToken::Refused(why) | NoToken::CutOff(why)) => {
                    tracing::warn!(link = %link.id, "Amazon's grant for events could not be fetched: {why}");
                    return false;
                }
            };
            let Some(write) = granted(&link.id, &refresh) else { return false };
            if !self.store(&link.id, vec![write]).await {
                return false;
            }
            let tick = now.floor_to(REPORT_GRID_MS);
            *line = Line { refresh: Some(refresh), access: Some(access), tick, ..Line::default() };
            let writes = self.state().set_reporting(&link.id, true);
            if !writes.is_empty() && self.recorder.record(Vec::new(), writes).await.is_err() {
                tracing::error!(link = %link.id, "what is announced on this link could not be stored yet");
            }
            true
        });
        taken.await.unwrap_or(false)
    }

    /// An access token that holds for a while yet; with `fresh`, a new one.
    async fn access(&self, line: &mut Line, link: &Link, fresh: bool) -> Result<String, NoToken> {
        let now = self.clock.now();
        let good = line.access.as_ref().filter(|(_, until)| now.plus_millis(REFRESH_EARLY_MS) < *until);
        if let Some((token, _)) = good.filter(|_| !fresh) {
            return Ok(token.clone());
        }
        let refresh = line.refresh.clone().ok_or(NoToken::Revoked)?;
        let grant = ("refresh_token", "refresh_token", refresh.as_str());
        let (next, access) = self.fetch(link, grant, Trigger::ProactiveReport).await?;
        if let Some(next) = next.filter(|next| *next != refresh) {
            // The old one still works where the new one could not be stored.
            if let Some(write) = granted(&link.id, &next)
                && self.store(&link.id, vec![write]).await
            {
                line.refresh = Some(next);
            }
        }
        let token = access.0.clone();
        line.access = Some(access);
        Ok(token)
    }

    /// Asks Login with Amazon for tokens. The request is on record before it leaves, without its secrets.
    async fn fetch(
        &self,
        link: &Link,
        (kind, name, secret): (&str, &str, &str),
        trigger: Trigger,
    ) -> Result<(Option<String>, (String, Timestamp)), NoToken> {
        let now = self.clock.now();
        let form = |secret: &str, client_secret: &str| {
            form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", kind)
                .append_pair(name, secret)
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("client_secret", client_secret)
                .finish()
                .into_bytes()
        };
        let intent = Intent {
            partner: link.partner.clone(),
            link: link.id.clone(),
            trigger,
            message: "LoginWithAmazon.Token".to_owned(),
            policy_set: Digest::new(self.state().table().policy_hash()),
            items: Vec::new(),
            more: 0,
        };
        let body = Body::redacted(form(secret, &self.settings.client_secret), form("redacted", "redacted"));
        let receipt = self.record(intent, body, &[]).await;
        let receipt = receipt.ok_or_else(|| NoToken::CutOff("it could not be recorded".to_owned()))?;
        let bytes = receipt.body().map(|b| Bytes::copy_from_slice(b)).unwrap_or_default();
        let mut wire = self.settings.gateways.tokens();
        let to = (TOKENS_PATH, "application/x-www-form-urlencoded;charset=UTF-8", None);
        let (delivered, result) = self.deliver(&mut wire, to, bytes, || true).await;
        self.outcome(receipt, result);
        let answer = match delivered {
            Delivered::Answered(answer) => answer,
            Delivered::Throttled | Delivered::GivenUp => {
                return Err(NoToken::CutOff("Login with Amazon takes no more requests".to_owned()));
            }
            Delivered::CutOff(why) => return Err(NoToken::CutOff(format!("Login with Amazon: {why}"))),
        };
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let text = |key: &str| json.get(key).and_then(serde_json::Value::as_str);
        if answer.status >= 300 {
            return Err(match text("error") {
                Some("invalid_grant") => NoToken::Revoked,
                error => NoToken::Refused(format!("Login with Amazon answers {} {}", answer.status, word(error))),
            });
        }
        let fits =
            |token: &&str| (1..=TOKEN_MAX_BYTES).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
        let seconds = json.get("expires_in").and_then(serde_json::Value::as_i64).unwrap_or(0).clamp(0, 86_400);
        let access = text("access_token").filter(fits);
        let access = access.ok_or_else(|| NoToken::Refused("Login with Amazon gives no token".to_owned()))?;
        let until = now.plus_millis(seconds * 1000);
        Ok((text("refresh_token").filter(fits).map(str::to_owned), (access.to_owned(), until)))
    }
}

fn granted(link: &LinkId, refresh: &str) -> Option<StateWrite> {
    let json = serde_json::to_string(&StoredGrant { refresh_token: refresh.to_owned() }).ok()?;
    Some(StateWrite::new(format!("lwa/{link}"), json))
}

/// A state that is on its way to Amazon; `null` when it is known what became of it.
fn doubt(link: &LinkId, endpoint: &EndpointId, doubt: Option<&Doubt>) -> StateWrite {
    StateWrite::new(format!("doubt/{link}/{endpoint}"), serde_json::to_string(&doubt).unwrap_or_default())
}

fn announced(link: &LinkId, line: &Line) -> StateWrite {
    StateWrite::new(format!("announced/{link}"), serde_json::to_string(&line.announced).unwrap_or_default())
}

/// The code in an answer of the gateway's, if it looks like one.
fn code(answer: &Answer) -> &'static str {
    const CODES: [&str; 10] = [
        "INVALID_REQUEST_EXCEPTION",
        "INVALID_ACCESS_TOKEN_EXCEPTION",
        "SKILL_DISABLED_EXCEPTION",
        "INSUFFICIENT_PERMISSION_EXCEPTION",
        "SKILL_NOT_FOUND_EXCEPTION",
        "REQUEST_ENTITY_TOO_LARGE_EXCEPTION",
        "THROTTLING_EXCEPTION",
        "INTERNAL_SERVICE_EXCEPTION",
        "SERVICE_UNAVAILABLE_EXCEPTION",
        "SKILL_NEVER_ENABLED_EXCEPTION",
    ];
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = json.pointer("/payload/code").and_then(serde_json::Value::as_str).unwrap_or_default();
    CODES.into_iter().find(|known| *known == code).unwrap_or("without a known code")
}

/// What a person can do about it, by Amazon's page on sending events.
fn mend(code: &str) -> &'static str {
    match code {
        "SKILL_NOT_FOUND_EXCEPTION" => ": disable the skill in the Alexa app and enable it again",
        "SKILL_NEVER_ENABLED_EXCEPTION" => ": is `region` in `[alexa]` that of the Amazon account?",
        "INSUFFICIENT_PERMISSION_EXCEPTION" => ": turn on Send Alexa Events in the skill's permissions",
        _ => "",
    }
}

/// A word of a partner's for the log.
fn word(text: Option<&str>) -> String {
    text.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

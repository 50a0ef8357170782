//! Members, clients, and the OAuth server's work on the store: what was agreed to becomes a link, its grants and tokens.
//!
//! What a member agrees to is made at once: the link and its grants, which share nothing while no token opens it. So the
//! exchange of the code is one transaction, however large the home is (Amazon waits 4.5 seconds for it): the record of the
//! answer, the tokens' hashes, and that the code is used. Killed before it, the partner comes again with the same code;
//! killed after it, the code is worth nothing and the member links again. A link whose code nobody fetched ends with it.

use egress::{AgreeFault, Agreed, Choice, Linking};
use links::oauth::{
    ANNOUNCE_MS, AuthorizeFault, AuthorizeRequest, CLIENTS_MAX, Client, ClientTerms, Code, CodeFault, Consent,
    Credentials, Issued, PartnerWords, RefreshFault, Revoked, StopReason, TokenError, TokenRequest, partner_words,
};
use links::page::{Offer, OfferedDevice};
use links::{Token, password};
use model::{ClientId, Property, Trigger};
use serde::{Deserialize, Serialize};

use super::*;

/// Most members of a household.
const MEMBERS_MAX: usize = 32;

/// The profile of who chooses none.
const WITHOUT_CHOICE: &str = "commands-only";

/// In place of a profile: the link is given nothing.
const NO_PROFILE: &str = "none";

/// Where the doctor's own client would send a browser: nowhere (RFC 6761).
const DOCTOR_REDIRECT: &str = "https://doctor.invalid/";

/// How often an end that comes near is said again.
const ANNOUNCE_EVERY_MS: i64 = 86_400_000;

/// What a member has a say in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Is asked before what tells who is at home takes force.
    #[default]
    Owner,
    /// Is told.
    Resident,
}

impl Role {
    fn words(self) -> &'static str {
        match self {
            Role::Owner => "an owner",
            Role::Resident => "a resident",
        }
    }
}

/// A person who may link partners.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// argon2id, as a PHC string.
    pub(super) hash: String,
    created: Timestamp,
    #[serde(default)]
    pub(super) role: Role,
}

impl Core {
    // ---- Members ----

    /// Makes a member, or gives one a new password. Who is not said to be anything else is an owner, or stays what it was.
    pub(super) async fn member_add(&self, name: &str, password: String, role: Option<Role>) -> Result<Value, String> {
        let id = MemberId::new(name).map_err(|e| e.to_string())?;
        let salt = random::<16>()?;
        let hash = tokio::task::spawn_blocking(move || password::hash(&password, &salt)).await;
        let hash = hash.map_err(|e| e.to_string())?.map_err(|e| chain(&e))?;
        let _one = self.changing.lock().await;
        let (role, before) = {
            let members = lock(&self.members);
            if members.len() >= MEMBERS_MAX && !members.contains_key(&id) {
                return Err(format!("there are {MEMBERS_MAX} members already; remove one first"));
            }
            let before = members.get(&id).map(|m| m.role);
            let role = role.or(before).unwrap_or_default();
            if role != Role::Owner && !has_owner_beside(&members, &id) {
                return Err(format!(
                    "somebody has to be an owner: make another member one before `{id}` is a resident"
                ));
            }
            (role, before)
        };
        let text = match before {
            None => format!("{id} is a member now, as {}", role.words()),
            Some(before) if before == role => format!("{id} has a new password"),
            Some(_) => format!("{id} has a new password, and is {} now", role.words()),
        };
        let member = Member { hash, created: self.now(), role };
        let mut entries = vec![(format!("member/{id}"), Some(to_json(&member)?))];
        // Who is one already is told too: it may have been somebody else who did it.
        entries.extend(self.notice(&By::Shell, &text, Vec::new(), None)?);
        self.tell(text, &By::Shell, entries).await?;
        lock(&self.members).insert(id.clone(), member);
        Ok(json!({"member": id, "changed": before.is_some()}))
    }

    pub(super) fn member_rows(&self) -> Value {
        let members = lock(&self.members);
        let row =
            |(id, m): (&MemberId, &Member)| json!({"member": id, "role": m.role, "created": m.created.to_rfc3339()});
        members.iter().map(row).collect()
    }

    pub(super) async fn member_remove(&self, name: &str) -> Result<Value, String> {
        let id = MemberId::new(name).map_err(|e| e.to_string())?;
        let _one = self.changing.lock().await;
        {
            let mut members = lock(&self.members);
            let others = members.len() > 1;
            if others && members.contains_key(&id) && !has_owner_beside(&members, &id) {
                return Err(format!(
                    "`{id}` is the only owner: make another member one first (`vestibule member add`)"
                ));
            }
            // At once, whatever happens to the store.
            members.remove(&id).ok_or_else(|| format!("there is no member `{id}`"))?;
        }
        let _telling = self.telling.lock().await;
        let (_, mut entries) = self.without(&id)?;
        let text = format!("{id} is no member any more");
        entries.extend(self.notice(&By::Shell, &text, Vec::new(), None)?);
        self.keep(&entries);
        entries.push((format!("member/{id}"), None));
        let hash = Digest::new(self.state().table().policy_hash());
        let leaf = policy_leaf(self.now(), (hash, hash), OWNER, text, None, Vec::new())?;
        self.append(vec![leaf], entries).await?;
        let links = self.state().links.oauth.families().filter(|f| f.member == id).count();
        Ok(json!({"links": links}))
    }

    // ---- Clients ----

    pub(super) async fn client_add(
        &self,
        partner: PartnerId,
        redirects: Vec<String>,
        terms: Option<ClientTerms>,
    ) -> Result<Value, String> {
        known_partner(&partner)?;
        let terms = terms.unwrap_or_else(|| ClientTerms::of_partner(&partner));
        let _one = self.changing.lock().await;
        if self.state().links.oauth.clients().count() >= CLIENTS_MAX {
            return Err(format!("there are {CLIENTS_MAX} clients already; `vestibule client remove ID` ends one"));
        }
        // Nobody can ask this hub anything without knowing the id: it is as long as a secret, and is none.
        let unique: String = random::<16>()?.iter().map(|b| format!("{b:02x}")).collect();
        let id = ClientId::new(format!("{partner}-{unique}")).map_err(|e| e.to_string())?;
        let (client, secret) =
            Client::new(id.clone(), partner, redirects, terms, self.now(), random()?).map_err(|e| chain(&e))?;
        self.put(vec![client.entry()]).await?;
        self.state().links.oauth.add_client(client);
        let issuer = self.issuer();
        Ok(json!({
            "client_id": id, "client_secret": secret.as_ref().map(Token::reveal), "terms": terms,
            "authorization_endpoint": format!("{issuer}/oauth/authorize"),
            "token_endpoint": format!("{issuer}/oauth/token"),
        }))
    }

    pub(super) fn client_rows(&self) -> Value {
        let state = self.state();
        let oauth = &state.links.oauth;
        oauth
            .clients()
            .map(|c| {
                json!({
                    "client_id": c.id, "partner": c.partner, "redirects": c.redirects, "created": c.created.to_rfc3339(),
                    "secret": c.terms.secret, "pkce": if c.terms.pkce { "required" } else { "if sent" },
                    "rotates": c.terms.rotate, "links": oauth.families().filter(|f| f.client == c.id).count(),
                })
            })
            .collect()
    }

    pub(super) async fn client_remove(&self, id: &ClientId) -> Result<Value, String> {
        // An exchange that is under way ends first, and its link with all the others.
        let _one = self.changing.lock().await;
        let _tokens = self.tokens.lock().await;
        let (gone, links) = {
            // At once: it can ask for nothing from here on.
            let mut state = self.state();
            let links = state.links.oauth.links_of(id);
            (state.links.oauth.remove_client(id).ok_or_else(|| format!("there is no client `{id}`"))?, links)
        };
        let mut failed = self.put(gone).await.err();
        let mut ended = 0;
        for link in links {
            if self.state().links.get(&link).is_some() {
                ended += 1;
                // One that can't be recorded does not keep the others.
                failed = self.end_link(link).await.err().or(failed);
            }
        }
        failed.map_or_else(|| Ok(json!({"links": ended})), Err)
    }

    // ---- Ends that come near ----

    /// When this link ends by itself, and what to say of that or of its state.
    pub fn link_end(&self, link: &LinkId, now: Timestamp) -> (Option<Timestamp>, Option<String>) {
        let near = |t: Timestamp| t.as_millis() - now.as_millis() < ANNOUNCE_MS;
        let (mut grants, mut ending): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        for (grant, end) in
            lock(&self.grants).values().filter(|g| g.link == *link).filter_map(|g| Some((g, g.expires?)))
        {
            grants = Some(grants.map_or(end, |t| t.min(end)));
            // One that is meant to last for a month is not said to end from its first day on.
            let half = end.as_millis() - (end.as_millis() - grant.created.as_millis()) / 2;
            if near(end) && now.as_millis() >= half {
                ending = Some(ending.map_or(end, |t| t.min(end)));
            }
        }
        let state = self.state();
        let family = state.links.oauth.family(link);
        if let Some(stopped) = family.and_then(|f| f.stopped) {
            return (Some(stopped.at), Some(format!("stopped: {}", stopped.why.words())));
        }
        if family.is_none() && state.links.oauth.is_waiting(link, now) {
            return (None, Some("agreed to; the partner has not fetched its tokens yet".into()));
        }
        let tokens = family.map(|f| f.expires);
        if tokens.is_some_and(|t| t <= now) {
            return (tokens, Some("its tokens have expired: link again in the partner's app".into()));
        }
        if state.links.oauth.is_waiting(link, now) && lock(&self.renewals).contains_key(link) {
            return (
                tokens,
                Some("agreed to anew; what is added counts when the partner fetches its new tokens".into()),
            );
        }
        let day = |t: Timestamp| t.to_rfc3339().get(..10).unwrap_or_default().to_owned();
        let notice = match (tokens.filter(|t| near(*t)), ending) {
            // A profile would take away what was granted by hand.
            (_, Some(t)) => Some(format!(
                "grants end on {}, or tell a rung less from then on: `vestibule grant renew --link {link}` renews what stands, `vestibule grant add` gives \
                 some of it anew",
                day(t)
            )),
            (Some(t), None) => Some(format!("unused until {}, its tokens end: ask the partner something", day(t))),
            (None, None) => None,
        };
        (tokens.into_iter().chain(grants).min(), notice)
    }

    /// Says in the log which links end soon, once a day, and forgets old codes. Called by the scheduler.
    pub async fn announce_ends(&self) {
        let now = self.now();
        let abandoned = self.state().links.oauth.abandoned(now);
        for link in abandoned {
            // Its code goes with it. Killed between the two, there is the code alone.
            let made = self.state().links.get(&link).is_some();
            let ended = if made {
                tracing::warn!(%link, "agreed to, and never fetched by the partner: it ends");
                self.unlink(link).await.map(drop)
            } else {
                let gone = self.state().links.oauth.remove_link(&link);
                self.put(gone).await
            };
            if let Err(error) = ended {
                tracing::warn!(%error, "what was never fetched could not be deleted yet");
            }
        }
        {
            // What is agreed to anew meanwhile is not deleted with what is forgotten.
            let _one = self.changing.lock().await;
            let mut gone = self.state().links.oauth.forget_codes(now);
            gone.extend(self.forget_renewals());
            if let Err(error) = self.put(gone).await {
                tracing::warn!(%error, "old codes could not be deleted yet");
            }
        }
        {
            let mut said = lock(&self.announced);
            if said.is_some_and(|t| (0..ANNOUNCE_EVERY_MS).contains(&(now.as_millis() - t.as_millis()))) {
                return;
            }
            *said = Some(now);
        }
        let links: Vec<LinkId> = self.state().links.iter().map(|l| l.id.clone()).collect();
        for link in links {
            if let (_, Some(notice)) = self.link_end(&link, now) {
                tracing::warn!(%link, "{notice}");
            }
        }
    }

    // ---- The doctor ----

    pub(super) fn doctor(&self, partner: &PartnerId) -> Result<Value, String> {
        known_partner(partner)?;
        let now = self.now();
        let rows = self.link_rows();
        let links: Vec<Value> = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter(|l| l["partner"] == partner.as_str())
            .map(|l| {
                let id = l["id"].as_str().and_then(|id| LinkId::new(id).ok());
                let state = self.state();
                let reports = id.as_ref().is_some_and(|id| state.is_reporting(id));
                let expired = id.and_then(|id| state.links.oauth.family(&id).map(|f| f.expires <= now));
                json!({
                    "id": l["id"], "ends": l["ends"], "notice": l["notice"], "stopped": l["stopped"],
                    "expired": expired.unwrap_or(false), "reports": reports,
                })
            })
            .collect();
        let size = self.writer.reader().size().map_err(|e| chain(&e))?;
        let last = self.writer.reader().show(size.saturating_sub(1)).map_err(|e| chain(&e))?;
        let clients = self.state().links.oauth.clients().filter(|c| c.partner == *partner).count();
        Ok(json!({
            "issuer": self.issuer(), "public": self.config.partners_public_url.is_some(),
            "down": self.healthy().err().unwrap_or_default(), "members": lock(&self.members).len(), "clients": clients,
            "newest": last.and_then(|l| l.leaf.get("time").and_then(Value::as_i64)), "links": links,
            "events": self.event_settings.is_some(),
        }))
    }

    pub(super) async fn doctor_begin(&self, partner: PartnerId) -> Result<Value, String> {
        let terms = ClientTerms { secret: true, pkce: true, rotate: true };
        let client = self.client_add(partner, vec![DOCTOR_REDIRECT.to_owned()], Some(terms)).await?;
        let id = client["client_id"].as_str().and_then(|id| ClientId::new(id).ok()).ok_or("no client was made")?;
        let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        let verifier = encode(&random::<32>()?);
        let challenge = encode(&sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            verifier.as_bytes(),
        )));
        let request = AuthorizeRequest {
            client: id,
            redirect: DOCTOR_REDIRECT.to_owned(),
            state: None,
            challenge: Some(challenge.clone()),
        };
        let link = LinkId::new(random_id("lnk")?).map_err(|e| e.to_string())?;
        let consent = Consent { member: owner()?, link, profile: NO_PROFILE.to_owned(), sensors: Vec::new() };
        let _one = self.changing.lock().await;
        let code = self.keep_code(&request, consent, Vec::new()).await?;
        Ok(json!({
            "client_id": client["client_id"], "client_secret": client["client_secret"], "redirect_uri": DOCTOR_REDIRECT,
            "code": code.reveal(), "code_verifier": verifier, "code_challenge": challenge,
        }))
    }

    /// Stores what was agreed to for these devices, makes it, and gives the code for it. The caller holds `changing`.
    async fn keep_code(
        &self,
        request: &AuthorizeRequest,
        consent: Consent,
        devices: Vec<policy::DeviceFact>,
    ) -> Result<Token, String> {
        let random = random()?;
        let now = self.now();
        let older = self.state().links.oauth.supersede(&consent.link);
        self.put(older).await?;
        let made = self.state().links.oauth.new_code(request, consent, now, random);
        let (code, token, entry) = made.ok_or("too many links are being made; try again tomorrow")?;
        let (id, member) = (&code.consent.link, &code.consent.member);
        // The doctor's link gets no grant at all.
        let profile = Some(&code.consent.profile).filter(|p| *p != NO_PROFILE);
        let profile = profile.map(|p| self.profile_for(p, code.consent.sensors.clone())).transpose()?;
        let renewed = self.state().links.get(id).is_some();
        match profile {
            Some(profile) if renewed => {
                self.renew(id, &profile, &By::Member(member.clone()), devices).await?;
                self.put(vec![entry]).await?;
                self.state().links.oauth.add_code(code);
            }
            profile => {
                // The code first: a link that nobody fetches ends with it.
                self.put(vec![entry]).await?;
                self.state().links.oauth.add_code(code.clone());
                self.make_link(&code).await?;
                if let Some(profile) = profile {
                    self.apply_profile(id, &profile, &By::Member(member.clone()), devices).await?;
                }
            }
        }
        Ok(token)
    }

    // ---- Tokens ----

    /// The link that a code is for, without grants.
    async fn make_link(&self, code: &Code) -> Result<(), String> {
        if self.state().links.len() >= LINKS_MAX {
            return Err(format!("there are {LINKS_MAX} links already; end one with `vestibule unlink ID`"));
        }
        let id = &code.consent.link;
        let secrets = (random()?, random()?);
        // Its own token is told to nobody: what opens it are the tokens of the code.
        let (link, _) = Link::new(
            id.clone(),
            self.household.clone(),
            code.partner.clone(),
            code.consent.profile.clone(),
            self.now(),
            secrets,
        );
        let leaf = link_leaf(self.now(), &link, LinkEvent::Created)?;
        self.append(vec![leaf], vec![(format!("link/{id}"), Some(to_json(&link)?))]).await?;
        self.state().links.insert(link);
        Ok(())
    }

    async fn exchange(
        &self,
        client: &ClientId,
        asked: (&str, Option<&str>, Option<&str>),
    ) -> Result<Receipt, TokenError> {
        let _one = self.changing.lock().await;
        let checked = self.state().links.oauth.check_code(client, asked, self.now());
        let code = match checked {
            Ok(code) => code,
            Err(CodeFault::Reused(link)) => {
                self.stop_link(&link, StopReason::CodeReused).await;
                return Err(TokenError::InvalidGrant);
            }
            Err(CodeFault::Invalid) => return Err(TokenError::InvalidGrant),
        };
        let _tokens = self.tokens.lock().await;
        let random = (random().map_err(unavailable)?, random().map_err(unavailable)?);
        let now = self.now();
        let (family, issued) = self.state().links.oauth.exchange(&code, now, random);
        let link = &code.consent.link;
        let renewal = lock(&self.renewals).get(link).cloned();
        let receipt = match renewal {
            None => self.record_tokens(link, issued).await?,
            Some(renewal) => {
                let (intent, entries) = self.tokens_draft(link, issued)?;
                let receipt = self.exchange_renewed(link, renewal, intent, entries).await.map_err(unavailable)?;
                receipt.ok_or(TokenError::Unavailable)?
            }
        };
        self.state().links.oauth.code_used(family);
        tracing::info!(link = %code.consent.link, "linked");
        Ok(receipt)
    }

    async fn refresh(&self, client: &ClientId, token: &str) -> Result<Receipt, TokenError> {
        let tokens = self.tokens.lock().await;
        let random = (random().map_err(unavailable)?, random().map_err(unavailable)?);
        let now = self.now();
        let refreshed = self.state().links.oauth.refresh(client, token, now, random);
        match refreshed {
            Ok((link, issued)) => self.record_tokens(&link, issued).await,
            Err(RefreshFault::Reused(link)) => {
                drop(tokens);
                self.stop_link(&link, StopReason::RefreshReused).await;
                Err(TokenError::InvalidGrant)
            }
            Err(RefreshFault::Invalid) => Err(TokenError::InvalidGrant),
        }
    }

    async fn revoke(&self, client: &ClientId, token: &str) -> Result<(), TokenError> {
        let tokens = self.tokens.lock().await;
        let revoked = self.state().links.oauth.revoke(client, token);
        match revoked {
            Some(Revoked::Access(entry)) => self.take_back(Vec::new(), vec![entry]).await.map_err(|error| {
                tracing::error!(%error, "a token was taken back, and a restart would undo it");
                TokenError::Unavailable
            }),
            Some(Revoked::Link(link)) => {
                drop(tokens);
                tracing::info!(%link, "the partner has ended the link");
                self.unlink(link).await.map(drop).map_err(|error| {
                    tracing::error!(%error, "a link was ended by its partner");
                    TokenError::Unavailable
                })
            }
            // What is not known is not good either (RFC 7009, 2.2); unless that itself would not outlast a restart.
            None if self.owed.is_only_in_memory() => Err(TokenError::Unavailable),
            None => Ok(()),
        }
    }

    /// The record of tokens that are about to leave, with what must be stored along with it.
    async fn record_tokens(&self, id: &LinkId, issued: Issued) -> Result<Receipt, TokenError> {
        let (draft, entries) = self.tokens_draft(id, issued)?;
        let receipts = self.try_append(&[draft], &entries).await.map_err(unavailable)?;
        receipts.into_iter().next().ok_or(TokenError::Unavailable)
    }

    fn tokens_draft(&self, id: &LinkId, issued: Issued) -> Result<(Draft, Entries), TokenError> {
        let partner = self.state().links.get(id).map(|l| l.partner.clone()).ok_or(TokenError::InvalidGrant)?;
        let intent = ledger::Intent {
            partner,
            link: id.clone(),
            // It repeats nothing of the home: the partner asked, and gets what it asked for.
            trigger: Trigger::DirectiveResponse,
            message: "OAuth.Tokens".into(),
            policy_set: Digest::new(self.state().table().policy_hash()),
            items: Vec::new(),
            more: 0,
        };
        let body = Body::redacted(issued.wire, issued.kept);
        let draft = Draft::intent(self.now(), intent, body).map_err(|e| unavailable(chain(&e)))?;
        Ok((draft, issued.entries))
    }

    /// Stops a link's tokens: at once, then on the record.
    async fn stop_link(&self, id: &LinkId, why: StopReason) {
        let _tokens = self.tokens.lock().await;
        let now = self.now();
        let (entry, link) = {
            let mut state = self.state();
            (state.links.oauth.stop(id, now, why), state.links.get(id).cloned())
        };
        let Some(entry) = entry else { return };
        tracing::warn!(link = %id, "the link was stopped: {}", why.words());
        let leaf = link.map(|l| link_leaf(now, &l, LinkEvent::Changed)).transpose();
        let recorded = match leaf {
            Ok(leaf) => self.take_back(leaf.into_iter().collect(), vec![entry]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = recorded {
            tracing::error!(%error, "that a link was stopped could not be stored; it stays stopped until a restart");
        }
    }

    /// What a client would get under each profile, by the same table that decides later; with the devices that it is worked
    /// out for, and what stands for all of it.
    fn offers(&self, partner: &PartnerId) -> Result<(Vec<Offer>, Vec<policy::DeviceFact>, String), String> {
        let link = LinkId::new(random_id("preview")?).map_err(|e| e.to_string())?;
        let mut facts = self.facts();
        let gatekeeper = links::is_gatekeeper(partner);
        facts.links = vec![policy::LinkFact {
            link: link.clone(),
            partner: partner.clone(),
            gatekeeper,
            agent: links::is_agent(partner),
        }];
        let owner = MemberId::new(OWNER).map_err(|e| e.to_string())?;
        let terms = policy::Terms { now: self.now(), granted_by: owner.clone(), affects: vec![owner] };
        let mut offers = Vec::new();
        for profile in policy::profiles() {
            let mut n = 0u32;
            let ids = || {
                n = n.checked_add(1)?;
                GrantId::new(format!("preview-{n}")).ok()
            };
            let change = policy::apply(profile, &facts, &link, &[], &terms, ids).map_err(|e| chain(&e))?;
            let table =
                policy::compile(&facts, &change.add, self.ceiling.as_deref(), terms.now).map_err(|e| chain(&e))?;
            let costs = |lost: bool| -> Vec<(String, String)> {
                profile.costs.iter().filter(|c| c.lost == lost).map(|c| (c.what.clone(), c.why.clone())).collect()
            };
            let state = self.state();
            let devices = facts.devices.iter().filter_map(|d| offered(&state, &table, &link, d)).collect();
            let named = profile.of_named();
            let is_sensor = |d: &&policy::DeviceFact| d.properties.iter().any(|(p, _)| named.contains(p));
            let called = |d: &DeviceId| state.registry.get(d).map(called_at_home);
            let sensors = facts.devices.iter().filter(is_sensor).map(|d| d.device.clone());
            let sensors = sensors.filter_map(|d| called(&d).map(|name| (d.to_string(), name)));
            offers.push(Offer {
                slug: profile.slug.clone(),
                title: profile.title.clone(),
                summary: profile.summary.clone(),
                devices,
                kept: costs(false),
                lost: costs(true),
                sensors: sensors.collect(),
            });
        }
        let shown = Digest::of(to_json(&offers)?.as_bytes()).to_string();
        Ok((offers, facts.devices, shown))
    }
}

impl Linking for Core {
    fn issuer(&self) -> String {
        let at = self.partners_at.get().copied().unwrap_or(self.config.partners_listen);
        self.config.partners_public_url.clone().unwrap_or_else(|| format!("http://{at}"))
    }

    fn authorize(&self, query: &str) -> Result<(AuthorizeRequest, PartnerWords), AuthorizeFault> {
        let state = self.state();
        let request = links::oauth::authorize(&state.links.oauth, &self.issuer(), query)?;
        let client = state.links.oauth.client(&request.client).ok_or(AuthorizeFault::Unknown)?;
        let words = partner_words(&client.partner);
        Ok((request, words))
    }

    fn log_in(&self, name: &str, password: &str) -> Option<MemberId> {
        let id = MemberId::new(name).ok();
        let kept = id.as_ref().and_then(|id| lock(&self.members).get(id).map(|m| m.hash.clone()));
        if password::verify(password, kept.as_deref()) { id } else { None }
    }

    fn choice(&self, request: &AuthorizeRequest) -> Result<Choice, String> {
        let (partner, existing) = {
            let state = self.state();
            let client = state.links.oauth.client(&request.client).ok_or("the client was removed")?;
            let mut existing: Vec<(LinkId, Timestamp)> = state
                .links
                .oauth
                .families()
                .filter(|f| f.client == client.id)
                .filter_map(|f| state.links.get(&f.link).map(|l| (l.id.clone(), l.created)))
                .collect();
            existing.sort_by_key(|(_, created)| *created);
            (client.partner.clone(), existing)
        };
        let day = |t: Timestamp| t.to_rfc3339().get(..10).unwrap_or_default().to_owned();
        let (offers, _, shown) = self.offers(&partner)?;
        Ok(Choice {
            home: self.config.home_name.clone(),
            owners: self.owners().into_iter().collect(),
            offers,
            shown,
            existing: existing.into_iter().map(|(id, created)| (id, day(created))).collect(),
        })
    }

    async fn agree(&self, agreed: &Agreed) -> Result<Token, AgreeFault> {
        let failed = AgreeFault::Failed;
        let Agreed { request, member, profile, sensors, renew, shown } = agreed;
        let profile = find_profile(profile.as_deref().unwrap_or(WITHOUT_CHOICE)).map_err(failed)?;
        let _one = self.changing.lock().await;
        if !lock(&self.members).contains_key(member) {
            return Err(failed(format!("the member `{member}` was removed")));
        }
        let link = match renew.as_deref().filter(|r| !r.is_empty()) {
            None => LinkId::new(random_id("lnk").map_err(failed)?).map_err(|e| failed(e.to_string()))?,
            Some(id) => {
                let id = LinkId::new(id).map_err(|e| failed(e.to_string()))?;
                let state = self.state();
                let family = state.links.oauth.family(&id).filter(|f| f.client == request.client);
                family.map(|f| f.link.clone()).ok_or_else(|| failed(no_link(&id)))?
            }
        };
        let partner = self.state().links.oauth.client(&request.client).map(|c| c.partner.clone());
        let partner = partner.ok_or_else(|| failed("the client was removed".to_owned()))?;
        // What is granted is what was shown: of these devices, and of no others.
        let (_, devices, now) = tokio::task::block_in_place(|| self.offers(&partner)).map_err(failed)?;
        if now != *shown {
            return Err(AgreeFault::Changed);
        }
        // Boxes that were ticked under another profile than the one chosen mean nothing.
        let named = sensors.iter().filter(|_| !profile.of_named().is_empty());
        let sensors = named.map(|d| DeviceId::new(d).map_err(|e| failed(e.to_string()))).collect::<Result<_, _>>()?;
        let consent = Consent { member: member.clone(), link, profile: profile.slug.clone(), sensors };
        self.keep_code(request, consent, devices).await.map_err(failed)
    }

    fn client(&self, credentials: &Credentials) -> Result<(), TokenError> {
        self.state().links.oauth.authenticate_client(credentials).map(drop)
    }

    async fn token(&self, credentials: &Credentials, request: TokenRequest) -> Result<Option<Receipt>, TokenError> {
        let client = self.state().links.oauth.authenticate_client(credentials)?.id.clone();
        match request {
            TokenRequest::Code { code, redirect, verifier } => {
                self.exchange(&client, (&code, redirect.as_deref(), verifier.as_deref())).await.map(Some)
            }
            TokenRequest::Refresh { token } => self.refresh(&client, &token).await.map(Some),
            TokenRequest::Revoke { token } => self.revoke(&client, &token).await.map(|()| None),
        }
    }
}

fn unavailable(error: String) -> TokenError {
    tracing::error!(%error, "tokens could not be recorded and were not given");
    TokenError::Unavailable
}

pub(super) fn link_leaf(now: Timestamp, link: &Link, event: LinkEvent) -> Result<Draft, String> {
    let profile = Some(link.profile.clone()).filter(|_| event == LinkEvent::Created);
    let leaf = ledger::Link { partner: link.partner.clone(), link: link.id.clone(), event, profile };
    Draft::link(now, leaf).map_err(|e| chain(&e))
}

/// What a table gives of one device, in plain words; none when it gives nothing.
fn offered(state: &GateState, table: &Table, link: &LinkId, device: &policy::DeviceFact) -> Option<OfferedDevice> {
    let id = &device.device;
    let rung = |property: Property, trigger: Trigger| table.decide(link, id, property, trigger).rung.ok();
    let mut told = Vec::new();
    let mut commands = Vec::new();
    for (property, _) in &device.properties {
        if *property != Property::NodeLabel {
            let how: Vec<String> =
                [
                    (Trigger::Discovery, "when it lists devices"),
                    (Trigger::DirectiveResponse, "after its own commands"),
                    (Trigger::PartnerPoll, "when it asks"),
                    (Trigger::ProactiveReport, "unasked"),
                ]
                .into_iter()
                .filter_map(|(trigger, when)| rung(*property, trigger).map(|r| (when, r)))
                .map(|(when, r)| {
                    if property.is_metadata() { when.to_owned() } else { format!("{when}: {}", policy::rung_words(r)) }
                })
                .collect();
            if !how.is_empty() {
                told.push((property.label().to_owned(), how.join("; ")));
            }
        }
        if table.may(link, id, *property, false).is_ok() {
            commands.push(property.label().to_owned());
        }
        if table.may(link, id, *property, true).is_ok() {
            let code = table.code(link, id, *property, true).map_or("", policy::code_words);
            commands.push(format!("{} (unlock or open, {code})", property.label()));
        }
    }
    if told.is_empty() && commands.is_empty() {
        return None;
    }
    let known = state.registry.get(id)?;
    let own = known.household_name.clone();
    let name = called_at_home(known);
    let told_name = match rung(Property::NodeLabel, Trigger::Discovery) {
        Some(r) if !r.is_coarse() => Some(name.clone()),
        Some(_) => own,
        None => None,
    };
    let told_name = told_name.unwrap_or_else(|| format!("{} and a number", device.device_type.neutral_name()));
    Some(OfferedDevice { name, told_name, told, commands })
}

/// The name that a member knows a device by.
fn called_at_home(known: &home::Registered) -> String {
    known.household_name.clone().unwrap_or_else(|| known.description.name.clone())
}

/// Whether there is an owner beside this member.
fn has_owner_beside(members: &BTreeMap<MemberId, Member>, id: &MemberId) -> bool {
    members.iter().any(|(other, m)| other != id && m.role == Role::Owner)
}

/// What the store holds of a member.
pub(super) fn restore_member(members: &mut BTreeMap<MemberId, Member>, id: &str, value: &str) -> bool {
    match (MemberId::new(id), serde_json::from_str(value)) {
        (Ok(id), Ok(member)) => {
            members.insert(id, member);
            true
        }
        _ => false,
    }
}

pub(super) fn known_partner(partner: &PartnerId) -> Result<(), String> {
    if links::PARTNERS.iter().any(|(name, _)| *name == partner.as_str()) {
        return Ok(());
    }
    let known: Vec<&str> = links::PARTNERS.iter().map(|(name, _)| *name).collect();
    Err(format!("`{partner}` is no partner of this version; there is {}", known.join(", ")))
}

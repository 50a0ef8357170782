//! All clients, codes and families of a home, and what is stored of them.

use std::collections::{BTreeMap, BTreeSet};

use model::{ClientId, DeviceId, LinkId, MemberId, PartnerId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::Client;
use super::family::{Family, Fresh, Seen, StopReason};
use super::request::{AuthorizeRequest, Credentials, TokenError, verified};
use super::{ACCESS_LIFE_MS, CODE_LIFE_MS, CODE_MEMORY_MS, CODES_MAX};
use crate::secret::{CODE_PREFIX, Hash, Token};

/// A key of the store and its value; none deletes the key.
pub type Entry = (String, Option<String>);

/// What a member has agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Who consents.
    pub member: MemberId,
    /// The link that will be made, or made anew.
    pub link: LinkId,
    /// The profile, by slug.
    pub profile: String,
    /// The sensors that it is for, if it takes names.
    #[serde(default)]
    pub sensors: Vec<DeviceId>,
}

/// A code that was given out, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// For which client.
    pub client: ClientId,
    /// Whose software that is.
    pub partner: PartnerId,
    /// What a member has agreed to.
    pub consent: Consent,
    /// Until when it may be exchanged.
    pub expires: Timestamp,
    hash: Hash,
    redirect: String,
    challenge: Option<String>,
    used: bool,
}

/// New tokens, as the client is told of them.
pub struct Issued {
    /// The answer's body.
    pub wire: Vec<u8>,
    /// The same with the tokens left out, which is what is kept.
    pub kept: Vec<u8>,
    /// What must be stored in the same transaction as the record of the answer.
    pub entries: Vec<Entry>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(redacted)")
    }
}

/// Why a code gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeFault {
    /// It was used before: what it gave must be stopped.
    Reused(LinkId),
    /// It is wrong, too late, or not this client's.
    Invalid,
}

/// Why a refresh token gives nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshFault {
    /// It was spent: the link's tokens must be stopped.
    Reused(LinkId),
    /// It is wrong, too late, or not this client's.
    Invalid,
}

/// All clients, codes and families of a home.
#[derive(Debug, Default)]
pub struct Authority {
    clients: BTreeMap<ClientId, Client>,
    codes: BTreeMap<Hash, Code>,
    families: BTreeMap<LinkId, Family>,
}

impl Authority {
    // ---- Clients ----

    /// Adds or replaces a client.
    pub fn add_client(&mut self, client: Client) {
        self.clients.insert(client.id.clone(), client);
    }

    /// Removes a client, with its codes; gives what to delete from the store. None when there is no such client.
    pub fn remove_client(&mut self, id: &ClientId) -> Option<Vec<Entry>> {
        let client = self.clients.remove(id)?;
        let mut gone = vec![(client.entry().0, None)];
        gone.extend(self.codes.values().filter(|c| c.client == *id).map(|c| (c.key(), None)));
        self.codes.retain(|_, code| code.client != *id);
        Some(gone)
    }

    /// The links that a client holds tokens of, or has a code for that it may still exchange.
    pub fn links_of(&self, id: &ClientId) -> Vec<LinkId> {
        let waiting = self.codes.values().filter(|c| c.client == *id && !c.used).map(|c| &c.consent.link);
        let held = self.families.values().filter(|f| f.client == *id).map(|f| &f.link);
        let all: BTreeSet<&LinkId> = waiting.chain(held).collect();
        all.into_iter().cloned().collect()
    }

    /// One client.
    pub fn client(&self, id: &ClientId) -> Option<&Client> {
        self.clients.get(id)
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = &Client> {
        self.clients.values()
    }

    /// The client of these credentials.
    ///
    /// # Errors
    /// When there is none, or the secret is wrong.
    pub fn authenticate_client(&self, credentials: &Credentials) -> Result<&Client, TokenError> {
        let id = ClientId::new(credentials.client.as_str()).map_err(|_| TokenError::InvalidClient)?;
        let client = self.clients.get(&id).ok_or(TokenError::InvalidClient)?;
        // Basic with nothing after the colon is how some write "no secret".
        let secret = credentials.secret.as_deref().filter(|s| !s.is_empty());
        if client.fits(secret) { Ok(client) } else { Err(TokenError::InvalidClient) }
    }

    // ---- Codes ----

    /// A new code for what a member has agreed to. It counts once it is stored and [`add_code`](Self::add_code)ed. None
    /// when there are too many.
    pub fn new_code(
        &self,
        request: &AuthorizeRequest,
        consent: Consent,
        now: Timestamp,
        random: [u8; 32],
    ) -> Option<(Code, Token, Entry)> {
        let client = self.clients.get(&request.client)?;
        if self.codes.len() >= CODES_MAX {
            return None;
        }
        let token = Token::of_kind(CODE_PREFIX, random);
        let code = Code {
            client: client.id.clone(),
            partner: client.partner.clone(),
            consent,
            expires: now.plus_millis(CODE_LIFE_MS),
            hash: Hash::of(token.reveal()),
            redirect: request.redirect.clone(),
            challenge: request.challenge.clone(),
            used: false,
        };
        let entry = code.entry();
        Some((code, token, entry))
    }

    /// Takes a stored code in.
    pub fn add_code(&mut self, code: Code) {
        self.codes.insert(code.hash, code);
    }

    /// The code that a client may exchange now. It is not used up by this: [`code_used`](Self::code_used) does that, when
    /// what it gives is stored.
    ///
    /// # Errors
    /// See [`CodeFault`].
    pub fn check_code(
        &self,
        client: &ClientId,
        (code, redirect, verifier): (&str, Option<&str>, Option<&str>),
        now: Timestamp,
    ) -> Result<Code, CodeFault> {
        let code = self.codes.get(&Hash::of(code)).filter(|c| c.client == *client).ok_or(CodeFault::Invalid)?;
        if code.used {
            // A link that was made anew since has its tokens from another code.
            let gave = self.families.get(&code.consent.link).is_some_and(|f| f.code.is(&code.hash));
            return Err(if gave { CodeFault::Reused(code.consent.link.clone()) } else { CodeFault::Invalid });
        }
        let fits = now < code.expires
            && redirect == Some(code.redirect.as_str())
            && verified(code.challenge.as_deref(), verifier);
        if fits { Ok(code.clone()) } else { Err(CodeFault::Invalid) }
    }

    /// The first tokens for a code, replacing whatever tokens its link had. They count once they are stored and
    /// [`code_used`](Self::code_used) took them in.
    pub fn exchange(&self, code: &Code, now: Timestamp, random: ([u8; 32], [u8; 32])) -> (Family, Issued) {
        let rotates = self.clients.get(&code.client).is_none_or(|c| c.terms.rotate);
        let who = (code.consent.link.clone(), code.client.clone(), code.consent.member.clone());
        let (family, fresh) = Family::new(who, rotates, code.hash, now, random);
        let used = Code { used: true, ..code.clone() };
        let mut issued = issued(&fresh);
        issued.entries = vec![used.entry(), family_entry(&family), (settled_key(&family.link), None)];
        (family, issued)
    }

    /// Takes in what [`exchange`](Self::exchange) gave, after it was stored.
    pub fn code_used(&mut self, family: Family) {
        if let Some(code) = self.codes.get_mut(&family.code) {
            code.used = true;
        }
        self.families.insert(family.link.clone(), family);
    }

    /// Links that were agreed to, and whose code nobody has exchanged in time.
    pub fn abandoned(&self, now: Timestamp) -> Vec<LinkId> {
        let over = self.codes.values().filter(|c| !c.used && c.expires <= now).map(|c| &c.consent.link);
        over.filter(|link| !self.families.contains_key(link) && !self.is_waiting(link, now)).cloned().collect()
    }

    /// Whether a link has a code that may still be exchanged.
    pub fn is_waiting(&self, link: &LinkId, now: Timestamp) -> bool {
        self.codes.values().any(|c| !c.used && now < c.expires && c.consent.link == *link)
    }

    /// Forgets codes that are long over; gives what to delete from the store.
    pub fn forget_codes(&mut self, now: Timestamp) -> Vec<Entry> {
        let old = |code: &Code| code.expires.plus_millis(CODE_MEMORY_MS) <= now;
        let gone: Vec<Entry> = self.codes.values().filter(|c| old(c)).map(|c| (c.key(), None)).collect();
        self.codes.retain(|_, code| !old(code));
        gone
    }

    // ---- Tokens ----

    /// The tokens of a link, if it came by a code.
    pub fn family(&self, link: &LinkId) -> Option<&Family> {
        self.families.get(link)
    }

    /// All families.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.values()
    }

    /// The link that an access token opens. Every token is compared, in constant time. The second is what is to be stored
    /// with the next record: that an answer has come back.
    pub fn open(&mut self, token: &str, now: Timestamp) -> Option<(LinkId, Option<Entry>)> {
        let given = Hash::of(token);
        let mut found = None;
        for family in self.families.values() {
            if let (true, news) = family.opens(&given, now) {
                found = Some((family.link.clone(), news));
            }
        }
        let (link, news) = found?;
        let entry = news.map(|answer| {
            if let Some(family) = self.families.get_mut(&link) {
                family.came_back(answer);
            }
            (settled_key(&link), serde_json::to_string(&answer).ok())
        });
        Some((link, entry))
    }

    /// New tokens for a refresh token. What is in memory may be ahead of what is stored: an answer that did not get
    /// stored was not given, and may be given again.
    ///
    /// # Errors
    /// See [`RefreshFault`].
    pub fn refresh(
        &mut self,
        client: &ClientId,
        token: &str,
        now: Timestamp,
        random: ([u8; 32], [u8; 32]),
    ) -> Result<(LinkId, Issued), RefreshFault> {
        let given = Hash::of(token);
        let mut found = None;
        for family in self.families.values() {
            match family.look(&given) {
                Seen::Good => found = Some((family.link.clone(), true)),
                Seen::Spent => found = Some((family.link.clone(), false)),
                Seen::Unknown => {}
            }
        }
        let (link, good) = found.ok_or(RefreshFault::Invalid)?;
        let family = self.families.get_mut(&link).filter(|f| f.client == *client).ok_or(RefreshFault::Invalid)?;
        if !family.is_good(now) {
            return Err(RefreshFault::Invalid);
        }
        if !good {
            return Err(RefreshFault::Reused(link));
        }
        let fresh = family.refresh(&given, now, random);
        let mut issued = issued(&fresh);
        issued.entries = vec![family_entry(family), (settled_key(&link), None)];
        Ok((link, issued))
    }

    /// Whose refresh token this is; or, when it is an access token, takes it back and gives what to store.
    pub fn revoke(&mut self, client: &ClientId, token: &str) -> Option<Revoked> {
        let given = Hash::of(token);
        let mut mine = self.families.values_mut().filter(|f| f.client == *client);
        mine.find_map(|family| {
            if family.drop_access(&given) {
                return Some(Revoked::Access(family_entry(family)));
            }
            match family.look(&given) {
                Seen::Unknown => None,
                Seen::Good | Seen::Spent => Some(Revoked::Link(family.link.clone())),
            }
        })
    }

    /// Stops a link's tokens at once; gives what to store. None when it has none, or has stopped.
    pub fn stop(&mut self, link: &LinkId, now: Timestamp, why: StopReason) -> Option<Entry> {
        let family = self.families.get_mut(link).filter(|f| f.stopped.is_none())?;
        family.stop(now, why);
        Some(family_entry(family))
    }

    /// Takes back the codes of a link that were not exchanged: what a member agreed to last is what counts. Gives what to
    /// delete from the store.
    pub fn supersede(&mut self, link: &LinkId) -> Vec<Entry> {
        let gone =
            self.codes.values().filter(|c| c.consent.link == *link && !c.used).map(|c| (c.key(), None)).collect();
        self.codes.retain(|_, c| c.consent.link != *link || c.used);
        gone
    }

    /// Removes all of a link; gives what to delete from the store.
    pub fn remove_link(&mut self, link: &LinkId) -> Vec<Entry> {
        self.families.remove(link);
        // A code that was not used yet must not bring the link back.
        let mut gone = self.supersede(link);
        gone.extend([(family_key(link), None), (settled_key(link), None)]);
        gone
    }

    // ---- The store ----

    /// Puts one stored entry back; `None` when the key is not of this kind, `Some(false)` when the value can't be read.
    /// Families come before what is settled of them, as the order of their keys has it.
    pub fn restore(&mut self, key: &str, value: &str) -> Option<bool> {
        let (kind, rest) = key.split_once('/')?;
        match kind {
            "client" => Some(serde_json::from_str(value).map(|c| self.add_client(c)).is_ok()),
            "code" => Some(serde_json::from_str(value).map(|c| self.add_code(c)).is_ok()),
            "family" => {
                Some(serde_json::from_str(value).map(|f: Family| drop(self.families.insert(f.link.clone(), f))).is_ok())
            }
            "settled" => {
                let link = LinkId::new(rest).ok();
                let answer = serde_json::from_str::<Hash>(value).ok();
                Some(match (link, answer) {
                    (Some(link), Some(answer)) => {
                        if let Some(family) = self.families.get_mut(&link) {
                            family.came_back(answer);
                        }
                        true
                    }
                    _ => false,
                })
            }
            _ => None,
        }
    }

    /// What the store is to hold of a key of codes and tokens: `None` when the key is of something else.
    pub fn entry(&self, key: &str) -> Option<Option<String>> {
        let (kind, rest) = key.split_once('/')?;
        match kind {
            "code" => Some(self.codes.values().map(Code::entry).find(|(k, _)| k == key).and_then(|(_, json)| json)),
            "family" => {
                let family = LinkId::new(rest).ok().and_then(|link| self.families.get(&link));
                Some(family.and_then(|family| family_entry(family).1))
            }
            // What came back stands in the family itself.
            "settled" => Some(None),
            _ => None,
        }
    }
}

/// What a token that was taken back was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// An access token: what to store.
    Access(Entry),
    /// A refresh token: the whole link ends.
    Link(LinkId),
}

impl Client {
    /// What is stored of it.
    pub fn entry(&self) -> Entry {
        (format!("client/{}", self.id), serde_json::to_string(self).ok())
    }
}

impl Code {
    fn key(&self) -> String {
        format!("code/{}", self.hash.text())
    }

    fn entry(&self) -> Entry {
        (self.key(), serde_json::to_string(self).ok())
    }
}

fn family_key(link: &LinkId) -> String {
    format!("family/{link}")
}

fn settled_key(link: &LinkId) -> String {
    format!("settled/{link}")
}

fn family_entry(family: &Family) -> Entry {
    (family_key(&family.link), serde_json::to_string(family).ok())
}

fn issued(fresh: &Fresh) -> Issued {
    let answer = |access: &str, refresh: Option<&str>| {
        let mut json = json!({"access_token": access, "token_type": "Bearer", "expires_in": ACCESS_LIFE_MS / 1000});
        if let (Some(map), Some(refresh)) = (json.as_object_mut(), refresh) {
            map.insert("refresh_token".into(), refresh.into());
        }
        json.to_string().into_bytes()
    };
    let refresh = fresh.refresh.as_ref().map(Token::reveal);
    Issued {
        wire: answer(fresh.access.reveal(), refresh),
        kept: answer("(redacted)", refresh.map(|_| "(redacted)")),
        entries: Vec::new(),
    }
}

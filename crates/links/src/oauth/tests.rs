//! Codes, tokens and their theft, without sockets.

use std::collections::BTreeMap;

use model::{ClientId, LinkId, MemberId, PartnerId, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const REDIRECT: &str = "https://a.example/cb";

/// An authority with its store, and randomness that never repeats.
struct Story {
    authority: Authority,
    stored: BTreeMap<String, String>,
    next: u64,
    now: Timestamp,
    client: ClientId,
    secret: String,
}

impl Story {
    fn new(rotate: bool, pkce: bool) -> Self {
        let mut story = Self {
            authority: Authority::default(),
            stored: BTreeMap::new(),
            next: 0,
            now: Timestamp::from_millis(1_000_000),
            client: ClientId::new("c").unwrap(),
            secret: String::new(),
        };
        let terms = ClientTerms { secret: true, pkce, rotate };
        for id in ["c", "other"] {
            let id = ClientId::new(id).unwrap();
            let partner = PartnerId::new("alexa").unwrap();
            let random = story.random();
            let (client, secret) =
                Client::new(id.clone(), partner, vec![REDIRECT.into()], terms, story.now, random).unwrap();
            if id == story.client {
                story.secret = secret.unwrap().reveal().to_owned();
            }
            story.store(vec![client.entry()]);
            story.authority.add_client(client);
        }
        story
    }

    fn random(&mut self) -> [u8; 32] {
        self.next += 1;
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&self.next.to_be_bytes());
        bytes
    }

    fn store(&mut self, entries: Vec<Entry>) {
        for (key, value) in entries {
            match value {
                Some(value) => drop(self.stored.insert(key, value)),
                None => drop(self.stored.remove(&key)),
            }
        }
    }

    /// Killed and started again.
    fn restart(&mut self) {
        self.authority = Authority::default();
        for (key, value) in &self.stored {
            assert_eq!(self.authority.restore(key, value), Some(true), "{key}");
        }
    }

    fn query(&self, challenge: bool) -> String {
        let pkce =
            if challenge { format!("&code_challenge={CHALLENGE}&code_challenge_method=S256") } else { String::new() };
        format!("response_type=code&client_id=c&redirect_uri=https%3A%2F%2Fa.example%2Fcb&state=s%26t{pkce}")
    }

    fn code(&mut self, challenge: bool) -> String {
        let request = authorize(&self.authority, "https://h", &self.query(challenge)).unwrap();
        let consent = Consent {
            member: MemberId::new("alice").unwrap(),
            link: LinkId::new("lnk").unwrap(),
            profile: "glance".into(),
            sensors: Vec::new(),
        };
        let random = self.random();
        let (code, token, entry) = self.authority.new_code(&request, consent, self.now, random).unwrap();
        self.store(vec![entry]);
        self.authority.add_code(code);
        token.reveal().to_owned()
    }

    fn check(&self, code: &str) -> Result<Code, CodeFault> {
        self.authority.check_code(&self.client, (code, Some(REDIRECT), Some(VERIFIER)), self.now)
    }

    /// Exchanges a code; gives access and refresh token.
    fn exchange(&mut self, code: &str) -> Result<(String, String), CodeFault> {
        let code = self.check(code)?;
        let random = (self.random(), self.random());
        let (family, issued) = self.authority.exchange(&code, self.now, random);
        self.store(issued.entries.clone());
        self.authority.code_used(family);
        let (access, refresh) = told(&issued);
        Ok((access, refresh.unwrap()))
    }

    fn refresh(&mut self, token: &str) -> Result<(String, Option<String>), RefreshFault> {
        let random = (self.random(), self.random());
        let (_, issued) = self.authority.refresh(&self.client, token, self.now, random)?;
        self.store(issued.entries.clone());
        Ok(told(&issued))
    }

    fn opens(&mut self, access: &str) -> bool {
        match self.authority.open(access, self.now) {
            Some((_, entry)) => {
                self.store(entry.into_iter().collect());
                true
            }
            None => false,
        }
    }

    fn linked(rotate: bool) -> (Self, String, String) {
        let mut story = Self::new(rotate, true);
        let code = story.code(true);
        let (access, refresh) = story.exchange(&code).unwrap();
        (story, access, refresh)
    }
}

fn told(issued: &Issued) -> (String, Option<String>) {
    let json: Value = serde_json::from_slice(&issued.wire).unwrap();
    let kept = String::from_utf8(issued.kept.clone()).unwrap();
    let access = json["access_token"].as_str().unwrap().to_owned();
    let refresh = json["refresh_token"].as_str().map(str::to_owned);
    assert!(!kept.contains(&access) && refresh.as_ref().is_none_or(|r| !kept.contains(r)), "{kept}");
    assert_eq!((json["token_type"].as_str(), json["expires_in"].as_i64()), (Some("Bearer"), Some(3600)));
    (access, refresh)
}

#[test]
fn a_browser_is_sent_back_only_where_the_client_is_registered_and_pkce_is_held_to() {
    let story = Story::new(true, true);
    let ask = |query: &str| authorize(&story.authority, "https://h", query);
    let good = story.query(true);
    let request = ask(&good).unwrap();
    assert_eq!((request.redirect.as_str(), request.state.as_deref()), (REDIRECT, Some("s&t")));
    for unknown in [
        good.replace("client_id=c", "client_id=d"),
        good.replace("client_id=c", "client_id=a%20b"),
        good.replace("%2Fcb", "%2Fcb%2F"),
        good.replace("%2Fcb", "%2Fcb%3Fx%3D1"),
        good.replace("a.example", "a.example.org"),
        good.replace("&redirect_uri=https%3A%2F%2Fa.example%2Fcb", ""),
        format!("{good}&redirect_uri=https%3A%2F%2Fevil.example"),
        format!("{good}&x={}", "y".repeat(FORM_MAX_BYTES)),
    ] {
        assert_eq!(ask(&unknown).unwrap_err(), AuthorizeFault::Unknown, "{unknown:.200}");
    }
    for (query, error) in [
        (story.query(false), "invalid_request"),
        (good.replace("S256", "plain"), "invalid_request"),
        (good.replace("&code_challenge_method=S256", ""), "invalid_request"),
        (good.replace(CHALLENGE, "short"), "invalid_request"),
        (good.replace("response_type=code", "response_type=token"), "unsupported_response_type"),
        (good.replace("response_type=code&", ""), "invalid_request"),
    ] {
        let AuthorizeFault::Back(url) = ask(&query).unwrap_err() else { panic!("{query}") };
        assert!(url.starts_with(&format!("{REDIRECT}?error={error}&")), "{url}");
        assert!(url.contains("state=s%26t") && url.ends_with("iss=https%3A%2F%2Fh"), "{url}");
    }
    let AuthorizeFault::Back(url) = ask(&good.replace("s%26t", &"s".repeat(STATE_MAX_BYTES + 1))).unwrap_err() else {
        panic!("a state that is too long")
    };
    assert!(!url.contains("state="), "{url}");
    // Where the client need not, it may; and is checked then.
    let lax = Story::new(true, false);
    assert_eq!(authorize(&lax.authority, "https://h", &lax.query(false)).unwrap().challenge, None);
    assert_eq!(authorize(&lax.authority, "https://h", &lax.query(true)).unwrap().challenge.as_deref(), Some(CHALLENGE));
}

#[test]
fn a_code_works_once_for_its_client_in_its_time_with_its_verifier_and_redirect() {
    let mut story = Story::new(true, true);
    let code = story.code(true);
    let check = |story: &Story, client: &str, redirect: Option<&str>, verifier: Option<&str>| {
        let client = ClientId::new(client).unwrap();
        story.authority.check_code(&client, (&code, redirect, verifier), story.now).map(drop)
    };
    let invalid = Err(CodeFault::Invalid);
    assert_eq!(check(&story, "other", Some(REDIRECT), Some(VERIFIER)), invalid);
    assert_eq!(check(&story, "c", Some("https://a.example/cb2"), Some(VERIFIER)), invalid);
    assert_eq!(check(&story, "c", None, Some(VERIFIER)), invalid);
    assert_eq!(check(&story, "c", Some(REDIRECT), None), invalid);
    assert_eq!(check(&story, "c", Some(REDIRECT), Some(CHALLENGE)), invalid);
    let (made, link) = (story.now, LinkId::new("lnk").unwrap());
    assert!(story.authority.is_waiting(&link, made) && story.authority.abandoned(made).is_empty());
    story.now = made.plus_millis(CODE_LIFE_MS);
    assert_eq!(check(&story, "c", Some(REDIRECT), Some(VERIFIER)), invalid, "too late");
    assert!(!story.authority.is_waiting(&link, story.now));
    assert_eq!(story.authority.abandoned(story.now), [link]);
    story.now = made.plus_millis(CODE_LIFE_MS - 1);
    let (access, refresh) = story.exchange(&code).unwrap();
    assert!(story.opens(&access));
    assert!(story.authority.abandoned(made.plus_millis(CODE_LIFE_MS)).is_empty());
    // Reused, also after a restart, and long after it expired: what it gave must stop.
    story.restart();
    story.now = story.now.plus_millis(CODE_MEMORY_MS - 1);
    assert!(story.authority.forget_codes(story.now).is_empty());
    let link = LinkId::new("lnk").unwrap();
    assert_eq!(story.exchange(&code).unwrap_err(), CodeFault::Reused(link.clone()));
    let entry = story.authority.stop(&link, story.now, StopReason::CodeReused).unwrap();
    story.store(vec![entry]);
    story.restart();
    assert!(!story.opens(&access));
    assert_eq!(story.refresh(&refresh).unwrap_err(), RefreshFault::Invalid);
    // At last it is forgotten.
    story.now = story.now.plus_millis(CODE_MEMORY_MS);
    let gone = story.authority.forget_codes(story.now);
    assert_eq!(gone.len(), 1);
    assert_eq!(story.exchange(&code).unwrap_err(), CodeFault::Invalid);
    // Nothing that is stored is a secret.
    let stored = format!("{:?}", story.stored);
    for secret in [&code, &access, &refresh, &story.secret] {
        assert!(!stored.contains(secret.get(4..).unwrap()), "{secret}");
    }
}

#[test]
fn a_spent_refresh_token_stops_all_and_a_lost_answer_strands_nobody() {
    let (mut story, first_access, first) = Story::linked(true);
    // The answer is lost, twice; the partner comes again, even months later.
    let (lost_access, lost) = story.refresh(&first).unwrap();
    story.restart();
    let (_, also_lost) = story.refresh(&first).unwrap();
    story.now = story.now.plus_millis(REFRESH_LIFE_MS - 1);
    let (access, second) = story.refresh(&first).unwrap();
    assert!(!story.opens(&first_access), "an hour has passed");
    // This one arrives: what was given beside it is worth nothing from its first use on.
    assert!(story.opens(&access) && !story.opens(&lost_access));
    story.restart();
    assert!(story.opens(&access));
    let second = second.unwrap();
    let (newest, third) = story.refresh(&second).unwrap();
    assert!(story.opens(&newest) && story.opens(&access), "what is in flight still arrives");
    let link = LinkId::new("lnk").unwrap();
    for spent in [first, lost.unwrap(), also_lost.unwrap(), second] {
        assert_eq!(story.refresh(&spent).unwrap_err(), RefreshFault::Reused(link.clone()));
    }
    story.authority.stop(&link, story.now, StopReason::RefreshReused).unwrap();
    assert!(!story.opens(&newest));
    assert_eq!(story.refresh(&third.unwrap()).unwrap_err(), RefreshFault::Invalid);
    assert_eq!(story.authority.family(&link).unwrap().stopped.unwrap().why, StopReason::RefreshReused);
}

#[test]
fn without_rotation_the_refresh_token_stays_and_is_the_clients_own() {
    let (mut story, _, refresh) = Story::linked(false);
    for _ in 0..3 {
        let (access, none) = story.refresh(&refresh).unwrap();
        assert!(none.is_none() && story.opens(&access));
    }
    for _ in 0..ACCESS_MAX * 2 {
        story.refresh(&refresh).unwrap();
    }
    assert!(story.stored["family/lnk"].len() < 4096, "what is kept is bounded");
    let other = ClientId::new("other").unwrap();
    let random = (story.random(), story.random());
    assert_eq!(story.authority.refresh(&other, &refresh, story.now, random).unwrap_err(), RefreshFault::Invalid);
    assert_eq!(story.authority.revoke(&other, &refresh), None);
    let (access, _) = story.refresh(&refresh).unwrap();
    let Some(Revoked::Access(_)) = story.authority.revoke(&story.client.clone(), &access) else {
        panic!("an access token")
    };
    assert!(!story.opens(&access));
    let link = LinkId::new("lnk").unwrap();
    assert_eq!(story.authority.revoke(&story.client.clone(), &refresh), Some(Revoked::Link(link.clone())));
    let gone = story.authority.remove_link(&link);
    story.store(gone);
    story.restart();
    assert_eq!(story.refresh(&refresh).unwrap_err(), RefreshFault::Invalid);
    // Unused for its whole life, it ends.
    let (mut story, _, refresh) = Story::linked(false);
    story.now = story.now.plus_millis(REFRESH_LIFE_MS);
    assert_eq!(story.refresh(&refresh).unwrap_err(), RefreshFault::Invalid);
}

/// One step of a partner, or of a thief who copied what the partner held.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A refresh whose answer arrives.
    Refresh,
    /// A refresh that is stored, and whose answer is lost.
    LostAnswer,
    /// A refresh after which the hub is killed before it is stored.
    KilledBefore,
    /// An access token is used.
    Use,
    /// An access token is used, and the hub is killed before that is stored.
    UseAndKilled,
    /// The hub is killed.
    Restart,
    /// Time passes.
    Hour,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Refresh),
        Just(Step::LostAnswer),
        Just(Step::KilledBefore),
        Just(Step::Use),
        Just(Step::UseAndKilled),
        Just(Step::Restart),
        Just(Step::Hour),
    ]
}

/// Carries one step out. Gives whether a refresh was asked for and refused, and whether an access token opened.
fn walk(story: &mut Story, held: &mut (String, String), step: Step) -> (bool, bool) {
    match step {
        Step::Refresh | Step::LostAnswer | Step::KilledBefore => {
            let before = story.stored.clone();
            let answer = story.refresh(&held.1);
            if matches!(step, Step::KilledBefore) {
                story.stored = before;
                story.restart();
                return (answer.is_err(), false);
            }
            match answer {
                Ok((access, refresh)) if matches!(step, Step::Refresh) => {
                    *held = (access, refresh.unwrap_or_else(|| held.1.clone()));
                    (false, false)
                }
                Ok(_) => (false, false),
                Err(RefreshFault::Reused(link)) => {
                    let entry = story.authority.stop(&link, story.now, StopReason::RefreshReused);
                    story.store(entry.into_iter().collect());
                    (true, false)
                }
                Err(RefreshFault::Invalid) => (true, false),
            }
        }
        Step::Use => (false, story.opens(&held.0.clone())),
        Step::UseAndKilled => {
            let before = story.stored.clone();
            let opened = story.opens(&held.0.clone());
            story.stored = before;
            story.restart();
            // What was not recorded was not answered.
            let _ = opened;
            (false, false)
        }
        Step::Restart => {
            story.restart();
            (false, false)
        }
        Step::Hour => {
            story.now = story.now.plus_millis(ACCESS_LIFE_MS);
            (false, false)
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_lost_or_killed_the_partner_is_never_stranded(
        rotate: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (mut story, access, refresh) = Story::linked(rotate);
        let mut held = (access, refresh);
        let mut lost = 0;
        for step in steps {
            // More answers lost in a row than are remembered: beyond the named limit.
            lost = if matches!(step, Step::LostAnswer) { lost + 1 } else { lost };
            prop_assume!(lost < ANSWERS_MAX);
            let (refused, _) = walk(&mut story, &mut held, step);
            prop_assert!(!refused, "{step:?}");
            prop_assert!(story.authority.family(&LinkId::new("lnk").unwrap()).unwrap().stopped.is_none());
        }
        let (refused, _) = walk(&mut story, &mut held, Step::Refresh);
        prop_assert!(!refused);
        prop_assert!(story.opens(&held.0));
    }

    #[test]
    fn of_two_who_hold_one_refresh_token_only_one_can_use_what_it_gives(
        steps in proptest::collection::vec((any::<bool>(), step()), 1..60),
    ) {
        let (mut story, access, refresh) = Story::linked(true);
        let mut partner = (access, refresh.clone());
        // What was good before the theft ends within the hour.
        story.now = story.now.plus_millis(ACCESS_LIFE_MS);
        let mut thief = (String::from("none"), refresh);
        let mut used = (false, false);
        for (is_thief, step) in steps {
            let held = if is_thief { &mut thief } else { &mut partner };
            let (_, opened) = walk(&mut story, held, step);
            if is_thief { used.0 |= opened } else { used.1 |= opened }
            prop_assert!(!(used.0 && used.1), "both used it");
        }
        // Whoever comes second is noticed, and all stop.
        if used.0 || used.1 {
            let late = if used.0 { &mut partner } else { &mut thief };
            let (refused, _) = walk(&mut story, late, Step::Refresh);
            let stopped = story.authority.family(&LinkId::new("lnk").unwrap()).unwrap().stopped.is_some();
            prop_assert!(refused && stopped);
        }
    }
}

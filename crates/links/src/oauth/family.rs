//! The tokens of one link: all that come from one consent.
//!
//! A refresh that rotates is safe against theft only if an old token that comes back is noticed, and safe against a lost
//! answer only if an old token that comes back is answered. Both hold, because what counts is which answer comes back: a
//! refresh token may be answered several times, as long as nothing of any answer has been used. The first answer that is
//! used becomes the only one; whatever was given out beside it, and the token before, are spent from then on. A spent
//! refresh token that comes back means that two parties hold tokens of one line: then all stop.

use model::{ClientId, LinkId, MemberId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ACCESS_LIFE_MS, ACCESS_MAX, ANSWERS_MAX, REFRESH_LIFE_MS, SPENT_MAX};
use crate::secret::{Hash, REFRESH_PREFIX, Token};

/// Why a link's tokens were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A refresh token came back after its successor had been used: somebody has a copy.
    RefreshReused,
    /// A code came a second time.
    CodeReused,
}

impl StopReason {
    /// In words, for the household.
    pub fn words(self) -> &'static str {
        match self {
            StopReason::RefreshReused => "an old refresh token was used again: somebody may have a copy. Link again",
            StopReason::CodeReused => "an authorization code was used twice: somebody may have seen it. Link again",
        }
    }
}

/// The tokens were stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: StopReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Access {
    hash: Hash,
    /// The refresh token that was given with it.
    of: Hash,
    expires: Timestamp,
}

/// The tokens of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Whose they are.
    pub link: LinkId,
    /// The client that holds them.
    pub client: ClientId,
    /// The member who consented.
    pub member: MemberId,
    /// When.
    pub made: Timestamp,
    /// The last refresh.
    pub refreshed: Timestamp,
    /// When the refresh token ends unless it is used before.
    pub expires: Timestamp,
    /// They were stopped.
    pub stopped: Option<Stopped>,
    /// The code that they come from.
    pub(crate) code: Hash,
    rotates: bool,
    /// The refresh token that the client is known to hold.
    settled: Hash,
    /// Refresh tokens given for it, none of which has come back.
    answers: Vec<Hash>,
    /// Refresh tokens that are worth nothing.
    spent: Vec<Hash>,
    access: Vec<Access>,
}

/// What a refresh token is to a family.
pub(crate) enum Seen {
    /// It may be used.
    Good,
    /// It is spent.
    Spent,
    /// It is none of this family.
    Unknown,
}

/// New tokens.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) access: Token,
    pub(crate) refresh: Option<Token>,
}

impl Family {
    /// The first tokens of a consent.
    pub(crate) fn new(
        (link, client, member): (LinkId, ClientId, MemberId),
        rotates: bool,
        code: Hash,
        now: Timestamp,
        random: ([u8; 32], [u8; 32]),
    ) -> (Self, Fresh) {
        let (access, refresh) = (Token::from_random(random.0), Token::of_kind(REFRESH_PREFIX, random.1));
        let settled = Hash::of(refresh.reveal());
        let mut family = Self {
            link,
            client,
            member,
            made: now,
            refreshed: now,
            expires: now.plus_millis(REFRESH_LIFE_MS),
            stopped: None,
            code,
            rotates,
            settled,
            answers: Vec::new(),
            spent: Vec::new(),
            access: Vec::new(),
        };
        family.add_access(&access, settled, now);
        (family, Fresh { access, refresh: Some(refresh) })
    }

    /// Whether anything can still be done with them.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.stopped.is_none() && now < self.expires
    }

    pub(crate) fn look(&self, refresh: &Hash) -> Seen {
        let among = |list: &[Hash]| list.iter().fold(false, |found, h| found | h.is(refresh));
        // All are compared, whichever fits.
        match (self.settled.is(refresh) | among(&self.answers), among(&self.spent)) {
            (true, _) => Seen::Good,
            (false, true) => Seen::Spent,
            (false, false) => Seen::Unknown,
        }
    }

    /// Answers a refresh token that [`look`](Self::look) found good.
    pub(crate) fn refresh(&mut self, refresh: &Hash, now: Timestamp, random: ([u8; 32], [u8; 32])) -> Fresh {
        self.settle(*refresh);
        self.refreshed = now;
        self.expires = now.plus_millis(REFRESH_LIFE_MS);
        let access = Token::from_random(random.0);
        if !self.rotates {
            self.add_access(&access, self.settled, now);
            return Fresh { access, refresh: None };
        }
        let token = Token::of_kind(REFRESH_PREFIX, random.1);
        let hash = Hash::of(token.reveal());
        self.answers.push(hash);
        if self.answers.len() > ANSWERS_MAX {
            let oldest = self.answers.remove(0);
            self.access.retain(|a| !a.of.is(&oldest));
            self.spend(oldest);
        }
        self.add_access(&access, hash, now);
        Fresh { access, refresh: Some(token) }
    }

    /// An answer has come back: it is the one that counts. True when that changed something.
    fn settle(&mut self, refresh: Hash) -> bool {
        if !self.answers.iter().any(|h| h.is(&refresh)) {
            return false;
        }
        let others: Vec<Hash> = std::mem::take(&mut self.answers).into_iter().filter(|h| !h.is(&refresh)).collect();
        self.access.retain(|a| !others.iter().any(|h| h.is(&a.of)));
        let before = std::mem::replace(&mut self.settled, refresh);
        for hash in others.into_iter().chain([before]) {
            self.spend(hash);
        }
        true
    }

    fn spend(&mut self, refresh: Hash) {
        self.spent.push(refresh);
        if self.spent.len() > SPENT_MAX {
            self.spent.remove(0);
        }
    }

    /// Whether this access token is good. The second is the answer that it shows to have come back, if that is news.
    pub(crate) fn opens(&self, access: &Hash, now: Timestamp) -> (bool, Option<Hash>) {
        let mut found = None;
        for a in &self.access {
            if a.hash.is(access) {
                found = Some(a);
            }
        }
        match found.filter(|a| now < a.expires && self.is_good(now)) {
            Some(a) => (true, self.answers.iter().find(|h| h.is(&a.of)).copied()),
            None => (false, None),
        }
    }

    /// Notes that an answer has come back.
    pub(crate) fn came_back(&mut self, answer: Hash) -> bool {
        self.settle(answer)
    }

    /// Takes one access token back. True when it was one of these.
    pub(crate) fn drop_access(&mut self, access: &Hash) -> bool {
        let before = self.access.len();
        self.access.retain(|a| !a.hash.is(access));
        self.access.len() < before
    }

    /// Stops all tokens.
    pub(crate) fn stop(&mut self, at: Timestamp, why: StopReason) {
        self.stopped.get_or_insert(Stopped { at, why });
        self.access.clear();
    }

    fn add_access(&mut self, token: &Token, of: Hash, now: Timestamp) {
        self.access.retain(|a| now < a.expires);
        if self.access.len() >= ACCESS_MAX {
            self.access.remove(0);
        }
        self.access.push(Access { hash: Hash::of(token.reveal()), of, expires: now.plus_millis(ACCESS_LIFE_MS) });
    }
}

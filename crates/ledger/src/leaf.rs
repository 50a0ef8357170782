//! Leaves: what the tree holds (spec section 1).

use std::sync::Arc;

use model::{DeviceId, HouseholdId, Kind, LinkId, PartnerId, Property, Rung, Timestamp, Trigger};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::canonical;
use crate::digest::Digest;
use crate::limits::{
    CHANGE_MAX_BYTES, COMMAND_MAX_BYTES, DEMANDS_MAX, INTEGER_MAX, ITEMS_MAX, LEAF_MAX_BYTES, MESSAGE_MAX_BYTES,
    POLICIES_MAX, POLICY_ID_MAX_BYTES, PROFILE_MAX_BYTES, PROPERTIES_MAX, REASON_MAX_BYTES, THREAT_MAX_BYTES,
    WHO_MAX_BYTES,
};

/// The version of the leaf format that this crate writes.
pub(crate) const VERSION: i64 = 1;

/// One entry of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Place in the tree, from 0.
    pub index: u64,
    /// When it was recorded, by the hub's clock. May step back; the order is the index.
    pub time: Timestamp,
    /// The household whose tree this is.
    pub household: HouseholdId,
    /// What is recorded.
    pub entry: Entry,
    /// The body, if this leaf has one.
    pub body: Option<BodyRef>,
}

/// What a leaf says of its body, which lies beside the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRef {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256(salt, then body).
    pub commitment: Digest,
    /// SHA-256(salt, then stored body), when secrets in the stored body were replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<Digest>,
}

/// What a leaf records. The variants are the `type`s of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The tree begins.
    Genesis(Genesis),
    /// A message is about to leave.
    Intent(Intent),
    /// Further items of an intent.
    More(More),
    /// What became of an intent.
    Outcome(Outcome),
    /// What was refused to one link in one tick.
    Refusals(Refusals),
    /// A directive that was allowed, before it is carried out.
    Command(Command),
    /// The policy set changed.
    Policy(Policy),
    /// A company demanded something in writing.
    Demand(Demand),
    /// A link was made, changed or ended.
    Link(Link),
}

/// The first leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Verifier key of the checkpoints, as in C2SP signed-note.
    pub key: String,
    /// Origin of the checkpoints.
    pub origin: String,
}

/// A message that is about to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Who gets it.
    pub partner: PartnerId,
    /// Over which link.
    pub link: LinkId,
    /// Why it leaves.
    pub trigger: Trigger,
    /// Kind of the message in the partner's words, as in `Alexa.StateReport`.
    pub message: String,
    /// SHA-256 of the policies in force.
    pub policy_set: Digest,
    /// What it discloses. In a draft all of it; in a leaf as much as fits, the rest in `more` leaves.
    pub items: Vec<Item>,
    /// How many `more` leaves follow. Set by the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: u64,
}

/// One disclosed item: what, not its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    // In the order of the canonical form, which is then written without sorting.
    /// The device, by the hub's own id.
    pub device: DeviceId,
    /// How sensitive it is.
    pub kind: Kind,
    /// Ids of the policies that allowed it.
    pub policies: Arc<[String]>,
    /// What was disclosed of it.
    pub property: Property,
    /// How precise and fresh it was.
    pub rung: Rung,
    /// The sample time that was given out.
    pub tick: Timestamp,
}

/// Items that didn't fit into the intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct More {
    /// Index of the intent.
    pub of: u64,
    /// Further items.
    pub items: Vec<Item>,
}

/// What became of an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Index of the intent.
    pub intent: u64,
    /// What became of it.
    pub result: SendResult,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendResult {
    /// The bytes were handed to the network and, where the protocol answers, accepted.
    Sent,
    /// Given up before a byte left.
    Aborted,
    /// Tried; some bytes may have left.
    Failed,
}

/// What was refused to one link in one tick, summed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Who was refused.
    pub partner: PartnerId,
    /// Over which link.
    pub link: LinkId,
    /// Start of the tick.
    pub tick: Timestamp,
    /// SHA-256 of the policies in force.
    pub policy_set: Digest,
    /// What was refused, how often.
    pub items: Vec<Refused>,
    /// Indexes of the demands on the docket that this refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<u64>,
}

/// One refused item of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The device, by the hub's own id.
    pub device: DeviceId,
    /// What was asked of it.
    pub property: Property,
    /// How it was asked.
    pub trigger: Trigger,
    /// Why it was refused, in one word.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// A directive that was allowed, before it is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Who commands.
    pub partner: PartnerId,
    /// Over which link.
    pub link: LinkId,
    /// Kind of the directive in the partner's words, as in `Alexa.ThermostatController/SetTargetTemperature`.
    pub message: String,
    /// The device it goes to.
    pub device: DeviceId,
    /// The order in the hub's words.
    pub command: String,
    /// The properties it sets.
    pub properties: Vec<Property>,
    /// SHA-256 of the policies in force.
    pub policy_set: Digest,
    /// Ids of the policies that allowed it.
    pub policies: Arc<[String]>,
}

/// A change of the policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// SHA-256 of the policies now in force.
    pub policy_set: Digest,
    /// SHA-256 of those before; none at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Who changed it: a member's id, or `hub` for an expiry.
    pub by: String,
    /// One line for people.
    pub change: String,
    /// The link concerned, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<LinkId>,
    /// Indexes of the demands on the docket that this refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub demands: Vec<u64>,
}

/// A written demand. Its text is the leaf's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// On behalf of which partner.
    pub partner: PartnerId,
    /// Who asked.
    pub asked_by: String,
    /// Until when, `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// What follows when it isn't done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threat: Option<String>,
}

/// A link was made, changed or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The partner.
    pub partner: PartnerId,
    /// The link.
    pub link: LinkId,
    /// What happened.
    pub event: LinkEvent,
    /// The profile applied, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkEvent {
    /// It was made.
    Created,
    /// Its profile or name changed.
    Changed,
    /// It was ended.
    Revoked,
}

/// Bytes that are not a leaf, or a draft that can't become one.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Not JSON, or not of the shape of its type.
    #[error("a leaf is not readable")]
    Json(#[source] serde_json::Error),
    /// Readable, but not the canonical form of what it says.
    #[error("a leaf is not in canonical form, or has an unknown key")]
    NotCanonical,
    /// A version from the future.
    #[error("a leaf has version {0}; this program reads version 1: use a newer one")]
    Version(String),
    /// A type that version 1 doesn't have.
    #[error("a leaf has the unknown type `{0}`: use a newer program")]
    Type(String),
    /// An integer beyond 2^53-1, a fraction or a negative count.
    #[error("a number in a leaf is not an integer between -(2^53-1) and 2^53-1")]
    Integer,
    /// Longer than a leaf may be.
    #[error("a leaf of {0} bytes is longer than {LEAF_MAX_BYTES}")]
    TooLong(usize),
    /// A text or list beyond its named limit.
    #[error("`{what}` is too long: at most {max}")]
    Limit {
        /// The key.
        what: &'static str,
        /// Its limit: bytes of a text, entries of a list.
        max: usize,
    },
    /// A date of another form.
    #[error("`{0}` is not a date: write YYYY-MM-DD")]
    Date(String),
    /// A body where none belongs, or none where one must be.
    #[error("a leaf of type `{0}` has a body where it must not, or lacks one")]
    Body(&'static str),
    /// An outcome for something else than an intent.
    #[error("only an intent has an outcome; leaf {0} is none")]
    NotAnIntent(u64),
}

impl Leaf {
    /// The canonical form.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        self.entry.check(self.body.is_some())?;
        let bytes = match &self.entry {
            Entry::Genesis(e) => self.write(e),
            Entry::Intent(e) => self.write(e),
            Entry::More(e) => self.write(e),
            Entry::Outcome(e) => self.write(e),
            Entry::Refusals(e) => self.write(e),
            Entry::Command(e) => self.write(e),
            Entry::Policy(e) => self.write(e),
            Entry::Demand(e) => self.write(e),
            Entry::Link(e) => self.write(e),
        }?;
        if bytes.len() > LEAF_MAX_BYTES { Err(LeafError::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// The header's keys and the entry's own, in one object.
    fn write(&self, entry: &impl Serialize) -> Result<Vec<u8>, LeafError> {
        #[derive(Serialize)]
        struct Written<'a, E> {
            v: i64,
            index: u64,
            time: Timestamp,
            #[serde(rename = "type")]
            type_name: &'static str,
            household: &'a HouseholdId,
            #[serde(skip_serializing_if = "Option::is_none")]
            body: Option<BodyRef>,
            #[serde(flatten)]
            entry: &'a E,
        }
        canonical::to_bytes(&Written {
            v: VERSION,
            index: self.index,
            time: self.time,
            type_name: self.entry.type_name(),
            household: &self.household,
            body: self.body,
            entry,
        })
    }

    /// Reads a leaf, strictly: whatever this returns encodes to the very same bytes.
    ///
    /// # Errors
    /// When the bytes are too long, not JSON, of an unknown version or type, or not the canonical form.
    pub fn decode(bytes: &[u8]) -> Result<Leaf, LeafError> {
        #[derive(Deserialize)]
        struct Header {
            index: u64,
            time: Timestamp,
            household: HouseholdId,
            body: Option<BodyRef>,
        }
        if bytes.len() > LEAF_MAX_BYTES {
            return Err(LeafError::TooLong(bytes.len()));
        }
        let value: Value = serde_json::from_slice(bytes).map_err(LeafError::Json)?;
        match value.get("v") {
            Some(v) if v.as_i64() == Some(VERSION) => {}
            other => return Err(LeafError::Version(other.map_or_else(|| "none".into(), shortened))),
        }
        let entry = Entry::from_value(&value)?;
        let header: Header = read(&value)?;
        let leaf =
            Leaf { index: header.index, time: header.time, household: header.household, entry, body: header.body };
        if leaf.encode()? == bytes { Ok(leaf) } else { Err(LeafError::NotCanonical) }
    }

    /// The leaf as a JSON object, for people and tools.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded; never for a decoded leaf.
    pub fn to_object(&self) -> Result<Map<String, Value>, LeafError> {
        serde_json::from_slice(&self.encode()?).map_err(LeafError::Json)
    }
}

impl Entry {
    /// The `type` of the leaf.
    pub fn type_name(&self) -> &'static str {
        match self {
            Entry::Genesis(_) => "genesis",
            Entry::Intent(_) => "intent",
            Entry::More(_) => "more",
            Entry::Outcome(_) => "outcome",
            Entry::Refusals(_) => "refusals",
            Entry::Command(_) => "command",
            Entry::Policy(_) => "policy",
            Entry::Demand(_) => "demand",
            Entry::Link(_) => "link",
        }
    }

    /// The partner concerned, if it is one.
    pub fn partner(&self) -> Option<&PartnerId> {
        match self {
            Entry::Intent(e) => Some(&e.partner),
            Entry::Refusals(e) => Some(&e.partner),
            Entry::Command(e) => Some(&e.partner),
            Entry::Demand(e) => Some(&e.partner),
            Entry::Link(e) => Some(&e.partner),
            Entry::Genesis(_) | Entry::More(_) | Entry::Outcome(_) | Entry::Policy(_) => None,
        }
    }

    /// The link concerned, if it is one.
    pub fn link(&self) -> Option<&LinkId> {
        match self {
            Entry::Intent(e) => Some(&e.link),
            Entry::Refusals(e) => Some(&e.link),
            Entry::Command(e) => Some(&e.link),
            Entry::Link(e) => Some(&e.link),
            Entry::Policy(e) => e.link.as_ref(),
            Entry::Genesis(_) | Entry::More(_) | Entry::Outcome(_) | Entry::Demand(_) => None,
        }
    }

    /// Holds the entry against the limits of the spec. After this, only the length of the items can make a leaf too
    /// long.
    pub(crate) fn check(&self, has_body: bool) -> Result<(), LeafError> {
        let body_fits = match self {
            Entry::Intent(_) | Entry::Demand(_) => has_body,
            Entry::Command(_) | Entry::Policy(_) => true,
            Entry::Genesis(_) | Entry::More(_) | Entry::Outcome(_) | Entry::Refusals(_) | Entry::Link(_) => !has_body,
        };
        if !body_fits {
            return Err(LeafError::Body(self.type_name()));
        }
        match self {
            Entry::Genesis(_) | Entry::Outcome(_) => Ok(()),
            Entry::Intent(e) => {
                text("message", &e.message, MESSAGE_MAX_BYTES)?;
                items(&e.items)
            }
            Entry::More(e) => items(&e.items),
            Entry::Refusals(e) => {
                list("items", &e.items, ITEMS_MAX)?;
                time(e.tick)?;
                demands(&e.demands)?;
                e.items.iter().try_for_each(|item| {
                    text("reason", &item.reason, REASON_MAX_BYTES)?;
                    count(item.count)
                })
            }
            Entry::Command(e) => {
                text("message", &e.message, MESSAGE_MAX_BYTES)?;
                text("command", &e.command, COMMAND_MAX_BYTES)?;
                list("properties", &e.properties, PROPERTIES_MAX)?;
                policies(&e.policies)
            }
            Entry::Policy(e) => {
                text("by", &e.by, WHO_MAX_BYTES)?;
                text("change", &e.change, CHANGE_MAX_BYTES)?;
                demands(&e.demands)
            }
            Entry::Demand(e) => {
                text("asked_by", &e.asked_by, WHO_MAX_BYTES)?;
                text("threat", e.threat.as_deref().unwrap_or_default(), THREAT_MAX_BYTES)?;
                e.deadline.as_deref().map_or(Ok(()), date)
            }
            Entry::Link(e) => text("profile", e.profile.as_deref().unwrap_or_default(), PROFILE_MAX_BYTES),
        }
    }

    fn from_value(value: &Value) -> Result<Entry, LeafError> {
        Ok(match value.get("type").and_then(Value::as_str).unwrap_or("none") {
            "genesis" => Entry::Genesis(read(value)?),
            "intent" => Entry::Intent(read(value)?),
            "more" => Entry::More(read(value)?),
            "outcome" => Entry::Outcome(read(value)?),
            "refusals" => Entry::Refusals(read(value)?),
            "command" => Entry::Command(read(value)?),
            "policy" => Entry::Policy(read(value)?),
            "demand" => Entry::Demand(read(value)?),
            "link" => Entry::Link(read(value)?),
            other => return Err(LeafError::Type(other.chars().take(40).collect())),
        })
    }
}

/// Checks that a time can stand in a leaf.
pub(crate) fn time(time: Timestamp) -> Result<(), LeafError> {
    if (-INTEGER_MAX..=INTEGER_MAX).contains(&time.as_millis()) { Ok(()) } else { Err(LeafError::Integer) }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, LeafError> {
    T::deserialize(value).map_err(LeafError::Json)
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

fn text(what: &'static str, text: &str, max: usize) -> Result<(), LeafError> {
    if text.len() > max { Err(LeafError::Limit { what, max }) } else { Ok(()) }
}

fn list<T>(what: &'static str, list: &[T], max: usize) -> Result<(), LeafError> {
    if list.len() > max { Err(LeafError::Limit { what, max }) } else { Ok(()) }
}

fn count(n: u64) -> Result<(), LeafError> {
    if n <= INTEGER_MAX.unsigned_abs() { Ok(()) } else { Err(LeafError::Integer) }
}

fn items(items: &[Item]) -> Result<(), LeafError> {
    list("items", items, ITEMS_MAX)?;
    items.iter().try_for_each(|item| {
        time(item.tick)?;
        policies(&item.policies)
    })
}

fn policies(ids: &[String]) -> Result<(), LeafError> {
    list("policies", ids, POLICIES_MAX)?;
    ids.iter().try_for_each(|id| text("policies", id, POLICY_ID_MAX_BYTES))
}

fn demands(indexes: &[u64]) -> Result<(), LeafError> {
    list("demands", indexes, DEMANDS_MAX)?;
    indexes.iter().try_for_each(|index| count(*index))
}

fn date(text: &str) -> Result<(), LeafError> {
    let bytes = text.as_bytes();
    let form = bytes.len() == 10
        && bytes.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() });
    let month = text.get(5..7).and_then(|m| m.parse::<u8>().ok()).is_some_and(|m| (1..=12).contains(&m));
    let day = text.get(8..10).and_then(|d| d.parse::<u8>().ok()).is_some_and(|d| (1..=31).contains(&d));
    if form && month && day { Ok(()) } else { Err(LeafError::Date(text.chars().take(40).collect())) }
}

//! What is claimed: the file and its form.

use std::collections::BTreeSet;

use model::{ALL_TRIGGERS, Class, DeviceId, DeviceType, Kind, PartnerId, Property, Reveals, Rung, Trigger};
use policy::{Action, DeviceFact, LinkFact, Provenance};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The claims that stand for every home and for the shipped profiles.
const STANDING: &str = include_str!("../claims.toml");

/// Most claims of one file.
pub const CLAIMS_MAX: usize = 200;

/// Longest file of claims, in bytes.
pub const CLAIMS_MAX_BYTES: usize = 1 << 20;

/// What may not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Never {
    /// That it is told.
    Told,
    /// That it is commanded; to open is another thing.
    Commanded,
    /// That it is unlocked or opened.
    Opened,
    /// Any of these.
    Anything,
}

/// Something that never happens. An empty list narrows nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub id: String,
    /// What it says, in plain words.
    pub says: String,
    never: Never,
    #[serde(default)]
    pub(crate) partners: Vec<PartnerId>,
    #[serde(default)]
    pub(crate) except_partners: Vec<PartnerId>,
    /// Only to partners that belong to a gatekeeper, or only to others.
    pub(crate) gatekeeper: Option<bool>,
    /// Only to agents, or only to others.
    pub(crate) agent: Option<bool>,
    #[serde(default)]
    pub(crate) properties: Vec<Property>,
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default)]
    pub(crate) device_types: Vec<DeviceType>,
    #[serde(default)]
    pub(crate) devices: Vec<DeviceId>,
    /// Only what tells one of these.
    #[serde(default)]
    reveals: Vec<Reveals>,
    #[serde(default)]
    triggers: Vec<Trigger>,
    /// What is told at one of these rungs, or at one that such a rung gives, is not meant.
    #[serde(default, deserialize_with = "one_or_several")]
    finer_than: Vec<Rung>,
    came_by: Option<Provenance>,
    /// Of commands, only those that need no code.
    #[serde(default)]
    pub(crate) without_code: bool,
    /// What a grant covers is not meant.
    #[serde(default)]
    pub(crate) ungranted: bool,
    /// The profiles that keep it; none is all.
    #[serde(default)]
    profiles: Vec<String>,
    /// Whether it is asked of a home, too.
    #[serde(default = "yes")]
    pub of_homes: bool,
}

/// A rung, or a list of them.
fn one_or_several<'de, D: Deserializer<'de>>(rungs: D) -> Result<Vec<Rung>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a rung, or a list of rungs")]
    enum Rungs {
        One(Rung),
        Several(Vec<Rung>),
    }
    match Rungs::deserialize(rungs)? {
        Rungs::One(rung) => Ok(vec![rung]),
        Rungs::Several(rungs) if rungs.is_empty() => Err(D::Error::custom("name at least one rung, or leave it out")),
        Rungs::Several(rungs) => Ok(rungs),
    }
}

fn yes() -> bool {
    true
}

/// A file that holds no claims.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Too long.
    #[error("the file of claims is longer than {CLAIMS_MAX_BYTES} bytes")]
    TooLong,
    /// Not of this form.
    #[error("the file of claims can't be read: {0}")]
    Form(#[source] Box<toml::de::Error>),
    /// None.
    #[error("the file has no [[claim]]")]
    Empty,
    /// Too many.
    #[error("the file has more than {CLAIMS_MAX} claims")]
    TooMany,
    /// One claim is wrong.
    #[error("claim `{id}`: {wrong}")]
    Claim {
        /// Its name.
        id: String,
        /// What is wrong, and how to mend it.
        wrong: &'static str,
    },
}

/// The claims that stand for every home and for the shipped profiles.
///
/// # Errors
/// Never with the file that is shipped.
pub fn standing() -> Result<Vec<Claim>, ClaimError> {
    Claim::parse(STANDING)
}

impl Claim {
    /// Reads a file of claims.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Vec<Claim>, ClaimError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            claim: Vec<Claim>,
        }
        if text.len() > CLAIMS_MAX_BYTES {
            return Err(ClaimError::TooLong);
        }
        let claims = toml::from_str::<File>(text).map_err(|e| ClaimError::Form(Box::new(e)))?.claim;
        if claims.is_empty() {
            return Err(ClaimError::Empty);
        }
        if claims.len() > CLAIMS_MAX {
            return Err(ClaimError::TooMany);
        }
        let mut seen = BTreeSet::new();
        for claim in &claims {
            let wrong = |wrong| Err(ClaimError::Claim { id: claim.id.clone(), wrong });
            let is_slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if claim.id.is_empty() || claim.id.len() > 64 || !claim.id.bytes().all(is_slug) {
                return wrong("the id is no slug: use at most 64 of a-z, 0-9 and `-`");
            }
            if !seen.insert(&claim.id) {
                return wrong("the id stands twice");
            }
            if claim.says.trim().is_empty() || claim.says.chars().any(char::is_control) {
                return wrong("say in one line of plain words what it means");
            }
            if claim.never != Never::Told && (!claim.triggers.is_empty() || !claim.finer_than.is_empty()) {
                return wrong("`triggers` and `finer_than` speak of what is told: write never = \"told\"");
            }
            if claim.without_code && matches!(claim.never, Never::Told | Never::Anything) {
                return wrong("`without_code` speaks of commands: write never = \"opened\" or \"commanded\"");
            }
            if claim.finer_than.contains(&Rung::Live) {
                return wrong("nothing is finer than live: leave `finer_than` out, or name a coarser rung");
            }
            if claim.profiles.iter().any(|slug| policy::profile(slug).is_none()) {
                return wrong("it names a profile that there is not; see `vestibule profile list`");
            }
        }
        Ok(claims)
    }

    /// What would break it.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        let told = move |trigger: &Trigger| {
            matches!(self.never, Never::Told | Never::Anything)
                && (self.triggers.is_empty() || self.triggers.contains(trigger))
        };
        let commanded = matches!(self.never, Never::Commanded | Never::Anything).then_some(Action::Control);
        let opened = matches!(self.never, Never::Opened | Never::Anything).then_some(Action::Open);
        ALL_TRIGGERS.into_iter().filter(told).map(Action::Told).chain(commanded).chain(opened)
    }

    /// How the data that it speaks of came to the household.
    pub fn provenance(&self) -> Provenance {
        self.came_by.unwrap_or_default()
    }

    /// Whether being told at this rung would break it.
    pub(crate) fn breaks_at(&self, rung: Rung) -> bool {
        !self.finer_than.iter().any(|limit| limit.gives().contains(&rung))
    }

    /// Whether it is kept by a profile.
    pub fn is_of_profile(&self, slug: &str) -> bool {
        self.profiles.is_empty() || self.profiles.iter().any(|s| s == slug)
    }

    /// Whether it speaks of this partner.
    pub(crate) fn is_of_link(&self, link: &LinkFact) -> bool {
        (self.partners.is_empty() || self.partners.contains(&link.partner))
            && !self.except_partners.contains(&link.partner)
            && self.gatekeeper.is_none_or(|g| g == link.gatekeeper)
            && self.agent.is_none_or(|a| a == link.agent)
    }

    /// Whether it speaks of this property of a device. Where it is not known what the device is, it may be anything.
    pub(crate) fn is_of_property(
        &self,
        device: &DeviceFact,
        (property, kind): (Property, Kind),
        type_known: bool,
    ) -> bool {
        (self.devices.is_empty() || self.devices.contains(&device.device))
            && (self.device_types.is_empty() || !type_known || self.device_types.contains(&device.device_type))
            && (self.properties.is_empty() || self.properties.contains(&property))
            && self.kinds().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// The kinds that it speaks of; none is all.
    pub(crate) fn kinds(&self) -> Option<Vec<Kind>> {
        if self.kinds.is_empty() && self.reveals.is_empty() {
            return None;
        }
        let named = |k: &Kind| self.kinds.is_empty() || self.kinds.contains(k);
        let tells = |k: &Kind| self.reveals.is_empty() || k.reveals().iter().any(|r| self.reveals.contains(r));
        Some(Kind::ALL.into_iter().filter(|k| named(k) && tells(k)).collect())
    }

    /// The kinds of what it speaks of, whether a home has it or not; none where only what the home has can say.
    pub(crate) fn subjects(&self) -> BTreeSet<Kind> {
        if !self.devices.is_empty() {
            return BTreeSet::new();
        }
        let named = self.kinds();
        if self.properties.is_empty() {
            return named.into_iter().flatten().filter(|k| *k != Kind::Unknown).collect();
        }
        let of = |property: &Property| -> BTreeSet<Kind> {
            let fits = |class: &Class| self.device_types.contains(&DeviceType::of([(*property, class)]));
            let classes: Vec<Class> = Class::ALL.into_iter().filter(|c| fits(c)).collect();
            let classes = if classes.is_empty() { Class::ALL.to_vec() } else { classes };
            classes.into_iter().map(|class| Kind::of(*property, class)).collect()
        };
        let all = self.properties.iter().flat_map(of);
        all.filter(|kind| named.as_ref().is_none_or(|kinds| kinds.contains(kind))).collect()
    }

    /// Whether it is about what somebody learns of something, so that it matters what else tells of it.
    pub(crate) fn can_be_derived(&self) -> bool {
        self.never == Never::Told && !self.ungranted && (!self.properties.is_empty() || self.kinds().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_claim_is_refused_with_its_place() {
        let good = "[[claim]]\nid = \"a\"\nsays = \"b\"\nnever = \"told\"\n";
        assert_eq!(Claim::parse(good).unwrap().len(), 1);
        for (text, says) in [
            (String::new(), "no [[claim]]"),
            ("[[claim]]".into(), "missing field"),
            (good.replace("never", "ever"), "unknown field"),
            (good.replace("\"a\"", "\"A\""), "no slug"),
            (format!("{good}{good}"), "twice"),
            (good.replace("\"b\"", "\" \""), "plain words"),
            (format!("{good}properties = [\"soul\"]"), "soul"),
            (format!("{good}kind = [\"lock\"]"), "unknown field"),
            (format!("{good}finer_than = \"live\""), "nothing is finer"),
            (good.replace("told", "opened") + "triggers = [\"discovery\"]", "never = \"told\""),
            (format!("{good}profiles = [\"nothing\"]"), "profile list"),
            (good.repeat(CLAIMS_MAX + 1), "more than"),
            (format!("#{}", " ".repeat(CLAIMS_MAX_BYTES)), "longer"),
        ] {
            let error = Claim::parse(&text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:.80}: {error}");
        }
    }
}

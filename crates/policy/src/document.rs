//! Grants as a file: JSON, or Cedar text that any Cedar tool reads. Both say the same and come back as the same grants.

use cedar_policy::{ActionConstraint, Effect, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};
use model::{ALL_PROPERTIES, ALL_RUNGS, ALL_TRIGGERS, DeviceId, HouseholdId, LinkId, MemberId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::compile::GRANTS_MAX;
use crate::grant::{Code, Grant, What};
use crate::when::{HOURS_MAX, HoursError, NameError};

/// The version of the document that this crate writes.
const VERSION: u32 = 1;

/// Longest document that is read, in bytes.
pub const DOCUMENT_MAX_BYTES: usize = 32 << 20;

/// What begins the Cedar form.
const HEAD: &str = "// Grants of a Vestibule home. Each policy is one grant; what a maker forbids is not among them.\n";

/// All grants of a household.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Of the form: 1.
    version: u32,
    /// Whose grants.
    pub household: HouseholdId,
    /// By id.
    pub grants: Vec<Grant>,
}

/// A file that holds no grants.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Too long.
    #[error("the file is longer than {DOCUMENT_MAX_BYTES} bytes")]
    TooLong,
    /// Not JSON of this form.
    #[error("the file is no JSON document of grants: {0}")]
    Json(#[source] serde_json::Error),
    /// A version from the future.
    #[error("the file has version {0}; this program reads version {VERSION}: use a newer one")]
    Version(u32),
    /// Not Cedar.
    #[error("the file is no set of Cedar policies: {0}")]
    Cedar(String),
    /// Grants of two homes, or none at all in the Cedar form, which then can't say whose it is.
    #[error("the file must hold grants of one household; it has those of {0}")]
    Households(usize),
    /// A policy that is no grant.
    #[error("policy {id}: {wrong}")]
    Policy {
        /// Its id, or where it stands.
        id: String,
        /// What is wrong, and how to mend it.
        wrong: String,
    },
    /// An id that stands twice.
    #[error("the grant id `{0}` stands twice")]
    Twice(String),
    /// Too many.
    #[error("the file has more than {GRANTS_MAX} grants")]
    TooMany,
}

impl Document {
    /// A document of these grants, by id.
    pub fn new(household: HouseholdId, mut grants: Vec<Grant>) -> Self {
        grants.sort_by(|a, b| a.id.cmp(&b.id));
        Self { version: VERSION, household, grants }
    }

    /// The Cedar form: each grant a policy, with what Cedar has no word for as annotations.
    pub fn to_cedar(&self) -> String {
        self.grants.iter().fold(HEAD.to_owned(), |mut text, grant| {
            let mut note = |key: &str, value: &str| text.push_str(&format!("@{key}(\"{value}\")\n"));
            note("household", grant.household.as_str());
            note("created", &grant.created.to_rfc3339());
            if let Some(expires) = grant.expires {
                note("expires", &expires.to_rfc3339());
            }
            note("granted_by", grant.granted_by.as_str());
            note("affects", &grant.affects.iter().map(MemberId::as_str).collect::<Vec<_>>().join(" "));
            if let Some(profile) = &grant.profile {
                note("profile", profile);
            }
            if !grant.hours.is_empty() {
                note("hours", &grant.hours.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            }
            if let Some(window) = &grant.window {
                note("window", window.as_str());
            }
            if let Some(routine) = &grant.routine {
                note("routine", routine.as_str());
            }
            if let Some(code) = grant.code {
                note("code", code.as_str());
            }
            if grant.stepped_down {
                note("stepped_down", "true");
            }
            text.push_str(&grant.policy_text());
            text
        })
    }

    /// Reads either form.
    ///
    /// # Errors
    /// What is wrong with the file, and where.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        if text.len() > DOCUMENT_MAX_BYTES {
            return Err(DocumentError::TooLong);
        }
        let document =
            if text.trim_start().starts_with('{') { Self::from_json(text)? } else { Self::from_cedar(text)? };
        if let Some(grant) = document.grants.iter().find(|g| g.hours.len() > HOURS_MAX) {
            let wrong = format!("it names more than {HOURS_MAX} spans of hours");
            return Err(DocumentError::Policy { id: grant.id.to_string(), wrong });
        }
        if let Some(grant) = document.grants.iter().find(|g| g.is_conditional() && g.describes()) {
            let wrong = format!("the {} counts at all times: leave out hours and window", grant.property.label());
            return Err(DocumentError::Policy { id: grant.id.to_string(), wrong });
        }
        if document.grants.len() > GRANTS_MAX {
            return Err(DocumentError::TooMany);
        }
        let document = Self::new(document.household, document.grants);
        for pair in document.grants.windows(2) {
            if let [a, b] = pair
                && a.id == b.id
            {
                return Err(DocumentError::Twice(a.id.to_string()));
            }
        }
        if document.grants.iter().any(|g| g.household != document.household) {
            return Err(DocumentError::Households(2));
        }
        let is_slug =
            |s: &str| s.len() <= 64 && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if let Some(grant) = document.grants.iter().find(|g| g.profile.as_deref().is_some_and(|p| !is_slug(p))) {
            let wrong = "the profile is no slug: use at most 64 of a-z, 0-9 and `-`".to_owned();
            return Err(DocumentError::Policy { id: grant.id.to_string(), wrong });
        }
        Ok(document)
    }

    fn from_json(text: &str) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_str::<Versioned>(text) {
            Ok(Versioned { version }) if version != VERSION => return Err(DocumentError::Version(version)),
            _ => {}
        }
        serde_json::from_str(text).map_err(DocumentError::Json)
    }

    fn from_cedar(text: &str) -> Result<Self, DocumentError> {
        let set: PolicySet = text.parse().map_err(|e| DocumentError::Cedar(format!("{e}")))?;
        if set.templates().next().is_some() {
            return Err(DocumentError::Cedar("it has templates; a grant is a static policy".into()));
        }
        if set.policies().count() > GRANTS_MAX {
            return Err(DocumentError::TooMany);
        }
        let grants = set.policies().map(grant).collect::<Result<Vec<_>, _>>()?;
        let mut households: Vec<&HouseholdId> = grants.iter().map(|g| &g.household).collect();
        households.sort();
        households.dedup();
        match households.as_slice() {
            [one] => Ok(Self { version: VERSION, household: (*one).clone(), grants }),
            several => Err(DocumentError::Households(several.len())),
        }
    }
}

/// The grant that a policy is: one that says just what [`Grant::policy_text`] says of it.
fn grant(policy: &Policy) -> Result<Grant, DocumentError> {
    let note = |key: &str| policy.annotations().find(|(k, _)| *k == key).map(|(_, value)| value.to_owned());
    let id = note("id").unwrap_or_else(|| policy.id().to_string());
    let wrong = |wrong: String| DocumentError::Policy { id: id.clone(), wrong };
    let needs = |key: &str| note(key).ok_or_else(|| wrong(format!("it has no @{key}(\"...\")")));
    let time = |key: &str, text: String| {
        Timestamp::from_rfc3339(&text)
            .ok_or_else(|| wrong(format!("@{key} is no time: write it as 2026-12-31T00:00:00Z")))
    };
    let form = "a grant permits one link one action on one property, and has no other condition than its rungs; \
                what forbids belongs into the ceiling";
    if policy.effect() != Effect::Permit {
        return Err(wrong(format!("it forbids: {form}")));
    }
    let (PrincipalConstraint::Eq(link), ActionConstraint::Eq(action), ResourceConstraint::Eq(resource)) =
        (policy.principal_constraint(), policy.action_constraint(), policy.resource_constraint())
    else {
        return Err(wrong(form.to_owned()));
    };
    let bad_id = |e: model::IdError| wrong(e.to_string());
    let (device, property) = resource.id().unescaped().split_once('/').ok_or_else(|| wrong(form.to_owned()))?;
    let Some(property) = ALL_PROPERTIES.iter().copied().find(|p| p.as_str() == property) else {
        return Err(wrong(format!("there is no property `{property}`")));
    };
    let action = action.id().unescaped().to_owned();
    let candidates: Vec<What> = match action.as_str() {
        "control" => vec![What::Control { open: false }],
        "open" => vec![What::Control { open: true }],
        other => {
            let trigger = ALL_TRIGGERS.iter().copied().find(|t| t.as_str() == other);
            let trigger = trigger.ok_or_else(|| wrong(format!("there is no action `{other}`")))?;
            ALL_RUNGS.iter().map(|rung| What::Disclose { trigger, rung: *rung }).collect()
        }
    };
    let affects = needs("affects")?.split_whitespace().map(MemberId::new).collect::<Result<Vec<_>, _>>();
    let template = Grant {
        id: model::GrantId::new(needs("id")?).map_err(bad_id)?,
        household: HouseholdId::new(needs("household")?).map_err(bad_id)?,
        link: LinkId::new(link.id().unescaped()).map_err(bad_id)?,
        device: DeviceId::new(device).map_err(bad_id)?,
        property,
        what: What::Control { open: false },
        expires: note("expires").map(|t| time("expires", t)).transpose()?,
        granted_by: MemberId::new(needs("granted_by")?).map_err(bad_id)?,
        affects: affects.map_err(bad_id)?,
        created: time("created", needs("created")?)?,
        profile: note("profile"),
        hours: match note("hours") {
            Some(text) => {
                text.split("; ").map(str::parse).collect::<Result<_, HoursError>>().map_err(|e| wrong(e.to_string()))?
            }
            None => Vec::new(),
        },
        window: note("window").map(|t| t.parse()).transpose().map_err(|e: NameError| wrong(e.to_string()))?,
        stepped_down: note("stepped_down").is_some(),
        routine: note("routine").map(|t| t.parse()).transpose().map_err(|e: NameError| wrong(e.to_string()))?,
        code: match note("code").as_deref() {
            None => None,
            Some("partner") => Some(Code::Partner),
            Some("pin") => Some(Code::Pin),
            Some(_) => return Err(wrong("@code is partner or pin".to_owned())),
        },
    };
    // Compared as Cedar itself reads both: comments and spaces don't count, every condition does.
    let said = meaning(policy).ok_or_else(|| wrong(form.to_owned()))?;
    candidates
        .into_iter()
        .map(|what| Grant { what, ..template.clone() })
        .find(|grant| {
            let policy = Policy::parse(None, grant.policy_text()).ok();
            policy.as_ref().and_then(meaning).as_ref() == Some(&said)
        })
        .ok_or_else(|| wrong(format!("its rungs are not one and all coarser ones, or it says more: {form}")))
}

/// A policy without its annotations.
fn meaning(policy: &Policy) -> Option<serde_json::Value> {
    let mut json = policy.to_json().ok()?;
    json.as_object_mut()?.remove("annotations");
    Some(json)
}

#[cfg(test)]
mod tests {
    use model::{GrantId, Property, Rung, Trigger};

    use super::*;

    /// Every action at every rung.
    fn grants() -> Vec<Grant> {
        let disclose = ALL_TRIGGERS.iter().flat_map(|t| ALL_RUNGS.map(|rung| What::Disclose { trigger: *t, rung }));
        let control = [What::Control { open: false }, What::Control { open: true }];
        disclose
            .chain(control)
            .enumerate()
            .map(|(n, what)| Grant {
                id: GrantId::new(format!("g-{n}")).unwrap(),
                household: HouseholdId::new("home").unwrap(),
                link: LinkId::new("lnk-1").unwrap(),
                device: DeviceId::new("0x00:1.a_b-c").unwrap(),
                property: Property::DoorState,
                what,
                expires: (n % 2 == 0).then(|| Timestamp::from_millis(1_764_000_000_123)),
                granted_by: MemberId::new("owner").unwrap(),
                affects: (0..n % 3).map(|m| MemberId::new(format!("m{m}")).unwrap()).collect(),
                created: Timestamp::from_millis(1_700_000_000_001),
                profile: (n % 3 == 0).then(|| "glance".to_owned()),
                hours: ["mon-fri 06:30-08:00", "daily 22:00-06:00"]
                    .iter()
                    .take(n % 3)
                    .map(|h| h.parse().unwrap())
                    .collect(),
                window: (n % 4 == 0).then(|| "guests".parse().unwrap()),
                routine: (n % 5 == 0).then(|| "Leaving home, quickly".parse().unwrap()),
                stepped_down: n % 7 == 0,
                code: [None, Some(Code::Partner), Some(Code::Pin)][n % 3],
            })
            .collect()
    }

    #[test]
    fn both_forms_come_back_as_the_same_grants() {
        let document = Document::new(HouseholdId::new("home").unwrap(), grants());
        assert_eq!(Document::parse(&document.to_cedar()).unwrap(), document);
        assert_eq!(Document::parse(&serde_json::to_string_pretty(&document).unwrap()).unwrap(), document);
    }

    #[test]
    fn what_is_no_grant_is_refused_with_its_place() {
        let what = What::Disclose { trigger: Trigger::PartnerPoll, rung: Rung::Hour };
        let one =
            Document::new(HouseholdId::new("home").unwrap(), grants().into_iter().filter(|g| g.what == what).collect());
        let text = one.to_cedar();
        let id = one.grants[0].id.to_string();
        let same = text.replace("\n  principal", "\n\n  // a remark\n  principal");
        assert_eq!(Document::parse(&same).unwrap(), one);
        for (from, to, says) in [
            ("permit", "forbid", "forbids"),
            ("action == Vestibule::Action::\"partner_poll\"", "action", "one action"),
            (
                "action == Vestibule::Action::\"partner_poll\"",
                "action == Vestibule::Action::\"spy\"",
                "no action `spy`",
            ),
            ("/door_state", "/soul", "no property `soul`"),
            ("Vestibule::Rung::\"hour_coarse\", ", "", "says more"),
            ("context.rung) }", "context.rung) } unless { principal.gatekeeper }", "says more"),
            ("Vestibule::Link::", "Elsewhere::Link::", "says more"),
            ("@granted_by(\"owner\")\n", "", "@granted_by"),
            ("@created(\"20", "@created(\"xx", "@created"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let error = Document::parse(&changed).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(&id), "{from} -> {to}: {error}");
        }
        assert!(matches!(Document::parse(&format!("{text}{text}")), Err(DocumentError::Twice(_))));
        assert!(matches!(Document::parse(""), Err(DocumentError::Households(0))));
        assert!(matches!(Document::parse("{\"version\": 2}"), Err(DocumentError::Version(2))));
        assert!(matches!(Document::parse("{\"version\": 1}"), Err(DocumentError::Json(_))));
        assert!(matches!(Document::parse("permit ("), Err(DocumentError::Cedar(_))));
    }
}

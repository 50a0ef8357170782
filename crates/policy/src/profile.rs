//! Profiles: named sets of grants, each a readable file. None is preselected.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use model::{DeviceId, GrantId, Kind, LinkId, MemberId, Property, Rung, Timestamp, Trigger};
use serde::Deserialize;

use crate::compile::{CompileError, Facts};
use crate::grant::{Grant, What};

/// Grants of a profile last 180 days.
const GRANT_DAYS: i64 = 180;

const DAY_MS: i64 = 86_400_000;

/// A grant that would expire this much earlier than a new one is renewed when its profile is applied again.
const RENEW_FROM_MS: i64 = DAY_MS;

/// A profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name on the command line.
    pub slug: String,
    /// Its name on pages.
    pub title: String,
    /// What it means, in plain words.
    pub summary: String,
    commands: Commands,
    rule: Vec<Rule>,
    /// What choosing it costs, and what keeps working.
    #[serde(rename = "cost")]
    pub costs: Vec<Cost>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commands {
    control: bool,
    open: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    trigger: Trigger,
    rung: Rung,
    #[serde(default)]
    properties: Vec<Property>,
    /// Every property that is not metadata.
    #[serde(default)]
    all: bool,
}

/// One consequence of a profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The feature.
    pub what: String,
    /// It is lost; else it keeps working.
    pub lost: bool,
    /// Why, and what Alexa will say.
    pub why: String,
    /// Where that is known from.
    pub source: String,
}

/// Who grants, and from when.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Now.
    pub now: Timestamp,
    /// Who consents.
    pub granted_by: MemberId,
    /// Whom it affects.
    pub affects: Vec<MemberId>,
}

/// What applying a profile changes.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// New grants.
    pub add: Vec<Grant>,
    /// Grants that are taken back or renewed.
    pub remove: Vec<GrantId>,
    /// The difference in plain words, one line each; renewals are not told.
    pub rows: Vec<String>,
}

const FILES: [&str; 3] = [
    include_str!("../profiles/commands-only.toml"),
    include_str!("../profiles/glance.toml"),
    include_str!("../profiles/everything.toml"),
];

static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
    // A shipped file that can't be read is left out; a test reads them all.
    FILES.iter().filter_map(|text| toml::from_str(text).ok()).collect()
});

/// The shipped profiles, from least to most.
pub fn profiles() -> &'static [Profile] {
    &PROFILES
}

/// The profile with this slug.
pub fn profile(slug: &str) -> Option<&'static Profile> {
    profiles().iter().find(|p| p.slug == slug)
}

impl Profile {
    /// What it grants of one property.
    pub fn grants(&self, property: Property, kind: Kind) -> Vec<What> {
        let mut what: Vec<What> = self
            .rule
            .iter()
            .filter(|r| r.properties.contains(&property) || (r.all && !property.is_metadata()))
            .filter(|r| r.rung == Rung::Live || !property.is_live_only())
            .map(|r| What::Disclose { trigger: r.trigger, rung: r.rung })
            .collect();
        // Which properties a device takes commands for is its own matter; a grant for one that takes none is idle.
        let commandable = matches!(kind, Kind::Comfort | Kind::Appliance | Kind::Covering | Kind::Opening | Kind::Lock)
            && property != Property::ContactOpen;
        if commandable && self.commands.control {
            what.push(What::Control { open: false });
        }
        if commandable && self.commands.open && matches!(kind, Kind::Opening | Kind::Lock) {
            what.push(What::Control { open: true });
        }
        what
    }
}

/// What applying a profile to a link, for the devices known now, would change. `existing` are the link's grants;
/// `ids` gives fresh ids.
///
/// # Errors
/// When `ids` runs out.
pub fn apply(
    profile: &Profile,
    facts: &Facts,
    link: &LinkId,
    existing: &[Grant],
    terms: &Terms,
    mut ids: impl FnMut() -> Option<GrantId>,
) -> Result<Change, CompileError> {
    let mut before: BTreeMap<(DeviceId, Property, What), &Grant> =
        existing.iter().map(|g| ((g.device.clone(), g.property, g.what), g)).collect();
    let expires = terms.now.plus_millis(GRANT_DAYS * DAY_MS);
    let mut change = Change::default();
    for device in &facts.devices {
        for (property, kind) in &device.properties {
            for what in profile.grants(*property, *kind) {
                let old = before.remove(&(device.device.clone(), *property, what));
                if let Some(old) = old {
                    let renew = old.expires.is_some_and(|t| t < expires.plus_millis(-RENEW_FROM_MS));
                    if !renew {
                        continue;
                    }
                    change.remove.push(old.id.clone());
                } else {
                    change.rows.push(format!("+ {} {}: {}", device.device, property.label(), in_words(what)));
                }
                change.add.push(Grant {
                    id: ids().ok_or(CompileError::TooManyGrants)?,
                    household: facts.household.clone(),
                    link: link.clone(),
                    device: device.device.clone(),
                    property: *property,
                    what,
                    expires: Some(expires),
                    granted_by: terms.granted_by.clone(),
                    affects: terms.affects.clone(),
                    created: terms.now,
                    profile: Some(profile.slug.clone()),
                });
            }
        }
    }
    for ((device, property, what), old) in before {
        change.remove.push(old.id.clone());
        change.rows.push(format!("- {device} {}: {}", property.label(), in_words(what)));
    }
    Ok(change)
}

fn in_words(what: What) -> String {
    let how = |rung: Rung| match rung {
        Rung::Live => "exact, at once",
        Rung::QuarterHour => "exact, held for 15 minutes",
        Rung::Hour => "exact, held for an hour",
        Rung::HourCoarse => "rounded, held for an hour",
        Rung::DayCoarse => "rounded, held for a day",
    };
    match what {
        What::Disclose { trigger: Trigger::Discovery, .. } => "told at discovery".to_owned(),
        What::Disclose { trigger: Trigger::DirectiveResponse, rung } => {
            format!("told after its commands, {}", how(rung))
        }
        What::Disclose { trigger: Trigger::PartnerPoll, rung } => format!("told when it asks, {}", how(rung)),
        What::Disclose { trigger: Trigger::ProactiveReport, rung } => format!("told unasked, {}", how(rung)),
        What::Control { open: false } => "may command it".to_owned(),
        What::Control { open: true } => "may unlock or open it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_profile_is_read_and_a_misspelt_one_is_not() {
        assert_eq!(profiles().len(), FILES.len(), "{:?}", FILES.map(|f| toml::from_str::<Profile>(f).err()));
        let slugs: Vec<&str> = profiles().iter().map(|p| p.slug.as_str()).collect();
        assert_eq!(slugs, ["commands-only", "glance", "everything"]);
        let misspelt = FILES[0].replace("summary", "summery");
        assert!(toml::from_str::<Profile>(&misspelt).is_err());
    }
}

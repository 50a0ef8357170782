//! What a link's grants make of the partner's features: which work, for which devices, and how well that is known.

use std::sync::LazyLock;

use model::{DeviceId, DeviceType, LinkId, Property, Reveals, Rung, Trigger};
use serde::{Deserialize, Serialize};

use crate::compile::Facts;
use crate::grant::Code;
use crate::profile::{commandable, opens};
use crate::table::Table;

const FILE: &str = include_str!("../impact.toml");

/// How well it is known what a feature needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The partner's own documentation, or code that everybody can read.
    High,
    /// Several reports.
    Medium,
    /// One report.
    Low,
}

/// What a feature needs of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Needs {
    /// That it can be commanded.
    Control,
    /// That it can be unlocked or opened.
    Open,
    /// That one of the properties is told, at whatever rung that tells what it is: how often something began is not what it is.
    Told,
    /// That all of them are.
    Everything,
    /// That it can be commanded, and that a poll tells what was commanded.
    Tile,
    /// That nothing of it which tells this much is told over and over.
    Privacy,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    what: String,
    needs: Needs,
    /// Those that count; none is all that are not metadata.
    #[serde(default)]
    properties: Vec<Property>,
    #[serde(default)]
    triggers: Vec<Trigger>,
    #[serde(default)]
    reveals: Vec<Reveals>,
    why: String,
    confidence: Confidence,
    source: String,
}

static FEATURES: LazyLock<Vec<Feature>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        feature: Vec<Feature>,
    }
    // The shipped file is read by a test.
    toml::from_str::<File>(FILE).map(|f| f.feature).unwrap_or_default()
});

/// Whether a feature works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Works {
    /// For every device that it concerns.
    Yes,
    /// For some of them.
    Partly,
    /// For none.
    No,
}

/// One feature on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Impact {
    /// The link.
    pub link: LinkId,
    /// The feature.
    pub what: &'static str,
    /// Whether it works.
    pub works: Works,
    /// The devices for which it does.
    pub with: Vec<DeviceId>,
    /// The devices for which it does not.
    pub without: Vec<DeviceId>,
    /// Why.
    pub why: &'static str,
    /// How well that is known.
    pub confidence: Confidence,
    /// Where that is known from.
    pub source: &'static str,
}

/// Every feature that concerns a device of the home, on one link. `speaks_first` is whether this hub sends reports unasked to
/// that partner: where it does not, a grant of one makes nothing work.
pub fn impact(table: &Table, facts: &Facts, link: &LinkId, speaks_first: bool) -> Vec<Impact> {
    FEATURES.iter().filter_map(|feature| weigh(feature, table, facts, link, speaks_first)).collect()
}

fn weigh(feature: &'static Feature, table: &Table, facts: &Facts, link: &LinkId, speaks_first: bool) -> Option<Impact> {
    let Feature { what, why, confidence, source, .. } = feature;
    let (works, with, without) = weighed(feature.asked(), (table, facts, link), speaks_first)?;
    Some(Impact { link: link.clone(), what, works, with, without, why, confidence: *confidence, source })
}

/// What has to be so, and of which properties.
#[derive(Clone, Copy)]
struct Asked<'a> {
    needs: Needs,
    /// Of devices of this type; none is of all.
    device: Option<DeviceType>,
    properties: &'a [Property],
    triggers: &'a [Trigger],
    reveals: &'a [Reveals],
}

impl Feature {
    fn asked(&self) -> Asked<'_> {
        let Feature { needs, properties, triggers, reveals, .. } = self;
        Asked { needs: *needs, device: None, properties, triggers, reveals }
    }
}

/// What a person does with a partner, as the file of the household's day lists it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// In a person's words.
    pub says: String,
    /// What sort of thing it is.
    pub does: Does,
    /// Of devices of this type; none is of all.
    #[serde(default)]
    pub device: Option<DeviceType>,
    /// Of a device with one of these.
    pub properties: Vec<Property>,
}

/// What a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// An order.
    Command,
    /// An order to unlock or open.
    Open,
    /// An answer.
    Ask,
    /// An order, and answers from then on that tell what was ordered.
    Tile,
    /// A report that nobody asked for.
    Routine,
}

/// The tasks in a workload's text, which may hold other things too.
///
/// # Errors
/// What is wrong with the text.
pub fn tasks(text: &str) -> Result<Vec<Task>, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        task: Vec<Task>,
    }
    toml::from_str::<File>(text).map(|file| file.task).map_err(|e| format!("the tasks can't be read: {e}"))
}

impl Task {
    /// Whether it can be done under a table; none where the home has no device for it. `speaks_first` as for [`impact`].
    pub fn works(&self, table: &Table, facts: &Facts, link: &LinkId, speaks_first: bool) -> Option<Works> {
        let (needs, triggers) = match self.does {
            Does::Command => (Needs::Control, &[][..]),
            Does::Open => (Needs::Open, &[][..]),
            Does::Ask => (Needs::Told, &[Trigger::PartnerPoll][..]),
            Does::Tile => (Needs::Tile, &[Trigger::PartnerPoll][..]),
            Does::Routine => (Needs::Told, &[Trigger::ProactiveReport][..]),
        };
        let asked = Asked { needs, device: self.device, properties: &self.properties, triggers, reveals: &[] };
        weighed(asked, (table, facts, link), speaks_first).map(|(works, ..)| works)
    }
}

/// Whether it is so, with the devices of which it is and those of which it is not; none where it concerns no device.
fn weighed(
    feature: Asked<'_>,
    (table, facts, link): (&Table, &Facts, &LinkId),
    speaks_first: bool,
) -> Option<(Works, Vec<DeviceId>, Vec<DeviceId>)> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for device in facts.devices.iter().filter(|d| feature.device.is_none_or(|t| d.device_type == t)) {
        let counts = |p: Property| match feature.properties {
            [] => !p.is_metadata() && p != Property::Reachable && p != Property::BatteryPercent,
            some => some.contains(&p),
        };
        let properties: Vec<Property> = device.properties.iter().map(|(p, _)| *p).filter(|p| counts(*p)).collect();
        let told = |p: &Property, t: &Trigger| {
            (speaks_first || *t != Trigger::ProactiveReport) && table.decide(link, &device.device, *p, *t).rung.is_ok()
        };
        let is_value = |p: &Property, t: &Trigger| {
            told(p, t) && table.decide(link, &device.device, *p, *t).rung != Ok(Rung::DayCount)
        };
        let told_at_all = |p: &Property| feature.triggers.iter().any(|t| is_value(p, t));
        // These are Alexa's features, and Alexa hands no PIN over.
        let may = |p: &Property, open: bool| {
            let code = table.code(link, &device.device, *p, open);
            code != Some(Code::Pin) && table.may(link, &device.device, *p, open).is_ok()
        };
        let takes = |p: &Property, open: bool| {
            let kind = device.properties.iter().find(|(q, _)| q == p).map(|(_, kind)| *kind);
            kind.is_some_and(|kind| if open { opens(*p, kind) } else { commandable(*p, kind) })
        };
        let works = match feature.needs {
            Needs::Control | Needs::Open => {
                let open = feature.needs == Needs::Open;
                let concerned: Vec<&Property> = properties.iter().filter(|p| takes(p, open)).collect();
                (!concerned.is_empty()).then(|| concerned.iter().any(|p| may(p, open)))
            }
            Needs::Tile => {
                let concerned: Vec<&Property> = properties.iter().filter(|p| takes(p, false)).collect();
                (!concerned.is_empty()).then(|| concerned.iter().any(|p| may(p, false) && told_at_all(p)))
            }
            Needs::Told => (!properties.is_empty()).then(|| properties.iter().any(told_at_all)),
            Needs::Everything => (!properties.is_empty())
                .then(|| properties.iter().all(|p| feature.triggers.iter().all(|t| is_value(p, t)))),
            Needs::Privacy => {
                let telling: Vec<Property> = device
                    .properties
                    .iter()
                    .filter(|(_, kind)| kind.reveals().iter().any(|r| feature.reveals.contains(r)))
                    .map(|(p, _)| *p)
                    .collect();
                let unasked = [Trigger::PartnerPoll, Trigger::ProactiveReport];
                (!telling.is_empty()).then(|| !telling.iter().any(|p| unasked.iter().any(|t| told(p, t))))
            }
        };
        match works {
            Some(true) => with.push(device.device.clone()),
            Some(false) => without.push(device.device.clone()),
            None => {}
        }
    }
    let works = match (with.is_empty(), without.is_empty()) {
        (true, true) => return None,
        (false, true) => Works::Yes,
        (true, false) => Works::No,
        // What one device tells is told of the home; and a badge is for all of it.
        (false, false) if matches!(feature.needs, Needs::Privacy | Needs::Everything) => Works::No,
        (false, false) => Works::Partly,
    };
    Some((works, with, without))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::{applied, applied_as, home, link, table};
    use crate::{What, profiles};

    fn of(slug: &str) -> Vec<Impact> {
        let facts = home();
        let profile = crate::profile(slug).unwrap().naming([DeviceId::new("motion").unwrap()]);
        impact(&table(&facts, &applied_as(&profile, &facts, &[], 0).0), &facts, &link(), true)
    }

    fn works(all: &[Impact], what: &str) -> Works {
        all.iter().find(|i| i.what.contains(what)).unwrap_or_else(|| panic!("{what}: {all:?}")).works
    }

    #[test]
    fn every_profile_says_of_itself_what_its_grants_do() {
        assert!(toml::from_str::<toml::Table>(FILE).unwrap()["feature"].as_array().unwrap().len() == FEATURES.len());
        let mut compared = 0;
        for profile in profiles() {
            let all = of(&profile.slug);
            for cost in &profile.costs {
                let Some(same) = all.iter().find(|i| i.what == cost.what) else { continue };
                assert_eq!(cost.lost, same.works == Works::No, "{}: {same:?}", profile.slug);
                compared += 1;
            }
        }
        assert!(compared >= 20, "the files share their words: {compared}");
    }

    #[test]
    fn a_grant_turns_a_feature_on_for_its_device_alone() {
        let facts = home();
        let (mut grants, _) = applied("commands-only", &facts, &[], 0);
        assert_eq!(works(&of("commands-only"), "Routines"), Works::No);
        let motion = crate::Grant {
            id: model::GrantId::new("motion").unwrap(),
            device: DeviceId::new("motion").unwrap(),
            property: Property::Motion,
            what: What::Disclose { trigger: Trigger::ProactiveReport, rung: model::Rung::Live },
            ..grants[0].clone()
        };
        grants.push(motion);
        let all = impact(&table(&facts, &grants), &facts, &link(), true);
        assert_eq!(works(&all, "Routines"), Works::Partly);
        let routines = all.iter().find(|i| i.what.starts_with("Routines")).unwrap();
        assert_eq!(routines.with, [DeviceId::new("motion").unwrap()]);
        assert_eq!(works(&all, "Keeping to yourselves"), Works::No, "motion tells who is there");
        assert_eq!(works(&all, "badge"), Works::No);
        assert_eq!(works(&all, "Voice commands"), Works::Yes);
        let silent = impact(&table(&facts, &grants), &facts, &link(), false);
        assert_eq!(works(&silent, "Routines"), Works::No, "what is never sent starts nothing");
        // How often it saw somebody is not whether it sees somebody now; and it tells who is there all the same.
        let mut of_agent = facts.clone();
        of_agent.links.iter_mut().for_each(|l| l.agent = true);
        let mut counts = grants.clone();
        counts.last_mut().unwrap().what = What::Disclose { trigger: Trigger::ProactiveReport, rung: Rung::DayCount };
        let all_of_agent = impact(&table(&of_agent, &counts), &of_agent, &link(), true);
        assert_eq!(works(&all_of_agent, "Routines"), Works::No);
        assert_eq!(works(&all_of_agent, "Keeping to yourselves"), Works::No);
        // Of a home without a meter nothing is said of energy.
        assert!(!all.iter().any(|i| i.what.contains("energy")));
    }
}

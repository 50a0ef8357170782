//! Three questions that propose a profile.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

const FILE: &str = include_str!("../questions.toml");

/// A question, in plain words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name on the command line.
    pub slug: String,
    /// The question.
    pub text: String,
    /// What can be answered.
    pub answers: Vec<Answer>,
}

/// One answer to a question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its name on the command line.
    pub slug: String,
    /// In plain words.
    pub text: String,
}

/// A profile, and why it fits the answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The answers that it needs, by question.
    when: BTreeMap<String, String>,
    /// The profile, by slug.
    pub profile: String,
    /// Why, in plain words.
    pub why: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    question: Vec<Question>,
    proposal: Vec<Proposal>,
}

// The shipped file is read by a test.
static SHIPPED: LazyLock<File> = LazyLock::new(|| toml::from_str(FILE).unwrap_or_default());

/// The questions, in the order in which they are asked.
pub fn questions() -> &'static [Question] {
    &SHIPPED.question
}

/// What fits the answers (by question); none while one is missing or is none of those that can be given.
pub fn propose(answers: &BTreeMap<String, String>) -> Option<&'static Proposal> {
    let answered = |q: &Question| q.answers.iter().any(|a| answers.get(&q.slug) == Some(&a.slug));
    let all = questions().iter().all(answered) && answers.len() == questions().len();
    let fits = |p: &&Proposal| p.when.iter().all(|(question, answer)| answers.get(question) == Some(answer));
    SHIPPED.proposal.iter().find(fits).filter(|_| all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use disclosure::Refusal;
    use model::{DeviceId, Property, Trigger};

    use super::*;
    use crate::profile;
    use crate::profile::tests::{applied, home, link, table};

    /// Every way to answer.
    fn every_way() -> Vec<BTreeMap<String, String>> {
        let mut ways = vec![BTreeMap::new()];
        for q in questions() {
            let with = |way: &BTreeMap<String, String>, a: &Answer| {
                way.clone().into_iter().chain([(q.slug.clone(), a.slug.clone())]).collect()
            };
            ways = ways.iter().flat_map(|way| q.answers.iter().map(move |a| with(way, a))).collect();
        }
        ways
    }

    #[test]
    fn every_way_to_answer_has_a_proposal_that_keeps_to_the_answers() {
        let file: File = toml::from_str(FILE).unwrap();
        assert_eq!((file.question.len(), every_way().len()), (3, 18));
        let facts = home();
        let mut made = BTreeSet::new();
        for way in every_way() {
            let proposal = propose(&way).unwrap();
            made.insert(proposal.when.clone());
            assert!(profile(&proposal.profile).is_some(), "{}", proposal.profile);
            let table = table(&facts, &applied(&proposal.profile, &facts, &[], 0).0);
            let told = |device: &str, property| {
                let device = DeviceId::new(device).unwrap();
                [Trigger::PartnerPoll, Trigger::ProactiveReport]
                    .iter()
                    .any(|t| table.decide(&link(), &device, property, *t).rung != Err(Refusal::NoGrant))
            };
            let thermostat = told("thermostat", Property::OccupiedHeatingSetpoint);
            let lock = told("lock", Property::LockState);
            match way["absence"].as_str() {
                "never" => assert!(!thermostat && !lock, "{way:?}"),
                "roughly" => assert!(!lock, "{way:?}"),
                _ => assert_eq!(lock, way["tell"] == "all", "{way:?}"),
            }
            assert!(thermostat || way["tell"] == "nothing" || way["absence"] == "never", "{way:?}");
            assert!(!told("motion", Property::Motion), "nobody has named a sensor yet: {way:?}");
        }
        assert_eq!(made.len(), file.proposal.len(), "a proposal is never made: {made:?}");
    }

    #[test]
    fn half_an_answer_proposes_nothing() {
        let mut way = every_way().swap_remove(0);
        assert!(propose(&way).is_some());
        way.insert("tell".into(), "perhaps".into());
        assert!(propose(&way).is_none());
        way.remove("tell");
        assert!(propose(&way).is_none());
    }
}

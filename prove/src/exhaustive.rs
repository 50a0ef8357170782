//! A claim held against every cell of the compiled table: complete for this home, since the gate asks nothing else.

use std::collections::{BTreeMap, BTreeSet};

use model::{ALL_TRIGGERS, DeviceId, Kind, LinkId, PartnerId, Property, Rung, Trigger};
use policy::{Action, CompileError, DeviceFact, LinkFact, Table, What, in_words};
use serde::Serialize;

use crate::Claim;
use crate::subject::{Possible, Subject, action_of};

/// Something that breaks a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The link.
    pub link: LinkId,
    /// The partner.
    pub partner: PartnerId,
    /// The device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// The trigger, or `control` or `open`.
    pub action: &'static str,
    /// At which rung it would be told.
    pub rung: Option<Rung>,
    /// By which policies.
    pub policies: Vec<String>,
    /// In one sentence.
    pub words: String,
    /// Whether the authoriser, asked the same, allows it.
    pub confirmed: bool,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Exhaustive {
    /// For each action through which the claim can be broken, the first thing that breaks it.
    pub broken: BTreeMap<Action, Example>,
    /// Whether the home has nothing of what the claim speaks of.
    pub vacuous: bool,
    /// What is told, and tells of what the claim says is not.
    pub derivable_from: BTreeSet<Property>,
}

/// What a link would do, in words.
pub(crate) fn doing(action: Action, rung: Rung) -> String {
    match action {
        Action::Told(trigger) => format!("would be {}", in_words(What::Disclose { trigger, rung })),
        Action::Control => "could command it".to_owned(),
        Action::Open => "could unlock or open it".to_owned(),
    }
}

/// At which rungs an action is allowed; for commands live means yes.
pub(crate) fn allowed(
    table: &Table,
    link: &LinkId,
    device: &DeviceId,
    property: Property,
    action: Action,
) -> Vec<Rung> {
    let command = |open| table.may(link, device, property, open).ok().map(|_| Rung::Live).into_iter().collect();
    match action {
        Action::Told(trigger) => table.rungs(link, device, property, trigger).collect(),
        Action::Control => command(false),
        Action::Open => command(true),
    }
}

/// What is granted, by what it names: everything that the rungs of its grants give.
type Covered<'a> = BTreeMap<(&'a LinkId, &'a DeviceId, Property, Action), Vec<Rung>>;

fn covered(subject: &Subject) -> Covered<'_> {
    let mut all: Covered<'_> = BTreeMap::new();
    for grant in &subject.grants {
        let rung = match grant.what {
            What::Disclose { rung, .. } => rung,
            What::Control { .. } => Rung::Live,
        };
        all.entry((&grant.link, &grant.device, grant.property, action_of(grant.what)))
            .or_default()
            .extend(rung.gives());
    }
    all
}

/// Decides a claim cell by cell.
///
/// # Errors
/// When a table can't be compiled.
pub fn decide(claim: &Claim, subject: &Subject) -> Result<Exhaustive, CompileError> {
    let mut found = Exhaustive { vacuous: true, ..Exhaustive::default() };
    let covered = if claim.ungranted { covered(subject) } else { Covered::new() };
    // What the claim says is not told can be worked out from something else, also where the home has nothing that tells it itself.
    let mut subjects: BTreeSet<Kind> = claim.subjects();
    for home in &subject.possible {
        let table = subject.table(home, claim.provenance())?;
        for link in home.facts.links.iter().filter(|l| claim.is_of_link(l)) {
            for device in &home.facts.devices {
                let of_claim = device
                    .properties
                    .iter()
                    .filter(|nature| claim.is_of_property(device, **nature, subject.type_known));
                for (property, kind) in of_claim {
                    found.vacuous = false;
                    subjects.insert(*kind);
                    for action in claim.actions() {
                        let key = (&link.link, &device.device, *property, action);
                        let open = action == Action::Open;
                        if claim.without_code && table.code(&link.link, &device.device, *property, open).is_some() {
                            continue;
                        }
                        let is_covered = |rung: &Rung| covered.get(&key).is_some_and(|granted| granted.contains(rung));
                        let breaks = |rung: &Rung| {
                            !is_covered(rung) && (!matches!(action, Action::Told(_)) || claim.breaks_at(*rung))
                        };
                        // Another one than what is told may be what breaks it: a policy that permits it is one too many.
                        let allowed = allowed(table, &link.link, &device.device, *property, action);
                        if let Some(rung) = allowed.into_iter().find(breaks)
                            && !found.broken.contains_key(&action)
                        {
                            let example = example(subject, home, claim, (link, device, *property, action, rung))?;
                            found.broken.insert(action, example);
                        }
                    }
                }
            }
        }
    }
    if claim.can_be_derived() && found.broken.is_empty() {
        for home in &subject.possible {
            let table = subject.table(home, claim.provenance())?;
            found.derivable_from.extend(derivable(claim, subject, home, table, &subjects));
        }
    }
    Ok(found)
}

/// The properties that are told to a partner whom the claim speaks of, and that tell of what it says is not told: because
/// their kind gives it away, or because it is they themselves, for another reason.
fn derivable(
    claim: &Claim,
    subject: &Subject,
    home: &Possible,
    table: &Table,
    subjects: &BTreeSet<Kind>,
) -> BTreeSet<Property> {
    let meant: BTreeSet<Trigger> =
        claim.actions().filter_map(|a| if let Action::Told(t) = a { Some(t) } else { None }).collect();
    let mut all = BTreeSet::new();
    for link in home.facts.links.iter().filter(|l| claim.is_of_link(l)) {
        for device in &home.facts.devices {
            for (property, kind) in &device.properties {
                let is_meant = claim.is_of_property(device, (*property, *kind), subject.type_known);
                let tells = is_meant || kind.gives_away().iter().any(|k| subjects.contains(k));
                let told = |trigger: &Trigger| {
                    let mut rungs = table.rungs(&link.link, &device.device, *property, *trigger);
                    rungs.any(|rung| !is_meant || (!meant.contains(trigger) && claim.breaks_at(rung)))
                };
                if tells && ALL_TRIGGERS.iter().any(told) {
                    all.insert(*property);
                }
            }
        }
    }
    all
}

fn example(
    subject: &Subject,
    home: &Possible,
    claim: &Claim,
    (link, device, property, action, rung): (&LinkFact, &DeviceFact, Property, Action, Rung),
) -> Result<Example, CompileError> {
    let world = subject.world(home, claim.provenance())?;
    let (answer, policies) = world.ask(&link.link, action, &device.device, property, rung);
    let words = format!(
        "{} (link {}) {}: the {} of `{}`, by {}",
        link.partner,
        link.link,
        doing(action, rung),
        property.label(),
        device.device,
        policies.join(", ")
    );
    Ok(Example {
        link: link.link.clone(),
        partner: link.partner.clone(),
        device: device.device.clone(),
        property,
        action: action.as_str(),
        rung: matches!(action, Action::Told(_)).then_some(rung),
        policies,
        words,
        confirmed: answer.is_ok(),
    })
}

//! Three answers to the same questions: the compiled table, Cedar's authoriser over every policy at once, and a naive
//! evaluator that knows the rules in plain Rust and nothing of Cedar or of `policy`'s code. Then, by name, each reason
//! for which a question must be refused.
//!
//! The short form asks some ten thousand questions; with `VESTIBULE_FORM=full`, or built for release, a million.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, Policy, PolicyId, PolicySet, Request, Schema};
use disclosure::Refusal;
use model::{
    ALL_PROPERTIES, ALL_RUNGS, ALL_TRIGGERS, DeviceId, DeviceType, GrantId, HouseholdId, Kind, LinkId, MemberId,
    PartnerId, Property, Rung, Timestamp, Trigger,
};
use policy::{DeviceFact, Facts, Grant, LinkFact, Table, What, compile};
use serde_json::json;

/// SplitMix64: the same questions at each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Tell(Trigger),
    Control,
    Open,
}

const ASKS: [Ask; 6] = [
    Ask::Tell(Trigger::Discovery),
    Ask::Tell(Trigger::DirectiveResponse),
    Ask::Tell(Trigger::PartnerPoll),
    Ask::Tell(Trigger::ProactiveReport),
    Ask::Control,
    Ask::Open,
];

impl Ask {
    fn action(self) -> &'static str {
        match self {
            Ask::Tell(trigger) => trigger.as_str(),
            Ask::Control => "control",
            Ask::Open => "open",
        }
    }
}

/// One rule of a maker's ceiling, as a Cedar policy and as what it means.
struct MakersRule {
    id: &'static str,
    cedar: &'static str,
    /// `Some(true)` forbids, `Some(false)` does not, `None` fails.
    means: fn(&LinkFact, &DeviceFact, Kind, Ask, Option<Rung>) -> Option<bool>,
}

const MAKERS_RULES: &[MakersRule] = &[
    MakersRule {
        id: "no-live-poll",
        cedar: r#"forbid(principal, action == Vestibule::Action::"partner_poll", resource)
            when { context.rung == Vestibule::Rung::"live" };"#,
        means: |_, _, _, ask, rung| Some(ask == Ask::Tell(Trigger::PartnerPoll) && rung == Some(Rung::Live)),
    },
    MakersRule {
        id: "no-presence-to-gatekeepers",
        cedar: r#"forbid(principal, action, resource)
            when { principal.gatekeeper && resource.kind == Vestibule::Kind::"presence" };"#,
        means: |link, _, kind, _, _| Some(link.gatekeeper && kind == Kind::Presence),
    },
    MakersRule {
        id: "locks-stay-shut",
        cedar: r#"forbid(principal, action == Vestibule::Action::"open", resource)
            when { resource.device.device_type == Vestibule::DeviceType::"door_lock" };"#,
        means: |_, device, _, ask, _| Some(ask == Ask::Open && device.device_type == DeviceType::DoorLock),
    },
    MakersRule {
        id: "fails-when-reporting",
        cedar: r#"forbid(principal, action == Vestibule::Action::"proactive_report", resource)
            when { 9223372036854775807 + 1 == 0 };"#,
        means: |_, _, _, ask, _| if ask == Ask::Tell(Trigger::ProactiveReport) { None } else { Some(false) },
    },
    MakersRule {
        id: "fails-for-gatekeepers-alarms",
        cedar: r#"forbid(principal, action, resource)
            when { principal.gatekeeper && resource.kind == Vestibule::Kind::"alarm" && 0 - 9223372036854775807 - 2 < 0 };"#,
        means: |link, _, kind, _, _| if link.gatekeeper && kind == Kind::Alarm { None } else { Some(false) },
    },
    MakersRule {
        id: "fails-at-the-second-rung",
        cedar: r#"forbid(principal, action == Vestibule::Action::"discovery", resource)
            when { context.rung == Vestibule::Rung::"quarter_hour" && 9223372036854775807 * 2 == 0 };"#,
        means: |_, _, _, ask, rung| {
            let fails = ask == Ask::Tell(Trigger::Discovery) && rung == Some(Rung::QuarterHour);
            if fails { None } else { Some(false) }
        },
    },
];

const HOUR_MS: i64 = 3_600_000;

fn terms() -> policy::Terms {
    let owner = MemberId::new("owner").unwrap();
    policy::Terms { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner] }
}

fn link_id(n: usize) -> LinkId {
    LinkId::new(format!("l{n}")).unwrap()
}

fn device_id(n: usize) -> DeviceId {
    DeviceId::new(format!("d{n}")).unwrap()
}

/// A home, its grants, a ceiling and a time, all drawn.
struct World {
    facts: Facts,
    grants: Vec<Grant>,
    rules: Vec<&'static MakersRule>,
    now: Timestamp,
}

/// One more link and device than there are stand for what was removed.
const LINKS: usize = 3;
const DEVICES: usize = 4;

impl World {
    fn drawn(dice: &mut Dice) -> Self {
        let facts = Facts {
            household: HouseholdId::new("home").unwrap(),
            links: (0..LINKS)
                .map(|n| LinkFact {
                    link: link_id(n),
                    partner: PartnerId::new(*dice.pick(&["alexa", "google"])).unwrap(),
                    gatekeeper: dice.one_in(2),
                    agent: dice.one_in(4),
                })
                .collect(),
            devices: (0..DEVICES)
                .map(|n| DeviceFact {
                    device: device_id(n),
                    device_type: *dice.pick(&DeviceType::ALL),
                    properties: (0..1 + dice.below(8))
                        .map(|_| (*dice.pick(ALL_PROPERTIES), *dice.pick(&Kind::ALL)))
                        // Each property once.
                        .collect::<BTreeMap<_, _>>()
                        .into_iter()
                        .collect(),
                })
                .collect(),
        };
        let now = Timestamp::from_millis(10 * HOUR_MS);
        let grants = (0..dice.below(90)).map(|n| Self::grant(n, &facts, dice)).collect();
        let rules = MAKERS_RULES.iter().filter(|_| dice.one_in(4)).collect();
        Self { facts, grants, rules, now }
    }

    fn grant(n: usize, facts: &Facts, dice: &mut Dice) -> Grant {
        let device = dice.below(DEVICES + 1);
        let known = facts.devices.get(device).filter(|_| !dice.one_in(20));
        let property = match known {
            Some(d) => dice.pick(&d.properties).0,
            None => *dice.pick(ALL_PROPERTIES),
        };
        let what = if dice.one_in(4) {
            What::Control { open: dice.one_in(2) }
        } else {
            // There are few agents, and few things that can be counted or have a mean.
            let rung = match dice.below(3) {
                0 if property.is_counted() => Rung::DayCount,
                0 if property.has_mean() => *dice.pick(&[Rung::HourMean, Rung::DayMean]),
                _ => *dice.pick(&ALL_RUNGS),
            };
            What::Disclose { trigger: *dice.pick(&ALL_TRIGGERS), rung }
        };
        let home = HouseholdId::new(if dice.one_in(8) { "other" } else { "home" }).unwrap();
        let cell = (home, link_id(dice.below(LINKS + 1)), device_id(device), property);
        let expires = (!dice.one_in(3)).then(|| Timestamp::from_millis(dice.below(21) as i64 * HOUR_MS));
        Grant { expires, ..Grant::new(GrantId::new(format!("g{n}")).unwrap(), cell, what, &terms()) }
    }

    fn ceiling(&self) -> Option<String> {
        let text: String = self.rules.iter().map(|r| format!("@id(\"{}\")\n{}\n", r.id, r.cedar)).collect();
        (!text.is_empty()).then_some(text)
    }

    fn table(&self) -> Table {
        compile(&self.facts, &self.grants, self.ceiling().as_deref(), self.now).unwrap()
    }

    /// The rules, told without Cedar: no permit without a grant of this home, link, device, property and trigger that has
    /// not expired and is at least as fine; nothing of unknown kind; nothing that a maker forbids; a maker's rule that
    /// fails refuses; locks, doors and alarms at no rung but the exact one. Of what is left, the finest.
    fn naive(&self, link: &LinkId, device: &DeviceId, property: Property, ask: Ask) -> Result<Rung, Refusal> {
        let link_fact = self.facts.links.iter().find(|l| l.link == *link).ok_or(Refusal::NoGrant)?;
        let device_fact = self.facts.devices.iter().find(|d| d.device == *device).ok_or(Refusal::NoGrant)?;
        let kind = device_fact.properties.iter().find(|(p, _)| *p == property).ok_or(Refusal::NoGrant)?.1;
        let granted: Vec<What> = self
            .grants
            .iter()
            .filter(|g| g.household == self.facts.household && g.link == *link)
            .filter(|g| g.device == *device && g.property == property)
            .filter(|g| match g.expires {
                Some(end) => end.as_millis() > self.now.as_millis(),
                None => true,
            })
            .map(|g| g.what)
            .filter(|what| match (what, ask) {
                (What::Disclose { trigger, .. }, Ask::Tell(asked)) => *trigger == asked,
                (What::Control { open }, Ask::Control) => !open,
                (What::Control { open }, Ask::Open) => *open,
                _ => false,
            })
            .collect();
        if granted.is_empty() {
            return Err(Refusal::NoGrant);
        }
        let rungs: Vec<Option<Rung>> = match ask {
            Ask::Control | Ask::Open => vec![None],
            Ask::Tell(_) => LADDER.iter().filter(|r| has(link_fact, property, **r)).map(|r| Some(*r)).collect(),
        };
        let mut refusal = Refusal::NoGrant;
        for rung in rungs {
            let said: Vec<Option<bool>> =
                self.rules.iter().map(|r| (r.means)(link_fact, device_fact, kind, ask, rung)).collect();
            if said.contains(&None) {
                return Err(Refusal::PolicyError);
            }
            let writes = matches!(ask, Ask::Control | Ask::Open);
            if said.contains(&Some(true)) || kind == Kind::Unknown || (link_fact.agent && writes) {
                refusal = Refusal::Ceiling;
                continue;
            }
            let permitted = granted.iter().any(|what| match (what, rung) {
                (What::Disclose { rung: granted, .. }, Some(asked)) => follows(*granted, asked),
                (What::Control { .. }, None) => true,
                _ => false,
            });
            if permitted {
                return Ok(rung.unwrap_or(Rung::Live));
            }
        }
        Err(refusal)
    }
}

/// The ladder, told anew: what is asked for first, ...
const LADDER: [Rung; 11] = [
    Rung::Live,
    Rung::QuarterHour,
    Rung::Hour,
    Rung::HourMean,
    Rung::HourLate,
    Rung::HourCoarse,
    Rung::HourSteady,
    Rung::QuarterDayCoarse,
    Rung::DayCoarse,
    Rung::DayMean,
    Rung::DayCount,
];

/// ... what can be worked out of what, step by step, ...
fn follows(from: Rung, to: Rung) -> bool {
    let next: &[Rung] = match from {
        Rung::Live => &[Rung::QuarterHour, Rung::DayCount],
        Rung::QuarterHour => &[Rung::Hour, Rung::HourMean],
        Rung::Hour => &[Rung::HourLate, Rung::HourCoarse, Rung::HourSteady],
        Rung::HourMean => &[Rung::DayMean],
        Rung::HourCoarse => &[Rung::QuarterDayCoarse],
        Rung::QuarterDayCoarse => &[Rung::DayCoarse],
        Rung::HourLate | Rung::HourSteady | Rung::DayCoarse | Rung::DayMean | Rung::DayCount => &[],
    };
    from == to || next.iter().any(|n| follows(*n, to))
}

/// ... and of which property there is which: no mean of what jumps, no count of what has no beginning, and of locks, doors,
/// alarms and what describes a device nothing that is held or late. Agents alone can be told how often.
fn has(link: &LinkFact, property: Property, rung: Rung) -> bool {
    use Property as P;
    let flows = matches!(
        property,
        P::LocalTemperature
            | P::OutdoorTemperature
            | P::RelativeHumidity
            | P::Co2Concentration
            | P::VocConcentration
            | P::ActivePower
    );
    let has_two_sides =
        matches!(property, P::Motion | P::Occupancy | P::ContactOpen | P::DoorState | P::LockState | P::OnOff);
    let is_exact =
        matches!(property, P::ContactOpen | P::DoorState | P::LockState | P::SmokeState | P::CoState | P::LeakState);
    let is_a_number = flows
        || matches!(
            property,
            P::OccupiedHeatingSetpoint
                | P::OccupiedCoolingSetpoint
                | P::OccupiedSetpoint
                | P::CoverPosition
                | P::CoverTilt
                | P::CurrentLevel
                | P::FanPercent
                | P::BatteryPercent
                | P::CumulativeEnergy
        );
    match rung {
        Rung::Live => true,
        Rung::HourMean | Rung::DayMean => flows,
        Rung::DayCount => has_two_sides && link.agent,
        Rung::HourSteady => is_a_number,
        Rung::HourLate => !is_exact && !property.is_metadata(),
        _ => !is_exact,
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

fn schema() -> Schema {
    let text = include_str!("../src/schema.cedarschema")
        .replace("@PROPERTIES@", &list(ALL_PROPERTIES.iter().map(|p| p.as_str())))
        .replace("@KINDS@", &list(Kind::ALL.iter().map(|k| k.as_str())))
        .replace("@RUNGS@", &list(LADDER.iter().map(|r| r.as_str())))
        .replace("@DEVICE_TYPES@", &list(DeviceType::ALL.iter().map(|t| t.as_str())));
    Schema::from_cedarschema_str(&text).unwrap().0
}

/// Cedar's own authoriser over all policies in force at once, with entities written as JSON: nothing of the compiler's.
struct Cedar<'a> {
    schema: &'a Schema,
    links: &'a [LinkFact],
    policies: PolicySet,
    entities: Entities,
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_str(&format!("Vestibule::{kind}::\"{id}\"")).unwrap()
}

impl<'a> Cedar<'a> {
    fn new(world: &'a World, schema: &'a Schema) -> Self {
        let named = |kind: &str, id: &str| json!({"type": format!("Vestibule::{kind}"), "id": id});
        let refer = |kind: &str, id: &str| json!({"__entity": named(kind, id)});
        let home = world.facts.household.as_str();
        let mut all = vec![json!({"uid": named("Household", home), "attrs": {}, "parents": []})];
        for l in &world.facts.links {
            all.push(json!({"uid": named("Link", l.link.as_str()), "parents": [], "attrs": {
                "household": refer("Household", home), "partner": refer("Partner", l.partner.as_str()),
                "gatekeeper": l.gatekeeper, "agent": l.agent}}));
        }
        for d in &world.facts.devices {
            let device = d.device.as_str();
            all.push(json!({"uid": named("Device", device), "parents": [], "attrs": {
                "household": refer("Household", home), "device_type": refer("DeviceType", d.device_type.as_str())}}));
            for (p, kind) in &d.properties {
                all.push(
                    json!({"uid": named("Property", &format!("{device}/{p}")), "parents": [named("Device", device)],
                    "attrs": {"household": refer("Household", home), "device": refer("Device", device),
                        "name": refer("PropertyName", p.as_str()), "kind": refer("Kind", kind.as_str()),
                        "provenance": refer("Provenance", "local_direct")}}),
                );
            }
        }
        let entities = Entities::from_json_value(serde_json::Value::Array(all), Some(schema)).unwrap();
        let mut policies = PolicySet::new();
        let parsed: PolicySet = include_str!("../src/ceiling.cedar").parse().unwrap();
        for p in parsed.policies() {
            let id = PolicyId::new(p.annotation("id").unwrap());
            policies.add(p.new_id(id)).unwrap();
        }
        for r in &world.rules {
            policies.add(Policy::parse(Some(PolicyId::new(r.id)), r.cedar).unwrap()).unwrap();
        }
        for g in &world.grants {
            if g.household == world.facts.household && g.expires.is_none_or(|t| t > world.now) {
                policies.add(Policy::parse(Some(PolicyId::new(g.id.as_str())), g.policy_text()).unwrap()).unwrap();
            }
        }
        Self { schema, links: &world.facts.links, policies, entities }
    }

    /// From the finest rung to the coarsest; any error refuses.
    fn decide(&self, link: &LinkId, device: &DeviceId, property: Property, ask: Ask) -> Result<Rung, ()> {
        let (principal, resource) = (uid("Link", link.as_str()), uid("Property", &format!("{device}/{property}")));
        if self.entities.get(&principal).is_none() || self.entities.get(&resource).is_none() {
            return Err(());
        }
        let fact = self.links.iter().find(|l| l.link == *link).ok_or(())?;
        let rungs: Vec<Option<Rung>> = match ask {
            Ask::Control | Ask::Open => vec![None],
            Ask::Tell(_) => ALL_RUNGS.iter().copied().map(Some).collect(),
        };
        for rung in rungs {
            if rung.is_some_and(|r| !has(fact, property, r)) {
                continue;
            }
            let context = match rung {
                Some(r) => json!({"rung": {"__entity": {"type": "Vestibule::Rung", "id": r.as_str()}}}),
                None => json!({"code": {"__entity": {"type": "Vestibule::Code", "id": "pin"}}}),
            };
            let action = uid("Action", ask.action());
            let context = Context::from_json_value(context, Some((self.schema, &action))).unwrap();
            let request =
                Request::new(principal.clone(), action, resource.clone(), context, Some(self.schema)).unwrap();
            let answer = Authorizer::new().is_authorized(&request, &self.policies, &self.entities);
            if answer.diagnostics().errors().next().is_some() {
                return Err(());
            }
            if answer.decision() == Decision::Allow {
                return Ok(rung.unwrap_or(Rung::Live));
            }
        }
        Err(())
    }
}

fn by_table(table: &Table, link: &LinkId, device: &DeviceId, property: Property, ask: Ask) -> Result<Rung, Refusal> {
    match ask {
        Ask::Tell(trigger) => table.decide(link, device, property, trigger).rung,
        Ask::Control => table.may(link, device, property, false).map(|_| Rung::Live),
        Ask::Open => table.may(link, device, property, true).map(|_| Rung::Live),
    }
}

fn is_full() -> bool {
    std::env::var("VESTIBULE_FORM").is_ok_and(|form| form == "full") || !cfg!(debug_assertions)
}

#[test]
fn table_cedar_and_a_naive_evaluator_give_the_same_answers() {
    // Of each world every cell is asked of the table and the naive evaluator, and so many of Cedar, which is slow:
    // half of them where something is granted, so that not all answers are "no".
    let (worlds, of_cedar) = if is_full() { (2_500, 400) } else { (160, 80) };
    let schema = schema();
    let mut dice = Dice(0x7665_7374_6962_756c);
    let (mut cells, mut asked) = (0u64, 0u64);
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for world_number in 0..worlds {
        let world = World::drawn(&mut dice);
        let table = world.table();
        let mut questions = Vec::new();
        for l in 0..=LINKS {
            for d in 0..=DEVICES {
                for property in ALL_PROPERTIES {
                    for ask in ASKS {
                        let (l, d) = (link_id(l), device_id(d));
                        let said = by_table(&table, &l, &d, *property, ask);
                        let expected = world.naive(&l, &d, *property, ask);
                        assert_eq!(
                            said,
                            expected,
                            "world {world_number}: {l} {d} {property} {ask:?}, with {:?} and {:?}",
                            world.grants,
                            world.ceiling()
                        );
                        cells += 1;
                        questions.push((l, d, *property, ask));
                    }
                }
            }
        }
        let of = |what| match what {
            What::Disclose { trigger, .. } => Ask::Tell(trigger),
            What::Control { open: false } => Ask::Control,
            What::Control { open: true } => Ask::Open,
        };
        let granted: Vec<_> =
            world.grants.iter().map(|g| (g.link.clone(), g.device.clone(), g.property, of(g.what))).collect();
        let cedar = Cedar::new(&world, &schema);
        for n in 0..of_cedar {
            let (l, d, property, ask) = if n % 2 == 0 && !granted.is_empty() {
                dice.pick(&granted).clone()
            } else {
                dice.pick(&questions).clone()
            };
            let said = by_table(&table, &l, &d, property, ask);
            let by_cedar = cedar.decide(&l, &d, property, ask);
            assert_eq!(said.ok(), by_cedar.ok(), "world {world_number}: {l} {d} {property} {ask:?}: Cedar differs");
            let outcome = said.map_or_else(|r| r.as_str().to_owned(), |r| r.as_str().to_owned());
            *outcomes.entry(outcome).or_default() += 1;
            asked += 1;
        }
    }
    println!("{cells} cells by table and naive evaluator, {asked} of them by Cedar too: {outcomes:?}");
    // A comparison that only ever saw refusals would show nothing.
    let seen: BTreeSet<&str> = outcomes.iter().filter(|(_, n)| **n >= 10).map(|(o, _)| o.as_str()).collect();
    let wanted = ALL_RUNGS.iter().map(|r| r.as_str());
    let wanted: BTreeSet<&str> =
        wanted.chain([Refusal::NoGrant, Refusal::Ceiling, Refusal::PolicyError].map(Refusal::as_str)).collect();
    assert_eq!(seen, wanted, "{outcomes:?}");
    assert!(!is_full() || asked >= 1_000_000, "{asked}");
}

/// A home in which exactly one thing is granted: link 0 may poll the room temperature of device 0, hourly.
fn one_grant() -> World {
    let properties = vec![
        (Property::LocalTemperature, Kind::Temperature),
        (Property::Motion, Kind::Presence),
        (Property::LockState, Kind::Lock),
    ];
    let device =
        |n| DeviceFact { device: device_id(n), device_type: DeviceType::Thermostat, properties: properties.clone() };
    let link =
        |n| LinkFact { link: link_id(n), partner: PartnerId::new("alexa").unwrap(), gatekeeper: true, agent: false };
    World {
        facts: Facts {
            household: HouseholdId::new("home").unwrap(),
            links: vec![link(0), link(1)],
            devices: vec![device(0), device(1)],
        },
        grants: vec![Grant {
            expires: Some(Timestamp::from_millis(20 * HOUR_MS)),
            ..Grant::new(
                GrantId::new("g0").unwrap(),
                (HouseholdId::new("home").unwrap(), link_id(0), device_id(0), Property::LocalTemperature),
                What::Disclose { trigger: Trigger::PartnerPoll, rung: Rung::Hour },
                &terms(),
            )
        }],
        rules: Vec::new(),
        now: Timestamp::from_millis(10 * HOUR_MS),
    }
}

/// The answer to the one granted question.
fn granted_question(world: &World) -> Result<Rung, Refusal> {
    world.table().decide(&link_id(0), &device_id(0), Property::LocalTemperature, Trigger::PartnerPoll).rung
}

/// The one granted question is answered before `change`, and refused after it for this reason.
fn refused_after(change: impl FnOnce(&mut World), reason: Refusal) {
    let mut world = one_grant();
    assert_eq!(granted_question(&world), Ok(Rung::Hour));
    change(&mut world);
    assert_eq!(granted_question(&world), Err(reason));
}

#[test]
fn only_the_one_granted_cell_of_a_home_is_answered() {
    let world = one_grant();
    let table = world.table();
    let mut answered = Vec::new();
    for l in 0..3 {
        for d in 0..3 {
            for property in ALL_PROPERTIES {
                for ask in ASKS {
                    if by_table(&table, &link_id(l), &device_id(d), *property, ask).is_ok() {
                        answered.push((l, d, *property, ask));
                    }
                }
            }
        }
    }
    assert_eq!(answered, [(0, 0, Property::LocalTemperature, Ask::Tell(Trigger::PartnerPoll))]);
}

#[test]
fn a_forbid_that_errors_refuses() {
    let rule: &'static MakersRule = &MakersRule {
        id: "fails",
        cedar: "forbid(principal, action, resource) when { 9223372036854775807 + 1 == 0 };",
        means: |_, _, _, _, _| None,
    };
    refused_after(|w| w.rules.push(rule), Refusal::PolicyError);
    // Cedar alone skips it, and the permit wins: the reason why the compiler must look.
    let mut world = one_grant();
    world.rules.push(rule);
    let schema = schema();
    let cedar = Cedar::new(&world, &schema);
    let context = json!({"rung": {"__entity": {"type": "Vestibule::Rung", "id": "hour"}}});
    let action = uid("Action", "partner_poll");
    let context = Context::from_json_value(context, Some((&schema, &action))).unwrap();
    let (principal, resource) = (uid("Link", "l0"), uid("Property", "d0/local_temperature"));
    let request = Request::new(principal, action, resource, context, Some(&schema)).unwrap();
    let answer = Authorizer::new().is_authorized(&request, &cedar.policies, &cedar.entities);
    assert_eq!((answer.decision(), answer.diagnostics().errors().count()), (Decision::Allow, 1));
}

#[test]
fn a_missing_entity_refuses() {
    refused_after(|w| drop(w.facts.links.remove(0)), Refusal::NoGrant);
    refused_after(|w| drop(w.facts.devices.remove(0)), Refusal::NoGrant);
    refused_after(
        |w| w.facts.devices[0].properties.retain(|(p, _)| *p != Property::LocalTemperature),
        Refusal::NoGrant,
    );
}

#[test]
fn an_unknown_kind_refuses_whatever_is_granted() {
    refused_after(|w| w.facts.devices[0].properties[0].1 = Kind::Unknown, Refusal::Ceiling);
}

#[test]
fn an_expired_grant_refuses_to_the_millisecond() {
    refused_after(|w| w.now = Timestamp::from_millis(20 * HOUR_MS), Refusal::NoGrant);
    let mut world = one_grant();
    world.now = Timestamp::from_millis(20 * HOUR_MS - 1);
    assert_eq!(granted_question(&world), Ok(Rung::Hour));
}

#[test]
fn a_grant_for_another_household_link_device_property_or_trigger_refuses() {
    refused_after(|w| w.grants[0].household = HouseholdId::new("other").unwrap(), Refusal::NoGrant);
    refused_after(|w| w.grants[0].link = link_id(1), Refusal::NoGrant);
    refused_after(|w| w.grants[0].device = device_id(1), Refusal::NoGrant);
    refused_after(|w| w.grants[0].property = Property::Motion, Refusal::NoGrant);
    let told_unasked = What::Disclose { trigger: Trigger::ProactiveReport, rung: Rung::Hour };
    refused_after(|w| w.grants[0].what = told_unasked, Refusal::NoGrant);
    refused_after(|w| w.grants[0].what = What::Control { open: false }, Refusal::NoGrant);
    // And the whole home may be another's.
    refused_after(|w| w.facts.household = HouseholdId::new("other").unwrap(), Refusal::NoGrant);
}

#[test]
fn a_held_rung_of_a_lock_refuses() {
    let mut world = one_grant();
    world.grants[0].property = Property::LockState;
    let ask = |w: &World| w.table().decide(&link_id(0), &device_id(0), Property::LockState, Trigger::PartnerPoll).rung;
    assert_eq!(ask(&world), Err(Refusal::NoGrant));
    world.grants[0].what = What::Disclose { trigger: Trigger::PartnerPoll, rung: Rung::Live };
    assert_eq!(ask(&world), Ok(Rung::Live));
}

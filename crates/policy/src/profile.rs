//! Profiles: named sets of grants, each a readable file. None is preselected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use model::{DeviceId, GrantId, Kind, LinkId, MemberId, Property, Rung, Timestamp, Trigger};
use serde::Deserialize;

use crate::compile::{CompileError, DeviceFact, Facts};
use crate::grant::{Code, Grant, What, days_at_most, in_words};

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
    /// The sensors that the household named, for the rules that want it.
    #[serde(skip)]
    sensors: BTreeSet<DeviceId>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commands {
    control: bool,
    /// To unlock and open, with this code; none is not at all.
    open: Option<Code>,
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
    /// Only of sensors that the household named.
    #[serde(default)]
    named: bool,
    /// Only of devices that have one of these, too.
    #[serde(default)]
    beside: Vec<Property>,
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

#[cfg(test)]
impl Terms {
    /// The owner grants, at the beginning of time.
    pub(crate) fn of_owner() -> Self {
        let owner = MemberId::new("owner").unwrap();
        Self { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner] }
    }
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

const FILES: [&str; 5] = [
    include_str!("../profiles/commands-only.toml"),
    include_str!("../profiles/routines.toml"),
    include_str!("../profiles/glance.toml"),
    include_str!("../profiles/convenience.toml"),
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
    /// The same, for these sensors. A profile whose rules want none named grants nothing more for it.
    #[must_use]
    pub fn naming(&self, sensors: impl IntoIterator<Item = DeviceId>) -> Self {
        Self { sensors: sensors.into_iter().collect(), ..self.clone() }
    }

    /// The same, for every sensor that it takes by name: the most that it can grant.
    #[must_use]
    pub fn naming_all(&self, devices: &[DeviceFact]) -> Self {
        let properties = self.of_named();
        let is_sensor = |d: &&DeviceFact| d.properties.iter().any(|(p, _)| properties.contains(p));
        self.naming(devices.iter().filter(is_sensor).map(|d| d.device.clone()))
    }

    /// The properties of which it grants only those of named sensors; none when it takes no names.
    pub fn of_named(&self) -> BTreeSet<Property> {
        let named = self.rule.iter().filter(|r| r.named).flat_map(|r| r.properties.iter().copied());
        named.filter(|p| !p.is_metadata() && *p != Property::Reachable).collect()
    }

    /// The properties that a device must have one of for some rule to say anything of it.
    pub fn beside(&self) -> BTreeSet<Property> {
        self.rule.iter().flat_map(|r| r.beside.iter().copied()).collect()
    }

    /// The sensors that grants of this profile name already.
    fn named_by(&self, grants: &[&Grant]) -> BTreeSet<DeviceId> {
        let properties = self.of_named();
        let of_this = |g: &&&Grant| g.profile.as_deref() == Some(&self.slug) && properties.contains(&g.property);
        grants.iter().filter(of_this).map(|g| g.device.clone()).collect()
    }

    /// What it grants of one property of this kind at most: of a named sensor, beside whatever else it asks for.
    pub fn at_most(&self, property: Property, kind: Kind) -> Vec<What> {
        self.by_rules(property, kind, |_| true)
    }

    /// The code that it asks for of a command.
    pub fn code(&self, what: What) -> Option<Code> {
        self.commands.open.filter(|_| what == What::Control { open: true })
    }

    /// What it grants of one property of a device.
    fn grants(&self, device: &DeviceFact, property: Property, kind: Kind) -> Vec<What> {
        let has_one = |of: &[Property]| device.properties.iter().any(|(p, _)| of.contains(p));
        self.by_rules(property, kind, |rule| {
            (!rule.named || self.sensors.contains(&device.device)) && (rule.beside.is_empty() || has_one(&rule.beside))
        })
    }

    /// Of an unknown kind nothing: the ceiling would forbid it.
    fn by_rules(&self, property: Property, kind: Kind, fits: impl Fn(&Rule) -> bool) -> Vec<What> {
        if kind == Kind::Unknown {
            return Vec::new();
        }
        let mut what: Vec<What> = self
            .rule
            .iter()
            .filter(|r| fits(r))
            .filter(|r| r.properties.contains(&property) || (r.all && !property.is_metadata()))
            .filter(|r| property.takes(r.rung))
            .map(|r| What::Disclose { trigger: r.trigger, rung: r.rung })
            .collect();
        // Which properties a device takes commands for is its own matter; a grant for one that takes none is idle.
        if commandable(property, kind) && self.commands.control {
            what.push(What::Control { open: false });
        }
        if opens(property, kind) && self.commands.open.is_some() {
            what.push(What::Control { open: true });
        }
        what
    }
}

/// Whether a property of this kind can be commanded.
pub(crate) fn commandable(property: Property, kind: Kind) -> bool {
    matches!(kind, Kind::Comfort | Kind::Appliance | Kind::Covering | Kind::Opening | Kind::Lock)
        && property != Property::ContactOpen
}

/// Whether commanding it can open or unlock something. A blind that reports as a door takes the door's command, and its
/// opening is asked for as `open`.
pub fn opens(property: Property, kind: Kind) -> bool {
    commandable(property, kind) && (matches!(kind, Kind::Opening | Kind::Lock) || property == Property::DoorState)
}

/// What applying a profile to a link, for the devices known now, would change: afterwards the link has what the profile
/// grants, and nothing else. Of `existing` only the link's own grants count; `ids` gives fresh ids.
///
/// What describes a device (name, type, maker, whether it answers) is granted only along with something of it to be told
/// or commanded. Where the profile takes named sensors and names none now, those that it named on this link stay.
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
    let mut change = Change::default();
    let existing: Vec<&Grant> = existing.iter().filter(|g| g.link == *link).collect();
    let sensors = if profile.sensors.is_empty() { profile.named_by(&existing) } else { profile.sensors.clone() };
    let profile = profile.naming(sensors);
    let mut before: BTreeMap<(DeviceId, Property, What), &Grant> = BTreeMap::new();
    for grant in existing {
        if let Some(doubled) = before.insert((grant.device.clone(), grant.property, grant.what), grant) {
            change.remove.push(doubled.id.clone());
        }
    }
    for device in &facts.devices {
        let of = |(property, kind): &(Property, Kind)| {
            let property = *property;
            profile.grants(device, property, *kind).into_iter().map(move |what| (property, what))
        };
        let wanted: Vec<(Property, What)> = device.properties.iter().flat_map(of).collect();
        if wanted.iter().all(|(p, _)| p.is_metadata() || *p == Property::Reachable) {
            continue;
        }
        for (property, what) in wanted {
            let expires = terms.now.plus_millis(days_at_most(what) * DAY_MS);
            match before.remove(&(device.device.clone(), property, what)) {
                Some(old) if !old.is_conditional() && old.needs() == profile.code(what) => {
                    let renew = old.expires.is_some_and(|t| t < expires.plus_millis(-RENEW_FROM_MS));
                    if !renew {
                        continue;
                    }
                    change.remove.push(old.id.clone());
                }
                // No profile has hours or windows: one that has is less than the profile says; so is one with another code.
                old => {
                    change.remove.extend(old.map(|g| g.id.clone()));
                    change.rows.push(format!("+ {} {}: {}", device.device, property.label(), in_words(what)));
                }
            }
            let cell = (facts.household.clone(), link.clone(), device.device.clone(), property);
            change.add.push(Grant {
                expires: Some(expires),
                profile: Some(profile.slug.clone()),
                code: profile.code(what),
                ..Grant::new(ids().ok_or(CompileError::NoId)?, cell, what, terms)
            });
        }
    }
    for ((device, property, what), old) in before {
        change.remove.push(old.id.clone());
        change.rows.push(format!("- {device} {}: {}", property.label(), in_words(what)));
    }
    Ok(change)
}

#[cfg(test)]
pub(crate) mod tests {
    use disclosure::{Command, Refusal};
    use model::{Class, DeviceType, DoorState, HouseholdId, LockState, PartnerId, SystemMode, Value};

    use super::*;
    use crate::{LinkFact, Table, compile};

    /// A thermostat, a lock, a light, a garage door, a blind that reports as a door, and a motion sensor.
    pub(crate) fn home() -> Facts {
        let devices = [
            (
                "thermostat",
                DeviceType::Thermostat,
                Class::None,
                &[
                    Property::LocalTemperature,
                    Property::RelativeHumidity,
                    Property::OccupiedHeatingSetpoint,
                    Property::OccupiedCoolingSetpoint,
                    Property::SystemMode,
                ][..],
            ),
            ("lock", DeviceType::DoorLock, Class::None, &[Property::LockState]),
            ("light", DeviceType::Light, Class::Light, &[Property::OnOff, Property::CurrentLevel]),
            ("garage", DeviceType::GarageDoor, Class::Garage, &[Property::DoorState]),
            ("blind", DeviceType::WindowCovering, Class::Blind, &[Property::DoorState]),
            ("motion", DeviceType::OccupancySensor, Class::None, &[Property::Motion]),
        ];
        let described = [Property::DeviceTypeName, Property::NodeLabel, Property::VendorName, Property::Reachable];
        let device = |(id, device_type, class, properties): (&str, DeviceType, Class, &[Property])| DeviceFact {
            device: DeviceId::new(id).unwrap(),
            device_type,
            properties: properties.iter().chain(&described).map(|p| (*p, Kind::of(*p, class))).collect(),
        };
        Facts {
            household: HouseholdId::new("home").unwrap(),
            links: vec![LinkFact {
                link: link(),
                partner: PartnerId::new("alexa").unwrap(),
                gatekeeper: true,
                agent: false,
            }],
            devices: devices.map(device).into(),
        }
    }

    pub(crate) fn link() -> LinkId {
        LinkId::new("lnk").unwrap()
    }

    /// The grants after applying a profile at `day`.
    pub(crate) fn applied(slug: &str, facts: &Facts, existing: &[Grant], day: i64) -> (Vec<Grant>, Change) {
        applied_as(profile(slug).unwrap(), facts, existing, day)
    }

    pub(crate) fn applied_as(profile: &Profile, facts: &Facts, existing: &[Grant], day: i64) -> (Vec<Grant>, Change) {
        let owner = MemberId::new("owner").unwrap();
        let now = Timestamp::from_millis(day * DAY_MS);
        let terms = Terms { now, granted_by: owner.clone(), affects: vec![owner] };
        let mut n = 0;
        let ids = || {
            n += 1;
            let named: String = profile.sensors.iter().map(DeviceId::as_str).collect();
            Some(GrantId::new(format!("{}{named}-{day}-{n}", profile.slug)).unwrap())
        };
        let change = apply(profile, facts, &link(), existing, &terms, ids).unwrap();
        let kept = existing.iter().filter(|g| !change.remove.contains(&g.id)).cloned();
        (kept.chain(change.add.clone()).collect(), change)
    }

    pub(crate) fn table(facts: &Facts, grants: &[Grant]) -> Table {
        compile(facts, grants, None, Timestamp::default()).unwrap()
    }

    #[test]
    fn every_shipped_profile_is_read_and_a_misspelt_one_is_not() {
        assert_eq!(profiles().len(), FILES.len(), "{:?}", FILES.map(|f| toml::from_str::<Profile>(f).err()));
        let slugs: Vec<&str> = profiles().iter().map(|p| p.slug.as_str()).collect();
        assert_eq!(slugs, ["commands-only", "routines", "glance", "convenience", "everything"]);
        let misspelt = FILES[0].replace("summary", "summery");
        assert!(toml::from_str::<Profile>(&misspelt).is_err());
    }

    #[test]
    fn every_command_works_under_every_profile() {
        let temperature = || Some(Value::Temperature(21_000));
        let commands = [
            ("thermostat", Command::SetSetpoint { target: temperature(), heating: None, cooling: None }),
            ("thermostat", Command::SetSetpoint { target: None, heating: None, cooling: temperature() }),
            ("thermostat", Command::AdjustSetpoint { delta_milli: 1000 }),
            ("thermostat", Command::SetSystemMode(SystemMode::Heat)),
            ("light", Command::SetOnOff(true)),
            ("light", Command::SetLevel(3000)),
            ("light", Command::AdjustLevel(-1000)),
            ("lock", Command::SetLock(LockState::Locked)),
            ("lock", Command::SetLock(LockState::Unlocked)),
            ("garage", Command::SetDoor(DoorState::Open)),
            ("garage", Command::SetDoor(DoorState::Closed)),
            ("blind", Command::SetDoor(DoorState::Open)),
            ("blind", Command::SetDoor(DoorState::Closed)),
        ];
        let facts = home();
        for profile in profiles() {
            let table = table(&facts, &applied(&profile.slug, &facts, &[], 0).0);
            for (device, command) in &commands {
                let device = DeviceId::new(*device).unwrap();
                let may = table.may(&link(), &device, command.property(), command.opens_the_home());
                assert!(may.is_ok_and(|policies| policies.len() == 1), "{}: {device} {command:?}", profile.slug);
            }
        }
    }

    #[test]
    fn while_a_change_is_on_its_way_only_what_both_tables_allow_is_open_and_that_stays_open() {
        let facts = home();
        let tables: Vec<Table> =
            profiles().iter().map(|p| table(&facts, &applied(&p.slug, &facts, &[], 0).0)).collect();
        for before in &tables {
            for after in &tables {
                let meet = before.meet(after);
                for device in &facts.devices {
                    for (property, _) in &device.properties {
                        for trigger in model::ALL_TRIGGERS {
                            let rung = |t: &Table| t.decide(&link(), &device.device, *property, trigger).rung.ok();
                            let given = |a: Rung, b: Rung| {
                                let both = |r: &Rung| b.gives().contains(r) && property.takes(*r);
                                a.gives().iter().copied().find(both)
                            };
                            let both = rung(before).zip(rung(after)).and_then(|(a, b)| given(a, b));
                            assert_eq!(rung(&meet), both, "{} {property:?} {trigger}", device.device);
                        }
                        for open in [false, true] {
                            let may = |t: &Table| t.may(&link(), &device.device, *property, open).is_ok();
                            assert_eq!(may(&meet), may(before) && may(after));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn applying_a_profile_leaves_what_it_grants_and_nothing_else() {
        let facts = home();
        let (everything, _) = applied("everything", &facts, &[], 0);
        // Again: nothing to do. Later: renewed, and nothing to tell.
        let (_, same) = applied("everything", &facts, &everything, 0);
        assert!(same.add.is_empty() && same.remove.is_empty() && same.rows.is_empty());
        let (renewed, later) = applied("everything", &facts, &everything, 90);
        assert_eq!((later.add.len(), later.remove.len(), later.rows.len()), (everything.len(), everything.len(), 0));
        let until = |days: i64| Some(Timestamp::from_millis((90 + days) * DAY_MS));
        assert!(renewed.iter().all(|g| g.expires == until(days_at_most(g.what))));
        assert!(renewed.iter().any(|g| g.expires == until(180)) && renewed.iter().any(|g| g.expires == until(30)));
        // One that counts in some hours alone is less than the profile says.
        let mut some_hours = everything.clone();
        some_hours[0].hours = vec!["daily 06:00-08:00".parse().unwrap()];
        let (whole, change) = applied("everything", &facts, &some_hours, 0);
        assert_eq!((change.add.len(), change.remove.len(), change.rows.len()), (1, 1, 1));
        assert!(whole.len() == everything.len() && whole.iter().all(|g| !g.is_conditional()));
        // Narrower, over a grant that stands twice, one by hand, and one of another link.
        let mut before = everything.clone();
        before.push(Grant { id: GrantId::new("doubled").unwrap(), ..everything[0].clone() });
        let by_hand = What::Disclose { trigger: Trigger::ProactiveReport, rung: Rung::Live };
        before.push(Grant {
            id: GrantId::new("by-hand").unwrap(),
            what: by_hand,
            profile: None,
            code: None,
            ..everything[0].clone()
        });
        let other = LinkId::new("other").unwrap();
        before.push(Grant { id: GrantId::new("others").unwrap(), link: other.clone(), ..everything[0].clone() });
        let (narrow, change) = applied("commands-only", &facts, &before, 0);
        assert!(
            change.rows.iter().any(|r| r == "- motion motion: told when it asks, exact, at once"),
            "{:?}",
            change.rows
        );
        let (others, narrow): (Vec<Grant>, Vec<Grant>) = narrow.into_iter().partition(|g| g.link == other);
        assert_eq!(others.len(), 1);
        let (fresh, _) = applied("commands-only", &facts, &[], 0);
        assert_eq!(table(&facts, &narrow).table_hash(), table(&facts, &fresh).table_hash());
    }

    #[test]
    fn of_sensors_that_were_not_named_routines_are_told_nothing_and_names_last_until_others_are_given() {
        let mut facts = home();
        let mut second = facts.devices.last().unwrap().clone();
        second.device = DeviceId::new("stairs").unwrap();
        facts.devices.push(second);
        let told = |grants: &[Grant]| -> Vec<String> {
            let table = table(&facts, grants);
            let told = |d: &&DeviceFact| {
                table.decide(&link(), &d.device, Property::Motion, Trigger::ProactiveReport).rung.is_ok()
            };
            facts.devices.iter().filter(told).map(|d| d.device.to_string()).collect()
        };
        let (none, _) = applied("routines", &facts, &[], 0);
        let (commands, _) = applied("commands-only", &facts, &[], 0);
        assert_eq!(table(&facts, &none).table_hash(), table(&facts, &commands).table_hash());
        let named = |device: &str| profile("routines").unwrap().naming([DeviceId::new(device).unwrap()]);
        let (one, _) = applied_as(&named("motion"), &facts, &none, 0);
        assert_eq!(told(&one), ["motion"]);
        // Nothing but that one boolean, whether the sensor answers, and what lets a person find it in the partner's app.
        let of_sensor: BTreeSet<_> =
            one.iter().filter(|g| g.device.as_str() == "motion").map(|g| (g.property, g.what)).collect();
        let tells = |trigger, rung| What::Disclose { trigger, rung };
        assert_eq!(
            of_sensor,
            BTreeSet::from([
                (Property::Motion, tells(Trigger::ProactiveReport, Rung::Live)),
                (Property::Motion, tells(Trigger::PartnerPoll, Rung::Live)),
                (Property::Reachable, tells(Trigger::ProactiveReport, Rung::Hour)),
                (Property::Reachable, tells(Trigger::PartnerPoll, Rung::Hour)),
                (Property::DeviceTypeName, tells(Trigger::Discovery, Rung::Live)),
                (Property::NodeLabel, tells(Trigger::Discovery, Rung::HourCoarse)),
            ])
        );
        let (renewed, change) = applied("routines", &facts, &one, 20);
        assert!(change.rows.is_empty(), "{:?}", change.rows);
        assert_eq!(told(&renewed), ["motion"]);
        let (other, _) = applied_as(&named("stairs"), &facts, &renewed, 20);
        assert_eq!(told(&other), ["stairs"]);
        // A lock is no sensor, whoever names it.
        let (lock, _) = applied_as(&named("lock"), &facts, &[], 0);
        assert_eq!(told(&lock), Vec::<String>::new());
    }

    #[test]
    fn a_device_with_nothing_to_tell_or_do_is_not_even_named_and_a_later_one_waits() {
        let mut facts = home();
        let (grants, _) = applied("commands-only", &facts, &[], 0);
        let decide = |grants: &[Grant], facts: &Facts, device: &str| {
            let device = DeviceId::new(device).unwrap();
            table(facts, grants).decide(&link(), &device, Property::DeviceTypeName, Trigger::Discovery).rung
        };
        assert_eq!(decide(&grants, &facts, "lock"), Ok(Rung::Live));
        assert_eq!(decide(&grants, &facts, "motion"), Err(Refusal::NoGrant));
        let mut later = facts.devices[1].clone();
        later.device = DeviceId::new("later").unwrap();
        facts.devices.push(later);
        assert_eq!(decide(&grants, &facts, "later"), Err(Refusal::NoGrant));
        let (grants, change) = applied("commands-only", &facts, &grants, 1);
        assert!(change.remove.is_empty() && change.add.iter().all(|g| g.device.as_str() == "later"));
        assert_eq!(decide(&grants, &facts, "later"), Ok(Rung::Live));
    }
}

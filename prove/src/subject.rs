//! What claims are decided about: a home, a file of grants, or a profile for whatever home. Each has two faces: homes whose
//! tables are gone through cell by cell, and policies with what is known of their words, for the solver.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use cedar_policy::{EntityUid, EvalResult};
use cedar_policy_symcc::Env;
use model::{
    ALL_PROPERTIES, ALL_RUNGS, Class, DeviceId, DeviceType, GrantId, HouseholdId, Kind, LinkId, MemberId, PartnerId,
    Property, Rung, Timestamp,
};
use policy::{
    Action, Ceiling, Code, CompileError, DeviceFact, Document, Facts, Grant, LinkFact, Profile, Provenance, Table,
    Terms, What, World, apply, compile_as,
};

use crate::Claim;

/// The partner that profiles are for.
const PARTNER: &str = "alexa";

/// A partner that nobody knows: an agent.
const ANOTHER: &str = "another";

/// A home that it may be.
pub(crate) struct Possible {
    pub(crate) facts: Facts,
    tables: [OnceCell<Table>; 3],
    worlds: [OnceCell<World>; 3],
}

/// What claims are decided about.
pub struct Subject {
    /// The profile, by slug, where it is one.
    pub profile: Option<String>,
    /// What somebody who reads the result should know.
    pub notes: Vec<String>,
    pub(crate) possible: Vec<Possible>,
    pub(crate) type_known: bool,
    /// Whether it is known whose the links are.
    links_known: bool,
    /// Those that hold, of things that are there.
    pub(crate) grants: Vec<Grant>,
    maker: Option<String>,
    /// What is taken in the place of the built-in ceiling.
    built_in: Option<String>,
    /// Grants that had ended by then are left out.
    pub as_of: Timestamp,
    /// For the solver, in place of the grants' own policies: those of a profile for whatever home.
    general: Option<General>,
}

/// A profile as policies that speak of natures, not of devices: what its grants permit in any home, these permit.
struct General {
    profile: Profile,
    permits: String,
    /// The same, one by one, as (action, what it covers).
    covered: Vec<(Action, String)>,
}

fn quoted<'a>(kind: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("Vestibule::{kind}::\"{n}\"")).collect();
    format!("[{}]", names.join(", "))
}

fn one(kind: &str, name: &str) -> String {
    format!("Vestibule::{kind}::\"{name}\"")
}

fn rungs(from: Rung) -> String {
    format!("{}.contains(context.rung)", quoted("Rung", from.gives().iter().copied().map(Rung::as_str)))
}

/// The code with which a command counts, as a condition.
fn codes(needed: Option<Code>) -> String {
    let will_do = [Code::Partner, Code::Pin].into_iter().filter(|code| Some(*code) >= needed).map(Code::as_str);
    needed.map_or_else(String::new, |_| format!("\n    && {}.contains(context.code)", quoted("Code", will_do)))
}

pub(crate) fn action_of(what: What) -> Action {
    match what {
        What::Disclose { trigger, .. } => Action::Told(trigger),
        What::Control { open: false } => Action::Control,
        What::Control { open: true } => Action::Open,
    }
}

/// The scope of a policy about one action.
fn scope(action: Action) -> String {
    format!("(principal, action == {}, resource)", one("Action", action.as_str()))
}

/// The kinds that a property can have, the unknown one too.
pub(crate) fn kinds_of(property: Property) -> BTreeSet<Kind> {
    let known = Class::ALL.into_iter().map(|class| Kind::of(property, class));
    if property.is_metadata() || property == Property::Reachable {
        return known.collect();
    }
    known.chain([Kind::Unknown]).collect()
}

/// A home, under its grants that hold now and its maker's ceiling.
pub fn of_home(facts: Facts, grants: Vec<Grant>, maker: Option<String>, now: Timestamp) -> Subject {
    let mut subject = new(None, vec![facts], grants, maker, now);
    subject.type_known = true;
    subject
}

/// Everyone whose a link may be: the partners that are known, one that is not, and whoever a claim names. Of who is not known it is
/// not known either whether a gatekeeper stands behind it.
fn everyone(claims: &[Claim]) -> Result<BTreeSet<(PartnerId, bool)>, model::IdError> {
    let mut all: BTreeSet<(PartnerId, bool)> = BTreeSet::new();
    let named = claims.iter().flat_map(|c| c.partners.iter().chain(&c.except_partners)).cloned();
    for partner in [PartnerId::new(ANOTHER)?].into_iter().chain(named).filter(links::is_agent) {
        all.extend([(partner.clone(), false), (partner, true)]);
    }
    for (name, gatekeeper) in links::PARTNERS {
        all.insert((PartnerId::new(name)?, gatekeeper));
    }
    Ok(all)
}

/// The grants of a file, as of its newest one: so the same file comes to the same whenever it is read. It does not say what
/// its devices are, nor whose its links are: a device may be anything that has what is granted of it, and a link may be anybody's,
/// whoever the claims speak of.
///
/// # Errors
/// When an id of this program is none: never.
pub fn of_document(document: Document, maker: Option<String>, claims: &[Claim]) -> Result<Subject, model::IdError> {
    let now = document.grants.iter().map(|g| g.created).max().unwrap_or_default();
    let ids: BTreeSet<&LinkId> = document.grants.iter().map(|g| &g.link).collect();
    let mut devices: BTreeMap<&DeviceId, BTreeSet<Property>> = BTreeMap::new();
    for grant in &document.grants {
        devices.entry(&grant.device).or_default().insert(grant.property);
    }
    let mut homes: Vec<Facts> = Vec::new();
    for (partner, gatekeeper) in everyone(claims)? {
        let agent = links::is_agent(&partner);
        let link = |link: &&LinkId| LinkFact { link: (*link).clone(), partner: partner.clone(), gatekeeper, agent };
        let links: Vec<LinkFact> = ids.iter().map(link).collect();
        for class in Class::ALL {
            let device = |(device, properties): (&&DeviceId, &BTreeSet<Property>)| DeviceFact {
                device: (*device).clone(),
                device_type: DeviceType::Unknown,
                properties: properties.iter().map(|p| (*p, Kind::of(*p, class))).collect(),
            };
            let devices = devices.iter().map(device).collect();
            let facts = Facts { household: document.household.clone(), links: links.clone(), devices };
            // Few classes change a kind.
            if !homes.contains(&facts) {
                homes.push(facts);
            }
        }
    }
    let mut subject = new(None, homes, document.grants, maker, now);
    subject.links_known = false;
    subject.notes.push(
        "A file of grants does not say what its devices are, nor whose its links: each device may be anything that has what is \
         granted of it, and each link anybody's. With --data it is known."
            .to_owned(),
    );
    Ok(subject)
}

/// A profile: every property of every kind on every type of device, applied to a link with Alexa and to one with an agent; and its
/// rules as policies for whatever home and partner.
///
/// # Errors
/// When the profile can't be applied or an id of this program is none: never with a shipped profile.
pub fn of_profile(profile: &Profile) -> Result<Subject, CompileError> {
    let failed = |e: model::IdError| CompileError::Entities(e.to_string());
    let mut facts = Facts::empty(HouseholdId::new("home").map_err(failed)?);
    for name in [PARTNER, ANOTHER] {
        let partner = PartnerId::new(name).map_err(failed)?;
        let (gatekeeper, agent) = (links::is_gatekeeper(&partner), links::is_agent(&partner));
        facts.links.push(LinkFact { link: LinkId::new(name).map_err(failed)?, gatekeeper, agent, partner });
    }
    for device_type in DeviceType::ALL {
        let mut natures: Vec<(Property, Vec<Kind>)> =
            ALL_PROPERTIES.iter().map(|p| (*p, kinds_of(*p).into_iter().collect())).collect();
        // A device has a property once: what can be of several kinds is on several devices.
        for n in 0.. {
            let properties: Vec<(Property, Kind)> =
                natures.iter_mut().filter_map(|(p, kinds)| kinds.pop().map(|kind| (*p, kind))).collect();
            if properties.is_empty() {
                break;
            }
            let device = DeviceId::new(format!("{device_type}-{n}")).map_err(failed)?;
            facts.devices.push(DeviceFact { device, device_type, properties });
        }
    }
    // Where it takes named sensors, all are named: that is the most that it can grant.
    let profile = &profile.naming_all(&facts.devices);
    let mut grants = Vec::new();
    for link in &facts.links {
        // No rule asks what a device is: to the agent one type of them is enough.
        let is_meant = |d: &&DeviceFact| !link.agent || d.device_type == DeviceType::DoorLock;
        let devices = facts.devices.iter().filter(is_meant).cloned().collect();
        grants.extend(granted(profile, &Facts { devices, ..facts.clone() }, &link.link)?);
    }
    let mut subject = new(Some(profile.slug.clone()), vec![facts], grants, None, Timestamp::default());
    subject.type_known = true;
    subject.general = Some(general(profile));
    Ok(subject)
}

/// What a profile grants of each property of each kind, put together by action, rung and kind.
fn general(profile: &Profile) -> General {
    let mut groups: BTreeMap<(What, Kind), BTreeSet<Property>> = BTreeMap::new();
    let mut covered = Vec::new();
    for property in ALL_PROPERTIES.iter().copied() {
        for kind in Kind::ALL {
            for what in profile.at_most(property, kind) {
                groups.entry((what, kind)).or_default().insert(property);
                let rungs = match what {
                    What::Disclose { rung, .. } => format!(" && {}", rungs(rung)),
                    What::Control { .. } => String::new(),
                };
                let (name, kind) = (one("PropertyName", property.as_str()), one("Kind", kind.as_str()));
                let when = format!("resource.name == {name} && resource.kind == {kind}{rungs}");
                covered.push((action_of(what), when));
            }
        }
    }
    let permits = groups.iter().fold(String::new(), |mut text, ((what, kind), names)| {
        let action = action_of(*what);
        let (at, rungs) = match what {
            What::Disclose { rung, .. } => (format!("/{rung}"), format!("\n    && {}", rungs(*rung))),
            What::Control { .. } => (String::new(), codes(profile.code(*what))),
        };
        let _ = write!(
            text,
            "@id(\"{}/{}{at}/{kind}\")\npermit {}\nwhen {{\n  resource.kind == {}\n    && \
             {}.contains(resource.name){rungs}\n}};\n",
            profile.slug,
            action.as_str(),
            scope(action),
            one("Kind", kind.as_str()),
            quoted("PropertyName", names.iter().map(|p| p.as_str())),
        );
        text
    });
    General { profile: profile.clone(), permits, covered }
}

fn new(
    profile: Option<String>,
    homes: Vec<Facts>,
    grants: Vec<Grant>,
    maker: Option<String>,
    now: Timestamp,
) -> Subject {
    let all = grants.len();
    let there = |grant: &Grant| {
        homes.iter().any(|facts| {
            facts.household == grant.household
                && facts.links.iter().any(|l| l.link == grant.link)
                && facts.devices.iter().any(|d| {
                    d.device == grant.device && d.properties.iter().any(|(property, _)| *property == grant.property)
                })
        })
    };
    let held: Vec<Grant> = grants.into_iter().filter(|g| g.holds_at(now)).collect();
    let expired = all - held.len();
    let grants: Vec<Grant> = held.into_iter().filter(there).collect();
    let idle = all - expired - grants.len();
    let mut notes = Vec::new();
    if expired > 0 {
        notes.push(format!("{expired} grants had ended by {}: they permit nothing.", now.to_rfc3339()));
    }
    if idle > 0 {
        notes.push(format!("{idle} grants are of links or devices that the home does not have: they permit nothing."));
    }
    let possible = homes
        .into_iter()
        .map(|facts| Possible { facts, tables: Default::default(), worlds: Default::default() })
        .collect();
    Subject {
        profile,
        notes,
        possible,
        type_known: false,
        links_known: true,
        grants,
        maker,
        built_in: None,
        as_of: now,
        general: None,
    }
}

fn by_provenance<T>([local, on_request, contract]: &[T; 3], by: Provenance) -> &T {
    match by {
        Provenance::LocalDirect => local,
        Provenance::Art4Request => on_request,
        Provenance::MakerContract => contract,
    }
}

/// The value of a cell, made when it is first asked for.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, CompileError>) -> Result<&T, CompileError> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

impl Subject {
    /// The same under another text in the place of the built-in ceiling: so that it can be seen that a claim which holds by that alone
    /// is refuted without it.
    #[must_use]
    pub fn under(self, built_in: String) -> Self {
        Self { built_in: Some(built_in), ..self }
    }

    fn ceiling(&self) -> Ceiling<'_> {
        let built_in = self.built_in.as_deref().unwrap_or(Ceiling::BUILT_IN);
        Ceiling::from(self.maker.as_deref()).with_built_in(built_in)
    }

    /// How many of the grants that count end before this time.
    pub fn ended_by(&self, time: Timestamp) -> usize {
        self.grants.iter().filter(|g| !g.holds_at(time)).count()
    }

    /// The table of one of its possible homes, as if all data had come to it in this way.
    pub(crate) fn table<'a>(&self, home: &'a Possible, by: Provenance) -> Result<&'a Table, CompileError> {
        once(by_provenance(&home.tables, by), || compile_as(&home.facts, by, &self.grants, self.ceiling(), self.as_of))
    }

    /// The same as Cedar sees it, under its grants.
    pub(crate) fn world<'a>(&self, home: &'a Possible, by: Provenance) -> Result<&'a World, CompileError> {
        once(by_provenance(&home.worlds, by), || World::new(&home.facts, by, &self.grants, self.ceiling(), self.as_of))
    }

    /// The policies that the solver is given: the grants' own, or those of a profile for whatever home.
    pub(crate) fn policies(&self) -> Result<World, CompileError> {
        let facts = self.possible.first().map(|home| home.facts.clone());
        let facts = facts.ok_or_else(|| CompileError::Entities("there is no home".to_owned()))?;
        let text = self.permits_text();
        World::of_policies(&facts, Provenance::LocalDirect, &text, self.ceiling())
    }

    /// The text of what permits.
    pub fn permits_text(&self) -> String {
        match &self.general {
            Some(general) => general.permits.clone(),
            None => self.grants.iter().map(Grant::policy_text).collect(),
        }
    }

    /// A claim as policies: they allow what would break it through this action, as far as it goes with what is known of
    /// the words in them.
    pub(crate) fn breaking(&self, claim: &crate::Claim, action: Action) -> Vec<String> {
        let mut conditions = Vec::new();
        let mut only = |is: bool, condition: String| is.then(|| conditions.push(condition));
        let partners = |all: &[PartnerId]| quoted("Partner", all.iter().map(PartnerId::as_str));
        only(!claim.partners.is_empty(), format!("{}.contains(principal.partner)", partners(&claim.partners)));
        let except = format!("!({}.contains(principal.partner))", partners(&claim.except_partners));
        only(!claim.except_partners.is_empty(), except);
        only(claim.gatekeeper == Some(true), "principal.gatekeeper".to_owned());
        only(claim.gatekeeper == Some(false), "!principal.gatekeeper".to_owned());
        only(claim.agent == Some(true), "principal.agent".to_owned());
        only(claim.agent == Some(false), "!principal.agent".to_owned());
        let names = quoted("PropertyName", claim.properties.iter().map(|p| p.as_str()));
        only(!claim.properties.is_empty(), format!("{names}.contains(resource.name)"));
        match claim.kinds() {
            None => None,
            // No kind tells that.
            Some(kinds) if kinds.is_empty() => only(true, "false".to_owned()),
            Some(kinds) => {
                only(true, format!("{}.contains(resource.kind)", quoted("Kind", kinds.iter().map(|k| k.as_str()))))
            }
        };
        let types = quoted("DeviceType", claim.device_types.iter().map(|t| t.as_str()));
        only(!claim.device_types.is_empty(), format!("{types}.contains(resource.device.device_type)"));
        let devices = quoted("Device", claim.devices.iter().map(DeviceId::as_str));
        only(!claim.devices.is_empty(), format!("{devices}.contains(resource.device)"));
        let finer: Vec<Rung> = ALL_RUNGS.into_iter().filter(|rung| claim.breaks_at(*rung)).collect();
        if matches!(action, Action::Told(_)) && finer.len() < ALL_RUNGS.len() {
            only(true, format!("{}.contains(context.rung)", quoted("Rung", finer.into_iter().map(Rung::as_str))));
        }
        let is_command = !matches!(action, Action::Told(_));
        only(claim.without_code && is_command, format!("context.code == {}", one("Code", "none")));
        let provenance = one("Provenance", claim.provenance().as_str());
        only(true, format!("resource.provenance == {provenance}"));
        let mut all = vec![format!("permit {}\nwhen {{\n  {}\n}};\n", scope(action), conditions.join("\n  && "))];
        all.extend(self.known(action));
        if claim.ungranted {
            all.extend(self.covered(action));
        }
        all
    }

    /// What is granted, so that it is not meant.
    fn covered(&self, action: Action) -> Vec<String> {
        if let Some(general) = &self.general {
            let of_action = general.covered.iter().filter(|(a, _)| *a == action);
            return of_action.map(|(_, when)| format!("forbid {}\nwhen {{ {when} }};\n", scope(action))).collect();
        }
        let of_action = self.grants.iter().filter(|g| action_of(g.what) == action);
        of_action
            .map(|grant| {
                let when = match grant.what {
                    What::Disclose { rung, .. } => format!("\nwhen {{ {} }}", rungs(rung)),
                    What::Control { .. } => String::new(),
                };
                format!("forbid {}{when};\n", scope_of(grant, action))
            })
            .collect()
    }

    /// What is known of the words, as policies that forbid what can't be.
    fn known(&self, action: Action) -> Vec<String> {
        let scope = scope(action);
        let mut all = Vec::new();
        for (partner, gatekeeper) in links::PARTNERS {
            let wrong = if gatekeeper { "!principal.gatekeeper" } else { "principal.gatekeeper" };
            all.push(format!(
                "forbid {scope}\nwhen {{ principal.partner == {} && ({wrong} || principal.agent) }};\n",
                one("Partner", partner)
            ));
        }
        all.push(format!(
            "forbid {scope}\nwhen {{ !({}.contains(principal.partner)) && !principal.agent }};\n",
            quoted("Partner", links::PARTNERS.map(|(name, _)| name)),
        ));
        if matches!(action, Action::Told(_)) {
            let mut without: BTreeMap<Vec<Property>, Vec<Rung>> = BTreeMap::new();
            for rung in ALL_RUNGS {
                let all = ALL_PROPERTIES.iter().copied().filter(|p| !p.takes(rung)).collect();
                without.entry(all).or_default().push(rung);
            }
            all.extend(without.into_iter().filter(|(properties, _)| !properties.is_empty()).map(|(properties, rungs)| {
                format!(
                    "// Never asked: there is no such rung of these.\nforbid {scope}\nwhen {{ {}.contains(resource.name) && \
                     {}.contains(context.rung) }};\n",
                    quoted("PropertyName", properties.iter().map(|p| p.as_str())),
                    quoted("Rung", rungs.into_iter().map(Rung::as_str)),
                )
            }));
            all.push(format!(
                "// Never asked: no other has a word for it.\nforbid {scope}\nwhen {{ context.rung == {} && !principal.agent }};\n",
                one("Rung", Rung::DayCount.as_str()),
            ));
        }
        let mut natures: BTreeMap<BTreeSet<Kind>, Vec<Property>> = BTreeMap::new();
        for property in ALL_PROPERTIES {
            natures.entry(kinds_of(*property)).or_default().push(*property);
        }
        for (kinds, properties) in natures {
            all.push(format!(
                "forbid {scope}\nwhen {{ {}.contains(resource.name) && !({}.contains(resource.kind)) }};\n",
                quoted("PropertyName", properties.iter().map(|p| p.as_str())),
                quoted("Kind", kinds.iter().map(|k| k.as_str())),
            ));
        }
        if self.general.is_none() {
            all.extend(self.known_here(action));
        }
        all
    }

    /// What is known of the links and properties that the grants name. Of all others nothing is: they may come later.
    fn known_here(&self, action: Action) -> Vec<String> {
        let mut all = Vec::new();
        let of_action: Vec<&Grant> = self.grants.iter().filter(|g| action_of(g.what) == action).collect();
        let Some(home) = self.possible.first() else { return all };
        let household = one("Household", home.facts.household.as_str());
        let links: BTreeSet<&LinkId> = of_action.iter().map(|g| &g.link).collect();
        for link in home.facts.links.iter().filter(|l| links.contains(&l.link)) {
            let not = if link.gatekeeper { "" } else { "!" };
            let whose = match self.links_known {
                true => {
                    format!(
                        " && principal.partner == {} && {not}principal.gatekeeper",
                        one("Partner", link.partner.as_str())
                    )
                }
                false => String::new(),
            };
            all.push(format!(
                "forbid (principal == {}, action == {}, resource)\nunless {{ principal.household == {household}{whose} }};\n",
                one("Link", link.link.as_str()),
                one("Action", action.as_str()),
            ));
        }
        let mut natures: BTreeMap<(&DeviceId, Property), (DeviceType, BTreeSet<Kind>)> = BTreeMap::new();
        let named: BTreeSet<(&DeviceId, Property)> = of_action.iter().map(|g| (&g.device, g.property)).collect();
        for device in self.possible.iter().flat_map(|home| &home.facts.devices) {
            for (property, kind) in &device.properties {
                let key = (&device.device, *property);
                if named.contains(&key) {
                    natures.entry(key).or_insert((device.device_type, BTreeSet::new())).1.insert(*kind);
                }
            }
        }
        for ((device, property), (device_type, kinds)) in natures {
            let type_known = match self.type_known {
                true => {
                    format!(" && resource.device.device_type == {}", one("DeviceType", device_type.as_str()))
                }
                false => String::new(),
            };
            all.push(format!(
                "forbid (principal, action == {}, resource == {})\nunless {{ resource.household == {household} && \
                 resource.device == {} && resource.name == {} && {}.contains(resource.kind){type_known} }};\n",
                one("Action", action.as_str()),
                one("Property", &format!("{device}/{property}")),
                one("Device", device.as_str()),
                one("PropertyName", property.as_str()),
                quoted("Kind", kinds.iter().map(|k| k.as_str())),
            ));
        }
        all
    }
}

/// What a counterexample of the solver is about.
pub(crate) struct Seen {
    pub(crate) partner: String,
    gatekeeper: bool,
    link: String,
    resource: String,
    pub(crate) property: Option<Property>,
    kind: Option<Kind>,
    pub(crate) device_type: Option<DeviceType>,
    pub(crate) rung: Rung,
    provenance: Provenance,
}

impl Seen {
    pub(crate) fn of(env: &Env) -> Self {
        let uid = |value: Option<EvalResult>| match value {
            Some(EvalResult::EntityUid(uid)) => Some(uid),
            _ => None,
        };
        let attribute = |of: Option<&EntityUid>, name: &str| {
            let entity = env.entities.get(of?)?;
            entity.attr(name)?.ok()
        };
        let id = |uid: Option<EntityUid>| uid.map(|uid| uid.id().unescaped().to_owned()).unwrap_or_default();
        let (principal, resource) = (env.request.principal(), env.request.resource());
        let of_resource = |name: &str| id(uid(attribute(resource, name)));
        let device = uid(attribute(resource, "device"));
        let device_type = id(uid(attribute(device.as_ref(), "device_type")));
        let rung = id(uid(env.request.context().and_then(|c| c.get("rung"))));
        let (name, kind, provenance) = (of_resource("name"), of_resource("kind"), of_resource("provenance"));
        let all = [Provenance::LocalDirect, Provenance::Art4Request, Provenance::MakerContract];
        Self {
            // Whom nobody knows the solver may call by no name at all.
            partner: Some(id(uid(attribute(principal, "partner"))))
                .filter(|p| PartnerId::new(p.as_str()).is_ok())
                .unwrap_or(ANOTHER.to_owned()),
            gatekeeper: matches!(attribute(principal, "gatekeeper"), Some(EvalResult::Bool(true))),
            link: id(principal.cloned()),
            resource: id(resource.cloned()),
            property: Property::parse(&name),
            kind: Kind::ALL.into_iter().find(|k| k.as_str() == kind),
            device_type: DeviceType::ALL.into_iter().find(|t| t.as_str() == device_type),
            rung: Rung::parse(&rung).unwrap_or(Rung::Live),
            provenance: all.into_iter().find(|p| p.as_str() == provenance).unwrap_or_default(),
        }
    }
}

impl Subject {
    /// Whether the hub itself would allow what the solver found: by the table of this home, or, of a profile, by that of the
    /// home in the counterexample after the profile was applied there.
    pub(crate) fn replay(&self, env: &Env, action: Action) -> bool {
        let seen = Seen::of(env);
        let allows = |table: &Table, link: &LinkId, device: &DeviceId, property: Property| {
            let allowed = crate::exhaustive::allowed(table, link, device, property, action);
            allowed.into_iter().any(|rung| rung == seen.rung || !matches!(action, Action::Told(_)))
        };
        let Some(general) = &self.general else {
            let Some((device, property)) = seen.resource.split_once('/') else { return false };
            let (Ok(link), Ok(device)) = (LinkId::new(seen.link.as_str()), DeviceId::new(device)) else { return false };
            let Some(property) = Property::parse(property) else { return false };
            let would = |home: &Possible| {
                self.table(home, seen.provenance).is_ok_and(|table| allows(table, &link, &device, property))
            };
            return self.possible.iter().any(would);
        };
        let home = || -> Option<bool> {
            let (property, kind) = (seen.property?, seen.kind?);
            let (link, device) = (LinkId::new("found").ok()?, DeviceId::new("found").ok()?);
            let described = [Property::NodeLabel, Property::DeviceTypeName, Property::Reachable];
            let described = described.into_iter().filter(|p| *p != property).map(|p| (p, Kind::of(p, Class::None)));
            let mut facts = Facts::empty(HouseholdId::new("home").ok()?);
            let partner = PartnerId::new(seen.partner.as_str()).ok()?;
            let agent = links::is_agent(&partner);
            facts.links.push(LinkFact { link: link.clone(), partner, gatekeeper: seen.gatekeeper, agent });
            // Of a device with nothing to tell or do not even the name is told; this one has something, and whatever rules
            // want a device to have.
            let company = general.profile.beside().into_iter().map(|p| (p, Kind::of(p, Class::None)));
            let company = company.chain([(Property::OnOff, Kind::Appliance)]).filter(|(p, _)| *p != property);
            let mut properties = vec![(property, kind)];
            properties.extend(described.chain(company));
            let device_type = seen.device_type.unwrap_or(DeviceType::Unknown);
            facts.devices.push(DeviceFact { device: device.clone(), device_type, properties });
            let grants = granted(&general.profile, &facts, &link).ok()?;
            let table = compile_as(&facts, seen.provenance, &grants, self.ceiling(), self.as_of).ok()?;
            Some(allows(&table, &link, &device, property))
        };
        home().unwrap_or(false)
    }
}

/// What a profile grants a link of a home, now at the beginning of time.
fn granted(profile: &Profile, facts: &Facts, link: &LinkId) -> Result<Vec<Grant>, CompileError> {
    let owner = MemberId::new("owner").map_err(|e| CompileError::Entities(e.to_string()))?;
    let terms = Terms { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner] };
    let mut n = 0_u64;
    let ids = || {
        n += 1;
        GrantId::new(format!("{}-{link}-{n}", profile.slug)).ok()
    };
    Ok(apply(profile, facts, link, &[], &terms, ids)?.add)
}

/// The scope of a policy about what a grant names.
fn scope_of(grant: &Grant, action: Action) -> String {
    format!(
        "(principal == {}, action == {}, resource == {})",
        one("Link", grant.link.as_str()),
        one("Action", action.as_str()),
        one("Property", &format!("{}/{}", grant.device, grant.property)),
    )
}

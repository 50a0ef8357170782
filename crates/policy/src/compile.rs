//! From grants and facts to the table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy, PolicyId, PolicySet,
    Request, RestrictedExpression, Schema, SlotId, Template, ValidationMode, Validator,
};
use disclosure::Refusal;
use model::{
    ALL_PROPERTIES, ALL_RUNGS, ALL_TRIGGERS, DeviceId, DeviceType, HouseholdId, Kind, LinkId, PartnerId, Property,
    Rung, Timestamp, Trigger,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::grant::{Code, Grant, What, resource};
use crate::schema;
use crate::table::{CELLS, Cell, Row, Table};
use crate::world::judge;

/// The policies that no grant can pass.
const CEILING: &str = include_str!("ceiling.cedar");

/// So many of the policies that decide a cell are named by it, the first by their ids: a message's record takes no more, and what
/// can't be recorded is not told.
pub const CELL_POLICIES_MAX: usize = 16;

/// Most grants of one household.
pub const GRANTS_MAX: usize = 50_000;

/// Longest ceiling of a maker, in bytes.
pub const CEILING_MAX_BYTES: usize = 1 << 20;

/// A link, as policies know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFact {
    /// The link.
    pub link: LinkId,
    /// The partner.
    pub partner: PartnerId,
    /// Whether the partner belongs to a DMA gatekeeper.
    pub gatekeeper: bool,
    /// Whether it is an agent: it reads, and does not write.
    pub agent: bool,
}

impl LinkFact {
    /// Whether its partner's protocol has a word for what a rung shows. A voice assistant's has none for how often something
    /// happened.
    pub fn takes(&self, rung: Rung) -> bool {
        rung != Rung::DayCount || self.agent
    }
}

/// A device, as policies know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFact {
    /// The device.
    pub device: DeviceId,
    /// What it is.
    pub device_type: DeviceType,
    /// Its properties, metadata and reachability too, with their kinds.
    pub properties: Vec<(Property, Kind)>,
}

/// How the household came by its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// From its own devices: so is all that comes over MQTT.
    #[default]
    LocalDirect,
    /// From a maker, on request under Data Act Art 4(1).
    Art4Request,
    /// From a maker, by contract.
    MakerContract,
}

impl Provenance {
    /// The name used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Provenance::LocalDirect => "local_direct",
            Provenance::Art4Request => "art4_request",
            Provenance::MakerContract => "maker_contract",
        }
    }
}

/// What there is to decide about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The home.
    pub household: HouseholdId,
    /// Its links.
    pub links: Vec<LinkFact>,
    /// Its devices.
    pub devices: Vec<DeviceFact>,
}

impl Facts {
    /// A home with nothing in it.
    pub fn empty(household: HouseholdId) -> Self {
        Self { household, links: Vec::new(), devices: Vec::new() }
    }
}

/// Why there is no table. The one before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The shipped schema is broken.
    #[error("the schema can't be read")]
    Schema(#[source] Box<cedar_policy::CedarSchemaError>),
    /// A ceiling is no set of policies.
    #[error("the ceiling can't be read: {0}")]
    Ceiling(String),
    /// Too many grants.
    #[error("there are more than {GRANTS_MAX} grants; end links that are not used")]
    TooManyGrants,
    /// A new grant got no id.
    #[error("there are not enough fresh ids for the new grants")]
    NoId,
    /// The entities can't be made.
    #[error("the home can't be told to Cedar: {0}")]
    Entities(String),
    /// The policies of the grants can't be read, or an id stands twice.
    #[error("the policies of the grants can't be put together: {0}")]
    Set(String),
}

fn name(kind: &str) -> Result<EntityTypeName, CompileError> {
    format!("Vestibule::{kind}").parse().map_err(|e| CompileError::Entities(format!("{e}")))
}

/// Types of entities, parsed once.
pub(crate) struct Types {
    pub(crate) action: EntityTypeName,
    pub(crate) link: EntityTypeName,
    partner: EntityTypeName,
    household: EntityTypeName,
    device: EntityTypeName,
    device_type: EntityTypeName,
    pub(crate) property: EntityTypeName,
    property_name: EntityTypeName,
    kind: EntityTypeName,
    pub(crate) rung: EntityTypeName,
    pub(crate) code: EntityTypeName,
    provenance: EntityTypeName,
}

impl Types {
    pub(crate) fn new() -> Result<Self, CompileError> {
        Ok(Self {
            action: name("Action")?,
            link: name("Link")?,
            partner: name("Partner")?,
            household: name("Household")?,
            device: name("Device")?,
            device_type: name("DeviceType")?,
            property: name("Property")?,
            property_name: name("PropertyName")?,
            kind: name("Kind")?,
            rung: name("Rung")?,
            code: name("Code")?,
            provenance: name("Provenance")?,
        })
    }
}

pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

pub(crate) fn refer(kind: &EntityTypeName, id: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid(kind, id))
}

/// What stands above all grants: what is built in, and what a maker forbids beside it.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling<'a> {
    built_in: &'a str,
    maker: Option<&'a str>,
}

impl<'a> From<Option<&'a str>> for Ceiling<'a> {
    fn from(maker: Option<&'a str>) -> Self {
        Self { built_in: CEILING, maker }
    }
}

impl<'a> Ceiling<'a> {
    /// The built-in one, as it stands.
    pub const BUILT_IN: &'static str = CEILING;

    /// Another text in the place of what is built in: for showing that what it forbids would be found.
    #[must_use]
    pub fn with_built_in(self, built_in: &'a str) -> Self {
        Self { built_in, ..self }
    }
}

/// Whether a maker's ceiling can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_ceiling(maker: &str) -> Result<(), CompileError> {
    let schema = schema::parse(&schema::text()).map_err(CompileError::Schema)?;
    ceiling(&schema, Some(maker).into()).map(drop)
}

/// The built-in ceiling and a maker's, checked strictly: only `forbid`, each with an `@id` of its own.
pub(crate) fn ceiling(schema: &Schema, texts: Ceiling<'_>) -> Result<PolicySet, CompileError> {
    let mut set = PolicySet::new();
    let mut seen = BTreeSet::new();
    for text in [Some(texts.built_in), texts.maker].into_iter().flatten() {
        if text.len() > CEILING_MAX_BYTES {
            return Err(CompileError::Ceiling(format!("it is longer than {CEILING_MAX_BYTES} bytes")));
        }
        let parsed: PolicySet = text.parse().map_err(|e| CompileError::Ceiling(format!("{e}")))?;
        if parsed.templates().next().is_some() {
            return Err(CompileError::Ceiling("templates are not taken; write static policies".into()));
        }
        for policy in parsed.policies() {
            let Some(id) = policy.annotation("id").map(str::to_owned) else {
                return Err(CompileError::Ceiling("each policy needs an @id(\"...\")".into()));
            };
            if policy.effect() != Effect::Forbid {
                return Err(CompileError::Ceiling(format!("`{id}` permits; a ceiling only forbids")));
            }
            if !seen.insert(id.clone()) {
                return Err(CompileError::Ceiling(format!("the id `{id}` stands twice")));
            }
            set.add(policy.new_id(PolicyId::new(&id))).map_err(|e| CompileError::Ceiling(format!("{e}")))?;
        }
    }
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    match result.validation_errors().next() {
        None => Ok(set),
        Some(error) => Err(CompileError::Ceiling(format!("{error}"))),
    }
}

/// What Cedar is told of the home: of its devices those that it will be asked about. Nothing is granted of the others, so
/// nothing is asked; a home full of strangers must not make each change of policy slow.
pub(crate) fn entities(
    facts: &Facts,
    provenance: Provenance,
    asked: impl Fn(&DeviceId) -> bool,
    types: &Types,
    schema: &Schema,
) -> Result<Entities, CompileError> {
    let failed = |e: &dyn std::fmt::Display| CompileError::Entities(e.to_string());
    let household = || refer(&types.household, facts.household.as_str());
    let mut all = vec![Entity::new_no_attrs(uid(&types.household, facts.household.as_str()), HashSet::new())];
    let partners: BTreeSet<&PartnerId> = facts.links.iter().map(|l| &l.partner).collect();
    all.extend(partners.into_iter().map(|p| Entity::new_no_attrs(uid(&types.partner, p.as_str()), HashSet::new())));
    for link in &facts.links {
        let attributes = HashMap::from([
            ("household".to_owned(), household()),
            ("partner".to_owned(), refer(&types.partner, link.partner.as_str())),
            ("gatekeeper".to_owned(), RestrictedExpression::new_bool(link.gatekeeper)),
            ("agent".to_owned(), RestrictedExpression::new_bool(link.agent)),
        ]);
        let id = uid(&types.link, link.link.as_str());
        all.push(Entity::new(id, attributes, HashSet::new()).map_err(|e| failed(&e))?);
    }
    for device in facts.devices.iter().filter(|d| asked(&d.device)) {
        let device_uid = uid(&types.device, device.device.as_str());
        let attributes = HashMap::from([
            ("household".to_owned(), household()),
            ("device_type".to_owned(), refer(&types.device_type, device.device_type.as_str())),
        ]);
        all.push(Entity::new(device_uid.clone(), attributes, HashSet::new()).map_err(|e| failed(&e))?);
        for (property, kind) in &device.properties {
            let attributes = HashMap::from([
                ("household".to_owned(), household()),
                ("device".to_owned(), RestrictedExpression::new_entity_uid(device_uid.clone())),
                ("name".to_owned(), refer(&types.property_name, property.as_str())),
                ("kind".to_owned(), refer(&types.kind, kind.as_str())),
                ("provenance".to_owned(), refer(&types.provenance, provenance.as_str())),
            ]);
            let id = uid(&types.property, &resource(&device.device, *property));
            let parents = HashSet::from([device_uid.clone()]);
            all.push(Entity::new(id, attributes, parents).map_err(|e| failed(&e))?);
        }
    }
    Entities::from_entities(all, Some(schema)).map_err(|e| failed(&e))
}

/// What stands beside a question.
#[derive(Clone, Copy)]
enum Beside {
    /// Of something told: how fine.
    Rung(Rung),
    /// Of a command: which code was asked for.
    Code(Option<Code>),
}

/// The code as policies name it.
pub(crate) fn code_name(code: Option<Code>) -> &'static str {
    code.map_or("none", Code::as_str)
}

/// Puts questions to Cedar.
struct Asker<'a> {
    authorizer: Authorizer,
    schema: &'a Schema,
    types: &'a Types,
    entities: &'a Entities,
    /// Whether a policy of the ceiling looks at the rung: then one may be forbidden that stands behind one which is not.
    by_rung: bool,
}

/// Whether a policy looks at the rung that is asked for.
fn looks_at_rung(policy: &Policy) -> bool {
    // In this form a name is written in one way only. What has none may do whatever.
    policy.to_json().map_or(true, |json| json.to_string().contains("\"rung\""))
}

impl Asker<'_> {
    fn ask(&self, set: &PolicySet, link: &LinkId, action: &str, resource_id: &str, beside: Beside) -> Cell {
        let t = self.types;
        let (principal, resource) = (uid(&t.link, link.as_str()), uid(&t.property, resource_id));
        if self.entities.get(&principal).is_none() || self.entities.get(&resource).is_none() {
            return Cell::refused(Refusal::PolicyError);
        }
        let pair = match beside {
            Beside::Rung(rung) => ("rung".to_owned(), refer(&t.rung, rung.as_str())),
            Beside::Code(code) => ("code".to_owned(), refer(&t.code, code_name(code))),
        };
        let Ok(context) = Context::from_pairs([pair]) else { return Cell::refused(Refusal::PolicyError) };
        let action = uid(&t.action, action);
        let Ok(request) = Request::new(principal, action, resource, context, Some(self.schema)) else {
            return Cell::refused(Refusal::PolicyError);
        };
        let (allowed, mut policies) = judge(&self.authorizer, &request, set, self.entities);
        policies.truncate(CELL_POLICIES_MAX);
        match allowed {
            Err(Refusal::NoGrant) => Cell::refused(Refusal::NoGrant),
            allowed => {
                let (rung, code) = match beside {
                    Beside::Rung(rung) => (rung, None),
                    Beside::Code(code) => (Rung::Live, code),
                };
                Cell {
                    rung: allowed.map(|()| rung),
                    code,
                    policies: policies.into(),
                    ..Cell::refused(Refusal::NoGrant)
                }
            }
        }
    }

    /// The weakest code under which a command is allowed.
    fn weakest(&self, set: &PolicySet, link: &LinkId, action: &str, resource_id: &str) -> Cell {
        let mut refused = Cell::refused(Refusal::NoGrant);
        for code in [None, Some(Code::Partner), Some(Code::Pin)] {
            let cell = self.ask(set, link, action, resource_id, Beside::Code(code));
            match cell.rung {
                Ok(_) | Err(Refusal::PolicyError) => return cell,
                Err(Refusal::Ceiling) => refused = Cell { code: None, ..cell },
                Err(_) => {}
            }
        }
        refused
    }

    /// The finest rung that is allowed.
    fn finest(&self, set: &PolicySet, link: &LinkFact, action: &str, property: Property, resource_id: &str) -> Cell {
        let mut refused = Cell::refused(Refusal::NoGrant);
        for rung in ALL_RUNGS {
            if !property.takes(rung) || !link.takes(rung) {
                continue;
            }
            let cell = self.ask(set, &link.link, action, resource_id, Beside::Rung(rung));
            match cell.rung {
                Ok(_) => return cell,
                // An error anywhere is a refusal everywhere: a forbid that errors at a fine rung may be meant for all.
                Err(Refusal::PolicyError) => return cell,
                Err(Refusal::Ceiling) => refused = cell,
                Err(_) => {}
            }
        }
        refused
    }

    /// The rungs behind the finest one that are allowed too. Only grants permit, each what its rung gives; so Cedar is asked only
    /// where the ceiling may forbid one of them.
    fn also(
        &self,
        finest: &Cell,
        (set, resource_id): (&PolicySet, &str),
        (link, trigger, property): (&LinkFact, Trigger, Property),
        granted: &[Granted<'_>],
    ) -> Vec<(Rung, Arc<[String]>)> {
        let Ok(finest_rung) = finest.rung else { return Vec::new() };
        let mut also: Vec<(Rung, Arc<[String]>)> = Vec::new();
        for rung in ALL_RUNGS.into_iter().filter(|r| *r > finest_rung && property.takes(*r) && link.takes(*r)) {
            let gives = |what: What| matches!(what, What::Disclose { trigger: t, rung: r } if t == trigger && r.gives().contains(&rung));
            let by = granted.iter().filter(|(grant, _)| gives(grant.what)).map(|(grant, _)| grant.id.as_str());
            let by: Vec<&str> = by.take(CELL_POLICIES_MAX).collect();
            if by.is_empty() {
                continue;
            }
            if self.by_rung {
                let cell = self.ask(set, &link.link, trigger.as_str(), resource_id, Beside::Rung(rung));
                if cell.rung.is_err() {
                    continue;
                }
            }
            // Mostly they are the same ones.
            let before = also.last().map_or(&finest.policies, |(_, policies)| policies);
            let same = before.iter().map(String::as_str).eq(by.iter().copied());
            let policies = if same { Arc::clone(before) } else { by.into_iter().map(str::to_owned).collect() };
            also.push((rung, policies));
        }
        also
    }
}

/// Compiles the whole decision space: each link x device x property x trigger, and the commands.
///
/// # Errors
/// When a policy can't be read or the home can't be told to Cedar. Then the table before stays in force.
pub fn compile(facts: &Facts, grants: &[Grant], maker: Option<&str>, now: Timestamp) -> Result<Table, CompileError> {
    compile_as(facts, Provenance::LocalDirect, grants, maker, now)
}

/// The same, as if all of the home's data had come to it in this way: what would be told of such data.
///
/// # Errors
/// As [`compile`].
pub fn compile_as<'a>(
    facts: &Facts,
    provenance: Provenance,
    grants: &[Grant],
    above: impl Into<Ceiling<'a>>,
    now: Timestamp,
) -> Result<Table, CompileError> {
    let above = above.into();
    if grants.len() > GRANTS_MAX {
        return Err(CompileError::TooManyGrants);
    }
    let schema_text = schema::text();
    let schema = schema::parse(&schema_text).map_err(CompileError::Schema)?;
    let types = Types::new()?;
    let ceiling = ceiling(&schema, above)?;
    let mut held: Vec<&Grant> = grants.iter().filter(|g| g.household == facts.household && g.holds_at(now)).collect();
    held.sort_by(|a, b| a.id.cmp(&b.id));
    let granted: BTreeSet<&DeviceId> = held.iter().map(|g| &g.device).collect();
    let entities = entities(facts, provenance, |d| granted.contains(d), &types, &schema)?;
    let by_rung = ceiling.policies().any(looks_at_rung);
    let asker = Asker { authorizer: Authorizer::new(), schema: &schema, types: &types, entities: &entities, by_rung };
    let mut hash = Sha256::new();
    let text: String = held.iter().map(|g| g.policy_text()).collect();
    for text in [schema_text.as_str(), above.built_in, above.maker.unwrap_or_default(), text.as_str()] {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    // One slice of the policies per link and property: Cedar looks at every policy it is given, and no other grant has
    // this principal and this resource in its scope.
    let mut slices: BTreeMap<(&LinkId, &DeviceId, Property), Vec<Granted>> = BTreeMap::new();
    let mut templates: BTreeMap<String, Template> = BTreeMap::new();
    for (grant, next) in held.iter().zip(held.iter().skip(1).map(Some).chain([None])) {
        if next.is_some_and(|next| next.id == grant.id) {
            return Err(CompileError::Set(format!("the grant id `{}` stands twice", grant.id)));
        }
        let text = grant.template_text();
        let template = match templates.get(&text) {
            Some(template) => template.clone(),
            None => {
                let id = PolicyId::new(format!("{TEMPLATE}{}", templates.len()));
                let template = Template::parse(Some(id), &text).map_err(|e| CompileError::Set(format!("{e}")))?;
                templates.insert(text, template.clone());
                template
            }
        };
        slices.entry((&grant.link, &grant.device, grant.property)).or_default().push((grant, template));
    }

    let mut rows: HashMap<LinkId, HashMap<DeviceId, Row>> = HashMap::new();
    let mut kinds = HashMap::new();
    for device in &facts.devices {
        kinds.extend(device.properties.iter().map(|(p, k)| ((device.device.clone(), *p), *k)));
    }
    for link in &facts.links {
        let mut devices = HashMap::new();
        for device in &facts.devices {
            let mut row: Row = vec![None; ALL_PROPERTIES.len()];
            for (property, _) in &device.properties {
                let granted = slices.get(&(&link.link, &device.device, *property)).map_or(&[][..], Vec::as_slice);
                let cells = cells(&asker, &ceiling, link, &device.device, *property, granted)?;
                if let Some(place) = row.get_mut(property.index()) {
                    *place = Some(Box::new(cells));
                }
            }
            devices.insert(device.device.clone(), row);
        }
        rows.insert(link.link.clone(), devices);
    }
    let mut table = Table {
        rows,
        partners: facts.links.iter().map(|l| (l.link.clone(), l.partner.clone())).collect(),
        kinds,
        next_expiry: held.iter().filter_map(|g| g.expires).min(),
        promised: None,
        policy_hash: hash.finalize().into(),
        table_hash: [0; 32],
    };
    let mut hash = Sha256::new();
    for row in table.matrix() {
        hash.update(format!(
            "{} {} {} {} {} {} {} {} {} {} {}\n",
            row.link,
            row.device,
            row.property,
            row.discovery,
            row.directive_response,
            row.partner_poll,
            row.proactive_report,
            row.control,
            code_name(row.control_code),
            row.open,
            code_name(row.open_code),
        ));
    }
    table.table_hash = hash.finalize().into();
    Ok(table)
}

/// A grant and the template of its policy.
type Granted<'a> = (&'a Grant, Template);

/// How the ids of templates begin: with a sign that no grant's id has.
const TEMPLATE: &str = "?";

/// The policies of grants by their ids, out of their text. The text is read in one go: reading each policy on its own
/// takes five times as long.
pub(crate) fn policies(text: &str) -> Result<BTreeMap<String, Policy>, CompileError> {
    let set: PolicySet = text.parse().map_err(|e| CompileError::Set(format!("{e}")))?;
    // Cedar names what it reads by position; here the grant's id is the policy's.
    // (`Policy::annotation` would parse the word "id" anew each time.)
    let id = |p: &Policy| p.annotations().find(|(key, _)| *key == "id").map(|(_, id)| id.to_owned());
    Ok(set.policies().filter_map(|p| id(p).map(|id| (id.clone(), p.new_id(PolicyId::new(id))))).collect())
}

/// The cells of one property. Where no grant names an action, nothing can permit it (a ceiling only forbids): Cedar
/// is not asked, and the refusal is for want of a grant.
fn cells(
    asker: &Asker<'_>,
    ceiling: &PolicySet,
    link: &LinkFact,
    device: &DeviceId,
    property: Property,
    granted: &[Granted<'_>],
) -> Result<[Cell; CELLS], CompileError> {
    let mut cells: [Cell; CELLS] = std::array::from_fn(|_| Cell::refused(Refusal::NoGrant));
    if granted.is_empty() {
        return Ok(cells);
    }
    let mut set = ceiling.clone();
    let resource_id = resource(device, property);
    let failed = |e: cedar_policy::PolicySetError| CompileError::Set(format!("{e}"));
    for (grant, template) in granted {
        if set.template(template.id()).is_none() {
            set.add_template(template.clone()).map_err(failed)?;
        }
        let slots = HashMap::from([
            (SlotId::principal(), uid(&asker.types.link, link.link.as_str())),
            (SlotId::resource(), uid(&asker.types.property, &resource_id)),
        ]);
        set.link(template.id().clone(), PolicyId::new(grant.id.as_str()), slots).map_err(failed)?;
    }
    let names = |what: &dyn Fn(&What) -> bool| granted.iter().any(|(g, _)| what(&g.what));
    for (cell, trigger) in cells.iter_mut().zip(ALL_TRIGGERS) {
        if names(&|w| matches!(w, What::Disclose { trigger: t, .. } if *t == trigger)) {
            *cell = asker.finest(&set, link, trigger.as_str(), property, &resource_id);
            cell.also = asker.also(cell, (&set, &resource_id), (link, trigger, property), granted);
        }
    }
    let commands = cells.iter_mut().skip(ALL_TRIGGERS.len());
    for (cell, (open, action)) in commands.zip([(false, "control"), (true, "open")]) {
        if names(&|w| *w == What::Control { open }) {
            *cell = asker.weakest(&set, &link.link, action, &resource_id);
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Terms;
    use model::GrantId;

    const HOUR_MS: i64 = 3_600_000;

    fn household() -> HouseholdId {
        HouseholdId::new("home").unwrap()
    }

    fn link(n: usize) -> LinkId {
        LinkId::new(format!("l{n}")).unwrap()
    }

    fn device(n: usize) -> DeviceId {
        DeviceId::new(format!("d{n}")).unwrap()
    }

    /// Two links and two devices, with a property of every nature and one of unknown kind.
    fn facts() -> Facts {
        let properties = [
            (Property::LocalTemperature, Kind::Temperature),
            (Property::LockState, Kind::Lock),
            (Property::NodeLabel, Kind::Metadata),
            (Property::OnOff, Kind::Unknown),
        ];
        Facts {
            household: household(),
            links: (0..2)
                .map(|n| LinkFact {
                    link: link(n),
                    partner: PartnerId::new("alexa").unwrap(),
                    gatekeeper: true,
                    agent: false,
                })
                .collect(),
            devices: (0..2)
                .map(|n| DeviceFact {
                    device: device(n),
                    device_type: DeviceType::Thermostat,
                    properties: properties.to_vec(),
                })
                .collect(),
        }
    }

    fn grant(
        id: usize,
        home: &str,
        link_n: usize,
        device_n: usize,
        property: Property,
        what: What,
        hours: Option<i64>,
    ) -> Grant {
        let cell = (HouseholdId::new(home).unwrap(), link(link_n), device(device_n), property);
        let granted = Grant::new(GrantId::new(format!("g{id}")).unwrap(), cell, what, &Terms::of_owner());
        Grant { expires: hours.map(|h| Timestamp::from_millis(h * HOUR_MS)), ..granted }
    }

    fn poll(rung: Rung) -> What {
        What::Disclose { trigger: Trigger::PartnerPoll, rung }
    }

    #[test]
    fn however_many_grants_decide_a_cell_it_names_no_more_than_its_record_takes() {
        let all = (0..20).map(|n| grant(n, "home", 0, 0, Property::LocalTemperature, poll(Rung::Live), None));
        let table = compile(&facts(), &all.collect::<Vec<_>>(), None, Timestamp::default()).unwrap();
        let told = table.decide(&link(0), &device(0), Property::LocalTemperature, Trigger::PartnerPoll);
        assert_eq!((told.rung, told.policies.len()), (Ok(Rung::Live), CELL_POLICIES_MAX));
    }

    #[test]
    fn a_table_without_a_policy_allows_nothing_of_it_and_all_of_others() {
        let of = |n, device| grant(n, "home", 0, device, Property::LocalTemperature, poll(Rung::Live), None);
        let table = compile(&facts(), &[of(1, 0), of(2, 1)], None, Timestamp::default()).unwrap();
        let left = table.without(&BTreeSet::from(["g1".to_owned()]));
        let told = |n| left.decide(&link(0), &device(n), Property::LocalTemperature, Trigger::PartnerPoll).rung;
        assert_eq!((told(0), told(1)), (Err(Refusal::NoGrant), Ok(Rung::Live)));
    }

    #[test]
    fn a_forbid_that_errors_refuses_and_a_forbid_that_holds_is_the_ceiling() {
        let grants = [grant(0, "home", 0, 0, Property::LocalTemperature, poll(Rung::Live), None)];
        let (property, trigger) = (Property::LocalTemperature, Trigger::PartnerPoll);
        let table = |maker: Option<&str>| compile(&facts(), &grants, maker, Timestamp::default()).unwrap();
        let decide = |maker: Option<&str>| table(maker).decide(&link(0), &device(0), property, trigger).rung;
        let explain =
            |maker: Option<&str>| table(maker).explain(&link(0), &device(0), property, crate::Action::Told(trigger));
        assert_eq!(decide(None), Ok(Rung::Live));
        // Cedar alone would skip this policy, and the permit would win.
        let errs = "@id(\"x\") forbid(principal, action, resource) when { 9223372036854775807 + 1 == 0 };";
        assert_eq!(decide(Some(errs)), Err(Refusal::PolicyError));
        let coarser = "@id(\"x\") forbid(principal, action == Vestibule::Action::\"partner_poll\", resource)
            when { context.rung == Vestibule::Rung::\"live\" };";
        assert_eq!(decide(Some(coarser)), Ok(Rung::QuarterHour));
        let none = "@id(\"x\") forbid(principal, action, resource) when { principal.gatekeeper };";
        assert_eq!(decide(Some(none)), Err(Refusal::Ceiling));
        // And each says why.
        let what = "the room temperature of `d0` at partner_poll";
        assert_eq!(explain(None), format!("alexa is told {what}, exact, at once, by g0."));
        assert_eq!(explain(Some(none)), format!("alexa is not told {what}: x forbids it, whatever is granted."));
        assert_eq!(explain(Some(errs)), format!("alexa is not told {what}: x failed, and an error is a refusal."));
        let other = table(None).explain(&link(1), &device(0), property, crate::Action::Told(trigger));
        assert_eq!(other, format!("alexa is not told {what}: nobody has granted it."));
    }

    /// The guide's own example, under which a grant of everything must not fall to a rung that is exact as well.
    #[test]
    fn the_ceiling_in_the_guide_leaves_a_gatekeeper_what_is_rounded() {
        let guide = include_str!("../../../docs/policy.md");
        let example = guide.split("```cedar\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        for trigger in [Trigger::PartnerPoll, Trigger::DirectiveResponse, Trigger::ProactiveReport] {
            let told = |rung, gatekeeper| {
                let mut facts = facts();
                facts.links[0].gatekeeper = gatekeeper;
                let what = What::Disclose { trigger, rung };
                let grants = [grant(0, "home", 0, 0, Property::LocalTemperature, what, None)];
                let table = compile(&facts, &grants, Some(example), Timestamp::default()).unwrap();
                table.decide(&link(0), &device(0), Property::LocalTemperature, trigger).rung
            };
            for rung in [Rung::Live, Rung::QuarterHour, Rung::Hour] {
                assert_eq!((told(rung, true), told(rung, false)), (Ok(Rung::HourCoarse), Ok(rung)));
            }
            assert_eq!(told(Rung::HourMean, true), Ok(Rung::DayMean));
            assert_eq!(told(Rung::HourLate, true), Err(Refusal::Ceiling));
        }
    }

    #[test]
    fn a_ceiling_only_forbids_and_is_checked_strictly() {
        let refused = |text: &str| {
            matches!(compile(&facts(), &[], Some(text), Timestamp::default()), Err(CompileError::Ceiling(_)))
        };
        assert!(refused("permit(principal, action, resource);"));
        assert!(refused("@id(\"x\") permit(principal, action, resource);"));
        assert!(refused("forbid(principal, action, resource);"));
        assert!(refused("@id(\"vestibule-unknown-kind\") forbid(principal, action, resource);"));
        assert!(refused("@id(\"x\") forbid(principal, action, resource) when { resource.colour == 1 };"));
        assert!(refused("nonsense"));
    }

    #[test]
    fn expiry_is_told_and_takes_effect() {
        let grants = [grant(0, "home", 0, 0, Property::LocalTemperature, poll(Rung::Hour), Some(5))];
        let at = |h: i64| Timestamp::from_millis(h * HOUR_MS);
        let table = compile(&facts(), &grants, None, at(4)).unwrap();
        assert_eq!(table.next_change(), Some(at(5)));
        assert_eq!(
            table.decide(&link(0), &device(0), Property::LocalTemperature, Trigger::PartnerPoll).rung,
            Ok(Rung::Hour)
        );
        let later = compile(&facts(), &grants, None, at(5)).unwrap();
        assert_eq!(
            later.decide(&link(0), &device(0), Property::LocalTemperature, Trigger::PartnerPoll).rung,
            Err(Refusal::NoGrant)
        );
        assert_ne!(table.policy_hash(), later.policy_hash());
        assert_ne!(table.table_hash(), later.table_hash());
    }

    /// Asks about the room temperature of device 0 on link 0, with everything granted, after `change` to the home.
    fn ask_after(maker: Option<&str>, change: impl FnOnce(Entities, &Types) -> Entities) -> Cell {
        let facts = facts();
        let schema = schema::parse(&schema::text()).unwrap();
        let types = Types::new().unwrap();
        let entities = change(entities(&facts, Provenance::LocalDirect, |_| true, &types, &schema).unwrap(), &types);
        let asker =
            Asker { authorizer: Authorizer::new(), schema: &schema, types: &types, entities: &entities, by_rung: true };
        let mut set = ceiling(&schema, maker.into()).unwrap();
        for policy in policies("@id(\"all\") permit(principal, action, resource);").unwrap().into_values() {
            set.add(policy).unwrap();
        }
        let id = resource(&device(0), Property::LocalTemperature);
        let told = asker.finest(&set, &facts.links[0], "partner_poll", Property::LocalTemperature, &id);
        let commanded = asker.weakest(&set, &link(0), "control", &id);
        assert_eq!(told.policies, commanded.policies);
        told
    }

    /// Puts another value in place of an attribute of an entity.
    fn set(entities: Entities, id: &EntityUid, name: &str, value: RestrictedExpression) -> Entities {
        let (id, attributes, parents) = entities.get(id).unwrap().clone().into_inner();
        let mut attributes = attributes;
        attributes.insert(name.to_owned(), value).unwrap();
        entities.upsert_entities([Entity::new(id, attributes, parents).unwrap()], None).unwrap()
    }

    #[test]
    fn what_opens_needs_a_code_whatever_is_granted_and_an_agent_writes_nothing() {
        let grants = |code: Option<Code>| -> Vec<Grant> {
            let command = |n: usize, open| Grant {
                code,
                ..grant(n, "home", 0, 0, Property::LockState, What::Control { open }, None)
            };
            vec![command(1, true), command(2, false)]
        };
        for (code, needed) in [
            (None, (Some(Code::Pin), None)),
            (Some(Code::Partner), (Some(Code::Partner), Some(Code::Partner))),
            (Some(Code::Pin), (Some(Code::Pin), Some(Code::Pin))),
        ] {
            let mut facts = facts();
            let table = compile(&facts, &grants(code), None, Timestamp::default()).unwrap();
            let of = |open| table.code(&link(0), &device(0), Property::LockState, open);
            let may = |t: &Table, open| t.may(&link(0), &device(0), Property::LockState, open).is_ok();
            assert_eq!((of(true), of(false)), needed);
            assert!(may(&table, true) && may(&table, false));
            facts.links[0].agent = true;
            let table = compile(&facts, &grants(code), None, Timestamp::default()).unwrap();
            assert!(!may(&table, true) && !may(&table, false));
        }
        // A permit that asks for no code opens nothing without one.
        let cell = {
            let facts = facts();
            let schema = schema::parse(&schema::text()).unwrap();
            let types = Types::new().unwrap();
            let entities = entities(&facts, Provenance::LocalDirect, |_| true, &types, &schema).unwrap();
            let asker = Asker {
                authorizer: Authorizer::new(),
                schema: &schema,
                types: &types,
                entities: &entities,
                by_rung: true,
            };
            let mut set = ceiling(&schema, None.into()).unwrap();
            for policy in policies("@id(\"all\") permit(principal, action, resource);").unwrap().into_values() {
                set.add(policy).unwrap();
            }
            asker.weakest(&set, &link(0), "open", &resource(&device(0), Property::LockState))
        };
        assert_eq!((cell.rung, cell.code), (Ok(Rung::Live), Some(Code::Partner)));
        // While a change is on its way the stronger of both codes is asked for.
        let of = |code| compile(&facts(), &grants(code), None, Timestamp::default()).unwrap();
        let (pin, partner) = (of(Some(Code::Pin)), of(Some(Code::Partner)));
        for meet in [pin.meet(&partner), partner.meet(&pin)] {
            assert_eq!(meet.code(&link(0), &device(0), Property::LockState, true), Some(Code::Pin));
        }
        let weaker = crate::difference(&pin, &partner);
        assert_eq!((weaker.flows.len(), weaker.stops.len()), (2, 0));
        assert!(
            weaker.flows[1].words.contains("its own code (now: may unlock or open it, with the PIN)"),
            "{weaker:?}"
        );
        assert_eq!(crate::difference(&partner, &pin).stops.len(), 2);
    }

    /// While a change is on its way: of several grants, or under a ceiling, what both tables allow may be the finest of neither.
    #[test]
    fn of_two_tables_the_finest_rung_that_both_allow_stays_open() {
        let of = |rungs: &[Rung], maker: Option<&str>| {
            let grant =
                |(n, rung): (usize, &Rung)| grant(n, "home", 0, 0, Property::LocalTemperature, poll(*rung), None);
            let all: Vec<Grant> = rungs.iter().enumerate().map(grant).collect();
            compile(&facts(), &all, maker, Timestamp::default()).unwrap()
        };
        let no = Err(Refusal::NoGrant);
        let (late, mean, steady) = (Rung::HourLate, Rung::HourMean, Rung::HourSteady);
        let not_on_the_hour = "@id(\"x\") forbid(principal, action == Vestibule::Action::\"partner_poll\", resource)
            when { [Vestibule::Rung::\"hour\", Vestibule::Rung::\"hour_coarse\"].contains(context[\"\\u{72}ung\"]) };";
        for (a, b, maker, both) in [
            (&[Rung::Hour][..], &[Rung::HourCoarse][..], None, Ok(Rung::HourCoarse)),
            (&[Rung::QuarterHour], &[mean], None, Ok(mean)),
            (&[Rung::Hour], &[mean], None, no),
            (&[Rung::HourCoarse], &[Rung::DayMean], None, no),
            (&[late], &[steady], None, no),
            // Another grant beside it gives what the finest one does not.
            (&[Rung::Hour, mean], &[mean], None, Ok(mean)),
            (&[Rung::Hour, mean], &[late, Rung::DayMean], None, Ok(late)),
            (&[late, Rung::HourCoarse], &[mean, Rung::DayCoarse], None, Ok(Rung::DayCoarse)),
            // The ceiling stands before what grants give.
            (&[Rung::QuarterHour], &[Rung::Hour], Some(not_on_the_hour), Ok(late)),
            (&[mean, Rung::HourCoarse], &[Rung::Hour], Some(not_on_the_hour), Ok(Rung::QuarterDayCoarse)),
        ] {
            for (one, other) in [(a, b), (b, a)] {
                let (before, after) = (of(one, maker), of(other, maker));
                let meet = before.meet(&after);
                let cell = (&link(0), &device(0), Property::LocalTemperature, Trigger::PartnerPoll);
                let told = meet.decide(cell.0, cell.1, cell.2, cell.3);
                assert_eq!(told.rung, both, "{one:?} and {other:?}");
                assert!(told.rung.is_err() || !told.policies.is_empty());
                // What is told before and after is not forgotten in between, and begins nothing anew.
                assert!(meet.stays(cell.0, cell.1, cell.2, cell.3));
                let ended = before.meet(&of(&[], maker));
                assert!(!ended.stays(cell.0, cell.1, cell.2, cell.3));
            }
        }
    }

    #[test]
    fn what_everything_grants_stops_at_the_built_in_ceiling() {
        let property = |t: &Types| uid(&t.property, &resource(&device(0), Property::LocalTemperature));
        let the_link = |t: &Types| uid(&t.link, link(0).as_str());
        assert_eq!(ask_after(None, |e, _| e).rung, Ok(Rung::Live));
        let on_request = |e, t: &Types| set(e, &property(t), "provenance", refer(&t.provenance, "art4_request"));
        let to_gatekeeper = ask_after(None, on_request);
        assert_eq!(
            (to_gatekeeper.rung, to_gatekeeper.policies),
            (Err(Refusal::Ceiling), ["vestibule-data-act-5-3".into()].into())
        );
        let no_gatekeeper =
            |e, t: &Types| set(on_request(e, t), &the_link(t), "gatekeeper", RestrictedExpression::new_bool(false));
        assert_eq!(ask_after(None, no_gatekeeper).rung, Ok(Rung::Live));
        let elsewhere = ask_after(None, |e, t| set(e, &the_link(t), "household", refer(&t.household, "other")));
        assert_eq!(
            (elsewhere.rung, elsewhere.policies),
            (Err(Refusal::Ceiling), ["vestibule-one-household".into()].into())
        );
        let unknown = ask_after(None, |e, t| set(e, &property(t), "kind", refer(&t.kind, "unknown")));
        assert_eq!((unknown.rung, unknown.policies), (Err(Refusal::Ceiling), ["vestibule-unknown-kind".into()].into()));
    }

    #[test]
    fn a_missing_entity_refuses() {
        let without = |e: Entities, id: EntityUid| e.remove_entities([id]).unwrap();
        let the_property = |t: &Types| uid(&t.property, &resource(&device(0), Property::LocalTemperature));
        assert_eq!(ask_after(None, |e, t| without(e, the_property(t))).rung, Err(Refusal::PolicyError));
        assert_eq!(ask_after(None, |e, t| without(e, uid(&t.link, "l0"))).rung, Err(Refusal::PolicyError));
        // The forbid can't look at the device: Cedar would skip it and let the permit win.
        let locks = "@id(\"x\") forbid(principal, action, resource)
            when { resource.device.device_type == Vestibule::DeviceType::\"door_lock\" };";
        assert_eq!(ask_after(Some(locks), |e, _| e).rung, Ok(Rung::Live));
        assert_eq!(ask_after(Some(locks), |e, t| without(e, uid(&t.device, "d0"))).rung, Err(Refusal::PolicyError));
    }

    #[test]
    fn every_shape_of_grant_is_strictly_valid_and_an_id_can_hold_no_policy() {
        let disclose =
            ALL_TRIGGERS.into_iter().flat_map(|trigger| ALL_RUNGS.map(|rung| What::Disclose { trigger, rung }));
        let shapes = disclose.chain([false, true].map(|open| What::Control { open }));
        let text: String = shapes
            .enumerate()
            .map(|(n, what)| grant(n, "home", 0, 0, Property::LocalTemperature, what, None).policy_text())
            .collect();
        let set = PolicySet::from_policies(policies(&text).unwrap().into_values()).unwrap();
        assert_eq!(set.policies().count(), ALL_TRIGGERS.len() * ALL_RUNGS.len() + 2);
        let result = Validator::new(schema::parse(&schema::text()).unwrap()).validate(&set, ValidationMode::Strict);
        assert!(result.validation_passed_without_warnings(), "{result}");

        let stored =
            serde_json::to_string(&grant(0, "home", 0, 0, Property::OnOff, poll(Rung::Hour), Some(1))).unwrap();
        assert!(serde_json::from_str::<Grant>(&stored).is_ok());
        for field in ["\"g0\"", "\"l0\"", "\"d0\"", "\"home\""] {
            let forged = stored.replace(field, r#""x\"); permit(principal, action, resource); //""#);
            assert_ne!(forged, stored);
            assert!(serde_json::from_str::<Grant>(&forged).is_err(), "{forged}");
        }
    }

    #[test]
    fn an_id_that_stands_twice_is_an_error() {
        let doubled = |property| grant(0, "home", 0, 0, property, poll(Rung::Hour), None);
        let grants = [doubled(Property::LocalTemperature), doubled(Property::OnOff)];
        assert!(matches!(compile(&facts(), &grants, None, Timestamp::default()), Err(CompileError::Set(_))));
        let maker = "@id(\"g0\") forbid(principal, action, resource) when { false };";
        assert!(matches!(
            compile(&facts(), &grants[..1], Some(maker), Timestamp::default()),
            Err(CompileError::Set(_))
        ));
    }
}

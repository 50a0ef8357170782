//! A home as Cedar sees it, with the hub's own way of reading Cedar's word: for whoever holds the table against something
//! else, such as a prover.

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Entities, Policy, PolicyId, PolicySet, Request, Schema,
};
use disclosure::Refusal;
use model::{ALL_TRIGGERS, DeviceId, LinkId, Property, Rung, Timestamp, Trigger};
use serde::{Deserialize, Serialize};

use crate::compile::{
    Ceiling, CompileError, Facts, Provenance, Types, ceiling, code_name, entities, policies, refer, uid,
};
use crate::grant::{Code, Grant, What, resource};
use crate::schema;

/// What a link would do with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Be told it, for this reason.
    Told(Trigger),
    /// Command it.
    Control,
    /// Unlock or open with it.
    Open,
}

impl Action {
    /// Every action, in the order of the table.
    pub const ALL: [Action; 6] = [
        Action::Told(Trigger::Discovery),
        Action::Told(Trigger::DirectiveResponse),
        Action::Told(Trigger::PartnerPoll),
        Action::Told(Trigger::ProactiveReport),
        Action::Control,
        Action::Open,
    ];

    /// What a grant of it, at whatever rung, is of.
    pub fn is_of(self, what: What) -> bool {
        match (self, what) {
            (Action::Told(a), What::Disclose { trigger: b, .. }) => a == b,
            (Action::Control, What::Control { open }) => !open,
            (Action::Open, What::Control { open }) => open,
            _ => false,
        }
    }

    /// Its place in the order of the table.
    pub(crate) fn index(self) -> usize {
        match self {
            Action::Told(trigger) => trigger as usize,
            Action::Control => ALL_TRIGGERS.len(),
            Action::Open => ALL_TRIGGERS.len() + 1,
        }
    }

    /// The name used in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Told(trigger) => trigger.as_str(),
            Action::Control => "control",
            Action::Open => "open",
        }
    }
}

/// Whether a request is allowed, with the policies that decided. Cedar skips a policy that errors, also a forbid: here any
/// error is a refusal.
pub(crate) fn judge(
    authorizer: &Authorizer,
    request: &Request,
    set: &PolicySet,
    entities: &Entities,
) -> (Result<(), Refusal>, Vec<String>) {
    let response = authorizer.is_authorized(request, set, entities);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids.dedup();
        ids
    };
    let failed = response
        .diagnostics()
        .errors()
        .map(|AuthorizationError::PolicyEvaluationError(e)| e.policy_id().to_string())
        .collect::<Vec<_>>();
    if !failed.is_empty() {
        return (Err(Refusal::PolicyError), sorted(failed));
    }
    let policies = sorted(response.diagnostics().reason().map(ToString::to_string).collect());
    let allowed = match response.decision() {
        Decision::Allow => Ok(()),
        Decision::Deny if policies.is_empty() => Err(Refusal::NoGrant),
        Decision::Deny => Err(Refusal::Ceiling),
    };
    (allowed, policies)
}

/// A home as Cedar sees it.
pub struct World {
    schema: Schema,
    types: Types,
    entities: Entities,
    ceiling: PolicySet,
    permits: PolicySet,
    all: PolicySet,
}

impl World {
    /// The home under its grants that hold now, as if all of its data had come to it in this way.
    ///
    /// # Errors
    /// As [`compile`](crate::compile()).
    pub fn new<'a>(
        facts: &Facts,
        provenance: Provenance,
        grants: &[Grant],
        above: impl Into<Ceiling<'a>>,
        now: Timestamp,
    ) -> Result<Self, CompileError> {
        let held = grants.iter().filter(|g| g.household == facts.household && g.holds_at(now));
        let text: String = held.map(Grant::policy_text).collect();
        Self::of_policies(facts, provenance, &text, above)
    }

    /// The home under policies that are no grants of its own: each permits, and has an `@id`.
    ///
    /// # Errors
    /// As [`compile`](crate::compile()).
    pub fn of_policies<'a>(
        facts: &Facts,
        provenance: Provenance,
        text: &str,
        above: impl Into<Ceiling<'a>>,
    ) -> Result<Self, CompileError> {
        let schema = schema::parse(&schema::text()).map_err(CompileError::Schema)?;
        let types = Types::new()?;
        let ceiling = ceiling(&schema, above.into())?;
        let permits =
            PolicySet::from_policies(policies(text)?.into_values()).map_err(|e| CompileError::Set(format!("{e}")))?;
        let mut all = ceiling.clone();
        for policy in permits.policies() {
            all.add(policy.clone()).map_err(|e| CompileError::Set(format!("{e}")))?;
        }
        let entities = entities(facts, provenance, |_| true, &types, &schema)?;
        Ok(Self { schema, types, entities, ceiling, permits, all })
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The schema as text.
    pub fn schema_text() -> String {
        schema::text()
    }

    /// What forbids, whatever is granted.
    pub fn ceiling(&self) -> &PolicySet {
        &self.ceiling
    }

    /// What permits.
    pub fn permits(&self) -> impl Iterator<Item = &Policy> {
        self.permits.policies()
    }

    /// Asks the authoriser about something of this home, at this rung (that of a command counts for nothing). Gives the
    /// policies that decided.
    pub fn ask(
        &self,
        link: &LinkId,
        action: Action,
        device: &DeviceId,
        property: Property,
        rung: Rung,
    ) -> (Result<(), Refusal>, Vec<String>) {
        let t = &self.types;
        let (principal, resource) = (uid(&t.link, link.as_str()), uid(&t.property, &resource(device, property)));
        let refused = (Err(Refusal::PolicyError), Vec::new());
        if self.entities.get(&principal).is_none() || self.entities.get(&resource).is_none() {
            return refused;
        }
        let beside = match action {
            Action::Told(_) => ("rung".to_owned(), refer(&t.rung, rung.as_str())),
            // With the strongest code, so that what is allowed with any is.
            Action::Control | Action::Open => ("code".to_owned(), refer(&t.code, code_name(Some(Code::Pin)))),
        };
        let Ok(context) = Context::from_pairs([beside]) else { return refused };
        let action = uid(&t.action, action.as_str());
        match Request::new(principal, action, resource, context, Some(&self.schema)) {
            Ok(request) => self.ask_in(&request, &self.entities),
            Err(_) => refused,
        }
    }

    /// Asks the authoriser the same policies about another home.
    pub fn ask_in(&self, request: &Request, entities: &Entities) -> (Result<(), Refusal>, Vec<String>) {
        judge(&Authorizer::new(), request, &self.all, entities)
    }

    /// A policy of this schema, by text.
    ///
    /// # Errors
    /// When it is none.
    pub fn policy(id: &str, text: &str) -> Result<Policy, CompileError> {
        Policy::parse(Some(PolicyId::new(id)), text).map_err(|e| CompileError::Set(format!("{id}: {e}")))
    }
}

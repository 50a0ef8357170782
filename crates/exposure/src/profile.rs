//! A link that nobody made: what a profile would give a partner that was linked all the time.

use std::sync::Arc;

use gate::GateState;
use links::Link;
use model::{GrantId, LinkId, MemberId, PartnerId, Timestamp};
use policy::{CompileError, Facts, Profile, Table, Terms};

use crate::Recorded;

/// The link that is pretended, and its table.
#[derive(Clone, Debug)]
pub struct Pretended {
    /// The link; its ids are the same each time.
    pub link: Link,
    /// What the profile grants it of the devices, for as long as is asked.
    pub table: Arc<Table>,
    /// What the table was compiled from.
    pub facts: Facts,
}

/// A link of `partner` (a gatekeeper or not) under a profile, with all devices of the recording.
///
/// # Errors
/// As [`policy::compile`].
pub fn under_profile(
    recorded: &Recorded,
    profile: &Profile,
    (partner, gatekeeper): (&PartnerId, bool),
    ceiling: Option<&str>,
) -> Result<Pretended, CompileError> {
    let start = Timestamp::default();
    let id = LinkId::new("pretended").map_err(|_| CompileError::NoId)?;
    let member = MemberId::new("pretended").map_err(|_| CompileError::NoId)?;
    // Nobody else sees these ids, so they need not be random.
    let keys = ([1; 32], [2; 32]);
    let (mut link, _) = Link::new(id, recorded.household.clone(), partner.clone(), profile.slug.clone(), start, keys);
    link.enroll(recorded.devices.iter().map(|(id, device)| (id, device.device_type())));
    let none = Arc::new(policy::compile(&Facts::empty(recorded.household.clone()), &[], ceiling, start)?);
    let mut state = GateState::new(recorded.zone.clone(), none);
    for (id, device) in &recorded.devices {
        state.registry.restore(id.clone(), device.clone());
    }
    state.links.insert(link.clone());
    let facts = state.facts(recorded.household.clone(), |_| gatekeeper);
    let terms = Terms { now: start, granted_by: member.clone(), affects: vec![member] };
    let mut given = 0u64;
    let ids = || {
        given += 1;
        GrantId::new(format!("p{given}")).ok()
    };
    // With no sensor named it would look as if it told nothing.
    let mut grants = policy::apply(&profile.naming_all(&facts.devices), &facts, &link.id, &[], &terms, ids)?.add;
    // Renewed each time before they end.
    grants.iter_mut().for_each(|grant| grant.expires = None);
    let table = Arc::new(policy::compile(&facts, &grants, ceiling, start)?);
    Ok(Pretended { link, table, facts })
}

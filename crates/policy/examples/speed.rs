//! How long a large home takes to compile, and a look-up: `cargo run --release -p policy --example speed`.

use std::hint::black_box;

use model::{
    ALL_PROPERTIES, ALL_TRIGGERS, Class, DeviceId, DeviceType, GrantId, HouseholdId, IdError, Kind, LinkId, MemberId,
    PartnerId, Timestamp,
};
use policy::{DeviceFact, Facts, Grant, LinkFact, Terms, apply, compile, profile};

const LINKS: usize = 6;
const DEVICES: usize = 20;
const PROPERTIES: usize = 20;
const LOOK_UPS: u32 = 1_000_000;

fn home() -> Result<Facts, IdError> {
    let mut facts = Facts::empty(HouseholdId::new("home")?);
    for n in 0..LINKS {
        facts.links.push(LinkFact {
            link: LinkId::new(format!("lnk_{n}"))?,
            partner: PartnerId::new("alexa")?,
            gatekeeper: true,
        });
    }
    for n in 0..DEVICES {
        facts.devices.push(DeviceFact {
            device: DeviceId::new(format!("device_{n}"))?,
            device_type: DeviceType::Thermostat,
            properties: ALL_PROPERTIES.iter().take(PROPERTIES).map(|p| (*p, Kind::of(*p, Class::None))).collect(),
        });
    }
    Ok(facts)
}

fn grants(facts: &Facts, slug: &str) -> Result<Vec<Grant>, Box<dyn std::error::Error>> {
    let owner = MemberId::new("owner")?;
    let terms = Terms { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner] };
    let profile = profile(slug).ok_or("no such profile")?;
    let mut grants = Vec::new();
    for link in &facts.links {
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("{}_{n}", link.link)).ok()
        };
        grants.extend(apply(profile, facts, &link.link, &[], &terms, ids)?.add);
    }
    Ok(grants)
}

#[expect(clippy::disallowed_methods, reason = "measures time; no part of the crate")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let facts = home()?;
    println!("{LINKS} links, {} properties", DEVICES * PROPERTIES);
    for slug in ["commands-only", "glance", "everything"] {
        let grants = grants(&facts, slug)?;
        let begin = std::time::Instant::now();
        let table = compile(&facts, &grants, None, Timestamp::default())?;
        println!("{slug}: {} grants compiled in {:?}", grants.len(), begin.elapsed());
        let begin = std::time::Instant::now();
        for n in 0..LOOK_UPS {
            let pick = |len: usize| n as usize % len;
            let (Some(link), Some(device), Some(property), Some(trigger)) = (
                facts.links.get(pick(LINKS)),
                facts.devices.get(pick(DEVICES)),
                ALL_PROPERTIES.get(pick(PROPERTIES)),
                ALL_TRIGGERS.get(pick(ALL_TRIGGERS.len())),
            ) else {
                continue;
            };
            black_box(table.decide(&link.link, &device.device, *property, *trigger));
        }
        println!("{slug}: one look-up in {:?}", begin.elapsed() / LOOK_UPS);
    }
    Ok(())
}

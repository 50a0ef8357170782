//! Links: one partner's authorised connection to one household, its tokens, and what this partner calls the devices; and
//! the OAuth server that makes them, without its sockets.
//!
//! Pure: time and randomness are arguments. A token is shown once; only its hash is kept.

mod limiter;
pub mod oauth;
pub mod page;
pub mod password;
pub mod pin;
mod secret;

pub use limiter::Limiter;
pub use secret::{TOKEN_PREFIX, Token, same_text};

use std::collections::BTreeMap;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use model::{DeviceId, DeviceType, EndpointId, HouseholdId, LinkId, PartnerId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Partners that there are, and whether they belong to a DMA gatekeeper (European Commission's list of gatekeepers).
pub const PARTNERS: [(&str, bool); 1] = [("alexa", true)];

/// Whether a partner belongs to a DMA gatekeeper.
pub fn is_gatekeeper(partner: &PartnerId) -> bool {
    PARTNERS.iter().any(|(name, gatekeeper)| *name == partner.as_str() && *gatekeeper)
}

/// Whether a partner is an agent: whoever is none of the assistants that are known.
pub fn is_agent(partner: &PartnerId) -> bool {
    PARTNERS.iter().all(|(name, _)| *name != partner.as_str())
}

/// Whether a partner hands over a PIN that a person has said to it. Alexa asks for a code of its own, and hands over nothing.
pub fn hands_pins(partner: &PartnerId) -> bool {
    partner.as_str() != "alexa"
}

/// Most links of one household.
pub const LINKS_MAX: usize = 64;

/// Longest token that is looked at, in bytes; Alexa's own are under 2 KiB.
pub const TOKEN_MAX_BYTES: usize = 4096;

/// Longest name of a device on a link, in characters (Alexa's limit for `friendlyName`).
pub const NAME_MAX_CHARS: usize = 128;

/// What a link calls one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkDevice {
    /// Number in the neutral name, as in "Thermostat 1"; never reused on this link. None before the link may know of the
    /// device: a gap among the numbers would tell of one that it may not know.
    pub number: Option<u32>,
    /// The type that the number counts.
    pub device_type: DeviceType,
    /// The household's name for this partner.
    pub name: Option<String>,
    /// What it senses is an endpoint of its own on this link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split: bool,
}

/// What of a device an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// All of it.
    Whole,
    /// What it does, of a device that is split. It has the id of the whole.
    Control,
    /// What it senses, of a device that is split.
    Sensor,
}

/// One partner's authorised connection to one household.
#[derive(Clone, Serialize, Deserialize)]
pub struct Link {
    /// The link.
    pub id: LinkId,
    /// The home.
    pub household: HouseholdId,
    /// Who is linked.
    pub partner: PartnerId,
    /// The profile that was applied last, by slug.
    pub profile: String,
    /// When it was made.
    pub created: Timestamp,
    /// SHA-256 of the access token.
    token_hash: [u8; 32],
    /// Key of this link's endpoint ids.
    endpoint_key: [u8; 32],
    /// What this partner calls the devices that it was granted.
    devices: BTreeMap<DeviceId, LinkDevice>,
    /// Their ids on this link, computed once: each message compares them all.
    #[serde(skip)]
    endpoints: BTreeMap<DeviceId, EndpointId>,
    /// The ids of what split devices sense.
    #[serde(skip)]
    sensors: BTreeMap<DeviceId, EndpointId>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("id", &self.id).field("partner", &self.partner).finish_non_exhaustive()
    }
}

impl Link {
    /// A new link and its token. `random` is 64 random bytes: the token and the key of the endpoint ids.
    pub fn new(
        id: LinkId,
        household: HouseholdId,
        partner: PartnerId,
        profile: String,
        created: Timestamp,
        random: ([u8; 32], [u8; 32]),
    ) -> (Self, Token) {
        let token = Token::from_random(random.0);
        let token_hash = hash(token.reveal());
        let link = Self {
            id,
            household,
            partner,
            profile,
            created,
            token_hash,
            endpoint_key: random.1,
            devices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            sensors: BTreeMap::new(),
        };
        (link, token)
    }

    /// The id of a device on this link: HMAC-SHA-256 under the link's own key, so that two links can't be joined by it
    /// and it tells nothing of the hub's own id.
    pub fn endpoint(&self, device: &DeviceId) -> EndpointId {
        self.endpoints.get(device).cloned().unwrap_or_else(|| self.compute(device, Part::Whole))
    }

    /// The endpoints of a device: one, or two if it is split.
    pub fn endpoints(&self, device: &DeviceId) -> Vec<(EndpointId, Part)> {
        let own = self.endpoint(device);
        match self.sensors.get(device) {
            Some(sensor) => vec![(own, Part::Control), (sensor.clone(), Part::Sensor)],
            None => vec![(own, Part::Whole)],
        }
    }

    /// The enrolled device that has this id on this link, and which part of it. Every one is compared: which one fits, or
    /// none, takes the same work.
    pub fn find(&self, id: &EndpointId) -> Option<(&DeviceId, Part)> {
        let mut found = None;
        for (device, endpoint) in &self.endpoints {
            if endpoint == id {
                let split = self.sensors.contains_key(device);
                found = Some((device, if split { Part::Control } else { Part::Whole }));
            }
        }
        for (device, endpoint) in &self.sensors {
            if endpoint == id {
                found = Some((device, Part::Sensor));
            }
        }
        found
    }

    /// Makes what a device senses an endpoint of its own, or puts it together again. Its own id stays with what it does, and
    /// the other is the same each time. False when the device is not enrolled.
    pub fn split(&mut self, id: &DeviceId, split: bool) -> bool {
        let Some(device) = self.devices.get_mut(id) else { return false };
        device.split = split;
        self.index();
        true
    }

    /// Computes the ids of the enrolled devices; they are not stored with the link.
    fn index(&mut self) {
        let of = |part: Part| move |device: &DeviceId| (device.clone(), part);
        let ids = |devices: Vec<(DeviceId, Part)>| -> BTreeMap<DeviceId, EndpointId> {
            devices.into_iter().map(|(device, part)| (device.clone(), self.compute(&device, part))).collect()
        };
        let all = ids(self.devices.keys().map(of(Part::Whole)).collect());
        let sensors =
            ids(self.devices.iter().filter(|(_, d)| d.split).map(|(id, _)| id).map(of(Part::Sensor)).collect());
        self.endpoints = all;
        self.sensors = sensors;
    }

    fn compute(&self, device: &DeviceId, part: Part) -> EndpointId {
        let mut bytes = [0u8; 32];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.endpoint_key) {
            mac.update(device.as_str().as_bytes());
            if part == Part::Sensor {
                // No device's id has this in it.
                mac.update(b"\0sensor");
            }
            bytes.copy_from_slice(&mac.finalize().into_bytes());
        }
        let text: String = bytes.iter().take(16).map(|b| format!("{b:02x}")).collect();
        #[expect(clippy::expect_used, reason = "32 hexadecimal digits are an id")]
        EndpointId::new(text).expect("hexadecimal digits are an id")
    }

    /// Takes devices in that this link may be granted something of. They have no number yet.
    pub fn enroll<'a>(&mut self, devices: impl IntoIterator<Item = (&'a DeviceId, DeviceType)>) {
        for (id, device_type) in devices {
            if !self.devices.contains_key(id) {
                self.devices.insert(id.clone(), LinkDevice { number: None, device_type, name: None, split: false });
            }
        }
        self.index();
    }

    /// Numbers those of these devices that have no number yet: they are announced to this link from now on. The order of
    /// the numbers follows the endpoint ids, so that it tells nothing of the order in which the home got its devices. Gives
    /// true when a number was given.
    pub fn announce<'a>(&mut self, devices: impl IntoIterator<Item = &'a DeviceId>) -> bool {
        let mut new: Vec<_> = devices
            .into_iter()
            .filter(|id| self.devices.get(*id).is_some_and(|d| d.number.is_none()))
            .map(|id| (self.endpoint(id), id.clone()))
            .collect();
        new.sort();
        for (_, id) in &new {
            let Some(device_type) = self.devices.get(id).map(|d| d.device_type) else { continue };
            let of_type = self.devices.values().filter(|d| d.device_type == device_type);
            let number = of_type.filter_map(|d| d.number).max().unwrap_or(0).saturating_add(1);
            if let Some(device) = self.devices.get_mut(id) {
                device.number = Some(number);
            }
        }
        !new.is_empty()
    }

    /// What this link calls a device, if it was enrolled.
    pub fn device(&self, id: &DeviceId) -> Option<&LinkDevice> {
        self.devices.get(id)
    }

    /// Every enrolled device.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &LinkDevice)> {
        self.devices.iter()
    }

    /// Sets or removes the household's name for a device on this link. False when the device is not enrolled.
    pub fn rename(&mut self, id: &DeviceId, name: Option<String>) -> bool {
        match self.devices.get_mut(id) {
            Some(device) => {
                device.name = name.map(|n| n.chars().filter(|c| !c.is_control()).take(NAME_MAX_CHARS).collect());
                true
            }
            None => false,
        }
    }
}

/// All links of a home, found by token.
#[derive(Debug, Default)]
pub struct Links {
    /// Shared, so that a message holds its link without copying it.
    links: BTreeMap<LinkId, Arc<Link>>,
    /// The OAuth server's clients, codes and tokens.
    pub oauth: oauth::Authority,
}

/// A link that was opened by a token.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The link.
    pub link: Arc<Link>,
    /// What is to be stored with the record of the answer: that this token has come back.
    pub store: Option<oauth::Entry>,
}

impl Links {
    /// Adds or replaces a link.
    pub fn insert(&mut self, mut link: Link) {
        link.index();
        self.links.insert(link.id.clone(), Arc::new(link));
    }

    /// Removes a link: its token is worth nothing from now on.
    pub fn remove(&mut self, id: &LinkId) -> Option<Link> {
        self.links.remove(id).map(Arc::unwrap_or_clone)
    }

    /// One link.
    pub fn get(&self, id: &LinkId) -> Option<&Link> {
        self.links.get(id).map(Arc::as_ref)
    }

    /// One link, to hold on to as it is now.
    pub fn shared(&self, id: &LinkId) -> Option<Arc<Link>> {
        self.links.get(id).cloned()
    }

    /// One link, to change it.
    pub fn get_mut(&mut self, id: &LinkId) -> Option<&mut Link> {
        self.links.get_mut(id).map(Arc::make_mut)
    }

    /// All links, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values().map(Arc::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The link that this token opens now. Every link is compared, in constant time, whichever fits.
    pub fn authenticate(&mut self, token: &str, now: Timestamp) -> Option<Opened> {
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let given = hash(token);
        let mut found = None;
        for link in self.links.values() {
            if bool::from(link.token_hash.ct_eq(&given)) {
                found = Some(link);
            }
        }
        let by_code = self.oauth.open(token, now);
        match (found, by_code) {
            (Some(link), _) => Some(Opened { link: Arc::clone(link), store: None }),
            (None, Some((id, store))) => self.links.get(&id).map(|link| Opened { link: Arc::clone(link), store }),
            (None, None) => None,
        }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(id: &str, seed: u8) -> (Link, Token) {
        Link::new(
            LinkId::new(id).unwrap(),
            HouseholdId::new("home").unwrap(),
            PartnerId::new("alexa").unwrap(),
            "glance".into(),
            Timestamp::from_millis(0),
            ([seed; 32], [seed.wrapping_add(1); 32]),
        )
    }

    #[test]
    fn only_the_right_token_opens_and_only_until_unlinked() {
        let (mut links, now) = (Links::default(), Timestamp::from_millis(0));
        let (a, token_a) = link("a", 1);
        let (b, token_b) = link("b", 7);
        links.insert(a);
        links.insert(b);
        assert_eq!(links.authenticate(token_b.reveal(), now).unwrap().link.id.as_str(), "b");
        assert!(links.authenticate("", now).is_none());
        assert!(links.authenticate(token_a.reveal().get(..20).unwrap(), now).is_none());
        assert!(links.authenticate(&"x".repeat(TOKEN_MAX_BYTES + 1), now).is_none());
        links.remove(&LinkId::new("a").unwrap());
        assert!(links.authenticate(token_a.reveal(), now).is_none());
    }

    #[test]
    fn a_link_keeps_no_token_and_joins_with_no_other() {
        let (a, token) = link("a", 1);
        let (b, _) = link("b", 2);
        let kept = format!("{}{a:?}", serde_json::to_string(&a).unwrap());
        assert!(!kept.contains(token.reveal().trim_start_matches(TOKEN_PREFIX)));
        let device = DeviceId::new("thermostat-living-room").unwrap();
        assert_ne!(a.endpoint(&device), b.endpoint(&device));
        assert_eq!(a.endpoint(&device), link("a", 1).0.endpoint(&device));
    }

    #[test]
    fn a_device_is_found_by_its_id_on_its_own_link_also_after_the_link_was_stored() {
        let device = DeviceId::new("thermostat-living-room").unwrap();
        let mut links = Links::default();
        for (id, seed) in [("a", 1), ("b", 2)] {
            let (mut link, _) = link(id, seed);
            link.enroll([(&device, DeviceType::Thermostat)]);
            let stored = serde_json::to_string(&link).unwrap();
            links.insert(serde_json::from_str(&stored).unwrap());
        }
        let all: Vec<&Link> = links.iter().collect();
        let [a, b] = all.as_slice() else { panic!("two links") };
        assert_eq!(a.find(&a.endpoint(&device)), Some((&device, Part::Whole)));
        assert_eq!(a.find(&b.endpoint(&device)), None);
    }

    #[test]
    fn a_split_device_keeps_its_id_and_has_another_for_what_it_senses_that_stays_the_same() {
        let (device, other) = (DeviceId::new("thermostat").unwrap(), DeviceId::new("other").unwrap());
        let (mut a, _) = link("a", 1);
        assert!(!a.split(&device, true), "it is not enrolled");
        a.enroll([(&device, DeviceType::Thermostat), (&other, DeviceType::Thermostat)]);
        let own = a.endpoint(&device);
        assert!(a.split(&device, true));
        let split = a.endpoints(&device);
        assert_eq!((split.len(), &split[0]), (2, &(own.clone(), Part::Control)));
        assert_eq!(a.endpoints(&other).len(), 1);
        for (id, part) in &split {
            assert_eq!(a.find(id), Some((&device, *part)));
        }
        assert!(a.split(&device, false));
        assert_eq!((a.endpoints(&device), a.find(&split[1].0)), (vec![(own, Part::Whole)], None));
        // Again, also after the link was stored.
        a.split(&device, true);
        let stored = serde_json::to_string(&a).unwrap();
        let mut links = Links::default();
        links.insert(serde_json::from_str(&stored).unwrap());
        assert_eq!(links.iter().next().unwrap().endpoints(&device), split);
    }

    #[test]
    fn numbers_stay_when_devices_are_added_and_count_only_what_is_announced() {
        let (mut a, _) = link("a", 1);
        let ids: Vec<_> = (0..5).map(|i| DeviceId::new(format!("d{i}")).unwrap()).collect();
        a.enroll(ids.iter().map(|d| (d, DeviceType::Light)));
        assert!(a.announce(&ids[..3]) && !a.announce(&ids[..3]));
        let numbers = |a: &Link| -> Vec<Option<u32>> { ids.iter().map(|d| a.device(d).unwrap().number).collect() };
        let before = numbers(&a);
        let mut sorted: Vec<_> = before[..3].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [Some(1), Some(2), Some(3)], "devices that are not announced leave no gap");
        assert_eq!(before[3..], [None, None]);
        a.announce(&ids);
        let after = numbers(&a);
        assert_eq!(before[..3], after[..3]);
        let mut sorted = after;
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5].map(Some));
    }
}

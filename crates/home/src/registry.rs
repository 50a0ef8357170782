//! The devices of a home: described by themselves, pinned when first seen.

use std::collections::BTreeMap;

use disclosure::Features;
use model::{Class, DeviceId, DeviceType, Kind, Property};
use serde::{Deserialize, Serialize};

/// Most devices in one home. Alexa takes 300 endpoints.
pub const DEVICES_MAX: usize = 1000;

/// Most properties of one device.
pub const PROPERTIES_PER_DEVICE_MAX: usize = 32;

/// A device as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The device's own name: untrusted text, bounded by whoever parsed it.
    pub name: String,
    /// Its properties.
    pub properties: BTreeMap<Property, PropertyDescription>,
    /// What it takes.
    pub features: Features,
    /// Maker: untrusted text.
    pub vendor: Option<String>,
    /// Model: untrusted text.
    pub product: Option<String>,
    /// Serial number: untrusted text.
    pub serial: Option<String>,
    /// Firmware: untrusted text.
    pub firmware: Option<String>,
    /// The room that it says it is in: untrusted text.
    pub room: Option<String>,
}

/// One property of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyDescription {
    /// What it is about; pinned when first seen.
    pub class: Class,
    /// It can be commanded.
    pub command: bool,
}

/// A device that the hub knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// How it describes itself now, or did last.
    pub description: Description,
    /// Every property that it ever had, as it was when first seen; it can be commanded if it ever could.
    #[serde(default)]
    pub pins: BTreeMap<Property, PropertyDescription>,
    /// The household's own name for it, if it gave one.
    pub household_name: Option<String>,
    /// The room that the household has put it into, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub household_room: Option<String>,
    /// False when the device has withdrawn its description (an empty discovery payload).
    pub present: bool,
}

impl Registered {
    /// What the device is, by its main function.
    pub fn device_type(&self) -> DeviceType {
        DeviceType::of(self.description.properties.iter().map(|(p, d)| (*p, &d.class)))
    }

    /// How sensitive one of its properties is; [`Kind::Unknown`] when it has no such property.
    pub fn kind(&self, property: Property) -> Kind {
        if property.is_metadata() || property == Property::Reachable {
            return Kind::of(property, Class::None);
        }
        self.pins.get(&property).map_or(Kind::Unknown, |d| Kind::of(property, d.class))
    }

    /// Whether it is there and has this property now. What is not there is neither told nor commanded.
    pub fn has(&self, property: Property) -> bool {
        let always = property.is_metadata() || property == Property::Reachable;
        self.present && (always || self.description.properties.contains_key(&property))
    }

    /// The room that it is in: the household's word, else its own.
    pub fn room(&self) -> Option<&str> {
        self.household_room.as_deref().or(self.description.room.as_deref())
    }

    /// Whether it is in this room. People write a room's name in large and small letters.
    pub fn is_in(&self, room: &str) -> bool {
        self.room().is_some_and(|r| r.to_lowercase() == room.to_lowercase())
    }

    /// Pins what is new in the description. True when something was.
    fn pin(&mut self) -> bool {
        let before = self.pins.clone();
        for (property, said) in &self.description.properties {
            self.pins.entry(*property).or_insert(*said).command |= said.command;
        }
        self.pins != before
    }
}

/// Why a description was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There are too many devices.
    #[error("the home has {DEVICES_MAX} devices already; remove some with `vestibule devices forget`")]
    TooManyDevices,
    /// One device has too many properties.
    #[error("a device may have {PROPERTIES_PER_DEVICE_MAX} properties at most")]
    TooManyProperties,
    /// The kind of a property changed: the caller takes the device in under a new id, ungranted.
    #[error("`{property}` was pinned as {pinned} when it was first seen and now says it is {claimed}")]
    KindChanged {
        /// The property.
        property: Property,
        /// Its kind when it was first seen.
        pinned: Kind,
        /// Its kind now.
        claimed: Kind,
    },
}

/// All devices of a home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    devices: BTreeMap<DeviceId, Registered>,
}

impl Registry {
    /// Takes a description in. Gives true when something changed that a partner's discovery or a policy could see.
    ///
    /// # Errors
    /// When a limit is reached, or when a property's kind is not the one that was pinned.
    pub fn describe(&mut self, id: &DeviceId, description: Description) -> Result<bool, RegistryError> {
        if description.properties.len() > PROPERTIES_PER_DEVICE_MAX {
            return Err(RegistryError::TooManyProperties);
        }
        let count = self.devices.len();
        match self.devices.get_mut(id) {
            None if count >= DEVICES_MAX => Err(RegistryError::TooManyDevices),
            None => {
                let mut new = Registered {
                    description,
                    pins: BTreeMap::new(),
                    household_name: None,
                    household_room: None,
                    present: true,
                };
                new.pin();
                self.devices.insert(id.clone(), new);
                Ok(true)
            }
            Some(known) => {
                for (property, claimed) in &description.properties {
                    let Some(pinned) = known.pins.get(property) else { continue };
                    let (pinned, claimed) = (Kind::of(*property, pinned.class), Kind::of(*property, claimed.class));
                    if pinned != claimed {
                        return Err(RegistryError::KindChanged { property: *property, pinned, claimed });
                    }
                }
                let changed = known.description != description || !known.present;
                // A property that is gone for now keeps its pin: it may come back, as what it was.
                known.description = description;
                known.present = true;
                Ok(known.pin() || changed)
            }
        }
    }

    /// Makes room for a new device: one that is not there, and that the household has neither named nor asked to `keep`, is
    /// forgotten. Gives it.
    pub fn make_room(&mut self, keep: impl Fn(&DeviceId) -> bool) -> Option<(DeviceId, Registered)> {
        let mut gone = self.devices.iter().filter(|(id, d)| !d.present && d.household_name.is_none() && !keep(id));
        let id = gone.next()?.0.clone();
        self.devices.remove_entry(&id)
    }

    /// The device has withdrawn its description. It stays known: its pins and grants hold if it comes back.
    pub fn withdraw(&mut self, id: &DeviceId) -> bool {
        match self.devices.get_mut(id) {
            Some(known) if known.present => {
                known.present = false;
                true
            }
            _ => false,
        }
    }

    /// Gives a device the household's own name, or takes it away.
    pub fn rename(&mut self, id: &DeviceId, name: Option<String>) -> bool {
        match self.devices.get_mut(id) {
            Some(known) => {
                known.household_name = name;
                true
            }
            None => false,
        }
    }

    /// Puts a device into a room, or takes the household's word for it back.
    pub fn put_into(&mut self, id: &DeviceId, room: Option<String>) -> bool {
        match self.devices.get_mut(id) {
            Some(known) => {
                known.household_room = room;
                true
            }
            None => false,
        }
    }

    /// Forgets a device and its pins.
    pub fn forget(&mut self, id: &DeviceId) -> bool {
        self.devices.remove(id).is_some()
    }

    /// One device.
    pub fn get(&self, id: &DeviceId) -> Option<&Registered> {
        self.devices.get(id)
    }

    /// All devices, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&DeviceId, &Registered)> {
        self.devices.iter()
    }

    /// Puts back what was known before a restart.
    pub fn restore(&mut self, id: DeviceId, mut device: Registered) {
        // Pins were once kept among what the device says of itself.
        device.pin();
        self.devices.insert(id, device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(class: Class) -> Description {
        Description {
            properties: BTreeMap::from([(Property::DoorState, PropertyDescription { class, command: true })]),
            ..Description::default()
        }
    }

    #[test]
    fn a_device_can_not_change_its_kind() {
        let mut registry = Registry::default();
        let id = DeviceId::new("d").unwrap();
        assert_eq!(registry.describe(&id, described(Class::Blind)), Ok(true));
        assert_eq!(registry.describe(&id, described(Class::Blind)), Ok(false));
        assert!(matches!(registry.describe(&id, described(Class::Garage)), Err(RegistryError::KindChanged { .. })));
        // Not even by leaving for a while.
        assert!(registry.withdraw(&id));
        registry.describe(&id, Description::default()).unwrap();
        assert!(matches!(registry.describe(&id, described(Class::Garage)), Err(RegistryError::KindChanged { .. })));
        let known = registry.get(&id).unwrap();
        assert_eq!(known.kind(Property::DoorState), Kind::Covering);
        assert_eq!(known.kind(Property::LockState), Kind::Unknown);
        // What it no longer says it has is pinned, and not there.
        assert!(!known.has(Property::DoorState) && known.has(Property::Reachable));
        registry.describe(&id, described(Class::Blind)).unwrap();
        assert!(registry.get(&id).unwrap().has(Property::DoorState));
        registry.withdraw(&id);
        assert!(!registry.get(&id).unwrap().has(Property::DoorState));
    }

    #[test]
    fn what_is_gone_and_kept_by_nobody_makes_room() {
        let mut registry = Registry::default();
        let id = |n: usize| DeviceId::new(format!("d{n:04}")).unwrap();
        for n in 0..DEVICES_MAX {
            registry.describe(&id(n), described(Class::Blind)).unwrap();
        }
        assert_eq!(registry.describe(&id(DEVICES_MAX), described(Class::Blind)), Err(RegistryError::TooManyDevices));
        assert_eq!(registry.make_room(|_| false), None, "all are there");
        assert!((0..3).all(|n| registry.withdraw(&id(n))));
        registry.rename(&id(1), Some("Mine".into()));
        assert_eq!(registry.make_room(|kept| *kept == id(0)).map(|d| d.0), Some(id(2)));
        assert_eq!(registry.make_room(|kept| *kept == id(0)), None);
        assert_eq!(registry.describe(&id(DEVICES_MAX), described(Class::Blind)), Ok(true));
    }
}

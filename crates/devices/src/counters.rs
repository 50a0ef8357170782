//! What was dropped and why, and how much went through: shown by `vestibule devices` and in the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use home::DEVICES_MAX;
use model::DeviceId;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why something that arrived was not taken. A closed list: each has a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        /// Every reason.
        pub const ALL_REASONS: &[DropReason] = &[$(DropReason::$variant,)*];

        impl DropReason {
            /// The word on the command line and in the metrics.
            pub fn as_str(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// The payload is not UTF-8.
    NotUtf8 = "not_utf8",
    /// The payload is larger than [`crate::mqtt::house::PAYLOAD_MAX_BYTES`].
    TooLarge = "too_large",
    /// A number was expected, and this is none (or it is not finite).
    NotANumber = "not_a_number",
    /// A number that can't be: 900 °C in a room, 130 % humidity.
    OutOfRange = "out_of_range",
    /// A word that is none of the states that the device described.
    UnknownState = "unknown_state",
    /// A JSON object was expected, and this is none.
    NotJson = "not_json",
    /// The template failed on this payload.
    TemplateError = "template_error",
    /// The template did more work than [`crate::template::FUEL`] allows.
    TemplateFuel = "template_fuel",
    /// The template wrote more than [`crate::template::OUTPUT_MAX_BYTES`].
    TemplateOutput = "template_output",
    /// Nobody reads this topic (any more).
    NoSuchTopic = "no_such_topic",
    /// A description is not a JSON object.
    ConfigNotJson = "config_not_json",
    /// A description of something that has no place in a home's properties (a signal strength, a setting, ...).
    ConfigUnsupported = "config_unsupported",
    /// A description without what it needs, or with a value of the wrong type.
    ConfigInvalid = "config_invalid",
    /// A description with a topic that can't be subscribed or must not be spoken on.
    ConfigTopic = "config_topic",
    /// A description with a template that is too long or no template.
    ConfigTemplate = "config_template",
    /// More descriptions than `ENTITIES_MAX`, or more components in one than
    /// `COMPONENTS_MAX`.
    TooManyEntities = "too_many_entities",
    /// More devices than [`home::DEVICES_MAX`], or one changed its kind too often.
    TooManyDevices = "too_many_devices",
    /// A reading of a device that the home has not taken in, or has forgotten.
    NoSuchDevice = "no_such_device",
    /// More topics than `TOPICS_MAX`.
    TooManyTopics = "too_many_topics",
    /// More messages at once than the hub could work off.
    QueueFull = "queue_full",
    /// The broker refused a subscription.
    SubscriptionRefused = "subscription_refused",
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counts since the start. Shared: cheap to add to from any task.
#[derive(Debug)]
pub struct Counters {
    messages: AtomicU64,
    readings: AtomicU64,
    dropped: Vec<AtomicU64>,
    /// At most [`DEVICES_MAX`] devices; what others drop is in the totals only.
    by_device: Mutex<BTreeMap<DeviceId, BTreeMap<DropReason, u64>>>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            messages: AtomicU64::new(0),
            readings: AtomicU64::new(0),
            dropped: ALL_REASONS.iter().map(|_| AtomicU64::new(0)).collect(),
            by_device: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts a drop, for a device if it is known which.
    pub fn count(&self, reason: DropReason, device: Option<&DeviceId>) {
        if let Some(count) = self.dropped.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let Some(device) = device else { return };
        let mut all = self.by_device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = all.get_mut(device) {
            *counts.entry(reason).or_default() += 1;
        } else if all.len() < DEVICES_MAX {
            all.insert(device.clone(), BTreeMap::from([(reason, 1)]));
        }
    }

    pub(crate) fn message(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn reading(&self) {
        self.readings.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that arrived from the broker, the dropped ones included.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Readings handed on.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Drops by reason, those that happened.
    pub fn dropped(&self) -> BTreeMap<DropReason, u64> {
        let counts = self.dropped.iter().map(|c| c.load(Ordering::Relaxed));
        ALL_REASONS.iter().copied().zip(counts).filter(|(_, n)| *n > 0).collect()
    }

    /// Drops by device and reason, where the device was known.
    pub fn dropped_by_device(&self) -> BTreeMap<DeviceId, BTreeMap<DropReason, u64>> {
        self.by_device.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let counters = Counters::default();
        let device = DeviceId::new("d").unwrap();
        for (i, reason) in ALL_REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, i);
            for _ in 0..=i {
                counters.count(*reason, Some(&device));
            }
        }
        let expected: BTreeMap<DropReason, u64> = ALL_REASONS.iter().copied().zip(1..).collect();
        assert_eq!(counters.dropped(), expected);
        assert_eq!(counters.dropped_by_device(), BTreeMap::from([(device, expected)]));
    }
}

//! What was heard and not yet taken in. Whoever hears never waits here: an acknowledgement behind a flood of descriptions
//! would come too late. What comes faster than it is taken in is made less, and counted; the newest word always stays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use home::{Description, Reading};
use model::{DeviceId, Property};
use tokio::sync::Notify;

use crate::counters::{Counters, DropReason};
use crate::mqtt::house::{ENTITIES_MAX, Event};

/// Devices whose newest description (or withdrawal) may wait.
pub const DEVICES_WAITING_MAX: usize = 2 * ENTITIES_MAX;

/// Readings that may wait; beyond it only the newest of each property does.
pub const READINGS_WAITING_MAX: usize = 32_768;

/// Most devices in one batch.
pub const BATCH_DEVICES_MAX: usize = 256;

/// Most readings in one batch.
pub const BATCH_READINGS_MAX: usize = 1024;

/// What is taken in together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The connection came up or broke since the last batch.
    pub connected: Option<bool>,
    /// The newest description of each device; none when it has withdrawn itself.
    pub devices: Vec<(DeviceId, Option<Description>)>,
    /// Readings, older ones of a property first.
    pub readings: Vec<Reading>,
}

#[derive(Default)]
struct Waiting {
    connected: Option<bool>,
    devices: BTreeMap<DeviceId, Option<Description>>,
    readings: VecDeque<Reading>,
    /// The newest of what no longer fitted; later than all of its property in `readings`.
    newest: BTreeMap<(DeviceId, Property), Reading>,
}

/// Waiting events of the devices.
pub struct Inbox {
    waiting: Mutex<Waiting>,
    come: Notify,
    counters: Arc<Counters>,
}

impl Inbox {
    /// An empty one.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { waiting: Mutex::default(), come: Notify::new(), counters }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether the broker is there.
    pub fn set_connected(&self, up: bool) {
        self.lock().connected = Some(up);
        self.come.notify_one();
    }

    /// Puts something in, and never waits.
    pub fn put(&self, event: Event) {
        {
            let mut waiting = self.lock();
            match event {
                Event::Described { device, description } => self.put_device(&mut waiting, device, Some(description)),
                Event::Withdrawn { device } => self.put_device(&mut waiting, device, None),
                Event::Reading(reading) => self.put_reading(&mut waiting, reading),
            }
        }
        self.come.notify_one();
    }

    fn put_device(&self, waiting: &mut Waiting, device: DeviceId, said: Option<Description>) {
        if waiting.devices.len() >= DEVICES_WAITING_MAX && !waiting.devices.contains_key(&device) {
            self.counters.count(DropReason::QueueFull, Some(&device));
            return;
        }
        waiting.devices.insert(device, said);
    }

    fn put_reading(&self, waiting: &mut Waiting, reading: Reading) {
        let key = (reading.device.clone(), reading.property);
        if waiting.readings.len() < READINGS_WAITING_MAX && !waiting.newest.contains_key(&key) {
            waiting.readings.push_back(reading);
        } else if let Some(older) = waiting.newest.insert(key, reading) {
            self.counters.count(DropReason::QueueFull, Some(&older.device));
        }
    }

    /// The next batch; waits until there is one. For one taker.
    pub async fn take(&self) -> Batch {
        loop {
            let batch = self.take_now();
            if batch != Batch::default() {
                return batch;
            }
            self.come.notified().await;
        }
    }

    fn take_now(&self) -> Batch {
        let mut waiting = self.lock();
        let mut batch = Batch { connected: waiting.connected.take(), ..Batch::default() };
        while batch.devices.len() < BATCH_DEVICES_MAX {
            let Some(device) = waiting.devices.pop_first() else { break };
            batch.devices.push(device);
        }
        // A device's readings come after its description.
        if !waiting.devices.is_empty() {
            return batch;
        }
        while batch.readings.len() < BATCH_READINGS_MAX {
            let next = waiting.readings.pop_front();
            let Some(reading) = next.or_else(|| waiting.newest.pop_first().map(|(_, r)| r)) else { break };
            batch.readings.push(reading);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use model::{Timestamp, Value};

    use super::*;

    fn reading(device: usize, n: i64) -> Event {
        Event::Reading(Reading {
            device: DeviceId::new(format!("d{device}")).unwrap(),
            property: Property::RelativeHumidity,
            value: Value::Percent(n as u16),
            time: Timestamp::from_millis(n),
        })
    }

    #[test]
    fn a_full_inbox_keeps_the_newest_of_each_in_order_and_counts_the_rest() {
        let counters = Arc::new(Counters::default());
        let inbox = Inbox::new(Arc::clone(&counters));
        let total = READINGS_WAITING_MAX as i64 + 1000;
        (0..total).for_each(|n| inbox.put(reading((n % 2) as usize, n)));
        let mut last = BTreeMap::new();
        let mut taken = 0;
        loop {
            let batch = inbox.take_now();
            if batch == Batch::default() {
                break;
            }
            for r in batch.readings {
                assert!(last.insert(r.device.clone(), r.time).is_none_or(|before| before < r.time), "in order");
                taken += 1;
            }
        }
        assert_eq!(last.into_values().map(Timestamp::as_millis).collect::<Vec<_>>(), [total - 2, total - 1]);
        let dropped = counters.dropped().get(&DropReason::QueueFull).copied();
        assert_eq!((taken, dropped), (READINGS_WAITING_MAX + 2, Some(998)));
    }

    #[test]
    fn of_a_device_only_the_last_word_waits_and_it_comes_before_readings() {
        let inbox = Inbox::new(Arc::default());
        let id = |n: usize| DeviceId::new(format!("d{n}")).unwrap();
        inbox.put(reading(0, 1));
        for n in 0..=BATCH_DEVICES_MAX {
            let mut description = Description::default();
            inbox.put(Event::Described { device: id(n), description: description.clone() });
            description.name = "again".into();
            inbox.put(Event::Described { device: id(n), description });
        }
        inbox.put(Event::Withdrawn { device: id(0) });
        let first = inbox.take_now();
        assert_eq!((first.devices.len(), first.readings.len()), (BATCH_DEVICES_MAX, 0));
        assert_eq!(first.devices[0], (id(0), None));
        assert!(first.devices[1..].iter().all(|(_, d)| d.as_ref().is_some_and(|d| d.name == "again")));
        let second = inbox.take_now();
        assert_eq!((second.devices.len(), second.readings.len()), (1, 1));
    }
}

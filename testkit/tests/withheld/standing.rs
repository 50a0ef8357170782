//! What was different in two homes while the partner asked. A change that was overwritten before anybody asked and before a tick
//! passed is worth nothing.

use std::collections::{BTreeMap, BTreeSet};

use model::{Class, DeviceId, Kind, Property, Rung, Timestamp, Value};
use testkit::released::{Allowed, Event, Shape};

use crate::run::Life;
use crate::story::Withheld;
use crate::world::{MINUTE, UNIVERSE};

/// The shortest grid of what is held.
const QUARTER: i64 = 15 * MINUTE;

/// A home as it stands.
#[derive(Default)]
struct Home<'a> {
    newest: BTreeMap<(&'a DeviceId, Property), (Timestamp, &'a Value)>,
    shapes: BTreeMap<&'a DeviceId, &'a Shape>,
    gone: BTreeSet<&'a DeviceId>,
    /// What other links have asked for.
    others: Vec<&'a Event>,
    /// The finest rung of what the link is told, for whichever reason.
    told: BTreeMap<(&'a DeviceId, Property), Rung>,
}

impl<'a> Home<'a> {
    fn take(&mut self, now: Timestamp, event: &'a Event) {
        match event {
            Event::Reading(device, property, value) => {
                self.newest.insert((device, *property), (now, value));
            }
            Event::Described(device, shape) => {
                self.shapes.insert(device, shape);
                self.gone.remove(device);
            }
            Event::Withdrawn(device) => drop(self.gone.insert(device)),
            Event::OtherCommand(..) => self.others.push(event),
            Event::Grants(grants) | Event::CommandWhile(_, grants) => {
                self.told.clear();
                for g in grants.iter().filter(|g| g.counts) {
                    if let Allowed::Told(_, rung) = g.allowed {
                        let finest = self.told.entry((&g.device, g.property)).or_insert(rung);
                        *finest = rung.min(*finest);
                    }
                }
            }
            _ => {}
        }
    }

    /// In what another home differs from it.
    fn differs(&self, other: &Home<'a>, all: &mut BTreeSet<Withheld>) {
        let cells: BTreeSet<_> = self.newest.keys().chain(other.newest.keys()).copied().collect();
        for cell in cells {
            let (one, two) = (self.newest.get(&cell), other.newest.get(&cell));
            let (device, property) = cell;
            if one == two {
                continue;
            }
            if device.as_str().starts_with("x-") {
                all.insert(Withheld::OtherDevice);
                continue;
            }
            let values = one.zip(two).map(|((_, v), (_, w))| (v, w));
            match self.told.get(&cell) {
                None => drop(all.insert(Withheld::Kind(kind(device, property)))),
                Some(Rung::Live) => {}
                Some(_) => drop(all.insert(match values {
                    Some((v, w)) if v == w => Withheld::SampleTime,
                    Some((v, w)) if property.coarse(v) == property.coarse(w) => Withheld::InBucket,
                    _ => Withheld::BetweenTicks,
                })),
            }
            if values.is_some_and(|(v, w)| v == w) {
                all.insert(Withheld::SampleTime);
            }
        }
        if self.gone != other.gone {
            all.insert(Withheld::Withdrawn);
        }
        let devices: BTreeSet<_> = self.shapes.keys().chain(other.shapes.keys()).copied().collect();
        for device in devices {
            match (self.shapes.get(device), other.shapes.get(device)) {
                (Some(one), Some(two)) if one.properties != two.properties => drop(all.insert(Withheld::Withdrawn)),
                (Some(one), Some(two)) if one.metadata != two.metadata => drop(all.insert(Withheld::Metadata)),
                (Some(_), Some(_)) => {}
                _ => drop(all.insert(Withheld::OtherDevice)),
            }
        }
        if self.others != other.others {
            all.insert(Withheld::OtherLink);
        }
    }
}

fn kind(device: &DeviceId, property: Property) -> Kind {
    let known = UNIVERSE.iter().find(|d| d.id == *device).and_then(|d| d.description.properties.get(&property));
    Kind::of(property, known.map_or(Class::None, |d| d.class))
}

/// For each question: in what the two homes differed when it was asked, or at a tick since the one before.
pub fn stood(one: &Life, other: &Life) -> Vec<BTreeSet<Withheld>> {
    let (mut a, mut b) = (Home::default(), Home::default());
    let (mut at_a, mut at_b) = (0, 0);
    let mut tick = one.events.first().map_or(0, |(t, _)| t.as_millis().div_euclid(QUARTER) + 1);
    let mut all = Vec::new();
    for (x, y) in one.asked.iter().zip(&other.asked) {
        let (now, mut stood) = (one.events[x.event].0, BTreeSet::new());
        while tick * QUARTER <= now.as_millis() {
            let before = |t: Timestamp| t.as_millis() < tick * QUARTER;
            at_a = advance(&mut a, &one.events, at_a, x.event, before);
            at_b = advance(&mut b, &other.events, at_b, y.event, before);
            a.differs(&b, &mut stood);
            tick += 1;
        }
        at_a = advance(&mut a, &one.events, at_a, x.event, |_| true);
        at_b = advance(&mut b, &other.events, at_b, y.event, |_| true);
        a.differs(&b, &mut stood);
        all.push(stood);
    }
    all
}

/// Takes in what happened before the question, as long as it is from before the tick; gives how far it came.
fn advance<'a>(
    home: &mut Home<'a>,
    events: &'a [(Timestamp, Event)],
    from: usize,
    to: usize,
    before: impl Fn(Timestamp) -> bool,
) -> usize {
    let until = events[from..to].iter().position(|(t, _)| !before(*t)).map_or(to, |n| from + n);
    events[from..until].iter().for_each(|(t, event)| home.take(*t, event));
    until
}

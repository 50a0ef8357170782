//! Which commands are carried out, and what they lead to: from the description of the device, from what was granted, and from
//! what the home was asked for and reported. That it leads anywhere is the home's: the link sees of it what it is granted.

use model::{DeviceId, DeviceType, DoorState, LockState, Property, Rung, SystemMode, Timestamp, Trigger, Value};

use super::{Command, Released, View};

/// Set points of a device that names no range, thousandths of a degree: 7 to 35 °C.
const RANGE_MILLI: (i32, i32) = (7_000, 35_000);

/// White of a lamp that names no range, kelvin.
const KELVIN: (i32, i32) = (2_000, 6_535);

/// What a device takes, by its description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    /// Modes.
    pub modes: Vec<SystemMode>,
    /// Range of the set points, thousandths of a degree Celsius; either end may be unnamed.
    pub range_milli: (Option<i32>, Option<i32>),
    /// Least distance of two set points, thousandths of a kelvin.
    pub least_milli: Option<i32>,
    /// Two set points at once.
    pub dual: bool,
    /// One at a time.
    pub single: bool,
    /// One more beside the two.
    pub triple: bool,
    /// Set points for a limited time.
    pub schedules: bool,
    /// Range of white, kelvin.
    pub kelvin: (Option<u16>, Option<u16>),
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Set points, thousandths of a degree: the one in force (which one that is being the home's to know), the heating one,
    /// the cooling one; and for how many minutes.
    Setpoints(Option<i32>, Option<i32>, Option<i32>, Option<u16>),
    /// The set points in force, warmer or cooler by so much.
    Warmer(i32),
    /// A property becomes this.
    Set(Property, Value),
    /// A share becomes greater or smaller by so many hundredths of a percent.
    More(Property, i32),
    /// Cooler or warmer white, by so many kelvin.
    Whiter(i32),
}

const HEATING: Property = Property::OccupiedHeatingSetpoint;
const COOLING: Property = Property::OccupiedCoolingSetpoint;
const ONE: Property = Property::OccupiedSetpoint;

impl Wish {
    /// The property that it is granted by.
    fn property(&self) -> Property {
        match self {
            Wish::Setpoints(None, None, ..) => COOLING,
            Wish::Setpoints(..) | Wish::Warmer(_) => HEATING,
            Wish::Set(property, _) | Wish::More(property, _) => *property,
            Wish::Whiter(_) => Property::ColorTemperature,
        }
    }

    /// It unlocks or opens: granted apart. Of a cover that closes the home each way up does.
    fn opens(&self, closes_home: bool) -> bool {
        let is_cover = matches!(self.property(), Property::CoverPosition | Property::CoverTilt);
        let up = match self {
            Wish::Set(_, Value::Percent(to)) => *to > 0,
            Wish::More(_, by) => *by > 0,
            Wish::Set(_, Value::LockState(to)) => return *to != LockState::Locked,
            Wish::Set(_, Value::DoorState(to)) => return matches!(to, DoorState::Open | DoorState::Opening),
            _ => false,
        };
        up && is_cover && closes_home
    }

    fn is_setpoint(&self) -> bool {
        matches!(self, Wish::Setpoints(..) | Wish::Warmer(_))
    }
}

impl Released {
    /// Whether the link may give this command to an announced device, which has what the partner names.
    pub(super) fn is_granted(&self, device: &DeviceId, c: &Command) -> bool {
        let (Some(wish), Some(shape)) = (&c.wish, self.there(device)) else { return false };
        if c.of.is_some() && c.of != shape.device_type {
            return false;
        }
        // A blind whose position is known or commanded is no door to the partner.
        if c.of == Some(DeviceType::WindowCovering)
            && matches!(wish, Wish::Set(Property::DoorState, _))
            && self.has_a_word(device, Property::CoverPosition)
        {
            return false;
        }
        self.granted_by(device, wish).is_some_and(|p| self.may(device, p, wish.opens(shape.closes_home)))
    }

    /// The property that counts for the grant. Of a thermostat that only cools it is the cooling set point.
    fn granted_by(&self, device: &DeviceId, wish: &Wish) -> Option<Property> {
        let first = wish.property();
        let other = match first {
            HEATING => COOLING,
            COOLING => HEATING,
            p => p,
        };
        [first, other].into_iter().find(|p| self.took.contains(&(device.clone(), *p)))
    }

    /// Whether the link may be told of a property or command it.
    fn has_a_word(&self, device: &DeviceId, property: Property) -> bool {
        let Some(commanded) = self.there(device).and_then(|s| s.properties.get(&property)) else { return false };
        self.is_promised(device, property, Trigger::PartnerPoll)
            || self.unasked(device, property)
            || (*commanded && (self.may_at_times(device, property, false) || self.may_at_times(device, property, true)))
    }

    /// An error that tells the home's state is a disclosure of it: it is said to a link that is told that state after its
    /// commands, exact and at once, and follows from what it is told.
    pub(super) fn objects(&self, device: &DeviceId, c: &Command, view: &mut View, now: Timestamp) -> bool {
        let Some(wish) = &c.wish else { return false };
        let sees = |p: Property| {
            let fact = self.fact(&(device.clone(), p, Trigger::DirectiveResponse), now)?;
            (self.there(device)?.properties.contains_key(&p) || p == Property::Reachable).then_some(())?;
            Some(fact).filter(|f| f.rung == Rung::Live)
        };
        let may = |p: Property| {
            self.rung(&(device.clone(), p, Trigger::DirectiveResponse)) == Some(Rung::Live)
                && self.there(device).is_some_and(|s| s.properties.contains_key(&p))
        };
        let told = self.objections(device, wish, &|p| sees(p).map(|f| (f.time, f.value)), &may);
        view.facts.extend(told.iter().filter_map(|p| sees(*p)));
        !told.is_empty()
    }

    /// What speaks against a command, out of what is seen; the properties that it tells.
    fn objections(
        &self,
        device: &DeviceId,
        wish: &Wish,
        sees: &dyn Fn(Property) -> Option<(Timestamp, Value)>,
        may: &dyn Fn(Property) -> bool,
    ) -> Vec<Property> {
        let value = |p: Property| sees(p).map(|(_, v)| v);
        let mut told = Vec::new();
        if value(Property::Reachable) == Some(Value::Bool(false)) {
            told.push(Property::Reachable);
        }
        let rests = [SystemMode::Off, SystemMode::FanOnly].map(|m| Some(Value::SystemMode(m)));
        if wish.is_setpoint() && rests.contains(&value(Property::SystemMode)) {
            told.push(Property::SystemMode);
        }
        let least = self.there(device).and_then(|s| s.takes.least_milli);
        if let (Wish::Setpoints(None, heating, cooling, _), Some(least)) = (wish, least) {
            let milli = |p: Property| match value(p) {
                Some(Value::Temperature(t)) => Some(t),
                _ => None,
            };
            let (gap, other) = match (heating, cooling) {
                (Some(h), None) => (milli(COOLING).map(|c| c - h), COOLING),
                (None, Some(c)) => (milli(HEATING).map(|h| c - h), HEATING),
                _ => (None, HEATING),
            };
            if gap.is_some_and(|gap| gap < least) {
                told.push(other);
            }
        }
        // That a colour is the younger tells of both.
        if let (Wish::Whiter(_), Some((color, _))) = (wish, sees(Property::Color))
            && may(Property::ColorTemperature)
            && sees(Property::ColorTemperature).is_none_or(|(white, _)| color > white)
        {
            told.extend([Property::Color, Property::ColorTemperature]);
        }
        told
    }

    /// Another link has commanded; it sees everything.
    pub(super) fn other(&mut self, device: &DeviceId, wish: &Wish, weather: (bool, bool), now: Timestamp) {
        let sees = |p: Property| self.readings.get(&(device.clone(), p)).and_then(|all| all.last()).cloned();
        if self.there(device).is_none()
            || !self.objections(device, wish, &sees, &|_| true).is_empty()
            || weather != (true, true)
        {
            return;
        }
        let led_to = self.leads_to(device, wish).unwrap_or_default();
        self.desire(device, &led_to, now);
    }

    /// An order is younger than what was reported before it.
    pub(super) fn desire(&mut self, device: &DeviceId, led_to: &[(Property, Value)], now: Timestamp) {
        for (property, value) in led_to {
            let cell = (device.clone(), *property);
            let after = self.readings.get(&cell).and_then(|all| all.last()).map(|(t, _)| t.plus_millis(1));
            self.desired.insert(cell, (after.map_or(now, |t| t.max(now)), value.clone()));
        }
    }

    /// The younger of what was reported and what was asked for.
    fn newest(&self, device: &DeviceId, property: Property) -> Option<&Value> {
        let cell = (device.clone(), property);
        let reported = self.readings.get(&cell).and_then(|all| all.last());
        let asked = self.desired.get(&cell);
        let younger = asked.filter(|(t, _)| reported.is_none_or(|(r, _)| t > r));
        younger.or(reported).map(|(_, v)| v)
    }

    /// What the partner itself has said of the device's properties.
    pub(super) fn said(&self, device: &DeviceId, c: &Command) -> Vec<(Property, Value)> {
        let Some(shape) = self.there(device) else { return Vec::new() };
        let commanded = |p: Property| shape.properties.get(&p) == Some(&true);
        match &c.wish {
            Some(Wish::Setpoints(target, heating, cooling, _)) => {
                // A target is said of the one set point there is. Where there are two, which one it goes to is the home's.
                let one = match (commanded(HEATING), commanded(COOLING)) {
                    (true, false) => Some(HEATING),
                    (false, true) => Some(COOLING),
                    _ => Some(ONE),
                };
                let all = [(one, target), (Some(HEATING), heating), (Some(COOLING), cooling)];
                all.into_iter().filter_map(|(p, t)| Some((p?, Value::Temperature((*t)?)))).collect()
            }
            Some(Wish::Set(Property::Scene, _)) => Vec::new(),
            Some(Wish::Set(Property::ColorTemperature, Value::ColorTemperature(kelvin))) => {
                vec![(Property::ColorTemperature, shape.takes.white(i32::from(*kelvin)))]
            }
            Some(Wish::Set(property, value)) => vec![(*property, value.clone())],
            _ => Vec::new(),
        }
    }

    /// What a device would be asked to become; none when it does not take that, by its description. Where the home does not
    /// know what to start from, the command is carried out and leads to nothing.
    pub(super) fn leads_to(&self, device: &DeviceId, wish: &Wish) -> Option<Vec<(Property, Value)>> {
        let shape = self.there(device)?;
        let commanded = |p: Property| shape.properties.get(&p) == Some(&true);
        let newest = |p: Property| self.newest(device, p);
        match wish {
            Wish::Setpoints(target, heating, cooling, minutes) => {
                let mut led = self.setpoints(device, (*target, *heating, *cooling))?;
                if let Some(minutes) = minutes {
                    (shape.takes.schedules && commanded(Property::SetpointHoldDuration)).then_some(())?;
                    if !led.is_empty() {
                        led.push((Property::SetpointHoldDuration, Value::Minutes(*minutes)));
                    }
                }
                Some(led)
            }
            Wish::Warmer(by) => self.warmer(device, *by),
            Wish::Set(Property::SystemMode, Value::SystemMode(mode)) if !shape.takes.modes.contains(mode) => None,
            Wish::Set(property, _) if !commanded(*property) => None,
            Wish::Set(Property::ColorTemperature, Value::ColorTemperature(kelvin)) => {
                Some(vec![(Property::ColorTemperature, shape.takes.white(i32::from(*kelvin)))])
            }
            Wish::Set(property, value) => Some(vec![(*property, value.clone())]),
            Wish::More(property, _) if !commanded(*property) => None,
            Wish::More(property, by) => Some(match newest(*property) {
                Some(Value::Percent(now)) => {
                    vec![(*property, Value::Percent((i32::from(*now) + by).clamp(0, 10_000) as u16))]
                }
                _ => Vec::new(),
            }),
            Wish::Whiter(_) if !commanded(Property::ColorTemperature) => None,
            Wish::Whiter(by) => Some(match newest(Property::ColorTemperature) {
                Some(Value::ColorTemperature(now)) => {
                    vec![(Property::ColorTemperature, shape.takes.white(i32::from(*now) + by))]
                }
                _ => Vec::new(),
            }),
        }
    }

    /// The set points that count in the mode in force: both in change-over, heating where the mode is not known; and what the
    /// device has where it has not that.
    fn in_force(&self, device: &DeviceId) -> Vec<Property> {
        let commanded = |p: &Property| self.there(device).is_some_and(|s| s.properties.get(p) == Some(&true));
        let mode = match self.newest(device, Property::SystemMode) {
            Some(Value::SystemMode(mode)) => Some(*mode),
            _ => None,
        };
        if commanded(&ONE) && mode != Some(SystemMode::Auto) {
            return vec![ONE];
        }
        let both = [HEATING, COOLING];
        let counts = |p: &Property| match mode {
            Some(SystemMode::Auto) => true,
            Some(SystemMode::Cool | SystemMode::Dry) => *p == COOLING,
            _ => *p == HEATING,
        };
        let fits: Vec<Property> = both.into_iter().filter(|p| counts(p) && commanded(p)).collect();
        if fits.is_empty() { both.into_iter().find(commanded).into_iter().collect() } else { fits }
    }

    /// Where these set points are known: their values.
    fn known(&self, device: &DeviceId, all: &[Property]) -> Option<Vec<i32>> {
        let milli = |p: &Property| match self.newest(device, *p) {
            Some(Value::Temperature(t)) => Some(*t),
            _ => None,
        };
        all.iter().map(milli).collect()
    }

    /// All in force move together, and stop together where one comes to the end of the range.
    fn warmer(&self, device: &DeviceId, by: i32) -> Option<Vec<(Property, Value)>> {
        let (least, most) = self.there(device)?.takes.range();
        let all = self.in_force(device);
        let Some(now) = self.known(device, &all) else { return Some(Vec::new()) };
        let (low, high) = (*now.iter().min()?, *now.iter().max()?);
        let by = if by < 0 { by.max((least - low).min(0)) } else { by.min((most - high).max(0)) };
        let moved = all.into_iter().zip(now).map(|(p, t)| (p, Value::Temperature((t + by).clamp(least, most))));
        Some(moved.collect())
    }

    fn setpoints(
        &self,
        device: &DeviceId,
        (target, heating, cooling): (Option<i32>, Option<i32>, Option<i32>),
    ) -> Option<Vec<(Property, Value)>> {
        let shape = self.there(device)?;
        let takes = &shape.takes;
        let commanded = |p: Property| shape.properties.get(&p) == Some(&true);
        let of_two = heating.is_some() || cooling.is_some();
        let (min, max) = takes.range();
        let distance = takes.least_milli.unwrap_or(0);
        let is_wrong = (of_two && (!takes.dual || (target.is_some() && !takes.triple)))
            || heating.zip(cooling).is_some_and(|(h, c)| c - h < distance)
            || [target, heating, cooling].into_iter().flatten().any(|t| t < min || t > max)
            || ![HEATING, COOLING, ONE].into_iter().any(commanded);
        if is_wrong {
            return None;
        }
        let mut led = Vec::new();
        match target {
            Some(target) if of_two => led.push((ONE, target)),
            Some(target) => {
                let all = self.in_force(device);
                if let [first, second] = all.as_slice() {
                    let Some(now) = self.known(device, &all) else { return Some(Vec::new()) };
                    let (h, c) = band(target, (*now.first()?, *now.get(1)?), distance, (min, max));
                    led.extend([(*first, h), (*second, c)]);
                } else {
                    led.extend(all.into_iter().map(|p| (p, target)));
                }
            }
            None => {}
        }
        led.extend(heating.map(|t| (HEATING, t)).into_iter().chain(cooling.map(|t| (COOLING, t))));
        let is_taken = !led.is_empty() && led.iter().all(|(p, _)| commanded(*p));
        is_taken.then(|| led.into_iter().map(|(p, t)| (p, Value::Temperature(t))).collect())
    }
}

/// The edge that is nearest to the target goes there, and the band keeps its width, except at the end of the range: there it
/// gets narrower, down to the least distance; if that is not enough, the other edge takes the target.
fn band(target: i32, (heating, cooling): (i32, i32), least: i32, (min, max): (i32, i32)) -> (i32, i32) {
    let width = (cooling - heating).max(least).max(0);
    let up = (target, (target + width).min(max));
    let down = ((target - width).max(min), target);
    let fits = |(h, c): (i32, i32)| c - h >= least;
    let first_up = (target - heating).abs() <= (target - cooling).abs();
    match (first_up, fits(up), fits(down)) {
        (true, false, true) | (false, true, true) | (false, false, _) => down,
        _ => up,
    }
}

impl Takes {
    fn range(&self) -> (i32, i32) {
        let min = self.range_milli.0.unwrap_or(RANGE_MILLI.0);
        (min, self.range_milli.1.unwrap_or(RANGE_MILLI.1).max(min))
    }

    /// The nearest white that the lamp has.
    fn white(&self, kelvin: i32) -> Value {
        let min = self.kelvin.0.map_or(KELVIN.0, i32::from);
        let max = self.kelvin.1.map_or(KELVIN.1, i32::from).max(min);
        Value::ColorTemperature(kelvin.clamp(min, max) as u16)
    }
}

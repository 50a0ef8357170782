//! What a guided thermostat is told, and what is made of what it says: its echo is no order, however late or rounded, and what
//! somebody turns at it is one. No clock, no sockets: time and what it says are arguments.

use std::collections::BTreeMap;

use comfort::{HvacMode, Temp};
use home::Desired;
use model::{Property, SystemMode, Value};

use super::unit::{Order, To};

/// So long after a guided thermostat was told something, nothing that it says is taken for an order, in the home's time.
const GRACE_MS: u64 = 60_000;

/// It is told again, and the household hears of it, when it has not taken it for so long: radiators' own ones sleep for minutes.
/// As long it may come back to what it said or was told before.
const PATIENCE_MS: u64 = 15 * 60_000;

/// What it first says so near to what it was told is its own version of it, rounded, thousandths of a kelvin.
const ROUNDED_MILLI: i32 = 1_200;

/// A set point so near to what was told is no other one, thousandths of a kelvin.
const NEAR_MILLI: i32 = 300;

/// Most former values that are remembered.
const FORMER_MAX: usize = 32;

/// Mode, and where to heat and cool to.
pub type What = (HvacMode, Temp, Temp);

/// What the thermostat says of a property now.
pub type Said = BTreeMap<Property, Value>;

/// The properties by which a thermostat is guided.
pub const GUIDED: [Property; 3] =
    [Property::SystemMode, Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint];

/// Something that it was told or said, and may say late.
#[derive(Debug)]
struct Former {
    property: Property,
    value: Value,
    within_milli: i32,
    until_ms: u64,
}

/// What it was told last.
#[derive(Debug)]
struct Told {
    what: What,
    mono_ms: u64,
    /// What of it was sent: not every thermostat takes all.
    sent: Vec<Property>,
    /// How it answered: rounded to its own steps, or in its own words.
    answers: Said,
    /// What it says of former times.
    late: Said,
    /// It was told the same before, had taken it, and went back to this.
    went_back: Said,
}

/// How it takes what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has taken it, as far as it tells.
    Taken,
    /// It has some time left.
    Waiting,
    /// It has not, for so long that it is to be told again.
    Untaken,
}

/// A guided thermostat.
#[derive(Debug, Default)]
pub struct Guide {
    told: Option<Told>,
    former: Vec<Former>,
    /// What it said when it was heard last.
    last: Said,
}

impl Guide {
    /// Hears what it says now. What somebody has turned at it since it was told, as an order; whatever comes of that is to be told
    /// anew.
    pub fn hear(&mut self, said: &Said, mono_ms: u64) -> Option<Order> {
        self.former.retain(|f| mono_ms < f.until_ms);
        for (property, now) in said {
            let before = self.last.insert(*property, now.clone());
            if let Some(value) = before.filter(|before| before != now) {
                self.remember(*property, value, 0, mono_ms);
            }
        }
        let told = self.told.as_mut()?;
        let graced = mono_ms.saturating_sub(told.mono_ms) < GRACE_MS;
        let mut turned = None;
        for wish in wishes(told.what) {
            let property = wish.property;
            let Some(now) = said.get(&property) else { continue };
            let answer = told.answers.get(&property);
            if answer == Some(now) || near(now, &wish.value, NEAR_MILLI) {
                told.answers.insert(property, now.clone());
                told.late.remove(&property);
                continue;
            }
            // Back where it was, a second time, after it had taken it twice: that is somebody's hand.
            let insists = answer.is_some() && told.went_back.get(&property) == Some(now);
            let is_former = |f: &Former| f.property == property && near(now, &f.value, f.within_milli);
            if !insists && (told.late.get(&property) == Some(now) || self.former.iter().any(is_former)) {
                told.late.insert(property, now.clone());
                continue;
            }
            if answer.is_none() && near(now, &wish.value, ROUNDED_MILLI) {
                told.answers.insert(property, now.clone());
                told.late.remove(&property);
                continue;
            }
            if !graced && let Some(order) = order(told.what.0, property, now) {
                turned = Some((property, order));
            }
        }
        let (property, order) = turned?;
        // What it was before is nothing that it could be late with: it moved by itself.
        self.told = None;
        self.former.retain(|f| f.property != property);
        Some(order)
    }

    /// Whether this is what it was told last.
    pub fn is_told(&self, what: What) -> bool {
        self.told.as_ref().is_some_and(|told| told.what == what)
    }

    /// How it takes it.
    pub fn standing(&self, said: &Said, mono_ms: u64) -> Standing {
        let Some(told) = &self.told else { return Standing::Waiting };
        let wishes = wishes(told.what);
        let rounded = |property: &Property, now: &Value| {
            wishes.iter().any(|w| w.property == *property && near(now, &w.value, ROUNDED_MILLI))
        };
        let over = mono_ms.saturating_sub(told.mono_ms) >= PATIENCE_MS;
        let open = told.sent.iter().any(|property| match (said.get(property), told.late.get(property)) {
            (None, _) => false,
            // It may have rounded it to what it was.
            (Some(now), Some(_)) => !over || !rounded(property, now),
            (Some(_), None) => !told.answers.contains_key(property),
        });
        match (open, over) {
            (false, _) => Standing::Taken,
            (true, false) => Standing::Waiting,
            (true, true) => Standing::Untaken,
        }
    }

    /// It was told this just now, when it said that.
    pub fn tell(&mut self, what: What, sent: &[Desired], said: &Said, mono_ms: u64) {
        let mut went_back = Said::new();
        if let Some(told) = self.told.take() {
            if told.what == what {
                went_back.clone_from(&told.went_back);
            }
            for wish in wishes(told.what).into_iter().filter(|_| told.what != what) {
                // Until it has said how it rounds, whatever is near may be its version.
                let within = if told.answers.contains_key(&wish.property) { NEAR_MILLI } else { ROUNDED_MILLI };
                self.remember(wish.property, wish.value, within, mono_ms);
            }
            for property in told.answers.keys().filter(|_| told.what == what) {
                went_back.extend(told.late.get(property).map(|late| (*property, late.clone())));
            }
        }
        for (property, value) in said {
            self.remember(*property, value.clone(), 0, mono_ms);
        }
        let sent = sent.iter().map(|d| d.property).collect();
        self.told = Some(Told { what, mono_ms, sent, answers: Said::new(), late: Said::new(), went_back });
    }

    /// It may come back to this for a while.
    fn remember(&mut self, property: Property, value: Value, within_milli: i32, mono_ms: u64) {
        let until_ms = mono_ms.saturating_add(PATIENCE_MS);
        self.former.push(Former { property, value, within_milli, until_ms });
        let over = self.former.len().saturating_sub(FORMER_MAX);
        self.former.drain(..over);
    }
}

/// What a guided thermostat is to become.
pub fn wishes((mode, heat, cool): What) -> Vec<Desired> {
    let mut all = vec![Desired { property: Property::SystemMode, value: Value::SystemMode(system_mode(mode)) }];
    if mode.heats() {
        all.push(Desired { property: Property::OccupiedHeatingSetpoint, value: Value::Temperature(heat.milli_c()) });
    }
    if mode.cools() {
        all.push(Desired { property: Property::OccupiedCoolingSetpoint, value: Value::Temperature(cool.milli_c()) });
    }
    all
}

fn system_mode(mode: HvacMode) -> SystemMode {
    match mode {
        HvacMode::Off => SystemMode::Off,
        HvacMode::Heat | HvacMode::AuxHeatOnly => SystemMode::Heat,
        HvacMode::Cool => SystemMode::Cool,
        HvacMode::Auto => SystemMode::Auto,
    }
}

fn near(a: &Value, b: &Value, within_milli: i32) -> bool {
    match (a, b) {
        (Value::Temperature(a), Value::Temperature(b)) => a.saturating_sub(*b).saturating_abs() <= within_milli,
        (a, b) => a == b,
    }
}

/// What somebody wants who has turned this.
fn order(mode: HvacMode, property: Property, said: &Value) -> Option<Order> {
    let text = |milli: i32| Some(format!("{}C", f64::from(milli) / 1000.0));
    match (said, property) {
        (Value::Temperature(t), Property::OccupiedCoolingSetpoint) if mode == HvacMode::Auto => {
            Some(set(To { cool: text(*t), ..To::default() }))
        }
        (Value::Temperature(t), _) if mode == HvacMode::Auto => Some(set(To { heat: text(*t), ..To::default() })),
        (Value::Temperature(t), _) => Some(set(To { temperature: text(*t), ..To::default() })),
        (Value::SystemMode(SystemMode::Off), _) => Some(set_mode("off")),
        (Value::SystemMode(SystemMode::Heat), _) => Some(set_mode("heat")),
        (Value::SystemMode(SystemMode::Cool), _) => Some(set_mode("cool")),
        (Value::SystemMode(SystemMode::Auto), _) => Some(set_mode("auto")),
        _ => None,
    }
}

/// Set points, until the program's next change.
pub fn set(to: To) -> Order {
    Order::Set { mode: None, to, fan: None, fan_min: None, humidity: None, dry_above: None, windows: None }
}

/// A humidity to keep, %.
pub fn set_humidity(percent: u8) -> Order {
    let (fan, fan_min, humidity, dry_above, windows) = (None, None, Some(percent), None, None);
    Order::Set { mode: None, to: To::default(), fan, fan_min, humidity, dry_above, windows }
}

/// A mode.
pub fn set_mode(mode: &str) -> Order {
    let (fan, fan_min, humidity, dry_above, windows) = (None, None, None, None, None);
    Order::Set { mode: Some(mode.to_owned()), to: To::default(), fan, fan_min, humidity, dry_above, windows }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn heat_to(tenths_c: i32) -> What {
        (HvacMode::Heat, Temp::from_tenths_c(tenths_c), Temp::from_tenths_c(260))
    }

    /// A radiator's thermostat that is in heating and says this set point.
    fn says(tenths_c: i32) -> Said {
        BTreeMap::from([
            (Property::SystemMode, Value::SystemMode(SystemMode::Heat)),
            (Property::OccupiedHeatingSetpoint, Value::Temperature(tenths_c * 100)),
        ])
    }

    /// What was turned, in degrees Celsius.
    fn point(order: Option<Order>) -> Option<String> {
        match order? {
            Order::Set { to, .. } => to.temperature,
            other => panic!("{other:?}"),
        }
    }

    struct Valve {
        guide: Guide,
        at_ms: u64,
    }

    impl Valve {
        fn tell(&mut self, what: What, said: &Said) {
            self.guide.tell(what, &wishes(what), said, self.at_ms);
        }

        /// It says so for so many minutes, asked each half.
        fn say(&mut self, tenths_c: i32, minutes: u64) -> Option<String> {
            for _ in 0..minutes * 2 {
                self.at_ms += MINUTE_MS / 2;
                if let Some(order) = self.guide.hear(&says(tenths_c), self.at_ms) {
                    return point(Some(order));
                }
            }
            None
        }

        fn standing(&self, tenths_c: i32) -> Standing {
            self.guide.standing(&says(tenths_c), self.at_ms)
        }
    }

    fn valve() -> Valve {
        let mut valve = Valve { guide: Guide::default(), at_ms: 5_000_000 };
        valve.tell(heat_to(204), &says(170));
        valve
    }

    #[test]
    fn an_old_value_that_comes_late_is_no_order_and_is_told_anew() {
        let mut valve = valve();
        // It rounds what it was told; the bridge said so at once, and the valve itself, asleep, says the old one.
        assert_eq!(valve.say(200, 2), None);
        assert_eq!(valve.standing(200), Standing::Taken);
        assert_eq!(valve.say(170, 5), None, "what it said before it was told");
        assert_eq!(valve.standing(170), Standing::Waiting);
        assert_eq!(valve.say(200, 3), None);
        assert_eq!(valve.standing(200), Standing::Taken);
        // Told twice in a short time, the first of them comes last: as it was told, or as it rounded it.
        valve.tell(heat_to(185), &says(200));
        valve.tell(heat_to(220), &says(200));
        assert_eq!(valve.say(190, 4), None, "its version of 18.5, which it had never answered");
        assert_eq!(valve.say(200, 4), None, "its version of 20.4");
        assert_eq!(valve.say(220, 1), None);
        assert_eq!(valve.standing(220), Standing::Taken);
        // It stays there: the order was lost.
        assert_eq!(valve.say(200, 20), None);
        assert_eq!(valve.standing(200), Standing::Untaken);
        valve.tell(heat_to(220), &says(200));
        assert_eq!(valve.say(220, 30), None);
        assert_eq!(valve.standing(220), Standing::Taken);
    }

    #[test]
    fn what_somebody_turns_is_an_order_also_where_it_was_before() {
        let mut valve = valve();
        assert_eq!(valve.say(200, 2), None);
        assert_eq!(valve.say(230, 2), Some("23C".into()));
        // It moved by itself: there is nothing that it could be late with.
        valve.tell(heat_to(230), &says(230));
        assert_eq!(valve.say(230, 2), None);
        assert_eq!(valve.say(200, 2), Some("20C".into()));
        // After a while, what it was before counts as anything else; and before that, for who insists.
        valve.tell(heat_to(210), &says(200));
        assert_eq!(valve.say(210, 16), None);
        assert_eq!(valve.say(200, 2), Some("20C".into()));
        valve.tell(heat_to(210), &says(200));
        assert_eq!(valve.say(210, 3), None);
        assert_eq!(valve.say(200, 14), None);
        assert_eq!(valve.standing(200), Standing::Taken, "within a degree it may have rounded");
        valve.tell(heat_to(230), &says(200));
        assert_eq!(valve.say(230, 3), None);
        assert_eq!(valve.say(200, 14), None);
        assert_eq!(valve.standing(200), Standing::Untaken);
        valve.tell(heat_to(230), &says(200));
        assert_eq!(valve.say(230, 3), None);
        assert_eq!(valve.say(200, 3), Some("20C".into()));
    }

    #[test]
    fn what_takes_nothing_is_told_again_and_what_rounds_to_where_it_was_has_taken_it() {
        let mut valve = valve();
        // The mode is as it was told; that is no answer to the set point.
        assert_eq!(valve.say(170, 14), None);
        assert_eq!(valve.standing(170), Standing::Waiting);
        assert_eq!(valve.say(170, 2), None);
        assert_eq!(valve.standing(170), Standing::Untaken);
        valve.tell(heat_to(174), &says(170));
        assert_eq!(valve.say(170, 16), None);
        assert_eq!(valve.standing(170), Standing::Taken);
    }
}

//! The daily life of two residents, as a plan for each day that depends on the seed and the date alone.
//!
//! The first drives to work on weekdays, through the garage. The second walks, through the front door, and works at
//! home on Wednesdays and Fridays with a walk at noon. Evenings: somebody cooks, then television. At weekends they
//! sleep in and mostly go out together.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use comfort::simulate::rng::Rng;

/// How many people live here.
pub(super) const RESIDENTS: usize = 2;
/// The one who drives, and the one who walks.
const DRIVER: usize = 0;
const WALKER: usize = 1;

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;

/// Something that a resident does. What makes no sense when its time comes (television while nobody is home) is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Wake(usize),
    GoToBed(usize),
    Leave(usize),
    Return(usize),
    /// Passes the hall, when at home.
    PassHall,
    OpenGarage,
    CloseGarage,
    Unlock,
    Lock,
    OpenDoor,
    CloseDoor,
    Shower(bool),
    Cook(bool),
    Television(bool),
}

/// An act and when it happens, ms since the epoch.
pub(super) type Planned = (i64, Act);

/// What happens on this day, in order of time. Every act is on the day itself.
pub(super) fn plan(seed: u64, date: Date, zone: &TimeZone) -> Vec<Planned> {
    let Ok(midnight) = zone.to_timestamp(date.at(0, 0, 0, 0)) else {
        return Vec::new();
    };
    let day = midnight.as_millisecond().div_euclid(24 * 60 * MINUTE);
    let mut diary = Diary { rng: Rng::new(seed, 1, day), date, zone, acts: Vec::new() };
    match date.weekday() {
        Weekday::Saturday => diary.weekend(0.8, 0.5),
        Weekday::Sunday => diary.weekend(0.6, 0.7),
        weekday => diary.workday(matches!(weekday, Weekday::Wednesday | Weekday::Friday)),
    }
    if diary.rng.chance(0.3) {
        let awake_at_night = diary.at(3 * 60, 60);
        diary.add(awake_at_night, Act::PassHall);
    }
    diary.acts.sort();
    diary.acts
}

struct Diary<'a> {
    rng: Rng,
    date: Date,
    zone: &'a TimeZone,
    acts: Vec<Planned>,
}

impl Diary<'_> {
    fn workday(&mut self, walker_at_home: bool) {
        self.morning(DRIVER, clock(6, 40), 10);
        self.morning(WALKER, clock(7, 10), 10);
        let drive = self.at(clock(7, 55), 12);
        let drive_back = self.at(clock(17, 35), 25);
        self.drive_away(drive, &[DRIVER]);
        self.drive_home(drive_back, &[DRIVER]);
        let (out, back) = if walker_at_home {
            (self.at(clock(12, 10), 15), self.at(clock(13, 15), 15))
        } else {
            (self.at(clock(8, 35), 8), self.at(clock(16, 50), 20))
        };
        self.walk_out(out, WALKER);
        self.walk_in(back, WALKER);
        self.evening(0.85);
        self.nights([clock(22, 50), clock(23, 5)]);
    }

    fn weekend(&mut self, outing: f64, stroll: f64) {
        self.morning(DRIVER, clock(8, 30), 25);
        self.morning(WALKER, clock(8, 50), 25);
        if self.rng.chance(outing) {
            let out = self.at(clock(11, 0), 30);
            let back = self.at(clock(14, 15), 40);
            self.drive_away(out, &[DRIVER, WALKER]);
            self.drive_home(back, &[DRIVER, WALKER]);
        }
        if self.rng.chance(stroll) {
            let out = self.at(clock(15, 45), 20);
            let back = self.at(clock(16, 50), 20);
            self.walk_out(out, WALKER);
            self.walk_in(back, WALKER);
        }
        self.evening(0.95);
        self.nights([clock(23, 10), clock(23, 20)]);
    }

    fn morning(&mut self, who: usize, wake: i64, spread: i64) {
        let wake = self.at(wake, spread);
        self.add(wake, Act::Wake(who));
        self.add(wake + 3 * MINUTE, Act::PassHall);
        self.add(wake + 6 * MINUTE, Act::Shower(true));
        self.add(wake + 14 * MINUTE, Act::Shower(false));
        self.add(wake + 20 * MINUTE, Act::PassHall);
    }

    fn evening(&mut self, television: f64) {
        let cook = self.at(clock(18, 35), 15);
        self.add(cook, Act::Cook(true));
        self.add(cook + 35 * MINUTE, Act::Cook(false));
        if self.rng.chance(television) {
            let (on, off) = (self.at(clock(20, 10), 15), self.at(clock(22, 10), 15));
            self.add(on, Act::Television(true));
            self.add(off, Act::Television(false));
        }
    }

    fn nights(&mut self, bed: [i64; RESIDENTS]) {
        for (who, minute) in bed.into_iter().enumerate() {
            let time = self.at(minute, 15);
            self.add(time - MINUTE, Act::PassHall);
            self.add(time, Act::GoToBed(who));
        }
    }

    fn drive_away(&mut self, time: i64, who: &[usize]) {
        self.add(time - 20 * SECOND, Act::PassHall);
        self.add(time, Act::OpenGarage);
        for &who in who {
            self.add(time + 40 * SECOND, Act::Leave(who));
        }
        self.add(time + 45 * SECOND, Act::CloseGarage);
    }

    fn drive_home(&mut self, time: i64, who: &[usize]) {
        self.add(time, Act::OpenGarage);
        for &who in who {
            self.add(time + 40 * SECOND, Act::Return(who));
        }
        self.add(time + 60 * SECOND, Act::CloseGarage);
        self.add(time + 75 * SECOND, Act::PassHall);
    }

    fn walk_out(&mut self, time: i64, who: usize) {
        self.add(time - 15 * SECOND, Act::PassHall);
        self.through_front_door(time);
        self.add(time + 15 * SECOND, Act::Leave(who));
    }

    fn walk_in(&mut self, time: i64, who: usize) {
        self.through_front_door(time);
        self.add(time + 15 * SECOND, Act::Return(who));
        self.add(time + 25 * SECOND, Act::PassHall);
    }

    fn through_front_door(&mut self, time: i64) {
        self.add(time, Act::Unlock);
        self.add(time + 10 * SECOND, Act::OpenDoor);
        self.add(time + 20 * SECOND, Act::CloseDoor);
        self.add(time + 30 * SECOND, Act::Lock);
    }

    /// A moment within `spread` minutes of this minute of the day.
    fn at(&mut self, minute: i64, spread: i64) -> i64 {
        let second = self.rng.around(minute, spread) * 60 + self.rng.around(30, 29);
        let second = second.clamp(0, 24 * 3600 - 1);
        let civil = self.date.at((second / 3600) as i8, (second / 60 % 60) as i8, (second % 60) as i8, 0);
        self.zone.to_timestamp(civil).map_or(0, jiff::Timestamp::as_millisecond)
    }

    fn add(&mut self, time: i64, act: Act) {
        self.acts.push((time, act));
    }
}

/// Minutes since midnight.
const fn clock(hour: i64, minute: i64) -> i64 {
    hour * 60 + minute
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_plan_is_possible_whatever_the_seed() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        for seed in 0..200 {
            for day in 1..=7 {
                let mut home = [true; RESIDENTS];
                let mut awake = [false; RESIDENTS];
                let plan = plan(seed, date(2026, 3, 23 + day), &zone);
                assert!(plan.len() >= 16);
                for (_, act) in plan {
                    match act {
                        Act::Wake(who) => assert!(home[who] && !std::mem::replace(&mut awake[who], true)),
                        Act::GoToBed(who) => assert!(home[who] && std::mem::replace(&mut awake[who], false)),
                        Act::Leave(who) => assert!(awake[who] && std::mem::replace(&mut home[who], false)),
                        Act::Return(who) => assert!(!std::mem::replace(&mut home[who], true)),
                        _ => {}
                    }
                }
                assert_eq!((home, awake), ([true; RESIDENTS], [false; RESIDENTS]));
            }
        }
    }
}

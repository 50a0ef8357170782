//! What an attacker makes of what it was sent: the newest values, how they moved, what happened lately, and the messages
//! themselves. The features are those of the reference measurements: value; differences over 15, 30, 60 and 120 minutes; mean
//! and deviation of an hour; the level of a day; and for what is on or off, how often and how long ago.

use crate::truth::Local;

/// The attacker's clock moves in such steps, in milliseconds.
pub const STEP_MS: i64 = 5 * 60_000;

/// Steps over which it looks back.
const BACK: [usize; 4] = [3, 6, 12, 24];
const HOUR: usize = 12;
const DAY: usize = 288;

/// Longest time since something happened, in steps.
const LONG_AGO: f64 = 2.0 * DAY as f64;

/// One property of one device, as it was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Of which device.
    pub device: String,
    /// Which property: what two homes may have both.
    pub property: String,
    /// On or off.
    pub is_binary: bool,
    /// When it was told, in milliseconds, and what; in order.
    pub points: Vec<(i64, f64)>,
}

/// All that one partner, or several together, came to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The first and the last moment, in milliseconds.
    pub span: (i64, i64),
    /// What was told.
    pub series: Vec<Series>,
    /// Messages: when, and how many bytes; in order.
    pub messages: Vec<(i64, u32)>,
    /// When it gave a command: it knows that anyway.
    pub commands: Vec<i64>,
}

/// Numbers with names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Of each column.
    pub names: Vec<String>,
    /// Row by row.
    pub rows: Vec<Vec<f64>>,
}

impl Features {
    fn add(&mut self, name: String, column: Vec<f64>) {
        if self.rows.is_empty() {
            self.rows = vec![Vec::new(); column.len()];
        }
        self.names.push(name);
        self.rows.iter_mut().zip(column).for_each(|(row, x)| row.push(x));
    }

    /// Only the columns of these names, in their order; the mean of nothing where there is none.
    pub fn pick(&self, names: &[String]) -> Features {
        let places: Vec<Option<usize>> = names.iter().map(|name| self.names.iter().position(|n| n == name)).collect();
        let of = |row: &Vec<f64>| places.iter().map(|p| p.and_then(|p| row.get(p)).copied().unwrap_or(0.0)).collect();
        Features { names: names.to_vec(), rows: self.rows.iter().map(of).collect() }
    }
}

/// A quantity at each step.
struct Grid {
    level: Vec<f64>,
    /// Highest value within the step.
    high: Vec<f64>,
    /// Changes within the step.
    changes: Vec<f64>,
    /// Steps since it was last above 0.
    since: Vec<f64>,
    sums: Vec<f64>,
    squares: Vec<f64>,
    change_sums: Vec<f64>,
}

impl Grid {
    /// `points` that count until a step's end, that end included. Before anything was told of a quantity, it is what is told
    /// first, and a happening has not been.
    fn new(points: &[(i64, f64)], is_happening: bool, (from, to): (i64, i64)) -> Self {
        let steps = usize::try_from((to - from) / STEP_MS).unwrap_or(0) + 1;
        let mut grid = Self {
            level: Vec::with_capacity(steps),
            high: Vec::with_capacity(steps),
            changes: Vec::with_capacity(steps),
            since: Vec::with_capacity(steps),
            sums: vec![0.0],
            squares: vec![0.0],
            change_sums: vec![0.0],
        };
        let mut points = points.iter().peekable();
        let mut level = points.peek().filter(|_| !is_happening).map_or(0.0, |(_, x)| *x);
        let (mut since, mut sum, mut square, mut changed) = (LONG_AGO, 0.0, 0.0, 0.0);
        let mut end = from;
        for _ in 0..steps {
            let (mut high, mut changes) = (level, 0.0);
            while let Some((_, x)) = points.next_if(|(time, _)| *time <= end) {
                changes += f64::from(u8::from(*x != level));
                level = *x;
                high = f64::max(high, level);
            }
            since = if high > 0.0 { 0.0 } else { (since + 1.0).min(LONG_AGO) };
            sum += level;
            square += level * level;
            changed += changes;
            grid.level.push(level);
            grid.high.push(high);
            grid.changes.push(changes);
            grid.since.push(since);
            grid.sums.push(sum);
            grid.squares.push(square);
            grid.change_sums.push(changed);
            end += STEP_MS;
        }
        grid
    }

    fn at(list: &[f64], step: usize) -> f64 {
        list.get(step).or(list.last()).copied().unwrap_or(0.0)
    }

    /// Sum over the `back` steps up to and with `step`.
    fn sum(list: &[f64], step: usize, back: usize) -> f64 {
        Self::at(list, step + 1) - Self::at(list, (step + 1).saturating_sub(back))
    }

    fn mean(&self, step: usize, back: usize) -> f64 {
        Self::sum(&self.sums, step, back) / back.min(step + 1) as f64
    }

    fn deviation(&self, step: usize, back: usize) -> f64 {
        let mean = self.mean(step, back);
        (Self::sum(&self.squares, step, back) / back.min(step + 1) as f64 - mean * mean).max(0.0).sqrt()
    }

    fn moved(&self, step: usize, back: usize) -> f64 {
        Self::at(&self.level, step) - Self::at(&self.level, step.saturating_sub(back))
    }

    /// Numbers of a quantity, with their names.
    fn numbers(&self, step: usize) -> Vec<(&'static str, f64)> {
        let moved = BACK.map(|back| self.moved(step, back));
        let [m15, m30, m60, m120] = moved;
        vec![
            ("value", Self::at(&self.level, step)),
            ("moved_15", m15),
            ("moved_30", m30),
            ("moved_60", m60),
            ("moved_120", m120),
            ("mean_60", self.mean(step, HOUR)),
            ("deviation_60", self.deviation(step, HOUR)),
            ("deviation_120", self.deviation(step, 2 * HOUR)),
            ("day", self.mean(step, DAY)),
            ("deviation_day", self.deviation(step, DAY)),
            ("changes_day", Self::sum(&self.change_sums, step, DAY).ln_1p()),
        ]
    }

    /// Numbers of what is on or off.
    fn happenings(&self, step: usize) -> Vec<(&'static str, f64)> {
        let changes = BACK.map(|back| Self::sum(&self.change_sums, step, back).ln_1p());
        let [c15, c30, c60, c120] = changes;
        vec![
            ("value", Self::at(&self.level, step)),
            ("high", Self::at(&self.high, step)),
            ("changes_15", c15),
            ("changes_30", c30),
            ("changes_60", c60),
            ("changes_120", c120),
            ("share_60", self.mean(step, HOUR)),
            ("since", Self::at(&self.since, step).ln_1p()),
            ("changes_day", Self::sum(&self.change_sums, step, DAY).ln_1p()),
            ("share_day", self.mean(step, DAY)),
        ]
    }
}

impl Seen {
    fn step(&self, at: i64) -> usize {
        usize::try_from((at - self.span.0).div_euclid(STEP_MS)).unwrap_or(0)
    }

    /// What a partner knows without being told anything of the home: the clock, and when it commanded.
    pub fn prior(&self, times: &[i64], local: &dyn Fn(i64) -> Local) -> Features {
        let mut features = Features { names: Vec::new(), rows: vec![Vec::new(); times.len()] };
        let turn = |at: i64| std::f64::consts::TAU * f64::from(local(at).minute) / 1440.0;
        let column = |of: &dyn Fn(i64) -> f64| times.iter().map(|t| of(*t)).collect::<Vec<f64>>();
        for (name, of) in [
            ("sin", &(|t| turn(t).sin()) as &dyn Fn(i64) -> f64),
            ("cos", &|t| turn(t).cos()),
            ("sin_2", &|t| (2.0 * turn(t)).sin()),
            ("cos_2", &|t| (2.0 * turn(t)).cos()),
            ("weekend", &|t| f64::from(u8::from(local(t).weekend))),
        ] {
            features.add(format!("clock/{name}"), column(of));
        }
        if !self.commands.is_empty() {
            let points: Vec<(i64, f64)> = self.commands.iter().flat_map(|t| [(*t, 1.0), (*t, 0.0)]).collect();
            let grid = Grid::new(&points, true, self.span);
            self.add_all(&mut features, "commands", times, |step| grid.happenings(step));
        }
        features
    }

    fn add_all(
        &self,
        features: &mut Features,
        name: &str,
        times: &[i64],
        of: impl Fn(usize) -> Vec<(&'static str, f64)>,
    ) {
        let rows: Vec<Vec<(&'static str, f64)>> = times.iter().map(|t| of(self.step(*t))).collect();
        features.names.extend(rows.first().into_iter().flatten().map(|(part, _)| format!("{name}/{part}")));
        features.rows.iter_mut().zip(rows).for_each(|(row, more)| row.extend(more.into_iter().map(|(_, x)| x)));
    }

    /// The prior, and all that was told: device by device, property by property over all devices, and all happenings together;
    /// and the messages, when and how long.
    pub fn features(&self, times: &[i64], local: &dyn Fn(i64) -> Local) -> Features {
        let mut features = self.prior(times, local);
        let grids: Vec<Grid> = self.series.iter().map(|s| Grid::new(&s.points, s.is_binary, self.span)).collect();
        for (series, grid) in self.series.iter().zip(&grids) {
            let name = format!("{}/{}", series.device, series.property);
            let is_binary = series.is_binary;
            self.add_all(&mut features, &name, times, |step| {
                if is_binary { grid.happenings(step) } else { grid.numbers(step) }
            });
        }
        let mut properties: Vec<(&str, bool)> =
            self.series.iter().map(|s| (s.property.as_str(), s.is_binary)).collect();
        properties.sort_unstable();
        properties.dedup();
        for (property, is_binary) in properties {
            let of: Vec<&Grid> =
                self.series.iter().zip(&grids).filter(|(s, _)| s.property == property).map(|(_, g)| g).collect();
            self.add_all(&mut features, &format!("all/{property}"), times, |step| together(&of, step, is_binary));
        }
        let happens: Vec<&Grid> = self.series.iter().zip(&grids).filter(|(s, _)| s.is_binary).map(|(_, g)| g).collect();
        if !happens.is_empty() {
            self.add_all(&mut features, "all/happenings", times, |step| together(&happens, step, true));
        }
        let counts: Vec<(i64, f64)> = self.messages.iter().flat_map(|(t, _)| [(*t, 1.0), (*t, 0.0)]).collect();
        let counts = Grid::new(&counts, true, self.span);
        self.add_all(&mut features, "messages", times, |step| counts.happenings(step));
        let bytes: Vec<(i64, f64)> = self.messages.iter().map(|(t, bytes)| (*t, f64::from(*bytes))).collect();
        let bytes = Grid::new(&bytes, false, self.span);
        self.add_all(&mut features, "bytes", times, |step| bytes.numbers(step));
        features
    }
}

/// The same numbers over several devices: the mean, of the time since something happened the least.
fn together(grids: &[&Grid], step: usize, is_binary: bool) -> Vec<(&'static str, f64)> {
    let mut all: Vec<(&'static str, f64)> = Vec::new();
    for grid in grids {
        let numbers = if is_binary { grid.happenings(step) } else { grid.numbers(step) };
        if all.is_empty() {
            all = numbers;
            continue;
        }
        for ((name, sum), (_, x)) in all.iter_mut().zip(numbers) {
            *sum = if *name == "since" { f64::min(*sum, x) } else { *sum + x };
        }
    }
    let count = grids.len().max(1) as f64;
    all.into_iter().map(|(name, sum)| (name, if name == "since" { sum } else { sum / count })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_moves_and_a_happening_is_so_long_ago() {
        let minutes = |m: i64| m * 60_000;
        let seen = Seen {
            span: (0, minutes(600)),
            series: vec![
                Series {
                    device: "t".into(),
                    property: "temperature".into(),
                    is_binary: false,
                    points: vec![(0, 20.0), (minutes(100), 21.0)],
                },
                Series {
                    device: "m".into(),
                    property: "motion".into(),
                    is_binary: true,
                    points: vec![(minutes(42), 1.0), (minutes(43), 0.0)],
                },
            ],
            ..Seen::default()
        };
        let local = |at: i64| Local { day: 0, minute: (at / 60_000) as i32, weekend: false };
        let features = seen.features(&[minutes(30), minutes(105)], &local);
        let of = |name: &str| {
            let at = features.names.iter().position(|n| n == name).unwrap_or_else(|| panic!("{name}"));
            features.rows.iter().map(|row| row[at]).collect::<Vec<f64>>()
        };
        assert_eq!(of("t/temperature/value"), [20.0, 21.0]);
        assert_eq!(of("t/temperature/moved_15"), [0.0, 1.0]);
        assert_eq!(of("t/temperature/moved_120"), [0.0, 1.0]);
        assert_eq!(of("m/motion/changes_120"), [0.0, 2f64.ln_1p()]);
        assert_eq!(of("m/motion/since")[1], 12f64.ln_1p());
        assert_eq!(of("all/motion/since"), of("m/motion/since"));
        assert!(features.rows.iter().all(|row| row.len() == features.names.len()));
        // What comes later is not known yet.
        let before = Seen {
            series: seen.series.iter().map(|s| Series { points: s.points[..1].to_vec(), ..s.clone() }).collect(),
            ..seen.clone()
        };
        assert_eq!(before.features(&[minutes(30)], &local).rows, seen.features(&[minutes(30)], &local).rows);
    }
}

//! Pairs of lives: what the link may know is equal, the rest is not, and the wire must not tell them apart.

use std::collections::BTreeSet;
use std::iter::{Enumerate, Peekable};
use std::slice::Iter;

use model::Rung;
use testkit::released::{Event, Fact, Released, View, Wish};

use crate::leaks::Leak;
use crate::rng::Rng;
use crate::run::{Asked, Life, Message, clock_text, live};
use crate::standing::stood;
use crate::story::{Fault, Step, Story, Timeline, Withheld};
use crate::world::{self, HOUR, midnights};

/// How often the home is changed for the second life of a pair: in groups, that are taken or left together, and one by one.
const GROUPS: [usize; 7] = [4, 3, 3, 1, 1, 1, 1];

/// So long after its beginning a fault counts for what is asked: none lasts longer than 40 minutes, and then a quarter of an hour
/// may pass until it shows.
const FAULT_COUNTS: i64 = HOUR;

/// What became of a pair.
pub enum Verdict {
    /// Equal view, equal wire; with what differed behind it, and the rungs at which something was told.
    Equal(Vec<(Withheld, Message, Fault)>, BTreeSet<Rung>),
    /// The view differs before the wire does (or nothing differs): this pair says nothing.
    NotAPair,
    /// Equal view, and the wire tells the lives apart.
    Leak(String),
}

/// The view at each question of a life.
fn views(life: &Life) -> Vec<View> {
    let mut released = Released::new(midnights());
    life.events.iter().filter_map(|(now, event)| released.step(*now, event)).collect()
}

/// Whether a changed story, with the same moves of the partner, has the same view. It is not lived for that.
fn same_view(story: &Story, timeline: &Timeline, life: &Life, wanted: &[View]) -> bool {
    let mut released = Released::new(midnights());
    let world = story.world();
    let mut present = BTreeSet::new();
    let mut weather = (true, true);
    if world.reports {
        released.step(timeline.at(0), &Event::Reports);
    }
    let mut asked = life.asked.iter().enumerate().peekable();
    let mut expiries = timeline.expiries.iter().peekable();
    // What became of its commands is told in between.
    let told = |released: &mut Released, asked: &mut Peekable<Enumerate<Iter<'_, Asked>>>, until: i64| {
        let is_due = |(_, a): &(usize, &Asked)| a.message == Message::Outcome && a.at <= until;
        std::iter::from_fn(|| asked.next_if(is_due)).all(|(n, outcome)| {
            let (now, event) = &life.events[outcome.event];
            released.step(*now, event).as_ref() == wanted.get(n)
        })
    };
    for step in &story.steps {
        while let Some((at, now)) = expiries.next_if(|(at, _)| *at <= step.at) {
            if !told(&mut released, &mut asked, *at) {
                return false;
            }
            released.step(*now, &Event::Beat);
        }
        use crate::story::{Home, Public, What};
        if !told(&mut released, &mut asked, step.at) {
            return false;
        }
        let now = timeline.at(step.at);
        let event = match &step.what {
            What::Home(Home::Reading(index, property, value)) if present.contains(index) => {
                Event::Reading(world::UNIVERSE[*index].id.clone(), *property, value.clone())
            }
            What::Home(Home::Describe(index, n)) => {
                present.insert(*index);
                let shape = world::shape(&crate::run::described(*index, *n));
                Event::Described(world::UNIVERSE[*index].id.clone(), shape)
            }
            What::Home(Home::Without(index, property)) => {
                present.insert(*index);
                let shape = world::shape(&crate::run::described_without(*index, *property));
                Event::Described(world::UNIVERSE[*index].id.clone(), shape)
            }
            What::Home(Home::Withdraw(index)) => Event::Withdrawn(world::UNIVERSE[*index].id.clone()),
            What::Public(Public::Grants(phase)) => Event::Grants(world.phases[*phase].clone()),
            What::Home(Home::OtherAdjusts(index, by)) => {
                let device = world::UNIVERSE[*index].id.clone();
                Event::OtherCommand(device, Wish::Warmer(*by), weather)
            }
            What::Public(Public::Broker(up)) => {
                weather.0 = *up;
                continue;
            }
            What::Public(Public::Recorder(up)) => {
                weather.1 = *up;
                continue;
            }
            What::Public(Public::Round) if timeline.is_behind(step.at) => continue,
            What::Public(Public::Move | Public::MoveWhile(_) | Public::Round) => {
                let Some((n, asked)) = asked.next() else { return false };
                let event = &life.events[asked.event].1;
                if released.step(now, event).as_ref() != wanted.get(n) {
                    return false;
                }
                match &step.what {
                    What::Public(Public::MoveWhile(phase)) if !matches!(event, Event::CommandWhile(..)) => {
                        Event::Grants(world.phases[*phase].clone())
                    }
                    _ => continue,
                }
            }
            _ => continue,
        };
        released.step(now, &event);
    }
    told(&mut released, &mut asked, i64::MAX)
}

/// Whether what the gate gave out is what the view says, and no more.
pub fn check_view(life: &Life, views: &[View]) -> Result<(), String> {
    for (asked, view) in life.asked.iter().zip(views) {
        let mut given: Vec<Fact> = facts(asked);
        let mut known = view.facts.clone();
        given.sort();
        known.sort();
        let (now, _) = life.events[asked.event];
        let told = match asked.message {
            Message::ReportState if asked.found => given == known,
            Message::ReportState => true,
            // What became of a command, and what was told with it, follows from the view.
            _ if asked.handed.is_some() && asked.handed != view.handed => {
                let left = asked.frames.checked_sub(1).and_then(|n| life.frames.get(n));
                return Err(format!(
                    "at {} {:?}: answered as handed over {:?}, by the view {:?}\n{known:#?}\n{}",
                    clock_text(now),
                    life.events[asked.event].1,
                    asked.handed,
                    view.handed,
                    left.map_or("nothing left".into(), |frame| String::from_utf8_lossy(&frame.body))
                ));
            }
            _ if asked.handed == Some(true) => given == known,
            _ => given.iter().all(|f| known.contains(f)),
        };
        if !told {
            return Err(format!(
                "at {} {:?}: the gate gave\n{given:#?}\nand the view is\n{known:#?}",
                clock_text(now),
                asked.message
            ));
        }
    }
    Ok(())
}

fn facts(asked: &Asked) -> Vec<Fact> {
    let given = asked.given.iter().filter(|d| !d.property().is_metadata());
    given.map(|d| Fact { property: d.property(), value: d.value().clone(), time: d.time(), rung: d.rung() }).collect()
}

/// The first frame in which two lives differ.
fn difference(a: &Life, b: &Life) -> Option<usize> {
    let both = a.frames.iter().zip(&b.frames);
    let first = both.enumerate().find(|(_, (x, y))| x != y).map(|(i, _)| i);
    let shorter = a.frames.len().min(b.frames.len());
    first.or((a.frames.len() != b.frames.len()).then_some(shorter))
}

/// Lives a pair.
pub fn pair(seed: u64, leak: Option<Leak>) -> Verdict {
    let story = Story::new(seed, world::ALL.len());
    let timeline = Timeline::new(&story);
    let one = live(&story, &timeline, leak);
    let view = views(&one);
    if leak.is_none()
        && let Err(problem) = check_view(&one, &view)
    {
        let steps: Vec<String> =
            story.steps.iter().map(|s| format!("{} {:?}", clock_text(timeline.at(s.at)), s.what)).collect();
        return Verdict::Leak(format!("seed {seed}: {problem}\n{steps:#?}"));
    }
    let mut rng = Rng::new(!seed);
    let mut changed = story.clone();
    for group in GROUPS {
        let mut tried = changed.clone();
        let made = (0..group).filter_map(|_| tried.mutate(&mut rng)).count();
        if made > 0 && same_view(&tried, &timeline, &one, &view) {
            changed = tried;
        }
    }
    if changed.steps == story.steps {
        return Verdict::NotAPair;
    }
    let other = live(&changed, &timeline, leak);
    let other_view = views(&other);
    let equal_until = view.iter().zip(&other_view).take_while(|(a, b)| a == b).count();
    match difference(&one, &other) {
        None if equal_until < view.len() => Verdict::NotAPair,
        None => {
            let mut cells = BTreeSet::new();
            for (asked, stood) in one.asked.iter().zip(stood(&one, &other)) {
                let is_near = |s: &&Step| s.at < asked.at && asked.at <= s.at + FAULT_COUNTS;
                let faults = story.steps.iter().filter(is_near).map(|s| s.fault);
                let expired = story.world().expiry <= one.events[asked.event].0;
                let faults: BTreeSet<Fault> =
                    faults.chain([Fault::None]).chain(expired.then_some(Fault::GrantsExpired)).collect();
                for what in stood {
                    for message in &asked.messages {
                        cells.extend(faults.iter().map(|fault| (what, *message, *fault)));
                    }
                }
            }
            let rungs = view.iter().flat_map(|v| &v.facts).map(|fact| fact.rung).collect();
            Verdict::Equal(cells.into_iter().collect(), rungs)
        }
        Some(frame) => {
            // The question during or before which it left: up to it the view must be equal.
            let question = one.asked.iter().position(|a| a.frames > frame).unwrap_or(one.asked.len());
            if equal_until < (question + 1).min(view.len()) {
                return Verdict::NotAPair;
            }
            let text = |life: &Life| {
                life.frames.get(frame).map_or("nothing".into(), |f| {
                    format!("{} {:?} waits {} {}", f.status, f.headers, f.waits, String::from_utf8_lossy(&f.body))
                })
            };
            let kinds: BTreeSet<Withheld> = stood(&one, &other).into_iter().flatten().collect();
            let only = |a: &Story, b: &Story| -> Vec<String> {
                let missing = a.steps.iter().filter(|s| !b.steps.contains(s));
                missing.map(|s| format!("{} {:?}", clock_text(timeline.at(s.at)), s.what)).collect()
            };
            Verdict::Leak(format!(
                "seed {seed} (world {}, {:?}): frame {frame}, question {question} {:?} differs by {kinds:?}\n  one:   {}\n  other: {}\n  \
                 only in one: {:#?}\n  only in the other: {:#?}",
                story.world,
                story.strategy,
                one.asked.get(question).map(|a| a.message),
                text(&one),
                text(&other),
                only(&story, &changed),
                only(&changed, &story),
            ))
        }
    }
}

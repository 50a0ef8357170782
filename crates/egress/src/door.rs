//! Who is in: the connections of one listener, and who has to leave when it is full.
//!
//! Behind a proxy every caller has one address, so no caller is told from another by it. What tells an honest one is that
//! it asks and goes. So nobody is kept waiting outside: a newcomer is let in, and whoever has been quiet for longest has
//! to leave. Who is being answered stays.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How often at most it is said that connections had to leave.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What became of the connections of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorCounts {
    /// Open now.
    pub open: u64,
    /// Taken since the start.
    pub taken: u64,
    /// Cut so that a newcomer could come in, or because a newcomer found all the others being answered.
    pub shed: u64,
    /// Cut because they neither asked nor took their answer for too long.
    pub stalled: u64,
    /// Ended by the caller's breach of the protocol: no HTTP, a header that is too large or too slow.
    pub broken: u64,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct Door {
    name: &'static str,
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Those that may be told to leave, the one that has been quiet for longest first.
    quiet: BTreeMap<u64, Arc<Notify>>,
    answered: usize,
    counts: DoorCounts,
    said: Option<Instant>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Quiet(u64),
    /// Being answered, by so many holders.
    Answered(usize),
    /// It was told to leave.
    Out,
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Seat {
    door: Arc<Door>,
    leave: Arc<Notify>,
    place: Mutex<(Place, Instant)>,
}

/// Keeps a connection from being cut while it is answered.
#[derive(Debug)]
pub(crate) struct Answering(Arc<Seat>);

impl Door {
    /// A listener's door: its name in the log and the metrics, and the most connections at once.
    pub fn new(name: &'static str, most: usize) -> Arc<Self> {
        Arc::new(Self { name, most: most.max(1), inner: Mutex::default() })
    }

    /// The listener's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What became of the connections so far.
    pub fn counts(&self) -> DoorCounts {
        let inner = self.lock();
        DoorCounts { open: (inner.quiet.len() + inner.answered) as u64, ..inner.counts }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in. When it is full, who has been quiet for longest leaves; `None` when all are being answered.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Arc<Seat>> {
        let mut inner = self.lock();
        inner.counts.taken += 1;
        if inner.quiet.len() + inner.answered >= self.most && !self.shed(&mut inner) {
            inner.counts.shed += 1;
            return None;
        }
        let (order, leave) = (inner.next, Arc::new(Notify::new()));
        inner.next += 1;
        inner.quiet.insert(order, Arc::clone(&leave));
        Some(Arc::new(Seat { door: Arc::clone(self), leave, place: Mutex::new((Place::Quiet(order), Instant::now())) }))
    }

    /// Sends out who has been quiet for longest: the system has no more handles.
    pub(crate) fn make_room(&self) {
        let mut inner = self.lock();
        self.shed(&mut inner);
    }

    fn shed(&self, inner: &mut Inner) -> bool {
        let Some((_, leave)) = inner.quiet.pop_first() else { return false };
        leave.notify_one();
        inner.counts.shed += 1;
        let now = Instant::now();
        if inner.said.is_none_or(|at| now.duration_since(at) >= SAY_EVERY) {
            inner.said = Some(now);
            tracing::warn!(
                listener = self.name,
                most = self.most,
                shed = inner.counts.shed,
                "the listener is full: connections that have been quiet for longest are cut"
            );
        }
        true
    }

    pub(crate) fn broken(&self) {
        self.lock().counts.broken += 1;
    }

    pub(crate) fn stalled(&self) {
        self.lock().counts.stalled += 1;
    }
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, (Place, Instant)> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes back when the connection has to leave.
    pub(crate) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// The connection has asked something: it is the one that was quiet for the shortest time.
    pub(crate) fn touch(&self) {
        let mut place = self.lock();
        place.1 = Instant::now();
        let Place::Quiet(order) = place.0 else { return };
        let mut inner = self.door.lock();
        match inner.quiet.remove(&order) {
            Some(leave) => {
                let order = inner.next;
                inner.next += 1;
                inner.quiet.insert(order, leave);
                place.0 = Place::Quiet(order);
            }
            None => place.0 = Place::Out,
        }
    }

    /// Keeps the connection while it is answered; `None` when it was told to leave already: then nothing may be begun.
    pub(crate) fn answering(self: &Arc<Self>) -> Option<Answering> {
        let mut place = self.lock();
        let mut inner = self.door.lock();
        place.0 = match place.0 {
            Place::Quiet(order) if inner.quiet.remove(&order).is_some() => {
                inner.answered += 1;
                Place::Answered(1)
            }
            Place::Answered(n) => Place::Answered(n + 1),
            Place::Quiet(_) | Place::Out => {
                place.0 = Place::Out;
                return None;
            }
        };
        Some(Answering(Arc::clone(self)))
    }

    /// When it will have been quiet for so long; `None` while it is answered.
    pub(crate) fn quiet_until(&self, allowed: Duration) -> Option<Instant> {
        let place = self.lock();
        matches!(place.0, Place::Quiet(_)).then(|| place.1 + allowed)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut place = self.0.lock();
        place.1 = Instant::now();
        let Place::Answered(n) = place.0 else { return };
        if n > 1 {
            place.0 = Place::Answered(n - 1);
            return;
        }
        let mut inner = self.0.door.lock();
        inner.answered = inner.answered.saturating_sub(1);
        let order = inner.next;
        inner.next += 1;
        inner.quiet.insert(order, Arc::clone(&self.0.leave));
        place.0 = Place::Quiet(order);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let place = *self.lock();
        let mut inner = self.door.lock();
        match place.0 {
            Place::Quiet(order) => drop(inner.quiet.remove(&order)),
            Place::Answered(_) => inner.answered = inner.answered.saturating_sub(1),
            Place::Out => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seat: &Seat) -> bool {
        use std::future::Future as _;
        let mut told = std::pin::pin!(seat.told_to_leave());
        told.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn who_has_been_quiet_for_longest_leaves_and_who_is_answered_stays() {
        let door = Door::new("test", 3);
        let [a, b, c] = [door.enter().unwrap(), door.enter().unwrap(), door.enter().unwrap()];
        a.touch();
        let answering = b.answering().unwrap();
        // Order of quietness: c, then a. b is answered.
        let d = door.enter().unwrap();
        assert_eq!([told(&a), told(&b), told(&c), told(&d)], [false, false, true, false]);
        let e = door.enter().unwrap();
        assert_eq!([told(&a), told(&b), told(&d), told(&e)], [true, false, false, false]);
        assert!(a.answering().is_none(), "what has to leave begins nothing");
        drop(answering);
        // b has just been answered: it is the youngest of the quiet ones.
        let f = door.enter().unwrap();
        assert_eq!([told(&b), told(&d), told(&e), told(&f)], [false, true, false, false]);
        assert_eq!(door.counts(), DoorCounts { open: 3, taken: 6, shed: 3, ..DoorCounts::default() });
        drop((a, b, c, d, e, f));
        assert_eq!(door.counts().open, 0);
    }

    #[test]
    fn a_newcomer_is_turned_away_only_when_all_are_answered() {
        let door = Door::new("test", 2);
        let seats = [door.enter().unwrap(), door.enter().unwrap()];
        let held: Vec<Answering> = seats.iter().map(|s| s.answering().unwrap()).collect();
        let again = seats[0].answering().unwrap();
        assert!(door.enter().is_none());
        drop(held);
        // One of them is answered still: a second request of its connection.
        assert!(door.enter().is_some());
        assert_eq!([told(&seats[0]), told(&seats[1])], [false, true]);
        drop(again);
        assert_eq!(door.counts().open, 1);
    }
}

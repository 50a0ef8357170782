//! A directive that comes twice acts once, and is answered twice.
//!
//! Partners send again what they believe was lost. What a message was about, and how it ended, is remembered for a while
//! under the link and the partner's own id of the message. It is kept in memory alone: a directive that is repeated
//! across a restart of the hub acts again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use disclosure::{ActError, Command};
use home::Desired;
use model::{DeviceId, LinkId, Timestamp};

use crate::session::lock;
use crate::state::GateState;

/// How long a message is remembered. Amazon gives up after 8 seconds, and a relay's retries end within minutes.
pub const ONCE_WINDOW_MS: i64 = 5 * 60_000;

/// Most messages remembered of one link; the oldest goes first, and is counted.
pub const ONCE_PER_LINK_MAX: usize = 256;

/// How a command ended: what the device was asked to become, or why not.
pub(crate) type Ended = Result<Vec<Desired>, ActError>;

#[derive(Debug)]
enum Stage {
    /// The first one is still on its way: who waits for it.
    UnderWay(Vec<Waker>),
    Ended(Ended),
}

#[derive(Debug)]
struct Entry {
    request: String,
    device: DeviceId,
    command: Command,
    time: Timestamp,
    stage: Stage,
}

/// What came lately, by link.
#[derive(Debug, Default)]
pub(crate) struct Lately {
    links: BTreeMap<LinkId, VecDeque<Entry>>,
    forgotten: u64,
}

impl Lately {
    /// Messages that were forgotten before their time, because a link sent too many.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn entry(&mut self, link: &LinkId, request: &str) -> Option<&mut Entry> {
        self.links.get_mut(link)?.iter_mut().find(|e| e.request == request)
    }

    fn begin(&mut self, link: &LinkId, entry: Entry) {
        let entries = self.links.entry(link.clone()).or_default();
        while entries.front().is_some_and(|e| e.time.plus_millis(ONCE_WINDOW_MS) < entry.time) {
            entries.pop_front();
        }
        if entries.len() >= ONCE_PER_LINK_MAX {
            wake(entries.pop_front());
            self.forgotten += 1;
        }
        entries.push_back(entry);
    }
}

fn wake(entry: Option<Entry>) {
    if let Some(Entry { stage: Stage::UnderWay(waiting), .. }) = entry {
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// Whether a command is the first of its message.
pub(crate) enum Once {
    /// It is: to be carried out, and to be told how it ended.
    First(First),
    /// It came before, at this time, and ended so.
    Again(Ended, Timestamp),
}

/// The first of its message. If it is dropped without a word (whoever asked hung up), it counts as handed over: rather
/// not at all than twice.
pub(crate) struct First {
    state: Arc<Mutex<GateState>>,
    key: Option<(LinkId, String)>,
}

impl First {
    /// How it ended.
    pub(crate) fn ended(mut self, ended: Ended) {
        self.end(ended);
    }

    fn end(&mut self, ended: Ended) {
        let Some((link, request)) = self.key.take() else { return };
        let mut state = lock(&self.state);
        let Some(entry) = state.lately.entry(&link, &request) else { return };
        if let Stage::UnderWay(waiting) = std::mem::replace(&mut entry.stage, Stage::Ended(ended)) {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.end(Ok(Vec::new()));
    }
}

/// Notes a command, or waits for the end of the one that it repeats. One without an id, or that uses the id of another
/// command again, is always a first.
pub(crate) async fn once(
    shared: &Arc<Mutex<GateState>>,
    link: &LinkId,
    request: Option<&str>,
    (device, command): (&DeviceId, &Command),
    now: Timestamp,
) -> Once {
    let nobody = || Once::First(First { state: Arc::clone(shared), key: None });
    let Some(request) = request else { return nobody() };
    std::future::poll_fn(|context| {
        let mut state = lock(shared);
        if let Some(entry) = state.lately.entry(link, request)
            && entry.time.plus_millis(ONCE_WINDOW_MS) >= now
        {
            if entry.device != *device || entry.command != *command {
                return Poll::Ready(nobody());
            }
            return match &mut entry.stage {
                Stage::Ended(ended) => Poll::Ready(Once::Again(ended.clone(), entry.time)),
                Stage::UnderWay(waiting) => {
                    waiting.push(context.waker().clone());
                    Poll::Pending
                }
            };
        }
        let (request, device, command) = (request.to_owned(), device.clone(), command.clone());
        let key = Some((link.clone(), request.clone()));
        state.lately.begin(link, Entry { request, device, command, time: now, stage: Stage::UnderWay(Vec::new()) });
        Poll::Ready(Once::First(First { state: Arc::clone(shared), key }))
    })
    .await
}

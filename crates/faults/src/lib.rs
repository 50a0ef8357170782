//! Named points at which a test makes the program fail, wait or die: before a commit, after it, in the middle of an answer.
//!
//! They are there only in builds with debug assertions. In a release build [`at`] is empty, and the names of the points
//! are not in the binary: `cargo xtask soak` looks for them there.
//!
//! A test names a file in the variable `VESTIBULE_FAULTS` of the program's environment. Each line of it arms one point:
//!
//! ```text
//! POINT ACTION FROM TIMES
//! ```
//!
//! The point acts when it is reached for the FROM-th time since the file changed, and TIMES times from there on (0: for
//! ever). Actions are `fail` (what the point stands before or behind is told as failed), `kill` (SIGKILL to itself, so that
//! nothing is flushed and nothing is dropped) and `wait:MILLISECONDS` (a slow disk). Each time a point acts, its name is
//! appended, as one line, to the file of the same name with `.hit` after it.

/// A test made this point fail.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a test made this fail")]
pub struct Fault;

/// Every point. A test reaches each of them.
#[cfg(debug_assertions)]
pub const POINTS: &[&str] = &[
    RECORD_BEFORE,
    RECORD_AFTER,
    RECORD_ANSWER,
    ERASE_BEFORE,
    ERASE_AFTER,
    ERASE_LOG,
    HISTORY_BEFORE,
    HISTORY_AFTER,
    ANSWER_BEGINS,
    ANSWER_BODY,
    ANSWER_SENT,
    COMMAND_RECORDED,
    GRANTS_NARROWED,
    GRANTS_RECORDED,
    TABLE_COMPILED,
    EVENT_RECORDED,
    EVENT_SENT,
];

/// A transaction of the record has been written, not committed.
pub const RECORD_BEFORE: &str = "record-before-commit";
/// It has been committed, and nobody knows yet.
pub const RECORD_AFTER: &str = "record-after-commit";
/// The receipts are about to be handed out.
pub const RECORD_ANSWER: &str = "record-before-receipt";
/// Bodies are about to be erased.
pub const ERASE_BEFORE: &str = "erase-before";
/// They are erased; they may still stand in the write-ahead log.
pub const ERASE_AFTER: &str = "erase-after";
/// The write-ahead log is about to be emptied.
pub const ERASE_LOG: &str = "erase-before-log";
/// A transaction of the history has been written, not committed.
pub const HISTORY_BEFORE: &str = "history-before-commit";
/// It has been committed.
pub const HISTORY_AFTER: &str = "history-after-commit";
/// An answer has its receipt, and no byte of it has left.
pub const ANSWER_BEGINS: &str = "answer-begins";
/// Its header is made; the body is handed to the connection.
pub const ANSWER_BODY: &str = "answer-body";
/// The connection has taken it; its outcome is not noted yet.
pub const ANSWER_SENT: &str = "answer-sent";
/// A command is recorded, and the broker does not have it yet.
pub const COMMAND_RECORDED: &str = "command-recorded";
/// Grants are taken back in memory, and this is not recorded yet.
pub const GRANTS_NARROWED: &str = "grants-narrowed";
/// A change of grants is recorded, and not in force yet.
pub const GRANTS_RECORDED: &str = "grants-recorded";
/// What goes to a partner unasked is recorded, and no byte of it has left.
pub const EVENT_RECORDED: &str = "event-recorded";
/// The partner has answered; neither the outcome is noted nor what it took is stored.
pub const EVENT_SENT: &str = "event-sent";
/// A new decision table is compiled, and not in force yet.
pub const TABLE_COMPILED: &str = "table-compiled";

/// Passes a point.
///
/// # Errors
/// When a test wants it to fail.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn at(_point: &'static str) -> Result<(), Fault> {
    Ok(())
}

/// Passes a point.
///
/// # Errors
/// When a test wants it to fail.
#[cfg(debug_assertions)]
pub fn at(point: &'static str) -> Result<(), Fault> {
    armed::at(point)
}

/// Passes a point that can't fail: to be failed there means nothing, to wait or die there does.
#[inline(always)]
pub fn pass(point: &'static str) {
    let _cannot_fail = at(point);
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use super::Fault;

    const VARIABLE: &str = "VESTIBULE_FAULTS";

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Fail,
        Kill,
        Wait(u64),
    }

    #[derive(Debug, Default)]
    pub(super) struct Plan {
        text: String,
        reached: BTreeMap<String, u64>,
    }

    impl Plan {
        /// What a point does, by the words of the plan; they count anew when they have changed.
        pub(super) fn reach(&mut self, text: &str, point: &str) -> Option<Action> {
            if self.text != text {
                self.text = text.to_owned();
                self.reached.clear();
            }
            let reached = self.reached.entry(point.to_owned()).or_default();
            *reached += 1;
            let reached = *reached;
            text.lines().find_map(|line| {
                let mut words = line.split_whitespace();
                let (name, action) = (words.next()?, words.next()?);
                let from: u64 = words.next()?.parse().ok()?;
                let times: u64 = words.next()?.parse().ok()?;
                let due = name == point && reached >= from && (times == 0 || reached < from.saturating_add(times));
                due.then_some(match action.strip_prefix("wait:") {
                    Some(millis) => Action::Wait(millis.parse().ok()?),
                    None if action == "kill" => Action::Kill,
                    None => Action::Fail,
                })
            })
        }
    }

    pub(super) fn at(point: &'static str) -> Result<(), Fault> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        static PLAN: Mutex<Option<Plan>> = Mutex::new(None);
        let Some(file) = FILE.get_or_init(|| std::env::var_os(VARIABLE).map(PathBuf::from)) else { return Ok(()) };
        let Ok(text) = std::fs::read_to_string(file) else { return Ok(()) };
        let action = {
            let mut plan = PLAN.lock().unwrap_or_else(PoisonError::into_inner);
            plan.get_or_insert_default().reach(&text, point)
        };
        let Some(action) = action else { return Ok(()) };
        tell(file, point);
        match action {
            Action::Fail => Err(Fault),
            Action::Wait(millis) => {
                std::thread::sleep(Duration::from_millis(millis));
                Ok(())
            }
            Action::Kill => {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                // The signal has come before the call is back. If there is none, this is as sudden.
                std::process::abort()
            }
        }
    }

    fn tell(file: &Path, point: &str) {
        let mut name = file.as_os_str().to_owned();
        name.push(".hit");
        if let Ok(mut hits) = std::fs::OpenOptions::new().create(true).append(true).open(name) {
            let _ = hits.write_all(format!("{point}\n").as_bytes());
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::{Action, Plan};
    use super::*;

    #[test]
    fn a_point_acts_from_its_turn_on_as_often_as_told_and_counts_anew_with_new_words() {
        let mut plan = Plan::default();
        let mut acts = |text: &str, times: usize| -> Vec<usize> {
            (1..=times).filter(|_| plan.reach(text, "a").is_some()).collect()
        };
        assert_eq!(acts("a fail 2 2", 5), [2, 3]);
        assert_eq!(acts("a fail 3 0", 5), [3, 4, 5]);
        assert!(acts("b fail 1 0\nnonsense\na fail x 1", 5).is_empty());
        let mut plan = Plan::default();
        assert_eq!(plan.reach("a wait:7 1 1", "a"), Some(Action::Wait(7)));
        assert_eq!(plan.reach("a kill 1 1", "a"), Some(Action::Kill));
        assert_eq!(plan.reach("", "a"), None);
    }

    #[test]
    fn points_have_names_of_their_own_and_without_a_plan_nothing_happens() {
        let distinct: std::collections::BTreeSet<_> = POINTS.iter().collect();
        assert_eq!(distinct.len(), POINTS.len());
        assert!(POINTS.iter().all(|point| at(point).is_ok()));
    }
}

//! `vestibule grant ...` and `vestibule policy ...`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use model::{ALL_PROPERTIES, ALL_RUNGS, ALL_TRIGGERS, DeviceId, GrantId, Kind, Property, Rung, Trigger};
use policy::{Action, Code, Hours, Name};
use serde_json::Value;

use super::{DataArgs, Failure, ShowArgs, ask, id, listing, print, print_json, table, text};
use crate::commands::{Doing, GrantSelection, GrantWish, Request};

/// Messages of a link that are printed; the rest is counted.
const MESSAGES_SHOWN_MAX: usize = 40;

/// To command, as people say it where policies say `control`.
const COMMAND: &str = "command";

/// Changes that are printed; the rest is counted.
const SHOWN_MAX: usize = 200;

#[derive(Subcommand)]
pub(super) enum PolicyCmd {
    /// Show the whole matrix: link, device, property, and what each trigger may tell
    Show(ShowArgs),
    /// Say why a partner is told a property, or may command it, or not, and what would change it
    Explain {
        /// The partner, or the id of one of its links
        partner: String,
        /// The property, as in local_temperature
        #[arg(value_parser = property)]
        property: Property,
        /// Only for this reason: discovery, directive_response, partner_poll or proactive_report; or what it may do: command, or
        /// open (to unlock or open)
        #[arg(value_parser = action)]
        trigger: Option<Action>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Say what works at a partner under the grants in force, what does not, and how well that is known
    Impact {
        /// Only at this partner or link
        link: Option<String>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Show what the grants of a file would newly let through, and what they would stop
    Diff {
        /// Grants as `policy export` writes them (- for standard input)
        file: PathBuf,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Show what each link would have been sent over days of the home's own history: the messages, and how many of them
    Simulate {
        /// From this day, or moment, on: 2026-11-20, or 2026-11-20T08:00:00Z
        #[arg(long, value_name = "T")]
        from: String,
        /// Up to this day, or moment; itself it no longer counts
        #[arg(long, value_name = "T")]
        to: String,
        /// Under the grants of a file that `policy export` wrote, in place of those in force (- for standard input)
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// How often each device is asked for, in minutes
        #[arg(long, value_name = "MINUTES", default_value_t = exposure::POLL_MINUTES, value_parser = clap::value_parser!(u16).range(1..=1440))]
        every: u16,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Write all grants as a file: JSON, or Cedar text with --cedar
    Export {
        /// Where to (standard output if not given)
        file: Option<PathBuf>,
        /// Cedar text
        #[arg(long)]
        cedar: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Put the grants of a file in the place of those in force: shows the difference, then asks
    Import {
        /// Grants as `policy export` writes them (- for standard input)
        file: PathBuf,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        show: ShowArgs,
    },
}

#[derive(Subcommand)]
pub(super) enum GrantCmd {
    /// Grant a property to a link: shows what it lets through, then asks
    Add {
        /// The link, or the partner if it has one link
        link: String,
        /// The property, as in local_temperature
        #[arg(value_parser = property)]
        property: Property,
        /// Only of this device (of every device that has the property if not given)
        #[arg(long)]
        device: Option<String>,
        /// Only of the devices that are in this room now; one that comes into it later is not among them
        #[arg(long)]
        room: Option<String>,
        /// Only where it is of this kind, as in comfort
        #[arg(long, value_parser = kind)]
        kind: Option<Kind>,
        /// To be told for this reason (may be repeated)
        #[arg(long = "trigger", value_name = "TRIGGER", value_parser = trigger)]
        triggers: Vec<Trigger>,
        /// How fine and how fresh at most: live, quarter_hour, hour, hour_coarse, quarter_day_coarse or
        /// day_coarse
        #[arg(long, default_value = "hour_coarse", value_parser = rung)]
        rung: Rung,
        /// To be commanded
        #[arg(long)]
        control: bool,
        /// To be unlocked or opened: with the link's PIN (`vestibule pin set`), or as --partner-code says
        #[arg(long)]
        open: bool,
        /// Commands only with the link's PIN
        #[arg(long, conflicts_with = "partner_code")]
        pin: bool,
        /// Commands once the partner has asked for a code of its own, as Alexa does before it unlocks or opens: the hub can't
        /// see that, and takes its word
        #[arg(long)]
        partner_code: bool,
        /// For how many days (180 if not given; 30 for what is sent unasked)
        #[arg(long)]
        days: Option<u16>,
        /// Only within these hours by the home's clock, as in "mon-fri 06:30-08:00" (may be repeated)
        #[arg(long)]
        hours: Vec<Hours>,
        /// Only while this window is open (see `vestibule window`)
        #[arg(long)]
        window: Option<Name>,
        /// For this routine of the partner: what `grant list` says and `grant revoke --routine` takes back
        #[arg(long)]
        routine: Option<Name>,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List the grants
    List {
        /// Only of this partner or link
        #[arg(long)]
        link: Option<String>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Take grants back: in force at once
    Revoke {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Agree, as an owner, to grants that wait: they take force once every owner has
    Confirm {
        #[command(flatten)]
        which: Which,
        /// Who: the password is asked for, or read from standard input
        #[arg(long, value_name = "NAME")]
        member: String,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Let grants last as long again, counted from now
    Renew {
        #[command(flatten)]
        which: Which,
        /// For how many days (as long as such a grant may last if not given)
        #[arg(long)]
        days: Option<u16>,
        #[command(flatten)]
        show: ShowArgs,
    },
}

/// Whether to do what was shown.
#[derive(Args)]
pub(super) struct Consent {
    /// Don't ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only show the difference
    #[arg(long)]
    dry_run: bool,
    /// In this member's name: the password is asked for, or read from standard input
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
}

/// Which grants.
#[derive(Args)]
pub(super) struct Which {
    /// Their ids (see `vestibule grant list`)
    ids: Vec<String>,
    /// All of this partner or link
    #[arg(long)]
    link: Option<String>,
    /// All for this routine
    #[arg(long)]
    routine: Option<Name>,
    /// All of this device
    #[arg(long)]
    device: Option<String>,
    /// All of the devices that are in this room now
    #[arg(long)]
    room: Option<String>,
    /// All of this property
    #[arg(long, value_parser = property)]
    property: Option<Property>,
}

impl Which {
    fn selection(self) -> Result<GrantSelection, Failure> {
        Ok(GrantSelection {
            ids: self.ids.into_iter().map(|g| id(GrantId::new(g))).collect::<Result<_, _>>()?,
            link: self.link,
            routine: self.routine,
            device: self.device.map(|d| id(DeviceId::new(d))).transpose()?,
            room: self.room,
            property: self.property,
        })
    }
}

fn named<T: Copy>(what: &str, all: &[T], text: &str, name: impl Fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|t| name(*t) == text).ok_or_else(|| {
        let all: Vec<&str> = all.iter().map(|t| name(*t)).collect();
        format!("there is no such {what}; there are {}", all.join(", "))
    })
}

fn property(text: &str) -> Result<Property, String> {
    named("property", ALL_PROPERTIES, text, Property::as_str)
}

fn kind(text: &str) -> Result<Kind, String> {
    named("kind", &Kind::ALL, text, Kind::as_str)
}

fn trigger(text: &str) -> Result<Trigger, String> {
    named("trigger", &ALL_TRIGGERS, text, Trigger::as_str)
}

/// A trigger, or what may be done.
fn action(text: &str) -> Result<Action, String> {
    let word = |action: Action| if action == Action::Control { COMMAND } else { action.as_str() };
    named("trigger", &Action::ALL, text, word)
}

fn rung(text: &str) -> Result<Rung, String> {
    named("rung", &ALL_RUNGS, text, Rung::as_str)
}

pub(super) fn policy(command: PolicyCmd) -> Result<(), Failure> {
    match command {
        PolicyCmd::Show(show) => matrix(&show),
        PolicyCmd::Explain { partner, property, trigger, show } => {
            let done = ask(&show.data, Request::PolicyExplain { partner, property, action: trigger })?;
            if show.json {
                return print_json(&done);
            }
            for row in done.as_array().into_iter().flatten() {
                print(&format!("{}\n", text(row, "why")))?;
                for grant in row["granted"].as_array().into_iter().flatten() {
                    let profile = match text(grant, "profile").as_str() {
                        "" => String::new(),
                        profile => format!(" with the profile {profile}"),
                    };
                    print(&format!(
                        "  {}: given by {} on {}{profile}, until {}\n",
                        text(grant, "id"),
                        text(grant, "by"),
                        text(grant, "created"),
                        text(grant, "expires"),
                    ))?;
                    if !text(grant, "conditions").is_empty() {
                        print(&format!("    {}\n", text(grant, "conditions")))?;
                    }
                }
                if !text(row, "needs").is_empty() {
                    print(&format!("  and it needs: {}\n", text(row, "needs")))?;
                }
                if !text(row, "change").is_empty() {
                    print(&format!("  to change it: {}\n", text(row, "change")))?;
                }
            }
            Ok(())
        }
        PolicyCmd::Impact { link, show } => {
            let done = ask(&show.data, Request::PolicyImpact { link })?;
            listing(&show, &done, &["link", "works", "what", "without", "confidence", "why"], "no links yet")
        }
        PolicyCmd::Diff { file, show } => {
            let done = ask(&show.data, Request::PolicyDiff { document: document(&file)? })?;
            if show.json { print_json(&done) } else { differences(&done, &done["longer"]) }
        }
        PolicyCmd::Simulate { from, to, policy, every, show } => {
            let document = policy.as_deref().map(document).transpose()?;
            let done = ask(&show.data, Request::PolicySimulate { from, to, document, every })?;
            if show.json { print_json(&done) } else { simulated(&done) }
        }
        PolicyCmd::Export { file, cedar, data } => {
            let done = ask(&data, Request::PolicyExport { cedar })?;
            let document = done["text"].as_str().unwrap_or_default();
            match file {
                None => print(document),
                Some(file) => std::fs::write(&file, document)
                    .map_err(|e| Failure::Failed(format!("`{}` can't be written: {e}", file.display()))),
            }
        }
        PolicyCmd::Import { file, consent, show } => {
            let document = document(&file)?;
            let request = |doing| Request::PolicyImport { document: document.clone(), doing };
            consented(&consent, &show, request)
        }
    }
}

pub(super) fn grant(command: GrantCmd) -> Result<(), Failure> {
    match command {
        GrantCmd::Add {
            link,
            property,
            device,
            room,
            kind,
            triggers,
            rung,
            control,
            open,
            pin,
            partner_code,
            days,
            hours,
            window,
            routine,
            consent,
            show,
        } => {
            let code = pin.then_some(Code::Pin).or(partner_code.then_some(Code::Partner));
            let device = device.map(|d| id(DeviceId::new(d))).transpose()?;
            let (hours, window, routine) = (hours.clone(), window.clone(), routine.clone());
            let wish = GrantWish {
                link,
                device,
                room,
                kind,
                property,
                triggers,
                rung,
                control,
                open,
                days,
                hours,
                window,
                routine,
                code,
            };
            consented(&consent, &show, |doing| Request::GrantAdd { wish: wish.clone(), doing })
        }
        GrantCmd::List { link, show } => {
            let done = ask(&show.data, Request::GrantList { link })?;
            listing(
                &show,
                &done,
                &["id", "link", "device", "property", "words", "conditions", "days_left", "profile"],
                "no grants",
            )
        }
        GrantCmd::Revoke { which, show } => {
            let done = ask(&show.data, Request::GrantRevoke { selection: which.selection()? })?;
            if show.json {
                return print_json(&done);
            }
            changes("-", &done["stops"])?;
            print(&format!("{} taken back\n", done["removed"]))
        }
        GrantCmd::Renew { which, days, show } => {
            let done = ask(&show.data, Request::GrantRenew { selection: which.selection()?, days })?;
            if show.json {
                return print_json(&done);
            }
            print(&format!("{} renewed\n", done["renewed"]))?;
            print(&super::said_of_waiting(done["waiting"].as_array().map_or(0, Vec::len)))
        }
        GrantCmd::Confirm { which, member, show } => {
            let (selection, member) = (which.selection()?, super::login(member)?);
            let done = ask(&show.data, Request::GrantConfirm { selection, member })?;
            if show.json {
                return print_json(&done);
            }
            let waiting = done["waiting"].as_array().map_or(0, Vec::len);
            print(&format!("{} confirmed, {} in force now\n", done["confirmed"], done["in_force"]))?;
            if waiting > 0 { print(&format!("{waiting} wait for another owner, or for their day\n")) } else { Ok(()) }
        }
    }
}

#[derive(Subcommand)]
pub(super) enum PinCmd {
    /// Give a link a PIN of 4 to 12 digits, read from the terminal or from standard input
    Set {
        /// The link, or the partner if it has one link
        link: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Take a link's PIN away: what needs it is refused from now on
    Clear {
        /// The link, or the partner if it has one link
        link: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the links that have a PIN, and until when one takes none
    List {
        #[command(flatten)]
        show: ShowArgs,
    },
}

pub(super) fn pin(command: PinCmd) -> Result<(), Failure> {
    match command {
        PinCmd::Set { link, data } => {
            let done = ask(&data, Request::PinSet { link, pin: super::typed_twice("PIN")? })?;
            print(&format!("{} has a new PIN\n", text(&done, "link")))
        }
        PinCmd::Clear { link, data } => {
            let done = ask(&data, Request::PinClear { link })?;
            print(&format!("{} has no PIN: what needs one is refused\n", text(&done, "link")))
        }
        PinCmd::List { show } => {
            let done = ask(&show.data, Request::Pins)?;
            listing(&show, &done, &["link", "partner", "locked_until"], "no link has a PIN")
        }
    }
}

#[derive(Subcommand)]
pub(super) enum NoticeCmd {
    /// List what members are told, with who has not seen it yet
    List {
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Say that a member has seen it all
    Seen {
        /// Who: the password is asked for, or read from standard input
        #[arg(long, value_name = "NAME")]
        member: String,
        #[command(flatten)]
        show: ShowArgs,
    },
}

pub(super) fn notice(command: NoticeCmd) -> Result<(), Failure> {
    match command {
        NoticeCmd::List { show } => {
            let done = ask(&show.data, Request::Notices)?;
            if show.json {
                return print_json(&done);
            }
            let all = done.as_array().map(Vec::as_slice).unwrap_or_default();
            if all.is_empty() {
                return print("nothing that somebody has not seen\n");
            }
            for notice in all {
                print(&format!("{} by {}: {}\n", text(notice, "time"), text(notice, "by"), text(notice, "text")))?;
                for line in notice["lines"].as_array().into_iter().flatten() {
                    print(&format!("  + {}\n", super::shown(line)))?;
                }
                if notice["more"].as_u64().unwrap_or_default() > 0 {
                    print(&format!("  + and {} more\n", notice["more"]))?;
                }
                print(&format!("  not seen by {}\n", text(notice, "unseen_by")))?;
            }
            Ok(())
        }
        NoticeCmd::Seen { member, show } => {
            let done = ask(&show.data, Request::NoticesSeen { member: super::login(member)? })?;
            if show.json { print_json(&done) } else { print(&format!("{} seen\n", done["seen"])) }
        }
    }
}

#[derive(Subcommand)]
pub(super) enum WindowCmd {
    /// Open a window for some minutes: the grants that name it count meanwhile
    Open {
        /// Its name, as a grant has it
        name: Name,
        /// For how many minutes, 60 at most (10 if not given, or what `window button` has set)
        #[arg(long)]
        minutes: Option<u16>,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Set a window's button at the broker, which Home Assistant finds and an automation presses: for how long it opens the window,
    /// or that there is none
    Button {
        /// Its name, as a grant has it
        name: Name,
        /// For how many minutes, 60 at most
        #[arg(long)]
        minutes: Option<u16>,
        /// Without a button: only from here
        #[arg(long, conflicts_with = "on")]
        off: bool,
        /// With a button again
        #[arg(long)]
        on: bool,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// Close a window: in force at once
    Close {
        /// Its name
        name: Name,
        #[command(flatten)]
        show: ShowArgs,
    },
    /// List the windows that grants name
    List {
        #[command(flatten)]
        show: ShowArgs,
    },
}

pub(super) fn window(command: WindowCmd) -> Result<(), Failure> {
    match command {
        WindowCmd::Open { name, minutes, show } => {
            let done = ask(&show.data, Request::WindowOpen { name, minutes })?;
            if show.json {
                return print_json(&done);
            }
            print(&format!("open until {}, for {} grants\n", text(&done, "open_until"), done["grants"]))
        }
        WindowCmd::Button { name, minutes, off, on, show } => {
            let off = off.then_some(true).or(on.then_some(false));
            let done = ask(&show.data, Request::WindowButton { name, minutes, off })?;
            if show.json {
                return print_json(&done);
            }
            let has = if done["button"] == true { "its button opens it" } else { "it has no button, and opens" };
            print(&format!("{has} for {} minutes\n", done["minutes"]))
        }
        WindowCmd::Close { name, show } => {
            let done = ask(&show.data, Request::WindowClose { name })?;
            if show.json { print_json(&done) } else { print("closed\n") }
        }
        WindowCmd::List { show } => {
            let done = ask(&show.data, Request::Windows)?;
            listing(&show, &done, &["window", "open_until", "grants", "minutes", "button"], "no grant names a window")
        }
    }
}

pub(super) fn suggest(request: Request, out: Option<&Path>, show: &ShowArgs) -> Result<(), Failure> {
    let done = ask(&show.data, request)?;
    if let Some(file) = out {
        let failed = |e: std::io::Error| Failure::Failed(format!("`{}`: {e}", file.display()));
        std::fs::write(file, done["document"].as_str().unwrap_or_default()).map_err(failed)?;
    }
    if show.json {
        return print_json(&done);
    }
    let rows = |link: &Value, list: &str, verb: &str, times: &str| -> Vec<Value> {
        let each = |row: &Value| {
            let of = &row[times];
            let used = format!("{} times on {} days", of["count"], of["days"]);
            serde_json::json!({
                "": verb, "device": row["device"], "property": row["property"], "words": row["words"], "used": used,
                "tells": text(row, "reveals").replace('_', " "),
            })
        };
        link[list].as_array().into_iter().flatten().map(each).collect()
    };
    for link in done["links"].as_array().into_iter().flatten() {
        print(&format!("{} {}, since {}\n", text(link, "partner"), text(link, "link"), text(&done, "from")))?;
        let mut all = rows(link, "keep", "keep", "used");
        all.extend(rows(link, "unused", "not used", "used"));
        all.extend(rows(link, "refused", "refused", "asked"));
        match all.is_empty() {
            true => print("nothing is granted, and nothing was refused\n")?,
            false => table(&all, &["", "device", "property", "words", "used", "tells"])?,
        }
        let ids: Vec<String> = link["unused"].as_array().into_iter().flatten().map(|row| text(row, "id")).collect();
        if !ids.is_empty() {
            print(&format!("what was not used is taken back by: vestibule grant revoke {}\n", ids.join(" ")))?;
        }
        for row in link["refused"].as_array().into_iter().flatten() {
            print(&format!("what was refused is granted by: {}\n", text(row, "grant")))?;
        }
    }
    print(
        "No protocol tells your question from a partner's own curiosity: that something was asked for is no reason to grant it.\n",
    )
}

/// Shows what a change would let through and stop, asks, and does it.
fn consented(consent: &Consent, show: &ShowArgs, request: impl Fn(Doing) -> Request) -> Result<(), Failure> {
    let member = consent.member.clone().map(super::login).transpose()?;
    let mut done = ask(&show.data, request(Doing { apply: consent.yes, shown: None, member: member.clone() }))?;
    if !show.json {
        differences(&done["difference"], &done["longer"])?;
        for line in done["conditions"].as_array().into_iter().flatten() {
            print(&format!("  {}\n", super::shown(line)))?;
        }
    }
    if !consent.yes && !consent.dry_run {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Failed("nothing was changed: nobody is there to ask; say --yes, or --dry-run".into()));
        }
        eprint!("grant this? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let _ = std::io::stdin().lock().read_line(&mut answer);
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Err(Failure::Failed("nothing was changed".into()));
        }
        // What was shown, and nothing that came since.
        done = ask(&show.data, request(Doing { apply: true, shown: Some(text(&done, "shown")), member }))?;
    }
    if show.json {
        return print_json(&done);
    }
    let word = if consent.dry_run { "would be granted" } else { "granted" };
    print(&format!("{} {word}, {} taken back\n", done["added"], done["removed"]))?;
    let waits = done["waits"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    print(&super::said_of_waiting(waits))
}

fn differences(difference: &Value, longer: &Value) -> Result<(), Failure> {
    changes("+", &difference["flows"])?;
    for line in longer.as_array().into_iter().flatten() {
        print(&format!("+ {}\n", super::shown(line)))?;
    }
    changes("-", &difference["stops"])?;
    let is_empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    if is_empty(&difference["flows"]) && is_empty(&difference["stops"]) && is_empty(longer) {
        return print("nothing else would flow, and nothing would stop\n");
    }
    Ok(())
}

/// What can hurt most comes first, and of what is too much to be read the sums are told.
fn changes(sign: &str, list: &Value) -> Result<(), Failure> {
    let mut rows: Vec<&Value> = list.as_array().map(|l| l.iter().collect()).unwrap_or_default();
    let tells = |row: &Value, what: &str| row["reveals"].as_array().is_some_and(|all| all.iter().any(|r| r == what));
    rows.sort_by_key(|row| match row["action"].as_str() {
        Some("open") => 0,
        Some("control") => 1,
        _ if tells(row, "security") => 2,
        _ if tells(row, "occupancy") => 3,
        _ => 4,
    });
    for row in rows.iter().take(SHOWN_MAX) {
        let reveals = text(row, "reveals").replace('_', " ");
        let reveals = if reveals.is_empty() || sign == "-" { String::new() } else { format!("  [tells: {reveals}]") };
        print(&format!("{sign} {}{reveals}\n", text(row, "words")))?;
    }
    let mut sums: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in rows.iter().skip(SHOWN_MAX) {
        *sums.entry((text(row, "property"), text(row, "action"))).or_default() += 1;
    }
    for ((property, action), count) in sums {
        print(&format!("{sign} and {count} more of {property} ({action}); --json shows all\n"))?;
    }
    Ok(())
}

/// Of each link the counts, day by day, then the messages.
fn simulated(done: &Value) -> Result<(), Failure> {
    let links = done["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    if links.is_empty() {
        return print("no links: nobody would have been sent anything\n");
    }
    for open in done["windows"].as_array().into_iter().flatten() {
        let (window, from, until) = (text(open, "window"), text(open, "from"), text(open, "until"));
        print(&format!("window {window}: open from {from} until {until}\n"))?;
    }
    for window in done["shut"].as_array().into_iter().flatten() {
        print(&format!("window {}: taken as shut, for it was never opened then\n", super::shown(window)))?;
    }
    for link in links {
        print(&format!(
            "{} ({}), asking every {} minutes\n",
            text(link, "link"),
            text(link, "partner"),
            text(done, "every")
        ))?;
        let mut days = link["days"].as_array().cloned().unwrap_or_default();
        let mut total = link["total"].clone();
        total["day"] = "together".into();
        days.push(total);
        table(&days, &["day", "messages", "bytes", "facts"])?;
        let messages = link["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        for m in messages.iter().take(MESSAGES_SHOWN_MAX) {
            let again = match m["again"].as_u64() {
                Some(again) if again > 0 => format!(", and {again} times the same"),
                _ => String::new(),
            };
            print(&format!("{} {}{again}: {}\n", text(m, "time"), text(m, "message"), m["body"]))?;
        }
        let more = messages.len().saturating_sub(MESSAGES_SHOWN_MAX) as u64 + left_out(link);
        if more > 0 {
            print(&format!("and {more} other messages; --json shows them, for some days at a time\n"))?;
        }
        print("\n")?;
    }
    Ok(())
}

fn left_out(link: &Value) -> u64 {
    link["left_out"].as_u64().unwrap_or_default()
}

fn document(file: &Path) -> Result<String, Failure> {
    super::text_file(file, "the file of grants", policy::DOCUMENT_MAX_BYTES as u64)
}

fn matrix(show: &ShowArgs) -> Result<(), Failure> {
    let done = ask(&show.data, Request::PolicyShow)?;
    if show.json {
        return print_json(&done);
    }
    let rows = done["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return print("no links or no devices: nothing is shared\n");
    }
    let columns = [
        "link",
        "profile",
        "device",
        "property",
        "discovery",
        "directive_response",
        "partner_poll",
        "proactive_report",
    ];
    table(rows, &columns)?;
    let is_waiting = |row: &&Value| row["waiting"].as_array().is_some_and(|w| !w.is_empty());
    for (n, row) in rows.iter().filter(is_waiting).enumerate() {
        if n == 0 {
            print("\ngranted, and nothing now:\n")?;
        }
        for what in row["waiting"].as_array().into_iter().flatten() {
            print(&format!(
                "  {} {} {}: {}, {}\n",
                text(row, "link"),
                text(row, "device"),
                text(row, "property"),
                text(what, "words"),
                text(what, "when"),
            ))?;
        }
    }
    Ok(())
}

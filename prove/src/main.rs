//! `vestibule-prove`: what can never be told, proven.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use model::Timestamp;
use policy::{CEILING_MAX_BYTES, DOCUMENT_MAX_BYTES, Document};
use prove::{
    CLAIMS_MAX_BYTES, Claim, Line, Ready, STACK_BYTES, ScriptError, Scripts, Solver, Subject, of_data, of_document,
    of_profile, prove, standing,
};

/// All claims are proven.
const PROVEN: u8 = 0;
/// One is refuted.
const REFUTED: u8 = 1;
/// Wrong usage, or a file that can't be read.
const USAGE: u8 = 2;

/// Decides claims of what is never told or done: over every cell of the decision table, and for all homes by a solver (cvc5).
/// Without --data and --policy, those of the shipped profiles.
#[derive(Parser)]
#[command(name = "vestibule-prove", version)]
struct Arguments {
    /// A home's data directory, as of `vestibule --data`; a hub that runs there is not disturbed
    #[arg(long, conflicts_with = "policy", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Grants as `vestibule policy export` writes them, JSON or Cedar (- for standard input)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The maker's ceiling, as in the hub's configuration
    #[arg(long, value_name = "FILE")]
    ceiling: Option<PathBuf>,
    /// Your own claims, in place of those that stand for every home
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// Write the questions as SMT-LIB scripts, with check.sh, which puts them to any cvc5
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Formulas nest as deep as there are policies.
    let work = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || run(&arguments));
    let done = work
        .map_err(|e| format!("no thread: {e}"))
        .and_then(|work| work.join().unwrap_or_else(|_| Err("it failed within itself: please report it".to_owned())));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("vestibule-prove: {error}");
            ExitCode::from(USAGE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8, String> {
    let claims = match &arguments.claims {
        None => standing(),
        Some(file) => Claim::parse(&text(file, CLAIMS_MAX_BYTES)?),
    };
    let claims = claims.map_err(|e| chain(&e))?;
    let subjects = subjects(arguments, &claims)?;
    let mut solver = Solver::find();
    let mut scripts = arguments.out.as_deref().map(Scripts::new).transpose().map_err(|e| chain(&e))?;
    let out = Output { json: arguments.json };
    if !arguments.json {
        match &solver.version {
            Ok(version) => print(&format!("Decided cell by cell, and for all homes by {version}.\n"))?,
            Err(why) => print(&format!("Decided cell by cell alone. No solver: {why}.\n"))?,
        }
    } else if let Err(why) = &solver.version {
        eprintln!("vestibule-prove: no solver: {why}; what follows is decided cell by cell alone");
    }
    let (mut refuted, mut disagreed, mut decided) = (0, 0, 0);
    for subject in &subjects {
        let mut ready = Ready::new(subject).map_err(|e| chain(&e))?;
        out.subject(subject)?;
        let of_subject = claims.iter().filter(|claim| match &subject.profile {
            Some(slug) => claim.is_of_profile(slug),
            None => claim.of_homes,
        });
        for claim in of_subject {
            let line = prove(claim, &mut ready, &mut solver).map_err(|e| chain(&e))?;
            decided += 1;
            refuted += usize::from(!line.is_proven());
            disagreed += usize::from(line.disagreement);
            out.line(&line)?;
            if let Some(scripts) = &mut scripts {
                match scripts.claim(claim, &ready, &line) {
                    // What could not be put to the solver can't be written either: the rest is.
                    Err(error @ ScriptError::Claim { .. }) => eprintln!("vestibule-prove: {}", chain(&error)),
                    done => done.map_err(|e| chain(&e))?,
                }
            }
        }
        if let Some(scripts) = &scripts {
            scripts.subject(&ready).map_err(|e| chain(&e))?;
        }
    }
    if let Some(scripts) = scripts {
        scripts.finish().map_err(|e| chain(&e))?;
    }
    if decided == 0 {
        return Err("none of the claims is about what was given: nothing was decided".to_owned());
    }
    if disagreed > 0 {
        eprintln!(
            "vestibule-prove: the two ways of deciding DISAGREE on {disagreed} claims: one of them is wrong, so none of this \
             can be relied on. Please report it with the notes above."
        );
    }
    if !arguments.json {
        let proven = decided - refuted;
        print(&format!("\n{proven} of {decided} proven\n"))?;
    }
    Ok(if refuted > 0 { REFUTED } else { PROVEN })
}

/// What the claims are decided about.
fn subjects(arguments: &Arguments, claims: &[Claim]) -> Result<Vec<Subject>, String> {
    let ceiling = arguments.ceiling.as_deref().map(|file| text(file, CEILING_MAX_BYTES)).transpose()?;
    Ok(match (&arguments.data, &arguments.policy) {
        (Some(data), _) => vec![of_data(data, ceiling).map_err(|e| chain(&e))?],
        (None, Some(file)) => {
            let document = Document::parse(&text(file, DOCUMENT_MAX_BYTES)?).map_err(|e| chain(&e))?;
            vec![of_document(document, ceiling, claims).map_err(|e| chain(&e))?]
        }
        (None, None) if ceiling.is_some() => {
            return Err("a ceiling is a home's: give --data or --policy with it".to_owned());
        }
        (None, None) => policy::profiles().iter().map(of_profile).collect::<Result<_, _>>().map_err(|e| chain(&e))?,
    })
}

/// Where the lines go.
struct Output {
    json: bool,
}

impl Output {
    fn subject(&self, subject: &Subject) -> Result<(), String> {
        for note in &subject.notes {
            eprintln!("vestibule-prove: {note}");
        }
        let ended = if subject.profile.is_some() { 0 } else { subject.ended_by(now()) };
        if ended > 0 {
            eprintln!(
                "vestibule-prove: {ended} grants that count here have ended by now; this is how things stood at {}",
                subject.as_of.to_rfc3339()
            );
        }
        match (&subject.profile, self.json) {
            (Some(profile), false) => print(&format!("\nThe profile {profile}, in any home\n\n")),
            (None, false) => print("\nThis home\n\n"),
            (_, true) => Ok(()),
        }
    }

    fn line(&self, line: &Line) -> Result<(), String> {
        if self.json {
            let text = serde_json::to_string(line).map_err(|e| e.to_string())?;
            return print(&format!("{text}\n"));
        }
        let word = if line.is_proven() { "proven " } else { "REFUTED" };
        print(&format!("{word}  {}  ({}, {:.0} ms)\n", line.says, line.claim, line.ms))?;
        if !line.derivable_from.is_empty() {
            let labels: Vec<&str> = line.derivable_from.iter().map(|p| p.label()).collect();
            print(&format!("         proven, but derivable from: {}\n", labels.join(", ")))?;
        }
        if let Some(words) = &line.counterexample {
            print(&format!("         for {words}\n"))?;
        }
        line.notes.iter().try_for_each(|note| print(&format!("         ({note})\n")))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the edge where time comes in")]
fn now() -> Timestamp {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Writes to standard output; whoever stops reading ends the program quietly.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(i32::from(USAGE)),
        Err(e) => Err(format!("standard output: {e}")),
        Ok(()) => Ok(()),
    }
}

/// A file's text, or standard input's for `-`, when it is not longer than this many bytes.
fn text(file: &Path, max: usize) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("`{}` can't be read: {e}", file.display());
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    if file.as_os_str() == "-" {
        if std::io::stdin().is_terminal() {
            eprintln!("vestibule-prove: reading standard input");
        }
        std::io::stdin().take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        std::fs::File::open(file).map_err(failed)?.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() > max {
        return Err(format!("`{}` is longer than {max} bytes", file.display()));
    }
    Ok(text)
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

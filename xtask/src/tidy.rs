//! What every file of the repository must be: free of leftovers and of one machine's paths, no line
//! too long to read, specifications tied to tests that exist, foreign files beside their licence.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::root;

/// Files read as text, by the end of their name; the files in `.ci` are read too.
const TEXT: &[&str] =
    &["rs", "toml", "md", "html", "css", "js", "json", "cedar", "cedarschema", "sql", "sh", "jinja", "txt", "svg"];
/// Folders that are not the project's own text.
const PASSED_BY: &[&str] = &["target", ".git", "node_modules"];
/// Files larger than this are data, and not read.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// rustfmt wraps code at 120 columns, but neither strings nor comments. A line with a string in it may be longer: what
/// a device or a partner says in one line is not ours to wrap.
const RUST_COLUMNS_MAX: usize = 140;

/// What no file may contain. Each is written in two parts, so that this file does not contain it.
const BANNED: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("to", "do!("), "unfinished"),
    (concat!("unimple", "mented!("), "unfinished"),
    (concat!("FIX", "ME"), "unfinished"),
    (concat!("X", "XX "), "unfinished"),
    (concat!("issue", " #"), "a reader has no tracker: say the reason itself"),
    (concat!("#[ig", "nore"), "a test that is switched off holds nothing"),
];
/// What documents, besides, may not contain.
const BANNED_IN_DOCUMENTS: &[(&str, &str)] = &[(concat!("/t", "mp/"), "a path of one machine")];

/// What a pure room's own code (its tests left out) may not name.
const PURE_ROOMS: &[&str] = &[
    "crates/model",
    "crates/disclosure",
    "crates/exposure",
    "crates/home",
    "crates/inference",
    "crates/comfort",
    "crates/policy",
    "crates/ledger",
    "crates/links",
    "crates/partners",
];
const BANNED_IN_PURE_ROOMS: &[&str] = &["net", "fs", "env", "process", "thread", "io"];

struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                if !PASSED_BY.iter().any(|name| entry.file_name() == *name) {
                    folders.push(path);
                }
            } else if kind.is_file() && is_text(&path) && entry.metadata().unwrap().len() <= TEXT_BYTES_MAX {
                // A file may go away while others edit the tree; one that is not UTF-8 is data.
                if let Ok(text) = fs::read_to_string(&path) {
                    files.push(File { path: relative(&path), text });
                }
            }
        }
    }
    assert!(files.len() > 20, "the walk found only {} files", files.len());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn is_text(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| TEXT.contains(&ending)) || relative(path).starts_with(".ci/")
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Every fault in one file's text, with its line.
fn faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    let rust = file.path.ends_with(".rs");
    let document = file.path.ends_with(".md");
    let pure = rust
        && PURE_ROOMS.iter().any(|room| file.path.starts_with(&format!("{room}/")))
        && file.path.contains("/src/")
        && !file.path.ends_with("tests.rs");
    let mut in_tests = false;
    for (number, line) in file.text.lines().enumerate() {
        let mut fault = |what: &str| faults.push(format!("{}:{}: {what}", file.path, number + 1));
        let banned = BANNED.iter().chain(if document { BANNED_IN_DOCUMENTS } else { &[] });
        for (text, why) in banned.filter(|(text, _)| line.contains(text)) {
            fault(&format!("`{text}`: {why}"));
        }
        if rust && !line.contains('"') && line.chars().count() > RUST_COLUMNS_MAX {
            fault(&format!("longer than {RUST_COLUMNS_MAX} columns"));
        }
        in_tests |= line.trim_start().starts_with("#[cfg(test)]");
        if pure && !in_tests {
            for name in BANNED_IN_PURE_ROOMS.iter().filter(|name| names_std(line, name)) {
                fault(&format!("`std::{name}` in a pure room"));
            }
        }
    }
    faults
}

/// Whether a line names a module of `std`, alone or in a group.
fn names_std(line: &str, module: &str) -> bool {
    let is_word = |text: &str| text == module;
    let mut uses = line.split("std::").skip(1);
    uses.any(|rest| match rest.strip_prefix('{') {
        Some(group) => group.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_word),
        None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().is_some_and(is_word),
    })
}

/// The names of the functions in a Rust file that are marked as tests.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim_start) {
        let attribute = line.starts_with("#[");
        marked |= attribute && line.contains("test");
        let function = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('(')).map(|(name, _)| name);
        if let Some(name) = function.filter(|_| marked) {
            names.insert(name);
        }
        marked &= attribute || line.starts_with("//");
    }
    names
}

fn all_tests(files: &[File]) -> BTreeSet<&str> {
    files.iter().filter(|file| file.path.ends_with(".rs")).flat_map(|file| tests(&file.text)).collect()
}

/// Every fault in the table of a specification: its statements are numbered `**[L1]**`, and each
/// has a row `| L1 | `name of its test` |`.
fn specification_faults(text: &str, tests: &BTreeSet<&str>) -> Vec<String> {
    let statements: BTreeSet<&str> =
        text.split("**[").skip(1).filter_map(|rest| Some(rest.split_once("]**")?.0)).collect();
    let row = |line| -> Option<(&str, &str)> {
        let (number, test) = str::strip_prefix(line, "| ")?.strip_suffix("` |")?.split_once(" | `")?;
        statements.contains(number).then_some((number, test))
    };
    let rows: Vec<(&str, &str)> = text.lines().filter_map(row).collect();
    let bare = statements.iter().filter(|number| !rows.iter().any(|(row, _)| row == *number));
    let unheld = rows.iter().filter(|(_, test)| !tests.contains(test));
    bare.map(|number| format!("{number} names no test"))
        .chain(unheld.map(|(number, test)| format!("{number}: there is no test `{test}`")))
        .collect()
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn every_file_is_tidy() {
    let found: Vec<String> = files().iter().flat_map(faults).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn each_untidiness_is_found() {
    let check =
        |path: &str, text: &str, expected: usize| assert_eq!(faults(&file(path, text)).len(), expected, "{text}");
    for (text, _) in BANNED {
        check("a.toml", text, 1);
    }
    check("a.md", BANNED_IN_DOCUMENTS[0].0, 1);
    check("a.rs", BANNED_IN_DOCUMENTS[0].0, 0);
    check("a.rs", &"é".repeat(RUST_COLUMNS_MAX), 0);
    check("a.rs", &"é".repeat(RUST_COLUMNS_MAX + 1), 1);
    check("crates/home/src/lib.rs", "use std::net::TcpStream;\n#[cfg(test)]\nmod tests { use std::fs; }", 1);
    check("crates/partners/alexa/src/lib.rs", "use std::{collections::BTreeMap, fs};", 1);
    check("crates/partners/alexa/src/lib.rs", "use std::{collections::BTreeMap, fmt}; use std::netto;", 0);
    check("crates/store/src/lib.rs", "use std::fs;", 0);
}

#[test]
fn every_statement_of_a_specification_is_held_by_a_test() {
    let files = files();
    let tests = all_tests(&files);
    let specifications = files.iter().filter(|file| file.path.starts_with("docs/specs/"));
    let found: Vec<String> = specifications
        .flat_map(|file| specification_faults(&file.text, &tests).into_iter().map(|it| format!("{}: {it}", file.path)))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn statements_without_a_test_are_found() {
    let tests = tests("#[test]\nfn one() {}\nfn two() {}\n  #[tokio::test]\n  // why\n  async fn three() {}\n");
    assert_eq!(tests, BTreeSet::from(["one", "three"]));
    let statements = "- **[S1]** MUST\n- **[S2]** MUST\n**[S3]** MUST, as S1";
    let text = format!("{statements}\n\n| MUST | test |\n|---|---|\n| S1 | `one` |\n| S3 | `two` |\n| a key | `x` |");
    assert_eq!(specification_faults(&text, &tests), ["S2 names no test", "S3: there is no test `two`"]);
}

/// Links of a document into the repository: their targets, without the part after `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let targets = targets.map(|target| target.split_once('#').map_or(target, |(path, _)| path));
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

#[test]
fn links_in_documents_lead_somewhere() {
    assert_eq!(links("[a](b.md#c) ![d](e.png) [f](https://g/h) [i](#j)").collect::<Vec<_>>(), ["b.md", "e.png"]);
    let mut broken = Vec::new();
    for document in files().iter().filter(|file| file.path.ends_with(".md")) {
        let path = root().join(&document.path);
        let lost = links(&document.text).filter(|target| !path.with_file_name(target).exists());
        broken.extend(lost.map(|target| format!("{}: {target}", document.path)));
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// What the map says holds an invariant must exist: in its table, names with three underscores or
/// more are tests.
#[test]
fn the_tests_that_the_map_names_exist() {
    let files = files();
    let tests = all_tests(&files);
    let map = files.iter().find(|file| file.path == "ARCHITECTURE.md").unwrap();
    let named: Vec<&str> =
        map.text.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() >= 3).collect();
    assert!(named.len() >= 3, "the map names its tests in back-ticks: {named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that do not exist: {missing:?}");
}

/// Planted leaks are compiled into one test, which no binary can link; nothing else may take their file in.
#[test]
fn planted_leaks_stand_in_a_test_and_nowhere_else() {
    let files = files();
    let (folder, sends) = (concat!("testkit/tests/with", "held/"), concat!("Leak", "::AnsweredTwice"));
    let holders: BTreeSet<&str> =
        files.iter().filter(|file| file.text.contains(sends)).map(|file| file.path.as_str()).collect();
    assert_eq!(holders, BTreeSet::from([format!("{folder}leaks.rs").as_str()]));
    let takes = |line: &str| {
        let line = line.trim_start();
        (line.starts_with("#[path") || line.contains("include!(")) && line.contains(concat!("with", "held"))
    };
    let rust = files.iter().filter(|file| file.path.ends_with(".rs") && !file.path.starts_with("xtask/"));
    let takers: Vec<&str> = rust.filter(|f| f.text.lines().any(takes)).map(|file| file.path.as_str()).collect();
    assert!(takers.is_empty(), "{takers:?}");
}

/// Files that others wrote (browser scripts, fonts, data) stand in a folder named `vendor` or
/// `data`, each with a note of where they come from and under which licence.
#[test]
fn foreign_files_stand_beside_their_licence() {
    let mut folders: Vec<PathBuf> = vec![root()];
    let mut bare = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries: Vec<_> = fs::read_dir(&folder).unwrap().map(Result::unwrap).collect();
        let names: Vec<String> = entries.iter().map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        let foreign = names.iter().any(|name| name.ends_with(".min.js") || name.ends_with(".woff2"))
            || folder.ends_with("vendor")
            || (folder.ends_with("data") && folder.parent().is_some_and(|it| it.join("Cargo.toml").is_file()));
        let noted =
            names.iter().any(|name| ["LICENSE", "LICENCE", "README", "SOURCE"].iter().any(|it| name.starts_with(it)));
        if foreign && !noted {
            bare.push(relative(&folder));
        }
        for entry in entries.iter().filter(|entry| entry.file_type().unwrap().is_dir()) {
            if !PASSED_BY.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            }
        }
    }
    assert!(bare.is_empty(), "no LICENSE, README or SOURCES file in {bare:?}");
}

//! The machine that figures hold for: a figure without it says nothing.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::Fail;

/// Writes that are made durable one by one, to see what the disk takes for one.
const SYNCS: usize = 200;

/// What the machine is, and how busy it is now.
pub fn describe(data: &Path) -> Result<Value, Fail> {
    let (p50, p99) = fsync_micros(data)?;
    Ok(json!({
        "cpu": field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_mib": field("/proc/meminfo", "MemTotal").and_then(|t| t.split(' ').next()?.parse::<u64>().ok())
            .map_or(0, |kib| kib / 1024),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "file_system": file_system(data),
        "fsync_p50_us": p50,
        "fsync_p99_us": p99,
        "load": load(),
        "date": jiff::Timestamp::now().to_string().chars().take(10).collect::<String>(),
    }))
}

/// The load averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first value of a key in a file of `key: value` lines.
pub fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Type of the file system below a folder: figures from memory would be no figures.
fn file_system(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = read("/proc/mounts");
    let rows = mounts.lines().filter_map(|line| {
        let mut parts = line.split(' ').skip(1);
        let (place, kind) = (parts.next()?, parts.next()?);
        folder.starts_with(place).then_some((place.len(), kind))
    });
    rows.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// Microseconds that 4 KiB take to become durable: p50 and p99.
fn fsync_micros(folder: &Path) -> Result<(u64, u64), Fail> {
    let path = folder.join("fsync");
    let mut file = fs::File::create(&path)?;
    let mut took = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.seek(SeekFrom::Start(0))?;
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(u64::try_from(begin.elapsed().as_micros())?);
    }
    fs::remove_file(path)?;
    took.sort_unstable();
    Ok((crate::percentile(&took, 50), crate::percentile(&took, 99)))
}

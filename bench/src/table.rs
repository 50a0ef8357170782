//! The table on standard output.

use std::fmt::Write as _;

use serde_json::Value;

fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "met".into(),
        Some(Value::Bool(false)) => "MISSED".into(),
        Some(Value::Number(n)) => {
            n.as_f64().filter(|n| n.fract() == 0.0).map_or_else(|| n.to_string(), |n| n.to_string())
        }
        _ => "-".into(),
    }
}

/// Lines of columns, as wide as the widest.
fn columns(out: &mut String, head: &[&str], keys: &[&str], rows: &[Value]) {
    let cells: Vec<Vec<String>> = std::iter::once(head.iter().map(|h| (*h).to_owned()).collect())
        .chain(rows.iter().map(|row| keys.iter().map(|key| text(row, key)).collect()))
        .collect();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    for row in &cells {
        let mut line = String::from("|");
        for (column, cell) in row.iter().enumerate() {
            let room = width(column).unwrap_or(0);
            // Writing to a string can't fail.
            let _ = if column == 0 { write!(line, " {cell:<room$} |") } else { write!(line, " {cell:>room$} |") };
        }
        out.push_str(&line);
        out.push('\n');
        if std::ptr::eq(row, cells.first().unwrap_or(row)) {
            let rule: Vec<String> = (0..row.len()).map(|column| "-".repeat(width(column).unwrap_or(0) + 2)).collect();
            let _ = writeln!(out, "|{}|", rule.join("|"));
        }
    }
    out.push('\n');
}

fn rows(all: &Value, part: &str) -> Vec<Value> {
    all.get(part).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Everything that was measured.
pub fn render(all: &Value) -> String {
    let mut out = String::new();
    if let Some(m) = all.get("machine") {
        let _ = writeln!(
            out,
            "{}, {} cores, {} MiB, Linux {}, {} with 4 KiB durable in {} us (p99 {} us); load {} at the beginning, {} at the end; {}\n",
            text(m, "cpu"),
            text(m, "cores"),
            text(m, "memory_mib"),
            text(m, "kernel"),
            text(m, "file_system"),
            text(m, "fsync_p50_us"),
            text(m, "fsync_p99_us"),
            text(m, "load"),
            text(all, "load_at_end"),
            text(m, "date"),
        );
    }
    let messages = rows(all, "messages");
    if !messages.is_empty() {
        columns(
            &mut out,
            &[
                "message", "at once", "hub/s", "p50 ms", "p99 ms", "cpu us", "echo/s", "sqlite/s", "limit/s", "share",
                "bar", "",
            ],
            &[
                "message",
                "connections",
                "per_second",
                "p50_ms",
                "p99_ms",
                "hub_cpu_us_each",
                "echo_per_second",
                "sqlite_per_second",
                "limit_per_second",
                "ratio",
                "bar",
                "met",
            ],
            &messages,
        );
        let sum = |key: &str| messages.iter().filter_map(|row| row.get(key).and_then(Value::as_u64)).sum::<u64>();
        let _ = writeln!(
            out,
            "{} answers, {} in the record; {} commands, each seen once by a subscriber at QoS 1.\n",
            sum("answers"),
            sum("recorded"),
            sum("commands_seen_once")
        );
    }
    let readings = rows(all, "readings");
    if !readings.is_empty() {
        columns(
            &mut out,
            &["messages of devices", "sent", "lost", "hub/s", "bare/s", "share", "bar", "", "history behind ms", ""],
            &[
                "form",
                "messages",
                "lost",
                "per_second",
                "bare_per_second",
                "ratio",
                "bar",
                "met",
                "history_behind_max_ms",
                "history_met",
            ],
            &readings,
        );
    }
    let mut single = rows(all, "policy");
    single.extend(rows(all, "start"));
    single.extend(rows(all, "disk"));
    single.extend(rows(all, "catalogue"));
    single.extend(rows(all, "house"));
    if !single.is_empty() {
        columns(&mut out, &["what", "figure", "unit", "bar", ""], &["what", "figure", "unit", "bar", "met"], &single);
    }
    out
}

//! What no program on this machine could do better: answer without recording, and record without answering.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath};
use axum::http::header;
use axum::routing::post;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use crate::Fail;
use crate::http::Load;

/// The tables of the ledger, as the hub makes them.
const TABLES: &str = include_str!("../../crates/store/src/migrations/0001_ledger.sql");

/// Most requests in one transaction, as in the hub's writer.
const BATCH_MAX: usize = 256;

/// Serves POST requests with as many bytes as the path asks for, until the process ends. It reads the whole request and
/// parses nothing.
pub async fn echo() -> Result<(), Fail> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let answer = |UrlPath(bytes): UrlPath<usize>, _body: Bytes| async move {
        ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], vec![b'x'; bytes])
    };
    let router = Router::new().route("/echo/{bytes}", post(answer)).layer(DefaultBodyLimit::disable());
    use axum::serve::ListenerExt as _;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

/// The rows that one durable step of a message writes.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The leaves' text.
    pub leaves: Vec<String>,
    /// How many hashes.
    pub hashes: usize,
    /// The packed body beside the first leaf.
    pub body: Option<Vec<u8>>,
}

struct Job {
    rows: Arc<Rows>,
    done: oneshot::Sender<()>,
}

/// Writes the same rows as the hub with nothing around it: so many waiters, each of which waits until each step of its
/// message is durable. All that waits goes into one transaction.
pub async fn sqlite(file: &Path, message: &[Rows], waiters: usize, time: Duration) -> Result<Load, Fail> {
    let connection = open(file)?;
    let (jobs, queue) = channel();
    let writer = std::thread::spawn(move || write_all(connection, &queue).map_err(|e| e.to_string()));
    let steps: Vec<Arc<Rows>> = message.iter().cloned().map(Arc::new).collect();
    let begin = Instant::now();
    let tasks = (0..waiters).map(|_| {
        let (jobs, steps) = (jobs.clone(), steps.clone());
        tokio::spawn(async move {
            let mut mine = Load::default();
            while begin.elapsed() < time {
                let sent = Instant::now();
                for rows in &steps {
                    let (done, wait) = oneshot::channel();
                    jobs.send(Job { rows: Arc::clone(rows), done }).map_err(|e| e.to_string())?;
                    wait.await?;
                }
                mine.answers += 1;
                mine.micros.push(u64::try_from(sent.elapsed().as_micros())?);
            }
            Ok::<Load, Fail>(mine)
        })
    });
    let mut all = Load::default();
    for task in tasks.collect::<Vec<_>>() {
        let mine = task.await??;
        all.answers += mine.answers;
        all.micros.extend(mine.micros);
    }
    all.seconds = begin.elapsed().as_secs_f64();
    drop(jobs);
    tokio::task::spawn_blocking(move || writer.join()).await?.map_err(|_| "the bare writer broke")??;
    Ok(all)
}

fn open(file: &Path) -> Result<Connection, Fail> {
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
    let connection = Connection::open(file)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(TABLES)?;
    connection.execute("INSERT INTO household (name) VALUES ('home')", [])?;
    Ok(connection)
}

fn write_all(mut connection: Connection, queue: &Receiver<Job>) -> Result<(), rusqlite::Error> {
    let (mut leaf, mut hash) = (0i64, 0i64);
    let digest = [9u8; 32];
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            match queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut put_leaf =
                transaction.prepare_cached("INSERT INTO ledger_leaf (household, idx, leaf) VALUES (1, ?1, ?2)")?;
            let mut put_hash =
                transaction.prepare_cached("INSERT INTO ledger_hash (household, pos, hash) VALUES (1, ?1, ?2)")?;
            let mut put_body = transaction.prepare_cached(
                "INSERT INTO ledger_body (household, idx, time, body, salt, sha256) VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            )?;
            for rows in batch.iter().map(|job| &job.rows) {
                if let Some(body) = &rows.body {
                    put_body.execute(params![leaf, 1_793_000_000_000i64 + leaf, body, [1u8; 16], digest])?;
                }
                for text in &rows.leaves {
                    put_leaf.execute(params![leaf, text])?;
                    leaf += 1;
                }
                for _ in 0..rows.hashes {
                    put_hash.execute(params![hash, digest])?;
                    hash += 1;
                }
            }
            let mut head = transaction.prepare_cached(
                "INSERT INTO ledger_head (household, size, checkpoint) VALUES (1, ?1, ?2)
                 ON CONFLICT (household) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint",
            )?;
            head.execute(params![leaf, "c".repeat(220)])?;
        }
        transaction.commit()?;
        for job in batch {
            // Who stopped waiting doesn't want it.
            let _ = job.done.send(());
        }
    }
    Ok(())
}

/// The address that a started echo prints.
pub fn address(line: &str) -> Result<SocketAddr, Fail> {
    Ok(line.trim().parse()?)
}

//! A load of HTTP/1.1 requests over kept connections. The client does as little as it can, because it shares the cores
//! with what it measures; all servers get the same client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Fail;

/// Longest head of an answer.
const HEAD_MAX_BYTES: usize = 8192;

/// One kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self, Fail> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 128 * 1024], filled: 0 })
    }

    /// Sends a whole request; gives status and body of the answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, &[u8]), Fail> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        let head = loop {
            let part = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(end) = part.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if self.filled > HEAD_MAX_BYTES {
                return Err("an answer's head does not end".into());
            }
            self.read().await?;
        };
        let text = String::from_utf8_lossy(self.buffer.get(..head).unwrap_or_default()).into_owned();
        let status = text.get(9..12).and_then(|s| s.parse().ok()).ok_or("an answer without status")?;
        let length = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .ok_or("an answer without content-length")?;
        let end = head + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while self.filled < end {
            self.read().await?;
        }
        Ok((status, self.buffer.get(head..end).unwrap_or_default()))
    }

    async fn read(&mut self) -> Result<(), Fail> {
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let n = self.stream.read(room).await?;
        if n == 0 {
            return Err("the server hung up".into());
        }
        self.filled += n;
        Ok(())
    }
}

/// Requests in turn. Each connection takes the next one, so that none is sent twice in a round.
pub struct Requests {
    all: Vec<Vec<u8>>,
    next: AtomicU64,
}

impl Requests {
    /// All requests of one kind.
    pub fn new(all: Vec<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { all, next: AtomicU64::new(0) })
    }

    /// The next one, round and round.
    pub fn take(&self) -> &[u8] {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let place = usize::try_from(n).unwrap_or(0) % self.all.len().max(1);
        self.all.get(place).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many were taken.
    pub fn taken(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Answers with status 200.
    pub answers: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Microseconds of each answer.
    pub micros: Vec<u64>,
}

impl Load {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

/// Keeps so many connections busy for some time.
pub async fn load(
    address: SocketAddr,
    requests: Arc<Requests>,
    connections: usize,
    time: Duration,
) -> Result<Load, Fail> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let begin = Instant::now();
    let tasks = open.into_iter().map(|mut connection| {
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            let mut mine = Load::default();
            while begin.elapsed() < time {
                let sent = Instant::now();
                let (status, body) = connection.exchange(requests.take()).await?;
                if status != 200 {
                    return Err::<Load, Fail>(format!("status {status}: {}", String::from_utf8_lossy(body)).into());
                }
                mine.answers += 1;
                mine.bytes += body.len() as u64;
                mine.micros.push(u64::try_from(sent.elapsed().as_micros())?);
            }
            Ok(mine)
        })
    });
    let mut all = Load::default();
    for task in tasks.collect::<Vec<_>>() {
        let mine = task.await??;
        all.answers += mine.answers;
        all.bytes += mine.bytes;
        all.micros.extend(mine.micros);
    }
    all.seconds = begin.elapsed().as_secs_f64();
    Ok(all)
}

/// The bytes of a POST request.
pub fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

//! A client of bare sockets: it writes the bytes that a test wants, and keeps the bytes that come, with no HTTP library
//! between the test and the hub.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// An answer as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    /// What has come and was not taken as an answer yet.
    got: Vec<u8>,
    /// When something was last written to it, or came.
    used: tokio::time::Instant,
}

impl Wire {
    /// Connects to a listener, as in `http://127.0.0.1:8481`.
    pub async fn connect(base: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(base.trim_start_matches("http://")).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, got: Vec::new(), used: tokio::time::Instant::now() })
    }

    /// For how long nothing was written to it and nothing has come.
    pub fn quiet(&self) -> Duration {
        self.used.elapsed()
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.used = tokio::time::Instant::now();
        self.stream.write_all(bytes).await
    }

    /// Writes in `pieces` pieces with pauses between them: a slow client is one that pauses.
    pub async fn dribble(&mut self, bytes: &[u8], pieces: usize) -> io::Result<()> {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            self.stream.write_all(piece).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// The next whole answer; none when the connection ended before it was whole.
    pub async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some((answer, len)) = parse(&self.got) {
                self.got.drain(..len);
                match answer.status {
                    100..200 => continue,
                    _ => return Some(answer),
                }
            }
            self.read().await?;
        }
    }

    /// Reads until so many bytes are there, or the connection ends.
    pub async fn at_least(&mut self, bytes: usize) {
        while self.got.len() < bytes && self.read().await.is_some() {}
    }

    async fn read(&mut self) -> Option<()> {
        let mut piece = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
        match read.expect("the hub answers or hangs up") {
            Ok(0) | Err(_) => None,
            Ok(n) => {
                self.used = tokio::time::Instant::now();
                self.got.extend_from_slice(&piece[..n]);
                Some(())
            }
        }
    }
}

/// The first answer in these bytes, if it is whole, and its length.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_len = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes[..head_len].to_vec()).expect("a header is text");
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let field = |name: &str| {
        let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    assert_eq!(field("transfer-encoding"), None, "answers have a length: {head}");
    let len = field("content-length").map_or(0, |l| l.parse().expect("a length"));
    let body = bytes.get(head_len..head_len + len)?;
    Some((Answer { status, body: body.to_vec() }, head_len + len))
}

/// A POST of a body to the partners' one route, with more header lines if wanted.
pub fn post(body: &[u8], more: &str) -> Vec<u8> {
    let mut bytes = format!(
        "POST /alexa/v3/directives HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The same in chunks of a size.
pub fn post_chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = b"POST /alexa/v3/directives HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

//! Keeps what is too large out of the client library, which would end the connection over it; and a message that is
//! retained would end the next one too, for ever.
//!
//! A PUBLISH that is longer than [`PACKET_MAX_BYTES`] is cut to that length on its way in: it is acknowledged as any
//! other, and its payload is still longer than what is read, so it is dropped and counted there. No more of it is kept.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::mqtt::hub::PACKET_MAX_BYTES;

/// Bytes taken from the socket at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Longest fixed header: a byte and a length of four.
const HEAD_MAX_BYTES: usize = 5;

/// A connection to a broker.
pub(crate) struct Sieve<S> {
    inner: S,
    filter: Filter,
    /// What came and was not looked at yet.
    raw: Vec<u8>,
    at: usize,
    /// What goes on.
    out: Vec<u8>,
    out_at: usize,
}

/// Where in the stream of packets we are.
#[derive(Debug, Default)]
struct Filter {
    head: Vec<u8>,
    pass: usize,
    skip: usize,
}

impl<S> Sieve<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, filter: Filter::default(), raw: Vec::new(), at: 0, out: Vec::new(), out_at: 0 }
    }
}

impl Filter {
    /// Puts what goes on into `out`.
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            for (left, goes_on) in [(&mut self.pass, true), (&mut self.skip, false)] {
                let (now, rest) = bytes.split_at((*left).min(bytes.len()));
                *left -= now.len();
                if goes_on {
                    out.extend_from_slice(now);
                }
                bytes = rest;
            }
            let Some((byte, rest)) = bytes.split_first().filter(|_| self.pass == 0 && self.skip == 0) else { return };
            bytes = rest;
            self.head.push(*byte);
            if self.head.len() >= 2 && (byte & 0x80 == 0 || self.head.len() == HEAD_MAX_BYTES) {
                self.begin(out);
            }
        }
    }

    /// A packet begins: its fixed header is whole.
    fn begin(&mut self, out: &mut Vec<u8>) {
        let length = self.head.iter().skip(1).enumerate().fold(0, |sum, (n, b)| sum | usize::from(b & 0x7f) << (7 * n));
        let is_publish = self.head.first().is_some_and(|b| b >> 4 == 3);
        if !is_publish || length <= PACKET_MAX_BYTES {
            out.append(&mut self.head);
            self.pass = length;
            return;
        }
        out.extend(self.head.first());
        let mut rest = PACKET_MAX_BYTES;
        while rest > 0 {
            let more = if rest > 0x7f { 0x80 } else { 0 };
            out.push((rest & 0x7f) as u8 | more);
            rest >>= 7;
        }
        self.head.clear();
        (self.pass, self.skip) = (PACKET_MAX_BYTES, length - PACKET_MAX_BYTES);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.out_at >= this.out.len() {
            this.out.clear();
            this.out_at = 0;
            if this.at >= this.raw.len() {
                this.raw.resize(CHUNK_BYTES, 0);
                let mut chunk = ReadBuf::new(&mut this.raw);
                let read = Pin::new(&mut this.inner).poll_read(cx, &mut chunk);
                let filled = chunk.filled().len();
                this.raw.truncate(filled);
                this.at = 0;
                if read.is_pending() {
                    this.raw.clear();
                }
                ready!(read)?;
                if filled == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            this.filter.take(this.raw.get(this.at..).unwrap_or_default(), &mut this.out);
            this.at = this.raw.len();
        }
        let ready = this.out.get(this.out_at..).unwrap_or_default();
        let now = ready.get(..ready.len().min(buf.remaining())).unwrap_or_default();
        buf.put_slice(now);
        this.out_at += now.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, body: &[u8]) -> Vec<u8> {
        let mut all = vec![first];
        let mut rest = body.len();
        loop {
            all.push((rest & 0x7f) as u8 | if rest > 0x7f { 0x80 } else { 0 });
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        all.extend_from_slice(body);
        all
    }

    #[test]
    fn what_is_too_large_is_cut_and_all_else_goes_on_however_it_is_split() {
        let largest = vec![7; PACKET_MAX_BYTES];
        let beyond = [largest.clone(), vec![8; 3_000_000]].concat();
        let stream = [
            packet(0x20, &[0, 0]),
            packet(0x32, &largest),
            packet(0x31, &beyond),
            packet(0xd0, &[]),
            packet(0x30, &[9; 200]),
        ]
        .concat();
        let expected = [
            packet(0x20, &[0, 0]),
            packet(0x32, &largest),
            packet(0x31, &largest),
            packet(0xd0, &[]),
            packet(0x30, &[9; 200]),
        ]
        .concat();
        for size in [1, 3, 4096, CHUNK_BYTES, stream.len()] {
            let (mut filter, mut out) = (Filter::default(), Vec::new());
            stream.chunks(size).for_each(|chunk| filter.take(chunk, &mut out));
            assert!(out == expected, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_reader_with_little_room_gets_it_all() {
        use tokio::io::AsyncReadExt as _;
        let stream = [packet(0x30, &vec![1; PACKET_MAX_BYTES + 5]), packet(0x40, &[0, 1])].concat();
        let mut sieve = Sieve::new(std::io::Cursor::new(stream));
        let mut all = Vec::new();
        let mut few = [0; 1000];
        loop {
            let n = sieve.read(&mut few).await.unwrap();
            if n == 0 {
                break;
            }
            all.extend_from_slice(&few[..n]);
        }
        assert!(all == [packet(0x30, &vec![1; PACKET_MAX_BYTES]), packet(0x40, &[0, 1])].concat());
    }
}

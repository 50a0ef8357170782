//! Looking at the partners' listener from outside, as a partner would reach it: for `vestibule doctor`.
//!
//! It connects to the hub's own public address and to nothing else, over HTTPS; plain HTTP is taken to a loopback address
//! alone. Nothing of the home goes out here: what is sent are the check's own tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use model::Timestamp;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one request may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// Largest answer that is read.
const PROBE_MAX_BYTES: usize = 1 << 20;

/// Why the public address was not reached. Each says what to look at.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not an address that can be tried.
    #[error("`{0}` is no https:// address; set [partners] public_url")]
    Address(String),
    /// The name or the port.
    #[error(
        "`{host}:{port}` can't be connected to: look at its DNS record, the router's port forwarding and the proxy"
    )]
    Connect {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The certificate, above all.
    #[error("no TLS connection: the certificate is not good for this name, or not signed by a known authority")]
    Tls(#[source] std::io::Error),
    /// No certificates to trust.
    #[error("this system has no root certificates; install ca-certificates")]
    Roots,
    /// HTTP.
    #[error("something else than a web server answers there")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Too slow.
    #[error("no answer within {} seconds", PROBE_TIMEOUT.as_secs())]
    Slow,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Probed {
    /// HTTP status.
    pub status: u16,
    /// What the `Date` header says.
    pub date: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// A public address to be looked at.
#[derive(Clone, Debug)]
pub struct Probe {
    host: String,
    port: u16,
    tls: bool,
}

/// A clock that stands still, to ask whether a certificate is good at that time.
#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.as_millis().div_euclid(1000)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl Probe {
    /// The address of a hub, as in `https://home.example.org`.
    ///
    /// # Errors
    /// When it is neither HTTPS nor a loopback address.
    pub fn new(base: &str) -> Result<Self, ProbeError> {
        let wrong = || ProbeError::Address(base.chars().take(80).collect());
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        let tls = uri.scheme_str() == Some("https");
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let plain = uri.scheme_str() == Some("http") && loopback;
        if !tls && !plain {
            return Err(wrong());
        }
        Ok(Self { port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }), host, tls })
    }

    /// Whether it is HTTPS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether it is an address of this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.bare().parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Host and port, for a `Host` header.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn bare(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its certificate is good at a time.
    ///
    /// # Errors
    /// When it is not, or nothing answers.
    pub async fn certificate_at(&self, time: Timestamp) -> Result<(), ProbeError> {
        let shake = async { self.handshake(self.connect().await?, time).await.map(drop) };
        tokio::time::timeout(PROBE_TIMEOUT, shake).await.unwrap_or(Err(ProbeError::Slow))
    }

    /// Gets a path.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub async fn get(&self, path: &str, now: Timestamp) -> Result<Probed, ProbeError> {
        self.send(Method::GET, path, "", String::new(), now).await
    }

    /// Posts a body to a path.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub async fn post(&self, path: &str, kind: &str, body: String, now: Timestamp) -> Result<Probed, ProbeError> {
        self.send(Method::POST, path, kind, body, now).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: String,
        now: Timestamp,
    ) -> Result<Probed, ProbeError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority())
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, "vestibule-doctor")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| ProbeError::Http(e.into()))?;
        let whole = async {
            let stream = self.connect().await?;
            if self.tls {
                exchange(TokioIo::new(self.handshake(stream, now).await?), request).await
            } else {
                exchange(TokioIo::new(stream), request).await
            }
        };
        tokio::time::timeout(PROBE_TIMEOUT, whole).await.unwrap_or(Err(ProbeError::Slow))
    }

    pub(crate) async fn connect(&self) -> Result<TcpStream, ProbeError> {
        TcpStream::connect((self.bare(), self.port)).await.map_err(|source| ProbeError::Connect {
            host: self.host.clone(),
            port: self.port,
            source,
        })
    }

    pub(crate) async fn handshake(
        &self,
        stream: TcpStream,
        time: Timestamp,
    ) -> Result<TlsStream<TcpStream>, ProbeError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(ProbeError::Roots);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(At(time)))
            .with_safe_default_protocol_versions()
            .map_err(|e| ProbeError::Tls(std::io::Error::other(e)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.bare().to_owned()).map_err(|_| ProbeError::Address(self.host.clone()))?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(ProbeError::Tls)
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Probed, ProbeError>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let failed = |e: hyper::Error| ProbeError::Http(Box::new(e));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
    let driving = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, PROBE_MAX_BYTES).collect().await.map_err(ProbeError::Http)?.to_bytes();
    driving.abort();
    let date = head.headers.get(header::DATE).and_then(|v| v.to_str().ok()).map(str::to_owned);
    Ok(Probed { status: head.status.as_u16(), date, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_plain_loopback_are_looked_at() {
        for good in ["https://home.example.org", "https://[::1]:8443", "http://127.0.0.1:8481", "http://[::1]:1"] {
            assert!(Probe::new(good).is_ok(), "{good}");
        }
        assert_eq!(Probe::new("https://home.example.org").unwrap().port(), 443);
        for bad in ["http://home.example.org", "http://10.0.0.1", "http://localhost", "ftp://127.0.0.1", "home", ""] {
            assert!(Probe::new(bad).is_err(), "{bad}");
        }
    }
}

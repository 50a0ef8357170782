//! Amazon's two addresses: where tokens for events are fetched, and where events go. HTTP to them and nothing else.

use std::time::Duration;

use axum::http::{Method, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use model::Timestamp;
use tokio::task::JoinHandle;

use crate::probe::{Probe, ProbeError};

/// Where Login with Amazon gives tokens.
const TOKENS: &str = "https://api.amazon.com";

/// The path there.
pub(crate) const TOKENS_PATH: &str = "/auth/o2/token";

/// The path of events, in each region.
pub(crate) const EVENTS_PATH: &str = "/v3/events";

/// How long Amazon may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is read.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// Where the customer's account is: events go there, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// America.
    NorthAmerica,
    /// Europe and India.
    Europe,
    /// Japan and Australia.
    FarEast,
}

impl Region {
    /// `na`, `eu` or `fe`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "na" => Some(Region::NorthAmerica),
            "eu" => Some(Region::Europe),
            "fe" => Some(Region::FarEast),
            _ => None,
        }
    }

    fn address(self) -> &'static str {
        match self {
            Region::NorthAmerica => "https://api.amazonalexa.com",
            Region::Europe => "https://api.eu.amazonalexa.com",
            Region::FarEast => "https://api.fe.amazonalexa.com",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("not reached")]
    Reach(#[from] ProbeError),
    #[error("no answer within {} seconds", ANSWER_TIMEOUT.as_secs())]
    Slow,
}

/// The two addresses.
#[derive(Clone, Debug)]
pub struct Gateways {
    tokens: Probe,
    events: Probe,
}

impl Gateways {
    /// Those of a region; for tests, one address for both in their place, which must be a loopback one.
    ///
    /// # Errors
    /// When the address for tests is no loopback address.
    pub fn new(region: Region, for_tests: Option<&str>) -> Result<Self, ProbeError> {
        match for_tests {
            None => Ok(Self { tokens: Probe::new(TOKENS)?, events: Probe::new(region.address())? }),
            Some(address) => {
                let probe = Probe::new(address)?;
                if !probe.is_loopback() {
                    return Err(ProbeError::Address(address.chars().take(80).collect()));
                }
                Ok(Self { tokens: probe.clone(), events: probe })
            }
        }
    }

    pub(crate) fn tokens(&self) -> Wire {
        Wire { to: self.tokens.clone(), open: None }
    }

    pub(crate) fn events(&self) -> Wire {
        Wire { to: self.events.clone(), open: None }
    }
}

/// An answer of Amazon's: untrusted.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// Seconds that it asks to wait.
    pub(crate) retry_after: Option<u64>,
}

/// A connection that is used again as long as it stays open.
pub(crate) struct Wire {
    to: Probe,
    open: Option<(SendRequest<Full<Bytes>>, Driving)>,
}

/// The task behind a connection; it ends with it.
struct Driving(JoinHandle<()>);

impl Drop for Driving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wire {
    /// Posts bytes that are on record.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        kind: &str,
        bearer: Option<&str>,
        body: Bytes,
        now: Timestamp,
    ) -> Result<Answer, SendError> {
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(path, kind, bearer, body, now)).await;
        let answer = sent.unwrap_or(Err(SendError::Slow));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(
        &mut self,
        path: &str,
        kind: &str,
        bearer: Option<&str>,
        body: Bytes,
        now: Timestamp,
    ) -> Result<Answer, SendError> {
        let failed = |e: Box<dyn std::error::Error + Send + Sync>| SendError::Reach(ProbeError::Http(e));
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, self.to.authority())
            .header(header::CONTENT_TYPE, kind)
            .header(header::USER_AGENT, "vestibule");
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        let request = request.body(Full::new(body)).map_err(|e| failed(e.into()))?;
        let ready = match &mut self.open {
            Some((sender, _)) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            self.open = Some(self.connect(now).await?);
        }
        let Some((sender, _)) = &mut self.open else { return Err(SendError::Slow) };
        let response = sender.send_request(request).await.map_err(|e| failed(e.into()))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(failed)?.to_bytes();
        let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(Answer { status: head.status.as_u16(), body, retry_after })
    }

    async fn connect(&self, now: Timestamp) -> Result<(SendRequest<Full<Bytes>>, Driving), SendError> {
        let stream = self.to.connect().await?;
        let failed = |e: hyper::Error| SendError::Reach(ProbeError::Http(e.into()));
        if self.to.is_tls() {
            let stream = TokioIo::new(self.to.handshake(stream, now).await?);
            let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
            Ok((sender, Driving(tokio::spawn(async move { drop(connection.await) }))))
        } else {
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
            Ok((sender, Driving(tokio::spawn(async move { drop(connection.await) }))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_constants_and_tests_may_name_loopback_alone() {
        for region in ["na", "eu", "fe"] {
            let region = Region::parse(region).unwrap();
            let gateways = Gateways::new(region, None).unwrap();
            assert!(gateways.tokens.is_tls() && gateways.events.is_tls());
            assert!(!gateways.events.is_loopback() && gateways.events.authority().ends_with(".amazonalexa.com:443"));
            assert_eq!(gateways.tokens.authority(), "api.amazon.com:443");
        }
        assert!(Region::parse("xx").is_none());
        for good in ["http://127.0.0.1:9", "http://[::1]:9"] {
            assert!(Gateways::new(Region::Europe, Some(good)).is_ok(), "{good}");
        }
        for bad in ["https://api.eu.amazonalexa.com", "https://10.0.0.1", "http://10.0.0.1", "https://localhost", ""] {
            assert!(Gateways::new(Region::Europe, Some(bad)).is_err(), "{bad}");
        }
    }
}

//! Clients: a partner's software as the household has registered it.

use core::net::{IpAddr, Ipv6Addr};

use model::{ClientId, PartnerId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{REDIRECT_MAX_BYTES, REDIRECTS_MAX};
use crate::secret::{Hash, SECRET_PREFIX, Token, same_text};

/// How a partner is spoken of on the page where a member links it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartnerWords {
    /// The assistant, as in "Alexa".
    pub title: &'static str,
    /// The company behind it.
    pub company: &'static str,
    /// The company's privacy policy.
    pub privacy: Option<&'static str>,
}

/// Words for a partner; what is not known is called an assistant.
pub fn partner_words(partner: &PartnerId) -> PartnerWords {
    match partner.as_str() {
        "alexa" => PartnerWords { title: "Alexa", company: "Amazon", privacy: Some("https://www.amazon.com/privacy") },
        "google" => {
            PartnerWords { title: "Google", company: "Google", privacy: Some("https://policies.google.com/privacy") }
        }
        _ => PartnerWords { title: "An assistant", company: "its maker", privacy: None },
    }
}

/// What differs between clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTerms {
    /// It has a secret. Without one, PKCE is always required.
    pub secret: bool,
    /// It must use PKCE. When it need not, and does all the same, it is checked all the same.
    pub pkce: bool,
    /// Each refresh gives a new refresh token.
    pub rotate: bool,
}

impl ClientTerms {
    /// What a partner's documentation allows. Alexa sends PKCE when it is ticked in its console, and takes a new refresh
    /// token. Google advises PKCE without requiring it, and a refresh that fails there unlinks the account: its refresh
    /// token stays. Anything else is held to the strictest.
    pub fn of_partner(partner: &PartnerId) -> Self {
        match partner.as_str() {
            "google" => Self { secret: true, pkce: false, rotate: false },
            _ => Self { secret: true, pkce: true, rotate: true },
        }
    }
}

/// Why a client can't be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No redirect URI, or too many.
    #[error("give 1 to {REDIRECTS_MAX} redirect URIs; the partner's console shows them")]
    Count,
    /// A redirect URI that can't be used.
    #[error("`{0}` is no redirect URI: write https://..., without # and spaces (http:// only to a loopback address)")]
    Redirect(String),
    /// No secret and no PKCE.
    #[error("a client without a secret must use PKCE")]
    Unprotected,
    /// Nothing would show that a refresh token was stolen.
    #[error("a client without a secret needs rotating refresh tokens: leave out --rotate false, or give it a secret")]
    NoRotation,
}

/// A partner's software as it is registered to link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Whose it is.
    pub partner: PartnerId,
    /// Where a member's browser may be sent back to. Compared whole.
    pub redirects: Vec<String>,
    /// What differs between clients.
    pub terms: ClientTerms,
    /// When it was registered.
    pub created: Timestamp,
    /// Hash of its secret; none when it has none.
    secret: Option<Hash>,
}

impl Client {
    /// A new client, and its secret if it has one.
    ///
    /// # Errors
    /// When a redirect URI is not acceptable, or nothing would protect the code.
    pub fn new(
        id: ClientId,
        partner: PartnerId,
        redirects: Vec<String>,
        terms: ClientTerms,
        created: Timestamp,
        random: [u8; 32],
    ) -> Result<(Self, Option<Token>), ClientError> {
        if redirects.is_empty() || redirects.len() > REDIRECTS_MAX {
            return Err(ClientError::Count);
        }
        if let Some(bad) = redirects.iter().find(|uri| origin(uri).is_none()) {
            return Err(ClientError::Redirect(bad.chars().take(80).collect()));
        }
        if !terms.secret && !terms.pkce {
            return Err(ClientError::Unprotected);
        }
        // RFC 9700 section 4.14.2.
        if !terms.secret && !terms.rotate {
            return Err(ClientError::NoRotation);
        }
        let token = terms.secret.then(|| Token::of_kind(SECRET_PREFIX, random));
        let secret = token.as_ref().map(|t| Hash::of(t.reveal()));
        Ok((Self { id, partner, redirects, terms, created, secret }, token))
    }

    /// Whether a member's browser may be sent there: the very same text as registered.
    pub fn allows(&self, redirect: &str) -> bool {
        self.redirects.iter().fold(false, |found, uri| found | same_text(uri, redirect))
    }

    /// Whether this is its secret, or it has none and none was given.
    pub(crate) fn fits(&self, secret: Option<&str>) -> bool {
        match (&self.secret, secret) {
            (Some(kept), Some(given)) => kept.is(&Hash::of(given)),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

/// Scheme, host and port of a redirect URI; none when it can't be one.
pub(crate) fn origin(uri: &str) -> Option<&str> {
    let plain = uri.len() <= REDIRECT_MAX_BYTES && uri.bytes().all(|b| b.is_ascii_graphic());
    if !plain || uri.contains(['#', '"', '<', '>', '\\', '^', '`', '{', '|', '}', ';', ',', '\'']) {
        return None;
    }
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => host,
        Some((_, port)) if !port.ends_with(']') => return None,
        _ => authority,
    };
    let name = |h: &str| !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let known = match address {
        Some(six) => six.parse::<Ipv6Addr>().is_ok(),
        None => name(host),
    };
    let loopback = host == "localhost" || address.unwrap_or(host).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !known || (uri.starts_with("http://") && !loopback) {
        return None;
    }
    uri.get(..uri.len() - rest.len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_are_https_or_loopback_and_compared_whole() {
        for (uri, expected) in [
            ("https://pitangui.amazon.com/api/skill/link/M1", Some("https://pitangui.amazon.com")),
            ("https://a.example:8443?x=1", Some("https://a.example:8443")),
            ("http://127.0.0.1:3000/cb", Some("http://127.0.0.1:3000")),
            ("http://[::1]:1/cb", Some("http://[::1]:1")),
            ("http://localhost/cb", Some("http://localhost")),
            ("http://example.org/cb", None),
            ("http://127.0.0.1.example.org/cb", None),
            ("https://user@example.org/", None),
            ("https://example.org/#f", None),
            ("https://exa mple.org/", None),
            ("https://example.org/;script-src", None),
            ("https://example.org:x/", None),
            ("https:///path", None),
            ("javascript:alert(1)", None),
            ("", None),
        ] {
            assert_eq!(origin(uri), expected, "{uri}");
        }
        let new = |redirects: &[&str], terms| {
            Client::new(
                ClientId::new("c").unwrap(),
                PartnerId::new("alexa").unwrap(),
                redirects.iter().map(|r| (*r).to_owned()).collect(),
                terms,
                Timestamp::from_millis(0),
                [1; 32],
            )
        };
        let terms = ClientTerms { secret: true, pkce: true, rotate: true };
        let (client, secret) = new(&["https://a.example/cb"], terms).unwrap();
        assert!(client.allows("https://a.example/cb"));
        for near in ["https://a.example/cb/", "https://a.example/cb?x", "https://A.example/cb", "https://a.example/c"] {
            assert!(!client.allows(near), "{near}");
        }
        assert!(client.fits(Some(secret.unwrap().reveal())) && !client.fits(None) && !client.fits(Some("vss_x")));
        assert_eq!(new(&[], terms).unwrap_err(), ClientError::Count);
        assert!(matches!(new(&["ftp://a"], terms), Err(ClientError::Redirect(_))));
        let open = ClientTerms { secret: false, pkce: false, rotate: true };
        assert_eq!(new(&["https://a.example/cb"], open).unwrap_err(), ClientError::Unprotected);
    }
}

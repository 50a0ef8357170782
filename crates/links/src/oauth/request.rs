//! What a browser and a partner's server send, and what is said to them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use model::ClientId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Authority, FORM_MAX_BYTES, PARAMETERS_MAX, STATE_MAX_BYTES};
use crate::secret::{Token, same_text};

/// A query or form that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Too long, or too many parameters.
    #[error("the form is too long: at most {FORM_MAX_BYTES} bytes and {PARAMETERS_MAX} parameters")]
    TooLong,
    /// A parameter stands twice (RFC 6749, 3.1).
    #[error("a parameter stands twice")]
    Twice,
}

/// A form or query as names and values; empty values count as missing (RFC 6749, 3.1).
///
/// # Errors
/// See [`FormError`].
pub fn form(text: &str) -> Result<Vec<(String, String)>, FormError> {
    if text.len() > FORM_MAX_BYTES {
        return Err(FormError::TooLong);
    }
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if all.len() >= PARAMETERS_MAX {
            return Err(FormError::TooLong);
        }
        if all.iter().any(|(n, _)| *n == name) {
            return Err(FormError::Twice);
        }
        all.push((name.into_owned(), value.into_owned()));
    }
    all.retain(|(_, value)| !value.is_empty());
    Ok(all)
}

fn get<'a>(form: &'a [(String, String)], name: &str) -> Option<&'a str> {
    form.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// An authorization request that may be put to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizeRequest {
    /// Who asks.
    pub client: ClientId,
    /// Where the browser goes afterwards: one of the client's own.
    pub redirect: String,
    /// The client's own word, given back as it is.
    pub state: Option<String>,
    /// PKCE's challenge (S256).
    pub challenge: Option<String>,
}

impl AuthorizeRequest {
    /// Scheme, host and port of where the browser goes afterwards.
    pub fn origin(&self) -> &str {
        super::client::origin(&self.redirect).unwrap_or_default()
    }
}

/// Errors that the client is told by the browser's way back (RFC 6749, 4.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectError {
    /// Something is missing or wrong: above all, PKCE.
    InvalidRequest,
    /// Another response type than `code`.
    UnsupportedResponseType,
    /// The member said no.
    AccessDenied,
}

impl RedirectError {
    fn name(self) -> &'static str {
        match self {
            RedirectError::InvalidRequest => "invalid_request",
            RedirectError::UnsupportedResponseType => "unsupported_response_type",
            RedirectError::AccessDenied => "access_denied",
        }
    }

    fn description(self) -> &'static str {
        match self {
            RedirectError::InvalidRequest => {
                "a parameter is missing or wrong; PKCE with S256 is needed where the client was registered so"
            }
            RedirectError::UnsupportedResponseType => "response_type must be code",
            RedirectError::AccessDenied => "the household did not agree",
        }
    }
}

/// Why an authorization request is not put to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizeFault {
    /// Nobody can be sent anywhere: the client or its redirect URI is not known. The person is shown a page.
    Unknown,
    /// The browser is sent back with an error: to this URL.
    Back(String),
}

/// Reads an authorization request. The client and its redirect URI are checked first: a browser is sent nowhere else.
///
/// # Errors
/// See [`AuthorizeFault`].
pub fn authorize(authority: &Authority, issuer: &str, query: &str) -> Result<AuthorizeRequest, AuthorizeFault> {
    let form = form(query).map_err(|_| AuthorizeFault::Unknown)?;
    let client = get(&form, "client_id").and_then(|id| ClientId::new(id).ok()).ok_or(AuthorizeFault::Unknown)?;
    let client = authority.client(&client).ok_or(AuthorizeFault::Unknown)?;
    let redirect = get(&form, "redirect_uri").filter(|uri| client.allows(uri)).ok_or(AuthorizeFault::Unknown)?;
    let state = get(&form, "state").filter(|s| s.len() <= STATE_MAX_BYTES).map(str::to_owned);
    let back = |error: RedirectError| AuthorizeFault::Back(with_error(redirect, error, state.as_deref(), issuer));
    if state.is_none() && get(&form, "state").is_some() {
        return Err(back(RedirectError::InvalidRequest));
    }
    match get(&form, "response_type") {
        Some("code") => {}
        None => return Err(back(RedirectError::InvalidRequest)),
        Some(_) => return Err(back(RedirectError::UnsupportedResponseType)),
    }
    let challenge = match (get(&form, "code_challenge"), get(&form, "code_challenge_method")) {
        // S256 gives 32 bytes: 43 characters. `plain` is not taken, nor is a missing method, which means `plain`.
        (Some(text), Some("S256")) if text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok() => Some(text.to_owned()),
        (None, None) if !client.terms.pkce => None,
        _ => return Err(back(RedirectError::InvalidRequest)),
    };
    Ok(AuthorizeRequest { client: client.id.clone(), redirect: redirect.to_owned(), state, challenge })
}

/// Where the browser goes with the code. `iss` tells the client whose answer it is (RFC 9207).
pub fn redirect_with_code(request: &AuthorizeRequest, code: &Token, issuer: &str) -> String {
    let state = request.state.as_deref();
    with(&request.redirect, [("code", Some(code.reveal())), ("state", state), ("iss", Some(issuer))])
}

/// Where the browser goes when the member said no.
pub fn denied(request: &AuthorizeRequest, issuer: &str) -> String {
    with_error(&request.redirect, RedirectError::AccessDenied, request.state.as_deref(), issuer)
}

fn with_error(redirect: &str, error: RedirectError, state: Option<&str>, issuer: &str) -> String {
    let (name, why) = (error.name(), error.description());
    with(redirect, [("error", Some(name)), ("error_description", Some(why)), ("state", state), ("iss", Some(issuer))])
}

fn with<const N: usize>(redirect: &str, parameters: [(&str, Option<&str>); N]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let sign = if redirect.contains('?') { '&' } else { '?' };
    format!("{redirect}{sign}{}", query.finish())
}

/// Whether a verifier is the one of a challenge (RFC 7636, 4.6). A verifier where there was no challenge is refused, too
/// (RFC 9700, 2.1.1: somebody has stripped the challenge).
pub(crate) fn verified(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) => {
            let form = (43..=128).contains(&verifier.len())
                && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
            let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            form && same_text(&hash, challenge)
        }
        _ => false,
    }
}

/// How a client says who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its id.
    pub client: String,
    /// Its secret.
    pub(crate) secret: Option<String>,
    /// By HTTP Basic: then a refusal must say so, too.
    pub basic: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What a client asks of the token endpoint, or of the revocation endpoint.
#[derive(Clone, PartialEq, Eq)]
pub enum TokenRequest {
    /// Tokens for a code.
    Code {
        /// The code.
        code: String,
        /// The redirect URI again.
        redirect: Option<String>,
        /// PKCE's verifier.
        verifier: Option<String>,
    },
    /// New tokens for a refresh token.
    Refresh {
        /// The refresh token.
        token: String,
    },
    /// A token to be taken back.
    Revoke {
        /// The token, of either kind.
        token: String,
    },
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TokenRequest::Code { .. } => "Code",
            TokenRequest::Refresh { .. } => "Refresh",
            TokenRequest::Revoke { .. } => "Revoke",
        })
    }
}

/// Errors of the token endpoint (RFC 6749, 5.2), each with one constant body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Something is missing, wrong or doubled.
    InvalidRequest,
    /// Not a known client, or not its secret.
    InvalidClient,
    /// The code or token is wrong, used, expired, taken back, or another client's.
    InvalidGrant,
    /// Another grant type.
    UnsupportedGrantType,
    /// Too many.
    TooMany,
    /// It could not be recorded: nothing may leave.
    Unavailable,
}

impl TokenError {
    /// Every error.
    pub const ALL: [TokenError; 6] = [
        TokenError::InvalidRequest,
        TokenError::InvalidClient,
        TokenError::InvalidGrant,
        TokenError::UnsupportedGrantType,
        TokenError::TooMany,
        TokenError::Unavailable,
    ];

    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            TokenError::InvalidRequest | TokenError::InvalidGrant | TokenError::UnsupportedGrantType => 400,
            TokenError::InvalidClient => 401,
            TokenError::TooMany => 429,
            TokenError::Unavailable => 503,
        }
    }

    /// The body: the same bytes each time.
    pub fn body(self) -> &'static [u8] {
        match self {
            TokenError::InvalidRequest => {
                br#"{"error":"invalid_request","error_description":"A parameter is missing, wrong or doubled."}"#
            }
            TokenError::InvalidClient => {
                br#"{"error":"invalid_client","error_description":"The client id or its secret is wrong."}"#
            }
            TokenError::InvalidGrant => {
                br#"{"error":"invalid_grant","error_description":"The code or token is not valid here. Link again."}"#
            }
            TokenError::UnsupportedGrantType => {
                br#"{"error":"unsupported_grant_type","error_description":"Use authorization_code or refresh_token."}"#
            }
            TokenError::TooMany => {
                br#"{"error":"temporarily_unavailable","error_description":"Too many requests. Try again later."}"#
            }
            TokenError::Unavailable => br#"{"error":"temporarily_unavailable","error_description":"Try again later."}"#,
        }
    }
}

/// Reads what is sent to the token endpoint, or with `revocation` to that one: the client's credentials from the header
/// or from the form, never from both.
///
/// # Errors
/// What the client is to be told.
pub fn token_request(
    authorization: Option<&str>,
    body: &str,
    revocation: bool,
) -> Result<(Credentials, TokenRequest), TokenError> {
    let form = form(body).map_err(|_| TokenError::InvalidRequest)?;
    let text = |name: &str| get(&form, name).map(str::to_owned);
    let credentials = match authorization {
        Some(header) => {
            let (client, secret) = basic(header).ok_or(TokenError::InvalidClient)?;
            let doubled = text("client_secret").is_some() || text("client_id").is_some_and(|id| id != client);
            if doubled {
                return Err(TokenError::InvalidRequest);
            }
            Credentials { client, secret: Some(secret), basic: true }
        }
        None => {
            let client = text("client_id").ok_or(TokenError::InvalidClient)?;
            Credentials { client, secret: text("client_secret"), basic: false }
        }
    };
    if revocation {
        let token = text("token").ok_or(TokenError::InvalidRequest)?;
        return Ok((credentials, TokenRequest::Revoke { token }));
    }
    let request = match get(&form, "grant_type") {
        Some("authorization_code") => TokenRequest::Code {
            code: text("code").ok_or(TokenError::InvalidRequest)?,
            redirect: text("redirect_uri"),
            verifier: text("code_verifier"),
        },
        Some("refresh_token") => {
            TokenRequest::Refresh { token: text("refresh_token").ok_or(TokenError::InvalidRequest)? }
        }
        Some(_) => return Err(TokenError::UnsupportedGrantType),
        None => return Err(TokenError::InvalidRequest),
    };
    Ok((credentials, request))
}

/// Id and secret of an `Authorization: Basic` header; both are form-encoded within it (RFC 6749, 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || rest.len() > FORM_MAX_BYTES {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |text: &str| -> Option<String> {
        let decoded = form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned());
        Some(decoded.unwrap_or_default())
    };
    Some((plain(id)?, plain(secret)?))
}

/// What the server can do (RFC 8414).
pub fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/oauth/authorize"),
        "token_endpoint": format!("{issuer}/oauth/token"),
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "authorization_response_iss_parameter_supported": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_challenge_alone() {
        // RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(verified(Some(challenge), Some(verifier)));
        assert!(!verified(Some(challenge), Some(&verifier.replace('d', "e"))));
        assert!(!verified(Some(challenge), Some(challenge)), "plain is not taken");
        assert!(!verified(Some(challenge), None) && !verified(None, Some(verifier)) && verified(None, None));
    }

    #[test]
    fn credentials_come_from_one_place_and_parameters_once() {
        let body = "grant_type=refresh_token&refresh_token=r";
        let read = |header: Option<&str>, body: &str| token_request(header, body, false);
        // `a%3Ab:c+d`: the id has a colon, the secret a space.
        let header = format!("Basic {}", STANDARD.encode("a%3Ab:c+d"));
        let (credentials, request) = read(Some(&header), body).unwrap();
        assert_eq!((credentials.client.as_str(), credentials.secret.as_deref()), ("a:b", Some("c d")));
        assert_eq!(request, TokenRequest::Refresh { token: "r".into() });
        let (credentials, _) = read(None, &format!("{body}&client_id=x&client_secret=y")).unwrap();
        assert_eq!((credentials.client.as_str(), credentials.secret.as_deref()), ("x", Some("y")));
        for (header, body, expected) in [
            (Some(header.as_str()), format!("{body}&client_secret=y"), TokenError::InvalidRequest),
            (Some(header.as_str()), format!("{body}&client_id=y"), TokenError::InvalidRequest),
            (Some("Bearer x"), body.to_owned(), TokenError::InvalidClient),
            (Some("Basic %"), body.to_owned(), TokenError::InvalidClient),
            (None, body.to_owned(), TokenError::InvalidClient),
            (None, format!("{body}&client_id=x&client_id=x"), TokenError::InvalidRequest),
            (None, "client_id=x".to_owned(), TokenError::InvalidRequest),
            (None, "client_id=x&grant_type=password".to_owned(), TokenError::UnsupportedGrantType),
            (None, "client_id=x&grant_type=refresh_token&refresh_token=".to_owned(), TokenError::InvalidRequest),
            (None, format!("client_id=x&a={}", "y".repeat(FORM_MAX_BYTES)), TokenError::InvalidRequest),
        ] {
            assert_eq!(read(header, &body).unwrap_err(), expected, "{header:?} {body:.60}");
        }
        assert_eq!(token_request(None, "client_id=x", true).unwrap_err(), TokenError::InvalidRequest);
        for error in TokenError::ALL {
            let json: Value = serde_json::from_slice(error.body()).unwrap();
            assert!(json["error"].is_string() && error.status() >= 400);
        }
    }
}

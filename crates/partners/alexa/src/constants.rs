//! What is said to whoever is not authenticated: a closed list of bodies, the same bytes each time.
//!
//! They tell nothing of the home, are counted and not recorded. Those named `*_EVENT` are events that a relay can hand to
//! Alexa as they are; the others go out with the HTTP status that each names.

use crate::directive::{Directive, Kind, ParseError};

/// Discover with a bad token: no endpoints. Amazon asks for this in place of an error.
pub const NO_ENDPOINTS_EVENT: &[u8] = br#"{"event":{"header":{"namespace":"Alexa.Discovery","name":"Discover.Response","payloadVersion":"3","messageId":"00000000-0000-4000-8000-000000000001"},"payload":{"endpoints":[]}}}"#;

/// Any other directive with a bad token.
pub const BAD_TOKEN_EVENT: &[u8] = br#"{"event":{"header":{"namespace":"Alexa","name":"ErrorResponse","payloadVersion":"3","messageId":"00000000-0000-4000-8000-000000000002"},"payload":{"type":"INVALID_AUTHORIZATION_CREDENTIAL","message":"The token is not valid here. Link the account again."}}}"#;

/// AcceptGrant with a bad token.
pub const ACCEPT_GRANT_FAILED_EVENT: &[u8] = br#"{"event":{"header":{"namespace":"Alexa.Authorization","name":"ErrorResponse","payloadVersion":"3","messageId":"00000000-0000-4000-8000-000000000003"},"payload":{"type":"ACCEPT_GRANT_FAILED","message":"The token is not valid here. Link the account again."}}}"#;

/// What is not JSON, or no directive. HTTP status 400.
pub const BAD_REQUEST: &[u8] = br#"{"error":"bad_request","message":"Send an Alexa Smart Home v3 directive as JSON."}"#;

/// A body that is too large. HTTP status 413.
pub const TOO_LARGE: &[u8] = br#"{"error":"too_large","message":"A directive has at most 131072 bytes."}"#;

/// No such path. HTTP status 404.
pub const NOT_FOUND: &[u8] =
    br#"{"error":"not_found","message":"Alexa's directives go to POST /alexa/v3/directives."}"#;

/// Another method than POST. HTTP status 405.
pub const METHOD_NOT_ALLOWED: &[u8] =
    br#"{"error":"method_not_allowed","message":"Alexa's directives go to POST /alexa/v3/directives."}"#;

/// Too busy, or unable to record: nothing else may leave. HTTP status 503.
pub const UNAVAILABLE: &[u8] = br#"{"error":"unavailable","message":"Try again later."}"#;

/// The whole list.
pub const ALL: [&[u8]; 8] = [
    NO_ENDPOINTS_EVENT,
    BAD_TOKEN_EVENT,
    ACCEPT_GRANT_FAILED_EVENT,
    BAD_REQUEST,
    TOO_LARGE,
    NOT_FOUND,
    METHOD_NOT_ALLOWED,
    UNAVAILABLE,
];

/// The body for whoever is not authenticated; `None` for what is no directive.
pub fn for_unauthenticated(directive: Option<&Directive>) -> &'static [u8] {
    match directive.map(Directive::kind) {
        None => BAD_REQUEST,
        Some(Kind::Discover) => NO_ENDPOINTS_EVENT,
        Some(Kind::AcceptGrant) => ACCEPT_GRANT_FAILED_EVENT,
        Some(_) => BAD_TOKEN_EVENT,
    }
}

/// HTTP status and body for what [`parse`](crate::parse) refuses.
pub fn for_unreadable(error: &ParseError) -> (u16, &'static [u8]) {
    match error {
        ParseError::TooLarge { .. } => (413, TOO_LARGE),
        ParseError::NotJson { .. } | ParseError::NotADirective => (400, BAD_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BODY_MAX_BYTES;
    use crate::parse;

    #[test]
    fn each_stranger_gets_its_constant() {
        let body = |namespace: &str, name: &str| {
            let json = format!(
                r#"{{"directive":{{"header":{{"namespace":"{namespace}","name":"{name}"}},"endpoint":{{"endpointId":"e"}}}}}}"#
            );
            for_unauthenticated(Some(&parse(json.as_bytes()).unwrap()))
        };
        assert_eq!(body("Alexa.Discovery", "Discover"), NO_ENDPOINTS_EVENT);
        assert_eq!(body("Alexa.Authorization", "AcceptGrant"), ACCEPT_GRANT_FAILED_EVENT);
        assert_eq!(body("Alexa", "ReportState"), BAD_TOKEN_EVENT);
        assert_eq!(body("x", "y"), BAD_TOKEN_EVENT);
        assert_eq!(for_unauthenticated(None), BAD_REQUEST);
        assert_eq!(for_unreadable(&parse(&vec![b' '; BODY_MAX_BYTES + 1]).unwrap_err()), (413, TOO_LARGE));
        assert_eq!(for_unreadable(&parse(b"[").unwrap_err()), (400, BAD_REQUEST));
        assert!(String::from_utf8_lossy(TOO_LARGE).contains(&format!(" {BODY_MAX_BYTES} ")));
    }
}

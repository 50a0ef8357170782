//! What every request must pass, and every answer carries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::Options;
use crate::api::error;

/// The content security policy of every answer: own files only, no inline code, no frames.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// Where orders go: the only path that answers POST.
const ORDERS: &str = "/api/thermostats/";

/// Longest accepted `Host`: a DNS name (253 bytes), a colon and a port.
pub const MAX_HOST_BYTES: usize = 259;

/// The hosts that this listener answers to.
pub(crate) struct Guard {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    any_address: bool,
}

impl Guard {
    pub(crate) fn new(options: Options) -> Self {
        let mut guard =
            Self { names: BTreeSet::from(["localhost".to_owned()]), addresses: BTreeSet::new(), any_address: false };
        if let Some(listen) = options.listen {
            guard.any_address = listen.ip().is_unspecified();
            guard.addresses.insert(listen.ip());
        }
        for host in options.hosts {
            match address(&host) {
                Some(ip) => guard.addresses.insert(ip),
                None => guard.names.insert(plain(&host)),
            };
        }
        guard
    }

    /// Whether the request names one host, and that is ours. The port is not compared: it may be
    /// forwarded, and rebinding is about the name.
    fn knows(&self, request: &Request) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let named = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().is_ok_and(|host| self.is_ours(host)),
            _ => false,
        };
        // A request line with a whole address (as to a proxy) must agree.
        named && request.uri().authority().is_none_or(|authority| self.is_ours(authority.as_str()))
    }

    fn is_ours(&self, host: &str) -> bool {
        if host.len() > MAX_HOST_BYTES || host.contains('@') {
            return false;
        }
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        match address(authority.host()) {
            Some(ip) => ip.is_loopback() || self.any_address || self.addresses.contains(&ip),
            None => self.names.contains(&plain(authority.host())),
        }
    }
}

/// Refuses foreign hosts, other methods and other sites' scripts; adds the security headers.
pub(crate) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = if !guard.knows(&request) {
        error(
            StatusCode::FORBIDDEN,
            "this host name is not the console's: open it by its address, or add the name to the \
             console's hosts",
        )
    } else if *request.method() == Method::POST && request.uri().path().starts_with(ORDERS) {
        if from_another_site(request.headers()) || from_another_origin(request.headers()) {
            error(StatusCode::FORBIDDEN, "another site may not order anything here")
        } else {
            next.run(request).await
        }
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let (methods, words) = match request.uri().path().starts_with(ORDERS) {
            true => ("POST", "only POST is answered here"),
            false => ("GET, HEAD", "only GET is answered here"),
        };
        let allow = [(header::ALLOW, HeaderValue::from_static(methods))];
        let refusal = error(StatusCode::METHOD_NOT_ALLOWED, words);
        (allow, refusal).into_response()
    } else if request.uri().path().starts_with("/api/") && from_another_site(request.headers()) {
        error(StatusCode::FORBIDDEN, "another site may not read the home")
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Browsers say where a request comes from; `none` is a typed address or a bookmark.
pub(crate) fn from_another_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Whether a script or a form of another page sends this: older browsers say so by its origin alone.
fn from_another_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.strip_prefix("http://").or_else(|| o.strip_prefix("https://")));
    origin.zip(host).is_none_or(|(origin, host)| !origin.eq_ignore_ascii_case(host))
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

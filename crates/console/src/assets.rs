//! The page's files, embedded in the program.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// One embedded file. Served with `no-cache` and a tag: an upgrade shows at the next visit, and
/// otherwise nothing is sent again.
#[derive(Clone, Copy)]
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    kind: &'static str,
    body: &'static str,
}

pub(crate) fn all() -> [Asset; 4] {
    let asset = |path, kind, body| Asset { path, kind, body };
    [
        asset("/", "text/html; charset=utf-8", include_str!("../assets/index.html")),
        asset("/style.css", "text/css; charset=utf-8", include_str!("../assets/style.css")),
        asset("/app.js", "text/javascript; charset=utf-8", include_str!("../assets/app.js")),
        asset("/icon.svg", "image/svg+xml", include_str!("../assets/icon.svg")),
    ]
}

pub(crate) async fn serve(asset: Asset, headers: HeaderMap) -> Response {
    let tag = format!("\"{:016x}\"", fnv1a(asset.body.as_bytes()));
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(&tag));
    let always = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known {
        return (StatusCode::NOT_MODIFIED, always).into_response();
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind))];
    (always, kind, asset.body).into_response()
}

/// FNV-1a, 64 bits: tells two builds' files apart; it protects nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

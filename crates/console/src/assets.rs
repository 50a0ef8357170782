//! The page's files, embedded in the program.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The page, without the data that it shows first: see [`page`].
const PAGE: &str = include_str!("../assets/index.html");

/// Where the page takes its first data.
const DATA_MARK: &str = "<!--data-->";

/// The page with the data that it shows first, so that it is whole when it has loaded: on a slow phone, for whoever prints
/// it, and while the hub is busy. The data are an inert block; nothing in it can end the block, because no `<` is in it.
pub(crate) fn page(data: Option<&serde_json::Value>) -> String {
    let block = data.map_or_else(String::new, |data| {
        let json = data.to_string().replace('<', "\\u003c");
        format!("<script type=\"application/json\" id=\"data\">{json}</script>")
    });
    PAGE.replacen(DATA_MARK, &block, 1)
}

/// One embedded file. Served with `no-cache` and a tag: an upgrade shows at the next visit, and
/// otherwise nothing is sent again.
#[derive(Clone, Copy)]
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    kind: &'static str,
    body: &'static str,
}

pub(crate) fn all() -> [Asset; 3] {
    let asset = |path, kind, body| Asset { path, kind, body };
    [
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

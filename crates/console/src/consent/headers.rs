//! What every answer carries, so that a page can be neither framed, sniffed, scripted nor kept.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use url::Url;

use super::ConsentSettings;

/// Puts the headers on.
pub(super) fn guard(settings: &ConsentSettings, mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.entry(name).or_insert(value);
        }
    };
    put(header::CONTENT_SECURITY_POLICY, &policy(settings));
    put(header::CACHE_CONTROL, "no-store");
    // A link must not travel on in a Referer, nor a code.
    put(header::REFERRER_POLICY, "no-referrer");
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::X_FRAME_OPTIONS, "DENY");
    put(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    put(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    put(HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()");
    if settings.public_url.scheme() == "https" {
        put(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

fn policy(settings: &ConsentSettings) -> String {
    // A browser applies form-action to where the form's answer leads as well: to the sign-in service.
    let sign_in = settings.sign_in_origins.join(" ");
    format!("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {sign_in}; base-uri 'none'; frame-ancestors 'none'")
}

/// Whether a form came from a page of ours. Browsers say where from with every POST; whoever says nothing is no browser,
/// and has no cookies of others to misuse.
pub(super) fn from_our_own_page(headers: &HeaderMap, public_url: &Url) -> bool {
    let fetch_site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if fetch_site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    match headers.get(header::ORIGIN) {
        None => true,
        // What a page with `Referrer-Policy: no-referrer` sends; Sec-Fetch-Site has spoken for it.
        Some(origin) if origin.as_bytes() == b"null" => fetch_site.is_some(),
        Some(origin) => origin.to_str().is_ok_and(|origin| origin == public_url.origin().ascii_serialization()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_forms_of_our_own_pages_are_taken() {
        let ours = Url::parse("https://soc.example/").unwrap();
        for (origin, site, taken) in [
            (None, None, true),
            (Some("https://soc.example"), None, true),
            (Some("https://soc.example"), Some("same-origin"), true),
            (Some("null"), Some("same-origin"), true),
            (Some("null"), None, false),
            (Some("null"), Some("cross-site"), false),
            (Some("https://evil.example"), None, false),
            (Some("https://soc.example.evil.example"), None, false),
            (Some("http://soc.example"), None, false),
            (Some("https://soc.example:444"), None, false),
            (Some("https://soc.example"), Some("cross-site"), false),
            (None, Some("same-site"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            if let Some(site) = site {
                headers.insert("sec-fetch-site", site.parse().unwrap());
            }
            assert_eq!(from_our_own_page(&headers, &ours), taken, "{origin:?} {site:?}");
        }
    }
}

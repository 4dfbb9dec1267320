//! What a page is asked for by: a window of time, or the link that a page ended with.

mod facets;

use domain::rehearsal::bug;
use domain::{Axis, Source, Ticks};
use url::Url;

pub use facets::{Facet, FacetField, facets};

use crate::http::at_home;
use crate::{clouds, extract};

/// How to ask for a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageQuery {
    /// By time.
    Window(WindowQuery),
    /// Where the previous page said that the next one is.
    Next(NextLink),
}

/// A window of time, and perhaps only some of what lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowQuery {
    /// From this instant on, inclusive: a run of equal stamps may be cut by a page border.
    pub from: Ticks,
    /// Up to but not including this instant; open-ended without.
    pub before: Option<Ticks>,
    /// At most this many; clamped to what the source allows, which it would do silently.
    pub top: u32,
    /// Leave out this many from the start of the window.
    pub skip: u32,
    /// Ask for oldest first. Ignored for a source that knows no order.
    pub ordered: bool,
    /// Which stamp the window and the order are about.
    pub axis: Axis,
    /// Only records with all of these: what divides a run of equal stamps that is longer than a source lets us
    /// reach. At most one per field.
    pub facets: [Option<Facet>; 3],
}

/// Where the next page is. It can only come out of a page, leads to where that page came from, and
/// its text is opaque.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct NextLink(Url);

impl std::fmt::Debug for NextLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NextLink(opaque)")
    }
}

impl NextLink {
    /// Accepts a link found on a page that `asked` led to, if it stays at the origin of `base`.
    ///
    /// The link is read by the same URL reader that the HTTP client uses, and what was read is what
    /// is called: there is no second opinion about which host a text means.
    pub(crate) fn accept(text: &str, asked: &Url, base: &Url) -> Option<Self> {
        let mut url = asked.join(text).ok()?;
        url.set_fragment(None);
        at_home(&url, base).then_some(Self(url))
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl WindowQuery {
    /// The address of the page.
    pub(crate) fn url(&self, source: Source, base: &Url) -> Url {
        // Without $expand, Endpoint's evidence is an empty list rather than an absent one; an incident's alerts with
        // it fail for ever on a large tenant.
        let (path, stamp, extra) = match (source, self.axis) {
            (Source::GraphAlerts, axis) => ("v1.0/security/alerts_v2", graph_stamp(axis), ""),
            (Source::GraphIncidents, axis) => ("v1.0/security/incidents", graph_stamp(axis), ""),
            (Source::MdeAlerts, Axis::Update) => ("api/alerts", "lastUpdateTime", "&$expand=evidence"),
            (Source::MdeAlerts, Axis::Creation) => ("api/alerts", "alertCreationTime", "&$expand=evidence"),
        };
        let mut query = format!("$filter={stamp}%20ge%20{}", in_range(self.from));
        if let Some(before) = self.before {
            query.push_str(&format!("%20and%20{stamp}%20lt%20{}", in_range(before)));
        }
        for facet in self.facets.into_iter().flatten() {
            facet.narrow(source, &mut query);
        }
        query.push_str(&format!("&$top={}{extra}", self.top.clamp(1, crate::max_page(source))));
        if self.ordered && crate::supports_order(source) {
            query.push_str(&format!("&$orderby={stamp}%20asc"));
        }
        if self.skip > 0 {
            query.push_str(&format!("&$skip={}", self.skip));
        }
        let mut url = clouds::under(base, path);
        url.set_query(Some(&query));
        url
    }
}

fn graph_stamp(axis: Axis) -> &'static str {
    match axis {
        Axis::Update => "lastUpdateDateTime",
        Axis::Creation => "createdDateTime",
    }
}

/// Stamps outside years 1 to 9999 have no spelling that a filter takes.
fn in_range(stamp: Ticks) -> Ticks {
    const FIRST: Ticks = Ticks(-621_355_968_000_000_000);
    const LAST: Ticks = Ticks(2_534_023_007_999_999_999);
    let stamp = stamp.clamp(FIRST, LAST);
    if bug("microseconds-only") { extract::whole_microseconds(stamp) } else { stamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> WindowQuery {
        let from = Ticks::parse("2026-01-02T03:04:05.1234567Z").unwrap();
        WindowQuery { from, before: None, top: 1000, skip: 0, ordered: false, axis: Axis::Update, facets: [None; 3] }
    }

    fn url(source: Source, window: WindowQuery) -> String {
        window.url(source, &Url::parse("https://graph.test/").unwrap()).to_string()
    }

    #[test]
    fn graph_is_asked_by_last_update_with_every_digit_of_the_stamp() {
        assert_eq!(
            url(Source::GraphAlerts, window()),
            "https://graph.test/v1.0/security/alerts_v2?$filter=lastUpdateDateTime%20ge%202026-01-02T03:04:05.1234567Z&$top=1000"
        );
        let full = WindowQuery { before: Ticks::parse("2026-01-03T00:00:00Z"), skip: 500, ordered: true, ..window() };
        assert_eq!(
            url(Source::GraphAlerts, full),
            "https://graph.test/v1.0/security/alerts_v2?$filter=lastUpdateDateTime%20ge%202026-01-02T03:04:05.1234567Z\
             %20and%20lastUpdateDateTime%20lt%202026-01-03T00:00:00.0000000Z&$top=1000&$orderby=lastUpdateDateTime%20asc&$skip=500"
        );
    }

    #[test]
    fn endpoint_is_asked_for_its_evidence_and_never_for_an_order() {
        assert_eq!(
            url(Source::MdeAlerts, WindowQuery { ordered: true, ..window() }),
            "https://graph.test/api/alerts?$filter=lastUpdateTime%20ge%202026-01-02T03:04:05.1234567Z&$top=1000&$expand=evidence"
        );
    }

    #[test]
    fn a_page_size_is_never_more_than_the_source_would_give() {
        for (source, top, sent) in [
            (Source::GraphAlerts, 5000, "$top=1000"),
            (Source::GraphAlerts, 0, "$top=1"),
            (Source::MdeAlerts, 5000, "$top=5000"),
            (Source::MdeAlerts, 50_000, "$top=10000"),
        ] {
            let url = url(source, WindowQuery { top, ..window() });
            assert!(url.split(['?', '&']).any(|part| part == sent), "{url}");
        }
    }

    #[test]
    fn an_absurd_window_is_still_a_readable_filter() {
        let url = url(Source::GraphAlerts, WindowQuery { from: Ticks(i64::MIN), before: Some(Ticks(i64::MAX)), ..window() });
        assert!(url.contains("ge%200001-01-01T00:00:00.0000000Z") && url.contains("lt%209999-12-31T23:59:59.9999999Z"), "{url}");
    }

    #[test]
    fn incidents_are_asked_for_without_their_alerts() {
        let full = WindowQuery { before: Ticks::parse("2026-01-03T00:00:00Z"), top: 1000, skip: 50, ordered: true, ..window() };
        assert_eq!(
            url(Source::GraphIncidents, full),
            "https://graph.test/v1.0/security/incidents?$filter=lastUpdateDateTime%20ge%202026-01-02T03:04:05.1234567Z\
             %20and%20lastUpdateDateTime%20lt%202026-01-03T00:00:00.0000000Z&$top=50&$orderby=lastUpdateDateTime%20asc&$skip=50"
        );
    }

    #[test]
    fn a_window_of_creation_is_filtered_and_ordered_by_creation() {
        let created = |source| url(source, WindowQuery { axis: Axis::Creation, ordered: true, ..window() });
        for source in [Source::GraphAlerts, Source::GraphIncidents] {
            let url = created(source);
            assert!(url.contains("?$filter=createdDateTime%20ge%202026"), "{url}");
            assert!(url.contains("&$orderby=createdDateTime%20asc") && !url.contains("lastUpdate"), "{url}");
        }
        let url = created(Source::MdeAlerts);
        assert!(url.contains("?$filter=alertCreationTime%20ge%202026") && !url.contains("lastUpdate"), "{url}");
    }

    #[test]
    fn a_facet_narrows_the_window() {
        let high = Facet { field: FacetField::Severity, value: Some("high") };
        let odd = Facet { field: FacetField::Status, value: None };
        let before = Some(Ticks(window().from.0 + 1));
        let narrowed = url(Source::GraphAlerts, WindowQuery { before, facets: [Some(high), Some(odd), None], ..window() });
        assert_eq!(
            narrowed,
            "https://graph.test/v1.0/security/alerts_v2?$filter=lastUpdateDateTime%20ge%202026-01-02T03:04:05.1234567Z\
             %20and%20lastUpdateDateTime%20lt%202026-01-02T03:04:05.1234568Z%20and%20severity%20eq%20%27high%27\
             %20and%20status%20ne%20%27unknown%27%20and%20status%20ne%20%27new%27%20and%20status%20ne%20%27inProgress%27\
             %20and%20status%20ne%20%27resolved%27&$top=1000"
        );
    }

    const BASE: &str = "https://graph.microsoft.com";

    /// Links that look as if they stayed. Each must be refused, or lead to the very same origin.
    const TRICKS: &[(&str, bool)] = &[
        // Plainly elsewhere.
        ("https://evil.test/v1.0/security/alerts_v2", false),
        ("http://graph.microsoft.com/v1.0/security/alerts_v2", false),
        ("//evil.test/x", false),
        ("///evil.test/x", false),
        ("\\\\evil.test\\x", false),
        ("/\\evil.test/x", false),
        ("https:\\\\evil.test\\x", false),
        ("https:/evil.test/x", true),
        ("https:evil.test/x", true),
        // The name, and then some.
        ("https://graph.microsoft.com.evil.test/x", false),
        ("https://evilgraph.microsoft.com/x", false),
        ("https://graph.microsoft.com.", false),
        ("https://graph.microsoft.com./x", false),
        ("https://graph.microsoft.comevil.test/x", false),
        ("https://graph-microsoft.com/x", false),
        ("https://graph.microsoft.co/x", false),
        ("https://x.graph.microsoft.com/x", false),
        ("https://microsoft.com/x", false),
        ("https://dod-graph.microsoft.us/x", false),
        // User names and passwords.
        ("https://graph.microsoft.com@evil.test/x", false),
        ("https://graph.microsoft.com:443@evil.test/x", false),
        ("https://evil.test@graph.microsoft.com/x", false),
        ("https://:secret@graph.microsoft.com/x", false),
        ("https://graph.microsoft.com%40evil.test/x", false),
        ("https://evil.test#@graph.microsoft.com/x", false),
        ("https://evil.test?@graph.microsoft.com/x", false),
        ("https://evil.test\\@graph.microsoft.com/x", false),
        ("https://evil.test/@graph.microsoft.com/x", false),
        ("https://graph.microsoft.com\\@evil.test/x", true),
        ("https://graph.microsoft.com#@evil.test/", true),
        ("https://graph.microsoft.com?@evil.test/", true),
        // Ports.
        ("https://graph.microsoft.com:8443/x", false),
        ("https://graph.microsoft.com:80/x", false),
        ("https://graph.microsoft.com:443/x", true),
        ("https://graph.microsoft.com:0443/x", true),
        ("https://graph.microsoft.com:/x", true),
        ("https://graph.microsoft.com:65979/x", false),
        ("https://graph.microsoft.com:-443/x", false),
        // Letters that look like others.
        ("https://gr\u{0430}ph.microsoft.com/x", false),
        ("https://graph.m\u{0131}crosoft.com/x", false),
        ("https://graph.\u{217f}icrosoft.com/x", true),
        ("https://GRAPH.MICROSOFT.COM/x", true),
        ("https://graph.microsoft.com\u{3002}evil.test/x", false),
        ("https://graph\u{ff0e}microsoft\u{ff0e}com/x", true),
        ("https://graph.microsoft.com\u{2044}evil.test/x", false),
        ("https://graph.microsoft.com\u{ff0f}evil.test/x", false),
        ("https://graph.microsoft.com\u{200b}/x", true),
        ("https://xn--grph-63d.microsoft.com/x", false),
        // Encodings.
        ("https://graph%2emicrosoft%2ecom/x", true),
        ("https://graph.microsoft.com%2eevil.test/x", false),
        ("https://graph.microsoft.com%00.evil.test/x", false),
        ("https://graph.microsoft.com%2f.evil.test/x", false),
        ("https://%65vil.test/x", false),
        // Blanks and control characters.
        (" https://graph.microsoft.com/x", true),
        ("https://graph.micro\tsoft.com/x", true),
        ("https://graph.microsoft.com\n.evil.test/x", false),
        ("https://graph.microsoft.com .evil.test/x", false),
        ("https://graph.microsoft.com\0.evil.test/x", false),
        // Addresses.
        ("https://127.0.0.1/x", false),
        ("https://[::1]/x", false),
        ("https://2130706433/x", false),
        // Other schemes.
        ("ftp://graph.microsoft.com/x", false),
        ("wss://graph.microsoft.com/x", false),
        ("file:///etc/passwd", false),
        ("data:text/plain,x", false),
        ("javascript:alert(1)", false),
        ("blob:https://graph.microsoft.com/x", false),
        ("view-source:https://graph.microsoft.com/x", false),
        ("HTTPS://graph.microsoft.com/x", true),
        // Within the origin.
        ("/v1.0/security/alerts_v2?$skip=5", true),
        ("?$skiptoken=abc", true),
        ("../../x", true),
        ("https://graph.microsoft.com/../../x", true),
        // No address at all.
        ("https://", false),
        ("https://?", false),
        ("https://:443/x", false),
    ];

    #[test]
    fn fault_19_no_spelling_of_a_link_leads_elsewhere() {
        let base = Url::parse(BASE).unwrap();
        let asked = Url::parse("https://graph.microsoft.com/v1.0/security/alerts_v2?$top=1").unwrap();
        assert!(TRICKS.len() >= 40);
        for (text, stays) in TRICKS {
            let link = NextLink::accept(text, &asked, &base);
            assert_eq!(link.is_some(), *stays, "{text:?}");
            if let Some(link) = link {
                assert_eq!(link.url().origin(), base.origin(), "{text:?}");
                // What the HTTP client is given is text again, read by the same reader.
                let called = Url::parse(link.url().as_str()).unwrap();
                assert_eq!((called.host_str(), called.port(), called.scheme()), (Some("graph.microsoft.com"), None, "https"), "{text:?}");
                assert!(called.username().is_empty() && called.password().is_none() && called.fragment().is_none());
            }
        }
    }

    #[test]
    fn a_link_is_followed_to_the_letter() {
        let base = Url::parse(BASE).unwrap();
        let text = "https://graph.microsoft.com/v1.0/security/alerts_v2?$filter=a%20ge%20b&$skiptoken=x%2By+z%3d";
        assert_eq!(NextLink::accept(text, &base, &base).unwrap().url().as_str(), text);
        assert_eq!(format!("{:?}", NextLink::accept(text, &base, &base).unwrap()), "NextLink(opaque)");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_none_that_is_accepted_leaves(text in "(https?:|//|/|\\\\|@|:|#|\\?|%2e|graph\\.microsoft\\.com|evil\\.test|[a-z.0-9\\[\\]]|\\PC){0,12}") {
            let base = Url::parse(BASE).unwrap();
            if let Some(link) = NextLink::accept(&text, &base, &base) {
                proptest::prop_assert_eq!(link.url().origin(), base.origin());
            }
        }
    }
}

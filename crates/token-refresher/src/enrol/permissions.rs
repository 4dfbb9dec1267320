//! What a person is told that a permission is for.

use domain::Source;

/// What reading a source comes to, for the page that asks for consent.
pub fn in_plain_words(source: Source) -> &'static str {
    match source {
        Source::GraphAlerts => "read the security alerts of all Microsoft Defender products",
        Source::GraphIncidents => "read the incidents that those alerts are grouped into",
        Source::MdeAlerts => "read the alerts of Microsoft Defender for Endpoint",
    }
}

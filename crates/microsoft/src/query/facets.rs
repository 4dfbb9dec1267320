//! What a run of equal stamps can be divided by: the closed lists of words that a source filters by.
//!
//! The parts of a division are one word each, and one more for everything else, so that a word which appears
//! tomorrow is read today.

use domain::Source;

/// A column that a source filters by and whose words are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacetField {
    /// How bad it is.
    Severity,
    /// Whether it has been dealt with.
    Status,
    /// Which product raised it.
    ServiceSource,
}

/// One part of what has a certain stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Facet {
    /// The column.
    pub field: FacetField,
    /// Its word, one of those that [`facets`] names; `None` for everything that has none of them, null included.
    pub value: Option<&'static str>,
}

/// By what a source can be divided, most useful first, each with the words it knows. In the source's own spelling.
pub fn facets(source: Source) -> &'static [(FacetField, &'static [&'static str])] {
    match source {
        Source::GraphAlerts => GRAPH_ALERTS,
        Source::MdeAlerts => ENDPOINT,
        Source::GraphIncidents => GRAPH_INCIDENTS,
    }
}

const SEVERITIES: &[&str] = &["unknown", "informational", "low", "medium", "high"];

const GRAPH_ALERTS: &[(FacetField, &[&str])] = &[
    (FacetField::Severity, SEVERITIES),
    (FacetField::Status, &["unknown", "new", "inProgress", "resolved"]),
    (
        FacetField::ServiceSource,
        &[
            "unknown",
            "microsoftDefenderForEndpoint",
            "microsoftDefenderForIdentity",
            "microsoftDefenderForCloudApps",
            "microsoftDefenderForOffice365",
            "microsoft365Defender",
            "azureAdIdentityProtection",
            "microsoftAppGovernance",
            "dataLossPrevention",
        ],
    ),
];

const ENDPOINT: &[(FacetField, &[&str])] = &[
    (FacetField::Severity, &["UnSpecified", "Informational", "Low", "Medium", "High"]),
    (FacetField::Status, &["Unknown", "New", "InProgress", "Resolved"]),
];

const GRAPH_INCIDENTS: &[(FacetField, &[&str])] =
    &[(FacetField::Severity, SEVERITIES), (FacetField::Status, &["active", "inProgress", "resolved", "redirected"])];

impl Facet {
    /// Adds the clause to a filter that has one already, in letters that a query string takes as they are.
    pub(crate) fn narrow(self, source: Source, filter: &mut String) {
        let name = match self.field {
            FacetField::Severity => "severity",
            FacetField::Status => "status",
            FacetField::ServiceSource => "serviceSource",
        };
        let mut clause = |operator: &str, word: &str| filter.push_str(&format!("%20and%20{name}%20{operator}%20%27{word}%27"));
        match self.value {
            Some(word) => clause("eq", word),
            None => {
                let known = facets(source).iter().find(|(field, _)| *field == self.field).map_or(&[][..], |(_, words)| words);
                known.iter().for_each(|word| clause("ne", word));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_need_no_escape_and_come_once() {
        for source in Source::ALL {
            let mut fields = Vec::new();
            for (field, words) in facets(*source) {
                assert!(!fields.contains(field));
                fields.push(*field);
                for (place, word) in words.iter().enumerate() {
                    assert!(!word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{word}");
                    assert!(!words[..place].contains(word), "{word}");
                }
            }
            assert!(fields.len() >= 2 && fields.len() <= 3, "a window has room for three");
        }
    }

    #[test]
    fn the_parts_of_a_division_leave_nothing_out() {
        // A record is in the part of its word, or in the last part; in exactly one of them.
        for source in Source::ALL {
            for (field, words) in facets(*source) {
                let mut rest = String::new();
                Facet { field: *field, value: None }.narrow(*source, &mut rest);
                assert_eq!(rest.matches("%20ne%20").count(), words.len());
                for word in *words {
                    let mut part = String::new();
                    Facet { field: *field, value: Some(word) }.narrow(*source, &mut part);
                    assert!(rest.contains(&part.replace("%20eq%20", "%20ne%20")), "{part} and {rest}");
                }
            }
        }
    }
}

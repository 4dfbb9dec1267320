//! Records that cannot be understood, or only just, made to order.

use crate::scenario::Poison;
use crate::settings::Source;
use crate::stamp::Stamp;

/// The bytes of such a record; `id` is its id where the kind has one.
pub(crate) fn record(kind: Poison, source: Source, id: &str, now: Stamp) -> Vec<u8> {
    let whole = |id: &str, stamp: &str, title: &str| text(source, id, &format!("\"{stamp}\""), title, now);
    let stamp = now.to_string();
    match kind {
        Poison::NulEscape => whole(id, &stamp, r"before\u0000after").into_bytes(),
        Poison::LoneSurrogate => whole(id, &stamp, r"half \ud83d of a pair").into_bytes(),
        Poison::InvalidUtf8 => {
            let text = whole(id, &stamp, "broken @ here");
            text.bytes().map(|byte| if byte == b'@' { 0xFF } else { byte }).collect()
        }
        Poison::Deep => {
            with(whole(id, &stamp, "deep"), &format!("\"additionalData\":{}{}", "[".repeat(10_000), "]".repeat(10_000))).into_bytes()
        }
        Poison::MissingId => whole(id, &stamp, "nameless").replace(&format!(r#""id":"{id}","#), "").into_bytes(),
        Poison::FarFuture => whole(id, "9999-12-31T23:59:59.9999999Z", "from the far future").into_bytes(),
        Poison::EmptyStamp => whole(id, "", "timeless").into_bytes(),
        Poison::NonsenseStamp => whole(id, "yarın sabah", "some day").into_bytes(),
        Poison::NotAnObject => b"42".to_vec(),
        Poison::NullStamp => text(source, id, "null", "never updated", now).into_bytes(),
        Poison::Huge => {
            with(whole(id, &stamp, "huge"), &format!("\"description\":\"{}\"", "0123456789abcdef".repeat(20 << 16))).into_bytes()
        }
        Poison::LongId => whole(&format!("{id}{}", "x".repeat(10_240_usize.saturating_sub(id.len()))), &stamp, "long name").into_bytes(),
        Poison::DuplicateKeys => {
            let text = whole(id, &stamp, "first");
            let again = whole(id, &stamp, "second");
            with(text, &again[1..again.len() - 1]).into_bytes()
        }
        Poison::Sparse => {
            let (created, updated, _) = names(source);
            format!(r#"{{"id":"{id}","{created}":"{now}","{updated}":"{stamp}","severity":"apocalyptic","status":null,"evidence":null}}"#)
                .into_bytes()
        }
        Poison::UnknownType => {
            format!("{{\"@odata.type\":\"#microsoft.graph.security.omen\",{}", &whole(id, &stamp, "an omen")[1..]).into_bytes()
        }
    }
}

fn text(source: Source, id: &str, last_update: &str, title: &str, now: Stamp) -> String {
    let (created, updated, named) = names(source);
    format!(
        r#"{{"id":"{id}","{named}":"{title}","severity":"{}","status":"{}","{created}":"{now}","{updated}":{last_update}}}"#,
        word(source, "high"),
        word(source, if source == Source::GraphIncidents { "active" } else { "new" })
    )
}

/// The members of creation, last update and title.
const fn names(source: Source) -> (&'static str, &'static str, &'static str) {
    match source {
        Source::GraphAlerts => ("createdDateTime", "lastUpdateDateTime", "title"),
        Source::GraphIncidents => ("createdDateTime", "lastUpdateDateTime", "displayName"),
        Source::MdeAlerts => ("alertCreationTime", "lastUpdateTime", "title"),
    }
}

/// An object with one more member.
fn with(mut object: String, member: &str) -> String {
    object.pop();
    format!("{object},{member}}}")
}

fn word(source: Source, word: &str) -> String {
    match source {
        Source::GraphAlerts | Source::GraphIncidents => word.to_owned(),
        Source::MdeAlerts => crate::vocabulary::endpoint_word(word),
    }
}

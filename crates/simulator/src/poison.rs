//! Records that cannot be understood, or only just, made to order.

use crate::scenario::Poison;
use crate::settings::Source;
use crate::stamp::Stamp;

/// The bytes of such a record; `id` is its id where the kind has one.
pub(crate) fn record(kind: Poison, source: Source, id: &str, now: Stamp) -> Vec<u8> {
    let (updated, created) = match source {
        Source::GraphAlerts => ("lastUpdateDateTime", "createdDateTime"),
        Source::MdeAlerts => ("lastUpdateTime", "alertCreationTime"),
    };
    let whole = |id: &str, stamp: &str, title: &str| {
        format!(
            r#"{{"id":"{id}","title":"{title}","severity":"{}","status":"{}","{created}":"{now}","{updated}":"{stamp}"}}"#,
            word(source, "high"),
            word(source, "new")
        )
    };
    let stamp = now.to_string();
    match kind {
        Poison::NulEscape => whole(id, &stamp, r"before\u0000after").into_bytes(),
        Poison::LoneSurrogate => whole(id, &stamp, r"half \ud83d of a pair").into_bytes(),
        Poison::InvalidUtf8 => {
            let text = whole(id, &stamp, "broken @ here");
            text.bytes().map(|byte| if byte == b'@' { 0xFF } else { byte }).collect()
        }
        Poison::Deep => {
            let mut text = whole(id, &stamp, "deep");
            text.pop();
            format!("{text},\"additionalData\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)).into_bytes()
        }
        Poison::MissingId => whole(id, &stamp, "nameless").replace(&format!(r#""id":"{id}","#), "").into_bytes(),
        Poison::FarFuture => whole(id, "9999-12-31T23:59:59.9999999Z", "from the far future").into_bytes(),
        Poison::EmptyStamp => whole(id, "", "timeless").into_bytes(),
        Poison::NonsenseStamp => whole(id, "yarın sabah", "some day").into_bytes(),
        Poison::NotAnObject => b"42".to_vec(),
    }
}

fn word(source: Source, word: &str) -> String {
    match source {
        Source::GraphAlerts => word.to_owned(),
        Source::MdeAlerts => crate::vocabulary::endpoint_word(word),
    }
}

//! Text that Postgres can hold.

use std::borrow::Cow;

/// The text with U+FFFD for every NUL, the one character that a Postgres text cannot hold. Never used
/// for bodies: they are kept as received or not at all.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_character_that_cannot_be_held_is_replaced() {
        assert_eq!(super::storable("Ægir ı İ \u{1}"), "Ægir ı İ \u{1}");
        assert_eq!(super::storable("a\0b\0"), "a\u{FFFD}b\u{FFFD}");
    }
}

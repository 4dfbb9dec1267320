//! What serde does not look at in a record: how deep it is, and raw control characters in the names of members.
//!
//! Both are answered for almost every record by counting: without any control character there is none in a name, and
//! with few brackets nothing can be deep. Counting does not depend on what stands before, so the compiler does sixteen
//! bytes at once; only a record that is long or indented is walked byte by byte.

/// Deeper is not cast to `json` with Postgres' default stack, some way on; no alert comes near it.
pub(crate) const MAX_DEPTH: usize = 100;

/// Short enough that a count of it fits into a byte.
const STRIDE: usize = 240;

/// Bounds the depth, and finds raw control characters inside texts.
///
/// The second is for member names: they are read as bytes, where serde's own check does not look.
///
/// # Errors
/// The reason in words.
pub(super) fn check(raw: &[u8]) -> Result<(), &'static str> {
    if is_plain(raw) { Ok(()) } else { walk(raw) }
}

/// Whether the record is fine by its letters alone. If not, it may still be.
fn is_plain(raw: &[u8]) -> bool {
    let mut brackets = 0;
    for stride in raw.chunks(STRIDE) {
        let (mut opening, mut control) = (0_u8, 0_u8);
        for byte in stride {
            // `[` and `{` differ in this one bit.
            opening += u8::from(byte | 0x20 == b'{');
            control |= u8::from(*byte < 0x20);
        }
        if control != 0 {
            return false;
        }
        brackets += usize::from(opening);
    }
    brackets <= MAX_DEPTH
}

fn walk(raw: &[u8]) -> Result<(), &'static str> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in raw {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                0..=0x1F => return Err("not valid JSON"),
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err("more than 100 levels deep");
                    }
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bracket_in_a_text_counts_for_nothing() {
        let many = format!(r#"{{"a":"{}"}}"#, "[{".repeat(MAX_DEPTH));
        assert!(!is_plain(many.as_bytes()), "it is walked");
        assert_eq!(check(many.as_bytes()), Ok(()));
        let flat = format!("[{}]", "{},".repeat(10 * MAX_DEPTH));
        assert_eq!(check(flat.as_bytes()), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_fine_by_its_letters_is_fine_when_walked(
            pieces in prop::collection::vec(prop::sample::select(vec!["{", "[", "]", "}", "\"", "\\", "a", "\u{1}", "\n", "😀"]), 0..600)) {
            let raw = pieces.concat();
            if is_plain(raw.as_bytes()) {
                prop_assert_eq!(walk(raw.as_bytes()), Ok(()));
            }
        }
    }
}

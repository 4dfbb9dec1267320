//! Searching for secrets in the seven forms in which they get written down by accident (I13): as they are, in base64 and
//! base64url wherever they begin within a group, in hexadecimal, as in an address, as in JSON, and in UTF-16.

use std::collections::BTreeSet;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A form in which a secret may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Raw,
    /// Base64, in the middle of something longer or not.
    Base64,
    /// The same for addresses.
    Base64Url,
    /// Hexadecimal, or the numbers of its bytes.
    Hex,
    /// As in an address, all or only the special letters escaped.
    Url,
    /// As in JSON, all or only the special letters escaped.
    Json,
    /// UTF-16 of either order, as it is or in base64.
    Utf16,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Raw, Self::Base64, Self::Base64Url, Self::Hex, Self::Url, Self::Json, Self::Utf16];

    /// Every spelling of a secret in this form.
    pub fn spellings(self, secret: &[u8]) -> Vec<Vec<u8>> {
        let each = |write: fn(&u8) -> String| secret.iter().map(write).collect::<String>().into_bytes();
        let in_base64 = |bytes: &[u8]| (0..3).map(|shift| within_base64(bytes, shift, STANDARD)).collect::<Vec<_>>();
        match self {
            Self::Raw => vec![secret.to_vec()],
            Self::Base64 => in_base64(secret),
            Self::Base64Url => (0..3).map(|shift| within_base64(secret, shift, URL_SAFE)).collect(),
            Self::Hex => vec![
                each(|byte| format!("{byte:02x}")),
                each(|byte| format!("{byte:02X}")),
                secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ").into_bytes(),
            ],
            Self::Url => vec![
                each(|byte| format!("%{byte:02X}")),
                each(|byte| format!("%{byte:02x}")),
                each(|byte| {
                    if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
                        char::from(*byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                }),
            ],
            Self::Json => vec![
                each(|byte| format!("\\u{byte:04x}")),
                each(|byte| format!("\\u{byte:04X}")),
                each(|byte| if *byte == b'/' { "\\/".to_owned() } else { char::from(*byte).escape_default().to_string() }),
            ],
            Self::Utf16 => {
                let wide = |order: fn(u16) -> [u8; 2]| secret.iter().flat_map(|byte| order(u16::from(*byte))).collect::<Vec<_>>();
                let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
                [in_base64(&little), in_base64(&big), vec![little, big]].concat()
            }
        }
    }
}

/// Base64 without padding.
fn base64(bytes: &[u8], letters: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letter = |at: usize| letters[(0..6).fold(0, |sum, offset| sum << 1 | bit(at * 6 + offset))];
    (0..(bytes.len() * 8).div_ceil(6)).map(letter).collect()
}

/// The letters that stand for nothing but these bytes, when so many bytes come before them in their group of three.
fn within_base64(bytes: &[u8], shift: usize, letters: &[u8; 64]) -> Vec<u8> {
    let encoded = base64(&[vec![0; shift], bytes.to_vec()].concat(), letters);
    encoded[(shift * 8).div_ceil(6)..(shift + bytes.len()) * 8 / 6].to_vec()
}

/// Base64 back to bytes; padding and everything else that is no letter is passed over.
pub fn from_base64(text: &str) -> Vec<u8> {
    let values: Vec<u8> =
        text.bytes().filter_map(|byte| STANDARD.iter().position(|letter| *letter == byte)).filter_map(|at| u8::try_from(at).ok()).collect();
    values
        .chunks(4)
        .flat_map(|four| {
            let sum = (0..4).fold(0_u32, |sum, at| sum << 6 | u32::from(four.get(at).copied().unwrap_or(0)));
            sum.to_be_bytes()[1..four.len()].to_vec()
        })
        .collect()
}

const BLOCK: usize = 4096;
const NOTHING: &[u8] = &[0; 2 * BLOCK];

/// What is searched for: each form of each secret.
pub struct Scanner {
    needles: Vec<(Form, &'static str, Vec<u8>)>,
    /// Whether some needle begins with these two bytes: most places are passed by a single look.
    begins: Vec<bool>,
}

impl Scanner {
    /// All forms of these secrets, each with a word for it.
    pub fn of(secrets: &[(&'static str, &[u8])]) -> Self {
        let mut known = BTreeSet::new();
        let mut needles = Vec::new();
        for (name, secret) in secrets {
            for form in Form::ALL {
                let fresh = form.spellings(secret).into_iter().filter(|spelling| known.insert(spelling.clone()));
                needles.extend(fresh.map(|spelling| (form, *name, spelling)));
            }
        }
        let mut begins = vec![false; 1 << 16];
        for (_, _, needle) in &needles {
            begins[usize::from(needle[0]) << 8 | usize::from(needle[1])] = true;
        }
        Self { needles, begins }
    }

    /// Which secrets are in there, in which form.
    pub fn hits(&self, haystack: &[u8]) -> BTreeSet<(&'static str, Form)> {
        let mut found = BTreeSet::new();
        for (number, block) in haystack.chunks(BLOCK).enumerate() {
            let start = number * BLOCK;
            // Data files are mostly nothing. A secret that begins in nothing ends in something, hence the look ahead.
            let ahead = &haystack[start..haystack.len().min(start + 2 * BLOCK)];
            if ahead.len() == 2 * BLOCK && ahead == NOTHING {
                continue;
            }
            for at in start..start + block.len() {
                let Some([first, second]) = haystack.get(at..at + 2) else { break };
                if self.begins[usize::from(*first) << 8 | usize::from(*second)] {
                    let here = self.needles.iter().filter(|(_, _, needle)| haystack[at..].starts_with(needle));
                    found.extend(here.map(|(form, name, _)| (*name, *form)));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "CANARY-9d41f7c0b2_e5";

    #[test]
    fn a_marker_is_found_wherever_it_stands_and_nothing_else_is() {
        let scanner = Scanner::of(&[("marker", MARKER.as_bytes())]);
        assert!(scanner.hits(b"nothing of the kind, though CANARY and 9d41f7c0b2 are near").is_empty());
        assert!(scanner.hits(&[0; 100_000]).is_empty());
        for place in [0, 1, 4095, 4096, 8190, 50_000, 99_900] {
            let mut page = vec![0; 100_000];
            page[place..place + MARKER.len()].copy_from_slice(MARKER.as_bytes());
            assert_eq!(scanner.hits(&page), [("marker", Form::Raw)].into(), "at {place}");
        }
        let zeros = Scanner::of(&[("zeros first", &[0, 0, 0, 7, 8])]);
        let mut page = vec![0; 50_000];
        page[40_959..40_961].copy_from_slice(&[7, 8]);
        assert!(zeros.hits(&page).contains(&("zeros first", Form::Raw)));
    }

    #[test]
    fn a_secret_is_found_as_others_would_write_it_and_half_of_it_is_not() {
        let secret = MARKER.as_bytes();
        let scanner = Scanner::of(&[("marker", secret)]);
        let in_base64 = |before: &str| base64(format!("{before}{MARKER}{{\"more\":1}}").as_bytes(), STANDARD);
        let wide: Vec<u8> = format!("ab{MARKER}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let written: Vec<(Form, Vec<u8>)> = vec![
            (Form::Raw, format!("1.A{MARKER}xyz").into_bytes()),
            (Form::Hex, secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()),
            (Form::Hex, secret.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into_bytes()),
            (Form::Hex, format!("{secret:?}").into_bytes()),
            (Form::Base64, in_base64("")),
            (Form::Base64, in_base64("a")),
            (Form::Base64, in_base64("ab")),
            (Form::Base64, in_base64("client:")),
            (Form::Base64Url, base64(format!("ab>?{MARKER}").as_bytes(), URL_SAFE)),
            (Form::Utf16, base64(&wide, STANDARD)),
            (Form::Utf16, base64(&wide[1..], STANDARD)),
            (Form::Utf16, wide),
            (Form::Url, secret.iter().flat_map(|byte| format!("%{byte:02X}").into_bytes()).collect()),
            (Form::Json, secret.iter().flat_map(|byte| format!("\\u{byte:04x}").into_bytes()).collect()),
        ];
        for (form, written) in written {
            let around = |planted: &[u8]| [b"before ", planted, b" after"].concat();
            let found = scanner.hits(&around(&written));
            // Letters that base64 and base64url share are both.
            let fits = |(_, seen): &(&str, Form)| *seen == form || (form == Form::Base64Url && *seen == Form::Base64);
            assert!(found.iter().any(fits), "{form:?}: {found:?}");
            assert!(scanner.hits(&around(&written[..written.len() / 2])).is_empty(), "half of it is not it: {form:?}");
        }
    }

    #[test]
    fn special_letters_are_found_escaped() {
        let scanner = Scanner::of(&[("key", b"aZ+/9\"b==".as_slice())]);
        for (written, form) in [("aZ%2B%2F9%22b%3D%3D", Form::Url), ("\"aZ+\\/9\\\"b==\"", Form::Json), ("aZ+/9\"b==", Form::Raw)] {
            assert_eq!(scanner.hits(written.as_bytes()), [("key", form)].into(), "{written}");
        }
    }

    #[test]
    fn base64_goes_both_ways() {
        assert_eq!(from_base64("AAEC/v8="), [0, 1, 2, 0xfe, 0xff]);
        assert_eq!(base64(&[0, 1, 2, 0xfe, 0xff], STANDARD), b"AAEC/v8");
    }
}

//! Reading a few members of a JSON object without reading the rest of it.
//!
//! Each wanted member is borrowed as it stands; everything else is passed over without building
//! anything. Unknown members are normal, the last of two equal names counts, and a member name may
//! hold what is no text (a lone surrogate), since such an object is still valid JSON to Postgres.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Members as they stand in an object, in the order in which they were asked for.
pub(crate) type Found<'a, const N: usize> = [Option<&'a RawValue>; N];

/// The wanted members of the object, in the order of `names`.
///
/// # Errors
/// When `json` is not one valid JSON object.
pub(crate) fn members<'a, const N: usize>(json: &'a str, names: [&str; N]) -> Result<Found<'a, N>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = reader.deserialize_map(Members { names })?;
    reader.end()?;
    Ok(found)
}

/// The same of the object that `json` begins with, and its length in bytes. What follows it is not looked at, and neither is
/// whether texts that nobody wants are UTF-8 or names of members hold control characters. `None` when it does not begin with one.
pub(crate) fn leading<'a, const N: usize>(json: &'a [u8], names: [&str; N]) -> Option<(Found<'a, N>, usize)> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = reader.deserialize_map(Members { names }).ok()?;
    Some((found, reader.into_iter::<IgnoredAny>().byte_offset()))
}

struct Members<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = Found<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = map.next_key_seed(Name { names: &self.names })? {
            match place {
                Some(place) => found[place] = Some(map.next_value::<&'de RawValue>()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a member name as its place among the wanted ones.
///
/// The name is taken as bytes: as text, a lone surrogate in any of them would fail the whole object.
pub(crate) struct Name<'n> {
    pub(crate) names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(self.names.iter().position(|name| name.as_bytes() == bytes))
    }
}

/// The member as text; `None` when it is anything else, or text that is none (a lone surrogate).
pub(crate) fn text(member: Option<&RawValue>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(member?.get()).ok().map(|text| text.0)
}

/// The member as text, with U+FFFD for each lone surrogate and each NUL: a Postgres `text` can hold
/// neither. `None` when it is no text at all.
pub(crate) fn lenient_text(member: Option<&RawValue>) -> Option<String> {
    struct Loose(String);

    impl<'de> Deserialize<'de> for Loose {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Bytes;
            impl Visitor<'_> for Bytes {
                type Value = Loose;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a text")
                }
                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Loose, E> {
                    Ok(Loose(without_surrogates(bytes)))
                }
            }
            deserializer.deserialize_bytes(Bytes)
        }
    }

    let json = member?.get();
    // An array of numbers would pass for bytes, too.
    if !json.starts_with('"') {
        return None;
    }
    let text = match text(member) {
        Some(text) => text.into_owned(),
        None => serde_json::from_str::<Loose>(json).ok()?.0,
    };
    Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
}

/// Decoded JSON text is UTF-8 but for lone surrogates, which come out as three bytes that begin with ED.
fn without_surrogates(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if chunk.invalid().first() == Some(&0xED) {
            text.push('\u{fffd}');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<[Option<&str>; 2]> {
        members(json, ["a", "b"]).ok().map(|found| found.map(|member| member.map(RawValue::get)))
    }

    #[test]
    fn wanted_members_come_as_they_stand_and_the_last_of_two_counts() {
        assert_eq!(
            read(r#" { "x": [1, {}], "b": 1.0e5 , "a": {"b": 2}, "b": "\u0041" } "#),
            Some([Some(r#"{"b": 2}"#), Some(r#""\u0041""#)])
        );
        assert_eq!(read("{}"), Some([None, None]));
        assert_eq!(read(r#"{"\u0061": 1}"#), Some([Some("1"), None]), "an escaped name is the same name");
        assert_eq!(read(r#"{"\ud800": 1, "\u0000": 2, "a": 3}"#), Some([Some("3"), None]), "names that are no text are passed over");
    }

    #[test]
    fn what_is_not_one_valid_object_is_refused() {
        for json in ["", "[]", "null", "1", "{", r#"{"a":}"#, r#"{"a":01}"#, "{} {}", r#"{"a":1,}"#, r#"{"x":"\q"}"#, r#"{"x":nul}"#] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn an_object_at_the_start_ends_where_it_ends() {
        let read =
            |json: &'static str| leading(json.as_bytes(), ["a"]).map(|(found, length)| (found[0].map(RawValue::get), &json[length..]));
        assert_eq!(read(r#"{"a": {"b": "}"}} , {"a": 2}]"#), Some((Some(r#"{"b": "}"}"#), r#" , {"a": 2}]"#)));
        assert_eq!(read("{}{"), Some((None, "{")));
        for json in ["", "[{}]", "1", r#"{"a":1"#, r#"{"a":}"#, r#"{"x":"\q"}"#] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    fn loose(json: &str) -> Option<String> {
        lenient_text(Some(serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn text_that_postgres_cannot_hold_is_patched() {
        assert_eq!(loose(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(loose(r#""a\u0000b""#).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(loose(r#""a\ud800b""#).as_deref(), Some("a\u{fffd}b"));
        assert_eq!(loose(r#""\udc00\ud800\ud83d\ude00""#).as_deref(), Some("\u{fffd}\u{fffd}😀"));
        assert_eq!(loose(r#""\ud800\ud83d\ude00\u0000""#).as_deref(), Some("\u{fffd}😀\u{fffd}"));
        assert_eq!(loose(r#""ıİ\n""#).as_deref(), Some("ıİ\n"));
    }

    #[test]
    fn what_is_no_text_is_none() {
        for json in ["1", "null", "true", "[65]", r#"{"a":1}"#] {
            assert_eq!(loose(json), None, "{json}");
        }
        assert_eq!(lenient_text(None), None);
    }
}

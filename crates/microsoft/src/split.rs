//! A page to its records, without reading each into a tree.
//!
//! The fast path lets serde_json find the borders of the records; each record is then a slice of the
//! page, with every byte as it was sent. When the page is not valid JSON as a whole, a slower reader
//! that only knows brackets and quotes finds the borders, so that one broken record costs one record
//! (I6). Only a page whose list cannot be delimited at all is refused, since reading half of it would
//! be a silent loss.

mod scan;

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::members::{Name, lenient_text};

pub(crate) const VALUE: &str = "value";
pub(crate) const NEXT_LINK: &str = "@odata.nextLink";

/// The records of a page as slices of it, in order, and the link it ends with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) records: Vec<Bytes>,
    pub(crate) next: Next,
}

/// What a page says about the next one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Absent, null or empty.
    None,
    Link(String),
    /// Something that is no text. A page may follow and nobody knows where.
    Unreadable,
}

impl Next {
    fn read(member: Option<&RawValue>) -> Self {
        match member {
            None => Self::None,
            Some(member) if member.get() == "null" => Self::None,
            some => match lenient_text(some) {
                Some(link) if link.is_empty() => Self::None,
                Some(link) => Self::Link(link),
                None => Self::Unreadable,
            },
        }
    }
}

/// Splits a page. `None` when it is no page: cut off, HTML, an object without a list.
pub(crate) fn split(page: &Bytes) -> Option<Split> {
    let body = page.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(page);
    fast(page, body).or_else(|| slow(page, body))
}

fn fast(page: &Bytes, body: &[u8]) -> Option<Split> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
    // No list is a matter for the other reader, too: it tells "none" from "several".
    let records = envelope.value?.into_iter().map(|record| page.slice_ref(record.get().as_bytes())).collect();
    Some(Split { records, next: Next::read(envelope.next) })
}

fn slow(page: &Bytes, body: &[u8]) -> Option<Split> {
    let found = scan::page(body)?;
    let records = found.records?.into_iter().map(|range| page.slice_ref(&body[range])).collect();
    let next = match found.next {
        None => Next::None,
        Some(range) => match serde_json::from_slice::<&RawValue>(&body[range]) {
            Ok(member) => Next::read(Some(member)),
            Err(_) => Next::Unreadable,
        },
    };
    Some(Split { records, next })
}

/// The two members of a page that matter. Two lists are read as one, so that nothing in either is lost.
struct Envelope<'a> {
    value: Option<Vec<&'a RawValue>>,
    next: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Page;
        impl<'de> Visitor<'de> for Page {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a page")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut page = Envelope { value: None, next: None };
                while let Some(place) = map.next_key_seed(Name { names: &[VALUE, NEXT_LINK] })? {
                    match place {
                        Some(0) => page.value.get_or_insert_default().extend(map.next_value::<Vec<&'de RawValue>>()?),
                        Some(_) => page.next = Some(map.next_value()?),
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(page)
            }
        }
        deserializer.deserialize_map(Page)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(page: &str) -> (Option<Split>, Option<Split>) {
        let page = Bytes::copy_from_slice(page.as_bytes());
        (fast(&page, &page), slow(&page, &page))
    }

    fn records(page: &[u8]) -> Option<Vec<String>> {
        let split = split(&Bytes::copy_from_slice(page))?;
        Some(split.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect())
    }

    #[test]
    fn a_record_keeps_every_byte_and_shares_the_page() {
        let record = "{ \"id\" : \"1\",\n\t\"n\": 1.0e5, \"e\": \"\\u00e6\\/\" }";
        let page = Bytes::from(format!(" {{ \"@odata.context\": {{\"value\": [9]}}, \"value\" : [ {record} , 2 ] , \"x\": [] }} "));
        let split = split(&page).unwrap();
        assert_eq!(split.records, [record.as_bytes(), b"2"]);
        let whole = page.as_ptr() as usize..page.as_ptr() as usize + page.len();
        assert!(whole.contains(&(split.records[0].as_ptr() as usize)), "a slice, not a copy");
    }

    #[test]
    fn a_mark_at_the_start_is_no_part_of_the_page() {
        assert_eq!(records(b"\xEF\xBB\xBF{\"value\":[{}]}").unwrap(), ["{}"]);
        assert_eq!(records(b"\xEF\xBB\xBF{\"value\":[{},\"\xff\"]}").unwrap().len(), 2);
    }

    #[test]
    fn the_link_is_read_by_both_readers_alike() {
        for (member, next) in [
            ("", Next::None),
            (r#","@odata.nextLink":null"#, Next::None),
            (r#","@odata.nextLink":"""#, Next::None),
            (r#","@odata.nextLink":"https:\/\/a\/?x=\u0024""#, Next::Link("https://a/?x=$".to_owned())),
            (r#","@odata.nextLink":"a","@odata.nextLink":"b""#, Next::Link("b".to_owned())),
            (r#","@odata.nextLink":7"#, Next::Unreadable),
            (r#","@odata.nextLink":["a"]"#, Next::Unreadable),
            (r#","\u0040odata.nextLink":"a""#, Next::Link("a".to_owned())),
        ] {
            let (fast, slow) = both(&format!(r#"{{"value":[]{member}}}"#));
            assert_eq!(fast.unwrap().next, next, "{member}");
            assert_eq!(slow.unwrap().next, next, "{member}");
        }
    }

    #[test]
    fn two_lists_are_read_as_one_and_an_escaped_name_is_the_same_name() {
        let (fast, slow) = both(r#"{"value":[1,2],"v\u0061lue":[3],"value":[]}"#);
        assert_eq!(fast, slow);
        assert_eq!(fast.unwrap().records.len(), 3);
    }

    #[test]
    fn what_is_no_page_is_refused_whole() {
        for page in [
            "",
            "   ",
            "null",
            "[]",
            "{}",
            "[{\"id\":\"1\"}]",
            "<html><body>{\"value\":[]}</body></html>",
            r#"{"error":{"code":"x"}}"#,
            r#"{"value":null}"#,
            r#"{"value":{}}"#,
            r#"{"value":"x"}"#,
            r#"{"value":[],"value":null}"#,
            r#"{"value":[]"#,
            r#"{"value":[{"id":"1"}"#,
            r#"{"value":[{"id":"1"},"#,
            r#"{"value":[{"id":"1"},{"id":"2"#,
            r#"{"value":[{"id":"1"},{"id":"2\"#,
            r#"{"value":[]}x"#,
            r#"{"value":[]}{"value":[]}"#,
            r#"{"value":[{"a":1]},{"id":"2"}]}"#,
            r#"{"value":[{]},{"id":"2"}]}"#,
            r#"{value:[]}"#,
            r#"{"value"[]}"#,
        ] {
            assert_eq!(records(page.as_bytes()), None, "{page}");
        }
        for cut in 0..r#"{"value":[{"id":"1"},{"id":"2"}],"@odata.nextLink":"x"}"#.len() {
            let page = &r#"{"value":[{"id":"1"},{"id":"2"}],"@odata.nextLink":"x"}"#[..cut];
            assert_eq!(records(page.as_bytes()), None, "a page that was cut off is never half a page: {page}");
        }
    }

    #[test]
    fn a_broken_record_leaves_its_neighbours_whole() {
        for broken in [
            &b"{\"id\":\"\xff\xfe\"}"[..],
            b"{\"id\":\"\xed\xa0\x80\"}",
            b"{\"id\":01}",
            b"{\"id\":nul}",
            b"{\"id\":\"a\x00b\"}",
            b"{\"id\":\"a\nb\"}",
            b"{\"id\":\"\\q\"}",
            b"{\"id\":\"\\u12\"}",
            b"{\"id\" \"1\"}",
            b"{\"id\":}",
            b"{\"id\":\"1\",}",
            b"{\"a\":[1,2}",
            b"{\"a\":{\"b\":[}}",
            b"{\"id\":\"1\"}}",
            b"{\"id\":\"1\"} {\"id\":\"3\"}",
            b"'x'",
            b"undefined",
            b"NaN",
        ] {
            let page =
                [&b"{\"x\":1,\"value\":[{\"id\":\"left\"}, "[..], broken, b" ,{\"id\":\"right\"}],\"@odata.nextLink\":\"n\"}"].concat();
            let Some(found) = split(&Bytes::from(page)) else { panic!("{}", String::from_utf8_lossy(broken)) };
            assert_eq!(found.records.len(), 3, "{}", String::from_utf8_lossy(broken));
            assert_eq!(found.records[0], &b"{\"id\":\"left\"}"[..]);
            assert_eq!(found.records[1], broken);
            assert_eq!(found.records[2], &b"{\"id\":\"right\"}"[..]);
            assert_eq!(found.next, Next::Link("n".to_owned()));
        }
    }

    #[test]
    fn a_record_that_never_closes_takes_its_neighbour_into_quarantine_and_hides_nothing() {
        let found = records(br#"{"value":[{"id":"left"},{"a":{"b":[},{"id":"right"}]}"#).unwrap();
        assert_eq!(found, [r#"{"id":"left"}"#, r#"{"a":{"b":[},{"id":"right"}"#]);
    }

    #[test]
    fn commas_too_many_are_no_records() {
        assert_eq!(records(br#"{"value":[,{"id":"1"},,{"id":"2"},],}"#).unwrap().len(), 2);
    }

    #[test]
    fn a_page_made_to_be_slow_is_not() {
        // Each closing bracket fits nothing: looking for a partner would take a day.
        for filler in ["}", "]", "{]", "[}", "{\"a\":["] {
            let page = format!("{{\"value\":[{}{}", "[".repeat(500_000), filler.repeat(500_000));
            let _ = split(&Bytes::from(page));
        }
    }

    /// Any JSON value, written with blanks in odd places.
    fn json() -> impl Strategy<Value = String> {
        let blank = prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")];
        let text = r#"([a-zA-Z ıİ😀{}\[\],:/]|\\"|\\\\|\\n|\\u0000|\\ud800|\\u00e6){0,8}"#.prop_map(|text| format!("\"{text}\""));
        let number = prop_oneof![Just("0"), Just("-0.0"), Just("1e999999"), Just("12345678901234567890.5E-3")].prop_map(str::to_owned);
        let leaf = prop_oneof![text.clone(), number, Just("null".to_owned()), Just("true".to_owned())];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let list =
                (blank.clone(), prop::collection::vec(inner.clone(), 0..5)).prop_map(|(b, items)| format!("[{b}{}{b}]", items.join(",")));
            let member = (text.clone(), blank.clone(), inner).prop_map(|(name, b, value)| format!("{name}{b}:{b}{value}"));
            let object = (blank.clone(), prop::collection::vec(member, 0..5))
                .prop_map(|(b, items)| format!("{{{b}{}}}", items.join(&format!("{b},"))));
            prop_oneof![list, object]
        })
    }

    proptest! {
        #[test]
        fn both_readers_find_the_same_records_and_those_are_what_was_sent(
            sent in prop::collection::vec(json(), 0..6), before in json(), after in json(), linked in any::<bool>()) {
            let link = if linked { r#","@odata.nextLink":"https://a/b""# } else { "" };
            let page = format!(r#"{{"before":{before} , "value": [ {} ],"after":{after}{link}}}"#, sent.join(" , "));
            let (fast, slow) = both(&page);
            prop_assert_eq!(&fast, &slow);
            prop_assert_eq!(fast.unwrap().records, sent.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_panic_and_records_come_in_order_without_overlap(
            pieces in prop::collection::vec(prop::sample::select(vec![
                &b"{"[..], b"}", b"[", b"]", b"\"", b"\\", b",", b":", b" ", b"\"value\":[", b"{\"id\":\"1\"}", b"\xff", b"\x00", b"null", b"1",
                b"\"@odata.nextLink\":", b"\"x\"",
            ]), 0..60)) {
            let page = Bytes::from([b"{\"value\":[".to_vec(), pieces.concat()].concat());
            for body in [page.slice(..), page.slice(10..), Bytes::from([&page[..], b"]}"].concat())] {
                if let Some(found) = split(&body) {
                    let mut at = body.as_ptr() as usize;
                    for record in &found.records {
                        let start = record.as_ptr() as usize;
                        prop_assert!(start >= at && !record.is_empty());
                        at = start + record.len();
                    }
                    prop_assert!(at <= body.as_ptr() as usize + body.len());
                }
            }
        }

        #[test]
        fn a_page_that_was_cut_off_anywhere_is_refused(sent in prop::collection::vec(json(), 1..4), share in 0.0..1.0_f64) {
            let page = format!(r#"{{"value":[{}]}}"#, sent.join(","));
            let mut cut = (page.len() as f64 * share) as usize;
            while !page.is_char_boundary(cut) { cut -= 1; }
            prop_assert_eq!(records(&page.as_bytes()[..cut]), None);
        }
    }
}

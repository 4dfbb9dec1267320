//! A page to its records, without reading each into a tree.
//!
//! Each record is a slice of the page, with every byte as it was sent. serde_json finds where a sound one ends, and the
//! members that matter on the way: no byte of it is read a second time for that. Where a record is broken, a reader that only
//! knows brackets and quotes finds its borders, so that one broken record costs one record (I6). Only a page whose list
//! cannot be delimited at all is refused, since reading half of it would be a silent loss.

mod scan;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::members::{Found, lenient_text};

pub(crate) const VALUE: &str = "value";
pub(crate) const NEXT_LINK: &str = "@odata.nextLink";

/// The records of a page, in order, and the link it ends with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split<T> {
    pub(crate) records: Vec<T>,
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

/// Splits a page, and makes of each record what `read` makes of the slice and of its members by these `names`; without
/// members when the record is not one object. Whether it is UTF-8, and free of control characters, is left to `read`. `None` when it is no page: cut off, HTML, an object without a list.
pub(crate) fn split<const N: usize, T>(
    page: &Bytes,
    names: [&str; N],
    mut read: impl FnMut(Bytes, Option<Found<'_, N>>) -> T,
) -> Option<Split<T>> {
    let body = page.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(page);
    let parts = scan::page(body, names, |range, found| read(page.slice_ref(&body[range]), found))?;
    let next = match parts.next {
        None => Next::None,
        Some(range) => match serde_json::from_slice::<&RawValue>(&body[range]) {
            Ok(member) => Next::read(Some(member)),
            Err(_) => Next::Unreadable,
        },
    };
    Some(Split { records: parts.records?, next })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// The slices, and how many of them came with members.
    fn cut(page: &Bytes) -> Option<(Split<Bytes>, usize)> {
        let mut sound = 0;
        let split = split(page, ["id"], |raw, found| {
            sound += usize::from(found.is_some());
            raw
        });
        Some((split?, sound))
    }

    fn next(page: &str) -> Next {
        cut(&Bytes::copy_from_slice(page.as_bytes())).unwrap().0.next
    }

    fn records(page: &[u8]) -> Option<Vec<String>> {
        let (split, _) = cut(&Bytes::copy_from_slice(page))?;
        Some(split.records.iter().map(|record| String::from_utf8_lossy(record).into_owned()).collect())
    }

    #[test]
    fn a_record_keeps_every_byte_and_shares_the_page() {
        let record = "{ \"id\" : \"1\",\n\t\"n\": 1.0e5, \"e\": \"\\u00e6\\/\" }";
        let page = Bytes::from(format!(" {{ \"@odata.context\": {{\"value\": [9]}}, \"value\" : [ {record} , 2 ] , \"x\": [] }} "));
        let (split, sound) = cut(&page).unwrap();
        assert_eq!((split.records[0].as_ref(), split.records[1].as_ref(), sound), (record.as_bytes(), &b"2"[..], 1));
        let whole = page.as_ptr() as usize..page.as_ptr() as usize + page.len();
        assert!(whole.contains(&(split.records[0].as_ptr() as usize)), "a slice, not a copy");
    }

    #[test]
    fn a_mark_at_the_start_is_no_part_of_the_page() {
        assert_eq!(records(b"\xEF\xBB\xBF{\"value\":[{}]}").unwrap(), ["{}"]);
        assert_eq!(records(b"\xEF\xBB\xBF{\"value\":[{},\"\xff\"]}").unwrap().len(), 2);
    }

    #[test]
    fn the_link_is_the_last_that_the_page_names() {
        for (member, link) in [
            ("", Next::None),
            (r#","@odata.nextLink":null"#, Next::None),
            (r#","@odata.nextLink":"""#, Next::None),
            (r#","@odata.nextLink":"https:\/\/a\/?x=\u0024""#, Next::Link("https://a/?x=$".to_owned())),
            (r#","@odata.nextLink":"a","@odata.nextLink":"b""#, Next::Link("b".to_owned())),
            (r#","@odata.nextLink":7"#, Next::Unreadable),
            (r#","@odata.nextLink":["a"]"#, Next::Unreadable),
            (r#","\u0040odata.nextLink":"a""#, Next::Link("a".to_owned())),
        ] {
            assert_eq!(next(&format!(r#"{{"value":[]{member}}}"#)), link, "{member}");
        }
    }

    #[test]
    fn two_lists_are_read_as_one_and_an_escaped_name_is_the_same_name() {
        assert_eq!(records(br#"{"value":[1,2],"v\u0061lue":[3],"value":[]}"#).unwrap(), ["1", "2", "3"]);
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
            let Some((found, _)) = cut(&Bytes::from(page)) else { panic!("{}", String::from_utf8_lossy(broken)) };
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
            let _ = cut(&Bytes::from(page));
        }
        // Each record is one that serde_json gives up, sooner or later.
        for record in ["{\"a\":1}},", "{\"a\":\"\\u\"},   ", "{\"id\":[", "{} ", "{} {},", "{\"a\":{\"b\":[1,{\"c\":}]}},"] {
            for end in ["", "]}"] {
                let page = format!("{{\"value\":[{}{end}", record.repeat(300_000));
                let _ = cut(&Bytes::from(page));
            }
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
        fn the_records_are_those_that_were_sent(
            sent in prop::collection::vec(json(), 0..6), before in json(), after in json(), linked in any::<bool>()) {
            let link = if linked { r#","@odata.nextLink":"https://a/b""# } else { "" };
            let page = format!(r#"{{"before":{before} , "value": [ {} ],"after":{after}{link}}}"#, sent.join(" , "));
            #[derive(Deserialize)]
            struct Sound<'a> { #[serde(borrow)] value: Vec<&'a RawValue> }
            let theirs: Sound<'_> = serde_json::from_str(&page).unwrap();
            prop_assert_eq!(theirs.value.iter().map(|record| record.get()).collect::<Vec<_>>(), sent.iter().collect::<Vec<_>>());
            let (found, sound) = cut(&Bytes::from(page.clone())).unwrap();
            prop_assert_eq!(&found.records, &sent.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect::<Vec<_>>());
            prop_assert_eq!(sound, sent.iter().filter(|record| record.starts_with('{')).count());
            prop_assert_eq!(found.next != Next::None, linked);
        }

        #[test]
        fn no_bytes_panic_and_records_come_in_order_without_overlap(
            pieces in prop::collection::vec(prop::sample::select(vec![
                &b"{"[..], b"}", b"[", b"]", b"\"", b"\\", b",", b":", b" ", b"\"value\":[", b"{\"id\":\"1\"}", b"\xff", b"\x00", b"null", b"1",
                b"\"@odata.nextLink\":", b"\"x\"",
            ]), 0..60)) {
            let page = Bytes::from([b"{\"value\":[".to_vec(), pieces.concat()].concat());
            for body in [page.slice(..), page.slice(10..), Bytes::from([&page[..], b"]}"].concat())] {
                if let Some((found, _)) = cut(&body) {
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

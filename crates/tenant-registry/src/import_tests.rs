//! Reading lines: what is accepted, what is refused, and that no refusal repeats what it found.

use super::*;

const HEADER: &str = "directory_id,name,cloud,app,sources,refresh_token";
const ID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

fn file_error(bytes: &[u8]) -> String {
    match lines(bytes) {
        Ok(_) => panic!("{} should be refused", String::from_utf8_lossy(bytes)),
        Err(words) => words,
    }
}

#[test]
fn a_byte_order_mark_crlf_quotes_and_blank_lines_are_accepted() {
    let text =
        format!("\u{feff}\"directory_id\",name,cloud,app,sources,refresh_token\r\n\r\n{ID},\"A, \"\"B\"\"\",c,a,\"x;y\",\r\n   \r\n");
    let lines: Vec<_> = lines(text.as_bytes()).unwrap().collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].0, 3, "line numbers are those an editor shows");
    let (tenant, draft) = parse_line(lines[0].1);
    let draft = draft.unwrap();
    assert_eq!(tenant.unwrap().to_string(), ID);
    assert_eq!((draft.name.as_str(), draft.sources.as_str()), ("A, \"B\"", "x;y"));
    assert!(draft.refresh_token.is_none());
}

#[test]
fn a_wrong_header_says_what_is_wrong_and_never_repeats_itself() {
    let semicolons = HEADER.replace(',', ";");
    let swapped = "name,directory_id,cloud,app,sources,refresh_token";
    let headless = format!("{ID},n,c,a,graph-alerts,0.AXsecret");
    let cases = [
        (String::new(), "the file is empty"),
        ("\n \r\n".to_owned(), "the file is empty"),
        (semicolons, "separates its columns by ';'"),
        (HEADER.replace("sources", "source"), "column sources is missing"),
        (HEADER.replace(",refresh_token", ""), "column refresh_token is missing"),
        (HEADER.to_uppercase(), "column directory_id is missing"),
        (format!("{HEADER},note"), "exactly the right columns"),
        (swapped.to_owned(), "exactly the right columns"),
        (headless, "holds a tenant where the header belongs"),
        (format!("\"{HEADER}"), "never closed"),
    ];
    for (text, expected) in cases {
        let words = file_error(text.as_bytes());
        assert!(words.contains(expected), "{text}: {words}");
        assert!(words.contains(HEADER), "{words}");
        assert!(!words.contains("secret"), "{words}");
    }
    assert!(file_error(b"\xff\xfed\0i\0r\0").contains("UTF-16"));
}

#[test]
fn a_malformed_line_is_an_error_of_its_own() {
    let cases: [(&[u8], &str); 9] = [
        (b"a,b,c", "3 columns instead of 6"),
        (b"a,b,c,d,e,secret,g", "7 columns instead of 6"),
        (b"a;b;c;d;e;secret", "must be separated by ','"),
        (b"secret", "1 columns instead of 6"),
        (b"a,b,c,d,e,\"secret", "never closed"),
        (b"a,b,c,d,e,\"secret\"x", "text after a closing quote"),
        (b"a,b,c,d,e,se\"cret", "inside of a cell that is not quoted"),
        (b"a,b,c,d,e,\xff\xfesecret", "not UTF-8"),
        (b"a,b,c,d,e,two secrets", "holds a blank"),
    ];
    for (line, expected) in cases {
        let words = parse_line(line).1.unwrap_err();
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("secret"), "{words}");
    }
}

#[test]
fn a_useless_line_still_tells_whose_it_is() {
    let (tenant, draft) = parse_line(format!("{ID},only two").as_bytes());
    assert_eq!(tenant.unwrap().to_string(), ID);
    assert!(draft.is_err());
}

proptest::proptest! {
    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        if let Ok(lines) = lines(&bytes) {
            lines.for_each(|(_, line)| drop(parse_line(line)));
        }
        drop(parse_line(&bytes));
    }

    #[test]
    fn cells_of_any_text_come_back_from_their_quotes(cells in proptest::collection::vec("[^\n\r]{0,12}", 1..8)) {
        let line = cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect::<Vec<_>>().join(",");
        proptest::prop_assert_eq!(split(&line), Ok(cells));
    }
}

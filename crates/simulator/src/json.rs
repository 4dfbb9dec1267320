//! Writes JSON in the order in which the members are named, straight into one string: alerts are rendered by
//! the hundred thousand, and a tree in between would cost more than the text.

use crate::stamp::Stamp;
use std::fmt::Display;
use uuid::Uuid;

/// A JSON text under construction.
#[derive(Default)]
pub(crate) struct Json {
    out: String,
    /// Whether the next member or item needs a comma before it.
    follows: bool,
}

impl Json {
    /// Writes one object and returns its text.
    pub(crate) fn render(capacity: usize, members: impl FnOnce(&mut Json)) -> String {
        let mut json = Json { out: String::with_capacity(capacity), follows: false };
        json.braces('{', '}', members);
        json.out
    }

    fn braces(&mut self, open: char, close: char, inside: impl FnOnce(&mut Json)) {
        self.out.push(open);
        self.follows = false;
        inside(self);
        self.out.push(close);
        self.follows = true;
    }

    fn comma(&mut self) {
        if self.follows {
            self.out.push(',');
        }
        self.follows = true;
    }

    fn key(&mut self, name: &str) {
        self.comma();
        self.text(name);
        self.out.push(':');
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        let mut plain_from = 0;
        for (at, byte) in text.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0..=0x1f => "",
                _ => continue,
            };
            self.out.push_str(&text[plain_from..at]);
            if escape.is_empty() {
                self.out.push_str(&format!("\\u{byte:04x}"));
            } else {
                self.out.push_str(escape);
            }
            plain_from = at + 1;
        }
        self.out.push_str(&text[plain_from..]);
        self.out.push('"');
    }

    pub(crate) fn str(&mut self, name: &str, value: &str) {
        self.key(name);
        self.text(value);
    }

    pub(crate) fn maybe(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.str(name, value),
            None => self.null(name),
        }
    }

    pub(crate) fn null(&mut self, name: &str) {
        self.key(name);
        self.out.push_str("null");
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.key(name);
        self.out.push_str(if value { "true" } else { "false" });
    }

    /// A number: whatever `Display` says is written as it is.
    pub(crate) fn num(&mut self, name: &str, value: impl Display) {
        self.key(name);
        self.out.push_str(&value.to_string());
    }

    /// A value whose JSON text is given: for spellings that a writer would not choose by itself.
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        self.key(name);
        self.out.push_str(value);
    }

    pub(crate) fn stamp(&mut self, name: &str, value: Stamp) {
        self.str(name, &value.to_string());
    }

    pub(crate) fn maybe_stamp(&mut self, name: &str, value: Option<Stamp>) {
        self.maybe(name, value.map(|stamp| stamp.to_string()).as_deref());
    }

    pub(crate) fn uuid(&mut self, name: &str, value: Uuid) {
        self.str(name, &value.to_string());
    }

    pub(crate) fn object(&mut self, name: &str, members: impl FnOnce(&mut Json)) {
        self.key(name);
        self.braces('{', '}', members);
    }

    pub(crate) fn array(&mut self, name: &str, items: impl FnOnce(&mut Json)) {
        self.key(name);
        self.braces('[', ']', items);
    }

    pub(crate) fn strings<T: AsRef<str>>(&mut self, name: &str, values: &[T]) {
        self.array(name, |json| {
            for value in values {
                json.comma();
                json.text(value.as_ref());
            }
        });
    }

    /// An object as the next item of the array being written.
    pub(crate) fn item(&mut self, members: impl FnOnce(&mut Json)) {
        self.comma();
        self.braces('{', '}', members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_the_order_in_which_they_were_named() {
        let text = Json::render(64, |json| {
            json.str("z", "a \"quoted\" \\ tab\t line\n bell\u{7} ı İ ş æ");
            json.null("a");
            json.array("items", |json| {
                json.item(|json| json.num("n", 1));
                json.item(|_| ());
            });
            json.strings("empty", &[] as &[&str]);
            json.object("o", |json| json.bool("yes", true));
        });
        assert_eq!(
            text,
            r#"{"z":"a \"quoted\" \\ tab\t line\n bell\u0007 ı İ ş æ","a":null,"items":[{"n":1},{}],"empty":[],"o":{"yes":true}}"#
        );
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

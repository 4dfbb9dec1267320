//! `$filter`: the small part of OData that the alert APIs understand (`eq ne gt ge lt le`, `and`, `or`, `not`,
//! parentheses), over the properties that one API documents. Everything else is an error, as it is there.

use crate::facts::{Field, Value};
use crate::stamp::Stamp;
use crate::vocabulary::Words;

/// A property one API lets its callers filter by.
#[derive(Debug)]
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) field: Field,
    pub(crate) kind: Kind,
}

/// What a property is compared with.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Kind {
    /// An unquoted time with at most seven fractional digits.
    Time,
    /// A quoted text.
    Text,
    /// A quoted word out of a closed list: any other is refused.
    Word(&'static Words),
    /// An unquoted whole number.
    Number,
}

/// A filter that has been understood.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Filter(Test);

#[derive(Clone, PartialEq, Debug)]
enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Compare(Field, Operator, Literal),
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Operator {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Clone, PartialEq, Debug)]
enum Literal {
    Null,
    Time(Stamp),
    Text(String),
    Number(i64),
}

/// Why a filter was refused, in the words of the error body.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("Invalid filter clause: {0}")]
pub(crate) struct FilterError(String);

/// More nesting than this is refused rather than risked.
const DEEPEST: usize = 40;

impl Filter {
    pub(crate) fn parse(text: &str, properties: &[Property]) -> Result<Filter, FilterError> {
        let mut parser = Parser { words: split(text)?, at: 0, depth: 0, properties };
        let test = parser.any()?;
        match parser.peek() {
            None => Ok(Filter(test)),
            Some(rest) => Err(FilterError(format!("syntax error at '{rest}'"))),
        }
    }

    pub(crate) fn matches<'a>(&self, fact: impl Fn(Field) -> Value<'a>) -> bool {
        self.0.holds(&fact)
    }

    /// The least and greatest value of a time field that can pass, as far as the outermost `and` tells.
    pub(crate) fn span(&self, field: Field) -> (Option<Stamp>, Option<Stamp>) {
        let mut span = (None, None);
        self.0.narrow(field, &mut span);
        span
    }
}

impl Test {
    fn holds<'a>(&self, fact: &impl Fn(Field) -> Value<'a>) -> bool {
        match self {
            Test::All(tests) => tests.iter().all(|test| test.holds(fact)),
            Test::Any(tests) => tests.iter().any(|test| test.holds(fact)),
            Test::Not(test) => !test.holds(fact),
            Test::Compare(field, operator, literal) => compare(fact(*field), *operator, literal),
        }
    }

    fn narrow(&self, wanted: Field, span: &mut (Option<Stamp>, Option<Stamp>)) {
        match self {
            Test::All(tests) => tests.iter().for_each(|test| test.narrow(wanted, span)),
            Test::Compare(field, operator, Literal::Time(at)) if *field == wanted => {
                if matches!(operator, Operator::Eq | Operator::Ge | Operator::Gt) {
                    span.0 = span.0.max(Some(*at));
                }
                if matches!(operator, Operator::Eq | Operator::Le | Operator::Lt) {
                    span.1 = Some(span.1.map_or(*at, |high| high.min(*at)));
                }
            }
            _ => {}
        }
    }
}

fn compare(value: Value<'_>, operator: Operator, literal: &Literal) -> bool {
    let order = match (value, literal) {
        (Value::Null, Literal::Null) => return operator == Operator::Eq,
        (Value::Time(value), Literal::Time(literal)) => value.cmp(literal),
        (Value::Text(value), Literal::Text(literal)) => value.cmp(literal.as_str()),
        (Value::Number(value), Literal::Number(literal)) => value.cmp(literal),
        // Null on one side only, or a text where a number was expected: different, and nothing else.
        _ => return operator == Operator::Ne,
    };
    match operator {
        Operator::Eq => order.is_eq(),
        Operator::Ne => order.is_ne(),
        Operator::Gt => order.is_gt(),
        Operator::Ge => order.is_ge(),
        Operator::Lt => order.is_lt(),
        Operator::Le => order.is_le(),
    }
}

/// Words, parentheses, and quoted texts (with their quotes).
fn split(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' => {}
            '(' | ')' => words.push(letter.to_string()),
            '\'' => words.push(quoted(&mut letters)?),
            _ => {
                let mut word = letter.to_string();
                while let Some(next) = letters.next_if(|next| !matches!(next, ' ' | '(' | ')' | '\'')) {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    Ok(words)
}

/// The rest of a quoted text; a doubled quote inside stands for one.
fn quoted(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, FilterError> {
    let mut word = String::from("'");
    while let Some(letter) = letters.next() {
        if letter != '\'' {
            word.push(letter);
        } else if letters.next_if_eq(&'\'').is_some() {
            word.push('\'');
        } else {
            return Ok(word);
        }
    }
    Err(FilterError("unterminated string literal".to_owned()))
}

struct Parser<'a> {
    words: Vec<String>,
    at: usize,
    depth: usize,
    properties: &'a [Property],
}

impl Parser<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn take(&mut self) -> Result<String, FilterError> {
        let word = self.words.get(self.at).cloned().ok_or_else(|| FilterError("expression expected".to_owned()))?;
        self.at += 1;
        Ok(word)
    }

    fn take_if(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.all()?];
        while self.take_if("or") {
            tests.push(self.all()?);
        }
        Ok(if tests.len() == 1 { tests.remove(0) } else { Test::Any(tests) })
    }

    fn all(&mut self) -> Result<Test, FilterError> {
        let mut tests = vec![self.one()?];
        while self.take_if("and") {
            tests.push(self.one()?);
        }
        Ok(if tests.len() == 1 { tests.remove(0) } else { Test::All(tests) })
    }

    fn one(&mut self) -> Result<Test, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(FilterError("the expression is nested too deeply".to_owned()));
        }
        let test = if self.take_if("not") {
            Test::Not(Box::new(self.one()?))
        } else if self.take_if("(") {
            let inner = self.any()?;
            if !self.take_if(")") {
                return Err(FilterError("')' expected".to_owned()));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(test)
    }

    fn comparison(&mut self) -> Result<Test, FilterError> {
        let name = self.take()?;
        let property = self
            .properties
            .iter()
            .find(|property| property.name == name)
            .ok_or_else(|| FilterError(format!("the property '{name}' is not supported for $filter")))?;
        let operator = match self.take()?.as_str() {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "gt" => Operator::Gt,
            "ge" => Operator::Ge,
            "lt" => Operator::Lt,
            "le" => Operator::Le,
            other => return Err(FilterError(format!("the operator '{other}' is not supported"))),
        };
        let (kind, field) = (property.kind, property.field);
        let literal = literal(kind, &name, &self.take()?)?;
        if matches!(kind, Kind::Word(_) | Kind::Text) && !matches!(operator, Operator::Eq | Operator::Ne) {
            return Err(FilterError(format!("'{name}' can only be compared with eq and ne")));
        }
        Ok(Test::Compare(field, operator, literal))
    }
}

fn literal(kind: Kind, name: &str, word: &str) -> Result<Literal, FilterError> {
    let wrong = || FilterError(format!("a value of the type of '{name}' was expected, but found {word}"));
    if word == "null" {
        return Ok(Literal::Null);
    }
    let text = word.strip_prefix('\'');
    match kind {
        Kind::Time => Stamp::parse(word).map(Literal::Time).ok_or_else(wrong),
        Kind::Number => word.parse().map(Literal::Number).map_err(|_| wrong()),
        Kind::Text => text.map(|text| Literal::Text(text.to_owned())).ok_or_else(wrong),
        Kind::Word(words) => text.filter(|text| words.contains(text)).map(|text| Literal::Text(text.to_owned())).ok_or_else(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::SEVERITY;

    const PROPERTIES: &[Property] = &[
        Property { name: "lastUpdateDateTime", field: Field::Updated, kind: Kind::Time },
        Property { name: "severity", field: Field::Severity, kind: Kind::Word(&SEVERITY) },
        Property { name: "assignedTo", field: Field::AssignedTo, kind: Kind::Text },
        Property { name: "incidentId", field: Field::Incident, kind: Kind::Number },
    ];

    fn stamp(text: &str) -> Stamp {
        Stamp::parse(text).unwrap()
    }

    fn facts(field: Field) -> Value<'static> {
        match field {
            Field::Updated => Value::Time(Stamp::parse("2025-01-01T00:00:00.1133333Z").unwrap()),
            Field::Severity => Value::Text("high"),
            Field::AssignedTo => Value::Text("o'dowd ı"),
            Field::Incident => Value::Number(7),
            _ => Value::Null,
        }
    }

    #[test]
    fn what_is_documented_is_understood() {
        for (text, expected) in [
            ("lastUpdateDateTime ge 2025-01-01T00:00:00.1133333Z", true),
            ("lastUpdateDateTime gt 2025-01-01T00:00:00.1133333Z", false),
            ("lastUpdateDateTime lt 2025-01-01T00:00:00.1133334Z", true),
            ("lastUpdateDateTime ge 2025-01-01T00:00:00Z and lastUpdateDateTime lt 2025-01-02T00:00:00Z", true),
            ("severity eq 'high'", true),
            ("severity ne 'high'", false),
            ("not(severity eq 'low' or severity eq 'medium')", true),
            ("not severity eq 'high' or incidentId eq 7", true),
            ("(severity eq 'low' or severity eq 'high') and incidentId le 7", true),
            ("severity eq 'low' or severity eq 'high' and incidentId eq 8", false),
            ("assignedTo eq 'o''dowd ı'", true),
            ("assignedTo eq 'o''dowd i'", false),
            ("assignedTo eq null", false),
            ("assignedTo ne null", true),
        ] {
            let filter = Filter::parse(text, PROPERTIES).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.matches(facts), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "severity",
            "severity eq",
            "severity eq high",
            "severity eq 'High'",
            "severity gt 'low'",
            "investigationState eq 'running'",
            "lastUpdateDateTime ge '2025-01-01T00:00:00Z'",
            "lastUpdateDateTime ge 2025-01-01T00:00:00.12345678Z",
            "lastUpdateDateTime ge 2025-01-01T00:00:00 00:00",
            "lastUpdateDateTime GE 2025-01-01T00:00:00Z",
            "(severity eq 'high'",
            "severity eq 'high')",
            "severity eq 'high",
            "severity eq 'high' severity eq 'low'",
            "contains(severity,'h')",
            "incidentId eq '7'",
        ] {
            assert!(Filter::parse(text, PROPERTIES).is_err(), "{text}");
        }
        assert!(Filter::parse(&"(".repeat(100_000), PROPERTIES).is_err());
    }

    #[test]
    fn the_span_of_a_window_is_known_before_rows_are_looked_at() {
        let filter = Filter::parse(
            "severity eq 'high' and (lastUpdateDateTime ge 2025-01-01T00:00:00Z and lastUpdateDateTime lt 2025-01-02T00:00:00Z)",
            PROPERTIES,
        )
        .unwrap();
        assert_eq!(filter.span(Field::Updated), (Some(stamp("2025-01-01T00:00:00Z")), Some(stamp("2025-01-02T00:00:00Z"))));
        let open =
            Filter::parse("not(lastUpdateDateTime ge 2025-01-01T00:00:00Z) or lastUpdateDateTime ge 2025-01-01T00:00:00Z", PROPERTIES)
                .unwrap();
        assert_eq!(open.span(Field::Updated), (None, None), "a bound under not or or bounds nothing");
    }
}

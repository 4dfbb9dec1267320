//! Questions as they are written, and how they are asked without Grafana: what stands for a value is bound to the
//! statement, never pasted into it.
//!
//! The macros are read as Grafana's PostgreSQL source reads them: a name behind `$`, and arguments up to the first
//! parenthesis that closes. What it would take for something else is refused here.

/// A question to put to a database: `$1` and `$2` are beginning and end as text, from `$3` on arrays of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The statement.
    pub sql: String,
    /// Whose chosen values `$3`, `$4` … are.
    pub variables: Vec<String>,
}

/// A question that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A macro that we do not use, or Grafana does not know.
    #[error("there is no macro {0}")]
    Macro(String),
    /// Arguments that Grafana would cut at the first parenthesis, or too few of them.
    #[error("{0} takes plain columns: {1}")]
    Arguments(String, String),
    /// A variable in a form that is not quoted.
    #[error("variable {0} must be written ${{NAME:sqlstring}}")]
    Variable(String),
}

/// Reads a question, in steps of so many seconds where it groups by time.
///
/// # Errors
/// When it has something in it that Grafana would read differently.
pub fn bound(question: &str, step: u32) -> Result<Bound, Unreadable> {
    let mut sql = String::with_capacity(question.len() + 64);
    let mut variables: Vec<String> = Vec::new();
    let mut rest = question;
    while let Some(at) = rest.find('$') {
        sql.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(inside) = rest.strip_prefix('{') {
            let (inside, after) = inside.split_once('}').ok_or_else(|| Unreadable::Variable(inside.to_owned()))?;
            let name = inside.strip_suffix(":sqlstring").ok_or_else(|| Unreadable::Variable(inside.to_owned()))?;
            let number = variables.iter().position(|known| known == name).unwrap_or_else(|| {
                variables.push(name.to_owned());
                variables.len() - 1
            });
            sql.push_str(&format!("${}", number + 3));
            rest = after;
            continue;
        }
        let length = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        let (arguments, after) =
            after.strip_prefix('(').and_then(|inside| inside.split_once(')')).ok_or_else(|| Unreadable::Macro(format!("${name}")))?;
        sql.push_str(&expanded(name, arguments, step)?);
        rest = after;
    }
    sql.push_str(rest);
    Ok(Bound { sql, variables })
}

fn expanded(name: &str, arguments: &str, step: u32) -> Result<String, Unreadable> {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c == '_' || c == '.' || c.is_ascii_alphanumeric());
    let wrong = || Unreadable::Arguments(format!("${name}"), arguments.to_owned());
    match name {
        "__timeFrom" if arguments.is_empty() => Ok("$1::timestamptz".into()),
        "__timeTo" if arguments.is_empty() => Ok("$2::timestamptz".into()),
        "__timeFilter" if plain(arguments) => Ok(format!("{arguments} BETWEEN $1::timestamptz AND $2::timestamptz")),
        "__timeGroupAlias" => {
            let column = arguments.strip_suffix(", $__interval").filter(|column| plain(column)).ok_or_else(wrong)?;
            Ok(format!("floor(extract(epoch from {column})/{step})*{step} AS \"time\""))
        }
        "__timeFrom" | "__timeTo" | "__timeFilter" => Err(wrong()),
        _ => Err(Unreadable::Macro(format!("${name}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_value_is_bound() {
        let asked = bound(
            "select $__timeGroupAlias(hour, $__interval), sum(alerts) from dash.alert_hour where $__timeFilter(hour) \
             and severity = ANY(ARRAY[${severity:sqlstring}]::text[]) and day >= $__timeFrom()::date and x = ANY(ARRAY[${tenant:sqlstring}]::uuid[]) \
             and s = ANY(ARRAY[${severity:sqlstring}]::text[])",
            7200,
        )
        .unwrap();
        assert_eq!(
            asked.sql,
            "select floor(extract(epoch from hour)/7200)*7200 AS \"time\", sum(alerts) from dash.alert_hour where hour BETWEEN $1::timestamptz AND $2::timestamptz \
             and severity = ANY(ARRAY[$3]::text[]) and day >= $1::timestamptz::date and x = ANY(ARRAY[$4]::uuid[]) and s = ANY(ARRAY[$3]::text[])"
        );
        assert_eq!(asked.variables, ["severity", "tenant"]);
    }

    #[test]
    fn what_grafana_would_read_otherwise_is_refused() {
        for (question, said) in [
            ("$__timeFilter(coalesce(a, b))", "$__timeFilter takes plain columns: coalesce(a, b"),
            ("$__timeFilter()", "$__timeFilter takes plain columns: "),
            ("$__timeGroup(a, '1h')", "there is no macro $__timeGroup"),
            ("$__timeGroupAlias(a, 1h)", "$__timeGroupAlias takes plain columns: a, 1h"),
            ("a = '$tenant'", "there is no macro $tenant"),
            ("a = ${tenant}", "variable tenant must be written ${NAME:sqlstring}"),
            ("a = ${tenant:raw}", "variable tenant:raw must be written ${NAME:sqlstring}"),
            ("$", "there is no macro $"),
        ] {
            assert_eq!(bound(question, 60).unwrap_err().to_string(), said, "{question}");
        }
    }
}

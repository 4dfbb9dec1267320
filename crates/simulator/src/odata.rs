//! The query options of the alert APIs, read the way OData spells them.

use crate::filter::{Filter, Property};
use std::collections::HashMap;

/// The options of one request, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Options(HashMap<String, String>);

impl Options {
    /// Reads a query string. Options that are not in `known`, and options given twice, are errors; what does not
    /// begin with `$` is none of OData's business.
    pub(crate) fn read(query: &str, known: &[&str]) -> Result<Options, String> {
        let mut options = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !name.starts_with('$') {
                continue;
            }
            if !known.contains(&name.as_ref()) {
                return Err(format!("The query parameter '{name}' is not supported."));
            }
            if options.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(format!("Query option '{name}' was specified more than once, but it must be specified at most once."));
            }
        }
        Ok(Options(options))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, String> {
        self.get(name).map(|text| text.trim().parse().map_err(|_| format!("Invalid value '{text}' for {name} query option found. The {name} query option requires a non-negative integer value."))).transpose()
    }

    pub(crate) fn flag(&self, name: &str) -> Result<bool, String> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("Invalid value '{other}' for {name} query option found. Valid values are 'true' or 'false'.")),
        }
    }

    pub(crate) fn filter(&self, properties: &[Property]) -> Result<Option<Filter>, String> {
        self.get("$filter").map(|text| Filter::parse(text, properties).map_err(|error| error.to_string())).transpose()
    }
}

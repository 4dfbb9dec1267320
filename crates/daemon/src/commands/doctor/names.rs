//! Names and their stand-ins: the terminal gets the names back, an archive never had them.

use std::collections::BTreeMap;

use domain::{AppName, CloudName};

use super::facts::Alias;

/// Who stands behind which alias.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<Alias, String>,
}

impl Names {
    /// Apps and clouds of the configuration, numbered in the order of their names.
    pub(super) fn of<'a>(apps: impl IntoIterator<Item = &'a AppName>, clouds: impl IntoIterator<Item = &'a CloudName>) -> Self {
        let mut names = Self::default();
        names.names.extend(apps.into_iter().enumerate().map(|(at, name)| (Alias("app", at + 1), name.to_string())));
        names.names.extend(clouds.into_iter().enumerate().map(|(at, name)| (Alias("cloud", at + 1), name.to_string())));
        names
    }

    /// Takes in a tenant under its number.
    pub(super) fn tenant(&mut self, number: usize, name: &str) -> Alias {
        let alias = Alias("tenant", number);
        self.names.insert(alias, name.to_owned());
        alias
    }

    /// The alias of this app or cloud.
    pub(super) fn alias(&self, kind: &'static str, name: &str) -> Alias {
        self.names.iter().find(|(alias, known)| alias.0 == kind && *known == name).map_or(Alias(kind, 0), |(alias, _)| *alias)
    }

    /// The text with each alias followed by its name: `tenant-3 (Contoso)`.
    pub(super) fn reveal(&self, text: &str) -> String {
        self.replaced(text, |alias, name| format!("{alias} ({name})"))
    }

    /// The text with each alias replaced by what can be typed.
    pub(super) fn typed(&self, text: &str) -> String {
        self.replaced(text, |_, name| {
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if plain && !name.starts_with('-') { name.to_owned() } else { format!("'{}'", name.replace('\'', r"'\''")) }
        })
    }

    fn replaced(&self, text: &str, with: impl Fn(Alias, &str) -> String) -> String {
        let mut done = String::with_capacity(text.len());
        // A word ends where nothing of an alias can go on, so that tenant-3 is not found in tenant-31.
        for piece in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            let word = piece.trim_end_matches(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
            match self.names.iter().find(|(alias, _)| alias.to_string() == word) {
                Some((alias, name)) => {
                    done.push_str(&with(*alias, name));
                    done.push_str(&piece[word.len()..]);
                }
                None => done.push_str(piece),
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_revealed_whole_and_to_be_typed() {
        let mut names = Names::of([&AppName::new("main")], [&CloudName::new("lab")]);
        names.tenant(3, "Contoso Ltd");
        names.tenant(31, "fabrikam");
        assert_eq!(names.reveal("tenant-3, tenant-31: app-1"), "tenant-3 (Contoso Ltd), tenant-31 (fabrikam): app-1 (main)");
        assert_eq!(names.reveal("tenant-300 and xtenant-3"), "tenant-300 and xtenant-3");
        assert_eq!(names.typed("type: tocsin tenant show tenant-3"), "type: tocsin tenant show 'Contoso Ltd'");
        assert_eq!(names.typed("tocsin tenant show tenant-31"), "tocsin tenant show fabrikam");
        assert_eq!(names.alias("cloud", "lab"), Alias("cloud", 1));
    }
}

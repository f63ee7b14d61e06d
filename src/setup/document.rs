//! A configuration that is changed and keeps what it says to people.

use std::fmt;
use std::path::Path;

use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::SetupError;

/// The text of a configuration, with its comments.
pub(super) struct Document(DocumentMut);

impl Document {
    /// Reads `text`; `path` is only for messages.
    ///
    /// # Errors
    /// [`SetupError::Document`].
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, SetupError> {
        let parsed = text
            .parse()
            .map_err(|error: toml_edit::TomlError| SetupError::Document {
                path: path.to_owned(),
                reason: error.message().to_owned(),
            });
        parsed.map(Self)
    }

    /// The store that it names.
    pub(super) fn store(&self) -> Option<String> {
        let url = self.0.get("store")?.get("url")?;
        url.as_str().map(str::to_owned)
    }

    /// Sets `key` of `table`.
    pub(super) fn set(&mut self, table: &str, key: &str, text: String) {
        self.put(table, key, value(text));
    }

    /// Sets `key` of `table` to a list.
    pub(super) fn set_list(&mut self, table: &str, key: &str, items: impl Iterator<Item = String>) {
        self.put(table, key, value(items.collect::<Array>()));
    }

    fn put(&mut self, table: &str, key: &str, new: Item) {
        let table = self
            .0
            .entry(table)
            .or_insert_with(|| Item::Table(Table::new()));
        if let Some(table) = table.as_table_like_mut() {
            match table.get_mut(key) {
                // With the comments around it.
                Some(Item::Value(old)) => {
                    let decor = old.decor().clone();
                    if let Item::Value(mut new) = new {
                        *new.decor_mut() = decor;
                        *old = new;
                    }
                }
                _ => drop(table.insert(key, new)),
            }
        }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SHIPPED;
    use super::*;
    use crate::config::Config;

    fn edited(text: &str) -> String {
        let path = Path::new("x.toml");
        let mut document = Document::parse(text, path).unwrap();
        document.set("store", "url", "file:///backups".into());
        document.set("mongodb", "username", "freezeframe".into());
        document.set("mongodb", "password_file", "/etc/x".into());
        document.set_list(
            "mongodb",
            "members",
            ["a:1".to_owned(), "b:2".to_owned()].into_iter(),
        );
        let text = document.to_string();
        let config = Config::parse(&text, path).unwrap();
        assert_eq!(config.store.url.as_str(), "file:///backups");
        assert_eq!(config.mongodb.username.as_deref(), Some("freezeframe"));
        assert_eq!(config.mongodb.members.len(), 2);
        text
    }

    #[test]
    fn what_it_says_to_people_stays() {
        let text = edited(SHIPPED);
        let comments = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(comments(&text), comments(SHIPPED));
        assert_eq!(edited(&text), text);
        let own = "# ours\n[store] # the disk\nurl = \"file:///x\" # the folder\n";
        let text = edited(own);
        assert!(
            text.contains("# ours\n[store] # the disk\nurl = \"file:///backups\" # the folder\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_configuration_is_told() {
        let error = Document::parse("[store\n", Path::new("x.toml"))
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("x.toml: "), "{error}");
    }
}

//! A complete, commented file (`--write-config-to`), and the same as `/configz` shows it.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::Config;
use super::options::DOCUMENTS;

/// Width of a comment.
const WIDTH: usize = 98;

/// Writes everything that may be configured, with what it means and its default. Read back, the
/// text gives the same configuration, except for the node's name and what only flags can say.
#[must_use]
pub fn write(config: &Config) -> String {
    let mut config = config.clone();
    config.settings.node_name = "".into();
    let defaults = Config::default();
    let mut text = String::new();
    for document in DOCUMENTS {
        if !text.is_empty() {
            text += "---\n";
        }
        comment(&mut text, "", document.about);
        let _ = writeln!(text, "apiVersion: {}\nkind: {}", document.version, document.kind);
        let mut section = "";
        for option in document.options {
            let value = option.form.show(&config);
            if value.is_null() {
                continue;
            }
            let (head, name) = option.field.rsplit_once('.').unwrap_or(("", option.field));
            if head.is_empty() || head != section {
                text.push('\n');
            }
            if !head.is_empty() && head != section {
                let _ = writeln!(text, "{head}:");
            }
            section = head;
            let indent = if head.is_empty() { "" } else { "  " };
            let default = option.default(&defaults).map(|it| format!(" Default: {it}."));
            let about = format!("{}.{}", option.doc, default.unwrap_or_default());
            comment(&mut text, indent, &about);
            let _ = writeln!(text, "{indent}{name}: {value}");
        }
    }
    text
}

fn comment(text: &mut String, indent: &str, about: &str) {
    let mut line = format!("{indent}#");
    for word in about.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            *text += &line;
            line = format!("\n{indent}#");
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}

/// Everything that is configured, under the API groups of its documents: kube-proxy's as kube-proxy
/// shows it, and ours.
#[must_use]
pub fn show(config: &Config) -> Value {
    let groups = DOCUMENTS.map(|document| {
        let mut fields = Map::new();
        fields.insert("apiVersion".to_owned(), json!(document.version));
        fields.insert("kind".to_owned(), json!(document.kind));
        for option in document.options {
            let value = option.form.show(config);
            if value.is_null() {
                continue;
            }
            match option.field.split_once('.') {
                None => {
                    fields.insert(option.field.to_owned(), value);
                }
                Some((section, name)) => {
                    let section = fields.entry(section).or_insert_with(|| Map::new().into());
                    section[name] = value;
                }
            }
        }
        let group = document.version.split('/').next().unwrap_or_default();
        (group.to_owned(), fields.into())
    });
    Map::from_iter(groups).into()
}

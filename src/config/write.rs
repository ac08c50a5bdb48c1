//! A complete, commented file (`--write-config-to`), and the same as `/configz` shows it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::options::{DOCUMENTS, Opt, TEMPLATE, lines, with_flags};
use super::read::scalars;
use super::{Config, LogFormat, SourceConfig};

/// Writes everything that may be configured, with what it means and its default. Read back, the
/// text gives the same configuration, except for the node's name and what only flags can say.
#[must_use]
pub fn write(config: &Config) -> String {
    let mut config = config.clone();
    config.settings.node_name = "".into();
    let written = TEMPLATE.lines().zip(lines()).map(|(line, option)| match option {
        Some(option) => {
            let (name, _) = line.split_once(':').unwrap_or((line, ""));
            format!("{name}: {}\n", option.form.show(&mut config))
        }
        None => format!("{line}\n"),
    });
    written.collect()
}

/// The flags with the values that are in effect, wherever they are set.
#[must_use]
pub fn show_flags(config: &Config) -> BTreeMap<String, String> {
    let mut config = config.clone();
    let mut value = |option: &Opt| scalars(&option.form.show(&mut config)).unwrap_or_default();
    let mut flags: BTreeMap<_, _> =
        with_flags().map(|option| (option.flag.to_owned(), value(option))).collect();
    let mut set = |flag: &str, value: &dyn ToString| {
        flags.insert(flag.to_owned(), value.to_string());
    };
    set("node-name", &config.settings.node_name);
    set("log-level", &config.log_level);
    set("log-format", if config.log_format == LogFormat::Json { &"json" } else { &"text" });
    match &config.source {
        SourceConfig::Manifests(directory) => set("manifests", &directory.display()),
        SourceConfig::Kubernetes(api) => api.master.iter().for_each(|it| set("master", it)),
    }
    flags
}

/// Everything that is configured, under the API groups of its documents: kube-proxy's as kube-proxy
/// shows it, and ours.
#[must_use]
pub fn show(config: &Config) -> Value {
    let mut config = config.clone();
    let groups = DOCUMENTS.map(|document| {
        let mut fields = Map::new();
        fields.insert("apiVersion".to_owned(), json!(document.version));
        fields.insert("kind".to_owned(), json!(document.kind));
        for option in document.options {
            let value = option.form.show(&mut config);
            match option.field.split_once('.') {
                Some((section, name)) => {
                    fields.entry(section).or_insert_with(|| json!({}))[name] = value;
                }
                None => {
                    fields.insert(option.field.to_owned(), value);
                }
            }
        }
        let group = document.version.split('/').next().unwrap_or_default();
        (group.to_owned(), fields.into())
    });
    Map::from_iter(groups).into()
}

//! The configuration file: kube-proxy's document, and ours if there is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, from_multiple, from_multiple_with_options, options};

use super::ConfigError;
use super::options::{DOCUMENTS, Document, OWN, of_field};

/// Where values were given, so that an error says where to look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Origin {
    /// Nowhere: a file has no such document. Every value is a default.
    #[default]
    Nowhere,
    /// On the command line.
    Flags,
    /// In a document of a file, counted from 1.
    Document { path: PathBuf, number: usize },
}

impl Origin {
    /// What the operator calls a field: flag, or file and field.
    pub(super) fn name(&self, field: &str) -> String {
        match self {
            Self::Nowhere | Self::Flags => match of_field(field) {
                Some(option) if !option.flag.is_empty() => format!("--{}", option.flag),
                _ => field.to_owned(),
            },
            Self::Document { path, .. } => format!("{}: {field}", path.display()),
        }
    }

    /// The error that a field's value is invalid.
    pub(super) fn wrong(&self, field: &str, reason: impl ToString) -> ConfigError {
        let reason = reason.to_string();
        match self {
            Self::Nowhere | Self::Flags => ConfigError::Value { option: self.name(field), reason },
            Self::Document { path, number } => ConfigError::File {
                path: path.clone(),
                place: format!("document {number}: {field}"),
                reason,
            },
        }
    }
}

/// What was given: in a file, or by flags.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// By field, of the form that the field has.
    pub(super) values: BTreeMap<&'static str, Value>,
    /// Where kube-proxy's options were given,
    pub(super) kube_proxy: Origin,
    /// and ours.
    pub(super) own: Origin,
    pub(super) warnings: Vec<String>,
}

/// Reads a file. Unknown fields are warned of, as newer versions of kube-proxy may have them.
pub(super) fn read(path: &Path) -> Result<Given, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Given, ConfigError> {
    let wrong =
        |place: String, reason: String| ConfigError::File { path: path.to_owned(), place, reason };
    let (documents, doubts) =
        parse_values(text).map_err(|error| wrong("not YAML".to_owned(), error))?;
    let warnings = doubts.map(|doubt| format!("{}: {doubt}", path.display()));
    let mut given = Given { warnings: warnings.into_iter().collect(), ..Given::default() };
    for (index, value) in documents.into_iter().enumerate() {
        let number = index + 1;
        if value.is_null() {
            continue;
        }
        let field = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (field("apiVersion"), field("kind"));
        let is_this = |it: &Document| (it.version, it.kind) == (version, kind);
        let Some(document) = DOCUMENTS.into_iter().find(is_this) else {
            let known = DOCUMENTS.map(|it| format!("{}, {}", it.version, it.kind)).join(" nor ");
            let reason = format!("apiVersion {version:?}, kind {kind:?} is neither {known}");
            return Err(wrong(format!("document {number}"), reason));
        };
        let place = if document.kind == OWN.kind { &mut given.own } else { &mut given.kube_proxy };
        if *place != Origin::Nowhere {
            let reason = format!("a second {}: join the two", document.kind);
            return Err(wrong(format!("document {number}"), reason));
        }
        let origin = Origin::Document { path: path.to_owned(), number };
        *place = origin.clone();
        given.take(&origin, &document, "", value)?;
    }
    Ok(given)
}

impl Given {
    /// Takes in what a document says under a path.
    fn take(
        &mut self,
        origin: &Origin,
        document: &Document,
        under: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        let fields = Map::deserialize(value).map_err(|error| origin.wrong(under, error))?;
        for (name, value) in fields {
            let field = if under.is_empty() { name.clone() } else { format!("{under}.{name}") };
            let of_document = || document.ignored.split_whitespace().chain(document.fields());
            // A name may have a dot in it.
            let is = |known: &str| *known == *field && !name.contains('.');
            let has_more = || {
                let rest = |known: &'static str| known.strip_prefix(&*field)?.strip_prefix('.');
                !name.contains('.') && of_document().any(|known| rest(known).is_some())
            };
            match document.options.iter().find(|option| is(option.field)) {
                Some(_) if value.is_null() => {}
                Some(option) => {
                    option.form.check(&value).map_err(|error| origin.wrong(&field, error))?;
                    self.values.insert(option.field, value);
                }
                None if of_document().any(is) => {}
                None if has_more() && value.is_null() => {}
                None if has_more() => self.take(origin, document, &field, value)?,
                None => {
                    self.warnings.push(format!("{}: unknown field, ignored", origin.name(&field)));
                }
            }
        }
        Ok(())
    }

    /// Where a field was given.
    pub(super) fn origin(&self, field: &str) -> &Origin {
        if OWN.fields().any(|own| own == field) { &self.own } else { &self.kube_proxy }
    }
}

impl Document {
    fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.options.iter().map(|option| option.field)
    }
}

/// The documents of a text, whatever they say, and what is odd about it. Of a key that is there twice
/// the last value counts: kube-proxy reads a file leniently after strict decoding has failed.
pub(super) fn parse_values(text: &str) -> Result<(Vec<Value>, Option<String>), String> {
    let error = match from_multiple(text) {
        Ok(documents) => return Ok((documents, None)),
        Err(error) => error.to_string(),
    };
    // The message goes on with an excerpt of the file; one line says enough.
    let error = error.lines().next().unwrap_or_default();
    let lenient = options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    match from_multiple_with_options(text, lenient) {
        Ok(documents) => Ok((documents, Some(format!("{error}: the last one counts")))),
        Err(_) => Err(error.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration";

    fn read(text: &str) -> Result<Given, ConfigError> {
        parse(Path::new("config.conf"), text)
    }

    #[test]
    fn unknown_fields_are_warned_of_by_their_path() {
        let text = format!("{HEAD}\nmode: ipvs\nipvs:\n  speed: 9\nturbo: true\n");
        assert_eq!(
            read(&text).unwrap().warnings,
            [
                "config.conf: ipvs.speed: unknown field, ignored",
                "config.conf: turbo: unknown field, ignored"
            ]
        );
    }

    #[test]
    fn errors_name_file_document_and_field() {
        let own = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration";
        let cases = [
            (
                format!("{HEAD}\nipvs:\n  syncPeriod: [1]\n"),
                "document 1: ipvs.syncPeriod: invalid type",
            ),
            (
                format!("{HEAD}\n---\n{own}\nserviceCIDRs: 10.0.0.0/8\n"),
                "document 2: serviceCIDRs: ",
            ),
            (format!("{HEAD}\n---\n{HEAD}\n"), "document 2: a second KubeProxyConfiguration: join"),
            (
                "kind: Service\n".to_owned(),
                "document 1: apiVersion \"\", kind \"Service\" is neither",
            ),
            (format!("{HEAD}\n  mode: {{"), "not YAML: "),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.conf: {expected}")), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_last_of_a_duplicate_key_counts() {
        let text = format!(
            "{HEAD}\nmode: iptables\nipvs:\n  scheduler: rr\n  scheduler: lc\nmode: ipvs\n"
        );
        let file = read(&text).unwrap();
        assert_eq!(file.values["mode"], "ipvs");
        assert_eq!(file.values["ipvs.scheduler"], "lc");
        let [warning] = &file.warnings[..] else { panic!("{:?}", file.warnings) };
        assert!(warning.starts_with("config.conf: ") && warning.contains("duplicate"), "{warning}");
        assert!(warning.ends_with(": the last one counts"), "{warning}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = super::read(Path::new("/nonexistent/config.conf")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/config.conf: No such file"), "{error}");
    }
}

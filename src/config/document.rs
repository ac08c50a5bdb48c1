//! The configuration file: kube-proxy's document, and ours if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, from_multiple, from_multiple_with_options, options};

use super::ignored::{Ignored, IgnoredNames};
use super::options::{DOCUMENTS, Document, KUBE_PROXY, OWN, of_field};
use super::{ConfigError, read};
use crate::yaml;

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
#[derive(Debug, Default)]
pub(super) struct Given {
    /// By field, of the form that the field has.
    pub(super) values: BTreeMap<&'static str, Value>,
    /// Where kube-proxy's options were given,
    pub(super) kube_proxy: Origin,
    /// and ours.
    pub(super) own: Origin,
    /// The fields whose values come from flags, with or without a file.
    pub(super) by_flag: BTreeSet<&'static str>,
    pub(super) warnings: Vec<String>,
    /// At most one of each place.
    pub(super) errors: Vec<ConfigError>,
    pub(super) ignored: IgnoredNames,
}

/// Reads a file. Unknown fields are warned of, as newer versions of kube-proxy may have them.
pub(super) fn read_file(path: &Path) -> Result<Given, ConfigError> {
    let bytes =
        fs::read(path).map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| wrong(path, "not YAML", "its encoding is not UTF-8".to_owned()))?;
    parse(path, &text)
}

fn wrong(path: &Path, place: impl Into<String>, reason: String) -> ConfigError {
    ConfigError::File { path: path.to_owned(), place: place.into(), reason }
}

/// Reads a text. Errors of its documents stay in the result, so that all of them are told.
pub(super) fn parse(path: &Path, text: &str) -> Result<Given, ConfigError> {
    let (documents, doubts) = parse_values(text).map_err(|error| wrong(path, "not YAML", error))?;
    let warnings = doubts.map(|doubt| format!("{}: {doubt}", path.display()));
    let mut given = Given { warnings: warnings.into_iter().collect(), ..Given::default() };
    let documents = documents.into_iter().zip(1..).filter(|(value, _)| !value.is_null());
    let mut is_empty = true;
    for (value, number) in documents {
        is_empty = false;
        let added = given.add(path, number, value);
        let place = || format!("document {number}");
        given.note(added.map_err(|reason| wrong(path, place(), reason)));
    }
    if is_empty {
        return Err(wrong(path, "empty", format!("begin it with {}", KUBE_PROXY.head())));
    }
    if let Some(told) = given.ignored.told() {
        given.warnings.push(format!("{}: {told}", path.display()));
    }
    Ok(given)
}

impl Given {
    fn add(&mut self, path: &Path, number: usize, value: Value) -> Result<(), String> {
        let document = Document::of(&value)?;
        let place = if document.kind == OWN.kind { &mut self.own } else { &mut self.kube_proxy };
        if *place != Origin::Nowhere {
            return Err(format!("a second {}: join the two", document.kind));
        }
        let origin = Origin::Document { path: path.to_owned(), number };
        *place = origin.clone();
        self.take(&origin, &document, "", value);
        Ok(())
    }

    /// Takes in what a document says under a path.
    fn take(&mut self, origin: &Origin, document: &Document, under: &str, value: Value) {
        let Value::Object(fields) = value else {
            let reason = format!("{} is not a mapping of fields", read::shown(&value));
            self.note::<()>(Err(origin.wrong(under, reason)));
            return;
        };
        for (name, value) in fields {
            let field = if under.is_empty() { name.clone() } else { format!("{under}.{name}") };
            // A name with a dot in it is not the path of two.
            let path = if name.contains('.') { "" } else { &*field };
            let is_below =
                |known: &str| known.strip_prefix(path).is_some_and(|it| it.starts_with('.'));
            if let Some(option) = document.options.iter().find(|option| option.field == path) {
                if value.is_null() {
                    continue;
                }
                let checked = option.form.check(&value);
                if self.note(checked.map_err(|reason| origin.wrong(&field, reason))).is_some() {
                    self.values.insert(option.field, value);
                }
            } else if let Some(ignored) = document.ignored.iter().find(|it| it.has(path)) {
                self.ignored.note_fields(ignored, field, &value);
            } else if document.fields().any(is_below) {
                if !value.is_null() {
                    self.take(origin, document, &field, value);
                }
            } else if !["apiVersion", "kind"].contains(&&*field) {
                self.warnings.push(format!("{}: unknown field, ignored", origin.name(&field)));
            }
        }
    }

    /// Notes an error, unless one of the same place is there, from which it may follow.
    pub(super) fn note<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.errors.iter().any(|known| known.place() == error.place()) {
                    self.errors.push(error);
                }
                None
            }
        }
    }

    /// Fails if there were errors.
    pub(super) fn checked(&mut self) -> Result<(), ConfigError> {
        let mut errors = mem::take(&mut self.errors);
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => {
                errors.sort_by(|a, b| a.place().cmp(b.place()));
                Err(ConfigError::Several(errors))
            }
        }
    }

    /// Where a field was given.
    pub(super) fn origin(&self, field: &str) -> &Origin {
        if self.by_flag.contains(field) {
            &Origin::Flags
        } else if OWN.fields().any(|own| own == field) {
            &self.own
        } else {
            &self.kube_proxy
        }
    }
}

impl Document {
    /// The document that a value claims to be.
    fn of(value: &Value) -> Result<Self, String> {
        let field = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (field("apiVersion"), field("kind"));
        let is_this = |it: &Self| (it.version, it.kind) == (version, kind);
        let missing = match (version, kind) {
            _ if !value.is_object() => {
                let (shown, head) = (read::shown(value), KUBE_PROXY.head());
                return Err(format!("{shown} is not a mapping of fields: begin it with {head}"));
            }
            ("", "") => "neither apiVersion nor kind",
            ("", _) => "no apiVersion",
            (_, "") => "no kind",
            _ => {
                let known = || DOCUMENTS.map(|it| format!("{}, {}", it.version, it.kind));
                let reason = || {
                    let known = known().join(" nor ");
                    format!("apiVersion {version:?}, kind {kind:?} is neither {known}")
                };
                return DOCUMENTS.into_iter().find(is_this).ok_or_else(reason);
            }
        };
        let meant = if kind == OWN.kind { OWN } else { KUBE_PROXY };
        Err(format!("it has {missing}: begin it with {}", meant.head()))
    }

    /// What it begins with.
    fn head(&self) -> String {
        format!("apiVersion: {} and kind: {}", self.version, self.kind)
    }

    /// Its fields, whether or not they have a meaning here.
    fn fields(&self) -> impl Iterator<Item = &'static str> {
        let options = self.options.iter().map(|option| option.field);
        options.chain(self.ignored.iter().flat_map(Ignored::fields))
    }
}

/// The documents of a text, whatever they say, and what is odd about it. Of a key that is there twice
/// the last value counts: kube-proxy reads a file leniently after strict decoding has failed.
fn parse_values(text: &str) -> Result<(Vec<Value>, Option<String>), String> {
    let error = match from_multiple(text) {
        Ok(documents) => return Ok((documents, None)),
        Err(error) => yaml::reason(&error),
    };
    let lenient = options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    match from_multiple_with_options(text, lenient) {
        Ok(documents) => Ok((documents, Some(format!("{error}: the last one counts")))),
        Err(_) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration";

    fn read(text: &str) -> Result<Given, ConfigError> {
        let mut given = parse(Path::new("config.conf"), text)?;
        given.checked().map(|()| given)
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
        let begin = "begin it with apiVersion: kubeproxy.config.k8s.io/v1alpha1 and kind: \
                     KubeProxyConfiguration";
        let cases = [
            (
                format!("{HEAD}\nipvs:\n  syncPeriod: [1]\n"),
                "document 1: ipvs.syncPeriod: a list is not a duration".to_owned(),
            ),
            (
                format!("{HEAD}\n---\n{own}\nserviceCIDRs: 10.0.0.0/8\n"),
                "document 2: serviceCIDRs: \"10.0.0.0/8\" is not a list: write".to_owned(),
            ),
            (
                format!("{HEAD}\n---\n{HEAD}\n"),
                "document 2: a second KubeProxyConfiguration: join".to_owned(),
            ),
            (
                "apiVersion: v1\nkind: Service\n".to_owned(),
                "document 1: apiVersion \"v1\", kind \"Service\" is neither".to_owned(),
            ),
            (
                "mode: ipvs".to_owned(),
                format!("document 1: it has neither apiVersion nor kind: {begin}"),
            ),
            (
                "kind: KubeProxyConfiguration".to_owned(),
                format!("document 1: it has no apiVersion: {begin}"),
            ),
            (HEAD.replace("kind", "mode"), format!("document 1: it has no kind: {begin}")),
            (
                "ipvs".to_owned(),
                format!("document 1: \"ipvs\" is not a mapping of fields: {begin}"),
            ),
            ("- a".to_owned(), format!("document 1: a list is not a mapping of fields: {begin}")),
            (String::new(), format!("empty: {begin}")),
            ("# Nothing.\n---\n---\n".to_owned(), format!("empty: {begin}")),
            (format!("{HEAD}\n  mode: {{"), "not YAML: line 3 column ".to_owned()),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.conf: {expected}")), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn all_errors_of_all_documents_are_told() {
        let own = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration";
        let text = format!(
            "{HEAD}\nipvs: 5\nconntrack: {{ min: -1 }}\n---\nkind: Pod\n---\n{own}\ncarry: 1\n"
        );
        let error = read(&text).unwrap_err();
        let places: Vec<_> = error
            .each()
            .iter()
            .map(|error| match error {
                ConfigError::File { place, .. } => place.as_str(),
                other => panic!("{other}"),
            })
            .collect();
        let all =
            ["document 1: conntrack.min", "document 1: ipvs", "document 2", "document 3: carry"];
        assert_eq!(places, all);
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
        let error = read_file(Path::new("/nonexistent/config.conf")).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read /nonexistent/config.conf, which --config"),
            "{error}"
        );
    }
}

//! The configuration file: kube-proxy's document, and ours if there is one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, from_multiple, from_multiple_with_options, options};

use super::ConfigError;
use super::flags::FLAGS;
use super::kube_proxy::{self, KubeProxyConfiguration};
use super::own::{self, KubeIpvsConfiguration};

/// Where values were given, so that whoever gave a wrong one is told where to look.
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
    /// How the one who gave a field's value calls it: flag, or file and field.
    pub(super) fn name(&self, field: &str) -> String {
        match self {
            Self::Nowhere | Self::Flags => {
                let flag = FLAGS.iter().find(|flag| flag.field == field);
                flag.map_or(field, |flag| flag.name).to_owned()
            }
            Self::Document { path, .. } => format!("{}: {field}", path.display()),
        }
    }

    /// The error that a field's value is wrong.
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

/// A document with its origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Document<T> {
    pub(super) content: T,
    pub(super) origin: Origin,
}

/// What a file says.
#[derive(Clone, Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) kube_proxy: Document<KubeProxyConfiguration>,
    pub(super) own: Document<KubeIpvsConfiguration>,
    pub(super) warnings: Vec<String>,
}

/// Reads a file. Unknown fields are warned of, as newer versions of kube-proxy may have them.
pub(super) fn read(path: &Path) -> Result<ConfigFile, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
    let wrong =
        |place: String, reason: String| ConfigError::File { path: path.to_owned(), place, reason };
    let (documents, doubts) =
        parse_values(text).map_err(|error| wrong("not YAML".to_owned(), error))?;
    let warnings = doubts.map(|doubt| format!("{}: {doubt}", path.display()));
    let warnings = warnings.into_iter().collect();
    let mut reader =
        DocumentReader { path, file: ConfigFile { warnings, ..ConfigFile::default() } };
    let mut seen = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let number = index + 1;
        if document.is_null() {
            continue;
        }
        let field = |name| document.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = match (field("apiVersion"), field("kind")) {
            (kube_proxy::API_VERSION, kube_proxy::KIND) => kube_proxy::KIND,
            (own::API_VERSION, own::KIND) => own::KIND,
            (version, kind) => {
                let reason = format!(
                    "apiVersion {version:?}, kind {kind:?} is neither {}, {} nor {}, {}",
                    kube_proxy::API_VERSION,
                    kube_proxy::KIND,
                    own::API_VERSION,
                    own::KIND
                );
                return Err(wrong(format!("document {number}"), reason));
            }
        };
        if seen.contains(&kind) {
            let reason = format!("a second {kind}: join the two");
            return Err(wrong(format!("document {number}"), reason));
        }
        seen.push(kind);
        if kind == kube_proxy::KIND {
            reader.file.kube_proxy = reader.take(number, document)?;
        } else {
            reader.file.own = reader.take(number, document)?;
        }
    }
    Ok(reader.file)
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

struct DocumentReader<'a> {
    path: &'a Path,
    file: ConfigFile,
}

impl DocumentReader<'_> {
    fn take<T: DeserializeOwned>(
        &mut self,
        number: usize,
        document: Value,
    ) -> Result<Document<T>, ConfigError> {
        let origin = Origin::Document { path: self.path.to_owned(), number };
        let warnings = &mut self.file.warnings;
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(document, &mut track);
        // An optional section shows as `?` in the path.
        let unknown = |field: serde_ignored::Path<'_>| {
            let field = field.to_string().replace(".?", "");
            warnings.push(format!("{}: unknown field, ignored", origin.name(&field)));
        };
        match serde_ignored::deserialize(deserializer, unknown) {
            Ok(content) => Ok(Document { content, origin }),
            Err(error) => Err(origin.wrong(&track.path().to_string(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration";

    fn read(text: &str) -> Result<ConfigFile, ConfigError> {
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
    fn of_a_key_that_is_there_twice_the_last_one_counts() {
        let text = format!(
            "{HEAD}\nmode: iptables\nipvs:\n  scheduler: rr\n  scheduler: lc\nmode: ipvs\n"
        );
        let file = read(&text).unwrap();
        let KubeProxyConfiguration { mode, ipvs, .. } = file.kube_proxy.content;
        assert_eq!(mode.as_deref(), Some("ipvs"));
        assert_eq!(ipvs.unwrap().scheduler.as_deref(), Some("lc"));
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

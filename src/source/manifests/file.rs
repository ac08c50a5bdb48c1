//! The manifests of one file.

use std::collections::BTreeMap;
use std::path::Path;

use kube_ipvs_core::model::{Change, Event, Interner};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::ManifestError;
use crate::source::wire::{
    NodeObject, Rejection, Resource, ServiceCidrObject, ServiceObject, SliceObject,
};
use crate::yaml;

/// The objects of one file, or of all files, by kind and name.
pub(super) type Objects = BTreeMap<(&'static str, String), Object>;

/// The events that apply and delete an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Object {
    pub(super) apply: Event,
    pub(super) delete: Event,
}

/// Parses the text of a file with any number of documents; objects of other kinds are skipped.
pub(super) fn parse(
    path: &Path,
    text: &str,
    names: &mut Interner,
) -> Result<(Objects, Vec<Rejection>), ManifestError> {
    let mut reader =
        ManifestReader { path, names, objects: Objects::new(), rejections: Vec::new() };
    for (number, document) in documents(path, text)? {
        reader.take(number, document)?;
    }
    Ok((reader.objects, reader.rejections))
}

/// Returns the documents with their numbers, from 1. Empty documents are counted but not returned.
fn documents(path: &Path, text: &str) -> Result<Vec<(usize, Value)>, ManifestError> {
    let syntax = |document, reason| ManifestError::Syntax { path: path.into(), document, reason };
    if path.extension().is_some_and(|extension| extension == "json") {
        let stream = serde_json::Deserializer::from_str(text).into_iter();
        return (1..)
            .zip(stream)
            .map(|(number, value)| Ok((number, value.map_err(|e| syntax(number, e.to_string()))?)))
            .collect();
    }
    // A file may contain a whole cluster: only limits against small texts that expand are kept.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: usize::MAX,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    };
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            syntax(number_at(text, line), yaml::reason(&error))
        })?;
    let numbered =
        |document: Spanned<Value>| (number_at(text, document.referenced.line()), document.value);
    Ok(documents.into_iter().map(numbered).collect())
}

/// Returns the number of the YAML document that contains a line. Lines start at 1.
fn number_at(text: &str, line: u64) -> usize {
    let mut number = 0;
    let before = text.lines().take(usize::try_from(line).unwrap_or(usize::MAX));
    for line in before {
        let is_blank = line.trim().is_empty() || line.starts_with(['#', '%']);
        let is_marker = line == "---" || line.starts_with("--- ");
        if is_marker || (number == 0 && !is_blank) {
            number += 1;
        }
    }
    number.max(1)
}

const MISSING: &str = "missing: every object needs one";

struct ManifestReader<'a> {
    path: &'a Path,
    names: &'a mut Interner,
    objects: Objects,
    rejections: Vec<Rejection>,
}

impl ManifestReader<'_> {
    fn take(&mut self, number: usize, document: Value) -> Result<(), ManifestError> {
        let text = |field: &str| document.get(field).and_then(Value::as_str).map(str::to_owned);
        let (Some(kind), Some(version)) = (text("kind"), text("apiVersion")) else {
            let field = if text("kind").is_none() { "kind" } else { "apiVersion" };
            return Err(self.broken(number, &document, field, MISSING));
        };
        let (group, _) = version.rsplit_once('/').unwrap_or_default();
        match (group, kind.as_str()) {
            ("", "Service") => self.read::<ServiceObject>(number, document),
            ("discovery.k8s.io", "EndpointSlice") => self.read::<SliceObject>(number, document),
            ("", "Node") => self.read::<NodeObject>(number, document),
            ("networking.k8s.io", "ServiceCIDR") => {
                self.read::<ServiceCidrObject>(number, document)
            }
            ("", "List")
            | ("", "ServiceList" | "NodeList")
            | ("discovery.k8s.io", "EndpointSliceList")
            | ("networking.k8s.io", "ServiceCIDRList") => {
                self.list(number, &version, kind.trim_end_matches("List"), document)
            }
            _ => Ok(()),
        }
    }

    fn read<R: Resource>(&mut self, number: usize, document: Value) -> Result<(), ManifestError> {
        let mut object: R = self.object(number, &document)?;
        object.set_defaults();
        let (value, rejections) = object.convert(self.names);
        self.rejections.extend(rejections);
        let Some(value) = value else { return Ok(()) };
        let key = R::key(object.metadata());
        let name = key.to_string();
        let object =
            Object { apply: R::event(Change::Apply(value)), delete: R::event(Change::Delete(key)) };
        if self.objects.contains_key(&(R::KIND, name.clone())) {
            self.rejections.push(Rejection {
                object: format!("document {number} ({} {name})", R::KIND),
                field: String::new(),
                reason: "a second object with this name in the file: it takes precedence"
                    .to_owned(),
            });
        }
        self.objects.insert((R::KIND, name), object);
        Ok(())
    }

    /// Reads the items of a list. The items of a typed list may omit their kind.
    fn list(
        &mut self,
        number: usize,
        version: &str,
        kind: &str,
        mut list: Value,
    ) -> Result<(), ManifestError> {
        let items = match list.get_mut("items").map(Value::take) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.broken(number, &list, "items", "not a list")),
        };
        for mut item in items {
            if let (Value::Object(fields), false) = (&mut item, kind.is_empty()) {
                fields.entry("kind").or_insert_with(|| kind.into());
                fields.entry("apiVersion").or_insert_with(|| version.into());
            }
            self.take(number, item)?;
        }
        Ok(())
    }

    fn object<R: Resource>(&self, number: usize, document: &Value) -> Result<R, ManifestError> {
        let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err(self.broken(number, document, "metadata.name", MISSING));
        }
        serde_path_to_error::deserialize(document).map_err(|error| {
            self.broken(number, document, error.path(), &error.inner().to_string())
        })
    }

    fn broken(
        &self,
        document: usize,
        object: &Value,
        field: impl ToString,
        reason: &str,
    ) -> ManifestError {
        let text = |field| object.pointer(field)?.as_str().filter(|text| !text.is_empty());
        let object = match (text("/kind"), text("/metadata/name")) {
            (Some(kind), Some(name)) => format!("{kind} {name}"),
            (one, other) => one.or(other).unwrap_or("no object").to_owned(),
        };
        ManifestError::Field {
            path: self.path.to_owned(),
            document,
            object,
            field: field.to_string(),
            reason: reason.to_owned(),
        }
    }
}

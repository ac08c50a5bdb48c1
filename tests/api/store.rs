//! The objects, and how they came to be as they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::patch;

/// Something that watches are told.
#[derive(Clone, Debug)]
pub enum Entry {
    Change { version: u64, collection: String, old: Option<Value>, new: Option<Value> },
    Bookmark { version: u64 },
    Failure { code: u16, message: String },
}

pub struct Store {
    version: u64,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// By collection and `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Everything ever told; a watch is a position in it.
    entries: Vec<Entry>,
}

impl Default for Store {
    fn default() -> Self {
        Self { version: 1000, oldest: 1000, objects: BTreeMap::new(), entries: Vec::new() }
    }
}

impl Store {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn is_gone(&self, version: u64) -> bool {
        version < self.oldest
    }

    /// Puts an object where its `apiVersion`, `kind`, namespace and name say.
    pub fn put(&mut self, object: Value) -> u64 {
        let (collection, key) = place(&object);
        self.put_at(&collection, &key, object)
    }

    /// Puts an object unless there is one of its kind and name.
    pub fn create(&mut self, object: Value) -> bool {
        let (collection, key) = place(&object);
        let exists = self.objects.get(&collection).is_some_and(|all| all.contains_key(&key));
        if !exists {
            self.put_at(&collection, &key, object);
        }
        !exists
    }

    /// Applies a patch to an object. Returns it, if there is one.
    pub fn patch(&mut self, collection: &str, key: &str, patch: &Value) -> Option<Value> {
        let mut object = self.get(collection, key)?;
        patch::apply(&mut object, patch);
        self.put_at(collection, key, object.clone());
        Some(object)
    }

    pub fn get(&self, collection: &str, key: &str) -> Option<Value> {
        self.objects.get(collection)?.get(key).cloned()
    }

    pub fn put_at(&mut self, collection: &str, key: &str, mut object: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), version.to_string().into());
            metadata.entry("uid").or_insert_with(|| format!("uid-{key}").into());
            metadata.entry("creationTimestamp").or_insert_with(|| "2026-01-02T03:04:05Z".into());
            metadata.entry("managedFields").or_insert_with(|| json!([{ "manager": "kubectl" }]));
        }
        let objects = self.objects.entry(collection.to_owned()).or_default();
        let old = objects.insert(key.to_owned(), object.clone());
        let collection = collection.to_owned();
        self.entries.push(Entry::Change { version, collection, old, new: Some(object) });
        version
    }

    pub fn delete(&mut self, collection: &str, key: &str) {
        let objects = self.objects.get_mut(collection);
        let Some(old) = objects.and_then(|objects| objects.remove(key)) else { return };
        self.version += 1;
        let (version, collection) = (self.version, collection.to_owned());
        self.entries.push(Entry::Change { version, collection, old: Some(old), new: None });
    }

    pub fn bookmark(&mut self) {
        self.entries.push(Entry::Bookmark { version: self.version });
    }

    pub fn fail(&mut self, code: u16, message: &str) {
        self.entries.push(Entry::Failure { code, message: message.to_owned() });
    }

    pub fn compact(&mut self) {
        self.oldest = self.version;
    }

    pub fn restore(&mut self, version: u64) {
        self.version = version;
        self.oldest = version;
    }

    pub fn all(&self, collection: &str) -> Vec<Value> {
        self.objects.get(collection).into_iter().flatten().map(|(_, o)| o.clone()).collect()
    }

    /// Where a watch that has seen everything up to a version goes on.
    pub fn position_after(&self, seen: u64) -> usize {
        let is_unseen = |entry: &Entry| match entry {
            Entry::Change { version, .. } => *version > seen,
            Entry::Bookmark { .. } | Entry::Failure { .. } => false,
        };
        self.entries.iter().position(is_unseen).unwrap_or(self.entries.len())
    }

    pub fn end(&self) -> usize {
        self.entries.len()
    }

    pub fn entries_from(&self, position: usize) -> &[Entry] {
        &self.entries[position..]
    }
}

/// The collection and the key of an object.
fn place(object: &Value) -> (String, String) {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str);
    let api = text("/apiVersion").expect("an object without apiVersion");
    let kind = text("/kind").expect("an object without kind");
    let root = if api.contains('/') { "/apis" } else { "/api" };
    let collection = format!("{root}/{api}/{}s", kind.to_lowercase());
    let name = text("/metadata/name").expect("an object without a name");
    let key = match text("/metadata/namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    (collection, key)
}

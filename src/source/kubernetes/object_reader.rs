//! Conversion of received objects to values of the model.

use std::collections::BTreeMap;
use std::mem;
use std::time::Instant;

use bytes::Bytes;
use kube_ipvs_core::model::Interner;

use super::decode::{Encoding, Parsed, WatchEvent};
use super::rejection_log::RejectionLog;
use crate::source::wire::{Meta, Rejection, Resource};

/// Converts objects and reports what is invalid.
pub(super) struct ObjectReader<R: Resource> {
    names: Interner,
    log: RejectionLog,
    /// The list in progress. A list from a watch may update or remove an object.
    listed: BTreeMap<String, R::Value>,
}

impl<R: Resource> ObjectReader<R> {
    pub(super) fn new() -> Self {
        Self { names: Interner::default(), log: RejectionLog::default(), listed: BTreeMap::new() }
    }

    /// Returns the object's value, if it is served.
    pub(super) fn value(&mut self, parsed: &Parsed<R>) -> Option<R::Value> {
        let (value, rejections) = match parsed {
            Parsed::Object(found) if found.metadata().name.is_empty() => {
                let reason = "an object without a name: ignored".to_owned();
                let field = "metadata.name".to_owned();
                (None, vec![Rejection { object: R::KIND.to_owned(), field, reason }])
            }
            Parsed::Object(found) => found.convert(&mut self.names),
            Parsed::Invalid(_, rejections) => (None, rejections.clone()),
        };
        self.log.update(&name(parsed.metadata()), rejections, Instant::now());
        self.log.log();
        value
    }

    pub(super) fn forget(&mut self, metadata: &Meta) {
        self.log.forget(&name(metadata));
    }

    pub(super) fn log(&mut self) {
        self.log.log();
    }

    /// Begins a list. The objects of an interrupted one are dropped.
    pub(super) fn begin_list(&mut self) {
        self.log.begin_list();
        self.listed.clear();
    }

    pub(super) fn add(&mut self, parsed: &Parsed<R>) {
        let object = name(parsed.metadata());
        match self.value(parsed) {
            Some(value) => self.listed.insert(object, value),
            None => self.listed.remove(&object),
        };
    }

    pub(super) fn remove(&mut self, metadata: &Meta) {
        self.forget(metadata);
        self.listed.remove(&name(metadata));
    }

    pub(super) fn end_list(&mut self) -> Vec<R::Value> {
        self.log.end_list();
        mem::take(&mut self.listed).into_values().collect()
    }
}

/// Reads a text both as a page of a list and as an event. Returns the number of values.
pub(super) fn decode<R: Resource>(encoding: Encoding, text: &Bytes) -> usize {
    let mut reader = ObjectReader::<R>::new();
    if let Ok(page) = encoding.page(text.clone()) {
        page.items.into_iter().flatten().for_each(|object| reader.add(&object));
    }
    match encoding.event(text.clone()) {
        Ok(WatchEvent::Changed(object)) => reader.add(&object),
        Ok(WatchEvent::Deleted(object)) => reader.remove(object.metadata()),
        Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => {}
    }
    reader.end_list().len()
}

fn name(metadata: &Meta) -> String {
    [&metadata.namespace, "/", &metadata.name].concat()
}

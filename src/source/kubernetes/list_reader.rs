//! Conversion of received objects to values of the model.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use kube_ipvs_core::model::Interner;

use super::decode::{Encoding, Parsed, WatchEvent};
use super::rejection_log::RejectionLog;
use super::resource::Resource;
use crate::source::wire::{Meta, Rejection};

/// Converts objects and reports what is invalid.
#[derive(Debug, Default)]
pub(super) struct ObjectReader {
    names: Interner,
    log: RejectionLog,
}

impl ObjectReader {
    /// Returns the object's value, if it is served.
    pub(super) fn value<R: Resource>(&mut self, parsed: &Parsed<R::Object>) -> Option<R::Value> {
        self.value_of::<R>(&name(parsed.metadata::<R>()), parsed)
    }

    /// Returns the same for an object with a known name.
    fn value_of<R: Resource>(
        &mut self,
        object: &str,
        parsed: &Parsed<R::Object>,
    ) -> Option<R::Value> {
        let (value, rejections) = match parsed {
            Parsed::Object(found) if R::metadata(found).name.is_empty() => {
                let reason = "an object without a name: ignored".to_owned();
                let field = "metadata.name".to_owned();
                (None, vec![Rejection { object: R::KIND.to_owned(), field, reason }])
            }
            Parsed::Object(found) => R::convert(found, &mut self.names),
            Parsed::Invalid(_, rejections) => (None, rejections.clone()),
        };
        self.log.update(object, rejections, Instant::now());
        self.log.log();
        value
    }

    pub(super) fn forget(&mut self, metadata: &Meta) {
        self.log.forget(&name(metadata));
    }

    pub(super) fn log(&mut self) {
        self.log.log();
    }

    pub(super) fn list<R: Resource>(&mut self) -> ListReader<'_, R> {
        self.log.begin_list();
        ListReader { reader: self, values: BTreeMap::new() }
    }
}

/// A list in progress. A list from a watch may update or remove an object.
pub(super) struct ListReader<'a, R: Resource> {
    reader: &'a mut ObjectReader,
    values: BTreeMap<String, R::Value>,
}

impl<R: Resource> ListReader<'_, R> {
    pub(super) fn add(&mut self, parsed: Parsed<R::Object>) {
        let object = name(parsed.metadata::<R>());
        match self.reader.value_of::<R>(&object, &parsed) {
            Some(value) => self.values.insert(object, value),
            None => self.values.remove(&object),
        };
    }

    pub(super) fn remove(&mut self, metadata: &Meta) {
        self.reader.forget(metadata);
        self.values.remove(&name(metadata));
    }

    pub(super) fn finish(self) -> Vec<R::Value> {
        self.reader.log.end_list();
        self.values.into_values().collect()
    }
}

/// Reads a text both as a page of a list and as an event. Returns the number of values.
pub(super) fn decode<R: Resource>(encoding: Encoding, text: &Bytes) -> usize {
    let mut reader = ObjectReader::default();
    let mut found = reader.list::<R>();
    let page = encoding.page::<R>(text.clone());
    page.into_iter().flat_map(|page| page.objects).for_each(|parsed| found.add(parsed));
    match encoding.event::<R>(text.clone()) {
        Ok(WatchEvent::Changed(parsed)) => found.add(parsed),
        Ok(WatchEvent::Deleted(metadata)) => found.remove(&metadata),
        Ok(WatchEvent::Bookmark { .. } | WatchEvent::Error(_)) | Err(_) => {}
    }
    found.finish().len()
}

fn name(metadata: &Meta) -> String {
    [&metadata.namespace, "/", &metadata.name].concat()
}

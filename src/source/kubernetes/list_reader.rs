//! From objects as they came to values of the model.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use kube_ipvs_core::model::Interner;

use super::decode::{Encoding, Parsed, WatchEvent};
use super::rejection_log::RejectionLog;
use super::resource::Resource;
use crate::source::wire::{Meta, Rejection};

/// Turns objects into values, and tells what of them cannot be used.
#[derive(Debug, Default)]
pub(super) struct ObjectReader {
    names: Interner,
    complaints: RejectionLog,
}

impl ObjectReader {
    /// The object's value, if it has one for us.
    pub(super) fn value<R: Resource>(&mut self, parsed: &Parsed<R::Object>) -> Option<R::Value> {
        self.value_of::<R>(&name(parsed.metadata::<R>()), parsed)
    }

    /// The same of an object whose name is known already.
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
            Parsed::Odd(_, rejections) => (None, rejections.clone()),
        };
        self.complaints.update(object, rejections, Instant::now());
        self.complaints.tell();
        value
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, metadata: &Meta) {
        self.complaints.forget(&name(metadata));
    }

    /// Tells what waits to be told by now.
    pub(super) fn tell(&mut self) {
        self.complaints.tell();
    }

    /// Begins a complete list.
    pub(super) fn list<R: Resource>(&mut self) -> ListReader<'_, R> {
        self.complaints.begin_list();
        ListReader { judge: self, values: BTreeMap::new() }
    }
}

/// A list that is being read. A list that comes as a watch may mention an object again, and may
/// take it back.
pub(super) struct ListReader<'a, R: Resource> {
    judge: &'a mut ObjectReader,
    values: BTreeMap<String, R::Value>,
}

impl<R: Resource> ListReader<'_, R> {
    /// The list has this object.
    pub(super) fn add(&mut self, parsed: Parsed<R::Object>) {
        let object = name(parsed.metadata::<R>());
        match self.judge.value_of::<R>(&object, &parsed) {
            Some(value) => self.values.insert(object, value),
            None => self.values.remove(&object),
        };
    }

    /// The list has that object no more.
    pub(super) fn remove(&mut self, metadata: &Meta) {
        self.judge.forget(metadata);
        self.values.remove(&name(metadata));
    }

    /// The list is complete.
    pub(super) fn finish(self) -> Vec<R::Value> {
        self.judge.complaints.end_list();
        self.values.into_values().collect()
    }
}

/// Reads a text as a page of a list and as an event of a watch. Returns how many values came of it.
pub(super) fn decode<R: Resource>(encoding: Encoding, text: &Bytes) -> usize {
    let mut judge = ObjectReader::default();
    let mut found = judge.list::<R>();
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

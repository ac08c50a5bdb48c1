//! What the API server says: pages of lists, lines of watches.
//!
//! An object is parsed straight into its lean type. Only where that fails is the text parsed once
//! more, as plain JSON, so that one odd object is told apart from its neighbours and named.

use kube::core::WatchEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::Failure;
use super::resource::Resource;
use crate::source::wire::{Meta, Rejection, Rejections, parse};

/// A bookmark with this annotation ends the list that a watch began with.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// One object as it came.
#[derive(Debug)]
pub(super) enum Parsed<T> {
    /// In its shape.
    Object(T),
    /// Out of shape.
    Odd(Box<Meta>, Vec<Rejection>),
}

impl<T> Parsed<T> {
    pub(super) fn metadata<R: Resource<Object = T>>(&self) -> &Meta {
        match self {
            Self::Object(object) => R::metadata(object),
            Self::Odd(metadata, _) => metadata,
        }
    }
}

/// One line of a watch.
#[derive(Debug)]
pub(super) enum Line<T> {
    /// The object is new or has changed.
    Changed(Parsed<T>),
    /// The object is gone, or is no longer among those asked for.
    Deleted(Meta),
    /// Nothing up to this version has been left out.
    Bookmark {
        /// The version.
        version: String,
        /// Whether the list that the watch began with is complete.
        ends_list: bool,
    },
    /// The server gives the watch up.
    Error(Failure),
}

/// Reads a line of a watch.
pub(super) fn line<R: Resource>(text: &[u8]) -> Result<Line<R::Object>, Failure> {
    let event = match parse::<WatchEvent<R::Object>>(text) {
        Ok(event) => map(event, Parsed::Object, |object| R::metadata(object).clone()),
        Err(error) => {
            let malformed = |_| Failure::Malformed(error.to_string());
            let event: WatchEvent<Value> = parse(text).map_err(malformed)?;
            map(event, apart::<R>, metadata)
        }
    };
    Ok(event)
}

fn map<O, T>(
    event: WatchEvent<O>,
    parsed: impl Fn(O) -> Parsed<T>,
    metadata: impl Fn(&O) -> Meta,
) -> Line<T> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => Line::Changed(parsed(object)),
        WatchEvent::Deleted(object) => Line::Deleted(metadata(&object)),
        WatchEvent::Bookmark(bookmark) => Line::Bookmark {
            ends_list: bookmark.metadata.annotations.get(LIST_ENDS).is_some_and(|v| v == "true"),
            version: bookmark.metadata.resource_version,
        },
        WatchEvent::Error(status) => Line::Error(Failure::refused(*status)),
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) objects: Vec<Parsed<T>>,
    /// The version that the list shows.
    pub(super) version: String,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
struct RawPage<T> {
    metadata: PageMeta,
    items: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// Reads a page of a list.
pub(super) fn page<R: Resource>(text: &[u8]) -> Result<Page<R::Object>, Failure> {
    let (metadata, objects) = match parse::<RawPage<R::Object>>(text) {
        Ok(page) => (page.metadata, objects(page.items, Parsed::Object)),
        Err(error) => {
            let malformed = |_| Failure::Malformed(error.to_string());
            let page: RawPage<Value> = parse(text).map_err(malformed)?;
            (page.metadata, objects(page.items, apart::<R>))
        }
    };
    if metadata.resource_version.is_empty() {
        return Err(Failure::Malformed("a list without a resource version".to_owned()));
    }
    let next = metadata.next.filter(|token| !token.is_empty());
    Ok(Page { objects, version: metadata.resource_version, next })
}

fn objects<O, T>(items: Option<Vec<O>>, parsed: impl Fn(O) -> Parsed<T>) -> Vec<Parsed<T>> {
    items.into_iter().flatten().map(parsed).collect()
}

/// Parses one object, apart from its neighbours.
fn apart<R: Resource>(value: Value) -> Parsed<R::Object> {
    let metadata = metadata(&value);
    match at_path(value) {
        Ok(object) => Parsed::Object(object),
        Err((field, reason)) => {
            let namespace = metadata.namespace.as_deref().unwrap_or_default();
            let mut rejections = Rejections::of(R::KIND, namespace, &metadata.name);
            rejections.add(field, format!("{reason}: the object is not served"));
            let rejections = rejections.finish();
            Parsed::Odd(metadata.into(), rejections)
        }
    }
}

fn at_path<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.inner().to_string()))
}

/// As much of the metadata as tells which object it is.
fn metadata(value: &Value) -> Meta {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str).map(str::to_owned);
    Meta {
        name: text("/metadata/name").unwrap_or_default(),
        namespace: text("/metadata/namespace"),
        resource_version: text("/metadata/resourceVersion"),
        ..Meta::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::resource::{Services, Slices};
    use super::*;

    #[test]
    fn a_bookmark_may_end_a_list() {
        let text = br#"{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":
            {"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        let Line::Bookmark { version, ends_list } = line::<Services>(text).unwrap() else {
            panic!("not a bookmark");
        };
        assert_eq!((version.as_str(), ends_list), ("12", true));
    }

    #[test]
    fn an_object_out_of_shape_is_named() {
        let text = br#"{"type":"ADDED","object":{"metadata":{"name":"web","namespace":"default",
            "resourceVersion":"7"},"spec":{"ports":[{"port":80},{"port":"x"}]}}}"#;
        let Line::Changed(Parsed::Odd(metadata, rejections)) = line::<Services>(text).unwrap()
        else {
            panic!("not odd");
        };
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(rejections[0].object, "Service default/web");
        assert_eq!(rejections[0].field, "spec.ports[1].port");
    }

    #[test]
    fn what_is_not_a_list_is_not_an_empty_one() {
        let texts: [&[u8]; 5] = [
            b"",
            b"{}",
            b"<html>",
            b"{\"items\":[]}",
            b"{\"metadata\":{\"resourceVersion\":\"\"}}",
        ];
        for text in texts {
            assert!(page::<Services>(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        let text = br#"{"metadata":{"resourceVersion":"3","continue":""},"items":null}"#;
        let page = page::<Services>(text).unwrap();
        assert!(page.objects.is_empty() && page.next.is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), cut in 0..200_usize) {
            let _ = line::<Services>(&bytes);
            let _ = page::<Slices>(&bytes);
            let good = br#"{"type":"MODIFIED","object":{"metadata":{"name":"a"},"spec":{"ports":[{"port":1}]}}}"#;
            let mut text = good.to_vec();
            let at = cut % text.len();
            text[at] = bytes.first().copied().unwrap_or(b'?');
            let _ = line::<Services>(&text);
            text.truncate(at);
            let _ = line::<Slices>(&text);
        }
    }
}

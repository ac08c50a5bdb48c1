#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::source::wire::{ServiceObject, SliceObject};

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

fn event<R: Resource>(text: &'static [u8]) -> Result<WatchEvent<Parsed<R>>, ResponseError> {
    Encoding::Json.event::<R>(Bytes::from_static(text))
}

#[test]
fn a_bookmark_may_end_a_list() {
    let text = br#"{"type":"BOOKMARK","object":{"kind":"Service","apiVersion":"v1","metadata":
        {"resourceVersion":"12","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
    let WatchEvent::Bookmark(bookmark) = event::<ServiceObject>(text).unwrap() else {
        panic!("not a bookmark");
    };
    let metadata = bookmark.metadata();
    assert_eq!((metadata.resource_version.as_str(), ends_list(metadata)), ("12", true));
}

#[test]
fn an_object_out_of_shape_is_named() {
    let text = br#"{"type":"ADDED","object":{"metadata":{"name":"web","namespace":"default",
        "resourceVersion":"7"},"spec":{"ports":[{"port":80},{"port":"x"}]}}}"#;
    let WatchEvent::Changed(Parsed::Invalid(metadata, rejections)) =
        event::<ServiceObject>(text).unwrap()
    else {
        panic!("not invalid");
    };
    assert_eq!(metadata.resource_version, "7");
    assert_eq!(rejections[0].object, "Service default/web");
    assert_eq!(rejections[0].field, "spec.ports[1].port");
}

/// Decodes an `ADDED` event with an object in protobuf.
fn added(object: &[u8]) -> WatchEvent<Parsed<ServiceObject>> {
    let within = |head: &[u8], part: &[u8]| [head, &[part.len() as u8], part].concat();
    let raw = within(b"k8s\0\x12", object);
    let text = within(b"\x0a\x05ADDED\x12", &within(b"\x0a", &raw));
    Encoding::Protobuf.event::<ServiceObject>(text.into()).unwrap()
}

#[test]
fn annotations_need_not_be_utf_8() {
    let read = added(b"\x0a\x0d\x0a\x03web\x62\x06\x0a\x01a\x12\x01\xff");
    let WatchEvent::Changed(Parsed::Object(object)) = read else { panic!("invalid: {read:?}") };
    assert_eq!((object.metadata.name.as_str(), object.metadata.annotation("a")), ("web", None));
}

/// A port with text instead of a number.
#[test]
fn an_object_out_of_shape_is_named_in_protobuf_too() {
    let read = added(b"\x0a\x11\x0a\x03web\x1a\x07default\x32\x017\x12\x05\x0a\x03\x1a\x01x");
    let WatchEvent::Changed(Parsed::Invalid(metadata, rejections)) = read else {
        panic!("not invalid: {read:?}");
    };
    assert_eq!(metadata.resource_version, "7");
    assert_eq!(rejections[0].object, "Service default/web");
    assert!(rejections[0].reason.contains(".port: "), "{}", rejections[0].reason);
    assert!(rejections[0].reason.ends_with("the object is not served"));
}

#[test]
fn an_answer_that_is_no_list_is_not_taken_for_an_empty_list() {
    let texts: [&[u8]; 9] = [
        b"",
        b"{}",
        b"<html>",
        b"{\"items\":[]}",
        b"{\"metadata\":{\"resourceVersion\":\"\"}}",
        b"k8s\0",
        b"k8s\0\x12\0",
        b"k8s\0\x12\x01\x0a",
        // An invalid status, too.
        b"k8s\0\x12\x12\x0a\x06\x0a\0\x12\0\x1a\0\x12\x07Failure",
    ];
    for text in texts {
        for encoding in ENCODINGS {
            let page = encoding.page::<ServiceObject>(Bytes::from_static(text));
            assert!(page.is_err(), "{encoding:?}: {}", String::from_utf8_lossy(text));
        }
    }
    let json = br#"{"metadata":{"resourceVersion":"3","continue":""},"items":null}"#;
    let protobuf = b"k8s\0\x12\x09\x0a\x07\x12\x013\x1a\0\x20\0";
    for (encoding, text) in ENCODINGS.into_iter().zip([&json[..], &protobuf[..]]) {
        let mut page = encoding.page::<ServiceObject>(Bytes::from_static(text)).unwrap();
        assert_eq!(page.metadata.resource_version, "3");
        assert!(page.items.unwrap_or_default().is_empty() && page.metadata.take_next().is_none());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200), cut in 0..200_usize) {
        let enveloped = [b"k8s\0", bytes.as_slice()].concat();
        for encoding in ENCODINGS {
            for text in [&bytes, &enveloped].map(|text| Bytes::copy_from_slice(text)) {
                let _ = encoding.event::<ServiceObject>(text.clone());
                let _ = encoding.page::<SliceObject>(text.clone());
                let _ = encoding.status(text);
            }
        }
        let good = br#"{"type":"MODIFIED","object":{"metadata":{"name":"a"},"spec":{"ports":[{"port":1}]}}}"#;
        let mut text = good.to_vec();
        let at = cut % text.len();
        text[at] = bytes.first().copied().unwrap_or(b'?');
        let _ = Encoding::Json.event::<ServiceObject>(Bytes::copy_from_slice(&text));
        text.truncate(at);
        let _ = Encoding::Json.event::<SliceObject>(text.into());
    }
}

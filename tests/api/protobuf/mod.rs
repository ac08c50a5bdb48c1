//! Kubernetes' protobuf, written from JSON, byte by byte as an API server does: fields in the order of
//! their numbers, keys of a map in theirs, and what is no pointer in Kubernetes' types even where it
//! is empty. `samples/` has what Kubernetes' own encoder made, which this one is held against.
//!
//! A value that does not fit its field is written as what it is, so that its reader finds an
//! object out of shape.

pub mod fields;

use fields::{Field, Kind, LIST, Message, STATUS};
use kube_ipvs::source::kubernetes::Encoding;
use serde_json::{Map, Value};

/// How objects of a kind are written in an answer.
#[derive(Clone, Copy)]
pub struct Form {
    pub encoding: Encoding,
    /// The kind's message, where it has one.
    pub message: Message,
}

impl Form {
    pub fn content_type(self, is_watch: bool) -> &'static str {
        match (self.encoding, is_watch) {
            (Encoding::Json, _) => "application/json",
            (Encoding::Protobuf, false) => "application/vnd.kubernetes.protobuf",
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// A list, or a refusal.
    pub fn whole(self, value: &Value) -> Vec<u8> {
        match (self.encoding, value["kind"].as_str()) {
            (Encoding::Json, _) => value.to_string().into_bytes(),
            (Encoding::Protobuf, Some("Status")) => object(STATUS, value),
            (Encoding::Protobuf, _) => {
                let mut raw = Vec::new();
                put(&mut raw, &LIST[0], Some(&value["metadata"]));
                for item in value["items"].as_array().into_iter().flatten() {
                    put_bytes(&mut raw, 2, &message(self.message, item));
                }
                enveloped(value, &raw)
            }
        }
    }

    /// An event of a watch: a line, type first, as the real server writes it (where it comes last,
    /// the reader of the line has to keep the object until it knows what to make of it), or a frame.
    pub fn event(self, event: &Value) -> Vec<u8> {
        let (kind, value) = (&event["type"], &event["object"]);
        if self.encoding == Encoding::Json {
            return format!("{{\"type\":{kind},\"object\":{value}}}\n").into_bytes();
        }
        let is_status = value["kind"] == "Status";
        let raw = object(if is_status { STATUS } else { self.message }, value);
        let mut extension = Vec::new();
        put_bytes(&mut extension, 1, &raw);
        let mut text = Vec::new();
        put_bytes(&mut text, 1, kind.as_str().unwrap().as_bytes());
        put_bytes(&mut text, 2, &extension);
        let length = u32::try_from(text.len()).unwrap();
        [&length.to_be_bytes(), text.as_slice()].concat()
    }
}

/// An object in its envelope.
pub fn object(of: Message, value: &Value) -> Vec<u8> {
    enveloped(value, &message(of, value))
}

fn enveloped(value: &Value, raw: &[u8]) -> Vec<u8> {
    let text = |field: &str| value[field].as_str().unwrap_or_default().as_bytes();
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, text("apiVersion"));
    put_bytes(&mut type_meta, 2, text("kind"));
    let mut out = b"k8s\0".to_vec();
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, raw);
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// An object alone.
pub fn message(of: Message, value: &Value) -> Vec<u8> {
    let Value::Object(fields) = value else { return value.to_string().into_bytes() };
    let mut out = Vec::new();
    for field in of {
        put(&mut out, field, fields.get(field.name));
    }
    out
}

fn put(out: &mut Vec<u8>, field: &Field, value: Option<&Value>) {
    let number = field.number;
    let value = value.filter(|value| !value.is_null());
    match (value, field.kind) {
        (None, _) if !field.is_always => {}
        (Some(Value::Array(items)), _) => {
            items.iter().for_each(|item| put(out, field, Some(item)));
        }
        (Some(Value::Object(entries)), Kind::Map) => put_entries(out, number, entries),
        (Some(value @ Value::Object(_)), Kind::Message(of)) => {
            put_bytes(out, number, &message(of, value));
        }
        (None, Kind::Message(of)) => put_bytes(out, number, &message(of, &Map::new().into())),
        (Some(Value::String(text)), Kind::Time) => {
            let time: k8s_openapi::jiff::Timestamp = text.parse().unwrap();
            let mut of_time = Vec::new();
            put_number(&mut of_time, 1, time.as_second());
            put_number(&mut of_time, 2, 0);
            put_bytes(out, number, &of_time);
        }
        (Some(Value::String(_) | Value::Number(_)) | None, Kind::NumberOrText) => {
            let text = value.and_then(Value::as_str);
            let mut either = Vec::new();
            put_number(&mut either, 1, text.is_some().into());
            put_number(&mut either, 2, value.and_then(Value::as_i64).unwrap_or_default());
            put_bytes(&mut either, 3, text.unwrap_or_default().as_bytes());
            put_bytes(out, number, &either);
        }
        (Some(value), Kind::Json) => {
            let mut json = Vec::new();
            put_bytes(&mut json, 1, value.to_string().as_bytes());
            put_bytes(out, number, &json);
        }
        (None, Kind::Number | Kind::Flag) => put_number(out, number, 0),
        (None, _) => put_bytes(out, number, b""),
        (Some(Value::String(text)), _) => put_bytes(out, number, text.as_bytes()),
        (Some(Value::Bool(flag)), _) => put_number(out, number, (*flag).into()),
        (Some(Value::Number(n)), _) => put_number(out, number, n.as_i64().unwrap_or_default()),
        (Some(value), _) => put_bytes(out, number, value.to_string().as_bytes()),
    }
}

fn put_entries(out: &mut Vec<u8>, number: u32, entries: &Map<String, Value>) {
    for (key, value) in entries {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, key.as_bytes());
        put_bytes(&mut entry, 2, value.as_str().unwrap_or_default().as_bytes());
        put_bytes(out, number, &entry);
    }
}

fn put_number(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, (number << 3).into());
    put_varint(out, value.cast_unsigned());
}

fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, (number << 3 | 2).into());
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

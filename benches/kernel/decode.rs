//! From the bytes of a list to the model's types.

use std::time::Instant;

use kube_ipvs::source::wire::{Resource, SliceObject, parse};
use kube_ipvs_core::model::{EndpointSlice, Interner};
use prost::Message;

use crate::api::protobuf::fields::SLICE;
use crate::api::protobuf::message;
use crate::api::real::real_slice;
use crate::figure::Figure;
use crate::{ROUNDS, Result};

const SLICES: usize = 1_000;
const ENDPOINTS: usize = 10;

/// Returns the least time of converting a text, in milliseconds.
fn least<T>(texts: &[Vec<u8>], make: impl Fn(&[u8], &mut Interner) -> Result<T>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut names = Interner::default();
        let mut made = Vec::with_capacity(texts.len());
        let start = Instant::now();
        for text in texts {
            made.push(make(text, &mut names)?);
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e3 / texts.len() as f64);
    }
    Ok(least)
}

fn converted(object: &SliceObject, names: &mut Interner) -> Result<EndpointSlice> {
    object.convert(names).0.ok_or_else(|| "some slice could not be read".into())
}

/// Compares JSON with a parse that keeps nothing, and protobuf with JSON.
pub(crate) fn slices() -> Result<Vec<Figure>> {
    let objects: Vec<_> = (0..SLICES).map(|index| real_slice(index, ENDPOINTS)).collect();
    let json: Vec<_> = objects.iter().map(|object| object.to_string().into_bytes()).collect();
    let protobuf: Vec<_> = objects.iter().map(|object| message(SLICE, object)).collect();
    let ignored =
        least(&json, |text, _| Ok(serde_json::from_slice::<serde::de::IgnoredAny>(text)?))?;
    let from_json = least(&json, |text, names| converted(&parse(text)?, names))?;
    let from_protobuf =
        least(&protobuf, |bytes, names| converted(&SliceObject::decode(bytes)?, names))?;
    let kilobytes = |texts: &[Vec<u8>]| {
        texts.iter().map(Vec::len).sum::<usize>() as f64 / 1e3 / texts.len() as f64
    };
    let of_json =
        "a slice of 10 endpoints from JSON to the model; baseline a parse that keeps nothing";
    let of_protobuf = "the same from protobuf; baseline from JSON";
    let bytes =
        "a slice of 10 endpoints, owner and managed fields included, in protobuf; baseline JSON";
    Ok(vec![
        Figure::new("decode_slice", of_json, "ms", from_json, ignored),
        Figure::new("decode_slice_protobuf", of_protobuf, "ms", from_protobuf, from_json),
        Figure::new("slice_bytes", bytes, "kB", kilobytes(&protobuf), kilobytes(&json)),
    ])
}

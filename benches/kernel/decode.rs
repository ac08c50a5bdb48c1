//! From the bytes of a list to the model's types.

use std::time::Instant;

use kube_ipvs::model::{EndpointSlice, Interner};
use kube_ipvs::source::wire::{SliceObject, parse};
use serde_json::{Value, json};

use crate::cluster::{Size, slice};
use crate::figure::Figure;
use crate::{ROUNDS, Result};

const SIZE: Size = Size { services: 1_000, slices: 1, endpoints: 10 };

/// A slice as the API server writes it.
fn written(slice: &EndpointSlice) -> Vec<u8> {
    let endpoint = |index: usize| {
        let endpoint = &slice.endpoints[index];
        json!({
            "addresses": [endpoint.address],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": endpoint.topology.node.as_deref(),
            "targetRef": {
                "kind": "Pod",
                "namespace": slice.service.namespace(),
                "name": format!("{}-6c9f8d7b54-{index:05}", slice.service.name()),
                "uid": "0b8d1c86-7a0e-4a43-9a31-2f3cf0a1b6f5",
            },
            "zone": "zone-1",
        })
    };
    let endpoints: Vec<Value> = (0..slice.endpoints.len()).map(endpoint).collect();
    let labels = json!({
        "kubernetes.io/service-name": slice.service.name(),
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    json!({
        "metadata": {
            "name": format!("{}-x7k2p", slice.service.name()),
            "namespace": slice.service.namespace(),
            "uid": "5d3f1f0e-2f53-4d0d-8d43-95a8f6b6f1f4",
            "resourceVersion": "123456789",
            "generation": 7,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels,
            "annotations": {
                "endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z",
            },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
    })
    .to_string()
    .into_bytes()
}

/// Beside what the bytes cost that are not kept: a parse of the same text that keeps nothing.
pub(crate) fn slices() -> Result<Vec<Figure>> {
    let texts: Vec<_> = (0..SIZE.services)
        .map(|service| written(&slice(SIZE, service, 0, SIZE.endpoints)))
        .collect();
    let mut least = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        let mut names = Interner::default();
        let mut slices = Vec::with_capacity(texts.len());
        let start = Instant::now();
        for text in &texts {
            slices.extend(parse::<SliceObject>(text)?.convert(&mut names).0);
        }
        least.0 = least.0.min(start.elapsed().as_secs_f64() * 1e3);
        if slices.len() != texts.len() {
            return Err("some slice could not be read".into());
        }
        let start = Instant::now();
        for text in &texts {
            serde_json::from_slice::<serde::de::IgnoredAny>(text)?;
        }
        least.1 = least.1.min(start.elapsed().as_secs_f64() * 1e3);
    }
    let each = |all: f64| all / f64::from(SIZE.services);
    let what =
        "a slice of 10 endpoints from JSON to the model; baseline a parse that keeps nothing";
    Ok(vec![Figure::new("decode_slice", what, "ms", each(least.0), each(least.1))])
}

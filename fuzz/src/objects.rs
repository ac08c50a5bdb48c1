//! Objects of Kubernetes: from the API, and from files.

use std::path::Path;

use kube_ipvs::source::kubernetes::{self, Encoding};
use kube_ipvs::source::manifests as files;
use kube_ipvs::source::wire::{
    Meta, NodeObject, Rejection, Resource, ServiceCidrObject, ServiceObject, SliceObject,
};
use kube_ipvs_core::model::Interner;
use serde_json::json;

/// A single object, read as each kind.
pub(crate) fn objects(data: &[u8]) {
    let names = &mut Interner::default();
    if let Ok(object) = serde_json::from_slice::<ServiceObject>(data) {
        let (service, rejections) = object.convert(names);
        told_in_proportion(data, &rejections);
        if let Some(service) = service {
            assert!((1..=2).contains(&service.cluster_ips.len()));
            let found = service.ports.len()
                + service.external_ips.len()
                + service.load_balancer_ips.len()
                + service.source_ranges.len();
            assert!(found <= data.len());
            assert!(service.affinity_seconds.is_none_or(|it| (1..=86_400).contains(&it)));
        }
    }
    if let Ok(mut object) = serde_json::from_slice::<SliceObject>(data) {
        object.set_defaults();
        let (slice, rejections) = object.convert(names);
        told_in_proportion(data, &rejections);
        assert!(slice.is_none_or(|it| it.endpoints.len() + it.ports.len() <= data.len()));
    }
    if let Ok(object) = serde_json::from_slice::<NodeObject>(data) {
        let (node, rejections) = object.convert(names);
        told_in_proportion(data, &rejections);
        assert!(node.is_none_or(|it| it.internal_ips.len() + it.pod_cidrs.len() <= data.len()));
    }
    if let Ok(object) = serde_json::from_slice::<ServiceCidrObject>(data) {
        let (_, rejections) = object.convert(names);
        told_in_proportion(data, &rejections);
    }
}

/// Not more is told than there is to be told of.
fn told_in_proportion(data: &[u8], rejections: &[Rejection]) {
    assert!(rejections.len() <= data.len() + 2, "{} of {} bytes", rejections.len(), data.len());
}

/// A page of a list, or an event of a watch, in JSON.
pub(crate) fn api(data: &[u8]) {
    answer(Encoding::Json, data);
}

/// The same in protobuf, without the length of a frame.
pub(crate) fn api_protobuf(data: &[u8]) {
    answer(Encoding::Protobuf, data);
}

fn answer(encoding: Encoding, data: &[u8]) {
    // It may be read as each of four kinds.
    assert!(kubernetes::decode(encoding, data) <= 4 * data.len());
}

/// The text of a file, YAML and JSON.
pub(crate) fn manifests(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    for name in ["file.yaml", "file.json"] {
        match files::decode(Path::new(name), text) {
            Ok((count, rejections)) => {
                assert!(count <= data.len());
                let _ = rejections.iter().map(ToString::to_string).collect::<Vec<_>>();
            }
            Err(error) => assert!(error.to_string().starts_with(name)),
        }
    }
}

/// Times in metadata and annotations.
pub(crate) fn timestamps(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let stamp = "endpoints.kubernetes.io/last-change-trigger-time";
    let meta = json!({ "creationTimestamp": text, "annotations": { stamp: text } });
    let meta: Meta = serde_json::from_value(meta).unwrap_or_default();
    let triggered = meta.triggered();
    assert!(triggered.is_none_or(|it| it / 1000 == meta.created()));
}

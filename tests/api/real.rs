//! Objects as large as real ones, for what their size costs.

use serde_json::{Value, json};

use super::objects::slice;

/// An object with what real ones carry beside what we read: owner, times, identity, and who set
/// which field.
pub fn real(mut object: Value) -> Value {
    object["metadata"]["uid"] = "3f2a9d5e-7b41-4c8f-9d0b-0c6e5a1b2c3d".into();
    object["metadata"]["creationTimestamp"] = "2026-11-21T10:00:00Z".into();
    object["metadata"]["generation"] = 3.into();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Service", "name": object["metadata"]["name"],
        "uid": "8a6f0c1e-2d3b-4e5f-8a9b-1c2d3e4f5a6b", "controller": true,
        "blockOwnerDeletion": true,
    }]);
    object["metadata"]["managedFields"] = json!([{
        "manager": "kube-controller-manager", "operation": "Update",
        "apiVersion": object["apiVersion"], "time": "2026-11-21T10:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:addressType": {}, "f:endpoints": {}, "f:ports": {},
            "f:metadata": {
                "f:annotations": { ".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {} },
                "f:generateName": {},
                "f:labels": { ".": {}, "f:endpointslice.kubernetes.io/managed-by": {},
                              "f:kubernetes.io/service-name": {} },
                "f:ownerReferences": { ".": {}, "k:{\"uid\":\"8a6f0c1e\"}": {} },
            },
        },
    }]);
    object
}

/// A slice of a Service, `s` and its index, as a controller of the cluster writes it.
pub fn real_slice(index: usize, endpoints: usize) -> Value {
    let addresses: Vec<_> =
        (0..endpoints).map(|n| format!("10.{}.{}.{n}", 128 + index / 256, index % 256)).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let mut slice = slice(&format!("s{index:04}-abcde"), &format!("s{index:04}"), &addresses);
    for (n, endpoint) in slice["endpoints"].as_array_mut().unwrap().iter_mut().enumerate() {
        endpoint["conditions"] = json!({ "ready": true, "serving": true, "terminating": false });
        endpoint["nodeName"] = format!("worker-{n:04}.example.internal").into();
        endpoint["zone"] = "eu-central-1a".into();
        endpoint["targetRef"] = json!({
            "kind": "Pod", "namespace": "default", "name": format!("s{index:04}-7c9d8f6b5-x{n:04}"),
            "uid": "0b1c2d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e",
        });
    }
    real(slice)
}

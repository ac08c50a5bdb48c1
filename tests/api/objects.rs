//! Usual objects, for tests in which it matters that there are some.

use serde_json::Value;

use crate::common::objects;

pub fn service(name: &str, ip: &str) -> Value {
    objects::service(&format!("default/{name}")).cluster_ip(ip).port("http", 80).into()
}

pub fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let slice = objects::slice(&format!("default/{name}")).of(service).port("http", 8080);
    addresses.iter().fold(slice, |slice, address| slice.ready(address, "")).into()
}

pub fn node(name: &str, ip: &str) -> Value {
    objects::node(name).internal_ip(ip).pod_cidr("10.244.1.0/24").zone("a").into()
}

pub fn service_cidr(name: &str, range: &str) -> Value {
    objects::service_cidr(name, &[range]).into()
}

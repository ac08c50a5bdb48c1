//! Service objects.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{iter, slice};

use ipnet::IpNet;
use kube_ipvs_core::model::{
    Change, Event, Family, Interner, LabelHashes, Name, Service, ServiceKey, ServicePort,
    TrafficPolicy,
};
use prost::Message;
use serde::Deserialize;

use super::address::{external_ip, port, protocol, range, usable_ip};
use super::meta::or_default;
use super::{Meta, Rejections, Resource, SERVICE_PROXY_NAME};
use crate::control;

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const DEFAULT_AFFINITY_SECONDS: i64 = 10_800;
/// The API's limit of the affinity: a day.
const LONGEST_AFFINITY_SECONDS: i64 = 86_400;

/// The limit of a Service's front ends at external IPs, and at load balancer IPs: ports times
/// addresses. An object within the API's size limit could name hundreds of millions.
const MOST_FRONTENDS: usize = 16_384;

/// The relevant part of a Service.
#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
pub struct ServiceObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "1")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "2")]
    spec: ServiceSpec,
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "3")]
    status: ServiceStatus,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "1")]
    ports: Vec<ServicePortObject>,
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    #[prost(string, tag = "3")]
    cluster_ip: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "4")]
    r#type: String,
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "5")]
    external_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "7")]
    session_affinity: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "9")]
    load_balancer_source_ranges: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "11")]
    external_traffic_policy: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(int64, tag = "12")]
    health_check_node_port: i64,
    #[prost(message, optional, tag = "14")]
    session_affinity_config: Option<AffinityConfig>,
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    #[prost(string, repeated, tag = "18")]
    cluster_ips: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "22")]
    internal_traffic_policy: String,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct ServicePortObject {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "2")]
    protocol: String,
    #[serde(deserialize_with = "or_default")]
    #[prost(int64, tag = "3")]
    port: i64,
    #[serde(deserialize_with = "or_default")]
    #[prost(int64, tag = "5")]
    node_port: i64,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    #[prost(message, optional, tag = "1")]
    client_ip: Option<ClientIp>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    #[prost(int64, optional, tag = "1")]
    timeout_seconds: Option<i64>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct ServiceStatus {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, required, tag = "1")]
    load_balancer: LoadBalancer,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default)]
struct LoadBalancer {
    #[serde(deserialize_with = "or_default")]
    #[prost(message, repeated, tag = "1")]
    ingress: Vec<Ingress>,
}

#[derive(Clone, PartialEq, Deserialize, Message)]
#[serde(default, rename_all = "camelCase")]
struct Ingress {
    #[serde(deserialize_with = "or_default")]
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(string, optional, tag = "3")]
    ip_mode: Option<String>,
}

impl Resource for ServiceObject {
    type Key = ServiceKey;
    type Value = Service;

    const KIND: &'static str = "Service";
    const PATH: &'static str = "/api/v1/services";
    const IS_NAMESPACED: bool = true;

    fn metadata(&self) -> &Meta {
        &self.metadata
    }

    /// `None` for a headless or `ExternalName` Service.
    fn value(&self, names: &mut Interner, rejections: &mut Rejections<'_>) -> Option<Service> {
        let spec = &self.spec;
        let kind = spec.r#type.as_str();
        let mut listed = iter::once(&spec.cluster_ip).chain(&spec.cluster_ips);
        let headless = listed.all(|ip| matches!(ip.as_str(), "" | "None"));
        if headless || kind == "ExternalName" {
            return None;
        }
        let cluster_ips = self.cluster_ips(rejections);
        if cluster_ips.is_empty() {
            rejections.add("spec.clusterIPs", "no usable ClusterIP, so the Service is not served");
            return None;
        }
        let external_ips = spec.external_ips.as_slice();
        let load_balancer_ips = self.load_balancer_ips();
        let ports = self.ports(names, rejections);
        let most = (MOST_FRONTENDS / ports.len().max(1)).max(1);
        let is_external = !matches!(kind, "" | "ClusterIP") || !external_ips.is_empty();
        let external_policy = match spec.external_traffic_policy.as_str() {
            "Local" if is_external => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        let internal_policy = match spec.internal_traffic_policy.as_str() {
            "Local" => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        };
        let checked = kind == "LoadBalancer" && external_policy == TrafficPolicy::Local;
        let check = Some(spec.health_check_node_port).filter(|number| checked && *number != 0);
        let proxy_name = self.metadata.label(SERVICE_PROXY_NAME);
        Some(Service {
            key: Self::key(&self.metadata),
            proxy_name: proxy_name.map(|name| names.intern(name)),
            created: self.metadata.created(),
            cluster_ips: cluster_ips.into(),
            ports,
            external_ips: external("spec.externalIPs", external_ips, most, rejections),
            load_balancer_ips: external(
                "status.loadBalancer.ingress",
                &load_balancer_ips,
                most,
                rejections,
            ),
            source_ranges: self.source_ranges(rejections),
            internal_policy,
            external_policy,
            affinity_seconds: self.affinity_seconds(rejections),
            health_check_node_port: check
                .and_then(|number| rejections.accept("spec.healthCheckNodePort", port(number))),
            labels: LabelHashes::new(self.metadata.labels()),
            control: control::read(self.metadata.annotations()),
        })
    }

    fn key(metadata: &Meta) -> ServiceKey {
        ServiceKey::new(metadata.namespace(), &metadata.name)
    }

    fn event(change: Change<ServiceKey, Service>) -> Event {
        Event::Service(change)
    }
}

impl ServiceObject {
    /// At most one per family, `clusterIP` first.
    fn cluster_ips(&self, rejections: &mut Rejections) -> Vec<IpAddr> {
        let spec = &self.spec;
        let listed = match spec.cluster_ips.as_slice() {
            [] => slice::from_ref(&spec.cluster_ip),
            listed => listed,
        };
        let mut ips: Vec<IpAddr> = Vec::new();
        for (index, text) in listed.iter().enumerate() {
            let field = format_args!("spec.clusterIPs[{index}]");
            let Some(ip) = rejections.accept(field, usable_ip(text)) else { continue };
            if ips.iter().any(|known| Family::of(*known) == Family::of(ip)) {
                rejections.add(field, format!("{ip} is a second ClusterIP of its family: ignored"));
            } else {
                ips.push(ip);
            }
        }
        ips
    }

    fn ports(&self, names: &mut Interner, rejections: &mut Rejections) -> Box<[ServicePort]> {
        let mut ports: Vec<ServicePort> = Vec::new();
        let mut taken = HashSet::new();
        for (index, object) in self.spec.ports.iter().enumerate() {
            let field = format_args!("spec.ports[{index}]");
            let Some(number) = rejections.accept(format_args!("{field}.port"), port(object.port))
            else {
                continue;
            };
            let protocol = protocol(&object.protocol);
            let Some(protocol) = rejections.accept(format_args!("{field}.protocol"), protocol)
            else {
                continue;
            };
            let node_port = Some(object.node_port).filter(|number| *number != 0);
            let node_port = node_port.and_then(|number| {
                rejections.accept(format_args!("{field}.nodePort"), port(number))
            });
            let name = names.intern(&object.name);
            let keys = [(protocol, number, None), (protocol, 0, Some(Name::clone(&name)))];
            if keys.iter().any(|key| taken.contains(key)) {
                rejections.add(field, "an earlier port has the same name or number: ignored");
                continue;
            }
            taken.extend(keys);
            ports.push(ServicePort { name, protocol, port: number, node_port });
        }
        ports.into()
    }

    /// The IPs that the proxy handles: with an `ipMode` other than `VIP`, the load balancer does.
    fn load_balancer_ips(&self) -> Vec<String> {
        let ingress = self.status.load_balancer.ingress.iter();
        ingress
            .filter(|ingress| matches!(ingress.ip_mode.as_deref(), None | Some("VIP")))
            .filter(|ingress| !ingress.ip.is_empty())
            .map(|ingress| ingress.ip.clone())
            .collect()
    }

    /// An invalid range must not become no range, which would allow all clients: a family without a
    /// valid range gets a range without clients.
    fn source_ranges(&self, rejections: &mut Rejections) -> Box<[IpNet]> {
        let listed = &self.spec.load_balancer_source_ranges;
        let field = "spec.loadBalancerSourceRanges";
        let mut ranges: Vec<_> = rejections.accept_each(field, listed, range).collect();
        if ranges.len() == listed.len() {
            return ranges.into();
        }
        for family in Family::BOTH {
            if !ranges.iter().any(|range| Family::of(range.addr()) == family) {
                let reason = format!("no valid {family} range is left: no client may use its IPs");
                rejections.add(field, reason);
                ranges.push(no_source(family));
            }
        }
        ranges.into()
    }

    fn affinity_seconds(&self, rejections: &mut Rejections) -> Option<u32> {
        let spec = &self.spec;
        if spec.session_affinity != "ClientIP" {
            return None;
        }
        let config = spec.session_affinity_config.as_ref();
        let given = config
            .and_then(|config| config.client_ip.as_ref())
            .and_then(|client_ip| client_ip.timeout_seconds)
            .unwrap_or(DEFAULT_AFFINITY_SECONDS);
        let seconds = if (1..=LONGEST_AFFINITY_SECONDS).contains(&given) {
            given
        } else {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            let bounds = format!("from 1 to {LONGEST_AFFINITY_SECONDS}");
            rejections.add(field, format!("{given} is not {bounds}: taking the default"));
            DEFAULT_AFFINITY_SECONDS
        };
        u32::try_from(seconds).ok()
    }
}

/// Returns a range that contains no source address.
fn no_source(family: Family) -> IpNet {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::BROADCAST.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    ip.into()
}

/// Parses and sorts external addresses, without duplicates and up to the limit.
fn external(
    field: &str,
    texts: &[String],
    most: usize,
    rejections: &mut Rejections,
) -> Box<[IpAddr]> {
    let mut ips: Vec<_> = rejections.accept_each(field, texts, external_ip).collect();
    ips.sort_unstable();
    ips.dedup();
    if ips.len() > most {
        let reason = format!("{} addresses for so many ports: only {most} are served", ips.len());
        rejections.add(field, reason);
        ips.truncate(most);
    }
    ips.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The largest number of front ends that an object within the API's size limit could request.
    #[test]
    fn front_ends_of_a_service_are_bounded() {
        let ports: Vec<_> =
            (1..=30_000).map(|n| json!({ "port": n, "name": n.to_string() })).collect();
        let ips: Vec<_> =
            (1..=30_000u32).map(|n| Ipv4Addr::from(0x0b00_0000 | n).to_string()).collect();
        let ports = |count: usize| json!(ports[..count]);
        for (count, expected) in [(1, 16_384), (3, 5_461), (30_000, 1)] {
            let object = json!({ "metadata": { "name": "web" }, "spec": { "clusterIP": "10.96.0.1",
                "ports": ports(count), "externalIPs": ips } });
            let object: ServiceObject = serde_json::from_value(object).unwrap();
            let (service, rejections) = object.convert(&mut Interner::default());
            let service = service.unwrap();
            assert_eq!((service.ports.len(), service.external_ips.len()), (count, expected));
            assert_eq!(rejections.len(), 1, "{:?}", rejections.first());
        }
    }
}

//! Names of pods and nodes for the addresses of connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::EndpointName;

use crate::agent::api::{EndpointView, PoolView, ServiceView, StatusView};
use crate::kernel::route::Network;

/// The names of clients and backends.
#[derive(Debug, Default)]
pub(super) struct Names {
    backends: BTreeMap<SocketAddr, EndpointName>,
    /// Endpoints of all Services by address; no name if they differ, as on a node's own address.
    pods: BTreeMap<IpAddr, Option<EndpointName>>,
    own: BTreeSet<IpAddr>,
    node: String,
}

impl Names {
    /// Takes the names from the agent's state; those of backends from their Service.
    pub(super) fn new(service: Option<&ServiceView>, all: &StatusView) -> anyhow::Result<Self> {
        let mut pods: BTreeMap<IpAddr, Option<EndpointName>> = BTreeMap::new();
        for service in &all.services {
            let namespace = namespace_of(service);
            for (endpoint, _) in service.pools.iter().flat_map(PoolView::endpoints) {
                let name = name_in(namespace, endpoint);
                let known = pods.entry(endpoint.address).or_insert_with(|| Some(name.clone()));
                known.take_if(|it| *it != name);
            }
        }
        let pools = service.into_iter().flat_map(|it| it.pools.iter().map(move |pool| (it, pool)));
        let backends = pools.flat_map(|(service, pool)| {
            let name =
                |(it, _): (&EndpointView, _)| (it.socket(), name_in(namespace_of(service), it));
            pool.endpoints().map(name)
        });
        Ok(Self {
            backends: backends.collect(),
            pods,
            own: Network::open()?.addresses()?.into_iter().collect(),
            node: all.node.clone(),
        })
    }

    /// Returns the name of a backend; without one, that of what has its address.
    pub(super) fn backend(&self, at: SocketAddr) -> EndpointName {
        self.backends.get(&at).cloned().unwrap_or_else(|| self.client(at.ip()))
    }

    /// Returns the name of the pod or node that has an address.
    pub(super) fn client(&self, ip: IpAddr) -> EndpointName {
        if self.own.contains(&ip) {
            return EndpointName { node: Some((*self.node).into()), ..EndpointName::default() };
        }
        self.pods.get(&ip).cloned().flatten().unwrap_or_default()
    }
}

fn namespace_of(service: &ServiceView) -> &str {
    service.service.split('/').next().unwrap_or_default()
}

/// Returns the name of an endpoint, its pod with the namespace.
fn name_in(namespace: &str, endpoint: &EndpointView) -> EndpointName {
    let name = endpoint.name();
    EndpointName { pod: name.pod.map(|pod| format!("{namespace}/{pod}")), ..name }
}

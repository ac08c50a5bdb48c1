//! Names of pods and nodes for addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_ipvs_core::model::EndpointName;

use crate::agent::api::{PoolView, StatusView};
use crate::kernel::route::Network;

/// The names that the agent knows.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Endpoints of all Services by address; no name if they differ, as on a node's own address.
    pods: BTreeMap<IpAddr, Option<EndpointName>>,
    own: BTreeSet<IpAddr>,
    node: String,
}

impl Names {
    /// Takes the names from the agent's state.
    pub(super) fn new(all: &StatusView) -> anyhow::Result<Self> {
        let mut pods: BTreeMap<IpAddr, Option<EndpointName>> = BTreeMap::new();
        for service in &all.services {
            let namespace = service.service.split('/').next().unwrap_or_default();
            for (endpoint, _) in service.pools.iter().flat_map(PoolView::endpoints) {
                let name = endpoint.name();
                let pod = name.pod.map(|pod| format!("{namespace}/{pod}"));
                let name = EndpointName { pod, ..name };
                let known = pods.entry(endpoint.address).or_insert_with(|| Some(name.clone()));
                known.take_if(|it| *it != name);
            }
        }
        let own = Network::open()?.addresses()?.into_iter().collect();
        Ok(Self { pods, own, node: all.node.clone() })
    }

    /// Returns the name of the pod or node that has an address.
    pub(super) fn at(&self, ip: IpAddr) -> EndpointName {
        if self.own.contains(&ip) {
            return EndpointName { node: Some((*self.node).into()), ..EndpointName::default() };
        }
        self.pods.get(&ip).cloned().flatten().unwrap_or_default()
    }
}

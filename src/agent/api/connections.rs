//! The connections of a Service through this node, from connection tracking and IPVS.
//!
//! Connection tracking has every connection at the front end that the client has asked for. IPVS has
//! those at the pool. Its state counts for the connections that it carries.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::{EndpointName, VirtualAddress};
use kube_ipvs_core::plan::Carrier;
use netlink_ipvs::KernelError;
use serde::{Deserialize, Serialize};

use super::{EndpointView, NameView, PeerView, PoolView, ServiceView};
use crate::kernel::conntrack::{Conntrack, TrackedConnection};
use crate::kernel::ipvs::{IpvsConnection, read_connections};

/// The answer to `connections`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionsView {
    /// Sorted by front end, client and backend.
    pub connections: Vec<ConnectionView>,
    /// The number of connections, of which those beyond the limit are not listed.
    pub count: usize,
    /// Why states are not IPVS's.
    pub note: Option<String>,
}

/// Reads the connections of a Service, and lists at most `most` of them. Only backends have names.
///
/// # Errors
///
/// If the kernel refuses or does not answer.
pub(super) fn connections(
    service: &ServiceView,
    most: usize,
) -> Result<ConnectionsView, KernelError> {
    let mut view = Served::new(service).read(most)?;
    let namespace = service.service.split('/').next().unwrap_or_default();
    let endpoints = service.pools.iter().flat_map(PoolView::endpoints);
    let backends: HashMap<_, _> = endpoints.map(|(it, _)| (it.socket(), it)).collect();
    for backend in view.connections.iter_mut().map(|it| &mut it.backend) {
        if let Some(EndpointView { name: NameView { pod, node }, .. }) =
            backends.get(&backend.address)
        {
            let pod = pod.as_ref().map(|pod| format!("{namespace}/{pod}"));
            backend.name = NameView { pod, node: node.clone() };
        }
    }
    Ok(view)
}

impl ConnectionsView {
    #[must_use]
    pub fn clients(&self) -> BTreeSet<IpAddr> {
        self.connections.iter().map(|it| it.client.address.ip()).collect()
    }

    /// Gives clients the names that belong to their addresses.
    pub fn name_clients(&mut self, names: &BTreeMap<IpAddr, EndpointName>) {
        for client in self.connections.iter_mut().map(|it| &mut it.client) {
            let name = names.get(&client.address.ip()).cloned();
            client.name = name.unwrap_or_default().into();
        }
    }
}

impl fmt::Display for ConnectionsView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&row(["CLIENT", "FRONT END", "BACKEND", "STATE", "LEFT", "CARRIER"], "NAMES"))?;
        self.connections.iter().try_for_each(|connection| write!(f, "\n{connection}"))
    }
}

/// The addresses of a Service.
struct Served {
    frontends: BTreeSet<VirtualAddress>,
    /// Its pools, each at the address of its virtual server.
    pools: BTreeSet<VirtualAddress>,
    backends: BTreeSet<SocketAddr>,
}

impl Served {
    fn new(service: &ServiceView) -> Self {
        let frontends = service.frontends.iter().filter_map(|it| it.address.parse().ok());
        let pools = service.pools.iter().filter_map(|it| it.address.parse().ok());
        let endpoints = service.pools.iter().flat_map(PoolView::endpoints);
        Self {
            frontends: frontends.collect(),
            pools: pools.collect(),
            backends: endpoints.map(|(endpoint, _)| endpoint.socket()).collect(),
        }
    }

    /// Returns whether connection tracking's entry is a connection of this Service. One that has
    /// reached no endpoint is answered by its own destination. Another host may have the port of a
    /// node port, too.
    fn has(&self, connection: &TrackedConnection) -> bool {
        let TrackedConnection { frontend, backend, .. } = connection;
        let destination = SocketAddr::new(frontend.ip, frontend.port);
        let is_exact = self.frontends.contains(frontend);
        *backend != destination
            && (is_exact
                || connection.carrier == Carrier::Tracking && self.backends.contains(backend))
    }

    /// Reads both tables, and keeps at most `most` connections.
    fn read(&self, most: usize) -> Result<ConnectionsView, KernelError> {
        let frontends = self.frontends.iter().copied();
        let tracked = Conntrack::open()?.connections(frontends, most, |it| self.has(it))?;
        let (mut tracked, mut count) = (tracked.found, tracked.count);
        let mut untracked = Vec::new();
        let is_cut = tracked.len() < count;
        let room = most.saturating_sub(count);
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for it in &mut tracked {
            let key = (it.frontend.protocol, it.client, it.backend);
            known.entry(key).or_default().push(it);
        }
        let read = read_connections(|ipvs| {
            if !self.pools.contains(&ipvs.server) {
                return;
            }
            match known.get_mut(&(ipvs.server.protocol, ipvs.client, ipvs.backend)) {
                Some(tracked) => {
                    for it in tracked.iter_mut().filter(|it| it.carrier == Carrier::Ipvs) {
                        it.state = Some(ipvs.state.clone().into());
                        it.seconds_left = Some(ipvs.seconds_left);
                    }
                }
                // It may be tracked beyond the limit.
                None if is_cut => {}
                None => {
                    count += 1;
                    if untracked.len() < room {
                        untracked.push(ipvs);
                    }
                }
            }
        });
        let note = read.err().map(|error| {
            format!(
                "IPVS's connections cannot be read, so that their states are those of connection \
                 tracking: {error}"
            )
        });
        let tracked = tracked.into_iter().map(|it| (it.frontend, ConnectionView::from(it)));
        let untracked = untracked.into_iter().map(|it| (it.server, ConnectionView::from(it)));
        let mut all: Vec<_> = tracked.chain(untracked).collect();
        all.sort_unstable_by_key(|(at, it)| (*at, it.client.address, it.backend.address));
        let connections = all.into_iter().map(|(_, connection)| connection).collect();
        Ok(ConnectionsView { connections, count, note })
    }
}

/// A connection, as `connections -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    client: PeerView,
    /// The address that the client has asked for; of an untracked connection that of the pool.
    frontend: String,
    backend: PeerView,
    /// `null` of a connection that a flowtable carries, as is `secondsLeft`.
    state: Option<Cow<'static, str>>,
    /// Until the connection is forgotten unless a packet comes.
    seconds_left: Option<u32>,
    /// `ipvs`, `tracking`, `flowtable` or `untracked`.
    carrier: Cow<'static, str>,
}

impl From<TrackedConnection> for ConnectionView {
    fn from(connection: TrackedConnection) -> Self {
        let carrier = match connection.carrier {
            _ if connection.is_offloaded => "flowtable",
            Carrier::Ipvs => "ipvs",
            Carrier::Tracking => "tracking",
        };
        Self {
            client: PeerView::unnamed(connection.client),
            frontend: connection.frontend.to_string(),
            backend: PeerView::unnamed(connection.backend),
            state: connection.state,
            seconds_left: connection.seconds_left,
            carrier: carrier.into(),
        }
    }
}

/// Connection tracking has every connection that the agent's rules let through. So this is a carried
/// connection that a reset has ended, of which IPVS learns nothing, or its entry was deleted.
impl From<IpvsConnection> for ConnectionView {
    fn from(connection: IpvsConnection) -> Self {
        Self {
            client: PeerView::unnamed(connection.client),
            frontend: connection.server.to_string(),
            backend: PeerView::unnamed(connection.backend),
            state: Some(connection.state.into()),
            seconds_left: Some(connection.seconds_left),
            carrier: "untracked".into(),
        }
    }
}

/// Names come last, so that the columns before them stay in place.
fn row([client, frontend, backend, state, left, carrier]: [&str; 6], names: &str) -> String {
    format!("{client:<21} {frontend:<23} {backend:<21} {state:<11} {left:>7} {carrier:<9} {names}")
}

impl fmt::Display for ConnectionView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, frontend, backend, state, seconds_left, carrier } = self;
        let left = seconds_left.map_or_else(|| "-".to_owned(), |it| format!("{it}s"));
        let state = state.as_deref().unwrap_or("-");
        let name = |peer: &PeerView, word| match peer.name.to_string() {
            name if name.is_empty() => name,
            name => format!("{word}{name}"),
        };
        let names = [name(client, "from"), name(backend, "to")].join(" ");
        let sockets = [client.address, backend.address].map(|it| it.to_string());
        let columns = [&sockets[0], frontend, &sockets[1], state, &left, carrier];
        f.write_str(row(columns, names.trim()).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_a_line_with_names_last() {
        let connection = TrackedConnection {
            client: "10.244.1.12:40000".parse().expect("a client"),
            frontend: "10.96.0.20:80".parse().expect("a front end"),
            backend: "10.244.2.13:8080".parse().expect("a backend"),
            carrier: Carrier::Ipvs,
            is_offloaded: false,
            state: Some("ESTABLISHED".into()),
            seconds_left: Some(899),
        };
        let backend = EndpointName {
            pod: Some("shop/web\u{1b}[2J".to_owned()),
            node: Some("n2".into()),
            zone: None,
        };
        let view = |it| {
            let view = ConnectionView::from(it);
            let backend = PeerView { name: backend.clone().into(), ..view.backend };
            ConnectionView { backend, ..view }
        };
        assert_eq!(
            view(connection.clone()).to_string(),
            "10.244.1.12:40000     10.96.0.20:80/tcp       10.244.2.13:8080      ESTABLISHED    899s \
             ipvs      to (shop/web\\u{1b}[2J on n2)"
        );
        let offloaded = TrackedConnection { is_offloaded: true, state: None, ..connection };
        assert_eq!(view(offloaded).carrier, "flowtable");
    }
}

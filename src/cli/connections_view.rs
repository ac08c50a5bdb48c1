//! The JSON and text of `connections`.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use clap::Args;
use kube_ipvs_core::model::{EndpointName, VirtualAddress};
use kube_ipvs_core::plan::Carrier;
use serde::{Deserialize, Serialize, Serializer};

use super::TextFormat;
use crate::kernel::conntrack::TrackedConnection;
use crate::kernel::ipvs::IpvsConnection;

/// What `connections` shows, and how.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct ConnectionsFlags {
    /// The Service
    #[arg(value_name = "[NAMESPACE/]SERVICE", value_parser = service)]
    service: String,
    /// Namespace of a Service without one
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Most connections that are shown, and kept in memory
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub limit: usize,
    /// Form of the output; JSON has an object a line
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextFormat,
}

impl ConnectionsFlags {
    /// Returns the namespace and the name of the Service.
    pub(super) fn service(&self) -> (&str, &str) {
        self.service.split_once('/').unwrap_or((&self.namespace, &self.service))
    }
}

fn service(text: &str) -> Result<String, String> {
    let words: Vec<_> = text.split('/').collect();
    match words.len() <= 2 && words.iter().all(|word| !word.is_empty()) {
        true => Ok(text.to_owned()),
        false => Err("give SERVICE or NAMESPACE/SERVICE".to_owned()),
    }
}

/// A connection, as `connections -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConnectionView {
    client: PeerView,
    /// The address that the client has asked for; of an untracked connection that of the pool.
    #[serde(serialize_with = "as_text")]
    frontend: VirtualAddress,
    backend: PeerView,
    /// `null` of a connection that a flowtable carries, as is `secondsLeft`.
    state: Option<Cow<'static, str>>,
    /// Until the connection is forgotten unless a packet comes.
    seconds_left: Option<u32>,
    /// `ipvs`, `tracking`, `flowtable` or `untracked`.
    carrier: &'static str,
}

/// An end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PeerView {
    /// With the port.
    address: SocketAddr,
    /// With the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

fn as_text<S: Serializer>(address: &VirtualAddress, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

impl PeerView {
    pub(super) fn new(address: SocketAddr, EndpointName { pod, node, .. }: EndpointName) -> Self {
        Self { address, pod, node: node.map(|it| it.to_string()) }
    }

    fn unnamed(address: SocketAddr) -> Self {
        Self::new(address, EndpointName::default())
    }

    fn name(&self) -> EndpointName {
        EndpointName::new(self.pod.as_deref(), self.node.as_deref())
    }
}

impl fmt::Display for PeerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.address, self.name())
    }
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
            frontend: connection.frontend,
            backend: PeerView::unnamed(connection.backend),
            state: connection.state,
            seconds_left: connection.seconds_left,
            carrier,
        }
    }
}

/// Connection tracking has every connection that the agent's rules let through. So this is a carried
/// connection that a reset has ended, of which IPVS learns nothing, or its entry was deleted.
impl From<IpvsConnection> for ConnectionView {
    fn from(connection: IpvsConnection) -> Self {
        Self {
            client: PeerView::unnamed(connection.client),
            frontend: connection.server,
            backend: PeerView::unnamed(connection.backend),
            state: Some(connection.state.into()),
            seconds_left: Some(connection.seconds_left),
            carrier: "untracked",
        }
    }
}

impl ConnectionView {
    /// Returns front end, client and backend.
    pub(super) fn sockets(&self) -> (VirtualAddress, SocketAddr, SocketAddr) {
        (self.frontend, self.client.address, self.backend.address)
    }

    pub(super) fn named(self, client: EndpointName, backend: EndpointName) -> Self {
        Self {
            client: PeerView::new(self.client.address, client),
            backend: PeerView::new(self.backend.address, backend),
            ..self
        }
    }

    pub(super) fn heading() -> String {
        row(["CLIENT", "FRONT END", "BACKEND", "STATE", "LEFT", "CARRIER"], "NAMES")
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
        let name = |peer: &PeerView, word| match peer.name().to_string() {
            name if name.is_empty() => name,
            name => format!("{word}{name}"),
        };
        let names = [name(client, "from"), name(backend, "to")].join(" ");
        let sockets = [client.address, backend.address].map(|it| it.to_string());
        let columns = [&sockets[0], &frontend.to_string(), &sockets[1], state, &left, carrier];
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
        let view = |it| ConnectionView::from(it).named(EndpointName::default(), backend.clone());
        assert_eq!(
            view(connection.clone()).to_string(),
            "10.244.1.12:40000     10.96.0.20:80/tcp       10.244.2.13:8080      ESTABLISHED    899s \
             ipvs      to (shop/web\\u{1b}[2J on n2)"
        );
        let offloaded = TrackedConnection { is_offloaded: true, state: None, ..connection };
        assert_eq!(view(offloaded).carrier, "flowtable");
    }

    #[test]
    fn a_service_has_at_most_one_namespace() {
        for (text, is_valid) in
            [("web", true), ("shop/web", true), ("", false), ("shop/", false), ("a/b/c", false)]
        {
            assert_eq!(service(text).is_ok(), is_valid, "{text}");
        }
    }
}

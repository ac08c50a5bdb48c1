//! The questions that [`explain()`](crate::explain::explain()) answers, as people ask them: with
//! names for addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::explain::Source;
use crate::model::{EndpointSlice, Family, ServiceKey, ServicePort, VirtualAddress};
use crate::state::State;

/// The most addresses of a pod that a question is about. Slices may give a name to any number.
const MOST_ADDRESSES: usize = 8;

/// The most ports of a Service that a question is about. An object has room for thousands, and each may
/// have as many endpoints.
const MOST_PORTS: usize = 64;

/// The destination of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DestinationName {
    Address(VirtualAddress),
    /// The ClusterIPs of a Service, at one port or at all.
    Service {
        service: ObjectName,
        /// Its name or number.
        port: Option<String>,
    },
}

/// The origin of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientName {
    Source(Source),
    Pod(ObjectName),
}

/// The name of an object: `NAME` or `NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectName {
    /// [`ConnectionQuestion::namespace`] if it is not given.
    pub namespace: Option<String>,
    pub name: String,
}

/// Returns what follows `svc/` or `service/`, as in kubectl.
#[must_use]
pub fn after_kind(text: &str) -> Option<&str> {
    text.strip_prefix("svc/").or_else(|| text.strip_prefix("service/"))
}

/// Where would a connection go?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionQuestion {
    pub destination: DestinationName,
    pub from: ClientName,
    /// That of names without one.
    pub namespace: String,
}

impl ObjectName {
    /// Reads a name. Returns `None` if a part of it is missing, or if it has more than two.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        let is_valid = !name.is_empty() && !name.contains('/') && namespace.as_deref() != Some("");
        is_valid.then(|| Self { namespace, name: name.to_owned() })
    }

    fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(default)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

impl FromStr for DestinationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(named) = after_kind(text) else {
            return text
                .parse()
                .map(Self::Address)
                .map_err(|error| format!("{error}, nor svc/NAME or svc/NAME:PORT"));
        };
        let (name, port) = match named.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (named, None),
        };
        let service = ObjectName::parse(name).filter(|_| port.as_deref() != Some(""));
        let wrong = || format!("{text:?} is not svc/NAME or svc/NAMESPACE/NAME, with :PORT or not");
        Ok(Self::Service { service: service.ok_or_else(wrong)?, port })
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(pod) = text.strip_prefix("pod/") else {
            return text.parse().map(Self::Source).map_err(|_| {
                format!(
                    "{text:?} is neither an IP address nor pod/NAME, pod/NAMESPACE/NAME or `node`"
                )
            });
        };
        let wrong = || format!("{text:?} is not pod/NAME or pod/NAMESPACE/NAME");
        ObjectName::parse(pod).map(Self::Pod).ok_or_else(wrong)
    }
}

impl fmt::Display for DestinationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Service { service, port: Some(port) } => write!(f, "svc/{service}:{port}"),
            Self::Service { service, port: None } => write!(f, "svc/{service}"),
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(f),
            Self::Pod(pod) => write!(f, "pod/{pod}"),
        }
    }
}

impl ConnectionQuestion {
    /// Returns whether it is about one connection: it has no names.
    #[must_use]
    pub fn is_one(&self) -> bool {
        matches!(
            (&self.destination, &self.from),
            (DestinationName::Address(_), ClientName::Source(_))
        )
    }

    /// Replaces names by addresses: all combinations that are of one family. An address stays as it
    /// is.
    ///
    /// # Errors
    ///
    /// If a name is unknown; the message has the names that are known, or the way to an address.
    pub fn resolve(&self, state: &State) -> Result<Vec<(VirtualAddress, Source)>, String> {
        let destinations = self.destinations(state)?;
        let clients = self.clients(state)?;
        // The answer says what becomes of a connection between families.
        let is_exact = self.is_one();
        let mut pairs = Vec::new();
        for to in &destinations {
            let of_family = |from: &&Source| match from {
                Source::Node => true,
                Source::Address(ip) => is_exact || Family::of(*ip) == to.family(),
            };
            pairs.extend(clients.iter().filter(of_family).map(|from| (*to, *from)));
        }
        if pairs.is_empty() {
            let all = |texts: Vec<String>| texts.join(", ");
            return Err(format!(
                "{} ({}) and {} ({}) have no address family in common",
                self.destination,
                all(destinations.iter().map(ToString::to_string).collect()),
                self.from,
                all(clients.iter().map(ToString::to_string).collect()),
            ));
        }
        Ok(pairs)
    }

    fn destinations(&self, state: &State) -> Result<Vec<VirtualAddress>, String> {
        let (service, port) = match &self.destination {
            DestinationName::Address(address) => return Ok(vec![*address]),
            DestinationName::Service { service, port } => (service, port.as_deref()),
        };
        let key = ServiceKey::new(service.namespace(&self.namespace), &service.name);
        let service = state.service(&key).ok_or_else(|| {
            format!(
                "no Service {key} is served here; -n names the namespace of svc/{}",
                service.name
            )
        })?;
        if service.cluster_ips.is_empty() {
            return Err(format!("Service {key} has no ClusterIP: give one of its addresses"));
        }
        let is_meant = |it: &&ServicePort| {
            port.is_none_or(|port| *it.name == *port || it.port.to_string() == port)
        };
        let ports: Vec<_> = service.ports.iter().filter(is_meant).collect();
        if ports.is_empty() {
            let port = port.unwrap_or_default();
            return Err(format!("Service {key} has no port {port}, but {}", some(&service.ports)));
        }
        if ports.len() > MOST_PORTS {
            return Err(format!(
                "give one of the ports of Service {key}: {}",
                some(&service.ports)
            ));
        }
        let addresses = ports.iter().flat_map(|it| {
            let at = |ip: &IpAddr| VirtualAddress { ip: *ip, port: it.port, protocol: it.protocol };
            service.cluster_ips.iter().map(at)
        });
        Ok(addresses.collect())
    }

    fn clients(&self, state: &State) -> Result<Vec<Source>, String> {
        let pod = match &self.from {
            ClientName::Source(source) => return Ok(vec![*source]),
            ClientName::Pod(pod) => pod,
        };
        let (namespace, name) = (pod.namespace(&self.namespace), &pod.name);
        let mut ips: Vec<_> = state
            .all_slices()
            .filter(|slice| slice.service.namespace() == namespace)
            .flat_map(|slice| addresses_of(slice, name))
            .collect();
        ips.sort_unstable();
        ips.dedup();
        if ips.is_empty() {
            return Err(format!(
                "pod {namespace}/{name} is no endpoint of a Service, so its address is not known \
                 here: give --from its IP address, which `kubectl -n {namespace} get pod {name} -o \
                 wide` prints"
            ));
        }
        if ips.len() > MOST_ADDRESSES {
            let some = ips.iter().take(MOST_ADDRESSES).map(ToString::to_string);
            let some = some.collect::<Vec<_>>().join(", ");
            return Err(format!(
                "pod {namespace}/{name} has {} addresses: give --from one of them, such as {some}",
                ips.len()
            ));
        }
        Ok(ips.into_iter().map(Source::Address).collect())
    }
}

/// Returns ports in words.
fn some(ports: &[ServicePort]) -> String {
    let words = ports.iter().take(MOST_PORTS).map(|it| match &*it.name {
        "" => format!("{}/{}", it.port, it.protocol),
        name => format!("{name} ({}/{})", it.port, it.protocol),
    });
    let words = words.collect::<Vec<_>>().join(", ");
    match ports.len().saturating_sub(MOST_PORTS) {
        0 => words,
        more => format!("{words} and {more} more"),
    }
}

fn addresses_of<'a>(slice: &'a EndpointSlice, pod: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
    let positions = slice.pods.positions(slice.key.name(), pod);
    positions.filter_map(|index| Some(slice.endpoints.get(index)?.address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{
        Change, Endpoint, EndpointPort, Event, PodNames, Protocol, Service, Shared, SliceKey,
        Topology,
    };

    fn slice(name: &str, endpoints: &[(&str, &str)]) -> EndpointSlice {
        let endpoint = |address: &str| Endpoint {
            address: address.parse().unwrap(),
            ready: true,
            serving: true,
            terminating: false,
            weight: 1,
            topology: Topology::default().into(),
        };
        let (first, _) = endpoints[0];
        let port = EndpointPort { name: "dns".into(), protocol: Protocol::Udp, port: 53 };
        let mut slice = EndpointSlice {
            key: SliceKey::new("a", name),
            service: ServiceKey::new("a", "web"),
            family: Family::of(first.parse().unwrap()),
            ports: Shared::from_iter([port]),
            endpoints: Box::default(),
            pods: PodNames::default(),
            triggered: None,
        };
        slice.set_endpoints(endpoints.iter().map(|(at, pod)| (endpoint(at), Some(*pod))).collect());
        slice
    }

    fn state() -> State {
        let port = |name: &str, protocol, port| ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port: None,
        };
        let web = Service {
            cluster_ips: ["10.96.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into(),
            ports: [port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)].into(),
            ..Service::named(ServiceKey::new("a", "web"))
        };
        let mut state = State::new("n1".into());
        let v4 = [("10.244.1.6", "web-1"), ("10.244.1.5", "web-0")];
        for event in [
            Event::Service(Change::Apply(web)),
            Event::Service(Change::Apply(Service::named(ServiceKey::new("a", "bare")))),
            Event::Slice(Change::Apply(slice("web-v4", &v4))),
            Event::Slice(Change::Apply(slice("web-v6", &[("fd00:1::5", "web-0")]))),
        ] {
            state.apply(event);
        }
        state
    }

    fn answer(destination: &str, from: &str) -> Result<Vec<String>, String> {
        let (destination, from) = (destination.parse()?, from.parse()?);
        let question = ConnectionQuestion { destination, from, namespace: "a".to_owned() };
        let pairs = question.resolve(&state())?.into_iter();
        Ok(pairs.map(|(to, from)| format!("{from} > {to}")).collect())
    }

    #[test]
    fn names_stand_for_all_their_addresses() {
        let expected = ["10.244.1.5 > 10.96.0.1:80/tcp", "fd00:1::5 > [fd00::1]:80/tcp"];
        for port in ["http", "80"] {
            assert_eq!(answer(&format!("svc/web:{port}"), "pod/web-0").unwrap(), expected);
        }
        assert_eq!(
            answer("service/a/web", "pod/a/web-1").unwrap(),
            ["10.244.1.6 > 10.96.0.1:80/tcp", "10.244.1.6 > 10.96.0.1:53/udp"]
        );
        assert_eq!(answer("svc/web", "node").unwrap().len(), 4);
        assert_eq!(answer("192.0.2.1:80", "pod/web-0").unwrap(), ["10.244.1.5 > 192.0.2.1:80/tcp"]);
        assert_eq!(answer("192.0.2.1:80", "::1").unwrap(), ["::1 > 192.0.2.1:80/tcp"]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_what_to_ask() {
        for (destination, from, expected) in [
            ("svc/nil", "node", "no Service a/nil is served here"),
            ("svc/bare", "node", "has no ClusterIP"),
            ("svc/web:443", "node", "no port 443, but http (80/tcp), dns (53/udp)"),
            ("svc/web", "pod/web", "kubectl -n a get pod web"),
            ("svc/web", "pod/b/web-0", "kubectl -n b get pod web-0"),
            ("[fd00::1]:80", "pod/web-1", "no address family in common"),
            ("svc/b/web", "node", "no Service b/web is served here"),
            ("svc/a/b/web", "node", "is not svc/NAME"),
            ("svc/web:", "node", "is not svc/NAME"),
            ("web:80", "node", "nor svc/NAME"),
            ("svc/web", "pod/a/b/c", "is not pod/NAME"),
            ("svc/web", "web-0", "pod/NAME"),
        ] {
            let error = answer(destination, from).unwrap_err();
            assert!(error.contains(expected), "{destination} {from}: {error}");
        }
    }

    #[test]
    fn a_question_is_about_a_bounded_number_of_ports() {
        let port = |port| ServicePort {
            name: format!("p{port}").into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        };
        let many = Service {
            cluster_ips: ["10.96.0.9".parse().unwrap()].into(),
            ports: (1..=9999).map(port).collect(),
            ..Service::named(ServiceKey::new("a", "many"))
        };
        let mut state = state();
        state.apply(Event::Service(Change::Apply(many)));
        let resolve = |destination: &str| {
            let (destination, from) = (destination.parse()?, "node".parse()?);
            ConnectionQuestion { destination, from, namespace: "a".to_owned() }.resolve(&state)
        };
        assert_eq!(resolve("svc/many:9999").unwrap().len(), 1);
        for destination in ["svc/many", "svc/many:web"] {
            let error = resolve(destination).unwrap_err();
            assert!(error.ends_with("p64 (64/tcp) and 9935 more"), "{error}");
        }
    }

    #[test]
    fn a_new_name_alone_is_not_a_change() {
        let mut state = state();
        state.take_dirty();
        let renamed = slice("web-v6", &[("fd00:1::5", "web-9")]);
        state.apply(Event::Slice(Change::Apply(renamed)));
        assert!(!state.is_dirty());
        let from = "pod/web-9".parse().unwrap();
        let to = "[fd00::1]:80".parse().unwrap();
        let question = ConnectionQuestion { destination: to, from, namespace: "a".to_owned() };
        assert_eq!(question.resolve(&state).unwrap().len(), 1);
    }
}

//! The canary: a Service of the agent's own, over which the agent probes its data path. It takes the
//! same way as every other Service, from the events of the sources to the kernel, so a probe that is
//! answered proves the whole way.
//!
//! Its client and its endpoint are both the agent, behind a device of its own. The addresses can be no
//! other object's: those of IPv4 are link-local, and those of IPv6 lie in a unique local prefix that was
//! drawn at random (RFC 4193). IPv6 forwards no link-local packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::{
    Change, Control, Endpoint, EndpointPort, EndpointSlice, Event, Family, FrontendKind, Name,
    Protocol, Service, ServiceKey, ServicePort, Settings, Shared, SliceKey, Topology,
    VirtualAddress,
};

/// The namespace of the canary. Its dot keeps it apart from every namespace of a cluster.
pub const NAMESPACE: &str = "kube-ipvs.io";
const SERVICE: &str = "canary";
const PORT: u16 = 80;
const ENDPOINT_PORT: u16 = 8080;
/// The last parts of the addresses.
const CLIENT: u8 = 1;
const ENDPOINT: u8 = 2;
const CLUSTER_IP: u8 = 10;

/// More connections than probes ever leave behind.
const MOST_CONNECTIONS: u32 = 1 << 20;

/// The name of the device on which the canary's client and endpoint are.
pub const CANARY_DEVICE: &str = "ipvs-canary";

/// The way of a probe in one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CanaryPath {
    pub client: IpAddr,
    /// The front end that the client asks.
    pub front_end: VirtualAddress,
    pub endpoint: SocketAddr,
}

/// Returns the way of a probe in a family.
#[must_use]
pub fn path(family: Family) -> CanaryPath {
    CanaryPath {
        client: address(family, CLIENT),
        front_end: VirtualAddress {
            ip: address(family, CLUSTER_IP),
            port: PORT,
            protocol: Protocol::Tcp,
        },
        endpoint: SocketAddr::new(address(family, ENDPOINT), ENDPOINT_PORT),
    }
}

fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(169, 254, 75, last).into(),
        Family::V6 => Ipv6Addr::new(0xfd2a, 0x1511, 0xa028, 0, 0, 0, 0, last.into()).into(),
    }
}

/// Returns whether a Service is the canary, which counts as no Service of the cluster.
#[must_use]
pub fn is(key: &ServiceKey) -> bool {
    key.is(NAMESPACE, SERVICE)
}

/// Adds the canary to a complete list of Services or EndpointSlices, if the settings ask for it.
pub(crate) fn join(event: &mut Event, settings: &Settings) {
    if !settings.canary {
        return;
    }
    match event {
        Event::Service(Change::Replace(services)) => services.push(service(settings)),
        Event::Slice(Change::Replace(slices)) => slices.extend(Family::BOTH.map(slice)),
        _ => {}
    }
}

fn key() -> ServiceKey {
    ServiceKey::new(NAMESPACE, SERVICE)
}

fn service(settings: &Settings) -> Service {
    let port =
        ServicePort { name: Name::default(), protocol: Protocol::Tcp, port: PORT, node_port: None };
    // The defaults are for the cluster's Services: they may leave ClusterIPs out, or limit connections
    // to fewer than the probes of the last seconds.
    let control = Control {
        slow_start: Some(Duration::ZERO),
        max_connections: NonZeroU32::new(MOST_CONNECTIONS),
        drain: Some(Duration::ZERO),
        eject: Some(Duration::ZERO),
        frontends: Some([FrontendKind::ClusterIp].into()),
        ..Control::default()
    };
    Service {
        proxy_name: settings.service_proxy_name.clone(),
        cluster_ips: Family::BOTH.map(|family| address(family, CLUSTER_IP)).into(),
        ports: [port].into(),
        control: Some(control.into()),
        ..Service::named(key())
    }
}

fn slice(family: Family) -> EndpointSlice {
    let port = EndpointPort { name: Name::default(), protocol: Protocol::Tcp, port: ENDPOINT_PORT };
    let endpoint = Endpoint {
        address: address(family, ENDPOINT),
        ready: true,
        serving: true,
        terminating: false,
        weight: 1,
        topology: Shared::from(Topology::default()),
    };
    let mut slice = EndpointSlice {
        key: SliceKey::new(NAMESPACE, &format!("{SERVICE}-{family}")),
        service: key(),
        family,
        ports: Shared::from([port].to_vec()),
        endpoints: [].into(),
        pods: Default::default(),
        triggered: None,
    };
    slice.set_endpoints(vec![(endpoint, None)]);
    slice
}

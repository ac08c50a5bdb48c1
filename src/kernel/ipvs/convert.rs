//! Values of the core as values of IPVS, and back.

use kube_ipvs_core::model::{Backend, Protocol, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::{ServerOperation, lower_threshold};
use netlink_ipvs::ipvs::{
    Connections, Destination, IpvsCommand, Persistence, ServiceId, VirtualService,
};

#[must_use]
pub fn command(operation: &ServerOperation) -> IpvsCommand {
    use ServerOperation::{Add, AddReal, Delete, DeleteReal, Set, SetReal};
    match operation {
        Add(server) => IpvsCommand::AddService(service(server)),
        Set(server) => IpvsCommand::SetService(service(server)),
        Delete(address) => IpvsCommand::DeleteService(id(address)),
        AddReal(address, backend, limit) => {
            IpvsCommand::AddDestination(id(address), destination(backend, *limit))
        }
        SetReal(address, backend, limit) => {
            IpvsCommand::SetDestination(id(address), destination(backend, *limit))
        }
        DeleteReal(address, backend) => {
            IpvsCommand::DeleteDestination(id(address), destination(backend, 0))
        }
    }
}

pub(super) fn id(address: &VirtualAddress) -> ServiceId {
    let VirtualAddress { ip, port, protocol } = *address;
    ServiceId { ip, port, protocol: protocol.number() }
}

/// `None` for a protocol that no Service has.
pub(super) fn address(id: ServiceId) -> Option<VirtualAddress> {
    let protocol = Protocol::from_number(id.protocol)?;
    Some(VirtualAddress { ip: id.ip, port: id.port, protocol })
}

fn service(server: &VirtualServer) -> VirtualService {
    let prefix = server.affinity_prefix;
    VirtualService {
        flags: server.flags,
        persistence: server.affinity_seconds.map(|seconds| Persistence { seconds, prefix }),
        ..VirtualService::new(id(&server.address), server.scheduler.name())
    }
}

/// Returns a virtual server without a limit, which is a property of its real servers.
pub(super) fn server(service: &VirtualService) -> Option<VirtualServer> {
    let scheduler = Scheduler::from_name(&service.scheduler).unwrap_or(Scheduler::Unknown);
    let server = VirtualServer::new(address(service.id)?, scheduler);
    Some(VirtualServer {
        flags: service.flags,
        affinity_seconds: service.persistence.map(|it| it.seconds),
        affinity_prefix: service.persistence.map_or(server.affinity_prefix, |it| it.prefix),
        ..server
    })
}

/// Returns the limit that all real servers have; one that no Service has if they differ.
pub(super) fn limit(destinations: &[(Destination, Connections)]) -> u32 {
    let mut limits = destinations.iter().map(|(it, _)| (it.upper_threshold, it.lower_threshold));
    let first = limits.next().unwrap_or_default();
    let is_ours = first.1 == lower_threshold(first.0) && limits.all(|limit| limit == first);
    if is_ours { first.0 } else { u32::MAX }
}

fn destination(backend: &Backend, limit: u32) -> Destination {
    Destination {
        weight: backend.weight,
        upper_threshold: limit,
        lower_threshold: lower_threshold(limit),
        ..Destination::new(backend.address, backend.port)
    }
}

/// The kernel does not know whether a backend is local, so it is given as not local.
pub(super) fn backend(destination: &Destination) -> Backend {
    Backend {
        address: destination.ip,
        port: destination.port,
        weight: destination.weight,
        local: false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn any_address() -> impl Strategy<Value = VirtualAddress> {
        let protocol = proptest::sample::select(Protocol::ALL.to_vec());
        (any::<IpAddr>(), any::<u16>(), protocol).prop_map(|(ip, port, protocol)| VirtualAddress {
            ip,
            port,
            protocol,
        })
    }

    proptest! {
        #[test]
        fn virtual_servers_round_trip(
            address in any_address(),
            scheduler in proptest::sample::select(Scheduler::ALL.to_vec()),
            affinity_seconds in proptest::option::of(1u32..90_000),
            affinity_prefix in 1u8..33,
        ) {
            let sent = VirtualServer::new(address, scheduler);
            let affinity_prefix = affinity_seconds.map_or(sent.affinity_prefix, |_| affinity_prefix);
            let sent = VirtualServer { affinity_seconds, affinity_prefix, ..sent };
            prop_assert_eq!(server(&service(&sent)), Some(sent));
        }

        #[test]
        fn real_servers_round_trip(address: IpAddr, port: u16, weight: u32, limit in 0..u32::MAX) {
            let sent = Backend { address, port, weight, local: false };
            let received = destination(&sent, limit);
            prop_assert_eq!(backend(&received), sent);
            prop_assert_eq!(super::limit(&[(received, Connections::default())]), limit);
        }
    }
}

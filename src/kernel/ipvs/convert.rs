//! Values of the core as values of IPVS, and back.

use kube_ipvs_core::model::{Backend, Protocol, Scheduler, VirtualAddress, VirtualServer};
use kube_ipvs_core::plan::ServerOperation;
use netlink_ipvs::ipvs::{Destination, IpvsCommand, Persistence, ServiceId, VirtualService};

#[must_use]
pub fn command(operation: &ServerOperation) -> IpvsCommand {
    use ServerOperation::{Add, AddReal, Delete, DeleteReal, Set, SetReal};
    match operation {
        Add(server) => IpvsCommand::AddService(service(server)),
        Set(server) => IpvsCommand::SetService(service(server)),
        Delete(address) => IpvsCommand::DeleteService(id(address)),
        AddReal(address, backend) => IpvsCommand::AddDestination(id(address), destination(backend)),
        SetReal(address, backend) => IpvsCommand::SetDestination(id(address), destination(backend)),
        DeleteReal(address, backend) => {
            IpvsCommand::DeleteDestination(id(address), destination(backend))
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
    let prefix = if server.address.ip.is_ipv4() { 32 } else { 128 };
    VirtualService {
        flags: server.flags,
        persistence: server.affinity_seconds.map(|seconds| Persistence { seconds, prefix }),
        ..VirtualService::new(id(&server.address), server.scheduler.name())
    }
}

pub(super) fn server(service: &VirtualService) -> Option<VirtualServer> {
    Some(VirtualServer {
        address: address(service.id)?,
        scheduler: Scheduler::from_name(&service.scheduler).unwrap_or(Scheduler::Unknown),
        flags: service.flags,
        affinity_seconds: service.persistence.map(|it| it.seconds),
    })
}

fn destination(backend: &Backend) -> Destination {
    Destination { weight: backend.weight, ..Destination::new(backend.address, backend.port) }
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
        ) {
            let flags = scheduler.default_flags();
            let sent = VirtualServer { address, scheduler, flags, affinity_seconds };
            prop_assert_eq!(server(&service(&sent)), Some(sent));
        }

        #[test]
        fn real_servers_round_trip(address: IpAddr, port: u16, weight: u32) {
            let sent = Backend { address, port, weight, local: false };
            prop_assert_eq!(backend(&destination(&sent)), sent);
        }
    }
}

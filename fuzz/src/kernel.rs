//! The kernel's answers, heard as the agent hears them: through a socket, in the course of reading
//! everything back.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{LazyLock, PoisonError};

use ipnet::IpNet;
use kube_ipvs::kernel::firewall::obstacles_over;
use kube_ipvs::kernel::ipvs::command;
use kube_ipvs::kernel::route::Network;
use kube_ipvs_core::model::{Carry, Element, Pool, Protocol as Transport, VirtualAddress};
use kube_ipvs_core::plan::{FilterOperation, FlowOperation, Operation, ServerOperation};
use netlink_ipvs::ipvs::encode;
use netlink_ipvs::{Batch, Subsystem, messages};

use super::replay::{IPVS_FAMILY, kernel, socket};

/// Elements that are written and read again.
const MOST_REWRITTEN: usize = 64;
/// Prefixes that one range of IPv6 addresses can fall into.
const MOST_PREFIXES: usize = 254;

/// Virtual servers, real servers and their counts. What was read is read again as it is written.
pub(crate) fn ipvs(data: &[u8]) {
    let (mut reader, _) = kernel(Subsystem::Generic, data);
    let count = messages(data).count();
    if let Ok(traffic) = reader.ipvs.traffic() {
        assert!(traffic.len() <= count);
    }
    let Ok(observed) = reader.observe() else { return };
    assert!(observed.pools.len() <= count);
    if let Some(pool) = observed.pools.first() {
        assert_eq!(read_pools(&written(pool)).first(), Some(pool));
    }
}

fn written(pool: &Pool) -> Vec<u8> {
    let mut batch = Batch::default();
    encode(&mut batch, IPVS_FAMILY, &command(&ServerOperation::Add(pool.server)));
    for backend in pool.backends.iter() {
        encode(
            &mut batch,
            IPVS_FAMILY,
            &command(&ServerOperation::AddReal(
                pool.server.address,
                *backend,
                pool.server.max_connections,
            )),
        );
    }
    batch.bytes().to_vec()
}

fn read_pools(said: &[u8]) -> Vec<Pool> {
    let observed = kernel(Subsystem::Generic, said).0.observe();
    observed.map(|observed| observed.pools).unwrap_or_default()
}

/// Chains, sets, rules and elements of our tables. What was read is read again as it is written.
pub(crate) fn nft(data: &[u8]) {
    let read = read_elements(data);
    let most = data.len() / 4 * MOST_PREFIXES;
    assert!(read.len() <= most, "{} elements of {} bytes", read.len(), data.len());
    let elements: BTreeSet<Element> = read.iter().copied().take(MOST_REWRITTEN).collect();
    if !elements.is_empty() {
        let mut said = TABLES.clone();
        said.extend(sent(elements.iter().copied().map(FilterOperation::Add)));
        assert_eq!(read_elements(&said).into_iter().collect::<BTreeSet<_>>(), elements);
    }
}

fn read_elements(said: &[u8]) -> Vec<Element> {
    let observed = kernel(Subsystem::Netfilter, said).0.observe();
    observed.map(|observed| observed.elements).unwrap_or_default()
}

/// What creates our tables, which is also what the kernel tells of them.
static TABLES: LazyLock<Vec<u8>> = LazyLock::new(|| sent([FilterOperation::CreateTables]));

fn sent(operations: impl IntoIterator<Item = FilterOperation>) -> Vec<u8> {
    let (mut kernel, sent) = kernel(Subsystem::Netfilter, &[]);
    let operations: Vec<Operation> = operations.into_iter().map(Operation::Filter).collect();
    let outcomes = kernel.apply(&operations);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Our device and routes, and the rules of an earlier version; the node's addresses, and where its routes lead.
pub(crate) fn route(data: &[u8]) {
    let (mut kernel, _) = kernel(Subsystem::Route, data);
    if let Ok(observed) = kernel.observe() {
        // Two families.
        assert!(observed.routes.len() <= 2 * messages(data).count());
    }
    let mut network = Network::over(socket(Subsystem::Route, data));
    if let Ok(found) = network.addresses() {
        assert!(found.len() <= messages(data).count());
        assert!(found.is_sorted() && !found.iter().any(|ip| ip.is_loopback()));
    }
    if let Ok(found) = network.routes() {
        assert!(found.len() <= messages(data).count());
        assert!(found.is_sorted_by(|one, next| one < next && !one.contains(next)));
    }
}

/// Chains of other programs and their rules. Each obstacle has a remedy, and what stands in the way where
/// all is carried does so otherwise, too.
pub(crate) fn firewall(data: &[u8]) {
    let ranges: Vec<IpNet> = [([10, 96, 0, 0].into(), 12), ([0xfd00; 8].into(), 16)]
        .into_iter()
        .filter_map(|(ip, length): (IpAddr, u8)| IpNet::new(ip, length).ok())
        .collect();
    let found = |carry: &Carry| {
        obstacles_over(&mut socket(Subsystem::Netfilter, data), &ranges, carry).unwrap_or_default()
    };
    let (by_default, carried) = (found(&Carry::FrontEnds), found(&Carry::All));
    assert!(carried.len() <= by_default.len() && by_default.len() <= messages(data).count());
    assert!(by_default.iter().chain(&carried).all(|obstacle| !obstacle.mend.is_empty()));
}

/// Where sockets of the node listen: one of IPv6 perhaps for both families, asked for by protocol.
pub(crate) fn listening(data: &[u8]) {
    let (mut kernel, _) = kernel(Subsystem::Sockets, data);
    let Ok(found) = kernel.listening() else { return };
    assert!(found.len() <= 2 * Transport::ALL.len() * messages(data).count());
    assert!(found.is_sorted_by(|one, next| one < next));
    assert!(found.iter().all(|at| at.port != 0 && at.ip == at.ip.to_canonical()));
}

/// Entries of connection tracking that are in the way.
pub(crate) fn conntrack(data: &[u8]) {
    let (mut kernel, _) = kernel(Subsystem::Netfilter, data);
    let flow = |ip, backend| {
        let frontend = VirtualAddress { ip, port: 53, protocol: Transport::Udp };
        Operation::Flow(FlowOperation { frontend, backend, carrier: None })
    };
    let backend = ([10, 244, 1, 5], 5353).into();
    kernel.apply(&[
        flow([10, 96, 0, 10].into(), None),
        flow([10, 96, 0, 11].into(), Some(backend)),
        flow([0xfd00, 0, 0, 0, 0, 0, 0, 0xa].into(), None),
    ]);
    let deleted: usize = kernel.conntrack.take_sweeps().iter().map(|sweep| sweep.deleted).sum();
    assert!(deleted <= 3 * messages(data).count());
}

//! The Services that clients connect to. Of the pods of the other node, `P3` is a client only: a packet
//! from a pod elsewhere that is balanced to that very pod would carry its own address.

use std::io;

use kube_ipvs_core::model::{Family, Protocol};

use super::row::{Row, exposed, inside};
use crate::context::TestContext;
use crate::lab::Host::{N1, N2, P1, P2, P4};
use crate::lab::{Server, product};

/// Where endpoints in the nodes' own network listen.
const HOST_NETWORK_PORT: u16 = 7070;
/// One Service's node port and another's port.
const SHARED_PORT: u16 = 30_080;

/// All rows of the table.
pub(super) fn rows() -> Vec<Row> {
    [policies(), endpoints(), source_ranges(), ports_and_families(), not_ours()]
        .into_iter()
        .flatten()
        .zip(1..)
        .map(|(row, number)| row.at(number))
        .collect()
}

/// Servers in the nodes' own network.
pub(super) fn host_network_servers(t: &TestContext<'_>) -> io::Result<Vec<Server>> {
    product([N1, N2], [Protocol::Tcp, Protocol::Udp])
        .flat_map(|(node, protocol)| Family::BOTH.map(|family| (node, family, protocol)))
        .map(|(node, family, protocol)| {
            Server::start(t.host(node), node, family, HOST_NETWORK_PORT, protocol)
        })
        .collect()
}

fn policies() -> Vec<Row> {
    vec![
        inside("cluster-ip", |e| e.ready_on(P1).ready_on(P4)),
        exposed("cluster", |e| e.ready_on(P1).ready_on(P2).ready_on(P4)).node_port(SHARED_PORT),
        exposed("cluster-elsewhere", |e| e.ready_on(P4)),
        exposed("cluster-none", |e| e),
        inside("internal-here", |e| e.ready_on(P1).ready_on(P4)).internal_local(),
        inside("internal-elsewhere", |e| e.ready_on(P4)).internal_local(),
        inside("internal-none", |e| e).internal_local(),
        exposed("external-here", |e| e.ready_on(P1).ready_on(P4)).external_local(),
        exposed("external-elsewhere", |e| e.ready_on(P4)).external_local(),
        exposed("external-none", |e| e).external_local(),
        exposed("internal-exposed-here", |e| e.ready_on(P2).ready_on(P4)).internal_local(),
        exposed("internal-exposed-elsewhere", |e| e.ready_on(P4)).internal_local(),
        exposed("both-here", |e| e.ready_on(P1).ready_on(P4)).internal_local().external_local(),
        exposed("both-elsewhere", |e| e.ready_on(P4)).internal_local().external_local(),
        exposed("both-none", |e| e).internal_local().external_local(),
    ]
}

fn endpoints() -> Vec<Row> {
    vec![
        inside("not-ready", |e| e.not_ready_on(P1).without_conditions_on(P4)),
        inside("draining-beside-ready", |e| e.terminating_on(P1).ready_on(P4)),
        inside("draining-alone", |e| e.terminating_on(P1).terminating_on(P4).not_ready_on(P2)),
        exposed("draining-here", |e| e.terminating_on(P1).ready_on(P4)).external_local(),
        exposed("draining-beside-ready-here", |e| e.terminating_on(P1).ready_on(P2))
            .external_local(),
        inside("zone", |e| {
            e.ready_on(P1).for_zones(&["zone-1"]).ready_on(P4).for_zones(&["zone-2"])
        }),
        inside("zone-of-some", |e| e.ready_on(P1).for_zones(&["zone-1"]).ready_on(P4)),
        inside("node", |e| e.ready_on(P2).for_nodes(&["n1"]).ready_on(P4).for_nodes(&["n2"])),
        exposed("hairpin", |e| e.ready_on(P1)),
        exposed("hairpin-local", |e| e.ready_on(P1)).internal_local().external_local(),
        exposed("affinity", |e| e.ready_on(P1).ready_on(P2).ready_on(P4)).affinity(),
        exposed("affinity-local", |e| e.ready_on(P1).ready_on(P2).ready_on(P4))
            .affinity()
            .external_local(),
        exposed("host-network", |e| e.ready_on(N1).ready_on(N2)).target(HOST_NETWORK_PORT),
        exposed("host-network-local", |e| e.ready_on(N1).ready_on(N2))
            .target(HOST_NETWORK_PORT)
            .internal_local()
            .external_local(),
    ]
}

/// `192.168.50.100` is the external client, `192.168.50.1` this node.
fn source_ranges() -> Vec<Row> {
    let outsider = ["192.168.50.100/32", "fd00:50::100/128"];
    let pods = ["10.244.0.0/16", "fd00:244::/32"];
    vec![
        exposed("ranges-outsider", |e| e.ready_on(P1).ready_on(P4)).source_ranges(&outsider),
        exposed("ranges-pods", |e| e.ready_on(P1).ready_on(P4)).source_ranges(&pods),
        exposed("ranges-overlapping", |e| e.ready_on(P4)).source_ranges(&[
            "192.168.50.0/24",
            " 192.168.50.100/32 ",
            "fd00:50::/64",
        ]),
        exposed("ranges-nobody", |e| e.ready_on(P1))
            .source_ranges(&["192.0.2.0/24", "2001:db8:ffff::/48"]),
        exposed("ranges-everybody", |e| e.ready_on(P1)).source_ranges(&[
            "192.0.2.0/24",
            "0.0.0.0/0",
            "::/0",
        ]),
        exposed("ranges-of-one-family", |e| e.ready_on(P1)).source_ranges(&["2001:db8:ffff::/48"]),
        exposed("ranges-local", |e| e.ready_on(P1).ready_on(P4))
            .source_ranges(&outsider)
            .external_local(),
        exposed("ranges-local-elsewhere", |e| e.ready_on(P4)).source_ranges(&pods).external_local(),
        exposed("ranges-none", |e| e).source_ranges(&outsider),
    ]
}

fn ports_and_families() -> Vec<Row> {
    vec![
        inside("port-of-a-node-port", |e| e.ready_on(P4)).port(SHARED_PORT),
        exposed("sctp", |e| e.ready_on(P1).ready_on(P4)).protocols(Protocol::ALL),
        exposed("udp-only", |e| e.ready_on(P1)).protocols([Protocol::Udp]),
        exposed("v4-only", |e| e.ready_on(P1)).families([Family::V4]),
        exposed("v6-only", |e| e.ready_on(P1).ready_on(P4)).families([Family::V6]),
        inside("v6-first", |e| e.ready_on(P1)).families([Family::V6, Family::V4]),
    ]
}

/// Services that are left alone, though they have endpoints.
fn not_ours() -> Vec<Row> {
    vec![
        exposed("of-another-proxy", |e| e.ready_on(P1))
            .edit(|service| service.label("service.kubernetes.io/service-proxy-name", "other")),
        exposed("behind-a-proxy", |e| e.ready_on(P1)).edit(|service| service.ip_mode("Proxy")),
        inside("headless", |e| e.ready_on(P1))
            .families([])
            .edit(|service| service.cluster_ip("None")),
        inside("external-name", |e| e.ready_on(P1))
            .families([])
            .edit(|service| service.external_name("db.example.org")),
    ]
}

//! Where clients lookup: at everything that the Services of the table ask for, and beside it.

use std::net::IpAddr;

use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};

use super::row::Row;
use crate::lab::{Host, NODE_PORT_OF_DAEMON, product};

/// Addresses that no Service has: of the service ranges, and of their images on this node.
const NOBODYS: [&str; 4] = ["10.96.99.99", "fd00:96::9999", "250.96.99.99", "fc00:96::9999"];

/// Every front end that the table asks for, an unknown port of each of its addresses, and addresses
/// that nobody has.
pub(super) fn of(rows: &[Row]) -> Vec<VirtualAddress> {
    let mut all: Vec<VirtualAddress> = rows.iter().flat_map(of_row).collect();
    for (ip, protocol) in product(NOBODYS, [Protocol::Tcp, Protocol::Udp]) {
        let ip = ip.parse().expect("an address");
        all.push(VirtualAddress { ip, port: 80, protocol });
    }
    all
}

fn of_row(row: &Row) -> Vec<VirtualAddress> {
    let own: Vec<IpAddr> = row.families.iter().flat_map(|family| row.addresses(*family)).collect();
    let mut all = Vec::new();
    for protocol in &row.protocols {
        let at = |ip, port| VirtualAddress { ip, port, protocol: *protocol };
        all.extend(own.iter().chain(&row.images()).map(|ip| at(*ip, row.port)));
        if let Some(port) = row.exposed_port() {
            all.extend(Family::BOTH.map(|family| at(Host::N1.ip(family), port)));
        }
    }
    // A process of the node listens there on all of its addresses.
    for (ip, protocol) in product(own, [Protocol::Tcp, Protocol::Udp]) {
        all.push(VirtualAddress { ip, port: NODE_PORT_OF_DAEMON, protocol });
    }
    all
}

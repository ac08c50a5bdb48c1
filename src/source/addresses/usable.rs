//! Which of a machine's addresses are the node's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};

/// The addresses of the node that clients can use, sorted.
pub(super) fn node_addresses(messages: &[AddressMessage], hidden_devices: &[u32]) -> Vec<IpAddr> {
    let addresses: BTreeSet<IpAddr> = messages
        .iter()
        .filter(|message| !hidden_devices.contains(&message.header.index) && is_usable(message))
        .filter_map(own_address)
        .filter(|address| !address.is_loopback() && !is_ipv6_link_local(*address))
        .collect();
    addresses.into_iter().collect()
}

/// Whether duplicate address detection is over and went well.
fn is_usable(message: &AddressMessage) -> bool {
    let header = message.header.flags;
    let all = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    !header.intersects(AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed)
        && !all.is_some_and(|f| f.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed))
}

/// The node's end of an address: on a point-to-point device `Address` is the peer's.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(local) => return Some(*local),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    address
}

fn is_ipv6_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn message(device: u32, attributes: Vec<AddressAttribute>) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = device;
        message.attributes = attributes;
        message
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn keeps_what_clients_can_use() {
        let address = |device, text| message(device, vec![AddressAttribute::Address(ip(text))]);
        let mut tentative = address(2, "fd00::7");
        tentative.attributes.push(AddressAttribute::Flags(AddressFlags::Tentative));
        let mut failed = address(2, "fd00::8");
        failed.header.flags = AddressHeaderFlags::Dadfailed;
        let messages = [
            address(1, "127.0.0.1"),
            address(1, "::1"),
            address(2, "192.0.2.9"),
            address(3, "192.0.2.9"),
            address(2, "fe80::1"),
            address(2, "192.0.2.1"),
            address(2, "fd00::1"),
            address(9, "10.96.0.1"),
            tentative,
            failed,
        ];
        let found = node_addresses(&messages, &[9]);
        assert_eq!(found, [ip("192.0.2.1"), ip("192.0.2.9"), ip("fd00::1")]);
    }

    #[test]
    fn a_peer_is_not_an_address_of_the_node() {
        let attributes = vec![
            AddressAttribute::Address(ip("192.0.2.2")),
            AddressAttribute::Local(ip("192.0.2.1")),
        ];
        assert_eq!(node_addresses(&[message(2, attributes)], &[]), [ip("192.0.2.1")]);
    }
}

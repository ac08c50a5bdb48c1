//! Address ranges: disjoint sets of them, and the images of service ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The same addresses as disjoint ranges, sorted. nf_tables interval sets take no overlaps.
#[must_use]
pub fn aggregate(ranges: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let ranges: Vec<IpNet> = ranges.into_iter().map(|range| range.trunc()).collect();
    let mut disjoint = IpNet::aggregate(&ranges);
    disjoint.sort_unstable();
    disjoint
}

/// Whether an address lies in one of the ranges.
#[must_use]
pub fn contain(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
}

/// The image of a ClusterIP: the address of the pool of all endpoints where the ClusterIP's own
/// pool holds local ones only. 10.96.0.10 → 250.96.0.10; fd00:10:96::a → fc00:10:96::a.
/// No address is its own image.
#[must_use]
pub fn image(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let bits = 0xf000_0000 | ip.to_bits();
            let distinct = if bits == ip.to_bits() { bits ^ 0x0800_0000 } else { bits };
            Ipv4Addr::from_bits(distinct).into()
        }
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[0] = if octets[0] == 0xfc { 0xfd } else { 0xfc };
            Ipv6Addr::from(octets).into()
        }
    }
}

/// The range of the images of a range's addresses.
#[must_use]
pub(super) fn image_range(range: IpNet) -> IpNet {
    match (range, image(range.network())) {
        // A range wider than what the image keeps of an address has the whole image space.
        (IpNet::V4(net), IpAddr::V4(ip)) => {
            Ipv4Net::new_assert(ip, net.prefix_len().max(4)).trunc().into()
        }
        (IpNet::V6(net), IpAddr::V6(ip)) => {
            Ipv6Net::new_assert(ip, net.prefix_len().max(8)).trunc().into()
        }
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_keep_the_low_bits() {
        for (ip, expected) in [
            ("10.96.0.10", "250.96.0.10"),
            ("192.168.3.4", "240.168.3.4"),
            ("250.96.0.10", "242.96.0.10"),
            ("fd00:10:96::a", "fc00:10:96::a"),
            ("fc00:10:96::a", "fd00:10:96::a"),
        ] {
            assert_eq!(Ok(image(ip.parse().expect("address"))), expected.parse());
        }
    }

    #[test]
    fn ranges_become_disjoint() {
        let nets = ["10.0.0.0/24", "10.0.0.16/28", "10.0.1.0/24", "fd00::/64"];
        let nets = nets.map(|net| net.parse::<IpNet>().expect("range"));
        let expected = ["10.0.0.0/23", "fd00::/64"].map(|net| net.parse().expect("range"));
        assert_eq!(aggregate(nets), expected);
    }
}

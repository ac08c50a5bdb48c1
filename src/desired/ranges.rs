//! Address ranges: disjoint sets of them, and the images of service ranges.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::model::image;

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
    fn ranges_become_disjoint() {
        let nets = ["10.0.0.0/24", "10.0.0.16/28", "10.0.1.0/24", "fd00::/64"];
        let nets = nets.map(|net| net.parse::<IpNet>().expect("range"));
        let expected = ["10.0.0.0/23", "fd00::/64"].map(|net| net.parse().expect("range"));
        assert_eq!(aggregate(nets), expected);
    }
}

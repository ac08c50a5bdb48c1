//! Sets of address ranges.

use std::net::IpAddr;

use ipnet::IpNet;

/// Returns the same addresses as disjoint ranges, sorted. nf_tables interval sets accept no
/// overlaps.
#[must_use]
pub fn aggregate(ranges: impl IntoIterator<Item = IpNet>) -> Vec<IpNet> {
    let ranges: Vec<IpNet> = ranges.into_iter().map(|range| range.trunc()).collect();
    let mut disjoint = IpNet::aggregate(&ranges);
    disjoint.sort_unstable();
    disjoint
}

/// Returns whether an address lies in one of the ranges.
#[must_use]
pub fn contain(ranges: &[IpNet], ip: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&ip))
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

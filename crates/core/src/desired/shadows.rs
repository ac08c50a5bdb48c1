//! Assignment of shadow ranges to service ranges.

use ipnet::IpNet;

use crate::model::Shadow;

/// The shadow addresses of a service range; `None` if all are occupied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShadowsOf {
    pub range: IpNet,
    /// For the policy of the ClusterIP, if those pools are not at the ClusterIP.
    pub own: Option<Shadow>,
    /// For the other policy.
    pub other: Option<Shadow>,
}

/// Assigns the shadow addresses of all ranges: the usual ones or their spares. Ranges in `taken`
/// have another use and are avoided if possible.
///
/// A shadow address does not keep all bits of an address, so several ranges, or the addresses of a
/// very wide range, may have the same one. Two Services never share a pool: the first range gets
/// the shadow addresses. If ClusterIPs are not carried, the pools of their own policy rarely need a
/// shadow address, and come last.
pub(super) fn assign(ranges: &[IpNet], taken: &[IpNet], are_carried: bool) -> Vec<ShadowsOf> {
    let of_range = |range: &IpNet| ShadowsOf { range: *range, own: None, other: None };
    let mut assigned: Vec<_> = ranges.iter().map(of_range).collect();
    let mut used = ranges.to_vec();
    for is_own in [are_carried, !are_carried] {
        for ShadowsOf { range, own, other } in &mut assigned {
            let places = match is_own {
                true => [Shadow::Second, Shadow::Fourth],
                false => [Shadow::First, Shadow::Third],
            };
            let is_free = |shadow: &Shadow| {
                let at = shadow.of_range(*range);
                // A shorter prefix would map several addresses of the range to the same shadow
                // address.
                at.prefix_len() == range.prefix_len() && !overlaps_any(&at, &used)
            };
            let free: Vec<_> = places.into_iter().filter(is_free).collect();
            let is_empty = |shadow: &&Shadow| !overlaps_any(&shadow.of_range(*range), taken);
            let shadow = free.iter().find(is_empty).or(free.first()).copied();
            used.extend(shadow.map(|shadow| shadow.of_range(*range)));
            *(if is_own { own } else { other }) = shadow;
        }
    }
    assigned
}

fn overlaps_any(range: &IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| range.contains(other) || other.contains(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ranges with equal shadow ranges, and unrelated ones.
    fn ranges() -> impl Strategy<Value = Vec<IpNet>> {
        let ranges = [
            "10.96.0.0/16",
            "10.96.0.0/12",
            "26.96.0.0/16",
            "2.96.0.0/16",
            "6.96.0.0/16",
            "250.96.0.0/16",
            "10.0.0.0/8",
            "172.30.0.0/16",
            "0.0.0.0/2",
            "fd00::/108",
            "fd80::/108",
            "fd40::/108",
            "fdc0::/108",
            "fe80::/108",
            "fc00::/108",
            "fc80::/64",
            "fd00::/8",
            "fc00::/7",
        ];
        let ranges = ranges.map(|range| range.parse::<IpNet>().expect("a range"));
        proptest::sample::subsequence(ranges.to_vec(), 1..6).prop_map(super::super::aggregate)
    }

    proptest! {
        #[test]
        fn no_two_pools_have_one_place(ranges in ranges(), taken in ranges(), are_carried: bool) {
            let assigned = assign(&ranges, &taken, are_carried);
            let places = assigned.iter().flat_map(|shadows| {
                let at = |shadow: Option<Shadow>| shadow.map(|it| it.of_range(shadows.range));
                [Some(shadows.range), at(shadows.own), at(shadows.other)].into_iter().flatten()
            });
            let places: Vec<_> = places.collect();
            for (index, place) in places.iter().enumerate() {
                let (_, others) = places.split_at(index + 1);
                prop_assert!(!overlaps_any(place, others), "{place} in {places:?}");
            }
            // A single range always has both.
            if let [only] = &assigned[..] && only.range.prefix_len() >= 16 {
                prop_assert!(only.own.is_some() && only.other.is_some(), "{only:?}");
            }
        }
    }
}

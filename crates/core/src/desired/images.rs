//! At which images the pools of a service range stand.

use ipnet::IpNet;

use crate::model::Shadow;

/// At which images the pools of a service range stand; `None` where no place is left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImagesOf {
    /// The range.
    pub range: IpNet,
    /// Those of the ClusterIP's own policy, if they do not stand at the ClusterIP.
    pub own: Option<Shadow>,
    /// Those of the other policy.
    pub other: Option<Shadow>,
}

/// Places the pools of all ranges, each at the usual image or at its spare. `taken` are ranges in which
/// something else lies: to be avoided, unless there is nothing better.
///
/// An image does not keep all of an address, so those of several ranges, or of a very wide one, may be the
/// same. Two Services never share a pool: what comes first has the place. If none of the ClusterIPs
/// `are_carried`, their pools need another place in a few cases alone, and come last.
pub(super) fn place(ranges: &[IpNet], taken: &[IpNet], are_carried: bool) -> Vec<ImagesOf> {
    let of_range = |range: &IpNet| ImagesOf { range: *range, own: None, other: None };
    let mut placed: Vec<_> = ranges.iter().map(of_range).collect();
    let mut had = ranges.to_vec();
    for is_own in [are_carried, !are_carried] {
        for ImagesOf { range, own, other } in &mut placed {
            let places = match is_own {
                true => [Shadow::Second, Shadow::Fourth],
                false => [Shadow::First, Shadow::Third],
            };
            let is_free = |image: &Shadow| {
                let at = image.of_range(*range);
                // Else not even those of the range are apart.
                at.prefix_len() == range.prefix_len() && !overlaps_any(&at, &had)
            };
            let free: Vec<_> = places.into_iter().filter(is_free).collect();
            let is_empty = |image: &&Shadow| !overlaps_any(&image.of_range(*range), taken);
            let image = free.iter().find(is_empty).or(free.first()).copied();
            had.extend(image.map(|image| image.of_range(*range)));
            *(if is_own { own } else { other }) = image;
        }
    }
    placed
}

fn overlaps_any(range: &IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| range.contains(other) || other.contains(range))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Ranges whose images are alike, and some that have nothing to do with each other.
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
            let placed = place(&ranges, &taken, are_carried);
            let places = placed.iter().flat_map(|images| {
                let at = |image: Option<Shadow>| image.map(|it| it.of_range(images.range));
                [Some(images.range), at(images.own), at(images.other)].into_iter().flatten()
            });
            let places: Vec<_> = places.collect();
            for (index, place) in places.iter().enumerate() {
                let (_, others) = places.split_at(index + 1);
                prop_assert!(!overlaps_any(place, others), "{place} in {places:?}");
            }
            // A range by itself always has them.
            if let [only] = &placed[..] && only.range.prefix_len() >= 16 {
                prop_assert!(only.own.is_some() && only.other.is_some(), "{only:?}");
            }
        }
    }
}

//! The names of a slice's pods, which only people read.

use std::fmt;
use std::net::SocketAddr;

use super::{EndpointSlice, Name, cut, one_line};

/// The longest name of a Kubernetes object, in bytes. A longer name is cut.
const LONGEST: usize = 253;

/// The names of a slice's pods in the order of its endpoints, packed: a cluster has ten times as
/// many endpoints as Services, and hardly any name is ever shown.
///
/// What a name begins with is there once. The pods of a Deployment differ in their last five
/// letters, and their names often begin like the slice's.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PodNames(
    /// Empty without a name. Otherwise the number of bytes that all names share with the slice's;
    /// then the text that they share after these; then the rest of each. A text follows its length
    /// in one byte. The length of a rest is one more, and 0 stands for an endpoint without a pod.
    Box<[u8]>,
);

impl PodNames {
    /// Packs names, in the order of the endpoints of the slice `slice`.
    #[must_use]
    pub fn pack(slice: &str, names: &[Option<&str>]) -> Self {
        let names = || names.iter().map(|name| name.map(|name| cut(name, LONGEST).as_bytes()));
        let Some(first) = names().flatten().next() else { return Self::default() };
        let common = names().flatten().map(|name| shared(first, name)).min().unwrap_or_default();
        let of_slice = shared(slice.as_bytes(), first).min(common);
        let middle = first.get(of_slice..common).unwrap_or_default();
        let rest = |name: Option<&'_ [u8]>| name.map_or(0, |name| name.len() - common);
        let size = names().map(|name| 1 + rest(name)).sum::<usize>() + 2 + middle.len();
        let mut packed = Vec::with_capacity(size);
        packed.extend([of_slice as u8, middle.len() as u8]);
        packed.extend(middle);
        for name in names() {
            let rest = name.map(|name| name.get(common..).unwrap_or_default());
            packed.push(rest.map_or(0, |rest| rest.len() as u8 + 1));
            packed.extend(rest.unwrap_or_default());
        }
        Self(packed.into())
    }

    /// Returns the names in the order of the endpoints of the slice `slice`; none if no endpoint has
    /// a name.
    pub fn unpack<'a>(&'a self, slice: &'a str) -> impl Iterator<Item = Option<String>> + 'a {
        let ([of_slice, middle], rests) = self.parts(slice);
        rests.map(move |rest| String::from_utf8([of_slice, middle, rest?].concat()).ok())
    }

    /// Returns the name of an endpoint by its index.
    #[must_use]
    pub fn get(&self, slice: &str, index: usize) -> Option<String> {
        let ([of_slice, middle], mut rests) = self.parts(slice);
        String::from_utf8([of_slice, middle, rests.nth(index)??].concat()).ok()
    }

    /// Returns the indices of the endpoints with the name `name`.
    pub fn positions<'a>(
        &'a self,
        slice: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = usize> + 'a {
        let ([of_slice, middle], rests) = self.parts(slice);
        let name = name.as_bytes().strip_prefix(of_slice);
        let name = name.and_then(|name| name.strip_prefix(middle));
        let matching = rests.enumerate().filter(move |(_, rest)| name.is_some() && *rest == name);
        matching.map(|(index, _)| index)
    }

    /// Returns what all names begin with, in two parts, and the rest of each.
    fn parts<'a>(
        &'a self,
        slice: &'a str,
    ) -> ([&'a [u8]; 2], impl Iterator<Item = Option<&'a [u8]>>) {
        let (&of_slice, rest) = self.0.split_first().unwrap_or((&0, &[]));
        let of_slice = slice.as_bytes().get(..of_slice.into()).unwrap_or_default();
        let (middle, mut rest) = text(rest, 0).unwrap_or_default();
        let rests = std::iter::from_fn(move || {
            let (name, after) = match rest.split_first()? {
                (0, after) => (None, after),
                _ => text(rest, 1).map(|(name, after)| (Some(name), after))?,
            };
            rest = after;
            Some(name)
        });
        ([of_slice, middle], rests)
    }
}

impl fmt::Debug for PodNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

/// Returns how many bytes both begin with.
fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Splits a text, which follows its length, from the bytes after it.
fn text(bytes: &[u8], offset: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(length.checked_sub(offset)?.into())
}

/// What people call an endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointName {
    pub pod: Option<String>,
    pub node: Option<Name>,
    pub zone: Option<Name>,
}

impl EndpointName {
    /// Returns a name without a zone.
    #[must_use]
    pub fn new(pod: Option<&str>, node: Option<&str>) -> Self {
        Self { pod: pod.map(str::to_owned), node: node.map(Into::into), zone: None }
    }

    /// Returns the name of an endpoint by its index in its slice, the pod with its namespace.
    #[must_use]
    pub fn in_namespace(slice: &EndpointSlice, index: usize) -> Option<Self> {
        let topology = &slice.endpoints.get(index)?.topology;
        let pod = slice.pods.get(slice.key.name(), index);
        Some(Self {
            pod: pod.map(|pod| format!("{}/{pod}", slice.service.namespace())),
            node: topology.node.clone(),
            zone: topology.zone.clone(),
        })
    }

    /// Returns the name of the endpoint with an address and port in the slices of its Service. If
    /// several have it, the same counts as in an [`EndpointSet`](super::EndpointSet).
    #[must_use]
    pub fn find<'a>(
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
        at: SocketAddr,
    ) -> Option<Self> {
        let has_port = |slice: &&EndpointSlice| slice.ports.iter().any(|it| it.port == at.port());
        let found = slices.into_iter().filter(has_port).filter_map(|slice| {
            let index = slice.position(at.ip())?;
            Some((slice, index, slice.endpoints.get(index)?))
        });
        let (slice, index, endpoint) = found.min_by_key(|(slice, _, endpoint)| {
            (endpoint.terminating, !endpoint.is_ready(), &slice.key)
        })?;
        let pod = slice.pods.get(slice.key.name(), index);
        let (node, zone) = (endpoint.topology.node.clone(), endpoint.topology.zone.clone());
        Some(Self { pod, node, zone })
    }
}

impl fmt::Display for EndpointName {
    /// Formats the name as it follows an address: ` (pod on node)`, or nothing. The names are what
    /// the authors of objects wrote: control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = self.pod.as_deref().map(one_line);
        let node = self.node.as_deref().map(one_line);
        match (pod, node) {
            (Some(pod), Some(node)) => write!(f, " ({pod} on {node})"),
            (Some(pod), None) => write!(f, " ({pod})"),
            (None, Some(node)) => write!(f, " (on {node})"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_deployments_names_take_six_bytes_each() {
        let names = ["chat-7d9f8c6b54-x2x9z", "chat-7d9f8c6b54-bbbbb", "chat-7d9f8c6b54-x2zzz"];
        let packed = PodNames::pack("chat-q7p4d", &names.map(Some));
        assert_eq!(packed.0.len(), 2 + "7d9f8c6b54-".len() + 3 * 6, "{packed:?}");
        assert_eq!(PodNames::pack("chat-q7p4d", &[None, None]), PodNames::default());
    }

    proptest! {
        #[test]
        fn names_are_unpacked_as_they_were_packed(
            slice in "a?b?ü?",
            names in vec(option::weighted(0.9, "a{0,3}b?[ü\0é]?.{0,3}"), 0..5),
        ) {
            let given: Vec<_> = names.iter().map(Option::as_deref).collect();
            let packed = PodNames::pack(&slice, &given);
            let mut unpacked: Vec<_> = packed.unpack(&slice).collect();
            unpacked.resize(names.len(), None);
            for (index, name) in names.iter().enumerate() {
                prop_assert_eq!(&packed.get(&slice, index), name);
                if let Some(name) = name {
                    let expected = (0..names.len()).filter(|at| names[*at].as_ref() == Some(name));
                    let positions = packed.positions(&slice, name);
                    prop_assert_eq!(positions.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(unpacked, names);
        }

        #[test]
        fn a_long_name_is_cut(letter in "[aü]", length in 200..400usize) {
            let name = letter.repeat(length);
            let packed = PodNames::pack("", &[Some(&name), None, Some("b")]);
            let unpacked: Vec<_> = packed.unpack("").collect();
            let cut = cut(&name, LONGEST).to_owned();
            prop_assert_eq!(unpacked, [Some(cut), None, Some("b".to_owned())]);
        }
    }
}

//! Sets and maps with the types of their keys and values.

use kube_ipvs_core::model::Family;

use super::constants::set as nfta;

/// The type of a field of a key or value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Datatype {
    /// `ipv4_addr` or `ipv6_addr`.
    Address(Family),
    /// `inet_proto`.
    Protocol,
    /// `inet_service`, big endian.
    Port,
    /// `ifname`, padded with zeros.
    Interface,
}

impl Datatype {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ipv4_addr" => Self::Address(Family::V4),
            "ipv6_addr" => Self::Address(Family::V6),
            "inet_proto" => Self::Protocol,
            "inet_service" => Self::Port,
            "ifname" => Self::Interface,
            _ => return None,
        })
    }

    /// Returns nft's number of the type. The kernel only stores it.
    fn id(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Returns the number of bytes of a value.
    pub(super) fn len(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 4,
            Self::Address(Family::V6) | Self::Interface => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// Returns the number of 32-bit registers that a value occupies in a concatenation.
    pub(super) fn registers(self) -> u32 {
        self.len().div_ceil(4)
    }
}

/// A field, or the fields of a concatenation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Layout(pub(super) Vec<Datatype>);

impl Layout {
    /// Parses nft's `a . b . c`.
    pub(super) fn of(words: &[&str]) -> Option<Self> {
        let field = |words: &[&str]| Datatype::named(words.first()?);
        words.split(|word| *word == ".").map(field).collect::<Option<_>>().map(Self)
    }

    /// Returns the type number: six bits per field, the first field highest.
    pub(super) fn id(&self) -> u32 {
        self.0.iter().fold(0, |id, field| id << 6 | field.id())
    }

    pub(super) fn len(&self) -> u32 {
        match self.0.as_slice() {
            [field] => field.len(),
            fields => fields.iter().map(|field| 4 * field.registers()).sum(),
        }
    }
}

/// A named set, or a map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: Layout,
    /// Set if elements are ranges of keys.
    pub(super) interval: bool,
    /// The type of a map's values.
    pub(super) value: Option<Layout>,
}

impl Set {
    /// Returns the `NFT_SET_*` flags. The kernel needs the flag of a concatenation only if it compares
    /// the fields separately.
    pub(super) fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.interval {
            flags |= nfta::FLAG_INTERVAL;
        }
        if self.is_interval_concatenation() {
            flags |= nfta::FLAG_CONCATENATION;
        }
        if self.value.is_some() {
            flags |= nfta::FLAG_MAP;
        }
        flags
    }

    /// Returns whether elements are ranges in a concatenation. Such a range is one element; a plain
    /// range is two.
    pub(super) fn is_interval_concatenation(&self) -> bool {
        self.interval && self.key.0.len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_what_nft_makes_of_their_names() {
        let frontend = Layout::of(&["ipv4_addr", ".", "inet_proto", ".", "inet_service"]);
        let frontend = frontend.unwrap_or_default();
        assert_eq!(frontend.id(), 7 << 12 | 12 << 6 | 13);
        assert_eq!(frontend.len(), 12);
        assert_eq!(Layout(vec![Datatype::Port]).len(), 2);
        assert_eq!(Layout::of(&["ipv4_addr", ".", "mark"]), None);
    }
}

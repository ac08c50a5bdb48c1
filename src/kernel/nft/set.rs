//! Sets and maps: what their keys and values are made of.

use std::fmt;

use crate::model::Family;

use super::constants::set as nfta;

/// What one field of a key or value holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Datatype {
    /// `ipv4_addr` or `ipv6_addr`.
    Address(Family),
    /// `inet_proto`.
    Protocol,
    /// `inet_service`, big endian.
    Port,
    /// `ifname`, zeros to its end.
    Interface,
}

impl Datatype {
    /// The number by which `nft` knows the type; the kernel only keeps it.
    fn id(self) -> u32 {
        match self {
            Self::Address(Family::V4) => 7,
            Self::Address(Family::V6) => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }

    /// Bytes that the value itself takes.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Address(Family::V4) => 4,
            Self::Address(Family::V6) | Self::Interface => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// Bytes that the value takes in a concatenation: each field fills whole 32-bit registers.
    pub(super) fn padded_len(self) -> usize {
        self.len().next_multiple_of(4)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address(Family::V4) => "ipv4_addr",
            Self::Address(Family::V6) => "ipv6_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Interface => "ifname",
        })
    }
}

/// One field, or several of them in a concatenation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout(pub(super) Vec<Datatype>);

impl Layout {
    /// Whether there are several fields.
    pub(super) fn is_concatenation(&self) -> bool {
        self.0.len() > 1
    }

    /// The type number: six bits for each field, the first one highest.
    pub(super) fn id(&self) -> u32 {
        self.0.iter().fold(0, |id, field| id << 6 | field.id())
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        match self.0.as_slice() {
            [field] => field.len(),
            fields => fields.iter().map(|field| field.padded_len()).sum(),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { " . " };
            write!(f, "{separator}{field}")?;
        }
        Ok(())
    }
}

/// The name of a set or map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct SetName {
    /// What it holds.
    pub(super) stem: &'static str,
    /// Which of the two it is, where table `inet` has one for each address family.
    pub(super) family: Option<Family>,
}

impl SetName {
    /// The set of table `inet` for an address family.
    pub(super) fn of(stem: &'static str, family: Family) -> Self {
        Self { stem, family: Some(family) }
    }

    /// The only set of its kind in its table.
    pub(super) fn only(stem: &'static str) -> Self {
        Self { stem, family: None }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.family {
            Some(Family::V4) => "4",
            Some(Family::V6) => "6",
            None => "",
        };
        write!(f, "{}{suffix}", self.stem)
    }
}

/// A named set, or a map where it has values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Set {
    /// The name, unique within the table.
    pub(super) name: SetName,
    /// What the keys are.
    pub(super) key: Layout,
    /// Whether elements are ranges of keys.
    pub(super) interval: bool,
    /// What the values are, where it is a map.
    pub(super) value: Option<Layout>,
}

impl Set {
    /// `NFT_SET_*` flags. The kernel is told of a concatenation only where it must look at each
    /// field by itself.
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

    /// Whether elements are ranges in a concatenation: these have both ends in one element, where
    /// plain ranges are two elements.
    pub(super) fn is_interval_concatenation(&self) -> bool {
        self.interval && self.key.is_concatenation()
    }

    /// `set` or `map`.
    pub(super) fn keyword(&self) -> &'static str {
        if self.value.is_some() { "map" } else { "set" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_what_nft_calls_them() {
        let frontend =
            Layout(vec![Datatype::Address(Family::V4), Datatype::Protocol, Datatype::Port]);
        assert_eq!(frontend.to_string(), "ipv4_addr . inet_proto . inet_service");
        assert_eq!(frontend.id(), 7 << 12 | 12 << 6 | 13);
        assert_eq!(frontend.len(), 12);
        assert_eq!(Layout(vec![Datatype::Port]).len(), 2);
    }
}

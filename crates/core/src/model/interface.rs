//! Network interfaces by name.

use std::fmt;
use std::str::FromStr;

/// `IFNAMSIZ`: the bytes of an interface name, with the terminating zero.
const CAPACITY: usize = 16;

/// The name of a network interface, or a prefix of names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; CAPACITY]);

/// A text is not an [`InterfaceName`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is not an interface name: a name has 1 to 15 ASCII characters and no blank, slash or \
     colon"
)]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// Returns the name padded with zeros to sixteen bytes, as the kernel compares it.
    #[must_use]
    pub fn bytes(&self) -> [u8; CAPACITY] {
        self.0
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default().trim_end_matches('\0')
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    /// Accepts the ASCII names that the kernel's `dev_valid_name` accepts, except those with
    /// quotes, a backslash or an asterisk, which `nft` interprets.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_usable = |byte: u8| byte.is_ascii_graphic() && !br#"/:"*\"#.contains(&byte);
        let mut bytes = [0; CAPACITY];
        match bytes.get_mut(..text.len()) {
            Some(to)
                if (1..CAPACITY).contains(&text.len())
                    && !matches!(text, "." | "..")
                    && text.bytes().all(is_usable) =>
            {
                to.copy_from_slice(text.as_bytes());
                Ok(Self(bytes))
            }
            _ => Err(InterfaceNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// A network link. The index distinguishes it from an earlier link of the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    pub name: InterfaceName,
    /// `ifindex` in the network namespace.
    pub index: u32,
}

/// A selection of the node's interfaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Interfaces {
    /// The interface of this name.
    Named(InterfaceName),
    /// All interfaces with this prefix.
    Prefixed(InterfaceName),
}

impl Interfaces {
    /// Returns whether an interface is selected.
    #[must_use]
    pub fn contain(&self, name: &InterfaceName) -> bool {
        match self {
            Self::Named(named) => name == named,
            Self::Prefixed(prefix) => name.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for Interfaces {
    type Err = InterfaceNameError;

    /// Parses a name, or a prefix followed by an asterisk.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('*') {
            Some(prefix) => prefix.parse().map(Self::Prefixed),
            None => text.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for Interfaces {
    /// Formats the selection as [`FromStr`] parses it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Prefixed(name) => write!(f, "{name}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_the_kernel_takes() {
        for text in ["a", "cni0", "cali", "eth0.100", "fifteen-letters"] {
            assert_eq!(text.parse::<InterfaceName>().map(|name| name.to_string()), Ok(text.into()));
        }
        for text in ["", ".", "..", "sixteen-letters-", "a b", "a/b", "a:b", "cali*", "\"", "ä"] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text}");
        }
    }
}

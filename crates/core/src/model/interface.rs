//! Network interfaces by name.

use std::fmt;
use std::str::FromStr;

/// `IFNAMSIZ`: the bytes of an interface's name with the zero that ends it.
const CAPACITY: usize = 16;

/// The name of a network interface, or how it begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName([u8; CAPACITY]);

/// Why a text is no [`InterfaceName`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no interface's name: one has 1 to 15 ASCII characters, no blank, slash or colon")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// The name, and zeros up to sixteen bytes, as the kernel compares it.
    #[must_use]
    pub fn bytes(&self) -> [u8; CAPACITY] {
        self.0
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default().trim_end_matches('\0')
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    /// Takes what `dev_valid_name` of the kernel takes, of ASCII, but for the quotes and the
    /// asterisk that `nft` would read in its own way.
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

/// A network link. One that comes after another may have its name, and has another index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Link {
    /// Its name.
    pub name: InterfaceName,
    /// Its number in its network namespace.
    pub index: u32,
}

/// Some of the node's interfaces.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Interfaces {
    /// The one of this name.
    Named(InterfaceName),
    /// All whose names begin so.
    Prefixed(InterfaceName),
}

impl Interfaces {
    /// Whether an interface is one of them.
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

    /// Takes a name, or how names begin with an asterisk behind it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('*') {
            Some(prefix) => prefix.parse().map(Self::Prefixed),
            None => text.parse().map(Self::Named),
        }
    }
}

impl fmt::Display for Interfaces {
    /// As [`FromStr`] reads it.
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

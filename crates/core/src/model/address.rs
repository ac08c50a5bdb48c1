//! Addresses of front ends.

use std::fmt;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Returns the family of `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Returns the element of `both` that belongs to this family; IPv4 comes first.
    #[must_use]
    pub fn pick<T>(self, both: &[T; 2]) -> &T {
        let [v4, v6] = both;
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// Mutable counterpart of [`Family::pick`].
    #[must_use]
    pub fn pick_mut<T>(self, both: &mut [T; 2]) -> &mut T {
        let [v4, v6] = both;
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// Returns `0.0.0.0` or `::`.
    #[must_use]
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Returns the prefix length of a single address: 32 or 128.
    #[must_use]
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol that IPVS balances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Returns the IANA protocol number (`IPPROTO_*`).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Returns the protocol with this IANA number, if IPVS balances it.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Returns `tcp`, `udp` or `sctp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address of a front end or pool, written `10.96.0.10:53/udp` or `[fd00::a]:53/udp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VirtualAddress {
    pub ip: IpAddr,
    /// In host byte order.
    pub port: u16,
    pub protocol: Protocol,
}

impl VirtualAddress {
    /// Returns the address family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.ip)
    }

    /// Returns a node port: this port at every address of the family that takes node ports.
    #[must_use]
    pub fn node_port(family: Family, port: u16, protocol: Protocol) -> Self {
        Self { ip: family.unspecified(), port, protocol }
    }

    /// Returns the same port and protocol at another address.
    #[must_use]
    pub fn at(self, ip: IpAddr) -> Self {
        Self { ip, ..self }
    }

    /// Returns the addresses that pools of this Service port may have: this one, at the ClusterIP,
    /// and its [shadow addresses](shadow_addresses).
    pub fn pool_places(self) -> impl Iterator<Item = Self> {
        iter::once(self.ip).chain(shadow_addresses(self.ip)).map(move |ip| self.at(ip))
    }

    /// Returns the addresses that differ from this one in the bits that a
    /// [shadow address](shadow_addresses) loses.
    pub fn perhaps_shadowed(self) -> impl Iterator<Item = Self> {
        let firsts: u32 = match self.ip {
            IpAddr::V4(_) => 1 << 8,
            IpAddr::V6(_) => 1 << 12,
        };
        let with = move |first| match self.ip {
            IpAddr::V4(ip) => {
                IpAddr::from(Ipv4Addr::from_bits(ip.to_bits() << 8 >> 8 | first << 24))
            }
            IpAddr::V6(ip) => {
                Ipv6Addr::from_bits(ip.to_bits() << 12 >> 12 | u128::from(first) << 116).into()
            }
        };
        (0..firsts).map(move |first| self.at(with(first)))
    }
}

impl fmt::Display for VirtualAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.ip, self.port), self.protocol)
    }
}

/// Returns the shadow addresses of a ClusterIP, in the order of [`Shadow`](super::Shadow).
///
/// They hold the pools of the Service that only front ends use. Each differs from the ClusterIP and
/// from the others: 10.96.0.10 → 250.96.0.10, 242.96.0.10, 254.96.0.10 and 246.96.0.10;
/// fd00:10:96::a → fc00:10:96::a, fc80:10:96::a, fc40:10:96::a and fcc0:10:96::a.
#[must_use]
pub fn shadow_addresses(ip: IpAddr) -> [IpAddr; 4] {
    let flips = |is_itself| -> [u8; 4] { if is_itself { [8, 4, 12, 2] } else { [0, 8, 4, 12] } };
    match ip {
        IpAddr::V4(ip) => {
            let shadow = 0xf000_0000 | ip.to_bits();
            flips(shadow == ip.to_bits())
                .map(|flip| Ipv4Addr::from_bits(shadow ^ (u32::from(flip) << 24)).into())
        }
        IpAddr::V6(ip) => {
            let shadow = (ip.to_bits() & (u128::MAX >> 8)) | (0xfc << 120);
            flips(shadow == ip.to_bits())
                .map(|flip| Ipv6Addr::from_bits(shadow ^ (u128::from(flip) << 116)).into())
        }
    }
}

/// Returns the shadow ranges of a range of ClusterIPs.
#[must_use]
pub fn shadow_ranges(range: IpNet) -> [IpNet; 4] {
    // A shadow address keeps only the low bits, so a wider range maps to the whole shadow space.
    let kept = if matches!(range, IpNet::V4(_)) { 4 } else { 8 };
    shadow_addresses(range.network()).map(|ip| {
        let net = IpNet::new_assert(ip, range.prefix_len().max(kept));
        net.trunc()
    })
}

/// A text is not a [`VirtualAddress`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not ADDR:PORT[/tcp|udp|sctp] (an IPv6 address goes in brackets)")]
pub struct ParseAddressError(String);

impl FromStr for VirtualAddress {
    type Err = ParseAddressError;

    /// Parses `ADDR:PORT[/tcp|udp|sctp]`; the protocol defaults to TCP.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAddressError(text.to_owned());
        let (socket, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let socket: SocketAddr = socket.parse().map_err(|_| error())?;
        let protocol = Protocol::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(protocol))
            .ok_or_else(error)?;
        Ok(Self { ip: socket.ip(), port: socket.port(), protocol })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["10.96.0.10:53/udp", "[fd00::a]:443/tcp", "10.0.0.1:9/sctp"] {
            assert_eq!(text.parse::<VirtualAddress>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("10.0.0.1:80".parse::<VirtualAddress>().map(|a| a.protocol), Ok(Protocol::Tcp));
    }

    #[test]
    fn shadow_addresses_keep_the_low_bits() {
        for (ip, expected) in [
            ("10.96.0.10", ["250.96.0.10", "242.96.0.10", "254.96.0.10", "246.96.0.10"]),
            ("192.168.3.4", ["240.168.3.4", "248.168.3.4", "244.168.3.4", "252.168.3.4"]),
            ("250.96.0.10", ["242.96.0.10", "254.96.0.10", "246.96.0.10", "248.96.0.10"]),
            ("fd00:96::a", ["fc00:96::a", "fc80:96::a", "fc40:96::a", "fcc0:96::a"]),
            ("fc00:96::a", ["fc80:96::a", "fc40:96::a", "fcc0:96::a", "fc20:96::a"]),
        ] {
            let expected: [IpAddr; 4] = expected.map(|ip| ip.parse().expect("address"));
            let ip = ip.parse().expect("address");
            assert_eq!(shadow_addresses(ip), expected);
            for shadow in expected {
                let shadow = VirtualAddress { ip: shadow, port: 53, protocol: Protocol::Udp };
                let found = shadow.perhaps_shadowed().filter(|at| *at == shadow.at(ip));
                assert_eq!(found.count(), 1, "{shadow}");
            }
        }
        let ranges = shadow_ranges("10.96.0.0/12".parse().expect("range"));
        let expected = ["250.96.0.0/12", "242.96.0.0/12", "254.96.0.0/12", "246.96.0.0/12"];
        assert_eq!(ranges.map(|range| range.to_string()), expected);
        let ranges = shadow_ranges("fd00::/7".parse().expect("range"));
        assert_eq!(ranges.map(|range| range.to_string()), ["fc00::/8"; 4]);
    }

    #[test]
    fn bad_text_is_an_error() {
        for text in ["", "10.0.0.1", "10.0.0.1:70000", "fd00::1:80", "10.0.0.1:80/icmp"] {
            assert!(text.parse::<VirtualAddress>().is_err(), "{text}");
        }
    }
}

//! Keys and values of elements in the kernel's format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use kube_ipvs_core::model::{Family, Protocol, VirtualAddress};

/// The length of the longest key: two IPv6 addresses, protocol and port.
const CAPACITY: usize = 40;

/// Fields, each padded to four bytes as in registers. No heap memory is used, because there may be a
/// million elements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct SetKey {
    bytes: [u8; CAPACITY],
    len: usize,
}

impl Deref for SetKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl SetKey {
    pub(super) const EMPTY: Self = Self { bytes: [0; CAPACITY], len: 0 };

    /// Returns a key of address, protocol and port.
    pub(super) fn frontend(address: &VirtualAddress) -> Self {
        Self::EMPTY.address(address.ip).field(&[address.protocol.number()]).port(address.port)
    }

    pub(super) fn address(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.field(&ip.octets()),
            IpAddr::V6(ip) => self.field(&ip.octets()),
        }
    }

    pub(super) fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Returns a value that consists of a port. Such a value has no padding.
    pub(super) fn only_port(port: u16) -> Self {
        Self { len: 2, ..Self::EMPTY.port(port) }
    }

    fn field(mut self, field: &[u8]) -> Self {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + field.len()) {
            to.copy_from_slice(field);
            self.len += field.len().next_multiple_of(4);
        }
        self
    }
}

/// Reads the fields of a key or value in order. A field that is incomplete or invalid is `None`.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn address(&mut self, family: Family) -> Option<IpAddr> {
        Some(match family {
            Family::V4 => Ipv4Addr::from(self.take::<4, 4>()?).into(),
            Family::V6 => Ipv6Addr::from(self.take::<16, 16>()?).into(),
        })
    }

    pub(super) fn frontend(&mut self, family: Family) -> Option<VirtualAddress> {
        let ip = self.address(family)?;
        let protocol = Protocol::from_number(self.take::<1, 4>()?[0])?;
        Some(VirtualAddress { ip, port: self.port()?, protocol })
    }

    pub(super) fn port(&mut self) -> Option<u16> {
        self.take::<2, 4>().map(u16::from_be_bytes)
    }

    fn take<const LEN: usize, const PADDED: usize>(&mut self) -> Option<[u8; LEN]> {
        // A value of one field is not padded.
        let len = if self.0.len() == LEN { LEN } else { PADDED };
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        field.first_chunk().copied()
    }
}

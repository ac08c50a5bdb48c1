//! Attributes: type, length and value. They are written without allocation and read without trust.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLA_F_NESTED, NLA_TYPE_MASK};

/// Length and type: `struct nlattr`.
const HEADER: usize = 4;

/// Appends attributes to a message.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
    overlong: bool,
}

impl<'a> Attributes<'a> {
    /// Creates a writer that appends to `bytes`.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, overlong: false }
    }

    /// Returns whether an attribute exceeds the 65,531 bytes that its length field allows. The
    /// kernel would misread it, so [`crate::Socket::transact`] does not send it.
    #[must_use]
    pub fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// Appends bytes outside of attributes, such as a fixed header.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// Appends a value of at most 65,531 bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    /// Appends a number in host byte order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.numbers([Number::u16(kind, value)]);
    }

    /// Appends a number in host byte order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.numbers([Number::u32(kind, value)]);
    }

    /// Appends a number in network byte order.
    pub fn u16_be(&mut self, kind: u16, value: u16) {
        self.numbers([Number::u16_be(kind, value)]);
    }

    /// Appends a number in network byte order.
    pub fn u32_be(&mut self, kind: u16, value: u32) {
        self.numbers([Number::u32(kind, value.to_be())]);
    }

    /// Appends several numbers at once, which makes encoding cheap.
    pub fn numbers<const N: usize>(&mut self, numbers: [Number; N]) {
        self.bytes.extend_from_slice(numbers.map(|number| number.0).as_flattened());
    }

    /// Appends a text with its terminating zero.
    pub fn text(&mut self, kind: u16, value: &str) {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Appends an address of 4 or 16 bytes.
    pub fn ip(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(ip) => self.numbers([Number::new(kind, 4, ip.octets())]),
            IpAddr::V6(ip) => self.bytes(kind, &ip.octets()),
        }
    }

    /// Appends an attribute that contains other attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.open(kind | NLA_F_NESTED);
        fill(self);
        self.close(start);
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        let [k0, k1] = kind.to_ne_bytes();
        self.bytes.extend_from_slice(&[0, 0, k0, k1]);
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start);
        self.overlong |= length.is_err();
        if let (Ok(length), Some(field)) = (length, self.bytes.get_mut(start..start + 2)) {
            field.copy_from_slice(&length.to_ne_bytes());
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// An encoded attribute of at most four bytes.
#[derive(Clone, Copy, Debug)]
pub struct Number([u8; HEADER + 4]);

impl Number {
    /// Encodes a number in host byte order.
    #[must_use]
    pub fn u16(kind: u16, value: u16) -> Self {
        let [b0, b1] = value.to_ne_bytes();
        Self::new(kind, 2, [b0, b1, 0, 0])
    }

    /// Encodes a number in host byte order.
    #[must_use]
    pub fn u32(kind: u16, value: u32) -> Self {
        Self::new(kind, 4, value.to_ne_bytes())
    }

    /// Encodes a number in network byte order.
    #[must_use]
    pub fn u16_be(kind: u16, value: u16) -> Self {
        Self::u16(kind, value.to_be())
    }

    fn new(kind: u16, length: u16, [b0, b1, b2, b3]: [u8; 4]) -> Self {
        let [l0, l1] = (HEADER as u16 + length).to_ne_bytes();
        let [k0, k1] = kind.to_ne_bytes();
        Self([l0, l1, k0, k1, b0, b1, b2, b3])
    }
}

/// A received attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'a> {
    /// The type, without flags.
    pub kind: u16,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Iterates over the nested attributes.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }

    /// Returns the first nested attribute of a type.
    #[must_use]
    pub fn find(&self, kind: u16) -> Option<Self> {
        find(self.value, kind)
    }

    /// Reads a number in host byte order.
    #[must_use]
    pub fn u16(&self) -> Option<u16> {
        self.value.first_chunk().copied().map(u16::from_ne_bytes)
    }

    /// Reads a number in host byte order.
    #[must_use]
    pub fn u32(&self) -> Option<u32> {
        self.value.first_chunk().copied().map(u32::from_ne_bytes)
    }

    /// Reads a number in host byte order.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        self.value.first_chunk().copied().map(u64::from_ne_bytes)
    }

    /// Reads a number in network byte order.
    #[must_use]
    pub fn u16_be(&self) -> Option<u16> {
        self.value.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// Reads a number in network byte order.
    #[must_use]
    pub fn u32_be(&self) -> Option<u32> {
        self.value.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// Reads a number in network byte order.
    #[must_use]
    pub fn u64_be(&self) -> Option<u64> {
        self.value.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// Reads a text up to its terminating zero.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        std::str::from_utf8(self.value.get(..end)?).ok()
    }

    /// Reads an IPv4 address from the first 4 bytes, because IPVS sends both families in 16.
    #[must_use]
    pub fn ipv4(&self) -> Option<IpAddr> {
        self.value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets).into())
    }

    /// Reads an IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<IpAddr> {
        self.value.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets).into())
    }
}

/// Returns the first attribute of a type in `bytes`.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(bytes).find(|attribute| attribute.kind == kind)
}

/// Iterates over the attributes in `bytes`. Ends at the first truncated attribute.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_round_trip() {
        let mut bytes = Vec::new();
        let mut writer = Attributes::new(&mut bytes);
        writer.text(1, "rr");
        writer.nest(2, |nest| {
            nest.u16_be(3, 443);
            nest.ip(4, Ipv4Addr::new(10, 96, 0, 10).into());
        });
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read[0].text(), Some("rr"));
        let nested: Vec<_> = read[1].nested().collect();
        assert_eq!((read[1].kind, nested[0].u16_be()), (2, Some(443)));
        assert_eq!(nested[1].ipv4(), Some(Ipv4Addr::new(10, 96, 0, 10).into()));
        assert_eq!(nested[1].ipv6(), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            for attribute in attributes(&bytes) {
                let numbers = (attribute.u16(), attribute.u32_be(), attribute.text());
                let _ = (numbers, attribute.ipv6(), attribute.nested().count());
            }
            let _ = crate::messages(&bytes).count();
        }
    }
}

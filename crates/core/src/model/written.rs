//! Lenient parsing of addresses and ranges from users and older API servers.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The prefix length of IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// Parses an address as kube-proxy does (`ParseIPSloppy` of `k8s.io/utils/net`): leading zeros are
/// ignored, and an IPv4-mapped IPv6 address becomes the IPv4 address.
#[must_use]
pub fn read_ip(text: &str) -> Option<IpAddr> {
    read(text).map(|ip: IpAddr| ip.to_canonical())
}

/// Parses a range the same way (`ParseCIDRSloppy`); host bits are dropped.
#[must_use]
pub fn read_range(text: &str) -> Option<IpNet> {
    let range: IpNet = read(text)?;
    let IpAddr::V4(ip) = range.addr().to_canonical() else { return Some(range.trunc()) };
    match range {
        IpNet::V4(_) => Some(range.trunc()),
        IpNet::V6(_) => match range.prefix_len().checked_sub(MAPPED_PREFIX) {
            Some(length) => Ipv4Net::new(ip, length).ok().map(|range| range.trunc().into()),
            None => Some(range.trunc()),
        },
    }
}

/// Objects live for years, and older API servers accepted leading zeros. Such text is rare, so it
/// is rewritten only if it does not parse as it is.
fn read<T: FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    text.parse().ok().or_else(|| without_leading_zeros(text).parse().ok())
}

/// Removes leading zeros of all numbers, in any base.
fn without_leading_zeros(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut in_number = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let goes_on = letters.peek().is_some_and(char::is_ascii_hexdigit);
        if letter == '0' && !in_number && goes_on {
            continue;
        }
        in_number = letter.is_ascii_hexdigit();
        kept.push(letter);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn zeros() -> impl Strategy<Value = String> {
        (0..5usize).prop_map(|count| "0".repeat(count))
    }

    proptest! {
        #[test]
        fn leading_zeros_of_ipv4_are_ignored(
            octets: [u8; 4],
            zeros in proptest::array::uniform4(zeros()),
            length in 0..=32u8,
            before_length in zeros(),
        ) {
            let parts = octets.iter().zip(&zeros).map(|(octet, zeros)| format!("{zeros}{octet}"));
            let text = parts.collect::<Vec<_>>().join(".");
            let ip = Ipv4Addr::from(octets);
            prop_assert_eq!(read_ip(&text), Some(ip.into()));
            prop_assert_eq!(read_ip(&format!("::ffff:{text}")), Some(ip.into()));
            let range = Ipv4Net::new(ip, length).expect("a length").trunc();
            prop_assert_eq!(read_range(&format!("{text}/{before_length}{length}")), Some(range.into()));
            let mapped = format!("::ffff:{text}/{before_length}{}", length + MAPPED_PREFIX);
            prop_assert_eq!(read_range(&mapped), Some(range.into()));
        }

        #[test]
        fn leading_zeros_of_ipv6_are_ignored(
            groups: [u16; 8],
            zeros in proptest::collection::vec(zeros(), 8),
        ) {
            let parts = groups.iter().zip(&zeros).map(|(group, zeros)| format!("{zeros}{group:x}"));
            let text = parts.collect::<Vec<_>>().join(":");
            let ip = IpAddr::from(Ipv6Addr::from(groups)).to_canonical();
            prop_assert_eq!(read_ip(&text), Some(ip));
        }

        #[test]
        fn addresses_without_leading_zeros_are_read_strictly(text in "[0-9a-f:./ ]{0,24}") {
            let strict: Option<IpAddr> = text.trim().parse().ok();
            if let Some(ip) = strict {
                prop_assert_eq!(read_ip(&text), Some(ip.to_canonical()));
            }
            // Text that only parses sloppily has a superfluous zero.
            if strict.is_none() && read_ip(&text).is_some() {
                let rewritten = without_leading_zeros(text.trim());
                prop_assert_ne!(rewritten.as_str(), text.trim());
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,64}") {
            let _ = (read_ip(&text), read_range(&text));
        }
    }

    #[test]
    fn invalid_addresses_stay_invalid() {
        for text in ["", "0", "00", "10.0.0", "10.0.0.0256", "0x0a.0.0.1", "10.0.0.01.", "1::02::3"]
        {
            assert_eq!(read_ip(text), None, "{text}");
        }
        for text in ["010.0.0.0", "010.0.0.0/", "010.0.0.0/033", "010.0.0.0/-8", "::01/0129"] {
            assert_eq!(read_range(text), None, "{text}");
        }
    }
}

//! Everybody's nf_tables chains, as far as they are looked at. Chains of `iptables-nft` are among
//! them.

use std::fmt;

use kube_ipvs_core::model::Family;
use netlink_ipvs::{Attribute, KernelError, Socket, attributes};

use crate::kernel::nft::constants::{HEADER_BYTES, chain, verdict};
use crate::kernel::nft::message_type;

/// `NFT_MSG_GETCHAIN`
const GET_CHAIN: u16 = message_type(4);

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The family of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChainFamily {
    Inet,
    Ip,
    Ip6,
    /// arp, bridge or netdev.
    Other,
}

impl ChainFamily {
    /// The address families whose packets its chains see.
    pub(super) fn families(self) -> &'static [Family] {
        match self {
            Self::Inet => &Family::BOTH,
            Self::Ip => &[Family::V4],
            Self::Ip6 => &[Family::V6],
            Self::Other => &[],
        }
    }

    /// `NFPROTO_*`; `None` where nobody asks for it.
    pub(super) fn number(self) -> Option<u8> {
        match self {
            Self::Inet => Some(NFPROTO_INET),
            Self::Ip => Some(NFPROTO_IPV4),
            Self::Ip6 => Some(NFPROTO_IPV6),
            Self::Other => None,
        }
    }

    /// The family of `NFPROTO_*`.
    pub(super) fn of_number(number: u8) -> Self {
        match number {
            NFPROTO_INET => Self::Inet,
            NFPROTO_IPV4 => Self::Ip,
            NFPROTO_IPV6 => Self::Ip6,
            _ => Self::Other,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Other => "other",
        }
    }
}

/// Where in the packet path a base chain stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hook {
    Input,
    Forward,
    Other,
}

/// What a base chain has and others have not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HookPoint {
    pub(super) hook: Hook,
    /// Whether it is one that filters.
    pub(super) filters: bool,
    /// Whether its policy is to drop.
    pub(super) drops: bool,
}

/// An nf_tables chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ForeignChain {
    pub(super) family: ChainFamily,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) base: Option<HookPoint>,
}

impl fmt::Display for ForeignChain {
    /// As the arguments of `nft`: family, table, chain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.name(), self.table, self.name)
    }
}

/// Lists every chain of every table.
///
/// # Errors
///
/// If nf_tables is not there or the process lacks CAP_NET_ADMIN.
pub(super) fn read(socket: &mut Socket) -> Result<Vec<ForeignChain>, KernelError> {
    socket.dump(
        "nf_tables chains",
        GET_CHAIN,
        |message| message.raw(&[0; HEADER_BYTES]),
        |chains: &mut Vec<ForeignChain>, _, body| chains.extend(decode(body)),
    )
}

/// Reads NFT_MSG_NEWCHAIN: `struct nfgenmsg` and attributes, numbers in network byte order.
pub(super) fn decode(body: &[u8]) -> Option<ForeignChain> {
    let (header, rest) = body.split_at_checked(HEADER_BYTES)?;
    let family = ChainFamily::of_number(*header.first()?);
    let (mut table, mut name) = (None, None);
    let (mut hook, mut policy, mut filters) = (None, None, false);
    for attribute in attributes(rest) {
        match attribute.kind {
            chain::TABLE => table = attribute.text(),
            chain::NAME => name = attribute.text(),
            chain::HOOK => hook = Some(decode_hook(attribute)),
            chain::POLICY => policy = attribute.u32_be(),
            chain::TYPE => filters = attribute.text() == Some("filter"),
            _ => {}
        }
    }
    let base = hook.map(|hook| HookPoint { hook, filters, drops: policy == Some(verdict::DROP) });
    Some(ForeignChain { family, table: table?.to_owned(), name: name?.to_owned(), base })
}

fn decode_hook(hook: Attribute<'_>) -> Hook {
    let number = hook.find(chain::HOOK_NUMBER);
    match number.and_then(|number| number.u32_be()) {
        Some(1) => Hook::Input,
        Some(2) => Hook::Forward,
        _ => Hook::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len();
        let mut bytes = Vec::from((length as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_base_chain_is_read() {
        let hook = attribute(chain::HOOK_NUMBER, &2u32.to_be_bytes());
        let body = [
            vec![NFPROTO_IPV4, 0, 0, 0],
            attribute(chain::TABLE, b"filter\0"),
            attribute(chain::NAME, b"FORWARD\0"),
            attribute(chain::HOOK, &hook),
            attribute(chain::POLICY, &verdict::DROP.to_be_bytes()),
            attribute(chain::TYPE, b"filter\0"),
        ]
        .concat();
        let expected = ForeignChain {
            family: ChainFamily::Ip,
            table: "filter".to_owned(),
            name: "FORWARD".to_owned(),
            base: Some(HookPoint { hook: Hook::Forward, filters: true, drops: true }),
        };
        assert_eq!(decode(&body), Some(expected));
    }

    proptest! {
        #[test]
        fn nothing_received_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}

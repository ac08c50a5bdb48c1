//! Numbers of `include/uapi/linux/netfilter/nf_tables.h`: the attributes of each kind of message
//! and expression.

/// Attributes that occur everywhere.
pub(super) const LIST_ELEMENT: u16 = 1;
pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;

/// `NFTA_TABLE_*`
pub(super) mod table {
    pub(in crate::kernel::nft) const NAME: u16 = 1;
    pub(in crate::kernel::nft) const FLAGS: u16 = 2;
}

/// `NFTA_CHAIN_*`
pub(super) mod chain {
    pub(in crate::kernel::nft) const TABLE: u16 = 1;
    pub(in crate::kernel::nft) const NAME: u16 = 3;
    pub(in crate::kernel::nft) const HOOK: u16 = 4;
    pub(in crate::kernel::nft) const POLICY: u16 = 5;
    pub(in crate::kernel::nft) const TYPE: u16 = 7;
    /// `NFTA_HOOK_*`
    pub(in crate::kernel::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::kernel::nft) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`
pub(super) mod rule {
    pub(in crate::kernel::nft) const TABLE: u16 = 1;
    pub(in crate::kernel::nft) const CHAIN: u16 = 2;
    pub(in crate::kernel::nft) const EXPRESSIONS: u16 = 4;
    /// `NFTA_EXPR_*`
    pub(in crate::kernel::nft) const EXPRESSION_NAME: u16 = 1;
    pub(in crate::kernel::nft) const EXPRESSION_DATA: u16 = 2;
}

/// `NFTA_SET_*`
pub(super) mod set {
    pub(in crate::kernel::nft) const TABLE: u16 = 1;
    pub(in crate::kernel::nft) const NAME: u16 = 2;
    pub(in crate::kernel::nft) const FLAGS: u16 = 3;
    pub(in crate::kernel::nft) const KEY_TYPE: u16 = 4;
    pub(in crate::kernel::nft) const KEY_LEN: u16 = 5;
    pub(in crate::kernel::nft) const DATA_TYPE: u16 = 6;
    pub(in crate::kernel::nft) const DATA_LEN: u16 = 7;
    pub(in crate::kernel::nft) const DESCRIPTION: u16 = 9;
    pub(in crate::kernel::nft) const ID: u16 = 10;
    /// `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_*`
    pub(in crate::kernel::nft) const DESCRIPTION_CONCATENATION: u16 = 2;
    pub(in crate::kernel::nft) const FIELD_LEN: u16 = 1;

    /// `NFT_SET_*`
    pub(in crate::kernel::nft) const FLAG_ANONYMOUS: u32 = 1 << 0;
    pub(in crate::kernel::nft) const FLAG_INTERVAL: u32 = 1 << 2;
    pub(in crate::kernel::nft) const FLAG_MAP: u32 = 1 << 3;
    pub(in crate::kernel::nft) const FLAG_CONCATENATION: u32 = 1 << 7;
}

/// `NFTA_SET_ELEM_*`, and `NFTA_SET_ELEM_LIST_*` around them.
pub(super) mod element {
    pub(in crate::kernel::nft) const LIST_TABLE: u16 = 1;
    pub(in crate::kernel::nft) const LIST_SET: u16 = 2;
    pub(in crate::kernel::nft) const LIST_ELEMENTS: u16 = 3;

    pub(in crate::kernel::nft) const KEY: u16 = 1;
    pub(in crate::kernel::nft) const DATA: u16 = 2;
    pub(in crate::kernel::nft) const FLAGS: u16 = 3;
    pub(in crate::kernel::nft) const KEY_END: u16 = 10;

    /// `NFT_SET_ELEM_INTERVAL_END`
    pub(in crate::kernel::nft) const FLAG_INTERVAL_END: u32 = 1;
}

/// `NFTA_FLOWTABLE_*`
pub(super) mod flowtable {
    pub(in crate::kernel::nft) const TABLE: u16 = 1;
    pub(in crate::kernel::nft) const NAME: u16 = 2;
    pub(in crate::kernel::nft) const HOOK: u16 = 3;
    /// `NFTA_FLOWTABLE_HOOK_*`
    pub(in crate::kernel::nft) const HOOK_NUMBER: u16 = 1;
    pub(in crate::kernel::nft) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::kernel::nft) const HOOK_LINKS: u16 = 3;
    /// `NFTA_DEVICE_NAME`
    pub(in crate::kernel::nft) const LINK_NAME: u16 = 1;

    /// `NF_NETDEV_INGRESS`
    pub(in crate::kernel::nft) const INGRESS: u32 = 0;
}

/// Expressions: `NFTA_PAYLOAD_*` and so on.
pub(super) mod expression {
    pub(in crate::kernel::nft) const PAYLOAD_TO: u16 = 1;
    pub(in crate::kernel::nft) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::kernel::nft) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::kernel::nft) const PAYLOAD_LEN: u16 = 4;
    pub(in crate::kernel::nft) const PAYLOAD_FROM: u16 = 5;
    pub(in crate::kernel::nft) const PAYLOAD_CHECKSUM: u16 = 6;
    pub(in crate::kernel::nft) const PAYLOAD_CHECKSUM_OFFSET: u16 = 7;
    pub(in crate::kernel::nft) const PAYLOAD_CHECKSUM_FLAGS: u16 = 8;
    pub(in crate::kernel::nft) const PAYLOAD_CHECKSUM_INTERNET: u32 = 1;
    pub(in crate::kernel::nft) const PAYLOAD_CHECKSUM_PSEUDO_HEADER: u32 = 1;

    pub(in crate::kernel::nft) const META_TO: u16 = 1;
    pub(in crate::kernel::nft) const META_KEY: u16 = 2;

    pub(in crate::kernel::nft) const CT_TO: u16 = 1;
    pub(in crate::kernel::nft) const CT_KEY: u16 = 2;
    pub(in crate::kernel::nft) const CT_DIRECTION: u16 = 3;

    pub(in crate::kernel::nft) const FIB_TO: u16 = 1;
    pub(in crate::kernel::nft) const FIB_RESULT: u16 = 2;
    pub(in crate::kernel::nft) const FIB_FLAGS: u16 = 3;
    pub(in crate::kernel::nft) const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
    pub(in crate::kernel::nft) const FIB_SOURCE: u32 = 1;
    pub(in crate::kernel::nft) const FIB_DESTINATION: u32 = 2;

    pub(in crate::kernel::nft) const SOCKET_KEY: u16 = 1;
    pub(in crate::kernel::nft) const SOCKET_TO: u16 = 2;

    pub(in crate::kernel::nft) const NUMBER_TO: u16 = 1;
    pub(in crate::kernel::nft) const NUMBER_MODULUS: u16 = 2;
    pub(in crate::kernel::nft) const NUMBER_TYPE: u16 = 3;
    pub(in crate::kernel::nft) const NUMBER_TYPE_RANDOM: u32 = 1;

    pub(in crate::kernel::nft) const IMMEDIATE_TO: u16 = 1;
    pub(in crate::kernel::nft) const IMMEDIATE_DATA: u16 = 2;

    pub(in crate::kernel::nft) const COMPARE_FROM: u16 = 1;
    pub(in crate::kernel::nft) const COMPARE_HOW: u16 = 2;
    pub(in crate::kernel::nft) const COMPARE_DATA: u16 = 3;
    pub(in crate::kernel::nft) const COMPARE_EQUAL: u32 = 0;
    pub(in crate::kernel::nft) const COMPARE_NOT_EQUAL: u32 = 1;
    pub(in crate::kernel::nft) const COMPARE_AT_MOST: u32 = 3;
    pub(in crate::kernel::nft) const COMPARE_AT_LEAST: u32 = 5;

    pub(in crate::kernel::nft) const BITWISE_FROM: u16 = 1;
    pub(in crate::kernel::nft) const BITWISE_TO: u16 = 2;
    pub(in crate::kernel::nft) const BITWISE_LEN: u16 = 3;
    pub(in crate::kernel::nft) const BITWISE_MASK: u16 = 4;
    pub(in crate::kernel::nft) const BITWISE_XOR: u16 = 5;

    pub(in crate::kernel::nft) const LOOKUP_SET: u16 = 1;
    pub(in crate::kernel::nft) const LOOKUP_FROM: u16 = 2;
    pub(in crate::kernel::nft) const LOOKUP_TO: u16 = 3;
    pub(in crate::kernel::nft) const LOOKUP_FLAGS: u16 = 5;
    pub(in crate::kernel::nft) const LOOKUP_FLAG_INVERT: u32 = 1;

    pub(in crate::kernel::nft) const NAT_TYPE: u16 = 1;
    pub(in crate::kernel::nft) const NAT_FAMILY: u16 = 2;
    pub(in crate::kernel::nft) const NAT_ADDRESS: u16 = 3;
    pub(in crate::kernel::nft) const NAT_PORT: u16 = 5;
    pub(in crate::kernel::nft) const NAT_TYPE_DESTINATION: u32 = 1;
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
    pub(in crate::kernel::nft) const NAT_PORTS_GIVEN: u32 = 1 << 1;
    pub(in crate::kernel::nft) const NAT_FULLY_RANDOM: u32 = 1 << 4;

    pub(in crate::kernel::nft) const MASQUERADE_FLAGS: u16 = 1;
    pub(in crate::kernel::nft) const MASQUERADE_FIRST_PORT: u16 = 2;
    pub(in crate::kernel::nft) const MASQUERADE_LAST_PORT: u16 = 3;

    pub(in crate::kernel::nft) const FLOW_TABLE: u16 = 1;

    pub(in crate::kernel::nft) const REJECT_TYPE: u16 = 1;
    pub(in crate::kernel::nft) const REJECT_CODE: u16 = 2;
    /// `NFT_REJECT_ICMP_UNREACH`, `NFT_REJECT_TCP_RST`
    pub(in crate::kernel::nft) const REJECT_ICMP: u32 = 0;
    pub(in crate::kernel::nft) const REJECT_TCP_RESET: u32 = 1;
}

/// `NFTA_VERDICT_*`
pub(super) mod verdict {
    pub(in crate::kernel::nft) const CODE: u16 = 1;
    pub(in crate::kernel::nft) const CHAIN: u16 = 2;

    /// `NFT_REG_VERDICT`
    pub(in crate::kernel::nft) const REGISTER: u32 = 0;

    /// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO`
    pub(in crate::kernel::nft) const DROP: u32 = 0;
    pub(in crate::kernel::nft) const ACCEPT: u32 = 1;
    pub(in crate::kernel::nft) const JUMP: u32 = (-3_i32).cast_unsigned();
    pub(in crate::kernel::nft) const GOTO: u32 = (-4_i32).cast_unsigned();
}

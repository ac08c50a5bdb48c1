//! Numbers of `include/uapi/linux/netfilter/nf_tables.h`: the attributes of each kind of message
//! and expression.

/// `struct nfgenmsg`, which precedes the attributes.
pub(in crate::kernel) const HEADER_BYTES: usize = 4;

/// Attributes that occur everywhere.
pub(in crate::kernel) const LIST_ELEMENT: u16 = 1;
pub(in crate::kernel) const DATA_VALUE: u16 = 1;
pub(in crate::kernel) const DATA_VERDICT: u16 = 2;

/// `NFTA_TABLE_*`
pub(in crate::kernel) mod table {
    pub(in crate::kernel) const NAME: u16 = 1;
    pub(in crate::kernel) const FLAGS: u16 = 2;
}

/// `NFTA_CHAIN_*`
pub(in crate::kernel) mod chain {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const NAME: u16 = 3;
    pub(in crate::kernel) const HOOK: u16 = 4;
    pub(in crate::kernel) const POLICY: u16 = 5;
    pub(in crate::kernel) const TYPE: u16 = 7;
    /// `NFTA_HOOK_*`
    pub(in crate::kernel) const HOOK_NUMBER: u16 = 1;
    pub(in crate::kernel) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_RULE_*`
pub(in crate::kernel) mod rule {
    /// `NFT_MSG_GETRULE`
    pub(in crate::kernel) const GET: u16 = 7;

    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const CHAIN: u16 = 2;
    pub(in crate::kernel) const HANDLE: u16 = 3;
    pub(in crate::kernel) const EXPRESSIONS: u16 = 4;
    /// `NFTA_EXPR_*`
    pub(in crate::kernel) const EXPRESSION_NAME: u16 = 1;
    pub(in crate::kernel) const EXPRESSION_DATA: u16 = 2;
}

/// `NFTA_SET_*`
pub(in crate::kernel) mod set {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const NAME: u16 = 2;
    pub(in crate::kernel) const FLAGS: u16 = 3;
    pub(in crate::kernel) const KEY_TYPE: u16 = 4;
    pub(in crate::kernel) const KEY_LEN: u16 = 5;
    pub(in crate::kernel) const DATA_TYPE: u16 = 6;
    pub(in crate::kernel) const DATA_LEN: u16 = 7;
    pub(in crate::kernel) const DESCRIPTION: u16 = 9;
    pub(in crate::kernel) const ID: u16 = 10;
    /// `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_*`
    pub(in crate::kernel) const DESCRIPTION_CONCATENATION: u16 = 2;
    pub(in crate::kernel) const FIELD_LEN: u16 = 1;

    /// `NFT_SET_*`
    pub(in crate::kernel) const FLAG_ANONYMOUS: u32 = 1 << 0;
    pub(in crate::kernel) const FLAG_INTERVAL: u32 = 1 << 2;
    pub(in crate::kernel) const FLAG_MAP: u32 = 1 << 3;
    pub(in crate::kernel) const FLAG_CONCATENATION: u32 = 1 << 7;
}

/// `NFTA_SET_ELEM_*`, and `NFTA_SET_ELEM_LIST_*` around them.
pub(in crate::kernel) mod element {
    pub(in crate::kernel) const LIST_TABLE: u16 = 1;
    pub(in crate::kernel) const LIST_SET: u16 = 2;
    pub(in crate::kernel) const LIST_ELEMENTS: u16 = 3;

    pub(in crate::kernel) const KEY: u16 = 1;
    pub(in crate::kernel) const DATA: u16 = 2;
    pub(in crate::kernel) const FLAGS: u16 = 3;
    pub(in crate::kernel) const KEY_END: u16 = 10;

    /// `NFT_SET_ELEM_INTERVAL_END`
    pub(in crate::kernel) const FLAG_INTERVAL_END: u32 = 1;
}

/// `NFTA_FLOWTABLE_*`
pub(in crate::kernel) mod flowtable {
    pub(in crate::kernel) const TABLE: u16 = 1;
    pub(in crate::kernel) const NAME: u16 = 2;
    pub(in crate::kernel) const HOOK: u16 = 3;
    /// `NFTA_FLOWTABLE_HOOK_*`
    pub(in crate::kernel) const HOOK_NUMBER: u16 = 1;
    pub(in crate::kernel) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::kernel) const HOOK_LINKS: u16 = 3;
    /// `NFTA_DEVICE_NAME`
    pub(in crate::kernel) const LINK_NAME: u16 = 1;

    /// `NF_NETDEV_INGRESS`
    pub(in crate::kernel) const INGRESS: u32 = 0;
}

/// Expressions: `NFTA_PAYLOAD_*` and so on.
pub(in crate::kernel) mod expression {
    pub(in crate::kernel) const PAYLOAD_TO: u16 = 1;
    pub(in crate::kernel) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::kernel) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::kernel) const PAYLOAD_LEN: u16 = 4;
    pub(in crate::kernel) const PAYLOAD_FROM: u16 = 5;
    pub(in crate::kernel) const PAYLOAD_CHECKSUM: u16 = 6;
    pub(in crate::kernel) const PAYLOAD_CHECKSUM_OFFSET: u16 = 7;
    pub(in crate::kernel) const PAYLOAD_CHECKSUM_FLAGS: u16 = 8;
    pub(in crate::kernel) const PAYLOAD_CHECKSUM_INTERNET: u32 = 1;
    pub(in crate::kernel) const PAYLOAD_CHECKSUM_PSEUDO_HEADER: u32 = 1;

    pub(in crate::kernel) const META_TO: u16 = 1;
    pub(in crate::kernel) const META_KEY: u16 = 2;

    pub(in crate::kernel) const CT_TO: u16 = 1;
    pub(in crate::kernel) const CT_KEY: u16 = 2;
    pub(in crate::kernel) const CT_DIRECTION: u16 = 3;

    pub(in crate::kernel) const FIB_TO: u16 = 1;
    pub(in crate::kernel) const FIB_RESULT: u16 = 2;
    pub(in crate::kernel) const FIB_FLAGS: u16 = 3;
    pub(in crate::kernel) const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
    pub(in crate::kernel) const FIB_SOURCE: u32 = 1;
    pub(in crate::kernel) const FIB_DESTINATION: u32 = 2;

    pub(in crate::kernel) const SOCKET_KEY: u16 = 1;
    pub(in crate::kernel) const SOCKET_TO: u16 = 2;

    pub(in crate::kernel) const NUMBER_TO: u16 = 1;
    pub(in crate::kernel) const NUMBER_MODULUS: u16 = 2;
    pub(in crate::kernel) const NUMBER_TYPE: u16 = 3;
    pub(in crate::kernel) const NUMBER_TYPE_RANDOM: u32 = 1;

    pub(in crate::kernel) const IMMEDIATE_TO: u16 = 1;
    pub(in crate::kernel) const IMMEDIATE_DATA: u16 = 2;

    pub(in crate::kernel) const COMPARE_FROM: u16 = 1;
    pub(in crate::kernel) const COMPARE_HOW: u16 = 2;
    pub(in crate::kernel) const COMPARE_DATA: u16 = 3;
    pub(in crate::kernel) const COMPARE_EQUAL: u32 = 0;
    pub(in crate::kernel) const COMPARE_NOT_EQUAL: u32 = 1;
    pub(in crate::kernel) const COMPARE_AT_MOST: u32 = 3;
    pub(in crate::kernel) const COMPARE_AT_LEAST: u32 = 5;

    pub(in crate::kernel) const BITWISE_FROM: u16 = 1;
    pub(in crate::kernel) const BITWISE_TO: u16 = 2;
    pub(in crate::kernel) const BITWISE_LEN: u16 = 3;
    pub(in crate::kernel) const BITWISE_MASK: u16 = 4;
    pub(in crate::kernel) const BITWISE_XOR: u16 = 5;

    pub(in crate::kernel) const LOOKUP_SET: u16 = 1;
    pub(in crate::kernel) const LOOKUP_FROM: u16 = 2;
    pub(in crate::kernel) const LOOKUP_TO: u16 = 3;
    pub(in crate::kernel) const LOOKUP_FLAGS: u16 = 5;
    pub(in crate::kernel) const LOOKUP_FLAG_INVERT: u32 = 1;

    pub(in crate::kernel) const NAT_TYPE: u16 = 1;
    pub(in crate::kernel) const NAT_FAMILY: u16 = 2;
    pub(in crate::kernel) const NAT_ADDRESS: u16 = 3;
    pub(in crate::kernel) const NAT_PORT: u16 = 5;
    pub(in crate::kernel) const NAT_TYPE_DESTINATION: u32 = 1;
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
    pub(in crate::kernel) const NAT_PORTS_GIVEN: u32 = 1 << 1;
    pub(in crate::kernel) const NAT_FULLY_RANDOM: u32 = 1 << 4;

    pub(in crate::kernel) const MASQUERADE_FLAGS: u16 = 1;
    pub(in crate::kernel) const MASQUERADE_FIRST_PORT: u16 = 2;
    pub(in crate::kernel) const MASQUERADE_LAST_PORT: u16 = 3;

    pub(in crate::kernel) const FLOW_TABLE: u16 = 1;

    pub(in crate::kernel) const REJECT_TYPE: u16 = 1;
    pub(in crate::kernel) const REJECT_CODE: u16 = 2;
    /// `NFT_REJECT_ICMP_UNREACH`, `NFT_REJECT_TCP_RST`
    pub(in crate::kernel) const REJECT_ICMP: u32 = 0;
    pub(in crate::kernel) const REJECT_TCP_RESET: u32 = 1;
}

/// `NFTA_VERDICT_*`
pub(in crate::kernel) mod verdict {
    pub(in crate::kernel) const CODE: u16 = 1;
    pub(in crate::kernel) const CHAIN: u16 = 2;

    /// `NFT_REG_VERDICT`
    pub(in crate::kernel) const REGISTER: u32 = 0;

    /// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO`
    pub(in crate::kernel) const DROP: u32 = 0;
    pub(in crate::kernel) const ACCEPT: u32 = 1;
    pub(in crate::kernel) const JUMP: u32 = (-3_i32).cast_unsigned();
    pub(in crate::kernel) const GOTO: u32 = (-4_i32).cast_unsigned();
}

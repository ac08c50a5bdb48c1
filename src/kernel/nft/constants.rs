//! Numbers of `include/uapi/linux/netfilter/nf_tables.h`: the attributes of each kind of message
//! and expression.

/// The name of the table, in messages of tables, chains, rules, sets, elements and flowtables.
pub(crate) const TABLE: u16 = 1;

/// Attributes that occur everywhere.
pub(crate) const LIST_ELEMENT: u16 = 1;
pub(crate) const DATA_VALUE: u16 = 1;
pub(crate) const DATA_VERDICT: u16 = 2;

/// `NFTA_TABLE_*`
pub(crate) mod table {
    pub(crate) const FLAGS: u16 = 2;

    /// `NFT_TABLE_F_OWNER`, since Linux 5.12: the table goes with the socket that made it.
    pub(crate) const FLAG_OWNER: u32 = 1 << 1;
}

/// `NFTA_CHAIN_*`
pub(crate) mod chain {
    pub(crate) const NAME: u16 = 3;
    pub(crate) const HOOK: u16 = 4;
    pub(crate) const POLICY: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
    /// `NFTA_HOOK_*`
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
}

/// `NFTA_COUNTER_*`
pub(crate) mod counter {
    pub(crate) const PACKETS: u16 = 2;
}

/// `NFTA_GEN_*`
pub(crate) mod generation {
    pub(crate) const PROCESS: u16 = 2;
    pub(crate) const PROCESS_NAME: u16 = 3;
}

/// `NFTA_RULE_*`
pub(crate) mod rule {
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const EXPRESSIONS: u16 = 4;
    /// `NFTA_EXPR_*`
    pub(crate) const EXPRESSION_NAME: u16 = 1;
    pub(crate) const EXPRESSION_DATA: u16 = 2;
}

/// `NFTA_SET_*`
pub(crate) mod set {
    pub(crate) const NAME: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_TYPE: u16 = 4;
    pub(crate) const KEY_LEN: u16 = 5;
    pub(crate) const DATA_TYPE: u16 = 6;
    pub(crate) const DATA_LEN: u16 = 7;
    pub(crate) const DESCRIPTION: u16 = 9;
    pub(crate) const ID: u16 = 10;
    /// `NFTA_SET_DESC_*`, `NFTA_SET_FIELD_*`
    pub(crate) const DESCRIPTION_SIZE: u16 = 1;
    pub(crate) const DESCRIPTION_CONCATENATION: u16 = 2;
    pub(crate) const FIELD_LEN: u16 = 1;

    /// `NFT_SET_*`
    pub(crate) const FLAG_ANONYMOUS: u32 = 1 << 0;
    pub(crate) const FLAG_INTERVAL: u32 = 1 << 2;
    pub(crate) const FLAG_MAP: u32 = 1 << 3;
    /// `NFT_SET_EVAL`: rules add elements.
    pub(crate) const FLAG_DYNAMIC: u32 = 1 << 5;
    pub(crate) const FLAG_CONCATENATION: u32 = 1 << 7;
}

/// `NFTA_SET_ELEM_*`, and `NFTA_SET_ELEM_LIST_*` around them.
pub(crate) mod element {
    pub(crate) const LIST_SET: u16 = 2;
    pub(crate) const LIST_ELEMENTS: u16 = 3;

    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const KEY_END: u16 = 10;

    /// `NFT_SET_ELEM_INTERVAL_END`
    pub(crate) const FLAG_INTERVAL_END: u32 = 1;
}

/// `NFTA_FLOWTABLE_*`
pub(crate) mod flowtable {
    pub(crate) const NAME: u16 = 2;
    pub(crate) const HOOK: u16 = 3;
    /// `NFTA_FLOWTABLE_HOOK_*`
    pub(crate) const HOOK_NUMBER: u16 = 1;
    pub(crate) const HOOK_PRIORITY: u16 = 2;
    pub(crate) const HOOK_LINKS: u16 = 3;
    /// `NFTA_DEVICE_NAME`
    pub(crate) const LINK_NAME: u16 = 1;

    /// `NF_NETDEV_INGRESS`
    pub(crate) const INGRESS: u32 = 0;
}

/// Expressions: `NFTA_PAYLOAD_*` and so on.
pub(crate) mod expression {
    pub(crate) const PAYLOAD_TO: u16 = 1;
    pub(crate) const PAYLOAD_BASE: u16 = 2;
    pub(crate) const PAYLOAD_OFFSET: u16 = 3;
    pub(crate) const PAYLOAD_LEN: u16 = 4;
    pub(crate) const PAYLOAD_FROM: u16 = 5;
    pub(crate) const PAYLOAD_CHECKSUM: u16 = 6;
    pub(crate) const PAYLOAD_CHECKSUM_OFFSET: u16 = 7;
    pub(crate) const PAYLOAD_CHECKSUM_FLAGS: u16 = 8;
    pub(crate) const PAYLOAD_CHECKSUM_INTERNET: u32 = 1;
    pub(crate) const PAYLOAD_CHECKSUM_PSEUDO_HEADER: u32 = 1;
    /// `NFT_PAYLOAD_*_HEADER`
    pub(crate) const PAYLOAD_NETWORK_HEADER: u32 = 1;
    pub(crate) const PAYLOAD_TRANSPORT_HEADER: u32 = 2;

    pub(crate) const META_TO: u16 = 1;
    pub(crate) const META_KEY: u16 = 2;
    pub(crate) const META_FROM: u16 = 3;
    /// `NFT_META_NFTRACE`
    pub(crate) const META_TRACE: u32 = 12;

    pub(crate) const CT_TO: u16 = 1;
    pub(crate) const CT_KEY: u16 = 2;
    pub(crate) const CT_DIRECTION: u16 = 3;

    pub(crate) const FIB_TO: u16 = 1;
    pub(crate) const FIB_RESULT: u16 = 2;
    pub(crate) const FIB_FLAGS: u16 = 3;
    pub(crate) const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
    pub(crate) const FIB_SOURCE: u32 = 1;
    pub(crate) const FIB_DESTINATION: u32 = 2;

    pub(crate) const SOCKET_KEY: u16 = 1;
    pub(crate) const SOCKET_TO: u16 = 2;

    pub(crate) const NUMBER_TO: u16 = 1;
    pub(crate) const NUMBER_MODULUS: u16 = 2;
    pub(crate) const NUMBER_TYPE: u16 = 3;
    pub(crate) const NUMBER_TYPE_RANDOM: u32 = 1;

    pub(crate) const IMMEDIATE_TO: u16 = 1;
    pub(crate) const IMMEDIATE_DATA: u16 = 2;

    pub(crate) const COMPARE_FROM: u16 = 1;
    pub(crate) const COMPARE_HOW: u16 = 2;
    pub(crate) const COMPARE_DATA: u16 = 3;
    pub(crate) const COMPARE_EQUAL: u32 = 0;
    pub(crate) const COMPARE_NOT_EQUAL: u32 = 1;
    pub(crate) const COMPARE_AT_MOST: u32 = 3;
    pub(crate) const COMPARE_AT_LEAST: u32 = 5;

    pub(crate) const BITWISE_FROM: u16 = 1;
    pub(crate) const BITWISE_TO: u16 = 2;
    pub(crate) const BITWISE_LEN: u16 = 3;
    pub(crate) const BITWISE_MASK: u16 = 4;
    pub(crate) const BITWISE_XOR: u16 = 5;

    pub(crate) const LOOKUP_SET: u16 = 1;
    pub(crate) const LOOKUP_FROM: u16 = 2;
    pub(crate) const LOOKUP_TO: u16 = 3;
    pub(crate) const LOOKUP_FLAGS: u16 = 5;
    pub(crate) const LOOKUP_FLAG_INVERT: u32 = 1;

    pub(crate) const DYNAMIC_SET: u16 = 1;
    pub(crate) const DYNAMIC_OPERATION: u16 = 3;
    pub(crate) const DYNAMIC_KEY: u16 = 4;
    /// `NFT_DYNSET_OP_ADD`
    pub(crate) const DYNAMIC_ADD: u32 = 0;

    pub(crate) const LIMIT_RATE: u16 = 1;
    pub(crate) const LIMIT_SECONDS: u16 = 2;
    pub(crate) const LIMIT_BURST: u16 = 3;

    /// `NFTA_MATCH_NAME` and `NFTA_TARGET_NAME` of an extension of iptables.
    pub(crate) const EXTENSION_NAME: u16 = 1;

    pub(crate) const NAT_TYPE: u16 = 1;
    pub(crate) const NAT_FAMILY: u16 = 2;
    pub(crate) const NAT_ADDRESS: u16 = 3;
    pub(crate) const NAT_PORT: u16 = 5;
    pub(crate) const NAT_TYPE_DESTINATION: u32 = 1;
    /// `NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`
    pub(crate) const NAT_PORTS_GIVEN: u32 = 1 << 1;
    pub(crate) const NAT_FULLY_RANDOM: u32 = 1 << 4;

    pub(crate) const MASQUERADE_FLAGS: u16 = 1;
    pub(crate) const MASQUERADE_FIRST_PORT: u16 = 2;
    pub(crate) const MASQUERADE_LAST_PORT: u16 = 3;

    pub(crate) const FLOW_TABLE: u16 = 1;

    pub(crate) const REJECT_TYPE: u16 = 1;
    pub(crate) const REJECT_CODE: u16 = 2;
    /// `NFT_REJECT_ICMP_UNREACH`, `NFT_REJECT_TCP_RST`
    pub(crate) const REJECT_ICMP: u32 = 0;
    pub(crate) const REJECT_TCP_RESET: u32 = 1;
}

/// Numbers of connection tracking, in rules and over ctnetlink.
pub(crate) mod conntrack {
    /// `NFT_CT_*`
    pub(crate) const STATE: u32 = 0;
    pub(crate) const DIRECTION: u32 = 1;
    pub(crate) const STATUS: u32 = 2;
    pub(crate) const PROTOCOL: u32 = 10;
    pub(crate) const SOURCE_PORT: u32 = 11;
    pub(crate) const DESTINATION_PORT: u32 = 12;
    /// `NFT_CT_SRC_IP`, `NFT_CT_SRC_IP6`
    pub(crate) const SOURCE: [u32; 2] = [19, 21];
    /// `NFT_CT_DST_IP`, `NFT_CT_DST_IP6`
    pub(crate) const DESTINATION: [u32; 2] = [20, 22];
    /// `NF_CT_STATE_INVALID_BIT`, `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`
    pub(crate) const INVALID: u32 = 1 << 0;
    pub(crate) const ESTABLISHED: u32 = 1 << 1;
    /// `IPS_ASSURED`, `IPS_DST_NAT`
    pub(crate) const ASSURED: u32 = 1 << 2;
    pub(crate) const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

/// `NFTA_VERDICT_*`
pub(crate) mod verdict {
    pub(crate) const CODE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;

    /// `NFT_REG_VERDICT`
    pub(crate) const REGISTER: u32 = 0;

    /// `NF_DROP`, `NF_ACCEPT`, `NF_STOLEN`, `NF_QUEUE`, `NFT_JUMP`, `NFT_GOTO`
    pub(crate) const DROP: u32 = 0;
    pub(crate) const ACCEPT: u32 = 1;
    pub(crate) const STOLEN: u32 = 2;
    pub(crate) const QUEUE: u32 = 3;
    pub(crate) const JUMP: u32 = (-3_i32).cast_unsigned();
    pub(crate) const GOTO: u32 = (-4_i32).cast_unsigned();
}

/// `NFTA_TRACE_*`
pub(crate) mod trace {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const HANDLE: u16 = 3;
    pub(crate) const TYPE: u16 = 4;
    pub(crate) const VERDICT: u16 = 5;
    pub(crate) const ID: u16 = 6;
    pub(crate) const NETWORK_HEADER: u16 = 8;
    pub(crate) const TRANSPORT_HEADER: u16 = 9;
    pub(crate) const INPUT_LINK: u16 = 10;
    pub(crate) const OUTPUT_LINK: u16 = 12;
    pub(crate) const POLICY: u16 = 16;

    /// `NFT_TRACETYPE_POLICY`, `NFT_TRACETYPE_RETURN`, `NFT_TRACETYPE_RULE`
    pub(crate) const TYPE_POLICY: u32 = 1;
    pub(crate) const TYPE_RETURN: u32 = 2;
    pub(crate) const TYPE_RULE: u32 = 3;
}

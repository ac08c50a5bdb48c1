//! Numbers of `include/uapi/linux/ip_vs.h`.

pub(super) const FAMILY: &str = "IPVS";
pub(super) const MODULE: &str = "ip_vs";
pub(super) const VERSION: u8 = 1;

pub(super) const CMD_NEW_SERVICE: u8 = 1;
pub(super) const CMD_SET_SERVICE: u8 = 2;
pub(super) const CMD_DEL_SERVICE: u8 = 3;
pub(super) const CMD_GET_SERVICE: u8 = 4;
pub(super) const CMD_NEW_DEST: u8 = 5;
pub(super) const CMD_SET_DEST: u8 = 6;
pub(super) const CMD_DEL_DEST: u8 = 7;
pub(super) const CMD_GET_DEST: u8 = 8;
pub(super) const CMD_SET_CONFIG: u8 = 12;
pub(super) const CMD_GET_INFO: u8 = 15;

pub(super) const ATTR_SERVICE: u16 = 1;
pub(super) const ATTR_DEST: u16 = 2;
pub(super) const ATTR_TIMEOUT_TCP: u16 = 4;
pub(super) const ATTR_TIMEOUT_TCP_FIN: u16 = 5;
pub(super) const ATTR_TIMEOUT_UDP: u16 = 6;

pub(super) const SVC_AF: u16 = 1;
pub(super) const SVC_PROTOCOL: u16 = 2;
pub(super) const SVC_ADDR: u16 = 3;
pub(super) const SVC_PORT: u16 = 4;
pub(super) const SVC_FWMARK: u16 = 5;
pub(super) const SVC_SCHED_NAME: u16 = 6;
pub(super) const SVC_FLAGS: u16 = 7;
pub(super) const SVC_TIMEOUT: u16 = 8;
pub(super) const SVC_NETMASK: u16 = 9;
pub(super) const SVC_STATS64: u16 = 12;

pub(super) const STATS_CONNECTIONS: u16 = 1;
pub(super) const STATS_PACKETS_IN: u16 = 2;
pub(super) const STATS_PACKETS_OUT: u16 = 3;
pub(super) const STATS_BYTES_IN: u16 = 4;
pub(super) const STATS_BYTES_OUT: u16 = 5;
/// The first of the rates, which have the order of the sums.
pub(super) const STATS_RATES: u16 = 6;

pub(super) const DEST_ADDR: u16 = 1;
pub(super) const DEST_PORT: u16 = 2;
pub(super) const DEST_FWD_METHOD: u16 = 3;
pub(super) const DEST_WEIGHT: u16 = 4;
pub(super) const DEST_U_THRESH: u16 = 5;
pub(super) const DEST_L_THRESH: u16 = 6;
pub(super) const DEST_ACTIVE_CONNS: u16 = 7;
pub(super) const DEST_INACT_CONNS: u16 = 8;
pub(super) const DEST_PERSIST_CONNS: u16 = 9;
pub(super) const DEST_ADDR_FAMILY: u16 = 11;
pub(super) const DEST_STATS64: u16 = 12;

pub(super) const INFO_VERSION: u16 = 1;
pub(super) const INFO_CONN_TAB_SIZE: u16 = 2;

/// `IP_VS_SVC_F_PERSISTENT`.
pub(super) const FLAG_PERSISTENT: u32 = 0x1;
/// `IP_VS_SVC_F_HASHED`: set by the kernel only.
pub(super) const FLAG_HASHED: u32 = 0x2;
/// `IP_VS_CONN_F_FWD_MASK`.
pub(super) const FORWARD_MASK: u32 = 0x7;

/// `AF_INET`.
pub(super) const AF_INET: u16 = 2;
/// `AF_INET6`.
pub(super) const AF_INET6: u16 = 10;

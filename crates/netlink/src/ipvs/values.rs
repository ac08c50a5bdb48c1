//! Virtual services and destinations.

use std::net::IpAddr;
use std::ops::AddAssign;

/// The identity of a virtual service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId {
    /// The virtual address.
    pub ip: IpAddr,
    /// The port, in host byte order.
    pub port: u16,
    /// The number of the IP protocol.
    pub protocol: u8,
}

impl ServiceId {
    /// `IPPROTO_TCP`
    pub const TCP: u8 = 6;
    /// `IPPROTO_UDP`
    pub const UDP: u8 = 17;
    /// `IPPROTO_SCTP`
    pub const SCTP: u8 = 132;
}

/// A virtual service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualService {
    /// The identity.
    pub id: ServiceId,
    /// The name of the scheduler, such as `rr`; at most 15 bytes.
    pub scheduler: String,
    /// `IP_VS_SVC_F_SCHED1` to `IP_VS_SVC_F_SCHED3` and `IP_VS_SVC_F_ONEPACKET`.
    pub flags: u32,
    /// The persistence of clients, if any.
    pub persistence: Option<Persistence>,
}

impl VirtualService {
    /// `IP_VS_SVC_F_ONEPACKET`: each packet is scheduled by itself.
    pub const ONE_PACKET: u32 = 0x4;
    /// `IP_VS_SVC_F_SCHED1`: `sh-fallback`, `mh-fallback`.
    pub const SCHED_1: u32 = 0x8;
    /// `IP_VS_SVC_F_SCHED2`: `sh-port`, `mh-port`.
    pub const SCHED_2: u32 = 0x10;

    /// Creates a service without flags and persistence.
    #[must_use]
    pub fn new(id: ServiceId, scheduler: impl Into<String>) -> Self {
        Self { id, scheduler: scheduler.into(), flags: 0, persistence: None }
    }
}

/// Persistence: all connections of a client go to the same destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Persistence {
    /// Seconds after the client's last connection.
    pub seconds: u32,
    /// The address bits that identify a client: at most 32 for IPv4 and 128 for IPv6.
    pub prefix: u8,
}

/// A destination of a virtual service: `ipvsadm` calls it a real server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Destination {
    /// The address.
    pub ip: IpAddr,
    /// The port, in host byte order.
    pub port: u16,
    /// The way of packets to the destination.
    pub forwarding: Forwarding,
    /// The share of new connections; 0 receives none.
    pub weight: u32,
    /// The number of connections above which the destination gets no new ones; 0 for no limit.
    pub upper_threshold: u32,
    /// The number of connections below which the destination gets new ones again.
    pub lower_threshold: u32,
}

impl Destination {
    /// Creates a masqueraded destination with weight 1 and without thresholds.
    #[must_use]
    pub fn new(ip: IpAddr, port: u16) -> Self {
        let forwarding = Forwarding::Masquerade;
        Self { ip, port, forwarding, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }
}

/// The way of packets to a destination (`IP_VS_CONN_F_FWD_MASK`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forwarding {
    /// By address translation.
    Masquerade,
    /// To this node.
    Local,
    /// Through a tunnel.
    Tunnel,
    /// By routing, unchanged.
    Route,
    /// By a cache bypass, or by a method of a later kernel.
    Other(u32),
}

/// Connections of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connections {
    /// Established connections.
    pub active: u32,
    /// Closing connections, and all connections of protocols without states.
    pub inactive: u32,
    /// Clients that persistence keeps at the destination.
    pub persistent: u32,
}

/// Traffic of a virtual service or a destination since its creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Connections; flows of protocols without connections.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets from destinations.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes from destinations.
    pub bytes_out: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.packets_in += other.packets_in;
        self.packets_out += other.packets_out;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// Version and size of IPVS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Version as `0x00MMmmpp`.
    pub version: u32,
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

/// A change, as with a command of `ipvsadm`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IpvsCommand {
    /// `ipvsadm -A`
    AddService(VirtualService),
    /// `ipvsadm -E`
    SetService(VirtualService),
    /// `ipvsadm -D`
    DeleteService(ServiceId),
    /// `ipvsadm -a`
    AddDestination(ServiceId, Destination),
    /// `ipvsadm -e`
    SetDestination(ServiceId, Destination),
    /// `ipvsadm -d`, by address and port alone
    DeleteDestination(ServiceId, Destination),
}

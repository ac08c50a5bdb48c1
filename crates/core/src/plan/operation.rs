//! Operations on the kernel and their outcomes.
//!
//! Each operation prints as the equivalent command line of `ipvsadm`, `nft`, `ip` or `conntrack`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;

use super::ForeignClaims;
use crate::model::{
    Backend, DEVICE, Element, Family, NAME, Pool, Protocol, Route, Scheduler, VirtualAddress,
    VirtualServer,
};

/// A change of the kernel's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// On the agent's nf_tables tables.
    Filter(FilterOperation),
    Server(ServerOperation),
    /// On the device and the routes.
    Route(RouteOperation),
    /// On connection tracking.
    Flow(FlowOperation),
    /// Removes the leftovers of earlier versions: the device with its routes, policy rules and
    /// table `inet`.
    DeleteEarlier,
}

/// A change of the nf_tables tables. Consecutive changes form one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterOperation {
    /// Creates the tables with their chains, sets and rules, or updates older tables without
    /// touching the sets that stay.
    CreateTables,
    DeleteTables,
    Add(Element),
    Delete(Element),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerOperation {
    Add(VirtualServer),
    /// Changes the scheduler, flags or affinity of a virtual server.
    Set(VirtualServer),
    /// Deletes a virtual server with its real servers.
    Delete(VirtualAddress),
    /// Adds a real server with a limit of connections; 0 without limit.
    AddReal(VirtualAddress, Backend, u32),
    /// Changes the weight or the limit of a real server.
    SetReal(VirtualAddress, Backend, u32),
    DeleteReal(VirtualAddress, Backend),
}

impl ServerOperation {
    /// Returns the address of the virtual server.
    #[must_use]
    pub fn address(&self) -> VirtualAddress {
        match self {
            Self::Add(server) | Self::Set(server) => server.address,
            Self::Delete(address)
            | Self::AddReal(address, ..)
            | Self::SetReal(address, ..)
            | Self::DeleteReal(address, _) => *address,
        }
    }
}

/// A change of the device or the routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteOperation {
    /// Creates the dummy device that announces IPVS; an existing device stays as it is.
    CreateDevice,
    DeleteDevice,
    /// Adds a route or replaces the route of the same prefix.
    Add(Route),
    Delete(Route),
}

/// Removes stale connection-tracking entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowOperation {
    /// The address that the client used.
    pub frontend: VirtualAddress,
    /// The endpoint that answers; `None` for all.
    pub backend: Option<SocketAddr>,
    /// What carries the connection; `None` for all.
    pub carrier: Option<Carrier>,
}

/// The carrier of a connection after its first packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Carrier {
    /// IPVS takes each packet, at the virtual server's address.
    Ipvs,
    /// Connection tracking translates each packet, from the front end's address to the endpoint's.
    Tracking,
}

/// The effect of an operation; it prints as the sign before the operation in `plan`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Adds,
    Changes,
    Removes,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Adds => "+",
            Self::Changes => "~",
            Self::Removes => "-",
        })
    }
}

impl Operation {
    /// Returns the effect of the operation.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Filter(FilterOperation::CreateTables | FilterOperation::Add(_))
            | Self::Server(ServerOperation::Add(_) | ServerOperation::AddReal(..))
            | Self::Route(RouteOperation::CreateDevice | RouteOperation::Add(_)) => Effect::Adds,
            Self::Server(ServerOperation::Set(_) | ServerOperation::SetReal(..)) => Effect::Changes,
            Self::Filter(FilterOperation::DeleteTables | FilterOperation::Delete(_))
            | Self::Server(ServerOperation::Delete(_) | ServerOperation::DeleteReal(..))
            | Self::Route(RouteOperation::DeleteDevice | RouteOperation::Delete(_))
            | Self::Flow(_)
            | Self::DeleteEarlier => Effect::Removes,
        }
    }
}

impl Operation {
    /// Returns the operation on nf_tables, if it is one.
    #[must_use]
    pub fn as_filter(&self) -> Option<FilterOperation> {
        if let Self::Filter(operation) = self { Some(*operation) } else { None }
    }

    /// Returns the operation on IPVS, if it is one.
    #[must_use]
    pub fn as_server(&self) -> Option<ServerOperation> {
        if let Self::Server(operation) = self { Some(*operation) } else { None }
    }

    /// Returns the real server that the operation is on, if it is on one, with its virtual server.
    #[must_use]
    pub fn real_server(&self) -> Option<(VirtualAddress, Backend)> {
        match self.as_server()? {
            ServerOperation::AddReal(address, backend, _)
            | ServerOperation::SetReal(address, backend, _)
            | ServerOperation::DeleteReal(address, backend) => Some((address, backend)),
            _ => None,
        }
    }

    /// Returns the operation on the device or the routes, if it is one.
    #[must_use]
    pub fn as_route(&self) -> Option<RouteOperation> {
        if let Self::Route(operation) = self { Some(*operation) } else { None }
    }

    /// Returns the operation on connection tracking, if it is one.
    #[must_use]
    pub fn as_flow(&self) -> Option<FlowOperation> {
        if let Self::Flow(operation) = self { Some(*operation) } else { None }
    }
}

impl From<FilterOperation> for Operation {
    fn from(operation: FilterOperation) -> Self {
        Self::Filter(operation)
    }
}

impl From<ServerOperation> for Operation {
    fn from(operation: ServerOperation) -> Self {
        Self::Server(operation)
    }
}

impl From<RouteOperation> for Operation {
    fn from(operation: RouteOperation) -> Self {
        Self::Route(operation)
    }
}

impl From<FlowOperation> for Operation {
    fn from(operation: FlowOperation) -> Self {
        Self::Flow(operation)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(operation) => operation.fmt(f),
            Self::Server(operation) => operation.fmt(f),
            Self::Route(operation) => operation.fmt(f),
            Self::Flow(operation) => operation.fmt(f),
            Self::DeleteEarlier => {
                write!(
                    f,
                    "ip link delete {NAME}; ip rule delete lookup 7575 pref 75; nft delete table \
                     inet {NAME}"
                )
            }
        }
    }
}

impl fmt::Display for FilterOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = |f: &mut fmt::Formatter<'_>, verb: &str, element: &Element| {
            let set = element.set();
            let line = |family| match element {
                Element::OffloadLink(_) => format!(
                    "nft {verb} flowtable {family} {NAME} {set} \
                     {{ hook ingress priority filter; devices = {{ {element} }}; }}"
                ),
                _ => format!("nft {verb} element {family} {NAME} {set} {{ {element} }}"),
            };
            match element.family() {
                Some(Family::V4) => f.write_str(&line("ip")),
                Some(Family::V6) => f.write_str(&line("ip6")),
                // Interfaces and links are in the tables of both families.
                None => write!(f, "{}; {}", line("ip"), line("ip6")),
            }
        };
        match self {
            Self::CreateTables => write!(f, "nft add table ip {NAME}; nft add table ip6 {NAME}"),
            Self::DeleteTables => {
                write!(f, "nft delete table ip {NAME}; nft delete table ip6 {NAME}")
            }
            Self::Add(added) => element(f, "add", added),
            Self::Delete(deleted) => element(f, "delete", deleted),
        }
    }
}

/// Formats `-t ADDR:PORT`, `-u …` or `--sctp-service …`, as in `ipvsadm`.
fn service(address: &VirtualAddress) -> String {
    let option = match address.protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    };
    format!("{option} {}", SocketAddr::new(address.ip, address.port))
}

/// Formats the command line that reads a virtual server.
pub(crate) fn reading(address: &VirtualAddress) -> String {
    format!("-Ln {}", service(address))
}

/// Formats `-M`: a netmask for IPv4, a prefix length for IPv6.
fn persistence_mask(f: &mut fmt::Formatter<'_>, server: &VirtualServer) -> fmt::Result {
    let family = server.address.family();
    match IpNet::new(family.unspecified(), server.affinity_prefix) {
        Ok(net) if net.prefix_len() < family.host_prefix() => match family {
            Family::V4 => write!(f, " -M {}", net.netmask()),
            Family::V6 => write!(f, " -M {}", net.prefix_len()),
        },
        _ => Ok(()),
    }
}

/// Formats `-b`: the names that belong to the scheduler.
fn scheduler_flags(f: &mut fmt::Formatter<'_>, server: &VirtualServer) -> fmt::Result {
    let [fallback, port] = match server.scheduler {
        Scheduler::Sh => ["sh-fallback", "sh-port"],
        Scheduler::Mh => ["mh-fallback", "mh-port"],
        _ => ["flag-1", "flag-2"],
    };
    let bits = [(VirtualServer::FLAG_SCHED_1, fallback), (VirtualServer::FLAG_SCHED_2, port)];
    let set = bits.into_iter().filter(|(bit, _)| server.flags & bit != 0);
    for (index, (_, name)) in set.enumerate() {
        f.write_str(if index == 0 { " -b " } else { "," })?;
        f.write_str(name)?;
    }
    Ok(())
}

/// Formats `-x` and `-y`, if there is a limit.
fn thresholds(f: &mut fmt::Formatter<'_>, limit: u32) -> fmt::Result {
    match limit {
        0 => Ok(()),
        limit => write!(f, " -x {limit} -y {}", lower_threshold(limit)),
    }
}

/// Returns the number of connections below which a real server with a limit takes new ones again:
/// three quarters of the limit.
#[must_use]
pub fn lower_threshold(limit: u32) -> u32 {
    limit - limit.div_ceil(4)
}

impl fmt::Display for ServerOperation {
    /// Formats the line for `ipvsadm`; additions are exactly as `ipvsadm -Sn` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = |f: &mut fmt::Formatter<'_>, verb: &str, server: &VirtualServer| {
            write!(f, "{verb} {} -s {}", service(&server.address), server.scheduler)?;
            if let Some(seconds) = server.affinity_seconds {
                write!(f, " -p {seconds}")?;
                persistence_mask(f, server)?;
            }
            if server.flags & VirtualServer::FLAG_ONE_PACKET != 0 {
                f.write_str(" -o")?;
            }
            scheduler_flags(f, server)
        };
        let real =
            |f: &mut fmt::Formatter<'_>, verb, address: &VirtualAddress, backend: &Backend| {
                let socket = backend.socket();
                write!(f, "{verb} {} -r {socket}", service(address))
            };
        match self {
            Self::Add(added) => server(f, "-A", added),
            Self::Set(changed) => server(f, "-E", changed),
            Self::Delete(address) => write!(f, "-D {}", service(address)),
            Self::AddReal(address, backend, limit) => {
                real(f, "-a", address, backend)?;
                write!(f, " -m -w {}", backend.weight)?;
                thresholds(f, *limit)
            }
            Self::SetReal(address, backend, limit) => {
                real(f, "-e", address, backend)?;
                write!(f, " -m -w {}", backend.weight)?;
                thresholds(f, *limit)
            }
            Self::DeleteReal(address, backend) => real(f, "-d", address, backend),
        }
    }
}

impl fmt::Display for RouteOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |family: Family| match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        match self {
            Self::CreateDevice => write!(f, "ip link add {DEVICE} type dummy"),
            Self::DeleteDevice => write!(f, "ip link delete {DEVICE}"),
            Self::Add(route) => write!(f, "ip {} route replace {route}", version(route.family())),
            Self::Delete(route) => write!(f, "ip {} route delete {route}", version(route.family())),
        }
    }
}

impl fmt::Display for FlowOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VirtualAddress { ip, port, protocol } = self.frontend;
        write!(f, "conntrack -D -p {protocol} --orig-dst {ip} --orig-port-dst {port}")?;
        if let Some(backend) = self.backend {
            write!(f, " --reply-src {} --reply-port-src {}", backend.ip(), backend.port())?;
        }
        match self.carrier {
            Some(Carrier::Tracking) => f.write_str(" --dst-nat"),
            Some(Carrier::Ipvs) | None => Ok(()),
        }
    }
}

/// The observed kernel state. `pools` and `unread` include virtual servers of other programs;
/// everything else belongs to the agent by its table, name or protocol number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// Whether the tables exist with exactly the rules of this version.
    pub tables: bool,
    /// Of all sets and maps.
    pub elements: Vec<Element>,
    /// Whether the device that announces IPVS exists.
    pub device: bool,
    pub routes: Vec<Route>,
    /// Virtual servers with masquerading real servers, including those of other programs.
    pub pools: Vec<Pool>,
    /// Virtual servers whose real servers could not be read, including those of other programs,
    /// with the reason.
    pub unread: BTreeMap<VirtualAddress, String>,
    /// The virtual servers in the table of an earlier version, as elements of this version; `None`
    /// without such a table.
    pub earlier: Option<Vec<Element>>,
    /// The virtual servers that kube-proxy claims, if that matters.
    pub claims: ForeignClaims,
}

impl Observed {
    /// Returns whether the agent's tables exist with any rules: those of another version or
    /// configuration, too.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        self.tables || !self.elements.is_empty()
    }
}

/// Formats the error for an unreadable virtual server.
#[must_use]
pub fn cannot_be_read(address: &VirtualAddress, why: impl fmt::Display) -> String {
    format!("the virtual server {address} cannot be read: {why}")
}

/// The consequence of a failed operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The kernel's state was not as expected and must be read (ESRCH, ENOENT, EEXIST).
    Drift,
    /// The result of the operation is not known (lost acknowledgement, ENOBUFS).
    Unknown,
    /// The kernel rejected the operation; it may succeed later (ENOMEM).
    Refused,
    /// The kernel has no such scheduler, and no module for it.
    NoScheduler,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// The error and its remedy.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The outcome of one operation.
pub type Outcome = Result<(), Failure>;

//! Operations on the kernel, and what the kernel answered.
//!
//! Each operation prints as the command line that would do the same: `ipvsadm`, `nft` or `ip`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use super::{ForeignClaims, ObjectKey};
use crate::model::{
    Backend, DEVICE, Element, Family, NAME, Pool, Protocol, Route, VirtualAddress, VirtualServer,
};

/// One change to what the kernel holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// To our nf_tables tables.
    Filter(FilterOperation),
    /// To IPVS.
    Server(ServerOperation),
    /// To our device and routes.
    Route(RouteOperation),
    /// To connection tracking.
    Flow(FlowOperation),
    /// Removes what earlier versions had and this one has not: the device with its routes, policy rules
    /// and table `inet`.
    DeleteEarlier,
}

/// A change to our nf_tables tables. Consecutive ones go into one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterOperation {
    /// Creates the tables with their chains, sets and rules, or brings older ones up to date
    /// without touching the sets that stay.
    CreateTables,
    /// Removes the tables.
    DeleteTables,
    /// Adds an element.
    Add(Element),
    /// Removes an element.
    Delete(Element),
}

/// A change to IPVS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerOperation {
    /// Adds a virtual server.
    Add(VirtualServer),
    /// Changes scheduler, flags or affinity of a virtual server.
    Set(VirtualServer),
    /// Removes a virtual server with its real servers.
    Delete(VirtualAddress),
    /// Adds a real server.
    AddReal(VirtualAddress, Backend),
    /// Changes the weight of a real server.
    SetReal(VirtualAddress, Backend),
    /// Removes a real server.
    DeleteReal(VirtualAddress, Backend),
}

impl ServerOperation {
    /// The virtual server that it is about.
    #[must_use]
    pub fn address(&self) -> VirtualAddress {
        match self {
            Self::Add(server) | Self::Set(server) => server.address,
            Self::Delete(address)
            | Self::AddReal(address, _)
            | Self::SetReal(address, _)
            | Self::DeleteReal(address, _) => *address,
        }
    }
}

/// A change to our device and routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteOperation {
    /// Creates the dummy device that tells of IPVS; one that is there already is kept as it stands.
    CreateDevice,
    /// Removes the device.
    DeleteDevice,
    /// Adds a route, or replaces the one of the same prefix.
    Add(Route),
    /// Removes a route.
    Delete(Route),
}

/// A change to connection tracking: removes entries that keep clients from where they should go
/// now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowOperation {
    /// Where the client sent to.
    pub frontend: VirtualAddress,
    /// The endpoint that answers; `None` for any.
    pub backend: Option<SocketAddr>,
    /// What carries the connection; `None` for any.
    pub carrier: Option<Carrier>,
}

/// What carries a connection past its first packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Carrier {
    /// IPVS takes each packet, at the virtual server's address.
    Ipvs,
    /// Connection tracking translates each packet, from the front end's address to the endpoint's.
    Tracking,
}

/// Whether an operation adds, changes or removes; the sign before its line in `plan`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// `+`
    Adds,
    /// `~`
    Changes,
    /// `-`
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
    /// Whether it adds, changes or removes.
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
    /// The operation on our nf_tables tables, if it is one.
    #[must_use]
    pub fn as_filter(&self) -> Option<FilterOperation> {
        if let Self::Filter(operation) = self { Some(*operation) } else { None }
    }

    /// The operation on IPVS, if it is one.
    #[must_use]
    pub fn as_server(&self) -> Option<ServerOperation> {
        if let Self::Server(operation) = self { Some(*operation) } else { None }
    }

    /// The operation on device and routes, if it is one.
    #[must_use]
    pub fn as_route(&self) -> Option<RouteOperation> {
        if let Self::Route(operation) = self { Some(*operation) } else { None }
    }

    /// The operation on connection tracking, if it is one.
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
                // In the tables of both families.
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

/// `-t ADDR:PORT`, `-u …` or `--sctp-service …`, as `ipvsadm` takes it.
struct ServiceArgument(VirtualAddress);

impl fmt::Display for ServiceArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let option = match self.0.protocol {
            Protocol::Tcp => "-t",
            Protocol::Udp => "-u",
            Protocol::Sctp => "--sctp-service",
        };
        write!(f, "{option} {}", SocketAddr::new(self.0.ip, self.0.port))
    }
}

impl fmt::Display for ServerOperation {
    /// The line that `ipvsadm` reads; for what adds, exactly the one that `ipvsadm -Sn` prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = |f: &mut fmt::Formatter<'_>, verb: &str, server: &VirtualServer| {
            write!(f, "{verb} {} -s {}", ServiceArgument(server.address), server.scheduler)?;
            if let Some(seconds) = server.affinity_seconds {
                write!(f, " -p {seconds}")?;
            }
            if server.flags & VirtualServer::FLAG_SCHED_2 != 0 {
                f.write_str(" -b mh-port")?;
            }
            Ok(())
        };
        let real =
            |f: &mut fmt::Formatter<'_>, verb, address: &VirtualAddress, backend: &Backend| {
                let socket = backend.socket();
                write!(f, "{verb} {} -r {socket}", ServiceArgument(*address))
            };
        match self {
            Self::Add(added) => server(f, "-A", added),
            Self::Set(changed) => server(f, "-E", changed),
            Self::Delete(address) => write!(f, "-D {}", ServiceArgument(*address)),
            Self::AddReal(address, backend) => {
                real(f, "-a", address, backend)?;
                write!(f, " -m -w {}", backend.weight)
            }
            Self::SetReal(address, backend) => {
                real(f, "-e", address, backend)?;
                write!(f, " -m -w {}", backend.weight)
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

/// What the kernel was found to hold. It may name more than is ours in `pools`; everything else
/// is ours by its table, name or protocol number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Observed {
    /// Whether our tables are there with exactly the rules that this version writes.
    pub tables: bool,
    /// Elements of their sets and maps.
    pub elements: Vec<Element>,
    /// Whether the device that tells of IPVS is there.
    pub device: bool,
    /// Our routes.
    pub routes: Vec<Route>,
    /// Virtual servers with masquerading real servers, ours and others'.
    pub pools: Vec<Pool>,
    /// Virtual servers whose real servers could not be read, ours and others', and why.
    pub unread: BTreeMap<VirtualAddress, String>,
    /// Where an earlier version has left its own: what its table says of its virtual servers, in the
    /// elements that say so today.
    pub earlier: Option<Vec<Element>>,
    /// What kube-proxy claims of the virtual servers, where that matters.
    pub claims: ForeignClaims,
}

impl Observed {
    /// Whether tables of ours are there, whatever their rules: those of another version, or of an
    /// agent that is configured otherwise.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        self.tables || !self.elements.is_empty()
    }
}

/// Says of a virtual server of [`Observed::unread`] that it is one, and why.
#[must_use]
pub fn cannot_be_read(address: &VirtualAddress, why: impl fmt::Display) -> String {
    format!("the virtual server {address} cannot be read: {why}")
}

/// What may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// An operation.
    Operation(Operation),
    /// To read the real servers of a virtual server.
    Reading(VirtualAddress),
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(operation) => operation.fmt(f),
            Self::Reading(address) => write!(f, "-Ln {}", ServiceArgument(*address)),
        }
    }
}

/// What a failed operation means for the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The kernel does not hold what it was thought to hold: read it back (ESRCH, ENOENT, EEXIST).
    Drift,
    /// It is not known whether the operation took place (lost acknowledgement, ENOBUFS).
    Unknown,
    /// The kernel refused; the same operation may succeed later (ENOMEM, a missing module).
    Refused,
}

/// An operation that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What it means for the plan.
    pub kind: FailureKind,
    /// What went wrong and what to do about it.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The outcome of one operation.
pub type Outcome = Result<(), Failure>;

/// A key whose operations did not all succeed, or which could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncError {
    /// What it is about.
    pub key: ObjectKey,
    /// What failed first.
    pub attempt: Attempt,
    /// What that means.
    pub kind: FailureKind,
    /// What went wrong.
    pub message: String,
}

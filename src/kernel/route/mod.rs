//! Our device, policy rules and routes, over rtnetlink.
//!
//! Ours is the dummy device of our name, and the routes on it and the rules that carry our
//! protocol number. Nothing else is ever changed.

mod apply;
mod decode;
mod links;
mod message;
mod network;
mod notification;
mod outcome;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use rustix::io::Errno;

use super::netlink::{Batch, KernelError, Protocol, Socket};
use crate::model::{Family, NAME, Route, RouteTable};
use decode::{Address, Link};
use message::Request;

pub use links::Links;
pub use network::{Network, NetworkListener, Touched};
pub(super) use notification::may_change_ours;

/// The kind of our device.
const DUMMY: &str = "dummy";

/// An address that our device has as long as it is there: one that loses its last IPv4 address
/// loses its IPv4 routes (`fib_inetaddr_event`). Nothing is ever sent to it or from it.
const LASTING: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 75);

/// What the kernel holds of ours.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RoutesObserved {
    /// Whether our device is there, a dummy, and up.
    pub device: bool,
    /// Families whose rule is there.
    pub rules: Vec<Family>,
    /// Our routes on our device.
    pub routes: Vec<Route>,
}

/// Device, rules and routes of the network namespace that this was opened in.
#[derive(Debug)]
pub struct Routes {
    socket: Socket,
    batch: Batch,
}

impl Routes {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// If the kernel has no route netlink.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self::over(Socket::open(Protocol::Route)?))
    }

    /// The same over a socket that is open.
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, batch: Batch::default() }
    }

    /// The port that changes are made through.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Reads back what is ours.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe(&mut self) -> Result<RoutesObserved, KernelError> {
        let mut observed = RoutesObserved::default();
        for family in Family::BOTH {
            if self.has_rule(family)? {
                observed.rules.push(family);
            }
        }
        let Some(device) = self.device()?.filter(is_ours) else { return Ok(observed) };
        let spoken = self.spoken(device.index)?;
        observed.device = device.up && spoken.contains(&LASTING);
        for family in Family::BOTH {
            for table in [RouteTable::Local, RouteTable::Own] {
                observed.routes.extend(self.routes(family, table, device.index)?);
            }
        }
        // Without its address a route is half of what it should be: it is added again.
        let is_whole = |ip: Ipv4Addr| spoken.contains(&ip);
        observed.routes.retain(|route| spoken_from(route).is_none_or(is_whole));
        Ok(observed)
    }

    /// The IPv4 addresses on our device.
    fn addresses(&mut self, device: u32) -> Result<HashSet<Ipv4Addr>, KernelError> {
        let addresses = message::dump_addresses(device);
        dump(&mut self.socket, "addresses", &addresses, |found: &mut HashSet<_>, body| {
            match decode::address(body) {
                Some(Address { device: on, ip: IpAddr::V4(ip), .. }) if on == device => {
                    found.insert(ip);
                }
                _ => {}
            }
        })
    }

    /// Those of them that the kernel has no local route of its own for.
    fn spoken(&mut self, device: u32) -> Result<HashSet<Ipv4Addr>, KernelError> {
        let mut spoken = self.addresses(device)?;
        let routes = message::dump_kernels_routes(device);
        let routed = dump(&mut self.socket, "routes", &routes, |found: &mut Vec<_>, body| {
            found.extend(decode::kernels_route(body, device));
        });
        for ip in absent_is_empty(routed)? {
            spoken.remove(&ip);
        }
        Ok(spoken)
    }

    /// The device of our name, whatever it is.
    fn device(&mut self) -> Result<Option<Link>, KernelError> {
        device(&mut self.socket, NAME)
    }

    fn has_rule(&mut self, family: Family) -> Result<bool, KernelError> {
        let rules = message::dump_rules(family);
        let found = dump(&mut self.socket, "rules", &rules, |found: &mut bool, body| {
            *found |= decode::own_rule(body) == Some(family);
        });
        absent_is_empty(found)
    }

    fn routes(
        &mut self,
        family: Family,
        table: RouteTable,
        device: u32,
    ) -> Result<Vec<Route>, KernelError> {
        let request = message::dump_routes(family, table, device);
        // A kernel without IPv6 answers with IPv4 routes; one without strict checking, with those
        // of every table.
        let asked = |route: &Route| route.table == table && route.family() == family;
        let found = dump(&mut self.socket, "routes", &request, |found: &mut Vec<_>, body| {
            found.extend(decode::own_route(body, device).filter(asked));
        });
        absent_is_empty(found)
    }
}

fn dump<T: Default>(
    socket: &mut Socket,
    name: &'static str,
    request: &Request,
    mut take: impl FnMut(&mut T, &[u8]),
) -> Result<T, KernelError> {
    let body = request.body();
    socket.dump(
        name,
        request.kind(),
        |message| message.raw(&body),
        |found, _, body| take(found, body),
    )
}

/// The device of a name.
fn device(socket: &mut Socket, name: &str) -> Result<Option<Link>, KernelError> {
    let request = message::get_device(name);
    let mut device = None;
    let asked = socket.request(
        "device",
        request.kind(),
        |message| message.raw(&request.body()),
        |_, body| device = decode::link(body),
    );
    match asked {
        Ok(()) => Ok(device),
        Err(KernelError::Refused { error, .. }) if error.errno == Errno::NODEV => Ok(None),
        Err(error) => Err(error),
    }
}

/// The address that our device has to have for a route, so that the node can send ICMP errors from
/// it: IPv4 refuses a source address that is neither a device's nor in table `local`
/// (`ip_route_output_key_hash_rcu`). The local route that the kernel makes for the address is
/// removed, or packets from an outside load balancer that owns it would be martians, and ARP
/// requests would name it.
fn spoken_from(route: &Route) -> Option<Ipv4Addr> {
    match (route.table, route.prefix) {
        (RouteTable::Own, IpNet::V4(prefix)) if prefix.prefix_len() == 32 => Some(prefix.addr()),
        _ => None,
    }
}

/// Whether a device of our name is one that we made.
fn is_ours(device: &Link) -> bool {
    device.kind == DUMMY
}

/// Nothing, where the kernel has no such table yet or is without IPv6.
fn absent_is_empty<T: Default>(found: Result<T, KernelError>) -> Result<T, KernelError> {
    match found {
        Err(KernelError::Refused { error, .. })
            if matches!(error.errno, Errno::NOENT | Errno::AFNOSUPPORT | Errno::OPNOTSUPP) =>
        {
            Ok(T::default())
        }
        found => found,
    }
}

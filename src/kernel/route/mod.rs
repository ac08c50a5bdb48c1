//! Our device and routes, over rtnetlink.
//!
//! Our routes are those on the loopback device with our protocol number. kube-proxy uses the device
//! [`DEVICE`], too, so it is deleted only while it has no address. Nothing else is ever changed.

mod apply;
mod canary;
mod decode;
mod earlier;
pub mod links;
mod message;
mod network;
mod notification;

use decode::DumpedLink;
use kube_ipvs_core::model::{DEVICE, Family, Route};
use kube_ipvs_core::plan::Observed;
use netlink_ipvs::{Batch, KernelError, Socket, Subsystem};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;

pub use network::{Network, Touched, WITHOUT_IPV6, has_ipv6, listen, wait};
pub(super) use notification::describe;

/// The kind of [`DEVICE`].
const DUMMY: &str = "dummy";
/// The index of the loopback device (`LOOPBACK_IFINDEX` in the kernel's `net/flow.h`).
const LOOPBACK_INDEX: u32 = 1;

/// The device and routes of a network namespace.
#[derive(Debug)]
pub struct Routes {
    socket: Socket,
    batch: Batch,
}

impl Routes {
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self::over(Socket::open(Subsystem::Route)?))
    }

    pub(super) fn over(socket: Socket) -> Self {
        Self { socket, batch: Batch::default() }
    }

    /// Returns the netlink port from which changes are made.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Reads the device and the routes, and into `earlier` whether a policy rule or the device of an
    /// earlier version exists.
    pub fn observe(&mut self) -> Result<Observed, KernelError> {
        let device = self.device(DEVICE)?.is_some();
        let earlier = self.has_earlier()?.then(Vec::new);
        let mut observed = Observed { device, earlier, ..Observed::default() };
        for family in Family::BOTH {
            let request = message::dump_routes(family);
            // A kernel without IPv6 answers with IPv4 routes.
            let asked = |route: &Route| route.family() == family;
            let found = dump(&mut self.socket, "routes", &request, |found: &mut Vec<_>, body| {
                found.extend(decode::own_route(body).filter(asked));
            });
            observed.routes.append(&mut absent_is_empty(found)?);
        }
        Ok(observed)
    }

    fn device(&mut self, name: &str) -> Result<Option<DumpedLink>, KernelError> {
        Ok(device(&mut self.socket, name)?.filter(|device| device.kind == DUMMY))
    }
}

fn dump<T: Default>(
    socket: &mut Socket,
    name: &'static str,
    request: &RouteNetlinkMessage,
    mut take: impl FnMut(&mut T, &[u8]),
) -> Result<T, KernelError> {
    let (kind, body) = (request.message_type(), message::body(request));
    socket.dump(name, kind, |message| message.raw(&body), |found, _, body| take(found, body))
}

/// Sends a request that has no flags, and passes its answers to `take`.
fn ask(
    socket: &mut Socket,
    name: &'static str,
    request: &RouteNetlinkMessage,
    mut take: impl FnMut(&[u8]),
) -> Result<(), KernelError> {
    let (kind, body) = (request.message_type(), message::body(request));
    socket.request(name, kind, |message| message.raw(&body), |_, body| take(body))
}

fn push(batch: &mut Batch, request: &RouteNetlinkMessage) {
    let body = message::body(request);
    batch.push(request.message_type(), message::flags(request), |message| message.raw(&body));
}

fn device(socket: &mut Socket, name: &str) -> Result<Option<DumpedLink>, KernelError> {
    let mut device = None;
    let request = message::get_device(name);
    match ask(socket, "device", &request, |body| device = decode::link(body)) {
        Ok(()) => Ok(device),
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Errors for a table or family that does not exist.
const ABSENT: [Errno; 3] = [Errno::NOENT, Errno::AFNOSUPPORT, Errno::OPNOTSUPP];

/// Returns an empty value if the kernel has no such table yet or no IPv6.
fn absent_is_empty<T: Default>(found: Result<T, KernelError>) -> Result<T, KernelError> {
    match found {
        Err(error) if error.errno().is_some_and(|it| ABSENT.contains(&it)) => Ok(T::default()),
        found => found,
    }
}

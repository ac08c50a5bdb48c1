//! Linux IPVS over generic netlink, and the netlink transport beneath it.
//!
//! [`ipvs`] lists and programs virtual services and their destinations, as `ipvsadm` does:
//!
//! ```no_run
//! use netlink_ipvs::ipvs::{Destination, IpvsCommand, IpvsSocket, ServiceId, VirtualService};
//!
//! # fn main() -> Result<(), netlink_ipvs::KernelError> {
//! let id = ServiceId { ip: [10, 96, 0, 10].into(), port: 80, protocol: ServiceId::TCP };
//! let mut ipvs = IpvsSocket::open()?;
//! let outcomes = ipvs.apply(&[
//!     IpvsCommand::AddService(VirtualService::new(id, "rr")),
//!     IpvsCommand::AddDestination(id, Destination::new([10, 244, 1, 7].into(), 8080)),
//! ])?;
//! assert!(outcomes.iter().all(|outcome| *outcome == Some(Ok(()))));
//! for service in ipvs.services()? {
//!     println!("{:?}: {:?}", service.id, ipvs.destinations(&service.id)?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Socket`] speaks any netlink protocol. It is synchronous and never waits: the kernel answers a
//! request within the system call that sends it, so an answer that is not there at once was lost.
//! A [`Batch`] goes to the kernel in one system call; [`Socket::transact`] matches every answer to
//! its request. Dumps that concurrent changes interrupt are repeated, and lost answers
//! (`ENOBUFS`) are reported as [`KernelError::Lost`], never as success.
//!
//! Messages are written without allocation ([`Attributes`]) and read without trust
//! ([`attributes`], [`messages`]): malformed bytes end an iteration, they never panic.

#![warn(missing_docs)]
// Input from outside must never cause a panic. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
    )
)]

mod answer;
mod attribute;
mod batch;
mod error;
pub mod generic;
mod header;
pub mod ipvs;
mod listener;
mod socket;
mod transport;

pub use answer::{Answers, NetlinkError};
pub use attribute::{Attribute, Attributes, Number, attributes, find};
pub use batch::Batch;
pub use error::KernelError;
pub use header::{Header, messages};
pub use listener::Listener;
pub use socket::Socket;
pub use transport::{KernelTransport, Subsystem, Transport};

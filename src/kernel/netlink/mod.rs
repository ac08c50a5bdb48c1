//! The netlink transport that IPVS, nf_tables and routes share.

mod answer;
mod attribute;
mod batch;
mod error;
mod header;
mod listener;
mod socket;
mod transport;

pub use answer::{Answers, NetlinkError};
pub use attribute::{Attribute, Attributes, Number, attributes};
pub use batch::Batch;
pub use error::KernelError;
pub use header::{Header, messages};
pub use listener::Listener;
pub use socket::Socket;
pub use transport::{KernelTransport, Protocol, Transport};

//! Every network device, for the checks.

use super::{decode, message};
use crate::kernel::netlink::{KernelError, Protocol, Socket};

/// The network devices of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links(Vec<decode::Link>);

impl Links {
    /// Lists the devices of this thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn read() -> Result<Self, KernelError> {
        let request = message::dump_links();
        let body = request.body();
        let links = Socket::open(Protocol::Route)?.dump(
            "devices",
            request.kind(),
            |message| message.raw(&body),
            |links: &mut Vec<decode::Link>, _, body| links.extend(decode::link(body)),
        )?;
        Ok(Self(links))
    }

    /// Whether there is a device of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|link| link.name == name)
    }

    /// The names of all bridges.
    #[must_use]
    pub fn bridges(&self) -> Vec<String> {
        let bridges = self.0.iter().filter(|link| link.kind == "bridge");
        bridges.map(|link| link.name.clone()).collect()
    }
}

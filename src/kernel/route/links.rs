//! Every network device, for the checks and for what another proxy has left.

use std::net::IpAddr;

use super::{decode, dump, message};
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
        let mut socket = Socket::open(Protocol::Route)?;
        let links = dump(&mut socket, "devices", &message::dump_links(), |links, body| {
            Vec::extend(links, decode::link(body));
        })?;
        Ok(Self(links))
    }

    /// Whether there is a device of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|link| link.name == name)
    }

    /// The index of the device of this name and kind.
    #[must_use]
    pub fn index(&self, name: &str, kind: &str) -> Option<u32> {
        let mut links = self.0.iter();
        links.find(|link| link.name == name && link.kind == kind).map(|link| link.index)
    }

    /// Every address with the index of its device.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn addresses() -> Result<Vec<(u32, IpAddr)>, KernelError> {
        let mut socket = Socket::open(Protocol::Route)?;
        dump(&mut socket, "addresses", &message::dump_all_addresses(), |found, body| {
            Vec::extend(found, decode::address(body).map(|it| (it.device, it.ip)));
        })
    }

    /// Removes the device with this index, with its addresses and routes.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn delete(index: u32) -> Result<(), KernelError> {
        let request = message::delete_device(index);
        let body = request.body();
        Socket::open(Protocol::Route)?.request(
            "ip link delete",
            request.kind(),
            |message| message.raw(&body),
            |_, _| {},
        )
    }

    /// The names of all bridges.
    #[must_use]
    pub fn bridges(&self) -> Vec<String> {
        let bridges = self.0.iter().filter(|link| link.kind == "bridge");
        bridges.map(|link| link.name.clone()).collect()
    }
}

//! Every network device, for the checks and for what another proxy has left.

use std::net::IpAddr;

use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::message::{self, Request};
use super::{decode, dump};

/// The network devices of a namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Links(Vec<decode::DumpedLink>);

impl Links {
    /// Lists the devices of this thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn read() -> Result<Self, KernelError> {
        let mut socket = Socket::open(Subsystem::Route)?;
        let links = dump(&mut socket, "devices", &message::dump_links(), |links, body| {
            Vec::extend(links, decode::link(body));
        })?;
        Ok(Self(links))
    }

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
        let mut socket = Socket::open(Subsystem::Route)?;
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
        let mut socket = Socket::open(Subsystem::Route)?;
        remove(&mut socket, "ip link delete", &message::delete_device(index))
    }

    /// Takes these addresses from the device with this index. Each stands by itself, with a prefix of
    /// its whole length.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer. Those that come first are gone by then.
    pub fn take(index: u32, addresses: &[IpAddr]) -> Result<(), KernelError> {
        let mut socket = Socket::open(Subsystem::Route)?;
        addresses.iter().try_for_each(|ip| {
            remove(&mut socket, "ip address delete", &message::delete_address(*ip, index))
        })
    }

    #[must_use]
    pub fn bridges(&self) -> Vec<String> {
        let bridges = self.0.iter().filter(|link| link.kind == "bridge");
        bridges.map(|link| link.name.clone()).collect()
    }
}

fn remove(socket: &mut Socket, name: &'static str, request: &Request) -> Result<(), KernelError> {
    let body = request.body();
    socket.request(name, request.kind(), |message| message.raw(&body), |_, _| {})
}

//! Devices of any program, for the checks and for the removal of what another proxy has left. All
//! functions work in the network namespace of the calling thread.

use std::net::IpAddr;

use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::{DUMMY, ask, decode, dump, message};

/// Returns the names of all bridges.
pub fn bridges() -> Result<Vec<String>, KernelError> {
    dump(&mut open()?, "devices", &message::dump_links(), |bridges: &mut Vec<_>, body| {
        let bridge = decode::link(body).filter(|link| link.kind == "bridge");
        bridges.extend(bridge.map(|link| link.name));
    })
}

/// Returns the index of the dummy device with this name.
pub fn dummy(name: &str) -> Result<Option<u32>, KernelError> {
    let device = super::device(&mut open()?, name)?;
    Ok(device.filter(|device| device.kind == DUMMY).map(|device| device.index))
}

/// Returns every address with the index of its device.
pub fn addresses() -> Result<Vec<(u32, IpAddr)>, KernelError> {
    dump(&mut open()?, "addresses", &message::dump_all_addresses(), |found: &mut Vec<_>, body| {
        found.extend(decode::address(body).map(|it| (it.device, it.ip)));
    })
}

/// Removes the device with this index, with its addresses and routes.
pub fn delete(index: u32) -> Result<(), KernelError> {
    ask(&mut open()?, "ip link delete", &message::delete_device(index), |_| {})
}

/// Deletes addresses, each with a prefix of its whole length, from the device with this index.
///
/// # Errors
///
/// If the kernel rejects a request or does not answer. Earlier addresses are deleted by then.
pub fn take(index: u32, addresses: &[IpAddr]) -> Result<(), KernelError> {
    let mut socket = open()?;
    addresses.iter().try_for_each(|ip| {
        let request = message::delete_address(*ip, index);
        ask(&mut socket, "ip address delete", &request, |_| {})
    })
}

fn open() -> Result<Socket, KernelError> {
    Socket::open(Subsystem::Route)
}

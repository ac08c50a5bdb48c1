//! The device of the canary: its state and its routes. The agent itself creates it, by `/dev/net/tun`.

use kube_ipvs_core::canary::{CANARY_DEVICE, path};
use kube_ipvs_core::model::Family;
use netlink_ipvs::KernelError;
use rustix::io::Errno;

use super::{Routes, device, message};

impl Routes {
    /// Brings the device up, without any address, not even a link-local one.
    ///
    /// # Errors
    ///
    /// If the device is gone, or the kernel refuses.
    pub fn raise_canary(&mut self) -> Result<(), KernelError> {
        let Some(link) = device(&mut self.socket, CANARY_DEVICE)? else {
            let error = netlink_ipvs::NetlinkError { errno: Errno::NODEV, text: None };
            return Err(KernelError::refused("the canary's device", error));
        };
        // A kernel without IPv6 has no such setting.
        let _ = self.send("the canary's device", &message::without_addresses(link.index));
        self.send("the canary's device", &message::raise_device(link.index))
    }

    /// Leads the client and the endpoint of a family to the device.
    ///
    /// # Errors
    ///
    /// If the device is gone, or the kernel refuses: IPv6 may be switched off.
    pub fn lead_to_canary(&mut self, family: Family) -> Result<(), KernelError> {
        let way = path(family);
        let link = device(&mut self.socket, CANARY_DEVICE)?.map_or(0, |link| link.index);
        for ip in [way.client, way.endpoint.ip()] {
            self.send("a route of the canary", &message::lead_to_device(ip, link))?;
        }
        Ok(())
    }
}

//! IPVS over generic netlink (`include/uapi/linux/ip_vs.h`, `net/netfilter/ipvs/ip_vs_ctl.c`).

mod apply;
mod constants;
mod decode;
mod encode;
mod failure;
mod family;
mod observe;
mod traffic;

use std::time::Duration;

use super::netlink::{Batch, KernelError, Protocol, Socket};

pub use decode::{Connections, Info};
pub use encode::encode;
pub use observe::IpvsObserved;
pub use traffic::Traffic;

/// IPVS of this process's network namespace.
#[derive(Debug)]
pub struct Ipvs {
    socket: Socket,
    /// The kind of IPVS's messages, until the module is loaded anew.
    family: u16,
    batch: Batch,
}

impl Ipvs {
    /// Opens IPVS. Asking for its family makes the kernel load the module where it may.
    ///
    /// # Errors
    ///
    /// If the kernel has no IPVS, or the process lacks CAP_NET_ADMIN.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open(Protocol::Generic)?)
    }

    /// The same over a socket that is open.
    pub(super) fn over(mut socket: Socket) -> Result<Self, KernelError> {
        let family = family::resolve(&mut socket)?;
        let mut ipvs = Self { socket, family, batch: Batch::default() };
        ipvs.info()?;
        Ok(ipvs)
    }

    /// The kind of IPVS's messages: what [`encode()`] needs.
    #[must_use]
    pub fn family(&self) -> u16 {
        self.family
    }

    /// Version and size of the connection table.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn info(&mut self) -> Result<Info, KernelError> {
        self.with_family(|socket, family| {
            let mut info = Info::default();
            socket.request(
                "IPVS information",
                family,
                |message| encode::command(message, constants::CMD_GET_INFO),
                |_, payload| info = decode::info(payload),
            )?;
            Ok(info)
        })
    }

    /// Sets how long idle connections are kept (`ipvsadm --set`), in whole seconds; what is `None`
    /// or below a second stays as it is.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn set_timeouts(
        &mut self,
        tcp: Option<Duration>,
        tcp_fin: Option<Duration>,
        udp: Option<Duration>,
    ) -> Result<(), KernelError> {
        self.with_family(|socket, family| {
            socket.request(
                "IPVS timeouts",
                family,
                |message| encode::timeouts(message, tcp, tcp_fin, udp),
                |_, _| {},
            )
        })
    }

    /// Asks something of the family, and once more if the kernel did not know it.
    fn with_family<T>(
        &mut self,
        mut ask: impl FnMut(&mut Socket, u16) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        match ask(&mut self.socket, self.family) {
            Err(KernelError::Refused { error, .. })
                if family::may_be_renewed(error.errno) && self.renew_family()? =>
            {
                ask(&mut self.socket, self.family)
            }
            answer => answer,
        }
    }

    /// Asks for the family's number again. Tells whether it is another one.
    fn renew_family(&mut self) -> Result<bool, KernelError> {
        let old = std::mem::replace(&mut self.family, family::resolve(&mut self.socket)?);
        Ok(old != self.family)
    }
}

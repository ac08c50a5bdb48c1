//! IPVS (`include/uapi/linux/ip_vs.h`, `net/netfilter/ipvs/ip_vs_ctl.c`).
//!
//! Services that are selected by a firewall mark are left out of every list.

mod constants;
mod decode;
mod encode;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::Errno;

use crate::{Answers, Attributes, Batch, KernelError, Socket, Subsystem, generic};

pub use encode::encode;
pub use values::{
    Connections, Destination, Forwarding, Info, IpvsCommand, Persistence, ServiceId, Traffic,
    VirtualService,
};

/// The largest number of lists to compare while other programs change services.
const LISTS: usize = 6;

/// A socket for IPVS in the network namespace in which it was opened.
#[derive(Debug)]
pub struct IpvsSocket {
    socket: Socket,
    /// The message type of IPVS until the module is reloaded.
    family: u16,
    load: fn(&str),
    batch: Batch,
}

impl IpvsSocket {
    /// Opens IPVS. From Linux 5.16 on, the kernel loads its module on demand.
    ///
    /// # Errors
    ///
    /// If the kernel has no IPVS, or the process lacks CAP_NET_ADMIN.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open(Subsystem::Generic)?, |_| {})
    }

    /// Opens IPVS over an open socket. `load` is called with the name of the module if the kernel
    /// has no IPVS.
    ///
    /// # Errors
    ///
    /// Those of [`IpvsSocket::open`].
    pub fn over(mut socket: Socket, load: fn(&str)) -> Result<Self, KernelError> {
        let family = resolve(&mut socket, load)?;
        let mut ipvs = Self { socket, family, load, batch: Batch::default() };
        ipvs.info()?;
        Ok(ipvs)
    }

    /// Returns the message type of IPVS for [`encode()`].
    #[must_use]
    pub fn family(&self) -> u16 {
        self.family
    }

    /// Reads the version and the size of the connection table.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn info(&mut self) -> Result<Info, KernelError> {
        let request = |message: &mut Attributes<'_>| {
            encode::command(message, constants::CMD_GET_INFO);
        };
        self.ask("IPVS information", request, decode::info)
    }

    /// Sets the timeouts of idle connections (`ipvsadm --set`), in whole seconds. A timeout of
    /// `None` or less than a second is left unchanged.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn set_timeouts(
        &mut self,
        tcp: Option<Duration>,
        tcp_fin: Option<Duration>,
        udp: Option<Duration>,
    ) -> Result<(), KernelError> {
        let request = |message: &mut Attributes<'_>| encode::timeouts(message, tcp, tcp_fin, udp);
        self.ask("IPVS timeouts", request, |_| ())
    }

    /// Lists the virtual services. IPVS does not report changes of its table during a dump, which
    /// then lacks services or contains them twice. Therefore the table is dumped until two
    /// consecutive dumps are equal.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn services(&mut self) -> Result<Vec<VirtualService>, KernelError> {
        let mut list = || self.list("IPVS virtual servers", None, decode::service);
        let mut last = list()?;
        let mut all = BTreeMap::new();
        for _ in 1..LISTS {
            let next = list()?;
            if next == last {
                return Ok(next);
            }
            all.extend(last.into_iter().chain(next.iter().cloned()).map(|it| (it.id, it)));
            last = next;
        }
        Ok(all.into_values().collect())
    }

    /// Reads a virtual service, if it exists.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn service(&mut self, id: &ServiceId) -> Result<Option<VirtualService>, KernelError> {
        let request = |message: &mut Attributes<'_>| {
            encode::of_service(message, constants::CMD_GET_SERVICE, id);
        };
        match self.ask("IPVS virtual server", request, decode::service) {
            Err(error) if error.errno() == Some(Errno::SRCH) => Ok(None),
            asked => asked,
        }
    }

    /// Lists the destinations of a virtual service with their connections; none if the service does
    /// not exist.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn destinations(
        &mut self,
        id: &ServiceId,
    ) -> Result<Vec<(Destination, Connections)>, KernelError> {
        self.list("IPVS real servers", Some(id), |payload| decode::destination(payload, id.ip))
    }

    /// Reads the traffic of every virtual service.
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn traffic(&mut self) -> Result<Vec<(ServiceId, Traffic)>, KernelError> {
        self.statistics(decode::service_traffic)
    }

    /// Reads the traffic of every virtual service per second, as the kernel estimates it: a moving
    /// average of periods of two seconds, rounded up (`net/netfilter/ipvs/ip_vs_est.c`).
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn rates(&mut self) -> Result<Vec<(ServiceId, Traffic)>, KernelError> {
        self.statistics(decode::service_rates)
    }

    fn statistics(
        &mut self,
        traffic: fn(&[u8]) -> Traffic,
    ) -> Result<Vec<(ServiceId, Traffic)>, KernelError> {
        self.list("IPVS statistics", None, |payload| {
            Some((decode::service(payload)?.id, traffic(payload)))
        })
    }

    /// Lists the destinations of a virtual service with their connections and their traffic; none if
    /// the service does not exist.
    ///
    /// The connections are those of this moment. The traffic is older: the kernel adds up the
    /// counters of its processors every two seconds, all of a destination at once, and not at all
    /// while `net.ipv4.vs.run_estimation` is 0 (`net/netfilter/ipvs/ip_vs_est.c`).
    ///
    /// # Errors
    ///
    /// If the kernel rejects the request or does not answer.
    pub fn destination_traffic(
        &mut self,
        id: &ServiceId,
    ) -> Result<Vec<(Destination, Connections, Traffic)>, KernelError> {
        self.list("IPVS statistics of real servers", Some(id), |payload| {
            let (destination, connections) = decode::destination(payload, id.ip)?;
            Some((destination, connections, decode::destination_traffic(payload)))
        })
    }

    /// Makes a request with one answer at most.
    fn ask<T: Default>(
        &mut self,
        what: &'static str,
        request: impl Fn(&mut Attributes<'_>),
        decode: impl Fn(&[u8]) -> T,
    ) -> Result<T, KernelError> {
        self.with_family(|socket, family| {
            let mut answer = T::default();
            socket.request(what, family, &request, |_, payload| answer = decode(payload))?;
            Ok(answer)
        })
    }

    /// Lists the destinations of a service, or all services.
    fn list<T>(
        &mut self,
        what: &'static str,
        of: Option<&ServiceId>,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, KernelError> {
        let request = |message: &mut Attributes<'_>| match of {
            Some(id) => encode::of_service(message, constants::CMD_GET_DEST, id),
            None => encode::command(message, constants::CMD_GET_SERVICE),
        };
        self.with_family(|socket, family| {
            socket.dump(what, family, request, |found: &mut Vec<_>, _, payload| {
                found.extend(decode(payload));
            })
        })
    }

    /// Carries out commands in order with one system call, and returns an answer for each. A failed
    /// command does not stop the others. From 150 to 2,000 commands the cost per command is
    /// constant; more may not fit the socket's buffers.
    ///
    /// # Errors
    ///
    /// If the commands cannot be sent or their answers cannot be received.
    pub fn apply(&mut self, commands: &[IpvsCommand]) -> Result<Answers, KernelError> {
        let answers = self.send(commands)?;
        let mut errors = answers.iter().flatten().filter_map(|answer| answer.as_ref().err());
        if !errors.any(|error| may_be_stale(error.errno)) {
            return Ok(answers);
        }
        match self.renew_family() {
            Ok(true) => self.send(commands),
            Err(error @ KernelError::NoModule { .. }) => Err(error),
            // The answers concern the commands, not the family.
            Ok(false) | Err(_) => Ok(answers),
        }
    }

    fn send(&mut self, commands: &[IpvsCommand]) -> Result<Answers, KernelError> {
        self.batch.clear();
        commands.iter().for_each(|command| encode(&mut self.batch, self.family, command));
        self.socket.transact(&mut self.batch, commands.len().saturating_sub(1))
    }

    /// Calls `ask`, and again if the kernel did not know the family's number.
    fn with_family<T>(
        &mut self,
        mut ask: impl FnMut(&mut Socket, u16) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        match ask(&mut self.socket, self.family) {
            Err(error) if error.errno().is_some_and(may_be_stale) && self.renew_family()? => {
                ask(&mut self.socket, self.family)
            }
            answer => answer,
        }
    }

    /// Requests the family's number again. Returns whether it has changed.
    fn renew_family(&mut self) -> Result<bool, KernelError> {
        let new = resolve(&mut self.socket, self.load)?;
        Ok(std::mem::replace(&mut self.family, new) != new)
    }
}

/// Returns whether an error may mean that the family's number is unknown: the module was reloaded
/// and got another number.
fn may_be_stale(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::OPNOTSUPP)
}

fn resolve(socket: &mut Socket, load: fn(&str)) -> Result<u16, KernelError> {
    let mut family = || generic::family(socket, constants::FAMILY, constants::MODULE);
    match family() {
        Err(KernelError::NoModule { module, .. }) => {
            load(module);
            family()
        }
        answer => answer,
    }
}

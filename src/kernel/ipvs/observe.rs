//! What the kernel holds.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustix::io::Errno;

use super::decode::{Connections, RealServer};
use super::{Ipvs, constants, decode, encode};
use crate::kernel::netlink::KernelError;
use kube_ipvs_core::model::{Backends, Pool, VirtualAddress, VirtualServer};

/// What IPVS was found to hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpvsObserved {
    /// Virtual servers with masquerading real servers.
    pub pools: Vec<Pool>,
    /// Virtual servers whose real servers could not be read, and why.
    pub unread: BTreeMap<VirtualAddress, String>,
}

/// How often virtual servers are listed at most, while others change them.
const LISTINGS: usize = 6;

impl Ipvs {
    /// Every virtual server with its real servers, but for those chosen by firewall mark and
    /// those with a real server that is not masqueraded: neither is ever ours. Which real servers
    /// are local the kernel does not know; all are given as not local. One whose real servers
    /// cannot be read is no reason not to read the others.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be spoken to, or does not list its virtual servers.
    pub fn observe(&mut self) -> Result<IpvsObserved, KernelError> {
        let mut observed = IpvsObserved::default();
        for server in self.servers()? {
            match self.pool(server) {
                Ok(pool) => observed.pools.extend(pool),
                Err(error) if error.is_of_one_object() => {
                    observed.unread.insert(server.address, error.to_string());
                }
                // It is not about this one.
                Err(error) => return Err(error),
            }
        }
        Ok(observed)
    }

    /// The virtual servers at these addresses that there are, as [`Ipvs::observe`] gives them.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe_servers(
        &mut self,
        addresses: &[VirtualAddress],
    ) -> Result<Vec<Pool>, KernelError> {
        let mut pools = Vec::new();
        for address in addresses {
            if let Some(server) = self.server(address)? {
                pools.extend(self.pool(server)?);
            }
        }
        Ok(pools)
    }

    /// The connections of each real server of a virtual server; none if it does not exist.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn connections(
        &mut self,
        server: &VirtualAddress,
    ) -> Result<Vec<(IpAddr, u16, Connections)>, KernelError> {
        let count = |real: RealServer| (real.backend.address, real.backend.port, real.connections);
        Ok(self.real_servers(server)?.into_iter().map(count).collect())
    }

    /// Every virtual server. IPVS does not tell if others changed its table during a dump, by which
    /// some are missed or come twice: it is asked until it says the same twice. Of one that is
    /// missed and no longer wanted, nobody would ever know again that it is ours.
    fn servers(&mut self) -> Result<Vec<VirtualServer>, KernelError> {
        let mut last = self.list_servers()?;
        let mut all = BTreeMap::new();
        for _ in 1..LISTINGS {
            let next = self.list_servers()?;
            if next == last {
                return Ok(next);
            }
            all.extend(last.into_iter().chain(next.iter().copied()).map(|it| (it.address, it)));
            last = next;
        }
        Ok(all.into_values().collect())
    }

    fn list_servers(&mut self) -> Result<Vec<VirtualServer>, KernelError> {
        self.with_family(|socket, family| {
            socket.dump(
                "IPVS virtual servers",
                family,
                |message| encode::command(message, constants::CMD_GET_SERVICE),
                |found: &mut Vec<VirtualServer>, _, payload| found.extend(decode::server(payload)),
            )
        })
    }

    fn server(&mut self, address: &VirtualAddress) -> Result<Option<VirtualServer>, KernelError> {
        let asked = self.with_family(|socket, family| {
            let mut found = None;
            socket.request(
                "IPVS virtual server",
                family,
                |message| encode::get_server(message, address),
                |_, payload| found = decode::server(payload),
            )?;
            Ok(found)
        });
        match asked {
            Ok(found) => Ok(found),
            Err(KernelError::Refused { error, .. }) if error.errno == Errno::SRCH => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pool(&mut self, server: VirtualServer) -> Result<Option<Pool>, KernelError> {
        let real_servers = self.real_servers(&server.address)?;
        let ours = real_servers.iter().all(|real| real.masquerades);
        let backends = || real_servers.iter().map(|real| real.backend).collect::<Backends>();
        Ok(ours.then(|| Pool { server, backends: backends() }))
    }

    fn real_servers(&mut self, server: &VirtualAddress) -> Result<Vec<RealServer>, KernelError> {
        self.with_family(|socket, family| {
            socket.dump(
                "IPVS real servers",
                family,
                |message| encode::get_backends(message, server),
                |found: &mut Vec<RealServer>, _, payload| {
                    found.extend(decode::real_server(payload, server.family()));
                },
            )
        })
    }
}

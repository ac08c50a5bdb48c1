//! What the kernel holds.

use std::collections::BTreeMap;

use kube_ipvs_core::model::{Backends, Pool, VirtualAddress, VirtualServer};
use netlink_ipvs::KernelError;
use netlink_ipvs::ipvs::{Destination, Forwarding};

use super::{Ipvs, convert};

/// The virtual servers found in IPVS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IpvsObserved {
    /// Virtual servers with masquerading real servers.
    pub pools: Vec<Pool>,
    /// Virtual servers whose real servers could not be read, and why.
    pub unread: BTreeMap<VirtualAddress, String>,
}

impl Ipvs {
    /// Every virtual server with its real servers, except those that have a real server which is not
    /// masqueraded: no pool is ever such. All real servers are given as not local. If the real
    /// servers of one cannot be read, the others are read all the same.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be spoken to, or does not list its virtual servers.
    pub fn observe(&mut self) -> Result<IpvsObserved, KernelError> {
        let mut observed = IpvsObserved::default();
        // A virtual server that is missed here and no longer desired would never be recognised as
        // ours again.
        for server in self.0.services()?.iter().filter_map(convert::server) {
            match self.pool(server) {
                Ok(pool) => observed.pools.extend(pool),
                Err(error) if error.is_of_one_object() => {
                    observed.unread.insert(server.address, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(observed)
    }

    /// The virtual server at an address, if there is one, as [`Ipvs::observe`] gives it.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe_server(
        &mut self,
        address: &VirtualAddress,
    ) -> Result<Option<Pool>, KernelError> {
        let service = self.0.service(&convert::id(address))?;
        service.as_ref().and_then(convert::server).map_or(Ok(None), |server| self.pool(server))
    }

    fn pool(&mut self, server: VirtualServer) -> Result<Option<Pool>, KernelError> {
        let destinations = self.0.destinations(&convert::id(&server.address))?;
        let server = VirtualServer { max_connections: convert::limit(&destinations), ..server };
        let destinations = || destinations.iter().map(|(destination, _)| destination);
        let is_ours = |it: &Destination| it.forwarding == Forwarding::Masquerade;
        let backends = || destinations().map(convert::backend).collect::<Backends>();
        Ok(destinations().all(is_ours).then(|| Pool { backends: backends(), ..server.into() }))
    }
}

//! The kernel: IPVS, nf_tables, routes, connection tracking, settings.

pub mod conntrack;
pub mod drift;
pub(crate) mod family;
pub mod firewall;
pub mod ipvs;
pub mod listening;
pub mod modules;
pub mod nft;
pub mod route;
pub mod sysctl;

use std::time::Duration;

use kube_ipvs_core::model::{Carry, Pool, VirtualAddress};
use kube_ipvs_core::plan::{
    CountTargets, Failure, FailureKind, ForeignClaims, Observed, Operation, Outcome, Running,
    Sample, SampleTargets,
};
use netlink_ipvs::ipvs::Traffic;
use netlink_ipvs::{KernelError, Socket, Subsystem};

/// The first version whose flowtables take bridge ports, and whose idle connections outlive theirs.
const FLOWTABLE_VERSION: (u32, u32) = (5, 15);

/// The kernel's release, such as `6.1.0-56-amd64`.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Major and minor number of a release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Everything of the kernel that the agent reads and writes.
#[derive(Debug)]
pub struct Kernel {
    ipvs: ipvs::Ipvs,
    nft: nft::Nft,
    routes: route::Routes,
    conntrack: conntrack::Conntrack,
    sockets: listening::Sockets,
}

impl Kernel {
    /// Opens what is needed.
    ///
    /// # Errors
    ///
    /// Says what to do about it where a module or a capability is missing.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open)
    }

    /// Opens what is needed over the sockets that `open` makes.
    ///
    /// # Errors
    ///
    /// Those of `open`, and those of [`Kernel::open`].
    pub fn over(
        mut open: impl FnMut(Subsystem) -> Result<Socket, KernelError>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            ipvs: ipvs::Ipvs::over(open(Subsystem::Generic)?)?,
            nft: nft::Nft::over(open(Subsystem::Netfilter)?)?,
            routes: route::Routes::over(open(Subsystem::Route)?),
            conntrack: conntrack::Conntrack::over(open(Subsystem::Netfilter)?),
            sockets: listening::Sockets::over(open(Subsystem::Sockets).ok()),
        })
    }

    /// The same with the rules for what connection tracking carries.
    ///
    /// # Errors
    ///
    /// If the kernel is too old for a flowtable.
    pub fn carrying(self, carry: &Carry) -> Result<Self, KernelError> {
        Self::check_carry(carry)?;
        Ok(Self { nft: self.nft.carrying(carry), ..self })
    }

    /// Whether this kernel can carry connections so.
    ///
    /// # Errors
    ///
    /// If the kernel is too old for a flowtable.
    pub fn check_carry(carry: &Carry) -> Result<(), KernelError> {
        let release = release();
        if matches!(carry, Carry::Offload(_))
            && version(&release).is_some_and(|it| it < FLOWTABLE_VERSION)
        {
            let (major, minor) = FLOWTABLE_VERSION;
            return Err(KernelError::TooOld { feature: "carry: offload", major, minor, release });
        }
        Ok(())
    }

    /// The netlink ports through which this value changes tables, device and routes.
    #[must_use]
    pub fn ports(&self) -> Vec<u32> {
        vec![self.nft.port(), self.routes.port()]
    }

    /// Reads everything that may be ours. The value reports virtual servers that cannot be read.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe(&mut self) -> Result<Observed, KernelError> {
        let filter = self.nft.observe()?;
        let routes = self.routes.observe()?;
        let ipvs = self.ipvs.observe()?;
        Ok(Observed {
            tables: filter.tables,
            elements: filter.elements,
            device: routes.device,
            routes: routes.routes,
            pools: ipvs.pools,
            unread: ipvs.unread,
            claims: ForeignClaims::default(),
            earlier: filter.earlier.or(routes.earlier.then(Vec::new)),
        })
    }

    /// Reads the virtual server at an address, if there is one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn observe_pool(&mut self, address: &VirtualAddress) -> Result<Option<Pool>, KernelError> {
        self.ipvs.observe_server(address)
    }

    /// Counts the connections of draining endpoints.
    ///
    /// # Errors
    ///
    /// If connection tracking cannot be read.
    pub fn connections(&mut self, leavers: &CountTargets) -> Result<Vec<Running>, KernelError> {
        self.conntrack.count(leavers)
    }

    /// Where sockets of the node listen ([`listening::Sockets::listening`]).
    ///
    /// # Errors
    ///
    /// If the kernel cannot be asked, or does not answer.
    pub fn listening(&mut self) -> Result<Vec<VirtualAddress>, KernelError> {
        self.sockets.listening()
    }

    /// What was deleted from connection tracking since the last call.
    pub fn take_sweeps(&mut self) -> Vec<conntrack::Sweep> {
        self.conntrack.take_sweeps()
    }

    /// What has gone through every virtual server.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn traffic(&mut self) -> Result<Vec<(VirtualAddress, Traffic)>, KernelError> {
        self.ipvs.traffic()
    }

    /// Reads the counters of IPVS that show which endpoints answer. `None` if IPVS does not add them
    /// up.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or does not answer.
    pub fn sample(&mut self, targets: &SampleTargets) -> Result<Option<Sample>, KernelError> {
        if !ipvs::adds_up() {
            return Ok(None);
        }
        let mut sample = Sample::default();
        if targets.servers {
            let connections = |(server, traffic): (_, Traffic)| (server, traffic.connections);
            sample.servers = self.ipvs.traffic()?.into_iter().map(connections).collect();
        }
        for server in &targets.real_servers {
            sample.real_servers.push((*server, self.ipvs.answers(server)?));
        }
        Ok(Some(sample))
    }

    /// Sets how long IPVS keeps idle connections; what is `None` stays.
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
        self.ipvs.set_timeouts(tcp, tcp_fin, udp)
    }

    /// Carries out operations in their order, consecutive operations of one table together. A
    /// failure does not stop the others.
    pub fn apply(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        let table = |operation: &Operation| std::mem::discriminant(operation);
        let mut outcomes = Vec::with_capacity(operations.len());
        for run in operations.chunk_by(|one, next| table(one) == table(next)) {
            outcomes.append(&mut match run {
                [] => Vec::new(),
                [Operation::Filter(_), ..] => {
                    let run: Vec<_> = run.iter().filter_map(Operation::as_filter).collect();
                    self.nft.apply(&run)
                }
                [Operation::Server(_), ..] => {
                    self.ipvs.apply(run.iter().filter_map(Operation::as_server))
                }
                [Operation::Route(_), ..] => {
                    let run: Vec<_> = run.iter().filter_map(Operation::as_route).collect();
                    self.routes.apply(&run)
                }
                [Operation::Flow(_), ..] => {
                    let run: Vec<_> = run.iter().filter_map(Operation::as_flow).collect();
                    self.conntrack.apply(&run)
                }
                [Operation::DeleteEarlier, ..] => {
                    run.iter().map(|operation| self.delete_earlier(operation)).collect()
                }
            });
        }
        outcomes
    }

    /// The table goes last: its presence shows that there is more to delete.
    fn delete_earlier(&mut self, operation: &Operation) -> Outcome {
        let deleted = self.routes.delete_earlier().and_then(|()| self.nft.delete_earlier());
        deleted.map_err(|error| Failure {
            kind: FailureKind::Refused,
            message: format!("{operation}: {error}"),
        })
    }
}

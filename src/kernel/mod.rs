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

use std::fmt;

use kube_ipvs_core::model::{Carry, Settings, VirtualAddress};
use kube_ipvs_core::plan::{Failure, FailureKind, Observed, Operation, Outcome};
use netlink_ipvs::{KernelError, Socket, Subsystem};

/// The first version with flowtables that accept bridge ports and do not end idle connections early.
const FLOWTABLE_VERSION: (u32, u32) = (5, 15);

/// Returns the kernel's release, such as `6.1.0-56-amd64`.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Returns the major and minor number of a release.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the failure of an operation that could not be sent, or of whose answer nothing could be
/// read.
fn failure(operation: impl fmt::Display, error: &KernelError) -> Failure {
    let kind = if error.is_refusal() { FailureKind::Refused } else { FailureKind::Unknown };
    Failure { kind, message: format!("{operation}: {error}") }
}

/// The parts of the kernel that the agent reads and writes.
#[derive(Debug)]
pub struct Kernel {
    pub ipvs: ipvs::Ipvs,
    pub conntrack: conntrack::Conntrack,
    nft: nft::Nft,
    routes: route::Routes,
    sockets: Option<Socket>,
}

impl Kernel {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// If a module or a capability is missing. The error names the remedy.
    pub fn open() -> Result<Self, KernelError> {
        Self::over(Socket::open)
    }

    /// Uses the sockets that `open` makes.
    ///
    /// # Errors
    ///
    /// As `open` and [`Kernel::open`].
    pub fn over(
        mut open: impl FnMut(Subsystem) -> Result<Socket, KernelError>,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            ipvs: ipvs::Ipvs::over(open(Subsystem::Generic)?)?,
            nft: nft::Nft::over(open(Subsystem::Netfilter)?)?,
            routes: route::Routes::over(open(Subsystem::Route)?),
            conntrack: conntrack::Conntrack::over(open(Subsystem::Netfilter)?),
            sockets: open(Subsystem::Sockets).ok(),
        })
    }

    /// Selects the rules for a configuration.
    ///
    /// # Errors
    ///
    /// If the kernel is too old for a flowtable.
    pub fn configured(self, settings: &Settings) -> Result<Self, KernelError> {
        Self::check_carry(&settings.carry)?;
        Ok(Self { nft: self.nft.configured(settings), ..self })
    }

    /// Checks whether this kernel supports a carry mode.
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

    /// Returns the netlink ports from which tables, device and routes are changed.
    #[must_use]
    pub fn ports(&self) -> Vec<u32> {
        vec![self.nft.port(), self.routes.port()]
    }

    /// Reads the kernel state. The value includes virtual servers that cannot be read.
    pub fn observe(&mut self) -> Result<Observed, KernelError> {
        let filter = self.nft.observe()?;
        let routes = self.routes.observe()?;
        let ipvs = self.ipvs.observe()?;
        Ok(Observed {
            device: routes.device,
            routes: routes.routes,
            pools: ipvs.pools,
            unread: ipvs.unread,
            earlier: filter.earlier.or(routes.earlier),
            ..filter
        })
    }

    /// Lists the listening sockets of the node ([`listening::listening`]).
    pub fn listening(&mut self) -> Result<Vec<VirtualAddress>, KernelError> {
        listening::listening(self.sockets.as_mut())
    }

    /// Executes operations in order, consecutive operations of one table together. A failure does not
    /// stop the others.
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

    /// The table is deleted last: its presence shows that there is more to delete.
    fn delete_earlier(&mut self, operation: &Operation) -> Outcome {
        let deleted = self.routes.delete_earlier().and_then(|()| self.nft.delete_earlier());
        deleted.map_err(|error| Failure {
            kind: FailureKind::Refused,
            message: format!("{operation}: {error}"),
        })
    }
}

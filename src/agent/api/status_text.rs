//! The text of `status`.

use std::fmt;
use std::net::SocketAddr;

use super::{
    BackendView, FailureView, FrontendView, PoolView, RefusalView, ServiceView, StatusView,
};

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let synced = if self.synced { "synced" } else { "not synced yet" };
        write!(f, "node {}: {synced}", self.node)?;
        match &self.last_sync {
            Some(time) => writeln!(f, ", last sync {time}")?,
            None => writeln!(f)?,
        }
        let totals = &self.totals;
        writeln!(
            f,
            "services {}, front ends {}, pools {}, backends {}, draining {}, refused {}, failures {}",
            totals.services,
            totals.frontends,
            totals.pools,
            totals.backends,
            totals.draining,
            totals.refusals,
            totals.failures
        )?;
        self.failures.iter().try_for_each(|failure| write!(f, "{failure}"))?;
        self.services.iter().try_for_each(|service| write!(f, "\n{service}"))
    }
}

impl fmt::Display for FailureView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {}: {} (attempts: {})", self.operation, self.message, self.attempts)
    }
}

impl fmt::Display for ServiceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.service)?;
        self.frontends.iter().try_for_each(|frontend| write!(f, "{frontend}"))?;
        self.refusals.iter().try_for_each(|refusal| write!(f, "{refusal}"))?;
        self.pools.iter().try_for_each(|pool| write!(f, "{pool}"))
    }
}

impl fmt::Display for FrontendView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, kind, port, targets, sources, .. } = self;
        write!(f, "  {kind:<12} {address}")?;
        if !port.is_empty() {
            write!(f, " ({port})")?;
        }
        if targets.inside != targets.outside {
            write!(
                f,
                " -> local clients: {}, external clients: {}",
                targets.inside, targets.outside
            )?;
        } else if targets.outside != *address {
            write!(f, " -> {}", targets.outside)?;
        }
        if let Some(ranges) = sources {
            write!(f, " only from {}", ranges.join(", "))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for RefusalView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<12} {} refused: {}", self.kind, self.address, self.reason)
    }
}

impl fmt::Display for PoolView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<12} {} {}", "pool", self.address, self.scheduler)?;
        if let Some(seconds) = self.affinity_seconds {
            write!(f, ", affinity {seconds} s")?;
        }
        writeln!(f)?;
        self.backends.iter().try_for_each(|backend| writeln!(f, "    {backend}"))?;
        self.draining.iter().try_for_each(|endpoint| writeln!(f, "    {endpoint} draining"))
    }
}

impl fmt::Display for BackendView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} weight {}", SocketAddr::new(self.address, self.port), self.weight)?;
        if self.local { f.write_str(", local") } else { Ok(()) }
    }
}

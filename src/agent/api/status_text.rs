//! The text of `status`.

use std::fmt;

use crate::doctor::CheckResult;
use kube_ipvs_core::model::EndpointName;

use super::{FailureView, FrontendView, PoolView, RefusalView, ServiceView, StatusView};

impl StatusView {
    /// Formats what precedes the Services.
    pub(super) fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        for FailureView { operation, message, attempts, pod, node } in &self.failures {
            let name = EndpointName::new(pod.as_deref(), node.as_deref());
            writeln!(f, "  {operation}: {message} (attempts: {attempts}){name}")?;
        }
        for CheckResult { check, finding } in &self.checks {
            writeln!(f, "  check {check} {}: {}", finding.verdict, finding.found)?;
        }
        Ok(())
    }
}

impl fmt::Display for StatusView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_head(f)?;
        self.services.iter().try_for_each(|service| write!(f, "\n{service}"))
    }
}

impl ServiceView {
    /// Formats what precedes the pools.
    pub(super) fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.service)?;
        self.frontends.iter().try_for_each(|frontend| write!(f, "{frontend}"))?;
        for RefusalView { kind, address, reason } in &self.refusals {
            writeln!(f, "  {kind:<12} {address} refused: {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ServiceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_head(f)?;
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

impl PoolView {
    /// Formats what precedes the endpoints.
    pub(super) fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<12} {} {}", "pool", self.address, self.scheduler)?;
        if let Some(seconds) = self.affinity_seconds {
            write!(f, ", affinity {seconds} s")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for PoolView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_head(f)?;
        self.backends.iter().try_for_each(|backend| writeln!(f, "    {backend}"))?;
        self.draining.iter().try_for_each(|endpoint| {
            writeln!(f, "    {} draining{}", endpoint.socket(), endpoint.name())
        })
    }
}

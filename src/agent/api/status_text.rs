//! The text of `status`, and the tables of `status -o wide`.

use std::fmt;

use super::{
    EndpointView, FailureView, FrontendView, PoolView, RefusalView, ServiceView, StatusView,
};
use crate::doctor::CheckResult;

impl StatusView {
    /// Formats what precedes the Services, as the others what precedes their parts.
    fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        for FailureView { operation, message, attempts, name } in &self.failures {
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
    fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    fn fmt_head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            writeln!(f, "    {} draining{}", endpoint.socket(), endpoint.name)
        })
    }
}

/// A [`StatusView`] with a table of the endpoints of each pool.
#[derive(Clone, Copy, Debug)]
pub struct WideStatus<'a>(pub &'a StatusView);

const HEADER: [&str; 8] =
    ["ENDPOINT", "POD", "NODE", "ZONE", "WEIGHT", "ACTIVE", "INACTIVE", "STATE"];

impl fmt::Display for WideStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_head(f)?;
        for service in &self.0.services {
            writeln!(f)?;
            service.fmt_head(f)?;
            for pool in &service.pools {
                pool.fmt_head(f)?;
                fmt_table(pool, f)?;
            }
        }
        Ok(())
    }
}

fn fmt_table(pool: &PoolView, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let rows = pool.endpoints().map(|(endpoint, state)| cells(endpoint, state));
    let rows: Vec<_> = std::iter::once(HEADER.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        f.write_str("  ")?;
        for (cell, width) in row.iter().zip(widths).take(HEADER.len() - 1) {
            write!(f, "  {cell:<width$}")?;
        }
        writeln!(f, "  {}", row.last().map_or("", String::as_str))?;
    }
    Ok(())
}

fn cells(endpoint: &EndpointView, state: &str) -> [String; HEADER.len()] {
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    [
        endpoint.socket().to_string(),
        name(&endpoint.name.pod),
        name(&endpoint.name.node),
        name(&endpoint.zone),
        endpoint.weight.unwrap_or(0).to_string(),
        number(endpoint.active_connections),
        number(endpoint.inactive_connections),
        state.to_owned(),
    ]
}

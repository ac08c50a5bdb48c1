//! The tables of `status -o wide`.

use std::fmt;

use super::{EndpointView, PoolView, StatusView};

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
        name(&endpoint.pod),
        name(&endpoint.node),
        name(&endpoint.zone),
        endpoint.weight.unwrap_or(0).to_string(),
        number(endpoint.active_connections),
        number(endpoint.inactive_connections),
        state.to_owned(),
    ]
}

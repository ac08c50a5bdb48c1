//! The JSON and text of `top`.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{ServiceFlags, TextFormat};
use crate::agent::api::{EndpointView, StatusFilter, StatusQuestion, TrafficOrder, TrafficView};
use crate::config::count;
use crate::duration::parse as duration;

/// The shortest time between two readings.
const SHORTEST: Duration = Duration::from_millis(100);

/// What `top` shows, and how.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct TopFlags {
    #[command(flatten)]
    services: ServiceFlags,
    /// Time between two readings, from 100ms; IPVS adds its counters up every two seconds
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "4s")]
    pub interval: Duration,
    /// Print one interval, then end
    #[arg(long)]
    pub once: bool,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    pub sort: TrafficOrder,
    /// Show at most this many Services, the busiest first
    #[arg(long, value_name = "COUNT", value_parser = count::<usize>, default_value_t = 50)]
    pub limit: usize,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TextFormat,
}

/// Reads a time between two readings. The agent reads the kernel for each.
fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < SHORTEST => Err(format!("at least {SHORTEST:?}")),
        time => Ok(time),
    }
}

impl TopFlags {
    pub(super) fn question(&self) -> StatusQuestion {
        let limit = (self.sort != TrafficOrder::Active).then_some(self.limit);
        let filter = StatusFilter { limit, ..self.services.filter() };
        StatusQuestion { filter, counters: true, busiest: Some(self.sort) }
    }
}

/// Traffic per second between two readings, as `top -o json` prints it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct TopView {
    /// Between the readings.
    pub(super) seconds: f64,
    pub(super) pools: Vec<TopPool>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopPool {
    pub(super) service: String,
    address: String,
    /// Each a second, rounded.
    pub(super) rates: TrafficView,
    pub(super) active_connections: u32,
    inactive_connections: u32,
    pub(super) backends: Vec<TopBackend>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopBackend {
    #[serde(flatten)]
    endpoint: EndpointView,
    /// `serving`, `draining` or `ejected`.
    state: String,
    /// Each a second, rounded.
    pub(super) rates: TrafficView,
}

/// Returns the rates between two readings. Counters of a real server that was deleted and added
/// again begin at 0.
fn rates(before: TrafficView, now: TrafficView, seconds: f64) -> TrafficView {
    let rate = |before: u64, now: u64| {
        let count = now.checked_sub(before).unwrap_or(now);
        (count as f64 / seconds).round() as u64
    };
    TrafficView {
        connections: rate(before.connections, now.connections),
        packets_in: rate(before.packets_in, now.packets_in),
        packets_out: rate(before.packets_out, now.packets_out),
        bytes_in: rate(before.bytes_in, now.bytes_in),
        bytes_out: rate(before.bytes_out, now.bytes_out),
    }
}

impl TopPool {
    /// Adds up the backends of a pool.
    pub(super) fn new(service: String, address: String, backends: Vec<TopBackend>) -> Self {
        let mut rates = TrafficView::default();
        for backend in &backends {
            rates.connections += backend.rates.connections;
            rates.packets_in += backend.rates.packets_in;
            rates.packets_out += backend.rates.packets_out;
            rates.bytes_in += backend.rates.bytes_in;
            rates.bytes_out += backend.rates.bytes_out;
        }
        let sum = |of: fn([u32; 2]) -> u32| backends.iter().map(|it| of(it.connections())).sum();
        let active_connections = sum(|[active, _]| active);
        let inactive_connections = sum(|[_, inactive]| inactive);
        Self { service, address, rates, active_connections, inactive_connections, backends }
    }
}

impl TopBackend {
    pub(super) fn new(
        endpoint: &EndpointView,
        state: &str,
        before: TrafficView,
        seconds: f64,
    ) -> Self {
        let EndpointView { active_connections, inactive_connections, traffic, .. } = endpoint;
        let rates = rates(before, traffic.unwrap_or_default(), seconds);
        let endpoint = EndpointView {
            active_connections: Some(active_connections.unwrap_or_default()),
            inactive_connections: Some(inactive_connections.unwrap_or_default()),
            traffic: None,
            ..endpoint.clone()
        };
        Self { endpoint, state: state.to_owned(), rates }
    }

    /// Returns the active and the inactive connections.
    pub(super) fn connections(&self) -> [u32; 2] {
        let EndpointView { active_connections, inactive_connections, .. } = self.endpoint;
        [active_connections, inactive_connections].map(Option::unwrap_or_default)
    }
}

impl fmt::Display for TopView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>8} {:>8} {:>10} {:>10} {:>7} {:>8} {:>6}  PER SECOND, {:.1} s",
            "CONN",
            "PKT-IN",
            "PKT-OUT",
            "BYTE-IN",
            "BYTE-OUT",
            "ACTIVE",
            "INACTIVE",
            "WEIGHT",
            self.seconds,
        )?;
        for pool in &self.pools {
            fmt_row(f, &pool.rates, [pool.active_connections, pool.inactive_connections], None)?;
            writeln!(f, "  {} {}", pool.service, pool.address)?;
            for backend in &pool.backends {
                let TopBackend { endpoint, state, rates } = backend;
                let weight = endpoint.weight.unwrap_or(0);
                fmt_row(f, rates, backend.connections(), Some(weight))?;
                let state = if state == "serving" { String::new() } else { format!(", {state}") };
                writeln!(f, "    {}{}{state}", endpoint.socket(), endpoint.name)?;
            }
        }
        Ok(())
    }
}

fn fmt_row(
    f: &mut fmt::Formatter<'_>,
    rates: &TrafficView,
    [active, inactive]: [u32; 2],
    weight: Option<u32>,
) -> fmt::Result {
    let TrafficView { connections, packets_in, packets_out, bytes_in, bytes_out } = rates;
    let weight = weight.map_or_else(String::new, |weight| weight.to_string());
    write!(
        f,
        "{connections:>8} {packets_in:>8} {packets_out:>8} {bytes_in:>10} {bytes_out:>10} {active:>7} \
         {inactive:>8} {weight:>6}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_not_asked_without_a_pause() {
        assert_eq!(interval("100ms"), Ok(SHORTEST));
        assert_eq!(interval("0s"), Err("at least 100ms".to_owned()));
        assert!(interval("99ms").is_err() && interval("x").is_err());
    }

    #[test]
    fn rates_are_per_second_and_survive_a_new_counter() {
        let traffic =
            |connections, bytes_in| TrafficView { connections, bytes_in, ..TrafficView::default() };
        let of = rates(traffic(10, 1000), traffic(30, 5000), 2.0);
        assert_eq!((of.connections, of.bytes_in, of.packets_in), (10, 2000, 0));
        assert_eq!(rates(traffic(10, 0), traffic(4, 0), 2.0).connections, 2);
    }
}

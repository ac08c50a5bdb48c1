//! What the agent is asked for.

use clap::ValueEnum;

use super::StatusFilter;

/// A question for the status of Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusQuestion {
    pub filter: StatusFilter,
    /// Whether IPVS is read for the connections and the traffic of each endpoint.
    pub counters: bool,
    /// What the first Services up to the limit have most of, as IPVS estimates it. The totals are those
    /// of these Services then. For [`TrafficOrder::Active`] all Services are listed, because IPVS has
    /// only endpoints' numbers.
    pub busiest: Option<TrafficOrder>,
}

/// The traffic by which Services are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum TrafficOrder {
    /// New connections
    #[default]
    Connections,
    Packets,
    Bytes,
    /// Established connections; every pool is read for them
    Active,
}

/// A question for the connections of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionsQuestion {
    pub namespace: String,
    pub name: String,
    /// The most connections that are listed.
    pub limit: usize,
}

impl ConnectionsQuestion {
    /// The largest limit. Each connection takes some 300 bytes of the agent's memory.
    pub const MOST: usize = 100_000;
}

impl From<StatusFilter> for StatusQuestion {
    fn from(filter: StatusFilter) -> Self {
        Self { filter, ..Self::default() }
    }
}

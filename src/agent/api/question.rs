//! What the agent is asked for.

use std::net::IpAddr;
use std::str::FromStr;

use clap::ValueEnum;
use kube_ipvs_core::model::{DesiredService, LabelSelector, ServiceKey};
use kube_ipvs_core::state::State;

use super::StatusTotals;

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

/// The Services to report on: those of a namespace or one of them, narrowed further.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusFilter {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub labels: Option<LabelSelector>,
    /// A part of `namespace/name`, or the whole address of a front end.
    pub search: Option<String>,
    pub state: Option<ServiceState>,
    /// The largest number of Services to list.
    pub limit: Option<usize>,
}

/// What a Service has at least one of: endpoints in this state, or refused front ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceState {
    Ejected,
    Draining,
    Refused,
}

impl StatusFilter {
    /// Returns a filter for the Services of a namespace, or for one of them.
    #[must_use]
    pub fn of(namespace: &str, name: Option<&str>) -> Self {
        let (namespace, name) = (Some(namespace.to_owned()), name.map(str::to_owned));
        Self { namespace, name, ..Self::default() }
    }

    /// Returns whether it selects every Service.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether it selects a Service, whatever its state is. A Service that has just been
    /// removed has no labels.
    pub(super) fn selects(
        &self,
        state: &State,
        key: &ServiceKey,
        service: &DesiredService,
    ) -> bool {
        let has_labels = |labels: &LabelSelector| {
            let object = state.service(key);
            labels.selects(|key, value| object.is_some_and(|it| it.labels.has(key, value)))
        };
        self.labels.as_ref().is_none_or(has_labels)
            && self.namespace.as_deref().is_none_or(|namespace| key.namespace() == namespace)
            && self.name.as_deref().is_none_or(|name| key.name() == name)
            && self.search.as_deref().is_none_or(|text| is_found(text, key, service))
    }
}

fn is_found(text: &str, key: &ServiceKey, service: &DesiredService) -> bool {
    match text.parse::<IpAddr>() {
        Ok(ip) => service.frontends.iter().any(|frontend| frontend.address.ip == ip),
        Err(_) => key.to_string().contains(&text.to_lowercase()),
    }
}

impl ServiceState {
    /// Returns whether a Service with these totals has it.
    pub(super) fn is_in(self, totals: &StatusTotals) -> bool {
        let count = match self {
            Self::Ejected => totals.ejected,
            Self::Draining => totals.draining,
            Self::Refused => totals.refusals,
        };
        count > 0
    }
}

impl FromStr for ServiceState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ejected" => Ok(Self::Ejected),
            "draining" => Ok(Self::Draining),
            "refused" => Ok(Self::Refused),
            _ => Err(format!("{text:?} is not ejected, draining or refused")),
        }
    }
}

//! Options of one Service: how its connections are balanced, and where it is served.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use super::{Family, FrontendKind, LabelSelector, Scheduler, VirtualServer};

/// The options of a Service, from its annotations; also the configuration's defaults. `None` leaves
/// an option to the defaults.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Control {
    pub scheduler: Option<Scheduler>,
    pub scheduler_flags: Option<SchedulerFlags>,
    pub locality_weights: Option<LocalityWeights>,
    /// The time in which a new endpoint's weight grows to its full value; zero for none.
    pub slow_start: Option<Duration>,
    /// The limit of connections per endpoint, including ended ones that IPVS still remembers.
    pub max_connections: Option<NonZeroU32>,
    /// How long established connections to a removed endpoint may continue; [`Duration::MAX`]
    /// without limit.
    pub drain: Option<Duration>,
    /// UDP datagrams are balanced one by one.
    pub one_packet: Option<bool>,
    pub affinity_prefix: Option<AffinityPrefix>,
    /// After how long without an answer an endpoint gets no new connections; zero for never.
    pub eject: Option<Duration>,
    /// The kinds of front ends that are served.
    pub frontends: Option<Box<[FrontendKind]>>,
    /// The nodes that serve front ends other than ClusterIPs.
    pub nodes: Option<LabelSelector>,
    /// Reasons why annotations are ignored.
    pub invalid: Box<[String]>,
}

impl Control {
    /// Completes the options of a Service with defaults.
    #[must_use]
    pub fn over<'a>(own: Option<&'a Self>, defaults: &'a Self) -> Cow<'a, Self> {
        let Some(own) = own else { return Cow::Borrowed(defaults) };
        Cow::Owned(Self {
            scheduler: own.scheduler.or(defaults.scheduler),
            scheduler_flags: own.scheduler_flags.or(defaults.scheduler_flags),
            locality_weights: own.locality_weights.or(defaults.locality_weights),
            slow_start: own.slow_start.or(defaults.slow_start),
            max_connections: own.max_connections.or(defaults.max_connections),
            drain: own.drain.or(defaults.drain),
            one_packet: own.one_packet.or(defaults.one_packet),
            affinity_prefix: own.affinity_prefix.or(defaults.affinity_prefix),
            eject: own.eject.or(defaults.eject),
            frontends: own.frontends.clone().or_else(|| defaults.frontends.clone()),
            nodes: own.nodes.clone().or_else(|| defaults.nodes.clone()),
            invalid: own.invalid.clone(),
        })
    }
}

/// Flags of the schedulers `sh` and `mh`, which use the same bits for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SchedulerFlags {
    /// The scheduler that the flags are named after; `None` fits any.
    pub scheduler: Option<Scheduler>,
    /// Hash the source port, too: `IP_VS_SVC_F_SCHED2`.
    pub port: bool,
    /// Replace an unavailable real server: `IP_VS_SVC_F_SCHED1`.
    pub fallback: bool,
}

impl SchedulerFlags {
    /// Returns `IP_VS_SVC_F_SCHED*`.
    #[must_use]
    pub fn bits(self) -> u32 {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        bit(self.port, VirtualServer::FLAG_SCHED_2)
            | bit(self.fallback, VirtualServer::FLAG_SCHED_1)
    }
}

/// Factors of an endpoint's weight by its place, each from 1 to 1000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LocalityWeights {
    /// On this node.
    pub node: u16,
    /// On another node of this node's zone.
    pub zone: u16,
    pub other: u16,
}

/// The length of the network prefix by which clients are recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffinityPrefix {
    /// 1 to 32.
    pub v4: u8,
    /// 1 to 128.
    pub v6: u8,
}

impl AffinityPrefix {
    /// Returns the length for a family.
    #[must_use]
    pub fn of(self, family: Family) -> u8 {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Backend, Endpoint, LabelHashes, Pool, Service, Shared, Topology};

    /// What 100,000 Services with a million endpoints have, whether or not they have options.
    #[test]
    fn a_service_without_options_has_a_pointer_for_them() {
        let pointer = size_of::<usize>();
        let labels = size_of::<LabelHashes>();
        let topology = size_of::<Shared<Topology>>();
        assert_eq!(size_of::<Service>(), 136 + labels + pointer);
        assert_eq!(size_of::<Pool>(), 64 + pointer);
        assert_eq!(size_of::<Endpoint>(), 24 + topology, "the weight is where padding was");
        assert_eq!(size_of::<Backend>(), 22 + 2, "weights of 32 bits");
    }
}

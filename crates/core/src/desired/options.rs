//! The options of a Service that take effect, and why others do not.

use std::borrow::Cow;
use std::net::IpAddr;

use super::NodeContext;
use crate::model::{
    Control, EndpointCounts, EndpointFilter, EndpointSelection, Family, FrontendKind, Masquerade,
    PoolControl, Protocol, Scheduler, Service, ServicePort, TrafficPolicy, VirtualAddress,
    VirtualServer,
};

/// The options of a Service, completed by the configuration's defaults.
pub(super) struct Options<'a> {
    pub(super) service: &'a Service,
    pub(super) context: &'a NodeContext,
    control: Cow<'a, Control>,
    /// Whether this node serves front ends other than ClusterIPs.
    is_selected: bool,
    /// Whether each UDP datagram is balanced by itself, or why not although the Service asks for it.
    one_packet: Result<bool, &'static str>,
}

impl<'a> Options<'a> {
    pub(super) fn new(service: &'a Service, context: &'a NodeContext) -> Self {
        let control = Control::over(service.control.as_deref(), &context.settings.defaults);
        let nodes = control.nodes.as_ref();
        let is_selected =
            nodes.is_none_or(|nodes| nodes.selects(|key, value| context.has_label(key, value)));
        let mut options = Self { service, context, control, is_selected, one_packet: Ok(false) };
        if options.control.one_packet == Some(true) {
            options.one_packet = options.no_one_packet().map_or(Ok(true), Err);
        }
        options
    }

    /// Returns whether this node serves front ends of a kind.
    pub(super) fn serves(&self, kind: FrontendKind) -> bool {
        let is_of_node = kind == FrontendKind::ClusterIp || self.is_selected;
        let kinds = self.control.frontends.as_ref();
        is_of_node && kinds.is_none_or(|kinds| kinds.contains(&kind))
    }

    /// Returns the virtual server of a pool.
    pub(super) fn server(&self, address: VirtualAddress, is_weighted: bool) -> VirtualServer {
        let control = &*self.control;
        let server = VirtualServer::new(address, self.scheduler(is_weighted));
        let affinity_seconds = self.service.affinity_seconds;
        let mut flags = match control.scheduler_flags {
            Some(flags) if flags.scheduler.is_none_or(|of| of == server.scheduler) => flags.bits(),
            _ => server.flags,
        };
        if self.is_one_packet(address.protocol) {
            flags |= VirtualServer::FLAG_ONE_PACKET;
        }
        let prefix = control.affinity_prefix.filter(|_| affinity_seconds.is_some());
        VirtualServer {
            flags,
            affinity_seconds,
            affinity_prefix: prefix
                .map_or(server.affinity_prefix, |prefix| prefix.of(address.family())),
            max_connections: control.max_connections.map_or(0, Into::into),
            ..server
        }
    }

    /// Returns the treatment of the backends over time.
    pub(super) fn pool_control(&self) -> Option<Box<PoolControl>> {
        let Control { drain, slow_start, eject, .. } = *self.control;
        let slow_start = slow_start.filter(|_| self.has_slow_start());
        let control = PoolControl {
            drain,
            slow_start: slow_start.unwrap_or_default(),
            eject: eject.unwrap_or_default(),
        };
        (control != PoolControl::default()).then(|| control.into())
    }

    /// Adds the weights to a filter of endpoints.
    pub(super) fn selection(&self, filter: EndpointFilter) -> EndpointSelection {
        let scale = if self.has_slow_start() { 10 } else { 1 };
        EndpointSelection { filter, weights: self.control.locality_weights, scale }
    }

    /// Returns whether the endpoints of a port have different weights.
    pub(super) fn is_weighted(&self, counts: &EndpointCounts) -> bool {
        counts.weighted > 0 || self.control.locality_weights.is_some() || self.has_slow_start()
    }

    /// Returns why options of the Service have no effect, or another one than they ask for. The
    /// configuration's defaults suit many Services, so nothing is said about them.
    pub(super) fn ignored(&self, is_weighted: bool) -> Box<[String]> {
        let (chosen, scheduler) = (self.chosen(), self.scheduler(is_weighted));
        let replaced = (scheduler != chosen).then(|| self.why_replaced(chosen, scheduler));
        let Some(own) = self.service.control.as_deref() else {
            // The weights are those of its slices, unless the configuration has some for every Service.
            let is_own = self.control.locality_weights.is_none() && !self.has_slow_start();
            let is_there = !self.context.missing_schedulers.contains(&chosen);
            return replaced.filter(|_| is_own && is_there).into_iter().collect();
        };
        let mut ignored = own.invalid.to_vec();
        ignored.extend(replaced);
        let mut add = |option: &str, reason: String| ignored.push(format!("{option}: {reason}"));
        if own.slow_start.is_some_and(|time| !time.is_zero()) && !self.has_slow_start() {
            add("slow-start", format!("the weights of {chosen} are not shares"));
        }
        if let Some(of) = own.scheduler_flags.and_then(|flags| flags.scheduler)
            && of != scheduler
        {
            add("scheduler-flags", format!("the flags of {of} mean nothing to {scheduler}"));
        }
        if own.affinity_prefix.is_some() && self.service.affinity_seconds.is_none() {
            add("affinity-prefix", "the Service has no sessionAffinity: ClientIP".to_owned());
        }
        if own.one_packet == Some(true)
            && let Err(reason) = self.one_packet
        {
            add("one-packet", reason.to_owned());
        }
        let has_tcp = || self.service.ports.iter().any(|port| port.protocol == Protocol::Tcp);
        if own.eject.is_some_and(|time| !time.is_zero()) && !has_tcp() {
            add("eject", "the Service has no TCP port, and others show no answers".to_owned());
        }
        ignored.into()
    }

    fn why_replaced(&self, chosen: Scheduler, by: Scheduler) -> String {
        if self.context.missing_schedulers.contains(&chosen) {
            return format!(
                "scheduler: the node's kernel has no scheduler {chosen}, so {by} serves; on the node \
                 run `modprobe ip_vs_{chosen}`"
            );
        }
        let reason = match chosen {
            Scheduler::Wrr => "takes too long to pass over full endpoints of great weight",
            _ => "ignores weights",
        };
        format!("scheduler: {chosen} {reason}, so {by} serves")
    }

    /// Returns the clients of a front end that are masqueraded.
    pub(super) fn masquerade(&self, kind: FrontendKind, protocol: Protocol) -> Masquerade {
        let is_untracked = self.context.settings.one_packet_everywhere;
        match (kind, self.service.external_policy) {
            _ if is_untracked && self.is_one_packet(protocol) => Masquerade::Never,
            (FrontendKind::ClusterIp, _) => Masquerade::UnlessPod,
            (_, TrafficPolicy::Cluster) => Masquerade::Always,
            (_, TrafficPolicy::Local) => Masquerade::OwnProcesses,
        }
    }

    /// Returns whether each datagram is balanced by itself.
    pub(super) fn is_one_packet(&self, protocol: Protocol) -> bool {
        protocol == Protocol::Udp && self.one_packet == Ok(true)
    }

    /// Returns why datagrams are not balanced one by one. IPVS remembers nothing of such a datagram,
    /// so what connection tracking translates on the way to the virtual server would be lost. At front
    /// ends other than ClusterIPs the ruleset writes the address instead, and cannot masquerade.
    fn no_one_packet(&self) -> Option<&'static str> {
        let Service { ports, external_ips, load_balancer_ips, .. } = self.service;
        let is_udp = |port: &&ServicePort| port.protocol == Protocol::Udp;
        let has = |kind, exists| exists && self.serves(kind);
        let is_possible = |ip: &IpAddr| self.service.cluster_ip(Family::of(*ip)).is_some();
        let has_others = has(FrontendKind::ExternalIp, external_ips.iter().any(is_possible))
            || has(FrontendKind::LoadBalancer, load_balancer_ips.iter().any(is_possible))
            || has(
                FrontendKind::NodePort,
                ports.iter().filter(is_udp).any(|port| port.node_port.is_some()),
            );
        if !ports.iter().any(|port| is_udp(&port)) {
            Some("the Service has no UDP port")
        } else if self.service.affinity_seconds.is_some() {
            Some("sessionAffinity keeps a client at one endpoint")
        } else if has_others && self.service.external_policy == TrafficPolicy::Cluster {
            Some(
                "clients of front ends other than ClusterIPs are masqueraded, which needs connection \
                 tracking; set externalTrafficPolicy: Local or kube-ipvs.io/front-ends: ClusterIP",
            )
        } else if has_others && !self.context.settings.one_packet_everywhere {
            Some(
                "at front ends other than ClusterIPs it needs onePacketEverywhere: true in the agent's \
                 configuration; or set kube-ipvs.io/front-ends: ClusterIP",
            )
        } else {
            None
        }
    }

    fn has_slow_start(&self) -> bool {
        use Scheduler::{Dh, Fo, Mh, Ovf, Sh};
        let has_shares = !matches!(self.chosen(), Dh | Fo | Mh | Ovf | Sh);
        has_shares && self.control.slow_start.is_some_and(|time| !time.is_zero())
    }

    fn chosen(&self) -> Scheduler {
        self.control.scheduler.unwrap_or(self.context.settings.scheduler)
    }

    /// Returns the scheduler that serves: for weights a scheduler that respects them. While an endpoint
    /// is full, `wrr` searches once for each unit of the greatest weight (`ip_vs_wrr_schedule` in
    /// `net/netfilter/ipvs/ip_vs_wrr.c`), with a lock held.
    fn scheduler(&self, is_weighted: bool) -> Scheduler {
        let missing = &self.context.missing_schedulers;
        let present = |scheduler: &Scheduler| !missing.contains(scheduler);
        let default = self.context.settings.scheduler;
        let chosen = Some(self.chosen()).filter(present).unwrap_or(default);
        let has_limit = self.control.max_connections.is_some();
        let weighted = match chosen {
            Scheduler::Rr | Scheduler::Wrr if is_weighted && has_limit => Scheduler::Wlc,
            Scheduler::Rr if is_weighted => Scheduler::Wrr,
            Scheduler::Lc if is_weighted => Scheduler::Wlc,
            other => other,
        };
        Some(weighted).filter(present).unwrap_or(if has_limit { Scheduler::Rr } else { chosen })
    }
}

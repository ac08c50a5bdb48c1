//! Explains where a new connection goes, from the desired state that is written to the kernel.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;

use crate::desired::contain;
use crate::engine::{DesiredState, Engine};
use crate::model::{
    Backend, DesiredService, Frontend, FrontendKind, Masquerade, Pool, Refusal, RefusalReason,
    Scheduler, ServiceKey, Target, VirtualAddress,
};
use crate::plan::elements;

/// The client of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A process in the node's own network namespace.
    Node,
    Address(IpAddr),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl std::str::FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "node" {
            return Ok(Self::Node);
        }
        text.parse()
            .map(Self::Address)
            .map_err(|_| format!("{text:?} is neither an IP address nor `node`"))
    }
}

/// The handling of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// IPVS forwards it to one of the backends.
    Forward,
    /// The client gets an immediate error.
    Reject,
    /// It is dropped silently.
    Drop,
    /// The agent's rules ignore it.
    Pass,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::Pass => "pass",
        })
    }
}

/// Scheduler `sh` fills 256 places in the order of the real servers, each with as many as its weight
/// (`ip_vs_sh_reassign` in `net/netfilter/ipvs/ip_vs_sh.c`). Up to this sum it goes round often enough.
const LARGEST_SUM_OF_SH: u64 = 256 / 8;

/// A backend that may get the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub backend: Backend,
    /// Whether the client's source address is translated.
    pub masquerade: bool,
}

/// The target of a new connection, and the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    pub destination: VirtualAddress,
    pub from: Source,
    /// The Service and the name of its port.
    pub service: Option<(ServiceKey, String)>,
    pub frontend: Option<FrontendKind>,
    pub verdict: Verdict,
    pub reason: String,
    /// The virtual server that it goes to.
    pub pool: Option<VirtualAddress>,
    pub scheduler: Option<Scheduler>,
    /// Seconds for which the client stays with its backend.
    pub affinity_seconds: Option<u32>,
    /// Those that take new connections, sorted by address and port. A running agent knows their
    /// present weights.
    pub backends: Vec<Candidate>,
    /// Those of them that have weight 0 because they do not answer. Only a running agent knows.
    pub ejected: Vec<SocketAddr>,
    /// Those that keep only established connections, sorted by address and port.
    pub draining: Vec<Backend>,
}

impl Explanation {
    /// Returns the share of new connections that each backend gets on average, in thousandths; `None`
    /// if the scheduler does not make it predictable. `sh` and `mh` reach it with many clients.
    #[must_use]
    pub fn shares(&self) -> Vec<Option<u16>> {
        let weights = self.backends.iter().map(|candidate| u64::from(candidate.backend.weight));
        let weights: Vec<_> = weights.collect();
        let greatest = weights.iter().max().copied().unwrap_or(0);
        let part = |weight: u64| match self.scheduler {
            Some(Scheduler::Rr) => weight.min(1),
            Some(Scheduler::Fo) => u64::from(weight == greatest),
            _ => weight,
        };
        let total: u64 = weights.iter().copied().map(part).sum();
        let is_predictable = match self.scheduler {
            Some(Scheduler::Rr | Scheduler::Wrr | Scheduler::Mh) => true,
            Some(Scheduler::Sh) => total <= LARGEST_SUM_OF_SH,
            // The first one in the kernel's order gets all.
            Some(Scheduler::Fo) => total == 1,
            _ => false,
        };
        let share = |weight| {
            let thousandths = (part(weight) * 1000 + total / 2).checked_div(total);
            thousandths.and_then(|it| it.try_into().ok()).filter(|_| is_predictable)
        };
        weights.iter().map(|weight| if *weight == 0 { Some(0) } else { share(*weight) }).collect()
    }
}

/// The client classes that the kernel's rules distinguish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Client {
    LocalPod,
    Node,
    Outside,
}

/// Explains where a new connection goes ([`explain()`]) with present weights and ejections.
#[must_use]
pub fn explain_present(engine: &Engine, destination: VirtualAddress, from: Source) -> Explanation {
    let mut explanation = explain(engine.desired(), destination, from);
    let pool = explanation.pool.and_then(|at| engine.present(&at));
    let weights = pool.into_iter().flat_map(|pool| pool.backends.iter());
    let weights: FxHashMap<_, _> = weights.map(|it| (it.socket(), it.weight)).collect();
    for Candidate { backend, .. } in &mut explanation.backends {
        backend.weight = weights.get(&backend.socket()).copied().unwrap_or(backend.weight);
    }
    let of_pool = |(at, _): &(&VirtualAddress, _)| explanation.pool == Some(**at);
    explanation.ejected = engine.ejected().filter(of_pool).map(|(_, it)| *it).collect();
    explanation
}

/// Explains where a new connection from `from` to `destination` goes.
///
/// If the configuration detects pods by interface, an address of the node's `podCIDRs` counts as
/// arriving through such an interface.
#[must_use]
pub fn explain(desired: &DesiredState, destination: VirtualAddress, from: Source) -> Explanation {
    let lookup = Lookup::new(desired, destination, from);
    // The order of chain `front-end`: one Service may have a front end and a node port that match.
    let is_plain = |frontend: &Frontend| {
        frontend.pool_of(frontend.inside).is_some()
            && frontend.inside == frontend.outside
            && frontend.sources.is_none()
    };
    let leads = |frontend: &Frontend| frontend.pool_of(lookup.target(frontend)).is_some();
    let both = || desired.found_at(destination);
    let found = (both().find(|(.., it)| is_plain(it) || lookup.is_barred(it)))
        .or_else(|| both().find(|(.., frontend)| leads(frontend)))
        .or_else(|| both().last());
    found.map_or_else(
        || lookup.with_refusal(lookup.elsewhere()),
        |(key, program, frontend)| lookup.at_frontend(key, program, frontend),
    )
}

struct Lookup<'a> {
    desired: &'a DesiredState,
    destination: VirtualAddress,
    from: Source,
    client: Client,
    source_ip: Option<IpAddr>,
}

impl<'a> Lookup<'a> {
    fn new(desired: &'a DesiredState, destination: VirtualAddress, from: Source) -> Self {
        let context = desired.context();
        let own = context.source_ip(destination.family());
        let (client, source_ip) = match from {
            Source::Node => (Client::Node, own),
            Source::Address(ip) if context.is_own(ip) || ip.is_loopback() => {
                (Client::Node, Some(ip))
            }
            Source::Address(ip) => {
                let node = desired.node();
                let is_pod = contain(&node.insiders, ip)
                    || node.insider_interfaces.is_some() && contain(&context.pod_cidrs, ip);
                (if is_pod { Client::LocalPod } else { Client::Outside }, Some(ip))
            }
        };
        Self { desired, destination, from, client, source_ip }
    }

    fn at_frontend(
        &self,
        key: &ServiceKey,
        program: &DesiredService,
        frontend: &Frontend,
    ) -> Explanation {
        let answer = |verdict, reason: String| Explanation {
            service: Some((key.clone(), frontend.port_name.to_string())),
            frontend: Some(frontend.kind),
            ..self.answer(verdict, reason)
        };
        if self.is_barred(frontend) {
            let reason = "the source is in none of the Service's loadBalancerSourceRanges";
            return answer(Verdict::Drop, reason.to_owned());
        }
        let target = self.target(frontend);
        match target {
            Target::Reject => answer(Verdict::Reject, "the Service has no endpoints".to_owned()),
            Target::Drop => {
                let reason = "the traffic policy is Local and no endpoint is on this node";
                answer(Verdict::Drop, reason.to_owned())
            }
            Target::Pool | Target::Shadow(_) => {
                let address = frontend.pool_of(target);
                let Some(pool) = address.and_then(|address| program.pool(&address)) else {
                    return answer(Verdict::Reject, "the Service has no endpoints".to_owned());
                };
                let path = path(frontend, pool.server.address);
                self.through_pool(answer(Verdict::Forward, path), frontend, pool)
            }
        }
    }

    fn target(&self, frontend: &Frontend) -> Target {
        match self.client {
            Client::LocalPod | Client::Node => frontend.inside,
            Client::Outside => frontend.outside,
        }
    }

    fn through_pool(&self, base: Explanation, frontend: &Frontend, pool: &Pool) -> Explanation {
        let (draining, serving): (Vec<_>, Vec<_>) =
            pool.backends.sorted().into_iter().partition(Backend::is_draining);
        let masqueraded = self.is_masqueraded(frontend);
        let candidate = |backend: Backend| Candidate {
            backend,
            masquerade: frontend.masquerade != Masquerade::Never
                && self.is_sent_on(&backend)
                && (masqueraded || self.is_hairpin(&backend)),
        };
        Explanation {
            pool: Some(pool.server.address),
            scheduler: Some(pool.server.scheduler),
            affinity_seconds: pool.server.affinity_seconds,
            backends: serving.into_iter().map(candidate).collect(),
            draining,
            ..base
        }
    }

    fn elsewhere(&self) -> Explanation {
        let Self { desired, destination: VirtualAddress { ip, .. }, .. } = *self;
        let owner_of = |mine: fn(&DesiredService, IpAddr) -> bool| {
            // Several Services may have the address by mistake: always name the same one.
            desired.services().filter(|(_, program)| mine(program, ip)).map(|(key, _)| key).min()
        };
        let is_cluster_ip = |program: &DesiredService, ip| {
            let mut frontends = program.frontends.iter();
            frontends.any(|it| it.kind == FrontendKind::ClusterIp && it.address.ip == ip)
        };
        let is_image = |program: &DesiredService, ip| {
            program.pools.iter().any(|pool| pool.server.address.ip == ip)
        };
        let is_local = |refusal: &Refusal| refusal.reason == RefusalReason::LocalSocket;
        let owner = desired.owner(&self.destination).and_then(|key| desired.service(key));
        if owner.and_then(|it| it.refusal(&self.destination)).is_some_and(is_local) {
            let reason = "the address is this node's own, too".to_owned();
            return self.answer(Verdict::Pass, reason);
        }
        if let Some(key) = owner_of(is_cluster_ip) {
            let reason = format!("Service {key} has this ClusterIP, but no such port");
            return self.answer(Verdict::Reject, reason);
        }
        if owner_of(is_image).is_some() {
            let reason = "a shadow address, which only this node uses".to_owned();
            return self.answer(Verdict::Reject, reason);
        }
        let node = desired.node();
        let is_known = contain(&node.reachable, ip) || desired.context().is_own(ip);
        let is_external = |program: &DesiredService, ip| {
            program.frontends.iter().any(|it| it.kind.is_external() && it.address.ip == ip)
        };
        if let Some(key) = owner_of(is_external) {
            let reason = format!("Service {key} has this address, but no such port");
            return if self.client == Client::Outside && !is_known {
                let reason = format!("{reason}, and only the default route leads there");
                self.answer(Verdict::Reject, reason)
            } else {
                self.answer(Verdict::Pass, format!("{reason}: left alone"))
            };
        }
        if contain(&node.service_ranges, ip) && !is_known {
            let reason = "no Service has this address of a service range".to_owned();
            return self.answer(Verdict::Drop, reason);
        }
        let what = if desired.context().is_in_service_range(ip) && !is_known {
            "no Service has this address of a service range, which also has another use"
        } else if desired.context().is_own(ip) {
            "the address is this node's own, and no Service has this port of it"
        } else {
            "not a service address"
        };
        self.answer(Verdict::Pass, what.to_owned())
    }

    /// Adds a Service that requests this front end but does not get it.
    fn with_refusal(&self, answer: Explanation) -> Explanation {
        let at: Vec<_> = self.desired.matching(self.destination).collect();
        let refused = self.desired.services().filter_map(|(key, program)| {
            Some((key, at.iter().find_map(|at| program.refusal(at))?))
        });
        let Some((key, refusal)) = refused.min_by_key(|(key, _)| *key) else { return answer };
        let why = refusal.because(|at| self.desired.owner(at));
        let kind = refusal.kind;
        let reason = format!("{}; Service {key} does not get this {kind}: {why}", answer.reason);
        Explanation { reason, ..answer }
    }

    fn answer(&self, verdict: Verdict, reason: String) -> Explanation {
        Explanation {
            destination: self.destination,
            from: self.from,
            service: None,
            frontend: None,
            verdict,
            reason,
            pool: None,
            scheduler: None,
            affinity_seconds: None,
            backends: Vec::new(),
            ejected: Vec::new(),
            draining: Vec::new(),
        }
    }

    fn is_barred(&self, frontend: &Frontend) -> bool {
        let Some(sources) = &frontend.sources else { return false };
        self.source_ip.is_none_or(|ip| !contain(sources, ip))
    }

    fn is_masqueraded(&self, frontend: &Frontend) -> bool {
        match frontend.masquerade {
            Masquerade::Always => true,
            Masquerade::Never => false,
            Masquerade::OwnProcesses => self.client == Client::Node,
            Masquerade::UnlessPod => {
                let node = self.desired.node();
                let behind = node.pod_interfaces.is_some() && self.client == Client::LocalPod;
                !behind && self.source_ip.is_none_or(|ip| !contain(&node.pods, ip))
            }
        }
    }

    /// Returns whether a packet passes chain `postrouting`. A packet from another host to an
    /// endpoint in the node's own network namespace is delivered locally and never translated, as
    /// in kube-proxy's iptables mode.
    fn is_sent_on(&self, backend: &Backend) -> bool {
        self.client == Client::Node || !self.desired.context().is_own(backend.address)
    }

    fn is_hairpin(&self, backend: &Backend) -> bool {
        elements::of_backend(backend).is_some() && self.source_ip == Some(backend.address)
    }
}

fn path(frontend: &Frontend, pool: VirtualAddress) -> String {
    let kind = frontend.kind;
    if pool == frontend.address {
        format!("{kind} front end of the Service")
    } else {
        format!("{kind} front end of the Service, translated to its pool at {pool}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(scheduler: Scheduler, weights: &[u32]) -> Vec<Option<u16>> {
        let candidate = |weight: &u32| {
            let backend = Backend {
                address: [10, 244, 1, 7].into(),
                port: 53,
                weight: *weight,
                local: false,
            };
            Candidate { backend, masquerade: false }
        };
        let explanation = Explanation {
            destination: "10.96.0.10:53/udp".parse().expect("address"),
            from: Source::Node,
            service: None,
            frontend: None,
            verdict: Verdict::Forward,
            reason: String::new(),
            pool: None,
            scheduler: Some(scheduler),
            affinity_seconds: None,
            backends: weights.iter().map(candidate).collect(),
            ejected: Vec::new(),
            draining: Vec::new(),
        };
        explanation.shares()
    }

    #[test]
    fn a_scheduler_shares_by_weight_equally_or_unpredictably() {
        use Scheduler::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Wlc, Wrr};
        assert_eq!(shares(Rr, &[1, 5, 0]), [Some(500), Some(500), Some(0)]);
        for scheduler in [Wrr, Sh, Mh] {
            assert_eq!(shares(scheduler, &[1, 2, 0]), [Some(333), Some(667), Some(0)]);
        }
        assert_eq!(shares(Fo, &[1, 2, 0]), [Some(0), Some(1000), Some(0)]);
        assert_eq!(shares(Fo, &[2, 2, 0]), [None, None, Some(0)], "the kernel's order decides");
        // The first one would get all of the 256 places of `sh`.
        assert_eq!(shares(Sh, &[256, 256]), [None, None]);
        assert_eq!(shares(Wrr, &[i32::MAX.cast_unsigned(); 2]), [Some(500); 2]);
        assert_eq!(shares(Wrr, &[0, 0]), [Some(0); 2]);
        for scheduler in [Lc, Wlc, Sed, Nq, Ovf, Lblc, Lblcr, Dh] {
            assert_eq!(shares(scheduler, &[1, 2, 0]), [None, None, Some(0)], "{scheduler}");
        }
    }
}

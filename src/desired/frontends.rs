//! Front ends and pools of one Service: policies, masquerade, source ranges.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoints::{Choice, choose};
use super::health_check::health_check;
use super::ranges::{aggregate, image};
use super::{Claim, Claims, Surroundings};
use crate::model::{
    Endpoints, Family, Frontend, FrontendKind, Masquerade, Pool, Program, Refusal, RefusalReason,
    Route, RouteTable, Selection, Service, ServicePort, Target, TrafficPolicy, Vantage,
    VirtualAddress, VirtualServer,
};

/// Whether a Service is this proxy's to serve, and not another one's.
#[must_use]
pub fn is_served(service: &Service, around: &Surroundings) -> bool {
    service.proxy_name == around.settings.service_proxy_name
}

/// The front ends that a Service asks for and may have if no other Service has them already.
#[must_use]
pub fn claims(service: &Service, around: &Surroundings) -> Vec<(VirtualAddress, Claim)> {
    let claim = |kind| Claim { kind, created: service.created, service: service.key.clone() };
    wishes(service, around)
        .into_iter()
        .filter(|wish| refusal(wish, around).is_none())
        .map(|wish| (wish.address, claim(wish.kind)))
        .collect()
}

/// Everything that the kernel should hold because of a Service. `claims` must have the Service's
/// own.
pub fn program(
    service: &Service,
    endpoints: &mut Endpoints,
    around: &Surroundings,
    vantage: &Vantage,
    claims: &Claims,
) -> Program {
    let mut build = Build { service, around, vantage, endpoints, program: Program::default() };
    let wishes = wishes(service, around);
    build.program.frontends.reserve_exact(wishes.len());
    build.program.pools.reserve_exact(wishes.len());
    for wish in wishes {
        // Whose ClusterIP another Service has would lead insiders to that one's endpoints.
        let rival = [&wish.address, &wish.cluster]
            .into_iter()
            .filter_map(|address| claims.owner(address))
            .find(|owner| owner.service != service.key);
        let taken = rival.map(|rival| RefusalReason::Taken(rival.service.clone()));
        match refusal(&wish, around).or(taken) {
            Some(reason) => build.refuse(&wish, reason),
            None => build.add(&wish),
        }
    }
    let program = build.finish();
    Program { health_check: health_check(service, endpoints, vantage), ..program }
}

/// A front end that a Service asks for.
struct Wish<'a> {
    address: VirtualAddress,
    kind: FrontendKind,
    port: &'a ServicePort,
    /// The front end of the port at the ClusterIP of the family.
    cluster: VirtualAddress,
}

/// All front ends that a Service asks for, sorted by address, each once. A family without a
/// ClusterIP has none.
fn wishes<'a>(service: &'a Service, around: &Surroundings) -> Vec<Wish<'a>> {
    let mut wishes = Vec::new();
    for cluster_ip in Family::BOTH.into_iter().filter_map(|family| service.cluster_ip(family)) {
        let of_family = |ip: &&IpAddr| Family::of(**ip) == Family::of(cluster_ip);
        for port in &service.ports {
            let cluster =
                VirtualAddress { ip: cluster_ip, port: port.port, protocol: port.protocol };
            let mut wish = |address, kind| wishes.push(Wish { address, kind, port, cluster });
            wish(cluster, FrontendKind::ClusterIp);
            for ip in service.external_ips.iter().filter(of_family) {
                wish(cluster.at(*ip), FrontendKind::ExternalIp);
            }
            for ip in service.load_balancer_ips.iter().filter(of_family) {
                wish(cluster.at(*ip), FrontendKind::LoadBalancer);
            }
            if let Some(number) = port.node_port {
                for ip in around.node_port_ips.iter().filter(of_family) {
                    let address = VirtualAddress { ip: *ip, port: number, ..cluster };
                    wish(address, FrontendKind::NodePort);
                }
            }
        }
    }
    wishes.sort_by_key(|wish| (wish.address, wish.kind));
    wishes.dedup_by_key(|wish| wish.address);
    wishes
}

/// Why nobody may have this front end, if so. Whoever may create Services could otherwise take
/// over the node's own traffic.
fn refusal(wish: &Wish<'_>, around: &Surroundings) -> Option<RefusalReason> {
    if matches!(wish.kind, FrontendKind::ClusterIp | FrontendKind::NodePort) {
        return None;
    }
    let ip = wish.address.ip;
    if around.internal_ips.contains(&ip) {
        Some(RefusalReason::NodeAddress)
    } else if around.api_server.contains(&ip) {
        Some(RefusalReason::ApiServer)
    } else if around.is_in_service_range(ip) {
        Some(RefusalReason::ServiceRange)
    } else if around.is_in_image_range(ip) {
        Some(RefusalReason::ImageRange)
    } else {
        None
    }
}

/// A Program in the making.
struct Build<'a> {
    service: &'a Service,
    around: &'a Surroundings,
    vantage: &'a Vantage,
    endpoints: &'a mut Endpoints,
    program: Program,
}

impl Build<'_> {
    fn refuse(&mut self, wish: &Wish<'_>, reason: RefusalReason) {
        self.program.refusals.push(Refusal { address: wish.address, kind: wish.kind, reason });
    }

    fn add(&mut self, wish: &Wish<'_>) {
        let family = wish.address.family();
        let tally = self.endpoints.of(family).tally(&wish.port.name, wish.port.protocol);
        let choice = choose(&tally);
        let whole = self.whole(wish);
        let frontend = if wish.kind == FrontendKind::ClusterIp {
            self.cluster_frontend(wish, choice, whole)
        } else {
            self.external_frontend(wish, choice, whole)
        };
        self.add_routes(wish, whole);
        self.program.frontends.push(frontend);
    }

    /// The address of the pool of all endpoints: the ClusterIP, unless that one is local.
    fn whole(&self, wish: &Wish<'_>) -> VirtualAddress {
        match self.service.internal_policy {
            TrafficPolicy::Cluster => wish.cluster,
            TrafficPolicy::Local => wish.cluster.at(image(wish.cluster.ip)),
        }
    }

    fn cluster_frontend(
        &mut self,
        wish: &Wish<'_>,
        choice: Choice,
        whole: VirtualAddress,
    ) -> Frontend {
        let target = match self.service.internal_policy {
            TrafficPolicy::Cluster => self.target(wish, wish.address, choice.cluster, choice),
            TrafficPolicy::Local => self.target(wish, wish.address, choice.local, choice),
        };
        let masquerade = if self.around.settings.masquerade_all {
            Masquerade::Always
        } else {
            Masquerade::UnlessPod
        };
        self.frontend(wish, [target; 3], whole, masquerade)
    }

    fn external_frontend(
        &mut self,
        wish: &Wish<'_>,
        choice: Choice,
        whole: VirtualAddress,
    ) -> Frontend {
        match self.service.external_policy {
            TrafficPolicy::Cluster => {
                let own = self.target(wish, wish.address, choice.cluster, choice);
                // The node's own packets find no local route to an external address (the rule is
                // for others' packets), so they start towards the pool of all endpoints.
                let node = match wish.kind {
                    FrontendKind::NodePort => own,
                    _ => self.target(wish, whole, choice.cluster, choice),
                };
                self.frontend(wish, [own, node, own], whole, Masquerade::Always)
            }
            TrafficPolicy::Local => {
                let outside = self.target(wish, wish.address, choice.local, choice);
                // The policy binds outsiders; pods and the node reach every endpoint.
                let insiders = self.target(wish, whole, choice.cluster, choice);
                let targets = [insiders, insiders, outside];
                self.frontend(wish, targets, whole, Masquerade::OwnProcesses)
            }
        }
    }

    /// Where a client goes under a selection; makes the pool that it goes to, or would.
    fn target(
        &mut self,
        wish: &Wish<'_>,
        pool: VirtualAddress,
        selection: Option<Selection>,
        choice: Choice,
    ) -> Target {
        self.add_pool(wish, pool, selection);
        match selection {
            Some(_) if pool == wish.address => Target::Own,
            Some(_) => Target::Whole,
            None if choice.has_any() => Target::Drop,
            None => Target::Reject,
        }
    }

    fn add_pool(&mut self, wish: &Wish<'_>, address: VirtualAddress, selection: Option<Selection>) {
        let pools = &mut self.program.pools;
        let Err(place) = pools.binary_search_by_key(&address, |pool| pool.server.address) else {
            return;
        };
        let scheduler = self.around.settings.scheduler;
        let (endpoints, vantage) = (self.endpoints.of(address.family()), self.vantage);
        let port = wish.port;
        let pool = Pool {
            server: VirtualServer {
                address,
                scheduler,
                flags: scheduler.default_flags(),
                affinity_seconds: self.service.affinity_seconds,
            },
            backends: selection
                .map(|selection| endpoints.backends(&port.name, port.protocol, selection, vantage))
                .unwrap_or_default(),
        };
        pools.insert(place, Arc::new(pool));
    }

    fn frontend(
        &self,
        wish: &Wish<'_>,
        [pods, node, outside]: [Target; 3],
        whole: VirtualAddress,
        masquerade: Masquerade,
    ) -> Frontend {
        Frontend {
            address: wish.address,
            kind: wish.kind,
            port_name: wish.port.name.clone(),
            pods,
            node,
            outside,
            whole,
            masquerade,
            sources: self.sources(wish),
        }
    }

    /// Who may use the front end: `loadBalancerSourceRanges` binds load balancer IPs only, and
    /// neither a list of the other family nor one with a `/0` restricts anybody.
    fn sources(&self, wish: &Wish<'_>) -> Option<Box<[IpNet]>> {
        if wish.kind != FrontendKind::LoadBalancer {
            return None;
        }
        let family = wish.address.family();
        let ranges = self.service.source_ranges.iter().copied();
        let ranges = aggregate(ranges.filter(|range| Family::of(range.addr()) == family));
        let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
        restricts.then(|| ranges.into())
    }

    /// Adds the routes that a front end needs. Node addresses and service ranges with their images
    /// need none.
    fn add_routes(&mut self, wish: &Wish<'_>, whole: VirtualAddress) {
        let mut add = |ip: IpAddr, table, source| {
            self.program.routes.push(Route { prefix: ip.into(), table, source });
        };
        let own = self.around.primary_ip(wish.address.family());
        match wish.kind {
            FrontendKind::ClusterIp => {
                if !self.around.is_in_service_range(wish.cluster.ip) {
                    add(wish.cluster.ip, RouteTable::Local, own);
                }
                return;
            }
            FrontendKind::ExternalIp | FrontendKind::LoadBalancer => {
                add(wish.address.ip, RouteTable::Own, None);
            }
            FrontendKind::NodePort => {}
        }
        if whole != wish.cluster && !self.around.is_in_image_range(whole.ip) {
            add(whole.ip, RouteTable::Local, own);
        }
    }

    fn finish(self) -> Program {
        let mut program = self.program;
        program.routes.sort_unstable();
        program.routes.dedup();
        program
    }
}

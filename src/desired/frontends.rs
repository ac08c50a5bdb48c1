//! Front ends of one Service: who gets them, masquerade, source ranges, routes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::health_check::health_check;
use super::pools::Pools;
use super::ranges::aggregate;
use super::{Claim, Claims, Surroundings};
use crate::model::{
    Endpoints, Family, Frontend, FrontendKind, Masquerade, Program, Refusal, RefusalReason, Route,
    Service, ServicePort, SharedPools, Target, TrafficPolicy, Vantage, VirtualAddress,
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
    wishes(service)
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
    let wishes = wishes(service);
    let mut frontends = Vec::with_capacity(wishes.len());
    let mut refusals = Vec::new();
    let mut pools = Pools::new(service, around, vantage, &[]);
    for wish in &wishes {
        if let Some(reason) = refusal(wish, around).or_else(|| rival(wish, service, claims)) {
            refusals.push(Refusal { address: wish.address, kind: wish.kind, reason });
            continue;
        }
        let frontend = frontend(wish, service);
        let targets = pools.lead(&frontend, endpoints);
        frontends.push(frontend.leading_to(targets));
    }
    let pools = pools.finish();
    let cluster_ips = frontends.iter().filter(|it| it.kind == FrontendKind::ClusterIp);
    let cluster_ips = cluster_ips.map(|frontend| frontend.address.ip);
    let ips = pools.iter().map(|pool| pool.server.address.ip).chain(cluster_ips);
    let route = |ip| Route { prefix: IpNet::from(ip), source: around.primary_ip(Family::of(ip)) };
    let mut routes: Vec<_> = ips.map(route).collect();
    routes.sort_unstable();
    routes.dedup();
    Program {
        frontends: frontends.into(),
        pools,
        routes: routes.into(),
        refusals: refusals.into(),
        health_check: health_check(service, endpoints, vantage),
    }
}

/// The pools of a Service that had another Program and of which only endpoints have changed since.
/// `None` if more is another by that: where its front ends lead, or what its health check answers.
pub fn pools(
    old: &Program,
    service: &Service,
    endpoints: &mut Endpoints,
    around: &Surroundings,
    vantage: &Vantage,
) -> Option<SharedPools> {
    let mut pools = Pools::new(service, around, vantage, &old.pools);
    for frontend in &*old.frontends {
        if pools.lead(frontend, endpoints) != frontend.targets() {
            return None;
        }
    }
    let is_as_healthy = health_check(service, endpoints, vantage) == old.health_check;
    is_as_healthy.then(|| pools.finish())
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
fn wishes(service: &Service) -> Vec<Wish<'_>> {
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
                let address = VirtualAddress::node_port(cluster.family(), number, cluster.protocol);
                wish(address, FrontendKind::NodePort);
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

/// Which other Service keeps this one from a front end, if any. Whose ClusterIP another one has
/// would lead insiders to that one's endpoints.
fn rival(wish: &Wish<'_>, service: &Service, claims: &Claims) -> Option<RefusalReason> {
    let owners = [&wish.address, &wish.cluster].into_iter().filter_map(|it| claims.owner(it));
    let rival = owners.map(|owner| &owner.service).find(|owner| **owner != service.key)?;
    Some(RefusalReason::Taken(rival.clone()))
}

/// The front end that a wish makes, before it is known where it leads.
fn frontend(wish: &Wish<'_>, service: &Service) -> Frontend {
    let masquerade = match (wish.kind, service.external_policy) {
        (FrontendKind::ClusterIp, _) => Masquerade::UnlessPod,
        (_, TrafficPolicy::Cluster) => Masquerade::Always,
        (_, TrafficPolicy::Local) => Masquerade::OwnProcesses,
    };
    Frontend {
        address: wish.address,
        kind: wish.kind,
        port_name: wish.port.name.clone(),
        pool: wish.cluster,
        inside: Target::Reject,
        outside: Target::Reject,
        masquerade,
        sources: sources(wish, service),
    }
}

/// Who may use a front end: `loadBalancerSourceRanges` binds load balancer IPs only, and neither a
/// list of the other family nor one with a `/0` restricts anybody.
fn sources(wish: &Wish<'_>, service: &Service) -> Option<Box<[IpNet]>> {
    if wish.kind != FrontendKind::LoadBalancer {
        return None;
    }
    let family = wish.address.family();
    let ranges = service.source_ranges.iter().copied();
    let ranges = aggregate(ranges.filter(|range| Family::of(range.addr()) == family));
    let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
    restricts.then(|| ranges.into())
}

//! Front ends of one Service: who gets them, masquerade, source ranges, routes.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::health_check::health_check;
use super::pools::PoolBuilder;
use super::ranges::aggregate;
use super::{Claim, Claims, NodeContext};
use crate::model::{
    DesiredService, Endpoints, Family, Frontend, FrontendKind, Locality, Masquerade, Protocol,
    Refusal, RefusalReason, Right, Route, Service, ServicePort, SharedPools, Target, TrafficPolicy,
    VirtualAddress,
};

/// Whether a Service is this proxy's to serve, and not another one's.
#[must_use]
pub fn is_served(service: &Service, context: &NodeContext) -> bool {
    service.proxy_name == context.settings.service_proxy_name
}

/// Which front ends a Service has already, at addresses of the node: what has come to listen there
/// since does not take them away. With the front end that a Service port has at the ClusterIP, and the
/// right to the one asked of.
pub type Having<'a> = &'a dyn Fn(&VirtualAddress, &VirtualAddress, Right) -> bool;

/// The front ends that a Service asks for and may have if no other Service has them already, sorted
/// by address.
#[must_use]
pub fn claims(
    service: &Service,
    context: &NodeContext,
    having: Having<'_>,
) -> Vec<(VirtualAddress, Claim)> {
    wishes(service, context)
        .into_iter()
        .filter(|wish| {
            // What a process of the node answers is no other Service's for that.
            matches!(refusal(wish, context, having), None | Some(RefusalReason::LocalSocket))
        })
        .map(|wish| (wish.address, claim(&wish, service)))
        .collect()
}

/// The front ends that a Service asks for at addresses of the node, but for node ports.
pub fn asked_of_node<'a>(
    service: &'a Service,
    context: &'a NodeContext,
) -> impl Iterator<Item = VirtualAddress> + 'a {
    let cluster_ips = Family::BOTH.into_iter().filter_map(|family| service.cluster_ip(family));
    let ips = service.external_ips.iter().chain(&service.load_balancer_ips).copied();
    ips.chain(cluster_ips).filter(|ip| context.is_own(*ip)).flat_map(|ip| {
        let at = move |port: &ServicePort| VirtualAddress {
            ip,
            port: port.port,
            protocol: port.protocol,
        };
        service.ports.iter().map(at)
    })
}

/// Everything that the kernel should hold because of a Service. `claims` must have the Service's
/// own.
pub fn program(
    service: &Service,
    endpoints: &mut Endpoints,
    context: &NodeContext,
    locality: &Locality,
    (claims, having): (&Claims, Having<'_>),
) -> DesiredService {
    let wishes = wishes(service, context);
    let mut frontends = Vec::with_capacity(wishes.len());
    let mut refusals = Vec::new();
    let mut pools = PoolBuilder::new(service, context, locality, &[]);
    for wish in &wishes {
        let refusal = refusal(wish, context, having);
        if let Some(reason) = refusal.or_else(|| rival(wish, service, context, claims)) {
            refusals.push(Refusal { address: wish.address, kind: wish.kind, reason });
            continue;
        }
        let frontend = frontend(wish, service);
        match pools.lead(&frontend, endpoints) {
            Some(targets) => frontends.push(frontend.leading_to(targets)),
            None => refusals.push(Refusal {
                address: wish.address,
                kind: wish.kind,
                reason: RefusalReason::NoImage,
            }),
        }
    }
    let pools = pools.finish();
    let cluster_ips = frontends.iter().filter(|it| it.kind == FrontendKind::ClusterIp);
    let cluster_ips = cluster_ips.map(|frontend| frontend.address.ip);
    let ips = pools.iter().map(|pool| pool.server.address.ip).chain(cluster_ips);
    let route = |ip| Route { prefix: IpNet::from(ip), source: context.source_ip(Family::of(ip)) };
    let mut routes: Vec<_> = ips.map(route).collect();
    routes.sort_unstable();
    routes.dedup();
    DesiredService {
        frontends: frontends.into(),
        pools,
        routes: routes.into(),
        refusals: refusals.into(),
        health_check: health_check(service, endpoints, locality),
    }
}

/// The pools of a Service that had another DesiredService and of which only endpoints have changed since.
/// `None` if more is another by that: where its front ends lead, or what its health check answers.
pub fn pools(
    old: &DesiredService,
    service: &Service,
    endpoints: &mut Endpoints,
    context: &NodeContext,
    locality: &Locality,
) -> Option<SharedPools> {
    let mut pools = PoolBuilder::new(service, context, locality, &old.pools);
    for frontend in &*old.frontends {
        if pools.lead(frontend, endpoints) != Some(frontend.targets()) {
            return None;
        }
    }
    let is_as_healthy = health_check(service, endpoints, locality) == old.health_check;
    is_as_healthy.then(|| pools.finish())
}

/// A front end that a Service asks for.
struct FrontendRequest<'a> {
    address: VirtualAddress,
    kind: FrontendKind,
    port: &'a ServicePort,
    /// The front end of the port at the ClusterIP of the family.
    cluster: VirtualAddress,
}

/// All front ends that a Service asks for, sorted by address, each once and by the best right. A
/// family without a ClusterIP has none.
fn wishes<'a>(service: &'a Service, context: &NodeContext) -> Vec<FrontendRequest<'a>> {
    let mut wishes = Vec::new();
    for cluster_ip in context.families.iter().filter_map(|family| service.cluster_ip(*family)) {
        let of_family = |ip: &&IpAddr| Family::of(**ip) == Family::of(cluster_ip);
        for port in &service.ports {
            let cluster =
                VirtualAddress { ip: cluster_ip, port: port.port, protocol: port.protocol };
            let mut wish =
                |address, kind| wishes.push(FrontendRequest { address, kind, port, cluster });
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

fn claim(wish: &FrontendRequest<'_>, service: &Service) -> Claim {
    Claim { right: wish.kind.right(), created: service.created, service: service.key.clone() }
}

/// Why no Service may have this front end, if so. Those who may create Services could otherwise take
/// over the node's own traffic. Of a ClusterIP, only who can give the node an address has a port.
fn refusal(
    wish: &FrontendRequest<'_>,
    context: &NodeContext,
    having: Having<'_>,
) -> Option<RefusalReason> {
    let FrontendRequest { address, kind, cluster, .. } = wish;
    match kind {
        FrontendKind::ClusterIp => {
            return context.is_local_socket(address).then_some(RefusalReason::LocalSocket);
        }
        // The API server may hand out any port.
        FrontendKind::NodePort => {
            return context.is_protected(address).then_some(RefusalReason::Protected);
        }
        FrontendKind::ExternalIp | FrontendKind::LoadBalancer => {}
    }
    let VirtualAddress { ip, port, protocol } = *address;
    if protocol == Protocol::Tcp && context.api_servers.contains(&SocketAddr::new(ip, port)) {
        Some(RefusalReason::ApiServer)
    } else if context.is_in_service_range(ip) && !context.node_ips.contains(&ip) {
        // A device may have it for a cache of DNS.
        Some(RefusalReason::ServiceRange)
    } else if context.is_own(ip) {
        context.need(address).filter(|need| {
            *need != RefusalReason::Listened || !having(address, cluster, kind.right())
        })
    } else if context.is_in_image_range(ip) {
        Some(RefusalReason::ImageRange)
    } else {
        None
    }
}

/// Which front end of another Service keeps this one from a front end, if any. Where another one has
/// the ClusterIP, insiders would be led to that one's endpoints.
fn rival(
    wish: &FrontendRequest<'_>,
    service: &Service,
    context: &NodeContext,
    claims: &Claims,
) -> Option<RefusalReason> {
    let other = |at: &VirtualAddress| claims.owner(at).filter(|owner| owner.service != service.key);
    let taken = [wish.address, wish.cluster].into_iter().find(|at| other(at).is_some());
    let taken = taken.or_else(|| {
        let mut contested = same_packets(wish.address, context);
        let claim = claim(wish, service);
        contested.find(|at| other(at).is_some_and(|owner| *owner < claim))
    });
    taken.map(RefusalReason::Taken)
}

/// The other front ends that the packets to a front end may be for: a node port's at the node's
/// addresses, and the node port at one of these.
pub fn same_packets(
    address: VirtualAddress,
    context: &NodeContext,
) -> impl Iterator<Item = VirtualAddress> {
    let family = address.family();
    let anywhere = address.at(family.unspecified());
    let is_node_port = address == anywhere;
    let ips = context.node_port_ips.iter().copied().filter(move |ip| Family::of(*ip) == family);
    ips.filter(move |ip| is_node_port || *ip == address.ip)
        .map(move |ip| if is_node_port { address.at(ip) } else { anywhere })
}

/// The front end that a wish makes, before it is known where it leads.
fn frontend(wish: &FrontendRequest<'_>, service: &Service) -> Frontend {
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
fn sources(wish: &FrontendRequest<'_>, service: &Service) -> Option<Box<[IpNet]>> {
    if wish.kind != FrontendKind::LoadBalancer {
        return None;
    }
    let family = wish.address.family();
    let ranges = service.source_ranges.iter().copied();
    let ranges = aggregate(ranges.filter(|range| Family::of(range.addr()) == family));
    let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
    restricts.then(|| ranges.into())
}

//! Front ends of one Service: ownership, masquerade, source ranges, routes.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::health_check::health_check;
use super::options::Options;
use super::pools::PoolBuilder;
use super::ranges::aggregate;
use super::{Claim, Claims, NodeContext};
use crate::model::{
    DesiredService, Endpoints, Family, Frontend, FrontendKind, Locality, Protocol, Refusal,
    RefusalReason, Right, Route, Service, ServicePort, SharedPools, Target, VirtualAddress,
};

/// Returns whether this proxy serves a Service.
#[must_use]
pub fn is_served(service: &Service, context: &NodeContext) -> bool {
    service.proxy_name == context.settings.service_proxy_name
}

/// Returns whether a Service already owns a front end at an address of the node, so that a socket
/// that listens later does not take it away. The arguments are the front end, the Service port's
/// front end at the ClusterIP, and the precedence of the claim.
pub type IsOwner<'a> = &'a dyn Fn(&VirtualAddress, &VirtualAddress, Right) -> bool;

/// Returns the front ends that a Service gets unless another Service has a better claim, sorted by
/// address.
#[must_use]
pub fn claims(
    service: &Service,
    context: &NodeContext,
    is_owner: IsOwner<'_>,
) -> Vec<(VirtualAddress, Claim)> {
    let options = Options::new(service, context);
    requests(&options)
        .into_iter()
        .filter(|request| {
            let refusal = refusal(request, &options, is_owner);
            refusal.is_none_or(|reason| reason.keeps_claim())
        })
        .map(|request| (request.address, claim(&request, service)))
        .collect()
}

/// Returns the front ends that a Service requests at addresses of the node, without node ports.
pub fn requested_at_node<'a>(
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

/// Computes what the kernel must hold for a Service. `claims` must contain the Service's own
/// claims.
pub fn program(
    service: &Service,
    endpoints: &mut Endpoints,
    context: &NodeContext,
    locality: &Locality,
    (claims, is_owner): (&Claims, IsOwner<'_>),
) -> DesiredService {
    let options = Options::new(service, context);
    let requests = requests(&options);
    let mut frontends = Vec::with_capacity(requests.len());
    let mut refusals = Vec::new();
    let mut pools = PoolBuilder::new(&options, locality, &[]);
    for request in requests {
        let refusal = refusal(&request, &options, is_owner);
        let refusal = refusal.or_else(|| conflict(&request, service, context, claims));
        let targets = match refusal {
            Some(reason) => Err(reason),
            None => pools.lead(&request, endpoints).ok_or(RefusalReason::NoShadow),
        };
        match targets {
            Ok(targets) => {
                let sources = sources(&request, service);
                frontends.push(Frontend { sources, ..request }.leading_to(targets));
            }
            Err(reason) => {
                let Frontend { address, kind, .. } = request;
                refusals.push(Refusal { address, kind, reason });
            }
        }
    }
    let (pools, ignored_options) = pools.finish();
    let cluster_ips = frontends.iter().filter(|it| it.kind == FrontendKind::ClusterIp);
    let cluster_ips = cluster_ips.map(|frontend| frontend.address.ip);
    let ips = pools.iter().map(|pool| pool.server.address.ip).chain(cluster_ips);
    let route = |ip| Route { prefix: IpNet::from(ip), source: context.source_ip(Family::of(ip)) };
    let mut routes: Vec<_> = ips.map(route).collect();
    routes.sort_unstable();
    routes.dedup();
    DesiredService {
        created: service.created,
        frontends: frontends.into(),
        pools,
        routes: routes.into(),
        refusals: refusals.into(),
        health_check: health_check(&options, endpoints, locality),
        ignored_options,
    }
}

/// Computes the pools of a Service if only its endpoints have changed since the version `old`.
///
/// Returns `None` if the targets of a front end, the health check or the ignored options change,
/// too.
pub fn pools(
    old: &DesiredService,
    service: &Service,
    endpoints: &mut Endpoints,
    context: &NodeContext,
    locality: &Locality,
) -> Option<SharedPools> {
    let options = Options::new(service, context);
    let mut pools = PoolBuilder::new(&options, locality, &old.pools);
    for frontend in &*old.frontends {
        if pools.lead(frontend, endpoints) != Some(frontend.targets()) {
            return None;
        }
    }
    let is_as_healthy = health_check(&options, endpoints, locality) == old.health_check;
    let (pools, ignored_options) = pools.finish();
    (is_as_healthy && ignored_options == old.ignored_options).then_some(pools)
}

/// Returns all front ends that a Service requests, sorted by address; of duplicates, the one that is
/// served and has the best precedence. A family without a ClusterIP has none. Targets and allowed
/// sources are not known yet.
fn requests(options: &Options<'_>) -> Vec<Frontend> {
    let Options { service, context, .. } = *options;
    let mut requests = Vec::new();
    for cluster_ip in context.families.iter().filter_map(|family| service.cluster_ip(*family)) {
        let of_family = |ip: &&IpAddr| Family::of(**ip) == Family::of(cluster_ip);
        for port in &service.ports {
            let cluster =
                VirtualAddress { ip: cluster_ip, port: port.port, protocol: port.protocol };
            let mut request = |address, kind| {
                requests.push(Frontend {
                    address,
                    kind,
                    port_name: port.name.clone(),
                    pool: cluster,
                    inside: Target::Reject,
                    outside: Target::Reject,
                    masquerade: options.masquerade(kind, port.protocol),
                    sources: None,
                });
            };
            request(cluster, FrontendKind::ClusterIp);
            for ip in service.external_ips.iter().filter(of_family) {
                request(cluster.at(*ip), FrontendKind::ExternalIp);
            }
            for ip in service.load_balancer_ips.iter().filter(of_family) {
                request(cluster.at(*ip), FrontendKind::LoadBalancer);
            }
            if let Some(number) = port.node_port {
                let address = VirtualAddress::node_port(cluster.family(), number, cluster.protocol);
                request(address, FrontendKind::NodePort);
            }
        }
    }
    let is_unserved = |kind| !options.serves(kind);
    requests.sort_by_key(|request| (request.address, is_unserved(request.kind), request.kind));
    requests.dedup_by_key(|request| request.address);
    requests
}

fn claim(request: &Frontend, service: &Service) -> Claim {
    Claim { right: request.kind.right(), created: service.created, service: service.key.clone() }
}

/// Returns why the Service must not have this front end, or does not serve it. Otherwise the authors
/// of Services could take over the node's own traffic. A port of a ClusterIP is refused only if a
/// device of the node has the address.
fn refusal(
    request: &Frontend,
    options: &Options<'_>,
    is_owner: IsOwner<'_>,
) -> Option<RefusalReason> {
    let Frontend { address, kind, pool: cluster, .. } = request;
    let context = options.context;
    let is_served = options.serves(*kind);
    let VirtualAddress { ip, port, protocol } = *address;
    let refusal = if *kind == FrontendKind::ClusterIp {
        context.is_local_socket(address).then_some(RefusalReason::LocalSocket)
    } else if *kind == FrontendKind::NodePort {
        // The API server may allocate any port.
        context.is_protected(address).then_some(RefusalReason::Protected)
    } else if protocol == Protocol::Tcp && context.api_servers.contains(&SocketAddr::new(ip, port))
    {
        Some(RefusalReason::ApiServer)
    } else if context.is_in_service_range(ip) && !context.node_ips.contains(&ip) {
        // A device may have the address for a DNS cache.
        Some(RefusalReason::ServiceRange)
    } else if context.is_own(ip) {
        context.need(address).filter(|need| {
            *need != RefusalReason::Listened || !is_owner(address, cluster, kind.right())
        })
    } else if context.is_in_shadow_range(ip) {
        Some(RefusalReason::ShadowRange)
    } else {
        None
    };
    refusal.or_else(|| (!is_served).then_some(RefusalReason::NotServed))
}

/// Returns the front end of another Service that conflicts with this one, if any. If another
/// Service owns the ClusterIP, local clients would reach its endpoints.
fn conflict(
    request: &Frontend,
    service: &Service,
    context: &NodeContext,
    claims: &Claims,
) -> Option<RefusalReason> {
    let other = |at: &VirtualAddress| claims.owner(at).filter(|owner| owner.service != service.key);
    let taken = [request.address, request.pool].into_iter().find(|at| other(at).is_some());
    let taken = taken.or_else(|| {
        let mut contested = same_packets(request.address, context);
        let claim = claim(request, service);
        contested.find(|at| other(at).is_some_and(|owner| *owner < claim))
    });
    taken.map(RefusalReason::Taken)
}

/// Returns the other front ends that match the same packets: for a node port, those at the node's
/// addresses; for one of these, the node port.
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

/// Returns the allowed source ranges. `loadBalancerSourceRanges` applies to load balancer IPs only.
/// A list of the other family and a list with a `/0` range do not restrict.
fn sources(request: &Frontend, service: &Service) -> Option<Box<[IpNet]>> {
    if request.kind != FrontendKind::LoadBalancer {
        return None;
    }
    let family = request.address.family();
    let ranges = service.source_ranges.iter().copied();
    let ranges = aggregate(ranges.filter(|range| Family::of(range.addr()) == family));
    let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
    restricts.then(|| ranges.into())
}

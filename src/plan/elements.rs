//! Which set elements a Program needs.

use crate::model::{
    Element, Frontend, FrontendKind, Masquerade, NodeProgram, Program, Protocol, RouteTable,
    Target, VirtualAddress,
};

/// Elements that the front ends of a Program need. One that several need is named several times.
pub fn of_frontends(program: &Program) -> impl Iterator<Item = Element> + '_ {
    program.frontends.iter().flat_map(of_frontend).chain(of_images(program))
}

/// Images of ClusterIPs outside the service ranges, which no range guards: a local route that
/// leads to no front end leads to one.
fn of_images(program: &Program) -> impl Iterator<Item = Element> + '_ {
    let is_frontend = |ip| program.frontends.iter().any(|frontend| frontend.address.ip == ip);
    program
        .routes
        .iter()
        .filter(move |route| route.table == RouteTable::Local && !is_frontend(route.prefix.addr()))
        .map(|route| Element::ImageRange(route.prefix))
}

/// Elements that the node and its ranges need.
pub fn of_node(program: &NodeProgram) -> impl Iterator<Item = Element> + '_ {
    let ranges = program.service_ranges.iter().copied().map(Element::ServiceRange);
    let images = program.image_ranges.iter().copied().map(Element::ImageRange);
    let pods = program.pods.iter().copied().map(Element::Pods);
    let local_pods = program.local_pods.iter().copied().map(Element::LocalPods);
    let interfaces = program.pod_interfaces.map(Element::PodInterfaces);
    let local_interfaces = program.local_pod_interfaces.map(Element::LocalPodInterfaces);
    let own = program.own_ips.iter().copied().map(Element::OwnIp);
    let pods = pods.chain(local_pods).chain(interfaces).chain(local_interfaces);
    ranges.chain(images).chain(pods).chain(own)
}

/// Elements that the backends of a Program need: those for endpoints that may be sent to
/// themselves.
pub fn of_backends(program: &Program) -> impl Iterator<Item = Element> + '_ {
    program
        .pools
        .iter()
        .flat_map(|pool| pool.backends.iter())
        .filter(|backend| backend.local)
        .map(|backend| Element::Hairpin(backend.address))
}

fn of_frontend(frontend: &Frontend) -> Vec<Element> {
    let Frontend { address, kind, pods, node, outside, whole, .. } = frontend;
    let mut elements = Vec::with_capacity(4);
    elements.push(match kind {
        FrontendKind::ClusterIp => Element::ClusterIp(address.ip),
        _ => Element::Frontend(*address),
    });
    let external = kind.is_external();
    if external {
        elements.push(Element::ExternalIp(address.ip));
    }
    let to = |pool: &VirtualAddress| (pool.ip, pool.port);
    if *pods == Target::Whole {
        let (ip, port) = to(whole);
        elements.push(Element::PodShortcut(*address, ip, port));
    }
    // The node's own packets to an external address are always led away, so that they are
    // refused on this node where nobody serves.
    if *node == Target::Whole || external {
        let (ip, port) = to(whole);
        elements.push(Element::NodeShortcut(*address, ip, port));
    }
    match frontend.masquerade {
        // The pods' ranges decide it for ClusterIPs.
        Masquerade::Always if *kind != FrontendKind::ClusterIp => {
            elements.push(Element::Masquerade(*address));
        }
        Masquerade::OwnProcesses => elements.push(Element::MasqueradeNode(*address)),
        Masquerade::Always | Masquerade::UnlessPod | Masquerade::Never => {}
    }
    if let Some(sources) = &frontend.sources {
        elements.push(Element::Restricted(*address));
        elements.extend(sources.iter().map(|source| Element::Allowed(*address, *source)));
    }
    match outside {
        Target::Drop => elements.push(Element::Dropped(*address)),
        // Of UDP no virtual server stays for established connections.
        Target::Reject if address.protocol != Protocol::Udp => {
            elements.push(Element::Refused(*address));
        }
        Target::Reject | Target::Own | Target::Whole => {}
    }
    elements
}

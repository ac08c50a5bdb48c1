//! Which set elements a Program needs.

use crate::model::{
    Element, Frontend, Masquerade, NodeProgram, Program, Protocol, RefusalReason, Target,
    VirtualAddress,
};

/// Elements that the front ends of a Program need. One that several need is named several times.
pub fn of_frontends(program: &Program) -> impl Iterator<Item = Element> + '_ {
    let left = program.refusals.iter().filter(|it| it.reason == RefusalReason::LocalSocket);
    let left = left.map(|refusal| Element::LocalSocket(refusal.address));
    program.frontends.iter().flat_map(of_frontend).chain(of_addresses(program)).chain(left)
}

/// Elements of the addresses that its pools stand at, each of which has a route.
fn of_addresses(program: &Program) -> impl Iterator<Item = Element> + '_ {
    program.routes.iter().flat_map(|route| {
        let ip = route.prefix.addr();
        let mut frontends = program.frontends.iter().filter(move |it| it.address.ip == ip);
        let is_image = frontends.clone().next().is_none();
        // IPVS takes what comes to a ClusterIP, but for ports that are refused, dropped or led on.
        let is_front_end = |it: &Frontend| match it.outside {
            Target::Reject => it.address.protocol != Protocol::Udp,
            Target::Drop | Target::Image(_) => true,
            Target::Pool => false,
        };
        let has_several = Protocol::ALL.into_iter().any(|protocol| {
            frontends.clone().filter(|it| it.address.protocol == protocol).nth(1).is_some()
        });
        let takes_front_ends = is_image || frontends.any(is_front_end);
        [
            Some(Element::Pool(ip)),
            Some(if is_image { Element::Image(ip) } else { Element::ClusterIp(ip) }),
            takes_front_ends.then_some(Element::FrontendIp(ip)),
            has_several.then_some(Element::SeveralPorts(ip)),
        ]
        .into_iter()
        .flatten()
    })
}

/// Elements that the node and its ranges need.
pub fn of_node(program: &NodeProgram) -> impl Iterator<Item = Element> + '_ {
    let ranges = |ranges: &'_ [_], element: fn(_) -> Element| {
        ranges.iter().copied().map(element).collect::<Vec<_>>()
    };
    let node_port_ips = program.node_port_ips.iter().copied();
    [
        ranges(&program.service_ranges, Element::ServiceRange),
        ranges(&program.reachable, Element::Reachable),
        ranges(&program.pods, Element::Pods),
        ranges(&program.insiders, Element::Insiders),
    ]
    .into_iter()
    .flatten()
    .chain(program.pod_interfaces.map(Element::PodInterfaces))
    .chain(program.insider_interfaces.map(Element::InsiderInterfaces))
    .chain(program.offload_links.iter().map(|link| Element::OffloadLink(link.name)))
    .chain(node_port_ips.flat_map(|ip| [Element::FrontendIp(ip), Element::NodePortIp(ip)]))
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
    let address = frontend.address;
    let mut elements = Vec::with_capacity(4);
    // Without endpoints, datagrams go on to where the pool would be: no virtual server is left there
    // that would take them, and a process of the node is told as others are.
    let is_led_nowhere = address.protocol == Protocol::Udp;
    if frontend.targets().contains(&Target::Reject) && !is_led_nowhere {
        elements.push(Element::Refused(address));
    }
    if frontend.outside == Target::Drop {
        elements.push(Element::Dropped(address));
    }
    if frontend.kind.is_external() {
        elements.push(Element::FrontendIp(address.ip));
    }
    let lead = |element: fn(_, _, _) -> Element| {
        move |pool: VirtualAddress| element(address, pool.ip, pool.port)
    };
    let [inside, outside] = frontend.targets().map(|target| match target {
        Target::Reject if is_led_nowhere => Some(frontend.pool),
        target => frontend.pool_of(target),
    });
    // What IPVS takes at the address itself needs no element.
    let [inside, outside] = [inside, outside].map(|pool| pool.filter(|pool| *pool != address));
    if inside == outside && frontend.sources.is_none() {
        elements.extend(inside.map(lead(Element::Frontend)));
    } else {
        elements.extend(inside.map(lead(Element::FrontendInside)));
        elements.extend(outside.map(lead(Element::FrontendOutside)));
    }
    match frontend.masquerade {
        Masquerade::Always => elements.push(Element::Masqueraded(address)),
        Masquerade::OwnProcesses => elements.push(Element::MasqueradedNode(address)),
        // The pods' ranges decide it: it is a ClusterIP.
        Masquerade::UnlessPod => {}
    }
    if let Some(sources) = &frontend.sources {
        elements.push(Element::Restricted(address));
        elements.extend(sources.iter().map(|source| Element::Allowed(address, *source)));
    }
    elements
}

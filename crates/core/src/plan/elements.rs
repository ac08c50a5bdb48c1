//! The set elements of the desired state.

use crate::model::{
    AddressSet, Backend, DesiredNode, DesiredService, Element, Frontend, InterfaceSet, Leads,
    Masquerade, OnePacketLeads, PortSet, Protocol, RangeSet, RefusalReason, Target, VirtualAddress,
};

/// Returns the elements for the front ends of a Service. Elements with several uses are repeated.
pub fn of_frontends(program: &DesiredService) -> impl Iterator<Item = Element> + '_ {
    let left = program.refusals.iter().filter(|it| it.reason == RefusalReason::LocalSocket);
    let left = left.map(|refusal| Element::Port(PortSet::LocalSockets, refusal.address));
    let frontends = program.frontends.iter().flat_map(|it| {
        let is_served = program.frontend(&it.pool).is_some();
        of_frontend(it, is_served)
    });
    frontends.chain(of_addresses(program)).chain(left)
}

/// Returns the elements for the addresses of its pools, each of which has a route.
fn of_addresses(program: &DesiredService) -> impl Iterator<Item = Element> + '_ {
    program.routes.iter().flat_map(|route| {
        let ip = route.prefix.addr();
        let mut frontends = program.frontends.iter().filter(move |it| it.address.ip == ip);
        let is_image = frontends.clone().next().is_none();
        // IPVS receives all packets to a ClusterIP, except to ports that are rejected, dropped or
        // mapped to another pool.
        let is_front_end = |it: &Frontend| match it.outside {
            Target::Reject => it.address.protocol != Protocol::Udp,
            Target::Drop | Target::Shadow(_) => true,
            Target::Pool => false,
        };
        let has_several = Protocol::ALL.into_iter().any(|protocol| {
            frontends.clone().filter(|it| it.address.protocol == protocol).nth(1).is_some()
        });
        let takes_front_ends = is_image || frontends.any(is_front_end);
        let kind = match (is_image, has_several) {
            (true, _) => AddressSet::Images,
            (false, true) => AddressSet::SeveralPorts,
            (false, false) => AddressSet::ClusterIps,
        };
        let sets = [Some(AddressSet::Pools), Some(kind)];
        let sets = sets.into_iter().chain([takes_front_ends.then_some(AddressSet::FrontendIps)]);
        sets.flatten().map(move |set| Element::Address(set, ip))
    })
}

/// Returns the elements for the node and its ranges.
pub fn of_node(program: &DesiredNode) -> impl Iterator<Item = Element> + '_ {
    let ranges = [
        (RangeSet::ServiceRanges, &program.service_ranges),
        (RangeSet::Reachable, &program.reachable),
        (RangeSet::Pods, &program.pods),
        (RangeSet::Insiders, &program.insiders),
    ];
    let ranges = ranges
        .into_iter()
        .flat_map(|(set, ranges)| ranges.iter().map(move |range| Element::Range(set, *range)));
    let interfaces = [
        (InterfaceSet::Pods, program.pod_interfaces),
        (InterfaceSet::Insiders, program.insider_interfaces),
    ];
    let interfaces = interfaces
        .into_iter()
        .filter_map(|(set, interfaces)| Some(Element::Interfaces(set, interfaces?)));
    let node_port_ips = program.node_port_ips.iter().flat_map(|ip| {
        [AddressSet::FrontendIps, AddressSet::NodePortIps].map(|set| Element::Address(set, *ip))
    });
    let links = program.offload_links.iter().map(|link| Element::OffloadLink(link.name));
    ranges.chain(interfaces).chain(links).chain(node_port_ips)
}

/// Returns the elements for the backends of a Service.
pub fn of_backends(program: &DesiredService) -> impl Iterator<Item = Element> + '_ {
    program.pools.iter().flat_map(|pool| pool.backends.iter()).filter_map(of_backend)
}

/// Returns the element for an endpoint that may connect to itself.
#[must_use]
pub fn of_backend(backend: &Backend) -> Option<Element> {
    backend.local.then_some(Element::Address(AddressSet::Hairpin, backend.address))
}

/// `is_served` is set if the Service port has a front end at its ClusterIP.
fn of_frontend(frontend: &Frontend, is_served: bool) -> Vec<Element> {
    let address = frontend.address;
    let mut elements = Vec::with_capacity(4);
    // Without endpoints, datagrams are still mapped to the ClusterIP: it has no virtual server to
    // take them, and a local process gets an error like other clients.
    let is_led_nowhere = address.protocol == Protocol::Udp && is_served;
    if frontend.targets().contains(&Target::Reject) && !is_led_nowhere {
        elements.push(Element::Port(PortSet::Refused, address));
    }
    if frontend.outside == Target::Drop {
        elements.push(Element::Port(PortSet::Dropped, address));
    }
    if frontend.kind.is_external() {
        elements.push(Element::Address(AddressSet::FrontendIps, address.ip));
    }
    let lead = |map| move |pool: VirtualAddress| Element::Lead(map, address, pool.ip, pool.port);
    let [inside, outside] = frontend.targets().map(|target| match target {
        Target::Reject if is_led_nowhere => Some(frontend.pool),
        target => frontend.pool_of(target),
    });
    // Packets that IPVS takes at the address itself need no element.
    let [inside, outside] = [inside, outside].map(|pool| pool.filter(|pool| *pool != address));
    if inside == outside && frontend.sources.is_none() {
        elements.extend(inside.map(lead(Leads::Everybody)));
    } else {
        elements.extend(inside.map(lead(Leads::Insiders)));
        elements.extend(outside.map(lead(Leads::Outsiders)));
    }
    match frontend.masquerade {
        Masquerade::Always => elements.push(Element::Port(PortSet::Masqueraded, address)),
        Masquerade::OwnProcesses => elements.push(Element::Port(PortSet::MasqueradedNode, address)),
        // Without another element that stays until its flows are removed.
        Masquerade::UnlessPod | Masquerade::Never => {
            let is_carried = address.protocol == Protocol::Udp && (inside, outside) != (None, None);
            elements.extend(is_carried.then_some(Element::Port(PortSet::Datagrams, address)));
        }
    }
    if frontend.masquerade == Masquerade::Never {
        elements.extend(of_one_packet(frontend));
    }
    if let Some(sources) = &frontend.sources {
        elements.push(Element::Port(PortSet::Restricted, address));
        elements.extend(sources.iter().map(|source| Element::Allowed(address, *source)));
    }
    elements
}

/// Returns the elements that lead datagrams past connection tracking, besides those that would lead
/// connections.
fn of_one_packet(frontend: &Frontend) -> impl Iterator<Item = Element> + use<> {
    let Frontend { address, pool, .. } = *frontend;
    let pool_of = |map, target| {
        let pool = frontend.pool_of(target)?;
        Some(Element::OnePacket(map, address, pool.ip))
    };
    let leads = [
        pool_of(OnePacketLeads::Insiders, frontend.inside),
        pool_of(OnePacketLeads::Outsiders, frontend.outside),
    ];
    let port = (address.port != pool.port).then_some(Element::OnePacketPort(address, pool.port));
    let is_led = leads.iter().any(Option::is_some);
    let others = [Some(Element::Port(PortSet::OnePacket, address)), port];
    leads.into_iter().chain(others.map(|it| it.filter(|_| is_led))).flatten()
}

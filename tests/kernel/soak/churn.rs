//! Services, endpoints and the node's addresses that change at random. A seed says how.

use fastrand::Rng;
use kube_ipvs_core::model::{Family, Protocol};

use crate::context::{Step, TestContext};
use crate::lab::Host::{N1, P1, P2, P3, P4};
use crate::lab::{Manifest, POD_PORTS, ServiceBuilder, SliceBuilder, endpoints, service};

/// How many Services come and go.
const SERVICES: usize = 10;
/// Of each family, so that an endpoint may stand in two.
const SLICES: usize = 2;
/// Addresses that the node may have or not. Of the IPv6 ones, the newest becomes the source of what
/// it sends and masquerades, until it goes.
const ADDRESSES: [&str; 4] =
    ["192.168.50.91/32", "192.168.50.92/32", "fd00:50::91/64", "fd00:50::92/128"];

/// The Services that come and go.
pub(super) struct Churn {
    /// The objects that there are, by place.
    services: [Option<ServiceBuilder>; SERVICES],
    slices: [[Option<SliceBuilder>; 2 * SLICES]; SERVICES],
    has_address: [bool; ADDRESSES.len()],
}

impl Churn {
    /// None of them yet.
    pub(super) fn new() -> Self {
        Self {
            services: Default::default(),
            slices: Default::default(),
            has_address: Default::default(),
        }
    }

    /// Changes one object, or an address of the node.
    pub(super) fn change(&mut self, t: &mut TestContext<'_>, rng: &mut Rng) -> Step {
        if rng.u8(..10) == 0 {
            return self.change_address(t, rng.usize(..ADDRESSES.len()));
        }
        let number = rng.usize(..SERVICES);
        if rng.u8(..3) == 0 {
            let next = (rng.u8(..4) > 0).then(|| any_service(number, rng));
            replace(t, &mut self.services[number], next)
        } else {
            let place = rng.usize(..2 * SLICES);
            let next = (rng.u8(..5) > 0).then(|| any_slice(number, place, rng));
            replace(t, &mut self.slices[number][place], next)
        }
    }
}

impl Churn {
    fn change_address(&mut self, t: &TestContext<'_>, index: usize) -> Step {
        let has = &mut self.has_address[index];
        let verb = if *has { "delete" } else { "add" };
        *has = !*has;
        Ok(t.host(N1).ip(&format!("addr {verb} {} dev eth0\n", ADDRESSES[index]))?)
    }

    /// Takes the node's addresses back; the objects are the context's to delete.
    pub(super) fn end(mut self, t: &TestContext<'_>) -> Step {
        let held: Vec<_> = (0..ADDRESSES.len()).filter(|index| self.has_address[*index]).collect();
        held.into_iter().try_for_each(|index| self.change_address(t, index))
    }
}

/// Writes the next version of an object, or deletes it.
fn replace<T: Clone>(t: &mut TestContext<'_>, held: &mut Option<T>, next: Option<T>) -> Step
where
    Manifest: From<T>,
{
    match (&next, held.take()) {
        (Some(next), _) => t.apply(next.clone())?,
        (None, Some(gone)) => t.delete(gone)?,
        (None, None) => {}
    }
    *held = next;
    Ok(())
}

fn key(number: usize) -> String {
    format!("soak/s{number}")
}

fn any_service(number: usize, rng: &mut Rng) -> ServiceBuilder {
    let mut any = service(&key(number));
    let exposed = rng.bool();
    let families = match rng.u8(..4) {
        0 => &Family::BOTH[..1],
        1 => &Family::BOTH[1..],
        _ => &Family::BOTH[..],
    };
    for family in families {
        any = any.cluster_ip(&address(*family, "10.96.30.", "fd00:96::30:", number));
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        any = any.port_of(protocol, protocol.name(), 80);
        if exposed && rng.bool() {
            any = any.node_port(31_500 + number as u16);
        }
    }
    if exposed {
        // Two Services may ask for one address; the older one has it.
        let sharer = number / 2;
        for family in families {
            any =
                any.load_balancer_ip(&address(*family, "203.0.113.2", "2001:db8:113::3:", sharer));
        }
        if rng.bool() {
            any = any.local_external();
        }
        if rng.u8(..4) == 0 {
            let ranges = ["192.168.50.100/32", "fd00:50::/64", "10.244.1.0/24"];
            any = any.spec("loadBalancerSourceRanges", &ranges[..rng.usize(1..=ranges.len())]);
        }
    }
    if rng.u8(..4) == 0 {
        any = any.local_internal();
    }
    if rng.u8(..6) == 0 {
        any = any.spec("sessionAffinity", "ClientIP");
    }
    any
}

fn any_slice(number: usize, place: usize, rng: &mut Rng) -> SliceBuilder {
    let family = Family::BOTH[place % 2];
    let mut any = endpoints(&key(number)).named(&format!("s{number}-{place}")).of_family(family);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        any = any.port_of(protocol, protocol.name(), POD_PORTS[0]);
    }
    for pod in [P1, P2, P3, P4] {
        any = match rng.u8(..8) {
            0..3 => any.ready_on(pod),
            3 => any.terminating_on(pod),
            4 => any.not_ready_on(pod),
            _ => any,
        };
    }
    any
}

fn address(family: Family, v4: &str, v6: &str, number: usize) -> String {
    match family {
        Family::V4 => format!("{v4}{number}"),
        Family::V6 => format!("{v6}{number}"),
    }
}

//! The objects as the sources told them, and which Services a change touches.

mod dirty;
mod relist;
mod triggers;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    Change, EndpointSlice, Endpoints, Event, Family, Link, Locality, Name, Node, Service,
    ServiceCidr, ServiceKey, SliceKey, VirtualAddress,
};

pub use dirty::Dirty;
pub use triggers::Trigger;
use triggers::Triggers;

/// A Service with its endpoints. Either may come first.
#[derive(Debug, Default)]
pub struct ServiceEntry {
    /// The Service, once it is known and as long as it is ours.
    pub service: Option<Arc<Service>>,
    /// The endpoints of the slices that name it.
    pub endpoints: Endpoints,
    /// Whether [`Dirty::endpoints`] has it.
    is_dirty: bool,
}

/// Every object that matters, by key.
#[derive(Debug)]
pub struct State {
    locality: Locality,
    entries: FxHashMap<ServiceKey, ServiceEntry>,
    /// Where each slice stands.
    slices: FxHashMap<SliceKey, (ServiceKey, Family)>,
    node: Option<Node>,
    service_cidrs: FxHashMap<Name, ServiceCidr>,
    addresses: Vec<IpAddr>,
    source_ips: Vec<IpAddr>,
    has_ipv6: bool,
    api_servers: Vec<SocketAddr>,
    listening: Arc<FxHashSet<VirtualAddress>>,
    /// Whether what listens was asked for since the last look at what has changed.
    has_listened: bool,
    reachable: Vec<IpNet>,
    links: Vec<Link>,
    dirty: Dirty,
    triggers: Triggers,
    listed: Relist,
}

/// Which kinds have been told completely.
#[derive(Debug, Default)]
struct Relist {
    services: bool,
    slices: bool,
    service_cidrs: bool,
    node: bool,
}

impl State {
    /// Nothing yet, on the node of that name.
    #[must_use]
    pub fn new(node_name: Name) -> Self {
        Self {
            locality: Locality { node: node_name, zone: None },
            entries: FxHashMap::default(),
            slices: FxHashMap::default(),
            node: None,
            service_cidrs: FxHashMap::default(),
            addresses: Vec::new(),
            source_ips: Vec::new(),
            has_ipv6: true,
            api_servers: Vec::new(),
            listening: Arc::default(),
            has_listened: false,
            reachable: Vec::new(),
            links: Vec::new(),
            // The settings alone say something, even if no object ever does.
            dirty: Dirty { context: true, ..Dirty::default() },
            triggers: Triggers::default(),
            listed: Relist::default(),
        }
    }

    /// Takes in what a source told. What is equal to what is known costs nothing further.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Service(Change::Apply(service)) => self.set_service(service),
            Event::Service(Change::Delete(key)) => self.remove_service(&key),
            Event::Service(Change::Replace(services)) => {
                self.listed.services = true;
                self.replace_services(services);
            }
            Event::Slice(Change::Apply(slice)) => self.set_slice(slice),
            Event::Slice(Change::Delete(key)) => self.remove_slice(&key),
            Event::Slice(Change::Replace(slices)) => {
                self.replace_slices(slices);
                self.listed.slices = true;
            }
            Event::ServiceCidrs(change) => self.change_service_cidrs(change),
            Event::Node(node) => {
                self.listed.node = true;
                self.set_node(node);
            }
            Event::Addresses(addresses) => {
                if self.addresses != addresses {
                    self.addresses = addresses;
                    self.dirty.context = true;
                }
            }
            Event::SourceIps(ips) => {
                self.dirty.context |= self.source_ips != ips;
                self.source_ips = ips;
            }
            Event::Ipv6(has_ipv6) => {
                self.dirty.context |= self.has_ipv6 != has_ipv6;
                self.has_ipv6 = has_ipv6;
            }
            Event::ApiServers(servers) => {
                self.dirty.context |= self.api_servers != servers;
                self.api_servers = servers;
            }
            Event::Listening(addresses) => self.set_listening(addresses),
            Event::Routes(routes) => {
                if self.reachable != routes {
                    self.reachable = routes;
                    self.dirty.network = true;
                }
            }
            Event::Links(links) => {
                if self.links != links {
                    self.links = links;
                    self.dirty.network = true;
                }
            }
        }
    }

    /// Whether every kind of object has been told completely at least once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        let Relist { services, slices, service_cidrs, node } = self.listed;
        services && slices && service_cidrs && node
    }

    /// What has changed since this was last asked.
    pub fn take_dirty(&mut self) -> Dirty {
        self.has_listened = false;
        std::mem::take(&mut self.dirty)
    }

    /// What has changed and is still to be looked at.
    #[must_use]
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// Whether what listens on the node was asked for since [`Self::take_dirty`].
    #[must_use]
    pub fn has_listened(&self) -> bool {
        self.has_listened
    }

    /// What listens on the node is being asked for. Without an answer, what is known stays.
    pub fn listen(&mut self) {
        self.has_listened = true;
    }

    /// How many Services have changed since it was last taken.
    #[must_use]
    pub fn dirty_services(&self) -> usize {
        self.dirty.len()
    }

    /// Whether anything has changed since it was last taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// When those changes of endpoints happened that were told since this was last asked; `waits`
    /// says of which Services they are kept for another time.
    pub fn take_triggers(&mut self, waits: impl Fn(&ServiceKey) -> bool) -> Vec<Trigger> {
        self.triggers.take(waits)
    }

    /// A Service and its endpoints, if either is known, and where they are looked at from. From now
    /// on, a change of its endpoints makes it dirty again.
    pub fn set_locality(&mut self, key: &ServiceKey) -> (Option<&mut ServiceEntry>, &Locality) {
        let mut entry = self.entries.get_mut(key);
        entry.iter_mut().for_each(|entry| entry.is_dirty = false);
        (entry, &self.locality)
    }

    /// A Service and its endpoints, if either is known.
    #[must_use]
    pub fn entry(&self, key: &ServiceKey) -> Option<&ServiceEntry> {
        self.entries.get(key)
    }

    /// The keys of all Services.
    pub fn service_keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(key, _)| key)
    }

    /// Where endpoints are looked at from.
    #[must_use]
    pub fn locality(&self) -> &Locality {
        &self.locality
    }

    /// This node's Node object.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// The addresses of this node's interfaces.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The address of this node that its packets to elsewhere carry, of each family that has one.
    #[must_use]
    pub fn source_ips(&self) -> &[IpAddr] {
        &self.source_ips
    }

    /// Whether the node's kernel has IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Where sockets of this node listen.
    #[must_use]
    pub fn listening(&self) -> &Arc<FxHashSet<VirtualAddress>> {
        &self.listening
    }

    /// The destinations of this node's routes but for the default ones; sorted and disjoint.
    #[must_use]
    pub fn reachable(&self) -> &[IpNet] {
        &self.reachable
    }

    /// The node's links, as far as they matter.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The ServiceCIDR objects, in no order.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &ServiceCidr> {
        self.service_cidrs.values()
    }

    fn set_service(&mut self, service: Service) {
        let entry = self.entries.entry(service.key.clone()).or_default();
        if entry.service.as_deref() != Some(&service) {
            self.dirty.services.insert(service.key.clone());
            entry.service = Some(service.into());
        }
    }

    fn remove_service(&mut self, key: &ServiceKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.service.take().is_some() {
            self.dirty.services.insert(key.clone());
        }
        self.forget_if_empty(key);
    }

    fn set_slice(&mut self, mut slice: EndpointSlice) {
        // What the first list tells is no change that anybody waited for.
        let triggered = slice.triggered.take().filter(|_| self.listed.slices);
        let Some(entry) = self.entries.get_mut(&slice.service) else {
            return self.add_slice(slice, triggered);
        };
        let (service, family) = (slice.service.clone(), slice.family);
        match entry.endpoints.of(family).replace(slice, &self.locality) {
            Ok(false) => {}
            Ok(true) => {
                self.triggers.add(&service, family, triggered);
                self.dirty.touch_endpoints(service, entry);
            }
            Err(slice) => self.add_slice(slice, triggered),
        }
    }

    /// Adds a slice that does not stand with its Service, but perhaps with another one.
    fn add_slice(&mut self, mut slice: EndpointSlice, triggered: Option<i64>) {
        self.remove_slice(&slice.key);
        let entry = self.entries.entry(slice.service);
        // All slices of a Service share the text of its key.
        let (service, family) = (entry.key().clone(), slice.family);
        slice.service = service.clone();
        self.slices.insert(slice.key.clone(), (service.clone(), family));
        let entry = entry.or_default();
        entry.endpoints.of(family).add(slice, &self.locality);
        self.triggers.add(&service, family, triggered);
        self.dirty.touch_endpoints(service, entry);
    }

    fn remove_slice(&mut self, key: &SliceKey) {
        let Some((service, family)) = self.slices.remove(key) else { return };
        if let Some(entry) = self.entries.get_mut(&service)
            && entry.endpoints.of(family).remove(key, &self.locality)
        {
            self.dirty.touch_endpoints(service.clone(), entry);
            self.forget_if_empty(&service);
        }
    }

    fn forget_if_empty(&mut self, key: &ServiceKey) {
        let empty = self
            .entries
            .get(key)
            .is_some_and(|entry| entry.service.is_none() && entry.endpoints.is_empty());
        if empty {
            self.entries.remove(key);
        }
    }

    fn change_service_cidrs(&mut self, change: Change<Name, ServiceCidr>) {
        let changed = match change {
            Change::Apply(cidr) => {
                let known = self.service_cidrs.insert(Name::clone(&cidr.name), cidr.clone());
                known.as_ref() != Some(&cidr)
            }
            Change::Delete(name) => self.service_cidrs.remove(&name).is_some(),
            Change::Replace(cidrs) => {
                self.listed.service_cidrs = true;
                let all = cidrs.into_iter().map(|cidr| (Name::clone(&cidr.name), cidr)).collect();
                let changed = self.service_cidrs != all;
                self.service_cidrs = all;
                changed
            }
        };
        self.dirty.context |= changed;
    }

    /// What the Node object told of the node is so as long as nothing else is told: one that is
    /// deleted or made again, and has no addresses of a family yet, takes nothing away.
    fn set_node(&mut self, node: Option<Node>) {
        let Some(mut node) = node else { return };
        if let Some(known) = &self.node {
            node.keep(known);
        }
        if self.node.as_ref() == Some(&node) {
            return;
        }
        let zone = node.zone.clone();
        self.node = Some(node);
        self.dirty.context = true;
        if self.locality.zone != zone {
            self.locality.zone = zone;
            let Self { entries, locality, .. } = self;
            entries.values_mut().for_each(|entry| entry.endpoints.set_locality(locality));
        }
    }

    fn set_listening(&mut self, addresses: Vec<VirtualAddress>) {
        self.has_listened = true;
        let listening: FxHashSet<_> = addresses.into_iter().collect();
        if *self.listening != listening {
            self.dirty.sockets.extend(self.listening.symmetric_difference(&listening));
            self.listening = listening.into();
        }
    }

    /// Where the API server answers: to the agent itself, and by the endpoints of its Service.
    pub fn api_servers(&self) -> impl Iterator<Item = SocketAddr> {
        let entry = self.entries.get(&ServiceKey::new("default", "kubernetes"));
        let slices = entry.into_iter().flat_map(|entry| entry.endpoints.slices());
        let told = slices.flat_map(|slice| {
            slice.endpoints.iter().flat_map(|endpoint| {
                slice.ports.iter().map(|port| SocketAddr::new(endpoint.address, port.port))
            })
        });
        self.api_servers.iter().copied().chain(told)
    }
}

//! The objects from the sources, and the Services that a change affects.

mod dirty;
mod relist;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::{
    Change, EndpointName, EndpointSlice, Endpoints, Event, Family, Link, Locality, Name, Node,
    Service, ServiceCidr, ServiceKey, SliceKey, VirtualAddress,
};

pub use dirty::Dirty;
pub use triggers::Trigger;
use triggers::Triggers;

/// A Service with its endpoints. Either may arrive first.
#[derive(Debug, Default)]
pub struct ServiceEntry {
    /// Set while the Service exists and this proxy serves it.
    pub service: Option<Arc<Service>>,
    pub endpoints: Endpoints,
    /// Whether [`Dirty::endpoints`] contains the Service.
    is_dirty: bool,
}

/// All objects by key.
#[derive(Debug)]
pub struct State {
    locality: Locality,
    entries: FxHashMap<ServiceKey, ServiceEntry>,
    /// The Service and family of each slice.
    slices: FxHashMap<SliceKey, (ServiceKey, Family)>,
    node: Option<Node>,
    service_cidrs: FxHashMap<Name, ServiceCidr>,
    addresses: Vec<IpAddr>,
    source_ips: Vec<IpAddr>,
    has_ipv6: bool,
    api_servers: Vec<SocketAddr>,
    listening: Arc<FxHashSet<VirtualAddress>>,
    /// Whether the listening sockets were requested since the last [`State::take_dirty`].
    has_listened: bool,
    reachable: Vec<IpNet>,
    links: Vec<Link>,
    dirty: Dirty,
    triggers: Triggers,
    listed: Relist,
}

/// The kinds that have been listed completely.
#[derive(Debug, Default)]
struct Relist {
    services: bool,
    slices: bool,
    service_cidrs: bool,
    node: bool,
}

impl State {
    /// Returns an empty state for the node `node_name`.
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
            // The settings alone have an effect, even without any object.
            dirty: Dirty { context: true, ..Dirty::default() },
            triggers: Triggers::default(),
            listed: Relist::default(),
        }
    }

    /// Applies an event. An event without a change has no effect.
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

    /// Returns whether every kind of object has been listed at least once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.unlisted().next().is_none()
    }

    /// Returns the kinds of objects that have not been listed yet.
    pub fn unlisted(&self) -> impl Iterator<Item = &'static str> {
        let Relist { services, slices, service_cidrs, node } = self.listed;
        let kinds = [
            (node, "Node"),
            (service_cidrs, "ServiceCIDR"),
            (services, "Service"),
            (slices, "EndpointSlice"),
        ];
        kinds.into_iter().filter(|(is_listed, _)| !is_listed).map(|(_, kind)| kind)
    }

    /// Returns the changes since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        self.has_listened = false;
        std::mem::take(&mut self.dirty)
    }

    /// Returns the changes that are not processed yet.
    #[must_use]
    pub fn dirty(&self) -> &Dirty {
        &self.dirty
    }

    /// Marks a Service as changed.
    pub fn touch_service(&mut self, service: ServiceKey) {
        self.dirty.services.insert(service);
    }

    /// Marks everything as changed.
    pub fn touch_context(&mut self) {
        self.dirty.context = true;
    }

    /// Returns whether the listening sockets were requested since [`Self::take_dirty`].
    #[must_use]
    pub fn has_listened(&self) -> bool {
        self.has_listened
    }

    /// Records that the listening sockets are requested. Without an answer, the previous ones stay.
    pub fn listen(&mut self) {
        self.has_listened = true;
    }

    /// Returns the number of changed Services.
    #[must_use]
    pub fn dirty_services(&self) -> usize {
        self.dirty.len()
    }

    /// Returns whether anything has changed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Returns the trigger times of endpoint changes since the last call. Those of Services for
    /// which `waits` is true are kept.
    pub fn take_triggers(&mut self, waits: impl Fn(&ServiceKey) -> bool) -> Vec<Trigger> {
        self.triggers.take(waits)
    }

    /// Returns a Service with its endpoints, if either is known, and the locality. The next change
    /// of the endpoints marks the Service as changed again.
    pub fn set_locality(&mut self, key: &ServiceKey) -> (Option<&mut ServiceEntry>, &Locality) {
        let mut entry = self.entries.get_mut(key);
        entry.iter_mut().for_each(|entry| entry.is_dirty = false);
        (entry, &self.locality)
    }

    /// Returns a Service with its endpoints, if either is known.
    #[must_use]
    pub fn entry(&self, key: &ServiceKey) -> Option<&ServiceEntry> {
        self.entries.get(key)
    }

    /// Returns the slices of a Service, with their endpoints' names.
    pub fn slices(&self, key: &ServiceKey) -> impl Iterator<Item = &EndpointSlice> {
        self.entries.get(key).into_iter().flat_map(|entry| entry.endpoints.slices())
    }

    /// Returns the slices of all Services, in arbitrary order.
    pub fn all_slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.entries.values().flat_map(|entry| entry.endpoints.slices())
    }

    /// Returns a Service that this proxy serves.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&Service> {
        self.entry(key)?.service.as_deref()
    }

    /// Returns the names of the pods with these addresses, each with its namespace. An address whose
    /// endpoints have several names, such as a node's own, has none.
    #[must_use]
    pub fn pods_at(&self, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, EndpointName> {
        let mut names: BTreeMap<_, Option<EndpointName>> = BTreeMap::new();
        for slice in self.all_slices() {
            for (index, endpoint) in slice.endpoints.iter().enumerate() {
                if addresses.contains(&endpoint.address) {
                    let name = EndpointName::in_namespace(slice, index);
                    let known = names.entry(endpoint.address).or_insert_with(|| name.clone());
                    known.take_if(|it| Some(&*it) != name.as_ref());
                }
            }
        }
        names.into_iter().filter_map(|(ip, name)| Some((ip, name?))).collect()
    }

    /// Returns the keys of all Services.
    pub fn service_keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(key, _)| key)
    }

    /// Returns the keys of the Services that select nodes by their labels.
    pub fn selecting_nodes(&self) -> impl Iterator<Item = &ServiceKey> {
        let selects = |service: &Arc<Service>| {
            service.control.as_ref().is_some_and(|control| control.nodes.is_some())
        };
        let selecting = self
            .entries
            .iter()
            .filter(move |(_, entry)| entry.service.as_ref().is_some_and(selects));
        selecting.map(|(key, _)| key)
    }

    /// Returns the node's locality.
    #[must_use]
    pub fn locality(&self) -> &Locality {
        &self.locality
    }

    /// Returns this node's Node object.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Returns the addresses of this node's interfaces.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the node's source address for packets to other hosts, one per family that has one.
    #[must_use]
    pub fn source_ips(&self) -> &[IpAddr] {
        &self.source_ips
    }

    /// Returns whether the node's kernel has IPv6.
    #[must_use]
    pub fn has_ipv6(&self) -> bool {
        self.has_ipv6
    }

    /// Returns the listening sockets of this node.
    #[must_use]
    pub fn listening(&self) -> &Arc<FxHashSet<VirtualAddress>> {
        &self.listening
    }

    /// Returns the destinations of this node's routes without the default routes; sorted and
    /// disjoint.
    #[must_use]
    pub fn reachable(&self) -> &[IpNet] {
        &self.reachable
    }

    /// Returns the node's links for the flowtable.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Returns the ServiceCIDR objects in arbitrary order.
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
        // The first list is not a change, so it has no trigger time.
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

    /// Adds a slice that its Service does not have yet, although another Service may have it.
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

    /// Keeps what earlier Node objects contained: a Node that is deleted, or created again without
    /// addresses of a family, removes nothing.
    fn set_node(&mut self, node: Option<Node>) {
        let Some(mut node) = node else { return };
        if let Some(known) = &self.node {
            node.keep(known);
        }
        if let Some(known) = &mut self.node {
            let has_labels = node.labels == known.labels;
            known.labels.clone_from(&node.labels);
            if *known == node {
                self.dirty.labels |= !has_labels;
                return;
            }
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

    /// Returns the API server's addresses: those that the agent uses, and the endpoints of its
    /// Service.
    pub fn api_servers(&self) -> impl Iterator<Item = SocketAddr> {
        let entry = self.entries.get(&ServiceKey::new("default", "kubernetes"));
        let slices = entry.into_iter().flat_map(|entry| entry.endpoints.slices());
        let endpoints = slices.flat_map(|slice| {
            slice.endpoints.iter().flat_map(|endpoint| {
                slice.ports.iter().map(|port| SocketAddr::new(endpoint.address, port.port))
            })
        });
        self.api_servers.iter().copied().chain(endpoints)
    }
}

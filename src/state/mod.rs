//! The objects as the sources told them, and which Services a change touches.

mod dirty;
mod relist;
mod triggers;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::model::{
    Change, EndpointSlice, Endpoints, Event, Family, Link, Name, Node, Service, ServiceCidr,
    ServiceKey, SliceKey, Vantage,
};

pub use dirty::Dirty;
pub use triggers::Trigger;
use triggers::Triggers;

/// A Service with its endpoints. Either may come first.
#[derive(Debug, Default)]
pub struct Entry {
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
    vantage: Vantage,
    entries: FxHashMap<ServiceKey, Entry>,
    /// Where each slice stands.
    slices: FxHashMap<SliceKey, (ServiceKey, Family)>,
    node: Option<Node>,
    service_cidrs: FxHashMap<Name, ServiceCidr>,
    addresses: Vec<IpAddr>,
    reachable: Vec<IpNet>,
    links: Vec<Link>,
    dirty: Dirty,
    triggers: Triggers,
    listed: Listed,
}

/// Which kinds have been told completely.
#[derive(Debug, Default)]
struct Listed {
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
            vantage: Vantage { node: node_name, zone: None },
            entries: FxHashMap::default(),
            slices: FxHashMap::default(),
            node: None,
            service_cidrs: FxHashMap::default(),
            addresses: Vec::new(),
            reachable: Vec::new(),
            links: Vec::new(),
            // The settings alone say something, even if no object ever does.
            dirty: Dirty { surroundings: true, ..Dirty::default() },
            triggers: Triggers::default(),
            listed: Listed::default(),
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
                    self.dirty.surroundings = true;
                }
            }
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
        let Listed { services, slices, service_cidrs, node } = self.listed;
        services && slices && service_cidrs && node
    }

    /// Any Service may be touched by something that is no object.
    pub fn touch_all(&mut self) {
        self.dirty.surroundings = true;
    }

    /// What has changed since this was last asked.
    pub fn take_dirty(&mut self) -> Dirty {
        std::mem::take(&mut self.dirty)
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
    pub fn look_at(&mut self, key: &ServiceKey) -> (Option<&mut Entry>, &Vantage) {
        let mut entry = self.entries.get_mut(key);
        entry.iter_mut().for_each(|entry| entry.is_dirty = false);
        (entry, &self.vantage)
    }

    /// A Service and its endpoints, if either is known.
    #[must_use]
    pub fn entry(&self, key: &ServiceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The keys of all Services.
    pub fn service_keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(key, _)| key)
    }

    /// Where endpoints are looked at from.
    #[must_use]
    pub fn vantage(&self) -> &Vantage {
        &self.vantage
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
        match entry.endpoints.of(family).replace(slice, &self.vantage) {
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
        entry.endpoints.of(family).add(slice, &self.vantage);
        self.triggers.add(&service, family, triggered);
        self.dirty.touch_endpoints(service, entry);
    }

    fn remove_slice(&mut self, key: &SliceKey) {
        let Some((service, family)) = self.slices.remove(key) else { return };
        if let Some(entry) = self.entries.get_mut(&service)
            && entry.endpoints.of(family).remove(key, &self.vantage)
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
        self.dirty.surroundings |= changed;
    }

    fn set_node(&mut self, node: Option<Node>) {
        if self.node == node {
            return;
        }
        let zone = node.as_ref().and_then(|node| node.zone.clone());
        self.node = node;
        self.dirty.surroundings = true;
        if self.vantage.zone != zone {
            self.vantage.zone = zone;
            let Self { entries, vantage, .. } = self;
            entries.values_mut().for_each(|entry| entry.endpoints.look_from(vantage));
        }
    }

    /// The addresses that the API server answers at, by the endpoints of its Service.
    pub fn api_server_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.entries
            .get(&ServiceKey::new("default", "kubernetes"))
            .into_iter()
            .flat_map(|entry| entry.endpoints.slices())
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
    }
}

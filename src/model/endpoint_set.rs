//! The endpoints of one Service and family, kept so that a change costs what has changed.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Backend, Backends, Endpoint, EndpointPort, EndpointSlice, Family, Name, Protocol, SliceKey,
};

/// Where endpoints are looked at from: decides which are local and which are hinted here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vantage {
    /// This node's name.
    pub node: Name,
    /// This node's zone, where it has one.
    pub zone: Option<Name>,
}

/// Which endpoints of a port serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// The ready ones.
    Ready,
    /// The ready ones that are hinted for this node.
    ReadyForNode,
    /// The ready ones that are hinted for this zone.
    ReadyForZone,
    /// The ready ones on this node.
    ReadyHere,
    /// Those that terminate but still serve.
    Draining,
    /// Those on this node that terminate but still serve.
    DrainingHere,
}

impl Selection {
    /// The backend that an endpoint makes under this selection, if any. Beside ready endpoints,
    /// those that terminate but still serve are kept for their established connections.
    fn backend(self, endpoint: &Endpoint, port: u16, vantage: &Vantage) -> Option<Backend> {
        let local = is_local(endpoint, vantage);
        let draining = endpoint.is_draining();
        let serves = match self {
            Self::Ready => endpoint.ready,
            Self::ReadyForNode => endpoint.ready && is_for_node(endpoint, vantage),
            Self::ReadyForZone => endpoint.ready && is_for_zone(endpoint, vantage),
            Self::ReadyHere => endpoint.ready && local,
            Self::Draining => draining,
            Self::DrainingHere => draining && local,
        };
        let drains = draining && (local || !matches!(self, Self::ReadyHere | Self::DrainingHere));
        (serves || drains).then_some(Backend {
            address: endpoint.address,
            port,
            weight: u16::from(serves),
            local,
        })
    }
}

/// How many of a port's endpoints are of which sort.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Ready.
    pub ready: u32,
    /// Ready, on this node.
    pub ready_here: u32,
    /// Ready, with a hint for some node.
    pub node_hinted: u32,
    /// Ready, with a hint for this node.
    pub for_node: u32,
    /// Ready, with a hint for some zone.
    pub zone_hinted: u32,
    /// Ready, with a hint for this zone.
    pub for_zone: u32,
    /// Terminating but still serving.
    pub draining: u32,
    /// Terminating but still serving, on this node.
    pub draining_here: u32,
}

impl Tally {
    fn count(&mut self, endpoint: &Endpoint, vantage: &Vantage) {
        let local = is_local(endpoint, vantage);
        if endpoint.ready {
            self.ready += 1;
            self.ready_here += u32::from(local);
            if let Some(hints) = &endpoint.hints {
                self.node_hinted += u32::from(!hints.nodes.is_empty());
                self.zone_hinted += u32::from(!hints.zones.is_empty());
                self.for_node += u32::from(is_for_node(endpoint, vantage));
                self.for_zone += u32::from(is_for_zone(endpoint, vantage));
            }
        } else if endpoint.is_draining() {
            self.draining += 1;
            self.draining_here += u32::from(local);
        }
    }

    fn add(&mut self, other: &Self) {
        self.ready += other.ready;
        self.ready_here += other.ready_here;
        self.node_hinted += other.node_hinted;
        self.for_node += other.for_node;
        self.zone_hinted += other.zone_hinted;
        self.for_zone += other.for_zone;
        self.draining += other.draining;
        self.draining_here += other.draining_here;
    }
}

fn is_local(endpoint: &Endpoint, vantage: &Vantage) -> bool {
    endpoint.node.as_ref() == Some(&vantage.node)
}

fn is_for_node(endpoint: &Endpoint, vantage: &Vantage) -> bool {
    endpoint.hints.as_ref().is_some_and(|hints| hints.nodes.contains(&vantage.node))
}

fn is_for_zone(endpoint: &Endpoint, vantage: &Vantage) -> bool {
    let (Some(hints), Some(zone)) = (&endpoint.hints, &vantage.zone) else { return false };
    hints.zones.contains(zone)
}

/// One port of one slice, with what has been worked out about it.
#[derive(Clone, Debug, Default)]
struct View {
    tally: Tally,
    /// Indices of endpoints that count in another slice.
    shadowed: Box<[usize]>,
    /// Backends by selection, as far as they were asked for: a cluster-wide and a local one may
    /// be in use at a time.
    chunks: [Option<(Selection, Arc<[Backend]>)>; 2],
}

#[derive(Clone, Debug)]
struct Member {
    slice: EndpointSlice,
    /// One per port of the slice.
    views: Box<[View]>,
}

/// The endpoint slices of one Service and family.
///
/// An endpoint may stand in two slices while it moves between them. It then counts once: as the
/// one that is not terminating, else the one that is ready, else the one of the first slice.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    /// Sorted by the slice's key.
    members: Vec<Member>,
    /// In how many slices an address stands; kept only where there are several slices.
    occurrences: BTreeMap<IpAddr, u32>,
}

impl EndpointSet {
    /// Whether there is no slice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The slices.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.members.iter().map(|member| &member.slice)
    }

    /// Adds a slice or replaces the one of the same key. Says whether anything changed.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    pub fn insert(&mut self, mut slice: EndpointSlice, vantage: &Vantage) -> bool {
        normalise(&mut slice.endpoints);
        drop_repeated(&mut slice.ports);
        let key = slice.key.clone();
        // They are worked out below.
        let views = Box::default();
        let old = match self.find(&key) {
            Ok(index) if self.members[index].slice == slice => return false,
            Ok(index) => {
                Some(std::mem::replace(&mut self.members[index], Member { slice, views }).slice)
            }
            Err(index) => {
                self.members.reserve_exact(1);
                self.members.insert(index, Member { slice, views });
                None
            }
        };
        self.recount(&key, old.as_ref(), vantage);
        true
    }

    /// Removes a slice. Says whether it was there.
    pub fn remove(&mut self, key: &SliceKey, vantage: &Vantage) -> bool {
        let Ok(index) = self.find(key) else { return false };
        let old = self.members.remove(index);
        self.recount(key, Some(&old.slice), vantage);
        true
    }

    /// Works everything out anew, for another vantage.
    pub fn look_from(&mut self, vantage: &Vantage) {
        for index in 0..self.members.len() {
            self.refresh(index, vantage);
        }
    }

    /// How many of a port's endpoints are of which sort.
    #[must_use]
    pub fn tally(&self, name: &Name, protocol: Protocol) -> Tally {
        let mut sum = Tally::default();
        for member in &self.members {
            for (port, view) in member.slice.ports.iter().zip(member.views.iter()) {
                if port.name == *name && port.protocol == protocol {
                    sum.add(&view.tally);
                }
            }
        }
        sum
    }

    /// The backends of a port under a selection. Chunks of slices that have not changed since they
    /// were last asked for are shared with the earlier answer.
    pub fn backends(
        &mut self,
        name: &Name,
        protocol: Protocol,
        selection: Selection,
        vantage: &Vantage,
    ) -> Backends {
        let mut chunks = Vec::with_capacity(self.members.len());
        for Member { slice, views } in &mut self.members {
            for (port, view) in slice.ports.iter().zip(views.iter_mut()) {
                if port.name == *name && port.protocol == protocol {
                    chunks.push(view.chunk(&slice.endpoints, port, selection, vantage));
                }
            }
        }
        Backends::from_chunks(chunks)
    }

    /// Distinct addresses of ready endpoints on this node, whatever the port. What no port leads
    /// to does not count.
    #[must_use]
    pub fn ready_addresses_here(&self, vantage: &Vantage) -> usize {
        let mut addresses: Vec<_> = self
            .slices()
            .filter(|slice| !slice.ports.is_empty())
            .flat_map(|slice| slice.endpoints.iter())
            .filter(|endpoint| endpoint.ready && is_local(endpoint, vantage))
            .map(|endpoint| endpoint.address)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }

    /// Brings the views up to date after the slice `key` changed from `old`.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    fn recount(&mut self, key: &SliceKey, old: Option<&EndpointSlice>, vantage: &Vantage) {
        let moved = self.count_occurrences(key, old);
        // Other slices are touched only where they share an address with this one.
        for index in 0..self.members.len() {
            let slice = &self.members[index].slice;
            if slice.key == *key || moved.iter().any(|ip| position(slice, *ip).is_some()) {
                self.refresh(index, vantage);
            }
        }
    }

    /// Updates the occurrences; returns the addresses of the changed slice, before or after, that
    /// stand in another slice too.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    fn count_occurrences(&mut self, key: &SliceKey, old: Option<&EndpointSlice>) -> Vec<IpAddr> {
        if self.members.len() < 2 {
            // Down to one slice: whatever the removed one shadowed counts again.
            let counted = !std::mem::take(&mut self.occurrences).is_empty();
            return if counted { addresses(old).collect() } else { Vec::new() };
        }
        if self.occurrences.is_empty() {
            for slice in self.members.iter().map(|member| &member.slice) {
                for ip in addresses(Some(slice)) {
                    *self.occurrences.entry(ip).or_default() += 1;
                }
            }
        } else {
            let new = self.find(key).ok().map(|index| &self.members[index].slice);
            for ip in addresses(new) {
                *self.occurrences.entry(ip).or_default() += 1;
            }
            for ip in addresses(old) {
                if let Some(count) = self.occurrences.get_mut(&ip) {
                    *count -= 1;
                    if *count == 0 {
                        self.occurrences.remove(&ip);
                    }
                }
            }
        }
        let new = self.find(key).ok().map(|index| &self.members[index].slice);
        let here = |ip: IpAddr| u32::from(new.is_some_and(|slice| position(slice, ip).is_some()));
        let mut shared: Vec<_> = addresses(old)
            .chain(addresses(new))
            .filter(|ip| self.occurrences.get(ip).copied().unwrap_or(0) > here(*ip))
            .collect();
        shared.sort_unstable();
        shared.dedup();
        shared
    }

    /// Works out the views of one slice anew.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    fn refresh(&mut self, index: usize, vantage: &Vantage) {
        let slice = &self.members[index].slice;
        let views = slice
            .ports
            .iter()
            .map(|port| {
                let mut tally = Tally::default();
                let mut shadowed = Vec::new();
                for (index, endpoint) in slice.endpoints.iter().enumerate() {
                    if self.is_shadowed(slice, port, endpoint) {
                        shadowed.push(index);
                    } else {
                        tally.count(endpoint, vantage);
                    }
                }
                View { tally, shadowed: shadowed.into(), chunks: [None, None] }
            })
            .collect();
        self.members[index].views = views;
    }

    fn find(&self, key: &SliceKey) -> Result<usize, usize> {
        self.members.binary_search_by(|member| member.slice.key.cmp(key))
    }

    /// Whether the endpoint counts in another slice instead.
    fn is_shadowed(&self, slice: &EndpointSlice, port: &EndpointPort, endpoint: &Endpoint) -> bool {
        if self.occurrences.get(&endpoint.address).is_none_or(|count| *count < 2) {
            return false;
        }
        let rank = |endpoint: &Endpoint| (endpoint.terminating, !endpoint.ready);
        self.slices().any(|other| {
            other.key != slice.key
                && other.ports.contains(port)
                && position(other, endpoint.address)
                    .and_then(|index| other.endpoints.get(index))
                    .is_some_and(|twin| (rank(twin), &other.key) < (rank(endpoint), &slice.key))
        })
    }
}

impl View {
    fn chunk(
        &mut self,
        endpoints: &[Endpoint],
        port: &EndpointPort,
        selection: Selection,
        vantage: &Vantage,
    ) -> Arc<[Backend]> {
        if let Some((_, chunk)) =
            self.chunks.iter().flatten().find(|(known, _)| *known == selection)
        {
            return Arc::clone(chunk);
        }
        let mut chunk = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            if let Some(backend) = selection.backend(endpoint, port.port, vantage)
                && self.shadowed.binary_search(&index).is_err()
            {
                chunk.push(backend);
            }
        }
        let chunk: Arc<[Backend]> = chunk.into();
        // The older of the two makes room: a selection no longer in use is not kept for long.
        let [newest, older] = &mut self.chunks;
        *older = newest.replace((selection, Arc::clone(&chunk)));
        chunk
    }
}

fn addresses(slice: Option<&EndpointSlice>) -> impl Iterator<Item = IpAddr> {
    slice.into_iter().flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
}

fn position(slice: &EndpointSlice, ip: IpAddr) -> Option<usize> {
    slice.endpoints.binary_search_by_key(&ip, |endpoint| endpoint.address).ok()
}

/// Sorts endpoints by address and keeps one of each: the one that is not terminating, else the
/// one that is ready.
fn normalise(endpoints: &mut Box<[Endpoint]>) {
    let sorted = endpoints.is_sorted_by(|one, next| one.address < next.address);
    if !sorted {
        let mut list = std::mem::take(endpoints).into_vec();
        list.sort_by_key(|endpoint| (endpoint.address, endpoint.terminating, !endpoint.ready));
        list.dedup_by_key(|endpoint| endpoint.address);
        *endpoints = list.into();
    }
}

/// Keeps one of equal ports. The API server admits no others, manifests on disk might.
fn drop_repeated(ports: &mut Box<[EndpointPort]>) {
    let mut seen = HashSet::new();
    // Mostly there is one.
    if ports.len() > 1 && !ports.iter().all(|port| seen.insert(port)) {
        let mut seen = HashSet::new();
        let distinct = ports.iter().filter(|port| seen.insert((*port).clone()));
        *ports = distinct.cloned().collect();
    }
}

/// The endpoints of one Service in both families.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    v4: EndpointSet,
    v6: EndpointSet,
}

impl Endpoints {
    /// Those of a family, to change them or to ask for backends.
    pub fn of(&mut self, family: Family) -> &mut EndpointSet {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// All slices.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.v4.slices().chain(self.v6.slices())
    }

    /// Whether there is no slice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Works everything out anew, for another vantage.
    pub fn look_from(&mut self, vantage: &Vantage) {
        self.v4.look_from(vantage);
        self.v6.look_from(vantage);
    }
}

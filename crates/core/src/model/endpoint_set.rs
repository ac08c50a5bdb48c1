//! The endpoints of one Service and family, maintained incrementally.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::ops::Range;

use super::difference::differing;
use super::endpoint_filter::is_local;
use super::{
    Backend, Backends, Endpoint, EndpointCounts, EndpointPort, EndpointSelection, EndpointSlice,
    Family, Locality, Name, Protocol, Shared, SliceKey,
};

/// The derived state of one port of one slice.
#[derive(Clone, Debug, Default)]
struct View {
    counts: EndpointCounts,
    /// Indices of endpoints that count in another slice.
    shadowed: Box<[usize]>,
    /// Cached backends by filter. A cluster-wide and a local filter may be in use at the same time.
    chunks: [Option<(EndpointSelection, Shared<[Backend]>)>; 2],
}

#[derive(Clone, Debug)]
struct Member {
    slice: EndpointSlice,
    /// One per port of the slice.
    views: Box<[View]>,
}

/// The endpoint slices of one Service and family.
///
/// An endpoint that moves between slices may be in two of them. It then counts once: the entry that
/// is not terminating comes first, then the ready entry, then the entry of the first slice.
#[derive(Clone, Debug, Default)]
pub struct EndpointSet {
    members: Vec<Member>,
    /// The number of slices with each address; maintained only while there are several slices.
    occurrences: BTreeMap<IpAddr, u32>,
}

impl EndpointSet {
    /// Returns whether there is no slice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the slices.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.members.iter().map(|member| &member.slice)
    }

    /// Adds a slice with a new key.
    pub fn add(&mut self, mut slice: EndpointSlice, locality: &Locality) {
        drop_repeated(&mut slice.ports);
        normalise(&mut slice);
        let all = 0..slice.endpoints.len();
        let index = self.find(&slice.key).unwrap_or_else(|index| index);
        self.members.reserve_exact(1);
        self.members.insert(index, Member { slice, views: Box::default() });
        self.refresh_changed(Some(index), &[], all, locality);
    }

    /// Replaces the slice with the same key and returns whether anything changed.
    ///
    /// # Errors
    ///
    /// The slice itself, if no slice has its key.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    pub fn replace(
        &mut self,
        mut slice: EndpointSlice,
        locality: &Locality,
    ) -> Result<bool, EndpointSlice> {
        let Ok(index) = self.find(&slice.key) else { return Err(slice) };
        drop_repeated(&mut slice.ports);
        let known = &mut self.members[index].slice;
        let mut difference = differing(&known.endpoints, &slice.endpoints, Endpoint::eq);
        let [_, come] = &difference;
        // The common part is already sorted.
        if !is_normal(&slice.endpoints[come.start.saturating_sub(1)..]) {
            normalise(&mut slice);
            difference = differing(&known.endpoints, &slice.endpoints, Endpoint::eq);
        }
        known.pods = slice.pods;
        if known.ports != slice.ports {
            // Another slice may count the endpoints of the old ports.
            difference = [0..known.endpoints.len(), 0..slice.endpoints.len()];
            known.ports = slice.ports;
        } else if difference.iter().all(Range::is_empty) {
            return Ok(false);
        }
        let [gone, come] = difference;
        let old = mem::replace(&mut known.endpoints, slice.endpoints);
        self.refresh_changed(Some(index), &old[gone], come, locality);
        Ok(true)
    }

    /// Removes a slice and returns whether it existed.
    pub fn remove(&mut self, key: &SliceKey, locality: &Locality) -> bool {
        let Ok(index) = self.find(key) else { return false };
        let old = self.members.remove(index).slice;
        self.refresh_changed(None, &old.endpoints, 0..0, locality);
        true
    }

    /// Recomputes all views for another locality.
    pub fn set_locality(&mut self, locality: &Locality) {
        for index in 0..self.members.len() {
            self.refresh(index, locality);
        }
    }

    /// Counts the endpoints of a port.
    #[must_use]
    pub fn counts(&self, name: &Name, protocol: Protocol) -> EndpointCounts {
        let mut counts = EndpointCounts::default();
        for Member { slice, views } in &self.members {
            for (port, view) in slice.ports.iter().zip(views.iter()) {
                if port.name == *name && port.protocol == protocol {
                    counts += view.counts;
                }
            }
        }
        counts
    }

    /// Returns the selected backends of a port. Chunks of unchanged slices are shared
    /// with the previous result.
    pub fn backends(
        &mut self,
        name: &Name,
        protocol: Protocol,
        selection: EndpointSelection,
        locality: &Locality,
    ) -> Backends {
        let mut backends = Backends::default();
        for Member { slice, views } in &mut self.members {
            for (port, view) in slice.ports.iter().zip(views.iter_mut()) {
                if port.name == *name && port.protocol == protocol {
                    backends.push(view.chunk(&slice.endpoints, port, selection, locality));
                }
            }
        }
        backends
    }

    /// Counts the distinct addresses of ready endpoints on this node, whatever the port. Slices
    /// without ports do not count.
    #[must_use]
    pub fn ready_addresses_here(&self, locality: &Locality) -> usize {
        let mut addresses: Vec<_> = self
            .slices()
            .filter(|slice| !slice.ports.is_empty())
            .flat_map(|slice| slice.endpoints.iter())
            .filter(|endpoint| endpoint.is_ready() && is_local(endpoint, locality))
            .map(|endpoint| endpoint.address)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }

    /// Recomputes the views of a slice after `come` replaced `gone`, and of all slices that share
    /// these addresses with it. `changed` is `None` if the slice was removed.
    #[expect(clippy::indexing_slicing, reason = "the index is one of theirs")]
    fn refresh_changed(
        &mut self,
        changed: Option<usize>,
        gone: &[Endpoint],
        come: Range<usize>,
        locality: &Locality,
    ) {
        let shared = self.count_occurrences(changed, gone, come);
        for index in 0..self.members.len() {
            let slice = &self.members[index].slice;
            if Some(index) == changed || shared.iter().any(|ip| slice.position(*ip).is_some()) {
                self.refresh(index, locality);
            }
        }
    }

    /// Updates the occurrences after a slice changed its endpoints from `gone` to `come`. Returns
    /// the addresses of both that are in another slice, too.
    fn count_occurrences(
        &mut self,
        index: Option<usize>,
        gone: &[Endpoint],
        come: Range<usize>,
    ) -> Vec<IpAddr> {
        let Self { members, occurrences } = self;
        if members.len() < 2 {
            // Only one slice remains: endpoints that the removed slice shadowed count again.
            let counted = !mem::take(occurrences).is_empty();
            return if counted { addresses(gone).collect() } else { Vec::new() };
        }
        let slice = index.and_then(|index| members.get(index)).map(|member| &member.slice);
        let come = slice.and_then(|slice| slice.endpoints.get(come)).unwrap_or_default();
        if occurrences.is_empty() {
            for ip in members.iter().flat_map(|member| addresses(&member.slice.endpoints)) {
                *occurrences.entry(ip).or_default() += 1;
            }
        } else {
            for ip in addresses(come) {
                *occurrences.entry(ip).or_default() += 1;
            }
            for ip in addresses(gone) {
                if let Some(count) = occurrences.get_mut(&ip) {
                    *count -= 1;
                    if *count == 0 {
                        occurrences.remove(&ip);
                    }
                }
            }
        }
        let here = |ip: IpAddr| u32::from(slice.is_some_and(|slice| slice.position(ip).is_some()));
        let mut shared: Vec<_> = addresses(gone)
            .chain(addresses(come))
            .filter(|ip| occurrences.get(ip).copied().unwrap_or(0) > here(*ip))
            .collect();
        shared.sort_unstable();
        shared.dedup();
        shared
    }

    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    fn refresh(&mut self, index: usize, locality: &Locality) {
        let slice = &self.members[index].slice;
        let views = slice
            .ports
            .iter()
            .map(|port| {
                let mut counts = EndpointCounts::default();
                let mut shadowed = Vec::new();
                for (index, endpoint) in slice.endpoints.iter().enumerate() {
                    if self.is_shadowed(slice, port, endpoint) {
                        shadowed.push(index);
                    } else {
                        counts += EndpointCounts::of(endpoint, locality);
                    }
                }
                View { counts, shadowed: shadowed.into(), chunks: [None, None] }
            })
            .collect();
        self.members[index].views = views;
    }

    fn find(&self, key: &SliceKey) -> Result<usize, usize> {
        self.members.binary_search_by(|member| member.slice.key.cmp(key))
    }

    /// Returns whether the endpoint counts in another slice instead.
    fn is_shadowed(&self, slice: &EndpointSlice, port: &EndpointPort, endpoint: &Endpoint) -> bool {
        if self.occurrences.get(&endpoint.address).is_none_or(|count| *count < 2) {
            return false;
        }
        let rank = |endpoint: &Endpoint| (endpoint.terminating, !endpoint.is_ready());
        self.slices().any(|other| {
            other.key != slice.key
                && other.ports.contains(port)
                && other
                    .position(endpoint.address)
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
        selection: EndpointSelection,
        locality: &Locality,
    ) -> Shared<[Backend]> {
        if let Some((_, chunk)) =
            self.chunks.iter().flatten().find(|(known, _)| *known == selection)
        {
            return Shared::clone(chunk);
        }
        let mut chunk = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            if let Some(backend) = selection.backend(endpoint, port.port, locality)
                && self.shadowed.binary_search(&index).is_err()
            {
                chunk.push(backend);
            }
        }
        let chunk: Shared<[Backend]> = chunk.into();
        // The older entry is evicted, so a filter that is no longer used does not stay.
        let [newest, older] = &mut self.chunks;
        *older = newest.replace((selection, Shared::clone(&chunk)));
        chunk
    }
}

fn addresses(endpoints: &[Endpoint]) -> impl Iterator<Item = IpAddr> {
    endpoints.iter().map(|endpoint| endpoint.address)
}

fn is_normal(endpoints: &[Endpoint]) -> bool {
    endpoints.is_sorted_by(|one, next| one.address < next.address)
}

/// Sorts the endpoints of a slice by address, without duplicates.
fn normalise(slice: &mut EndpointSlice) {
    if !is_normal(&slice.endpoints) {
        let mut names: Vec<_> = slice.pods.unpack(slice.key.name()).collect();
        names.resize(slice.endpoints.len(), None);
        let endpoints = mem::take(&mut slice.endpoints).into_vec().into_iter();
        slice.set_endpoints(endpoints.zip(names.iter().map(Option::as_deref)).collect());
    }
}

/// Removes repeated ports. The API server does not admit them, but manifests on disk may have them.
fn drop_repeated(ports: &mut Shared<[EndpointPort]>) {
    // Most slices have one port.
    if ports.len() < 2 {
        return;
    }
    let mut seen = HashSet::new();
    if !ports.iter().all(|port| seen.insert(port)) {
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
    /// Returns the endpoints of a family.
    pub fn of(&mut self, family: Family) -> &mut EndpointSet {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Returns the slices of both families.
    pub fn slices(&self) -> impl Iterator<Item = &EndpointSlice> {
        self.v4.slices().chain(self.v6.slices())
    }

    /// Returns whether there is no slice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Recomputes all views for another locality.
    pub fn set_locality(&mut self, locality: &Locality) {
        self.v4.set_locality(locality);
        self.v6.set_locality(locality);
    }
}

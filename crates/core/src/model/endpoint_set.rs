//! The endpoints of one Service and family, kept so that a change costs what has changed.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::net::IpAddr;
use std::ops::{Add, Range};

use smallvec::SmallVec;

use super::difference::differing;
use super::endpoint_filter::is_local;
use super::{
    Backend, Backends, Endpoint, EndpointCounts, EndpointFilter, EndpointPort, EndpointSlice,
    Family, Locality, Name, Protocol, Shared, SliceKey,
};

/// One port of one slice, with what has been worked out about it.
#[derive(Clone, Debug, Default)]
struct View {
    counts: EndpointCounts,
    /// Indices of endpoints that count in another slice.
    shadowed: Box<[usize]>,
    /// Backends by selection, as far as they were asked for: a cluster-wide and a local one may
    /// be in use at a time.
    chunks: [Option<(EndpointFilter, Shared<[Backend]>)>; 2],
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

    /// Adds a slice of a key that no other has.
    pub fn add(&mut self, mut slice: EndpointSlice, locality: &Locality) {
        drop_repeated(&mut slice.ports);
        normalise(&mut slice.endpoints);
        let all = 0..slice.endpoints.len();
        let index = self.find(&slice.key).unwrap_or_else(|index| index);
        self.members.reserve_exact(1);
        self.members.insert(index, Member { slice, views: Box::default() });
        self.recount(Some(index), &[], all, locality);
    }

    /// Replaces the slice of the same key. Says whether anything changed. Costs the endpoints that
    /// differ, beside finding them.
    ///
    /// # Errors
    ///
    /// The slice itself, if there is none of its key.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    pub fn replace(
        &mut self,
        mut slice: EndpointSlice,
        locality: &Locality,
    ) -> Result<bool, EndpointSlice> {
        let Ok(index) = self.find(&slice.key) else { return Err(slice) };
        drop_repeated(&mut slice.ports);
        let Member { slice: known, views } = &mut self.members[index];
        if known.ports != slice.ports {
            normalise(&mut slice.endpoints);
            let all = 0..slice.endpoints.len();
            *views = Box::default();
            known.ports = slice.ports;
            let gone = mem::replace(&mut known.endpoints, slice.endpoints);
            self.recount(Some(index), &gone, all, locality);
            return Ok(true);
        }
        let mut difference = differing(&known.endpoints, &slice.endpoints, Endpoint::eq);
        let [_, come] = &difference;
        // What both have in common is sorted, as it was.
        if !is_normal(&slice.endpoints[come.start.saturating_sub(1)..]) {
            normalise(&mut slice.endpoints);
            difference = differing(&known.endpoints, &slice.endpoints, Endpoint::eq);
        }
        let [gone, come] = difference;
        let is_other = !gone.is_empty() || !come.is_empty();
        if is_other {
            let old = mem::replace(&mut known.endpoints, slice.endpoints);
            self.exchange(index, &old[gone], come, locality);
        }
        Ok(is_other)
    }

    /// Removes a slice. Says whether it was there.
    pub fn remove(&mut self, key: &SliceKey, locality: &Locality) -> bool {
        let Ok(index) = self.find(key) else { return false };
        let old = self.members.remove(index).slice;
        self.recount(None, &old.endpoints, 0..0, locality);
        true
    }

    /// Works everything out anew, for another locality.
    pub fn set_locality(&mut self, locality: &Locality) {
        for index in 0..self.members.len() {
            self.refresh(index, locality);
        }
    }

    /// How many of a port's endpoints are of which sort.
    #[must_use]
    pub fn counts(&self, name: &Name, protocol: Protocol) -> EndpointCounts {
        let ports = self.members.iter().flat_map(|it| it.slice.ports.iter().zip(it.views.iter()));
        let of_port = ports.filter(|(port, _)| port.name == *name && port.protocol == protocol);
        of_port.map(|(_, view)| view.counts).reduce(Add::add).unwrap_or_default()
    }

    /// The backends of a port under a selection. Chunks of slices that have not changed since they
    /// were last asked for are shared with the earlier answer.
    pub fn backends(
        &mut self,
        name: &Name,
        protocol: Protocol,
        selection: EndpointFilter,
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

    /// Distinct addresses of ready endpoints on this node, whatever the port. What no port leads
    /// to does not count.
    #[must_use]
    pub fn ready_addresses_here(&self, locality: &Locality) -> usize {
        let mut addresses: Vec<_> = self
            .slices()
            .filter(|slice| !slice.ports.is_empty())
            .flat_map(|slice| slice.endpoints.iter())
            .filter(|endpoint| endpoint.ready && is_local(endpoint, locality))
            .map(|endpoint| endpoint.address)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }

    /// Brings everything up to date after the endpoints `come` of a slice, which has the ports that
    /// it had, took the place of those that are `gone`.
    #[expect(clippy::indexing_slicing, reason = "the index is one that was found")]
    fn exchange(
        &mut self,
        index: usize,
        gone: &[Endpoint],
        come: Range<usize>,
        locality: &Locality,
    ) {
        let shared = self.count_occurrences(Some(index), gone, come.clone());
        let member = &mut self.members[index];
        let is_shadowed = |view: &View| !view.shadowed.is_empty();
        if !shared.is_empty() || member.views.iter().any(is_shadowed) {
            self.refresh_sharing(&shared, Some(index), locality);
            return;
        }
        let Member { slice, views } = member;
        for (port, view) in slice.ports.iter().zip(views.iter_mut()) {
            view.exchange(gone, &slice.endpoints, come.clone(), port, locality);
        }
    }

    /// Brings everything up to date after a slice changed, at this index if it is still there, that
    /// had the endpoints `gone` and has the endpoints `come`.
    fn recount(
        &mut self,
        index: Option<usize>,
        gone: &[Endpoint],
        come: Range<usize>,
        locality: &Locality,
    ) {
        let shared = self.count_occurrences(index, gone, come);
        self.refresh_sharing(&shared, index, locality);
    }

    /// Works out the views anew of the slice that changed, and of others that share addresses with
    /// it.
    #[expect(clippy::indexing_slicing, reason = "the index is one of theirs")]
    fn refresh_sharing(&mut self, shared: &[IpAddr], changed: Option<usize>, locality: &Locality) {
        for index in 0..self.members.len() {
            let slice = &self.members[index].slice;
            if Some(index) == changed || shared.iter().any(|ip| position(slice, *ip).is_some()) {
                self.refresh(index, locality);
            }
        }
    }

    /// Updates the occurrences after endpoints have gone from a slice and others have come to it;
    /// returns the addresses of either that stand in another slice too.
    fn count_occurrences(
        &mut self,
        index: Option<usize>,
        gone: &[Endpoint],
        come: Range<usize>,
    ) -> Vec<IpAddr> {
        let Self { members, occurrences } = self;
        if members.len() < 2 {
            // Down to one slice: whatever the removed one shadowed counts again.
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
        let here = |ip: IpAddr| u32::from(slice.is_some_and(|slice| position(slice, ip).is_some()));
        let mut shared: Vec<_> = addresses(gone)
            .chain(addresses(come))
            .filter(|ip| occurrences.get(ip).copied().unwrap_or(0) > here(*ip))
            .collect();
        shared.sort_unstable();
        shared.dedup();
        shared
    }

    /// Works out the views of one slice anew.
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
        selection: EndpointFilter,
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
        // The older of the two makes room: a selection no longer in use is not kept for long.
        let [newest, older] = &mut self.chunks;
        *older = newest.replace((selection, Shared::clone(&chunk)));
        chunk
    }

    /// Takes in that some of the endpoints have come in the place of those that are gone. None of
    /// the slice may be shadowed.
    #[expect(clippy::indexing_slicing, reason = "the range is of these endpoints")]
    fn exchange(
        &mut self,
        gone: &[Endpoint],
        endpoints: &[Endpoint],
        come: Range<usize>,
        port: &EndpointPort,
        locality: &Locality,
    ) {
        let (before, rest) = endpoints.split_at(come.start);
        let (come, behind) = rest.split_at(come.len());
        gone.iter().for_each(|endpoint| self.counts -= EndpointCounts::of(endpoint, locality));
        come.iter().for_each(|endpoint| self.counts += EndpointCounts::of(endpoint, locality));
        for (selection, chunk) in self.chunks.iter_mut().flatten() {
            let (from, to) = if chunk.len() == before.len() + gone.len() + behind.len() {
                // Every endpoint had a backend.
                (before.len(), before.len() + gone.len())
            } else {
                // All are sorted.
                let up_to = |it: &Endpoint| chunk.partition_point(|one| one.address <= it.address);
                let short_of =
                    |it: &Endpoint| chunk.partition_point(|one| one.address < it.address);
                (before.last().map_or(0, up_to), behind.first().map_or(chunk.len(), short_of))
            };
            let mut all: SmallVec<[Backend; 16]> = SmallVec::from_slice(&chunk[..from]);
            all.extend(come.iter().filter_map(|it| selection.backend(it, port.port, locality)));
            if chunk[from..to] != all[from..] {
                all.extend_from_slice(&chunk[to..]);
                *chunk = Shared::from(&*all);
            }
        }
    }
}

fn addresses(endpoints: &[Endpoint]) -> impl Iterator<Item = IpAddr> {
    endpoints.iter().map(|endpoint| endpoint.address)
}

fn position(slice: &EndpointSlice, ip: IpAddr) -> Option<usize> {
    slice.endpoints.binary_search_by_key(&ip, |endpoint| endpoint.address).ok()
}

/// Whether endpoints are sorted by address, with one of each.
fn is_normal(endpoints: &[Endpoint]) -> bool {
    endpoints.is_sorted_by(|one, next| one.address < next.address)
}

/// Sorts endpoints by address and keeps one of each: the one that is not terminating, else the
/// one that is ready.
fn normalise(endpoints: &mut Box<[Endpoint]>) {
    if !is_normal(endpoints) {
        let mut list = mem::take(endpoints).into_vec();
        list.sort_by_key(|endpoint| (endpoint.address, endpoint.terminating, !endpoint.ready));
        list.dedup_by_key(|endpoint| endpoint.address);
        *endpoints = list.into();
    }
}

/// Keeps one of equal ports. The API server admits no others, manifests on disk might.
fn drop_repeated(ports: &mut Shared<[EndpointPort]>) {
    // Mostly there is one.
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

    /// Works everything out anew, for another locality.
    pub fn set_locality(&mut self, locality: &Locality) {
        self.v4.set_locality(locality);
        self.v6.set_locality(locality);
    }
}

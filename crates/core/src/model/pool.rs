//! Pools of backends: IPVS virtual servers and their real servers.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use smallvec::SmallVec;

use super::difference::differing;
use super::{Shared, VirtualAddress};

/// An IPVS scheduler of the kernel (`net/netfilter/ipvs/ip_vs_*.c`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[allow(missing_docs)]
pub enum Scheduler {
    #[default]
    Rr,
    Wrr,
    Lc,
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    /// One that this program does not know. Only ever seen on reading the kernel back.
    Unknown,
}

impl Scheduler {
    /// Every scheduler that may be configured.
    pub const ALL: [Self; 13] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
    ];

    /// The kernel's name of it: module `ip_vs_<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Unknown => "unknown",
        }
    }

    /// The scheduler with a kernel name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| scheduler.name() == name)
    }

    /// Whether it prefers real servers with few connections. Of one that is not ended by a FIN, IPVS
    /// learns by its timeout.
    #[must_use]
    pub fn counts_connections(self) -> bool {
        matches!(
            self,
            Self::Lc | Self::Wlc | Self::Lblc | Self::Lblcr | Self::Sed | Self::Nq | Self::Ovf
        )
    }

    /// Flags that a virtual server gets with this scheduler: `mh` also hashes the source port, as
    /// kube-proxy has it.
    #[must_use]
    pub fn default_flags(self) -> u32 {
        match self {
            Self::Mh => VirtualServer::FLAG_SCHED_2,
            _ => 0,
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A scheduler name that the kernel does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown IPVS scheduler {0:?}: use one of rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh")]
pub struct UnknownScheduler(String);

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

/// A virtual server without its real servers (`struct ip_vs_service_user`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VirtualServer {
    /// Its address.
    pub address: VirtualAddress,
    /// How it picks a real server.
    pub scheduler: Scheduler,
    /// `IP_VS_SVC_F_*` other than PERSISTENT and HASHED, which follow from the rest.
    pub flags: u32,
    /// Seconds for which a client stays with its real server; `None` without affinity.
    pub affinity_seconds: Option<u32>,
}

impl VirtualServer {
    /// `IP_VS_SVC_F_SCHED2`: `mh-port`, `sh-port` by another bit.
    pub const FLAG_SCHED_2: u32 = 0x10;
}

/// A real server of a pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port, in host byte order.
    pub port: u16,
    /// Its share of new connections. 0: draining, established connections go on.
    pub weight: u16,
    /// Whether the endpoint is on this node.
    pub local: bool,
}

impl Backend {
    /// Whether it takes no new connections.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.weight == 0
    }

    /// The endpoint's address and port.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// The same without new connections.
    #[must_use]
    pub fn drained(&self) -> Self {
        Self { weight: 0, ..*self }
    }
}

/// The backends of a pool, in one shared chunk per endpoint slice.
///
/// Chunks make a pool's difference to an earlier self cost what has changed: a chunk that both
/// share is not looked into. Each chunk is sorted, and no two backends of a pool have the same
/// address and port.
#[derive(Clone, Default)]
pub struct Backends {
    /// Most Services have one slice.
    chunks: SmallVec<[Shared<[Backend]>; 1]>,
}

impl Backends {
    /// Backends from chunks; empty ones are left out.
    pub fn from_chunks(chunks: impl IntoIterator<Item = Shared<[Backend]>>) -> Self {
        let mut backends = Self::default();
        chunks.into_iter().for_each(|chunk| backends.push(chunk));
        backends
    }

    /// Adds a chunk, of backends that are not there; an empty one is left out.
    pub(super) fn push(&mut self, chunk: Shared<[Backend]>) {
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// The same with one more chunk, of backends that it does not have.
    #[must_use]
    pub fn with(&self, chunk: Shared<[Backend]>) -> Self {
        Self::from_chunks(self.chunks.iter().cloned().chain([chunk]))
    }

    /// All backends, chunk by chunk.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// All backends by address and port.
    #[must_use]
    pub fn sorted(&self) -> Vec<Backend> {
        let mut all: Vec<_> = self.iter().copied().collect();
        all.sort_unstable();
        all
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// Whether both are of the same chunks, so that there is nothing to compare.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Shared::are_same(&self.chunks, &other.chunks)
    }

    /// Hands out what must change to get here from `old`, sorted by address and port. Costs the
    /// chunks that differ.
    pub fn changes_from(&self, old: &Self, take: impl FnMut(BackendChange)) {
        self.compare(old, |after, before| changes(before, after, take));
    }

    /// Looks at what each of two has beside what they have in common, sorted: the chunks that the
    /// other has not, without what is equal at either end of them.
    #[expect(clippy::indexing_slicing, reason = "what is equal was counted in both")]
    fn compare<T>(&self, other: &Self, look: impl FnOnce(&[Backend], &[Backend]) -> T) -> T {
        let look = |mine: &[Backend], others: &[Backend]| {
            let [own, theirs] = differing(mine, others, Backend::eq);
            look(&mine[own], &others[theirs])
        };
        // Nothing to look for where each has one.
        if let ([mine], [others]) = (&*self.chunks, &*other.chunks)
            && !Shared::is_same(mine, others)
        {
            return look(mine, others);
        }
        // Chunks keep their order from one version to the next, so what is the same at either end
        // settles nearly all of them without a search.
        let [own, theirs] = differing(&self.chunks, &other.chunks, Shared::is_same);
        let (mine, others) = (&self.chunks[own], &other.chunks[theirs]);
        look(&lacking(mine, others), &lacking(others, mine))
    }
}

/// The backends of the chunks that others have not, sorted.
fn lacking<'a>(
    chunks: &'a [Shared<[Backend]>],
    others: &[Shared<[Backend]>],
) -> Cow<'a, [Backend]> {
    let is_shared = |chunk: &Shared<_>| others.iter().any(|other| Shared::is_same(other, chunk));
    match chunks {
        [] => Cow::default(),
        [one] if !is_shared(one) => Cow::Borrowed(one),
        several => {
            let lacking = several.iter().filter(|chunk| !is_shared(chunk));
            let mut all: Vec<_> = lacking.flat_map(|chunk| chunk.iter().copied()).collect();
            all.sort_unstable();
            Cow::Owned(all)
        }
    }
}

/// Hands out what must change from one sorted list to another.
fn changes(before: &[Backend], after: &[Backend], mut take: impl FnMut(BackendChange)) {
    let socket = |backend: &Backend| (backend.address, backend.port);
    let mut before = before.iter().copied().peekable();
    for &new in after {
        while let Some(gone) = before.next_if(|old| socket(old) < socket(&new)) {
            take(BackendChange::Removed(gone));
        }
        match before.next_if(|old| socket(old) == socket(&new)) {
            None => take(BackendChange::Added(new)),
            Some(old) if old != new => take(BackendChange::Changed { old, new }),
            Some(_) => {}
        }
    }
    before.map(BackendChange::Removed).for_each(take);
}

impl FromIterator<Backend> for Backends {
    /// Of several with one address and port, such as a list of the kernel's may have that others
    /// changed meanwhile, one.
    fn from_iter<I: IntoIterator<Item = Backend>>(backends: I) -> Self {
        let mut chunk: Vec<_> = backends.into_iter().collect();
        chunk.sort_unstable();
        chunk.dedup_by_key(|backend| (backend.address, backend.port));
        Self::from_chunks([chunk.into()])
    }
}

impl PartialEq for Backends {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.compare(other, |mine, others| mine.is_empty() && others.is_empty())
    }
}

impl Eq for Backends {}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One difference between two versions of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendChange {
    /// It is new.
    Added(Backend),
    /// Same address and port, but another weight or place.
    Changed {
        /// As it was.
        old: Backend,
        /// As it is to be.
        new: Backend,
    },
    /// It is gone.
    Removed(Backend),
}

/// A virtual server and its real servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    /// The virtual server.
    pub server: VirtualServer,
    /// Its real servers.
    pub backends: Backends,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn backend() -> impl Strategy<Value = Backend> {
        (0..6_u8, 80..82_u16, 0..2_u16, any::<bool>()).prop_map(|(last, port, weight, local)| {
            Backend { address: [10, 244, 1, last].into(), port, weight, local }
        })
    }

    fn by_socket(backends: &Backends) -> BTreeMap<(IpAddr, u16), Backend> {
        backends.iter().map(|backend| ((backend.address, backend.port), *backend)).collect()
    }

    /// In chunks of which no two share an address and port; some of them the same as before.
    fn chunked(all: &[Backend], kept: &Backends) -> Backends {
        let mut one = BTreeMap::new();
        for backend in all {
            one.insert((backend.address, backend.port), *backend);
        }
        for backend in kept.iter() {
            one.remove(&(backend.address, backend.port));
        }
        let (low, high): (Vec<_>, Vec<_>) = one.into_values().partition(|it| it.port == 80);
        Backends::from_chunks([low.into(), high.into()].into_iter().chain(kept.chunks.to_vec()))
    }

    proptest! {
        #[test]
        fn the_changes_lead_from_one_to_the_other(
            shared in vec(backend(), 0..4), old in vec(backend(), 0..9), new in vec(backend(), 0..9),
        ) {
            let shared: Backends = shared.into_iter().collect();
            let (old, new) = (chunked(&old, &shared), chunked(&new, &shared));
            let mut held = by_socket(&old);
            let mut changes = Vec::new();
            new.changes_from(&old, |change| changes.push(change));
            for change in changes {
                match change {
                    BackendChange::Added(it) => prop_assert!(!held.contains_key(&(it.address, it.port))),
                    BackendChange::Changed { old, .. } | BackendChange::Removed(old) => {
                        prop_assert_eq!(held.remove(&(old.address, old.port)), Some(old));
                    }
                }
                if let BackendChange::Added(it) | BackendChange::Changed { new: it, .. } = change {
                    held.insert((it.address, it.port), it);
                }
            }
            prop_assert_eq!(&held, &by_socket(&new));
            prop_assert_eq!(old == new, by_socket(&old) == by_socket(&new));
        }
    }
}

//! Pools of backends: IPVS virtual servers and their real servers.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use smallvec::SmallVec;

use super::difference::differing;
use super::{Protocol, Shared, VirtualAddress};

/// An IPVS scheduler of the kernel (`net/netfilter/ipvs/ip_vs_*.c`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
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
    /// A scheduler that this program does not know; only read from the kernel.
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

    /// Returns the kernel's name, as in module `ip_vs_<name>`.
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

    /// Returns the scheduler with a kernel name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheduler| scheduler.name() == name)
    }

    /// Returns whether the scheduler prefers real servers with few connections. A connection that
    /// does not end with a FIN counts until its timeout.
    #[must_use]
    pub fn counts_connections(self) -> bool {
        matches!(
            self,
            Self::Lc | Self::Wlc | Self::Lblc | Self::Lblcr | Self::Sed | Self::Nq | Self::Ovf
        )
    }

    /// Returns the flags of a virtual server with this scheduler: `mh` also hashes the source port,
    /// as in kube-proxy.
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

/// The kernel has no scheduler of this name.
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
    pub address: VirtualAddress,
    pub scheduler: Scheduler,
    /// `IP_VS_SVC_F_*` except PERSISTENT and HASHED, which follow from the other fields.
    pub flags: u32,
    /// Seconds for which a client stays with its real server; `None` without affinity.
    pub affinity_seconds: Option<u32>,
    /// The bits of an address that identify a client; all of them without affinity.
    pub affinity_prefix: u8,
    /// The connections of each real server above which it gets no new ones; 0 without limit.
    pub max_connections: u32,
}

impl VirtualServer {
    /// Returns a virtual server without affinity and limit, with the scheduler's default flags.
    #[must_use]
    pub fn new(address: VirtualAddress, scheduler: Scheduler) -> Self {
        Self {
            address,
            scheduler,
            flags: scheduler.default_flags(),
            affinity_seconds: None,
            affinity_prefix: address.family().host_prefix(),
            max_connections: 0,
        }
    }

    /// `IP_VS_SVC_F_ONEPACKET`.
    pub const FLAG_ONE_PACKET: u32 = 0x4;
    /// `IP_VS_SVC_F_SCHED1`: `mh-fallback` and `sh-fallback`.
    pub const FLAG_SCHED_1: u32 = 0x8;
    /// `IP_VS_SVC_F_SCHED2`: `mh-port` and `sh-port`.
    pub const FLAG_SCHED_2: u32 = 0x10;
}

/// A real server of a pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    pub address: IpAddr,
    /// In host byte order.
    pub port: u16,
    /// The share of new connections, at most `i32::MAX`. 0 is draining: established connections
    /// continue.
    pub weight: u32,
    pub local: bool,
}

impl Backend {
    /// Returns whether the backend takes no new connections.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.weight == 0
    }

    /// Returns the endpoint's address and port.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns the same backend with weight 0.
    #[must_use]
    pub fn drained(&self) -> Self {
        Self { weight: 0, ..*self }
    }
}

/// The backends of a pool, in one shared chunk per endpoint slice.
///
/// Two versions of a pool are compared at the cost of what changed: chunks that both share are
/// skipped. Each chunk is sorted, and the addresses and ports of a pool are unique.
#[derive(Clone, Default)]
pub struct Backends {
    /// Most Services have one slice.
    chunks: SmallVec<[Shared<[Backend]>; 1]>,
}

impl Backends {
    /// Builds backends from chunks; empty chunks are left out.
    pub fn from_chunks(chunks: impl IntoIterator<Item = Shared<[Backend]>>) -> Self {
        let mut backends = Self::default();
        chunks.into_iter().for_each(|chunk| backends.push(chunk));
        backends
    }

    /// Adds a chunk of new backends; an empty chunk is left out.
    pub(super) fn push(&mut self, chunk: Shared<[Backend]>) {
        if !chunk.is_empty() {
            self.chunks.push(chunk);
        }
    }

    /// Returns the same backends with one more chunk of new backends.
    #[must_use]
    pub fn with(&self, chunk: Shared<[Backend]>) -> Self {
        Self::from_chunks(self.chunks.iter().cloned().chain([chunk]))
    }

    /// Iterates over all backends, chunk by chunk.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Returns all backends, sorted by address and port.
    #[must_use]
    pub fn sorted(&self) -> Vec<Backend> {
        let mut all: Vec<_> = self.iter().copied().collect();
        all.sort_unstable();
        all
    }

    /// Returns whether there is no backend.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the number of backends.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// Returns whether both consist of the same chunks, so that no comparison is needed.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Shared::are_same(&self.chunks, &other.chunks)
    }

    /// Passes the changes from `old` to `take`, sorted by address and port. The cost is
    /// proportional to the chunks that differ.
    pub fn changes_from(&self, old: &Self, take: impl FnMut(BackendChange)) {
        self.compare(old, |after, before| changes(before, after, take));
    }

    /// Calls `look` with the sorted backends of the chunks that only one of the two has, without
    /// their common prefix and suffix.
    #[expect(clippy::indexing_slicing, reason = "what is equal was counted in both")]
    fn compare<T>(&self, other: &Self, look: impl FnOnce(&[Backend], &[Backend]) -> T) -> T {
        let look = |mine: &[Backend], others: &[Backend]| {
            let [own, theirs] = differing(mine, others, Backend::eq);
            look(&mine[own], &others[theirs])
        };
        // A single chunk on both sides needs no search.
        if let ([mine], [others]) = (&*self.chunks, &*other.chunks)
            && !Shared::is_same(mine, others)
        {
            return look(mine, others);
        }
        // Chunks keep their order between versions, so the common prefix and suffix cover nearly
        // all of them.
        let [own, theirs] = differing(&self.chunks, &other.chunks, Shared::is_same);
        let (mine, others) = (&self.chunks[own], &other.chunks[theirs]);
        look(&lacking(mine, others), &lacking(others, mine))
    }
}

/// Returns the sorted backends of the chunks that `others` does not contain.
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
    /// Keeps one of several backends with the same address and port. A list of the kernel may have
    /// such duplicates if it changes during the read.
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

/// A difference between two versions of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendChange {
    Added(Backend),
    /// The weight or the location changed; address and port are the same.
    Changed {
        old: Backend,
        new: Backend,
    },
    Removed(Backend),
}

/// A virtual server and its real servers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    pub server: VirtualServer,
    pub backends: Backends,
    /// `None` for the usual treatment, and for a pool read from the kernel.
    pub control: Option<Box<PoolControl>>,
}

/// The treatment of a pool's backends over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolControl {
    /// See [`Control::drain`](super::Control::drain); `None` for the usual period.
    pub drain: Option<Duration>,
    /// See [`Control::slow_start`](super::Control::slow_start).
    pub slow_start: Duration,
    /// See [`Control::eject`](super::Control::eject).
    pub eject: Duration,
}

impl Pool {
    /// Returns after how long without an answer a backend is ejected; `None` for never. Only the
    /// answers of TCP show that an endpoint lives.
    #[must_use]
    pub fn eject_after(&self) -> Option<Duration> {
        let after = self.control.as_ref()?.eject;
        let is_tcp = self.server.address.protocol == Protocol::Tcp;
        (is_tcp && !after.is_zero()).then_some(after)
    }
}

impl From<VirtualServer> for Pool {
    /// Returns a pool without backends.
    fn from(server: VirtualServer) -> Self {
        Self { server, backends: Backends::default(), control: None }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn backend() -> impl Strategy<Value = Backend> {
        (0..6_u8, 80..82_u16, 0..2_u32, any::<bool>()).prop_map(|(last, port, weight, local)| {
            Backend { address: [10, 244, 1, last].into(), port, weight, local }
        })
    }

    fn by_socket(backends: &Backends) -> BTreeMap<(IpAddr, u16), Backend> {
        backends.iter().map(|backend| ((backend.address, backend.port), *backend)).collect()
    }

    /// Splits into chunks without common addresses and ports; some are those of `kept`.
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
        fn changes_turn_one_pool_into_the_other(
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

//! The limit of concurrent connections.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Concurrent connections of a peer.
pub(super) const MOST_OF_A_PEER: usize = 16;
/// Concurrent connections of all peers except the node itself.
pub(super) const MOST_OF_OTHERS: usize = 64;
/// The prefix length of an IPv6 network: a host may have all addresses of one.
const NETWORK_V6: u32 = 64;

/// Returns the peer of a connection with these two ends, or the network of an IPv6 peer; `None` for
/// the node itself, such as the kubelet, whatever address it probes.
pub(super) fn peer_of(peer: IpAddr, here: IpAddr) -> Option<IpAddr> {
    match peer.to_canonical() {
        peer if peer == here.to_canonical() => None,
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (u128::BITS - NETWORK_V6));
            Some(Ipv6Addr::from_bits(network).into())
        }
        peer => Some(peer),
    }
}

/// The connections of one server, or of several servers with a common limit: the authors of
/// Services can open as many ports as there are node ports.
#[derive(Debug, Default)]
pub struct Places {
    /// The oldest first. Some may have ended.
    taken: Mutex<VecDeque<(Option<IpAddr>, AbortHandle)>>,
}

impl Places {
    /// Returns whether a further connection of this peer replaces another one.
    pub(super) fn is_full_for(&self, peer: Option<IpAddr>) -> bool {
        in_the_way_of(peer, &mut self.taken()).is_some()
    }

    /// Adds a connection and closes the oldest of those that it replaces. A well-behaved client has
    /// its answer within moments; a client that keeps connections open loses them first.
    pub(super) fn take(&self, peer: Option<IpAddr>, connection: AbortHandle) {
        let mut taken = self.taken();
        while let Some(oldest) = in_the_way_of(peer, &mut taken)
            && let Some((_, connection)) = taken.remove(oldest)
        {
            connection.abort();
        }
        taken.push_back((peer, connection));
    }

    fn taken(&self) -> MutexGuard<'_, VecDeque<(Option<IpAddr>, AbortHandle)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the index of the connection that a new connection of this peer replaces, if any.
fn in_the_way_of(
    newcomer: Option<IpAddr>,
    taken: &mut VecDeque<(Option<IpAddr>, AbortHandle)>,
) -> Option<usize> {
    taken.retain(|(_, connection)| !connection.is_finished());
    // The oldest of the selected connections, if there are at least `most`.
    let oldest = |most: usize, is_meant: &dyn Fn(Option<IpAddr>) -> bool| {
        let all = taken.iter().enumerate();
        let mut meant = all.filter(|(_, (peer, _))| is_meant(*peer)).map(|(index, _)| index);
        let first = meant.next();
        first.filter(|_| 1 + meant.count() >= most)
    };
    oldest(MOST_OF_A_PEER, &|peer| peer == newcomer)
        .or_else(|| newcomer.and_then(|_| oldest(MOST_OF_OTHERS, &|peer| peer.is_some())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_distinguished_by_what_they_cannot_choose() {
        let between =
            |peer: &str, here: &str| peer_of(peer.parse().unwrap(), here.parse().unwrap());
        assert_eq!(between("127.0.0.1", "127.0.0.1"), None);
        assert_eq!(between("::ffff:10.0.0.1", "10.0.0.1"), None);
        assert_eq!(between("fd00::1", "fd00::1"), None);
        let host = Some(IpAddr::from([10, 0, 0, 2]));
        assert_eq!(between("10.0.0.2", "10.0.0.1"), host);
        assert_eq!(between("::ffff:10.0.0.2", "::ffff:10.0.0.1"), host);
        assert_eq!(between("fd00::2", "fd00:1::1"), between("fd00::3:4:5:6", "fd00:1::1"));
        assert_ne!(between("fd00::2", "fd00:1::1"), between("fd00:0:0:1::2", "fd00:1::1"));
    }
}

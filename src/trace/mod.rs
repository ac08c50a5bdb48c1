//! `trace`: what becomes of a real packet on this node, and of its answer.

mod journey;
mod own_connection;

use netlink_ipvs::messages;

pub(crate) use journey::{
    Journey, PacketHop, PacketMet, PacketRole, TraceOutcome, Translator, hook_name, suspects,
};
pub(crate) use own_connection::OwnConnection;

use crate::kernel::nft::list::ListedChain;
use crate::kernel::nft::trace::{ChainIndex, EVENT, TraceEvent};

/// Follows a packet by the messages of a datagram, chains and events, and returns the number of its
/// hops. Public for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn replay(datagram: &[u8]) -> usize {
    let chains = messages(datagram).filter_map(|(_, payload)| ListedChain::decode(payload));
    let mut journey = Journey::new(ChainIndex::new(chains.collect()));
    let events = messages(datagram).filter(|(header, _)| header.kind == EVENT);
    events.filter_map(|(_, payload)| TraceEvent::decode(payload)).for_each(|it| journey.add(&it));
    let _ = (journey.outcome(), journey.is_over());
    [&journey.request, &journey.answer].into_iter().flatten().map(|it| it.hops.len()).sum()
}

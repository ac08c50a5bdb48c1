//! Connections of draining real servers and departing front ends, and stale UDP flows.

use std::mem;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::{Engine, Phase};
use crate::model::{DesiredService, Protocol, VirtualAddress};
use crate::plan::{Carrier, CountTargets, Running};

impl Engine {
    /// Takes the connections that [`Work::Count`](super::Work::Count) requested. If they cannot be
    /// read, the count is repeated later.
    pub(super) fn handle_connections(&mut self, running: Vec<Running>, now: Instant) {
        self.reconciler.counts().done(now);
        let frontends: FxHashSet<_> = running.iter().map(|it| it.frontend).collect();
        let servers = |it: Running| (it, self.desired.pools_of(&it));
        let running: Vec<_> = running.into_iter().map(servers).collect();
        self.reconciler.count(&running, now);
        if self.phase == Phase::Synced && mem::take(&mut self.may_hold_flows) {
            self.move_flows(&running);
        }
        let Self { departures, reconciler, .. } = self;
        let is_running = |frontend: &VirtualAddress| {
            reconciler.addresses(*frontend).iter().any(|address| frontends.contains(address))
        };
        let (gone, ended) = departures.count(is_running, now);
        for frontend in ended {
            reconciler.end_connections(frontend, None);
        }
        for program in gone {
            reconciler.replace(&program, &DesiredService::default());
        }
        if let Some(deadline) = departures.next_deadline(now) {
            reconciler.counts().schedule(deadline);
        }
    }

    /// Returns the targets of a count that is due. Once after the start this includes every UDP
    /// front end: an agent that stopped between the removal of an endpoint and that of its flows
    /// has left these flows behind.
    pub(super) fn poll_count(&mut self, now: Instant) -> Option<CountTargets> {
        if !self.reconciler.counts().take_due(now) {
            return None;
        }
        let addresses = |frontend: &VirtualAddress| self.reconciler.addresses(*frontend);
        let mut frontends: FxHashSet<_> = self.departures.frontends().flat_map(addresses).collect();
        if self.phase == Phase::Synced && self.may_hold_flows {
            let all = self.desired.services().flat_map(|(_, program)| &*program.frontends);
            let datagrams = all.filter(|it| it.address.protocol == Protocol::Udp);
            frontends.extend(datagrams.flat_map(|frontend| addresses(&frontend.address)));
            self.may_hold_flows = !frontends.is_empty();
        }
        let targets = CountTargets { backends: self.reconciler.draining_sockets(), frontends };
        let CountTargets { backends, frontends } = &targets;
        if !backends.is_empty() || !frontends.is_empty() || !self.departures.is_empty() {
            return Some(targets);
        }
        if !self.may_hold_flows {
            self.reconciler.counts().stop();
        }
        None
    }

    /// Removes the flows that connection tracking carries to endpoints their front end no longer
    /// uses.
    fn move_flows(&mut self, running: &[(Running, Vec<VirtualAddress>)]) {
        let is_stale = |(it, servers): &&(Running, Vec<VirtualAddress>)| {
            it.frontend.protocol == Protocol::Udp
                && it.carrier == Carrier::Tracking
                && !servers.is_empty()
        };
        for (flow, _) in running.iter().filter(is_stale) {
            self.reconciler.end_connections(flow.frontend, Some(flow.backend));
        }
    }
}

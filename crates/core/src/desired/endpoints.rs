//! Which endpoints serve: readiness, fall-back to terminating ones, topology hints.

use crate::model::{Selection, Tally};

/// Which endpoints of a Service port serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Under policy Cluster.
    pub cluster: Option<Selection>,
    /// Under policy Local.
    pub local: Option<Selection>,
}

impl Choice {
    /// Whether any endpoint anywhere could serve: what a policy leaves out is dropped, not
    /// rejected.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.cluster.is_some()
    }
}

/// Chooses as kube-proxy's `CategorizeEndpoints` does (`pkg/proxy/topology.go`).
#[must_use]
pub fn choose(tally: &Tally) -> Choice {
    let cluster = if tally.ready > 0 {
        // Hints count only if every ready endpoint has them and one of them means us.
        if tally.node_hinted == tally.ready && tally.for_node > 0 {
            Some(Selection::ReadyForNode)
        } else if tally.zone_hinted == tally.ready && tally.for_zone > 0 {
            Some(Selection::ReadyForZone)
        } else {
            Some(Selection::Ready)
        }
    } else {
        (tally.draining > 0).then_some(Selection::Draining)
    };
    let local = if tally.ready_here > 0 {
        Some(Selection::ReadyHere)
    } else {
        (tally.draining_here > 0).then_some(Selection::DrainingHere)
    };
    Choice { cluster, local }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Tally = Tally {
        ready: 0,
        ready_here: 0,
        node_hinted: 0,
        for_node: 0,
        zone_hinted: 0,
        for_zone: 0,
        draining: 0,
        draining_here: 0,
    };

    #[test]
    fn endpoints_are_chosen_as_kubernetes_means_it() {
        use Selection::*;
        let cases = [
            ("nothing", NONE, None, None),
            ("ready elsewhere", Tally { ready: 2, ..NONE }, Some(Ready), None),
            ("ready here", Tally { ready: 2, ready_here: 1, ..NONE }, Some(Ready), Some(ReadyHere)),
            (
                "only terminating",
                Tally { draining: 1, draining_here: 1, ..NONE },
                Some(Draining),
                Some(DrainingHere),
            ),
            (
                "terminating here, ready elsewhere",
                Tally { ready: 1, draining: 1, draining_here: 1, ..NONE },
                Some(Ready),
                Some(DrainingHere),
            ),
            (
                "all hinted, one for this zone",
                Tally { ready: 3, zone_hinted: 3, for_zone: 1, ..NONE },
                Some(ReadyForZone),
                None,
            ),
            (
                "one without a hint",
                Tally { ready: 3, zone_hinted: 2, for_zone: 1, ..NONE },
                Some(Ready),
                None,
            ),
            (
                "all hinted, none for this zone",
                Tally { ready: 3, zone_hinted: 3, ..NONE },
                Some(Ready),
                None,
            ),
            (
                "node before zone",
                Tally {
                    ready: 2,
                    node_hinted: 2,
                    for_node: 1,
                    zone_hinted: 2,
                    for_zone: 2,
                    ..NONE
                },
                Some(ReadyForNode),
                None,
            ),
        ];
        for (name, tally, cluster, local) in cases {
            assert_eq!(choose(&tally), Choice { cluster, local }, "{name}");
        }
    }
}

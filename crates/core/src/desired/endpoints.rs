//! Selection of endpoints: readiness, fall-back to terminating ones, topology hints.

use crate::model::{EndpointCounts, EndpointFilter};

/// The filters for the endpoints of a Service port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndpointChoice {
    /// For policy Cluster.
    pub cluster: Option<EndpointFilter>,
    /// For policy Local.
    pub local: Option<EndpointFilter>,
}

impl EndpointChoice {
    /// Returns whether the cluster has any endpoint that could serve. Traffic is then dropped if
    /// the policy excludes all of them, and not rejected.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.cluster.is_some()
    }
}

/// Selects endpoints as kube-proxy's `CategorizeEndpoints` does (`pkg/proxy/topology.go`).
#[must_use]
pub fn choose(counts: &EndpointCounts) -> EndpointChoice {
    let cluster = if counts.ready > 0 {
        // Hints count only if every ready endpoint has them and at least one is for this node or
        // zone.
        if counts.node_hinted == counts.ready && counts.for_node > 0 {
            Some(EndpointFilter::ReadyForNode)
        } else if counts.zone_hinted == counts.ready && counts.for_zone > 0 {
            Some(EndpointFilter::ReadyForZone)
        } else {
            Some(EndpointFilter::Ready)
        }
    } else {
        (counts.draining > 0).then_some(EndpointFilter::Draining)
    };
    let local = if counts.ready_here > 0 {
        Some(EndpointFilter::ReadyHere)
    } else {
        (counts.draining_here > 0).then_some(EndpointFilter::DrainingHere)
    };
    EndpointChoice { cluster, local }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: EndpointCounts = EndpointCounts {
        ready: 0,
        weighted: 0,
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
        use EndpointFilter::*;
        let cases = [
            ("nothing", NONE, None, None),
            ("ready elsewhere", EndpointCounts { ready: 2, ..NONE }, Some(Ready), None),
            (
                "ready here",
                EndpointCounts { ready: 2, ready_here: 1, ..NONE },
                Some(Ready),
                Some(ReadyHere),
            ),
            (
                "only terminating",
                EndpointCounts { draining: 1, draining_here: 1, ..NONE },
                Some(Draining),
                Some(DrainingHere),
            ),
            (
                "terminating here, ready elsewhere",
                EndpointCounts { ready: 1, draining: 1, draining_here: 1, ..NONE },
                Some(Ready),
                Some(DrainingHere),
            ),
            (
                "all hinted, one for this zone",
                EndpointCounts { ready: 3, zone_hinted: 3, for_zone: 1, ..NONE },
                Some(ReadyForZone),
                None,
            ),
            (
                "one without a hint",
                EndpointCounts { ready: 3, zone_hinted: 2, for_zone: 1, ..NONE },
                Some(Ready),
                None,
            ),
            (
                "all hinted, none for this zone",
                EndpointCounts { ready: 3, zone_hinted: 3, ..NONE },
                Some(Ready),
                None,
            ),
            (
                "node before zone",
                EndpointCounts {
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
        for (name, counts, cluster, local) in cases {
            assert_eq!(choose(&counts), EndpointChoice { cluster, local }, "{name}");
        }
    }
}

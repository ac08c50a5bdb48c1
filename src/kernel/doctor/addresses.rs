//! Which addresses take node ports, and what lies in the ranges that ClusterIPs come from.

use super::{Finding, Subject};

/// The addresses that take node ports.
pub(super) fn node_ports(subject: &Subject) -> Finding {
    match subject.node_port_ips.as_slice() {
        [] => Finding::ok("at the addresses that the Node object tells"),
        ips => {
            let ips: Vec<_> = ips.iter().map(ToString::to_string).collect();
            Finding::ok(format!("at {}", ips.join(", ")))
        }
    }
}

/// A range that others use is not guarded, and a ClusterIP of it may be in use.
pub(super) fn ranges(subject: &Subject) -> Finding {
    match subject.overlaps.as_slice() {
        [] => Finding::ok("nothing else is known to lie in them"),
        overlaps => Finding::warn(
            overlaps.join("; "),
            [
                "a ClusterIP that the API server allocates there may be in use elsewhere, and addresses that \
                 no Service has are not dropped: give the cluster a range of its own"
                    .to_owned(),
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn overlaps_are_named() {
        assert_eq!(ranges(&Subject::default()).verdict, Verdict::Ok);
        let overlaps = vec!["service range 10.96.0.0/12: 10.100.1.0/24 is pods".to_owned()];
        let found = ranges(&Subject { overlaps, ..Subject::default() });
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.found.contains("10.100.1.0/24"), "{}", found.found);
    }
}

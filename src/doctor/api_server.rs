//! Checks whether the API server can be reached before any Service works.

use super::{Finding, Subject};

/// An API server that is reached through a Service cannot be reached at the start: this program
/// makes Services work.
pub(super) fn reachable(subject: &Subject) -> Finding {
    if subject.api_servers.is_empty() {
        return Finding::ok("not checked: its address is not known here");
    }
    for address in &subject.api_servers {
        if let Some(range) = subject.service_ranges.iter().find(|range| range.contains(address)) {
            return Finding::fail(
                format!("its address {address} lies in the service range {range}"),
                [
                    "services work only once this program has read them from the API server:"
                        .to_owned(),
                    "set --master, or `server` in the kubeconfig, to its own address or load balancer"
                        .to_owned(),
                ],
            );
        }
    }
    let addresses: Vec<String> = subject.api_servers.iter().map(ToString::to_string).collect();
    let found = addresses.join(", ");
    if subject.service_ranges.is_empty() {
        return Finding::ok(format!("{found} (no service range known)"));
    }
    Finding::ok(format!("{found} is in no service range"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::CheckVerdict;
    use super::*;

    fn judged(server: &str, ranges: &[&str]) -> Finding {
        reachable(&Subject {
            api_servers: vec![server.parse().unwrap()],
            service_ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            ..Subject::default()
        })
    }

    #[test]
    fn an_address_in_a_range_fails() {
        assert_eq!(
            judged("10.96.0.1", &["10.96.0.0/12", "fd00::/112"]).verdict,
            CheckVerdict::Fail
        );
        assert_eq!(judged("fd00::1", &["10.96.0.0/12", "fd00::/112"]).verdict, CheckVerdict::Fail);
        assert_eq!(judged("192.0.2.1", &["10.96.0.0/12"]).verdict, CheckVerdict::Ok);
        assert_eq!(judged("192.0.2.1", &[]).verdict, CheckVerdict::Ok);
        assert_eq!(reachable(&Subject::default()).verdict, CheckVerdict::Ok);
    }
}

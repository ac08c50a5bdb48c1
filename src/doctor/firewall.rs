//! Other programs' firewalls that would drop service traffic.

use super::{Finding, Subject};
use crate::kernel::firewall::{Obstacle, obstacles};

/// Looks for base chains of others that drop what services need.
pub(super) fn policies(subject: &Subject) -> Finding {
    match obstacles(&subject.service_ranges, &subject.carry) {
        Ok(obstacles) => judge(&obstacles),
        Err(error) => Finding::unknown(error),
    }
}

fn judge(obstacles: &[Obstacle]) -> Finding {
    if obstacles.is_empty() {
        return Finding::ok("no chain of others drops what services need");
    }
    let found = obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let mut mend = Vec::new();
    // Without any other rule it is certain; with some, only their author knows.
    let is_certain = obstacles.iter().any(|obstacle| obstacle.is_certain);
    if !is_certain {
        mend.push("unless a chain that it leads to lets them in:".to_owned());
    }
    mend.extend(obstacles.iter().flat_map(Obstacle::mend));
    if is_certain { Finding::fail(found, mend) } else { Finding::warn(found, mend) }
}

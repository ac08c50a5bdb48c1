//! Checks for firewalls of other programs that drop traffic of Services.

use super::{Finding, Subject};
use crate::kernel::firewall::{Obstacle, report};

pub(super) fn policies(subject: &Subject) -> Finding {
    match report(&subject.service_ranges, &subject.carry) {
        Ok(None) => Finding::ok("no chain of others drops what services need"),
        Ok(Some(Obstacle { found, mend, is_certain: true })) => Finding::fail(found, mend),
        // Only the author of the other rules knows.
        Ok(Some(Obstacle { found, mut mend, is_certain: false })) => {
            mend.insert(0, "unless a chain that it leads to lets them in:".to_owned());
            Finding::warn(found, mend)
        }
        Err(error) => Finding::unknown(error),
    }
}

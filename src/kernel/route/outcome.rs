//! The meaning of the kernel's errors for an operation.

use kube_ipvs_core::model::{DEVICE, Route};
use kube_ipvs_core::plan::{Failure, FailureKind, Outcome, RouteOperation};
use netlink_ipvs::NetlinkError;
use rustix::io::Errno;

/// Returns the outcome of an operation on a route that the kernel answered with an error.
pub(super) fn outcome(operation: &RouteOperation, error: &NetlinkError) -> Outcome {
    use FailureKind::{Drift, Refused};
    use RouteOperation::{Add, Delete};
    let (kind, meaning) = match (operation, error.errno) {
        // Gone already, perhaps with its table or family.
        (
            Delete(_),
            Errno::SRCH | Errno::NODEV | Errno::NXIO | Errno::AFNOSUPPORT | Errno::OPNOTSUPP,
        ) => return Ok(()),
        (_, Errno::NODEV | Errno::NXIO | Errno::NETDOWN) => (Drift, "the loopback device is down"),
        (_, Errno::SRCH | Errno::NOENT | Errno::EXIST) => {
            (Drift, "the kernel holds something else")
        }
        (Add(Route { source: Some(source), .. }), Errno::INVAL) => {
            let message = format!(
                "{operation}: the node has no address {source}, or it is not usable yet: {error}"
            );
            return Err(Failure { kind: Refused, message });
        }
        (_, Errno::PERM | Errno::ACCESS) => {
            (Refused, "CAP_NET_ADMIN is missing, or IPv6 is disabled")
        }
        (_, Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => {
            (Refused, "the kernel is without that family")
        }
        (_, Errno::NOMEM | Errno::NOBUFS) => (Refused, "the kernel is out of memory"),
        _ => (Refused, "the kernel refuses it"),
    };
    Err(Failure { kind, message: format!("{operation}: {meaning}: {error}") })
}

/// Returns the failure of an operation if another device has the name of ours.
pub(super) fn foreign_device(operation: &RouteOperation) -> Failure {
    let meaning = format!(
        "a device {DEVICE} is there that is not a dummy: rename it, or `ip link delete {DEVICE}`"
    );
    Failure { kind: FailureKind::Refused, message: format!("{operation}: {meaning}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn route(source: Option<&str>) -> Route {
        let source = source.map(|ip| ip.parse().unwrap());
        Route { prefix: "10.96.0.0/12".parse().unwrap(), source }
    }

    fn of(operation: RouteOperation, errno: Errno) -> Option<FailureKind> {
        outcome(&operation, &NetlinkError { errno, text: None }).err().map(|f| f.kind)
    }

    #[test]
    fn deleting_an_absent_object_succeeds() {
        let delete = RouteOperation::Delete(route(None));
        assert_eq!(of(delete, Errno::SRCH), None);
        assert_eq!(of(delete, Errno::PERM), Some(FailureKind::Refused));
    }

    #[test]
    fn an_invalid_source_address_is_named() {
        let add = RouteOperation::Add(route(Some("192.0.2.9")));
        let error = NetlinkError { errno: Errno::INVAL, text: None };
        let failure = outcome(&add, &error).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
        assert!(failure.message.contains("no address 192.0.2.9"), "{failure}");
        assert_eq!(of(add, Errno::NODEV), Some(FailureKind::Drift));
    }
}

//! The meaning of the kernel's errors for an operation.

use kube_ipvs_core::model::DEVICE;
use kube_ipvs_core::plan::{Failure, FailureKind, Outcome, RouteOperation};
use netlink_ipvs::{KernelError, NetlinkError};
use rustix::io::Errno;

/// Returns the outcome of an operation on a route that the kernel answered with an error.
pub(super) fn outcome(operation: &RouteOperation, error: &NetlinkError) -> Outcome {
    let (kind, meaning) = match (operation, error.errno) {
        // Gone already, perhaps with its table or family.
        (
            RouteOperation::Delete(_),
            Errno::SRCH | Errno::NODEV | Errno::NXIO | Errno::AFNOSUPPORT | Errno::OPNOTSUPP,
        ) => return Ok(()),
        (_, Errno::NODEV | Errno::NXIO | Errno::NETDOWN) => {
            (FailureKind::Drift, "the loopback device is down".to_owned())
        }
        (_, Errno::SRCH | Errno::NOENT | Errno::EXIST) => {
            (FailureKind::Drift, "the kernel holds something else".to_owned())
        }
        (RouteOperation::Add(route), Errno::INVAL) if route.source.is_some() => {
            let source = route.source.map(|source| source.to_string()).unwrap_or_default();
            let meaning = format!("the node has no address {source}, or it is not usable yet");
            (FailureKind::Refused, meaning)
        }
        (_, Errno::PERM | Errno::ACCESS) => {
            (FailureKind::Refused, "CAP_NET_ADMIN is missing, or IPv6 is disabled".to_owned())
        }
        (_, Errno::AFNOSUPPORT | Errno::OPNOTSUPP) => {
            (FailureKind::Refused, "the kernel is without that family".to_owned())
        }
        (_, Errno::NOMEM | Errno::NOBUFS) => {
            (FailureKind::Refused, "the kernel is out of memory".to_owned())
        }
        _ => (FailureKind::Refused, "the kernel refuses it".to_owned()),
    };
    Err(Failure { kind, message: format!("{operation}: {meaning}: {error}") })
}

pub(super) fn failure(operation: &RouteOperation, error: &KernelError) -> Failure {
    let kind = if error.is_refusal() { FailureKind::Refused } else { FailureKind::Unknown };
    Failure { kind, message: format!("{operation}: {error}") }
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
    use kube_ipvs_core::model::Route;

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

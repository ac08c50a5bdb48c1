//! What the kernel's answers mean for operations.

use kube_ipvs_core::plan::{Failure, FailureKind, Outcome, ServerOperation};
use netlink_ipvs::{KernelError, NetlinkError};
use rustix::io::Errno;

use crate::kernel;

/// The outcome of an operation with the kernel's answer, if there was one.
pub(super) fn outcome(
    (operation, answer): (&ServerOperation, Option<Result<(), NetlinkError>>),
) -> Outcome {
    match answer {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => refused(operation, &error),
        None => Err(of_all(operation, &KernelError::Lost("IPVS"))),
    }
}

/// The failure of each of several operations.
pub(super) fn of_all(operation: &ServerOperation, error: &KernelError) -> Failure {
    kernel::failure(format_args!("ipvsadm {operation}"), error)
}

/// The outcome of an operation that the kernel answered with an error
/// (`net/netfilter/ipvs/ip_vs_ctl.c`).
fn refused(operation: &ServerOperation, error: &NetlinkError) -> Outcome {
    use FailureKind::{Drift, Refused};
    use ServerOperation::{Add, AddReal, Delete, DeleteReal, Set, SetReal};
    let (kind, meaning) = match (operation, error.errno) {
        // Gone already.
        (Delete(_), Errno::SRCH) | (DeleteReal(..), Errno::SRCH | Errno::NOENT) => return Ok(()),
        (Add(_), Errno::EXIST) => {
            let meaning = "it exists already (if this repeats: another program's, with real \
                           servers that are not masqueraded)";
            (Drift, meaning)
        }
        (AddReal(..), Errno::EXIST) => (Drift, "it exists already"),
        (Set(_) | AddReal(..) | SetReal(..), Errno::SRCH) => {
            (Drift, "there is no such virtual server")
        }
        (SetReal(..), Errno::NOENT) => (Drift, "there is no such real server"),
        (Add(server) | Set(server), Errno::NOENT) => {
            let message = format!(
                "ipvsadm {operation}: the kernel has no scheduler {0}; on the node run \
                 `modprobe ip_vs_{0}`: {error}",
                server.scheduler
            );
            return Err(Failure { kind: FailureKind::NoScheduler, message });
        }
        (AddReal(..) | SetReal(..), Errno::INVAL) => {
            let meaning = "IPVS does not forward to such an address (broadcast, multicast or \
                           link-local; to none of IPv4 before `ip link set lo up`)";
            (Refused, meaning)
        }
        (_, Errno::AFNOSUPPORT) => (Refused, "the kernel's IPVS is without IPv6"),
        (_, Errno::PERM) => (Refused, "CAP_NET_ADMIN is missing; grant it and start again"),
        (_, Errno::NOMEM | Errno::NOBUFS) => (Refused, "the kernel is out of memory"),
        _ => (Refused, "the kernel refuses it"),
    };
    Err(Failure { kind, message: format!("ipvsadm {operation}: {meaning}: {error}") })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube_ipvs_core::model::{Backend, Scheduler, VirtualServer};

    use super::*;

    fn operations() -> [ServerOperation; 6] {
        let address = "10.96.0.10:53/udp".parse().unwrap();
        let scheduler = Scheduler::Mh;
        let server = VirtualServer::new(address, scheduler);
        let ip = "10.244.1.7".parse().unwrap();
        let backend = Backend { address: ip, port: 5353, weight: 1, local: false };
        [
            ServerOperation::Add(server),
            ServerOperation::Set(server),
            ServerOperation::Delete(address),
            ServerOperation::AddReal(address, backend, 0),
            ServerOperation::SetReal(address, backend, 0),
            ServerOperation::DeleteReal(address, backend),
        ]
    }

    #[test]
    fn errors_mean_drift_refusal_or_nothing() {
        use FailureKind::{Drift, NoScheduler, Refused};
        let expected = [
            (Errno::EXIST, [Some(Drift), None, None, Some(Drift), None, None]),
            (Errno::SRCH, [None, Some(Drift), None, Some(Drift), Some(Drift), None]),
            (Errno::NOENT, [Some(NoScheduler), Some(NoScheduler), None, None, Some(Drift), None]),
        ];
        for (errno, kinds) in expected {
            let error = NetlinkError { errno, text: None };
            for (operation, kind) in operations().iter().zip(kinds) {
                let answer = outcome((operation, Some(Err(error.clone()))));
                // The kernel never answers these operations so; any failure fits.
                if let Some(kind) = kind {
                    assert_eq!(answer.map_err(|failure| failure.kind), Err(kind), "{operation}");
                } else if let Err(failure) = answer {
                    assert_eq!(failure.kind, Refused, "{operation}");
                }
            }
        }
        for (operation, errno) in [(2, Errno::SRCH), (5, Errno::SRCH), (5, Errno::NOENT)] {
            let error = NetlinkError { errno, text: None };
            assert_eq!(outcome((&operations()[operation], Some(Err(error)))), Ok(()));
        }
    }

    #[test]
    fn no_answer_means_unknown() {
        for operation in operations() {
            let failure = outcome((&operation, None)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Unknown);
        }
    }

    #[test]
    fn messages_name_operation_remedy_and_error() {
        let error = NetlinkError { errno: Errno::NOENT, text: None };
        let failure = outcome((&operations()[0], Some(Err(error)))).unwrap_err();
        assert_eq!(
            failure.message,
            "ipvsadm -A -u 10.96.0.10:53 -s mh -b mh-port: the kernel has no scheduler mh; on the \
             node run `modprobe ip_vs_mh`: ENOENT (No such file or directory)"
        );
    }
}

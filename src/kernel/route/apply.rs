//! Executes operations, those on routes in batches.

use kube_ipvs_core::model::{DEVICE, Route};
use kube_ipvs_core::plan::{Failure, FailureKind, Outcome, RouteOperation};
use netlink_ipvs::{KernelError, NetlinkError};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;

use super::{Routes, message, push};
use crate::kernel::failure;

/// The bytes per send: about 900 routes. Even if each of them fails, the answers fit the receive
/// buffer.
const CHUNK: usize = 64 << 10;

impl Routes {
    /// Executes operations in order, consecutive operations on routes in one send. A failure does not
    /// stop the others. An operation whose effect exists already succeeds.
    pub fn apply(&mut self, operations: &[RouteOperation]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(operations.len());
        for group in operations.chunk_by(|a, b| is_on_route(a) && is_on_route(b)) {
            match group {
                [operation @ RouteOperation::CreateDevice] => {
                    outcomes.push(match self.create_device() {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(foreign_device(operation)),
                        Err(error) => Err(failure(operation, &error)),
                    });
                }
                [operation @ RouteOperation::DeleteDevice] => {
                    outcomes.push(self.delete_device().map_err(|error| failure(operation, &error)));
                }
                routes => self.apply_routes(routes, &mut outcomes),
            }
        }
        outcomes
    }

    fn apply_routes(&mut self, operations: &[RouteOperation], outcomes: &mut Vec<Outcome>) {
        let mut rest = operations.iter().peekable();
        while rest.peek().is_some() {
            self.batch.clear();
            let mut chunk = Vec::new();
            while self.batch.size() < CHUNK
                && let Some(operation) = rest.next()
            {
                let Some(request) = route_request(operation) else { continue };
                push(&mut self.batch, &request);
                chunk.push(operation);
            }
            self.apply_chunk(&chunk, outcomes);
        }
    }

    /// Sends the batch: one request for each operation.
    fn apply_chunk(&mut self, chunk: &[&RouteOperation], outcomes: &mut Vec<Outcome>) {
        let last = self.batch.len().saturating_sub(1);
        let mut answers = match self.socket.transact(&mut self.batch, last) {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                outcomes.extend(chunk.iter().map(|operation| Err(failure(operation, &error))));
                return;
            }
        };
        outcomes.extend(chunk.iter().map(|operation| match answers.next().flatten() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => outcome(operation, &error),
            None => Err(failure(operation, &KernelError::Lost("routes"))),
        }));
    }

    /// Returns false if another device has that name.
    fn create_device(&mut self) -> Result<bool, KernelError> {
        match self.send("creating the device", &message::create_device()) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => {
                return Err(KernelError::NoModule { subsystem: "dummy devices", module: "dummy" });
            }
            created => created?,
        }
        Ok(self.device(DEVICE)?.is_some())
    }

    /// Another device of that name stays.
    fn delete_device(&mut self) -> Result<(), KernelError> {
        let Some(device) = self.device(DEVICE)? else { return Ok(()) };
        match self.send("deleting the device", &message::delete_device(device.index)) {
            Err(error) if error.errno() == Some(Errno::NODEV) => Ok(()),
            deleted => deleted,
        }
    }

    pub(super) fn send(
        &mut self,
        name: &'static str,
        request: &RouteNetlinkMessage,
    ) -> Result<(), KernelError> {
        self.batch.clear();
        push(&mut self.batch, request);
        match self.socket.transact(&mut self.batch, 0)?.pop().flatten() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(KernelError::refused(name, error)),
            None => Err(KernelError::Lost(name)),
        }
    }
}

fn is_on_route(operation: &RouteOperation) -> bool {
    matches!(operation, RouteOperation::Add(_) | RouteOperation::Delete(_))
}

fn route_request(operation: &RouteOperation) -> Option<RouteNetlinkMessage> {
    match operation {
        RouteOperation::Add(route) => Some(message::add_route(route)),
        RouteOperation::Delete(route) => Some(message::delete_route(route)),
        RouteOperation::CreateDevice | RouteOperation::DeleteDevice => None,
    }
}

/// Returns the outcome of an operation on a route that the kernel answered with an error.
fn outcome(operation: &RouteOperation, error: &NetlinkError) -> Outcome {
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
fn foreign_device(operation: &RouteOperation) -> Failure {
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

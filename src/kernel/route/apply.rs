//! Operations to the kernel; routes in batches.

use rustix::io::Errno;

use super::message::{self, Request};
use super::outcome::{Problem, outcome, unknown};
use super::{LASTING, Routes, is_ours, spoken_from};
use crate::kernel::netlink::KernelError;
use crate::model::{Family, NAME};
use crate::plan::{Failure, FailureKind, Outcome, RouteOperation};

/// Bytes per send: about 900 routes. Even if each of them fails, the answers fit the receive
/// buffer.
const CHUNK: usize = 64 << 10;

const NONE: &[Errno] = &[];
/// What is to be removed is not there.
const GONE: &[Errno] = &[Errno::SRCH, Errno::ADDRNOTAVAIL, Errno::NODEV];

impl Routes {
    /// Carries out operations in their order, consecutive ones on routes in one send. One that
    /// fails does not stop the others; one that finds its work done succeeds.
    pub fn apply(&mut self, operations: &[RouteOperation]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(operations.len());
        for group in operations.chunk_by(|a, b| is_on_route(a) && is_on_route(b)) {
            match group {
                [operation] if !is_on_route(operation) => outcomes.push(self.apply_one(operation)),
                routes => self.apply_routes(routes, &mut outcomes),
            }
        }
        outcomes
    }

    fn apply_one(&mut self, operation: &RouteOperation) -> Outcome {
        let done = match operation {
            RouteOperation::CreateDevice => self.create_device(),
            RouteOperation::DeleteDevice => self.delete_device(),
            RouteOperation::DeleteRule(family) => self.delete_rule(*family),
            RouteOperation::Add(_) | RouteOperation::Delete(_) => {
                return self.apply(std::slice::from_ref(operation)).pop().unwrap_or(Ok(()));
            }
        };
        done.map_err(|problem: Problem| problem.failure(operation))
    }

    fn apply_routes(&mut self, operations: &[RouteOperation], outcomes: &mut Vec<Outcome>) {
        let device = match self.device() {
            Ok(device) => device.filter(is_ours),
            Err(error) => {
                outcomes.extend(operations.iter().map(|o| Err(unknown(o, &error))));
                return;
            }
        };
        let Some(device) = device else {
            outcomes.extend(operations.iter().map(without_device));
            return;
        };
        let mut rest = operations.iter().peekable();
        while rest.peek().is_some() {
            self.batch.clear();
            let mut chunk = Vec::new();
            while self.batch.size() < CHUNK
                && let Some(operation) = rest.next()
            {
                let requests = route_requests(operation, device.index);
                for (request, _) in &requests {
                    let body = request.body();
                    self.batch.push(request.kind(), request.flags, |message| message.raw(&body));
                }
                let harmless = requests.into_iter().map(|(_, harmless)| harmless);
                chunk.push((operation, harmless.collect()));
            }
            self.apply_chunk(chunk, outcomes);
        }
    }

    /// Sends the batch: for each operation some requests, each with the errors that mean that
    /// there was nothing to do.
    fn apply_chunk(
        &mut self,
        chunk: Vec<(&RouteOperation, Vec<&[Errno]>)>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let last = self.batch.len().saturating_sub(1);
        let mut answers = match self.socket.transact(&mut self.batch, last) {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                outcomes.extend(chunk.iter().map(|(o, _)| Err(unknown(o, &error))));
                return;
            }
        };
        for (operation, requests) in chunk {
            let mut result = Ok(());
            for harmless in requests {
                let one = match answers.next().flatten() {
                    Some(Ok(())) => Ok(()),
                    Some(Err(error)) if harmless.contains(&error.errno) => Ok(()),
                    Some(Err(error)) => outcome(operation, &error),
                    None => Err(unknown(operation, &KernelError::Lost("routes"))),
                };
                result = result.and(one);
            }
            outcomes.push(result);
        }
    }

    fn create_device(&mut self) -> Result<(), Problem> {
        match self.send("creating the device", &message::create_device()) {
            Err(KernelError::Refused { error, .. }) if error.errno == Errno::EXIST => {}
            Err(KernelError::Refused { error, .. }) if error.errno == Errno::OPNOTSUPP => {
                let missing = KernelError::NoModule { subsystem: "dummy devices", module: "dummy" };
                return Err(missing.into());
            }
            created => created?,
        }
        let Some(device) = self.device()? else {
            return Err(KernelError::Lost("creating the device").into());
        };
        if !is_ours(&device) {
            return Err(Problem::ForeignDevice);
        }
        // A kernel without IPv6 refuses this, and needs it not.
        match self.send("address generation", &message::generate_no_addresses(device.index)) {
            Ok(()) | Err(KernelError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.send("taking the device up", &message::take_up(device.index))?;
        self.send("the device's address", &message::add_address(LASTING, device.index))?;
        // A device that was down and is up again has its addresses' own routes back.
        for address in self.addresses(device.index)? {
            let route = message::delete_kernels_route(address, device.index);
            unless(self.send("the address's own route", &route), GONE)?;
        }
        Ok(())
    }

    fn delete_device(&mut self) -> Result<(), Problem> {
        let Some(device) = self.device()? else { return Ok(()) };
        if !is_ours(&device) {
            return Err(Problem::ForeignDevice);
        }
        let deleted = self.send("deleting the device", &message::delete_device(device.index));
        unless(deleted, &[Errno::NODEV])
    }

    fn delete_rule(&mut self, family: Family) -> Result<(), Problem> {
        let deleted = self.send("deleting the rule", &message::delete_rule(family));
        unless(deleted, &[Errno::NOENT, Errno::AFNOSUPPORT, Errno::OPNOTSUPP])
    }

    fn send(&mut self, name: &'static str, request: &Request) -> Result<(), KernelError> {
        self.batch.clear();
        let body = request.body();
        self.batch.push(request.kind(), request.flags, |message| message.raw(&body));
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

/// What an operation on a route takes, each request with its harmless errors: the route, and for
/// an address that needs one the entry that lets the node speak from it (see [`spoken_from`]).
fn route_requests(operation: &RouteOperation, device: u32) -> Vec<(Request, &'static [Errno])> {
    match operation {
        RouteOperation::Add(route) => {
            let mut requests = Vec::with_capacity(3);
            if let Some(ip) = spoken_from(route) {
                requests.push((message::add_address(ip, device), NONE));
                requests.push((message::delete_kernels_route(ip, device), GONE));
            }
            requests.push((message::add_route(route, device), NONE));
            requests
        }
        RouteOperation::Delete(route) => {
            let mut requests = vec![(message::delete_route(route, device), NONE)];
            if let Some(ip) = spoken_from(route) {
                requests.push((message::delete_address(ip, device), GONE));
            }
            requests
        }
        RouteOperation::CreateDevice
        | RouteOperation::DeleteDevice
        | RouteOperation::DeleteRule(_) => Vec::new(),
    }
}

/// Our routes are gone with our device.
fn without_device(operation: &RouteOperation) -> Outcome {
    if matches!(operation, RouteOperation::Delete(_)) {
        return Ok(());
    }
    let message = format!("{operation}: the device {NAME} is gone; it will be created again");
    Err(Failure { kind: FailureKind::Drift, message })
}

/// Takes some refusals for success.
fn unless(done: Result<(), KernelError>, harmless: &[Errno]) -> Result<(), Problem> {
    match done {
        Err(KernelError::Refused { error, .. }) if harmless.contains(&error.errno) => Ok(()),
        done => Ok(done?),
    }
}

//! Operations to the kernel, in batches.

use super::{Ipvs, encode, failure};
use crate::kernel::netlink::{Answers, KernelError};
use kube_ipvs_core::plan::{Outcome, ServerOperation};

/// Bytes per send. Between 16 and 256 KiB the cost per operation is flat; even if every
/// operation fails, the answers fit the receive buffer.
const CHUNK: usize = 64 << 10;

impl Ipvs {
    /// Carries out operations in their order, and returns the outcome of each. One that fails does
    /// not stop the others. To remove what is gone already is no failure.
    pub fn apply(&mut self, operations: impl IntoIterator<Item = ServerOperation>) -> Vec<Outcome> {
        let mut operations = operations.into_iter().peekable();
        let mut outcomes = Vec::with_capacity(operations.size_hint().1.unwrap_or_default());
        let mut chunk = Vec::new();
        while operations.peek().is_some() {
            chunk.clear();
            self.batch.clear();
            while self.batch.size() < CHUNK
                && let Some(operation) = operations.next()
            {
                encode(&mut self.batch, self.family, &operation);
                chunk.push(operation);
            }
            match self.send_chunk(&chunk) {
                Ok(answers) => outcomes.extend(chunk.iter().zip(answers).map(failure::outcome)),
                Err(error) => {
                    outcomes.extend(chunk.iter().map(|one| Err(failure::of_all(one, &error))));
                }
            }
        }
        outcomes
    }

    /// Sends the batch, which holds `chunk`; once more if the kernel did not know its family.
    fn send_chunk(&mut self, chunk: &[ServerOperation]) -> Result<Answers, KernelError> {
        let last = chunk.len().saturating_sub(1);
        let answers = self.socket.transact(&mut self.batch, last)?;
        let mut errors = answers.iter().flatten().filter_map(|answer| answer.as_ref().err());
        if !errors.any(|error| super::family::may_be_renewed(error.errno)) {
            return Ok(answers);
        }
        match self.renew_family() {
            Ok(true) => {
                self.batch.clear();
                let again = |operation| encode(&mut self.batch, self.family, operation);
                chunk.iter().for_each(again);
                self.socket.transact(&mut self.batch, last)
            }
            Err(error @ KernelError::NoModule { .. }) => Err(error),
            // The answers stand: most may be that all is well.
            Ok(false) | Err(_) => Ok(answers),
        }
    }
}

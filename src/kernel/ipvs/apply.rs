//! Operations to the kernel, in batches.

use super::{Ipvs, encode, failure};
use crate::kernel::netlink::{Answers, KernelError};
use crate::plan::{Outcome, ServerOperation};

/// Bytes per send. Between 16 and 256 KiB the cost per operation is flat; even if every
/// operation fails, the answers fit the receive buffer.
const CHUNK: usize = 64 << 10;

impl Ipvs {
    /// Carries out operations in their order, and returns the outcome of each. One that fails does
    /// not stop the others. To remove what is gone already is no failure.
    pub fn apply(&mut self, operations: &[ServerOperation]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut rest = operations;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(self.encode_chunk(rest));
            match self.send_chunk(chunk) {
                Ok(answers) => outcomes.extend(chunk.iter().zip(answers).map(failure::outcome)),
                Err(error) => {
                    outcomes.extend(chunk.iter().map(|one| Err(failure::of_all(one, &error))));
                }
            }
            rest = later;
        }
        outcomes
    }

    /// Encodes operations into the batch until it is full; returns how many.
    fn encode_chunk(&mut self, operations: &[ServerOperation]) -> usize {
        self.batch.clear();
        for operation in operations {
            encode(&mut self.batch, self.family, operation);
            if self.batch.size() >= CHUNK {
                break;
            }
        }
        self.batch.len()
    }

    /// Sends the batch, which holds `chunk`; once more if the kernel did not know its family.
    fn send_chunk(&mut self, chunk: &[ServerOperation]) -> Result<Answers, KernelError> {
        let last = chunk.len().saturating_sub(1);
        let answers = self.socket.transact(&mut self.batch, last)?;
        let errors = answers.iter().flatten().filter_map(|answer| answer.as_ref().err());
        if !errors.map(|error| error.errno).any(super::family::may_be_renewed)
            || !self.renew_family()?
        {
            return Ok(answers);
        }
        self.encode_chunk(chunk);
        self.socket.transact(&mut self.batch, last)
    }
}

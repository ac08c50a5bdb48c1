//! Operations to the kernel, in batches.

use kube_ipvs_core::plan::{Outcome, ServerOperation};

use super::{Ipvs, convert, failure};

/// Operations per send: 64 KiB at most. Even if every operation fails, the answers fit the receive
/// buffer.
const CHUNK: usize = 512;

impl Ipvs {
    /// Carries out operations in their order, and returns the outcome of each. A failure does not
    /// stop the others. Removing what does not exist is no failure.
    pub fn apply(&mut self, operations: impl IntoIterator<Item = ServerOperation>) -> Vec<Outcome> {
        let operations: Vec<_> = operations.into_iter().collect();
        let mut outcomes = Vec::with_capacity(operations.len());
        let mut commands = Vec::with_capacity(operations.len().min(CHUNK));
        for chunk in operations.chunks(CHUNK) {
            commands.clear();
            commands.extend(chunk.iter().map(convert::command));
            match self.0.apply(&commands) {
                Ok(answers) => outcomes.extend(chunk.iter().zip(answers).map(failure::outcome)),
                Err(error) => {
                    outcomes.extend(chunk.iter().map(|one| Err(failure::of_all(one, &error))));
                }
            }
        }
        outcomes
    }
}

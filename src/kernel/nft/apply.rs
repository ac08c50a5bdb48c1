//! Operations to the kernel, in transactions.

use kube_ipvs_core::plan::{FilterOperation, Outcome};
use netlink_ipvs::{Answers, Batch, KernelError};

use super::Nft;
use super::element::entries;
use super::failure::failure;
use super::request::{SetChange, TransactionStep, write};
use super::transaction::{FailureCause, RuleAnswer, Submit, run};
use super::update::update;

/// How many steps make a transaction; more are spread over several. One is sent in one piece, at
/// less than 200 bytes for a step, and must fit the socket's send buffer.
const STEPS: usize = 100_000;

impl Nft {
    /// Carries out operations in their order in one transaction. The creation and the deletion of
    /// the tables each begin another transaction. A failure does not stop the other operations.
    ///
    /// Adding what exists and deleting what does not exist are fine. A front end that exists with
    /// another target is [`Drift`](kube_ipvs_core::plan::FailureKind::Drift); to change a target, delete
    /// the old element and add the new one in one call.
    pub fn apply(&mut self, operations: &[FilterOperation]) -> Vec<Outcome> {
        let mut outcomes = vec![Ok(()); operations.len()];
        let mut fail = |index: usize, cause: FailureCause| {
            if let (Some(operation), Some(outcome)) =
                (operations.get(index), outcomes.get_mut(index))
            {
                *outcome = Err(failure(*operation, &cause));
            }
        };
        let mut steps = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let begins_transaction =
                matches!(operation, FilterOperation::CreateTables | FilterOperation::DeleteTables);
            if begins_transaction || steps.len() >= STEPS {
                run(self, std::mem::take(&mut steps), &mut fail);
            }
            if let Err(error) = self.write_steps(&mut steps, index, operation) {
                fail(index, FailureCause::Undelivered(error.to_string()));
            }
        }
        run(self, steps, &mut fail);
        outcomes
    }

    /// Appends the steps of an operation.
    fn write_steps(
        &mut self,
        steps: &mut Vec<TransactionStep<'static>>,
        operation: usize,
        to_do: &FilterOperation,
    ) -> Result<(), KernelError> {
        let mut push = |table, change| steps.push(TransactionStep { operation, table, change });
        match to_do {
            FilterOperation::CreateTables => {
                for table in &self.ruleset.tables {
                    let existing = self.existing(table.family)?;
                    update(table, &existing)
                        .into_iter()
                        .for_each(|change| push(table.family, change));
                }
            }
            FilterOperation::DeleteTables => {
                for table in &self.ruleset.tables {
                    // Deleting an absent table would be an error.
                    push(table.family, SetChange::NewTable);
                    push(table.family, SetChange::DeleteTable);
                }
            }
            FilterOperation::Add(element) => {
                entries(element).for_each(|entry| push(entry.table, SetChange::NewElement(entry)));
            }
            FilterOperation::Delete(element) => {
                entries(element)
                    .for_each(|entry| push(entry.table, SetChange::DeleteElement(entry)));
            }
        }
        Ok(())
    }
}

impl Submit for Nft {
    fn submit(&mut self, steps: &[TransactionStep<'_>]) -> RuleAnswer {
        // Not kept: that of a first sync is of megabytes, and later ones are few.
        let mut batch = Batch::default();
        write(&mut batch, steps);
        // The request that begins the transaction is numbered 0.
        match self.socket.transact(&mut batch, steps.len()) {
            Ok(answers) => verdict(answers),
            Err(error) => RuleAnswer::Undelivered(error.to_string()),
        }
    }
}

/// What the answers mean: to the request that begins the transaction, to each step, and to the
/// request that ends it.
fn verdict(answers: Answers) -> RuleAnswer {
    let mut answers = answers.into_iter();
    if let (Some(Some(Err(error))), _) | (_, Some(Some(Err(error)))) =
        (answers.next(), answers.next_back())
    {
        return RuleAnswer::Aborted(error);
    }
    let mut errors = Vec::new();
    let mut is_lost = false;
    for (index, answer) in answers.enumerate() {
        match answer {
            Some(Ok(())) => {}
            Some(Err(error)) => errors.push((index, error)),
            None => is_lost = true,
        }
    }
    match (errors.is_empty(), is_lost) {
        (false, _) => RuleAnswer::Rejected(errors),
        (true, true) => RuleAnswer::Lost,
        (true, false) => RuleAnswer::Committed,
    }
}

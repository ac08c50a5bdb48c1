//! Executes operations in transactions.

use kube_ipvs_core::model::Element;
use kube_ipvs_core::plan::{Failure, FailureKind, FilterOperation, Outcome};
use netlink_ipvs::{Answers, Batch, KernelError};
use rustix::io::Errno;

use super::Nft;
use super::element::entries;
use super::request::{SetChange, TransactionStep, write};
use super::transaction::{FailureCause, SubmitResult, run};
use super::update::update;

/// The number of steps after which another transaction begins. A transaction is sent as one message
/// of less than 200 bytes per step, which must fit the socket's send buffer.
const STEPS: usize = 100_000;

impl Nft {
    /// Executes operations in order, in one transaction; to create or delete the tables begins
    /// another one. A failed operation does not affect the others.
    ///
    /// To add an existing element or delete an absent one succeeds. To add an element of a map that
    /// exists with another value is [`Drift`](kube_ipvs_core::plan::FailureKind::Drift): delete the
    /// old element and add the new one in one call.
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
                let steps = std::mem::take(&mut steps);
                run(|steps| self.submit(steps), steps, &mut fail);
            }
            if let Err(error) = self.write_steps(&mut steps, index, operation) {
                fail(index, FailureCause::Unknown(error.to_string()));
            }
        }
        run(|steps| self.submit(steps), steps, &mut fail);
        outcomes
    }

    fn write_steps(
        &mut self,
        steps: &mut Vec<TransactionStep<'static>>,
        operation: usize,
        to_do: &FilterOperation,
    ) -> Result<(), KernelError> {
        let mut push = |table, change| steps.push(TransactionStep { operation, table, change });
        match to_do {
            FilterOperation::CreateTables => {
                for table in self.tables {
                    let existing = self.existing(table.family)?;
                    update(table, &existing)
                        .into_iter()
                        .for_each(|change| push(table.family, change));
                }
            }
            FilterOperation::DeleteTables => {
                for table in self.tables {
                    // To delete an absent table is an error.
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

    fn submit(&mut self, steps: &[TransactionStep<'_>]) -> SubmitResult {
        // Not kept for reuse: a first sync takes megabytes, and later transactions are small.
        let mut batch = Batch::default();
        write(&mut batch, steps);
        // The kernel numbers the request that begins the transaction 0.
        match self.socket.transact(&mut batch, steps.len()) {
            Ok(answers) => refused_steps(answers),
            Err(error) => Err(FailureCause::Unknown(error.to_string())),
        }
    }
}

/// Reads the answers to the beginning of a transaction, to each step, and to the end.
fn refused_steps(answers: Answers) -> SubmitResult {
    let mut answers = answers.into_iter();
    if let (Some(Some(Err(error))), _) | (_, Some(Some(Err(error)))) =
        (answers.next(), answers.next_back())
    {
        return Err(FailureCause::Refused(error));
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
    if is_lost && errors.is_empty() {
        return Err(FailureCause::Unknown("the kernel's answer was lost".to_owned()));
    }
    Ok(errors)
}

fn failure(operation: FilterOperation, cause: &FailureCause) -> Failure {
    let (kind, what) = match cause {
        FailureCause::Refused(error) => {
            let (kind, meaning) = meaning(&operation, error.errno);
            (kind, format!("{meaning}: {error}"))
        }
        FailureCause::Unknown(why) => (FailureKind::Unknown, why.clone()),
    };
    Failure { kind, message: format!("{operation}: {what}") }
}

fn meaning(operation: &FilterOperation, errno: Errno) -> (FailureKind, &'static str) {
    use FailureKind::{Drift, Refused};
    use FilterOperation::{Add, CreateTables};
    match (operation, errno) {
        (Add(Element::OffloadLink(_)), Errno::NOENT) => {
            (Drift, "the link or its flowtable is gone")
        }
        (Add(_), Errno::EXIST) => (Drift, "something else is in its place"),
        (Add(_), Errno::NOENT) => (Drift, "its table or set is gone"),
        (CreateTables, Errno::NOENT | Errno::OPNOTSUPP) => (
            Refused,
            "the kernel lacks part of nf_tables; on the node run `modprobe -a nft_chain_nat nft_ct \
             nft_fib_ipv4 nft_fib_ipv6 nft_masq nft_nat nft_reject_ipv4 nft_reject_ipv6 nft_socket`, \
             and for carry offload `modprobe -a nf_flow_table_inet nft_flow_offload nft_numgen`",
        ),
        (_, Errno::NOENT | Errno::EXIST | Errno::BUSY) => (Drift, "the tables were changed"),
        (_, Errno::AGAIN | Errno::INTR | Errno::RESTART) => {
            (Refused, "others change nf_tables all the time")
        }
        (_, Errno::PERM | Errno::ACCESS) => (Refused, "CAP_NET_ADMIN is missing"),
        (_, Errno::NOMEM) => (Refused, "the kernel is out of memory"),
        _ => (Refused, "the kernel refuses it"),
    }
}

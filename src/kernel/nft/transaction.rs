//! Runs changes so that what fails does not cost the rest.

use netlink_ipvs::NetlinkError;
use rustc_hash::FxHashSet;
use rustix::io::Errno;

use super::request::{SetChange, TransactionStep};

/// The reason for which an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum FailureCause {
    Refused(NetlinkError),
    /// The request could not be sent or its answer not received, so the result is not known.
    Unknown(String),
}

/// The steps that the kernel refused, by index: if there are any, nothing took effect, and some may
/// have failed only because others did. The error is that of a transaction without such a step.
pub(super) type SubmitResult = Result<Vec<(usize, NetlinkError)>, FailureCause>;

/// The number of retries after collisions with other programs' transactions, for all parts of a
/// transaction together.
const RETRIES: usize = 20;

/// Runs the steps in one transaction with `submit`, and passes each failed operation to `fail`.
/// Steps that the kernel refuses are removed and the others retried. Any step may be removed: to add
/// what exists or delete what does not is no error.
pub(super) fn run(
    submit: impl FnMut(&[TransactionStep<'_>]) -> SubmitResult,
    steps: Vec<TransactionStep<'_>>,
    fail: impl FnMut(usize, FailureCause),
) {
    Run { submit, fail, retries: RETRIES }.run(steps);
}

struct Run<S, F> {
    submit: S,
    fail: F,
    retries: usize,
}

impl<S, F> Run<S, F>
where
    S: FnMut(&[TransactionStep<'_>]) -> SubmitResult,
    F: FnMut(usize, FailureCause),
{
    fn run(&mut self, mut steps: Vec<TransactionStep<'_>>) {
        while !steps.is_empty() {
            match (self.submit)(&steps) {
                Ok(refused) if refused.is_empty() => return,
                Ok(refused) => self.take_out(&mut steps, refused),
                Err(FailureCause::Refused(error))
                    if is_collision(error.errno) && self.retries > 0 =>
                {
                    self.retries -= 1;
                }
                Err(cause) => return self.split(steps, &cause),
            }
        }
    }

    /// Removes refused steps: the deletion of an absent element alone, otherwise all steps of the
    /// operation.
    fn take_out(
        &mut self,
        steps: &mut Vec<TransactionStep<'_>>,
        errors: Vec<(usize, NetlinkError)>,
    ) {
        let mut done = FxHashSet::default();
        let mut failed = FxHashSet::default();
        for (index, error) in errors {
            let Some(step) = steps.get(index) else { continue };
            if matches!(step.change, SetChange::DeleteElement(_)) && error.errno == Errno::NOENT {
                done.insert(index);
            } else if failed.insert(step.operation) {
                (self.fail)(step.operation, FailureCause::Refused(error));
            }
        }
        let mut index = 0;
        steps.retain(|step| {
            let is_done = done.contains(&index);
            index += 1;
            !is_done && !failed.contains(&step.operation)
        });
    }

    /// Finds the failing operations if the kernel names no step: submits each half by itself, down to
    /// a single operation.
    fn split(&mut self, mut steps: Vec<TransactionStep<'_>>, cause: &FailureCause) {
        let mut operations: Vec<_> = steps.iter().map(|step| step.operation).collect();
        operations.dedup();
        // Smaller transactions do not help without permission.
        let is_hopeless = matches!(
            cause,
            FailureCause::Refused(error)
                if matches!(error.errno, Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)
        );
        match operations.get(operations.len() / 2) {
            Some(middle) if operations.len() > 1 && !is_hopeless => {
                let middle = steps.partition_point(|step| step.operation < *middle);
                let rest = steps.split_off(middle);
                self.run(steps);
                self.run(rest);
            }
            _ => operations.into_iter().for_each(|operation| (self.fail)(operation, cause.clone())),
        }
    }
}

/// Returns whether another program's transaction came in between.
fn is_collision(errno: Errno) -> bool {
    matches!(errno, Errno::AGAIN | Errno::INTR | Errno::RESTART)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::Ipv4Addr;

    use kube_ipvs_core::model::{AddressSet, Element};
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::nft::element::entries;

    fn error(errno: Errno) -> NetlinkError {
        NetlinkError { errno, text: None }
    }

    fn lost() -> FailureCause {
        FailureCause::Unknown("lost".to_owned())
    }

    /// Rejects some operations, and answers as configured.
    #[derive(Default)]
    struct Fake {
        refused: BTreeMap<usize, Errno>,
        /// The first answers, in reverse order.
        answers: Vec<SubmitResult>,
        /// With more errors than this its answers are lost.
        room: Option<usize>,
        submissions: usize,
        /// Operations whose steps took effect.
        done: Vec<usize>,
    }

    impl Fake {
        fn submit(&mut self, steps: &[TransactionStep<'_>]) -> SubmitResult {
            self.submissions += 1;
            if let Some(answer) = self.answers.pop() {
                return answer;
            }
            let errors: Vec<_> = (0..)
                .zip(steps)
                .filter_map(|(index, step)| {
                    Some((index, error(*self.refused.get(&step.operation)?)))
                })
                .collect();
            if self.room.is_some_and(|room| errors.len() > room) {
                return Err(lost());
            }
            if errors.is_empty() {
                self.done.extend(steps.iter().map(|step| step.operation));
            }
            Ok(errors)
        }
    }

    /// Operations that add a ClusterIP each, which takes two steps.
    fn adding(count: usize) -> Vec<TransactionStep<'static>> {
        let steps = |operation| {
            entries(&Element::Address(AddressSet::Pools, Ipv4Addr::LOCALHOST.into()))
                .map(|entry| TransactionStep {
                    operation,
                    table: entry.table,
                    change: SetChange::NewElement(entry),
                })
                .collect::<Vec<_>>()
        };
        (0..count).flat_map(steps).collect()
    }

    fn failures(kernel: &mut Fake, steps: Vec<TransactionStep<'_>>) -> Vec<(usize, FailureCause)> {
        let mut failures = Vec::new();
        let fail = &mut |operation, cause| failures.push((operation, cause));
        run(|steps| kernel.submit(steps), steps, fail);
        failures
    }

    #[test]
    fn a_failure_does_not_cost_the_rest() {
        let mut kernel = Fake { refused: [(1, Errno::EXIST)].into(), ..Fake::default() };
        let failures = failures(&mut kernel, adding(3));
        assert_eq!(failures, [(1, FailureCause::Refused(error(Errno::EXIST)))]);
        assert_eq!((kernel.done, kernel.submissions), (vec![0, 0, 2, 2], 2));
    }

    #[test]
    fn deleting_what_is_absent_is_fine() {
        let answer = Ok(vec![(0, error(Errno::NOENT))]);
        let mut kernel = Fake { answers: vec![answer], ..Fake::default() };
        let mut steps = adding(2);
        for step in steps.iter_mut().take(2) {
            if let SetChange::NewElement(entry) = step.change {
                step.change = SetChange::DeleteElement(entry);
            }
        }
        assert_eq!(failures(&mut kernel, steps), []);
        // The other table's entry was there, and is deleted.
        assert_eq!(kernel.done, [0, 1, 1]);
    }

    #[test]
    fn another_transaction_in_between_is_retried() {
        let answers =
            [Errno::RESTART, Errno::AGAIN].map(|errno| Err(FailureCause::Refused(error(errno))));
        let mut kernel = Fake { answers: answers.into(), ..Fake::default() };
        assert_eq!(failures(&mut kernel, adding(1)), []);
        assert_eq!((kernel.done, kernel.submissions), (vec![0, 0], 3));
    }

    #[test]
    fn a_transaction_gives_up_after_many_conflicts() {
        let answers = vec![Err(FailureCause::Refused(error(Errno::AGAIN))); 1_000];
        let mut kernel = Fake { answers, ..Fake::default() };
        let failures = failures(&mut kernel, adding(9));
        assert_eq!((failures.len(), kernel.submissions), (9, RETRIES + 17));
    }

    #[test]
    fn a_forbidden_transaction_is_not_retried() {
        let answers = vec![Err(FailureCause::Refused(error(Errno::PERM)))];
        let mut kernel = Fake { answers, ..Fake::default() };
        let failures = failures(&mut kernel, adding(9));
        assert_eq!((failures.len(), kernel.submissions), (9, 1));
    }

    #[test]
    fn an_operation_whose_answer_is_lost_is_unknown() {
        let mut kernel = Fake { answers: vec![Err(lost()); 2], ..Fake::default() };
        let failures = failures(&mut kernel, adding(2));
        assert_eq!(failures, [(0, lost())]);
        assert_eq!(kernel.done, [1, 1]);
    }

    proptest! {
        #[test]
        fn exactly_the_refused_fail(
            count in 0..60_usize,
            refused in proptest::collection::btree_set(0..60_usize, 0..30),
            room in 2..10_usize,
        ) {
            let refused: BTreeSet<_> = refused.into_iter().filter(|index| *index < count).collect();
            let mut kernel = Fake {
                refused: refused.iter().map(|index| (*index, Errno::INVAL)).collect(),
                room: Some(room),
                ..Fake::default()
            };
            let failed: BTreeSet<_> =
                failures(&mut kernel, adding(count)).into_iter().map(|(index, _)| index).collect();
            let done = (0..count).filter(|index| !refused.contains(index));
            let done: Vec<_> = done.flat_map(|operation| [operation; 2]).collect();
            prop_assert_eq!(failed, refused);
            prop_assert_eq!(kernel.done, done);
        }
    }
}

//! Faults between the agent and the kernel. A fault of one Service's requests affects no other
//! Service, and once it ends, the kernel reaches the desired state.
//!
//! The real kernel does the work. Between it and the agent's sockets stands a transport that
//! refuses requests, forges errors and loses answers. Sound sockets observe the kernel.

mod cluster;
mod harness;
mod kind;
mod lasting;
mod listed;
mod random;
mod reading;
mod script;
mod transport;

use cluster::{Step, Target};
use harness::FaultHarness;

use super::{Component, component};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("faults_of_operations", || {
            with_harness(&[
                listed::every_errno_on_every_operation,
                listed::lost_answers_and_torn_sends,
            ]);
        }),
        component("faults_of_reading", || {
            with_harness(&[
                reading::dumps_that_fail_or_are_torn,
                reading::a_service_that_cannot_be_read,
                reading::a_virtual_server_unreadable_at_an_audit,
                reading::a_virtual_server_unreadable_at_the_first_sync,
                reading::failed_reads_slow_down,
                reading::virtual_servers_are_read_if_not_everything_can_be,
                reading::dumps_while_others_write,
            ]);
        }),
        component("faults_that_last", || {
            with_harness(&[
                lasting::retries_of_a_lasting_fault_slow_down,
                lasting::connection_tracking_that_fails_holds_up_nothing,
                lasting::another_number_of_the_family_is_found,
                lasting::a_former_rule_is_deleted_eventually,
                lasting::tables_and_device_are_created_again,
            ]);
        }),
        component("faults_by_chance", || with_harness(&[random::faults_by_chance])),
    ]
}

/// Runs parts one after the other on a node that holds all Services but the targets.
fn with_harness(parts: &[fn(&mut FaultHarness)]) {
    harness::set_up_node();
    let mut harness = FaultHarness::with_others();
    for part in parts {
        part(&mut harness);
        (1..=cluster::TARGETS).for_each(|number| harness.deliver(Step::Go.events(Target(number))));
        harness.heal();
    }
}

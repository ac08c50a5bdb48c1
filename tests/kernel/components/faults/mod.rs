//! Faults between the agent and the kernel: whatever the kernel answers, or does not answer,
//! about one Service, the others keep what they have; and once it stops, all is as it should be.
//!
//! The real kernel does the work. Between it and the agent's sockets stands a transport that
//! refuses requests, forges errors and loses answers; another, clean socket looks on.

mod cluster;
mod drawn;
mod kind;
mod lasting;
mod listed;
mod reading;
mod rig;
mod script;
mod transport;

use cluster::{Step, Victim};
use rig::Rig;

use super::{Component, component};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("faults_of_operations", || {
            with_rig(&[
                listed::every_errno_on_every_operation,
                listed::lost_answers_and_torn_sends,
            ]);
        }),
        component("faults_of_reading", || {
            with_rig(&[
                reading::dumps_that_fail_or_are_torn,
                reading::a_service_that_cannot_be_read,
                reading::one_that_cannot_be_read_at_an_audit,
                reading::one_that_cannot_be_read_at_the_first_sync,
                reading::what_cannot_be_read_is_read_ever_more_rarely,
                reading::virtual_servers_are_read_where_not_everything_can_be,
                reading::dumps_while_others_write,
            ]);
        }),
        component("faults_that_last", || {
            with_rig(&[
                lasting::what_lasts_is_retried_ever_more_rarely,
                lasting::connection_tracking_that_fails_holds_up_nothing,
                lasting::another_number_of_the_family_is_found,
                lasting::a_former_rule_goes_in_the_end,
                lasting::the_ground_is_made_again,
            ]);
        }),
        component("faults_by_chance", || with_rig(&[drawn::faults_by_chance])),
    ]
}

/// Runs parts one after the other on a node that holds all Services but the victims.
fn with_rig(parts: &[fn(&mut Rig)]) {
    rig::wire();
    let mut rig = Rig::with_others();
    for part in parts {
        part(&mut rig);
        (1..=cluster::VICTIMS).for_each(|number| rig.tell(Step::Go.events(Victim(number))));
        rig.heal();
    }
}

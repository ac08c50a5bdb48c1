//! Faults between the agent and the kernel: whatever the kernel answers, or does not answer,
//! about one Service, the others keep what they have; and once it stops, all is as it should be.
//!
//! The real kernel does the work. Between it and the agent's sockets stands a transport that
//! refuses requests, forges errors and loses answers; another, clean socket looks on.

mod cluster;
mod kind;
mod listed;
mod rig;
mod script;
mod transport;

use super::{Component, component};

pub(crate) fn components() -> Vec<Component> {
    vec![
        component("every_errno_on_every_operation", listed::every_errno_on_every_operation),
        component("lost_answers_and_torn_sends", listed::lost_answers_and_torn_sends),
    ]
}

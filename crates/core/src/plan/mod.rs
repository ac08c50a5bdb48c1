//! From what the kernel holds and what it should hold to ordered operations.

mod allowance;
mod counted;
mod drains;
pub mod elements;
mod flows;
mod key;
mod ledger;
mod operation;
mod pools;
mod removal;
mod routes;
mod stage;

pub use drains::{Counts, Leavers, Running};
pub use key::Key;
pub use ledger::{Ledger, Plan};
pub use operation::{
    Attempt, Carrier, Effect, Failure, FailureKind, FilterOperation, FlowOperation, Observed,
    Operation, Outcome, RouteOperation, ServerOperation, Setback, cannot_be_read,
};
pub use removal::{Claims, is_named, is_orphan, is_removed, orphans, release, removal};
pub use stage::Stage;

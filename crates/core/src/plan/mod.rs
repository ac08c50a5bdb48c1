//! Plans the ordered operations that lead from the actual to the desired state.

mod drains;
mod ejections;
pub mod elements;
mod flows;
mod key;
mod operation;
mod pools;
mod reconciler;
mod removal;
mod stage;
mod token_bucket;
mod tracked;
mod weights;

pub use drains::{CountTargets, Counts, Running};
pub use ejections::{Ejection, EjectionChange, RealCounters, Sample, SampleTargets};
pub use key::ObjectKey;
pub(crate) use operation::reading;
pub use operation::{
    Carrier, Effect, Failure, FailureKind, FilterOperation, FlowOperation, Observed, Operation,
    Outcome, RouteOperation, ServerOperation, cannot_be_read, lower_threshold,
};
pub use reconciler::Reconciler;
pub use removal::{ForeignClaims, is_named, is_orphan, is_removed, orphans, release, removal};
pub use stage::Stage;

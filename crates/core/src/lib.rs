//! The core of kube-ipvs: from Services and endpoints to operations on the kernel.
//!
//! ```text
//!  state/            desired/            plan/
//!  objects by key;   one Service +       desired state against
//!  what changed ───► its endpoints ────► actual state → operations in order
//! ```
//!
//! [`engine`] joins the three. The core does no IO, reads no clock and is not async: callers pass
//! in observations and the time, and carry out the operations. [`explain`] traces a connection.

// Input from outside must never cause a panic. Tests may panic.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::get_unwrap,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
    )
)]
// Tests read the clock to start.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod canary;
pub mod desired;
pub mod engine;
pub mod explain;
pub mod model;
pub mod plan;
pub mod question;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

//! What becomes of packets, against what `explain` says of them.

mod clients;
mod comparison;
mod oracle;

pub(crate) use clients::{Clients, Manner};
pub(crate) use comparison::{Met, Pair, contradiction, describe, has_met_all, strays};
pub(crate) use oracle::programs;

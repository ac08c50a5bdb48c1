//! The agent that runs on every node, and its interfaces.

pub mod api;
mod applied;
mod config_file;
mod conntrack;
mod edge;
mod engine_loop;
pub mod events;
pub mod health;
mod health_checks;
pub mod http;
mod listen;
pub mod log;
pub mod metrics;
mod processor_time;
mod replace;
mod run;
mod sole;
mod takeover;
mod timestamp;
mod upkeep;

pub use run::{prepare, run};
pub use sole::{Holder, running};

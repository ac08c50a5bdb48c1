//! The agent that runs on every node, and its interfaces.

pub mod api;
mod applied;
mod canary;
mod checkup;
mod config_file;
mod conntrack;
mod context_log;
mod drift_log;
mod edge;
mod engine_loop;
pub mod events;
pub mod health;
mod health_checks;
pub mod http;
mod listen;
pub mod log;
pub mod metrics;
mod prepare;
mod processor_time;
mod reload;
mod run;
mod servers;
mod sole;
mod sources;
mod start_log;
mod takeover;
mod timestamp;
mod upkeep;

pub use prepare::prepare;
pub use run::{LONGEST_END, run};
pub use sole::{Holder, running};

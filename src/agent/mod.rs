//! The agent that runs on every node, and its interfaces.

pub mod api;
mod canary;
mod checkup;
mod config_file;
mod edge;
mod engine_loop;
pub mod events;
pub mod health;
mod health_checks;
pub mod http;
pub mod log;
mod log_lines;
pub mod metrics;
mod prepare;
mod reload;
mod run;
mod servers;
mod sole;
mod sources;
mod takeover;
mod timestamp;
mod upkeep;

pub use prepare::prepare;
pub use run::{LONGEST_END, run};
pub use sole::{Holder, running};

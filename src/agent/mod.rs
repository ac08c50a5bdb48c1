//! The agent: what runs on every node, and what it tells those who ask.

pub mod api;
mod applied;
pub mod client;
mod config_file;
mod conntrack;
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

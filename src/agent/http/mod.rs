//! What the agent answers over HTTP: probes, metrics, its configuration, what it holds and where
//! connections go.

mod query;
mod routes;
mod server;

pub use query::{AskError, Query};
pub use routes::{MetricsRoutes, serve_health, serve_metrics};
pub use server::{BindError, bind};

#[cfg(test)]
mod tests;

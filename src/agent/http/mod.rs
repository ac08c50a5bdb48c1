//! The agent's HTTP servers: the page, probes, metrics, configuration, status, explanations and
//! the health checks of load balancers.

mod health_check;
mod page;
mod places;
mod query;
mod routes;
mod server;
mod shared;
mod zpages;

pub use health_check::{ServiceHealth, serve_health_check};
pub use places::Places;
#[doc(hidden)]
pub use query::parse_explain;
pub use query::{AskError, Query, explain_path};
pub(crate) use query::{connections_path, names_path, status_path};
pub use routes::{MetricsRoutes, serve_health, serve_metrics};
pub use server::{bind, bind_family};

#[cfg(test)]
mod tests;

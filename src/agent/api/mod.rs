//! The answers of the agent to `status` and `explain`: JSON of a stable shape, and text.
//!
//! Fields are only ever added, and enumerations are plain strings, so that an older command line
//! can read the answers of a newer agent.

mod connections;
mod endpoint;
mod explain;
mod kernel_readers;
mod peer;
mod question;
mod status;
mod status_text;
mod traffic;

pub use connections::{ConnectionView, ConnectionsView};
pub use endpoint::EndpointView;
pub use explain::{ExplainView, Explained, explained};
pub use kernel_readers::KernelReaders;
pub use peer::{NameView, PeerView, names};
pub use question::{ConnectionsQuestion, ServiceState, StatusFilter, StatusQuestion, TrafficOrder};
pub use status::{
    FailureView, FrontendView, PoolView, RefusalView, ServiceView, Snapshot, StatusTotals,
    StatusView, TargetsView, status,
};
pub(super) use status::{name_in, name_of};
pub use status_text::WideStatus;
pub(super) use traffic::traffic;
pub use traffic::{ServiceTraffic, TrafficView};

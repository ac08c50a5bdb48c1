//! One list of every kind, for commands that do not follow changes.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Duration;

use kube_ipvs_core::model::{Change, Event, Settings};
use tokio::time::timeout;

use super::client::{ApiAccess, connect};
use super::connect_error::ConnectError;
use super::{Server, Timeouts, run};
use crate::source::wire::{NodeObject, Resource, ServiceCidrObject, ServiceObject, SliceObject};

/// Why there are no objects from the API server.
#[derive(Debug, thiserror::Error)]
pub enum ListOnceError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "the API server has not listed {missing} within {within:?}: check the kubeconfig, and that \
         its user may list them"
    )]
    Silent { missing: String, within: Duration },
}

/// Returns the events that the source delivers first: a complete list of each kind, and the
/// addresses of the API server. Failures are logged and retried until `within` is over.
///
/// # Errors
///
/// If the API server cannot be reached, or has not listed every kind in time.
pub async fn list(
    access: &ApiAccess,
    settings: &Settings,
    timeouts: Timeouts,
    within: Duration,
) -> Result<Vec<Event>, ListOnceError> {
    let server = Server::find(access).await?;
    let clients = connect(access).await?;
    let listed = RefCell::new((
        vec![Event::ApiServers(server.sockets().collect())],
        vec![NodeObject::KIND, ServiceCidrObject::KIND, ServiceObject::KIND, SliceObject::KIND],
    ));
    let deliver = |event: Event| {
        let (events, missing) = &mut *listed.borrow_mut();
        let kind = match &event {
            Event::Node(_) => NodeObject::KIND,
            Event::ServiceCidrs(Change::Replace(_)) => ServiceCidrObject::KIND,
            Event::Service(Change::Replace(_)) => ServiceObject::KIND,
            Event::Slice(Change::Replace(_)) => SliceObject::KIND,
            _ => "",
        };
        missing.retain(|it| *it != kind);
        events.push(event);
        if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // The lists end it, or the time does.
    let _ = timeout(within, run(clients, settings, timeouts, deliver, |_, _| {})).await;
    let (events, missing) = listed.into_inner();
    if missing.is_empty() {
        return Ok(events);
    }
    Err(ListOnceError::Silent { missing: missing.join(", "), within })
}

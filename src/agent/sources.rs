//! Connects the sources to the engine's thread.

use std::future::pending;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::SystemTime;

use anyhow::bail;
use kube_ipvs_core::model::{Event, Name};

use super::engine_loop::Input;
use super::events::{EventQueue, EventWriter, QUIET};
use super::run::Agent;
use crate::config::{Config, SourceConfig};
use crate::kernel::drift;
use crate::source::kubernetes::{self, ApiAccess, FIND_AGAIN, ObserveRequest, Server, Timeouts};
use crate::source::{manifests, network};

impl Agent {
    pub(super) fn follow_network(&self) -> anyhow::Result<()> {
        let links = !self.config.settings.carry.offload_interfaces().is_empty();
        let inputs = self.inputs.clone();
        network::follow(links, move |event| send(&inputs, Input::Event(event)))?;
        Ok(())
    }

    /// Detects changes by other programs; `own` are the netlink ports of the agent's changes.
    pub(super) fn follow_drift(&self, own: Vec<u32>) -> anyhow::Result<()> {
        let inputs = self.inputs.clone();
        drift::follow(own, move |notice| send(&inputs, Input::Drift(notice)))?;
        Ok(())
    }

    /// Follows the source of objects; returns only with an error.
    pub(super) async fn follow_source(&self, notices: EventQueue) -> anyhow::Result<()> {
        let inputs = self.inputs.clone();
        let deliver = move |event| send(&inputs, Input::Event(event));
        let node = &self.config.settings.node_name;
        match &self.config.source {
            SourceConfig::Manifests(directory) => {
                // Without an API server, events appear in the log only.
                drop(notices);
                manifests::follow(directory, node, deliver)?;
                pending().await
            }
            SourceConfig::Kubernetes(access) => {
                let server = find_server(access, &self.config).await?;
                let _ = deliver(Event::ApiServers(server.sockets().collect()));
                let metrics = Arc::clone(&self.handles.metrics);
                let counted = Arc::clone(&metrics);
                let observe: ObserveRequest =
                    Arc::new(move |request| counted.api_server.requested(request));
                let clients = kubernetes::connect_observed(access, &observe).await?;
                let counted = Arc::clone(&metrics);
                let note =
                    move |kind, step| counted.api_server.watched(kind, step, SystemTime::now());
                let events = EventWriter::new(clients.clone(), Name::clone(node), metrics, QUIET);
                let report = deliver.clone();
                tokio::select! {
                    ended = kubernetes::follow(
                        &server, clients, &self.config.settings, Timeouts::default(), deliver, note,
                    ) => ended?,
                    () = kubernetes::follow_server(access, &server, FIND_AGAIN, report) => {}
                    () = events.run(notices) => {}
                }
                bail!("the engine's thread has ended")
            }
        }
    }
}

pub(super) async fn find_server(access: &ApiAccess, config: &Config) -> anyhow::Result<Server> {
    let server = Server::find(access).await?;
    server.check(&config.settings.service_cidrs)?;
    Ok(server)
}

/// Breaks once the receiver is gone.
fn send(inputs: &Sender<Input>, input: Input) -> ControlFlow<()> {
    match inputs.send(input) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

//! `doctor`: checks of this node.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use kube_ipvs_core::desired::{self, NodeContext, Surveyed};
use kube_ipvs_core::model::Settings;
use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::{FAILED, TextFormat, output, running};
use crate::config::{SharedFlags, SourceConfig};
use crate::doctor::{self, CheckVerdict, Subject};
use crate::kernel::listening::listening;
use crate::kernel::route::Network;
use crate::source::kubernetes::{ApiAccess, ConnectError, Server, connect, service_ranges};

pub(super) fn run(shared: &SharedFlags, form: TextFormat) -> anyhow::Result<ExitCode> {
    let config = running::config(shared, true)?;
    let mut subject = Subject {
        schedulers: vec![config.settings.scheduler],
        carry: config.settings.carry.clone(),
        service_ranges: config.settings.service_cidrs.clone(),
        ..Subject::default()
    };
    if let SourceConfig::Kubernetes { kubeconfig, master } = config.source {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(look_up(&ApiAccess { kubeconfig, master }, &mut subject)) {
            // On a node, rather than in a pod, there may be nothing to check.
            Ok(()) | Err(ConnectError::InCluster(_)) => {}
            Err(error) => output::report(error)?,
        }
    }
    match node_context(&config.settings, &subject) {
        Ok(context) => {
            let overlaps = desired::overlaps(&context);
            subject.overlaps = overlaps.iter().map(ToString::to_string).collect();
            subject.on_devices = context.on_devices();
            subject.node_port_ips = context.node_port_ips;
        }
        Err(error) => writeln!(io::stderr(), "kube-ipvs: {error}")?,
    }
    let report = doctor::run(&subject);
    output::print(form, &report)?;
    let fails = report.worst() == CheckVerdict::Fail;
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// The context of this node, as its network shows it.
fn node_context(settings: &Settings, subject: &Subject) -> Result<NodeContext, KernelError> {
    let mut network = Network::open()?;
    let listening = listening(Socket::open(Subsystem::Sockets).ok().as_mut()).unwrap_or_default();
    let surveyed = Surveyed {
        listening: Arc::new(listening.into_iter().collect()),
        interfaces: &network.addresses()?,
        source_ips: &network.source_ips()?,
        routes: &network.routes()?,
        service_cidrs: subject.service_ranges.clone(),
        ..Surveyed::default()
    };
    Ok(NodeContext::new(settings, surveyed))
}

/// Looks up where the API server is, and which ranges it knows if it can be asked.
async fn look_up(reach: &ApiAccess, subject: &mut Subject) -> Result<(), ConnectError> {
    let server = Server::find(reach).await?;
    subject.api_servers = server.sockets().map(|socket| socket.ip()).collect();
    let clients = connect(reach).await?;
    subject.service_ranges.extend(service_ranges(clients.current()).await);
    Ok(())
}

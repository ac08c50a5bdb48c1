//! `doctor`: checks of this node.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use kube_ipvs_core::canary;
use kube_ipvs_core::desired::{self, NodeContext, Surveyed};
use kube_ipvs_core::model::{Change, Control, Event, Service, Settings};
use netlink_ipvs::{KernelError, Socket, Subsystem};

use super::{FAILED, TextFormat, output, running};
use crate::agent::api::StatusFilter;
use crate::client::AgentClient;
use crate::config::{self, SharedFlags, SourceConfig};
use crate::doctor::{self, CheckVerdict, Finding, Subject};
use crate::kernel::listening::listening;
use crate::kernel::route::Network;
use crate::migrate;
use crate::source::kubernetes::{
    ApiAccess, ConnectError, Server, connect, controls, service_ranges,
};
use crate::source::manifests;

pub(super) fn run(shared: &SharedFlags, form: TextFormat) -> anyhow::Result<ExitCode> {
    let flags = running::flags(shared, true)?;
    let config = config::resolve(&flags)?;
    let mut subject = Subject {
        differences: config::differences(&flags)?,
        scheduler: config.settings.scheduler,
        carry: config.settings.carry.clone(),
        service_ranges: config.settings.service_cidrs.clone(),
        ..Subject::default()
    };
    ask(&mut subject, "defaults", &config.settings.defaults);
    match config.source {
        SourceConfig::Kubernetes(access) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            match runtime.block_on(look_up(&access, &config.settings, &mut subject)) {
                // On a node, rather than in a pod, there may be nothing to check.
                Ok(()) | Err(ConnectError::InCluster(_)) => {}
                Err(error) => output::report(error)?,
            }
        }
        SourceConfig::Manifests(directory) => {
            match manifests::load(&directory, &config.settings.node_name) {
                Ok((events, _)) => {
                    for service in events.iter().flat_map(services) {
                        let control = service.control.as_deref();
                        control.into_iter().for_each(|it| ask(&mut subject, &service.key, it));
                    }
                }
                Err(error) => output::report(error)?,
            }
        }
    }
    match node_context(&config.settings, &subject) {
        Ok(context) => {
            let overlaps = desired::overlaps(&context);
            subject.overlaps = overlaps.iter().map(ToString::to_string).collect();
            subject.on_devices = context.on_devices();
            subject.without_node_ports = context.without_node_ports();
            // kube-proxy's device has the addresses of Services.
            let claimed = migrate::claims().unwrap_or_default().addresses;
            subject.without_node_ports.retain(|ip| !claimed.contains(ip));
            subject.node_port_ips = context.node_port_ips;
        }
        Err(error) => output::report(error)?,
    }
    subject.canary = config.settings.canary.then(|| canary(config.metrics_address));
    let report = doctor::run(&subject);
    output::print(form, &report)?;
    let fails = report.worst() == CheckVerdict::Fail;
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn canary(agent: Option<SocketAddr>) -> Finding {
    let Some(address) = agent else {
        return doctor::canary_of_agent(Err("metricsBindAddress is off"));
    };
    let status =
        AgentClient::new(address).status(&StatusFilter::of(canary::NAMESPACE, None).into());
    doctor::canary_of_agent(status.map(|status| status.checks))
}

fn services(event: &Event) -> &[Service] {
    match event {
        Event::Service(Change::Replace(services)) => services,
        _ => &[],
    }
}

/// Notes the scheduler that options ask for.
fn ask(subject: &mut Subject, by: impl ToString, control: &Control) {
    if let Some(scheduler) = control.scheduler {
        subject.asked_schedulers.entry(scheduler).or_default().insert(by.to_string());
    }
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

/// Looks up where the API server is, and which ranges and options of Services it knows if it can be
/// asked.
async fn look_up(
    access: &ApiAccess,
    settings: &Settings,
    subject: &mut Subject,
) -> Result<(), ConnectError> {
    let server = Server::find(access).await?;
    subject.api_servers = server.sockets().map(|socket| socket.ip()).collect();
    let clients = connect(access).await?;
    let client = clients.current();
    subject.service_ranges.extend(service_ranges(client).await);
    match controls(client, settings).await {
        Ok(all) => all.iter().for_each(|(service, control)| ask(subject, service, control)),
        Err(error) => {
            output::report(format_args!("the schedulers of Services are unknown: {error}")).ok();
        }
    }
    Ok(())
}

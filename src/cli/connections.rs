//! `connections`: the connections of a Service through this node, from connection tracking and IPVS.
//!
//! Connection tracking has every connection at the front end that the client has asked for. IPVS has
//! those at the pool. Its state counts for the connections that it carries.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use kube_ipvs_core::model::VirtualAddress;
use kube_ipvs_core::plan::Carrier;

use super::connections_view::{ConnectionView, ConnectionsFlags};
use super::names::Names;
use super::{TextFormat, output, status};
use crate::agent::api::{PoolView, ServiceView, StatusFilter};
use crate::config::SharedFlags;
use crate::kernel::conntrack::{Conntrack, TrackedConnection};
use crate::kernel::ipvs::{IpvsConnection, read_connections};

pub(super) fn run(shared: &SharedFlags, flags: &ConnectionsFlags) -> anyhow::Result<ExitCode> {
    let agent = status::client(shared)?;
    let (namespace, name) = flags.service();
    let status = agent.status(&StatusFilter::of(namespace, Some(name)))?;
    let Some(service) = status.services.first() else {
        anyhow::bail!(
            "the agent serves no Service {namespace}/{name}; -n names the namespace of a Service \
             without one"
        );
    };
    let served = Served::new(service);
    let ConnectionList { tracked, untracked, count } = served.read(flags.limit)?;
    let names = Names::new(Some(service), &agent.status(&StatusFilter::default())?)?;
    let tracked = tracked.into_iter().map(ConnectionView::from);
    let untracked = untracked.into_iter().map(ConnectionView::from);
    let mut views: Vec<_> = tracked.chain(untracked).collect();
    views.sort_unstable_by_key(ConnectionView::sockets);
    let mut out = io::stdout().lock();
    if flags.output == TextFormat::Text {
        writeln!(out, "{}", ConnectionView::heading())?;
    }
    let shown = views.len();
    for view in views {
        let (_, client, backend) = view.sockets();
        let view = view.named(names.client(client.ip()), names.backend(backend));
        match flags.output {
            TextFormat::Text => output::line(&mut out, &view)?,
            TextFormat::Json => writeln!(out, "{}", serde_json::to_string(&view)?)?,
        }
    }
    if shown < count {
        output::report(format_args!(
            "{shown} of at least {count} connections are shown; --limit shows more"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The connections that are shown, and how many there are.
struct ConnectionList {
    tracked: Vec<TrackedConnection>,
    untracked: Vec<IpvsConnection>,
    count: usize,
}

/// The addresses of a Service.
struct Served {
    frontends: BTreeSet<VirtualAddress>,
    /// Its pools, each at the address of its virtual server.
    pools: BTreeSet<VirtualAddress>,
    backends: BTreeSet<SocketAddr>,
}

impl Served {
    fn new(service: &ServiceView) -> Self {
        let frontends = service.frontends.iter().filter_map(|it| it.address.parse().ok());
        let pools = service.pools.iter().filter_map(|it| it.address.parse().ok());
        let endpoints = service.pools.iter().flat_map(PoolView::endpoints);
        Self {
            frontends: frontends.collect(),
            pools: pools.collect(),
            backends: endpoints.map(|(endpoint, _)| endpoint.socket()).collect(),
        }
    }

    /// Returns whether connection tracking's entry is a connection of this Service. One that has
    /// reached no endpoint is answered by its own destination. Another host may have the port of a
    /// node port, too.
    fn has(&self, connection: &TrackedConnection) -> bool {
        let TrackedConnection { frontend, backend, .. } = connection;
        let destination = SocketAddr::new(frontend.ip, frontend.port);
        let is_exact = self.frontends.contains(frontend);
        *backend != destination
            && (is_exact
                || connection.carrier == Carrier::Tracking && self.backends.contains(backend))
    }

    /// Reads both tables, and keeps at most `most` connections.
    fn read(&self, most: usize) -> anyhow::Result<ConnectionList> {
        let frontends = self.frontends.iter().copied();
        let tracked = Conntrack::open()?.connections(frontends, most, |it| self.has(it))?;
        let mut all =
            ConnectionList { tracked: tracked.found, untracked: Vec::new(), count: tracked.count };
        let is_cut = all.tracked.len() < all.count;
        let mut known: HashMap<_, Vec<_>> = HashMap::new();
        for it in &mut all.tracked {
            let key = (it.frontend.protocol, it.client, it.backend);
            known.entry(key).or_default().push(it);
        }
        let room = most.saturating_sub(all.count);
        let read = read_connections(|ipvs| {
            if !self.pools.contains(&ipvs.server) {
                return;
            }
            match known.get_mut(&(ipvs.server.protocol, ipvs.client, ipvs.backend)) {
                Some(tracked) => {
                    for it in tracked.iter_mut().filter(|it| it.carrier == Carrier::Ipvs) {
                        it.state = Some(ipvs.state.clone().into());
                        it.seconds_left = Some(ipvs.seconds_left);
                    }
                }
                // It may be tracked beyond the limit.
                None if is_cut => {}
                None => {
                    all.count += 1;
                    if all.untracked.len() < room {
                        all.untracked.push(ipvs);
                    }
                }
            }
        });
        if let Err(error) = read {
            output::report(format_args!(
                "IPVS's connections cannot be read, so that their states are those of connection \
                 tracking: {error}"
            ))?;
        }
        Ok(all)
    }
}

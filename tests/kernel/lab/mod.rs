//! The lab: a network of namespaces with servers, clients and the agent under test.

mod agent;
mod checksum;
mod client;
mod dns;
mod host;
mod icmp;
mod kube_proxy;
mod load;
mod manifest;
mod namespace;
mod notifications;
mod probe;
mod segments;
mod server;
mod socket;
mod temporary;
mod topology;

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use kube_ipvs::kernel::route::has_ipv6;
use kube_ipvs_core::model::{Family, Protocol};

pub(crate) use agent::{Agent, Finished};
pub(crate) use client::{
    Connection, Flow, PATIENCE, Reply, SHORT_PATIENCE, Silence, ask, ask_from_port,
};
pub(crate) use host::{Host, gateway};
pub(crate) use icmp::ping;
pub(crate) use kube_proxy::{KubeProxy, Mode, leave_earlier_version};
pub(crate) use load::{FailedRequest, Load, LoadReport};
pub(crate) use manifest::{Manifest, endpoints, endpoints_of_both, node, node_at};
pub(crate) use namespace::Namespace;
pub(crate) use notifications::Notifications;
pub(crate) use probe::{KernelListing, ipvs_rules};
pub(crate) use segments::Segments;
pub(crate) use server::Server;
pub(crate) use temporary::Temporary;
pub(crate) use topology::Topology;

pub(crate) use crate::common::objects::{ServiceBuilder, SliceBuilder, service, service_cidr};

/// Every pod serves these ports with every protocol, at its own address of each family.
pub(crate) const POD_PORTS: [u16; 2] = [8080, 9090];
/// Every node serves this TCP and UDP port at all of its addresses, as a careless daemon does.
pub(crate) const NODE_PORT_OF_DAEMON: u16 = 22;

/// The address families of the kernel.
pub(crate) fn families() -> impl Iterator<Item = Family> {
    Family::BOTH.into_iter().filter(|family| *family == Family::V4 || has_ipv6())
}

/// Everything that outlives a case.
pub(crate) struct Lab {
    topology: Topology,
    /// Where manifests and logs lie; on a file system in memory.
    directory: tempfile::TempDir,
    /// The program under test, copied there: a virtual machine reads its own files slowly.
    program: PathBuf,
    _servers: Vec<Server>,
}

impl Lab {
    /// Builds the network and starts the servers that are always there.
    pub(crate) fn build() -> io::Result<Self> {
        let topology = Topology::build()?;
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let directory = tempfile::Builder::new().prefix("kube-ipvs-").tempdir_in(parent)?;
        let program = directory.path().join("kube-ipvs");
        // By another process: a child that is forked meanwhile would inherit the file that is written,
        // and no file that is open for writing can be run.
        namespace::run(
            Command::new("cp")
                .args([env!("CARGO_BIN_EXE_kube-ipvs").as_ref(), program.as_os_str()]),
            "",
        )?;

        let mut servers = Vec::new();
        for pod in Host::PODS {
            for (port, protocol) in product(POD_PORTS, Protocol::ALL) {
                for family in families() {
                    servers.push(Server::start(topology.host(pod), pod, family, port, protocol)?);
                }
            }
        }
        for (node, protocol) in product([Host::N1, Host::N2], [Protocol::Tcp, Protocol::Udp]) {
            let port = NODE_PORT_OF_DAEMON;
            let namespace = topology.host(node);
            servers.push(Server::start_on_all_addresses(namespace, node, port, protocol)?);
        }
        Ok(Self { topology, directory, program, _servers: servers })
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, host: Host) -> &Arc<Namespace> {
        self.topology.host(host)
    }

    /// A directory for the files of one agent.
    pub(crate) fn directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The program under test.
    pub(crate) fn program(&self) -> &PathBuf {
        &self.program
    }
}

/// Every pair of two lists.
pub(crate) fn product<A: Copy, B: Copy>(
    left: impl IntoIterator<Item = A>,
    right: impl IntoIterator<Item = B> + Clone,
) -> impl Iterator<Item = (A, B)> {
    left.into_iter().flat_map(move |a| right.clone().into_iter().map(move |b| (a, b)))
}

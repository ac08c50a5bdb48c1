//! `doctor`: checks of this node.

use std::io::{self, Write};
use std::process::ExitCode;

use super::running::{self, Flags};
use super::{FAILED, output};
use crate::config::{SharedFlags, SourceConfig, resolve};
use crate::kernel::doctor::{self, Subject, Verdict};
use crate::source::kubernetes::{ClientError, Reach, Server, connect, service_ranges};

pub(super) fn run(shared: &SharedFlags) -> anyhow::Result<ExitCode> {
    let config = match running::flags(shared)? {
        Flags::Own => resolve(shared),
        Flags::OfAgent(flags, line) => {
            writeln!(io::stderr(), "kube-ipvs: as the agent that runs here: {line}")?;
            resolve(&flags)
        }
        Flags::Hidden(why) => {
            writeln!(io::stderr(), "kube-ipvs: {why}")?;
            resolve(shared)
        }
    }?;
    let mut subject = Subject {
        schedulers: vec![config.settings.scheduler],
        carry: config.settings.carry,
        service_ranges: config.settings.service_cidrs,
        api_servers: Vec::new(),
    };
    if let SourceConfig::Kubernetes { kubeconfig, master } = config.source {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match runtime.block_on(look_up(&Reach { kubeconfig, master }, &mut subject)) {
            // On a node, rather than in a pod, there may be nothing to check.
            Ok(()) | Err(ClientError::InCluster(_)) => {}
            Err(error) => output::tell(error)?,
        }
    }
    let report = doctor::run(&subject);
    write!(io::stdout(), "{report}")?;
    let fails = report.checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Looks up where the API server is, and which ranges it knows if it can be asked.
async fn look_up(reach: &Reach, subject: &mut Subject) -> Result<(), ClientError> {
    let server = Server::find(reach).await?;
    subject.api_servers = server.addresses().collect();
    let clients = connect(reach).await?;
    subject.service_ranges.extend(service_ranges(clients.current()).await);
    Ok(())
}

//! `render`: the desired state as text, without a kernel or a cluster.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use kube_ipvs_core::engine::{self, DesiredState};
use kube_ipvs_core::model::{Refusal, Route, ServiceKey};
use kube_ipvs_core::plan::{Operation, RouteOperation, ServerOperation};
use serde_json::{Value, json};

use super::{RenderFormat, objects, output};
use crate::config::SharedFlags;
use crate::kernel::nft;

pub(super) fn run(shared: &SharedFlags, form: RenderFormat) -> anyhow::Result<ExitCode> {
    let (_, desired) = objects::desired(shared, "render")?;
    if form != RenderFormat::Json {
        for (key, refusal, reason) in refusals(&desired) {
            let Refusal { kind, address, .. } = refusal;
            output::report(format_args!("{key}: {kind} {address} is not served: {reason}"))?;
        }
    }
    let mut out = io::stdout().lock();
    let lines = match form {
        RenderFormat::Ipvsadm => ipvsadm(&desired),
        RenderFormat::Route => routes(&desired),
        RenderFormat::Nft => {
            out.write_all(nft(&desired).as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        RenderFormat::Json => {
            writeln!(out, "{}", output::pretty_json(&json(&desired))?)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    lines.iter().try_for_each(|line| output::line(&mut out, line))?;
    Ok(ExitCode::SUCCESS)
}

/// Front ends that Services ask for and do not get, and why; sorted.
fn refusals(desired: &DesiredState) -> Vec<(&ServiceKey, &Refusal, String)> {
    let all = desired.services().flat_map(|(key, service)| {
        let why = |refusal: &Refusal| refusal.because(|at| desired.owner(at));
        service.refusals.iter().map(move |refusal| (key, refusal, why(refusal)))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_unstable_by_key(|(key, refusal, _)| (*key, refusal.address));
    all
}

/// The lines that `ipvsadm -Sn` prints once the desired state is programmed, sorted.
fn ipvsadm(desired: &DesiredState) -> Vec<String> {
    let mut lines = Vec::new();
    for pool in desired.services().flat_map(|(_, service)| service.serving_pools()) {
        lines.push(ServerOperation::Add(pool.server).to_string());
        for backend in pool.backends.iter() {
            lines.push(
                ServerOperation::AddReal(
                    pool.server.address,
                    *backend,
                    pool.server.max_connections,
                )
                .to_string(),
            );
        }
    }
    lines.sort_unstable();
    lines
}

fn nft(desired: &DesiredState) -> String {
    nft::render(&engine::elements(desired), &desired.context().settings)
}

fn routes(desired: &DesiredState) -> Vec<String> {
    let routes = desired.services().flat_map(|(_, service)| &*service.routes);
    let routes: BTreeSet<Route> = routes.copied().collect();
    [RouteOperation::CreateDevice]
        .into_iter()
        .chain(routes.into_iter().map(RouteOperation::Add))
        .map(|operation| Operation::from(operation).to_string())
        .collect()
}

fn json(desired: &DesiredState) -> Value {
    let refusal = |(key, refusal, reason): (&ServiceKey, &Refusal, String)| {
        let (address, kind) = (refusal.address.to_string(), refusal.kind.to_string());
        json!({ "service": key.to_string(), "address": address, "kind": kind, "reason": reason })
    };
    json!({
        "ipvsadm": ipvsadm(desired),
        "nft": nft(desired),
        "refusals": refusals(desired).into_iter().map(refusal).collect::<Vec<_>>(),
        "routes": routes(desired),
    })
}

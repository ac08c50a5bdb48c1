//! Every source connects to every destination of a table of Services, and what becomes of the packets
//! has to be what `explain` says: the verdict, the backends, and whose address these see.
//!
//! To add a rule, add a row to [`table`]: all of its pairs are made from it.

mod destinations;
mod detour;
mod row;
mod table;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use self::detour::Detour;
use super::{Case, case};
use crate::context::{Failure, Step, TestContext};
use crate::explained::{
    Clients, Manner, Met, Pair, contradiction, describe, has_met_all, programs, strays,
};
use crate::lab::Host::{self, C, N1, P1, P2, P3};
use crate::lab::product;

/// Pods of this node and of another one, the node's own processes, and an external client.
const SOURCES: [Host; 5] = [P1, P2, P3, N1, C];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("packets_do_what_explain_says", packets_do_what_explain_says),
        case("packets_do_what_explain_says_if_all_is_carried", |t| {
            t.agent().configure("carry: all")?;
            packets_do_what_explain_says(t)
        }),
    ]
}

fn packets_do_what_explain_says(t: &mut TestContext<'_>) -> Step {
    let rows = table::rows();
    let servers = table::host_network_servers(t)?;
    let detour = Detour::new(t)?;
    for row in &rows {
        for object in row.objects() {
            t.apply(object)?;
        }
    }
    t.settled()?;

    let programs = programs(t)?;
    let destinations = destinations::of(&rows);
    let explained = |(to, from): (_, Host)| Pair::new(&programs, t.host(N1), from, to);
    let pairs: Vec<Pair> =
        product(&destinations, SOURCES).map(explained).collect::<io::Result<_>>()?;
    let contradictions = lookup(t, &pairs);
    drop((detour, servers));
    if contradictions.is_empty() {
        return Ok(());
    }
    let step = format!("{} sources lookup at {} addresses", SOURCES.len(), destinations.len());
    let got = format!("{} differ\n{}", contradictions.len(), contradictions.join("\n"));
    Err(Failure::new(step, "what `explain` says", got))
}

/// Makes all pairs meet and says which ones met with something else than was explained.
fn lookup(t: &TestContext<'_>, pairs: &[Pair]) -> Vec<String> {
    let clients = Clients::new(SOURCES.map(|from| (from, Arc::clone(t.host(from)))));
    let start = Instant::now();
    let met = clients.meet(pairs);
    let incomplete: Vec<&Pair> = met
        .iter()
        .filter(|(pair, met)| contradiction(pair, met).is_none() && is_unsettled(pair, met))
        .map(|(pair, _)| *pair)
        .collect();
    // Clients in step with each other may meet the same backend each time. One alone does not. And
    // one who comes twice at once for the first time, by two ways to one virtual server, may be
    // given two backends to stay with: the kernel looks for the one and chooses it without a lock
    // (`ip_vs_sched_persist`).
    let alone = clients.lookup(&incomplete, Manner::Alone);
    let told = pairs.iter().filter(|pair| pair.is_told()).count();
    println!(
        "        {} pairs: {} are told something, {} nothing; {} once more alone \
         ({:.1} s)",
        pairs.len(),
        told,
        pairs.len() - told,
        incomplete.len(),
        start.elapsed().as_secs_f64(),
    );
    let met_once = met.iter().map(|(pair, met)| (*pair, met));
    let met_again = incomplete.into_iter().zip(&alone);
    let missing = met_again.clone().filter(|(pair, met)| is_unsettled(pair, met));
    met_once
        .chain(met_again)
        .filter_map(|(pair, met)| contradiction(pair, met))
        .chain(missing.map(|(pair, met)| describe(pair, met)))
        .collect()
}

/// Whether a pair has to meet alone before it can be judged.
fn is_unsettled(pair: &Pair, met: &Met) -> bool {
    strays(pair, met) || !has_met_all(pair, met)
}

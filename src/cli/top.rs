//! `top`: the traffic of Services and their endpoints, by two readings of IPVS's counters.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Instant;

use kube_ipvs_core::model::VirtualAddress;
use netlink_ipvs::ipvs::{Connections, Traffic};
use rustix::termios::tcgetwinsize;

use super::top_view::{TopBackend, TopPool, TopView, rates};
use super::{TextFormat, TopFlags, output, status};
use crate::agent::api::{EndpointView, PoolView};
use crate::client::AgentClient;
use crate::config::SharedFlags;
use crate::kernel::ipvs::{Ipvs, NOT_ADDED_UP};

/// The counters of each real server of each virtual server.
type Counters = HashMap<(VirtualAddress, SocketAddr), (Connections, Traffic)>;

/// Clears the screen from its first line on.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

pub(super) fn run(shared: &SharedFlags, flags: &TopFlags) -> anyhow::Result<ExitCode> {
    let mut top = Top { client: status::client(shared)?, ipvs: Ipvs::open()?, flags };
    if !top.ipvs.adds_up() {
        anyhow::bail!(NOT_ADDED_UP);
    }
    let (mut last, mut before) = (Instant::now(), top.read()?.1);
    loop {
        sleep(flags.interval);
        let (pools, now) = top.read()?;
        let seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        top.print(&top.view(pools, &before, &now, seconds))?;
        if flags.once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

struct Top<'a> {
    client: AgentClient,
    ipvs: Ipvs,
    flags: &'a TopFlags,
}

impl Top<'_> {
    /// Reads the pools of the agent, each with its Service, and IPVS's counters of them.
    fn read(&mut self) -> anyhow::Result<(Vec<(String, PoolView)>, Counters)> {
        let filter = self.flags.services.clone().unwrap_or_default();
        let services = self.client.status(&filter)?.services.into_iter();
        let pools: Vec<_> = services
            .flat_map(|it| it.pools.into_iter().map(move |pool| (it.service.clone(), pool)))
            .collect();
        let mut counters = Counters::new();
        for (_, pool) in &pools {
            let Ok(server) = pool.address.parse() else { continue };
            for (at, connections, traffic) in self.ipvs.counters(&server)? {
                counters.insert((server, at), (connections, traffic));
            }
        }
        Ok((pools, counters))
    }

    fn view(
        &self,
        pools: Vec<(String, PoolView)>,
        before: &Counters,
        now: &Counters,
        seconds: f64,
    ) -> TopView {
        let pool = |(service, pool): (String, PoolView)| {
            let server = pool.address.parse().ok();
            let backend = |endpoint: &EndpointView, state: &str| {
                let key = server.map(|server| (server, endpoint.socket()));
                let of = |all: &Counters| key.and_then(|key| all.get(&key).copied());
                let (connections, traffic) = of(now).unwrap_or_default();
                // A real server that was added meanwhile began with nothing.
                let (_, earlier) = of(before).unwrap_or_default();
                TopBackend::new(endpoint, state, connections, rates(earlier, traffic, seconds))
            };
            let backends = pool.endpoints().map(|(endpoint, state)| backend(endpoint, state));
            TopPool::new(service, pool.address.clone(), backends.collect())
        };
        let mut pools: Vec<_> = pools.into_iter().map(pool).collect();
        let key = self.flags.sort;
        pools.sort_by_key(|it| Reverse(key.of(&it.rates, it.active_connections)));
        for pool in &mut pools {
            pool.backends.sort_by_key(|it| Reverse(key.of(&it.rates, it.connections()[0])));
        }
        TopView { seconds, pools }
    }

    fn print(&self, view: &TopView) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match self.flags.output {
            TextFormat::Json => writeln!(out, "{}", serde_json::to_string(view)?)?,
            TextFormat::Text if self.flags.once || !out.is_terminal() => {
                writeln!(out, "{}", output::shown(view)?)?;
            }
            TextFormat::Text => {
                let size = tcgetwinsize(&out)?;
                let (rows, columns) = (usize::from(size.ws_row), usize::from(size.ws_col));
                let text = output::shown(view)?.to_string();
                let lines = text.lines().take(rows.saturating_sub(1));
                let lines = lines.map(|line| line.chars().take(columns).collect::<String>());
                write!(out, "{FROM_THE_TOP}{}", lines.collect::<Vec<_>>().join("\r\n"))?;
                out.flush()?;
            }
        }
        Ok(())
    }
}

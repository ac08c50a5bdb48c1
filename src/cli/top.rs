//! `top`: the traffic of Services and their endpoints, by two readings of IPVS's counters.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Instant;

use rustix::termios::tcgetwinsize;

use super::top_view::{TopBackend, TopPool, TopView};
use super::{TextFormat, TopFlags, output, status};
use crate::agent::api::{PoolView, TrafficView, count};
use crate::client::AgentClient;
use crate::config::SharedFlags;

/// The counters of each real server of each virtual server.
type Counters = HashMap<(String, SocketAddr), TrafficView>;

/// Clears the screen from its first line on.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

pub(super) fn run(shared: &SharedFlags, flags: &TopFlags) -> anyhow::Result<ExitCode> {
    let top = Top { client: status::client(shared)?, flags };
    let (mut last, mut before) = (Instant::now(), counters(&top.read()?));
    loop {
        sleep(flags.interval);
        let pools = top.read()?;
        let seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        let now = counters(&pools);
        top.print(&top.view(pools, &before, seconds))?;
        if flags.once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

fn counters(pools: &[(String, PoolView)]) -> Counters {
    let of_pool = |pool: &PoolView| -> Vec<_> {
        let traffic = pool.endpoints().filter_map(|(it, _)| Some((it.socket(), it.traffic?)));
        traffic.map(|(at, traffic)| ((pool.address.clone(), at), traffic)).collect()
    };
    pools.iter().flat_map(|(_, pool)| of_pool(pool)).collect()
}

struct Top<'a> {
    client: AgentClient,
    flags: &'a TopFlags,
}

impl Top<'_> {
    /// Reads the pools of the agent, each with its Service, and IPVS's counters of them.
    fn read(&self) -> anyhow::Result<Vec<(String, PoolView)>> {
        let filter = self.flags.services.clone().unwrap_or_default();
        let mut status = self.client.status(&filter)?;
        count(&mut status)?;
        if let Some(reason) = status.uncounted {
            anyhow::bail!(reason);
        }
        let pools = status.services.into_iter();
        Ok(pools
            .flat_map(|it| it.pools.into_iter().map(move |pool| (it.service.clone(), pool)))
            .collect())
    }

    fn view(&self, pools: Vec<(String, PoolView)>, before: &Counters, seconds: f64) -> TopView {
        let pool = |(service, pool): (String, PoolView)| {
            let backends = pool.endpoints().map(|(endpoint, state)| {
                // A real server that was added meanwhile began with nothing.
                let earlier = before.get(&(pool.address.clone(), endpoint.socket()));
                TopBackend::new(endpoint, state, earlier.copied().unwrap_or_default(), seconds)
            });
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

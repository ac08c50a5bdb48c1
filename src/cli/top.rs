//! `top`: the traffic of Services and their endpoints, by two readings of IPVS's counters.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Instant;

use rustix::termios::{Winsize, tcgetwinsize};

use super::top_view::{TopBackend, TopPool, TopView};
use super::{TextFormat, TopFlags, output, status};
use crate::agent::api::{PoolView, StatusView, TrafficView};
use crate::config::SharedFlags;

/// Clears the screen from its first line on.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

pub(super) fn run(shared: &SharedFlags, flags: &TopFlags) -> anyhow::Result<ExitCode> {
    let client = status::client(shared)?;
    let read = || Reading::new(client.status(&flags.question())?);
    let mut before = read()?;
    loop {
        sleep(flags.interval);
        let now = read()?;
        let view = now.since(&before, flags);
        match flags.output {
            TextFormat::Json => writeln!(io::stdout(), "{}", output::json(&view)?)?,
            TextFormat::Text => draw(flags, &output::shown(&view)?.to_string())?,
        }
        if flags.once {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
    }
}

/// Prints a text, in place of the one before on a terminal.
pub(super) fn draw(flags: &TopFlags, text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if flags.once || !out.is_terminal() {
        return writeln!(out, "{text}");
    }
    let Winsize { ws_row, ws_col, .. } = tcgetwinsize(&out)?;
    write!(out, "{FROM_THE_TOP}{}", cut_to(text, ws_row, ws_col))?;
    out.flush()
}

/// Returns the part of a text that a terminal has room for. One that does not know its size says 0, as
/// that of `docker exec -t` does at first.
fn cut_to(text: &str, rows: u16, columns: u16) -> String {
    let known = |size: u16| if size == 0 { usize::MAX } else { size.into() };
    let lines = text.lines().take(known(rows).saturating_sub(1));
    let lines = lines.map(|line| line.chars().take(known(columns)).collect::<String>());
    lines.collect::<Vec<_>>().join("\r\n")
}

/// The pools of an agent with the counters of IPVS, at one moment.
pub(super) struct Reading {
    at: Instant,
    /// Each with its Service.
    pools: Vec<(String, PoolView)>,
    /// Those of each real server, by virtual server.
    counters: HashMap<String, HashMap<SocketAddr, TrafficView>>,
}

impl Reading {
    /// # Errors
    ///
    /// If the agent could not read the counters.
    pub(super) fn new(status: StatusView) -> anyhow::Result<Self> {
        if let Some(reason) = status.uncounted {
            anyhow::bail!(reason);
        }
        let services = status.services.into_iter();
        let of_service = services
            .flat_map(|it| it.pools.into_iter().map(move |pool| (it.service.clone(), pool)));
        let pools: Vec<_> = of_service.collect();
        let of_pool = |(_, pool): &(String, PoolView)| {
            let traffic = pool.endpoints().filter_map(|(it, _)| Some((it.socket(), it.traffic?)));
            (pool.address.clone(), traffic.collect())
        };
        let counters = pools.iter().map(of_pool).collect();
        Ok(Self { at: Instant::now(), pools, counters })
    }

    /// Returns the traffic between an earlier reading and this one.
    pub(super) fn since(&self, before: &Self, flags: &TopFlags) -> TopView {
        let seconds = (self.at - before.at).as_secs_f64();
        let pool = |(service, pool): &(String, PoolView)| {
            let known = before.counters.get(&pool.address);
            let backends = pool.endpoints().map(|(endpoint, state)| {
                let earlier = match known {
                    // A real server that was added meanwhile began with nothing.
                    Some(known) => known.get(&endpoint.socket()).copied(),
                    // A pool that has just become one of the busiest has other connections, too.
                    None => endpoint.traffic,
                };
                TopBackend::new(endpoint, state, earlier.unwrap_or_default(), seconds)
            });
            TopPool::new(service.clone(), pool.address.clone(), backends.collect())
        };
        let mut pools: Vec<_> = self.pools.iter().map(pool).collect();
        let order = flags.sort;
        pools.sort_by_key(|it| Reverse(it.rates.by(order, it.active_connections)));
        let mut services = BTreeSet::new();
        pools.retain(|pool| {
            services.contains(&pool.service)
                || services.len() < flags.limit && services.insert(pool.service.clone())
        });
        for pool in &mut pools {
            pool.backends.sort_by_key(|it| Reverse(it.rates.by(order, it.connections()[0])));
        }
        TopView { seconds, pools }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_what_it_has_room_for() {
        let text = "a table\nof three\nlines\n";
        assert_eq!(cut_to(text, 3, 4), "a ta\r\nof t");
        assert_eq!(cut_to(text, 24, 80), "a table\r\nof three\r\nlines");
        assert_eq!(cut_to(text, 0, 0), "a table\r\nof three\r\nlines", "of unknown size");
    }
}

//! Probes the node's data path as the packets of a pod take it: over a device, through prerouting, IPVS
//! and forward, and back.
//!
//! The device is a TUN device. The agent reads and writes its packets, so it is the pod at its other
//! end, without a network namespace, which would need CAP_SYS_ADMIN. The kernel removes the device when
//! the agent ends, however it ends.

mod probe;
mod verdict;

use std::fmt::Display;
use std::future::pending;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs_core::canary::CANARY_DEVICE;
use kube_ipvs_core::model::Family;
use netlink_ipvs::KernelError;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tun::Tun;
use tracing::{debug, warn};

use super::engine_loop::Handles;
use crate::kernel::route::{Network, Routes};
use probe::{Probe, TcpSegment};
pub(super) use verdict::{CanaryBoard, CanaryVerdict, ProbeOutcome};
use verdict::{CanaryJudge, no_device};

/// The time between two probes.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a probe may take. On an idle node it takes less than a millisecond.
const LONGEST: Duration = Duration::from_secs(1);
/// How often the device may fail to open. An agent that has just been replaced may still have it. The
/// library leaves a file descriptor open with each failure.
const ATTEMPTS: u32 = 5;
/// The size of the largest packet of the device, rounded up.
const LARGEST: usize = 2048;
/// The number of packets that the kernel keeps for the agent (`TUN_READQ_SIZE`), rounded up.
const LONGEST_QUEUE: usize = 512;
/// The number of the client's ports.
const PORTS: u16 = 4096;
const FIRST_PORT: u16 = 20_000;

/// Probes the data path for as long as it is polled.
pub(super) async fn watch(handles: Handles) {
    Canary::new(handles).run().await;
}

struct Canary {
    handles: Handles,
    judges: [CanaryJudge; 2],
    /// Counts the probes. It begins with the time, so that a new agent uses other ports than the last
    /// one: IPVS remembers a connection for some seconds.
    count: u32,
    failed_opens: u32,
}

/// The device, with the families that it may probe.
struct CanaryLink {
    tun: Tun,
    families: Vec<Family>,
}

/// Why there is no device.
struct Unopened {
    reason: String,
    /// Whether another attempt may succeed.
    may_pass: bool,
}

impl Canary {
    fn new(handles: Handles) -> Self {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let count = u32::try_from(time.as_secs() % u64::from(PORTS)).unwrap_or_default();
        Self { handles, judges: Default::default(), count, failed_opens: 0 }
    }

    async fn run(&mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut link = None;
        loop {
            ticks.tick().await;
            if !self.handles.health.is_synced() {
                continue;
            }
            if link.is_none() {
                match self.open().await {
                    Ok(opened) => link = Some(opened),
                    Err(Unopened { reason, may_pass }) => {
                        self.failed_opens += 1;
                        debug!(attempt = self.failed_opens, "{reason}");
                        if may_pass && self.failed_opens < ATTEMPTS {
                            continue;
                        }
                        warn!("the data path is not probed: {reason}");
                        for family in Family::BOTH {
                            self.note(family, CanaryVerdict::Impossible(reason.clone()));
                        }
                        return pending().await;
                    }
                }
            }
            if let Some(opened) = &link
                && let Err(error) = self.probe(opened).await
            {
                debug!(%error, "the device of the canary is created again");
                link = None;
            }
        }
    }

    /// Creates the device.
    async fn open(&mut self) -> Result<CanaryLink, Unopened> {
        // The kernel has one lock for all changes of devices, which others may hold for long.
        let opened = spawn_blocking(create).await.map_err(|error| may_pass(&error))?;
        let (tun, attached) = opened?;
        let mut families = Vec::new();
        for family in Family::BOTH {
            if !attached.iter().any(|(used, _)| *used == family) {
                self.note(family, CanaryVerdict::Unknown);
            }
        }
        for (family, attached) in attached {
            match attached {
                Ok(()) => families.push(family),
                Err(error) => {
                    let reason = format!("no {family} route leads to {CANARY_DEVICE}: {error}");
                    warn!("the data path is not probed: {reason}");
                    self.note(family, CanaryVerdict::Impossible(reason));
                }
            }
        }
        self.failed_opens = 0;
        Ok(CanaryLink { tun, families })
    }

    /// Sends one probe of each family and judges what becomes of it.
    async fn probe(&mut self, link: &CanaryLink) -> io::Result<()> {
        self.count = self.count.wrapping_add(1);
        let port = FIRST_PORT + u16::try_from(self.count % u32::from(PORTS)).unwrap_or_default();
        let new = |family: &Family| Probe::new(*family, port, self.count);
        let mut probes: Vec<_> = link.families.iter().map(new).collect();
        let sent = Instant::now();
        // Out of time is an outcome like any other.
        let exchanged = timeout(LONGEST, exchange(&link.tun, &mut probes)).await.unwrap_or(Ok(()));
        let mut all_answered = true;
        for probe in &probes {
            let (family, outcome) = (probe.family, probe.outcome());
            all_answered &= outcome == ProbeOutcome::Answered;
            self.handles.metrics.canary.probed(family, outcome);
            if outcome != ProbeOutcome::Answered {
                debug!(%family, %outcome, "a probe of the canary has failed");
            }
            if let Some(verdict) = family.pick_mut(&mut self.judges).judge(outcome, sent) {
                self.note(family, verdict);
            }
        }
        exchanged?;
        if !all_answered {
            // Another program may have removed a route, or switched IPv6 off, which is no fault of the
            // data path.
            let families = link.families.clone();
            let attached = spawn_blocking(move || attach(&families)).await?;
            for (_, attached) in attached.map_err(io::Error::other)? {
                attached.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    fn note(&self, family: Family, verdict: CanaryVerdict) {
        let Handles { canary, health, metrics, notices, .. } = &self.handles;
        metrics.canary.judged(family, &verdict);
        health.set_canary(family, verdict.failing_since());
        canary.note(family, verdict, notices);
    }
}

fn may_pass(error: &dyn Display) -> Unopened {
    Unopened { reason: no_device(error), may_pass: true }
}

/// Creates the device, and leads the families that the node uses to it.
fn create() -> Result<(Tun, Attached), Unopened> {
    let built = Tun::builder().name(CANARY_DEVICE).build().map_err(|error| Unopened {
        reason: no_device(&error),
        // Without /dev/net/tun there will be no device.
        may_pass: !matches!(error, tokio_tun::Error::IoError(_)),
    })?;
    let tun = built.into_iter().next().ok_or_else(|| may_pass(&"the kernel gives none"))?;
    let attached = used_families().and_then(|families| attach(&families));
    Ok((tun, attached.map_err(|error| may_pass(&error))?))
}

/// Sends the requests, and answers as the endpoint until every client has an answer.
async fn exchange(tun: &Tun, probes: &mut [Probe]) -> io::Result<()> {
    let mut packet = [0; LARGEST];
    // Other programs may have sent to these addresses, and a full queue takes no request.
    for _ in 0..LONGEST_QUEUE {
        match tun.try_recv(&mut packet) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    for probe in probes.iter() {
        send(tun, &probe.request()).await?;
    }
    while !probes.iter().all(Probe::is_answered) {
        let length = tun.recv(&mut packet).await?;
        let packet = packet.get(..length).unwrap_or_default();
        let Some(segment) = TcpSegment::decode(packet) else { continue };
        for probe in probes.iter_mut() {
            if let Some(answer) = probe.receive(&segment) {
                send(tun, &answer).await?;
            }
        }
    }
    Ok(())
}

async fn send(tun: &Tun, segment: &TcpSegment) -> io::Result<()> {
    match segment.encode() {
        Some(packet) => tun.send(&packet).await.map(drop),
        None => Ok(()),
    }
}

/// Returns the families of which the node has an address. Clusters without IPv6 may well have firewalls
/// that let none of it through.
fn used_families() -> Result<Vec<Family>, KernelError> {
    let ips = Network::open()?.addresses()?;
    let is_used = |family: &Family| ips.iter().any(|ip| Family::of(*ip) == *family);
    Ok(Family::BOTH.into_iter().filter(is_used).collect())
}

type Attached = Vec<(Family, Result<(), KernelError>)>;

/// Brings the device up, and leads the client and the endpoint of each family to it.
fn attach(families: &[Family]) -> Result<Attached, KernelError> {
    let mut routes = Routes::open()?;
    routes.raise_canary()?;
    Ok(families.iter().map(|family| (*family, routes.lead_to_canary(*family))).collect())
}

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::thread;
use std::time::{Duration, SystemTime};

use kube_ipvs_core::model::HealthCheck;
use tokio::sync::oneshot;

use super::*;
use crate::agent::metrics::Metrics;
use crate::client::{AgentClient, AgentError};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port()
}

fn check(name: &str, port: u16, here: usize) -> BTreeMap<ServiceKey, Option<HealthCheck>> {
    let check = HealthCheck { port, local_endpoints: [here, here] };
    BTreeMap::from([(ServiceKey::new("default", name), Some(check))])
}

fn status(port: u16) -> Option<u16> {
    match AgentClient::new(SocketAddr::new(HERE, port)).get("/") {
        Ok(_) => Some(200),
        Err(AgentError::Refused { status, .. }) => Some(status),
        Err(_) => None,
    }
}

#[track_caller]
fn until(port: u16, expected: Option<u16>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(port) != expected {
        assert!(Instant::now() < deadline, "{port}: {:?}", status(port));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Answers health checks during a test; returns the reasons of the reported events.
fn serving(test: impl FnOnce(&watch::Sender<HealthChecks>, &Health)) -> Vec<EventReason> {
    let checks = watch::Sender::<HealthChecks>::default();
    let health = Arc::new(Health::new(SystemTime::now(), Duration::from_secs(30)));
    let (stop, stopped) = oneshot::channel::<()>();
    let (notices, mut reported) = EventRecorder::new(Arc::new(Metrics::new().unwrap()));
    let (served, of) = (checks.clone(), Arc::clone(&health));
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                () = serve(served, &of, &notices) => {}
                _ = stopped => {}
            }
        });
    });
    test(&checks, &health);
    drop(stop);
    thread.join().unwrap();
    std::iter::from_fn(|| reported.try_recv()).map(|notice| notice.reason).collect()
}

fn update(
    checks: &watch::Sender<HealthChecks>,
    changes: BTreeMap<ServiceKey, Option<HealthCheck>>,
    addresses: Vec<IpAddr>,
) {
    checks.send_if_modified(|checks| checks.update(changes, addresses));
}

#[test]
fn ports_open_and_close_as_services_change() {
    let (one, other) = (free_port(), free_port());
    let reported = serving(|checks, health| {
        update(checks, check("web", one, 1), vec![HERE]);
        until(one, Some(200));
        update(checks, check("web", one, 0), vec![HERE]);
        assert_eq!(status(one), Some(503));
        update(checks, check("web", other, 1), vec![HERE]);
        until(other, Some(200));
        until(one, None);

        health.queued(Instant::now().checked_sub(Duration::from_secs(61)).unwrap());
        assert_eq!(status(other), Some(503), "the agent does not keep up");
        update(checks, BTreeMap::new(), Vec::new());
        until(other, None);
    });
    assert_eq!(reported, []);
}

#[test]
fn a_taken_port_does_not_affect_others() {
    let occupier = TcpListener::bind((HERE, 0)).unwrap();
    let (taken, free) = (occupier.local_addr().unwrap().port(), free_port());
    let reported = serving(|checks, _| {
        update(checks, check("taken", taken, 1), vec![HERE]);
        update(checks, check("free", free, 1), vec![HERE]);
        until(free, Some(200));
        drop(occupier);
        // Any change causes a retry.
        update(checks, check("free", free_port(), 1), vec![HERE]);
        until(taken, Some(200));
    });
    assert_eq!(reported, [EventReason::HealthCheckNotStarted], "once, however often it is tried");
}

#[test]
fn each_family_has_all_addresses_to_itself() {
    let port = free_port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let v4 = http::bind_family(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).await;
        let v6 = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        // A machine may lack IPv6.
        if let Err(error) = http::bind_family(v6).await {
            assert_ne!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
        }
        v4.unwrap();
    });
}

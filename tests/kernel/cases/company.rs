//! An agent that others keep from something: its ports are taken, or another agent is there.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as Name, UnixListener};

use kube_ipvs::client::AgentClient;
use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{ServiceBuilder, SliceBuilder, endpoints, service};

/// Health, metrics, and the health checks of a Service.
const TAKEN: [&str; 3] = ["0.0.0.0:10256", "127.0.0.1:10249", "0.0.0.0:32124"];

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("taken_ports_do_not_stop_the_agent", |t| {
            t.agent().stop()?;
            let bind = || TAKEN.map(|address| TcpListener::bind(address).expect("free"));
            let _taken = t.host(N1).inside(bind);
            let local = web().spec("type", "LoadBalancer").local_external();
            t.apply(local.node_port(31_082).spec("healthCheckNodePort", 32_124))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from_all([P1]))?;
            for address in TAKEN {
                t.agent().wait_for_log(&format!("cannot listen on {address}"))?;
            }
            Ok(t.agent().stop()?)
        }),
        case("a_flood_of_the_probe_port_does_not_stop_probes", |t| {
            t.settled()?;
            let outside: SocketAddr = "192.168.50.1:10256".parse().expect("an address");
            let inside: SocketAddr = "127.0.0.1:10256".parse().expect("an address");
            let connect = || -> io::Result<Vec<_>> {
                (0..264).map(|_| TcpStream::connect(outside)).collect()
            };
            for _ in 0..3 {
                let mut held = t.host(C).inside(connect)?;
                for address in [inside, outside] {
                    let probe =
                        || AgentClient::new(address).get("/livez").map_err(io::Error::other);
                    t.host(N1).inside(probe)?;
                }
                for stream in &mut held {
                    // Most have been cut off.
                    let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
                }
                let client = || AgentClient::new(outside).get("/livez").map_err(io::Error::other);
                t.host(C).inside(client)?;
            }
            Ok(())
        }),
        case("a_second_agent_waits_for_the_first_to_end", |t| {
            t.apply(web())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let first = format!("process {}", t.agent().pid()?);
            let mut second = t.agent().another();
            second.launch()?;
            second
                .wait_for_log(&format!("another agent runs in this network namespace: {first}"))?;
            // It has done nothing so far, and ends when it is told to.
            second.stop()?;
            // From another container the first has no number.
            second.spawn(&["unshare", "--pid", "--fork", "--kill-child"])?;
            second.wait_for_log("in this network namespace: a process of another container")?;
            second.kill()?;
            // Commands that use the kernel for a moment do not wait.
            t.run_to_end("run", &["--init-only"])?;

            second.launch()?;
            second.wait_for_log("waiting for it to end")?;
            t.apply(slice().ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from_all([P3]))?;
            let removed = t.command("cleanup", &[])?;
            let told = removed.stderr.contains(&format!("an agent runs here ({first})"));
            t.check("cleanup tells of the agent", told, &removed.stderr)?;
            t.settled()?;

            // However the first ends, the second goes on from there.
            t.agent().kill()?;
            second.wait_for_log("the other agent has ended")?;
            second.wait_for_log("synced")?;
            t.apply(slice().ready_on(P1))?;
            second.settled()?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from_all([P1]))?;
            Ok(second.stop()?)
        }),
        case("only_root_keeps_an_agent_waiting", |t| {
            t.apply(web())?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.agent().stop()?;
            // The kernel may take a moment to free the name of an ended process.
            let pretender =
                patiently(LONG_PATIENCE, || Ok(t.host(N1).inside(|| take_the_name(NOBODY))?))?;
            t.settled()?;
            t.agent().wait_for_log("of user 65534 pretends to be the agent of this node")?;
            t.apply(slice().ready_on(P3))?;
            t.settled()?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from(P3))?;
            t.agent().stop()?;
            drop(pretender);

            let root = patiently(LONG_PATIENCE, || Ok(t.host(N1).inside(|| take_the_name(0))?))?;
            t.apply(slice().ready_on(P1))?;
            let before = t.kernel()?.to_string();
            t.agent().launch()?;
            t.agent().wait_for_log("another agent runs in this network namespace: process ")?;
            t.same_lines("the kernel meanwhile", &before, &t.kernel()?.to_string())?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from(P3))?;
            drop(root);
            t.agent().wait_for_log("the other agent has ended")?;
            t.settled()?;
            t.expect(P2, "10.96.9.70:80/tcp", Answers::from(P1))
        }),
    ]
}

/// The user that processes without rights have.
const NOBODY: u32 = 65_534;

/// Takes the name by which agents know of each other, as that user. For a thread that ends after it.
fn take_the_name(user: u32) -> io::Result<UnixListener> {
    let user = Uid::from_raw(user);
    set_thread_res_uid(user, user, user)?;
    UnixListener::bind_addr(&Name::from_abstract_name("kube-ipvs/agent")?)
}

fn web() -> ServiceBuilder {
    service("dev/company").cluster_ip("10.96.9.70").port("http", 80)
}

fn slice() -> SliceBuilder {
    endpoints("dev/company").port("http", 8080)
}

//! Options of a Service: each takes effect in the kernel, and a mistake costs nothing else.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Family;

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::{Answers, Refused};
use crate::lab::Host::{self, C, N1, P1, P2, P3, P4};
use crate::lab::{Connection, ServiceBuilder, SliceBuilder, endpoints, families, node, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_service_chooses_its_scheduler", |t| {
            t.apply(web("10.96.8.1"))?;
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            t.settled()?;
            holds(t, "the usual scheduler", "-A -t 10.96.8.1:80 -s rr\n")?;
            let mut open = vec![("opened before".to_owned(), t.connect(P2, "10.96.8.1:80/tcp")?)];
            for (scheduler, flags, line) in [
                ("lc", None, "-s lc\n"),
                ("mh", None, "-s mh -b mh-port\n"),
                ("mh", Some("none"), "-s mh\n"),
                ("sh", Some("sh-fallback,sh-port"), "-s sh -b sh-fallback,sh-port\n"),
            ] {
                let web = web("10.96.8.1").annotation("kube-ipvs.io/scheduler", scheduler);
                t.apply(match flags {
                    Some(flags) => web.annotation("kube-ipvs.io/scheduler-flags", flags),
                    None => web,
                })?;
                t.settled()?;
                holds(t, scheduler, &format!("-A -t 10.96.8.1:80 {line}"))?;
                t.still_answer(&mut open)?;
                t.ask(P2, "10.96.8.1:80/tcp")?;
            }
            Ok(())
        }),
        case("weights_multiply_by_slice_and_by_place", |t| {
            let near =
                |weight: &str| slice().annotation("kube-ipvs.io/weight", weight).ready_on(P1);
            let far = || slice().named("options-2").ready_on(P3);
            let web =
                || web("10.96.8.2").annotation("kube-ipvs.io/locality-weights", "node=4,other=2");
            t.apply(web())?;
            t.apply(near("3"))?;
            t.apply(far())?;
            t.settled()?;
            // Round robin ignores weights.
            holds(t, "the weighted scheduler", "-A -t 10.96.8.2:80 -s wrr\n")?;
            holds(t, "slice and place", ":8080 -m -w 12\n")?;
            holds(t, "place alone", ":8080 -m -w 2\n")?;
            let mut near_ones = 0;
            for _ in 0..28 {
                near_ones += usize::from(t.ask(P2, "10.96.8.2:80/tcp")?.server == P1);
            }
            t.equal("answers of the near endpoint", 24, near_ones)?;
            explains(t, "10.96.8.2:80/tcp", "weight 12, share 85.7 %")?;
            // Maintenance: no new connections, and the open one goes on.
            let mut open = Vec::new();
            while open.is_empty() {
                let (server, connection) = connect(t, "10.96.8.2:80/tcp")?;
                if server == P1 {
                    open.push(("to the endpoint in maintenance".to_owned(), connection));
                }
            }
            t.apply(near("0"))?;
            t.settled()?;
            t.expect(P2, "10.96.8.2:80/tcp", Answers::from(P3))?;
            t.still_answer(&mut open)?;
            // It serves if there is no other.
            t.delete(far())?;
            t.settled()?;
            t.expect(P2, "10.96.8.2:80/tcp", Answers::from(P1))
        }),
        case("a_new_endpoint_gets_its_share_slowly", |t| {
            let at_once = count_of_new(t, false)?;
            t.delete(slice())?;
            t.settled()?;
            let slowly = count_of_new(t, true)?;
            println!("of ten connections the new endpoint gets {at_once}, slowly {slowly}");
            t.check("the stampede", at_once >= 8, at_once)?;
            t.check("no stampede", slowly <= 4, slowly)?;
            t.eventually_held("the whole weight", |ipvs| !ipvs.contains(":8080 -m -w 1\n"))
        }),
        case("connections_of_an_endpoint_are_limited", |t| {
            t.apply(web("10.96.8.4").annotation("kube-ipvs.io/max-connections", "2"))?;
            t.apply(slice().ready_on(P1).ready_on(P3))?;
            t.settled()?;
            let mut open = Vec::new();
            for number in 0..4 {
                open.push((format!("connection {number}"), t.connect(P2, "10.96.8.4:80/tcp")?));
            }
            t.still_answer(&mut open)?;
            t.expect(P2, "10.96.8.4:80/tcp", Refused)?;
            // Two connections are fewer than three quarters of the new limit.
            t.apply(web("10.96.8.4").annotation("kube-ipvs.io/max-connections", "4"))?;
            t.settled()?;
            t.ask(P2, "10.96.8.4:80/tcp")?;
            t.apply(web("10.96.8.4"))?;
            t.settled()?;
            t.still_answer(&mut open)
        }),
        case("a_service_drains_in_its_own_time", |t| {
            t.apply(web("10.96.8.5").annotation("kube-ipvs.io/drain", "0s"))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            let mut open = t.connect(P2, "10.96.8.5:80/tcp")?;
            t.expect_answer(&mut open, "a connection")?;
            t.apply(slice().ready_on(P3))?;
            let gone = format!("-r {}:8080", P1.ip(Family::V4));
            t.eventually_held("the real server is gone", |ipvs| !ipvs.contains(&gone))?;
            t.apply(web("10.96.8.5").annotation("kube-ipvs.io/drain", "unlimited"))?;
            t.agent().configure("drainPeriod: 0s")?;
            t.settled()?;
            let mut kept =
                vec![("kept without limit".to_owned(), t.connect(P2, "10.96.8.5:80/tcp")?)];
            t.still_answer(&mut kept)?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.8.5:80/tcp", Answers::from(P1))?;
            thread::sleep(Duration::from_secs(3));
            t.still_answer(&mut kept)
        }),
        case("clients_of_a_network_stay_together", |t| {
            let affine = web("10.96.8.6").affinity(600);
            t.apply(affine.annotation("kube-ipvs.io/affinity-prefix", "/24"))?;
            t.apply(slice().ready_on(P1).ready_on(P3).ready_on(P4))?;
            t.settled()?;
            holds(t, "the mask", "-A -t 10.96.8.6:80 -s rr -p 600 -M 255.255.255.0\n")?;
            let server = t.ask(P1, "10.96.8.6:80/tcp")?.server;
            for client in [P1, P2, P1, P2] {
                t.expect(client, "10.96.8.6:80/tcp", Answers::from(server))?;
            }
            Ok(())
        }),
        case("datagrams_of_one_socket_spread_over_the_endpoints", |t| {
            for carry in ["", "\ncarry: all", "\ncarry: offload\noffloadInterfaces: [eth0, 'P*']"] {
                t.agent().configure(&format!("onePacketEverywhere: true{carry}"))?;
                for family in families() {
                    datagrams_spread(t, family)?;
                }
            }
            Ok(())
        }),
        case("a_service_is_served_where_it_asks_to_be", |t| {
            let everywhere = || {
                let web = web("10.96.8.7").node_port(31_987);
                web.load_balancer_ip("203.0.113.187").external_ip("198.51.100.187")
            };
            let (cluster, balancer) = ("10.96.8.7:80/tcp", "203.0.113.187:80/tcp");
            let (external, node_port) = ("198.51.100.187:80/tcp", "192.168.50.1:31987/tcp");
            t.apply(everywhere().annotation("kube-ipvs.io/front-ends", "LoadBalancer,NodePort"))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(C, balancer, Answers::from(P1))?;
            t.expect(P2, balancer, Answers::from(P1))?;
            t.expect(C, node_port, Answers::from(P1))?;
            t.check("no ClusterIP", t.ask(P2, cluster).is_err(), "an answer")?;
            t.check("no external IP", t.ask(P2, external).is_err(), "an answer")?;
            t.apply(everywhere().annotation("kube-ipvs.io/nodes", "edge=true"))?;
            t.settled()?;
            t.expect(P2, cluster, Answers::from(P1))?;
            t.check("no load balancer here", t.ask(C, balancer).is_err(), "an answer")?;
            t.check("no node port here", t.ask(C, node_port).is_err(), "an answer")?;
            let status = t.run_to_end("status", &[])?;
            t.check("`status` says why", status.contains("front-ends or nodes exclude"), &status)?;
            t.agent().apply(&node(N1).label("edge", "true").into())?;
            t.settled()?;
            for to in [balancer, external, node_port] {
                t.expect(C, to, Answers::from(P1))?;
            }
            t.agent().apply(&node(N1).into())?;
            t.settled()
        }),
        case("a_wrong_option_costs_nothing_else", |t| {
            let web = web("10.96.8.8").annotation("kube-ipvs.io/scheduler", "best");
            t.apply(web.annotation("kube-ipvs.io/drain", "7s").annotation("kube-ipvs.io/x", ""))?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.8.8:80/tcp", Answers::from(P1))?;
            t.agent().wait_for_log("unknown IPVS scheduler")?;
            let log = t.agent().log();
            t.check("the reason", log.contains("OptionIgnored"), &log)
        }),
    ]
}

/// Sends datagrams to a Service with two endpoints on the node and a third on another.
fn datagrams_spread(t: &mut TestContext<'_>, family: Family) -> Step {
    let [cluster, balancer] = match family {
        Family::V4 => ["10.96.8.9", "203.0.113.189"],
        Family::V6 => ["fd00:96::89", "fd00:113::189"],
    };
    let logs = || {
        let logs = service("dev/logs").cluster_ip(cluster).udp("syslog", 514);
        let logs = logs.node_port(31_514).load_balancer_ip(balancer).local_external();
        logs.annotation("kube-ipvs.io/one-packet", "true")
    };
    let places = [(P1, 5140), (P1, 5141), (P3, 5140)];
    let sinks = places.map(|(host, port)| t.receiver(host, family, port));
    let sinks = sinks.into_iter().collect::<Step<Vec<_>>>()?;
    t.apply(logs())?;
    let slice =
        |name: &str, port| endpoints("dev/logs").named(name).of_family(family).udp("syslog", port);
    t.apply(slice("logs-1", 5140).ready_on(P1).ready_on(P3))?;
    t.apply(slice("logs-2", 5141).ready_on(P1))?;
    t.settled()?;
    let at =
        |ip: &str, port: u16| format!("{}/udp", SocketAddr::new(ip.parse().expect("an IP"), port));
    let node = N1.ip(family).to_string();
    for (from, to, each) in [
        (P2, at(cluster, 514), [4, 4, 4]),
        (N1, at(cluster, 514), [4, 4, 4]),
        (P2, at(balancer, 514), [4, 4, 4]),
        (N1, at(balancer, 514), [4, 4, 4]),
        (P2, at(&node, 31_514), [4, 4, 4]),
        (C, at(balancer, 514), [6, 6, 0]),
        (C, at(&node, 31_514), [6, 6, 0]),
    ] {
        send_twelve(t, from, &to, &sinks, each)?;
    }
    // The node's own flow from that port gets its answer.
    let (node, outside) = (t.receiver(N1, family, 31_514)?, t.receiver(C, family, 5150)?);
    node.send_to(b"?", outside.local_addr()?)?;
    let (_, client) = outside.recv_from(&mut [0; 9])?;
    outside.send_to(b"!", client)?;
    node.recv_from(&mut [0; 9])?;
    // An endpoint that has gone gets none of the same socket's datagrams.
    let flow = t.flow(C, &at(balancer, 514))?;
    t.delete(slice("logs-2", 5141))?;
    t.settled()?;
    for _ in 0..6 {
        flow.send()?;
    }
    let counts = received(&sinks, 6)?;
    t.check("the endpoint that is left has all", counts == [6, 0, 0], format!("{counts:?}"))?;
    let closed = logs().source_range("192.0.2.0/24").source_range("2001:db8::/64");
    t.apply(closed)?;
    t.settled()?;
    send_twelve(t, C, &at(balancer, 514), &sinks, [0, 0, 0])?;
    t.delete(logs())?;
    t.delete(slice("logs-1", 5140))?;
    t.settled()
}

/// Sends twelve datagrams from one socket, and compares how many reach each endpoint.
fn send_twelve(
    t: &TestContext<'_>,
    from: Host,
    to: &str,
    sinks: &[UdpSocket],
    each: [usize; 3],
) -> Step {
    let flow = t.flow(from, to)?;
    for _ in 0..12 {
        flow.send()?;
    }
    let counts = received(sinks, each.iter().sum())?;
    let step = format!("{each:?} datagrams from {from} to {to}");
    t.check(&step, counts == each, format!("{counts:?}"))
}

/// Returns how many datagrams each socket receives until all have so many, or for a moment.
fn received(sinks: &[UdpSocket], expected: usize) -> Step<Vec<usize>> {
    let mut counts = vec![0; sinks.len()];
    let deadline = Instant::now() + Duration::from_millis(if expected == 0 { 200 } else { 2000 });
    while Instant::now() < deadline && (expected == 0 || counts.iter().sum::<usize>() < expected) {
        for (sink, count) in sinks.iter().zip(&mut counts) {
            sink.set_nonblocking(true)?;
            *count += std::iter::from_fn(|| sink.recv(&mut [0; 64]).ok()).count();
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(counts)
}

/// Opens twenty connections to two endpoints, adds a third, and returns how many of the next ten
/// connections it gets.
fn count_of_new(t: &mut TestContext<'_>, slow: bool) -> Step<usize> {
    let web = web("10.96.8.3").annotation("kube-ipvs.io/scheduler", "wlc");
    t.apply(if slow { web.annotation("kube-ipvs.io/slow-start", "30s") } else { web })?;
    t.apply(slice().ready_on(P1).ready_on(P3))?;
    t.settled()?;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(connect(t, "10.96.8.3:80/tcp")?);
    }
    t.apply(slice().ready_on(P1).ready_on(P3).ready_on(P4))?;
    if slow {
        t.eventually_held("a part of the weight", |ipvs| {
            ipvs.contains(":8080 -m -w 1\n") && ipvs.contains(":8080 -m -w 10\n")
        })?;
        explains(t, "10.96.8.3:80/tcp", ":8080 weight 1, masqueraded")?;
    } else {
        t.settled()?;
    }
    for _ in 0..10 {
        open.push(connect(t, "10.96.8.3:80/tcp")?);
    }
    Ok(open.iter().skip(20).filter(|(server, _)| *server == P4).count())
}

fn connect(t: &TestContext<'_>, to: &str) -> Step<(Host, Connection)> {
    let mut connection = t.connect(P2, to)?;
    let server = t.expect_answer(&mut connection, "a connection")?.server;
    Ok((server, connection))
}

fn web(cluster_ip: &str) -> ServiceBuilder {
    service("dev/options").cluster_ip(cluster_ip).port("http", 80)
}

fn slice() -> SliceBuilder {
    endpoints("dev/options").port("http", 8080)
}

fn explains(t: &mut TestContext<'_>, destination: &str, line: &str) -> Step {
    let shown = t.agent().bare_command(&["explain", destination, "--from", "node"])?;
    t.check(&format!("`explain` says {line:?}"), shown.stdout.contains(line), format!("{shown:#?}"))
}

fn holds(t: &TestContext<'_>, step: &str, line: &str) -> Step {
    let ipvs = t.kernel()?.ipvs;
    t.check(&format!("{step}: {}", line.trim_end()), ipvs.contains(line), &ipvs)
}

//! ClusterIPs whose connections connection tracking carries (`carry: all`), and those that pass the
//! node by a flowtable (`carry: offload`).

use std::sync::Arc;
use std::time::Duration;

use super::drain::{self, Manner};
use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3};
use crate::lab::{
    Connection, PATIENCE, ServiceBuilder, SliceBuilder, Temporary, endpoints, product, service,
};

const ALL: &str = "carry: all";
/// The links of the node and of its pods, and the bridge that these are ports of.
const OFFLOAD: &str = "carry: offload\noffloadInterfaces: [eth0, cni0, 'P*']";
/// As IPVS is not needed any more, a pool goes before its connections are ended.
const BY_TRACKING: Manner =
    Manner { options: ALL, pool: "242.96.3.12:80", lag: LONG_PATIENCE, offloads: false };
const BY_FLOWTABLE: Manner = Manner { options: OFFLOAD, offloads: true, ..BY_TRACKING };
const COUNTING: &str = "chain forward { type filter hook forward priority 0; counter; }";

const CLUSTER_IP: &str = "10.96.12.1:80/tcp";
const BALANCER: &str = "203.0.113.121:80/tcp";

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = cases_of_tracking();
    if !is_older() {
        cases.extend(cases_of_a_flowtable());
    }
    cases
}

/// Whether the kernel is too old for a flowtable of ours.
fn is_older() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(5), Some(15))
}

fn cases_of_tracking() -> Vec<Case> {
    vec![
        case("carried_connections_drain_as_others_do", |t| drain::drain_alike(t, &BY_TRACKING)),
        case("carried_front_ends_that_are_deleted_drain", |t| drain::deleted(t, &BY_TRACKING)),
        case("carried_datagrams_move_at_once", |t| drain::datagrams_move(t, &BY_TRACKING)),
        case("a_carried_connection_outlives_its_entry_in_ipvs", |t| {
            served(t, ALL)?;
            let mut open = open(t)?;
            t.still_answer(&mut open)?;
            t.host(N1).read("ipvsadm", &["--set", "1", "1", "1"])?;
            // The entries get the new time with their next packet.
            t.still_answer(&mut open)?;
            patiently(PATIENCE, || {
                let known = t.host(N1).read("ipvsadm", &["-Lnc"])?;
                let left = known.lines().filter(|line| line.starts_with("TCP")).count();
                t.equal("entries of IPVS", 0, left)
            })?;
            t.still_answer(&mut open)
        }),
        case("carried_cluster_ips_work_behind_an_input_policy", |t| {
            served(t, ALL)?;
            // As firewalld has it. Without neighbour discovery there is no IPv6 at all.
            let rules = "ct state established,related accept; ct status dnat accept; \
                         iif lo accept; meta l4proto ipv6-icmp accept;";
            let chain = format!(
                "chain input {{ type filter hook input priority 0; policy drop; {rules} }}"
            );
            let _strict = Temporary::table(t.host(N1), "inet strict", &chain)?;
            for (client, to) in product([P2, N1, C], [CLUSTER_IP, BALANCER]) {
                t.expect(client, to, Answers::from_all([P1, P3]))?;
                t.expect(client, &to.replace("tcp", "udp"), Answers::from_all([P1, P3]))?;
            }
            Ok(())
        }),
        case("shadow_pools_move_without_losing_connections", |t| {
            images_move(t, "", ["250.96.12.1", "254.96.12.1"])
        }),
        case("carried_shadow_pools_move_without_losing_connections", |t| {
            images_move(t, ALL, ["242.96.12.1", "246.96.12.1"])
        }),
        case("connections_in_ipvs_end_after_the_drain_period", |t| {
            served(t, "")?;
            let (mut carried, mut others) = (Vec::new(), Vec::new());
            for client in [P2, N1, C] {
                let open = |to| t.connect(client, to).map(|it| (format!("{client} to {to}"), it));
                others.push(open(CLUSTER_IP)?);
                carried.push(open(BALANCER)?);
            }
            // Long enough for a slow machine to see the connections alive.
            t.agent().configure("carry: all\ndrainPeriod: 10s")?;
            t.settled()?;
            t.still_answer(&mut others)?;
            t.eventually_held("the former virtual server goes", |ipvs| {
                !ipvs.contains(" 10.96.12.1:80")
            })?;
            t.settled()?;
            drain::have_ended(&mut others, Duration::ZERO)?;
            t.still_answer(&mut carried)
        }),
        case("an_older_kernel_refuses_to_offload", |t| {
            t.agent().configure(OFFLOAD)?;
            let plan = t.command("plan", &[])?.stderr;
            t.equal("a refusal", is_older(), plan.contains("carry: offload needs Linux 5.15"))
        }),
    ]
}

fn cases_of_a_flowtable() -> Vec<Case> {
    vec![
        case("offloaded_connections_drain_as_others_do", |t| drain::drain_alike(t, &BY_FLOWTABLE)),
        case("offloaded_front_ends_that_are_deleted_drain", |t| drain::deleted(t, &BY_FLOWTABLE)),
        case("offloaded_datagrams_move_at_once", |t| drain::datagrams_move(t, &BY_FLOWTABLE)),
        case("offloaded_shadow_pools_move_without_losing_connections", |t| {
            images_move(t, OFFLOAD, ["242.96.12.1", "246.96.12.1"])
        }),
        case("offloaded_packets_pass_no_hook", |t| {
            served(t, OFFLOAD)?;
            let mut open = open(t)?;
            BY_FLOWTABLE.are_carried(t, open.len(), || t.still_answer(&mut open))?;
            // Of this family alone: bridges forward neighbours' IPv6 discovery, too.
            let _table = Temporary::table(t.host(N1), "ip counting", COUNTING)?;
            for _ in 0..30 {
                t.still_answer(&mut open)?;
            }
            let counted = t.host(N1).read("nft", &["list", "table", "ip", "counting"])?;
            t.check("no packet was forwarded", counted.contains("packets 0 "), &counted)?;
            let listed = t.host(N1).read("ipvsadm", &["-Ln"])?;
            let reals = listed.lines().filter(|line| line.contains(":8080 "));
            let active = reals.filter_map(|line| line.split_whitespace().nth(4));
            let active: usize = active.filter_map(|count| count.parse::<usize>().ok()).sum();
            t.check("IPVS counts them", active >= open.len(), &listed)?;
            // A flow of datagrams is taken for one that lasts after two seconds.
            let flow = t.flow(P2, &CLUSTER_IP.replace("tcp", "udp"))?;
            patiently(LONG_PATIENCE, || {
                let answer = flow.ask();
                t.check("an answer", answer.is_ok(), format!("{answer:?}"))?;
                let tracked = t.host(N1).read("cat", &["/proc/net/nf_conntrack"])?;
                let is_offloaded = |line: &str| line.contains("udp") && line.contains("[OFFLOAD]");
                t.check("datagrams are offloaded", tracked.lines().any(is_offloaded), &tracked)
            })
        }),
        case("a_flowtable_gets_its_links_again_and_goes_at_cleanup", |t| {
            served(t, OFFLOAD)?;
            let node = Arc::clone(t.host(N1));
            let _link =
                Temporary::ip(&node, "link add Padded type dummy\n", "link delete Padded\n")?;
            let before = patiently(LONG_PATIENCE, || {
                let held = offloading(t)?;
                let added = held.matches("Padded").count();
                t.equal("flowtables with the link that came", 2, added).map(|()| held)
            })?;
            for harm in ["delete table ip kube-ipvs", "flush chain ip6 kube-ipvs forward"] {
                node.nft(harm)?;
                patiently(LONG_PATIENCE, || t.same_lines(harm, &before, &offloading(t)?))?;
            }
            node.ip("link delete Padded\nlink add Padded type dummy\n")?;
            patiently(LONG_PATIENCE, || t.same_lines("the link again", &before, &offloading(t)?))?;
            t.agent().stop()?;
            t.run_to_end("cleanup", &[])?;
            let nft = t.kernel()?.nft;
            t.check("no table of ours", !nft.contains("kube-ipvs"), &nft)
        }),
        case("a_change_of_the_carrier_costs_no_connection", |t| {
            served(t, "")?;
            let mut open = open(t)?;
            let loads = product([P2, N1, C], [CLUSTER_IP, BALANCER])
                .map(|(client, to)| t.steady_load(client, to))
                .collect::<Vec<_>>();
            for carry in [ALL, OFFLOAD, "carry: front-ends"] {
                t.agent().configure(carry)?;
                t.settled()?;
                t.still_answer(&mut open)?;
                open.extend(self::open(t)?);
                for (client, to) in product([P2, N1, C], [CLUSTER_IP, BALANCER]) {
                    t.expect(client, to, Answers::from_all([P1, P3]))?;
                }
            }
            t.still_answer(&mut open)?;
            loads.into_iter().try_for_each(|load| t.expect_no_failure(load))?;
            drop(open);
            t.eventually_held("no virtual server at an image", |ipvs| !ipvs.contains(" 242."))?;
            let nft = t.kernel()?.nft;
            t.check("no flowtable", !nft.contains("flowtable"), nft)
        }),
    ]
}

/// A route comes that leads among the images of pools, and goes again, while endpoints leave.
fn images_move(t: &mut TestContext<'_>, options: &str, [usual, spare]: [&'static str; 2]) -> Step {
    t.agent().configure(&format!("{options}\ndrainPeriod: 15s"))?;
    // One policy is of the ClusterIP, the other of its image.
    t.apply(web().local_external())?;
    t.apply(slice().ready_on(P1).ready_on(P3))?;
    t.settled()?;
    let mut open = open(t)?;
    let flow = t.flow(C, &BALANCER.replace("tcp", "udp"))?;
    t.eventually_answers(&flow, P1, "a flow")?;
    let loads = product([P2, N1, C], [CLUSTER_IP, BALANCER])
        .map(|(client, to)| t.steady_load(client, to))
        .collect::<Vec<_>>();
    let at = |ip: &'static str| move |ipvs: &str| ipvs.contains(&format!(" {ip}:80 "));
    t.eventually_held("a pool at its usual image", at(usual))?;
    let routes = |verb: &str| {
        ["250.96.12.0/24", "242.96.12.0/24"]
            .map(|range| format!("route {verb} blackhole {range}\n"))
            .concat()
    };
    let among = Temporary::ip(t.host(N1), &routes("add"), &routes("delete"))?;
    t.eventually_held("a pool at its spare image", at(spare))?;
    t.settled()?;
    t.still_answer(&mut open)?;
    t.eventually_answers(&flow, P1, "the flow")?;
    t.eventually_held("none at the usual one", |ipvs| !at(usual)(ipvs))?;
    t.still_answer(&mut open)?;
    // One leaves while the pool is on its way back.
    t.apply(slice().ready_on(P1))?;
    t.settled()?;
    drop(among);
    t.eventually_held("a pool at its usual image again", at(usual))?;
    t.still_answer(&mut open)?;
    for (client, to) in product([P2, N1, C], [CLUSTER_IP, BALANCER]) {
        t.expect(client, to, Answers::from(P1))?;
        t.expect(client, &to.replace("tcp", "udp"), Answers::from(P1))?;
    }
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))?;
    // Those to the endpoint that has left are ended when its time is up, and no others.
    patiently(3 * LONG_PATIENCE, || {
        let tracked = t.host(N1).read("cat", &["/proc/net/nf_conntrack"])?;
        let left = tracked
            .lines()
            .filter(|line| line.contains("ESTABLISHED") && line.contains("src=10.244.2.13 "));
        t.equal("connections to what has left", 0, left.count())
    })?;
    t.eventually_held("nothing of what has left", |ipvs| !ipvs.contains("10.244.2.13:"))
}

/// The lines of the flowtables' links, and of the rules that use them.
fn offloading(t: &TestContext<'_>) -> Step<String> {
    let nft = t.kernel()?.nft;
    let is_meant = |line: &&str| ["devices = ", "@carried"].iter().any(|it| line.contains(it));
    let mut lines: Vec<_> = nft.lines().filter(is_meant).map(str::trim).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// A Service with an endpoint here and one elsewhere, under these options.
fn served(t: &mut TestContext<'_>, options: &str) -> Step {
    t.agent().configure(options)?;
    t.apply(web())?;
    t.apply(slice().ready_on(P1).ready_on(P3))?;
    t.settled()
}

fn web() -> ServiceBuilder {
    let web = service("dev/carried").cluster_ip("10.96.12.1").load_balancer_ip("203.0.113.121");
    web.port("tcp", 80).udp("udp", 80)
}

fn slice() -> SliceBuilder {
    endpoints("dev/carried").port("tcp", 8080).udp("udp", 8080)
}

/// A connection of each client through each front end.
fn open(t: &TestContext<'_>) -> Step<Vec<(String, Connection)>> {
    product([P2, N1, C], [CLUSTER_IP, BALANCER])
        .map(|(client, to)| Ok((format!("{client}'s connection to {to}"), t.connect(client, to)?)))
        .collect()
}

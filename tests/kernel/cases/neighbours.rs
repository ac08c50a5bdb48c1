//! Other programs of the node that do what they always do: addresses and virtual servers of theirs
//! move, their rules are loaded again, their policy rules lead packets elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use kube_ipvs_core::model::Protocol::Tcp;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, N2, P1, P2, P3};
use crate::lab::{
    Connection, FailedRequest, Host, Load, Server, Temporary, endpoints_of_both, product, service,
};

/// ClusterIP, external and load balancer IP, and node port, of each family.
const FRONT_ENDS: [&str; 8] = [
    "10.96.9.80:80/tcp",
    "198.51.100.180:80/tcp",
    "203.0.113.180:80/tcp",
    "192.168.50.1:31946/tcp",
    "[fd00:96::980]:80/tcp",
    "[2001:db8:51::180]:80/tcp",
    "[2001:db8:113::180]:80/tcp",
    "[fd00:50::1]:31946/tcp",
];
/// Of [`FRONT_ENDS`], those of IPv4.
const OF_IPV4: usize = 4;
/// Requests that a client makes in the meantime.
const MEANWHILE: usize = 3;

/// The address that keepalived moves between nodes, and its virtual server there.
const MOVING: &str = "192.168.50.78";
const KEEPALIVED: &str = "-A -t 192.168.50.78:8443 -s wlc
-a -t 192.168.50.78:8443 -r 10.244.1.11:9090 -m -w 2
-A -t [fd00:50::78]:8443 -s wlc
-a -t [fd00:50::78]:8443 -r [fd00:244:1::11]:9090 -m -w 2\n";

/// What `firewall-cmd --reload` does: a table that lets only the established through stands while the
/// other one is taken away and made again. Without neighbour discovery there is no IPv6 at all.
const POLICY_DROP: &str = "table inet firewalld_policy_drop {
    chain filter_input { type filter hook input priority 9; policy drop;
        ct state established,related accept; meta l4proto ipv6-icmp accept; }
    chain filter_forward { type filter hook forward priority 9; policy drop;
        ct state established,related accept; meta l4proto ipv6-icmp accept; }
    chain filter_output { type filter hook output priority 9; policy drop;
        ct state established,related accept; meta l4proto ipv6-icmp accept; }
}\n";
const FIREWALLD: &str = "table inet firewalld {
    chain filter_INPUT { type filter hook input priority 10; policy accept;
        ct state { established, related } accept; ct status dnat accept; iifname lo accept;
        meta l4proto ipv6-icmp accept; ct state invalid drop; reject with icmpx admin-prohibited; }
    chain filter_FORWARD { type filter hook forward priority 10; policy accept;
        ct state { established, related } accept; ct status dnat accept; iifname lo accept;
        meta l4proto ipv6-icmp accept; ct state invalid drop; reject with icmpx admin-prohibited; }
    chain nat_PREROUTING { type nat hook prerouting priority -90; policy accept; }
    chain nat_POSTROUTING { type nat hook postrouting priority 110; policy accept; }
}\n";
/// What a restart of Docker loads with `iptables`.
const DOCKER: &str = "*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
*filter
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
COMMIT\n";

/// As `tailscaled` has them on a node that takes others' routes and uses an exit node but for the
/// networks around it.
const TAILSCALE: &str = "link add tailscale0 type dummy
link set tailscale0 up
addr add 100.64.0.5/32 dev tailscale0
addr add fd7a:115c::5/128 dev tailscale0 nodad
route add default dev tailscale0 table 52
route add throw 192.168.50.0/24 table 52
route add throw 10.244.0.0/16 table 52
route add ::/0 dev tailscale0 table 52
route add throw fd00:50::/64 table 52
route add throw fd00:244::/32 table 52\n";
const TAILSCALES_RULES: [&str; 3] = [
    "pref 5210 fwmark 0x80000/0xff0000 lookup main",
    "pref 5250 fwmark 0x80000/0xff0000 unreachable",
    "pref 5270 lookup 52",
];
const NO_TAILSCALE: &str = "route flush table 52
route delete throw fd00:50::/64 table 52
route delete throw fd00:244::/32 table 52
link delete tailscale0\n";
/// What istio's ambient mode has on a node: what the node itself sends to a pod of the mesh, the
/// kubelet's probes above all, carries an address that the mesh lets through.
const AMBIENT: &str = "chain istio_postrt { type nat hook postrouting priority srcnat;
    meta skuid 0-4294967294 ip daddr 10.244.1.11 meta l4proto tcp snat to 169.254.7.127; }";
/// As Amazon's CNI has them for a pod on a secondary interface: answers to what came to an address of
/// the node leave where that came in, by a mark; all else leaves by that interface.
const SECONDARY: &str = "link add eni1 type dummy
link set eni1 up
route add default dev eni1 table 102
rule add pref 512 to 10.244.1.11 lookup main
rule add pref 512 to 10.244.1.12 lookup main
rule add pref 1024 fwmark 0x80/0x80 lookup main
rule add pref 1536 from 10.244.1.11 lookup 102\n";
const NO_SECONDARY: &str = "rule delete pref 512
rule delete pref 512
rule delete pref 1024
rule delete pref 1536
route flush table 102
link delete eni1\n";
const MARKS: &str = "chain prerouting { type filter hook prerouting priority mangle;
    iifname eth0 fib daddr type local ct mark set ct mark or 0x80
    iifname cni0 meta mark set ct mark and 0x80; }";

/// What the lab gives the node.
const ADDRESSES_OF_IPV6: &str = "addr add fd00:50::1/64 dev eth0 nodad
addr add fd00:244:1::1/64 dev cni0 nodad
route add fd00:244:2::/64 via fd00:50::2
route add default via fd00:50::100\n";

/// A link with what networkd has not configured, and what it does not take away from there.
const FOREIGN: &str = "\
link add networkd0 type dummy
link set networkd0 up
route add local 10.96.9.200 dev networkd0 table local proto 99
route add local fd00:96::9c8 dev networkd0 table local proto 99
";
const NO_FOREIGN: &str = "link delete networkd0\n";
/// Runs systemd-networkd, which manages the loopback device, ours, and the one above. It takes links for
/// ready that udev has seen.
const NETWORKD: &str = "
mount -t tmpfs tmpfs /run
mount -t sysfs sysfs /sys
mkdir -p /run/udev/data /run/systemd/network
for link in lo kube-ipvs0 networkd0; do
    echo I:1 >/run/udev/data/n$(cat /sys/class/net/$link/ifindex)
done
cat >/run/systemd/network/10-all.network <<'END'
[Match]
Name=lo kube-ipvs0 networkd0
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
END
exec /lib/systemd/systemd-networkd
";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("virtual_servers_of_keepalived_stay_wherever_their_address_is", keepalived),
        case("an_address_that_comes_and_goes_under_load_is_served", comes_and_goes),
        case("reloaded_foreign_rules_cost_nothing", loaded_again),
        case("every_rule_flushed_under_load", flushed),
        case("foreign_policy_rules_take_no_service_traffic", policy_rules),
        case("ipv4_is_served_whenever_ipv6_is_disabled", ipv6_disabled),
        case("endpoints_outside_the_cluster", outside_the_cluster),
        case("systemd_networkd_leaves_our_objects_alone", networkd),
    ]
}

/// A Service with every kind of front end, and an endpoint on each node.
fn served(t: &mut TestContext<'_>) -> Step {
    let web = service("dev/beside").cluster_ip("10.96.9.80").cluster_ip("fd00:96::980");
    let web = web.port("http", 80).node_port(31_946);
    let web = web.load_balancer_ip("203.0.113.180").load_balancer_ip("2001:db8:113::180");
    t.apply(web.external_ip("198.51.100.180").external_ip("2001:db8:51::180"))?;
    for slice in endpoints_of_both("dev/beside") {
        t.apply(slice.port("http", 8080).ready_on(P1).ready_on(P3))?;
    }
    t.settled()
}

/// Every front end, every client.
fn all_served(t: &TestContext<'_>, front_ends: &[&str]) -> Step {
    for (&front_end, client) in front_ends.iter().flat_map(|it| [P2, N1, C].map(|c| (it, c))) {
        t.expect(client, front_end, Answers::from_all([P1, P3]))?;
    }
    Ok(())
}

/// A connection through each front end, of each client.
fn open(t: &TestContext<'_>) -> Step<Vec<(String, Connection)>> {
    let open = |(to, client): (&str, Host)| {
        Ok((format!("{client}'s connection to {to}"), t.connect(client, to)?))
    };
    product(FRONT_ENDS, [P2, N1, C]).map(open).collect()
}

/// Virtual servers that are not ours, at an address where a Service of ours is as well: it is here, on
/// either device, or away.
fn keepalived(t: &mut TestContext<'_>) -> Step {
    t.agent().configure("auditPeriod: 1s")?;
    let web = service("dev/moving").cluster_ip("10.96.9.81").cluster_ip("fd00:96::981");
    let web = web.load_balancer_ip(MOVING).load_balancer_ip("fd00:50::78");
    t.apply(web.port("http", 80))?;
    for slice in endpoints_of_both("dev/moving") {
        t.apply(slice.port("http", 8080).ready_on(P1).ready_on(P3))?;
    }
    t.settled()?;
    t.host(N1).ipvsadm(KEEPALIVED)?;
    // Of IPv6, the kernel answers for no address of another device.
    let way = |verb: &str| {
        format!("route {verb} {MOVING} via 192.168.50.1\nroute {verb} fd00:50::78 via fd00:50::1\n")
    };
    let _way = Temporary::ip(t.host(C), &way("add"), &way("delete"))?;
    for device in ["eth0", "lo"] {
        let line = |verb: &str, more: &str| {
            format!(
                "addr {verb} {MOVING}/32 dev {device}\naddr {verb} fd00:50::78/128 dev {device}{more}\n"
            )
        };
        let held = Temporary::ip(t.host(N1), &line("add", " nodad"), &line("delete", ""))?;
        for (ip, client) in product([MOVING, "[fd00:50::78]"], [P2, N1, C]) {
            let to = |port| format!("{ip}:{port}/tcp");
            patiently(LONG_PATIENCE, || t.expect(client, &to(80), Answers::from_all([P1, P3])))?;
            t.expect(client, &to(8443), Answers::from(P1).on_port(9090))?;
        }
        drop(held);
        t.expect(P2, "10.96.9.81:80/tcp", Answers::from_all([P1, P3]))?;
        // What an audit finds there it leaves, and so does an agent that starts.
        t.agent().stop()?;
        t.settled()?;
    }
    let theirs = [MOVING, "[fd00:50::78]"].map(|ip| format!("{ip}:8443"));
    for theirs in &theirs {
        let held = t.host(N1).read("ipvsadm", &["-Ln", "-t", theirs])?;
        t.check(
            &format!("{theirs} as it was"),
            held.contains("wlc") && held.contains(":9090"),
            held,
        )?;
    }
    for theirs in &theirs {
        t.host(N1).read("ipvsadm", &["-D", "-t", theirs])?;
    }
    Ok(())
}

/// kube-vip puts a load balancer IP on a device of the node that leads, and takes it away again. A process
/// of the node that connects meanwhile does so from that very address, and loses it.
fn comes_and_goes(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    let mut open = open(t)?;
    let balancers = ["203.0.113.180:80/tcp", "[2001:db8:113::180]:80/tcp"];
    let loads = product(balancers, [P2, C]);
    let loads: Vec<_> = loads.map(|(to, client)| t.steady_load(client, to)).collect();
    let served_meanwhile = |open: &mut Vec<_>| -> Step {
        loads.iter().for_each(|load| load.wait_for(MEANWHILE));
        for balancer in balancers {
            t.expect(N1, balancer, Answers::from_all([P1, P3]))?;
        }
        t.still_answer(open)
    };
    for device in ["lo", "eth0"] {
        let lines = |verb: &str, more: &str| {
            format!(
                "addr {verb} 203.0.113.180/32 dev {device}\n\
                 addr {verb} 2001:db8:113::180/128 dev {device}{more}\n"
            )
        };
        let held = Temporary::ip(t.host(N1), &lines("add", " nodad"), &lines("delete", ""))?;
        served_meanwhile(&mut open)?;
        let own = t.connect(N1, balancers[0])?;
        let source = own.local_addr()?.ip().to_string();
        t.equal("the source of the node's own connection", "203.0.113.180", &source)?;
        drop(held);
        served_meanwhile(&mut open)?;
    }
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))
}

/// Loads on each kind of front end.
fn loads(t: &TestContext<'_>) -> Vec<Load> {
    let [cluster_ip, _, balancer, node_port, ..] = FRONT_ENDS;
    let each = [(P2, cluster_ip), (N1, cluster_ip), (P2, balancer), (C, balancer), (C, node_port)];
    each.map(|(client, to)| t.steady_load(client, to)).into()
}

fn loaded_again(t: &mut TestContext<'_>) -> Step {
    // What firewalld lets in knows translated connections alone.
    t.agent().configure("carry: all")?;
    served(t)?;
    let table = |text: &str| {
        let (head, rest) = text.split_once('{').expect("a table");
        (
            head.trim_start_matches("table ").trim().to_owned(),
            rest.trim_end().trim_end_matches('}').to_owned(),
        )
    };
    let (name, rules) = table(FIREWALLD);
    let _firewalld = Temporary::table(t.host(N1), &name, &rules)?;
    let _docker = Temporary::iptables(t.host(N1), DOCKER, DOCKER)?;
    let mut open = open(t)?;
    let loads = loads(t);
    for _ in 0..2 {
        t.host(N1).nft(POLICY_DROP)?;
        t.host(N1).nft("delete table inet firewalld")?;
        t.host(N1).nft(FIREWALLD)?;
        t.host(N1).nft("delete table inet firewalld_policy_drop")?;
        for program in ["iptables-nft-restore", "ip6tables-nft-restore"] {
            t.host(N1).iptables(program, DOCKER)?;
        }
        loads.iter().for_each(|load| load.wait_for(MEANWHILE));
        t.still_answer(&mut open)?;
    }
    all_served(t, &FRONT_ENDS)?;
    loads.into_iter().try_for_each(|load| t.expect_no_failure(load))
}

/// `nft flush ruleset`, as `nftables.service` does when it is started again. ClusterIPs are served by IPVS
/// and the routes, so a pod loses nothing there, unless it is sent to itself. What else begins before the tables are back may be lost.
/// An established connection goes on, if it is silent in between.
fn flushed(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    let mut open = open(t)?;
    let of_a_pod = t.steady_load(P2, FRONT_ENDS[0]);
    let loads = loads(t);
    let mut gaps = Vec::new();
    for _ in 0..2 {
        let began = Instant::now();
        t.host(N1).nft("flush ruleset")?;
        t.settled()?;
        gaps.push(began..Instant::now());
        loads.iter().for_each(|load| load.wait_for(MEANWHILE));
        t.still_answer(&mut open)?;
    }
    all_served(t, &FRONT_ENDS)?;
    t.expect_no_failure(of_a_pod)?;
    for load in loads {
        let report = load.stop();
        let in_a_gap = |failed: &FailedRequest| {
            gaps.iter().any(|gap| failed.during.start < gap.end && gap.start < failed.during.end)
        };
        let explained = report.failures.iter().all(in_a_gap);
        t.check("what fails began before the tables were back", explained, report)?;
    }
    Ok(())
}

fn policy_rules(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    {
        let _routes = Temporary::ip(t.host(N1), TAILSCALE, NO_TAILSCALE)?;
        let rules = |verb: &str| -> Step {
            for (family, rule) in product(["-4", "-6"], TAILSCALES_RULES) {
                let words = [family, "rule", verb].into_iter().chain(rule.split(' '));
                t.host(N1).read("ip", &words.collect::<Vec<_>>())?;
            }
            Ok(())
        };
        rules("add")?;
        all_served(t, &FRONT_ENDS)?;
        // What the node sends to others does take them.
        let way = t.host(N1).read("ip", &["route", "get", "203.0.113.180"])?;
        t.check("the exit node is in use", way.contains("dev tailscale0"), &way)?;
        rules("delete")?;
    }
    {
        let _ambient = Temporary::table(t.host(N1), "ip istio", AMBIENT)?;
        all_served(t, &FRONT_ENDS[..OF_IPV4])?;
        let mut seen = [t.ask(N1, FRONT_ENDS[0])?, t.ask(N1, FRONT_ENDS[0])?].into_iter();
        let probe: IpAddr = "169.254.7.127".parse().expect("an address");
        t.check(
            "the mesh's address is in use",
            seen.any(|reply| reply.client.ip() == probe),
            probe,
        )?;
    }
    let _rules = Temporary::ip(t.host(N1), SECONDARY, NO_SECONDARY)?;
    // IPVS sends answers the way of the address that they come from, whether or not they are marked.
    all_served(t, &FRONT_ENDS[..OF_IPV4])?;
    let _marks = Temporary::table(t.host(N1), "ip aws", MARKS)?;
    all_served(t, &FRONT_ENDS[..OF_IPV4])
}

/// At the start and while the agent runs; and IPv6 is served when it is back.
fn ipv6_disabled(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    for is_new in [false, true] {
        // The switch takes the addresses away, and does not bring them back.
        let addresses = Temporary::ip(t.host(N1), "", ADDRESSES_OF_IPV6)?;
        let disabled = Temporary::sysctl(t.host(N1), &["net.ipv6.conf.all.disable_ipv6=1"])?;
        if is_new {
            t.agent().stop()?;
            t.agent().start()?;
        }
        all_served(t, &FRONT_ENDS[..OF_IPV4])?;
        drop(disabled);
        drop(addresses);
        patiently(LONG_PATIENCE, || all_served(t, &FRONT_ENDS))?;
    }
    Ok(())
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It removes foreign routes from links that it manages, the loopback device excepted.
fn networkd(t: &mut TestContext<'_>) -> Step {
    served(t)?;
    let node = t.host(N1).clone();
    let routes = || -> Step<[String; 2]> {
        let of =
            |family| node.read("ip", &[family, "route", "show", "table", "local", "proto", "75"]);
        Ok([of("-4")?, of("-6")?])
    };
    let before = routes()?;
    let load = [P2, N1, C].map(|client| t.load_in_turn(client, &FRONT_ENDS));
    for is_with_agent in [true, false] {
        if !is_with_agent {
            t.agent().stop()?;
        }
        let _foreign = Temporary::ip(&node, FOREIGN, NO_FOREIGN)?;
        let mut run = Command::new("unshare");
        run.args(["--mount", "sh", "-ec", NETWORKD]).stdin(Stdio::null());
        let _networkd = Running(node.spawn(run.stdout(Stdio::null()).stderr(Stdio::null()))?);
        patiently(LONG_PATIENCE, || {
            let left = node.read("ip", &["route", "show", "table", "local", "proto", "99"])?;
            t.check("networkd removes what it does not know", left.is_empty(), left)
        })?;
        load.iter().for_each(|load| load.wait_for(FRONT_ENDS.len()));
        let [v4, v6] = routes()?;
        t.same_lines("routes of IPv4", &before[0], &v4)?;
        t.same_lines("routes of IPv6", &before[1], &v6)?;
    }
    load.into_iter().try_for_each(|load| t.expect_no_failure(load))?;
    t.agent().start()?;
    t.settled()
}

/// An endpoint on the nodes' network and one beyond the default route, as a database outside has them.
fn outside_the_cluster(t: &mut TestContext<'_>) -> Step {
    let held = "addr add 198.18.77.7/32 dev lo\naddr add 2001:db8:77::7/128 dev lo nodad\n";
    let gone = "addr delete 198.18.77.7/32 dev lo\naddr delete 2001:db8:77::7/128 dev lo\n";
    let _held = Temporary::ip(t.host(C), held, gone)?;
    let ips = ["192.168.50.100", "198.18.77.7", "fd00:50::100", "2001:db8:77::7"];
    let start = |ip: &str| {
        let ip: IpAddr = ip.parse().expect("an address");
        Server::start_at(t.host(C), C, SocketAddr::new(ip, 5432), Tcp)
    };
    let _servers: Vec<_> = ips.into_iter().map(start).collect::<io::Result<_>>()?;
    // As a CNI masquerades what leaves the cluster.
    let masquerade = |family: &str, pods: &str| {
        let chain = format!(
            "chain postrouting {{ type nat hook postrouting priority srcnat;
            {family} saddr {pods} {family} daddr != {pods} masquerade; }}"
        );
        Temporary::table(t.host(N1), &format!("{family} cni"), &chain)
    };
    let _v4 = masquerade("ip", "10.244.0.0/16")?;
    let _v6 = masquerade("ip6", "fd00:244::/32")?;
    let near = [
        ("dev/near", "10.96.9.82", "fd00:96::982", 31_947),
        ("dev/far", "10.96.9.83", "fd00:96::983", 31_948),
    ];
    for (index, (key, v4, v6, node_port)) in near.into_iter().enumerate() {
        let web = service(key).cluster_ip(v4).cluster_ip(v6).port("db", 5432).node_port(node_port);
        t.apply(web.spec("type", "NodePort"))?;
        let [slice, of_ipv6] = endpoints_of_both(key);
        t.apply(slice.port("db", 5432).ready(ips[index], ""))?;
        t.apply(of_ipv6.port("db", 5432).ready(ips[index + 2], ""))?;
    }
    t.settled()?;
    for (_, v4, v6, node_port) in near {
        for client in [P2, N1] {
            t.expect(client, &format!("{v4}:5432/tcp"), Answers::from(C).to(N1))?;
            t.expect(client, &format!("[{v6}]:5432/tcp"), Answers::from(C).to(N1))?;
        }
        for client in [P2, N1, N2, C] {
            t.expect(client, &format!("192.168.50.1:{node_port}/tcp"), Answers::from(C).to(N1))?;
            t.expect(client, &format!("[fd00:50::1]:{node_port}/tcp"), Answers::from(C).to(N1))?;
        }
    }
    Ok(())
}

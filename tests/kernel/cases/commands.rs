//! `render`, `plan` and manifests that are wrong.

use kube_ipvs_core::model::{Family, Protocol};

use super::{Case, case};
use crate::context::{Step, TestContext};
use crate::expectation::Answers;
use crate::lab::Host::{C, N1, P1, P2, P3, P4};
use crate::lab::{Manifest, endpoints, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("render_prints_what_ipvsadm_prints", |t| {
            for (name, ip, ip6) in
                [("a", "10.96.5.1", "fd00:96::501"), ("b", "10.96.5.2", "fd00:96::502")]
            {
                let key = format!("dev/{name}");
                let mut web = service(&key).cluster_ip(ip).cluster_ip(ip6);
                let mut slice = endpoints(&key);
                let mut slice6 = endpoints(&key).named(&format!("{name}-v6")).of_family(Family::V6);
                for (port, protocol) in (80..).zip(Protocol::ALL) {
                    web = web.port_of(protocol, protocol.name(), port);
                    slice = slice.port_of(protocol, protocol.name(), 8080);
                    slice6 = slice6.port_of(protocol, protocol.name(), 9090);
                }
                t.apply(web)?;
                t.apply(slice.ready_on(P1).terminating_on(P3).ready_on(P4))?;
                t.apply(slice6.ready_on(P3).ready_on(P4))?;
            }
            t.settled()?;
            let rendered = t.run_to_end("render", &["-o", "ipvsadm"])?;
            t.check("lines of two Services", rendered.lines().count() >= 12, &rendered)?;
            t.same_lines("`render` against `ipvsadm -Sn`, sorted", &rendered, &t.kernel()?.ipvs)
        }),
        case("plan_says_what_would_change", plan_says_what_would_change),
        case("every_command_answers_on_a_node", |t| {
            t.apply(service("dev/asked").cluster_ip("10.96.5.7").port("http", 80))?;
            let slice = endpoints("dev/asked").port("http", 8080).ready_on(P1);
            t.apply(slice.pod("asked-5d4b6-x2x9z"))?;
            t.settled()?;
            let from_a_pod = ["10.96.5.7:80/tcp", "--from", "10.244.1.12"];
            let by_name = ["svc/asked:http", "-n", "dev", "--from", "pod/asked-5d4b6-x2x9z"];
            for (command, arguments, said) in [
                (
                    "render",
                    &["-o", "ipvsadm"][..],
                    "-a -t 10.96.5.7:80 -r 10.244.1.11:8080 -m -w 1",
                ),
                ("render", &["-o", "nft"], "table ip kube-ipvs"),
                ("explain", &from_a_pod, "10.244.1.11:8080"),
                ("explain", &by_name, "10.96.5.7:80/tcp from 10.244.1.11: forward"),
                ("status", &[], "dev/asked"),
                (
                    "status",
                    &["dev/asked"],
                    "10.244.1.11:8080 weight 1, local (asked-5d4b6-x2x9z on",
                ),
                ("status", &["dev/asked", "-o", "wide"], "1       0       0         serving"),
                ("status", &["dev", "-o", "yaml"], "activeConnections: 0"),
                ("status", &["dev", "-o", "json"], "\"pod\": \"asked-5d4b6-x2x9z\""),
                ("top", &["dev", "--once", "--interval", "1s"], "asked-5d4b6-x2x9z on"),
                ("top", &["dev", "--once", "--interval", "1s", "-o", "json"], "\"bytesOut\":0"),
                ("plan", &[], ""),
                (
                    "trace",
                    &["--from", "node", "--to", "10.96.5.7:80"],
                    "answered: by 10.244.1.11:8080 (dev/asked-5d4b6-x2x9z on",
                ),
            ] {
                let printed = t.run_to_end(command, arguments)?;
                t.check(&format!("{command} says {said:?}"), printed.contains(said), &printed)?;
            }
            let doctor = t.command("doctor", &[])?;
            t.check(
                "`doctor` knows the kernel",
                doctor.stdout.contains("ok    kernel"),
                doctor.stdout,
            )?;
            t.agent().stop()?;
            let removed = t.run_to_end("cleanup", &[])?;
            t.check("`cleanup` says what it removes", removed.contains("10.96.5.7:80"), &removed)
        }),
        case("connections_are_listed_with_names_and_carriers", |t| connections_are_listed(t, "")),
        case("carried_connections_are_listed_with_names_and_carriers", |t| {
            connections_are_listed(t, "carry: all")
        }),
        case("a_broken_manifest_affects_itself_alone", a_broken_manifest_affects_itself_alone),
        case("edits_apply_however_they_are_saved", |t| {
            let ent = service("dev/saved").cluster_ip("10.96.5.5").port("http", 80);
            let slice = || endpoints("dev/saved").port("http", 8080);
            t.apply(ent)?;
            t.apply(slice().ready_on(P1))?;
            t.settled()?;
            t.expect(P2, "10.96.5.5:80/tcp", Answers::from(P1))?;
            // Written in place, without a rename.
            let object = Manifest::from(slice().ready_on(P3));
            let file = t.agent().manifests().join(object.file());
            std::fs::write(&file, object.content())?;
            t.settled()?;
            t.expect(P2, "10.96.5.5:80/tcp", Answers::from(P3))?;
            // A directory moved away and back.
            let below = t.agent().manifests().join("below");
            std::fs::create_dir(&below)?;
            let inner = below.join("slice.yaml");
            std::fs::rename(&file, &inner)?;
            t.settled()?;
            t.expect(P2, "10.96.5.5:80/tcp", Answers::from(P3))?;
            std::fs::rename(&inner, &file)?;
            std::fs::remove_dir(&below)?;
            t.settled()?;
            t.expect(P2, "10.96.5.5:80/tcp", Answers::from(P3))
        }),
    ]
}

fn plan_says_what_would_change(t: &mut TestContext<'_>) -> Step {
    t.apply(service("dev/plan").cluster_ip("10.96.5.3").port("http", 80))?;
    let slice = || endpoints("dev/plan").port("http", 8080);
    t.apply(slice().ready_on(P1))?;
    t.settled()?;
    let empty = t.command("plan", &["--exit-code"])?;
    t.check("a summary", empty.stderr.contains("nothing to change"), &empty.stderr)?;
    t.exits_with("exit status of an empty plan", 0, &empty)?;
    t.same_lines("an empty plan", "", &empty.stdout)?;

    t.agent().stop()?;
    t.apply(slice().ready_on(P3))?;
    let before = t.kernel()?;
    let plan = t.command("plan", &["--exit-code"])?;
    t.exits_with("exit status of a plan", 3, &plan)?;
    let summary = "1 real server to add; 1 real server to change";
    t.check("a summary", plan.stderr.contains(summary), &plan.stderr)?;
    for line in [
        "+ -a -t 10.96.5.3:80 -r 10.244.2.13:8080 -m -w 1",
        "~ -e -t 10.96.5.3:80 -r 10.244.1.11:8080 -m -w 0",
    ] {
        let found = plan.stdout.lines().any(|other| {
            other.trim() == line || other.trim() == line.replacen(' ', " ipvsadm ", 1)
        });
        t.check(&format!("a line {line:?}"), found, &plan.stdout)?;
    }
    t.same_lines("the kernel after a plan", &before.to_string(), &t.kernel()?.to_string())?;
    let plain = t.command("plan", &[])?;
    t.exits_with("exit status without --exit-code", 0, &plain)?;
    t.settled()
}

/// Connections of a pod to a ClusterIP, and of an external client to a load balancer IP and a node
/// port.
fn connections_are_listed(t: &mut TestContext<'_>, options: &str) -> Step {
    t.agent().configure(options)?;
    let web = service("dev/open").cluster_ip("10.96.5.8").load_balancer_ip("203.0.113.58");
    t.apply(web.port("http", 80).node_port(30058))?;
    t.apply(endpoints("dev/open").port("http", 8080).ready_on(P1).pod("open-0"))?;
    t.apply(service("shop/cart").cluster_ip("10.96.5.9").port("http", 80))?;
    t.apply(endpoints("shop/cart").port("http", 8080).ready_on(P2).pod("cart-0"))?;
    t.settled()?;
    let by_clients = if options.is_empty() { "ipvs" } else { "tracking" };
    let node_port = format!("{}:30058/tcp", N1.ip(Family::V4));
    let mut open = Vec::new();
    for (client, to, named, carrier) in [
        (P2, "10.96.5.8:80/tcp", "from (shop/cart-0 on n1) to (dev/open-0 on n1)", by_clients),
        (N1, "10.96.5.8:80/tcp", "from (on n1) to (dev/open-0 on n1)", by_clients),
        (C, "203.0.113.58:80/tcp", "to (dev/open-0 on n1)", "tracking"),
        (C, &node_port, "to (dev/open-0 on n1)", "tracking"),
    ] {
        let mut connection = t.connect(client, to)?;
        t.expect_answer(&mut connection, to)?;
        open.push((client, to.to_owned(), named, carrier, connection));
    }
    let listed = t.run_to_end("connections", &["open", "-n", "dev"])?;
    for (client, to, named, carrier, _) in &open {
        let ip = format!("{}:", client.ip(Family::V4));
        let is_meant = |line: &&str| {
            line.starts_with(&ip)
                && [to, " 10.244.1.11:8080 ", " ESTABLISHED ", &format!(" {carrier} ")]
                    .iter()
                    .all(|it| line.contains(*it))
                && line.ends_with(named)
        };
        let count = listed.lines().filter(is_meant).count();
        t.check(&format!("one line of {client} to {to}, {carrier}"), count == 1, &listed)?;
    }
    t.equal("lines, with the heading", open.len() + 1, listed.lines().count())?;
    let cut = t.command("connections", &["dev/open", "--limit", "1", "-o", "json"])?;
    t.equal("objects", 1, cut.stdout.lines().count())?;
    let object = cut.stdout.contains("\"pod\":\"dev/open-0\"");
    t.check("an object with names", object, &cut.stdout)?;
    t.check("a warning", cut.stderr.contains("1 of at least 4 connections"), &cut.stderr)?;
    t.host(N1).read("conntrack", &["-F"])?;
    let untracked = t.run_to_end("connections", &["dev/open"])?;
    let count = untracked.lines().filter(|it| it.contains(" untracked ")).count();
    t.check("IPVS alone has all", count == open.len(), &untracked)?;
    let other = t.run_to_end("connections", &["shop/cart"])?;
    t.equal("lines of a Service without connections", 1, other.lines().count())
}

fn a_broken_manifest_affects_itself_alone(t: &mut TestContext<'_>) -> Step {
    t.agent().save("broken.yaml", "kind: Service\nmetadata: {name: [\n")?;
    t.apply(service("dev/good").cluster_ip("10.96.5.4").port("http", 80))?;
    let slice = || endpoints("dev/good").port("http", 8080);
    t.apply(slice().ready_on(P1))?;
    t.agent().stop()?;
    t.agent().start()?;
    t.expect(N1, "10.96.5.4:80/tcp", Answers::from(P1))?;
    t.agent().wait_for_log("broken.yaml")?;

    // A good file that breaks keeps its last good content; the others go on.
    let slice_file = Manifest::from(slice()).file();
    t.apply(service("dev/other").cluster_ip("10.96.5.6").udp("dns", 53))?;
    t.apply(endpoints("dev/other").udp("dns", 8080).ready_on(P4))?;
    t.agent().save(&slice_file, "{\"kind\": \"EndpointSlice\", ")?;
    t.agent().wait_for_log(&slice_file)?;
    t.eventually(P2, "10.96.5.6:53/udp", Answers::from(P4))?;
    t.expect(P2, "10.96.5.4:80/tcp", Answers::from(P1))?;

    // Mended, it applies again.
    t.apply(slice().ready_on(P3))?;
    std::fs::remove_file(t.agent().manifests().join("broken.yaml"))?;
    t.settled()?;
    t.expect(P2, "10.96.5.4:80/tcp", Answers::from(P3))
}

//! What `/metrics` tells of real traffic.

use std::io;

use kube_ipvs::agent::api::StatusView;

use super::{Case, case};
use crate::context::{LONG_PATIENCE, Step, TestContext, patiently};
use crate::expectation::Refused;
use crate::lab::Host::{C, N1, P1, P2};
use crate::lab::{endpoints, service};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("traffic_of_services_is_counted_as_ipvs_counts_it", |t| {
            t.agent().configure("trafficMetricsServices: 1")?;
            let counted =
                service("dev/counted").cluster_ip("10.96.9.40").cluster_ip("fd00:96::928");
            let counted = counted.port("tcp", 80).udp("udp", 80).load_balancer_ip("203.0.113.140");
            t.apply(counted)?;
            let slice = endpoints("dev/counted").port("tcp", 8080).udp("udp", 8080);
            t.apply(slice.ready_on(P1))?;
            t.apply(service("dev/also").cluster_ip("10.96.9.41").port("tcp", 80))?;
            t.settled()?;
            for _ in 0..3 {
                t.ask(P2, "10.96.9.40:80/tcp")?;
                t.ask(P2, "10.96.9.40:80/udp")?;
                t.ask(C, "203.0.113.140:80/tcp")?;
            }
            // IPVS adds up what its processors have counted every two seconds.
            let told = patiently(LONG_PATIENCE, || {
                let told = t.metrics()?;
                t.equal("connections", 9, of_service(&told, "connections", ""))?;
                Ok(told)
            })?;
            let labels = "direction=\"out\",";
            let counters = "/status?namespace=dev&name=counted&counters=true";
            let status = t.answer_of_agent(counters)?;
            let view: StatusView = serde_json::from_str(&status).map_err(io::Error::other)?;
            let endpoints = view.services[0].pools.iter().flat_map(|pool| pool.endpoints());
            let connections = endpoints.filter_map(|(it, _)| it.traffic).map(|it| it.connections);
            t.equal("connections for the page", 9, connections.sum::<u64>())?;
            let busiest = t.answer_of_agent("/status?busiest=connections&limit=1")?;
            let view: StatusView = serde_json::from_str(&busiest).map_err(io::Error::other)?;
            t.equal("the busiest", "dev/counted", &*view.services[0].service)?;
            let packets = of_service(&told, "packets", labels);
            let bytes = of_service(&told, "bytes", labels);
            t.check("packets", packets >= 9, packets)?;
            t.check("bytes", bytes >= 20 * packets, bytes)?;
            t.check(
                "one is left out",
                told.contains("kube_ipvs_services_without_traffic 1\n"),
                &told,
            )
        }),
        case("packets_that_rules_refuse_and_masquerade_are_counted", |t| {
            let none =
                service("dev/none").cluster_ip("10.96.9.43").load_balancer_ip("203.0.113.143");
            t.apply(none.port("tcp", 80))?;
            let some =
                service("dev/some").cluster_ip("10.96.9.44").load_balancer_ip("203.0.113.144");
            t.apply(some.port("tcp", 80))?;
            t.apply(endpoints("dev/some").port("tcp", 8080).ready_on(P1))?;
            t.settled()?;
            t.expect(C, "203.0.113.143:80/tcp", Refused)?;
            t.ask(C, "203.0.113.144:80/tcp")?;
            let told = t.metrics()?;
            for reason in ["refused", "masqueraded"] {
                let line = format!(
                    "kube_ipvs_rule_packets_total{{ip_family=\"IPv4\",reason=\"{reason}\"}} "
                );
                let count = told.lines().find_map(|told| told.strip_prefix(&line));
                t.check(reason, count.is_some_and(|count| count != "0"), &told)?;
            }
            let usage = told.lines().find_map(|it| it.strip_prefix("kube_ipvs_conntrack_entries "));
            t.check("conntrack", usage.is_some_and(|entries| entries != "0"), &told)
        }),
        case("ipvs_counts_the_first_packet_of_carried_connections", |t| {
            let followed =
                service("dev/followed").cluster_ip("10.96.9.42").load_balancer_ip("203.0.113.142");
            t.apply(followed.port("tcp", 80))?;
            t.apply(endpoints("dev/followed").port("tcp", 8080).ready_on(P1))?;
            t.settled()?;
            // One that its client resets is active on, those with a FIN are not.
            let mut carried = t.connect(C, "203.0.113.142:80/tcp")?;
            t.expect_answer(&mut carried, "a connection to the load balancer IP")?;
            carried.reset()?;
            for _ in 0..3 {
                t.ask(C, "203.0.113.142:80/tcp")?;
            }
            eventually_listed(t, &["--stats"], [2, 3], "4 4")?;
            eventually_listed(t, &[], [4], "1")?;

            let mut whole = t.connect(P2, "10.96.9.42:80/tcp")?;
            t.expect_answer(&mut whole, "a connection to the ClusterIP")?;
            eventually_listed(t, &[], [4], "2")?;
            whole.reset()?;
            eventually_listed(t, &[], [4], "1")
        }),
    ]
}

/// Waits until `ipvsadm` lists this in some columns of the endpoint's row. IPVS adds up what its
/// processors have counted every two seconds.
fn eventually_listed<const N: usize>(
    t: &TestContext<'_>,
    options: &[&str],
    columns: [usize; N],
    expected: &str,
) -> Step {
    let arguments = [&["-Ln", "-t", "10.96.9.42:80"], options].concat();
    patiently(LONG_PATIENCE, || {
        let listed = t.host(N1).read("ipvsadm", &arguments)?;
        let row = listed.lines().find(|line| line.contains("-> 10.244.1.11:8080"));
        let row: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        let found = columns.map(|column| row.get(column).copied().unwrap_or("nothing")).join(" ");
        t.check(&format!("`ipvsadm` lists {expected}"), found == expected, &listed)
    })
}

/// The number of the Service in the line of a metric.
fn of_service(told: &str, what: &str, labels: &str) -> u64 {
    let labels = format!("{labels}namespace=\"dev\",service=\"counted\"");
    let line = format!("kube_ipvs_service_{what}_total{{{labels}}} ");
    let found = told.lines().find_map(|told| told.strip_prefix(&line));
    found.and_then(|number| number.parse().ok()).unwrap_or_default()
}

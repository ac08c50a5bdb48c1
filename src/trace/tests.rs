use super::*;
use crate::kernel::nft::list::ListedChain;
use crate::kernel::nft::trace::samples::message;
use crate::kernel::nft::{BaseChain, TableFamily};

const CLIENT: [u8; 4] = [10, 244, 1, 12];
const CLUSTER_IP: [u8; 4] = [10, 96, 0, 20];
const ENDPOINT: [u8; 4] = [10, 244, 1, 11];
const NO_RULE: Option<(u64, u32)> = None;

fn chains() -> ChainIndex {
    let ours = CHAINS.map(|(name, hook, priority, _)| (TABLE, name, hook, priority));
    let others = [
        ("kube-ipvs", "prerouting", 0, -110),
        ("kube-ipvs", "input", 1, 110),
        ("kube-ipvs", "output", 3, -110),
        ("kube-ipvs", "postrouting", 4, 100),
        ("filter", "FORWARD", 2, 0),
    ];
    let chain = |(table, name, hook, priority): (&str, &str, u32, i32)| ListedChain {
        family: TableFamily::Ip,
        table: table.to_owned(),
        name: name.to_owned(),
        base: Some(BaseChain { kind: "filter", hook, priority }),
        drops: false,
    };
    ChainIndex::new(ours.into_iter().chain(others).map(chain).collect())
}

type Step = ((&'static str, &'static str), Option<(u64, u32)>, Option<([u8; 4], [u8; 4])>);

fn journey(steps: &[Step]) -> Journey {
    let mut journey = Journey::new(chains());
    for (at, verdict, ends) in steps {
        let message = message(*at, 3, *verdict, *ends);
        journey.add(&TraceEvent::decode(&message).expect("an event"));
    }
    journey
}

fn begun() -> Vec<Step> {
    let ends = Some((CLIENT, CLUSTER_IP));
    vec![
        ((TABLE, "prerouting-begin"), Some((1, u32::MAX)), ends),
        (("kube-ipvs", "prerouting"), Some((7, 1)), ends),
        ((TABLE, "prerouting-end"), NO_RULE, ends),
        ((TABLE, "input-begin"), NO_RULE, ends),
    ]
}

#[test]
fn what_ipvs_changes_is_told_from_what_rules_change() {
    let mut steps = begun();
    steps.push(((TABLE, "output-begin"), NO_RULE, Some((CLIENT, ENDPOINT))));
    let journey = journey(&steps);
    let request = journey.request.as_ref().expect("a packet");
    let met: Vec<_> = request.hops.iter().map(|hop| (hook_name(hop.hook), &hop.met)).collect();
    assert!(
        matches!(
            &met[..],
            [
                ("prerouting", PacketMet::Arrival(7)),
                ("prerouting", PacketMet::Rule(..)),
                ("output", PacketMet::Change { by: Translator::Ipvs, .. }),
            ]
        ),
        "{met:?}"
    );
    assert_eq!(journey.outcome(), TraceOutcome::Gone(PacketRole::Request, Some(OUTPUT)));
}

#[test]
fn a_verdict_of_another_program_ends_the_journey() {
    let mut steps = begun();
    steps.push((("filter", "FORWARD"), Some((4, 0)), Some((CLIENT, ENDPOINT))));
    let journey = journey(&steps);
    assert!(journey.is_over());
    let TraceOutcome::Stopped(PacketRole::Request, at) = journey.outcome() else {
        panic!("{:?}", journey.outcome());
    };
    assert_eq!((at.table.as_str(), at.handle), ("filter", Some(4)));
}

#[test]
fn packets_that_the_table_has_not_marked_are_not_followed() {
    let others = [(("filter", "FORWARD"), Some((4, 0)), Some((CLIENT, ENDPOINT)))];
    assert_eq!(journey(&others).outcome(), TraceOutcome::Nothing);
}

/// Lines in hexadecimal, each a message as `a_trace_opens_the_nodes_own_connection` gets them.
fn recorded(lines: &str) -> String {
    let mut journey = Journey::new(chains());
    for line in lines.lines() {
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("a byte");
        let message: Vec<_> = (0..line.len()).step_by(2).map(byte).collect();
        journey.add(&TraceEvent::decode(&message).expect("an event"));
    }
    let show = |packet: &PacketPath| {
        let hops = packet.hops.iter().map(|hop| match &hop.met {
            PacketMet::Rule(at, verdict) => format!("{} {:?}", at.chain, verdict),
            PacketMet::Change { after, by, .. } => {
                format!("{} to {} by {by:?}", after.source, after.destination)
            }
            met => format!("{met:?}"),
        });
        hops.zip(&packet.hops)
            .map(|(met, hop)| format!("{} {met}\n", hook_name(hop.hook)))
            .collect()
    };
    let packets = [&journey.request, &journey.answer];
    let packets: Vec<String> = packets.into_iter().flatten().map(show).collect();
    format!("{}{:?}", packets.concat(), journey.outcome())
}

#[test]
fn a_recorded_connection_is_followed() {
    let of_new = recorded(include_str!("recorded/linux-7.3.hex"));
    insta::assert_snapshot!(of_new, @r#"
    output Sending
    output output Accept
    output 192.168.50.1:42403 to 10.244.1.11:8080 by Ipvs
    postrouting postrouting Goto("to-cluster-ip")
    postrouting to-cluster-ip Goto("masq")
    postrouting masq Accept
    postrouting 10.244.1.1:40846 to 10.244.1.11:8080 by Rule
    postrouting Departure(6)
    prerouting Arrival(6)
    prerouting 10.244.1.11:8080 to 192.168.50.1:42403 by Tracking
    input 10.96.6.3:80 to 192.168.50.1:42403 by Ipvs
    input input Goto("answer")
    input answer Goto("restore")
    input restore Accept
    input Delivery
    Answered
    "#);
    let of_old = recorded(include_str!("recorded/linux-5.10.hex"));
    // Ports and links were others.
    let others = [(":46775", ":42403"), (":52322", ":40846"), ("(3)", "(6)")];
    let of_old = others.iter().fold(of_old, |text, (old, new)| text.replace(old, new));
    assert_eq!(of_old, of_new);
}

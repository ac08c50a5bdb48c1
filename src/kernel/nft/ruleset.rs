//! Our rules: written once, whatever the Services. These only add and remove elements of the sets.
//!
//! IPVS takes a packet at the hooks `input` (priority 98) and `output` (priority -98). Before that
//! a packet carries the front end that the client knocked at; what carries a service address after
//! it was not taken. The original direction of a connection's conntrack entry keeps the front end,
//! so that masquerading needs no packet marks.

use std::sync::LazyLock;

use crate::model::{Family, Protocol};

use super::fingerprint;
use super::rule::{Condition, Field, Rejection, Rule, Term, Verdict, rule};
use super::set::{Datatype, Layout, Set, SetName};
use super::table::{Chain, ChainKind, Hook, Table, TableFamily};

/// What of our tables does not depend on the Services.
pub(super) struct Ruleset {
    /// The tables, each with a chain that nothing leads to and whose name is the fingerprint.
    pub(super) tables: [Table; 2],
}

impl Ruleset {
    /// The one that this version writes.
    pub(super) fn current() -> &'static Self {
        static CURRENT: LazyLock<Ruleset> = LazyLock::new(|| {
            let mut tables = [inet(), arp()];
            let marker = fingerprint::chain_name(&tables);
            for table in &mut tables {
                table.chains.push(Chain::regular(marker.as_str(), []));
            }
            Ruleset { tables }
        });
        &CURRENT
    }
}

/// Source ports of masqueraded connections: outside the default range of node ports, so that no
/// reply is taken for a packet to a node port.
const MASQUERADE_PORTS: (u16, u16) = (32768, 60999);

/// The priority of our chains that translate destinations: everybody else's stand at -100, and the
/// first one that decides on a connection is the last one that is asked.
const BEFORE_OTHERS: i32 = -110;

/// The destination of a packet, as the sets of front ends have it.
fn destination(family: Family) -> [Field; 3] {
    [Field::Destination(family), Field::TransportProtocol, Field::DestinationPort]
}

/// Only packets to an address in a set.
fn to(family: Family, set: &'static str) -> Rule {
    rule().within(&[Field::Destination(family)], SetName::of(set, family))
}

/// Only packets to a front end in a set.
fn to_frontend(family: Family, set: &'static str) -> Rule {
    rule().within(&destination(family), SetName::of(set, family))
}

/// A rule for each address family.
fn each(write: impl Fn(Family) -> Rule) -> [Rule; 2] {
    Family::BOTH.map(write)
}

fn inet() -> Table {
    use ChainKind::{Filter, Nat};
    Table {
        family: TableFamily::Inet,
        sets: inet_sets(),
        chains: vec![
            Chain::base("pre", Nat, Hook::Prerouting, BEFORE_OTHERS, pre()),
            Chain::base("out", Nat, Hook::Output, BEFORE_OTHERS, out()),
            Chain::base("sent", Filter, Hook::Output, BEFORE_OTHERS, sent()),
            Chain::base("early", Filter, Hook::Input, 90, early()),
            Chain::base("late", Filter, Hook::Input, 110, late()),
            Chain::base("post", Nat, Hook::Postrouting, 100, post()),
            Chain::regular("shortcuts", shortcuts()),
            Chain::regular("to-cluster", to_cluster()),
            Chain::regular("unready", unready()),
            Chain::regular("clustered", each(clustered)),
            Chain::regular("unsent", unsent()),
            Chain::regular("stray", stray()),
            Chain::regular("restrict", each(restrict)),
            Chain::regular("refuse", refuse()),
            Chain::regular("masq", masq()),
        ],
    }
}

fn inet_sets() -> Vec<Set> {
    use Datatype::{Address, Interface, Port, Protocol};
    let mut sets = Vec::new();
    let mut add = |name, key: fn(Family) -> Vec<Datatype>, interval| {
        for family in Family::BOTH {
            let key = Layout(key(family));
            sets.push(Set { name: SetName::of(name, family), key, interval, value: None });
        }
    };
    for name in ["service-ranges", "image-ranges", "pods", "local-pods"] {
        add(name, |family| vec![Address(family)], true);
    }
    for name in ["cluster-ips", "external-ips", "own-ips"] {
        add(name, |family| vec![Address(family)], false);
    }
    for name in ["frontends", "masquerade", "masquerade-node", "restricted", "dropped", "refused"] {
        add(name, |family| vec![Address(family), Protocol, Port], false);
    }
    add("allowed", |family| vec![Address(family), Protocol, Port, Address(family)], true);
    add("hairpin", |family| vec![Address(family), Address(family)], false);
    for name in ["pod-interfaces", "local-pod-interfaces"] {
        let key = Layout(vec![Interface]);
        sets.push(Set { name: SetName::only(name), key, interval: true, value: None });
    }
    for name in ["pod-shortcuts", "node-shortcuts"] {
        for family in Family::BOTH {
            sets.push(Set {
                name: SetName::of(name, family),
                key: Layout(vec![Address(family), Protocol, Port]),
                interval: false,
                value: Some(Layout(vec![Address(family), Port])),
            });
        }
    }
    sets
}

/// Packets to a service range, where there are front ends of ClusterIPs and no others: Services
/// get no external or load balancer IP there. So short cuts, source ranges and most of what decides
/// on masquerading have nothing to say of them, and the connections that are opened most often are
/// spared all of it.
fn of_cluster(family: Family) -> Rule {
    to(family, "service-ranges")
}

/// Packets from elsewhere, first of their connection: this node's pods take the short cuts.
fn pre() -> Vec<Rule> {
    let shortcuts = Verdict::Jump("shortcuts");
    let mut rules = Vec::from(each(|family| keep(of_cluster(family), family)));
    rules.extend(each(|family| {
        let from_pod = &[Field::Source(family)];
        rule().within(from_pod, SetName::of("local-pods", family)).verdict(shortcuts)
    }));
    let behind = rule().within(&[Field::InputInterface], SetName::only("local-pod-interfaces"));
    rules.push(behind.verdict(shortcuts));
    rules.extend(kept());
    rules
}

/// The short cuts of pods, after the source ranges of the front end that they mean.
fn shortcuts() -> Vec<Rule> {
    let mut rules = vec![rule().verdict(Verdict::Jump("restrict"))];
    rules.extend(each(|family| rule().then(shortcut(family, "pod-shortcuts"))));
    rules
}

/// Packets that this node's processes send, first of their connection.
fn out() -> Vec<Rule> {
    let mut rules =
        Vec::from(each(|family| of_cluster(family).verdict(Verdict::Goto("to-cluster"))));
    rules.extend(each(|family| to(family, "image-ranges").verdict(Verdict::Goto("refuse"))));
    rules.push(rule().verdict(Verdict::Jump("restrict")));
    rules.extend(each(refused));
    rules.extend(each(|family| rule().then(shortcut(family, "node-shortcuts"))));
    rules.extend(dropped_otherwise());
    rules.extend(kept());
    rules
}

/// The same to a service range.
fn to_cluster() -> Vec<Rule> {
    let mut rules = Vec::from(each(refused));
    rules.extend(dropped_otherwise());
    rules.extend(each(|family| keep(rule(), family)));
    rules
}

/// Drops what a process must not reach. It would be told that it may not send, so only what IPVS
/// might tell otherwise.
fn dropped_otherwise() -> impl Iterator<Item = Rule> {
    [Protocol::Tcp, Protocol::Sctp].into_iter().flat_map(|protocol| {
        each(move |family| dropped(rule().when(Condition::Transport(protocol)), family))
    })
}

/// New connections to what is ours, which stay so: service addresses are local ones, and a CNI's
/// rules for hostPorts take a port of every local address for the pod's.
///
/// Being translated to where it goes anyway leaves no trace on a connection, so that IPVS goes on
/// to see each of its packets.
fn keep(rule: Rule, family: Family) -> Rule {
    rule.then(Term::KeepDestination(family))
}

/// The same of what is in no service range: all ClusterIPs where none is known.
fn kept() -> Vec<Rule> {
    let mut rules = Vec::from(each(|family| keep(to(family, "cluster-ips"), family)));
    rules.extend(each(|family| keep(to_frontend(family, "frontends"), family)));
    rules
}

fn shortcut(family: Family, map: &'static str) -> Term {
    let key = destination(family).to_vec();
    Term::DestinationNat { family, key, map: SetName::of(map, family) }
}

/// Packets that this node's processes send, before IPVS sees them.
///
/// An endpoint's segment that connection tracking takes for no part of a masqueraded connection
/// keeps the node as its destination, where no process knows the connection. The node's reset
/// would end it.
///
/// Each packet that the node sends comes through here, to a front end twice: one rule for it.
fn sent() -> Vec<Rule> {
    vec![misfit().verdict(Verdict::Goto("unsent"))]
}

fn unsent() -> Vec<Rule> {
    let (first, last) = MASQUERADE_PORTS;
    vec![
        rule().verdict(Verdict::Jump("stray")),
        rule()
            .when(Condition::Reset)
            .when(Condition::TcpSourcePorts(first, last))
            .counter()
            .verdict(Verdict::Drop),
    ]
}

/// TCP segments that fit no connection, such as those beyond the window.
fn misfit() -> Rule {
    rule().when(Condition::Invalid).when(Condition::Transport(Protocol::Tcp))
}

/// Drops what is sent to a front end. IPVS knows the connection, and would pass on a segment that
/// nothing of the client's is translated in any more: the endpoint's reset, to a stranger, finds
/// its way to the client.
fn stray() -> Vec<Rule> {
    let dropped = |rule: Rule| rule.counter().verdict(Verdict::Drop);
    let mut rules = Vec::new();
    for set in ["cluster-ips", "image-ranges"] {
        rules.extend(each(|family| dropped(to(family, set))));
    }
    rules.extend(each(|family| dropped(to_frontend(family, "frontends"))));
    rules
}

/// Packets to this node before IPVS sees them. Only short cuts lead to images: a connection that
/// was opened to one is refused.
fn early() -> Vec<Rule> {
    let mut rules = vec![
        rule().when(Condition::EstablishedOrRelated).verdict(Verdict::Accept),
        misfit().verdict(Verdict::Jump("stray")),
    ];
    rules.extend(each(|family| of_cluster(family).verdict(Verdict::Goto("unready"))));
    rules.extend(each(|family| asked_for(family, "image-ranges").verdict(Verdict::Goto("refuse"))));
    rules.push(rule().verdict(Verdict::Jump("restrict")));
    rules.push(rule().verdict(Verdict::Goto("unready")));
    rules
}

/// New connections to a front end that has nobody for them.
fn unready() -> Vec<Rule> {
    let mut rules = Vec::from(each(refused));
    rules.extend(each(|family| dropped(rule(), family)));
    rules
}

/// New connections to a front end without endpoints. Chain `late` would refuse them too, but for
/// a virtual server that is still there for established connections: IPVS tells a client so late
/// that it waits a second.
fn refused(family: Family) -> Rule {
    to_frontend(family, "refused").verdict(Verdict::Goto("refuse"))
}

/// New connections to a front end of policy Local without a local endpoint.
fn dropped(rule: Rule, family: Family) -> Rule {
    rule.within(&destination(family), SetName::of("dropped", family))
        .counter()
        .verdict(Verdict::Drop)
}

/// Drops what a front end's source ranges do not allow.
///
/// The protocol in the second look-up is read from the IP header: for `meta l4proto` in a
/// concatenation of ranges, `nft` up to 1.0.6 writes an instruction that kernel 7.2 refuses, and
/// our text has to load there too. An IPv6 packet with extension headers is thereby not allowed,
/// which errs to the safe side.
fn restrict(family: Family) -> Rule {
    to_frontend(family, "restricted")
        .not_within(
            &[
                Field::Destination(family),
                Field::NextProtocol(family),
                Field::DestinationPort,
                Field::Source(family),
            ],
            SetName::of("allowed", family),
        )
        .counter()
        .verdict(Verdict::Drop)
}

/// Packets to this node that IPVS did not take. It needs no list of what is programmed, so it
/// cannot get out of step with it.
///
/// Of ICMPv6, only what is sent to a service address is refused; nothing here keeps neighbour
/// discovery from the node's own addresses.
fn late() -> Vec<Rule> {
    let refused = |rule: Rule| rule.verdict(Verdict::Goto("refuse"));
    let mut rules = vec![rule().when(Condition::ReplyDirection).verdict(Verdict::Accept)];
    rules.extend(each(|family| refused(to(family, "cluster-ips"))));
    rules.extend(each(|family| refused(to(family, "image-ranges"))));
    // Some Service may get the address any moment: its clients should try again.
    rules.extend(each(|family| to(family, "service-ranges").counter().verdict(Verdict::Drop)));
    rules.extend(each(|family| refused(to_frontend(family, "frontends"))));
    rules.extend(each(|family| {
        refused(to(family, "external-ips").when(Condition::EchoRequest(family)))
    }));
    // Its route makes an external address local, but that opens none of the node's ports.
    rules.extend(each(|family| {
        let destination = [Field::Destination(family)];
        let others = to(family, "external-ips");
        refused(others.not_within(&destination, SetName::of("own-ips", family)))
    }));
    rules
}

/// Tells the sender, by what it understands at once.
fn refuse() -> Vec<Rule> {
    let reject = |rule: Rule, with| rule.counter().then(Term::Reject(with));
    let mut rules =
        vec![reject(rule().when(Condition::Transport(Protocol::Tcp)), Rejection::TcpReset)];
    rules.extend(each(|family| {
        reject(rule().when(Condition::EchoRequest(family)), Rejection::HostUnreachable(family))
    }));
    rules.extend(each(|family| {
        rule().when(Condition::Icmp(family)).counter().verdict(Verdict::Drop)
    }));
    rules.push(reject(rule(), Rejection::PortUnreachable));
    rules
}

/// Packets on their way to an endpoint. By now they carry the endpoint's address; what the client
/// asked for is in the connection's original direction.
fn post() -> Vec<Rule> {
    let hairpin = |family| {
        let ends = &[Field::Source(family), Field::Destination(family)];
        masqueraded(rule().within(ends, SetName::of("hairpin", family)))
    };
    let mut rules = Vec::from(each(hairpin));
    rules.extend(each(|family| {
        asked_for(family, "service-ranges").verdict(Verdict::Goto("clustered"))
    }));
    rules.extend(each(clustered));
    for family in Family::BOTH {
        // The port of a connection is known for one protocol at a time.
        let of = |protocol, set| {
            let key = [
                Field::OriginalDestination(family),
                Field::TransportProtocol,
                Field::OriginalDestinationPort,
            ];
            rule().when(Condition::Transport(protocol)).within(&key, SetName::of(set, family))
        };
        rules.extend(Protocol::ALL.map(|protocol| masqueraded(of(protocol, "masquerade"))));
        rules.extend(Protocol::ALL.map(|protocol| {
            masqueraded(of(protocol, "masquerade-node").when(Condition::LocalSource))
        }));
    }
    rules
}

/// Connections that were opened to an address in a set.
fn asked_for(family: Family, set: &'static str) -> Rule {
    rule().within(&[Field::OriginalDestination(family)], SetName::of(set, family))
}

/// Clients of ClusterIPs that are no pods.
fn clustered(family: Family) -> Rule {
    masqueraded(
        asked_for(family, "cluster-ips")
            .not_within(&[Field::OriginalSource(family)], SetName::of("pods", family))
            .not_within(&[Field::InputInterface], SetName::only("pod-interfaces")),
    )
}

fn masqueraded(rule: Rule) -> Rule {
    rule.verdict(Verdict::Goto("masq"))
}

/// Gives connections this node's address as their source.
fn masq() -> Vec<Rule> {
    let ports = Some(MASQUERADE_PORTS);
    let mut rules: Vec<_> = [Protocol::Tcp, Protocol::Udp]
        .map(|protocol| {
            rule().when(Condition::Transport(protocol)).counter().then(Term::Masquerade { ports })
        })
        .into();
    rules.push(rule().counter().then(Term::Masquerade { ports: None }));
    rules
}

/// The node must not say that service addresses are its own: their routes make it answer. Those
/// that it has besides, as an announcer on it or its administrator says, are.
///
/// The sets repeat those of table `inet`, which a table of this family cannot see.
fn arp() -> Table {
    let set = |stem, interval| Set {
        name: SetName::only(stem),
        key: Layout(vec![Datatype::Address(Family::V4)]),
        interval,
        value: None,
    };
    let asked_for =
        |stem| rule().when(Condition::ArpRequest).within(&[Field::ArpTarget], SetName::only(stem));
    let own = SetName::only("own-ips");
    Table {
        family: TableFamily::Arp,
        sets: vec![
            set("service-ranges", true),
            set("cluster-ips", false),
            set("external-ips", false),
            set("own-ips", false),
        ],
        chains: vec![Chain::base(
            "input",
            ChainKind::Filter,
            Hook::ArpInput,
            0,
            [
                asked_for("service-ranges"),
                asked_for("cluster-ips"),
                asked_for("external-ips").not_within(&[Field::ArpTarget], own),
            ]
            .map(|rule| rule.verdict(Verdict::Drop)),
        )],
    }
}

//! Other programs' firewalls that would drop service traffic.
//!
//! An accept in one table does not overrule a drop in another, so nothing that this program
//! writes can help: the firewall itself must let the traffic in. The first packet of a connection
//! passes the input hook with the address of a pool, before IPVS. What connection tracking carries,
//! and answers of endpoints, pass the forward hook; an answer passes the input hook when the client is a
//! process of the node.
//!
//! Base chains are read rule by rule. Chains that they lead to are not: what these let in is in doubt.

use std::fmt;

use ipnet::IpNet;

use super::chains::{self, Base, Chain, ChainFamily, Hook};
use super::netlink::{Attribute, KernelError, Protocol, Socket, attributes};
use super::nft::{header, message_type};
use crate::model::{Carry, Family, NAME};

/// `NFT_MSG_GETRULE`
const GET_RULE: u16 = message_type(7);

/// `struct nfgenmsg`, which precedes the attributes.
const HEADER_BYTES: usize = 4;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
/// `NFTA_MATCH_NAME` and `NFTA_TARGET_NAME`.
const NFTA_XT_NAME: u16 = 1;
/// `NFTA_MATCH_INFO`
const NFTA_XT_INFO: u16 = 3;

/// `NFT_CT_*`
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `NFT_META_NFPROTO`
const META_NFPROTO: u32 = 15;
/// `NFT_PAYLOAD_NETWORK_HEADER`
const NETWORK_HEADER: u32 = 1;
/// Where the destination is in the headers of IPv4 and IPv6.
const DESTINATIONS: [(u32, Family); 2] = [(16, Family::V4), (24, Family::V6)];
/// `NFT_CMP_EQ`
const EQUAL: u32 = 0;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`, and the same of `xt_conntrack`.
const ESTABLISHED: u32 = 1 << 1;
/// `IPS_DST_NAT`
const STATUS_TRANSLATED: u32 = 1 << 5;
/// `XT_CONNTRACK_STATE_DNAT`
const XT_TRANSLATED: u16 = 1 << 7;
/// `XT_CONNTRACK_STATE`: what the match goes by.
const XT_BY_STATE: u16 = 1;
/// `struct xt_conntrack_mtinfo3`: where `match_flags`, `invert_flags` and `state_mask` are.
const XT_STATES: std::ops::Range<usize> = 146..152;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// A chain of somebody else that drops what services need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    chain: Chain,
    hook: Hook,
    missing: Vec<Need>,
    /// Whether nothing else that the chain has could let it in.
    pub is_certain: bool,
}

/// What a chain has to let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    /// Answers, and what else belongs to connections that are established.
    Answers,
    /// What came through a front end. In an input chain it carries the address of a pool by now; in a
    /// forward chain it is what follows before there is an answer.
    Translated,
    /// Packets to these addresses of pools.
    Destination(IpNet),
    /// Packets to ClusterIPs, of which no range is known.
    ClusterIps,
}

/// Looks for base chains of others that drop what services need. The ranges are those of service
/// addresses, as far as they are known.
///
/// # Errors
///
/// If nf_tables is not there or the process lacks CAP_NET_ADMIN.
pub fn obstacles(ranges: &[IpNet], carry: &Carry) -> Result<Vec<Obstacle>, KernelError> {
    let chains = chains::read()?;
    let mut chains = chains.into_iter().filter_map(|chain| Some((base_of_others(&chain)?, chain)));
    let Some(first) = chains.next() else { return Ok(Vec::new()) };
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut found = Vec::new();
    for (base, chain) in std::iter::once(first).chain(chains) {
        let rules = rules(&mut socket, &chain)?;
        found.extend(judge(chain, base, &rules, ranges, carry));
    }
    Ok(found)
}

/// What a base chain is, if it is somebody else's and filters what services need.
fn base_of_others(chain: &Chain) -> Option<Base> {
    let base = chain.base.filter(|base| base.filters && base.hook != Hook::Other)?;
    (!chain.family.families().is_empty() && chain.table != NAME).then_some(base)
}

fn judge(
    chain: Chain,
    base: Base,
    rules: &[Rule],
    ranges: &[IpNet],
    carry: &Carry,
) -> Option<Obstacle> {
    let Base { hook, drops, .. } = base;
    let end = rules.iter().position(|rule| matches!(rule, Rule::AcceptsAll | Rule::DropsAll));
    let (before, drops) = match end.and_then(|at| Some((rules.get(..at)?, rules.get(at)?))) {
        Some((before, end)) => (before, *end == Rule::DropsAll),
        None => (rules, drops),
    };
    let is_let_in = |need: &Need| before.iter().any(|rule| rule.lets_in(need));
    let mut missing = needs(&chain, hook, ranges, carry);
    missing.retain(|need| !is_let_in(need));
    let is_certain = !before.contains(&Rule::InDoubt);
    (drops && !missing.is_empty()).then_some(Obstacle { chain, hook, missing, is_certain })
}

fn needs(chain: &Chain, hook: Hook, ranges: &[IpNet], carry: &Carry) -> Vec<Need> {
    let mut needs = vec![Need::Answers, Need::Translated];
    if hook == Hook::Input && *carry == Carry::FrontEnds {
        let families = chain.family.families();
        let fitting = ranges.iter().filter(|range| families.contains(&Family::of(range.addr())));
        needs.extend(fitting.map(|range| Need::Destination(*range)));
        if ranges.is_empty() {
            needs.push(Need::ClusterIps);
        }
    }
    needs
}

/// A rule of a base chain, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Rule {
    AcceptsAll,
    DropsAll,
    /// Lets in packets of these states of connections.
    Accepts {
        established: bool,
        translated: bool,
    },
    /// Lets in packets to addresses that begin so.
    AcceptsTo(Family, Masked),
    /// May let in what services need: it leads to another chain, or has conditions that are not read.
    InDoubt,
    /// Lets in nothing.
    Other,
}

/// The first bytes of an address, and which of their bits count.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Masked {
    value: Vec<u8>,
    mask: Vec<u8>,
}

impl Rule {
    fn lets_in(&self, need: &Need) -> bool {
        match (self, need) {
            (Self::Accepts { established, .. }, Need::Answers) => *established,
            (Self::Accepts { translated, .. }, Need::Translated) => *translated,
            (Self::AcceptsTo(family, masked), Need::Destination(range)) => {
                *family == Family::of(range.addr()) && masked.holds(range)
            }
            _ => false,
        }
    }
}

impl Masked {
    fn holds(&self, range: &IpNet) -> bool {
        let bits: u32 = self.mask.iter().map(|byte| byte.count_ones()).sum();
        let begins = |octets: &[u8]| {
            let masked = octets.iter().zip(&self.mask).map(|(octet, mask)| octet & mask);
            masked.eq(self.value.iter().copied())
        };
        bits <= u32::from(range.prefix_len())
            && match range {
                IpNet::V4(range) => begins(&range.network().octets()),
                IpNet::V6(range) => begins(&range.network().octets()),
            }
    }
}

/// The rules of a chain, in their order.
fn rules(socket: &mut Socket, chain: &Chain) -> Result<Vec<Rule>, KernelError> {
    socket.dump(
        "nf_tables rules",
        GET_RULE,
        |message| {
            header(message, chain.family.number().unwrap_or(0), 0);
            message.text(NFTA_RULE_TABLE, &chain.table);
            message.text(NFTA_RULE_CHAIN, &chain.name);
        },
        |rules: &mut Vec<Rule>, _, body| rules.push(decode(body)),
    )
}

/// Reads NFT_MSG_NEWRULE: `struct nfgenmsg` and attributes.
fn decode(body: &[u8]) -> Rule {
    let rest = body.get(HEADER_BYTES..).unwrap_or_default();
    let mut reader = Reader::default();
    let list = attributes(rest).find(|attribute| attribute.kind == NFTA_RULE_EXPRESSIONS);
    for expression in list.iter().flat_map(Attribute::nested) {
        let name = find(expression, NFTA_EXPR_NAME).and_then(|name| name.text());
        let data = find(expression, NFTA_EXPR_DATA);
        if let Some(rule) = reader.read(name.unwrap_or_default(), data) {
            return rule;
        }
    }
    Rule::Other
}

/// Reads the expressions of a rule one after the other, up to its verdict.
#[derive(Default)]
struct Reader {
    condition: Condition,
    mask: Option<Vec<u8>>,
}

#[derive(Default)]
enum Condition {
    /// None so far.
    #[default]
    Always,
    /// What is loaded, and compared next.
    Family,
    State,
    Status,
    Destination(Family),
    /// All that there is to it.
    Whole(Rule),
    Unread,
}

impl Reader {
    fn read(&mut self, name: &str, data: Option<Attribute<'_>>) -> Option<Rule> {
        let number = |kind| find(data?, kind)?.u32_be();
        match name {
            "counter" | "log" => {}
            "ct" if number(NFTA_CT_DIRECTION).is_none() => self.load(match number(NFTA_CT_KEY) {
                Some(CT_STATE) => Condition::State,
                Some(CT_STATUS) => Condition::Status,
                _ => Condition::Unread,
            }),
            "meta" if number(NFTA_META_KEY) == Some(META_NFPROTO) => self.load(Condition::Family),
            "payload" if number(NFTA_PAYLOAD_BASE) == Some(NETWORK_HEADER) => {
                let offset = number(NFTA_PAYLOAD_OFFSET);
                let family = DESTINATIONS.into_iter().find(|(at, _)| Some(*at) == offset);
                self.load(family.map_or(Condition::Unread, |(_, it)| Condition::Destination(it)));
            }
            "bitwise" => self.mask = value(data, NFTA_BITWISE_MASK).map(<[u8]>::to_vec),
            "cmp" => self.compare(
                number(NFTA_CMP_OP) == Some(EQUAL),
                value(data, NFTA_CMP_DATA).unwrap_or_default(),
            ),
            // The set is not read. Whoever accepts some states accepts established connections.
            "lookup" if matches!(self.condition, Condition::State) => {
                let is_in = number(NFTA_LOOKUP_FLAGS).unwrap_or(0) == 0;
                let rule = Rule::Accepts { established: is_in, translated: false };
                self.condition = Condition::Whole(rule);
            }
            "match" => {
                let states = data.and_then(states_of_iptables);
                self.load(states.map_or(Condition::Unread, Condition::Whole));
            }
            "immediate" => {
                let verdict = data.and_then(|data| find(data, NFTA_IMMEDIATE_DATA));
                let verdict = verdict.and_then(|data| find(data, NFTA_DATA_VERDICT))?;
                return Some(match find(verdict, NFTA_VERDICT_CODE)?.u32_be()? {
                    NF_ACCEPT => self.accept(),
                    NF_DROP => self.drop(),
                    _ => Rule::InDoubt,
                });
            }
            "reject" => return Some(self.drop()),
            "target" => {
                let target = data.and_then(|data| find(data, NFTA_XT_NAME)?.text());
                return Some(match target {
                    Some("REJECT") => self.drop(),
                    Some("LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS") => Rule::Other,
                    _ => Rule::InDoubt,
                });
            }
            _ => self.condition = Condition::Unread,
        }
        None
    }

    /// A second condition makes the first one narrower than what is read of it.
    fn load(&mut self, condition: Condition) {
        self.mask = None;
        self.condition = match self.condition {
            Condition::Always => condition,
            _ => Condition::Unread,
        };
    }

    fn compare(&mut self, is_equal: bool, data: &[u8]) {
        let mask = self.mask.take();
        // `bits & mask != 0`, or the bits themselves.
        let bits = || {
            let bytes =
                if is_equal == mask.is_none() { mask.as_deref().unwrap_or(data) } else { &[] };
            bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes)
        };
        self.condition = match self.condition {
            Condition::Family if is_equal => Condition::Always,
            Condition::State => {
                let established = bits() & ESTABLISHED != 0;
                Condition::Whole(Rule::Accepts { established, translated: false })
            }
            Condition::Status => {
                let translated = bits() & STATUS_TRANSLATED != 0;
                Condition::Whole(Rule::Accepts { established: false, translated })
            }
            Condition::Destination(family) if is_equal => {
                let mask = mask.unwrap_or_else(|| vec![u8::MAX; data.len()]);
                Condition::Whole(Rule::AcceptsTo(family, Masked { value: data.to_vec(), mask }))
            }
            _ => Condition::Unread,
        };
    }

    fn accept(&mut self) -> Rule {
        match std::mem::take(&mut self.condition) {
            Condition::Always => Rule::AcceptsAll,
            Condition::Whole(rule) => rule,
            _ => Rule::InDoubt,
        }
    }

    fn drop(&self) -> Rule {
        if matches!(self.condition, Condition::Always) { Rule::DropsAll } else { Rule::Other }
    }
}

/// What `-m conntrack --ctstate` of iptables lets in.
fn states_of_iptables(data: Attribute<'_>) -> Option<Rule> {
    let is_conntrack = find(data, NFTA_XT_NAME)?.text() == Some("conntrack");
    let states = find(data, NFTA_XT_INFO)?.value.get(XT_STATES)?;
    let (numbers, _) = states.as_chunks();
    let [by, inverted, states] = *numbers.first_chunk()?;
    let [by, inverted, states] = [by, inverted, states].map(u16::from_ne_bytes);
    let rule = Rule::Accepts {
        established: u32::from(states) & ESTABLISHED != 0,
        translated: states & XT_TRANSLATED != 0,
    };
    (is_conntrack && by == XT_BY_STATE && inverted == 0).then_some(rule)
}

fn value(data: Option<Attribute<'_>>, kind: u16) -> Option<&[u8]> {
    Some(find(find(data?, kind)?, NFTA_DATA_VALUE)?.value)
}

fn find(outer: Attribute<'_>, kind: u16) -> Option<Attribute<'_>> {
    outer.nested().find(|inner| inner.kind == kind)
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} drops what it does not know, and has no rule for ", self.chain)?;
        let mut words: Vec<_> = self.missing.iter().map(Need::words).collect();
        words.dedup();
        f.write_str(&words.join(", "))
    }
}

impl Need {
    fn words(&self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Translated => "connections through front ends",
            Self::Destination(_) | Self::ClusterIps => "ClusterIPs",
        }
    }
}

impl Obstacle {
    /// The commands that open the chain.
    #[must_use]
    pub fn mend(&self) -> Vec<String> {
        let chain = &self.chain;
        let opening = match () {
            () if is_iptables(chain) => Opening::Iptables(chain),
            () if chain.table == "firewalld" => Opening::Firewalld,
            () => Opening::Nft(chain),
        };
        let mut rules: Vec<_> = self.missing.iter().map(|need| opening.open(need)).collect();
        let sees_bridge =
            self.hook == Hook::Forward && chain.family.families().contains(&Family::V6);
        if sees_bridge && self.missing.contains(&Need::Answers) {
            rules.extend(opening.neighbour_discovery());
        }
        rules.dedup();
        rules
    }
}

/// Whether iptables wrote the chain. Its `nft` flavour refuses to read a table with rules that it
/// would not have written.
fn is_iptables(chain: &Chain) -> bool {
    matches!(chain.family, ChainFamily::Ip | ChainFamily::Ip6)
        && chain.table == "filter"
        && matches!(chain.name.as_str(), "INPUT" | "FORWARD")
}

/// How rules are added to a chain.
enum Opening<'a> {
    Iptables(&'a Chain),
    Nft(&'a Chain),
    /// Its table takes no rules from others, and is written anew with each reload.
    Firewalld,
}

impl Opening<'_> {
    fn open(&self, need: &Need) -> String {
        match (self, need) {
            (_, Need::ClusterIps) => {
                "# each range of service addresses, as destination; or set `carry: all`".to_owned()
            }
            (Self::Firewalld, Need::Destination(range)) => {
                let family = if Family::of(range.addr()) == Family::V4 { "ipv4" } else { "ipv6" };
                format!(
                    "firewall-cmd --permanent --add-rich-rule='rule family={family} destination \
                     address={range} accept'; firewall-cmd --reload; or set `carry: all`"
                )
            }
            (Self::Firewalld, _) => "# StrictForwardPorts=no in firewalld.conf".to_owned(),
            (_, Need::Answers) => self
                .rule("-m conntrack --ctstate ESTABLISHED,RELATED", "ct state established,related"),
            (_, Need::Translated) => self.rule("-m conntrack --ctstate DNAT", "ct status dnat"),
            (_, Need::Destination(range)) => {
                let family = if Family::of(range.addr()) == Family::V4 { "ip" } else { "ip6" };
                self.rule(&format!("-d {range}"), &format!("{family} daddr {range}"))
            }
        }
    }

    fn rule(&self, iptables: &str, nft: &str) -> String {
        match self {
            Self::Iptables(chain) => {
                let command =
                    if chain.family == ChainFamily::Ip6 { "ip6tables" } else { "iptables" };
                format!("{command} -I {} {iptables} -j ACCEPT", chain.name)
            }
            Self::Nft(chain) => format!("nft insert rule {chain} {nft} accept"),
            Self::Firewalld => String::new(),
        }
    }

    /// Where bridged packets pass the forward hook, which IPVS needs, so do pods' questions for
    /// each other's hardware addresses.
    fn neighbour_discovery(&self) -> [String; 2] {
        [("solicitation", "solicit"), ("advertisement", "advert")].map(|(iptables, nft)| {
            self.rule(
                &format!("-p ipv6-icmp --icmpv6-type neighbour-{iptables}"),
                &format!("icmpv6 type nd-neighbor-{nft}"),
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn obstacle(
        (family, table, name): (ChainFamily, &str, &str),
        hook: Hook,
        rules: &[Rule],
        carry: &Carry,
    ) -> Option<Obstacle> {
        let base = Base { hook, filters: true, drops: true };
        let (table, name) = (table.to_owned(), name.to_owned());
        let chain = Chain { family, table, name, base: Some(base) };
        let ranges = ["10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap()];
        judge(chain, base, rules, &ranges, carry)
    }

    const DOCKER: (ChainFamily, &str, &str) = (ChainFamily::Ip, "filter", "FORWARD");
    const FIREWALLD: (ChainFamily, &str, &str) = (ChainFamily::Inet, "firewalld", "filter_INPUT");

    #[test]
    fn dockers_forward_policy_is_opened_for_carried_packets() {
        let found = obstacle(DOCKER, Hook::Forward, &[Rule::InDoubt], &Carry::FrontEnds).unwrap();
        assert!(!found.is_certain);
        let mend = [
            "iptables -I FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "iptables -I FORWARD -m conntrack --ctstate DNAT -j ACCEPT",
        ];
        assert_eq!(found.mend(), mend);
        assert!(obstacle(DOCKER, Hook::Forward, &[], &Carry::FrontEnds).unwrap().is_certain);
    }

    #[test]
    fn a_forward_policy_lets_pods_on_a_bridge_find_each_other() {
        let mend =
            |chain| obstacle(chain, Hook::Forward, &[], &Carry::All).unwrap().mend().join("\n");
        let inet = mend((ChainFamily::Inet, "fw", "forward"));
        let rule = "nft insert rule inet fw forward icmpv6 type nd-neighbor-solicit accept";
        assert!(inet.contains(rule), "{inet}");
        let ip6 = mend((ChainFamily::Ip6, "filter", "FORWARD"));
        let rule =
            "ip6tables -I FORWARD -p ipv6-icmp --icmpv6-type neighbour-advertisement -j ACCEPT";
        assert!(ip6.contains(rule), "{ip6}");
    }

    #[test]
    fn an_input_policy_is_opened_per_range_of_its_families() {
        let mend = |chain| obstacle(chain, Hook::Input, &[], &Carry::FrontEnds).unwrap().mend();
        let inet = mend((ChainFamily::Inet, "filter", "input"));
        let expected = "nft insert rule inet filter input ip6 daddr fd00::/112 accept".to_owned();
        assert!(inet.contains(&expected), "{inet:?}");
        let ip6 = mend((ChainFamily::Ip6, "filter", "INPUT"));
        assert!(ip6.contains(&"ip6tables -I INPUT -d fd00::/112 -j ACCEPT".to_owned()));
        assert!(!ip6.iter().any(|line| line.contains("10.96")));
    }

    #[test]
    fn firewalld_stands_in_the_way_of_cluster_ips_that_are_not_carried() {
        let accepts = |established, translated| Rule::Accepts { established, translated };
        let mut rules = vec![accepts(true, false), accepts(false, true), Rule::InDoubt];
        rules.push(Rule::DropsAll);
        let found = obstacle(FIREWALLD, Hook::Input, &rules, &Carry::FrontEnds).unwrap();
        assert_eq!(
            found.to_string(),
            "inet firewalld filter_INPUT drops what it does not know, and has no rule for ClusterIPs"
        );
        assert!(found.mend()[0].starts_with("firewall-cmd "), "{found:?}");
        assert_eq!(obstacle(FIREWALLD, Hook::Input, &rules, &Carry::All), None);
        assert_eq!(obstacle(FIREWALLD, Hook::Forward, &rules, &Carry::FrontEnds), None);
        // What comes after the end of a chain is never reached.
        rules.rotate_right(1);
        assert!(obstacle(FIREWALLD, Hook::Input, &rules, &Carry::All).is_some());
        assert_eq!(obstacle(FIREWALLD, Hook::Input, &[Rule::AcceptsAll], &Carry::FrontEnds), None);
    }

    #[test]
    fn a_range_is_let_in_by_one_that_holds_it() {
        let masked = |value: &[u8], mask: &[u8]| Masked { value: value.into(), mask: mask.into() };
        let range = "10.96.0.0/12".parse().unwrap();
        assert!(masked(&[10, 96], &[255, 240]).holds(&range));
        assert!(masked(&[10], &[255]).holds(&range));
        assert!(!masked(&[10, 96], &[255, 255]).holds(&range), "a part of it");
        assert!(!masked(&[10, 112], &[255, 240]).holds(&range));
    }

    #[test]
    fn our_own_table_and_other_hooks_do_not_count() {
        let is_asked = |family, table: &str, hook, filters| {
            let (table, name) = (table.to_owned(), "chain".to_owned());
            let base = Some(Base { hook, filters, drops: true });
            base_of_others(&Chain { family, table, name, base }).is_some()
        };
        assert!(is_asked(ChainFamily::Ip, "filter", Hook::Input, true));
        assert!(!is_asked(ChainFamily::Ip, NAME, Hook::Input, true));
        assert!(!is_asked(ChainFamily::Inet, "filter", Hook::Other, true));
        assert!(!is_asked(ChainFamily::Other, "filter", Hook::Forward, true));
        assert!(!is_asked(ChainFamily::Ip, "nat", Hook::Input, false));
    }

    proptest! {
        #[test]
        fn nothing_received_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}

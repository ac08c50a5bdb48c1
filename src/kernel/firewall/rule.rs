//! Reads rules of other programs' base chains, as far as they matter to traffic of Services.

use ipnet::IpNet;
use kube_ipvs_core::model::Family;
use netlink_ipvs::Attribute;

use super::ServiceNeed;
use crate::kernel::nft::constants::conntrack::{self, DESTINATION_TRANSLATED, ESTABLISHED};
use crate::kernel::nft::constants::{DATA_VALUE, expression, verdict};
use crate::kernel::nft::list::{ListedRule, verdict_of};

/// `NFTA_MATCH_INFO`
const NFTA_XT_INFO: u16 = 3;
/// `NFT_META_NFPROTO`
const META_NFPROTO: u32 = 15;
/// The offsets of the destination in the headers of IPv4 and IPv6.
const DESTINATIONS: [(u32, Family); 2] = [(16, Family::V4), (24, Family::V6)];
/// `XT_CONNTRACK_STATE_DNAT`. The other states have the same bits as in nf_tables.
const XT_TRANSLATED: u16 = 1 << 7;
/// `XT_CONNTRACK_STATE`: the match compares the state.
const XT_BY_STATE: u16 = 1;
/// `struct xt_conntrack_mtinfo3`: where `match_flags`, `invert_flags` and `state_mask` are.
const XT_STATES: std::ops::Range<usize> = 146..152;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ForeignRule {
    AcceptsAll,
    DropsAll,
    /// Lets in packets of connections in these states.
    Accepts {
        established: bool,
        translated: bool,
    },
    /// Lets in packets to addresses with these first bytes, as far as the mask selects them.
    AcceptsTo {
        family: Family,
        value: Vec<u8>,
        mask: Vec<u8>,
    },
    /// May let in service traffic: the rule leads to another chain, or has conditions that are not
    /// read.
    InDoubt,
    Other,
}

impl ForeignRule {
    pub(super) fn of(rule: ListedRule<'_>) -> Self {
        let mut reader = RuleReader::default();
        let verdict = rule.expressions().find_map(|(name, data)| reader.read(name, data));
        verdict.unwrap_or(Self::Other)
    }

    pub(super) fn lets_in(&self, need: &ServiceNeed) -> bool {
        match (self, need) {
            (Self::Accepts { established, .. }, ServiceNeed::Answers) => *established,
            (Self::Accepts { translated, .. }, ServiceNeed::Translated) => *translated,
            (Self::AcceptsTo { family, value, mask }, ServiceNeed::Destination(range)) => {
                *family == Family::of(range.addr()) && holds(value, mask, range)
            }
            _ => false,
        }
    }
}

/// Returns whether all addresses of a range begin with the bytes, as far as the mask selects them.
fn holds(value: &[u8], mask: &[u8], range: &IpNet) -> bool {
    let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let begins = |octets: &[u8]| {
        let masked = octets.iter().zip(mask).map(|(octet, mask)| octet & mask);
        masked.eq(value.iter().copied())
    };
    bits <= u32::from(range.prefix_len())
        && match range {
            IpNet::V4(range) => begins(&range.network().octets()),
            IpNet::V6(range) => begins(&range.network().octets()),
        }
}

/// Reads the expressions of a rule in order, up to its verdict.
#[derive(Default)]
struct RuleReader {
    condition: Condition,
    mask: Option<Vec<u8>>,
}

#[derive(Default)]
enum Condition {
    /// No condition so far.
    #[default]
    Always,
    /// The value that is loaded, and compared next.
    Family,
    State,
    Status,
    Destination(Family),
    /// The whole condition is known.
    Whole(ForeignRule),
    Unread,
}

impl RuleReader {
    fn read(&mut self, name: &str, data: Option<Attribute<'_>>) -> Option<ForeignRule> {
        let number = |kind| data?.find(kind)?.u32_be();
        match name {
            "counter" | "log" => {}
            "ct" if number(expression::CT_DIRECTION).is_none() => {
                self.load(match number(expression::CT_KEY) {
                    Some(conntrack::STATE) => Condition::State,
                    Some(conntrack::STATUS) => Condition::Status,
                    _ => Condition::Unread,
                })
            }
            "meta" if number(expression::META_KEY) == Some(META_NFPROTO) => {
                self.load(Condition::Family)
            }
            "payload"
                if number(expression::PAYLOAD_BASE) == Some(expression::PAYLOAD_NETWORK_HEADER) =>
            {
                let offset = number(expression::PAYLOAD_OFFSET);
                let family = DESTINATIONS.into_iter().find(|(at, _)| Some(*at) == offset);
                self.load(family.map_or(Condition::Unread, |(_, it)| Condition::Destination(it)));
            }
            "bitwise" => self.mask = value(data, expression::BITWISE_MASK).map(<[u8]>::to_vec),
            "cmp" => self.compare(
                number(expression::COMPARE_HOW) == Some(expression::COMPARE_EQUAL),
                value(data, expression::COMPARE_DATA).unwrap_or_default(),
            ),
            // The set is not read. A rule that accepts some states accepts established connections.
            "lookup" if matches!(self.condition, Condition::State) => {
                let is_in = number(expression::LOOKUP_FLAGS).unwrap_or(0) == 0;
                let rule = ForeignRule::Accepts { established: is_in, translated: false };
                self.condition = Condition::Whole(rule);
            }
            "match" => {
                let states = data.and_then(states_of_iptables);
                self.load(states.map_or(Condition::Unread, Condition::Whole));
            }
            "immediate" => {
                return Some(match verdict_of(data?)?.find(verdict::CODE)?.u32_be()? {
                    verdict::ACCEPT => self.accept(),
                    verdict::DROP => self.drop(),
                    _ => ForeignRule::InDoubt,
                });
            }
            "reject" => return Some(self.drop()),
            "target" => {
                let target = data.and_then(|data| data.find(expression::EXTENSION_NAME)?.text());
                return Some(match target {
                    Some("REJECT") => self.drop(),
                    Some("LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS") => ForeignRule::Other,
                    _ => ForeignRule::InDoubt,
                });
            }
            _ => self.condition = Condition::Unread,
        }
        None
    }

    /// A second condition narrows the first, so the rule lets in less than the first says.
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
                Condition::Whole(ForeignRule::Accepts { established, translated: false })
            }
            Condition::Status => {
                let translated = bits() & DESTINATION_TRANSLATED != 0;
                Condition::Whole(ForeignRule::Accepts { established: false, translated })
            }
            Condition::Destination(family) if is_equal => {
                let mask = mask.unwrap_or_else(|| vec![u8::MAX; data.len()]);
                Condition::Whole(ForeignRule::AcceptsTo { family, value: data.to_vec(), mask })
            }
            _ => Condition::Unread,
        };
    }

    fn accept(&mut self) -> ForeignRule {
        match std::mem::take(&mut self.condition) {
            Condition::Always => ForeignRule::AcceptsAll,
            Condition::Whole(rule) => rule,
            _ => ForeignRule::InDoubt,
        }
    }

    fn drop(&self) -> ForeignRule {
        if matches!(self.condition, Condition::Always) {
            ForeignRule::DropsAll
        } else {
            ForeignRule::Other
        }
    }
}

/// Reads the states that `-m conntrack --ctstate` of iptables lets in.
fn states_of_iptables(data: Attribute<'_>) -> Option<ForeignRule> {
    let is_conntrack = data.find(expression::EXTENSION_NAME)?.text() == Some("conntrack");
    let states = data.find(NFTA_XT_INFO)?.value.get(XT_STATES)?;
    let (numbers, _) = states.as_chunks();
    let [by, inverted, states] = *numbers.first_chunk()?;
    let [by, inverted, states] = [by, inverted, states].map(u16::from_ne_bytes);
    let rule = ForeignRule::Accepts {
        established: u32::from(states) & ESTABLISHED != 0,
        translated: states & XT_TRANSLATED != 0,
    };
    (is_conntrack && by == XT_BY_STATE && inverted == 0).then_some(rule)
}

fn value(data: Option<Attribute<'_>>, kind: u16) -> Option<&[u8]> {
    Some(data?.find(kind)?.find(DATA_VALUE)?.value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_is_let_in_by_one_that_holds_it() {
        let range = "10.96.0.0/12".parse().unwrap();
        assert!(holds(&[10, 96], &[255, 240], &range));
        assert!(holds(&[10], &[255], &range));
        assert!(!holds(&[10, 96], &[255, 255], &range), "a part of it");
        assert!(!holds(&[10, 112], &[255, 240], &range));
    }

    proptest! {
        #[test]
        fn no_received_bytes_cause_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ListedRule::decode(&body).map(ForeignRule::of);
        }
    }
}

//! Which requests there are.

use netlink_ipvs::{Header, Subsystem};

/// `NLM_F_DUMP`
const DUMP: u16 = 0x300;

/// What a request asks of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The number of the IPVS family.
    Family,
    NewService,
    SetService,
    DeleteService,
    GetService,
    NewDest,
    SetDest,
    DeleteDest,
    ListServices,
    ListDests,
    /// What begins a transaction: its answer is the transaction's.
    Transaction,
    /// Tables, chains, sets and rules.
    Ruleset,
    NewElement,
    DeleteElement,
    ListRuleset,
    ListElements,
    NewLink,
    GetLink,
    NewRoute,
    DeleteRoute,
    ListRoutes,
    DeleteRule,
    ListRules,
    DeleteFlow,
    ListFlows,
    /// Nothing that a fault is for.
    Other,
}

impl Kind {
    /// What a message asks for.
    pub(super) fn of(protocol: Subsystem, header: Header, payload: &[u8]) -> Self {
        let dumps = header.flags & DUMP == DUMP;
        match (protocol, header.kind) {
            (Subsystem::Generic, 0x10) => Self::Family,
            (Subsystem::Generic, _) => {
                match (payload.first().copied().unwrap_or_default(), dumps) {
                    (1, _) => Self::NewService,
                    (2, _) => Self::SetService,
                    (3, _) => Self::DeleteService,
                    (4, false) => Self::GetService,
                    (4, true) => Self::ListServices,
                    (5, _) => Self::NewDest,
                    (6, _) => Self::SetDest,
                    (7, _) => Self::DeleteDest,
                    (8, _) => Self::ListDests,
                    _ => Self::Other,
                }
            }
            (Subsystem::Netfilter, 0x10) => Self::Transaction,
            (Subsystem::Netfilter, kind) => match (kind >> 8, kind & 0xff) {
                (1, 1) => Self::ListFlows,
                (1, 2) => Self::DeleteFlow,
                (10, 12) => Self::NewElement,
                (10, 13) => Self::ListElements,
                (10, 14) => Self::DeleteElement,
                (10, 4 | 7 | 10) => Self::ListRuleset,
                (10, 0..12) => Self::Ruleset,
                _ => Self::Other,
            },
            (Subsystem::Sockets, _) => Self::Other,
            (Subsystem::Route, kind) => match kind {
                16 => Self::NewLink,
                18 => Self::GetLink,
                24 => Self::NewRoute,
                25 => Self::DeleteRoute,
                26 => Self::ListRoutes,
                33 => Self::DeleteRule,
                34 => Self::ListRules,
                _ => Self::Other,
            },
        }
    }
}

//! Front ends: where clients knock and what becomes of them.

use std::fmt;

use ipnet::IpNet;

use super::{Name, VirtualAddress};

/// What kind of address a front end stands at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrontendKind {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancer,
    /// `spec.ports[].nodePort` at one of the node's addresses.
    NodePort,
}

impl FrontendKind {
    /// Whether the address is neither of a service range nor the node's own.
    #[must_use]
    pub fn is_external(self) -> bool {
        matches!(self, Self::ExternalIp | Self::LoadBalancer)
    }
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::ExternalIp => "ExternalIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        })
    }
}

/// What becomes of a new connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// It is balanced over the pool at the front end's own address.
    Own,
    /// It is balanced over the pool of all endpoints: [`Frontend::whole`].
    Whole,
    /// The client is told at once that nobody answers.
    Reject,
    /// It is dropped without a word.
    Drop,
}

/// Whose source address is translated on the way to a backend. A backend that is sent to itself
/// always has it translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// Nobody's: the backend sees the client.
    Never,
    /// That of clients other than pods.
    UnlessPod,
    /// That of this node's own processes.
    OwnProcesses,
    /// Everybody's.
    Always,
}

/// Where clients knock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontend {
    /// Address, port and protocol.
    pub address: VirtualAddress,
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// Name of the Service port, empty where it has none.
    pub port_name: Name,
    /// For pods of this node.
    pub pods: Target,
    /// For processes in the node's own network.
    pub node: Target,
    /// For everybody else.
    pub outside: Target,
    /// The pool of all endpoints: where insiders are sent if not to `address`.
    pub whole: VirtualAddress,
    /// Whose source address is translated.
    pub masquerade: Masquerade,
    /// Who may connect; `None` for anyone. Ranges of the front end's family, disjoint.
    pub sources: Option<Box<[IpNet]>>,
}

impl Frontend {
    /// Where it leads pods of this node, processes in the node's own network and everybody else.
    #[must_use]
    pub fn targets(&self) -> [Target; 3] {
        [self.pods, self.node, self.outside]
    }

    /// The same that leads there.
    #[must_use]
    pub fn leading_to(self, [pods, node, outside]: [Target; 3]) -> Self {
        Self { pods, node, outside, ..self }
    }

    /// The pool that a connection is balanced over, if it is.
    #[must_use]
    pub fn pool(&self, target: Target) -> Option<VirtualAddress> {
        match target {
            Target::Own => Some(self.address),
            Target::Whole => Some(self.whole),
            Target::Reject | Target::Drop => None,
        }
    }
}

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::Backend;
use serde::{Deserialize, Serialize};

/// An endpoint, with the properties that matter at its place in an answer. A draining endpoint has
/// its address and port only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointView {
    pub address: IpAddr,
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// In `status`: whether it is on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<bool>,
    /// In `explain`: whether the connection is masqueraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<bool>,
    /// In `explain`: the thousandths of new connections that it gets on average, if the scheduler
    /// makes that predictable.
    #[serde(rename = "sharePermille", skip_serializing_if = "Option::is_none")]
    pub share: Option<u16>,
    /// Whether it has weight 0 because it does not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ejected: bool,
}

impl EndpointView {
    pub(super) fn draining(backend: &Backend) -> Self {
        let Backend { address, port, .. } = *backend;
        Self {
            address,
            port,
            weight: None,
            local: None,
            masquerade: None,
            share: None,
            ejected: false,
        }
    }

    pub(super) fn serving(backend: &Backend) -> Self {
        Self { weight: Some(backend.weight), ..Self::draining(backend) }
    }

    /// Marks an endpoint that does not answer.
    pub(super) fn ejected_if(self, is_ejected: bool) -> Self {
        match is_ejected {
            true => Self { weight: Some(0), ejected: true, ..self },
            false => self,
        }
    }
}

impl fmt::Display for EndpointView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", SocketAddr::new(self.address, self.port))?;
        if let Some(weight) = self.weight {
            write!(f, " weight {weight}")?;
        }
        if self.ejected {
            f.write_str(", ejected")?;
        }
        match self.share.map(|share| (share / 10, share % 10)) {
            Some((percent, 0)) => write!(f, ", share {percent} %")?,
            Some((percent, tenth)) => write!(f, ", share {percent}.{tenth} %")?,
            None => {}
        }
        if self.local == Some(true) {
            f.write_str(", local")?;
        }
        if self.masquerade == Some(true) {
            f.write_str(", masqueraded")?;
        }
        Ok(())
    }
}

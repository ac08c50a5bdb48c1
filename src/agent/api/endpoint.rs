use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::{Backend, EndpointName, EndpointSlice};
use serde::{Deserialize, Serialize};

use super::{NameView, TrafficView};

/// An endpoint, with the properties that matter at its place in an answer. A draining endpoint has
/// neither weight nor place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    /// Its pod, in the Service's namespace, and its node.
    #[serde(flatten)]
    pub name: NameView,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// In `status`, if IPVS was read: its count of established connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_connections: Option<u32>,
    /// The same of all others that IPVS still has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_connections: Option<u32>,
    /// In `status`, if IPVS was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficView>,
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
            name: NameView::default(),
            zone: None,
            active_connections: None,
            inactive_connections: None,
            traffic: None,
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

    /// Adds the names that the slices of its Service have for it.
    pub(super) fn named(self, slices: &[EndpointSlice]) -> Self {
        let name = EndpointName::find(slices, self.socket()).unwrap_or_default();
        Self { zone: name.zone.as_ref().map(ToString::to_string), name: name.into(), ..self }
    }

    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for EndpointView {
    /// Formats the text output. Names come last, so that older scripts find the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.socket())?;
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
        self.name.fmt(f)
    }
}

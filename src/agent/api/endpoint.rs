//! A draining endpoint.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use kube_ipvs_core::model::Backend;
use serde::{Deserialize, Serialize};

/// An endpoint that keeps only established connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointView {
    pub address: IpAddr,
    pub port: u16,
}

impl From<&Backend> for EndpointView {
    fn from(backend: &Backend) -> Self {
        Self { address: backend.address, port: backend.port }
    }
}

impl fmt::Display for EndpointView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.address, self.port).fmt(f)
    }
}

//! ServiceCIDR objects.

use serde::Deserialize;

use super::address::range;
use super::meta::or_default;
use super::{Meta, Rejection, Rejections};
use crate::model::{Interner, ServiceCidr};

/// A ServiceCIDR.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceCidrObject {
    /// `metadata`.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Meta,
    #[serde(deserialize_with = "or_default")]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    cidrs: Option<Vec<String>>,
}

impl ServiceCidrObject {
    /// The ServiceCIDR as the model has it. What cannot be used is left out and reported.
    #[must_use]
    pub fn convert(&self, names: &mut Interner) -> (ServiceCidr, Vec<Rejection>) {
        let mut rejections = Rejections::of("ServiceCIDR", "", &self.metadata.name);
        let cidrs = self.spec.cidrs.iter().flatten().enumerate();
        let cidrs = cidrs
            .filter_map(|(index, text)| {
                rejections.accept(format_args!("spec.cidrs[{index}]"), range(text))
            })
            .collect();
        let cidr = ServiceCidr { name: names.intern(&self.metadata.name), cidrs };
        (cidr, rejections.finish())
    }
}

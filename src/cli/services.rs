//! Services as command lines name them.

use std::str::FromStr;

use clap::Args;
use kube_ipvs_core::model::LabelSelector;
use kube_ipvs_core::question::{ObjectName, after_kind};

use super::complete;
use crate::agent::api::StatusFilter;
use crate::control::label_selector;

/// A Service, or all of a namespace: `NAMESPACE`, `NAMESPACE/NAME`, `svc/NAME` or `svc/NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceName {
    object: ObjectName,
    /// Whether it begins with `svc/`. A word alone is a namespace otherwise.
    has_kind: bool,
}

impl ServiceName {
    /// Returns the Services that are meant beside `-n NAMESPACE`, which a namespace in the name
    /// overrides.
    pub(super) fn filter(&self, namespace: Option<&str>) -> StatusFilter {
        let ObjectName { namespace: own, name } = &self.object;
        match own.as_deref().or(namespace) {
            Some(namespace) => StatusFilter::of(namespace, Some(name)),
            None if self.has_kind => StatusFilter::of("default", Some(name)),
            None => StatusFilter::of(name, None),
        }
    }
}

impl FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_kind = after_kind(text);
        let object = ObjectName::parse(of_kind.unwrap_or(text));
        let object = object.ok_or("give NAMESPACE/NAME, svc/NAME or a namespace")?;
        Ok(Self { object, has_kind: of_kind.is_some() })
    }
}

/// The Services that a command is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
pub struct ServiceFlags {
    /// Only this Service, or those of this namespace; with -n the name of a Service
    #[arg(value_name = "NAMESPACE[/NAME]", value_parser = str::parse::<ServiceName>)]
    #[arg(add = complete::services())]
    services: Option<ServiceName>,
    /// Only Services of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only Services with these labels, such as app=web,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS", value_parser = label_selector)]
    selector: Option<LabelSelector>,
}

impl ServiceFlags {
    pub(super) fn filter(&self) -> StatusFilter {
        let named = self.services.as_ref().map(|it| it.filter(self.namespace.as_deref()));
        let all = || StatusFilter { namespace: self.namespace.clone(), ..StatusFilter::default() };
        StatusFilter { labels: self.selector.clone(), ..named.unwrap_or_else(all) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_kubectl_names_it() {
        let filter = |name: &str, namespace| {
            let name: ServiceName = name.parse().expect("a name");
            let StatusFilter { namespace, name, .. } = name.filter(namespace);
            [namespace, name].into_iter().flatten().collect::<Vec<_>>().join("/")
        };
        for (name, namespace, meant) in [
            ("shop", None, "shop"),
            ("shop/web", None, "shop/web"),
            ("web", Some("shop"), "shop/web"),
            ("svc/web", Some("shop"), "shop/web"),
            ("service/web", None, "default/web"),
            ("svc/shop/web", Some("other"), "shop/web"),
        ] {
            assert_eq!(filter(name, namespace), meant, "{name}");
        }
        for wrong in ["", "/", "web/", "/web", "svc/", "svc//web", "a/b/c"] {
            assert!(wrong.parse::<ServiceName>().is_err(), "{wrong}");
        }
    }
}

//! Lists for commands that do not follow changes.

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{ListParams, ObjectMeta, PartialObjectMeta};
use kube::{Api, Client};
use kube_ipvs_core::model::{Change, Control, Event, ServiceKey, Settings, read_ip, read_range};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::client::{ApiAccess, connect};
use super::connect_error::{ConnectError, reason};
use super::server::{LOOKUP_TIMEOUT, Server};
use super::{Timeouts, run, services};
use crate::control;
use crate::source::wire::{NodeObject, Resource, ServiceCidrObject, ServiceObject, SliceObject};

/// Why there are no objects from the API server.
#[derive(Debug, thiserror::Error)]
pub enum ListOnceError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(
        "the API server has not listed {missing} within {within:?}: check the kubeconfig, and that \
         its user may list them"
    )]
    Silent { missing: String, within: Duration },
}

/// Returns the events that the source delivers first: a complete list of each kind, and the
/// addresses of the API server. Failures are logged and retried until `within` is over.
///
/// # Errors
///
/// If the API server cannot be reached, or has not listed every kind in time.
pub async fn list(
    access: &ApiAccess,
    settings: &Settings,
    timeouts: Timeouts,
    within: Duration,
) -> Result<Vec<Event>, ListOnceError> {
    let server = Server::find(access).await?;
    let clients = connect(access).await?;
    let listed = RefCell::new((
        vec![Event::ApiServers(server.sockets().collect())],
        vec![NodeObject::KIND, ServiceCidrObject::KIND, ServiceObject::KIND, SliceObject::KIND],
    ));
    let deliver = |event: Event| {
        let (events, missing) = &mut *listed.borrow_mut();
        let kind = match &event {
            Event::Node(_) => NodeObject::KIND,
            Event::ServiceCidrs(Change::Replace(_)) => ServiceCidrObject::KIND,
            Event::Service(Change::Replace(_)) => ServiceObject::KIND,
            Event::Slice(Change::Replace(_)) => SliceObject::KIND,
            _ => "",
        };
        missing.retain(|it| *it != kind);
        events.push(event);
        if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    // The lists end it, or the time does.
    let _ = timeout(within, run(clients, settings, timeouts, deliver, |_, _| {})).await;
    let (events, missing) = listed.into_inner();
    if missing.is_empty() {
        return Ok(events);
    }
    Err(ListOnceError::Silent { missing: missing.join(", "), within })
}

/// Returns the service ranges that the API server reports within a few seconds: those of
/// ServiceCIDR objects, and the ClusterIPs of its own Service.
pub async fn service_ranges(client: &Client) -> Vec<IpNet> {
    let all = ListParams::default();
    let own = all.clone().fields("metadata.name=kubernetes");
    let (cidrs, own) = tokio::join!(
        listed(Api::<ServiceCIDR>::all(client.clone()), all),
        listed(Api::<v1::Service>::namespaced(client.clone(), "default"), own),
    );
    let cidrs = cidrs.into_iter().filter_map(|object| object.spec?.cidrs).flatten();
    let ips = own.into_iter().filter_map(|service| service.spec?.cluster_ips).flatten();
    let ips = ips.filter_map(|text| read_ip(&text));
    cidrs.filter_map(|text| read_range(&text)).chain(ips.map(IpNet::from)).collect()
}

/// Lists objects; returns none if that fails or takes too long.
async fn listed<K>(objects: Api<K>, selected: ListParams) -> Vec<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let listed = timeout(LOOKUP_TIMEOUT, objects.list(&selected)).await;
    listed.ok().and_then(Result::ok).map(|list| list.items).unwrap_or_default()
}

/// Returns the options of all Services that have any, from the annotations alone.
///
/// # Errors
///
/// If the API server does not list the Services within a few seconds.
pub async fn controls(
    client: &Client,
    settings: &Settings,
) -> Result<Vec<(ServiceKey, Box<Control>)>, String> {
    let all: Api<v1::Service> = Api::all(client.clone());
    let selected = services(settings);
    let listed = timeout(LOOKUP_TIMEOUT, all.list_metadata(&selected)).await;
    let listed = listed.map_err(|error| error.to_string())?.map_err(|error| reason(&error))?;
    let control = |service: PartialObjectMeta<v1::Service>| {
        let ObjectMeta { namespace, name, annotations, .. } = service.metadata;
        let annotations = annotations.unwrap_or_default();
        let control = control::read(annotations.iter().map(|(key, text)| (&**key, &**text)))?;
        Some((ServiceKey::new(&namespace?, &name?), control))
    };
    Ok(listed.items.into_iter().filter_map(control).collect())
}

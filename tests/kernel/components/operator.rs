//! What an operator sees of the agent: Events, and a configuration file that is changed under it.

use std::fs;
use std::net::TcpListener;

use kube_ipvs::client::AgentClient;
use serde_json::{Value, json};

use super::process::{Agent, node_and_server, until};
use super::{Component, component, output};
use crate::api::objects::{service, service_cidr, slice};
use crate::api::{ApiServer, EVENTS};

pub(crate) fn components() -> Vec<Component> {
    vec![component(
        "an_operator_sees_events_and_changes_the_configuration",
        an_operator_sees_events_and_changes_the_configuration,
    )]
}

fn told(server: &ApiServer, reason: &str) -> Option<Value> {
    server.objects(EVENTS).into_iter().find(|event| event["reason"] == reason)
}

fn an_operator_sees_events_and_changes_the_configuration() {
    let server = node_and_server();
    let _first = TcpListener::bind("0.0.0.0:80").unwrap();
    let mut web = service("web", "10.96.0.1");
    web["spec"]["externalIPs"] = json!(["192.0.2.1"]);
    server.put(web);
    server.put(slice("web-1", "web", &["10.244.1.5"]));

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("kubeconfig"), server.kubeconfig()).unwrap();
    let configure = |more: &str| {
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
             clientConnection: {{kubeconfig: {}}}\n{more}\n",
            file("kubeconfig").display()
        );
        fs::write(file("draft"), text).unwrap();
        fs::rename(file("draft"), file("config.conf")).unwrap();
    };
    configure("ipvs: {scheduler: rr}");
    let mut agent = Agent::start(&directory, &["--config", file("config.conf").to_str().unwrap()]);
    let scheduler = |name: &str| {
        let wanted = format!("-A -t 10.96.0.1:80 -s {name}");
        output("ipvsadm -Sn").lines().any(|line| line.trim() == wanted)
    };
    until("rr", || scheduler("rr"));
    until("an Event of the refused address", || told(&server, "AddressOfNode").is_some());

    configure("ipvs: {scheduler: lc}");
    until("lc", || scheduler("lc"));
    let shown = |field: &str| {
        let shown = AgentClient::new("127.0.0.1:10249".parse().unwrap()).get("/configz").unwrap();
        let shown: Value = serde_json::from_slice(&shown).unwrap();
        shown["kubeproxy.config.k8s.io"].pointer(field).cloned().unwrap_or_default()
    };
    assert_eq!(shown("/ipvs/scheduler"), "lc");

    // The agent would end at once, because its API server lies there.
    configure(
        "ipvs: {scheduler: rr}\n---\napiVersion: kube-ipvs.io/v1alpha1\n\
         kind: KubeIpvsConfiguration\nserviceCIDRs: [127.0.0.0/8]",
    );
    until("an Event of the invalid file", || told(&server, "ConfigurationInvalid").is_some());
    assert!(scheduler("lc"));
    configure("ipvs: {scheduler: rr}\nhealthzBindAddress: 127.0.0.1:1");
    until("rr again", || scheduler("rr"));
    assert_eq!(agent.ended(), None);
    assert_eq!(shown("/healthzBindAddress"), "127.0.0.1:1");

    // A service range with the API server's own address would cut the agent off.
    server.put(service_cidr("wrong", "127.0.0.0/8"));
    let mut status = None;
    until("the agent ends", || {
        status = agent.ended();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
    assert!(agent.log().contains("lies in the service range 127.0.0.0/8"));
    assert!(scheduler("rr"), "the kernel's state stays as it is");
}

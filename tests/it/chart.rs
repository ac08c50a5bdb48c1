//! The Helm chart: valid for every kind of values, and the same as the kustomize manifests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::OnceLock;

use kube_ipvs::agent::LONGEST_END;
use kube_ipvs::cli::Cli;
use kube_ipvs::config::{Config, SharedFlags};
use serde_json::{Value, json};

pub mod render;

use crate::kubernetes_types;
use crate::kustomize::{self, documents, only};
use crate::manifests::{builds, config_of};
use render::render;

/// Values that the chart renders.
fn accepted() -> BTreeMap<String, Value> {
    let host = |mut values: Value| {
        values["apiServer"]["host"] = "control-plane.example".into();
        values
    };
    let health =
        |address: &str| host(json!({"config": {"kubeProxy": {"healthzBindAddress": address}}}));
    let listening = |address: &str| {
        let monitors = json!({"bindAddress": address, "podMonitor": {"enabled": true}});
        host(json!({"metrics": monitors}))
    };
    let on = json!({"enabled": true, "labels": {"release": "prometheus"}});
    let monitor = json!({"enabled": true, "labels": {"release": "prometheus"}, "interval": "30s"});
    let metrics = json!({"serviceMonitor": {"enabled": true}, "rules": {"enabled": true},
        "dashboard": {"enabled": true}});
    let cases = [
        ("base", host(json!({}))),
        ("kubeadm", json!({"existingConfigMap": {"name": "kube-proxy"}})),
        ("metrics", host(json!({"metrics": metrics}))),
        (
            "kubeadm with metrics",
            json!({"metrics": metrics,
            "existingConfigMap": {"name": "kube-proxy"}}),
        ),
        (
            "labelled metrics",
            host(json!({"metrics": {"bindAddress": "192.0.2.5:9100",
            "podMonitor": monitor, "serviceMonitor": monitor, "rules": on, "dashboard": on}})),
        ),
        (
            "an address of kube-proxy's for metrics",
            host(json!({"metrics": metrics,
            "config": {"kubeProxy": {"metricsBindAddress": "[::]:19249"}}})),
        ),
        (
            "metrics everywhere",
            host(json!({"metrics": {"bindAddress": "::",
            "podMonitor": {"enabled": true, "labels": null}}})),
        ),
        ("no metrics", host(json!({"metrics": {"bindAddress": "0.0.0.0:0"}}))),
        ("kube-proxy's label", host(json!({"kubeProxyLabel": true}))),
        (
            "kube-proxy's label said twice",
            json!({"kubeProxyLabel": true, "podLabels": {"k8s-app": "kube-proxy"},
            "existingConfigMap": {"name": "kube-proxy"},
            "env": [{"name": "KUBERNETES_SERVICE_HOST", "value": "control-plane.example"}]}),
        ),
        ("a label of another", host(json!({"podLabels": {"k8s-app": "kube-ipvs"}}))),
        (
            "kubeadm with kube-proxy's label",
            json!({"kubeProxyLabel": true, "existingConfigMap": {"name": "kube-proxy"}}),
        ),
        (
            "IPv6",
            json!({"apiServer": {"host": "fd00::1", "port": 443},
            "config": {"kubeProxy": {"bindAddress": "::", "clusterCIDR": "fd00:1::/48"}}}),
        ),
        ("health elsewhere", health("192.0.2.5:20256")),
        ("health at a port", health(":20256")),
        ("health at an address", health("[fd00::5]")),
        ("health of IPv6", health("[::]:20256")),
        ("no health", health("0.0.0.0:0")),
        ("health at an address as it may be spelled", health("[FD00::0]:20256")),
        ("health at an address alone", health("fd00::0:0")),
        ("health of any address as it may be spelled", health("[::0]")),
        ("health of any address of IPv4 in IPv6", health("[::ffff:0.0.0.0]:20256")),
        ("health of IPv4 as it may be spelled", health("000.0.0.0:20256")),
        ("metrics of an address", listening("fd00::0")),
        ("metrics of an address in brackets", listening("[fd00::0]")),
        ("metrics of an address and a port", listening("[fd00::0]:9100")),
        ("metrics of any address as it may be spelled", listening("::0")),
        ("metrics of any address in full", listening("[0:0:0:0:0:0:0:0]:9100")),
        (
            "names that YAML takes for something else",
            json!({"existingConfigMap": {"name": "123", "mountPath": "/1"},
            "priorityClassName": "true", "image": {"repository": "registry.example:5000/1e3"}}),
        ),
        (
            "kubeadm with health elsewhere",
            json!({"existingConfigMap": {
            "name": "kube-proxy", "healthzBindAddress": "127.0.0.1:20256"}}),
        ),
        (
            "options",
            host(json!({"config": {"kubeProxy": {"nodePortAddresses": null,
            "ipvs": {"scheduler": "lc"}}, "kubeIpvs": {"drainPeriod": "10m",
            "defaults": {"scheduler": "mh"}}}})),
        ),
        (
            "an image of a registry",
            host(json!({"imagePullSecrets": [{"name": "registry"}],
            "image": {"repository": "registry.example:5000/kube-ipvs", "pullPolicy": "Always",
            "digest": format!("sha256:{}", "0".repeat(64))}})),
        ),
        (
            "surge",
            host(json!({"metrics": {"serviceMonitor": {"enabled": true}},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "10%"}}})),
        ),
        ("by hand", host(json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}))),
        (
            "a pod of its own",
            host(json!({
            "resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "1Gi"}},
            "priorityClassName": "", "terminationGracePeriodSeconds": 60,
            "nodeSelector": {"kube-ipvs.io/proxy": "true"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "k", "operator": "DoesNotExist"}]}]}}},
            "podLabels": {"team": "network"}, "podAnnotations": {"a/b": "true"},
            "env": [{"name": "HTTPS_PROXY", "value": "http://192.0.2.9:3128"}]})),
        ),
    ];
    cases.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

/// What the chart makes of them, if it can be rendered here.
fn rendered() -> Option<&'static BTreeMap<String, Vec<Value>>> {
    static ALL: OnceLock<Option<BTreeMap<String, Vec<Value>>>> = OnceLock::new();
    ALL.get_or_init(render_accepted).as_ref()
}

fn render_accepted() -> Option<BTreeMap<String, Vec<Value>>> {
    let all = render(&accepted())?;
    let objects = |(name, objects): (String, render::Rendered)| {
        let objects = objects.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        (name, objects)
    };
    Some(all.into_iter().map(objects).collect())
}

fn pod(objects: &[Value]) -> &Value {
    &only(objects, "DaemonSet")["spec"]["template"]["spec"]
}

/// The text of the configuration file: the chart's own, or kubeadm's with the address that the values
/// say it has.
fn file(objects: &[Value], values: &Value) -> String {
    let own = objects.iter().find_map(|it| it["data"]["config.conf"].as_str());
    let health = values["existingConfigMap"]["healthzBindAddress"].as_str().unwrap_or_default();
    let kubeadm = json!({"apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration", "healthzBindAddress": health});
    own.map_or_else(|| kubeadm.to_string(), str::to_owned)
}

/// How the agent reads its flags and its configuration.
pub fn agent(objects: &[Value], values: &Value) -> Config {
    let mut flags = SharedFlags::default();
    for containers in ["initContainers", "containers"] {
        let container = &pod(objects)[containers][0];
        let args = container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap());
        let words = std::iter::once("kube-ipvs").chain(args).map(OsString::from);
        flags = Cli::read(words).unwrap_or_else(|notice| panic!("{notice:?}")).shared;
        let mounted = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
        assert_eq!(flags.config, Some(Path::new(mounted).join("config.conf")));
    }
    config_of(&file(objects, values), &flags)
}

#[test]
fn every_kind_of_values_makes_valid_objects() {
    let Some(all) = rendered() else { return };
    let values = accepted();
    for (name, objects) in all {
        for object in objects {
            kubernetes_types::check(object).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        }
        let config = agent(objects, &values[name]);
        assert_eq!(config.warnings, Vec::<String>::new(), "{name}");
        let grace = pod(objects)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > LONGEST_END.as_secs() + 1, "{name}: {grace}");
    }
    let options = agent(&all["options"], &values["options"]);
    assert_eq!(options.settings.drain_period.as_secs(), 600);
}

#[test]
fn the_probes_follow_the_health_address() {
    let Some(all) = rendered() else { return };
    for (name, objects) in all {
        let container = &pod(objects)["containers"][0];
        let address = agent(objects, &accepted()[name]).health_address;
        let expected = address.map(|address| {
            let host = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
                IpAddr::V6(ip) if ip.is_unspecified() => "::1".to_owned(),
                ip => ip.to_string(),
            };
            (host, json!(address.port()))
        });
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let Some((host, port)) = &expected else {
                assert!(container[probe].is_null(), "{name}");
                continue;
            };
            let request = &container[probe]["httpGet"];
            let asked: IpAddr = request["host"].as_str().unwrap().parse().unwrap();
            assert_eq!(asked.to_string(), *host, "{name}");
            assert_eq!((&request["port"], &request["path"]), (port, &json!(path)), "{name}");
        }
    }
}

#[test]
fn monitors_ask_where_metrics_are_served() {
    let Some(all) = rendered() else { return };
    for (name, objects) in all {
        let of_kind = |kind| objects.iter().find(|object| object["kind"] == kind);
        let ports = pod(objects)["containers"][0]["ports"].as_array().cloned().unwrap_or_default();
        let port = ports.iter().find(|port| port["name"] == "metrics");
        let Some(address) = agent(objects, &accepted()[name]).metrics_address else {
            assert_eq!(port, None, "{name}");
            continue;
        };
        if let Some(service) = of_kind("Service") {
            assert_eq!(service["spec"]["ports"][0]["targetPort"], address.port(), "{name}");
            let labels = &of_kind("ServiceMonitor").unwrap()["spec"]["selector"]["matchLabels"];
            for (label, value) in labels.as_object().unwrap() {
                assert_eq!(&service["metadata"]["labels"][label], value, "{name}");
            }
        }
        if let Some(port) = port {
            assert_eq!(port["containerPort"], address.port(), "{name}");
        }
        let is_scraped = of_kind("Service").is_some() || of_kind("PodMonitor").is_some();
        assert!(!is_scraped || !address.ip().is_loopback(), "{name}");
        assert!(of_kind("PodMonitor").is_none() || port.is_some(), "{name}");
    }
}

#[test]
fn monitors_of_kube_proxy_find_the_pods_that_have_its_label() {
    let Some(all) = rendered() else { return };
    let labels = |name: &str| {
        let daemon_set = only(&all[name], "DaemonSet");
        daemon_set["spec"]["template"]["metadata"]["labels"]["k8s-app"].clone()
    };
    assert_eq!(labels("kube-proxy's label"), "kube-proxy");
    assert_eq!(labels("base"), Value::Null);
    let agent = agent(&all["kube-proxy's label"], &json!({}));
    assert!(agent.metrics_address.unwrap().ip().is_unspecified());
}

#[test]
fn the_chart_makes_what_kustomize_makes() {
    let Some(all) = rendered() else { return };
    for (name, theirs) in builds().into_iter().filter(|(name, _)| *name != "own") {
        let (ours, theirs) = (essence(&all[name]), essence(&theirs));
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs), "{name}");
        for (object, ours) in &ours {
            assert_eq!(ours, &theirs[object], "{name}: {object}");
        }
    }
}

/// Objects by kind and name, without what the two ways may say differently: Helm's labels, where the
/// variables of the environment come from, defaults that are spelled out and the form of YAML.
fn essence(objects: &[Value]) -> BTreeMap<String, Value> {
    let api_server = objects.iter().find(|it| it["metadata"]["name"] == "kube-ipvs-api-server");
    let mut essence = BTreeMap::new();
    for object in objects {
        if object["metadata"]["name"] == "kube-ipvs-api-server" {
            continue;
        }
        let mut object = object.clone();
        if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
            labels.retain(|label, _| label == "grafana_dashboard");
        }
        if object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty) {
            object["metadata"].as_object_mut().unwrap().remove("labels");
        }
        if let Some(Value::String(text)) = object.pointer_mut("/data/config.conf") {
            *text = json!(kustomize::documents_of(text).unwrap()).to_string();
        }
        if let Some(Value::String(text)) = object.pointer_mut("/data/dashboard.json") {
            *text = serde_json::from_str::<Value>(text).unwrap().to_string();
        }
        if let Some(port) = object.pointer_mut("/spec/ports/0/targetPort") {
            *port = "metrics".into();
        }
        for containers in ["initContainers", "containers"] {
            let place = format!("/spec/template/spec/{containers}/0");
            let Some(container) = object.pointer_mut(&place) else { continue };
            container.as_object_mut().unwrap().remove("imagePullPolicy");
            if container.as_object_mut().unwrap().remove("envFrom").is_some() {
                let data = api_server.unwrap()["data"].as_object().unwrap();
                let env = container["env"].as_array_mut().unwrap();
                env.extend(data.iter().map(|(name, value)| json!({"name": name, "value": value})));
            }
        }
        let key = format!("{} {}", object["kind"], object["metadata"]["name"]);
        essence.insert(key, object);
    }
    essence
}

#[test]
fn invalid_values_are_refused_with_what_is_wrong() {
    let host = |mut values: Value| {
        values["apiServer"]["host"] = "192.0.2.1".into();
        values
    };
    let loopback = |address| {
        host(json!({"metrics": {"bindAddress": address, "podMonitor": {"enabled": true}}}))
    };
    let cases = [
        (json!({}), "apiServer.host is the API server's own address"),
        (json!({"apiServer": {"host": "https://192.0.2.1"}}), "apiServer.host"),
        (json!({"apiServer": {"host": "192.0.2.1", "port": "6443"}}), "apiServer.port"),
        (json!({"apiServer": {"host": "192.0.2.1", "port": null}}), "port is required"),
        (host(json!({"config": null})), "config is required"),
        (host(json!({"config": {"kubeProxy": null}})), "kubeProxy is required"),
        (host(json!({"image": {"repository": null}})), "repository is required"),
        (host(json!({"metrics": null})), "metrics is required"),
        (host(json!({"updateStrategy": null})), "updateStrategy is required"),
        (host(json!({"image": {"repository": "a b"}})), "image.repository"),
        (host(json!({"image": {"tag": "a: b"}})), "image.tag"),
        (host(json!({"podLabels": {"app.kubernetes.io/name": "x"}})), "app.kubernetes.io/name"),
        (json!({"existingConfigMap": {"name": "a: b"}}), "existingConfigMap.name"),
        (json!({"existingConfigMap": {"name": "a", "key": "a, b]"}}), "existingConfigMap.key"),
        (json!({"existingConfigMap": {"name": "a", "mountPath": "/a#b"}}), "mountPath"),
        (host(json!({"metrics": {"bindAddress": "9100"}})), "metrics.bindAddress"),
        (host(json!({"metrics": {"bindAddress": "192.0.2.1:"}})), "metrics.bindAddress"),
        (
            host(json!({"config": {"kubeProxy": {"healthzBindAddress": "0.0.0.0:010256"}}})),
            "healthzBindAddress",
        ),
        (host(json!({"config": {"kubeProxy": {"bindAddress": "192.0.2.1:80"}}})), "bindAddress"),
        (
            host(json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}})),
            "maxSurge needs maxUnavailable: 0",
        ),
        (
            host(json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "ten"}}})),
            "maxUnavailable",
        ),
        (host(json!({"tolerance": []})), "tolerance"),
        (host(json!({"metrics": {"monitor": true}})), "monitor"),
        (host(json!({"terminationGracePeriodSeconds": 10})), "terminationGracePeriodSeconds"),
        (host(json!({"config": {"kubeProxy": {"kind": "x"}}})), "kind"),
        (host(json!({"image": {"digest": "latest"}})), "image.digest"),
        (
            host(json!({"metrics": {"bindAddress": "[::1]:9100", "rules": {"enabled": true},
                "serviceMonitor": {"enabled": true}}})),
            "monitors cannot reach [::1]:9100",
        ),
        (loopback("127.0.0.1"), "monitors cannot reach 127.0.0.1"),
        (loopback("::0001"), "monitors cannot reach ::0001"),
        (loopback("[::ffff:127.0.0.1]:9100"), "monitors cannot reach [::ffff:127.0.0.1]:9100"),
        (loopback("[0:0:0:0:0:0:0:1]:9100"), "monitors cannot reach [0:0:0:0:0:0:0:1]:9100"),
        (loopback("[::]:0"), "monitors cannot reach [::]:0"),
        (
            host(json!({"kubeProxyLabel": true, "podLabels": {"k8s-app": "kube-ipvs"}})),
            "podLabels: kubeProxyLabel sets k8s-app to kube-proxy: remove one of the two",
        ),
        (host(json!({"env": [{"name": "NODE_NAME", "value": "n1"}]})), "env: NODE_NAME would be"),
        (
            host(json!({"env": [{"name": "KUBERNETES_SERVICE_PORT", "value": "6443"}]})),
            "env: KUBERNETES_SERVICE_PORT would be there twice",
        ),
        (host(json!({"env": [{"name": "A"}, {"name": "A"}]})), "env: A would be there twice"),
        (host(json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]})), "imagePullSecrets"),
        (
            host(json!({"metrics": {"bindAddress": "0.0.0.0:10256"}})),
            "health and metrics both have port 10256",
        ),
        (
            host(json!({"metrics": {"podMonitor": {"enabled": true}},
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}})),
            "enable metrics.serviceMonitor instead",
        ),
    ];
    let values = cases.iter().enumerate().map(|(at, (values, _))| (at.to_string(), values.clone()));
    let Some(all) = render(&values.collect()) else { return };
    for (at, (values, reason)) in cases.iter().enumerate() {
        let told = all[&at.to_string()].as_ref().expect_err("refused");
        assert!(told.contains(reason), "{values}: {told}");
    }
}

#[test]
fn the_chart_has_the_version_of_the_program_and_the_image_of_the_manifests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chart = documents(&root.join("charts/kube-ipvs/Chart.yaml")).remove(0);
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let values = documents(&root.join("charts/kube-ipvs/values.yaml")).remove(0);
    let base = documents(&root.join("manifests/base/kustomization.yaml")).remove(0);
    assert_eq!(values["image"]["repository"], base["images"][0]["newName"]);
}

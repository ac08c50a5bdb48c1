//! From command lines and files to the configuration.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use kube_ipvs_core::model::{FrontendKind, LocalDetector, NodePortAddresses, Scheduler};

use super::options::{KUBE_PROXY, OWN, of_field};
use super::resolve::Resolver;
use super::*;

mod told;

/// What kubeadm writes for a cluster of mode ipvs.
pub(super) const KUBEADM: &str = r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16,fd00:10:244::/56
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ipvs
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
"#;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    shared: SharedFlags,
}

fn flags(line: &str) -> SharedFlags {
    let words = std::iter::once("kube-ipvs").chain(line.split_whitespace());
    let matches = CommandLine::command()
        // As if nothing were set in the environment of the tests.
        .mut_arg("log_level", |flag| flag.env(None::<&str>))
        .try_get_matches_from(words)
        .unwrap();
    CommandLine::from_arg_matches(&matches).unwrap().shared
}

fn try_resolve(flags: &SharedFlags) -> Result<Config, ConfigError> {
    Resolver::new(flags, [None, Some("Machine\n".to_owned())])?.config()
}

fn resolve(line: &str) -> Config {
    try_resolve(&flags(line)).unwrap()
}

/// A file with a text, and the configuration by it and further flags.
pub(super) fn with_file(text: &str, line: &str) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.conf");
    std::fs::write(&path, text).unwrap();
    let result = try_resolve(&SharedFlags { config: Some(path), ..flags(line) });
    result.map_err(without_directory)
}

/// The directory of a test is gone after it, and its name is nothing to compare.
fn without_directory(error: ConfigError) -> ConfigError {
    match error {
        ConfigError::File { place, reason, .. } => {
            ConfigError::File { path: PathBuf::from("config.conf"), place, reason }
        }
        ConfigError::Several(errors) => {
            ConfigError::Several(errors.into_iter().map(without_directory).collect())
        }
        other => other,
    }
}

#[test]
fn defaults_are_kube_proxys() {
    let config = resolve("");
    assert_eq!(&*config.settings.node_name, "machine");
    let node_port_addresses = NodePortAddresses::all();
    assert_eq!(config.settings, Settings { node_port_addresses, ..Settings::for_node("machine") });
    assert_eq!(config.source, SourceConfig::Kubernetes(ApiAccess::default()));
    assert_eq!(config.health_address, "0.0.0.0:10256".parse().ok());
    assert_eq!(config.metrics_address, "127.0.0.1:10249".parse().ok());
    assert_eq!(config.sync_period, Duration::from_secs(30));
    assert_eq!(config.min_sync_period, Duration::ZERO);
    let day = Some(Duration::from_secs(24 * 60 * 60));
    assert_eq!(config.ipvs_tcp_timeout, day);
    assert_eq!(config.ipvs_tcp_fin_timeout, Some(Duration::from_secs(10)));
    assert_eq!(config.ipvs_udp_timeout, None);
    assert_eq!(config.conntrack, ConntrackConfig::default());
    assert_eq!(config.oom_score_adj, -999);
    assert_eq!((config.log_format, &*config.log_level), (LogFormat::Text, "info"));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn kubeadms_file_is_taken_as_it_is() {
    let config = with_file(KUBEADM, "--hostname-override=Node-1").unwrap();
    let expected = Config {
        source: SourceConfig::Kubernetes(ApiAccess {
            kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
            master: None,
        }),
        ..resolve("--hostname-override=node-1 --cluster-cidr=10.244.0.0/16,fd00:10:244::/56")
    };
    assert_eq!(config, expected);
    let ranges = ["10.244.0.0/16", "fd00:10:244::/56"].map(|range| range.parse().unwrap());
    assert_eq!(config.settings.local_detector, LocalDetector::ClusterCidr(ranges.to_vec()));
}

#[test]
fn the_nodes_name_is_the_first_given() {
    let name = |line: &str, environment: &str, file: Option<&str>| {
        let flags = flags(line);
        let names = [environment, "host"].map(|name| Some(name.to_owned()));
        let mut resolver = Resolver::new(&flags, names).unwrap();
        let field = file.map(|name| ("hostnameOverride", name.into()));
        resolver.given.values.extend(field);
        resolver.config().unwrap().settings.node_name
    };
    assert_eq!(&*name("--node-name=A", "b", Some("c")), "a");
    assert_eq!(&*name("--hostname-override=A", "b", Some("c")), "a");
    assert_eq!(&*name("--node-name=", "b", Some("C ")), "c");
    assert_eq!(&*name("", "B", Some("")), "b");
    assert_eq!(&*name("", " ", None), "host");

    let without_flags = flags("");
    let nameless = Resolver::new(&without_flags, [None, None]).unwrap().config();
    assert_eq!(
        nameless.unwrap_err().to_string(),
        "--node-name: the node has no name: give it, or set NODE_NAME"
    );
}

#[test]
fn beside_a_file_most_flags_are_ignored_with_a_warning() {
    let line = "--node-name=n1 --master=https://192.0.2.1:6443 --v=4 \
                --ipvs-scheduler=lc --masquerade-all";
    let config = with_file(KUBEADM, line).unwrap();
    assert_eq!(config.settings.scheduler, Scheduler::Rr);
    assert!(!config.settings.masquerade_all);
    assert_eq!(config.log_level, "debug");
    assert!(matches!(
        config.source,
        SourceConfig::Kubernetes(ApiAccess { master: Some(url), .. }) if url == "https://192.0.2.1:6443"
    ));
    assert_eq!(
        config.warnings,
        ["--masquerade-all, --ipvs-scheduler: ignored because --config is given, as kube-proxy \
          does; set it in the file"]
    );
}

#[test]
fn the_flag_of_metrics_counts_beside_a_file() {
    let with = |address: &str| with_file(KUBEADM, &format!("--metrics-bind-address={address}"));
    let config = with("0.0.0.0:10249").unwrap();
    assert_eq!(config.metrics_address, Some("0.0.0.0:10249".parse().unwrap()));
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_eq!(with("").unwrap().metrics_address, None);
    let wrong = with("x").unwrap_err().to_string();
    assert!(wrong.starts_with("--metrics-bind-address"), "{wrong}");
}

#[test]
fn the_flag_of_the_kubeconfig_counts_beside_a_file_except_for_the_agent() {
    let path = |overrides_kubeconfig| {
        let config = with_file(KUBEADM, "").unwrap();
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), KUBEADM).unwrap();
        let flags = SharedFlags {
            config: Some(path.path().to_owned()),
            overrides_kubeconfig,
            ..flags("--kubeconfig=/mine")
        };
        let given = try_resolve(&flags).unwrap();
        (given.source == config.source, given.source, given.warnings.len())
    };
    let (_, source, warnings) = path(true);
    let mine =
        SourceConfig::Kubernetes(ApiAccess { kubeconfig: Some("/mine".into()), master: None });
    assert_eq!((source, warnings), (mine, 0));
    let (is_of_file, _, warnings) = path(false);
    assert_eq!((is_of_file, warnings), (true, 1));
}

#[test]
fn flags_say_what_the_file_says() {
    let line = "--kubeconfig=/k --cluster-cidr=10.0.0.0/8 --masquerade-all=T --ipvs-scheduler=mh \
                --nodeport-addresses=192.0.2.0/24,2001:db8::/64 --ipvs-tcp-timeout=1h \
                --ipvs-tcpfin-timeout=2m --ipvs-udp-timeout=3m --ipvs-sync-period=1m \
                --ipvs-min-sync-period=100ms --conntrack-max-per-core=0 --conntrack-min=1 \
                --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=1m \
                --conntrack-tcp-be-liberal --conntrack-udp-timeout=5s \
                --conntrack-udp-timeout-stream=6s --healthz-bind-address=:1 \
                --metrics-bind-address=[::] --bind-address-hard-fail --oom-score-adj=-5 \
                --proxy-mode=ipvs --detect-local-mode=ClusterCIDR --node-name=n1 \
                --logging-format=json -v=6";
    let file = "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
hostnameOverride: n1
clientConnection: {kubeconfig: /k}
clusterCIDR: 10.0.0.0/8
detectLocalMode: ClusterCIDR
iptables: {masqueradeAll: true}
nodePortAddresses: [192.0.2.0/24, '2001:db8::/64']
ipvs:
  scheduler: mh
  tcpTimeout: 1h0m0s
  tcpFinTimeout: 2m0s
  udpTimeout: 3m0s
  syncPeriod: 1m
  minSyncPeriod: 100ms
conntrack:
  maxPerCore: 0
  min: 1
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 1m0s
  tcpBeLiberal: true
  udpTimeout: 5s
  udpStreamTimeout: 6s
healthzBindAddress: 0.0.0.0:1
metricsBindAddress: '[::]:10249'
bindAddressHardFail: true
oomScoreAdj: -5
logging: {format: json, verbosity: 6}
";
    let config = resolve(line);
    assert_eq!(with_file(file, "").unwrap(), config);
    assert_eq!(config.warnings, Vec::<String>::new());
    assert_ne!(config, Config { warnings: Vec::new(), ..resolve("--node-name=n1") });
}

#[test]
fn a_written_file_gives_the_same_configuration() {
    let lines = [
        "",
        "--detect-local-mode=BridgeInterface --pod-bridge-interface=cni0 --conntrack-min=9",
        "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=cali -v4",
        "--detect-local-mode=NodeCIDR --metrics-bind-address= --ipvs-tcp-timeout=90m",
        "--cluster-cidr=10.0.0.0/8,fd00::/8 --nodeport-addresses=all --logging-format=json",
    ];
    for line in lines {
        let config = resolve(line);
        let again = with_file(&write(&config), "").unwrap();
        assert_eq!(again, config, "{line}");
    }
    let mut config = resolve("");
    config.audit_period = None;
    config.remove_kube_proxy = true;
    config.traffic_metrics_services = 500;
    config.settings.service_cidrs = vec!["10.96.0.0/12".parse().unwrap()];
    assert_eq!(with_file(&write(&config), "").unwrap(), config);
}

#[test]
fn the_shown_configuration_is_the_written_one_with_the_node_name() {
    let config = resolve("--node-name=n1 --cluster-cidr=10.0.0.0/8 --ipvs-scheduler=mh");
    let shown = show(&config);
    let groups: Vec<_> = shown.as_object().unwrap().keys().collect();
    assert_eq!(groups, ["kube-ipvs.io", "kubeproxy.config.k8s.io"]);
    let proxy = &shown["kubeproxy.config.k8s.io"];
    assert_eq!(proxy["hostnameOverride"], "n1");
    assert_eq!(proxy["clusterCIDR"], "10.0.0.0/8");
    assert_eq!(proxy["ipvs"]["scheduler"], "mh");
    assert_eq!(proxy["conntrack"]["maxPerCore"], 32768);
    assert_eq!(shown["kube-ipvs.io"]["auditPeriod"], "5m0s");
    let written = format!("{proxy}\n---\n{}\n", shown["kube-ipvs.io"]);
    assert_eq!(with_file(&written, "").unwrap(), config);
}

#[test]
fn listening_follows_the_family_of_the_bind_address() {
    let config = resolve("--bind-address=::");
    assert_eq!(config.health_address, "[::]:10256".parse().ok());
    assert_eq!(config.metrics_address, "[::1]:10249".parse().ok());
    assert_eq!(resolve("--healthz-bind-address=").health_address, None);
    assert_eq!(resolve("--healthz-bind-address=0.0.0.0:0").health_address, None);
}

#[test]
fn node_ports_are_taken_by_those_listed() {
    let addresses = |line: &str| resolve(line).settings.node_port_addresses;
    let ranges = |texts: &[&str]| {
        NodePortAddresses::Ranges(texts.iter().map(|text| text.parse().unwrap()).collect())
    };
    assert_eq!(addresses("--nodeport-addresses=primary"), NodePortAddresses::Primary);
    assert_eq!(addresses("--nodeport-addresses=all"), ranges(&["0.0.0.0/0", "::/0"]));
    assert_eq!(addresses("--nodeport-addresses=localhost"), NodePortAddresses::Primary);
    assert_eq!(addresses("--nodeport-addresses=10.1.2.3/8"), ranges(&["10.0.0.0/8"]));
}

#[test]
fn where_none_are_listed_node_ports_are_taken_as_kube_proxys_mode_does() {
    let (all, primary) = (NodePortAddresses::all(), NodePortAddresses::Primary);
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let own = "apiVersion: kube-ipvs.io/v1alpha1\nkind: KubeIpvsConfiguration\n";
    let of_file = |text: String| with_file(&text, "").unwrap().settings.node_port_addresses;
    for (mode, expected) in
        [("''", &all), ("ipvs", &all), ("iptables", &all), ("nftables", &primary)]
    {
        for addresses in ["", "nodePortAddresses: null", "nodePortAddresses: []"] {
            let proxy = format!("{head}mode: {mode}\n{addresses}\n");
            assert_eq!(of_file(proxy.clone()), *expected, "{proxy}");
            assert_eq!(of_file(format!("{proxy}---\n{own}")), *expected, "{proxy}");
        }
        let line = format!("--proxy-mode={}", mode.trim_matches('\''));
        assert_eq!(resolve(&line).settings.node_port_addresses, *expected, "{line}");
    }
    assert_eq!(resolve("--nodeport-addresses=").settings.node_port_addresses, all);
    assert_eq!(of_file(format!("{head}mode: nftables\nnodePortAddresses: [all]\n")), all);
    // What says nothing of kube-proxy's.
    assert_eq!(of_file(own.to_owned()), primary);
}

#[test]
fn manifests_come_before_an_api_server() {
    let config = resolve("--manifests=/objects --kubeconfig=/k");
    assert_eq!(config.source, SourceConfig::Manifests(Path::new("/objects").to_owned()));
}

#[test]
fn the_complete_file_has_every_option_with_its_default() {
    let explained = options::explained().filter(|(_, comment)| !comment.is_empty());
    let given: Vec<_> = explained.map(|(option, _)| option.field).collect();
    assert_eq!(given, options::all().map(|option| option.field).collect::<Vec<_>>());
    let head = format!("apiVersion: {}\nkind: {}\n", OWN.version, OWN.kind);
    let defaults = resolve_text(&head).unwrap();
    let node_ports = NodePortAddresses::all();
    let settings = Settings { node_port_addresses: node_ports, ..defaults.settings.clone() };
    assert_eq!(resolve_text(options::TEMPLATE).unwrap(), Config { settings, ..defaults });
    assert_eq!(write(&resolve_text(options::TEMPLATE).unwrap()), options::TEMPLATE);
}

#[test]
fn every_option_is_documented() {
    let text = include_str!("../../docs/configuration.md");
    for option in KUBE_PROXY.options {
        for (name, written) in [
            (option.field, format!("`{}`", option.field)),
            (option.flag, format!("`--{}`", option.flag)),
        ] {
            assert!(name.is_empty() || text.contains(&written), "{written}");
        }
    }
    // Our document stands there with its defaults.
    let own = text.split("```yaml\n").find(|block| block.contains("serviceCIDRs:")).unwrap();
    let (own, _) = own.split_once("```").unwrap();
    let given = document::parse(Path::new("configuration.md"), own).unwrap();
    for option in OWN.options {
        assert!(given.values.contains_key(option.field), "{}", option.field);
    }
    let head = format!("apiVersion: {}\nkind: {}\n", OWN.version, OWN.kind);
    assert_eq!(resolve_text(own).unwrap(), resolve_text(&head).unwrap());
}

/// YAML reads `off` as false.
#[test]
fn options_of_services_are_written_as_yaml_has_them() {
    let head = format!("apiVersion: {}\nkind: {}\n", OWN.version, OWN.kind);
    let config = resolve_text(&format!(
        "{head}defaults: {{ eject: off, front-ends: [ClusterIP, NodePort], max-connections: 7 }}\n"
    ));
    let defaults = config.unwrap().settings.defaults;
    assert_eq!(defaults.eject, Some(Duration::ZERO));
    let kinds = [FrontendKind::ClusterIp, FrontendKind::NodePort];
    assert_eq!(defaults.frontends.as_deref(), Some(&kinds[..]));
    assert_eq!(defaults.max_connections.map(u32::from), Some(7));
}

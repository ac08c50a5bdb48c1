//! A complete, commented file (`--write-config-to`).

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use kube_ipvs_core::model::{Interfaces, LocalDetector, NodePortAddresses, Scheduler};

use super::{Config, LogFormat, SourceConfig, duration, kube_proxy, own};

/// Writes everything that may be configured, with what it means and its default. Read back, the
/// text gives the same configuration, but for the node's name and what only flags can say.
#[must_use]
pub fn write(config: &Config) -> String {
    let settings = &config.settings;
    let kubeconfig = match &config.source {
        SourceConfig::Kubernetes { kubeconfig: Some(path), .. } => path.display().to_string(),
        _ => String::new(),
    };
    let (mode, cluster_cidr, bridge, prefix) = detector(&settings.local_detector);
    let node_ports = match &settings.node_port_addresses {
        NodePortAddresses::Primary => list(["primary"]),
        all if *all == NodePortAddresses::all() => list(["all"]),
        NodePortAddresses::Ranges(ranges) => list(ranges),
    };
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let schedulers = Scheduler::ALL.map(Scheduler::name).join(" ");
    let timeouts = config.ipvs_timeouts;
    let conntrack = config.conntrack;
    format!(
        "\
# kube-proxy's configuration. kube-ipvs reads the fields below; those of kube-proxy's other modes
# may stand here too and are ignored. Durations are written as 30s, 5m or 1h30m.
apiVersion: {kube_proxy_version}
kind: {kube_proxy_kind}

# The kind of proxy: ipvs. Anything else is warned of.
mode: ipvs

# The name of this node's Node object. Empty: environment NODE_NAME, then the host name.
# --hostname-override and --node-name come first.
hostnameOverride: \"\"

clientConnection:
  # How to reach the API server. Empty: the service account's own configuration. The server's
  # address must not be that of the Service default/kubernetes, which this program provides.
  kubeconfig: {kubeconfig:?}

# How a pod of this node is told from other clients, whose connections to ClusterIPs are
# masqueraded: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix.
# Default: ClusterCIDR if there is a clusterCIDR, else nothing is told apart.
detectLocalMode: {mode:?}
# For ClusterCIDR: the ranges of pod addresses, separated by a comma.
clusterCIDR: {cluster_cidr:?}
detectLocal:
  # For BridgeInterface: the pods' bridge.
  bridgeInterface: {bridge:?}
  # For InterfaceNamePrefix: how the names of pods' interfaces begin.
  interfaceNamePrefix: {prefix:?}

# Which of this node's addresses take node ports: primary (the first InternalIP of each family),
# all, or ranges. Default: all, as with kube-proxy; in its mode nftables, primary.
nodePortAddresses: {node_ports}

iptables:
  # Whether every connection to a ClusterIP is masqueraded. Default: false.
  masqueradeAll: {masquerade_all}

ipvs:
  # How connections are spread over endpoints: one of
  # {schedulers}.
  # Default: rr.
  scheduler: {scheduler}
  # An update that waits for twice this long makes the node unhealthy. Default: 30s.
  syncPeriod: {sync_period}
  # Shortest time from the end of one sync to the start of the next. Default: 0s.
  minSyncPeriod: {min_sync_period}
  # How long IPVS keeps an idle TCP connection. Default, and at 0s: conntrack's
  # tcpEstablishedTimeout, lest an idle connection to a ClusterIP be lost while it is still tracked;
  # where connection tracking carries those, too (carry), 15m.
  tcpTimeout: {tcp_timeout}
  # How long IPVS keeps a TCP connection after a FIN. Until then, a new one from the same port of a
  # client goes to the same endpoint. Default, and at 0s: 10s.
  tcpFinTimeout: {tcp_fin_timeout}
  # How long IPVS keeps an idle UDP flow. Default: 0s, which leaves the kernel's value (5m).
  udpTimeout: {udp_timeout}

# Connection tracking of the node. Sizes are raised if need be, never lowered; 0s leaves a timeout
# as it is.
conntrack:
  # Connections per processor, and at least. maxPerCore 0 leaves the size alone.
  # Default: 32768 and 131072.
  maxPerCore: {max_per_core}
  min: {min}
  # Idle TCP connections. Default: 24h0m0s.
  tcpEstablishedTimeout: {tcp_established}
  # TCP connections in CLOSE_WAIT. Default: 1h0m0s.
  tcpCloseWaitTimeout: {tcp_close_wait}
  # Whether TCP packets outside of the window are let through. Default: false.
  tcpBeLiberal: {tcp_be_liberal}
  # UDP flows without an answer, and in both directions. Default: 0s.
  udpTimeout: {conntrack_udp}
  udpStreamTimeout: {udp_stream}

# Where /healthz, /livez and /readyz are answered; port 0 for nowhere. Default: 0.0.0.0:10256.
healthzBindAddress: {health:?}
# Where /metrics, /status and /configz are answered; port 0 for nowhere.
# Default: 127.0.0.1:10249.
metricsBindAddress: {metrics:?}
# Whether the agent ends if it cannot listen there; else it tries again. Default: false.
bindAddressHardFail: {bind_address_hard_fail}

# The agent's oom_score_adj, from -1000 (never killed) to 1000. Default: -999.
oomScoreAdj: {oom_score_adj}

logging:
  # text or json. Default: text.
  format: {format}
  # From 4 on debugging is logged, from 6 on all there is. Default: 0.
  verbosity: {verbosity}
---
# What kube-proxy's configuration has no field for.
apiVersion: {own_version}
kind: {own_kind}

# Ranges that ClusterIPs come from, beside those of ServiceCIDR objects; for clusters whose API
# has none. Their addresses that no Service has are dropped. Default: [].
serviceCIDRs: {service_cidrs}

# Serves the Services whose label service.kubernetes.io/service-proxy-name has this value, instead of
# those without the label. Default: \"\".
serviceProxyName: {service_proxy_name:?}

# How often at least everything is read back from the kernel and put right, 0s for never. Where it is
# more than 30s, virtual servers are read every 30s beside it, or as often as takes a hundredth of a
# processor. Default: 5m0s.
auditPeriod: {audit_period}

# How long established connections to an endpoint, or through a front end, that has left may go on,
# 0s for not at all. New ones go elsewhere at once. Default: 5m0s.
drainPeriod: {drain_period}

# Which connections leave IPVS once it has picked an endpoint. front-ends: those through load balancer
# and external IPs and node ports, which connection tracking carries. all: those through ClusterIPs,
# too; ipvsadm shows their virtual servers at images of the ClusterIPs. offload: all, and established
# ones pass the node by a flowtable, between the links below; Linux 5.15. Default: front-ends.
carry: {carry}
# The links of the node and of its pods for carry offload, such as eth0 and cali*. Default: [].
offloadInterfaces: {offload_interfaces}

# Ports of this node's own addresses that no external IP, load balancer IP or node port takes, besides
# those where something listens. Default: SSH, BGP, etcd, the API server, MetalLB, the kubelet,
# kube-proxy, controllers; VXLAN, Geneve, WireGuard.
protectedNodePorts: {protected_node_ports}

# Whether what kube-proxy has left in the kernel (its addresses, rules, sets, and virtual servers that
# are not ours) is removed once everything of ours is there. Stop kube-proxy first.
# Default: false.
removeKubeProxy: {remove_kube_proxy}

# Of how many Services at most, the first by name, the metrics tell connections, packets and bytes;
# 0 for none. Each costs five series. Default: 0.
trafficMetricsServices: {traffic_metrics_services}
",
        kube_proxy_version = kube_proxy::API_VERSION,
        kube_proxy_kind = kube_proxy::KIND,
        masquerade_all = settings.masquerade_all,
        scheduler = settings.scheduler,
        sync_period = duration::format(config.sync_period),
        min_sync_period = duration::format(config.min_sync_period),
        tcp_timeout = time(timeouts.tcp),
        tcp_fin_timeout = time(timeouts.tcp_fin),
        udp_timeout = time(timeouts.udp),
        max_per_core = conntrack.max_per_core,
        min = conntrack.min,
        tcp_established = time(conntrack.tcp_established),
        tcp_close_wait = time(conntrack.tcp_close_wait),
        tcp_be_liberal = conntrack.tcp_be_liberal,
        conntrack_udp = time(conntrack.udp),
        udp_stream = time(conntrack.udp_stream),
        health = listen(config.health_address),
        metrics = listen(config.metrics_address),
        bind_address_hard_fail = config.bind_address_hard_fail,
        oom_score_adj = config.oom_score_adj,
        verbosity = verbosity(&config.log.level),
        own_version = own::API_VERSION,
        own_kind = own::KIND,
        service_cidrs = list(&settings.service_cidrs),
        service_proxy_name = settings.service_proxy_name.as_deref().unwrap_or_default(),
        audit_period = time(config.audit_period),
        drain_period = duration::format(settings.drain_period),
        carry = settings.carry,
        offload_interfaces = list(settings.carry.offload_interfaces()),
        protected_node_ports = list(&settings.protected_node_ports),
        remove_kube_proxy = config.remove_kube_proxy,
        traffic_metrics_services = config.traffic_metrics_services,
    )
}

/// `detectLocalMode`, `clusterCIDR`, `bridgeInterface`, `interfaceNamePrefix`.
fn detector(detector: &LocalDetector) -> (&str, String, &str, &str) {
    match detector {
        LocalDetector::None => ("", String::new(), "", ""),
        LocalDetector::ClusterCidr(ranges) => {
            let ranges: Vec<_> = ranges.iter().map(ToString::to_string).collect();
            ("ClusterCIDR", ranges.join(","), "", "")
        }
        LocalDetector::NodeCidr => ("NodeCIDR", String::new(), "", ""),
        LocalDetector::Interfaces(Interfaces::Named(name)) => {
            ("BridgeInterface", String::new(), name.as_str(), "")
        }
        LocalDetector::Interfaces(Interfaces::Prefixed(prefix)) => {
            ("InterfaceNamePrefix", String::new(), "", prefix.as_str())
        }
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| format!("{:?}", item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn time(time: Option<Duration>) -> String {
    duration::format(time.unwrap_or_default())
}

fn listen(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "0.0.0.0:0".to_owned(), |address| address.to_string())
}

/// A filter by module has no verbosity.
fn verbosity(level: &str) -> u32 {
    match level {
        "debug" => 4,
        "trace" => 6,
        _ => 0,
    }
}

//! Every option: its field in the file, its flag, what it means, and where its value goes.
//!
//! Flags are made from this table, files are read and written by it, and a field that is not in it is
//! unknown. An option that means something only together with others is resolved in
//! [`super::resolve`].

use std::net::SocketAddr;
use std::time::Duration;

use kube_ipvs_core::model::{Interfaces, LocalDetector, NodePortAddresses};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Config, LogFormat, SourceConfig, duration};

/// A document of the configuration file.
pub(super) struct Document {
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    /// What it is, in a written file.
    pub(super) about: &'static str,
    /// Its options, in the order of a written file.
    pub(super) options: &'static [Opt],
    /// Its fields that have no meaning here, with all that is under them: those of kube-proxy's other
    /// modes and of its inner workings.
    pub(super) ignored: &'static str,
}

/// An option.
pub(super) struct Opt {
    /// Its path in the document; empty if only a flag sets it.
    pub(super) field: &'static str,
    /// Its flag without the dashes; empty if only the file sets it.
    pub(super) flag: &'static str,
    /// What it means. The default is added, unless this mentions it.
    pub(super) doc: &'static str,
    pub(super) form: Form,
}

/// How a value is written, and where it goes.
pub(super) enum Form {
    Truth(fn(&mut Config) -> &mut bool),
    Count(fn(&mut Config) -> &mut u32),
    Time(fn(&mut Config) -> &mut Duration),
    /// A timeout of the kernel: at zero, its own value stays.
    Timeout(fn(&mut Config) -> &mut Option<Duration>),
    /// The following are resolved elsewhere. A value of null is not shown.
    Number(Show),
    Text(&'static str, Show),
    List(&'static str, Show),
    /// A truth value that changes nothing.
    Unneeded,
}

/// What a file with this configuration says.
type Show = fn(&Config) -> Value;

/// What the kernel can count of a timeout of IPVS, in seconds: `INT_MAX / HZ` where HZ is 1000.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

impl Form {
    /// Whether a value is of this form.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        match self {
            Self::Truth(_) | Self::Unneeded => read::<bool>(value).map(drop),
            Self::Count(_) => read::<u32>(value).map(drop),
            Self::Number(_) => read::<i32>(value).map(drop),
            Self::Time(_) | Self::Timeout(_) | Self::Text(..) => read::<String>(value).map(drop),
            Self::List(..) => read::<Vec<Value>>(value).map(drop),
        }
    }

    /// Puts a value where it goes.
    pub(super) fn apply(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        match self {
            Self::Truth(place) => *place(config) = read(value)?,
            Self::Count(place) => *place(config) = read(value)?,
            Self::Time(place) => *place(config) = duration(&read::<String>(value)?)?,
            Self::Timeout(place) => *place(config) = timeout(&read::<String>(value)?)?,
            Self::Number(_) | Self::Text(..) | Self::List(..) | Self::Unneeded => {}
        }
        Ok(())
    }

    /// What a file with this configuration says.
    pub(super) fn show(&self, config: &Config) -> Value {
        let time = |time: Duration| json!(duration::format(time));
        match self {
            Self::Truth(place) => json!(place(&mut config.clone())),
            Self::Count(place) => json!(place(&mut config.clone())),
            Self::Time(place) => time(*place(&mut config.clone())),
            Self::Timeout(place) => time(place(&mut config.clone()).unwrap_or_default()),
            Self::Number(show) | Self::Text(_, show) | Self::List(_, show) => show(config),
            Self::Unneeded => Value::Null,
        }
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn timeout(text: &str) -> Result<Option<Duration>, String> {
    let time = duration(text)?;
    if time.is_zero() {
        return Ok(None);
    }
    if time < Duration::from_secs(1) || time > LONGEST_TIMEOUT {
        let longest = duration::format(LONGEST_TIMEOUT);
        return Err(format!("{} is not between 1s and {longest}", duration::format(time)));
    }
    Ok(Some(time))
}

/// Both documents.
pub(super) const DOCUMENTS: [Document; 2] = [KUBE_PROXY, OWN];

pub(super) const KUBE_PROXY: Document = Document {
    version: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    about: "kube-proxy's configuration. kube-ipvs reads the fields below. Those of kube-proxy's other \
            modes may stand here, too, and are ignored. Durations are written as 30s, 5m or 1h30m.",
    options: &[
        opt(
            "mode",
            "proxy-mode",
            "The proxy mode. Any mode other than ipvs causes a warning; nftables changes the default \
             of nodePortAddresses",
            Form::Text("MODE", |_| json!("ipvs")),
        ),
        opt(
            "hostnameOverride",
            "",
            "The name of this node's Node object. If it is empty: environment variable NODE_NAME, then \
             the host name. Flags --node-name and --hostname-override take precedence",
            Form::Text("NAME", |config| json!(&*config.settings.node_name)),
        ),
        opt(
            "clientConnection.kubeconfig",
            "kubeconfig",
            "How to reach the API server. If it is empty, the service account's own configuration. The \
             server's address must not be that of the Service default/kubernetes, which this program \
             provides",
            Form::Text("FILE", kubeconfig),
        ),
        opt(
            "",
            "master",
            "The API server's URL, instead of the kubeconfig's; or several, separated by commas: the \
             agent uses one of them for as long as it answers",
            Form::Text("URLS", |_| Value::Null),
        ),
        opt(
            "detectLocalMode",
            "detect-local-mode",
            "How a pod of this node is distinguished from other clients, whose connections to \
             ClusterIPs are masqueraded: ClusterCIDR, NodeCIDR, BridgeInterface or \
             InterfaceNamePrefix. Default: ClusterCIDR with a clusterCIDR, otherwise pods are not \
             distinguished",
            Form::Text("MODE", |config| json!(detector(config).0)),
        ),
        opt(
            "clusterCIDR",
            "cluster-cidr",
            "For ClusterCIDR: the ranges of pod addresses, separated by a comma",
            Form::Text("CIDRS", |config| json!(detector(config).1)),
        ),
        opt(
            "detectLocal.bridgeInterface",
            "pod-bridge-interface",
            "For BridgeInterface: the pods' bridge",
            Form::Text("NAME", |config| json!(detector(config).2)),
        ),
        opt(
            "detectLocal.interfaceNamePrefix",
            "pod-interface-name-prefix",
            "For InterfaceNamePrefix: how the names of pods' interfaces begin",
            Form::Text("PREFIX", |config| json!(detector(config).3)),
        ),
        opt(
            "nodePortAddresses",
            "nodeport-addresses",
            "This node's addresses that take node ports: primary (the first InternalIP of each \
             family), all, or ranges. Default: all, as with kube-proxy; in its mode nftables, primary",
            Form::List("CIDRS", node_ports),
        ),
        opt(
            "iptables.masqueradeAll",
            "masquerade-all",
            "Whether every connection to a ClusterIP is masqueraded",
            Form::Truth(|config| &mut config.settings.masquerade_all),
        ),
        opt(
            "ipvs.scheduler",
            "ipvs-scheduler",
            "How connections are spread over endpoints: one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, \
             sed, nq, fo, ovf, mh",
            Form::Text("NAME", |config| json!(config.settings.scheduler.name())),
        ),
        opt(
            "ipvs.strictARP",
            "ipvs-strict-arp",
            "Not needed: ARP requests for service addresses are never answered",
            Form::Unneeded,
        ),
        opt(
            "ipvs.excludeCIDRs",
            "ipvs-exclude-cidrs",
            "Not needed: virtual servers of other programs are left alone",
            Form::List("CIDRS", |_| Value::Null),
        ),
        opt(
            "ipvs.syncPeriod",
            "ipvs-sync-period",
            "An update that waits for twice this long makes the node unhealthy",
            Form::Time(|config| &mut config.sync_period),
        ),
        opt(
            "ipvs.minSyncPeriod",
            "ipvs-min-sync-period",
            "Shortest time from the end of one sync to the start of the next",
            Form::Time(|config| &mut config.min_sync_period),
        ),
        opt(
            "ipvs.tcpTimeout",
            "ipvs-tcp-timeout",
            "How long IPVS keeps an idle TCP connection. Default, and at 0s: conntrack's \
             tcpEstablishedTimeout, because an idle connection to a ClusterIP that IPVS forgets first \
             is lost; 15m if connection tracking carries those, too (carry)",
            Form::Timeout(|config| &mut config.ipvs_timeouts.tcp),
        ),
        opt(
            "ipvs.tcpFinTimeout",
            "ipvs-tcpfin-timeout",
            "How long IPVS keeps a TCP connection after a FIN. Until then, a new connection from the \
             same port of a client goes to the same endpoint. Default, and at 0s: 10s",
            Form::Timeout(|config| &mut config.ipvs_timeouts.tcp_fin),
        ),
        opt(
            "ipvs.udpTimeout",
            "ipvs-udp-timeout",
            "How long IPVS keeps an idle UDP flow. 0s leaves the kernel's value (5m)",
            Form::Timeout(|config| &mut config.ipvs_timeouts.udp),
        ),
        opt(
            "conntrack.maxPerCore",
            "conntrack-max-per-core",
            "Tracked connections per processor. The agent raises the size of the table if need be, and \
             never lowers it; 0 leaves it alone",
            Form::Count(|config| &mut config.conntrack.max_per_core),
        ),
        opt(
            "conntrack.min",
            "conntrack-min",
            "Tracked connections at least, unless maxPerCore is 0",
            Form::Count(|config| &mut config.conntrack.min),
        ),
        opt(
            "conntrack.tcpEstablishedTimeout",
            "conntrack-tcp-timeout-established",
            "How long an idle TCP connection is tracked; 0s leaves the kernel's value",
            Form::Timeout(|config| &mut config.conntrack.tcp_established),
        ),
        opt(
            "conntrack.tcpCloseWaitTimeout",
            "conntrack-tcp-timeout-close-wait",
            "How long a TCP connection is tracked in CLOSE_WAIT; 0s leaves the kernel's value",
            Form::Timeout(|config| &mut config.conntrack.tcp_close_wait),
        ),
        opt(
            "conntrack.tcpBeLiberal",
            "conntrack-tcp-be-liberal",
            "Whether TCP packets outside of the window are let through",
            Form::Truth(|config| &mut config.conntrack.tcp_be_liberal),
        ),
        opt(
            "conntrack.udpTimeout",
            "conntrack-udp-timeout",
            "How long a UDP flow without an answer is tracked; 0s leaves the kernel's value",
            Form::Timeout(|config| &mut config.conntrack.udp),
        ),
        opt(
            "conntrack.udpStreamTimeout",
            "conntrack-udp-timeout-stream",
            "How long a UDP flow in both directions is tracked; 0s leaves the kernel's value",
            Form::Timeout(|config| &mut config.conntrack.udp_stream),
        ),
        opt(
            "bindAddress",
            "bind-address",
            "An address of the family in which health and metrics are answered by default",
            Form::Text("ADDRESS", |_| Value::Null),
        ),
        opt(
            "healthzBindAddress",
            "healthz-bind-address",
            "Where /healthz, /livez and /readyz are answered; port 0, or an empty flag, for nowhere",
            Form::Text("ADDRESS", |config| listen(config.health_address)),
        ),
        opt(
            "metricsBindAddress",
            "metrics-bind-address",
            "Where /metrics, /status and /configz are answered; port 0, or an empty flag, for nowhere",
            Form::Text("ADDRESS", |config| listen(config.metrics_address)),
        ),
        opt(
            "bindAddressHardFail",
            "bind-address-hard-fail",
            "Whether the agent ends if it cannot listen at these addresses; otherwise it tries again",
            Form::Truth(|config| &mut config.bind_address_hard_fail),
        ),
        opt(
            "oomScoreAdj",
            "oom-score-adj",
            "The agent's oom_score_adj, from -1000 (never killed) to 1000",
            Form::Number(|config| json!(config.oom_score_adj)),
        ),
        opt(
            "logging.format",
            "",
            "text or json",
            Form::Text("FORM", |config| match config.log.format {
                LogFormat::Text => json!("text"),
                LogFormat::Json => json!("json"),
            }),
        ),
        opt(
            "logging.verbosity",
            "",
            "From 4 on debugging is logged, from 6 on everything",
            // A filter by module has no verbosity.
            Form::Number(|config| match &*config.log.level {
                "debug" => json!(4),
                "trace" => json!(6),
                _ => json!(0),
            }),
        ),
    ],
    ignored: "apiVersion clientConnection.acceptContentTypes clientConnection.burst \
              clientConnection.contentType clientConnection.qps configSyncPeriod enableProfiling \
              featureGates iptables.localhostNodePorts iptables.masqueradeBit iptables.minSyncPeriod \
              iptables.snatNodeInternalIP iptables.syncPeriod kind logging.flushFrequency \
              logging.options logging.vmodule nftables portRange resourceContainer \
              showHiddenMetricsForVersion udpIdleTimeout windowsRunAsService winkernel",
};

pub(super) const OWN: Document = Document {
    version: "kube-ipvs.io/v1alpha1",
    kind: "KubeIpvsConfiguration",
    about: "What kube-proxy's configuration has no field for.",
    options: &[
        opt(
            "serviceCIDRs",
            "",
            "Ranges that ClusterIPs come from, in addition to those of ServiceCIDR objects. Addresses \
             of these ranges that no Service has are dropped",
            Form::List("CIDRS", |config| list(&config.settings.service_cidrs)),
        ),
        opt(
            "serviceProxyName",
            "",
            "The agent serves the Services whose label service.kubernetes.io/service-proxy-name has \
             this value, instead of the Services without this label",
            Form::Text("NAME", |config| {
                json!(config.settings.service_proxy_name.as_deref().unwrap_or_default())
            }),
        ),
        opt(
            "auditPeriod",
            "",
            "The longest time between two audits, which read everything from the kernel and repair \
             it; 0s for no audits. If it is more than 30s, the virtual servers of IPVS are also read \
             every 30s, or as often as takes a hundredth of a processor",
            Form::Text("DURATION", |config| {
                json!(duration::format(config.audit_period.unwrap_or_default()))
            }),
        ),
        opt(
            "drainPeriod",
            "",
            "How long established connections to a draining endpoint, or through a draining front \
             end, may go on; 0s ends them at once. New ones go elsewhere at once",
            Form::Time(|config| &mut config.settings.drain_period),
        ),
        opt(
            "carry",
            "",
            "Which connections leave IPVS once it has chosen an endpoint. front-ends: those through \
             load balancer and external IPs and node ports, which connection tracking carries. all: \
             those to ClusterIPs, too; ipvsadm shows their virtual servers at shadow addresses. \
             offload: all, and established ones bypass the node's chains by a flowtable; Linux 5.15",
            Form::Text("MODE", |config| json!(config.settings.carry.to_string())),
        ),
        opt(
            "offloadInterfaces",
            "",
            "The links of the node and of its pods, for carry: offload. Names, or prefixes that end \
             with an asterisk, such as eth0 and cali*",
            Form::List("NAMES", |config| list(config.settings.carry.offload_interfaces())),
        ),
        opt(
            "protectedNodePorts",
            "",
            "Ports of the node's own addresses that no external IP, load balancer IP or node port \
             takes, whether or not a process listens there. Default: SSH, BGP, etcd, the API server, \
             MetalLB, the kubelet, kube-proxy, controllers; VXLAN, Geneve, WireGuard",
            Form::List("PORTS", |config| list(&config.settings.protected_node_ports)),
        ),
        opt(
            "removeKubeProxy",
            "",
            "Whether the agent removes what kube-proxy has left in the kernel (its addresses, rules, \
             sets, and virtual servers that kube-ipvs does not own) once its own first sync is done. \
             Stop kube-proxy first",
            Form::Truth(|config| &mut config.remove_kube_proxy),
        ),
        opt(
            "trafficMetricsServices",
            "",
            "For how many Services at most (the first by name) the metrics include connections, \
             packets and bytes; 0 for none. Each costs five series",
            Form::Count(|config| &mut config.traffic_metrics_services),
        ),
    ],
    ignored: "apiVersion kind",
};

const fn opt(field: &'static str, flag: &'static str, doc: &'static str, form: Form) -> Opt {
    Opt { field, flag, doc, form }
}

impl Opt {
    /// Its default, unless the text about it says more of it.
    pub(super) fn default(&self, defaults: &Config) -> Option<String> {
        match self.form.show(defaults) {
            _ if self.doc.contains("Default") => None,
            Value::Null => None,
            Value::String(text) => (!text.is_empty()).then_some(text),
            value => Some(value.to_string()),
        }
    }
}

/// The option of a field.
pub(super) fn of_field(field: &str) -> Option<&'static Opt> {
    let all = DOCUMENTS.iter().flat_map(|document| document.options);
    all.into_iter().find(|option| !field.is_empty() && option.field == field)
}

/// The options that flags set.
pub(super) fn with_flags() -> impl Iterator<Item = &'static Opt> {
    KUBE_PROXY.options.iter().filter(|option| !option.flag.is_empty())
}

fn kubeconfig(config: &Config) -> Value {
    match &config.source {
        SourceConfig::Kubernetes { kubeconfig: Some(path), .. } => json!(path.to_string_lossy()),
        _ => json!(""),
    }
}

/// `detectLocalMode`, `clusterCIDR`, `bridgeInterface`, `interfaceNamePrefix`.
fn detector(config: &Config) -> (&str, String, &str, &str) {
    match &config.settings.local_detector {
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

fn node_ports(config: &Config) -> Value {
    match &config.settings.node_port_addresses {
        NodePortAddresses::Primary => json!(["primary"]),
        all if *all == NodePortAddresses::all() => json!(["all"]),
        NodePortAddresses::Ranges(ranges) => list(ranges),
    }
}

fn list<T: ToString>(items: &[T]) -> Value {
    items.iter().map(ToString::to_string).collect()
}

fn listen(address: Option<SocketAddr>) -> Value {
    address.map_or_else(|| json!("0.0.0.0:0"), |address| json!(address.to_string()))
}

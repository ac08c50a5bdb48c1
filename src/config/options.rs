//! Every option: its field in the file, its flag, and where its value goes. What it means stands in
//! `options.yaml`, a complete file with all defaults.
//!
//! Flags are made from this table, files are read and written by it, and a field that is not in it is
//! unknown. An option that means something only together with others is resolved in
//! [`Resolver`](super::resolve::Resolver).

use std::mem;
use std::net::SocketAddr;
use std::time::Duration;

use kube_ipvs_core::model::{Interfaces, LabelSelector, LocalDetector, NodePortAddresses};
use serde_json::{Value, json};

use crate::control;
use crate::duration;
use crate::source::kubernetes::ApiAccess;

use super::ignored::{self, Ignored};
use super::{Config, LogFormat, SourceConfig, read};
use Form::{
    Count, Labels, List, Number, OfServices, Period, Text, Time, Timeout, Truth, Unneeded, Unsigned,
};

/// A document of the configuration file.
pub(super) struct Document {
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) options: &'static [Opt],
    /// Its fields that have no meaning here.
    pub(super) ignored: &'static [Ignored],
}

pub(super) struct Opt {
    /// Its path in the document.
    pub(super) field: &'static str,
    /// Its flag without the dashes; empty if only the file sets it.
    pub(super) flag: &'static str,
    pub(super) form: Form,
}

/// How a value is written, and where it goes.
pub(super) enum Form {
    Truth(fn(&mut Config) -> &mut bool),
    Count(fn(&mut Config) -> &mut u32),
    Time(fn(&mut Config) -> &mut Duration),
    /// The time between repetitions; zero for none.
    Period(fn(&mut Config) -> &mut Option<Duration>),
    /// A timeout of the kernel: at zero, its own value stays.
    Timeout(fn(&mut Config) -> &mut Option<Duration>),
    /// A label selector; an empty one selects everything.
    Labels(fn(&mut Config) -> &mut LabelSelector),
    /// The following are resolved elsewhere, and have a function that returns what a file with the
    /// configuration says.
    Number(fn(&Config) -> Value),
    /// One that is not negative.
    Unsigned(fn(&Config) -> Value),
    Text(&'static str, fn(&Config) -> Value),
    List(&'static str, fn(&Config) -> Value),
    /// The default of an option of Services, as [`control::apply`] reads it.
    OfServices(&'static str),
    /// A truth value that changes nothing.
    Unneeded,
}

/// What the kernel can count of a timeout of IPVS, in seconds: `INT_MAX / HZ` where HZ is 1000.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

impl Form {
    /// Checks a value by itself.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        self.apply(&mut Config::default(), value)
    }

    /// Puts a value where it goes, if it does not need others for that.
    pub(super) fn apply(&self, config: &mut Config, value: &Value) -> Result<(), String> {
        match self {
            Self::Truth(place) => *place(config) = read::truth(value)?,
            Self::Count(place) => *place(config) = read::count(value)?,
            Self::Time(place) => *place(config) = read::time(value)?,
            Self::Period(place) => {
                *place(config) = Some(read::time(value)?).filter(|time| !time.is_zero());
            }
            Self::Timeout(place) => *place(config) = timeout(read::time(value)?)?,
            Self::Labels(place) => *place(config) = labels(read::text(value)?)?,
            Self::OfServices(name) => {
                let text = read::scalars(value)?;
                if !text.is_empty() {
                    control::apply(name, &text, &mut config.settings.defaults)?;
                    config.defaults.insert(name, text);
                }
            }
            Self::Number(_) => read::number(value).map(drop)?,
            Self::Unsigned(_) => read::count(value).map(drop)?,
            Self::Text(..) => read::text(value).map(drop)?,
            Self::List(..) => read::list(value).map(drop)?,
            Self::Unneeded => read::truth(value).map(drop)?,
        }
        Ok(())
    }

    /// What a file with this configuration says. Nothing is changed: the places are the ones that
    /// values are put into.
    pub(super) fn show(&self, config: &mut Config) -> Value {
        let time = |time: Duration| json!(duration::format(time));
        match self {
            Self::Truth(place) => json!(place(config)),
            Self::Count(place) => json!(place(config)),
            Self::Time(place) => time(*place(config)),
            Self::Period(place) | Self::Timeout(place) => time(place(config).unwrap_or_default()),
            Self::Labels(place) => json!(place(config).to_string()),
            Self::Number(show)
            | Self::Unsigned(show)
            | Self::Text(_, show)
            | Self::List(_, show) => show(config),
            Self::OfServices(name) => json!(config.defaults.get(name).map_or("", String::as_str)),
            Self::Unneeded => json!(false),
        }
    }
}

fn labels(text: &str) -> Result<LabelSelector, String> {
    if text.is_empty() { Ok(LabelSelector::default()) } else { control::label_selector(text) }
}

fn timeout(time: Duration) -> Result<Option<Duration>, String> {
    if time.is_zero() {
        return Ok(None);
    }
    if time < Duration::from_secs(1) || time > LONGEST_TIMEOUT {
        let longest = duration::format(LONGEST_TIMEOUT);
        return Err(format!("{} is not between 1s and {longest}", duration::format(time)));
    }
    Ok(Some(time))
}

/// A complete file with all defaults, whose comments say what each option means.
pub(super) const TEMPLATE: &str = include_str!("options.yaml");

pub(super) const DOCUMENTS: [Document; 2] = [KUBE_PROXY, OWN];

pub(super) const KUBE_PROXY: Document = Document {
    version: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    options: &[
        opt("mode", "proxy-mode", Text("MODE", |_| json!("ipvs"))),
        opt("hostnameOverride", "", Text("NAME", |it| json!(&*it.settings.node_name))),
        opt("clientConnection.kubeconfig", "kubeconfig", Text("FILE", kubeconfig)),
        opt("detectLocalMode", "detect-local-mode", Text("MODE", |it| json!(detector(it).0))),
        opt("clusterCIDR", "cluster-cidr", Text("CIDRS", |it| json!(detector(it).1))),
        opt(
            "detectLocal.bridgeInterface",
            "pod-bridge-interface",
            Text("NAME", |it| json!(detector(it).2)),
        ),
        opt(
            "detectLocal.interfaceNamePrefix",
            "pod-interface-name-prefix",
            Text("PREFIX", |it| json!(detector(it).3)),
        ),
        opt("nodePortAddresses", "nodeport-addresses", List("CIDRS", node_ports)),
        opt(
            "iptables.masqueradeAll",
            "masquerade-all",
            Truth(|it| &mut it.settings.masquerade_all),
        ),
        opt(
            "ipvs.scheduler",
            "ipvs-scheduler",
            Text("NAME", |it| json!(it.settings.scheduler.name())),
        ),
        opt("ipvs.strictARP", "ipvs-strict-arp", Unneeded),
        opt("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", List("CIDRS", |_| json!([]))),
        opt("ipvs.syncPeriod", "ipvs-sync-period", Time(|it| &mut it.sync_period)),
        opt("ipvs.minSyncPeriod", "ipvs-min-sync-period", Time(|it| &mut it.min_sync_period)),
        opt("ipvs.tcpTimeout", "ipvs-tcp-timeout", Timeout(|it| &mut it.ipvs_tcp_timeout)),
        opt(
            "ipvs.tcpFinTimeout",
            "ipvs-tcpfin-timeout",
            Timeout(|it| &mut it.ipvs_tcp_fin_timeout),
        ),
        opt("ipvs.udpTimeout", "ipvs-udp-timeout", Timeout(|it| &mut it.ipvs_udp_timeout)),
        opt(
            "conntrack.maxPerCore",
            "conntrack-max-per-core",
            Count(|it| &mut it.conntrack.max_per_core),
        ),
        opt("conntrack.min", "conntrack-min", Count(|it| &mut it.conntrack.min)),
        opt(
            "conntrack.tcpEstablishedTimeout",
            "conntrack-tcp-timeout-established",
            Timeout(|it| &mut it.conntrack.tcp_established),
        ),
        opt(
            "conntrack.tcpCloseWaitTimeout",
            "conntrack-tcp-timeout-close-wait",
            Timeout(|it| &mut it.conntrack.tcp_close_wait),
        ),
        opt(
            "conntrack.tcpBeLiberal",
            "conntrack-tcp-be-liberal",
            Truth(|it| &mut it.conntrack.tcp_be_liberal),
        ),
        opt("conntrack.udpTimeout", "conntrack-udp-timeout", Timeout(|it| &mut it.conntrack.udp)),
        opt(
            "conntrack.udpStreamTimeout",
            "conntrack-udp-timeout-stream",
            Timeout(|it| &mut it.conntrack.udp_stream),
        ),
        opt("bindAddress", "bind-address", Text("ADDRESS", |_| json!(""))),
        opt(
            "healthzBindAddress",
            "healthz-bind-address",
            Text("ADDRESS", |it| listen(it.health_address)),
        ),
        opt(
            "metricsBindAddress",
            "metrics-bind-address",
            Text("ADDRESS", |it| listen(it.metrics_address)),
        ),
        opt(
            "bindAddressHardFail",
            "bind-address-hard-fail",
            Truth(|it| &mut it.bind_address_hard_fail),
        ),
        opt("oomScoreAdj", "oom-score-adj", Number(|it| json!(it.oom_score_adj))),
        opt(
            "logging.format",
            "",
            Text("FORM", |it| match it.log_format {
                LogFormat::Text => json!("text"),
                LogFormat::Json => json!("json"),
            }),
        ),
        opt(
            "logging.verbosity",
            "",
            // A filter by module has no verbosity.
            Unsigned(|it| match &*it.log_level {
                "debug" => json!(4),
                "trace" => json!(6),
                _ => json!(0),
            }),
        ),
    ],
    ignored: &ignored::ALL,
};

pub(super) const OWN: Document = Document {
    version: "kube-ipvs.io/v1alpha1",
    kind: "KubeIpvsConfiguration",
    options: &[
        opt("serviceCIDRs", "", List("CIDRS", |it| list(&it.settings.service_cidrs))),
        opt(
            "serviceProxyName",
            "",
            Text("NAME", |it| json!(it.settings.service_proxy_name.as_deref().unwrap_or_default())),
        ),
        opt("auditPeriod", "", Period(|it| &mut it.audit_period)),
        opt("drainPeriod", "", Time(|it| &mut it.settings.drain_period)),
        opt("carry", "", Text("MODE", |it| json!(it.settings.carry.to_string()))),
        opt(
            "offloadInterfaces",
            "",
            List("NAMES", |it| list(it.settings.carry.offload_interfaces())),
        ),
        opt("onePacketEverywhere", "", Truth(|it| &mut it.settings.one_packet_everywhere)),
        opt("protectedNodePorts", "", List("PORTS", |it| list(&it.settings.protected_node_ports))),
        of_services("defaults.scheduler"),
        of_services("defaults.scheduler-flags"),
        of_services("defaults.locality-weights"),
        of_services("defaults.slow-start"),
        of_services("defaults.max-connections"),
        of_services("defaults.drain"),
        of_services("defaults.one-packet"),
        of_services("defaults.affinity-prefix"),
        of_services("defaults.eject"),
        of_services("defaults.front-ends"),
        of_services("defaults.nodes"),
        opt("removeKubeProxy", "", Truth(|it| &mut it.remove_kube_proxy)),
        opt("trafficMetricsServices", "", Count(|it| &mut it.traffic_metrics_services)),
        opt("trafficMetricsSelector", "", Labels(|it| &mut it.traffic_metrics_selector)),
        opt("canary", "", Truth(|it| &mut it.settings.canary)),
        opt("healthzFollowsCanary", "", Truth(|it| &mut it.healthz_follows_canary)),
    ],
    ignored: &[],
};

const fn opt(field: &'static str, flag: &'static str, form: Form) -> Opt {
    Opt { field, flag, form }
}

const fn of_services(field: &'static str) -> Opt {
    let (_, name) = field.split_at("defaults.".len());
    opt(field, "", OfServices(name))
}

/// For each line of the complete file the option that it sets, if it is one.
pub(super) fn lines() -> impl Iterator<Item = Option<&'static Opt>> {
    let (mut documents, mut section) = (DOCUMENTS.iter(), "");
    let mut document = documents.next();
    TEMPLATE.lines().map(move |line| {
        if line == "---" {
            document = documents.next();
        }
        let (name, _) = line.split_once(':')?;
        if !line.starts_with(' ') {
            section = name;
        }
        let is_this = |option: &&Opt| match option.field.split_once('.') {
            Some((head, field)) => head == section && name.strip_prefix("  ") == Some(field),
            None => option.field == name,
        };
        document?.options.iter().find(is_this)
    })
}

/// The options in the order of the complete file, each with the comment above it.
pub(super) fn explained() -> impl Iterator<Item = (&'static Opt, String)> {
    let mut comment = Vec::new();
    TEMPLATE.lines().zip(lines()).filter_map(move |(line, option)| {
        if let Some(text) = line.trim_start().strip_prefix("# ") {
            comment.push(text);
            return None;
        }
        let comment = mem::take(&mut comment);
        Some((option?, comment.join(" ")))
    })
}

pub(super) fn all() -> impl Iterator<Item = &'static Opt> {
    DOCUMENTS.into_iter().flat_map(|document| document.options)
}

pub(super) fn of_field(field: &str) -> Option<&'static Opt> {
    all().find(|option| option.field == field)
}

/// The options that flags set.
pub(super) fn with_flags() -> impl Iterator<Item = &'static Opt> {
    all().filter(|option| !option.flag.is_empty())
}

fn kubeconfig(config: &Config) -> Value {
    match &config.source {
        SourceConfig::Kubernetes(ApiAccess { kubeconfig: Some(path), .. }) => {
            json!(path.to_string_lossy())
        }
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

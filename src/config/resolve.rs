//! Flags and file → [`Config`], with kube-proxy's precedence: where a file is given, flags are
//! ignored but for the node's name, `--master` and those for logging.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_ipvs_core::model::{Carry, Settings, read_ip};

use super::document::{self, ConfigFile, Document, Origin};
use super::environment::Environment;
use super::kube_proxy::KubeProxyConfiguration;
use super::own::KubeIpvsConfiguration;
use super::{
    Config, ConfigError, ConntrackConfig, IpvsTimeouts, LogConfig, ProxyFlags, SharedFlags,
    SourceConfig,
};
use super::{address, duration};

const SYNC_PERIOD: Duration = Duration::from_secs(30);
const AUDIT_PERIOD: Duration = Duration::from_secs(300);
/// The kernel's own default.
const CARRIED_TCP_TIMEOUT: Duration = Duration::from_secs(900);
const TCP_FIN_TIMEOUT: Duration = Duration::from_secs(10);
const OOM_SCORE_ADJ: i32 = -999;
/// What the kernel can count of a timeout of IPVS, in seconds: `INT_MAX / HZ` where HZ is 1000.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(i32::MAX as u64 / 1000);

/// Resolves everything.
///
/// # Errors
///
/// Names the flag, or file and field, that is wrong.
pub fn resolve(flags: &SharedFlags) -> Result<Config, ConfigError> {
    Resolver::new(flags, Environment::read())?.config()
}

/// Resolves only what decides the desired state, with the warnings.
///
/// # Errors
///
/// Names the flag, or file and field, that is wrong.
pub fn resolve_settings(flags: &SharedFlags) -> Result<(Settings, Vec<String>), ConfigError> {
    let mut resolver = Resolver::new(flags, Environment::read())?;
    Ok((resolver.settings()?, resolver.warnings))
}

/// Resolves the text of a file, on a node of the name `node`. Public for the fuzz targets.
///
/// # Errors
///
/// As [`resolve`].
#[doc(hidden)]
pub fn resolve_text(text: &str) -> Result<Config, ConfigError> {
    let surroundings = Environment { node_name: Some("node".to_owned()), host_name: None };
    let file = document::parse(Path::new("config"), text)?;
    Resolver::of_file(&SharedFlags::default(), surroundings, file, Vec::new()).config()
}

/// What was given: the file, or the flags in the form of one.
pub(super) struct Resolver<'a> {
    pub(super) flags: &'a SharedFlags,
    pub(super) surroundings: Environment,
    pub(super) kube_proxy: KubeProxyConfiguration,
    /// Where `kube_proxy` comes from.
    pub(super) origin: Origin,
    pub(super) own: Document<KubeIpvsConfiguration>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        flags: &'a SharedFlags,
        surroundings: Environment,
    ) -> Result<Self, ConfigError> {
        let mut warnings = flags.warnings.clone();
        warnings.extend(flags.ignored.warnings());
        let file = match &flags.config {
            None => ConfigFile {
                kube_proxy: Document { content: (&flags.proxy).into(), origin: Origin::Flags },
                ..ConfigFile::default()
            },
            Some(path) => {
                let given = ProxyFlags { master: None, ..flags.proxy.clone() }.given();
                if !given.is_empty() {
                    warnings.push(format!(
                        "{}: ignored, as kube-proxy does where --config is given; say it in the \
                         file",
                        given.join(", ")
                    ));
                }
                document::read(path)?
            }
        };
        Ok(Self::of_file(flags, surroundings, file, warnings))
    }

    fn of_file(
        flags: &'a SharedFlags,
        surroundings: Environment,
        file: ConfigFile,
        mut warnings: Vec<String>,
    ) -> Self {
        let ConfigFile { kube_proxy, own, warnings: of_file } = file;
        warnings.extend(of_file);
        let Document { content: kube_proxy, origin } = kube_proxy;
        Self { flags, surroundings, kube_proxy, origin, own, warnings }
    }

    pub(super) fn config(mut self) -> Result<Config, ConfigError> {
        let settings = self.settings()?;
        let ipvs = self.kube_proxy.ipvs.clone().unwrap_or_default();
        if ipvs.exclude_cidrs.as_ref().is_some_and(|ranges| !ranges.is_empty()) {
            self.warn(
                "ipvs.excludeCIDRs",
                "not needed: virtual servers that are not ours are always left alone",
            );
        }
        let sync_period = self.time("ipvs.syncPeriod", ipvs.sync_period.as_deref())?;
        let min_sync_period = self.time("ipvs.minSyncPeriod", ipvs.min_sync_period.as_deref())?;
        let conntrack = self.conntrack()?;
        let tcp_timeout = match settings.carry {
            // A connection that IPVS forgets while connection tracking still knows it is lost: its
            // next packet goes nowhere.
            Carry::FrontEnds => conntrack.tcp_established,
            // Nothing depends on what IPVS knows. Of connections that clients reset, and from Linux
            // 6.15 on of all that a flowtable has carried, it does not see the end.
            Carry::All | Carry::Offload(_) => Some(CARRIED_TCP_TIMEOUT),
        };
        let (health, metrics) = match self.bind_address_is_v6()? {
            false => ("0.0.0.0:10256", "127.0.0.1:10249"),
            true => ("[::]:10256", "[::1]:10249"),
        };
        Ok(Config {
            settings,
            source: self.source(),
            health_address: self.listen(
                "healthzBindAddress",
                self.kube_proxy.healthz_bind_address.as_deref(),
                health,
            )?,
            metrics_address: self.listen(
                "metricsBindAddress",
                self.kube_proxy.metrics_bind_address.as_deref(),
                metrics,
            )?,
            bind_address_hard_fail: self.kube_proxy.bind_address_hard_fail.unwrap_or(false),
            min_sync_period: min_sync_period.unwrap_or_default(),
            sync_period: sync_period.filter(|period| !period.is_zero()).unwrap_or(SYNC_PERIOD),
            audit_period: self.audit_period()?,
            traffic_metrics_services: self.own.content.traffic_metrics_services.unwrap_or(0),
            remove_kube_proxy: self.own.content.remove_kube_proxy.unwrap_or(false),
            ipvs_timeouts: IpvsTimeouts {
                tcp: self.timeout("ipvs.tcpTimeout", ipvs.tcp_timeout.as_deref())?.or(tcp_timeout),
                // Of a connection that connection tracking carries, IPVS sees only the server's
                // FIN. Until it forgets the connection, another one from the same port of the
                // client goes to the same endpoint.
                tcp_fin: self
                    .timeout("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout.as_deref())?
                    .or(Some(TCP_FIN_TIMEOUT)),
                udp: self.timeout("ipvs.udpTimeout", ipvs.udp_timeout.as_deref())?,
            },
            conntrack,
            oom_score_adj: self.oom_score_adj()?,
            log: LogConfig::new(self.flags, self.kube_proxy.logging.as_ref())
                .map_err(|(field, reason)| self.origin.wrong(field, reason))?,
            warnings: self.warnings,
        })
    }

    /// Notes that a field's value is not what the one who gave it may think.
    pub(super) fn warn(&mut self, field: &str, what: &str) {
        self.warnings.push(format!("{}: {what}", self.origin.name(field)));
    }

    fn source(&self) -> SourceConfig {
        if let Some(directory) = &self.flags.manifests {
            return SourceConfig::Manifests(directory.clone());
        }
        let client = self.kube_proxy.client_connection.as_ref();
        let kubeconfig = client.and_then(|client| client.kubeconfig.clone());
        SourceConfig::Kubernetes {
            kubeconfig: kubeconfig.filter(|path| !path.is_empty()).map(PathBuf::from),
            master: self.flags.proxy.master.clone().filter(|url| !url.is_empty()),
        }
    }

    /// kube-proxy's `bindAddress` binds nothing; its family decides where is listened by default.
    fn bind_address_is_v6(&self) -> Result<bool, ConfigError> {
        const FIELD: &str = "bindAddress";
        let text = self.kube_proxy.bind_address.as_deref().unwrap_or_default();
        let text = text.trim_matches(['[', ']']);
        if text.is_empty() {
            return Ok(false);
        }
        let reason = || format!("{text:?} is not an IP address");
        read_ip(text).map(|ip| ip.is_ipv6()).ok_or_else(|| self.origin.wrong(FIELD, reason()))
    }

    fn listen(
        &self,
        field: &str,
        value: Option<&str>,
        default: &str,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        let text = match (value, &self.origin) {
            (None, _) => default,
            // kubeadm writes an empty address where it means the default; as a flag it means off.
            (Some(""), Origin::Document { .. }) => default,
            (Some(text), _) => text,
        };
        let port = default.rsplit(':').next().and_then(|port| port.parse().ok());
        address::parse(text, port.unwrap_or_default())
            .map_err(|reason| self.origin.wrong(field, reason))
    }

    fn oom_score_adj(&self) -> Result<i32, ConfigError> {
        match self.kube_proxy.oom_score_adj {
            None => Ok(OOM_SCORE_ADJ),
            Some(score) if (-1000..=1000).contains(&score) => Ok(score),
            Some(score) => {
                let reason = format!("{score} is not between -1000 and 1000");
                Err(self.origin.wrong("oomScoreAdj", reason))
            }
        }
    }

    fn audit_period(&self) -> Result<Option<Duration>, ConfigError> {
        let text = self.own.content.audit_period.as_deref();
        let period = text.map(duration::parse).transpose();
        let period = period.map_err(|reason| self.own.origin.wrong("auditPeriod", reason))?;
        Ok(Some(period.unwrap_or(AUDIT_PERIOD)).filter(|period| !period.is_zero()))
    }

    fn conntrack(&self) -> Result<ConntrackConfig, ConfigError> {
        let given = self.kube_proxy.conntrack.clone().unwrap_or_default();
        let default = ConntrackConfig::default();
        let timeout = |field: &str, value: &Option<String>, default| match value {
            None => Ok(default),
            Some(text) => self.timeout(field, Some(text)),
        };
        Ok(ConntrackConfig {
            max_per_core: given.max_per_core.unwrap_or(default.max_per_core),
            min: given.min.unwrap_or(default.min),
            tcp_established: timeout(
                "conntrack.tcpEstablishedTimeout",
                &given.tcp_established_timeout,
                default.tcp_established,
            )?,
            tcp_close_wait: timeout(
                "conntrack.tcpCloseWaitTimeout",
                &given.tcp_close_wait_timeout,
                default.tcp_close_wait,
            )?,
            tcp_be_liberal: given.tcp_be_liberal.unwrap_or(default.tcp_be_liberal),
            udp: timeout("conntrack.udpTimeout", &given.udp_timeout, default.udp)?,
            udp_stream: timeout(
                "conntrack.udpStreamTimeout",
                &given.udp_stream_timeout,
                default.udp_stream,
            )?,
        })
    }

    fn time(&self, field: &str, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
        let time = text.map(duration::parse).transpose();
        time.map_err(|reason| self.origin.wrong(field, reason))
    }

    /// A timeout of the kernel, of which zero means that its own value stays.
    fn timeout(&self, field: &str, text: Option<&str>) -> Result<Option<Duration>, ConfigError> {
        match self.time(field, text)? {
            Some(time) if time.is_zero() => Ok(None),
            Some(time) if time < Duration::from_secs(1) || time > LONGEST_TIMEOUT => {
                let longest = duration::format(LONGEST_TIMEOUT);
                let reason = format!("{} is not between 1s and {longest}", duration::format(time));
                Err(self.origin.wrong(field, reason))
            }
            time => Ok(time),
        }
    }
}

//! Flags and file → [`Config`], with kube-proxy's precedence: where a file is given, flags are
//! ignored, except for the node's name, `--master`, `--metrics-bind-address` and those for logging.

use std::env;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_ipvs_core::model::{Carry, read_ip};

use super::document::{self, Given, Origin};
use super::options;
use super::{Config, ConfigError, LogFormat, SharedFlags, SourceConfig};
use super::{address, read};
use crate::source::kubernetes::ApiAccess;

/// The kernel's own default.
const CARRIED_TCP_TIMEOUT: Duration = Duration::from_secs(900);
const TCP_FIN_TIMEOUT: Duration = Duration::from_secs(10);
/// kube-proxy's verbosities from which on there is debugging, and more than that.
const DEBUG_VERBOSITY: i64 = 4;
const TRACE_VERBOSITY: i64 = 6;
/// The flag of kube-proxy that counts beside a file, and more than it. kube-proxy ignores it there. A
/// manifest that adds a monitor to the agent does not own the file: with kubeadm, it is kube-proxy's.
const METRICS_FLAG: &str = "metrics-bind-address";
const KUBECONFIG_FLAG: &str = "kubeconfig";

/// Resolves everything.
///
/// # Errors
///
/// Names each flag, or file and field, that is invalid.
pub fn resolve(flags: &SharedFlags) -> Result<Config, ConfigError> {
    Resolver::new(flags, node_names())?.config()
}

/// Returns the form of the log as far as it is known, for errors in the rest of the configuration.
#[must_use]
pub fn log_format(flags: &SharedFlags) -> LogFormat {
    let of_file = || Resolver::new(flags, [None, None]).ok()?.log_format().ok();
    flags.log_format.or_else(of_file).unwrap_or_default()
}

/// Resolves the text of a file, on a node of the name `node`. Public for the fuzz targets.
///
/// # Errors
///
/// As [`resolve`].
#[doc(hidden)]
pub fn resolve_text(text: &str) -> Result<Config, ConfigError> {
    let node_names = [Some("node".to_owned()), None];
    let given = document::parse(Path::new("config"), text)?;
    Resolver { flags: &SharedFlags::default(), node_names, given }.config()
}

/// Returns environment variable `NODE_NAME`, as kubeadm's DaemonSet sets it, and the host name.
pub(super) fn node_names() -> [Option<String>; 2] {
    let host_name = fs::read_to_string("/proc/sys/kernel/hostname");
    [env::var("NODE_NAME").ok(), host_name.ok()]
}

/// What was given: the file, or the flags in the form of one.
pub(super) struct Resolver<'a> {
    pub(super) flags: &'a SharedFlags,
    /// The node's names if none is given, as of [`node_names`].
    pub(super) node_names: [Option<String>; 2],
    pub(super) given: Given,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(
        flags: &'a SharedFlags,
        node_names: [Option<String>; 2],
    ) -> Result<Self, ConfigError> {
        let mut warnings = [flags.warnings.as_slice(), &flags.proxy.warnings].concat();
        let mut given = match &flags.config {
            None => Given { kube_proxy: Origin::Flags, ..Given::default() },
            Some(path) => document::read_file(path)?,
        };
        let mut ignored = Vec::new();
        for (option, value) in flags.proxy.given() {
            let is_over_file = match option.flag {
                METRICS_FLAG => true,
                KUBECONFIG_FLAG => flags.overrides_kubeconfig,
                _ => false,
            };
            if flags.config.is_none() || is_over_file {
                given.values.insert(option.field, value.clone());
                given.by_flag.insert(option.field);
            } else {
                ignored.push(format!("--{}", option.flag));
            }
        }
        if !ignored.is_empty() {
            warnings.push(format!(
                "{}: ignored because --config is given, as kube-proxy does; set it in the file",
                ignored.join(", ")
            ));
        }
        given.warnings.splice(..0, warnings);
        Ok(Self { flags, node_names, given })
    }

    pub(super) fn config(mut self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        for option in options::all() {
            if let Some(value) = self.given.values.get(option.field) {
                let applied = option.form.apply(&mut config, value);
                self.given.note(applied.map_err(|reason| self.wrong(option.field, reason)));
            }
        }
        self.settings(&mut config.settings);
        if !self.list("ipvs.excludeCIDRs").is_empty() {
            self.warn(
                "ipvs.excludeCIDRs",
                "not needed: other programs' virtual servers are always left alone",
            );
        }
        if config.sync_period.is_zero() {
            config.sync_period = Config::default().sync_period;
        }
        config.ipvs_tcp_timeout = config.ipvs_tcp_timeout.or(match config.settings.carry {
            // A connection that IPVS forgets while connection tracking still knows it is lost: its
            // next packet goes nowhere.
            Carry::FrontEnds => config.conntrack.tcp_established,
            // Nothing depends on what IPVS knows. Of connections that clients reset, and from Linux
            // 6.15 on of all that a flowtable has carried, it does not see the end.
            Carry::All | Carry::Offload(_) => Some(CARRIED_TCP_TIMEOUT),
        });
        // Of a connection that connection tracking carries, IPVS sees only the server's FIN. Until it
        // forgets the connection, another one from the same port of the client goes to the same
        // endpoint.
        config.ipvs_tcp_fin_timeout = config.ipvs_tcp_fin_timeout.or(Some(TCP_FIN_TIMEOUT));
        if self.given.note(self.bind_address_is_v6()) == Some(true) {
            config.health_address = Some((Ipv6Addr::UNSPECIFIED, 10256).into());
            config.metrics_address = Some((Ipv6Addr::LOCALHOST, 10249).into());
        }
        let listens = self.listen("healthzBindAddress", config.health_address);
        self.put(&mut config.health_address, listens);
        let listens = self.listen("metricsBindAddress", config.metrics_address);
        self.put(&mut config.metrics_address, listens);
        let score = self.given.note(self.oom_score()).flatten();
        config.oom_score_adj = score.unwrap_or(config.oom_score_adj);
        config.source = self.source();
        self.put(&mut config.log_format, self.log_format());
        config.log_level = self.log_level();
        self.given.checked()?;
        config.warnings = self.given.warnings;
        Ok(config)
    }

    /// Puts a value where it goes. An error is noted, and leaves what is there.
    pub(super) fn put<T>(&mut self, place: &mut T, value: Result<T, ConfigError>) {
        if let Some(value) = self.given.note(value) {
            *place = value;
        }
    }

    /// The value of a field; empty if there is none.
    pub(super) fn text(&self, field: &str) -> &str {
        self.text_of(field).unwrap_or_default()
    }

    pub(super) fn text_of(&self, field: &str) -> Option<&str> {
        self.given.values.get(field)?.as_str()
    }

    /// The same of a list.
    pub(super) fn list(&self, field: &str) -> Vec<String> {
        let listed = self.given.values.get(field).map(read::list);
        listed.and_then(Result::ok).unwrap_or_default()
    }

    fn number(&self, field: &str) -> Option<i64> {
        self.given.values.get(field)?.as_i64()
    }

    /// The error that a field's value is invalid.
    pub(super) fn wrong(&self, field: &str, reason: impl ToString) -> ConfigError {
        self.given.origin(field).wrong(field, reason)
    }

    /// Notes that a field's value is not what the operator may think.
    pub(super) fn warn(&mut self, field: &str, what: &str) {
        let name = self.given.origin(field).name(field);
        self.given.warnings.push(format!("{name}: {what}"));
    }

    fn source(&self) -> SourceConfig {
        if let Some(directory) = &self.flags.manifests {
            return SourceConfig::Manifests(directory.clone());
        }
        let some = |text: &&str| !text.is_empty();
        SourceConfig::Kubernetes(ApiAccess {
            kubeconfig: self.text_of("clientConnection.kubeconfig").filter(some).map(PathBuf::from),
            master: self.flags.master.as_deref().filter(some).map(str::to_owned),
        })
    }

    /// The flag takes precedence over the file, which is validated all the same.
    fn log_format(&self) -> Result<LogFormat, ConfigError> {
        const FORMAT: &str = "logging.format";
        let format = match self.text(FORMAT) {
            "" | "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => {
                return Err(self.wrong(FORMAT, format!("{other:?} is neither text nor json")));
            }
        };
        Ok(self.flags.log_format.unwrap_or(format))
    }

    fn log_level(&self) -> String {
        let verbosity = self.flags.verbosity.map(i64::from).or(self.number("logging.verbosity"));
        let level = self.flags.log_level.as_deref().map(str::trim).filter(|it| !it.is_empty());
        let level = level.unwrap_or(match verbosity.unwrap_or_default() {
            ..DEBUG_VERBOSITY => "info",
            DEBUG_VERBOSITY..TRACE_VERBOSITY => "debug",
            TRACE_VERBOSITY.. => "trace",
        });
        level.to_owned()
    }

    fn oom_score(&self) -> Result<Option<i32>, ConfigError> {
        const FIELD: &str = "oomScoreAdj";
        let Some(score) = self.number(FIELD) else { return Ok(None) };
        let is_score = |score: &i32| (-1000..=1000).contains(score);
        let valid = i32::try_from(score).ok().filter(is_score);
        let reason = || format!("{score} is not between -1000 and 1000");
        valid.map(Some).ok_or_else(|| self.wrong(FIELD, reason()))
    }

    /// kube-proxy's `bindAddress` binds nothing; its family decides where is listened by default.
    fn bind_address_is_v6(&self) -> Result<bool, ConfigError> {
        const FIELD: &str = "bindAddress";
        let text = self.text(FIELD).trim_matches(['[', ']']);
        if text.is_empty() {
            return Ok(false);
        }
        let reason = || format!("{text:?} is not an IP address");
        read_ip(text).map(|ip| ip.is_ipv6()).ok_or_else(|| self.wrong(FIELD, reason()))
    }

    fn listen(
        &self,
        field: &str,
        default: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        match (self.text_of(field), self.given.origin(field)) {
            // kubeadm writes an empty address where it means the default; as a flag it means off.
            (None, _) | (Some(""), Origin::Document { .. }) => Ok(default),
            (Some(text), _) => {
                let port = default.map_or(0, |address| address.port());
                address::parse(text, port).map_err(|reason| self.wrong(field, reason))
            }
        }
    }
}

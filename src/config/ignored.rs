//! What of kube-proxy's flags and file has no meaning here, and why.

use std::collections::BTreeMap;

use serde_json::Value;

/// Fields and flags that are accepted without an effect, so that an existing file or command line
/// works. Names are separated by spaces.
pub(super) struct Ignored {
    /// Why they have none.
    why: &'static str,
    /// Fields, each with all that is under it.
    fields: &'static str,
    /// Flags that take a value.
    pub(super) flags: &'static str,
    /// Flags that take `true`, `false` or nothing.
    pub(super) truths: &'static str,
}

/// Those of kube-proxy.
pub(super) const ALL: [Ignored; 4] = [
    Ignored {
        why: "of kube-proxy's other modes",
        fields: "iptables.localhostNodePorts iptables.masqueradeBit iptables.minSyncPeriod \
                 iptables.snatNodeInternalIP iptables.syncPeriod nftables portRange \
                 resourceContainer udpIdleTimeout windowsRunAsService winkernel",
        flags: "iptables-masquerade-bit iptables-min-sync-period iptables-sync-period \
                proxy-port-range udp-timeout",
        truths: "iptables-localhost-nodeports",
    },
    Ignored {
        why: "the agent's client sets its own pace and encoding",
        fields: "clientConnection.acceptContentTypes clientConnection.burst \
                 clientConnection.contentType clientConnection.qps configSyncPeriod",
        flags: "config-sync-period kube-api-burst kube-api-content-type kube-api-qps",
        truths: "",
    },
    Ignored {
        why: "of kube-proxy's own program",
        fields: "enableProfiling featureGates showHiddenMetricsForVersion",
        flags: "boot-id-file feature-gates machine-id-file show-hidden-metrics-for-version",
        truths: "profiling",
    },
    Ignored {
        why: "of kube-proxy's log: use --log-format, --log-level",
        fields: "logging.flushFrequency logging.options logging.vmodule",
        flags: "log-backtrace-at log-dir log-file log-file-max-size log-flush-frequency \
                log-json-info-buffer-size log-text-info-buffer-size stderrthreshold vmodule",
        truths: "add-dir-header alsologtostderr log-json-split-stream log-text-split-stream \
                 logtostderr one-output skip-headers skip-log-headers",
    },
];

impl Ignored {
    pub(super) fn fields(&self) -> impl Iterator<Item = &'static str> {
        self.fields.split_whitespace()
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.fields().any(|known| known == field)
    }

    pub(super) fn all_flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.split_whitespace().chain(self.truths.split_whitespace())
    }
}

/// What was given without an effect, by the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct IgnoredNames(BTreeMap<&'static str, Vec<String>>);

impl IgnoredNames {
    pub(super) fn note(&mut self, ignored: &Ignored, name: String) {
        self.0.entry(ignored.why).or_default().push(name);
    }

    /// Notes the fields under one that say something. What kubeadm writes for "not set" says nothing.
    pub(super) fn note_fields(&mut self, ignored: &Ignored, field: String, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.note_fields(ignored, format!("{field}.{name}"), value);
                }
            }
            Value::Null | Value::Bool(false) => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Number(number) if number.as_f64() == Some(0.0) => {}
            Value::String(text) if ["", "0", "0s"].contains(&text.as_str()) => {}
            _ => self.note(ignored, field),
        }
    }

    /// One line that names all of them, and why.
    pub(super) fn told(&self) -> Option<String> {
        let one = |Ignored { why, .. }: &Ignored| {
            Some(format!("{} ({why})", self.0.get(why)?.join(", ")))
        };
        let told: Vec<_> = ALL.iter().filter_map(one).collect();
        (!told.is_empty()).then(|| format!("ignored: {}", told.join("; ")))
    }
}

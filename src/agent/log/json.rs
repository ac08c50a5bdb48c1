//! Log lines in JSON, with the keys of Kubernetes' components (`component-base/logs/json`): `ts` in
//! milliseconds since 1970, `caller`, `msg`, `v` (none for errors) and `err`. `level` and `logger` are
//! additions: `v` does not show a warning.

use std::fmt;
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use kube_ipvs_core::model::plain_json;
use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// The fields that the `log` crate's records have here, by their start.
const OF_RECORD: &str = "log.";

pub(super) struct JsonLine {
    fields: Vec<(&'static str, Value)>,
}

impl JsonLine {
    fn new(level: Level) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = since.as_micros() as f64 / 1000.0;
        let mut line = Self { fields: Vec::with_capacity(12) };
        line.set("ts", millis);
        line.set("level", level.as_str().to_lowercase());
        if let Some(verbosity) = verbosity(level) {
            line.set("v", verbosity);
        }
        line
    }

    fn of_event(metadata: &Metadata<'_>) -> Self {
        let mut line = Self::new(*metadata.level());
        line.set("logger", metadata.target());
        if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
            line.set("caller", caller(file, number));
        }
        // The place of the message; an event without one has an empty message.
        line.set("msg", "");
        line
    }

    /// Returns the line of an error that ends the program.
    pub(super) fn of_error(message: &str) -> Self {
        let mut line = Self::new(Level::ERROR);
        line.set("msg", message);
        line
    }

    pub(super) fn of_panic(panic: &PanicHookInfo<'_>) -> Self {
        let mut line = Self::new(Level::ERROR);
        if let Some(place) = panic.location() {
            line.set("caller", caller(place.file(), place.line()));
        }
        line.set("msg", "panic; this is a bug");
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        line.set("err", text.unwrap_or("a payload that is no text"));
        line
    }

    pub(super) fn text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(plain_json)
    }

    /// Sets a field. Each key occurs once.
    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.fields.iter_mut().find(|(other, _)| *other == key) {
            Some((_, found)) => *found = value,
            None => self.fields.push((key, value)),
        }
    }

    /// Sets a field of an event. It replaces none of the line's own.
    fn record(&mut self, field: &Field, value: impl Into<Value>) {
        match field.name() {
            "message" => self.set("msg", value),
            "error" => self.set("err", value),
            "log.target" => self.set("logger", value),
            name if name.starts_with(OF_RECORD) => {}
            name if self.fields.iter().any(|(key, _)| *key == name) => {}
            name => self.fields.push((name, value.into())),
        }
    }
}

impl Serialize for JsonLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(|(key, value)| (key, value)))
    }
}

impl Visit for JsonLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record(field, value);
    }
}

pub(super) struct JsonFormat;

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = JsonLine::of_event(event.metadata());
        event.record(&mut line);
        writeln!(writer, "{}", line.text().map_err(|_| fmt::Error)?)
    }
}

/// Returns the verbosity of klog at which a line of this level is logged.
fn verbosity(level: Level) -> Option<u8> {
    match level {
        Level::ERROR => None,
        Level::WARN | Level::INFO => Some(0),
        Level::DEBUG => Some(4),
        Level::TRACE => Some(6),
    }
}

/// Returns file and line, the file with its directory only.
fn caller(file: &str, line: u32) -> String {
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{line}", file.get(start..).unwrap_or(file))
}

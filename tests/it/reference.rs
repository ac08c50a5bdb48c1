//! The documents of reference and the program name the same metrics, Events, options, checks and reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter;
use std::path::Path;

use kube_ipvs::agent::events::EventReason;
use kube_ipvs::cli;
use kube_ipvs::doctor;
use serde_json::Value;

use crate::documents::{Document, ROOT, documents, quoted};
use crate::kustomize::documents_of;
use crate::manifests::metrics;
use crate::promises::code;

/// What metrics of this program begin with, except those of the process.
const PREFIXES: [&str; 3] = ["kube_ipvs_", "kubeproxy_", "rest_client_"];

/// All but the one that names what is no more.
fn of_today() -> impl Iterator<Item = Document> {
    documents().into_iter().filter(|it| !it.path.ends_with("CHANGELOG.md"))
}

/// The words of a document that consist of letters, digits and underscores.
fn plain_words(document: &Document) -> impl Iterator<Item = &str> {
    document.text.split(|it: char| it != '_' && !it.is_ascii_alphanumeric())
}

/// The labels of each metric.
fn labels_of_metrics() -> BTreeMap<String, BTreeSet<String>> {
    let text = metrics();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut found: BTreeMap<_, _> =
        types.clone().map(|(name, _)| (name.to_owned(), BTreeSet::new())).collect();
    let histograms: BTreeSet<_> = types.filter(|(_, kind)| *kind == "histogram").collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let stem = stem.filter(|stem| histograms.contains(&(*stem, "histogram")));
        let names = labels.split("=\"").map(|part| part.rsplit([',', '{', '"']).next().unwrap());
        let names = names.filter(|it| !it.is_empty() && *it != "le" && *it != "}");
        found.get_mut(stem.unwrap_or(name)).unwrap().extend(names.map(str::to_owned));
    }
    found.retain(|name, _| !name.starts_with("process_"));
    found
}

#[test]
fn every_metric_is_documented_with_its_labels() {
    let page = Document::of("docs/metrics.md");
    let mut documented = BTreeMap::new();
    for row in page.rows("") {
        let is_ours = |name: &&str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let labels: BTreeSet<_> = quoted(row[1]).map(str::to_owned).collect();
        for name in quoted(row[0]).filter(is_ours) {
            documented.insert(name.to_owned(), labels.clone());
        }
    }
    assert!(documented.len() > 30, "{documented:?}");
    assert_eq!(documented, labels_of_metrics());
}

/// A metric that has no samples before something happens is not in the answer, so the code says more.
#[test]
fn every_metric_of_the_code_is_in_the_answer() {
    let known = labels_of_metrics();
    let page = Document::of("docs/metrics.md");
    let mut count = 0;
    for file in fs::read_dir(Path::new(ROOT).join("src/agent/metrics")).unwrap() {
        let file = Document::read(file.unwrap().path());
        if file.path.ends_with("tests.rs") {
            continue;
        }
        let is_name = |word: &&str| {
            let is_part = word.ends_with('_');
            !is_part
                && *word != "kube_ipvs_core"
                && PREFIXES.iter().any(|prefix| word.starts_with(prefix))
        };
        for word in plain_words(&file).filter(is_name) {
            assert!(known.contains_key(word), "{word}: have it once in `manifests::metrics`");
            count += 1;
        }
        let is_sli = |word: &&str| word.starts_with("kubernetes_health");
        for word in plain_words(&file).filter(is_sli) {
            assert!(page.text.contains(word), "{word}");
        }
    }
    assert!(count > 30, "{count} metrics");
}

#[test]
fn every_metric_that_a_document_names_exists() {
    let known = labels_of_metrics();
    let mut count = 0;
    for document in of_today() {
        let is_ours = |word: &&str| PREFIXES.iter().any(|prefix| word.starts_with(prefix));
        for word in plain_words(&document).filter(is_ours) {
            assert!(known.contains_key(word), "{}: {word}", document.path.display());
            count += 1;
        }
    }
    assert!(count > 50, "{count} metrics are named");
}

#[test]
fn every_alert_that_a_document_names_exists() {
    let alerts = include_str!("../../manifests/components/metrics/alerts.yaml");
    for document in of_today() {
        let is_alert = |word: &&str| {
            word.starts_with("KubeIpvs") && *word != "KubeIpvs" && *word != "KubeIpvsConfiguration"
        };
        for word in plain_words(&document).filter(is_alert) {
            let is_there = alerts.lines().any(|line| line.trim() == format!("- alert: {word}"));
            assert!(is_there, "{}: {word}", document.path.display());
        }
    }
}

#[test]
fn the_table_of_events_has_every_reason_and_no_other() {
    let known: BTreeSet<_> = EventReason::ALL.iter().map(|reason| reason.name()).collect();
    let code = include_str!("../../src/agent/events/mod.rs");
    let names = code.lines().filter(|line| line.contains("Self::") && line.contains(" => (\""));
    assert_eq!(names.count(), known.len(), "`EventReason::ALL` has every reason");
    let page = Document::of("docs/events.md");
    let rows = page.rows("# Events").into_iter().filter(|row| row[0].starts_with('`'));
    let documented: BTreeSet<_> = rows.map(|row| quoted(row[0]).next().unwrap()).collect();
    assert_eq!(documented, known);
    let page = Document::of("docs/troubleshooting.md");
    let rows = page.rows("## What to do about an Event").into_iter().skip(1);
    let looked_at: BTreeSet<_> = rows.flat_map(|row| quoted(row[0])).collect();
    assert_eq!(looked_at, known);
    for document in of_today() {
        let text = document.text.split_whitespace().collect::<Vec<_>>().join(" ");
        for rest in text.split("Event `").skip(1) {
            let reason = rest.split('`').next().unwrap();
            assert!(known.contains(reason), "{}: Event {reason}", document.path.display());
        }
    }
}

/// The paths of the values of an object.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let Some(fields) = value.as_object() else {
        found.insert(path.to_owned());
        return;
    };
    for (name, value) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        leaves(value, &path, found);
    }
}

/// The options of a document of the complete file, which has all of them by a unit test of `src/config`.
fn options(document: usize) -> BTreeSet<String> {
    let complete = documents_of(include_str!("../../src/config/options.yaml")).unwrap();
    options_of(&complete[document])
}

fn options_of(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    leaves(document, "", &mut found);
    found.retain(|field| field != "apiVersion" && field != "kind");
    found
}

/// That each flag stands beside its field is held by a unit test of `src/config`.
#[test]
fn the_table_of_configuration_has_every_option_and_no_other() {
    let page = Document::of("docs/configuration.md");
    let rows = page.rows("## kube-proxy's options").into_iter().skip(1);
    let fields: BTreeSet<_> = rows.flat_map(|row| quoted(row[0])).map(str::to_owned).collect();
    assert_eq!(fields, options(0));
    let block = page.blocks().into_iter().find(|block| block.text.contains("serviceCIDRs:"));
    assert_eq!(options_of(&documents_of(&block.unwrap().text).unwrap()[0]), options(1));
}

#[test]
fn the_table_of_options_of_a_service_has_every_option_and_no_other() {
    let page = Document::of("docs/control.md");
    let rows = page.rows("# Options per Service").into_iter().skip(1);
    let named: BTreeSet<_> = rows.flat_map(|row| quoted(row[0])).map(str::to_owned).collect();
    let known = options(1);
    let known = known.iter().filter_map(|option| option.strip_prefix("defaults."));
    assert_eq!(named, known.map(str::to_owned).collect());
}

#[test]
fn every_flag_of_a_command_is_documented() {
    let mut documented = BTreeSet::from(["help", "version"].map(str::to_owned));
    for document in of_today() {
        let words = document.text.split([' ', '`', '\n', '=', ',', ')', ']', '[']);
        documented.extend(words.filter_map(|word| word.strip_prefix("--")).map(str::to_owned));
    }
    for mut command in cli::commands() {
        command.build();
        for command in iter::once(&command).chain(command.get_subcommands()) {
            let flags = command.get_arguments().filter(|flag| !flag.is_hide_set());
            for flag in flags.filter_map(clap::Arg::get_long) {
                assert!(documented.contains(flag), "{} --{flag}", command.get_name());
            }
        }
    }
}

#[test]
fn every_api_that_the_agent_uses_is_documented() {
    let page = Document::of("docs/compatibility.md");
    let apis = page.rows("## Kubernetes").into_iter().skip(1);
    let apis = apis.flat_map(|row| quoted(row[0]).collect::<Vec<_>>());
    let documented: BTreeSet<_> =
        apis.map(|api| api.strip_suffix("v1").unwrap().trim_end_matches('/')).collect();
    let role = documents_of(include_str!("../../manifests/base/rbac.yaml")).unwrap().remove(0);
    let rules = role["rules"].as_array().unwrap().iter();
    let groups = rules.flat_map(|rule| rule["apiGroups"].as_array().unwrap());
    let groups: BTreeSet<_> = groups.map(|group| group.as_str().unwrap()).collect();
    assert_eq!(documented, groups);
}

#[test]
fn every_check_of_doctor_is_explained() {
    let report = doctor::run(&doctor::Subject::default());
    let checks: BTreeSet<_> = report.checks.iter().map(|it| it.check.as_str()).collect();
    let page = Document::of("docs/troubleshooting.md");
    let rows = page.rows("## What each check of doctor means").into_iter().skip(1);
    let explained: BTreeSet<_> = rows.flat_map(|row| quoted(row[0])).collect();
    assert_eq!(explained, checks);
}

#[test]
fn every_line_of_the_log_that_is_looked_up_exists() {
    let code = code(&["src", "crates"]).replace("\\\n", "");
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = Document::of("docs/troubleshooting.md");
    let rows = page.rows("## The agent's pod is not ready");
    let lines: Vec<_> = rows.iter().filter_map(|row| row[0].strip_prefix('`')).collect();
    assert!(lines.len() > 5, "{lines:?}");
    for part in lines.iter().flat_map(|line| line.trim_end_matches('`').split('…')) {
        assert!(code.contains(part.trim()), "no such line: {part:?}");
    }
}

/// The texts in quotation marks of a piece of Rust, in parts between placeholders.
fn texts(code: &str) -> BTreeSet<String> {
    let code = code.replace("\\\n", "");
    let code: Vec<_> = code.split('"').skip(1).step_by(2).collect();
    let parts = code.iter().flat_map(|text| text.split(['{', '}']).step_by(2));
    let parts = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    // Names and separators are no reasons.
    parts.filter(|part| part.split(' ').count() > 2).collect()
}

#[test]
fn every_reason_of_explain_is_looked_up_by_its_words() {
    let explain = include_str!("../../crates/core/src/explain.rs");
    let part = |text: &'static str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from).unwrap();
        rest.split_once(to).unwrap().0
    };
    let desired = include_str!("../../crates/core/src/model/desired.rs");
    let reasons = texts(part(explain, "fn at_frontend(", "/// Adds a Service"));
    let refusals = texts(part(desired, "fn because<", "impl RefusalReason"));
    assert!(reasons.len() > 8 && refusals.len() > 6, "{reasons:?} {refusals:?}");
    let page = Document::of("docs/troubleshooting.md");
    for reason in reasons.iter().chain(&refusals) {
        assert!(page.text.contains(reason.as_str()), "no look-up of {reason:?}");
    }
    // Of a reason that the page has, nothing is left beside those of the program.
    let parts = texts(part(explain, "fn path(", "#[cfg(test)]"));
    let mut parts: Vec<_> = reasons.iter().chain(&refusals).chain(&parts).collect();
    parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
    let rows = page.rows("## A Service does not answer");
    let named = rows.iter().filter(|row| row[0] != "reason" && row[0] != "verdict");
    let named = named.flat_map(|row| quoted(if row.len() > 2 { row[1] } else { row[0] }));
    let mut count = 0;
    for reason in named {
        let left = parts.iter().fold(reason.to_owned(), |left, part| left.replace(*part, ""));
        let left = left.replace("Service ", "");
        assert!(!left.contains(char::is_alphabetic), "no such reason: {reason:?}, {left:?}");
        count += 1;
    }
    assert!(count > 15, "{count} reasons");
}

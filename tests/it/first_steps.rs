//! What a newcomer meets first: README.md, the recording of the demonstration, the first cluster and the index.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use kube_ipvs::kernel::modules;
use kube_ipvs_core::model::{Carry, Scheduler};
use serde_json::{Value, json};

use crate::documents::{Block, Document, ROOT, documents, quoted};
use crate::kustomize::documents_of;

/// Runs a script in the root of the repository, where `kube-ipvs` is this program.
fn printed(script: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_kube-ipvs")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).current_dir(ROOT).env("PATH", path);
    let done = bash.output().unwrap();
    assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The blocks of a document that are to be pasted into a shell.
fn pasted(document: &Document) -> Vec<Block> {
    document.blocks().into_iter().filter(|block| block.mark == "sh").collect()
}

#[test]
fn commands_for_a_shell_are_complete_when_pasted() {
    for document in documents() {
        for Block { place, text, .. } in pasted(&document) {
            printed(&format!("bash -n <<'THE-BLOCK'\n{text}THE-BLOCK"));
            let is_typed = |line: &str| line.starts_with("$ ") || line.contains(" NAME");
            assert!(!text.lines().any(is_typed), "{place}: a prompt or a name to fill in");
            for target in text.lines().filter_map(|line| line.strip_prefix("make ")) {
                let makefile = fs::read_to_string(Path::new(ROOT).join("Makefile")).unwrap();
                assert!(makefile.contains(&format!("\n{target}: ")), "{place}: make {target}");
            }
        }
    }
}

/// The built program stands in for that of `make build`.
#[test]
fn the_readme_shows_what_its_commands_print() {
    let readme = Document::of("README.md");
    let blocks = readme.blocks();
    let at = blocks.iter().position(|it| it.text.contains("kube-ipvs render")).unwrap();
    let commands = blocks[at].text.replace("make build\n", "");
    let commands = commands.replace("target/release", "target/none");
    assert!(printed(&commands).ends_with(&blocks[at + 1].text), "{}", printed(&commands));
    assert!(printed(&commands).contains("-a -t 10.96.0.20:80 -r 10.244.1.11:3000 -m -w 1\n"));
}

/// The value that `--set` flags make, in which a dot of a name is escaped.
fn set_values(words: &[&str]) -> Value {
    let mut values = json!({});
    for pair in words.windows(2).filter(|pair| pair[0].starts_with("--set")) {
        let (path, value) = pair[1].trim_matches('\'').split_once('=').unwrap();
        let path = path.replace("\\.", "\0");
        let names: Vec<_> = path.split('.').map(|name| name.replace('\0', ".")).collect();
        let place = names.iter().fold(&mut values, |at, name| &mut at[name.as_str()]);
        *place = value.into();
    }
    values
}

#[test]
fn the_readme_installs_what_the_pages_do() {
    let readme = Document::of("README.md");
    let install = pasted(&readme).remove(0).text;
    let before = readme.text.lines().take_while(|line| !line.starts_with("helm ")).count();
    assert!(before < 25, "the installation is in line {before}");
    let helm = install.split("helm ").nth(1).unwrap().split("\n\n").next().unwrap();
    let helm = helm.replace("${IMAGE%:*}", "registry.example/kube-ipvs");
    let page = Document::of("docs/install/README.md");
    let values = page.blocks().into_iter().find(|block| block.mark == "yaml values").unwrap();
    let words: Vec<_> = helm.split_whitespace().filter(|word| *word != "\\").collect();
    assert_eq!(set_values(&words), documents_of(&values.text).unwrap()[0]);
    // kube-proxy leaves the nodes as the page about that says.
    let between = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start).unwrap();
        documents_of(rest.split_once(end).unwrap().0).unwrap().remove(0)
    };
    let patch = between(&install, "--type=merge -p '", "'");
    let migration = Document::of("docs/migrate-from-kube-proxy.md");
    assert_eq!(patch, between(&migration.text, "cat >kube-proxy.yaml <<'END'\n", "\nEND\n"));
}

#[test]
fn the_readme_has_the_figures_that_were_measured() {
    let performance = Document::of("docs/performance.md");
    let measured = performance.rows("# Performance");
    let readme = Document::of("README.md");
    let rows = readme.rows("## What it does").into_iter().skip(1);
    let rows: Vec<_> = rows.filter(|row| row[2].starts_with('`')).collect();
    assert!(rows.len() > 4);
    for row in rows {
        let figure = row[1].trim_matches(|it: char| !it.is_ascii_digit());
        let digits = figure.split_once('.').map_or(0, |(_, digits)| digits.len());
        let of = measured.iter().find(|it| it[0] == row[2]).unwrap_or_else(|| panic!("{row:?}"));
        let cell = if row[1].starts_with('×') { of[4].trim_matches('*') } else { of[2] };
        let exact: f64 = cell.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(figure, format!("{exact:.digits$}"), "{row:?}, measured {of:?}");
    }
}

#[test]
fn the_drawing_is_of_the_recording() {
    let drawn = printed("hack/draw-demo <docs/demo.cast");
    let kept = fs::read_to_string(Path::new(ROOT).join("docs/demo.svg")).unwrap();
    assert_eq!(drawn, kept, "run hack/draw-demo");
}

#[test]
fn the_first_cluster_is_that_of_the_page_of_kind() {
    let first = Document::of("docs/getting-started.md");
    for block in Document::of("docs/install/kind.md").blocks() {
        for line in block.text.lines() {
            assert!(first.text.contains(&format!("\n{line}\n")), "{}: {line}", block.place);
        }
    }
}

/// What a document says to load is what `doctor` looks for, and the modules of bridges and of the canary.
#[test]
fn the_modules_to_load_are_those_that_doctor_looks_for() {
    let needed = modules::needed(Scheduler::default(), &Carry::default());
    let needed = needed.into_iter().map(|module| module.name);
    let needed: BTreeSet<_> = needed.chain(["br_netfilter", "tun"].map(str::to_owned)).collect();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let blocks = Document::of("docs/compatibility.md").blocks();
    let at_boot = blocks.iter().find_map(|it| it.text.split_once("kube-ipvs.conf\n")).unwrap().1;
    assert_eq!(words(at_boot), needed);
    let blocks = Document::of("docs/getting-started.md").blocks();
    let now = blocks.iter().find_map(|it| it.text.strip_prefix("sudo modprobe -a ")).unwrap();
    assert_eq!(words(&now.replace('\\', "")), needed);
}

/// The objects that the commands of the page make.
const WEB: &str = r#"
{apiVersion: v1, kind: Node, metadata: {name: kind-worker},
 status: {addresses: [{type: InternalIP, address: 172.18.0.3}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: default},
 spec: {clusterIPs: [10.96.200.7], ports: [{port: 80, protocol: TCP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}},
 ports: [{port: 80, protocol: TCP}],
 endpoints: [
  {addresses: [10.244.1.4], nodeName: kind-worker, targetRef: {kind: Pod, namespace: default, name: web-5d4b6-x2x9z}},
  {addresses: [10.244.1.5], nodeName: kind-worker, targetRef: {kind: Pod, namespace: default, name: web-5d4b6-lq7wn}}]}
"#;

#[test]
fn the_first_service_is_explained_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("web.yaml"), WEB).unwrap();
    let first = Document::of("docs/getting-started.md");
    let (_, rest) = first.text.split_once("-- /kube-ipvs explain ").unwrap();
    let question = rest.lines().next().unwrap();
    let inputs = format!("--manifests {} --node-name kind-worker", directory.path().display());
    let said =
        printed(&format!("kube-ipvs explain {question} {inputs} --cluster-cidr 10.244.0.0/16"));
    assert!(first.blocks().iter().any(|block| block.text == said), "{said}");
}

#[test]
fn the_index_of_all_documents_leads_to_each() {
    let index = Document::of("docs/README.md");
    for document in documents() {
        let path = document.path.strip_prefix(Path::new(ROOT).join("docs"));
        let Ok(path) = path.map(Path::display) else { continue };
        let path = path.to_string();
        assert!(path == "README.md" || index.text.contains(&format!("]({path})")), "{path}");
    }
    let commands = index.rows("## To see what a node holds");
    assert!(commands.iter().flat_map(|row| quoted(row[0])).count() > 8);
}

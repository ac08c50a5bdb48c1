//! The values, overlays and patches of `docs/install` are what they claim to be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::chart;
use crate::chart::render::render;
use crate::documents::{Block, Document};
use crate::kubernetes_types;
use crate::kustomize::{self, Overlay, documents_of};

fn pages() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install");
    let mut pages: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort_unstable();
    pages
}

fn blocks() -> Vec<Block> {
    pages().into_iter().flat_map(|page| Document::read(page).blocks()).collect()
}

fn marked(mark: &str) -> Vec<Block> {
    blocks().into_iter().filter(|block| block.mark == mark).collect()
}

#[test]
fn every_block_of_yaml_says_what_it_is() {
    for block in blocks().iter().filter(|block| block.mark.contains("yaml")) {
        let of_others = block.mark.strip_prefix("yaml of ");
        let is_known = ["yaml values", "yaml kustomization"].contains(&block.mark.as_str());
        assert!(is_known || of_others.is_some_and(|name| !name.is_empty()), "{}", block.place);
        let documents = documents_of(&block.text).unwrap_or_else(|why| panic!("{why}"));
        assert!(documents.iter().all(Value::is_object), "{}", block.place);
    }
}

#[test]
fn values_of_every_page_render_and_are_understood() {
    let values: BTreeMap<String, Value> = marked("yaml values")
        .into_iter()
        .map(|block| (block.place, documents_of(&block.text).unwrap().remove(0)))
        .collect();
    for page in pages() {
        let page = format!("{}:", page.display());
        assert!(values.keys().any(|place| place.starts_with(&page)), "{page} no values");
    }
    let Some(rendered) = render(&values) else { return };
    for (place, objects) in rendered {
        let objects = objects.unwrap_or_else(|reason| panic!("{place}: {reason}"));
        for object in &objects {
            kubernetes_types::check(object).unwrap_or_else(|reason| panic!("{place}: {reason}"));
        }
        let config = chart::agent(&objects, &values[&place]);
        assert_eq!(config.warnings, Vec::<String>::new(), "{place}");
    }
}

/// kube-proxy still runs on the nodes without the label, and its rules are in use.
#[test]
fn values_for_a_running_cluster_leave_kube_proxy_alone() {
    let of_running = |block: &Block| block.heading == "A running cluster";
    let (running, others): (Vec<_>, Vec<_>) =
        marked("yaml values").into_iter().partition(of_running);
    assert!(running.len() > 4, "{} blocks", running.len());
    let values = |block: &Block| documents_of(&block.text).unwrap().remove(0);
    let removes = |values: &Value| values["config"]["kubeIpvs"]["removeKubeProxy"] == true;
    for block in &running {
        let values = values(block);
        let is_whole = values["image"].is_object();
        let selects = values["nodeSelector"]["kube-ipvs.io/proxy"] == "true";
        assert!(!is_whole || selects, "{}: every node", block.place);
        assert!(!removes(&values), "{}: removes rules", block.place);
    }
    for block in others.iter().filter(|block| removes(&values(block))) {
        let page = block.place.rsplit_once(':').unwrap().0;
        let text = fs::read_to_string(page).unwrap();
        let is_said = ["where no kube-proxy runs", "kube-proxy is stopped on all nodes"];
        assert!(is_said.iter().any(|it| text.contains(it)), "{}: for which cluster?", block.place);
    }
}

#[test]
fn overlays_of_every_page_build() {
    let blocks = marked("yaml kustomization");
    assert!(blocks.len() > 2, "{} overlays", blocks.len());
    for block in blocks {
        let overlay = Overlay::new(&block.text);
        for object in kustomize::build(&overlay.directory()) {
            let checked = kubernetes_types::check(&object);
            checked.unwrap_or_else(|reason| panic!("{}: {reason}", block.place));
        }
        kustomize::by_kubectl(&overlay.directory());
    }
}

#[test]
fn the_index_leads_to_every_page() {
    let index = fs::read_to_string(pages()[0].with_file_name("README.md")).unwrap();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "README.md" || index.contains(&format!("]({name})")), "{name}");
    }
}

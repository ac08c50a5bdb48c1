//! Components and overlays of `manifests/` go together.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::kustomize::{self, documents};
use crate::manifests::{overlay_with, root, texts};

/// The names in a directory of manifests.
fn names(of: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(of)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What a list of the API server's has once: by name, or by itself.
fn assert_without_duplicates(value: &Value, place: &str) {
    for (key, below) in value.as_object().into_iter().flatten() {
        assert_without_duplicates(below, &format!("{place}.{key}"));
    }
    let mut seen = BTreeSet::new();
    for item in value.as_array().into_iter().flatten() {
        assert_without_duplicates(item, place);
        let name = item["name"].as_str().or_else(|| item.as_str()?.split('=').next());
        assert!(name.is_none_or(|name| seen.insert(name)), "{place}: a second {item}");
    }
}

#[test]
fn components_and_overlays_go_together_in_every_pair_and_order() {
    let components = names("components");
    assert!(components.len() > 2, "{components:?}");
    let overlays = names("overlays").into_iter().chain(["../base".to_owned()]);
    for under in overlays {
        for (one, other) in components.iter().flat_map(|it| components.iter().map(move |o| (it, o)))
        {
            let mut both = vec![one.as_str(), other];
            both.dedup();
            let overlay = overlay_with(&both, &under);
            let ours = kustomize::build(&overlay.directory());
            let theirs = kustomize::by_kubectl(&overlay.directory());
            for objects in [Some(ours), theirs].into_iter().flatten() {
                let daemon_set = kustomize::only(&objects, "DaemonSet");
                assert_without_duplicates(daemon_set, &format!("{under} with {both:?}"));
            }
        }
    }
}

#[test]
fn every_overlay_lists_all_of_its_files() {
    let below = |of: &'static str| names(of).into_iter().map(move |name| format!("{of}/{name}"));
    for overlay in below("overlays").chain(below("components")) {
        let directory = root().join(&overlay);
        let kustomization = documents(&directory.join("kustomization.yaml")).remove(0);
        let mut listed = texts(&kustomization["resources"]);
        listed.retain(|file| *file != "../../base");
        listed.extend(texts(&kustomization["configMapGenerator"][0]["files"]));
        listed.push("kustomization.yaml");
        listed.sort_unstable();
        let mut present = names(&overlay);
        present.sort_unstable();
        assert_eq!(present, listed, "{overlay}");
    }
}

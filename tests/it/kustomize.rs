//! What `kubectl kustomize` makes of a directory, as far as the manifests of this repository use it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::api::patch;

/// The documents of a YAML file that say something.
pub fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    documents_of(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The same of a text.
pub fn documents_of(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// The only object of a kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "a second {kind}");
    object
}

/// A copy of the repository's manifests with one more overlay.
pub struct Overlay {
    copy: TempDir,
}

impl Overlay {
    /// The text of a `kustomization.yaml`, for a directory beside the other overlays.
    pub fn new(kustomization: &str) -> Self {
        let overlay = Self { copy: tempfile::tempdir().unwrap() };
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
        let copied = Command::new("cp").arg("-r").arg(manifests).arg(overlay.copy.path()).status();
        assert!(copied.unwrap().success());
        fs::create_dir(overlay.directory()).unwrap();
        fs::write(overlay.directory().join("kustomization.yaml"), kustomization).unwrap();
        overlay
    }

    /// Where `manifests` is.
    pub fn root(&self) -> &Path {
        self.copy.path()
    }

    /// Where it is.
    pub fn directory(&self) -> PathBuf {
        self.copy.path().join("manifests/overlays/own")
    }
}

/// The objects of a directory with a `kustomization.yaml`. Generated names have no hash.
pub fn build(directory: &Path) -> Vec<Value> {
    accumulate(directory, Vec::new())
}

/// A component changes the objects of the directory that names it.
fn accumulate(directory: &Path, mut objects: Vec<Value>) -> Vec<Value> {
    const FIELDS: [&str; 8] = [
        "apiVersion",
        "kind",
        "namespace",
        "resources",
        "components",
        "configMapGenerator",
        "patches",
        "images",
    ];
    let file = documents(&directory.join("kustomization.yaml")).remove(0);
    for field in file.as_object().unwrap().keys() {
        assert!(FIELDS.contains(&field.as_str()), "{}: {field}", directory.display());
    }
    let list = |field: &str| file[field].as_array().cloned().unwrap_or_default();
    for resource in list("resources") {
        let path = directory.join(resource.as_str().unwrap());
        objects.extend(if path.is_dir() { build(&path) } else { documents(&path) });
    }
    for component in list("components") {
        objects = accumulate(&directory.join(component.as_str().unwrap()), objects);
    }
    for generator in list("configMapGenerator") {
        generate(directory, &generator, &mut objects);
    }
    for patch in list("patches") {
        apply(&patch, &mut objects);
    }
    for object in &mut objects {
        let is_namespaced = !object["kind"].as_str().unwrap().starts_with("Cluster");
        if is_namespaced && file["namespace"].is_string() {
            object["metadata"]["namespace"] = file["namespace"].clone();
        }
        list("images").iter().for_each(|image| rename(object, image));
    }
    objects
}

fn is_named(object: &Value, kind: &Value, name: &Value) -> bool {
    object["kind"] == *kind && object["metadata"]["name"] == *name
}

fn generate(directory: &Path, generator: &Value, objects: &mut Vec<Value>) {
    let mut data = Map::new();
    let texts = |field: &str| generator[field].as_array().cloned().unwrap_or_default();
    for literal in texts("literals") {
        let (key, value) = literal.as_str().unwrap().split_once('=').unwrap();
        data.insert(key.to_owned(), value.into());
    }
    for file in texts("files") {
        let name = file.as_str().unwrap();
        data.insert(name.to_owned(), fs::read_to_string(directory.join(name)).unwrap().into());
    }
    if generator["behavior"] == "merge" {
        let is_it = |object: &&mut Value| is_named(object, &json!("ConfigMap"), &generator["name"]);
        let object = objects.iter_mut().find(is_it).expect("a ConfigMap to merge with");
        object["data"].as_object_mut().unwrap().extend(data);
        return;
    }
    let mut metadata = json!({"name": generator["name"]});
    if generator["options"]["labels"].is_object() {
        metadata["labels"] = generator["options"]["labels"].clone();
    }
    objects
        .push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
}

fn apply(of_overlay: &Value, objects: &mut Vec<Value>) {
    let what: Value = serde_saphyr::from_str(of_overlay["patch"].as_str().unwrap()).unwrap();
    let target = &of_overlay["target"];
    let is_named = |object: &Value| is_named(object, &target["kind"], &target["name"]);
    assert!(objects.iter().any(is_named), "a patch of nothing: {target}");
    // Of selectors, those of objects without a label.
    let without = target["labelSelector"].as_str().map(|it| it.strip_prefix('!').unwrap());
    let has = |object: &Value, label| !object["metadata"]["labels"][label].is_null();
    let is_target = |it: &Value| is_named(it) && without.is_none_or(|label| !has(it, label));
    if what["$patch"] == "delete" {
        objects.retain(|object| !is_target(object));
    }
    // Overlays merge lists in a way of their own.
    let lists = what.as_object().is_some_and(|fields| fields.values().any(has_list));
    assert!(!lists, "a list in a patch: {what}");
    for object in objects.iter_mut().filter(|object| is_target(object)) {
        patch::apply(object, &what);
    }
}

fn has_list(value: &Value) -> bool {
    value.is_array() || value.as_object().is_some_and(|fields| fields.values().any(has_list))
}

fn rename(object: &mut Value, image: &Value) {
    let old = image["name"].as_str().unwrap();
    for containers in ["containers", "initContainers"] {
        let place = format!("/spec/template/spec/{containers}");
        let Some(list) = object.pointer_mut(&place).and_then(Value::as_array_mut) else { continue };
        for container in list {
            let now = container["image"].as_str().unwrap().to_owned();
            let (name, tag) = now.split_once(':').unwrap_or((&now, "latest"));
            if name == old {
                let name = image["newName"].as_str().unwrap_or(name);
                let tag = image["newTag"].as_str().unwrap_or(tag);
                container["image"] = format!("{name}:{tag}").into();
            }
        }
    }
}

/// Whether there is a kubectl to run, unless `KUBECTL_TESTS` is `skip`. If it is `required`, a missing
/// one is a failure.
pub fn has_kubectl() -> bool {
    let wish = env::var("KUBECTL_TESTS").unwrap_or_default();
    let found = Command::new("kubectl").args(["version", "--client"]).output();
    let is_there = found.is_ok_and(|done| done.status.success());
    assert!(is_there || wish != "required", "there is no kubectl: hack/setup client installs it");
    if wish == "skip" || !is_there {
        eprintln!("skipped: there is no kubectl, which hack/setup client installs");
    }
    is_there && wish != "skip"
}

/// The objects that `kubectl kustomize` makes, without the hashes in names; `None` without kubectl.
pub fn by_kubectl(directory: &Path) -> Option<Vec<Value>> {
    if !has_kubectl() {
        return None;
    }
    let done = Command::new("kubectl").arg("kustomize").arg(directory).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    const GENERATED: &str = "kube-ipvs-api-server-";
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines().map(|line| match line.split_once(GENERATED) {
        Some((before, _)) => format!("{before}{}", GENERATED.trim_end_matches('-')),
        None => line.to_owned(),
    });
    Some(documents_of(&lines.collect::<Vec<_>>().join("\n")).unwrap())
}

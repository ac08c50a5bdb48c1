//! The objects of all files, and the effects of file changes on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kube_ipvs_core::model::{Change, Event, Interner, Name};

use super::ManifestError;
use super::file::{Objects, parse};
use crate::source::directory::Cause;

/// Detects file changes without reading: device, inode, size and times.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(about: &Metadata) -> Stamp {
    let modified = (about.mtime(), about.mtime_nsec());
    let changed = (about.ctime(), about.ctime_nsec());
    (about.dev(), about.ino(), about.len(), modified, changed)
}

#[derive(Debug, Default)]
struct Layer {
    stamp: Option<Stamp>,
    /// The stamp of a change without a notification.
    seen: Option<Stamp>,
    /// The last valid content.
    objects: Objects,
}

/// The objects of all files under a directory. If several files contain the same object, the last
/// file in the order of paths takes precedence.
#[derive(Debug)]
pub struct Catalog {
    directory: PathBuf,
    node_name: Name,
    files: BTreeMap<PathBuf, Layer>,
    /// The effective objects of all files.
    merged: Objects,
}

impl Catalog {
    #[must_use]
    pub fn new(directory: &Path, node_name: &Name) -> Self {
        Self {
            directory: directory.to_owned(),
            node_name: Name::clone(node_name),
            files: BTreeMap::new(),
            merged: Objects::default(),
        }
    }

    /// Forgets the stamp of a file, so that it is read again.
    pub fn invalidate(&mut self, path: &Path) {
        if let Some(layer) = self.files.get_mut(path) {
            layer.stamp = None;
        }
    }

    /// Reads the changed files. Returns the changes of the objects and the problems; an invalid
    /// file keeps its last valid content. Files in `unfinished` are skipped.
    ///
    /// # Errors
    ///
    /// If the directory itself cannot be read.
    pub fn refresh(
        &mut self,
        cause: Cause,
        names: &mut Interner,
        unfinished: &BTreeSet<PathBuf>,
    ) -> Result<(Vec<Event>, Vec<String>), ManifestError> {
        let mut found = BTreeMap::new();
        find(&self.directory, &mut found, &mut BTreeSet::new())
            .map_err(|source| ManifestError::Read { path: self.directory.clone(), source })?;
        let mut touched = Objects::default();
        let mut problems = Vec::new();
        let gone: Vec<_> =
            self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
        for path in gone {
            touched.overlay(self.files.remove(&path).unwrap_or_default().objects);
        }
        for (path, stamp) in found {
            if unfinished.contains(&path) {
                continue;
            }
            let layer = self.files.entry(path.clone()).or_default();
            if layer.stamp == Some(stamp) {
                layer.seen = None;
                continue;
            }
            if cause == Cause::Look && layer.seen.replace(stamp) != Some(stamp) {
                continue;
            }
            *layer =
                Layer { stamp: Some(stamp), seen: None, objects: mem::take(&mut layer.objects) };
            let read = fs::read_to_string(&path)
                .map_err(|source| ManifestError::Read { path: path.clone(), source })
                .and_then(|text| parse(&path, &text, names));
            match read {
                Ok((objects, rejections)) => {
                    let named = |rejection| format!("{}: {rejection}", path.display());
                    problems.extend(rejections.into_iter().map(named));
                    touched.overlay(objects.clone());
                    touched.overlay(mem::replace(&mut layer.objects, objects));
                }
                Err(error) => {
                    problems.push(format!("{error}; its last valid content stays in use"))
                }
            }
        }
        let events = self.merge(touched, &mut problems);
        Ok((events, problems))
    }

    /// Returns whether changed files wait for the next check.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.files.values().any(|layer| layer.seen.is_some())
    }

    /// Returns all objects as complete lists.
    #[must_use]
    pub fn everything(&self) -> Vec<Event> {
        let Objects { services, slices, nodes, service_cidrs } = &self.merged;
        vec![
            Event::Node(nodes.get(&self.node_name).cloned()),
            Event::ServiceCidrs(Change::Replace(service_cidrs.values().cloned().collect())),
            Event::Service(Change::Replace(services.values().cloned().collect())),
            Event::Slice(Change::Replace(slices.values().cloned().collect())),
        ]
    }

    /// Recomputes the effective objects of the touched keys.
    fn merge(&mut self, touched: Objects, problems: &mut Vec<String>) -> Vec<Event> {
        let mut events = Vec::new();
        let Self { files, merged, node_name, .. } = self;
        let layers = || files.values().rev().map(|layer| &layer.objects);
        for cidr in touched.service_cidrs.into_keys() {
            let found = holders(files, |objects| objects.service_cidrs.contains_key(&cidr));
            problems.extend(duplicate("ServiceCIDR", &cidr, &found));
            let now = layers().find_map(|objects| objects.service_cidrs.get(&cidr));
            events.extend(update(&mut merged.service_cidrs, cidr, now).map(Event::ServiceCidrs));
        }
        for name in touched.nodes.into_keys() {
            let found = holders(files, |objects| objects.nodes.contains_key(&name));
            problems.extend(duplicate("Node", &name, &found));
            let now = layers().find_map(|objects| objects.nodes.get(&name)).cloned();
            if name == *node_name && merged.nodes.get(&name) != now.as_ref() {
                events.push(Event::Node(now.clone()));
            }
            match now {
                Some(node) => merged.nodes.insert(name, node),
                None => merged.nodes.remove(&name),
            };
        }
        for key in touched.services.into_keys() {
            let found = holders(files, |objects| objects.services.contains_key(&key));
            problems.extend(duplicate("Service", &key, &found));
            let now = layers().find_map(|objects| objects.services.get(&key));
            events.extend(update(&mut merged.services, key, now).map(Event::Service));
        }
        for key in touched.slices.into_keys() {
            let found = holders(files, |objects| objects.slices.contains_key(&key));
            problems.extend(duplicate("EndpointSlice", &key, &found));
            let now = layers().find_map(|objects| objects.slices.get(&key));
            events.extend(update(&mut merged.slices, key, now).map(Event::Slice));
        }
        events
    }
}

impl Objects {
    fn overlay(&mut self, other: Self) {
        self.services.extend(other.services);
        self.slices.extend(other.slices);
        self.nodes.extend(other.nodes);
        self.service_cidrs.extend(other.service_cidrs);
    }
}

/// Updates the effective object and returns the change.
fn update<K: Ord + Clone, T: PartialEq + Clone>(
    merged: &mut BTreeMap<K, T>,
    key: K,
    now: Option<&T>,
) -> Option<Change<K, T>> {
    if merged.get(&key) == now {
        return None;
    }
    Some(match now {
        Some(object) => {
            merged.insert(key, object.clone());
            Change::Apply(object.clone())
        }
        None => {
            merged.remove(&key);
            Change::Delete(key)
        }
    })
}

/// Returns the files that contain an object, in the order of paths.
fn holders(files: &BTreeMap<PathBuf, Layer>, holds: impl Fn(&Objects) -> bool) -> Vec<&Path> {
    let layers = files.iter().filter(|(_, layer)| holds(&layer.objects));
    layers.map(|(path, _)| path.as_path()).collect()
}

/// Describes an object that several files contain.
fn duplicate(kind: &str, name: &dyn Display, holders: &[&Path]) -> Option<String> {
    let [others @ .., last] = holders else { return None };
    let other = others.last()?;
    Some(format!(
        "{}: {kind} {name} is also in {}: this file takes precedence",
        last.display(),
        other.display()
    ))
}

/// Finds the manifest files under a directory. `seen` contains the visited directories, because
/// links may form a cycle.
fn find(
    directory: &Path,
    found: &mut BTreeMap<PathBuf, Stamp>,
    seen: &mut BTreeSet<(u64, u64)>,
) -> Result<(), io::Error> {
    let about = fs::metadata(directory)?;
    if !seen.insert((about.dev(), about.ino())) {
        return Ok(());
    }
    let entries: BTreeSet<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    for path in entries {
        // Names with a leading dot belong to editors, or to the mount of a ConfigMap.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_dir() {
            // The directory may vanish meanwhile.
            let _ = find(&path, found, seen);
        } else if is_manifest(&path) {
            found.insert(path, stamp(&about));
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

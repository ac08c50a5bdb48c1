//! The objects of all files, and what a change to the files changes of them.

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

/// How a file is told to have changed without being read: its inode, size and times.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(about: &Metadata) -> Stamp {
    let modified = (about.mtime(), about.mtime_nsec());
    let changed = (about.ctime(), about.ctime_nsec());
    (about.dev(), about.ino(), about.len(), modified, changed)
}

/// One file.
#[derive(Debug, Default)]
struct Layer {
    stamp: Option<Stamp>,
    /// How it looks since it has changed unheard.
    seen: Option<Stamp>,
    /// Its last good content.
    objects: Objects,
}

/// The objects of all files under a directory. An object that several files have is taken from
/// the last of them in the order of their paths.
#[derive(Debug)]
pub struct Catalog {
    directory: PathBuf,
    node_name: Name,
    files: BTreeMap<PathBuf, Layer>,
    /// What counts of all files.
    merged: Objects,
}

impl Catalog {
    /// Nothing read yet.
    #[must_use]
    pub fn new(directory: &Path, node_name: &Name) -> Self {
        Self {
            directory: directory.to_owned(),
            node_name: Name::clone(node_name),
            files: BTreeMap::new(),
            merged: Objects::default(),
        }
    }

    /// Forgets when a file was read, so that it is read again even if it looks the same.
    pub fn suspect(&mut self, path: &Path) {
        if let Some(layer) = self.files.get_mut(path) {
            layer.stamp = None;
        }
    }

    /// Reads the files that have changed. Returns what changed of the objects, and what could not
    /// be used; a file that is broken keeps its last good content. Files that are being written
    /// are left for later.
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
                    let told = |rejection| format!("{}: {rejection}", path.display());
                    problems.extend(rejections.into_iter().map(told));
                    touched.overlay(objects.clone());
                    touched.overlay(mem::replace(&mut layer.objects, objects));
                }
                Err(error) => problems.push(format!("{error}; its last good content stays")),
            }
        }
        let events = self.merge(touched, &mut problems);
        Ok((events, problems))
    }

    /// Whether some have changed and are left until they are looked at again.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.files.values().any(|layer| layer.seen.is_some())
    }

    /// Everything there is, as complete lists.
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

    /// Works out anew what counts for the touched keys.
    fn merge(&mut self, touched: Objects, problems: &mut Vec<String>) -> Vec<Event> {
        let mut events = Vec::new();
        let Self { files, merged, node_name, .. } = self;
        let layers = || files.values().rev().map(|layer| &layer.objects);
        for cidr in touched.service_cidrs.into_keys() {
            let found = holders(files, |objects| objects.service_cidrs.contains_key(&cidr));
            problems.extend(rivals("ServiceCIDR", &cidr, &found));
            let now = layers().find_map(|objects| objects.service_cidrs.get(&cidr));
            events.extend(settle(&mut merged.service_cidrs, cidr, now).map(Event::ServiceCidrs));
        }
        for name in touched.nodes.into_keys() {
            let found = holders(files, |objects| objects.nodes.contains_key(&name));
            problems.extend(rivals("Node", &name, &found));
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
            problems.extend(rivals("Service", &key, &found));
            let now = layers().find_map(|objects| objects.services.get(&key));
            events.extend(settle(&mut merged.services, key, now).map(Event::Service));
        }
        for key in touched.slices.into_keys() {
            let found = holders(files, |objects| objects.slices.contains_key(&key));
            problems.extend(rivals("EndpointSlice", &key, &found));
            let now = layers().find_map(|objects| objects.slices.get(&key));
            events.extend(settle(&mut merged.slices, key, now).map(Event::Slice));
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

/// Makes `merged` hold what is so now; says what that changes.
fn settle<K: Ord + Clone, T: PartialEq + Clone>(
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

/// The files that hold an object, in the order of their paths.
fn holders(files: &BTreeMap<PathBuf, Layer>, holds: impl Fn(&Objects) -> bool) -> Vec<&Path> {
    let layers = files.iter().filter(|(_, layer)| holds(&layer.objects));
    layers.map(|(path, _)| path.as_path()).collect()
}

/// What there is to tell of an object that several files hold.
fn rivals(kind: &str, name: &dyn Display, holders: &[&Path]) -> Option<String> {
    let [others @ .., last] = holders else { return None };
    let other = others.last()?;
    Some(format!(
        "{}: {kind} {name} is in {} too: this one counts",
        last.display(),
        other.display()
    ))
}

/// Finds the files of manifests under a directory. `seen` holds the directories looked into: a
/// link may lead in a circle.
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
        // A name with a leading dot is an editor's, or the hidden half of a mounted ConfigMap.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_dir() {
            // A directory that vanishes meanwhile has nothing to tell.
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

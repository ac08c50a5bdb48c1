//! The objects of all files, and the effects of file changes on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kube_ipvs_core::model::{Change, Event, Interner, Name};

use super::ManifestError;
use super::file::{Objects, parse};
use crate::source::directory::Cause;
use crate::source::wire::{NodeObject, Resource};

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
#[derive(Debug, Default)]
pub(super) struct Catalog {
    directory: PathBuf,
    node_name: Name,
    names: Interner,
    files: BTreeMap<PathBuf, Layer>,
    /// The effective objects of all files.
    merged: Objects,
}

impl Catalog {
    pub(super) fn new(directory: &Path, node_name: &Name) -> Self {
        Self {
            directory: directory.to_owned(),
            node_name: Name::clone(node_name),
            ..Self::default()
        }
    }

    /// Forgets the stamp of a file, so that it is read again.
    pub(super) fn invalidate(&mut self, path: &Path) {
        if let Some(layer) = self.files.get_mut(path) {
            layer.stamp = None;
        }
    }

    /// Reads the changed files. Returns the changes of the objects and the problems; an invalid
    /// file keeps its last valid content. Files in `unfinished` are skipped. Fails if the directory
    /// itself cannot be read.
    pub(super) fn refresh(
        &mut self,
        cause: Cause,
        unfinished: &BTreeSet<PathBuf>,
    ) -> Result<(Vec<Event>, Vec<String>), ManifestError> {
        let mut found = BTreeMap::new();
        find(&self.directory, &mut found, &mut BTreeSet::new())
            .map_err(|source| ManifestError::Read { path: self.directory.clone(), source })?;
        let mut touched = BTreeSet::new();
        let mut problems = Vec::new();
        self.files.retain(|path, layer| {
            let stays = found.contains_key(path);
            if !stays {
                touched.extend(mem::take(&mut layer.objects).into_keys());
            }
            stays
        });
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
            (layer.stamp, layer.seen) = (Some(stamp), None);
            let read = fs::read_to_string(&path)
                .map_err(|source| ManifestError::Read { path: path.clone(), source })
                .and_then(|text| parse(&path, &text, &mut self.names));
            match read {
                Ok((objects, rejections)) => {
                    let named = |rejection| format!("{}: {rejection}", path.display());
                    problems.extend(rejections.into_iter().map(named));
                    touched.extend(objects.keys().cloned());
                    touched.extend(mem::replace(&mut layer.objects, objects).into_keys());
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
    pub(super) fn is_unsettled(&self) -> bool {
        self.files.values().any(|layer| layer.seen.is_some())
    }

    /// Returns all objects as complete lists.
    pub(super) fn everything(&self) -> Vec<Event> {
        let mut node = None;
        let (mut cidrs, mut services, mut slices) = (Vec::new(), Vec::new(), Vec::new());
        for object in self.merged.values() {
            match &object.apply {
                Event::Node(Some(own)) if own.name == self.node_name => node = Some(own.clone()),
                Event::ServiceCidrs(Change::Apply(cidr)) => cidrs.push(cidr.clone()),
                Event::Service(Change::Apply(service)) => services.push(service.clone()),
                Event::Slice(Change::Apply(slice)) => slices.push(slice.clone()),
                _ => {}
            }
        }
        vec![
            Event::Node(node),
            Event::ServiceCidrs(Change::Replace(cidrs)),
            Event::Service(Change::Replace(services)),
            Event::Slice(Change::Replace(slices)),
        ]
    }

    /// Recomputes the effective objects of the touched keys, Services before their slices.
    fn merge(
        &mut self,
        touched: BTreeSet<(&'static str, String)>,
        problems: &mut Vec<String>,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for key in touched.into_iter().rev() {
            let layers = self.files.iter();
            let holders: Vec<_> =
                layers.filter_map(|(path, layer)| Some((path, layer.objects.get(&key)?))).collect();
            if let [.., (other, _), (last, _)] = holders.as_slice() {
                problems.push(format!(
                    "{}: {} {} is also in {}: this file takes precedence",
                    last.display(),
                    key.0,
                    key.1,
                    other.display()
                ));
            }
            let is_other_node = key.0 == NodeObject::KIND && key.1 != *self.node_name;
            let event = match holders.last() {
                Some((_, now)) if self.merged.get(&key) == Some(*now) => continue,
                Some((_, now)) => {
                    self.merged.insert(key, (*now).clone());
                    now.apply.clone()
                }
                None => match self.merged.remove(&key) {
                    Some(before) => before.delete,
                    None => continue,
                },
            };
            if !is_other_node {
                events.push(event);
            }
        }
        events
    }
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

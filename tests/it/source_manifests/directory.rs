//! A directory of manifests and what is told of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use kube_ipvs::source::manifests::{follow, load};
use kube_ipvs_core::model::{
    Change, EndpointSlice, Event, Name, Node, Service, ServiceCidr, ServiceKey, SliceKey,
};
use tempfile::TempDir;

/// A machine that is busy with other things may be slow.
const PATIENT: Duration = Duration::from_secs(20);

/// The manifest of a Service.
pub(crate) fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: default }}\n\
         spec:\n  clusterIP: {ip}\n  ports: [{{ name: http, port: 80 }}]\n"
    )
}

/// The objects that there are.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    pub(crate) slices: BTreeMap<SliceKey, EndpointSlice>,
    pub(crate) cidrs: BTreeMap<Name, ServiceCidr>,
    pub(crate) node: Option<Node>,
    /// How many changes were told, a complete list being one.
    pub(crate) told: usize,
}

impl Objects {
    /// Reads a directory once.
    pub(crate) fn load(directory: &Path) -> (Self, Vec<String>) {
        let (events, problems) = load(directory, &"node-1".into()).unwrap();
        let mut objects = Self::default();
        events.into_iter().for_each(|event| objects.take(event));
        (objects, problems)
    }

    pub(crate) fn service_names(&self) -> Vec<&str> {
        self.services.keys().map(ServiceKey::name).collect()
    }

    pub(crate) fn service(&self, name: &str) -> &Service {
        &self.services[&ServiceKey::new("default", name)]
    }

    fn take(&mut self, event: Event) {
        self.told += 1;
        match event {
            Event::Service(change) => apply(&mut self.services, change, |s| s.key.clone()),
            Event::Slice(change) => apply(&mut self.slices, change, |s| s.key.clone()),
            Event::ServiceCidrs(change) => apply(&mut self.cidrs, change, |c| c.name.clone()),
            Event::Node(node) => self.node = node,
            _ => panic!("not this source's to tell"),
        }
    }
}

fn apply<K: Ord, T>(objects: &mut BTreeMap<K, T>, change: Change<K, T>, key: impl Fn(&T) -> K) {
    match change {
        Change::Apply(object) => {
            objects.insert(key(&object), object);
        }
        Change::Delete(key) => {
            objects.remove(&key);
        }
        Change::Replace(all) => *objects = all.into_iter().map(|o| (key(&o), o)).collect(),
    }
}

/// A directory that is watched.
pub(crate) struct Watched {
    pub(crate) folder: TempDir,
    pub(crate) now: Objects,
    events: Receiver<Event>,
}

impl Watched {
    /// A directory with these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self::of(folder)
    }

    pub(crate) fn of(folder: TempDir) -> Self {
        let directory = folder.path().to_owned();
        Self::at(folder, &directory)
    }

    /// A directory within one that is not watched.
    pub(crate) fn under(folder: TempDir, name: &str) -> Self {
        let directory = folder.path().join(name);
        Self::at(folder, &directory)
    }

    fn at(folder: TempDir, directory: &Path) -> Self {
        let (sender, events) = mpsc::channel();
        let deliver = move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        follow(directory, &"node-1".into(), deliver).unwrap();
        let mut watched = Self { folder, now: Objects::default(), events };
        watched.until("all kinds are listed", |now| now.told == 4);
        watched
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Waits until the objects are so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Objects) -> bool) {
        let deadline = Instant::now() + PATIENT;
        while !is_so(&self.now) {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(wait) {
                Ok(event) => self.now.take(event),
                Err(_) => panic!("never: {what}; {:?}", self.now.service_names()),
            }
        }
    }

    #[track_caller]
    pub(crate) fn until_services(&mut self, names: &[&str]) {
        self.until(&format!("the Services are {names:?}"), |now| now.service_names() == names);
    }

    /// What is told until nothing more comes for a while.
    pub(crate) fn settle(&mut self) -> usize {
        let before = self.now.told;
        while let Ok(event) = self.events.recv_timeout(Duration::from_millis(250)) {
            self.now.take(event);
        }
        self.now.told - before
    }
}

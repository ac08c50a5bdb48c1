//! What the source under test has told.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kube_ipvs::source::kubernetes::{self, ApiAccess, Timeouts};
use kube_ipvs_core::model::{
    Change, EndpointSlice, Event, Name, Node, Service, ServiceCidr, ServiceKey, Settings, SliceKey,
};

use crate::api::ApiServer;

/// A machine that is busy with other things may be slow.
const PATIENT: Duration = Duration::from_secs(20);

/// Waits that a test does not notice.
pub(crate) fn quick() -> Timeouts {
    Timeouts {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        absent_wait: Duration::from_millis(50),
        silence: Duration::from_secs(10),
        silence_in_list: Duration::from_secs(10),
        ..Timeouts::default()
    }
}

/// The source, running, and the objects that there are by what it has told.
pub(crate) struct Followed {
    events: Receiver<Event>,
    unheard: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    pub(crate) slices: BTreeMap<SliceKey, EndpointSlice>,
    pub(crate) cidrs: BTreeMap<Name, ServiceCidr>,
    pub(crate) node: Option<Node>,
    /// How many complete lists came, by kind: Services, slices, ServiceCIDRs.
    pub(crate) lists: [usize; 3],
    pub(crate) node_told: bool,
}

impl Followed {
    pub(crate) fn new(server: &ApiServer) -> Self {
        Self::with(server, quick())
    }

    pub(crate) fn with(server: &ApiServer, patience: Timeouts) -> Self {
        Self::reaching(ApiAccess { kubeconfig: None, master: Some(server.url()) }, patience)
    }

    pub(crate) fn reaching(reach: ApiAccess, patience: Timeouts) -> Self {
        Self::settled(reach, patience, Settings::for_node("node-1"))
    }

    /// As a proxy of a name sees the cluster.
    pub(crate) fn named(server: &ApiServer, name: &str) -> Self {
        let settings =
            Settings { service_proxy_name: Some(name.into()), ..Settings::for_node("node-1") };
        Self::settled(ApiAccess { kubeconfig: None, master: Some(server.url()) }, quick(), settings)
    }

    fn settled(reach: ApiAccess, patience: Timeouts, settings: Settings) -> Self {
        let (sender, events) = mpsc::channel();
        let unheard = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::clone(&unheard);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = kubernetes::connect(&reach).await.unwrap();
                let deliver = |event| {
                    if hung_up.load(Ordering::Relaxed) || sender.send(event).is_err() {
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                };
                kubernetes::run(client, &settings, patience, deliver, |_, _| {}).await;
            });
        });
        Self {
            events,
            unheard,
            thread: Some(thread),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            cidrs: BTreeMap::new(),
            node: None,
            lists: [0; 3],
            node_told: false,
        }
    }

    /// Waits until the objects are so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENT;
        while !is_so(self) {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => panic!("never: {what}; {}", self.summary()),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before: {what}"),
            }
        }
    }

    /// Waits until every kind was listed once.
    #[track_caller]
    pub(crate) fn until_synced(&mut self) {
        self.until("everything is listed", |now| {
            now.lists.iter().all(|lists| *lists > 0) && now.node_told
        });
    }

    #[track_caller]
    pub(crate) fn until_services(&mut self, names: &[&str]) {
        self.until(&format!("the Services are {names:?}"), |now| now.service_names() == names);
    }

    /// Takes in what has been told until nothing more comes for a while.
    pub(crate) fn settle(&mut self, quiet: Duration) {
        while let Ok(event) = self.events.recv_timeout(quiet) {
            self.take(event);
        }
    }

    pub(crate) fn service_names(&self) -> Vec<&str> {
        self.services.keys().map(ServiceKey::name).collect()
    }

    /// Stops listening; makes an event, which must end the source.
    pub(crate) fn hang_up(mut self, make_event: impl FnOnce()) {
        self.unheard.store(true, Ordering::Relaxed);
        make_event();
        self.thread.take().unwrap().join().unwrap();
    }

    fn summary(&self) -> String {
        format!(
            "{:?}, {} slices, {} CIDRs, node {:?}, lists {:?}",
            self.service_names(),
            self.slices.len(),
            self.cidrs.len(),
            self.node,
            self.lists,
        )
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Service(change) => {
                let key = |service: &Service| service.key.clone();
                apply(&mut self.services, change, key, &mut self.lists[0]);
            }
            Event::Slice(change) => {
                let key = |slice: &EndpointSlice| slice.key.clone();
                apply(&mut self.slices, change, key, &mut self.lists[1]);
            }
            Event::ServiceCidrs(change) => {
                let key = |cidr: &ServiceCidr| cidr.name.clone();
                apply(&mut self.cidrs, change, key, &mut self.lists[2]);
            }
            Event::Node(node) => {
                self.node = node;
                self.node_told = true;
            }
            _ => panic!("not this source's to tell"),
        }
    }
}

fn apply<K: Ord, T>(
    objects: &mut BTreeMap<K, T>,
    change: Change<K, T>,
    key: impl Fn(&T) -> K,
    lists: &mut usize,
) {
    match change {
        Change::Apply(object) => {
            objects.insert(key(&object), object);
        }
        Change::Delete(key) => {
            objects.remove(&key);
        }
        Change::Replace(all) => {
            *lists += 1;
            let count = all.len();
            *objects = all.into_iter().map(|object| (key(&object), object)).collect();
            assert_eq!(objects.len(), count, "a list mentions each object once");
        }
    }
}

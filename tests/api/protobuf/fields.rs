//! Fields and their numbers, of what objects in tests have: from `generated.proto` of each API group.

/// The fields of a message, in the order of their numbers.
pub type Message = &'static [Field];

pub struct Field {
    /// In JSON.
    pub name: &'static str,
    pub number: u32,
    pub kind: Kind,
    /// Whether it is written even where it is empty: it is no pointer.
    pub is_always: bool,
    /// Whether it is a list.
    pub is_list: bool,
}

#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Number,
    Flag,
    /// From texts to texts.
    Map,
    /// RFC 3339 in JSON.
    Time,
    NumberOrText,
    /// JSON within protobuf.
    Json,
    Message(Message),
}

impl Field {
    const fn new(number: u32, name: &'static str, kind: Kind) -> Self {
        Self { name, number, kind, is_always: false, is_list: false }
    }

    const fn always(self) -> Self {
        Self { is_always: true, ..self }
    }

    const fn list(self) -> Self {
        Self { is_list: true, ..self }
    }
}

const fn text(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Text)
}

const fn int(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Number)
}

const fn flag(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Flag)
}

const fn map(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Map)
}

const fn time(number: u32, name: &'static str) -> Field {
    Field::new(number, name, Kind::Time)
}

const fn message(number: u32, name: &'static str, of: Message) -> Field {
    Field::new(number, name, Kind::Message(of))
}

/// The message of the objects of a collection.
pub fn of_collection(path: &str) -> Option<Message> {
    match path {
        super::super::SERVICES => Some(SERVICE),
        super::super::SLICES => Some(SLICE),
        super::super::NODES => Some(NODE),
        super::super::SERVICE_CIDRS => Some(SERVICE_CIDR),
        _ => None,
    }
}

pub const LIST: Message = &[message(1, "metadata", LIST_META).always()];

const LIST_META: Message = &[
    text(1, "selfLink").always(),
    text(2, "resourceVersion").always(),
    text(3, "continue").always(),
    int(4, "remainingItemCount"),
];

pub const STATUS: Message = &[
    message(1, "metadata", LIST_META).always(),
    text(2, "status").always(),
    text(3, "message").always(),
    text(4, "reason").always(),
    message(5, "details", STATUS_DETAILS),
    int(6, "code").always(),
];

const STATUS_DETAILS: Message = &[
    text(1, "name").always(),
    text(2, "group").always(),
    text(3, "kind").always(),
    int(5, "retryAfterSeconds").always(),
    text(6, "uid").always(),
];

const METADATA: Field = message(1, "metadata", OBJECT_META).always();

const OBJECT_META: Message = &[
    text(1, "name").always(),
    text(2, "generateName").always(),
    text(3, "namespace").always(),
    text(4, "selfLink").always(),
    text(5, "uid").always(),
    text(6, "resourceVersion").always(),
    int(7, "generation").always(),
    time(8, "creationTimestamp").always(),
    time(9, "deletionTimestamp"),
    int(10, "deletionGracePeriodSeconds"),
    map(11, "labels"),
    map(12, "annotations"),
    message(13, "ownerReferences", OWNER).list(),
    text(14, "finalizers").list(),
    message(17, "managedFields", MANAGED).list(),
];

const OWNER: Message = &[
    text(1, "kind").always(),
    text(3, "name").always(),
    text(4, "uid").always(),
    text(5, "apiVersion").always(),
    flag(6, "controller"),
    flag(7, "blockOwnerDeletion"),
];

const MANAGED: Message = &[
    text(1, "manager").always(),
    text(2, "operation").always(),
    text(3, "apiVersion").always(),
    time(4, "time"),
    text(6, "fieldsType").always(),
    Field::new(7, "fieldsV1", Kind::Json),
    text(8, "subresource").always(),
];

pub const SERVICE: Message =
    &[METADATA, message(2, "spec", SPEC).always(), message(3, "status", SERVICE_STATUS).always()];

const SPEC: Message = &[
    message(1, "ports", SERVICE_PORT).list(),
    map(2, "selector"),
    text(3, "clusterIP").always(),
    text(4, "type").always(),
    text(5, "externalIPs").list(),
    text(7, "sessionAffinity").always(),
    text(8, "loadBalancerIP").always(),
    text(9, "loadBalancerSourceRanges").list(),
    text(10, "externalName").always(),
    text(11, "externalTrafficPolicy").always(),
    int(12, "healthCheckNodePort").always(),
    flag(13, "publishNotReadyAddresses").always(),
    message(14, "sessionAffinityConfig", AFFINITY),
    text(17, "ipFamilyPolicy"),
    text(18, "clusterIPs").list(),
    text(19, "ipFamilies").list(),
    flag(20, "allocateLoadBalancerNodePorts"),
    text(21, "loadBalancerClass"),
    text(22, "internalTrafficPolicy"),
    text(23, "trafficDistribution"),
];

const SERVICE_PORT: Message = &[
    text(1, "name").always(),
    text(2, "protocol").always(),
    int(3, "port").always(),
    Field::new(4, "targetPort", Kind::NumberOrText).always(),
    int(5, "nodePort").always(),
    text(6, "appProtocol"),
];

const AFFINITY: Message = &[message(1, "clientIP", CLIENT_IP)];

const CLIENT_IP: Message = &[int(1, "timeoutSeconds")];

const SERVICE_STATUS: Message = &[message(1, "loadBalancer", LOAD_BALANCER).always()];

const LOAD_BALANCER: Message = &[message(1, "ingress", INGRESS).list()];

const INGRESS: Message = &[text(1, "ip").always(), text(2, "hostname").always(), text(3, "ipMode")];

pub const SLICE: Message = &[
    METADATA,
    message(2, "endpoints", ENDPOINT).list(),
    message(3, "ports", ENDPOINT_PORT).list(),
    text(4, "addressType").always(),
];

const ENDPOINT: Message = &[
    text(1, "addresses").list(),
    message(2, "conditions", CONDITIONS).always(),
    text(3, "hostname"),
    message(4, "targetRef", REFERENCE),
    map(5, "deprecatedTopology"),
    text(6, "nodeName"),
    text(7, "zone"),
    message(8, "hints", HINTS),
];

const CONDITIONS: Message = &[flag(1, "ready"), flag(2, "serving"), flag(3, "terminating")];

const REFERENCE: Message = &[
    text(1, "kind").always(),
    text(2, "namespace").always(),
    text(3, "name").always(),
    text(4, "uid").always(),
    text(5, "apiVersion").always(),
    text(6, "resourceVersion").always(),
    text(7, "fieldPath").always(),
];

const HINTS: Message =
    &[message(1, "forZones", NAMED).list(), message(2, "forNodes", NAMED).list()];

const NAMED: Message = &[text(1, "name").always()];

const ENDPOINT_PORT: Message =
    &[text(1, "name"), text(2, "protocol"), int(3, "port"), text(4, "appProtocol")];

pub const NODE: Message =
    &[METADATA, message(2, "spec", NODE_SPEC).always(), message(3, "status", NODE_STATUS).always()];

const NODE_SPEC: Message = &[
    text(1, "podCIDR").always(),
    text(2, "externalID").always(),
    text(3, "providerID").always(),
    flag(4, "unschedulable").always(),
    message(5, "taints", TAINT).list(),
    text(7, "podCIDRs").list(),
];

const TAINT: Message =
    &[text(1, "key").always(), text(2, "value").always(), text(3, "effect").always()];

const NODE_STATUS: Message = &[
    text(3, "phase").always(),
    message(5, "addresses", ADDRESS).list(),
    message(6, "daemonEndpoints", DAEMONS).always(),
    message(7, "nodeInfo", NODE_INFO).always(),
];

const ADDRESS: Message = &[text(1, "type").always(), text(2, "address").always()];

const DAEMONS: Message = &[message(1, "kubeletEndpoint", DAEMON).always()];

const DAEMON: Message = &[int(1, "Port").always()];

const NODE_INFO: Message = &[
    text(1, "machineID").always(),
    text(2, "systemUUID").always(),
    text(3, "bootID").always(),
    text(4, "kernelVersion").always(),
    text(5, "osImage").always(),
    text(6, "containerRuntimeVersion").always(),
    text(7, "kubeletVersion").always(),
    text(8, "kubeProxyVersion").always(),
    text(9, "operatingSystem").always(),
    text(10, "architecture").always(),
];

pub const SERVICE_CIDR: Message =
    &[METADATA, message(2, "spec", SERVICE_CIDR_SPEC).always(), message(3, "status", &[]).always()];

const SERVICE_CIDR_SPEC: Message = &[text(1, "cidrs").list()];

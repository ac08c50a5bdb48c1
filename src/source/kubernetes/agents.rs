//! The agents of a cluster, asked over HTTP through the API server's port-forward.
//!
//! The agent serves `status` at the loopback address of its node, which a port-forward reaches and the
//! proxy of a pod does not.

use std::io;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, ListParams, Object};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::connect_error::reason;
use crate::answer::{LARGEST_ANSWER, LONGEST_ANSWER, split};

/// How long the way to a pod may take.
const CONNECTS_WITHIN: Duration = Duration::from_secs(30);

/// The reason why an agent gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("the pods of the agent cannot be listed: {}", reason(.0))]
    List(Box<kube::Error>),
    #[error(
        "no port can be forwarded to the pod: {}; this needs the rights to get and create \
         pods/portforward", reason(.0)
    )]
    Forward(Box<kube::Error>),
    #[error(
        "port {port} of the pod does not answer: {reason}; is it the agent's metricsBindAddress?"
    )]
    Read { port: u16, reason: String },
    #[error("the agent answers with status {status}: {message}")]
    Refused { status: u16, message: String },
    /// What answered is not the agent, or an agent of a very different version.
    #[error("what answers at port {port} is not this agent: {reason}")]
    NotOurs { port: u16, reason: String },
}

/// The agent of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AgentPod {
    pub node: String,
    pub pod: String,
}

/// What is read of a pod. All of [`Pod`] would take half a megabyte of the program.
type ListedPod = Object<ListedSpec, ListedStatus>;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedSpec {
    node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ListedStatus {
    phase: Option<String>,
}

/// The agents of a cluster, by the rights of the client.
#[derive(Clone)]
pub struct AgentPods {
    pods: Api<Pod>,
    listed: Api<ListedPod>,
    selector: String,
    /// That of the agents' metrics.
    port: u16,
}

impl AgentPods {
    /// The pods of a namespace with these labels, which serve metrics at `port`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, selector: String, port: u16) -> Self {
        let listed =
            Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<Pod>(&()));
        Self { pods: Api::namespaced(client, namespace), listed, selector, port }
    }

    /// Lists the running agents, of one node or of all, sorted by node.
    ///
    /// # Errors
    ///
    /// If the API server does not list them.
    pub async fn list(&self, node: Option<&str>) -> Result<Vec<AgentPod>, RemoteError> {
        let mut parameters = ListParams::default().labels(&self.selector);
        if let Some(node) = node {
            parameters = parameters.fields(&format!("spec.nodeName={node}"));
        }
        let pods = self.listed.list(&parameters).await;
        let pods = pods.map_err(|error| RemoteError::List(Box::new(error)))?;
        let running = pods.into_iter().filter_map(|pod| {
            let is_running = pod.status.as_ref()?.phase.as_deref() == Some("Running");
            let node = pod.spec.node_name.clone()?;
            is_running.then(|| AgentPod { node, pod: pod.name_any() })
        });
        let mut running: Vec<_> = running.collect();
        running.sort_unstable();
        Ok(running)
    }

    /// Returns what the agent answers to a path, from JSON.
    ///
    /// # Errors
    ///
    /// If it cannot be reached, or does not answer as the agent does.
    pub async fn get<T: DeserializeOwned>(
        &self,
        agent: &AgentPod,
        path: &str,
    ) -> Result<T, RemoteError> {
        let port = self.port;
        let not_ours = |reason: String| RemoteError::NotOurs { port, reason };
        let late = |_| RemoteError::Read { port, reason: "it takes too long".to_owned() };
        let ports = [port];
        let forwarding = self.pods.portforward(&agent.pod, &ports);
        let forwarded = timeout(CONNECTS_WITHIN, forwarding).await.map_err(late)?;
        let mut forwarder = forwarded.map_err(|error| RemoteError::Forward(Box::new(error)))?;
        let stream = forwarder.take_stream(port).ok_or_else(|| not_ours("no stream".to_owned()))?;
        let refusal = forwarder.take_error(port);
        let answer = timeout(LONGEST_ANSWER, exchange(stream, path)).await.map_err(late)?;
        // The reason of the kubelet, if it could not connect.
        let reason = match (&answer, refusal) {
            (Ok(answer), Some(refusal)) if answer.is_empty() => refusal.await,
            _ => None,
        };
        forwarder.abort();
        let answer = match (answer, reason) {
            (_, Some(reason)) => return Err(RemoteError::Read { port, reason }),
            (Err(error), _) => return Err(RemoteError::Read { port, reason: error.to_string() }),
            (Ok(answer), None) => answer,
        };
        let body = match split(&answer) {
            Some((200, body)) => body,
            Some((status, body)) => {
                let message = String::from_utf8_lossy(body).trim().to_owned();
                return Err(RemoteError::Refused { status, message });
            }
            None => return Err(not_ours("not an HTTP answer".to_owned())),
        };
        serde_json::from_slice(body).map_err(|error| not_ours(error.to_string()))
    }
}

/// Asks in HTTP/1.0, whose answers come whole, and reads until the answer is complete or the stream
/// ends.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while split(&answer).is_none() && stream.read_buf(&mut answer).await? > 0 {
        if answer.len() > LARGEST_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
    }
    Ok(answer)
}

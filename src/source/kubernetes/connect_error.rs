//! Why there is no client of the API server, in the operator's words: the library's are about its own code.

use std::io;
use std::path::{Path, PathBuf};

use kube::client::AuthError;
use kube::config::{InClusterError, KubeconfigError, LoadDataError};
use kube_ipvs_core::model::with_causes;

use crate::yaml;

/// Where the kubelet puts what a pod needs of its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const NAME_A_FILE: &str =
    "name a kubeconfig by --kubeconfig, or by clientConnection.kubeconfig in the file of --config";

/// The reason why no client can be created.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{path}: {reason}", path = path.display(), reason = of_kubeconfig(error))]
    Kubeconfig { path: PathBuf, error: Box<KubeconfigError> },
    /// Without the excerpt of the file that the library's error has: the file has secrets.
    #[error("{path} is not a kubeconfig: {reason}", path = path.display())]
    NoKubeconfig { path: PathBuf, reason: String },
    #[error("cannot read the kubeconfig {path}: {source}", path = path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}", of_pod(.0))]
    InCluster(InClusterError),
    #[error("--master {url:?}: not a URL such as https://10.0.0.1:6443")]
    Master { url: String },
    #[error("the API server cannot be reached through its proxy: {reason}")]
    Proxy { reason: &'static str },
    /// The credentials or certificates are invalid.
    #[error("the API server's client cannot be set up: {}", reason(.0))]
    Client(Box<kube::Error>),
}

impl ConnectError {
    pub(super) fn kubeconfig(path: &Path, error: KubeconfigError) -> Self {
        match error {
            KubeconfigError::ReadConfig(source, path) => Self::Unreadable { path, source },
            KubeconfigError::Parse(error) => {
                Self::NoKubeconfig { path: path.to_owned(), reason: yaml::reason(&error) }
            }
            error => Self::Kubeconfig { path: path.to_owned(), error: Box::new(error) },
        }
    }
}

fn of_kubeconfig(error: &KubeconfigError) -> String {
    use KubeconfigError as Why;
    match error {
        Why::CurrentContextNotSet => {
            "it has no current-context: set one by `kubectl config use-context NAME`".to_owned()
        }
        Why::LoadContext(name) => format!(
            "it has no context {name:?}: `kubectl config get-contexts` lists those that it has"
        ),
        Why::LoadClusterOfContext(name) => {
            format!("it has no cluster {name:?}, which its context names")
        }
        Why::FindPath => "there is no home directory that has one: set KUBECONFIG".to_owned(),
        Why::KindMismatch | Why::ApiVersionMismatch => {
            "the files of KUBECONFIG differ in kind or apiVersion: name one of them".to_owned()
        }
        Why::MissingClusterUrl | Why::ParseClusterUrl(_) => {
            "its cluster needs a server that is a URL such as https://10.0.0.1:6443".to_owned()
        }
        Why::LoadCertificateAuthority(data) => of_data("certificate-authority", data),
        Why::LoadClientCertificate(data) => of_data("client-certificate", data),
        Why::LoadClientKey(data) => of_data("client-key", data),
        Why::ParseCertificates(cause) => {
            format!("its certificate-authority is not in PEM: {cause}")
        }
        other => other.to_string(),
    }
}

/// What is wrong with a field, or with the field of the same name and `-data`.
fn of_data(field: &str, error: &LoadDataError) -> String {
    match error {
        LoadDataError::DecodeBase64(cause) => format!("{field}-data is not in base64: {cause}"),
        LoadDataError::ReadFile(cause, path) => {
            format!("cannot read {path}, which {field} names: {cause}", path = path.display())
        }
        LoadDataError::NoBase64DataOrFile => format!("neither {field} nor {field}-data is there"),
    }
}

/// Returns why a request to the API server failed, with the causes, each once.
#[must_use]
pub fn reason(error: &kube::Error) -> String {
    let of_auth = anyhow::Chain::new(error).find_map(|cause| cause.downcast_ref());
    of_auth.map_or_else(|| with_causes(error), of_credentials)
}

/// The standard output of a plugin stays out, because it may be a token, and so does its command line,
/// before which the library puts the variables of its environment.
fn of_credentials(error: &AuthError) -> String {
    match error {
        AuthError::ReadTokenFile(cause, path) => {
            format!("cannot read the token {path}: {cause}", path = path.display())
        }
        AuthError::MissingCommand => "exec of the kubeconfig's user names no command".to_owned(),
        AuthError::AuthExecStart(cause) => {
            format!("the plugin that exec of the kubeconfig's user names does not start: {cause}")
        }
        AuthError::AuthExecRun { cmd: _, out } => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = if said.trim().is_empty() { "nothing" } else { said.trim() };
            format!(
                "the plugin that exec of the kubeconfig's user names fails ({status}) and says: {said}",
                status = out.status
            )
        }
        AuthError::AuthExecParse(cause) => {
            format!("the plugin of exec prints no ExecCredential: {}", yaml::reason(cause))
        }
        other => other.to_string(),
    }
}

fn of_pod(error: &InClusterError) -> String {
    use InClusterError as Why;
    let unreadable = |file: &str, cause: &dyn std::error::Error| {
        format!(
            "{SERVICE_ACCOUNT}/{file} cannot be used: {cause}; let the kubelet mount the token of the \
             service account, or {NAME_A_FILE}"
        )
    };
    match error {
        Why::ReadEnvironmentVariable(_) => format!(
            "this is not a pod with a service account, which has KUBERNETES_SERVICE_HOST and \
             KUBERNETES_SERVICE_PORT: {NAME_A_FILE}"
        ),
        Why::ParseClusterPort(_) => {
            "KUBERNETES_SERVICE_PORT is not a port: set it to the API server's, such as 6443"
                .to_owned()
        }
        Why::ParseClusterUrl(_) => {
            "KUBERNETES_SERVICE_HOST is neither a name nor an address: set it to the API server's"
                .to_owned()
        }
        Why::ReadDefaultNamespace(cause) => unreadable("namespace", cause),
        Why::ReadCertificateBundle(cause) => unreadable("ca.crt", cause),
        Why::ParseCertificates(cause) => unreadable("ca.crt", cause),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::env::VarError;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{ExitStatus, Output};

    use super::*;

    fn not_found() -> io::Error {
        io::Error::from_raw_os_error(2)
    }

    #[test]
    fn an_error_of_a_pod_says_what_to_do() {
        let cases = [
            (InClusterError::ReadEnvironmentVariable(VarError::NotPresent), "this is not a pod"),
            (InClusterError::ReadCertificateBundle(not_found()), "serviceaccount/ca.crt cannot"),
            (InClusterError::ReadDefaultNamespace(not_found()), "serviceaccount/namespace cannot"),
        ];
        for (error, expected) in cases {
            let library = error.to_string();
            let told = ConnectError::InCluster(error).to_string();
            assert!(told.contains(expected) && told.ends_with(NAME_A_FILE), "{told}");
            assert!(!told.contains(&library) && !told.contains("incluster"), "{told}");
        }
        let port = InClusterError::ParseClusterPort("a".parse::<u16>().unwrap_err());
        assert!(ConnectError::InCluster(port).to_string().contains("set it to the API server's"));
    }

    #[test]
    fn an_error_of_a_client_shows_nothing_that_a_plugin_prints() {
        let (stdout, stderr) = (b"s3cret".to_vec(), b"sorry\n".to_vec());
        let output = Output { status: ExitStatus::from_raw(3 << 8), stdout, stderr };
        let failed = || AuthError::AuthExecRun {
            cmd: r#"KEY="s3cret" "plugin""#.to_owned(),
            out: Box::new(output.clone()),
        };
        let cases = [
            (AuthError::ReadTokenFile(not_found(), "/a".into()), "cannot read the token /a: No"),
            (
                AuthError::AuthExecStart(not_found()),
                "the plugin that exec of the kubeconfig's user",
            ),
            (
                failed(),
                "the plugin that exec of the kubeconfig's user names fails (exit status: 3) and says: sorry",
            ),
        ];
        for (error, expected) in cases {
            let told = ConnectError::Client(Box::new(kube::Error::Auth(error))).to_string();
            let expected = format!("the API server's client cannot be set up: {expected}");
            assert!(told.starts_with(&expected) && !told.contains("s3cret"), "{told}");
        }
        // While the agent runs, the library wraps it.
        let later = kube::Error::Service(Box::new(failed()));
        assert!(reason(&later).ends_with("fails (exit status: 3) and says: sorry"), "{later}");
    }

    #[test]
    fn an_error_of_a_kubeconfig_names_the_field() {
        let file = || LoadDataError::ReadFile(not_found(), PathBuf::from("/pki/a.pem"));
        let cases = [
            (KubeconfigError::CurrentContextNotSet, "it has no current-context: set one"),
            (KubeconfigError::LoadContext("a".to_owned()), "it has no context \"a\""),
            (KubeconfigError::LoadClusterOfContext("a".to_owned()), "it has no cluster \"a\""),
            (KubeconfigError::MissingClusterUrl, "its cluster needs a server"),
            (
                KubeconfigError::LoadCertificateAuthority(file()),
                "cannot read /pki/a.pem, which certificate-authority names: No such file",
            ),
            (
                KubeconfigError::LoadClientKey(LoadDataError::NoBase64DataOrFile),
                "neither client-key nor client-key-data is there",
            ),
        ];
        for (error, expected) in cases {
            let library = error.to_string();
            let told = ConnectError::kubeconfig(Path::new("a.conf"), error);
            assert!(told.to_string().starts_with(&format!("a.conf: {expected}")), "{told}");
            assert!(!told.to_string().contains(&library), "{told}");
            // The cause would follow, in the library's words.
            assert!(std::error::Error::source(&told).is_none());
        }
    }
}

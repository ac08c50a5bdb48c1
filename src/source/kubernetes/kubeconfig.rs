//! Lenient reading of a kubeconfig, as in kube-proxy.

use std::fs;
use std::path::Path;

use kube::config::{ExecInteractiveMode, Kubeconfig, KubeconfigError};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, from_str_with_options, options};
use tracing::warn;

use crate::yaml;

/// Reads a file. Of a duplicate key, which the client library rejects, the last value counts.
///
/// # Errors
///
/// The error of the library.
pub(super) fn read(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
    let read = Kubeconfig::read_from(path).or_else(|error| {
        let KubeconfigError::Parse(reason) = &error else { return Err(error) };
        let reason = yaml::reason(reason);
        let kubeconfig = read_leniently(path).ok_or(error)?;
        warn!("{}: {reason}: the last one counts", path.display());
        Ok(kubeconfig)
    });
    read.map(without_terminal)
}

/// Has plugins ask nothing: an agent has no terminal, and what a plugin prints for one would come
/// between the lines of the log.
fn without_terminal(mut kubeconfig: Kubeconfig) -> Kubeconfig {
    let users = kubeconfig.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut());
    for plugin in users.filter_map(|user| user.exec.as_mut()) {
        if plugin.interactive_mode != Some(ExecInteractiveMode::Always) {
            plugin.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
    kubeconfig
}

fn read_leniently(path: &Path) -> Option<Kubeconfig> {
    let text = fs::read_to_string(path).ok()?;
    let options = options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let document: Value = from_str_with_options(&text, options).ok()?;
    // JSON is YAML.
    let mut kubeconfig = Kubeconfig::from_yaml(&document.to_string()).ok()?;
    // Relative paths start at the directory of the file (`clientcmd.ResolveLocalPaths`).
    let directory = path.parent()?;
    let resolve = |file: &mut Option<String>| {
        if let Some(file) = file {
            *file = directory.join(&*file).to_string_lossy().into_owned();
        }
    };
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|it| it.cluster.as_mut()) {
        resolve(&mut cluster.certificate_authority);
    }
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|it| it.auth_info.as_mut()) {
        [&mut user.client_certificate, &mut user.client_key, &mut user.token_file]
            .into_iter()
            .for_each(resolve);
        if let Some(exec) = &mut user.exec
            && exec.command.as_ref().is_some_and(|command| command.contains('/'))
        {
            resolve(&mut exec.command);
        }
    }
    Some(kubeconfig)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::kubernetes::ConnectError;

    const TWICE: &str = "
kind: Config
current-context: node
current-context: node
clusters: [{name: c, cluster: {server: 'https://192.0.2.1:6443', certificate-authority: ca.crt}}]
contexts: [{name: node, context: {cluster: c, user: u}}]
users: [{name: u, user: {client-key: /etc/key, tokenFile: token, exec: {command: plugin}}}]
";

    #[test]
    fn a_duplicate_key_does_not_invalidate_a_kubeconfig() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        let reads = [TWICE.to_owned(), TWICE.replacen("current-context: node\n", "", 1)];
        let [twice, once] = reads.map(|text| -> Value {
            fs::write(&path, text).unwrap();
            serde_json::to_value(read(&path).unwrap()).unwrap()
        });
        assert_eq!(twice, once);
        fs::write(&path, TWICE.replace("clusters: [", "clusters: [[")).unwrap();
        assert!(matches!(read(&path), Err(KubeconfigError::Parse(_))));
    }

    #[test]
    fn an_error_shows_nothing_of_a_kubeconfig() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        for text in
            ["users:\n- user: {token: s3cret\nclusters: [", "users: [{user: {token: [s3cret]}}]"]
        {
            fs::write(&path, text).unwrap();
            let error = ConnectError::kubeconfig(&path, read(&path).unwrap_err()).to_string();
            assert!(error.contains("kubeconfig is not a kubeconfig: "), "{error}");
            assert!(!error.contains("s3cret") && error.lines().count() == 1, "{error}");
        }
    }
}

//! The Kubernetes source against a server that fails in all the ways servers do.

mod connection;
mod costs;
mod encodings;
mod followed;
mod large;
mod proxies;

/// The same against a server of each encoding.
#[path = "."]
mod protobuf {
    use super::followed;
    use crate::api::ApiServer;

    fn server() -> ApiServer {
        ApiServer::start()
    }

    #[path = "extremes.rs"]
    mod extremes;
    #[path = "failures.rs"]
    mod failures;
    #[path = "lists.rs"]
    mod lists;
    #[path = "watches.rs"]
    mod watches;
}

#[allow(clippy::duplicate_mod, reason = "the same tests with another server")]
#[path = "."]
mod json {
    use super::followed;
    use crate::api::{ApiServer, Offer};

    fn server() -> ApiServer {
        let server = ApiServer::start();
        server.set_offer(Offer::Json);
        server
    }

    #[path = "extremes.rs"]
    mod extremes;
    #[path = "failures.rs"]
    mod failures;
    #[path = "lists.rs"]
    mod lists;
    #[path = "watches.rs"]
    mod watches;
}

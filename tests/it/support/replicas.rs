//! Replicas beside one PostgreSQL, where there is one to test on.

use std::sync::Arc;

use super::database;
use super::idp::Idp;
use super::postgres::Scratch;
use super::server::Server;

/// A server with these lines of configuration, on a schema of its own; none where there is no PostgreSQL to test on.
pub(crate) async fn first(toml: &str) -> Option<Server> {
    let (scratch, data) = (Scratch::new().await?, tempfile::tempdir().unwrap());
    database::migrate(data.path(), &scratch.url()).await;
    Some(Server::start_in(Arc::new(data), Idp::start().await, toml).await)
}

/// The TOML that has a replica share the key files of `server`.
pub(crate) fn keys_of(server: &Server) -> String {
    format!("[keys]\nfolder = '{}'", server.data.path().join("data/keys").display())
}

/// Two replicas that share their key files.
pub(crate) async fn two() -> Option<[Server; 2]> {
    let first = first("").await?;
    let second = first.replica(&keys_of(&first)).await.unwrap();
    Some([first, second])
}

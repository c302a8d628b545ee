//! Where the data lies and who owns it.

use std::os::unix::fs::PermissionsExt as _;

use taskgrant::store::Store;
use taskgrant::store::error::StoreError;
use taskgrant::store::folder::Location;

use super::{Deployment, on_both, on_postgres};
use crate::support::postgres::Scratch;

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_data_folder() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let location = Location::Folder(folder.clone());
    let first = Store::open(&location).await.unwrap();
    let error = Store::open(&location).await.unwrap_err();
    assert!(matches!(&error, StoreError::Held { holder, .. } if *holder == std::process::id().to_string()));
    assert!(!error.is_unavailable());
    let mode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for file in ["taskgrant.lock", "taskgrant.db", "taskgrant.db-wal"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    first.close().await;
    drop(first);
    Store::open(&location).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_orderly_end_the_database_file_alone_has_everything() {
    const TOKENS: &str = "SELECT count(*) FROM tokens";
    for _ in 0..5 {
        let (folder, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let d = Deployment::new(Location::Folder(folder.path().to_owned())).await;
        for _ in 0..10 {
            d.done(d.root()).await;
        }
        // Readers that look until the very end, and with them handles that outlive it.
        let readers: Vec<_> = (0..8).map(|_| tokio::spawn(look(d.store.clone()))).collect();
        d.end().await;
        let file = |name: &str| folder.path().join(name);
        assert_eq!(std::fs::metadata(file("taskgrant.db-wal")).map_or(0, |wal| wal.len()), 0);
        std::fs::copy(file("taskgrant.db"), alone.path().join("taskgrant.db")).unwrap();
        let copy = Location::Folder(alone.path().to_owned());
        assert_eq!(super::Raw::connect(&copy).await.number(TOKENS).await, 10);
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

/// Reads until the store is closed.
async fn look(store: Store) {
    while store.objects_current().await.is_ok() && store.head().await.is_ok() {}
}

#[tokio::test]
async fn memory_is_a_whole_store() {
    let d = Deployment::new(Location::Memory).await;
    let root = d.root();
    d.done(root.clone()).await;
    d.done(d.child(&root)).await;
    assert_eq!(d.store.head().await.unwrap().frontier.size(), 2);
    assert!(d.store.is_alive(&root.token).await.unwrap());
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_named() {
    on_both(async |d| {
        let mut raw = d.raw().await;
        raw.execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', TRUE, '', 0)",
        )
        .await;
        // The folder is locked; a copy of the database is not.
        let (location, _copy) = copy(&d.location);
        for error in [Store::open(&location).await, Store::migrate(&location).await].map(Result::unwrap_err) {
            assert!(matches!(error, StoreError::SchemaNewer(9999)), "{error}");
        }
        raw.execute("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    })
    .await;
}

fn copy(location: &Location) -> (Location, Option<tempfile::TempDir>) {
    let Location::Folder(folder) = location else { return (location.clone(), None) };
    let copy = tempfile::tempdir().unwrap();
    for file in ["taskgrant.db", "taskgrant.db-wal"] {
        let from = folder.join(file);
        if from.exists() {
            std::fs::copy(from, copy.path().join(file)).unwrap();
        }
    }
    (Location::Folder(copy.path().to_owned()), Some(copy))
}

#[tokio::test]
async fn a_server_without_the_schema_is_refused_until_it_is_migrated() {
    on_postgres(async |d| {
        let bare = Scratch::new().await.unwrap();
        let location = Location::Postgres(Box::new(bare.options()));
        let error = Store::open(&location).await.unwrap_err();
        assert!(matches!(error, StoreError::SchemaOlder(known) if known >= 9), "{error}");
        Store::migrate(&location).await.unwrap().close().await;
        Store::open(&location).await.unwrap().close().await;
        bare.remove().await;
        assert!(Store::open(&d.location).await.is_ok());
    })
    .await;
}

#[test]
fn a_location_is_a_folder_or_a_known_url() {
    let parse = |text: &str| text.parse::<Location>();
    assert!(matches!(parse("/var/lib/taskgrant"), Ok(Location::Folder(_))));
    assert!(matches!(parse("sqlite::memory:"), Ok(Location::Memory)));
    assert!(matches!(parse("postgres://user:secret@db/x"), Ok(Location::Postgres(_))));
    assert!(!format!("{:?}", parse("postgres://user:secret@db/x").unwrap()).contains("secret"));
    for bad in ["", "mysql://db", "postgres://user:secret@db:port/x"] {
        let error = parse(bad).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

//! Listening on a Unix socket: whose file it is, and what becomes of one that was left behind.

use std::{
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
};

use keyholder::{Instance, StartError};
use server::Listen;
use tempfile::TempDir;

use super::{HOUR, PATIENCE, exchange, get, head, stop};
use crate::harness::TestApp;

async fn on_socket(app: &TestApp, path: &Path) -> Result<Instance, StartError> {
    app.try_node_with(|options| {
        options.listen = Listen::Unix(path.to_owned());
        (options.server.drain_within, options.server.idle_within, options.server.head_within) = (HOUR, HOUR, HOUR);
    })
    .await
}

fn asked(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream, &get("/health/live", "connection: close\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_served_and_is_for_its_owner_and_group() {
    let app = TestApp::start().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("api.sock");
    let node = on_socket(&app, &path).await.unwrap();
    assert_eq!(node.url().scheme(), "unix");
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.mode() & 0o777, 0o660);
    assert!(asked(&path).starts_with("HTTP/1.1 200"), "{}", asked(&path));

    // A living process keeps its socket, and the other one says what is in its way.
    let Err(refused) = on_socket(&app, &path).await else { panic!("two listen on one socket") };
    assert_eq!(refused.exit_code(), 6);
    assert!(refused.to_string().ends_with("another process has the socket"), "{refused}");
    assert!(asked(&path).starts_with("HTTP/1.1 200"));

    // A connection on which nothing is asked does not keep it from stopping, and its file goes with it.
    let mut kept = UnixStream::connect(&path).unwrap();
    kept.write_all(&get("/health/live", "")).unwrap();
    assert!(head(&mut kept).starts_with("HTTP/1.1 200"));
    stop("an idle Unix connection", node).await;
    assert!(!path.exists(), "the file stays behind");
    assert!(kept.read_to_end(&mut Vec::new()).is_ok());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_is_replaced_and_nothing_else_is() {
    let app = TestApp::start().await;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead process leaves its socket");
    let node = on_socket(&app, &path).await.unwrap();
    assert!(asked(&path).starts_with("HTTP/1.1 200"));
    node.stop().await;

    std::fs::write(&path, "somebody's work").unwrap();
    let Err(refused) = on_socket(&app, &path).await else { panic!("a file was taken for a socket") };
    assert!(refused.to_string().ends_with("there is a file, and it is no socket"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's work");
    let nowhere = folder.path().join("none/api.sock");
    let Err(refused) = on_socket(&app, &nowhere).await else { panic!("it listens nowhere") };
    assert!(refused.to_string().ends_with("its folder does not exist"), "{refused}");
    app.stop().await;
}

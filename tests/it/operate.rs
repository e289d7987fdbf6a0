//! What an operator runs beside a server, or instead of one.

use showcart::db::{Db, Turn, query};

use crate::harness::{Backend, Process, on_both};

on_both!(check_says_by_its_exit_code_what_it_found,);

fn said(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("text")
}

async fn check_says_by_its_exit_code_what_it_found(backend: Backend) {
    let server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let clean = server.command(&["check"]).await;
    assert_eq!(clean.status.code(), Some(0), "{clean:?}");
    assert!(said(&clean.stdout).lines().all(|it| it.starts_with("ok   ") || it.starts_with("-    ")));
    let db = Db::open_existing(&server.database()).await.unwrap();
    let mut tx = db.write(Turn::Control).await.unwrap();
    query("update show_head set last_seq = 7").run(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    let broken = server.command(&["check"]).await;
    assert_eq!(broken.status.code(), Some(1));
    let line = format!("a hole: {show} says 7 and has 1 entries");
    assert!(said(&broken.stdout).contains(&line), "{broken:?}");
    let missing = server.command(&["check", "--database-url", "sqlite:/nowhere/showcart.sqlite"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing.stderr).contains("there is no database"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_on_the_same_file_says_so_and_ends() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let second = server.command(&["serve"]).await;
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second.stderr).contains("another server runs on"), "{second:?}");
    assert_eq!(server.get("/readyz").await.status, 200);
}

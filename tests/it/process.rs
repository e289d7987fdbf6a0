//! The real binary: how it stops, what survives when it is killed, what it costs.

use crate::harness::{Backend, PATIENCE, Process, Raw, Viewer, on_both};

on_both!(a_terminated_server_says_goodbye_and_exits_with_success, after_a_crash_viewers_go_on_where_they_were,);

async fn a_terminated_server_says_goodbye_and_exits_with_success(backend: Backend) {
    let mut server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let mut viewer = Viewer::join(&server, show, "").await;
    server.terminate();
    viewer.next_of("bye").await;
    assert_eq!(viewer.closed().await, 1012);
    assert_eq!(server.exited().await.code(), Some(0));
}

async fn after_a_crash_viewers_go_on_where_they_were(backend: Backend) {
    let mut server = Process::serve(backend, &[]).await;
    let show = server.live_show().await;
    let (lamp, vase) = (server.product("lamp").await, server.product("vase").await);
    server.pin(show, &lamp).await;
    let mut viewer = Viewer::join(&server, show, "").await;
    server.kill().await;
    assert_eq!(viewer.closed().await, 1006);
    server.restart(&[]).await;
    server.pin(show, &vase).await;
    let epoch = viewer.epoch.clone();
    let mut again = viewer.resume(&server, show, "").await;
    assert!(again.resumed && again.epoch == epoch);
    again.until(|it| it.pinned() == Some("The vase")).await;
    assert_eq!((again.snapshots, again.kinds()), (0, vec!["pin.set"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_count_against_the_limit_of_connections_until_they_end() {
    let server = Process::serve(Backend::Sqlite, &[("CONNECTIONS_PER_ADDRESS_MAX", "6")]).await;
    let show = server.live_show().await;
    let mut open = Vec::new();
    for _ in 0..7 {
        // The HTTP client may have a connection or two of its own, as long as it likes.
        let Ok(raw) = Raw::try_connect(&server, show, "", &[]).await else { break };
        open.push(raw);
    }
    assert!((2..=6).contains(&open.len()), "{} are open", open.len());
    assert!(Raw::try_connect(&server, show, "", &[]).await.is_err());
    open.pop();
    let freed = async { while Raw::try_connect(&server, show, "", &[]).await.is_err() {} };
    tokio::time::timeout(PATIENCE, freed).await.expect("a place becomes free");
    assert!(server.metric("showcart_connections_refused_total").await >= 1.0);
}

/// The long flags that the help of a command lists.
async fn flags_of(server: &Process, command: &str) -> Vec<String> {
    let help = server.command(&[command, "--help"]).await;
    let help = String::from_utf8(help.stdout).unwrap();
    let flags = help.lines().map(str::trim_start).filter(|it| it.starts_with('-'));
    let flag = |it: &str| it.split_whitespace().find(|it| it.starts_with("--")).map(str::to_owned);
    flags.filter_map(flag).filter(|it| it != "--help").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_help_of_a_command_lists_what_it_uses() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let keys = ["--data-dir", "--secret"];
    let token = ["--role", "--show", "--subject", "--minutes"];
    assert_eq!(flags_of(&server, "token").await, [&token[..], &keys].concat());
    let import = ["--currency", "--format", "--partial", "--server", "--token", "--report", "--database-url"];
    assert_eq!(flags_of(&server, "import").await, [&import[..], &keys].concat());
    assert!(flags_of(&server, "serve").await.len() > 20);
    // They are the server's: what one signs the other takes.
    let token = server.command(&["token", "--role", "host", "--subject", "hanna"]).await;
    let mut hanna = server.nobody();
    hanna.token = Some(String::from_utf8(token.stdout).unwrap().trim().to_owned());
    hanna.get("/v1/shows").await.ok();
}

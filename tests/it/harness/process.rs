//! A server in a process of its own, as an operator runs it: for everything that ends or measures a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use showcart::clock::{Clock, Millis};
use showcart::config::Config;
use showcart::db::Db;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Backend, Door, PATIENCE, SECRET, postgres};

/// `showcart serve` on a database of its own, which outlives it; dropping it kills the process.
pub(crate) struct Process {
    door: Door,
    child: Child,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

impl std::ops::Deref for Process {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Process {
    /// Starts a server with further settings, such as `("SHOWCART_FAILPOINTS", "after_commit=1")`.
    pub(crate) async fn serve(backend: Backend, settings: &[(&str, &str)]) -> Process {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut all = vec![
            ("LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("DATA_DIR".into(), folder.path().display().to_string()),
            ("SHOWCART_SECRET".into(), SECRET.into()),
            ("PROVIDER_RATE".into(), "0".into()),
            // Where tests listen.
            ("WEBHOOK_PRIVATE_NETWORKS".into(), "true".into()),
        ];
        if backend == Backend::Postgres {
            all.push(("DATABASE_URL".into(), postgres::fresh_database().await));
            // In the process of the test: it goes on when the server dies. On SQLite it dies with the server, and its ledger
            // does not.
            all.push(("SANDBOX_URL".into(), super::sandbox(folder.path()).await));
            all.push(("REDIS_URL".into(), super::redis::address()));
            all.push(("REDIS_PREFIX".into(), super::redis::fresh_prefix()));
        }
        Process::with(all, settings, folder).await
    }

    /// Starts another node on the same database, payment provider and Redis.
    pub(crate) async fn beside(&self, settings: &[(&str, &str)]) -> Process {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().display().to_string();
        let mut all = self.settings.clone();
        set(&mut all, &[("DATA_DIR", &data)]);
        Process::with(all, settings, folder).await
    }

    async fn with(mut all: Vec<(String, String)>, settings: &[(&str, &str)], folder: TempDir) -> Process {
        set(&mut all, settings);
        let (child, address) = start(&all, &folder).await;
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let clock = Clock::starting_at(Millis(wall.as_millis().try_into().expect("a moment of this era")));
        let config = Config { secret: Some(SECRET.into()), ..Config::default() };
        Process { door: Door::open(address, &config, clock).await, child, settings: all, folder }
    }

    /// Starts another process on the same files, with the same settings but for these; the one before has ended.
    pub(crate) async fn restart(&mut self, settings: &[(&str, &str)]) {
        self.exited().await;
        set(&mut self.settings, settings);
        let (child, address) = start(&self.settings, &self.folder).await;
        (self.child, self.door.address) = (child, address);
    }

    /// Runs another command of the binary with the same settings, to its end.
    pub(crate) async fn command(&self, args: &[&str]) -> Output {
        let ended = binary(&self.settings).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        tokio::time::timeout(PATIENCE, ended).await.expect("the command ends in time").expect("a binary that runs")
    }

    /// What it was told at its start.
    pub(crate) fn setting(&self, name: &str) -> &str {
        &self.settings.iter().find(|it| it.0 == name).unwrap_or_else(|| panic!("{name} was not set")).1
    }

    /// The address of its database.
    pub(crate) fn database(&self) -> String {
        let given = self.settings.iter().find(|(name, _)| name == "DATABASE_URL").map(|(_, url)| url.clone());
        given.unwrap_or_else(|| showcart::db::sqlite_url(&self.folder().join("showcart.sqlite")))
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Another connection to the same database.
    pub(crate) async fn db(&self) -> Db {
        Db::open(&self.database(), showcart::app::MIGRATIONS).await.expect("the server's own database opens")
    }

    /// Moves the database's clock, whether the process runs or not.
    pub(crate) async fn advance(&self, by: Duration) {
        let db = self.db().await;
        super::advance(&db, by).await;
        self.door.clock.set(db.read().await.unwrap().now().await.unwrap(), Instant::now());
        db.close().await;
    }

    /// Kills the process and starts it again with a fail point that is passed for the first time from here on.
    pub(crate) async fn rearm(&mut self, point: &str) {
        self.kill().await;
        self.restart(&[("SHOWCART_FAILPOINTS", &format!("{point}=1"))]).await;
    }

    /// Waits until the process has died at its fail point, and starts it without one.
    pub(crate) async fn reborn(&mut self) {
        assert!(!self.exited().await.success(), "it dies at its fail point");
        self.restart(&[("SHOWCART_FAILPOINTS", "")]).await;
    }

    /// Ends the process without any farewell.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("our own process can be killed");
    }

    /// Asks the process to stop; [`Process::exited`] says how it ended.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Resolves when the process has stopped itself in mid-work, at a fail point that freezes; [`Process::thaw`] lets it go on.
    pub(crate) async fn frozen(&self) {
        let status = format!("/proc/{}/status", self.child.id().expect("a process that runs"));
        let stopped = async {
            // Nothing tells of it; each look is a read of a file.
            let mut look = tokio::time::interval(Duration::from_millis(10));
            while !std::fs::read_to_string(&status).expect("Linux tells about processes").contains("State:\tT") {
                look.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, stopped).await.expect("the process comes to its fail point");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().expect("a process that runs").to_string();
        let done = std::process::Command::new("kill").args([&format!("-{signal}"), &id]).status();
        assert!(done.expect("`kill` is part of every Unix").success());
    }

    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("the process ends in time").expect("our own process can be waited for")
    }

    /// Resident memory.
    pub(crate) fn rss_kb(&self) -> u64 {
        let id = self.child.id().expect("a process that runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux tells about processes");
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// The sum of a metric over its labels; zero when nothing was measured.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let answer = self.get("/metrics").await.ok();
        let lines = answer.as_str().expect("text").lines().filter(|it| !it.starts_with('#'));
        let values = lines.filter_map(|it| {
            let (series, value) = it.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().expect("a number"))
        });
        values.sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(log(&self.folder)).unwrap_or_default();
            eprintln!("--- what the server said:\n{said}---");
        }
    }
}

/// Sets further settings; those of the same names go.
fn set(all: &mut Vec<(String, String)>, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        all.retain(|(it, _)| it != name);
        all.push(((*name).to_owned(), (*value).to_owned()));
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("stderr")
}

fn binary(settings: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_showcart"));
    // What the developer's shell sets is not for this server.
    command
        .env_clear()
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn start(settings: &[(String, String)], folder: &TempDir) -> (Child, SocketAddr) {
    let stderr = std::fs::File::options().create(true).append(true).open(log(folder)).expect("a file in our folder");
    let mut child = binary(settings)
        .arg("serve")
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the binary that was built with these tests");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped above")).lines();
    let line = tokio::time::timeout(PATIENCE, stdout.next_line()).await.expect("the server starts in time");
    let address = line
        .expect("text")
        .and_then(|it| it.strip_prefix("showcart is listening on http://").and_then(|it| it.parse().ok()));
    let Some(address) = address else {
        let said = std::fs::read_to_string(log(folder)).unwrap_or_default();
        panic!("the server did not say where it listens:\n{said}");
    };
    // A pipe that nobody reads would stop a server that prints.
    tokio::spawn(async move { stdout.into_inner().read_to_end(&mut Vec::new()).await });
    (child, address)
}

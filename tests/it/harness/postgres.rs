//! A private PostgreSQL for one run of the tests: a server on a temporary folder, reached through a Unix socket in that
//! folder only, with one migrated template and a copy of it for each test. No other server is ever touched.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

/// The address of a migrated database that nobody else uses.
pub(crate) async fn fresh_database() -> String {
    shared().await.fresh_database().await
}

/// The address of a database with nothing in it, that nobody else uses.
pub(crate) async fn empty_database() -> String {
    shared().await.database("template1").await
}

async fn shared() -> &'static Postgres {
    static SHARED: OnceCell<Postgres> = OnceCell::const_new();
    SHARED.get_or_init(Postgres::start).await
}

/// A server that ends with whoever holds it, however that ends.
pub(crate) struct Postgres {
    folder: PathBuf,
    copies: AtomicU64,
    /// Holds the pipe whose end stops the server and removes its folder.
    _watchdog: Child,
}

impl Postgres {
    pub(crate) async fn start() -> Postgres {
        let folder =
            tempfile::Builder::new().prefix("showcart-postgres-").tempdir().expect("a temporary folder").keep();
        let user = unprivileged_user();
        if let Some(user) = user {
            must(Command::new("chown").arg(user).arg(&folder));
        }
        let data = folder.join("data");
        must(as_user(user, &tool("initdb")).arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        // The pipe is closed when this process ends, even when it is killed; then the server stops and its folder goes.
        let watchdog = as_user(user, Path::new("sh"))
            .args(["-c", r#"cat > /dev/null; "$0" -D "$1/data" -m immediate stop > /dev/null 2>&1; rm -rf "$1""#])
            .arg(tool("pg_ctl"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("a shell");
        let postgres = Postgres { folder, copies: AtomicU64::new(0), _watchdog: watchdog };
        postgres.control("start");
        postgres.run("create database showcart").await;
        let migrated = showcart::db::Db::open(&postgres.url("showcart"), showcart::app::MIGRATIONS).await;
        migrated.expect("the template takes the schema").close().await;
        postgres
    }

    /// The address of a migrated database that nobody else uses.
    pub(crate) async fn fresh_database(&self) -> String {
        self.database("showcart").await
    }

    async fn database(&self, template: &str) -> String {
        let name = format!("test_{}", self.copies.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("create database {name} template {template}")).await;
        self.url(&name)
    }

    /// Dies without a farewell.
    pub(crate) fn kill(&self) {
        self.control("stop");
    }

    /// Starts with what it had committed, after [`Postgres::kill`]; answers when this returns.
    pub(crate) fn start_again(&self) {
        self.control("start");
    }

    fn control(&self, what: &str) {
        // What was committed outlives the server, and need not outlive the machine.
        let options =
            format!("-k {} -h '' -c fsync=off -c full_page_writes=off -c max_connections=400", self.folder.display());
        let mut command = as_user(unprivileged_user(), &tool("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data")).args(["-w", "-m", "immediate", "-o", &options, "-l"]);
        must(command.arg(self.folder.join("log")).arg(what));
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.folder.display())
    }

    async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.expect("our own server answers");
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("our own server obeys");
        connection.close().await.expect("a connection that closes");
    }
}

/// PostgreSQL refuses to run as root; then it runs as `nobody`.
fn unprivileged_user() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().expect("`id` is part of every Unix");
    (id.stdout.trim_ascii() == b"0").then_some("nobody")
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let mut command = match user {
        Some(user) => {
            let mut command = Command::new("runuser");
            command.args(["-u", user, "--"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir("/");
    command
}

/// Debian keeps PostgreSQL's tools out of the path, one folder for each major version.
fn tool(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|it| it.path().join("bin").join(name)).filter(|it| it.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .unwrap_or_else(|error| panic!("{command:?}: {error}; the tests need PostgreSQL: apt-get install postgresql"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

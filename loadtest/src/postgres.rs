//! A private PostgreSQL for one run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

/// A private PostgreSQL with its own defaults: fsync, synchronous_commit and full_page_writes are on.
pub(crate) struct Cluster {
    folder: PathBuf,
    user: Option<&'static str>,
}

impl Cluster {
    pub(crate) fn start() -> anyhow::Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("loadtest-postgres-").tempdir()?.keep();
        let id = Command::new("id").arg("-u").output()?;
        let user = (id.stdout.trim_ascii() == b"0").then_some("nobody");
        let cluster = Cluster { folder, user };
        if let Some(user) = user {
            must(Command::new("chown").arg(user).arg(&cluster.folder))?;
        }
        must(cluster.tool("initdb").args([
            "-D",
            &cluster.data(),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
        ]))?;
        let options = format!("-k {} -h '' -c max_connections=200", cluster.folder.display());
        must(cluster.tool("pg_ctl").args(["-D", &cluster.data(), "-w", "-o", &options, "-l", "/dev/null", "start"]))?;
        Ok(cluster)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.folder.display())
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn tool(&self, name: &str) -> Command {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            versions.map(|it| it.path().join("bin").join(name)).filter(|it| it.exists()).collect();
        found.sort();
        let program = found.pop().unwrap_or_else(|| PathBuf::from(name));
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(Path::new("/"));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whatever does not work here is in a temporary folder.
        must(self.tool("pg_ctl").args(["-D", &self.data(), "-m", "immediate", "stop"])).ok();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn must(command: &mut Command) -> anyhow::Result<()> {
    // A server that inherits a pipe would keep its other end waiting.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let status = status.with_context(|| format!("{command:?} (Debian: postgresql)"))?;
    anyhow::ensure!(status.success(), "{command:?} failed");
    Ok(())
}

//! The server of the demo: the same program, as a process of its own, on a free port and in a folder of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

/// What the operator's shell may say to the demo's server; everything else would make it another server than the demo's.
const INHERITED: [&str; 3] = ["PATH", "RUST_LOG", "SHOWCART_FAILPOINTS"];
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    pub(super) url: String,
    child: Child,
}

/// A folder that is removed when it is dropped, unless it was kept.
pub(super) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Server {
    /// `folders` are settings that name what is served besides: pages, a picture.
    pub(super) async fn start(folder: &Path, secret: &str, folders: &[(&str, &Path)]) -> anyhow::Result<Server> {
        let program = std::env::current_exe().context("where this program is")?;
        let log = File::create(folder.join("server.log")).context("a file for what the server says")?;
        let inherited = INHERITED.iter().filter_map(|it| Some((*it, std::env::var_os(it)?)));
        let mut child = Command::new(program)
            .arg("serve")
            .env_clear()
            .envs(inherited)
            .env("LISTEN", "127.0.0.1:0")
            .env("DATA_DIR", folder)
            .env("SHOWCART_SECRET", secret)
            .envs(folders.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C at the terminal is for the demo, which ends its server itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting the server")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("the server does not start")??;
        let Some(url) = line.as_deref().and_then(|it| it.strip_prefix("showcart is listening on ")) else {
            let said = tokio::fs::read_to_string(folder.join("server.log")).await.unwrap_or_default();
            bail!("the server did not start:\n{said}");
        };
        let url = url.to_owned();
        // A pipe that nobody reads would stop a server that prints.
        tokio::spawn(async move { lines.into_inner().read_to_end(&mut Vec::new()).await });
        Ok(Server { url, child })
    }

    /// `host:port`
    pub(super) fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Resolves when the server ends by itself.
    pub(super) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.context("waiting for the server")
    }

    /// Asks it to stop and waits until it has.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.child.id() {
            // The standard library can only kill, and a server that is killed cannot say goodbye.
            Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await
                .context("asking the server to stop")?;
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await.context("ending the server")?;
        }
        Ok(())
    }
}

impl Folder {
    pub(super) fn make() -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("showcart-demo-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Folder { path, kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, folder = %self.path.display(), "the demo's folder could not be removed");
        }
    }
}

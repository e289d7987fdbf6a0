//! Where the data is, for commands that have nothing else to be told, and the lock that says whose it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::config::{Config, database};
use crate::db::{self, Db};

/// The database that a command works on: the same settings as the server's.
#[derive(Debug, Clone, Args)]
pub struct Storage {
    /// The database: `sqlite:PATH` or `postgres://…`; without it, SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Folder of the SQLite file.
    #[arg(long, env = "DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

impl Storage {
    /// Where a server with these settings has its data.
    pub fn of(config: &Config) -> Storage {
        Storage { database_url: config.database_url.clone(), data_dir: config.data_dir.clone() }
    }

    pub fn url(&self) -> String {
        database(self.database_url.as_deref(), &self.data_dir)
    }

    /// The database's file; none when it is PostgreSQL.
    ///
    /// # Errors
    /// An address that cannot be read.
    pub fn file(&self) -> anyhow::Result<Option<PathBuf>> {
        db::sqlite_file(&self.url())
    }

    /// Opens the database as it is, without bringing its schema up to date.
    ///
    /// # Errors
    /// See [`Db::open_existing`].
    pub async fn open(&self) -> anyhow::Result<Db> {
        Db::open_existing(&self.url()).await
    }

    /// Takes the SQLite file for this process, until the answer is dropped or the process ends. PostgreSQL serves as many
    /// nodes as come, and needs no lock.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock(&self) -> anyhow::Result<Option<Lock>> {
        self.lock_or(|file| format!("another server runs on {file}, or an import or a prune"))
    }

    /// As [`Storage::lock`], for a command that writes without a server; `instead` says what to do when one runs.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock_for_command(&self, instead: &str) -> anyhow::Result<Option<Lock>> {
        self.lock_or(|file| {
            format!("a server, or another command that writes, runs on {file}; if it is a server, {instead}")
        })
    }

    fn lock_or(&self, taken: impl FnOnce(std::path::Display<'_>) -> String) -> anyhow::Result<Option<Lock>> {
        let Some(file) = self.file()? else { return Ok(None) };
        if let Some(folder) = file.parent().filter(|it| !it.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let path = beside(&file, ".lock");
        let lock = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        lock.try_lock().with_context(|| taken(file.display()))?;
        Ok(Some(Lock { _file: lock }))
    }
}

/// Two processes that write one SQLite file would each believe their own memory of it.
#[must_use = "the lock is given back when this is dropped"]
pub struct Lock {
    _file: File,
}

/// A file's neighbour: the same path and more.
pub(crate) fn beside(file: &Path, more: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(more);
    path.into()
}

//! `showcart backup` and `showcart restore`: a copy of the SQLite file, and the way back.
//!
//! A restored log repeats numbers that viewers have seen with other entries behind them. So restoring gives every show a new
//! epoch: positions and versions from before are worth nothing, and every viewer gets a snapshot. The payment sandbox keeps
//! a ledger of its own, which is no part of a backup: like a real provider it does not forget with the shop.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::db::{Db, Turn, sqlite_url};
use crate::live;
use crate::storage::{Storage, beside};

/// What `backup` is told.
#[derive(Debug, Args)]
pub struct BackupOptions {
    #[command(flatten)]
    storage: Storage,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// What `restore` is told.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    #[command(flatten)]
    storage: Storage,
    /// The file that `showcart backup` wrote.
    #[arg(long, value_name = "FILE", required_unless_present = "new_epochs")]
    from: Option<PathBuf>,
    /// Only tell every viewer to start afresh: after another tool, such as pg_restore, brought the database back.
    #[arg(long, conflicts_with = "from")]
    new_epochs: bool,
}

/// A command that this database has another tool for.
const OTHER_TOOL: u8 = 2;

/// Copies the database of a server that may be running.
///
/// # Errors
/// The database cannot be read, the file cannot be written.
pub async fn backup(options: &BackupOptions) -> anyhow::Result<ExitCode> {
    let to = &options.to;
    if options.storage.file()?.is_none() {
        eprintln!("PostgreSQL has its own tool for this: pg_dump --format=custom --file={} …", to.display());
        return Ok(ExitCode::from(OTHER_TOOL));
    }
    anyhow::ensure!(!to.exists(), "{} exists already", to.display());
    // Whatever stops us, there is never half a backup under the name of a whole one.
    let partial = beside(to, ".partial");
    remove_if_there(&partial)?;
    let db = options.storage.open().await?;
    let copied = db.copy_to(&partial).await;
    db.close().await;
    copied.with_context(|| format!("copying to {}", partial.display()))?;
    sync(&partial)?;
    fs::rename(&partial, to).with_context(|| format!("naming {}", to.display()))?;
    sync_folder_of(to)?;
    println!("backed up to {}; the payment sandbox's ledger is no part of it", to.display());
    Ok(ExitCode::SUCCESS)
}

/// Puts a backup in the place of the database, or only gives every show a new epoch.
///
/// # Errors
/// A server runs on the database; the backup is none; a file cannot be written.
pub async fn restore(options: &RestoreOptions) -> anyhow::Result<ExitCode> {
    let Some(from) = &options.from else {
        let _lock = options.storage.lock()?;
        let db = options.storage.open().await?;
        let shows = new_epochs(&db).await;
        db.close().await;
        println!("{} shows have a new epoch: every viewer starts afresh", shows?);
        return Ok(ExitCode::SUCCESS);
    };
    let Some(file) = options.storage.file()? else {
        eprintln!("PostgreSQL has its own tool for this: pg_restore, and then `showcart restore --new-epochs`");
        return Ok(ExitCode::from(OTHER_TOOL));
    };
    let _lock = options.storage.lock()?;
    // Made ready beside its place: whatever stops us, the old database or the whole new one is there.
    let ready = beside(&file, ".restoring");
    for path in with_its_log(&ready) {
        remove_if_there(&path)?;
    }
    fs::copy(from, &ready).with_context(|| format!("copying {}", from.display()))?;
    let db = Db::open_existing(&sqlite_url(&ready)).await?;
    let shows = new_epochs(&db).await;
    db.close().await;
    let shows = shows.with_context(|| format!("{} is no backup of a shop", from.display()))?;
    // Closing has brought everything into the file; only the file is put in its place.
    anyhow::ensure!(!beside(&ready, "-wal").exists(), "{} was not closed; try again", ready.display());
    sync(&ready)?;
    let kept = beside(&file, ".before-restore");
    for (path, aside) in with_its_log(&file).iter().zip(with_its_log(&kept)) {
        remove_if_there(&aside)?;
        if path.exists() {
            fs::rename(path, &aside).with_context(|| format!("putting {} aside", path.display()))?;
        }
    }
    fs::rename(&ready, &file).with_context(|| format!("naming {}", file.display()))?;
    sync_folder_of(&file)?;
    println!("restored {}; {shows} shows have a new epoch: every viewer starts afresh", from.display());
    if kept.exists() {
        println!("what was there before is {}", kept.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// In one transaction: no show must go on with its old epoch beside others with new ones.
async fn new_epochs(db: &Db) -> crate::db::Result<usize> {
    let mut tx = db.write(Turn::Control).await?;
    let shows = live::new_epochs(&mut tx).await?;
    tx.commit().await?;
    Ok(shows)
}

/// A SQLite file and what belongs to it: commits that are not in the file yet stand in its log.
fn with_its_log(file: &Path) -> [PathBuf; 3] {
    [file.to_owned(), beside(file, "-wal"), beside(file, "-shm")]
}

fn remove_if_there(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sync(file: &Path) -> anyhow::Result<()> {
    let synced = File::open(file).and_then(|it| it.sync_all());
    synced.with_context(|| format!("writing {} to the disk", file.display()))
}

/// Makes new names in a file's folder outlive a power failure.
pub(crate) fn sync_folder_of(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync(folder)
}

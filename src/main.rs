//! The command line.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use showcart::app::App;
use showcart::auth::{Keys, Role};
use showcart::clock::Millis;
use showcart::config::Config;
use showcart::demo;
use showcart::ids::{BuyerId, ShowId};
use showcart::import;
use showcart::payment::sandbox::{self, Sandbox, Settings};
use showcart::storage::Storage;
use showcart::{backup, check, export, openapi, prune, server, web};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// A live-shopping backend: overlays, polls and flash sales under a live video.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server. With no settings: SQLite in ./data and nothing else to install.
    Serve(Box<Config>),
    /// Bring a catalogue in. Exit code 1: rows were refused; 2: nothing could be read.
    Import(import::Args),
    /// Run a short live sale against a server of its own, and report what everybody got.
    Demo(demo::Options),
    /// Print a token.
    Token(Token),
    /// Print the OpenAPI document of the server's API.
    Openapi,
    /// Run the payment provider for tests and demonstrations as a process of its own. No real money moves.
    Sandbox(SandboxArgs),
    /// Ask a database whether everything that must be true is true; works beside a running server.
    Check(check::Options),
    /// Write the log of one show or of all to stdout, one entry a line, JSON; works beside a running server.
    Export(export::Options),
    /// Copy the SQLite database to a file; works beside a running server.
    Backup(backup::BackupOptions),
    /// Put a backup in the place of the SQLite database, while no server runs on it.
    Restore(backup::RestoreOptions),
    /// Move the logs of shows that ended long ago to an archive, and forget what belongs to them; on SQLite while no server
    /// runs on it.
    Prune(prune::Options),
}

#[derive(clap::Args)]
struct SandboxArgs {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The SQLite file of its ledger, made if it is missing.
    #[arg(long)]
    file: PathBuf,
    /// What the shop's calls must carry. Needed on any address but loopback.
    #[arg(long, env = "SANDBOX_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

#[derive(clap::Args)]
struct Token {
    /// host, moderator, analyst, viewer or service
    #[arg(long)]
    role: Role,
    /// The one show that the token is for; all shows without it.
    #[arg(long)]
    show: Option<ShowId>,
    /// Who holds it: for viewers the shop's name of the buyer.
    #[arg(long)]
    subject: BuyerId,
    /// Minutes until it expires.
    #[arg(long, default_value_t = 720)]
    minutes: u64,
    /// Folder of the secret of a server that was given none.
    #[arg(long, env = "DATA_DIR", default_value = "./data")]
    data_dir: PathBuf,
    /// The server's key that signs tokens; without it the one in the data folder.
    #[arg(long, env = "SHOWCART_SECRET", hide_env_values = true)]
    secret: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn")))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Runtime::new().expect("a process that just started has threads to be had");
    // 1 is a clear no of a command that was asked something, so commands of that kind say 2 when they failed.
    let (ended, failed) = runtime.block_on(async {
        match cli.command {
            Command::Serve(config) => (done(serve(*config).await), 1),
            Command::Demo(options) => {
                let ended = demo::run(options).await;
                (ended.map(|all_is_well| if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }), 1)
            }
            Command::Import(args) => {
                let mut progress = std::io::stderr();
                let style = if progress.is_terminal() { import::Style::Terminal } else { import::Style::Lines };
                let ended = import::run(args, &mut std::io::stdout(), &mut progress, style).await;
                (ended.map(ExitCode::from), 2)
            }
            Command::Token(token) => (done(print_token(token).await), 1),
            Command::Openapi => (done(print_document()), 1),
            Command::Sandbox(args) => (done(serve_sandbox(args).await), 1),
            Command::Check(options) => (check::command(&options).await, 2),
            Command::Export(options) => (export::command(&options).await, 1),
            Command::Backup(options) => (backup::backup(&options).await, 1),
            Command::Restore(options) => (backup::restore(&options).await, 1),
            Command::Prune(options) => (prune::command(&options).await, 1),
        }
    });
    ended.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::from(failed)
    })
}

fn done(ended: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    ended.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    if let Some(folder) = &config.web_dir {
        web::check(folder)?;
    }
    // Before anything is opened: whoever comes second must not touch what the first one has.
    let _lock = Storage::of(&config).lock()?;
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr()?;
    let app = App::open(config).await?;
    // On stdout and alone on its line: scripts that asked for port 0 read the port here.
    println!("showcart is listening on http://{address}");
    server::serve(listener, app.clone(), server::stop_signal()).await;
    app.db.close().await;
    Ok(())
}

async fn serve_sandbox(args: SandboxArgs) -> anyhow::Result<()> {
    let open_to_others = args.api_key.is_none() && !args.listen.ip().is_loopback();
    anyhow::ensure!(!open_to_others, "on an address that others reach, the sandbox needs an --api-key");
    let api_key = args.api_key.unwrap_or_else(|| sandbox::LOOPBACK_API_KEY.into());
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr()?;
    let sandbox = Sandbox::open(Settings { file: args.file, api_key }).await?;
    // On stdout and alone on its line, like the server's.
    println!("the sandbox is listening on http://{address}");
    sandbox.serve(listener, server::stop_signal()).await;
    Ok(())
}

/// Whoever reads may stop early, so this says what `print!` would panic about.
fn print_document() -> anyhow::Result<()> {
    std::io::stdout().write_all(openapi::DOCUMENT.as_bytes()).context("writing the document")
}

async fn print_token(token: Token) -> anyhow::Result<()> {
    let keys = Keys::of(token.secret.as_deref(), &token.data_dir).await?;
    #[allow(clippy::disallowed_methods)] // A token is minted without a database at hand.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires_at = Millis(i64::try_from(now.as_millis())?) + Duration::from_secs(token.minutes * 60);
    println!("{}", keys.mint(&token.subject, token.role, token.show, expires_at));
    Ok(())
}

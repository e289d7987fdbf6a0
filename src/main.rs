//! The command line.

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
use showcart::payment::sandbox::{self, Sandbox, Settings};
use showcart::server;
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
    Serve(Config),
    /// Run a short live sale against a server of its own, and report what everybody got.
    Demo(demo::Options),
    /// Print a token.
    Token(Token),
    /// Run the payment provider for tests and demonstrations as a process of its own. No real money moves.
    Sandbox(SandboxArgs),
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
    #[command(flatten)]
    config: Config,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn")))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Serve(config) => serve(config).await?,
            Command::Demo(options) => {
                let all_is_well = demo::run(options).await?;
                return Ok(if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Command::Token(token) => print_token(token).await?,
            Command::Sandbox(args) => serve_sandbox(args).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.listen).await.with_context(|| format!("listening on {}", config.listen))?;
    let address = listener.local_addr()?;
    let app = App::open(config).await?;
    // On stdout and alone on its line: scripts that asked for port 0 read the port here.
    println!("showcart is listening on http://{address}");
    server::serve(listener, app.clone(), stop_signal()).await;
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
    sandbox.serve(listener, stop_signal()).await;
    Ok(())
}

/// Resolves at the first Ctrl-C or SIGTERM; the second ends the process at once.
async fn stop_signal() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a Unix process can listen for SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping; once more stops at once");
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(130);
    });
}

async fn print_token(token: Token) -> anyhow::Result<()> {
    let keys = Keys::open(&token.config).await?;
    #[allow(clippy::disallowed_methods)] // A token is minted without a database at hand.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires_at = Millis(i64::try_from(now.as_millis())?) + Duration::from_secs(token.minutes * 60);
    println!("{}", keys.mint(&token.subject, token.role, token.show, expires_at));
    Ok(())
}

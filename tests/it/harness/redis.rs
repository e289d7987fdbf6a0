//! A private Redis for one run of the tests, reached through a Unix socket in a temporary folder only.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The address of the Redis that all tests of this run share, each under names of its own.
pub(crate) fn address() -> String {
    static REDIS: OnceLock<Redis> = OnceLock::new();
    REDIS.get_or_init(Redis::start).address()
}

/// Names in it that nobody else uses.
pub(crate) fn fresh_prefix() -> String {
    static PREFIXES: AtomicU64 = AtomicU64::new(0);
    format!("test-{}", PREFIXES.fetch_add(1, Ordering::Relaxed))
}

/// A Redis that ends with whoever holds it, however that ends.
pub(crate) struct Redis {
    folder: PathBuf,
    /// Holds the pipe whose end stops the server and removes its folder.
    watchdog: Child,
}

impl Redis {
    pub(crate) fn start() -> Redis {
        let folder = tempfile::Builder::new().prefix("showcart-redis-").tempdir().expect("a temporary folder").keep();
        Redis { watchdog: launch(&folder), folder }
    }

    /// Dies without a farewell, and with everything that it kept.
    pub(crate) fn kill(&self) {
        self.signal("KILL");
    }

    /// Starts where it was before it was killed.
    pub(crate) fn start_again(&mut self) {
        // The one before goes with its watchdog, whose folder must not go after the new one has begun there.
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().expect("our own shell ends");
        std::fs::create_dir(&self.folder).expect("the watchdog has removed it");
        self.watchdog = launch(&self.folder);
    }

    /// Neither answers nor hangs up until [`Redis::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Cuts every connection, as a new start does.
    pub(crate) fn hang_up(&self) {
        self.tell(&["client", "kill", "type", "normal"]);
        self.tell(&["client", "kill", "type", "pubsub"]);
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("a Redis that runs");
        let sent =
            Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status().expect("`kill` is everywhere");
        assert!(sent.success());
    }

    fn tell(&self, command: &[&str]) {
        let mut cli = Command::new("redis-cli");
        let told = cli.arg("-s").arg(self.socket()).args(command).output().expect("comes with Redis");
        assert!(told.status.success(), "{told:?}");
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }
}

/// Runs a server on the folder, and waits until it takes connections.
fn launch(folder: &Path) -> Child {
    let mut watchdog = Command::new("sh")
        .args([
            "-c",
            r#"redis-server --port 0 --unixsocket "$0/redis.sock" --save '' --appendonly no --dir "$0" &
               echo $! > "$0/pid"; exec 1>&-; cat > /dev/null; kill -9 $!; rm -rf "$0""#,
        ])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    // Its log, which ends with the server: what is missing or wrong is said at once.
    let mut log = BufReader::new(watchdog.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("ready to accept connections") {
        line.clear();
        let read = log.read_line(&mut line).expect("a log is text");
        assert!(read > 0, "the tests need Redis, and it does not start: apt-get install redis-server");
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    watchdog
}

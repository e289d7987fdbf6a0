//! A private Redis for one run of the tests, reached through a Unix socket in a temporary folder only.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    _watchdog: Child,
}

impl Redis {
    pub(crate) fn start() -> Redis {
        let folder = tempfile::Builder::new().prefix("showcart-redis-").tempdir().expect("a temporary folder").keep();
        let watchdog = Command::new("sh")
            .args([
                "-c",
                r#"redis-server --port 0 --unixsocket "$0/redis.sock" --pidfile "$0/pid" --daemonize yes --save '' \
                       --appendonly no --dir "$0" --logfile "$0/log"
                   cat > /dev/null; kill "$(cat "$0/pid")"; rm -rf "$0""#,
            ])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let redis = Redis { folder, _watchdog: watchdog };
        redis.until_ready();
        redis
    }

    fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(self.folder.join("redis.sock")).is_err() {
            assert!(Instant::now() < deadline, "the tests need Redis: apt-get install redis-server");
            std::thread::sleep(Duration::from_millis(10));
        }
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
        let told = cli.arg("-s").arg(self.folder.join("redis.sock")).args(command).output().expect("comes with Redis");
        assert!(told.status.success(), "{told:?}");
    }

    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}/redis.sock", self.folder.display())
    }
}

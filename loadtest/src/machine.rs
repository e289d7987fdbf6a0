//! Cores, processes and what they use, as Linux tells it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Runs `scenario` in a process that is bound to core 1: this one, started again under `taskset` if it is not yet.
pub(crate) fn on_core_1(scenario: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if std::env::var_os(BOUND).is_some() {
        return scenario();
    }
    let own = std::env::current_exe()?;
    let status =
        Command::new("taskset").args(["-c", "1"]).arg(own).args(std::env::args_os().skip(1)).env(BOUND, "1").status();
    let status = status.context("taskset (Debian: util-linux) binds processes to cores")?;
    anyhow::ensure!(status.success(), "the scenario failed");
    Ok(())
}

const BOUND: &str = "LOADTEST_ON_CORE_1";

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What the figures were taken on.
pub(crate) fn description() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|it| it.strip_prefix("model name")).unwrap_or("an unknown CPU");
    let cores = cpus.lines().filter(|it| it.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {}, Linux {}", model.trim_start_matches(['\t', ' ', ':']), kernel.trim())
}

/// Time of this machine that others had, since a moment: on a shared one, the difference between its figures and ours.
pub(crate) struct Taken {
    stolen: u64,
    all: u64,
}

impl Taken {
    pub(crate) fn from_now() -> anyhow::Result<Taken> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat")?;
        // User, nice, system, idle, waiting, two kinds of interrupts, stolen; what follows is part of the first two.
        let ticks: Vec<u64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
        Ok(Taken { stolen: *ticks.last().context("a line of numbers")?, all: ticks.iter().sum() })
    }

    pub(crate) fn percent(&self) -> anyhow::Result<f64> {
        let now = Taken::from_now()?;
        Ok((now.stolen - self.stolen) as f64 * 100.0 / (now.all - self.all).max(1) as f64)
    }
}

/// A program on core 0 that says where it listens on its first line; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        Server::of(command, program, arguments, settings).context("starting a server on core 0")
    }

    /// Not bound to a core.
    pub(crate) fn anywhere(program: &Path, arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        Server::of(Command::new(program), program, arguments, settings)
    }

    fn of(
        mut command: Command,
        program: &Path,
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Server> {
        command.args(arguments).envs(settings.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting a server")?;
        let stdout = child.stdout.take().context("its standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().rsplit("http://").next().unwrap_or_default().to_owned();
        anyhow::ensure!(!address.is_empty(), "{} did not say where it listens", program.display());
        Ok(Server { child, address })
    }

    /// Seconds of CPU, in user space and in the kernel.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may hold spaces: state is field 3, the times are 14 and 15, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|it| it.parse::<f64>().ok()).context("/proc/…/stat");
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// Resident kilobytes.
    pub(crate) fn resident_kb(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("/proc/…/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

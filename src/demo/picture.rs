//! The demo's picture: a short live stream with programme date-time, made by ffmpeg while the demo runs, where there is one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

/// Where viewers find the playlist.
pub(super) const ADDRESS: &str = "/media/live.m3u8";
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// A stream that goes on until it is dropped.
pub(super) struct Picture {
    folder: PathBuf,
    _ffmpeg: Child,
}

impl Picture {
    /// None where there is no ffmpeg, or none that makes this stream.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Option<Picture>> {
        let folder = folder.join("media");
        std::fs::create_dir(&folder).context("a folder for the picture")?;
        let started = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-re"])
            // Should nobody be left to end it.
            .args(["-t", "14400"])
            // Colours that move slowly, and few pictures a second: the cores are for the show.
            .args([
                "-f",
                "lavfi",
                "-i",
                "gradients=s=360x640:r=15:c0=0x2f4d4a:c1=0xb9a88c:c2=0x7b532f:nb_colors=3:speed=0.02",
            ])
            .args(["-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-pix_fmt",
                "yuv420p",
                "-g",
                "30",
            ])
            .args(["-c:a", "aac", "-b:a", "32k"])
            .args(["-f", "hls", "-hls_time", "2", "-hls_list_size", "6"])
            .args(["-hls_flags", "delete_segments+program_date_time+temp_file", "live.m3u8"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the demo.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let Ok(mut ffmpeg) = started else { return Ok(None) };
        let playlist = folder.join("live.m3u8");
        let there = async {
            while !playlist.exists() {
                if ffmpeg.try_wait()?.is_some() {
                    return anyhow::Ok(false);
                }
                tokio::time::sleep(LOOK).await;
            }
            Ok(true)
        };
        let there = tokio::time::timeout(PATIENCE, there).await.unwrap_or(Ok(false))?;
        Ok(there.then_some(Picture { folder, _ffmpeg: ffmpeg }))
    }

    /// The folder that is served at `/media`.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

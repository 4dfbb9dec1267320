//! A terminal with a program in it: a pseudo-terminal, and what its screen shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::process::{Child, Command};

use super::eventually;

fn at_least_one(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}

/// The terminal, and the program that it belongs to.
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// Kept open, so that the terminal outlives the program and can be looked at.
    program_side: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a program in a terminal of so many lines and columns.
    ///
    /// # Errors
    /// When there is no terminal to be had, or no such program.
    pub fn open(command: &Command, lines: u16, columns: u16) -> anyhow::Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let program_side = rustix::fs::open(std::ffi::OsStr::from_bytes(name.as_bytes()), flags, rustix::fs::Mode::empty())?;
        tcsetwinsize(&ours, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?;
        // The terminal becomes the program's own, so that it hears of a change of size.
        let mut in_it = Command::new("setsid");
        in_it.arg("--ctty").arg(command.as_std().get_program()).args(command.as_std().get_args()).env_clear();
        in_it.envs(command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm-256color");
        if let Some(folder) = command.as_std().get_current_dir() {
            in_it.current_dir(folder);
        }
        in_it.stdin(program_side.try_clone()?).stdout(program_side.try_clone()?).stderr(program_side.try_clone()?).kill_on_drop(true);
        let child = in_it.spawn().context("setsid is missing, or does not run")?;
        let screen = Arc::new(Mutex::new(vt100::Parser::new(at_least_one(lines), at_least_one(columns), 1000)));
        let (mut output, drawn) = (File::from(ours.try_clone()?), Arc::clone(&screen));
        // It ends when the terminal does.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                drawn.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        Ok(Self { child, keyboard: File::from(ours), program_side, screen })
    }

    fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    /// What stands on the screen.
    pub fn text(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    /// The same with the escape sequences that would draw it: with its colours.
    pub fn drawn(&self) -> String {
        self.look(vt100::Screen::contents_formatted)
    }

    /// Whether the program has the screen for itself, out of the way of what was there before.
    pub fn is_alternate(&self) -> bool {
        self.look(vt100::Screen::alternate_screen)
    }

    /// Whether it is as a shell wants it: no alternate screen, the cursor to be seen, lines and echo.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn is_given_back(&self) -> anyhow::Result<bool> {
        let modes = tcgetattr(&self.program_side)?.local_modes;
        let cooked = modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        Ok(cooked && self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor()))
    }

    /// Waits until the screen shows this.
    ///
    /// # Errors
    /// When it does not, with what it shows.
    pub async fn shows(&self, words: &str, limit: Duration) -> anyhow::Result<String> {
        eventually(&format!("{words:?} on the screen"), limit, async || {
            let text = self.text();
            if text.contains(words) { Ok(text) } else { Err(text) }
        })
        .await
    }

    /// Types.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn types(&mut self, keys: &str) -> anyhow::Result<()> {
        Ok(self.keyboard.write_all(keys.as_bytes())?)
    }

    /// Makes it smaller or larger.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&mut self, lines: u16, columns: u16) -> anyhow::Result<()> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen_mut().set_size(at_least_one(lines), at_least_one(columns));
        Ok(tcsetwinsize(&self.keyboard, Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })?)
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().context("the program has ended")?;
        Ok(kill_process(Pid::from_raw(i32::try_from(pid)?).context("no process id")?, signal)?)
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When it does not come, with what the screen shows.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        tokio::time::timeout(limit, self.child.wait())
            .await
            .with_context(|| format!("it did not end within {limit:?}:\n{}", self.text()))?
            .map_err(Into::into)
    }
}

//! The terminal while `tocsin top` has it: the alternate screen, no echo, no cursor; all of it given back at the end,
//! also when that is an error or a panic.

use std::io::{self, Write as _};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};

use super::page::{Line, Tone};
use crate::failure::{Exit, Failure};

/// Columns and lines of the terminal; the usual ones where it does not say.
pub(super) fn size() -> (u16, u16) {
    match terminal::size() {
        Ok((width, height)) if width > 0 && height > 0 => (width, height),
        _ => (80, 24),
    }
}

/// The terminal, until this is dropped.
pub(super) struct Screen(());

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// Exit 1 when it does not let itself be taken.
    pub(super) fn enter() -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(Exit::Failed, format!("cannot use the terminal: {error}; --once needs none"));
        terminal::enable_raw_mode().map_err(failed)?;
        // From here on it is given back.
        let screen = Self(());
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap).map_err(failed)?;
        Ok(screen)
    }

    /// Puts these lines on it, in one piece. Where colours are not wanted (`NO_COLOR`) the library leaves them out.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut bytes = Vec::new();
        queue!(bytes, BeginSynchronizedUpdate)?;
        for (at, line) in lines.iter().enumerate() {
            queue!(bytes, MoveTo(0, u16::try_from(at).unwrap_or(u16::MAX)))?;
            match line.tone {
                Tone::Plain => {}
                Tone::Bad => queue!(bytes, SetForegroundColor(Color::Red))?,
                Tone::Late => queue!(bytes, SetForegroundColor(Color::Yellow))?,
                Tone::Quiet => queue!(bytes, SetForegroundColor(Color::DarkGrey))?,
                Tone::Heading => queue!(bytes, SetAttribute(Attribute::Bold))?,
            }
            if line.chosen {
                queue!(bytes, SetAttribute(Attribute::Reverse))?;
            }
            queue!(bytes, Print(&line.text), ResetColor, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        queue!(bytes, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&bytes)?;
        stdout.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

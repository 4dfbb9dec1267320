//! `tocsin top`: all customers at a glance, the worst first, for as long as somebody watches.
//!
//! A task of its own asks the database, so that the screen answers keys while the database does not answer. What is
//! drawn is made by a function without I/O ([`page`]), and put on the terminal by [`screen`].

mod page;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use sink::read::{Overview, overview};
use sqlx::PgPool;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Setting;
use super::asking::unread;
use crate::cli::Top;
use crate::failure::{Exit, Failure};
use page::{Order, Shown, table};
use screen::Screen;

/// A database that takes longer than this is as good as gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Shows all customers.
pub(super) async fn run(setting: &Setting, options: &Top) -> Result<(), Failure> {
    let database = setting.database("top").await?;
    let live = !options.once && !setting.output.json && std::io::stdout().is_terminal();
    let result = match overview(&database.pool).await.map_err(unread) {
        Ok(first) if live => watch(first, &database.pool, options.every).await,
        Ok(only) => print(setting, only),
        Err(failure) => Err(failure),
    };
    database.close().await;
    result
}

/// Once, as a table for people or a document for scripts.
fn print(setting: &Setting, mut overview: Overview) -> Result<(), Failure> {
    Order::Lag.sort(&mut overview.tenants);
    if setting.output.json {
        return setting.output.document(&overview);
    }
    if overview.tenants.is_empty() {
        setting.output.note("no tenants; add one with `tocsin tenant add` or many with `tocsin tenant import`");
        return Ok(());
    }
    let width = std::io::stdout().is_terminal().then(|| screen::size().0);
    table(&overview.tenants, width).iter().try_for_each(|line| setting.output.line(line.trim_end()))
}

/// What the database said last, and what is the matter when it says no more.
struct News {
    overview: Overview,
    read_at: Instant,
    trouble: Option<String>,
}

async fn watch(first: Overview, pool: &PgPool, every: Duration) -> Result<(), Failure> {
    let unheard = |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot listen for signals: {error}"));
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(unheard)?;
    let (sender, mut news) = watch::channel(News { overview: first, read_at: Instant::now(), trouble: None });
    let asking = tokio::spawn(ask(pool.clone(), every, sender));
    let mut shown = Shown::default();
    let mut screen = Screen::enter()?;
    let mut keys = Some(EventStream::new());
    let result = loop {
        {
            let news = news.borrow_and_update();
            let age = news.trouble.as_deref().map(|why| (why, news.read_at.elapsed()));
            let (width, height) = screen::size();
            if let Err(error) = screen.draw(&shown.page(&news.overview, age, width, height)) {
                break Err(Failure::new(Exit::Failed, format!("cannot write to the terminal: {error}")));
            }
        }
        let troubled = news.borrow().trouble.is_some();
        tokio::select! {
            changed = news.changed() => if changed.is_err() {
                break Err(Failure::new(Exit::Failed, "whoever asks the database has died"));
            },
            event = next(&mut keys) => match event {
                Some(Ok(event)) => if !heard(&mut shown, &event) { break Ok(()) },
                // No keyboard: it ends by a signal.
                Some(Err(_)) | None => keys = None,
            },
            _ = futures_util::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv()))) => break Ok(()),
            // The age of what is shown goes on.
            () = sleep(Duration::from_secs(1)), if troubled => {}
        }
    };
    asking.abort();
    result
}

async fn next(keys: &mut Option<EventStream>) -> Option<std::io::Result<Event>> {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

/// Asks again and again.
async fn ask(pool: PgPool, every: Duration, sender: watch::Sender<News>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once, and it has just been asked.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let answer = timeout(PATIENCE, overview(&pool)).await;
        sender.send_modify(|news| match answer {
            Ok(Ok(overview)) => *news = News { overview, read_at: Instant::now(), trouble: None },
            Ok(Err(error)) => news.trouble = Some(unread(error).message),
            Err(_) => news.trouble = Some(format!("no answer within {} s", PATIENCE.as_secs())),
        });
    }
}

/// Does what a key says; false when it is over.
fn heard(shown: &mut Shown, event: &Event) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Down | KeyCode::Char('j') => shown.move_by(1),
        KeyCode::Up | KeyCode::Char('k') => shown.move_by(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => shown.move_pages(1),
        KeyCode::PageUp => shown.move_pages(-1),
        KeyCode::Home | KeyCode::Char('g') => shown.move_to_first(),
        KeyCode::End | KeyCode::Char('G') => shown.move_to_last(),
        KeyCode::Char('s') => shown.order = shown.order.next(),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn it_ends_by_q_and_by_what_a_terminal_sends_for_an_interrupt_and_by_nothing_else() {
        let mut shown = Shown::default();
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for (event, goes_on) in [
            (key(KeyCode::Char('q'), KeyModifiers::NONE), false),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), false),
            (key(KeyCode::Char('c'), KeyModifiers::NONE), true),
            (key(KeyCode::Char('x'), KeyModifiers::NONE), true),
            (key(KeyCode::PageDown, KeyModifiers::NONE), true),
            (Event::Resize(10, 10), true),
        ] {
            assert_eq!(heard(&mut shown, &event), goes_on, "{event:?}");
        }
    }
}

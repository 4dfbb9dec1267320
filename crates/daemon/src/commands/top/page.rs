//! What `tocsin top` shows, as lines for a terminal of any size: a headline, the customers in order, the one that is
//! chosen in words, and the keys.

use std::cmp::Ordering;
use std::time::Duration;

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table};
use sink::read::{Overview, OverviewRow};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::output::printable;

/// From here on a customer is late.
const LATE: f64 = 600.0;

/// How a line looks. Nothing is told by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    /// Somebody must act.
    Bad,
    Late,
    /// Not to be read now.
    Quiet,
}

/// A line of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) tone: Tone,
    pub(super) chosen: bool,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// Who is behind most.
    #[default]
    Lag,
    Alerts,
    /// Whose refresh token ends first.
    Token,
    Name,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Lag => Self::Alerts,
            Self::Alerts => Self::Token,
            Self::Token => Self::Name,
            Self::Name => Self::Lag,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Alerts => "alerts",
            Self::Token => "token",
            Self::Name => "name",
        }
    }

    pub(super) fn sort(self, rows: &mut [OverviewRow]) {
        rows.sort_by(|a, b| {
            match self {
                // Who was never read is as far behind as can be; who shall not be read is behind on purpose.
                Self::Lag => is_idle(a).cmp(&is_idle(b)).then_with(|| lag(b).total_cmp(&lag(a))),
                Self::Alerts => b.alerts_last_hour.cmp(&a.alerts_last_hour),
                Self::Token => a.token_days_left.unwrap_or(i32::MAX).cmp(&b.token_days_left.unwrap_or(i32::MAX)),
                Self::Name => Ordering::Equal,
            }
            .then_with(|| a.tenant.cmp(&b.tenant))
        });
    }
}

/// Nobody reads it, and that is meant so.
fn is_idle(row: &OverviewRow) -> u8 {
    match row.state.as_str() {
        "awaiting-consent" => 1,
        "paused" | "offboarding" | "removed" => 2,
        _ => 0,
    }
}

fn lag(row: &OverviewRow) -> f64 {
    row.lag_seconds.unwrap_or(f64::INFINITY)
}

fn tone(row: &OverviewRow) -> Tone {
    match row.state.as_str() {
        "needs-consent" | "needs-customer" => Tone::Bad,
        "active" if row.reason.is_some() || lag(row) > LATE => Tone::Late,
        "active" => Tone::Plain,
        _ => Tone::Quiet,
    }
}

/// What whoever watches has chosen.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) order: Order,
    chosen: usize,
    /// The first customer on the screen.
    top: usize,
    /// How many there are, and how many have room.
    all: usize,
    room: usize,
}

impl Shown {
    pub(super) fn move_by(&mut self, lines: isize) {
        self.chosen = self.chosen.saturating_add_signed(lines).min(self.all.saturating_sub(1));
    }

    pub(super) fn move_pages(&mut self, pages: isize) {
        self.move_by(pages.saturating_mul(self.room.max(1).cast_signed()));
    }

    pub(super) fn move_to_first(&mut self) {
        self.chosen = 0;
    }

    pub(super) fn move_to_last(&mut self) {
        self.chosen = self.all.saturating_sub(1);
    }

    /// The whole screen: at most so many lines, none wider than the terminal. `stale` says why the database does not
    /// answer, and how old all this is.
    pub(super) fn page(&mut self, overview: &Overview, stale: Option<(&str, Duration)>, width: u16, height: u16) -> Vec<Line> {
        let mut rows = overview.tenants.clone();
        self.order.sort(&mut rows);
        let mut lines = vec![line(headline(overview, &rows), Tone::Heading)];
        if let Some((why, age)) = stale {
            let age = span(age.as_secs_f64());
            lines.push(line(format!("the database does not answer; what is shown is {age} old: {}", printable(why)), Tone::Bad));
        }
        let height = usize::from(height);
        // So many lines tell of the one that is chosen.
        let words = match height {
            ..12 => 0,
            12..20 => 4,
            20.. => 6,
        };
        self.all = rows.len();
        self.room = height.saturating_sub(lines.len() + 1 + words + 1);
        self.chosen = self.chosen.min(self.all.saturating_sub(1));
        let (least, last) = ((self.chosen + 1).saturating_sub(self.room), self.all.saturating_sub(self.room));
        self.top = self.top.max(least).min(self.chosen).min(last);
        let mut drawn = table(&rows, Some(width)).into_iter();
        lines.extend(drawn.next().map(|text| line(text, Tone::Heading)));
        for (at, text) in drawn.enumerate().skip(self.top).take(self.room) {
            lines.push(Line { text, tone: tone(&rows[at]), chosen: at == self.chosen });
        }
        if words > 0 {
            lines.resize_with(height - 1 - words, || line(String::new(), Tone::Plain));
            lines.extend(rows.get(self.chosen).map(|row| in_words(row, width, words)).unwrap_or_default());
        }
        lines.resize_with(height.saturating_sub(1), || line(String::new(), Tone::Plain));
        lines.push(line(format!("q quit   ↑ ↓ choose   s order: {}", self.order.words()), Tone::Quiet));
        lines.truncate(height);
        for line in &mut lines {
            line.text = clipped(&line.text, width.into());
        }
        lines
    }
}

fn line(text: String, tone: Tone) -> Line {
    Line { text, tone, chosen: false }
}

fn headline(overview: &Overview, rows: &[OverviewRow]) -> String {
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    let states = ["needs-consent", "needs-customer", "active", "awaiting-consent", "paused", "offboarding"];
    let counts: Vec<_> = states.iter().filter(|state| count(state) > 0).map(|state| format!("{} {state}", count(state))).collect();
    let time = overview.at.to_string();
    let time = time.split_once('T').and_then(|(_, time)| time.get(..8)).unwrap_or_default().to_owned();
    let daemons = match overview.daemons {
        0 => "no daemon runs".to_owned(),
        1 => "1 daemon".to_owned(),
        more => format!("{more} daemons"),
    };
    let counts = if counts.is_empty() { "no tenants".to_owned() } else { counts.join(", ") };
    format!("tocsin {time} UTC   {daemons}   {counts}")
}

/// What a column is called, from which width of the terminal on it is shown, and what stands in it.
type Column = (&'static str, u16, fn(&OverviewRow) -> String);

const COLUMNS: [Column; 8] = [
    ("TENANT", 0, |row| row.tenant.clone()),
    ("STATE", 0, |row| row.state.clone()),
    ("LAG", 0, |row| row.lag_seconds.map_or("never read".to_owned(), span)),
    ("LAST OK", 72, |row| row.last_success_seconds.map_or("never".to_owned(), |age| format!("{} ago", span(age)))),
    ("ALERTS/H", 60, |row| row.alerts_last_hour.to_string()),
    ("TOKEN", 50, |row| row.token_days_left.map_or("-".to_owned(), |days| format!("{days} d"))),
    ("HOLDER", 96, |row| row.holder.clone().unwrap_or_else(|| "nobody".to_owned())),
    ("REASON", 110, |row| row.reason.clone().unwrap_or_default()),
];

/// A heading and one line for each customer, no wider than this; what does not fit is cut. Without a width everything
/// is there, in one line each.
pub(super) fn table(rows: &[OverviewRow], width: Option<u16>) -> Vec<String> {
    let columns: Vec<_> = COLUMNS.iter().filter(|(_, from, _)| width.is_none_or(|width| width >= *from)).collect();
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
    if let Some(width) = width {
        table.set_width(width);
    }
    let mut heading = Row::from(columns.iter().map(|(name, ..)| *name));
    heading.max_height(1);
    table.set_header(heading);
    for row in rows {
        let mut line = Row::from(columns.iter().map(|(.., cell)| printable(&cell(row))));
        line.max_height(1);
        table.add_row(line);
    }
    // Numbers and states are shown whole; names and reasons share the rest.
    for (at, (name, ..)) in columns.iter().enumerate() {
        if !matches!(*name, "TENANT" | "HOLDER" | "REASON")
            && width.is_none_or(|width| width >= 50)
            && let Some(column) = table.column_mut(at)
        {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// The one that is chosen: what happened and what to do, as far as so many lines go.
fn in_words(row: &OverviewRow, width: u16, lines: usize) -> Vec<Line> {
    let since = row.since.to_string();
    let since = since.split_once('.').map_or(since.as_str(), |(seconds, _)| seconds).replace('T', " ");
    let first = line(format!(" {}: {} since {since} UTC", printable(&row.tenant), row.state), Tone::Heading);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).force_no_tty();
    table.set_width(width);
    for (what, text) in [("reason", &row.reason), ("next", &row.action)] {
        if let Some(text) = text {
            table.add_row(vec![what.to_owned(), printable(text)]);
        }
    }
    std::iter::once(first).chain(table.lines().map(|text| line(text.trim_end().to_owned(), Tone::Plain))).take(lines).collect()
}

/// `7 s`, `12 m`, `3 h 05 m`, `4 d 2 h`.
fn span(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what has a place")]
    let seconds = seconds.clamp(0.0, 1e12) as u64;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} m"),
        3600..86_400 => format!("{hours} h {:02} m", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// As much of a text as has room.
fn clipped(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width;
    let fits = |c: &char| {
        let needed = c.width().unwrap_or(0);
        room.checked_sub(needed).map(|rest| room = rest).is_some()
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use domain::{TenantId, Ticks};

    use super::*;

    fn row(tenant: &str, state: &str, lag_seconds: Option<f64>) -> OverviewRow {
        OverviewRow {
            directory_id: TenantId(uuid::Uuid::nil()),
            tenant: tenant.to_owned(),
            state: state.to_owned(),
            since: Ticks::parse("2026-11-21T12:00:00Z").unwrap(),
            reason: state.starts_with("needs").then(|| "the refresh token is dead, because the password was changed".to_owned()),
            action: state
                .starts_with("needs")
                .then(|| format!("the customer's administrator: sign in again, through a link made with: tocsin tenant invite '{tenant}'")),
            lag_seconds,
            last_success_at: None,
            last_success_seconds: lag_seconds,
            throttled_until: None,
            alerts_last_hour: 12,
            token_days_left: Some(89),
            holder: Some("soc-1.example".to_owned()),
        }
    }

    fn overview() -> Overview {
        let tenants = vec![
            row("Contoso A/S", "active", Some(4.0)),
            row("株式会社コントソ・ジャパン・ホールディングス東京本社", "active", Some(7200.0)),
            row("Kızılırmak Gıda San. ve Tic. A.Ş.", "needs-consent", Some(90_000.0)),
            row("ünïcödé \u{1b}[2J\u{202e}", "paused", Some(900_000.0)),
            row("👩‍👩‍👧 Family Ltd", "awaiting-consent", None),
            row("new", "active", None),
        ];
        Overview { at: Ticks::parse("2026-11-22T08:30:05.123Z").unwrap(), daemons: 1, tenants }
    }

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_worst_come_first_and_those_left_alone_on_purpose_last() {
        let mut rows = overview().tenants;
        Order::Lag.sort(&mut rows);
        let states: Vec<_> = rows.iter().map(|row| (row.state.as_str(), row.lag_seconds)).collect();
        assert_eq!(
            states,
            [
                ("active", None),
                ("needs-consent", Some(90_000.0)),
                ("active", Some(7200.0)),
                ("active", Some(4.0)),
                ("awaiting-consent", None),
                ("paused", Some(900_000.0))
            ]
        );
        Order::Name.sort(&mut rows);
        assert_eq!(rows[0].tenant, "Contoso A/S");
        assert_eq!((0..4).fold(Order::Lag, |order, _| order.next()), Order::Lag);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_no_page_is_longer() {
        let overview = overview();
        for width in [1, 8, 20, 33, 40, 50, 60, 72, 80, 96, 110, 132, 200, 500] {
            for height in [1, 2, 3, 6, 10, 12, 24, 50] {
                for stale in [None, Some(("cannot reach the database x at y", Duration::from_secs(75)))] {
                    let lines = Shown::default().page(&overview, stale, width, height);
                    assert!(lines.len() <= usize::from(height), "{width}x{height}");
                    for line in &lines {
                        assert!(line.text.width() <= usize::from(width), "{width}x{height}: {:?}", line.text);
                        assert!(!line.text.contains(['\u{1b}', '\u{202e}', '\n']), "{:?}", line.text);
                    }
                }
            }
        }
    }

    #[test]
    fn a_usual_terminal_shows_who_is_blind_why_and_what_to_do() {
        let mut shown = Shown::default();
        shown.page(&overview(), None, 80, 24);
        shown.move_by(1);
        let lines = shown.page(&overview(), None, 80, 24);
        let page = text(&lines);
        assert_eq!(lines.len(), 24);
        assert!(page.starts_with("tocsin 08:30:05 UTC   1 daemon   1 needs-consent, 3 active"), "{page}");
        for words in ["never read", "1 d 1 h", "2 h 00 m", "4 s ago", "89 d", "password was changed", "tocsin tenant invite", "order: lag"]
        {
            assert!(page.contains(words), "{words}:\n{page}");
        }
        let chosen: Vec<_> = lines.iter().filter(|line| line.chosen).map(|line| (line.text.contains("Kızılırmak"), line.tone)).collect();
        assert_eq!(chosen, [(true, Tone::Bad)], "{page}");
        let wide = text(&Shown::default().page(&overview(), None, 200, 24));
        assert!(wide.contains("soc-1.example") && wide.contains("株式会社コントソ・ジャパン・ホールディングス東京本社"), "{wide}");
        let stale = text(&Shown::default().page(&overview(), Some(("cannot reach it", Duration::from_secs(75))), 100, 24));
        assert!(stale.contains("does not answer; what is shown is 1 m old: cannot reach it"), "{stale}");
    }

    #[test]
    fn all_of_many_can_be_reached_on_a_small_screen() {
        let tenants = (0..100).map(|n| row(&format!("customer {n:03}"), "active", Some(1000.0 - f64::from(n)))).collect();
        let many = Overview { tenants, ..overview() };
        let mut shown = Shown::default();
        let visible = |shown: &mut Shown, name: &str| text(&shown.page(&many, None, 60, 10)).contains(name);
        assert!(visible(&mut shown, "customer 000"));
        shown.move_pages(1);
        let second = format!("customer {:03}", shown.room);
        assert!(visible(&mut shown, &second));
        shown.move_to_last();
        assert!(visible(&mut shown, "customer 099") && !visible(&mut shown, "customer 000"));
        shown.move_by(1);
        assert!(visible(&mut shown, "customer 099"));
        shown.move_to_first();
        assert!(visible(&mut shown, "customer 000"));
        // Customers go while the last one is chosen.
        shown.move_to_last();
        assert!(text(&shown.page(&overview(), None, 60, 10)).contains("paused"));
    }
}

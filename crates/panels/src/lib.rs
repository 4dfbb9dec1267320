#![doc = include_str!("../README.md")]

pub mod boards;
pub mod grafana;
pub mod template;

/// A dashboard, and a chapter of the report.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// By this Grafana knows it, and links lead to it; never changes.
    pub uid: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The question that it answers.
    pub description: &'static str,
    /// Where its questions go.
    pub source: Source,
    /// What can be chosen above it.
    pub variables: &'static [Variable],
    /// Laid out from left to right, as many in a row as fit.
    pub panels: &'static [Panel],
}

/// Who answers the questions of a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Schema `dash`, by SQL.
    Postgres,
    /// Our metrics, by expressions of Prometheus.
    Prometheus,
}

/// What can be chosen above a board; "all" is always one of the choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Customers, by directory id.
    Tenant,
    /// Severities, the worst first.
    Severity,
}

impl Variable {
    /// Its name in a question.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Severity => "severity",
        }
    }
}

/// The question that lists all customers there are to choose from: what is shown, and what is meant.
pub const TENANTS: &str = "select tenant || case state when 'active' then '' else ' (' || state || ')' end as __text, directory_id::text as __value \
     from dash.tenant_health order by tenant, since";

/// Severities as Graph spells them, by rank; whatever else a source may send counts as `unknown`.
pub const SEVERITIES: [&str; 5] = ["high", "medium", "low", "informational", "unknown"];

/// One picture.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its heading.
    pub title: &'static str,
    /// What exactly is shown, and what it does not say.
    pub description: &'static str,
    /// Of its figures, where a column does not say otherwise.
    pub unit: Unit,
    /// How it is drawn.
    pub kind: Kind,
    /// What is said when there is nothing to draw: what that means, and what to look at.
    pub empty: &'static str,
    /// The question.
    pub query: &'static str,
    /// What the answer consists of, in order.
    pub columns: &'static [Column],
    /// Its width, of 24.
    pub width: u8,
    /// Its height, in steps of 30 pixels.
    pub height: u8,
}

impl Panel {
    /// Whether the question is about all customers together, so that nobody can be left out.
    pub fn is_about_all(&self) -> bool {
        !self.query.contains("${tenant")
    }
}

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Large figures, one for each column.
    Stat(Alarm),
    /// Stacked bars over time, one for each step of so many seconds at least.
    Bars(u32),
    /// Lines over time, with a point for each step of so many seconds at least.
    Lines(u32),
    /// A bar for each row, the longest first.
    Ranking,
    /// Rows and columns.
    Table,
}

/// From which figure on a large figure is shown as trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// It is only a figure.
    Never,
    /// Somebody should look from here on.
    Warn(u32),
    /// Somebody should act from here on.
    Act(u32),
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// A share between 0 and 1.
    Share,
    /// Days.
    Days,
    /// Things in a second.
    PerSecond,
    /// Nothing: words.
    None,
}

/// A column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the answer, and its heading.
    pub name: &'static str,
    /// What stands in it.
    pub holds: Holds,
}

/// What stands in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The instant of a row of a series; named `time`.
    Time,
    /// The name of the series that the row belongs to; named `metric`.
    Series,
    /// Words, which may have been written by an attacker.
    Words,
    /// A figure in the unit of its panel.
    Figure,
    /// A figure in a unit of its own.
    FigureIn(Unit),
    /// An instant.
    When,
    /// An address that leads to the thing, built by us.
    Address,
    /// The directory id of a customer, which leads to his own board.
    Customer,
}

/// The columns of a series in long form.
const SERIES: &[Column] = &[
    Column { name: "time", holds: Holds::Time },
    Column { name: "metric", holds: Holds::Series },
    Column { name: "value", holds: Holds::Figure },
];

const fn words(name: &'static str) -> Column {
    Column { name, holds: Holds::Words }
}

const fn figure(name: &'static str) -> Column {
    Column { name, holds: Holds::Figure }
}

const fn figure_in(name: &'static str, unit: Unit) -> Column {
    Column { name, holds: Holds::FigureIn(unit) }
}

const fn when(name: &'static str) -> Column {
    Column { name, holds: Holds::When }
}

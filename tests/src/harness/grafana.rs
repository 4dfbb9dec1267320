//! What Grafana makes of a question before it sends it, written anew after its PostgreSQL source: variables and the interval
//! as text first, then macros, each with the arguments up to the first parenthesis that closes.

use anyhow::{Context, bail};
use sqlx::PgPool;

/// About when and whom.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// In words, for messages.
    pub words: String,
    /// Beginning, as Grafana writes it.
    pub from: String,
    /// End, likewise.
    pub to: String,
    /// The range in seconds.
    pub seconds: u64,
    /// The values of each variable.
    pub values: Vec<(&'static str, Vec<String>)>,
}

impl Chosen {
    /// What people choose: an hour, a day and all there is; all customers, one, and one whose name has a quote in it.
    ///
    /// # Errors
    /// When the database does not say which customers there are.
    pub async fn all(pool: &PgPool) -> anyhow::Result<Vec<Self>> {
        let all: Vec<String> =
            sqlx::query_scalar("select directory_id::text from dash.tenant_health order by tenant").fetch_all(pool).await?;
        let severities = |more: &[&str]| panels::SEVERITIES.iter().chain(more).map(|severity| (*severity).to_owned()).collect::<Vec<_>>();
        let quoted: Vec<String> =
            sqlx::query_scalar("select directory_id::text from dash.tenant_health where tenant like '%''%'").fetch_all(pool).await?;
        let mut chosen = Vec::new();
        for (range, seconds) in [("1 h", 3600_u64), ("24 h", 86_400), ("90 d", 90 * 86_400)] {
            let (from, to): (String, String) = sqlx::query_as(
                "select to_char(now() at time zone 'UTC' - $1::bigint * interval '1 second', $2), to_char(now() at time zone 'UTC', $2)",
            )
            .bind(i64::try_from(seconds)?)
            .bind("YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"")
            .fetch_one(pool)
            .await?;
            for (who, tenants, more) in [
                ("all", all.clone(), [].as_slice()),
                ("one", all.iter().skip(4).take(1).cloned().collect(), [].as_slice()),
                ("a name with a quote", quoted.clone(), ["o'hara', '') or true --"].as_slice()),
            ] {
                let values = vec![("tenant", tenants), ("severity", severities(more))];
                chosen.push(Self { words: format!("{range}, {who}"), from: from.clone(), to: to.clone(), seconds, values });
            }
        }
        Ok(chosen)
    }

    /// The step of a picture, for a screen of a thousand pixels and a panel that wants at least so many seconds.
    pub fn interval(&self, least: u64) -> u64 {
        let wanted = self.seconds / 1000;
        [15, 60, 300, 900, 3600, 7200, 10_800, 21_600, 43_200, 86_400].into_iter().find(|step| *step >= wanted.max(least)).unwrap_or(86_400)
    }

    /// The statement that reaches the database.
    ///
    /// # Errors
    /// When Grafana would refuse it.
    pub fn statement(&self, raw: &str, interval: u64) -> anyhow::Result<String> {
        let mut sql = raw.replace("$__interval", &format!("{interval}s"));
        for (name, values) in &self.values {
            let quoted: Vec<_> = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
            sql = sql.replace(&format!("${{{name}:sqlstring}}"), &quoted.join(","));
        }
        let mut made = String::new();
        let mut rest = sql.as_str();
        while let Some(at) = rest.find("$__") {
            made.push_str(&rest[..at]);
            let (call, after) = rest[at + 1..].split_once(')').with_context(|| format!("no end of a macro: {rest}"))?;
            let (name, arguments) = call.split_once('(').with_context(|| format!("no macro: {call}"))?;
            let arguments: Vec<_> = arguments.split(',').map(str::trim).collect();
            made.push_str(&self.evaluated(name, &arguments)?);
            rest = after;
        }
        Ok(made + rest)
    }

    fn evaluated(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(match (name, arguments) {
            ("__timeFilter", [column]) => format!("{column} BETWEEN '{}' AND '{}'", self.from, self.to),
            ("__timeFrom", _) => format!("'{}'", self.from),
            ("__timeTo", _) => format!("'{}'", self.to),
            ("__timeGroupAlias", [column, interval]) => {
                let seconds: u64 = interval.trim_end_matches('s').parse().with_context(|| format!("error parsing interval {interval}"))?;
                format!("floor(extract(epoch from {column})/{seconds})*{seconds} AS \"time\"")
            }
            _ => bail!("unknown macro {name:?}"),
        })
    }
}

//! `views.md`, from the comments in a database that has just been migrated.

use anyhow::ensure;
use e2e::harness::World;

use super::{Page, plain, sentence};

/// Every column of schema dash with its view, in its order: view, words of the view, column, type, words of the column.
const COLUMNS: &str = "
    select c.relname::text, coalesce(obj_description(c.oid, 'pg_class'), ''), a.attname::text, format_type(a.atttypid, a.atttypmod),
           coalesce(col_description(c.oid, a.attnum), '')
    from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'dash'::regnamespace and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped
    order by c.relname, a.attnum";

#[tokio::test]
async fn views() -> anyhow::Result<()> {
    let world = World::build(e2e::harness::Setup::default()).await?;
    let columns: Vec<(String, String, String, String, String)> = sqlx::query_as(COLUMNS).fetch_all(&world.pool().await?).await?;
    world.end().await?;
    let mut page = Page::new(
        "views.md",
        "Views",
        "the comments in migrations/",
        "Schema `dash` is what dashboards and scripts may rely on: columns are added at the end, and none changes its meaning without a line in the changelog. It \
         holds no token, key or ciphertext. Whoever reads it needs role `tocsin_reader`, or [a role of his own](../how-to/read-only-role.md) that sees some \
         customers only. Times are `timestamptz`. `\\d+ dash.alert` in `psql` says the same. `directory_id` is everywhere the customer's directory (tenant) id at \
         Microsoft.",
    );
    ensure!(columns.len() > 100, "only {} columns were found", columns.len());
    let silent: Vec<_> = columns
        .iter()
        .filter(|(_, of_view, _, _, words)| of_view.is_empty() || words.is_empty())
        .map(|(view, _, column, ..)| format!("dash.{view}.{column}"))
        .collect();
    ensure!(silent.is_empty(), "no comment says what these are: {}", silent.join(", "));
    for of_view in columns.chunk_by(|one, other| one.0 == other.0) {
        page.heading(2, &format!("`dash.{}`", of_view[0].0));
        page.paragraph(&sentence(&of_view[0].1));
        let row = |(_, _, name, kind, words): &(String, String, String, String, String)| {
            let kind = if kind == "timestamp with time zone" { "timestamptz" } else { kind };
            vec![format!("`{name}`"), kind.to_owned(), plain(words)]
        };
        page.table(&["Column", "Type", ""], &of_view.iter().map(row).collect::<Vec<_>>());
    }
    page.settle()
}

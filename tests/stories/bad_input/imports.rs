//! Lists of tenants that cannot be read, or not in part.

use e2e::harness::run_in;

use super::{HEADER, id, mode, refused, small_world};

/// Lines of an import file that are each wrong in one way, with the words that say so.
fn bad_lines() -> Vec<(Vec<u8>, &'static [&'static str])> {
    let token = "0.AXplanted-token-planted-token-planted";
    let line = |text: String| text.into_bytes();
    vec![
        (line(format!("not-a-guid,Bad 1,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!(",Bad 2,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!("00000000-0000-0000-0000-000000000000,Bad 3,lab,main,graph-alerts,{token}")), &["directory_id", "GUID"]),
        (line(format!("{},Bad 4,lab,main,graph-alerts", id(4))), &["5 columns instead of 6"]),
        (line(format!("{},Bad 5,lab,main,graph-alerts,{token},", id(5))), &["7 columns instead of 6"]),
        (line(format!("{},Bad 6,mars,main,graph-alerts,{token}", id(6))), &["cloud \"mars\"", "known are", "lab", "[clouds."]),
        (line(format!("{},Bad 7,labb,main,graph-alerts,{token}", id(7))), &["cloud \"labb\"", "did you mean \"lab\"?"]),
        (line(format!("{},Bad 8,lab,mian,graph-alerts,{token}", id(8))), &["app \"mian\"", "did you mean \"main\"?", "[apps."]),
        (line(format!("{},Bad 9,lab,,graph-alerts,{token}", id(9))), &["app is empty", "main"]),
        (
            line(format!("{},Bad 10,lab,main,graph-alert,{token}", id(10))),
            &["source \"graph-alert\"", "did you mean \"graph-alerts\"?", "mde-alerts"],
        ),
        (line(format!("{},Bad 11,lab,main,,{token}", id(11))), &["no source", "graph-alerts"]),
        (line(format!("{},Bad 12,lab,main,graph-alerts;mailbox,{token}", id(12))), &["source \"mailbox\"", "known are"]),
        (line(format!("{},,lab,main,graph-alerts,{token}", id(13))), &["name is empty"]),
        (line(format!("{},Bad\t14,lab,main,graph-alerts,{token}", id(14))), &["control character"]),
        (line(format!("{},{},lab,main,graph-alerts,{token}", id(15), id(16))), &["directory id of another tenant"]),
        (line(format!("{},\"Bad 16,lab,main,graph-alerts,{token}", id(16))), &["quote that is never closed"]),
        (line(format!("{},\"Bad\" 17,lab,main,graph-alerts,{token}", id(17))), &["text after a closing quote"]),
        (line(format!("{},Bad \"18\",lab,main,graph-alerts,{token}", id(18))), &["quote inside of a cell"]),
        (line(format!("{},Bad 19,lab,main,graph-alerts,two planted", id(19))), &["refresh_token", "blank"]),
        (line(format!("{};Bad 20;lab;main;graph-alerts;{token}", id(20))), &["';'", "','"]),
        ([id(21).as_bytes(), b",Bad \xff 21,lab,main,graph-alerts,planted"].concat(), &["UTF-8"]),
        (line(format!("{},Good 1,lab,main,graph-alerts,{token}", id(22))), &["name \"Good 1\"", "belongs to tenant", "unique"]),
        (line(format!("{},Bad 23,lab,main,graph-alerts,planted-other", id(80))), &["line 2", "already"]),
        (line(format!("{},Bad 24,lab,main,graph-alerts,", id(80).to_uppercase())), &["line 2", "already"]),
        // A column too few at the start puts the token where the source should be.
        (line(format!("{},Bad 25,lab,main,{token},graph-alerts", id(25))), &["source", "known"]),
    ]
}

#[tokio::test]
async fn a_bad_line_of_an_import_is_named_by_number_and_the_others_are_imported() -> anyhow::Result<()> {
    let world = small_world().await?;
    let good = [
        format!("{},Good 1,lab,main,graph-alerts,planted-token-1", id(80)),
        format!("{},\"Good, \"\"2\"\"\",lab,main,graph-alerts;mde-alerts,", id(81)),
        format!("{{{}}},  Işık & Værktøj ApS  , lab , main ,mde-alerts; graph-alerts ;,planted-token-3", id(82).to_uppercase()),
        format!("{},Good 4,lab,main,graph-incidents,", id(83)),
    ];
    // A good line, the bad ones with an empty line in between, and good ones again, so that nothing stops at the first.
    let bad = bad_lines();
    let mut csv = format!("{HEADER}\n{}\n", good[0]).into_bytes();
    let mut numbers = Vec::new();
    for (at, (line, _)) in bad.iter().enumerate() {
        numbers.push(3 + at + usize::from(at > 4));
        csv.extend_from_slice(line);
        csv.extend_from_slice(if at == 4 { b"\n\n" } else { b"\n" });
    }
    for line in &good[1..] {
        csv.extend_from_slice(format!("{line}\n").as_bytes());
    }
    let file = world.write_private("bad.csv", "")?;
    std::fs::write(&file, &csv)?;
    let file = file.display().to_string();

    let ended = world.run(&["tenant", "import", &file]).await?;
    let sentence = ended.complaint()?;
    assert_eq!(ended.code(), 1, "{sentence}");
    let told: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(told.len(), bad.len(), "{}", ended.stderr);
    for ((number, (_, words)), told) in numbers.iter().zip(&bad).zip(told) {
        assert!(told.starts_with(&format!("line {number}: ")), "line {number}: {told}");
        for word in *words {
            assert!(told.contains(word), "{word:?} is missing in: {told}");
        }
        assert!(sentence.contains(&number.to_string()), "{number} is missing in: {sentence}");
    }
    assert_eq!(ended.stdout.lines().count(), good.len(), "{}", ended.stdout);
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("planted"), "a token, or a line with one, is repeated: {text}");
    }

    let names: Vec<(String, String)> =
        sqlx::query_as("select tenant, state from dash.tenant_health order by directory_id").fetch_all(&world.pool().await?).await?;
    let expected =
        [("Good 1", "active"), ("Good, \"2\"", "awaiting-consent"), ("Işık & Værktøj ApS", "active"), ("Good 4", "awaiting-consent")];
    assert_eq!(names, expected.map(|(name, state)| (name.to_owned(), state.to_owned())), "what was good, and nothing else");

    // As data: every line with its number, and the same exit code.
    let again = world.run(&["tenant", "import", "--json", &file]).await?;
    assert_eq!(again.code(), 1);
    let lines = again.json()?;
    let lines = lines.as_array().cloned().unwrap_or_default();
    assert_eq!(lines.len(), bad.len() + good.len());
    let failed: Vec<u64> = lines.iter().filter(|line| line["ok"] == false).filter_map(|line| line["line"].as_u64()).collect();
    assert_eq!(failed, numbers.iter().map(|number| *number as u64).collect::<Vec<_>>());
    assert!(!again.stdout.contains("planted"));
    world.end().await
}

#[tokio::test]
async fn a_file_that_is_no_tenant_list_is_refused_whole_and_says_why() -> anyhow::Result<()> {
    let world = small_world().await?;
    let row = format!("{},Acme,lab,main,graph-alerts,planted-token", id(1));
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(format!("{HEADER}\n{row}\n").encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("separated by semicolons", format!("{HEADER}\n{row}\n").replace(',', ";").into_bytes(), &["line 1", "';'", "','", HEADER]),
        ("without a header", format!("{row}\n").into_bytes(), &["line 1", "header", HEADER]),
        ("empty", Vec::new(), &["empty", HEADER]),
        ("blank lines only", b"\r\n\n".to_vec(), &["empty", HEADER]),
        (
            "a column with another name",
            format!("{}\n{row}\n", HEADER.replace("sources", "source")).into_bytes(),
            &["line 1", "sources", HEADER],
        ),
        (
            "columns in another order",
            format!("{}\n{row}\n", HEADER.replace("name,cloud", "cloud,name")).into_bytes(),
            &["line 1", "order", HEADER],
        ),
        ("UTF-16", utf16, &["UTF-16", "UTF-8"]),
    ];
    for (told, content, words) in cases {
        let file = world.write_private("list.csv", "")?;
        std::fs::write(&file, content)?;
        let ended = world.run(&["tenant", "import", &file.display().to_string()]).await?;
        // These sentences begin like the note for a line, but are the last word of the command.
        refused(told, &ended, 1, words)?;
        assert!(!ended.stderr.contains("planted"), "{told}: {}", ended.stderr);
    }
    refused(
        "no such file",
        &world.run(&["tenant", "import", "/nonexistent/list.csv"]).await?,
        4,
        &["/nonexistent/list.csv", "cannot read"],
    )?;
    assert_eq!(world.count("select from dash.tenant_health").await?, 0);
    world.end().await
}

#[tokio::test]
async fn a_list_from_a_spreadsheet_with_bom_and_crlf_is_accepted_and_one_that_others_can_read_is_warned_of() -> anyhow::Result<()> {
    let world = small_world().await?;
    let tenants = world.cloud.tenants();
    let csv = format!("\u{feff}{}", world.csv(&tenants).replace('\n', "\r\n"));
    let file = world.write_private("list.csv", &csv)?;
    let path = file.display().to_string();
    let ended = world.run(&["tenant", "import", &path]).await?.ok()?;
    assert_eq!(ended.stderr, "");
    assert_eq!(world.count("select from dash.tenant_health where state = 'active'").await?, 2);
    mode(&file, 0o644)?;
    let ended = world.run(&["tenant", "import", &path]).await?.ok()?;
    for word in ["warning", &path, "read by others", "644"] {
        assert!(ended.stderr.contains(word), "{word:?} is missing in: {}", ended.stderr);
    }
    // The same from a pipe.
    let piped = run_in(&world.config, &["tenant", "import", "-"], &csv, &[]).await?.ok()?;
    assert!(piped.stdout.lines().all(|line| line.contains("unchanged")), "{}", piped.stdout);
    world.end().await
}

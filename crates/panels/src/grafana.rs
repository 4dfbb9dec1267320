//! A board as Grafana's dashboard in JSON, in the form that Grafana 11 and later read from files.
//!
//! The data source is always the variable `datasource`: what a file names literally, or asks for at import, fails where
//! the file is provisioned.

use serde_json::{Value, json};

use crate::{Alarm, Board, Column, Holds, Kind, Panel, SEVERITIES, Source, TENANTS, Unit, Variable, boards};

/// The oldest form that Grafana 11 writes; later ones bring it up to date when they load it.
const SCHEMA: u32 = 39;
/// The width of a row.
const GRID: u8 = 24;

/// The whole dashboard.
pub fn dashboard(board: &Board) -> Value {
    let mut at = (0_u32, 0_u8, 0_u8);
    let mut panels = Vec::with_capacity(board.panels.len());
    for (number, panel) in board.panels.iter().enumerate() {
        if at.1 + panel.width > GRID {
            at = (at.0 + u32::from(at.2), 0, 0);
        }
        panels.push(picture(board, panel, number + 1, at.0, at.1));
        at = (at.0, at.1 + panel.width, at.2.max(panel.height));
    }
    json!({
        "id": null,
        "uid": board.uid,
        "title": format!("tocsin: {}", board.title),
        "description": board.description,
        "tags": ["tocsin"],
        "schemaVersion": SCHEMA,
        "editable": false,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "1m",
        "time": { "from": "now-24h", "to": "now" },
        "links": links(board),
        "annotations": { "list": [] },
        "templating": { "list": variables(board) },
        "panels": panels,
    })
}

/// The kind of data source that answers a board.
pub fn source_type(source: Source) -> &'static str {
    match source {
        Source::Postgres => "grafana-postgresql-datasource",
        Source::Prometheus => "prometheus",
    }
}

fn source(board: &Board) -> Value {
    json!({ "type": source_type(board.source), "uid": "${datasource}" })
}

fn links(board: &Board) -> Value {
    boards::ALL
        .iter()
        .filter(|other| other.uid != board.uid)
        .map(|other| {
            json!({
                "title": other.title,
                "type": "link",
                "url": format!("/d/{}", other.uid),
                "icon": "dashboard",
                "tooltip": other.description,
                "tags": [],
                "asDropdown": false,
                "targetBlank": false,
                // The name of a data source means something else where another kind of it answers.
                "includeVars": other.source == board.source,
                "keepTime": true,
            })
        })
        .collect()
}

fn variables(board: &Board) -> Value {
    let mut list = vec![json!({
        "name": "datasource",
        "label": "Data source",
        "description": "Where the tables or the metrics of tocsin are",
        "type": "datasource",
        "query": source_type(board.source),
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "multi": false,
        "includeAll": false,
        "options": [],
    })];
    list.extend(board.variables.iter().map(|variable| match variable {
        Variable::Tenant => json!({
            "name": variable.name(),
            "label": "Customer",
            "description": "A convenience and no boundary: what somebody may see, the role of the data source decides",
            "type": "query",
            "datasource": source(board),
            "query": TENANTS,
            "refresh": 1,
            "regex": "",
            "sort": 0,
            "hide": 0,
            "multi": true,
            "includeAll": true,
            "current": { "text": ["All"], "value": ["$__all"] },
            "options": [],
        }),
        Variable::Severity => json!({
            "name": variable.name(),
            "label": "Severity",
            "description": "What has none, or one that is not known here, counts as unknown",
            "type": "custom",
            "query": SEVERITIES.join(","),
            "hide": 0,
            "multi": true,
            "includeAll": true,
            "current": { "text": ["All"], "value": ["$__all"] },
            "options": [],
        }),
    }));
    Value::Array(list)
}

fn picture(board: &Board, panel: &Panel, id: usize, y: u32, x: u8) -> Value {
    let mut made = json!({
        "id": id,
        "title": panel.title,
        "description": panel.description,
        "type": kind(panel.kind),
        "datasource": source(board),
        "gridPos": { "x": x, "y": y, "w": panel.width, "h": panel.height },
        "targets": targets(board, panel),
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
        "options": options(panel),
    });
    if let Kind::Bars(step) | Kind::Lines(step) = panel.kind {
        // A roll-up has nothing between its steps: a finer picture would be teeth of a saw.
        made["interval"] = Value::String(span(step));
    }
    made
}

/// As Grafana writes it.
fn span(seconds: u32) -> String {
    match seconds {
        86400 => "1d".into(),
        3600 => "1h".into(),
        60 => "1m".into(),
        other => format!("{other}s"),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat(_) => "stat",
        Kind::Bars(_) | Kind::Lines(_) => "timeseries",
        Kind::Ranking => "bargauge",
        Kind::Table => "table",
    }
}

fn targets(board: &Board, panel: &Panel) -> Value {
    match board.source {
        Source::Postgres => json!([{
            "refId": "A",
            "datasource": source(board),
            "editorMode": "code",
            "rawQuery": true,
            "rawSql": panel.query,
            "format": if matches!(panel.kind, Kind::Bars(_) | Kind::Lines(_)) { "time_series" } else { "table" },
        }]),
        Source::Prometheus => panel
            .query
            .lines()
            .zip(["A", "B", "C"])
            .map(|(line, letter)| {
                let quantile = line.strip_prefix("histogram_quantile(0.").and_then(|rest| rest.split_once(','));
                let percent = quantile.map(|(digits, _)| format!("p{digits:0<2}"));
                json!({
                    "refId": letter,
                    "datasource": source(board),
                    "editorMode": "code",
                    "expr": line,
                    "range": !matches!(panel.kind, Kind::Stat(_)),
                    "instant": matches!(panel.kind, Kind::Stat(_)),
                    "legendFormat": percent.or_else(|| by(line)).unwrap_or_default(),
                })
            })
            .collect(),
    }
}

/// The label by which an expression is split, as a legend.
fn by(expression: &str) -> Option<String> {
    let (_, label) = expression.split_once(" by (")?;
    let (label, _) = label.split_once(')')?;
    Some(format!("{{{{{label}}}}}"))
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "short",
        Unit::Seconds => "s",
        Unit::Share => "percentunit",
        Unit::Days => "d",
        Unit::PerSecond => "cps",
        Unit::None => "string",
    }
}

fn defaults(panel: &Panel) -> Value {
    let mut made = json!({
        "unit": unit(panel.unit),
        "noValue": panel.empty,
        "min": 0,
        "color": { "mode": "palette-classic" },
        "thresholds": { "mode": "absolute", "steps": steps(Alarm::Never) },
    });
    match panel.kind {
        Kind::Stat(alarm) => {
            made["color"] = json!({ "mode": "thresholds" });
            made["thresholds"]["steps"] = steps(alarm);
        }
        Kind::Ranking => made["color"] = json!({ "mode": "fixed", "fixedColor": "blue" }),
        Kind::Bars(_) => {
            made["custom"] = json!({
                "drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "barAlignment": 0,
                "stacking": { "mode": "normal", "group": "A" },
            });
        }
        Kind::Lines(_) => made["custom"] = json!({ "drawStyle": "line", "fillOpacity": 0, "lineWidth": 2, "spanNulls": false }),
        Kind::Table => made["custom"] = json!({ "align": "auto", "filterable": true, "cellOptions": { "type": "auto" } }),
    }
    if panel.unit == Unit::Share {
        made["max"] = json!(1);
    }
    if matches!(panel.kind, Kind::Table) || panel.unit == Unit::Days {
        made.as_object_mut().map(|made| made.remove("min"));
    }
    made
}

fn steps(alarm: Alarm) -> Value {
    match alarm {
        Alarm::Never => json!([{ "color": "text", "value": null }]),
        Alarm::Warn(from) => json!([{ "color": "green", "value": null }, { "color": "orange", "value": from }]),
        Alarm::Act(from) => json!([{ "color": "green", "value": null }, { "color": "red", "value": from }]),
    }
}

fn overrides(panel: &Panel) -> Value {
    let of = |name: &str, properties: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": properties });
    let mut list: Vec<Value> = panel
        .columns
        .iter()
        .filter_map(|Column { name, holds }| match holds {
            Holds::FigureIn(own) => Some(of(name, json!([{ "id": "unit", "value": unit(*own) }]))),
            Holds::When => Some(of(name, json!([{ "id": "unit", "value": "dateTimeAsIso" }, { "id": "custom.width", "value": 180 }]))),
            Holds::Address => Some(of(
                name,
                json!([{ "id": "links", "value": [{ "title": "Open in the Defender portal", "url": "${__value.raw}", "targetBlank": true }] }]),
            )),
            Holds::Customer => Some(of(
                name,
                json!([{ "id": "links", "value": [{ "title": "Only this customer", "url": "/d/tocsin-tenant?${__url_time_range}&var-tenant=${__value.raw}" }] }]),
            )),
            Holds::Time | Holds::Series | Holds::Words | Holds::Figure => None,
        })
        .collect();
    if panel.columns.iter().any(|column| column.holds == Holds::Series) && panel.query.contains("severity") {
        let colours = ["dark-red", "orange", "yellow", "blue", "gray"];
        list.extend(
            SEVERITIES
                .iter()
                .zip(colours)
                .map(|(severity, colour)| of(severity, json!([{ "id": "color", "value": { "mode": "fixed", "fixedColor": colour } }]))),
        );
    }
    Value::Array(list)
}

fn options(panel: &Panel) -> Value {
    // All rows of an answer, and not one figure made of them.
    let rows = json!({ "values": true, "calcs": [], "fields": "", "limit": 25 });
    let last = json!({ "values": false, "calcs": ["lastNotNull"], "fields": "" });
    match panel.kind {
        Kind::Stat(alarm) => json!({
            "reduceOptions": last,
            "colorMode": if alarm == Alarm::Never { "none" } else { "background" },
            "graphMode": "none",
            "justifyMode": "auto",
            "textMode": "auto",
            "orientation": "auto",
        }),
        Kind::Bars(_) | Kind::Lines(_) => json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        Kind::Ranking => json!({
            "reduceOptions": rows, "orientation": "horizontal", "displayMode": "basic", "valueMode": "text", "showUnfilled": false,
        }),
        Kind::Table => json!({ "showHeader": true, "cellHeight": "sm", "footer": { "show": false } }),
    }
}

use super::*;
use std::collections::BTreeSet;

fn noon() -> Stamp {
    Stamp::parse("2025-03-14T12:00:00.1133333Z").unwrap()
}

fn alert(face: &Face, number: u64, versions: usize) -> Alert {
    let mut alert = Alert::new(face, number, 4711, noon().minus(Duration::from_millis(1500)), noon());
    for step in 1..versions {
        alert.stamps.push(noon().plus(Duration::from_secs(step as u64 * 60)).on_grid());
    }
    alert
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let (one, same, other) = (Face::of(7, 1), Face::of(7, 1), Face::of(8, 1));
    for number in 0..50 {
        assert_eq!(render_graph(&one, &alert(&one, number, 4), 4, true), render_graph(&same, &alert(&same, number, 4), 4, true));
        assert_ne!(render_graph(&one, &alert(&one, number, 4), 4, true), render_graph(&other, &alert(&other, number, 4), 4, true));
    }
}

#[test]
fn alerts_are_valid_json_of_two_to_twenty_kilobytes() {
    let mut sizes = Vec::new();
    for tenant in 0..6 {
        let face = Face::of(1, tenant);
        for number in 0..200 {
            let text = render_graph(&face, &alert(&face, number, 1 + (number % 5) as usize), 5, true);
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(body["tenantId"], face.directory_id.to_string());
            sizes.push(text.len());
        }
    }
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!((4_800..6_300).contains(&mean), "mean size {mean}");
    assert!(*least >= 2_000 && *most <= 20_480 && *most > 12_000, "sizes from {least} to {most}");
}

#[test]
fn an_update_always_shows_and_old_versions_can_be_shown_again() {
    let face = Face::of(3, 0);
    for number in 0..40 {
        let whole = alert(&face, number, 6);
        let first = render_graph(&face, &alert(&face, number, 1), 1, true);
        assert_eq!(render_graph(&face, &whole, 1, true), first, "an old version stays as it was");
        let all: BTreeSet<String> = (1..=6).map(|versions| render_graph(&face, &whole, versions, true)).collect();
        assert_eq!(all.len(), 6, "each update changes the body");
    }
}

#[test]
fn some_ids_differ_in_case_alone() {
    let face = Face::of(1, 2);
    let ids: Vec<String> = (0..400).map(|number| alert(&face, number, 1).id.to_string()).collect();
    let exact: BTreeSet<&String> = ids.iter().collect();
    let folded: BTreeSet<String> = ids.iter().map(|id| id.to_lowercase()).collect();
    assert_eq!(exact.len(), ids.len(), "ids are unique");
    assert!(ids.len() - folded.len() >= 5, "only {} pairs", ids.len() - folded.len());
}

#[test]
fn later_members_are_hidden_from_callers_who_did_not_ask() {
    let face = Face::of(1, 0);
    let sentinel = (0..500).map(|n| alert(&face, n, 1)).find(|a| a.template(&face).service == "microsoftSentinel").unwrap();
    let shown = render_graph(&face, &sentinel, 1, true);
    let hidden = render_graph(&face, &sentinel, 1, false);
    assert!(shown.contains("\"serviceSource\":\"microsoftSentinel\"") && shown.contains("\"scheduledAlerts\""));
    assert!(hidden.contains("\"serviceSource\":\"unknownFutureValue\",\"detectionSource\":\"unknownFutureValue\""));
}

#[test]
fn both_apis_tell_the_same_story_in_their_own_words() {
    let face = Face::of(1, 1);
    let alert = (0..500)
        .map(|n| alert(&face, n, 3))
        .find(|a| a.is_endpoint(&face) && a.template(&face).evidence.contains(&evidence::Kind::Process))
        .unwrap();
    let graph: serde_json::Value = serde_json::from_str(&render_graph(&face, &alert, 3, true)).unwrap();
    let endpoint: serde_json::Value = serde_json::from_str(&render_endpoint(&face, &alert, 3, true)).unwrap();
    assert_eq!(graph["id"], endpoint["id"]);
    assert_eq!(graph["lastUpdateDateTime"], endpoint["lastUpdateTime"]);
    assert_eq!(graph["incidentId"], endpoint["incidentId"].as_i64().unwrap().to_string(), "text there, a number here");
    assert!(endpoint["severity"].as_str().unwrap().starts_with(|c: char| c.is_ascii_uppercase()));
    let of_graph =
        graph["evidence"].as_array().unwrap().iter().find(|e| e["@odata.type"] == "#microsoft.graph.security.processEvidence").unwrap();
    let of_endpoint = endpoint["evidence"].as_array().unwrap().iter().find(|e| e["entityType"] == "Process").unwrap();
    assert_eq!(of_graph["processCommandLine"], of_endpoint["processCommandLine"]);
    assert_eq!(of_graph["imageFile"]["sha256"], of_endpoint["sha256"]);
    assert!(render_endpoint(&face, &alert, 3, false).ends_with("\"evidence\":[]}"), "without $expand the evidence is an empty array");
}

#[test]
fn the_letters_of_the_customers_languages_are_there() {
    let mut all = String::new();
    for tenant in 0..6 {
        let face = Face::of(1, tenant);
        for number in 0..60 {
            all.push_str(&render_graph(&face, &alert(&face, number, 4), 4, true));
        }
    }
    for letter in ['ı', 'İ', 'ş', 'æ', 'ø', 'å'] {
        assert!(all.contains(letter), "{letter}");
    }
}

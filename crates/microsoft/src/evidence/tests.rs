use super::*;

fn named(facts: &Facts) -> Vec<(&'static str, &str)> {
    facts.things.iter().map(|thing| (thing.kind.as_str(), thing.value.as_str())).collect()
}

fn graph(evidence: &str) -> Facts {
    read(Source::GraphAlerts, &format!(r#"{{"id":"a","evidence":{evidence}}}"#)).unwrap()
}

/// The shapes of Microsoft's own page about the resource.
#[test]
fn an_alert_of_graph_names_its_device_file_process_and_account() {
    let facts = read(
        Source::GraphAlerts,
        r##"{"id": "da637551227677560813_-961444813", "detectorId": "e0da400f", "description": "A hidden file", "mitreTechniques": ["T1564.001", "T1059"],
        "firstActivityDateTime": "2021-04-26T07:45:50.116Z", "lastActivityDateTime": "2021-05-02T07:56:58.222Z", "productName": "Defender",
        "evidence": [
          {"@odata.type": "#microsoft.graph.security.deviceEvidence", "verdict": "unknown", "mdeDeviceId": "73e7", "deviceDnsName": "tempDns",
           "ipInterfaces": ["1.1.1.1"], "roles": ["compromised"], "vmMetadata": {"vmId": "ca1b"}},
          {"@odata.type": "#microsoft.graph.security.fileEvidence", "verdict": "suspicious", "mdeDeviceId": "73e7", "roles": [],
           "fileDetails": {"sha1": "5F1E", "sha256": "8963", "fileName": "MsSense.exe", "filePath": "C:\\Program Files"}},
          {"@odata.type": "#microsoft.graph.security.processEvidence", "verdict": "malicious", "processId": 4780, "mdeDeviceId": "73e7",
           "imageFile": {"sha1": "5f1e", "sha256": "8963", "fileName": "MsSense.exe"}, "parentProcessImageFile": {"sha1": null, "fileName": "services.exe"},
           "userAccount": {"accountName": "SYSTEM", "domainName": "NT AUTHORITY", "userSid": "S-1-5-18", "userPrincipalName": null}}
        ]}"##,
    )
    .unwrap();
    assert_eq!(
        named(&facts),
        [("device", "tempDns"), ("user", "NT AUTHORITY\\SYSTEM"), ("file-hash", "5f1e"), ("file-hash", "8963"), ("process", "MsSense.exe")]
    );
    let hash = &facts.things[3];
    assert_eq!((hash.verdict.as_deref(), hash.file_name.as_deref()), (Some("malicious"), Some("MsSense.exe")), "the worst that was said");
    assert_eq!(facts.things[0].roles, ["compromised"]);
    assert_eq!(facts.techniques, ["T1059", "T1564.001"]);
    assert_eq!((facts.detector.as_deref(), facts.product.as_deref()), (Some("e0da400f"), Some("Defender")));
    assert_eq!(facts.active.0, Ticks::parse("2021-04-26T07:45:50.116Z"));
}

#[test]
fn an_alert_of_endpoint_names_the_same_in_its_flat_shape() {
    let facts = read(
        Source::MdeAlerts,
        r#"{"id": "da1", "computerDnsName": "temp123.contoso.com", "machineId": "111e", "relatedUser": {"userName": "temp123", "domainName": "DOMAIN"},
        "firstEventTime": "2021-01-26T20:31:32.9562661Z", "mitreTechniques": "T1064, T1085",
        "evidence": [
          {"entityType": "User", "sha1": null, "accountName": "name", "domainName": "DOMAIN", "userSid": "S-1-5", "userPrincipalName": "temp123@microsoft.com"},
          {"entityType": "Process", "sha1": "ff83", "sha256": "a475", "fileName": "rundll32.exe", "accountName": null, "ipAddress": null},
          {"entityType": "File", "sha1": "8563", "sha256": null, "fileName": "suspicious.dll"},
          {"entityType": "Ip", "ipAddress": "203.0.113.7"}, {"entityType": "Url", "url": "https://evil.example/x"}
        ]}"#,
    )
    .unwrap();
    assert_eq!(
        named(&facts),
        [
            ("device", "temp123.contoso.com"),
            ("user", "DOMAIN\\temp123"),
            ("user", "temp123@microsoft.com"),
            ("ip", "203.0.113.7"),
            ("file-hash", "8563"),
            ("file-hash", "a475"),
            ("file-hash", "ff83"),
            ("url", "https://evil.example/x"),
            ("process", "rundll32.exe")
        ]
    );
    assert_eq!(facts.techniques, ["T1064", "T1085"]);
    assert!(facts.active.0.is_some());
}

#[test]
fn evidence_within_evidence_is_found_and_says_what_was_said_around_it() {
    let facts = graph(
        r##"[{"@odata.type": "#x.malwareEvidence", "verdict": "malicious", "roles": ["source"],
              "files": [{"fileDetails": {"sha256": "ab", "fileName": "a.exe"}}], "processes": [{"imageFile": {"fileName": "b.exe"}}]},
             {"@odata.type": "#x.hostLogonSessionEvidence", "account": {"userAccount": {"userPrincipalName": "u@x"}}, "host": {"mdeDeviceId": "1", "deviceDnsName": "d"}},
             {"@odata.type": "#x.networkConnectionEvidence", "sourceAddress": {"ipAddress": "10.0.0.1"}, "destinationAddress": {"ipAddress": "192.0.2.1"}},
             {"@odata.type": "#x.analyzedMessageEvidence", "senderIp": "192.0.2.2", "recipientEmailAddress": "r@x", "urls": ["https://a", "https://b"]},
             {"@odata.type": "#x.mailboxEvidence", "primaryAddress": "m@x"}, {"@odata.type": "#x.ioTDeviceEvidence", "deviceName": "camera", "ipAddress": {"ipAddress": "10.0.0.2"}},
             {"@odata.type": "#x.fileHashEvidence", "algorithm": "sha256", "value": "CD"}]"##,
    );
    assert_eq!(
        named(&facts),
        [
            ("device", "camera"),
            ("device", "d"),
            ("user", "u@x"),
            ("ip", "10.0.0.1"),
            ("ip", "10.0.0.2"),
            ("ip", "192.0.2.1"),
            ("ip", "192.0.2.2"),
            ("file-hash", "ab"),
            ("file-hash", "cd"),
            ("url", "https://a"),
            ("url", "https://b"),
            ("mailbox", "m@x"),
            ("mailbox", "r@x"),
            ("process", "b.exe")
        ]
    );
    let file = facts.things.iter().find(|thing| thing.value == "ab").unwrap();
    assert_eq!((file.verdict.as_deref(), file.roles.as_slice()), (Some("malicious"), ["source".to_owned()].as_slice()));
}

#[test]
fn what_nobody_knows_yields_what_is_recognisable_and_never_an_error() {
    let unknown = graph(
        r##"[{"@odata.type": "#microsoft.graph.security.holodeckEvidence", "ipAddress": "192.0.2.9", "weight": 1.50, "grants": [{"a": []}]}]"##,
    );
    assert_eq!(named(&unknown), [("ip", "192.0.2.9")]);
    for odd in [
        "null",
        "{}",
        "7",
        "[]",
        "[null, 7, \"x\", [], {\"url\": 7, \"roles\": 1, \"userAccount\": []}]",
        r#"[{"ipAddress": {"ipAddress": []}}]"#,
    ] {
        assert_eq!(graph(odd), Facts::default(), "{odd}");
    }
    assert_eq!(read(Source::GraphAlerts, "{}").unwrap(), Facts::default());
    for broken in ["", "[]", "null", "{", r#"{"evidence": [}"#] {
        assert!(read(Source::GraphAlerts, broken).is_err(), "{broken}");
    }
}

#[test]
fn every_text_that_comes_out_can_be_held_by_postgres_and_is_bounded() {
    let long = "x".repeat(5000);
    let facts = read(
        Source::GraphAlerts,
        &format!(
            r#"{{"description": "a\u0000b\ud800", "mitreTechniques": ["T\u0000", "{long}", 7, ""], "\ud800": 1,
            "evidence": [{{"url": "https://\ud800\u0000/{long}", "deviceDnsName": "  ", "verdict": "\u0000", "roles": ["\udc00", "unknown"]}}]}}"#
        ),
    )
    .unwrap();
    assert_eq!(facts.description.as_deref(), Some("a\u{fffd}b\u{fffd}"));
    assert_eq!(facts.techniques, ["T\u{fffd}"]);
    let [url] = facts.things.as_slice() else { panic!("{:?}", facts.things) };
    assert!(url.value.starts_with("https://\u{fffd}\u{fffd}/xxx") && url.value.len() <= MAX_VALUE, "{}", url.value.len());
    assert_eq!((url.verdict.as_deref(), url.roles.as_slice()), (Some("\u{fffd}"), ["\u{fffd}".to_owned()].as_slice()));
    let many: Vec<String> = (0..MAX_THINGS + 50).map(|n| format!(r#"{{"ipAddress": "ip {n}"}}"#)).collect();
    assert_eq!(graph(&format!("[{}]", many.join(","))).things.len(), MAX_THINGS);
}

#[test]
fn evidence_that_embeds_itself_for_ever_is_left_at_some_depth() {
    let mut nested = r#"{"ipAddress": "deep"}"#.to_owned();
    for n in 0..20 {
        nested = format!(r#"{{"ipAddresses": [{nested}], "url": "{n}"}}"#);
    }
    let facts = graph(&format!("[{nested}]"));
    assert_eq!(facts.things.len(), MAX_NESTING + 1);
    assert!(facts.things.iter().all(|thing| thing.kind == Kind::Url));
}

//! Tags, repositories, referrers.

use super::*;

/// The cases.
pub const CASES: &[Case] = &[
    (
        "tags in order, page by page",
        |r| {
            r.push_parts("a");
            for tag in ["c", "a", "b"] {
                let _ = r.put(tag, MANIFEST, &bytes_of(&Repository::manifest("a")));
            }
            let tags = |query: &str| {
                let reply = r.ask("GET", &format!("tags/list{query}"), &[], b"");
                let document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                format!("{} {}", document["tags"], reply.header("link").contains("rel=\"next\""))
            };
            format!("{}; {}; {}", tags(""), tags("?n=2"), tags("?n=2&last=b"))
        },
        r#"["a","b","c"] false; ["a","b"] true; ["c"] false"#,
        Absent,
    ),
    (
        "the next page is where the link leads",
        |r| {
            r.push_parts("a");
            for tag in ["a", "b", "c"] {
                let _ = r.put(tag, MANIFEST, &bytes_of(&Repository::manifest("a")));
            }
            let link = r.ask("GET", "tags/list?n=2", &[], b"").header("link").to_owned();
            let next = link.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
            let document: Value =
                serde_json::from_slice(&r.ask("GET", &next, &[], b"").body).unwrap_or_default();
            document["tags"].to_string()
        },
        r#"["c"]"#,
        Absent,
    ),
    (
        "no tags wanted",
        |r| {
            r.push("1", "a");
            let reply = r.ask("GET", "tags/list?n=0", &[], b"");
            format!("{} {}", reply.text().contains("[]"), reply.header("link"))
        },
        "true ",
        Absent,
    ),
    (
        "a number that is none",
        |r| {
            r.push("1", "a");
            seen(&r.ask("GET", "tags/list?n=-1", &[], b""))
        },
        "400 PAGINATION_NUMBER_INVALID",
        Absent,
    ),
    (
        "tags of an unknown repository",
        |r| seen(&r.ask("GET", "tags/list", &[], b"")),
        "404 NAME_UNKNOWN",
        Same,
    ),
    (
        "the repository is in the catalog",
        |r| {
            r.push("1", "a");
            let mut path = "/v2/_catalog?n=3".to_owned();
            loop {
                let reply = r.ask("GET", &path, &[], b"");
                if reply.text().contains(&format!("\"{}\"", r.name)) {
                    return "there".to_owned();
                }
                let link = reply.header("link").to_owned();
                if link.is_empty() {
                    return "absent".to_owned();
                }
                path = link.trim_start_matches('<').split('>').next().unwrap_or_default().to_owned();
            }
        },
        "there",
        Same,
    ),
    (
        "what is said about a manifest",
        |r| {
            let subject = r.push("1", "a");
            let say = |kind: &str| {
                let mut manifest = Repository::manifest("a");
                manifest["subject"] = Repository::describe(MANIFEST, &subject);
                manifest["artifactType"] = json!(kind);
                manifest["annotations"] = json!({"by": "us"});
                let bytes = bytes_of(&manifest);
                let put = r.put(&digest(&bytes), MANIFEST, &bytes);
                assert_eq!(put.header("oci-subject"), digest(&subject));
            };
            say("application/vnd.one");
            say("application/vnd.two");
            let list = |query: &str| {
                let reply = r.ask("GET", &format!("referrers/{}{query}", digest(&subject)), &[], b"");
                let index: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                let mut kinds: Vec<_> = index["manifests"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|entry| format!("{} {}", entry["artifactType"], entry["annotations"]["by"]))
                    .collect();
                kinds.sort();
                format!(
                    "{} {} [{}] {}",
                    reply.status,
                    reply.header("content-type") == INDEX,
                    kinds.join(" "),
                    reply.header("oci-filters-applied")
                )
            };
            format!("{}; {}", list(""), list("?artifactType=application/vnd.two"))
        },
        r#"200 true ["application/vnd.one" "us" "application/vnd.two" "us"] ; 200 true ["application/vnd.two" "us"] artifactType"#,
        Absent,
    ),
    (
        "an artifact's type is else its configuration's",
        |r| {
            let mut manifest = Repository::manifest("a");
            r.push_parts("a");
            manifest["subject"] = Repository::describe(MANIFEST, b"not here");
            let _ = r.put("1", MANIFEST, &bytes_of(&manifest));
            let reply = r.ask(
                "GET",
                &format!("referrers/{}?artifactType={}", digest(b"not here"), CONFIG.replace('+', "%2B")),
                &[],
                b"",
            );
            reply.text().contains(&digest(&bytes_of(&manifest))).to_string()
        },
        "true",
        Absent,
    ),
    (
        "nothing is said about an unknown manifest",
        |r| {
            let reply = r.ask("GET", &format!("referrers/{}", digest(b"x")), &[], b"");
            format!("{} {}", reply.status, reply.text().contains("\"manifests\":[]"))
        },
        "200 true",
        Absent,
    ),
    (
        "referrers of what is no digest",
        |r| seen(&r.ask("GET", "referrers/latest", &[], b"")),
        "400 DIGEST_INVALID",
        Absent,
    ),
];

//! Images as users see them: listed, drawn as trees, looked at, removed, pruned.

use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use kit::{CLIS, Cli, Host};
use serde_json::{Value, json};

#[path = "api/wire.rs"]
#[expect(dead_code, reason = "shared with the tests of the API")]
mod wire;

use wire::{get, request};

/// A small image, with these labels.
fn small(seed: u64, labels: &Value) -> Image {
    Image::new(vec![fixtures::noise_layer(20_000, seed)], json!({"Cmd": ["true"], "Labels": labels}))
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The store is whole, and nobody waits for it to be.
fn whole(host: &Host) {
    let said = host.corten(["system", "check"]).ok();
    assert!(said.ends_with("nothing is wrong"), "{said}");
}

/// The names of images that pass filters.
fn named(host: &Host, cli: Cli, filters: &[&str]) -> Vec<String> {
    let mut args = vec!["images", "--format", "{{.Repository}}:{{.Tag}}"];
    for filter in filters {
        args.extend(["--filter", filter]);
    }
    lines(&host.cli(cli, args).ok())
}

#[test]
fn the_tree_is_drawn_as_docker_draws_it() {
    let registry = Registry::start();
    let other = if fixtures::host_architecture() == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let name = registry.push(&layout, "multi:1");
    let host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    host.corten(["pull", "-q", "hello-world"]).ok();
    for tag in ["one:1", "two:latest", "a/very/long/name/of/a/repository/that/goes/on/and/on:for-ever"] {
        host.corten(["tag", &name, tag]).ok();
    }
    host.corten(["create", "--network", "none", "one:1"]).ok();
    let drawn = |args: &[&str]| CLIS.map(|cli| plain(&host.cli(cli, args).ok()));
    for args in [
        &["images", "--tree"][..],
        &["images", "--tree", "one"],
        &["images", "--tree", "nothing"],
        &["image", "ls", "--tree", "--filter", "reference=hello-world"],
    ] {
        let [ours, theirs] = drawn(args);
        assert_eq!(ours, theirs, "{args:?}");
    }
    let [ours, _] = drawn(&["images", "--tree", "one"]);
    let rows: Vec<Vec<&str>> = ours.lines().map(|line| line.split_whitespace().collect()).collect();
    let row = |begin: &str| rows.iter().find(|row| row.contains(&begin)).cloned().unwrap_or_default();
    assert_eq!(row("one:1").last(), Some(&"U"), "{ours}");
    assert_eq!(row(&format!("linux/{other}"))[3..], ["0B", "0B"], "{ours}");
    for cli in CLIS {
        for (flag, word) in [
            ("-q", "quiet"),
            ("--no-trunc", "no-trunc"),
            ("--digests", "show-digest"),
            ("--format=x", "format"),
        ] {
            host.cli(cli, ["images", "--tree", flag])
                .fails(1, &format!("--{word} is not yet supported with --tree"));
        }
    }
}

#[test]
fn lists_and_their_filters() {
    let registry = Registry::start();
    let one = registry.push(&Layout::new(&[small(1, &json!({"kind": "tool", "team": "a"}))]), "tools/one:1");
    let two = registry.push(&Layout::new(&[small(2, &json!({"kind": "tool"}))]), "tools/two:2.0");
    let host = Host::new();
    for name in [&one, &two, &"hello-world".to_owned()] {
        host.corten(["pull", "-q", name]).ok();
    }
    host.corten(["tag", &one, "named:a"]).ok();
    host.corten(["tag", &one, "named:b"]).ok();
    let hello = "hello-world:latest".to_owned();
    let id = host.corten(["images", "-q", &two]).ok();
    for cli in CLIS {
        let all = lines(&format!("{one}\n{two}\n{hello}\nnamed:a\nnamed:b"));
        assert_eq!(named(&host, cli, &[]), all);
        assert_eq!(
            named(&host, cli, &["label=kind=tool"]),
            lines(&format!("{one}\n{two}\nnamed:a\nnamed:b"))
        );
        assert_eq!(
            named(&host, cli, &["label=kind", "label=team=a", "reference=named"]),
            ["named:a", "named:b"]
        );
        assert_eq!(named(&host, cli, &["label=none"]), Vec::<String>::new());
        // What hello-world is made of is younger than the fixtures.
        assert_eq!(
            named(&host, cli, &["before=hello-world", "reference=*/tools/*"]),
            lines(&format!("{one}\n{two}"))
        );
        assert_eq!(named(&host, cli, &[&format!("since={id}")]), std::slice::from_ref(&hello));
        assert_eq!(named(&host, cli, &["until=2025-01-01", "reference=n*:?"]), ["named:a", "named:b"]);
        assert_eq!(named(&host, cli, &["until=2023-01-01"]), Vec::<String>::new());
        assert_eq!(named(&host, cli, &["dangling=true"]), Vec::<String>::new());
        assert_eq!(
            named(&host, cli, &["reference=named:a", "reference=named:[b-c]"]),
            ["named:a", "named:b"]
        );
        host.cli(cli, ["images", "--filter", "before=nosuch"]).fails(1, "No such image: nosuch:latest");
        host.cli(cli, ["images", "--filter", "colour=red"]).fails(1, "invalid filter 'colour'");
        host.cli(cli, ["images", "--filter", "reference=["]).fails(1, "syntax error in pattern");
        let short = host.cli(cli, ["images", "-q", &one]).ok();
        assert_eq!(host.cli(cli, ["images", "-q", "named"]).ok(), format!("{short}\n{short}"));
        assert_eq!(
            host.cli(cli, ["images", "--no-trunc", "-q", &two]).ok(),
            host.cli(cli, ["inspect", "-f", "{{.Id}}", &two]).ok()
        );
    }
    // Tables and JSON of both are the same; docker itself lists names of an image in no order.
    for args in [
        &["images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}}"][..],
        &["images", "--format", "json"],
        &["images", "-a", "--no-trunc", "--format", "{{json .}}"],
    ] {
        // To a client of an older version containers are not counted.
        let counted = |text: String| text.replace("\"Containers\":\"0\"", "\"Containers\":\"N/A\"");
        let [ours, theirs] = CLIS.map(|cli| lines(&counted(host.cli(cli, args).ok())));
        assert_eq!(ours, theirs, "{args:?}");
    }
    let [ours, theirs] = CLIS.map(|cli| host.cli(cli, ["images", &two]).ok());
    assert_eq!(ours, theirs);
    let [ours, theirs] = CLIS.map(|cli| host.cli(cli, ["images", "--digests", &two]).ok());
    assert_eq!(ours, theirs);
}

#[test]
fn platforms_come_and_go_one_by_one() {
    let registry = Registry::start();
    let here = fixtures::host_architecture();
    let other = if here == "amd64" { "arm64" } else { "amd64" };
    let layout = Layout::new(&[fixtures::busybox(), fixtures::busybox_for(other)]);
    let name = registry.push(&layout, "multi:1");
    let (here, other) = (format!("linux/{here}"), format!("linux/{other}"));
    for cli in CLIS {
        let host = Host::new();
        host.cli(cli, ["pull", "-q", "--platform", &other, &name]).ok();
        host.cli(cli, ["pull", "-q", &name]).ok();
        let shown = |platform: &str| {
            let format = "{{.Os}}/{{.Architecture}}";
            host.cli(cli, ["image", "inspect", "--platform", platform, "-f", format, &name]).ok()
        };
        assert_eq!([shown(&here), shown(&other)], [here.clone(), other.clone()]);
        let step = |platform: &str| host.cli(cli, ["history", "-q", "--platform", platform, &name]).ok();
        assert_eq!(step(&here).lines().next(), step(&other).lines().next());
        host.cli(cli, ["history", "--platform", "linux/s390x", &name])
            .fails(1, "was found but does not provide the specified platform (linux/s390x)");
        host.cli(cli, ["image", "inspect", "--platform", "linux/s390x", &name]).fails(1, "linux/s390x");
        let wrong = ["--platform", "bad/bad/bad/bad", &name];
        let said = host.cli(cli, [&["image", "inspect"][..], &wrong].concat()).fails(1, "bad/bad/bad/bad");
        assert!(!said.stderr.contains("JSON"), "{}", said.stderr);
        let container = host.cli(cli, ["create", "--network", "none", &name]).ok();
        host.cli(cli, ["rmi", "--platform", &here, &name])
            .fails(1, "(must be forced) - image is being used by stopped container");
        host.cli(cli, ["rmi", "--platform", "linux/s390x", &name]).fails(1, "linux/s390x");
        let said = host.cli(cli, ["rmi", "--platform", &other, &name]).ok();
        assert_eq!(said, format!("Deleted: {}", layout.manifests[1]));
        host.cli(cli, ["image", "inspect", "--platform", &other, &name]).fails(1, &other);
        assert_eq!(shown(&here), here);
        whole(&host);
        // It comes back, and goes whole with its last platform.
        host.cli(cli, ["pull", "-q", "--platform", &other, &name]).ok();
        assert_eq!(shown(&other), other);
        host.cli(cli, ["rm", &container]).ok();
        let said = host.cli(cli, ["rmi", "--platform", &here, "--platform", &other, &name]).ok();
        assert!(said.contains(&format!("Untagged: {name}")), "{said}");
        assert!(said.contains(&format!("Deleted: {}", layout.digest)), "{said}");
        assert_eq!(host.cli(cli, ["images", "-q"]).ok(), "");
        whole(&host);
    }
}

#[test]
fn removal_says_what_docker_says() {
    let registry = Registry::start();
    let layouts = [1, 2].map(|seed| Layout::new(&[small(seed, &json!({}))]));
    let names = [registry.push(&layouts[0], "one:1"), registry.push(&layouts[1], "two:1")];
    for cli in CLIS {
        let host = Host::new();
        for name in &names {
            host.cli(cli, ["pull", "-q", name]).ok();
        }
        let id = host.cli(cli, ["images", "-q", &names[0]]).ok();
        host.cli(cli, ["tag", &names[0], "also:1"]).ok();
        host.cli(cli, ["rmi", &id]).fails(
            1,
            &format!(
                "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
            ),
        );
        // `rmi $(images -q)`, as people type it: the id comes once for each name.
        let ids = host.cli(cli, ["images", "-q"]).ok();
        assert_eq!(ids.lines().filter(|line| **line == *id).count(), 2);
        let args = ["rmi"].into_iter().chain(ids.lines());
        let output = host.cli(cli, args).run();
        assert_eq!(output.code, 1);
        assert!(output.stdout.contains(&format!("Deleted: {}", layouts[1].digest)), "{output:?}");
        assert_eq!(named(&host, cli, &[]), lines(&format!("{}\nalso:1", names[0])));
        // One of several is not there: the others go.
        let output = host.cli(cli, ["rmi", "nosuch", "also:1", "BAD"]).run();
        assert_eq!((output.code, output.stdout.trim()), (1, "Untagged: also:1"));
        assert!(output.stderr.contains("No such image: nosuch:latest"), "{output:?}");
        assert!(output.stderr.contains("invalid reference format"), "{output:?}");
        host.cli(cli, ["rmi", "-f", "nosuch"]).ok();
        // In use.
        let container = host.cli(cli, ["create", "--network", "none", &names[0]]).ok();
        let short = &container[..12];
        host.cli(cli, ["rmi", &names[0]]).fails(
            1,
            &format!(
                "conflict: unable to remove repository reference \"{}\" (must force) - container {short} is using its referenced image {id}",
                names[0]
            ),
        );
        host.cli(cli, ["rmi", &id]).fails(
            1,
            &format!("conflict: unable to delete {id} (must be forced) - image is being used by stopped container {short}"),
        );
        host.cli(cli, ["rmi", &id[..3]]).fails(1, "(must be forced)");
        let said = host.cli(cli, ["rmi", "-f", &id]).ok();
        assert_eq!(said, format!("Untagged: {}\nDeleted: {}", names[0], layouts[0].digest));
        whole(&host);
        host.cli(cli, ["rm", &container]).ok();
        // By digest, and by the digest of a part.
        let by_digest = format!("{}@{}", names[1].trim_end_matches(":1"), layouts[1].digest);
        host.cli(cli, ["pull", "-q", &by_digest]).ok();
        host.cli(cli, ["rmi", &by_digest]).ok();
        host.cli(cli, ["pull", "-q", &names[1]]).ok();
        host.cli(cli, ["rmi", "--no-prune", &layouts[1].digest]).ok();
        assert_eq!(host.cli(cli, ["images", "-aq"]).ok(), "");
        whole(&host);
    }
}

#[test]
fn prune_takes_what_nobody_uses() {
    let registry = Registry::start();
    let labels = [json!({"keep": "yes"}), json!({"team": "a"}), json!({"team": "b"}), json!({})];
    let host = Host::new();
    for cli in CLIS {
        let names: Vec<String> = labels
            .iter()
            .zip(1..)
            .map(|(labels, seed)| {
                registry.push(&Layout::new(&[small(seed, labels)]), &format!("prune/{seed}:1"))
            })
            .collect();
        for name in &names {
            host.cli(cli, ["pull", "-q", name]).ok();
        }
        let container = host.cli(cli, ["create", "--network", "none", &names[3]]).ok();
        host.cli(cli, ["tag", "hello-world", "x"]).fails(1, "No such image: hello-world:latest");
        // Without a name: another image takes it.
        host.cli(cli, ["tag", &names[1], &names[2]]).ok();
        assert_eq!(named(&host, cli, &["dangling=true"]), ["<none>:<none>"]);
        let asked = host.cli(cli, ["image", "prune"]).stdin("n\n").ok();
        assert!(asked.starts_with("WARNING! This will remove all dangling images."), "{asked}");
        assert_eq!(
            host.cli(cli, ["image", "prune", "-f", "--filter", "label=team=a"]).ok(),
            "Total reclaimed space: 0B"
        );
        host.cli(cli, ["image", "prune", "-f", "--filter", "colour=red"]).fails(1, "invalid filter");
        let said = host.cli(cli, ["image", "prune", "-f", "--filter", "until=24h"]).ok();
        assert!(said.starts_with("Deleted Images:\ndeleted: sha256:"), "{said}");
        assert!(!said.ends_with(" 0B"), "{said}");
        assert_eq!(host.cli(cli, ["image", "prune", "-f"]).ok(), "Total reclaimed space: 0B");
        let said = host.cli(cli, ["image", "prune", "-af", "--filter", "label!=keep"]).ok();
        assert!(said.contains(&format!("untagged: {}", names[1])), "{said}");
        assert_eq!(named(&host, cli, &[]), lines(&format!("{}\n{}", names[0], names[3])));
        assert_eq!(
            host.cli(cli, ["image", "prune", "-af", "--filter", "until=2023-01-01"]).ok(),
            "Total reclaimed space: 0B"
        );
        host.cli(cli, ["image", "prune", "-af"]).ok();
        assert_eq!(named(&host, cli, &[]), [names[3].clone()]);
        host.cli(cli, ["rm", &container]).ok();
        host.cli(cli, ["image", "prune", "-af"]).ok();
        whole(&host);
    }
}

#[test]
fn events_tell_what_becomes_of_images() {
    let host = Host::new();
    let image = "hello-world";
    host.corten(["pull", "-q", image]).ok();
    host.corten(["tag", image, "a:1"]).ok();
    host.corten(["rmi", "a:1"]).ok();
    host.corten(["rmi", image]).ok();
    host.corten(["image", "prune", "-af"]).ok();
    let now = host.corten(["info", "--format", "{{.SystemTime}}"]).ok();
    for cli in CLIS {
        let format = "{{.Action}} {{index .Actor.Attributes \"name\"}}";
        let args = ["events", "--since", "0", "--until", &now, "--filter", "type=image", "--format", format];
        let told = host.cli(cli, args).ok();
        let told: Vec<&str> = told.lines().map(|line| line.split(" sha256").next().unwrap_or(line)).collect();
        assert_eq!(told[..4], ["pull hello-world", "tag a:1", "untag a:1", "untag hello-world:latest"]);
        assert_eq!(told[4], "delete");
        assert!(told[5].starts_with("prune"), "{told:?}");
    }
}

#[test]
fn fields_come_and_go_with_versions() {
    let registry = Registry::start();
    let name = registry.push(&Layout::new(&[small(1, &json!({}))]), "fields:1");
    let host = Host::new();
    host.corten(["pull", "-q", &name]).ok();
    host.corten(["tag", &name, "mine:1"]).ok();
    let inspect = |version: &str, query: &str| get(&host, &format!("/v{version}/images/mine:1/json{query}"));
    let image = inspect("1.56", "?manifests=1").json();
    let repository = name.trim_end_matches(":1");
    // Where it came from, not what it is called.
    assert_eq!(image["Identity"], json!({"Pull": [{"Repository": repository}]}));
    assert_eq!(image["Manifests"][0]["Kind"], "image");
    assert_eq!(image["Size"], image["Manifests"][0]["Size"]["Total"]);
    assert!(image.get("Parent").is_none() && image.get("DockerVersion").is_none());
    let old = inspect("1.52", "").json();
    assert!(old.get("Identity").is_none());
    let old = inspect("1.43", "?manifests=1").json();
    for gone in ["Manifests", "Descriptor", "Identity"] {
        assert!(old.get(gone).is_none(), "{gone}");
    }
    assert_eq!((&old["VirtualSize"], &old["DockerVersion"]), (&old["Size"], &json!("")));
    assert_eq!(
        inspect(
            "1.56",
            "?manifests=1&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D"
        )
        .status,
        400
    );
    assert_eq!(inspect("1.56", "?platform=linux").status, 400);

    let list = |version: &str, query: &str| get(&host, &format!("/v{version}/images/json{query}"));
    let images = list("1.56", "?manifests=1&identity=1&shared-size=1").json();
    assert_eq!(images[0]["Manifests"][0]["ImageData"]["Identity"]["Pull"][0]["Repository"], *repository);
    assert_eq!((&images[0]["SharedSize"], &images[0]["Containers"]), (&json!(0), &json!(0)));
    assert_eq!(list("1.56", "?identity=1").status, 400);
    let images = list("1.50", "?manifests=1&identity=1").json();
    assert!(images[0]["Manifests"][0]["ImageData"].get("Identity").is_none());
    assert_eq!((&images[0]["SharedSize"], &images[0]["Containers"]), (&json!(-1), &json!(-1)));
    assert!(list("1.46", "?manifests=1").json()[0].get("Manifests").is_none());

    assert_eq!(get(&host, "/v1.56/images/mine:1/attestations").json(), json!([]));
    assert_eq!(get(&host, "/v1.56/images/none/attestations").status, 404);
    assert_eq!(get(&host, "/v1.56/images/mine:1/attestations?platform=x").status, 400);
    assert_eq!(get(&host, "/v1.54/images/mine:1/attestations").status, 404);
    // What has no name.
    host.corten(["pull", "-q", "hello-world"]).ok();
    let id = host.corten(["images", "-q", "--no-trunc", "hello-world"]).ok();
    host.corten(["tag", "mine:1", "hello-world"]).ok();
    for (version, tags, digests) in
        [("1.43", json!([]), json!([])), ("1.42", json!(["<none>:<none>"]), json!(["<none>@<none>"]))]
    {
        let all = list(version, "?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D").json();
        assert_eq!(
            (&all[0]["Id"], &all[0]["RepoTags"], &all[0]["RepoDigests"]),
            (&json!(id), &tags, &digests)
        );
    }
    host.corten(["rmi", "hello-world"]).ok();
    // Before 1.50 nobody spoke of platforms.
    let gone = request(&host, "DELETE", "/v1.49/images/mine:1?platforms=nonsense", &[], b"").json();
    assert_eq!(gone, json!([{"Untagged": "mine:1"}]));
    let path = format!("/v1.56/images/{name}?platforms=nonsense");
    assert_eq!(request(&host, "DELETE", &path, &[], b"").status, 400);
}

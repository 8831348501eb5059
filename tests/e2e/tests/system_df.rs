//! Where the room goes, and how to get it back.

use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use kit::{CLIS, Host};
use serde_json::{Value, json};

#[path = "api/wire.rs"]
#[expect(dead_code, reason = "shared with the tests of the API")]
mod wire;

use wire::get;

/// A container that runs nowhere, and two images that share a layer.
fn filled(registry: &Registry) -> (Host, String, String) {
    let base = fixtures::noise_layer(500_000, 1);
    let image = |seed| {
        let layers = vec![base.clone(), fixtures::noise_layer(100_000, seed)];
        Image::new(layers, json!({"Cmd": ["true"]}))
    };
    let names = [2, 3].map(|seed| registry.push(&Layout::new(&[image(seed)]), &format!("df/{seed}:1")));
    let host = Host::new();
    for name in &names {
        host.corten(["pull", "-q", name]).ok();
    }
    let [used, unused] = names;
    host.corten(["create", "--network", "none", "--name", "one", "-v", "kept:/data", &used]).ok();
    (host, used, unused)
}

/// An age goes on while it is looked at.
fn ageless(text: &str) -> String {
    let mut text = text.to_owned();
    for unit in ["second", "seconds", "minute", "minutes"] {
        for number in
            ["Less than a", "About a", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]
        {
            text = text.replace(&format!("{number} {unit} ago"), "AGE");
        }
    }
    // The width of the column goes with it.
    text.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

#[test]
fn tables_are_dockers() {
    let registry = Registry::start();
    let (host, ..) = filled(&registry);
    for args in [
        &["system", "df"][..],
        &["system", "df", "--format", "json"],
        &["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}"],
        &["system", "df", "--format", "table {{.Type}}\t{{.Size}}"],
        &["system", "df", "-v"],
        &["system", "df", "-v", "--format", "json"],
        &[
            "system",
            "df",
            "-v",
            "--format",
            "{{range .Images}}{{.Repository}} {{.SharedSize}} {{.UniqueSize}};{{end}}",
        ],
    ] {
        let [ours, theirs] = CLIS.map(|cli| ageless(&host.cli(cli, args).ok()));
        // What is reclaimable of images Docker's command line counts by itself, from sizes alone: what a used image shares counts as free.
        let but_images = |text: &str| -> Vec<String> {
            let kept = text.lines().filter(|line| !line.contains("Images ") && !line.contains("\"Images\"}"));
            kept.map(str::to_owned).collect()
        };
        assert_eq!(but_images(&ours), but_images(&theirs), "{args:?}");
    }
}

#[test]
fn what_is_reclaimable_is_reclaimed() {
    let registry = Registry::start();
    let (host, used, unused) = filled(&registry);
    let usage = |more: &str| -> Value { get(&host, &format!("/v1.56/system/df?type=image{more}")).json() };
    let images = usage("")["ImageUsage"].clone();
    assert_eq!((&images["TotalCount"], &images["ActiveCount"]), (&json!(2), &json!(1)));
    let reclaimable = images["Reclaimable"].as_u64().expect("a number");
    assert!((100_000..400_000).contains(&reclaimable), "the layer that both have stays: {images}");
    let total = images["TotalSize"].as_u64().expect("a number");
    assert!(
        (1_400_000..1_600_000).contains(&total),
        "as a blob and unpacked, what they share once: {images}"
    );
    // Each of them, where asked for.
    assert!(images.get("Items").is_none());
    let items = usage("&verbose=1")["ImageUsage"]["Items"].clone();
    let of = |name: &str| {
        let all = items.as_array().expect("a list");
        all.iter().find(|item| item["RepoTags"][0] == *name).expect("an image").clone()
    };
    for name in [&used, &unused] {
        let shared = of(name)["SharedSize"].as_u64().expect("a number");
        assert!((1_000_000..1_100_000).contains(&shared), "{items}");
    }
    let pruned =
        wire::post(&host, "/v1.56/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D", &json!({}));
    assert_eq!(pruned.json()["SpaceReclaimed"], reclaimable);
    let images = usage("")["ImageUsage"].clone();
    assert_eq!((&images["TotalSize"], &images["Reclaimable"]), (&json!(total - reclaimable), &json!(0)));
    host.corten(["rm", "one"]).ok();
    assert_eq!(usage("")["ImageUsage"]["Reclaimable"], total - reclaimable);
    host.corten(["image", "prune", "-af"]).ok();
    let nothing = json!({"ActiveCount": 0, "TotalCount": 0, "Reclaimable": 0, "TotalSize": 0});
    assert_eq!(usage("")["ImageUsage"], nothing);
}

#[test]
fn kinds_and_versions() {
    let registry = Registry::start();
    let (host, ..) = filled(&registry);
    let keys = |path: &str| -> Vec<String> {
        let answer = get(&host, path).json();
        let mut keys: Vec<String> = answer.as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    };
    let new = ["BuildCacheUsage", "ContainerUsage", "ImageUsage", "VolumeUsage"];
    let old = ["BuildCache", "Containers", "Images", "LayersSize", "Volumes"];
    assert_eq!(keys("/v1.56/system/df"), new);
    assert_eq!(keys("/v1.56/system/df?type=volume&type=image"), ["ImageUsage", "VolumeUsage"]);
    assert_eq!(keys("/v1.51/system/df"), old);
    let both: Vec<String> = keys("/v1.52/system/df");
    assert!(new.iter().chain(&old).all(|key| both.iter().any(|have| have == key)), "{both:?}");
    assert!(keys("/v1.41/system/df").contains(&"BuilderSize".to_owned()));
    let answer = get(&host, "/v1.51/system/df?type=container").json();
    assert_eq!(answer["Containers"].as_array().map(Vec::len), Some(1));
    assert_eq!((&answer["Images"], &answer["LayersSize"]), (&Value::Null, &json!(0)));
    assert_eq!(get(&host, "/v1.56/system/df?type=wine").status, 400);
}

#[test]
fn system_prune_warns_and_takes_all_kinds() {
    let registry = Registry::start();
    for cli in CLIS {
        let (host, used, unused) = filled(&registry);
        for (args, warning) in [
            (
                &["system", "prune"][..],
                "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
                 - all dangling images\n  - unused build cache\n\nAre you sure you want to continue? [y/N]",
            ),
            (
                &["system", "prune", "-a", "--volumes", "--filter", "label=x"],
                "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  \
                 - all anonymous volumes not used by at least one container\n  - all images without at least one container associated to them\n  \
                 - all build cache\n\n  Items to be pruned will be filtered with:\n  - label=x\n\nAre you sure you want to continue? [y/N]",
            ),
        ] {
            let said = host.cli(cli, args).stdin("n\n").run();
            assert_eq!(said.stdout.trim(), warning);
        }
        host.cli(cli, ["system", "prune", "-f", "--volumes", "--filter", "until=1h"])
            .fails(1, "The \"until\" filter is not supported with \"--volumes\"");
        let said = host.cli(cli, ["system", "prune", "-f", "--filter", "label=none"]).ok();
        assert_eq!(said, "Total reclaimed space: 0B");
        let said = host.cli(cli, ["system", "prune", "-af"]).ok();
        assert!(said.starts_with("Deleted Containers:\n"), "{said}");
        for name in [&used, &unused] {
            assert!(said.contains(&format!("\nuntagged: {name}\ndeleted: sha256:")), "{said}");
        }
        assert!(said.contains("\n\nTotal reclaimed space: 1."), "{said}");
        assert_eq!(host.cli(cli, ["volume", "ls", "-q"]).ok(), "kept");
        host.corten(["system", "check"]).ok();
    }
}

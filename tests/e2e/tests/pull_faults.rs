//! Pulls through a daemon's death.

use std::fs;

use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout};
use kit::registry::Registry;
use kit::{CLIS, Host, wait_for};
use serde_json::json;

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    let registry = Registry::start();
    let layers = (1..=2).map(|seed| fixtures::noise_layer(3_000_000, seed)).collect();
    let image = Image::new(layers, json!({"Cmd": ["true"]}));
    let layout = Layout::new(std::slice::from_ref(&image));
    let total: u64 = image.layers.iter().map(|layer| layer.bytes.len() as u64).sum();
    registry.push(&layout, "x:1");
    for cli in CLIS {
        let faulty = Faulty::start(&registry.host());
        let name = format!("{}/x:1", faulty.host());
        let mut host = Host::new();
        faulty.fault(&image.layers[0].digest(), Fault::Hold(2_000_000), 1);
        faulty.fault(&image.layers[1].digest(), Fault::Hold(1_000_000), 1);
        let pull = host.cli(cli, ["pull", "-q", &name]).spawn();
        faulty.wait_held(2);
        let arrived = || -> u64 {
            let ingests =
                fs::read_dir(host.data_root().join("content/ingest")).into_iter().flatten().flatten();
            ingests.filter_map(|ingest| Some(fs::metadata(ingest.path().join("data")).ok()?.len())).sum()
        };
        wait_for("what was sent to be written", || (arrived() > 2_500_000).then_some(()));
        host.kill_daemon();
        let _ = pull.wait();
        faulty.release();
        host.start_daemon();
        assert_eq!(host.cli(cli, ["images", "-q"]).ok(), "");
        let before = faulty.asked().len();
        assert_eq!(host.cli(cli, ["pull", "-q", &name]).ok(), name);
        let ranges: Vec<_> =
            faulty.asked()[before..].iter().filter_map(|asked| asked.range.clone()).collect();
        assert_eq!(ranges.len(), 2, "both go on: {ranges:?}");
        let again: u64 = faulty.asked()[before..].iter().map(|asked| asked.sent).sum();
        assert!(again < total - 2_400_000, "sent {again} again");
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.Id}}", &name]).ok(), layout.digest);
        host.cli(cli, ["rmi", &name]).ok();
        let left = |below: &str| fs::read_dir(host.data_root().join(below)).expect(below).count();
        wait_for("everything to go", || {
            (left("content/blobs/sha256") + left("layers") + left("content/ingest") == 0).then_some(())
        });
    }
}

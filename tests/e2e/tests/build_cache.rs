//! What builds keep: how it is shown and removed.

use std::fs;

use kit::{CLIS, Host, wait_for};

#[test]
fn the_build_cache_is_shown_and_removed() {
    let host = Host::with_busybox();
    let folder = host.root().join("folder");
    fs::create_dir_all(&folder).expect("make a directory");
    let text =
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=3\nRUN echo small >/small\nCOPY file /file\n";
    fs::write(folder.join("Dockerfile"), text).expect("write a file");
    fs::write(folder.join("file"), "content").expect("write a file");
    host.corten(["build", "-q", "--network", "none", "-t", "made", "."]).current_dir(&folder).ok();
    let format = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}";
    for cli in CLIS {
        let told = host.cli(cli, ["system", "df", "--format", format]).ok();
        // The image has all of it.
        assert!(told.lines().any(|line| line == "Build Cache 3 0 0B"), "{told}");
    }
    host.corten(["rmi", "made"]).ok();
    for cli in CLIS {
        let told = host.cli(cli, ["system", "df", "--format", format]).ok();
        let line = told.lines().find(|line| line.starts_with("Build Cache 3 0 ")).expect("the build cache");
        // As it is unpacked, and as it is packed.
        assert!(line.contains(" 6.") && line.ends_with("MB"), "{told}");
        let whole = host.cli(cli, ["system", "df", "-v"]).ok();
        let rows: Vec<&str> = whole.lines().filter(|line| line.contains(" regular ")).collect();
        assert!(rows.len() == 3 && rows.iter().all(|row| row.ends_with(" false")), "{whole}");
    }
    // The layers of an image stay with it.
    host.corten(["build", "-q", "--network", "none", "-t", "made", "."]).current_dir(&folder).ok();
    let gone = host.corten(["builder", "prune", "-f"]).ok();
    assert!(gone.contains("Total") && gone.ends_with("0B"), "{gone}");
    host.corten(["rmi", "made"]).ok();
    let gone = host.docker(["builder", "prune", "-f"]).ok();
    assert!(gone.contains("Total reclaimed space: 6."), "{gone}");
    wait_for("the layers to go", || {
        let layers = fs::read_dir(host.data_root().join("layers")).map_or(0, Iterator::count);
        (layers == 1).then_some(())
    });
    let told = host.corten(["system", "df", "--format", format]).ok();
    assert!(told.lines().any(|line| line == "Build Cache 0 0 0B"), "{told}");
}

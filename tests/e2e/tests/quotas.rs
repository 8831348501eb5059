//! How much a container's layer and a volume may occupy, on a filesystem that can bound it.

use kit::disk::SmallDisk;

use kit::{CLIS, Host, skip, wait_for};

/// Writes until nothing more fits, and tells how many MiB did.
const FILL: &str =
    "dd if=/dev/zero of=$0/big bs=64k count=1600 2>/dev/null && exit 9; echo $(($(stat -c %s $0/big) >> 20))";

/// A host whose data root is on XFS; with quotas of projects, where the kernel has them.
fn host(disk: &SmallDisk) -> Host {
    let root = disk.path().join("data").display().to_string();
    let host = Host::with_flags(&["--data-root", &root]);
    host.pull_busybox();
    host
}

#[test]
fn layers_and_volumes_are_held_to_their_size() {
    let Some(disk) = SmallDisk::with_quotas("512M") else {
        skip("quotas of projects", "cannot mount XFS with pquota");
        return;
    };
    let host = host(&disk);
    for cli in CLIS {
        let run = |args: &[&str]| host.cli(cli, [&["run", "--rm", "--network", "none"], args].concat()).ok();
        let megabytes = |text: String| text.parse::<u64>().expect("a number");
        let layer = megabytes(run(&["--storage-opt", "size=20m", "busybox", "sh", "-c", FILL, "/var"]));
        assert!((15..=20).contains(&layer), "{layer} MiB in a layer");
        // Somebody else is not held to it, and two that are not to one limit together.
        run(&["busybox", "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=40 2>/dev/null"]);
        host.cli(
            cli,
            ["run", "-d", "--name", "other", "--network", "none", "--storage-opt", "size=30m", "busybox"],
        )
        .args(["sh", "-c", "dd if=/dev/zero of=/big bs=1M count=25 2>/dev/null && sleep 1000"])
        .ok();
        let layer = megabytes(run(&["--storage-opt", "size=30m", "busybox", "sh", "-c", FILL, "/var"]));
        assert!((25..=30).contains(&layer), "{layer} MiB in a layer beside another");
        host.cli(cli, ["rm", "-f", "other"]).ok();

        host.cli(cli, ["volume", "create", "-o", "size=10m", "small"]).ok();
        // What the image has at the place comes by a rename, and counts.
        let volume =
            megabytes(run(&["-v", "small:/bin", "busybox", "/bin/busybox", "sh", "-c", FILL, "/bin"]));
        assert!((5..=9).contains(&volume), "{volume} MiB in a volume");
        host.cli(cli, ["volume", "rm", "small"]).ok();
    }
    wait_for("the removed to be gone", || {
        std::fs::read_dir(disk.path().join("data/trash")).expect("the trash").next().is_none().then_some(())
    });
    drop(host);
    drop(disk);
}

#[test]
fn where_nothing_bounds_it_is_said() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let create = ["create", "--network", "none", "--storage-opt", "size=20m", "busybox"];
        host.cli(cli, create).fails(1, "--storage-opt is supported only for overlay over xfs with 'pquota'");
        host.cli(cli, ["volume", "create", "-o", "size=10m"])
            .fails(1, "quota size requested but no quota support");
        host.cli(cli, ["create", "--storage-opt", "size=much", "busybox"]).fails(1, "invalid size: 'much'");
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok() + &host.cli(cli, ["volume", "ls", "-q"]).ok(), "");
    }
}

//! Devices of the host.

use kit::{CLIS, Host};

use super::{sh, words};

#[test]
fn devices_in_all_forms() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let named = |flag: &str| {
            sh(
                &host,
                cli,
                &["--device", flag],
                "cd /dev; for f in full there/null; do test -c $f && stat -c '%n %t:%T' $f; done; true",
            )
        };
        assert_eq!(named("/dev/full"), "full 1:7");
        assert_eq!(named("/dev/null:/dev/there/null"), "full 1:7\nthere/null 1:3");
        // Permissions are the cgroup's.
        let read_only = ["--device", "/dev/loop-control:/dev/control:r"];
        if std::path::Path::new("/dev/loop-control").exists() {
            let script =
                "exec 3</dev/control && echo read; (exec 3>/dev/control) 2>/dev/null || echo refused";
            assert_eq!(sh(&host, cli, &read_only, script), "read\nrefused");
        }
        // A folder brings all the devices in it.
        let folder = host.root().join(format!("devices-{cli:?}"));
        std::fs::create_dir_all(folder.join("below")).unwrap();
        for (name, minor) in [("one", 3), ("below/two", 5)] {
            let path = folder.join(name);
            kit::Cmd::new("mknod").args([path.to_str().unwrap(), "c", "1", &minor.to_string()]).ok();
        }
        std::fs::write(folder.join("plain"), "").unwrap();
        let flag = format!("{}:/dev/many:rw", folder.display());
        assert_eq!(
            sh(
                &host,
                cli,
                &["--device", &flag],
                "cd /dev/many; find . -type c | sort; ls plain 2>/dev/null; head -c 2 below/two | wc -c"
            ),
            "./below/two\n./one\n2"
        );
        host.cli(cli, words(&["--device", "/dev/no-such"], "true")).fails(127, "no such file or directory");
        host.cli(cli, words(&["--device", "/dev/null:/dev/x:q"], "true")).fails(125, "bad mode specified: q");
        // A rule alone makes no node, and lets one be opened that the container makes.
        let rule = ["--device-cgroup-rule", "c 10:237 rw", "--cap-add", "MKNOD"];
        let open = "mknod /made c 10 237 && exec 3</made && echo open";
        assert_eq!(sh(&host, cli, &rule, open), "open");
        host.cli(cli, words(&["--cap-add", "MKNOD"], open)).fails(1, "");
        host.cli(cli, words(&["--device-cgroup-rule", "c 1:x r"], "true"))
            .fails(125, "invalid device cgroup format");
    }
}

#[test]
fn annotations_reach_the_runtime() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = host
            .cli(
                cli,
                [
                    "run",
                    "-d",
                    "--network",
                    "none",
                    "--annotation",
                    "org.example.key=a=b",
                    "busybox",
                    "sleep",
                    "1000",
                ],
            )
            .ok();
        let config =
            std::fs::read_to_string(host.exec_root().join("c").join(&id).join("config.json")).unwrap();
        assert!(config.contains(r#""annotations":{"org.example.key":"a=b"}"#), "{config}");
        super::remove(&host, cli, &[&id]);
    }
}

/// A device with a name of its own: variables, a node, a mount, a group, and a hook that leaves a mark on the host.
fn description(root: &std::path::Path) -> String {
    let (tool, mark) = (root.join("tool"), root.join("mark"));
    std::fs::write(&tool, "of the vendor\n").expect("a file");
    format!(
        r#"
cdiVersion: "0.6.0"
kind: "vendor.com/thing"
containerEdits:
  env: ["COMMON=yes"]
  hooks:
  - hookName: createRuntime
    path: /bin/sh
    args: [sh, -c, "cat > {mark}"]
devices:
- name: first
  containerEdits:
    env: ["FIRST=1"]
    deviceNodes:
    - path: /dev/thing0
      hostPath: /dev/loop-control
      permissions: r
    mounts:
    - hostPath: {tool}
      containerPath: /usr/share/thing
      options: [ro, nosuid, nodev, bind]
    additionalGids: [4711]
- name: second
  containerEdits:
    env: ["SECOND=1", "PATH=/vendor:/bin"]
"#,
        mark = mark.display(),
        tool = tool.display()
    )
}

#[test]
fn devices_with_names_of_their_own() {
    let mut host = Host::stopped(&[]);
    let folder = host.root().join("cdi");
    std::fs::create_dir(&folder).unwrap();
    let config = format!(r#"{{"cdi-spec-dirs": ["{}"]}}"#, folder.display());
    std::fs::write(host.root().join("daemon.json"), config).unwrap();
    host.start_daemon();
    host.pull_busybox();
    std::fs::write(folder.join("vendor.yaml"), description(host.root())).unwrap();
    for cli in CLIS {
        let script = "echo $COMMON $FIRST $SECOND $PATH; id -G; stat -c %t:%T /dev/thing0; cat /usr/share/thing; \
                      exec 3</dev/thing0 && echo read; (exec 3>/dev/thing0) 2>/dev/null || echo refused; \
                      (echo x > /usr/share/thing) 2>&1 | grep -o 'Read-only file system'";
        let both = ["--device", "vendor.com/thing=first", "--device", "vendor.com/thing=second"];
        assert_eq!(
            sh(&host, cli, &both, script),
            "yes 1 1 /vendor:/bin\n0 4711\na:ed\nof the vendor\nread\nrefused\nRead-only file system"
        );
        // The hook was told of the container.
        let mark = host.root().join("mark");
        assert!(std::fs::read_to_string(&mark).unwrap().contains("\"ociVersion\""));
        std::fs::remove_file(&mark).unwrap();
        assert_eq!(
            sh(
                &host,
                cli,
                &["--device", "vendor.com/thing=second"],
                "echo $COMMON$FIRST$SECOND; ls /dev/thing0 2>/dev/null; true"
            ),
            "yes1"
        );
        host.cli(cli, words(&["--device", "vendor.com/thing=third"], "true"))
            .fails(125, "CDI device injection failed: unresolvable CDI devices vendor.com/thing=third");
        // Without a description of graphics cards there are none.
        host.cli(cli, words(&["--gpus", "all"], "true"))
            .fails(125, "could not select device driver \"\" with capabilities: [[gpu]]");
        assert!(host.cli(cli, ["info"]).ok().contains(&folder.display().to_string()));
    }
    std::fs::remove_file(folder.join("vendor.yaml")).unwrap();
    let cards = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[
        {"name":"0","containerEdits":{"env":["CARD=0"]}},{"name":"1","containerEdits":{"env":["CARD=1"]}},
        {"name":"all","containerEdits":{"env":["CARD=all"]}}]}"#;
    std::fs::write(folder.join("nvidia.json"), cards).unwrap();
    for cli in CLIS {
        for (flag, card) in [("all", "all"), ("1", "0"), ("device=1", "1")] {
            assert_eq!(sh(&host, cli, &["--gpus", flag], "echo $CARD"), card);
        }
        host.cli(cli, words(&["--gpus", "3"], "true"))
            .fails(125, "unresolvable CDI devices nvidia.com/gpu=2");
    }
    // What cannot be read is told where something is missed for it.
    std::fs::write(folder.join("broken.yaml"), "cdiVersion: [").unwrap();
    host.corten(words(&["--device", "vendor.com/thing=first"], "true")).fails(125, "broken.yaml");
}

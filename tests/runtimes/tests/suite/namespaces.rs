//! `linux.namespaces`, `uidMappings`, `timeOffsets`, `hostname`, `netDevices`.

use std::fs;

use runtimes::{Bundle, judge, skip};
use serde_json::{Value, json};

const ALL: [(&str, &str); 8] = [
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("user", "user"),
    ("time", "time"),
];

fn of_process(process: &str, file: &str) -> String {
    fs::read_link(format!("/proc/{process}/ns/{file}")).unwrap().to_string_lossy().into_owned()
}

#[test]
fn those_that_are_listed_are_new_and_others_are_the_runtimes() {
    judge(|runtime| {
        let report = Bundle::world(runtime).report();
        for (kind, file) in ALL {
            let (inside, outside) = (report["ns"][file].as_str().unwrap(), of_process("self", file));
            if matches!(kind, "user" | "time") {
                assert_eq!(inside, outside, "{kind}");
            } else {
                assert_ne!(inside, outside, "{kind}");
            }
        }
        assert_eq!(report["pid"], 1);
        assert_eq!(report["cgroup"].as_str().unwrap().lines().find(|l| !l.ends_with(":/")), None);
    });
}

#[test]
fn the_mount_namespace_alone_is_enough() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.namespaces(&["mount"]);
        // The host's own, where nothing new may be mounted from.
        bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys");
        let report = bundle.report();
        for (kind, file) in ALL {
            let same = report["ns"][file] == of_process("self", file).as_str();
            assert_eq!(same, kind != "mount", "{kind}");
        }
    });
}

#[test]
fn each_can_be_joined_by_path() {
    judge(|runtime| {
        let first = Bundle::new(runtime, json!([["hold"]]));
        first.launch();
        let _ = first.holding();
        let pid = first.pid().to_string();
        for (kind, file) in ALL {
            // Mount namespaces have a test of their own; users and time need an owner.
            if matches!(kind, "mount" | "user" | "time") {
                continue;
            }
            let mut second = Bundle::world(runtime);
            second.join(kind, &format!("/proc/{pid}/ns/{file}"));
            let report = second.report();
            assert_eq!(report["ns"][file], of_process(&pid, file).as_str(), "{kind}");
            for (other, file) in
                ALL.iter().filter(|(other, _)| *other != kind && *other != "user" && *other != "time")
            {
                assert_ne!(report["ns"][file], of_process(&pid, file).as_str(), "{other} beside {kind}");
            }
        }
    });
}

#[test]
fn all_of_another_container_can_be_joined_at_once() {
    judge(|runtime| {
        let mut first = Bundle::new(runtime, json!([["hold"]]));
        first.config["hostname"] = "first".into();
        first.launch();
        let _ = first.holding();
        let pid = first.pid().to_string();
        let mut second = Bundle::world(runtime);
        for (kind, file) in
            ALL.iter().filter(|(kind, _)| !matches!(*kind, "mount" | "user" | "time" | "cgroup"))
        {
            second.join(kind, &format!("/proc/{pid}/ns/{file}"));
        }
        let report = second.report();
        assert_eq!(report["hostname"], "first");
        assert_ne!(report["pid"], 1);
        for file in ["pid", "net", "ipc", "uts"] {
            assert_eq!(report["ns"][file], of_process(&pid, file).as_str(), "{file}");
        }
    });
}

#[test]
fn a_mount_namespace_can_be_joined() {
    judge(|runtime| {
        // One of the host's that differs in nothing but a mount.
        let mut holder = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", "mount -t tmpfs marker /mnt && echo ready && exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
        let mut bundle = Bundle::world(runtime);
        bundle.join("mount", &format!("/proc/{}/ns/mnt", holder.id()));
        let output = bundle.run();
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert_eq!(output.code, 0, "{output:?}");
    });
}

#[test]
fn a_user_namespace_has_the_maps_of_the_configuration() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.map_users(100_000, 1000);
        bundle.config["linux"]["gidMappings"] = json!([
            {"containerID": 0, "hostID": 100_000, "size": 10},
            {"containerID": 10, "hostID": 200_000, "size": 20},
        ]);
        let report = bundle.report();
        assert_ne!(report["ns"]["user"], of_process("self", "user").as_str());
        let words = |value: &Value| value.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&report["uid_map"]), "0 100000 1000");
        assert_eq!(words(&report["gid_map"]), "0 100000 10 10 200000 20");
        assert_eq!(report["status"]["Uid"], "0 0 0 0");
        assert_eq!(report["setgroups"], "allow");
    });
}

#[test]
fn a_user_namespace_gives_power_over_its_other_namespaces() {
    judge(|runtime| {
        let steps =
            json!([["write", "/proc/sys/net/ipv4/ip_forward", "1"], ["call", "unshare", 0x0400_0000]]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.map_users(100_000, 65536);
        let all = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
        bundle.config["process"]["capabilities"] =
            json!({"bounding": all, "effective": all, "permitted": all});
        let results = bundle.results();
        assert_eq!(results[0], json!({"ok": null}));
        assert_eq!(results[1], json!({"ok": 0}));
    });
}

#[test]
fn a_user_namespace_can_be_joined() {
    judge(|runtime| {
        let mut first = Bundle::new(runtime, json!([["hold"]]));
        first.map_users(100_000, 65536);
        first.launch();
        let _ = first.holding();
        let pid = first.pid().to_string();
        let mut second = Bundle::world(runtime);
        second.map_users(100_000, 65536);
        second.config["linux"].as_object_mut().unwrap().remove("uidMappings");
        second.config["linux"].as_object_mut().unwrap().remove("gidMappings");
        second.join("user", &format!("/proc/{pid}/ns/user"));
        let report = second.report();
        assert_eq!(report["ns"]["user"], of_process(&pid, "user").as_str());
        assert_ne!(report["ns"]["pid"], of_process(&pid, "pid").as_str());
        assert_eq!(report["status"]["Uid"], "0 0 0 0");
    });
}

#[test]
fn the_clocks_of_a_time_namespace_are_off_by_what_is_asked_for() {
    judge(|runtime| {
        if !std::path::Path::new("/proc/self/ns/time").exists() {
            skip("time namespaces", "the kernel has none");
        }
        let mut bundle = Bundle::world(runtime);
        let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "time"}));
        bundle.config["linux"]["timeOffsets"] = json!({
            "boottime": {"secs": 86_400, "nanosecs": 5}, "monotonic": {"secs": 604_800},
        });
        let report = bundle.report();
        assert_ne!(report["ns"]["time"], of_process("self", "time").as_str());
        let offsets = report["timens_offsets"].as_str().unwrap();
        let offsets: Vec<&str> = offsets.split_whitespace().collect();
        assert_eq!(offsets, ["monotonic", "604800", "0", "boottime", "86400", "5"]);
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let host: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let inside = report["boottime"].as_f64().unwrap();
        assert!((inside - host - 86_400.0).abs() < 60.0, "{inside} inside, {host} outside");
    });
}

#[test]
fn a_time_namespace_can_be_joined() {
    judge(|runtime| {
        let mut first = Bundle::new(runtime, json!([["hold"]]));
        first.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        first.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
        first.launch();
        let _ = first.holding();
        let pid = first.pid().to_string();
        assert_ne!(of_process(&pid, "time"), of_process("self", "time"));
        let mut second = Bundle::world(runtime);
        second.join("time", &format!("/proc/{pid}/ns/time"));
        assert_eq!(second.report()["ns"]["time"], of_process(&pid, "time").as_str());
    });
}

#[test]
fn host_and_domain_name_are_set_in_a_namespace_of_their_own() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["hostname"] = "inside".into();
        assert_eq!(bundle.report()["hostname"], "inside");
        let outside = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_ne!(outside.trim(), "inside");
    });
}

#[test]
fn a_domain_name_is_set() {
    judge(|runtime| {
        let mut bundle = Bundle::world(runtime);
        bundle.config["domainname"] = "example.org".into();
        assert_eq!(bundle.report()["domainname"], "example.org");
    });
}

#[test]
fn a_new_network_has_a_loopback_that_is_up() {
    judge(|runtime| {
        let mut bundle = Bundle::new(runtime, json!([["world"], ["read", "/sys/class/net/lo/flags"]]));
        bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
        let results = bundle.results();
        let flags = results[1]["ok"].as_str().unwrap().trim().trim_start_matches("0x").to_owned();
        // IFF_UP
        assert_eq!(u32::from_str_radix(&flags, 16).unwrap() & 1, 1, "{flags}");
        let devices = results[0]["net"].as_array().unwrap();
        assert!(devices.contains(&"lo".into()), "{devices:?}");
    });
}

#[test]
fn network_devices_are_moved_and_renamed_and_keep_their_addresses() {
    judge(|runtime| {
        let steps = json!([
            ["world"],
            ["read", "/proc/net/fib_trie"],
            ["read", "/sys/class/net/eth7/flags"],
            ["read", "/sys/class/net/eth7/mtu"]
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
        bundle.config["linux"]["netDevices"] = json!({"moved0": {"name": "eth7"}, "moved1": {}});
        let id = bundle.id();
        // The runtime lives in a network of its own, so that the host's is left alone.
        let script = "ip link add moved0 type veth peer name moved1 && ip address add 192.0.2.7/24 dev moved0 && \
                      ip link set moved0 mtu 1400 up && exec \"$@\"";
        let runtime = bundle.command(&["run", &id]);
        let mut command = std::process::Command::new("unshare");
        command.args(["--net", "sh", "-c", script, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
        command.current_dir(bundle.path());
        let output = bundle.finish(command);
        let text = output.success();
        let results: Vec<Value> = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let devices = results[0]["net"].as_array().unwrap();
        assert!(devices.contains(&"eth7".into()) && devices.contains(&"moved1".into()), "{devices:?}");
        assert!(!devices.contains(&"moved0".into()), "{devices:?}");
        assert!(results[1]["ok"].as_str().unwrap().contains("192.0.2.7"), "{}", results[1]);
        let flags = results[2]["ok"].as_str().unwrap().trim().trim_start_matches("0x").to_owned();
        assert_eq!(u32::from_str_radix(&flags, 16).unwrap() & 1, 1, "up: {flags}");
        assert_eq!(results[3]["ok"], "1400\n");
    });
}

#[test]
fn kernel_parameters_are_those_of_the_namespaces() {
    judge(|runtime| {
        let steps = json!([
            ["read", "/proc/sys/net/ipv4/ip_forward"],
            ["read", "/proc/sys/kernel/shmmax"],
            ["read", "/proc/sys/fs/mqueue/msg_max"],
            ["read", "/proc/sys/net/core/somaxconn"],
        ]);
        let mut bundle = Bundle::new(runtime, steps);
        bundle.config["linux"]["sysctl"] = json!({
            "net.ipv4.ip_forward": "1", "kernel.shmmax": "65536", "fs.mqueue.msg_max": "17", "net/core/somaxconn": "257",
        });
        let results: Vec<String> =
            bundle.results().iter().map(|r| r["ok"].as_str().unwrap_or_default().trim().to_owned()).collect();
        assert_eq!(results, ["1", "65536", "17", "257"]);
        assert_ne!(fs::read_to_string("/proc/sys/kernel/shmmax").unwrap().trim(), "65536");
    });
}

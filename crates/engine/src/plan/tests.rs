//! Plans of whole containers, and one thing at a time.

mod brought;

use std::collections::BTreeMap;

use api::container::{DeviceMapping, MountPoint, ThrottleDevice, Ulimit, WeightDevice};
use runtime::capabilities::Capability;
use serde_json::Value;

use super::*;
use crate::containers::record::tests::record;
use crate::containers::record::{MountKind, MountRecord};

fn machine() -> Host {
    Host {
        kernel: "6.18.1-cloud".into(),
        cgroup_version: 2,
        swap_limit: true,
        seccomp: true,
        name: "box".into(),
        last_group: 2_147_483_647,
        ..Host::default()
    }
}

fn resolved() -> Resolved {
    Resolved {
        available: CapabilitySet::ALL,
        devices: Vec::new(),
        blocks: BTreeMap::from([("/dev/sda".to_owned(), (8, 0))]),
        init: "/run/corten/init".into(),
        injected: Injected::default(),
    }
}

fn identity() -> Identity {
    Identity { uid: 0, gid: 0, groups: vec![1, 10], home: "/root".into() }
}

fn paths() -> Paths {
    Paths { state: "/data/containers/0123".into(), run: "/run/corten/c/0123".into() }
}

fn try_plan(record: &Record, identity: &Identity, machine: &Host, resolved: &Resolved) -> Result<Plan> {
    let request = Request {
        record,
        identity,
        paths: &paths(),
        host: machine,
        cgroup: Path::new("/corten/0123"),
        network: None,
        pid: None,
        ipc: None,
    };
    plan_start(&request, resolved)
}

/// The plan of a container that differs from the plain one by `change`.
fn planned(change: impl FnOnce(&mut Record)) -> Plan {
    let mut record = record();
    change(&mut record);
    try_plan(&record, &identity(), &machine(), &resolved()).unwrap()
}

fn refused(change: impl FnOnce(&mut Record)) -> String {
    let mut record = record();
    change(&mut record);
    try_plan(&record, &identity(), &machine(), &resolved()).unwrap_err().to_string()
}

/// A part of the configuration as it is written, its objects and sets in order.
fn json(plan: &Plan, pointer: &str) -> Value {
    fn sort(value: Value, is_set: bool) -> Value {
        match value {
            Value::Object(map) => {
                let map: BTreeMap<String, Value> = map.into_iter().collect();
                let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
                map.into_iter()
                    .map(|(key, value)| (key.clone(), sort(value, sets.contains(&&*key))))
                    .collect()
            }
            Value::Array(mut list) => {
                if is_set {
                    list.sort_by_key(Value::to_string);
                }
                list.into_iter().map(|value| sort(value, false)).collect()
            }
            other => other,
        }
    }
    let whole = serde_json::to_value(&plan.spec).unwrap();
    sort(whole.pointer(pointer).cloned().unwrap_or(Value::Null), false)
}

fn strings(plan: &Plan, pointer: &str) -> Vec<String> {
    serde_json::from_value(json(plan, pointer)).unwrap()
}

fn namespaces_of(plan: &Plan) -> Vec<String> {
    let list = json(plan, "/linux/namespaces");
    list.as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap().to_owned()).collect()
}

fn mount_at(plan: &Plan, destination: &str) -> Value {
    let list = json(plan, "/mounts");
    list.as_array()
        .unwrap()
        .iter()
        .find(|one| one["destination"] == destination)
        .cloned()
        .unwrap_or(Value::Null)
}

fn options_at(plan: &Plan, destination: &str) -> String {
    let mount = mount_at(plan, destination);
    let options = mount["options"].as_array().cloned().unwrap_or_default();
    options.iter().map(|option| option.as_str().unwrap()).collect::<Vec<_>>().join(",")
}

/// The configuration without the seccomp profile, which has its own tests.
fn whole(plan: &Plan) -> String {
    let mut whole = json(plan, "");
    if let Some(seccomp) = whole.pointer_mut("/linux/seccomp") {
        *seccomp = Value::from("…");
    }
    serde_json::to_string_pretty(&whole).unwrap()
}

#[test]
fn a_plain_container() {
    let plan = planned(|_| {});
    insta::assert_snapshot!("plain", whole(&plan));
    let sources: Vec<_> = plan.binds.iter().map(|bind| (bind.index, bind.source.to_str().unwrap())).collect();
    assert_eq!(
        sources,
        [
            (7, "/data/containers/0123/resolv.conf"),
            (8, "/data/containers/0123/hostname"),
            (9, "/data/containers/0123/hosts")
        ]
    );
    let bytes = serde_json::to_vec(&plan.spec).unwrap();
    assert_eq!(oci::runtime::parse_spec(&bytes).unwrap(), plan.spec);
}

#[test]
fn a_privileged_container() {
    let device = Device {
        path: "/dev/fuse".into(),
        kind: Kind::Character,
        major: 10,
        minor: 229,
        mode: 0o666,
        uid: 0,
        gid: 0,
        access: "rwm".into(),
    };
    let mut record = record();
    record.host.privileged = true;
    let resolved = Resolved { devices: vec![device], ..resolved() };
    let plan = try_plan(&record, &identity(), &machine(), &resolved).unwrap();
    insta::assert_snapshot!("privileged", whole(&plan));
    assert_eq!(json(&plan, "/linux/seccomp"), Value::Null);
}

#[test]
fn a_container_with_limits() {
    let plan = planned(|r| {
        let limits = &mut r.host.resources;
        limits.memory = 64 << 20;
        limits.memory_reservation = 32 << 20;
        limits.nano_cpus = 1_500_000_000;
        limits.cpu_shares = 512;
        limits.cpuset_cpus = "0-1".into();
        limits.pids_limit = Some(100);
        limits.blkio_weight = 300;
        limits.blkio_weight_device = vec![WeightDevice { path: "/dev/sda".into(), weight: 400 }];
        limits.blkio_device_read_bps = vec![ThrottleDevice { path: "/dev/sda".into(), rate: 1 << 20 }];
        limits.device_cgroup_rules = vec!["c 7:* rw".into()];
        limits.ulimits = vec![
            Ulimit { name: "nofile".into(), soft: 1024, hard: 2048 },
            Ulimit { name: "core".into(), soft: -1, hard: -1 },
        ];
        r.host.oom_score_adj = 500;
    });
    insta::assert_snapshot!(
        "limits",
        serde_json::to_string_pretty(&json(&plan, "/linux/resources")).unwrap()
    );
    insta::assert_snapshot!(
        "rlimits",
        serde_json::to_string_pretty(&json(&plan, "/process/rlimits")).unwrap()
    );
    assert_eq!(json(&plan, "/process/oomScoreAdj"), 500);
}

#[test]
fn swap_is_as_much_as_memory_unless_said() {
    let swap = |memory, swap| {
        let plan = planned(|r| {
            r.host.resources.memory = memory;
            r.host.resources.memory_swap = swap;
        });
        json(&plan, "/linux/resources/memory/swap")
    };
    assert_eq!(swap(1 << 30, 0), 2_i64 << 30);
    assert_eq!(swap(1 << 30, -1), -1);
    assert_eq!(swap(1 << 30, 1 << 30), 1_i64 << 30);
    assert_eq!(swap(0, 0), Value::Null);
    let mut record = record();
    record.host.resources.memory = 1 << 30;
    let poor = Host { swap_limit: false, ..machine() };
    let plan = try_plan(&record, &identity(), &poor, &resolved()).unwrap();
    assert_eq!(json(&plan, "/linux/resources/memory/swap"), Value::Null);
    assert_eq!(json(&plan, "/linux/resources/memory/limit"), 1 << 30);
}

#[test]
fn no_limit_of_processes_is_none() {
    for none in [None, Some(0), Some(-1)] {
        let plan = planned(|r| r.host.resources.pids_limit = none);
        assert_eq!(json(&plan, "/linux/resources/pids"), Value::Null);
    }
    // One that lives is told that it has none any more.
    let host = HostConfig {
        resources: api::container::Resources { pids_limit: Some(-1), ..Default::default() },
        ..HostConfig::default()
    };
    assert_eq!(
        limits(&host, &machine()).unwrap().pids().as_ref().map(oci::runtime::LinuxPids::limit),
        Some(-1)
    );
}

#[test]
fn the_environment() {
    let env = |change: &dyn Fn(&mut Record)| strings(&planned(change), "/process/env");
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(env(&|_| {}), [path, "HOSTNAME=0123456789ab", "HOME=/root"]);
    assert_eq!(
        env(&|r| {
            r.config.tty = true;
            r.config.env = vec!["PATH=/bin".into(), "A=1".into(), "HOME=/x".into()];
            r.config.hostname = "db".into();
        }),
        ["PATH=/bin", "HOSTNAME=db", "TERM=xterm", "A=1", "HOME=/x"]
    );
    assert_eq!(env(&|r| r.config.env = vec!["HOSTNAME".into()]), [path, "HOME=/root"]);
}

#[test]
fn names_of_a_container() {
    let names = |change: &dyn Fn(&mut Record)| {
        let plan = planned(change);
        (plan.spec.hostname().clone(), plan.spec.domainname().clone())
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(names(&|_| {}), (some("0123456789ab"), None));
    assert_eq!(names(&|r| r.host.network_mode = "host".into()), (some("box"), None));
    assert_eq!(names(&|r| r.host.uts_mode = "host".into()), (None, None));
    let both = names(&|r| {
        r.config.hostname = "db".into();
        r.config.domainname = "example.org".into();
    });
    assert_eq!(both, (some("db"), some("example.org")));
}

#[test]
fn who_it_is() {
    let user = |identity: Identity| {
        let plan = try_plan(&record(), &identity, &machine(), &resolved())?;
        Ok::<_, Error>(json(&plan, "/process/user"))
    };
    let app = Identity { uid: 100, gid: 101, groups: vec![5, 101], home: "/srv".into() };
    assert_eq!(user(app).unwrap().to_string(), r#"{"additionalGids":[101,5],"gid":101,"uid":100}"#);
    for (uid, gid, further) in [(u32::MAX, 0, 0), (0, 1 << 31, 0), (0, 0, u32::MAX)] {
        let error = user(Identity { uid, gid, groups: vec![further], home: "/".into() }).unwrap_err();
        assert_eq!(error.to_string(), "uids and gids must be in range 0-2147483647");
    }
}

#[test]
fn capabilities_of_root_and_of_others() {
    let sets = |uid, change: &dyn Fn(&mut HostConfig)| {
        let mut record = record();
        change(&mut record.host);
        let plan = try_plan(&record, &Identity { uid, ..identity() }, &machine(), &resolved()).unwrap();
        let count =
            |name: &str| json(&plan, &format!("/process/capabilities/{name}")).as_array().unwrap().len();
        (count("bounding"), count("effective"), count("permitted"), count("inheritable"), count("ambient"))
    };
    assert_eq!(sets(0, &|_| {}), (14, 14, 14, 0, 0));
    assert_eq!(sets(7, &|_| {}), (14, 0, 0, 0, 0));
    assert_eq!(sets(0, &|h| h.cap_drop = vec!["ALL".into()]), (0, 0, 0, 0, 0));
    assert_eq!(sets(0, &|h| h.cap_add = vec!["all".into()]), (41, 41, 41, 0, 0));
    assert_eq!(sets(0, &|h| h.privileged = true), (41, 41, 41, 0, 0));
    assert_eq!(sets(0, &|h| h.cap_add = vec!["sys_admin".into()]).0, 15);
    assert_eq!(
        refused(|r| r.host.cap_add = vec!["flying".into()]),
        "invalid CapAdd: unknown capability: \"CAP_FLYING\""
    );
}

#[test]
fn namespaces_and_modes() {
    let types = |change: &dyn Fn(&mut HostConfig)| namespaces_of(&planned(|r| change(&mut r.host))).join(" ");
    assert_eq!(types(&|_| {}), "mount pid ipc uts network cgroup");
    assert_eq!(types(&|h| h.network_mode = "host".into()), "mount pid ipc uts cgroup");
    assert_eq!(
        types(&|h| {
            h.pid_mode = "host".into();
            h.ipc_mode = "host".into();
            h.uts_mode = "host".into();
            h.cgroupns_mode = "host".into();
        }),
        "mount network"
    );
    let mut record = record();
    let old = Host { cgroup_version: 1, ..machine() };
    let on_old = |record: &Record| {
        namespaces_of(&try_plan(record, &identity(), &old, &resolved()).unwrap())
            .contains(&"cgroup".to_owned())
    };
    assert!(!on_old(&record));
    record.host.cgroupns_mode = "private".into();
    assert!(on_old(&record));
}

#[test]
fn shared_memory() {
    assert_eq!(options_at(&planned(|_| {}), "/dev/shm"), "nosuid,noexec,nodev,mode=1777,size=67108864");
    assert!(options_at(&planned(|r| r.host.shm_size = 4096), "/dev/shm").ends_with("size=4096"));
    assert_eq!(mount_at(&planned(|r| r.host.ipc_mode = "none".into()), "/dev/shm"), Value::Null);
    let host = planned(|r| r.host.ipc_mode = "host".into());
    assert_eq!(mount_at(&host, "/dev/shm")["type"], "bind");
    assert!(host.binds.iter().any(|bind| bind.source == Path::new("/dev/shm")));
}

fn mount(kind: MountKind, source: &str, destination: &str, rw: bool) -> MountRecord {
    let point =
        MountPoint { source: source.into(), destination: destination.into(), rw, ..Default::default() };
    MountRecord { point, kind }
}

fn bind_kind(recursive: bool, read_only_recursive: bool) -> MountKind {
    MountKind::Bind { recursive, create: false, read_only_recursive, read_only_force: false, owners: None }
}

#[test]
fn mounts_that_are_asked_for() {
    let mut slave = mount(bind_kind(true, false), "/h", "/x/y", true);
    slave.point.propagation = "rslave".into();
    let volume = MountKind::Volume { anonymous: false, no_copy: false, subpath: "sub/dir".into() };
    let plan = planned(|r| {
        r.mounts = vec![
            slave,
            mount(bind_kind(false, false), "/a", "/etc/hosts", false),
            mount(volume, "/data/volumes/v/_data", "/x", true),
            mount(MountKind::Tmpfs { options: "exec,size=1m,mode=700".into() }, "", "/tmp", true),
            mount(bind_kind(true, true), "/b", "/dev", false),
        ];
    });
    assert_eq!(options_at(&plan, "/x/y"), "rbind,rslave");
    assert_eq!(options_at(&plan, "/etc/hosts"), "bind,rprivate,ro");
    assert_eq!(options_at(&plan, "/dev"), "rbind,rprivate,rro");
    assert_eq!(options_at(&plan, "/tmp"), "nosuid,nodev,rprivate,exec,size=1m,mode=700");
    assert_eq!(plan.spec.linux().as_ref().unwrap().rootfs_propagation().as_deref(), Some("rslave"));
    let list = json(&plan, "/mounts");
    let places: Vec<&str> =
        list.as_array().unwrap().iter().map(|one| one["destination"].as_str().unwrap()).collect();
    assert_eq!(
        places,
        [
            "/proc",
            "/sys",
            "/sys/fs/cgroup",
            "/x",
            "/tmp",
            "/dev",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/x/y",
            "/etc/hosts"
        ]
    );
    for bind in &plan.binds {
        assert_eq!(list[bind.index]["source"], bind.source.to_str().unwrap());
        assert_eq!(list[bind.index]["type"], "bind");
    }
    let volume = plan.binds.iter().find(|bind| bind.source.starts_with("/data/volumes")).unwrap();
    assert_eq!(volume.below, "sub/dir");
}

#[test]
fn a_read_only_root() {
    let plan = planned(|r| r.host.readonly_rootfs = true);
    assert_eq!(json(&plan, "/root").to_string(), r#"{"path":"rootfs","readonly":true}"#);
    assert_eq!(options_at(&plan, "/etc/hosts"), "rbind,rprivate,ro");
    assert!(!options_at(&plan, "/dev/shm").contains("ro,"));
}

#[test]
fn the_small_init() {
    let plan = planned(|r| r.host.resources.init = Some(true));
    assert_eq!(strings(&plan, "/process/args"), ["/sbin/docker-init", "init", "--", "sleep", "1"]);
    assert_eq!(options_at(&plan, "/sbin/docker-init"), "bind,rprivate,ro");
    assert!(plan.binds.iter().any(|bind| bind.source == Path::new("/run/corten/init") && !bind.recursive));
    let host = planned(|r| {
        r.host.resources.init = Some(true);
        r.host.pid_mode = "host".into();
    });
    assert_eq!(strings(&host, "/process/args"), ["sleep", "1"]);
}

#[test]
fn security_options_are_read() {
    let parse = |options: &[&str]| {
        SecurityOptions::parse(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    };
    let parsed = parse(&["no-new-privileges", "seccomp=unconfined", "apparmor:x", "label=disable"]).unwrap();
    assert!(parsed.no_new_privileges);
    assert_eq!((parsed.seccomp.as_deref(), parsed.apparmor.as_deref()), (Some("unconfined"), Some("x")));
    assert!(!parse(&["no-new-privileges", "no-new-privileges=false"]).unwrap().no_new_privileges);
    assert!(parse(&["no-new-privileges:true"]).unwrap().no_new_privileges);
    assert!(parse(&["systempaths=unconfined"]).unwrap().system_paths_unconfined);
    assert_eq!(parse(&["foo"]).unwrap_err(), "invalid --security-opt 1: \"foo\"");
    assert_eq!(parse(&["foo=bar"]).unwrap_err(), "invalid --security-opt 2: \"foo=bar\"");
    assert_eq!(
        parse(&["no-new-privileges=x"]).unwrap_err(),
        "invalid --security-opt 2: \"no-new-privileges=x\""
    );
    // Whether they are right is for SELinux to say; where it is off nobody minds, as in Docker.
    assert_eq!(
        parse(&["label=user:x", "label:type:y", "disable"]).unwrap().labels,
        ["user:x", "type:y", "disable"]
    );
}

#[test]
fn the_filter_of_system_calls() {
    let seccomp = |options: &[&str]| {
        let plan = planned(|r| r.host.security_opt = options.iter().map(ToString::to_string).collect());
        json(&plan, "/linux/seccomp")
    };
    assert_eq!(seccomp(&[])["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(seccomp(&["seccomp=builtin"]), seccomp(&[]));
    assert_eq!(seccomp(&["seccomp=unconfined"]), Value::Null);
    let custom = r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]}"#;
    assert_eq!(seccomp(&[custom])["defaultAction"], "SCMP_ACT_ALLOW");
    assert!(
        refused(|r| r.host.security_opt = vec!["seccomp={".into()])
            .starts_with("decoding seccomp profile failed")
    );
    let with_admin = planned(|r| r.host.cap_add = vec![Capability::SYS_ADMIN.name()]);
    assert!(json(&with_admin, "/linux/seccomp").to_string().contains("\"unshare\""));
    assert!(!seccomp(&[]).to_string().contains("\"unshare\""));
    let mut record = record();
    record.host.security_opt = vec![custom.to_owned()];
    let bare = Host { seccomp: false, ..machine() };
    assert_eq!(
        try_plan(&record, &identity(), &bare, &resolved()).unwrap_err().to_string(),
        "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"
    );
}

#[test]
fn hidden_paths() {
    let paths = |change: &dyn Fn(&mut HostConfig), which: &str| {
        strings(&planned(|r| change(&mut r.host)), &format!("/linux/{which}Paths"))
    };
    assert!(paths(&|_| {}, "masked").contains(&"/proc/kcore".to_owned()));
    assert!(paths(&|_| {}, "readonly").contains(&"/proc/sys".to_owned()));
    assert_eq!(paths(&|h| h.masked_paths = Some(vec!["/x".into()]), "masked"), ["/x"]);
    assert!(paths(&|h| h.readonly_paths = Some(Vec::new()), "readonly").is_empty());
    assert!(paths(&|h| h.security_opt = vec!["systempaths=unconfined".into()], "masked").is_empty());
}

#[test]
fn sysctls() {
    let set = |change: &dyn Fn(&mut HostConfig)| json(&planned(|r| change(&mut r.host)), "/linux/sysctl");
    assert_eq!(
        set(&|_| {}).to_string(),
        r#"{"net.ipv4.ip_unprivileged_port_start":"0","net.ipv4.ping_group_range":"0 2147483647"}"#
    );
    assert_eq!(set(&|h| h.network_mode = "host".into()).to_string(), "{}");
    let port = |h: &mut HostConfig| {
        drop(h.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "80".into()));
    };
    assert_eq!(set(&port)["net.ipv4.ip_unprivileged_port_start"], "80");
    let wrong = |name: &str| refused(|r| drop(r.host.sysctls.insert(name.into(), "1".into())));
    for name in ["kernel.core_pattern", "vm.swappiness", "net/../kernel/core_pattern", "kernel.hostname"] {
        assert_eq!(wrong(name), format!("sysctl '{name}=1' is not allowed"));
    }
    assert!(
        refused(|r| {
            r.host.network_mode = "host".into();
            r.host.sysctls.insert("net.core.somaxconn".into(), "1".into());
        })
        .contains("host's")
    );
}

#[test]
fn what_cannot_be_is_refused() {
    let ulimit = |name: &str, soft, hard| {
        refused(|r| r.host.resources.ulimits = vec![Ulimit { name: name.into(), soft, hard }])
    };
    assert_eq!(ulimit("wings", 1, 1), "invalid ulimit type: wings");
    assert_eq!(ulimit("nofile", 2, 1), "ulimit soft limit must be less than or equal to hard limit: 2 > 1");
    assert_eq!(ulimit("nofile", -2, 1), "invalid value for ulimit nofile: -2");
    for rule in
        ["c 1:3", "x 1:3 rwm", "c 1 rwm", "c 1:3 rwx", "c 1:3  rw", "c -1:3 r", "c 99999999999:1 r", ""]
    {
        assert_eq!(
            refused(|r| r.host.resources.device_cgroup_rules = vec![rule.into()]),
            format!("invalid device cgroup rule format: '{rule}'")
        );
    }
    assert_eq!(refused(|r| r.host.resources.cpuset_cpus = "0-".into()), "invalid value 0- for cpuset cpus");
    assert_eq!(refused(|r| r.args.clear()), "no command specified");
}

#[test]
fn devices_are_looked_up() {
    let resolve = |path: &str, inside: &str, access: &str| {
        let mut host = HostConfig::default();
        host.resources.devices = vec![DeviceMapping {
            path_on_host: path.into(),
            path_in_container: inside.into(),
            cgroup_permissions: access.into(),
        }];
        devices::resolve(&host).map_err(|error| error.to_string())
    };
    let null = resolve("/dev/null", "/dev/nothing", "r").unwrap();
    assert_eq!((null[0].major, null[0].minor, null[0].access.as_str()), (1, 3, "r"));
    assert_eq!(null[0].path, Path::new("/dev/nothing"));
    assert_eq!(resolve("/dev/null", "", "").unwrap()[0].access, "rwm");
    let about = "error gathering device information while adding custom device";
    assert_eq!(
        resolve("/dev/nope", "", "").unwrap_err(),
        format!("{about} \"/dev/nope\": no such file or directory")
    );
    assert_eq!(
        resolve("/etc/passwd", "", "").unwrap_err(),
        format!("{about} \"/etc/passwd\": not a device node")
    );
    assert_eq!(resolve("/dev/null", "", "x").unwrap_err(), "invalid device mode: x");
    assert!(resolve("/dev/null", "../../etc/x", "").is_err());
    let mut host = HostConfig { privileged: true, ..HostConfig::default() };
    let all = devices::resolve(&host).unwrap();
    assert!(all.iter().any(|device| device.path == Path::new("/dev/null")));
    assert!(all.iter().all(|device| !device.path.starts_with("/dev/pts")));
    host.resources.blkio_device_read_bps = vec![ThrottleDevice { path: "/dev/null".into(), rate: 1 }];
    assert_eq!(devices::resolve_limits(&host).unwrap_err().to_string(), "/dev/null: not a block device");
}

#[test]
fn a_device_that_is_asked_for() {
    let device = Device {
        path: "/dev/kvm".into(),
        kind: Kind::Character,
        major: 10,
        minor: 232,
        mode: 0o660,
        uid: 0,
        gid: 7,
        access: "rw".into(),
    };
    let resolved = Resolved { devices: vec![device], ..resolved() };
    let plan = try_plan(&record(), &identity(), &machine(), &resolved).unwrap();
    assert_eq!(
        json(&plan, "/linux/devices").to_string(),
        r#"[{"fileMode":432,"gid":7,"major":10,"minor":232,"path":"/dev/kvm","type":"c","uid":0}]"#
    );
    let rules = json(&plan, "/linux/resources/devices");
    let last = rules.as_array().unwrap().last().unwrap();
    assert_eq!(last.to_string(), r#"{"access":"rw","allow":true,"major":10,"minor":232,"type":"c"}"#);
    assert_eq!(rules[0].to_string(), r#"{"access":"rwm","allow":false}"#);
}

#[test]
fn a_further_process() {
    let mut record = record();
    record.config.env = vec!["A=1".into()];
    record.config.working_dir = "/srv".into();
    let mut request = api::exec::CreateRequest {
        cmd: Some(vec!["id".into()]),
        env: vec!["A=2".into()],
        tty: true,
        ..Default::default()
    };
    let exec = |request: &api::exec::CreateRequest| {
        process::exec(&record, &identity(), &machine(), request, CapabilitySet::ALL)
    };
    let process = exec(&request).unwrap();
    assert_eq!(process.args().as_deref().unwrap(), ["id"]);
    assert_eq!(process.cwd(), Path::new("/srv"));
    assert_eq!(
        process.env().as_deref().unwrap()[1..],
        ["HOSTNAME=0123456789ab", "TERM=xterm", "A=2", "HOME=/root"]
    );
    let bounding =
        |process: &Process| process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len();
    assert_eq!(bounding(&process), 14);
    request.privileged = true;
    request.working_dir = "/w".into();
    let process = exec(&request).unwrap();
    assert_eq!((bounding(&process), process.cwd().as_path()), (41, Path::new("/w")));
    request.cmd = None;
    assert_eq!(exec(&request).unwrap_err().to_string(), "No exec command specified");
}

#[test]
fn checks_at_creation_are_those_of_the_start() {
    let check = |change: &dyn Fn(&mut HostConfig)| {
        let mut host = HostConfig { network_mode: "none".into(), ..HostConfig::default() };
        change(&mut host);
        check(&host, &machine()).map_err(|error| error.to_string())
    };
    assert_eq!(check(&|_| {}), Ok(()));
    assert!(check(&|h| h.cap_add = vec!["x".into()]).is_err());
    assert!(check(&|h| h.security_opt = vec!["x".into()]).is_err());
    assert!(check(&|h| h.resources.device_cgroup_rules = vec!["x".into()]).is_err());
    assert!(check(&|h| drop(h.sysctls.insert("x".into(), "1".into()))).is_err());
    assert!(check(&|h| h.security_opt = vec!["apparmor=mine".into()]).unwrap_err().contains("AppArmor"));
}

proptest::proptest! {
    #[test]
    fn users_are_never_numbers_that_wrap_around(
        user in "[a-z0-9:+-]{0,24}|[0-9]{1,20}(:[0-9-]{1,20})?",
        passwd: Vec<u8>,
        line in "[a-z]{1,4}:x:[0-9-]{1,12}:[0-9-]{1,12}::/:\n",
        group in "([a-z]{1,4}:x:[0-9-]{1,12}:[a-z,]{0,9}\n){0,4}",
    ) {
        for passwd in [passwd.as_slice(), line.as_bytes()] {
            if let Ok(found) = crate::containers::identity::find(&user, &[], passwd, group.as_bytes()) {
                for id in found.groups.iter().chain([&found.uid, &found.gid]) {
                    proptest::prop_assert!(*id <= i32::MAX as u32);
                }
            }
        }
    }
}

//! What is written, read back.

use super::*;
use crate::create::{RUN_FLAGS, wanted};
use crate::flags::parse;
use api::container::CreateRequest;
use client::config::ConfigFile;
use std::path::Path;

/// The request that a command line of `run` makes.
fn request(args: &[String]) -> CreateRequest {
    let parsed = parse(&[RUN_FLAGS], false, args).expect("flags");
    wanted(&parsed, &ConfigFile::empty(Path::new("/"))).expect("a request").request
}

/// What a daemon shows of a container made by a request: with what it fills in.
fn shown(request: CreateRequest, name: &str) -> Inspect {
    let mut host = request.host_config.expect("a host configuration");
    for (field, value) in [
        (&mut host.ipc_mode, "private"),
        (&mut host.cgroupns_mode, "private"),
        (&mut host.log_config.driver, "json-file"),
    ] {
        if field.is_empty() {
            *field = value.to_owned();
        }
    }
    if host.shm_size == 0 {
        host.shm_size = 64 << 20;
    }
    if host.resources.pids_limit == Some(0) {
        host.resources.pids_limit = Some(4096);
    }
    let networks = request.networking_config.unwrap_or_default().endpoints_config;
    Inspect {
        id: "0123456789abcdef".into(),
        name: format!("/{name}"),
        config: request.config,
        host_config: host,
        network_settings: api::container::NetworkSettings { networks, ..Default::default() },
        ..Inspect::default()
    }
}

/// The words of a line, as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut chars = line.trim_end().chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => (quoted, any) = (!quoted, true),
            '\\' if !quoted => word.extend(chars.next()),
            ' ' if !quoted => {
                words.push(std::mem::take(&mut word));
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

const ARGS: &[&str] = &[
    "--name=web",
    "-d",
    "-i",
    "-t",
    "-e",
    "A=it's \"here\"",
    "-e",
    "B=$x y",
    "-l",
    "k=v w",
    "-u",
    "7:8",
    "--group-add=9",
    "-w",
    "/a b",
    "--entrypoint=sh",
    "--stop-signal=USR1",
    "--stop-timeout=3",
    "--init",
    "--annotation=a=b",
    "--restart=on-failure:4",
    "--log-opt=max-size=1m",
    "--read-only",
    "-v",
    "/x:/y:ro",
    "-v",
    "data:/z",
    "-v",
    "/anon",
    "--mount=type=bind,src=/m,dst=/n,ro,bind-propagation=rslave",
    "--mount=type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700",
    "--mount=type=volume,src=v,dst=/v,volume-subpath=sub,volume-nocopy",
    "--tmpfs=/q:size=1m",
    "--tmpfs=/r",
    "--volumes-from=other:ro",
    "--shm-size=1m",
    "--hostname=h",
    "--domainname=d",
    "--network=name=one,alias=x,ip=10.0.0.9,driver-opt=k=v",
    "--network=name=two,mac-address=02:aa:00:00:00:09",
    "-p",
    "127.0.0.1:8080:80",
    "-p",
    "[::1]:81:81/udp",
    "-p",
    "82",
    "--expose=90",
    "--add-host=a:1.2.3.4",
    "--dns=1.1.1.1",
    "--dns-option=ndots:2",
    "--dns-search=example.org",
    "--cap-add=NET_ADMIN",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--security-opt=systempaths=unconfined",
    "--sysctl=net.core.somaxconn=9",
    "--cgroupns=host",
    "--ipc=shareable",
    "--pid=host",
    "--userns=host",
    "-m",
    "64m",
    "--memory-swap=100m",
    "--memory-reservation=32m",
    "--memory-swappiness=0",
    "--oom-kill-disable",
    "--oom-score-adj=5",
    "--cpu-shares=5",
    "--cpus=1.25",
    "--cpuset-cpus=0",
    "--cpuset-mems=0",
    "--cgroup-parent=/p",
    "--blkio-weight=20",
    "--blkio-weight-device=/dev/a:30",
    "--device-read-bps=/dev/a:1mb",
    "--device-write-iops=/dev/a:7",
    "--pids-limit=11",
    "--ulimit=nofile=1:2",
    "--device=/dev/a",
    "--device=/dev/b:/dev/c:r",
    "--device=vendor.com/class=one",
    "--device-cgroup-rule=c 1:2 rw",
    "--gpus=\"device=0,1\"",
    "--health-cmd=true x",
    "--health-interval=1500ms",
    "--health-retries=2",
    "img:1",
    "-c",
    "echo 'a  b'; exit $?",
];

#[test]
fn a_command_line_makes_the_same_request_again() {
    let args: Vec<String> = ARGS.iter().map(|arg| (*arg).to_owned()).collect();
    let made = shown(request(&args), "web");
    let recipe = Recipe::of(made.clone(), Some(ImageConfig::default()));
    let line = recipe.written("run").unwrap();
    let again = words(&line);
    assert_eq!(&again[..2], ["corten", "run"]);
    let again = shown(request(&again[2..]), "web");
    assert_eq!(
        serde_json::to_value(&again.config).unwrap(),
        serde_json::to_value(&made.config).unwrap(),
        "{line}"
    );
    assert_eq!(
        serde_json::to_value(&again.host_config).unwrap(),
        serde_json::to_value(&made.host_config).unwrap(),
        "{line}"
    );
    assert_eq!(again.network_settings.networks, made.network_settings.networks, "{line}");
}

/// What `run` makes of a line, as it is shown.
pub(super) fn recipe(line: &str) -> Recipe {
    let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
    Recipe::of(shown(request(&args), "c"), Some(ImageConfig::default()))
}

/// A mount of each type with all that `--mount` takes.
const MOUNTS: [&str; 5] = [
    "type=bind,source=/m,target=/b,consistency=cached,readonly=true,bind-propagation=rprivate,bind-recursive=readonly,bind-create-src=true,bind-idmap=match-user:www",
    "type=bind,source=/m,target=/c,readonly=true,bind-recursive=writable,bind-idmap=userns",
    "type=volume,source=v,target=/v,volume-nocopy=true,volume-subpath=sub,volume-label=a=b,volume-driver=far,\"volume-opt=o=a,b\"",
    "type=image,source=img,target=/i,image-subpath=sub",
    "type=tmpfs,target=/t,tmpfs-size=4096,tmpfs-mode=1770,\"tmpfs-options=noexec,uid=5\"",
];

#[test]
fn every_field_of_a_mount_is_written_again() {
    for mount in MOUNTS {
        assert_eq!(flags::mount(&recipe(&format!("--mount={mount} img")).host.mounts[0]), mount);
    }
    // Every key of `--mount` is in one of them; what is not is another word for one that is.
    let reader = include_str!("../create/mount.rs");
    let reader = reader.split("fn set(").nth(1).unwrap().split("fn id_mapping").next().unwrap();
    let keys = reader.lines().filter_map(|line| line.trim().split_once(" => ")).map(|(keys, _)| keys);
    for keys in keys.filter(|keys| keys.starts_with('"')) {
        let names: Vec<&str> = keys.split(" | ").map(|key| key.trim_matches('"')).collect();
        let is_said = |name: &&str| MOUNTS.iter().any(|mount| mount.contains(&format!("{name}=")));
        let is_value = |name: &&str| ["enabled", "disabled", "writable", "readonly"].contains(name);
        assert!(
            names.iter().any(|name| is_said(name) || is_value(name) || *name == "bind-nonrecursive"),
            "{keys}"
        );
    }
}

#[test]
fn what_others_have_no_word_for_is_refused_by_name() {
    for (form, line, word) in [
        ("compose", "--secret=db img", "--secret"),
        ("compose", "--health-http=http://localhost/ img", "--health-http"),
        ("compose", "--health-tcp=localhost:80 img", "--health-tcp"),
        ("compose", "-P img", "--publish-all"),
        ("compose", "--cpuset-mems=0 img", "--cpuset-mems"),
        ("compose", "--volume-driver=far img", "--volume-driver"),
        ("compose", "--mount=type=bind,src=/a,dst=/b,bind-idmap img", "bind-idmap"),
        ("compose", "--mount=type=tmpfs,dst=/b,tmpfs-options=noexec img", "tmpfs-options"),
        ("compose", "--mount=src=v,dst=/b,volume-driver=far img", "volume-driver"),
        ("quadlet", "--health-http=http://localhost/ img", "--health-http"),
        ("quadlet", "--health-tcp=localhost:80 img", "--health-tcp"),
        ("quadlet", "--health-cmd=x --health-start-interval=1s img", "--health-start-interval"),
        ("quadlet", "--link=a:b img", "--link"),
        ("quadlet", "--domainname=d img", "--domainname"),
        ("quadlet", "--mount=type=bind,src=/a,dst=/b,bind-idmap img", "bind-idmap"),
        ("quadlet", "--mount=type=bind,src=/a,dst=/b,bind-create-src img", "bind-create-src"),
        ("quadlet", "--mount=type=tmpfs,dst=/b,tmpfs-options=noexec img", "tmpfs-options"),
        ("quadlet", "--network=name=n,driver-opt=a=b img", "driver-opt"),
    ] {
        let refused = recipe(line).written(form).unwrap_err().to_string();
        assert!(refused.contains("has no word for") && refused.contains(word), "{form} {line}: {refused}");
    }
}

#[test]
fn what_compose_and_podman_have_a_word_for_is_written() {
    for (form, line, want) in [
        ("compose", "--link=other:alias img", "    external_links:\n      - \"other:alias\"\n"),
        ("compose", "--mac-address=02:aa:00:00:00:09 img", "    mac_address: \"02:aa:00:00:00:09\"\n"),
        (
            "compose",
            "--mount=type=bind,src=/a,dst=/b,bind-create-src img",
            "        bind:\n          create_host_path: true\n",
        ),
        ("quadlet", "-i -t img", "PodmanArgs=--interactive\nPodmanArgs=--tty\n"),
        (
            "quadlet",
            "--restart=on-failure:3 img",
            "StartLimitIntervalSec=infinity\nStartLimitBurst=4\n\n[Container]\n",
        ),
        (
            "quadlet",
            "--network=name=n,alias=x,ip=10.0.0.9,mac-address=02:aa:00:00:00:09 img",
            "Network=n:alias=x,ip=10.0.0.9,mac=02:aa:00:00:00:09\n",
        ),
        ("quadlet", "--secret=db img", "Secret=db\n"),
    ] {
        let text = recipe(line).written(form).unwrap();
        assert!(text.contains(want), "{form} {line}: {text}");
    }
}

#[test]
fn hardware_addresses_that_were_chosen_are_written() {
    let line = |mac: &str, ip: &str, endpoint: &str, runtime: &str| {
        let mut made = shown(request(&["--network=one".into(), "img".into()]), "");
        made.host_config.runtime = runtime.to_owned();
        let one = made.network_settings.networks.get_mut("one").unwrap();
        (one.mac_address, one.ip_address) = (mac.to_owned(), ip.to_owned());
        one.endpoint_id = endpoint.to_owned();
        Recipe::of(made, None).written("run").unwrap().contains("mac-address")
    };
    assert!(line("02:aa:00:00:00:09", "", "", "corten"));
    assert!(line("02:aa:00:00:00:09", "10.0.0.9", "0123456789", "corten"));
    assert!(!line("02:42:0a:00:00:09", "10.0.0.9", "0123456789", "corten"));
    assert!(!line("02:42:01:23:45:67", "", "0123456789", "corten"));
    assert!(!line("ea:aa:00:00:00:09", "10.0.0.9", "0123456789", "runc"));
    assert!(line("00:16:3e:00:00:09", "10.0.0.9", "0123456789", "runc"));
}

#[test]
fn what_is_the_images_is_not_said_again() {
    let image = ImageConfig {
        env: vec!["PATH=/bin".into()],
        cmd: vec!["sh".into()],
        working_dir: "/w".into(),
        user: "u".into(),
        ..ImageConfig::default()
    };
    let mut made = shown(request(&["img".into()]), "plain");
    made.config.env = vec!["PATH=/bin".into(), "OWN=1".into()];
    made.config.cmd = Some(image.cmd.clone());
    (made.config.working_dir, made.config.user) = ("/w".into(), "u".into());
    made.config.hostname = "0123456789ab".into();
    made.config.attach_stdout = false;
    made.config.attach_stderr = false;
    let line = Recipe::of(made, Some(image)).written("run").unwrap();
    assert_eq!(line, "corten run --detach --name=plain --env=OWN=1 --pids-limit=4096 img\n");
}

#[test]
fn a_profile_is_a_file_of_the_shells() {
    let mut made = shown(request(&["img".into()]), "a");
    made.host_config.security_opt = vec!["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into()];
    let line = Recipe::of(made, None).written("run").unwrap();
    assert!(
        line.contains("--security-opt=seccomp=<(printf %s '{\"defaultAction\":\"SCMP_ACT_ALLOW\"}')"),
        "{line}"
    );
}

#[test]
fn units_and_pods() {
    let args = [
        "-e",
        "A=50% off",
        "-v",
        "data:/d:ro",
        "-p",
        "80:8080",
        "--restart=always",
        "--privileged",
        "-u",
        "7",
        "img",
        "echo",
        "a b",
    ];
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let recipe = Recipe::of(shown(request(&args), "Web_1"), Some(ImageConfig::default()));
    insta::assert_snapshot!("quadlet", recipe.written("quadlet").unwrap());
    insta::assert_snapshot!("kube", recipe.written("kube").unwrap());
    insta::assert_snapshot!("compose", recipe.written("compose").unwrap());
    let mut joined = recipe;
    joined.host.pid_mode = "container:x".into();
    assert!(joined.written("kube").unwrap_err().to_string().contains("namespaces of other containers"));
}

/// Flags that a container does not have anything of, or that others say.
const NOT_SAID: &[(&str, &[&str])] = &[
    (
        "of the command, not of the container",
        &[
            "attach",
            "cidfile",
            "detach-keys",
            "disable-content-trust",
            "platform",
            "pull",
            "quiet",
            "sig-proxy",
        ],
    ),
    (
        "said by what they come to",
        &[
            "env-file",
            "label-file",
            "health-start-interval",
            "health-start-period",
            "health-timeout",
            "ip",
            "ip6",
            "link-local-ip",
            "network-alias",
            "mac-address",
            "use-api-socket",
        ],
    ),
    (
        "not for this system, or gone",
        &["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation", "kernel-memory"],
    ),
    (
        "not together with those above",
        &[
            "cpu-period",
            "uts",
            "cpu-quota",
            "link",
            "no-healthcheck",
            "health-http",
            "health-tcp",
            "secret",
            "privileged",
            "publish-all",
            "rm",
            "runtime",
            "storage-opt",
            "volume-driver",
            "log-driver",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "device-read-iops",
            "device-write-bps",
        ],
    ),
];

#[test]
fn every_flag_is_written_again() {
    let given = |flag: &crate::flags::Flag| {
        let short = flag.short.map(|letter| format!("-{letter}"));
        ARGS.iter().any(|arg| {
            arg.strip_prefix("--").is_some_and(|arg| arg.split('=').next() == Some(flag.long))
                || short.as_deref() == Some(*arg)
        })
    };
    let flags = RUN_FLAGS.iter().flat_map(|group| group.flags).filter(|flag| flag.same_as.is_empty());
    let missing: Vec<&str> = flags
        .filter(|flag| !given(flag) && !NOT_SAID.iter().any(|(_, flags)| flags.contains(&flag.long)))
        .map(|flag| flag.long)
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_cannot_stand_beside_the_others_is_written_again_too() {
    for line in [
        "--cpu-period=50000 --cpu-quota=2000 --privileged --rm --publish-all img",
        "--secret=db --secret=source=key,target=tls/key,uid=5,gid=6,mode=0400 --health-http=http://localhost:80/ok img",
        "--health-tcp=localhost:80 img",
        "--no-healthcheck --link=other:alias --runtime=crun --storage-opt=size=1g --volume-driver=far img",
        "--log-driver=none --cpu-rt-period=5000 --cpu-rt-runtime=100 --device-read-iops=/dev/a:5 --device-write-bps=/dev/a:6 img",
        "--health-cmd=x --health-start-interval=1s --health-start-period=2m --health-timeout=3s --network=host --uts=host img",
    ] {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let made = shown(request(&args), "");
        let line = Recipe::of(made.clone(), None).written("run").unwrap();
        let again = shown(request(&words(&line)[2..]), "");
        assert_eq!(
            serde_json::to_value(&again.config).unwrap(),
            serde_json::to_value(&made.config).unwrap(),
            "{line}"
        );
        assert_eq!(
            serde_json::to_value(&again.host_config).unwrap(),
            serde_json::to_value(&made.host_config).unwrap(),
            "{line}"
        );
    }
}

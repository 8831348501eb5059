//! What a pod says, and what it is refused for.

use super::*;
use crate::recipe::tests::recipe;

#[test]
fn nothing_of_the_images_stands_before_a_program_without_an_entrypoint() {
    let mut one = recipe("img sh -c x");
    one.entrypoint = Some(Vec::new());
    let pod = write(&one).unwrap();
    assert!(pod.contains("      command:\n        - \"sh\"\n        - \"-c\"\n        - \"x\"\n"), "{pod}");
    assert!(!pod.contains("args:"), "{pod}");
    one.entrypoint = Some(vec!["tini".into()]);
    let pod = write(&one).unwrap();
    assert!(pod.contains("command:\n        - \"tini\"\n      args:\n        - \"sh\"\n"), "{pod}");
    one.entrypoint = None;
    one.command = vec!["echo $(date) $$ $x".into()];
    let pod = write(&one).unwrap();
    assert!(!pod.contains("command:") && pod.contains("echo $$(date) $$$$ $$x"), "{pod}");
}

#[test]
fn what_a_pod_has_a_word_for_is_written() {
    for (line, want) in [
        ("--mount=src=v,dst=/v,volume-subpath=sub img", "subPath: \"sub\""),
        ("--mount=type=image,src=i,dst=/v,image-subpath=sub img", "subPath: \"sub\""),
        ("--mount=type=bind,src=/a,dst=/v,bind-create-src img", "type: \"DirectoryOrCreate\""),
        (
            "--mount=type=bind,src=/a,dst=/v,bind-propagation=rslave img",
            "mountPropagation: \"HostToContainer\"",
        ),
        ("--mount=type=tmpfs,dst=/t,tmpfs-size=1m img", "sizeLimit: \"1048576\""),
        ("--tmpfs=/t:size=2m img", "medium: \"Memory\"\n        sizeLimit: \"2097152\""),
        ("--shm-size=3m img", "mountPath: \"/dev/shm\""),
        (
            "--sysctl=net.core.somaxconn=9 img",
            "sysctls:\n      -\n        name: \"net.core.somaxconn\"\n        value: \"9\"",
        ),
        ("--group-add=9 img", "supplementalGroups:\n      - 9\n"),
        ("--dns=1.1.1.1 img", "dnsPolicy: \"None\"\n"),
        (
            "--dns-option=ndots:2 --dns-option=rotate img",
            "name: \"ndots\"\n        value: \"2\"\n      -\n        name: \"rotate\"",
        ),
        ("--security-opt=seccomp=unconfined img", "seccompProfile:\n          type: \"Unconfined\""),
        ("--security-opt=apparmor=mine img", "localhostProfile: \"mine\""),
        ("--security-opt=label=type:t img", "seLinuxOptions:\n          type: \"t\""),
        ("--security-opt=no-new-privileges img", "allowPrivilegeEscalation: false"),
        ("--cpu-shares=512 img", "requests:\n          cpu: \"500m\""),
        ("--memory-reservation=1m img", "requests:\n          memory: \"1048576\""),
        (
            "--health-http=http://localhost:81/ok?a img",
            "httpGet:\n          path: \"/ok?a\"\n          port: 81\n",
        ),
        ("--health-tcp=localhost:82 img", "tcpSocket:\n          port: 82\n"),
        (
            "--health-cmd=true --health-interval=1500ms --health-timeout=2s --health-retries=4 --health-start-period=1m img",
            "readinessProbe:\n        exec:\n          command:\n            - \"/bin/sh\"\n            - \"-c\"\n            - \"true\"\n        initialDelaySeconds: 60\n        periodSeconds: 2\n        timeoutSeconds: 2\n        failureThreshold: 4\n",
        ),
    ] {
        let pod = write(&recipe(line)).unwrap();
        assert!(pod.contains(want), "{line}: {pod}");
    }
}

#[test]
fn what_it_has_no_word_for_is_refused_by_name() {
    for (line, word) in [
        ("--network=none img", "--network none"),
        ("--pids-limit=11 img", "--pids-limit"),
        ("--ulimit=nofile=1:2 img", "--ulimit"),
        ("--init img", "--init"),
        ("--cpuset-cpus=0 img", "--cpuset-cpus"),
        ("--cpuset-mems=0 img", "--cpuset-mems"),
        ("-m=1m --memory-swap=5m img", "--memory-swap"),
        ("--memory-swappiness=0 img", "--memory-swappiness"),
        ("--stop-signal=USR1 img", "--stop-signal"),
        ("--uts=host img", "--uts"),
        ("--cgroupns=host img", "--cgroupns"),
        ("--oom-score-adj=5 img", "--oom-score-adj"),
        ("--log-driver=none img", "--log-driver"),
        ("--log-opt=max-size=1m img", "--log-opt"),
        ("--device-read-bps=/dev/a:1mb img", "--device-read-bps"),
        ("--device-write-iops=/dev/a:1 img", "--device-write-iops"),
        ("--blkio-weight=20 img", "--blkio-weight"),
        ("--restart=on-failure:4 img", "--restart on-failure:N"),
        ("--runtime=crun img", "--runtime"),
        ("--cgroup-parent=/p img", "--cgroup-parent"),
        ("--cpu-shares=1024 --cpus=0.5 img", "--cpu-shares"),
        ("--mac-address=02:aa:00:00:00:09 img", "--mac-address"),
        ("-P img", "--publish-all"),
        ("--add-host=a:host-gateway img", "host-gateway"),
        ("--security-opt=seccomp={} img", "seccomp=PROFILE"),
        ("--security-opt=systempaths=unconfined img", "systempaths"),
        ("--group-add=wheel img", "wheel"),
        ("--tmpfs=/t:mode=700 img", "mode=700"),
        ("--mount=type=tmpfs,dst=/t,tmpfs-mode=700 img", "tmpfs-mode"),
        ("--mount=type=tmpfs,dst=/t,tmpfs-options=noexec img", "tmpfs-options"),
        ("--mount=type=bind,src=/a,dst=/b,bind-idmap img", "bind-idmap"),
        ("--mount=type=bind,src=/a,dst=/b,bind-propagation=rshared img", "bind-propagation"),
        ("--health-tcp=10.0.0.1:82 img", "localhost"),
    ] {
        let mut one = recipe("img");
        if line.contains("seccomp={}") {
            one.host.security_opt = vec!["seccomp={}".into()];
        } else {
            one = recipe(line);
        }
        let refused = write(&one).unwrap_err().to_string();
        assert!(refused.contains(word), "{line}: {refused}");
    }
}

#[test]
fn what_the_engine_fills_in_is_not_refused() {
    let mut one = recipe("-m=1m --ipc=shareable --userns=host img");
    one.host.resources.memory_swap = 2 << 20;
    one.host.runtime = "corten".into();
    one.host.network_mode = "bridge".into();
    let pod = write(&one).unwrap();
    for word in ["/dev/shm", "requests", "seccomp", "securityContext", "readinessProbe"] {
        assert!(!pod.contains(word), "{pod}");
    }
}

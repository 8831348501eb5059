//! Docker Compose itself, as a plugin of our command line and of Docker's.

use std::path::PathBuf;

use kit::{CLIS, Host, compose, wait_for};

const PROJECT: &str = r#"
services:
  writer:
    image: busybox
    network_mode: none
    command: sh -c 'echo "$$WORD" > /shared/word; exec sleep 1000'
    environment: {WORD: "from compose"}
    volumes: ["shared:/shared"]
    stop_grace_period: 0s
  reader:
    image: busybox
    network_mode: none
    depends_on: [writer]
    command: sh -c 'until cat /shared/word; do sleep 0.1; done'
    volumes: ["shared:/shared:ro"]
volumes:
  shared: {}
"#;

/// A host that has Compose as a plugin, and a project; none if it is not to be had.
fn host(project: &str, make: impl Fn() -> Host) -> Option<(Host, PathBuf)> {
    let host = make();
    if !compose::install(&host) {
        return None;
    }
    let file = host.root().join("compose.yaml");
    std::fs::write(&file, project).expect("write the project");
    Some((host, file))
}

#[test]
fn a_project_comes_up_and_goes() {
    for cli in CLIS {
        let Some((host, file)) = host(PROJECT, Host::with_busybox) else { return };
        let compose = |args: &[&str]| {
            let file = file.to_str().unwrap();
            host.cli(cli, ["compose", "-f", file, "-p", "tried"].iter().chain(args))
        };
        assert!(compose(&["version"]).ok().contains("v2.40"));
        compose(&["up", "-d"]).ok();
        wait_for("the reader's word", || {
            (compose(&["logs", "--no-log-prefix", "reader"]).ok().trim() == "from compose").then_some(())
        });
        wait_for("the reader's end", || {
            (compose(&["ps", "--services", "--status", "running"]).ok() == "writer").then_some(())
        });
        let said = compose(&["exec", "-T", "writer", "cat", "/shared/word"]).ok();
        assert_eq!(said, "from compose");
        compose(&["restart", "writer"]).ok();
        // What did not change stays as it is.
        let ids = compose(&["ps", "-aq"]).ok();
        compose(&["up", "-d", "--no-recreate"]).ok();
        assert_eq!(compose(&["ps", "-aq"]).ok(), ids);
        compose(&["down", "-v"]).ok();
        assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
        assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "");
    }
}

const NETWORKS: &str = r#"
services:
  proxy:
    image: busybox
    command: sh -c 'mkdir /w; echo proxy > /w/index.html; exec httpd -f -p 80 -h /w'
    ports: ["127.0.0.1:8080:80", "8081:80/tcp"]
    networks: {front: {}, middle: {priority: 1000}}
    stop_grace_period: 0s
  app:
    image: busybox
    command: sleep 1000
    deploy: {replicas: 3}
    networks: [middle]
    stop_grace_period: 0s
    depends_on: [store]
  store:
    image: busybox
    command: sleep 1000
    hostname: vault
    networks:
      middle: {aliases: [database], ipv4_address: 10.91.0.77}
      back: {}
    stop_grace_period: 0s
  hermit:
    image: busybox
    command: sleep 1000
    networks: [back]
    extra_hosts: ["elsewhere=192.0.2.7"]
    dns_search: [example.test]
    stop_grace_period: 0s
networks:
  front:
    driver_opts: {com.docker.network.driver.mtu: "1400"}
  middle:
    enable_ipv6: true
    ipam:
      config: [{subnet: 10.91.0.0/24, gateway: 10.91.0.9}]
    labels: {part: middle}
  back:
    internal: true
"#;

#[test]
fn a_project_with_several_networks_comes_up_and_goes() {
    for cli in CLIS {
        let Some((host, file)) = host(NETWORKS, Host::apart) else { return };
        let compose = |args: &[&str]| {
            let file = file.to_str().unwrap();
            host.cli(cli, ["compose", "-f", file, "-p", "tried"].iter().chain(args))
        };
        let inside = |service: &str, script: &str| compose(&["exec", "-T", service, "sh", "-c", script]);
        compose(&["up", "-d", "--wait"]).ok();
        // Names: of a service with several containers, of a container, by alias, by host name.
        let found = inside("proxy", "nslookup app 127.0.0.11 | grep -c '10\\.91\\.0\\.'").ok();
        assert_eq!(found, "3");
        for name in ["store", "database", "vault", "tried-app-2", "tried-store-1.tried_middle"] {
            inside("proxy", &format!("ping -c 1 -W 5 {name}")).ok();
        }
        assert_eq!(inside("store", "ip -o -4 addr | grep -c 10.91.0.77/24").ok(), "1");
        assert_eq!(inside("app", "ip route | grep default | cut -d' ' -f3").ok(), "10.91.0.9");
        // What is on another network is neither found nor reached.
        inside("proxy", "ping -c 1 -W 1 hermit").fails(1, "bad address");
        inside(
            "hermit",
            "ping -c 1 -W 5 store && grep -q elsewhere /etc/hosts && grep -q example.test /etc/resolv.conf",
        )
        .ok();
        let routes = inside("hermit", "ip route").ok();
        assert!(!routes.contains("default"), "{routes}");
        assert_eq!(inside("proxy", "cat /sys/class/net/eth*/mtu | sort | head -n 1").ok(), "1400");
        for port in ["8080", "8081"] {
            let url = format!("http://127.0.0.1:{port}/");
            wait_for("the proxy", || {
                (host.program("curl", ["-sS", "--max-time", "5", &url]).run().stdout.trim() == "proxy")
                    .then_some(())
            });
        }
        assert_eq!(compose(&["port", "proxy", "80"]).ok(), "127.0.0.1:8080");
        // More of them are found by the name, and fewer.
        compose(&["up", "-d", "--scale", "app=1", "--no-recreate"]).ok();
        wait_for("one of them", || {
            let found = inside("proxy", "nslookup app 127.0.0.11 | grep -c '10\\.91\\.0\\.'").run();
            (found.stdout.trim() == "1").then_some(())
        });
        // Nothing changed, so that nothing is made anew; a changed network is.
        let ids = compose(&["ps", "-aq"]).ok();
        compose(&["up", "-d", "--scale", "app=1"]).ok();
        assert_eq!(compose(&["ps", "-aq"]).ok(), ids);
        compose(&["down"]).ok();
        let left = host.corten(["network", "ls", "--filter", "type=custom", "-q"]).ok();
        assert_eq!(left, "");
        assert_eq!(host.corten(["ps", "-aq"]).ok(), "");
    }
}

const HEALTH: &str = r#"
services:
  db:
    image: busybox
    network_mode: none
    command: sh -c 'sleep 1; touch /ready; exec sleep 1000'
    healthcheck: {test: ["CMD", "test", "-e", "/ready"], interval: 100ms, timeout: 1s, retries: 100}
    stop_grace_period: 0s
  web:
    image: busybox
    network_mode: none
    command: sh -c 'exec sleep 1000'
    depends_on: {db: {condition: service_healthy}}
    healthcheck: {test: "true", interval: 100ms}
    stop_grace_period: 0s
"#;

#[test]
fn services_start_when_what_they_need_is_healthy() {
    for cli in CLIS {
        let Some((host, file)) = host(HEALTH, Host::with_busybox) else { return };
        let compose = |args: &[&str]| {
            let file = file.to_str().unwrap();
            host.cli(cli, ["compose", "-f", file, "-p", "tried"].iter().chain(args))
        };
        compose(&["up", "-d", "--wait"]).ok();
        let healthy = host.corten(["ps", "-q", "--filter", "health=healthy"]).ok();
        assert_eq!(healthy.lines().count(), 2);
        let at = |name: &str, event: &str| -> i128 {
            let now = host.corten(["info", "--format", "{{.SystemTime}}"]).ok();
            let (name, event) = (format!("container={name}"), format!("event={event}"));
            let args = ["events", "--since", "0", "--until", &now, "--filter", &name, "--filter", &event];
            let told = host.corten(args.into_iter().chain(["--format", "{{.TimeNano}}"])).ok();
            told.lines().next().expect("an event").parse().expect("a number")
        };
        assert!(at("tried-db-1", "health_status") < at("tried-web-1", "start"));
        compose(&["down"]).ok();
    }
}

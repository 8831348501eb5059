//! A project of a web server, a database and a cache, of Debian's programs, run by Docker Compose from its beginning to its end.

use kit::compose::{self, Project};
use kit::fixtures::{self, Packing};
use kit::{CLIS, Cli, Cmd, Host, wait_for};

const PROJECT: &str = r#"
name: shop
services:
  web:
    image: services
    command: nginx -c /etc/shop/nginx.conf -g "daemon off;"
    depends_on:
      db: {condition: service_healthy, restart: true}
      cache: {condition: service_healthy}
      prepare: {condition: service_completed_successfully}
    ports: ["80"]
    networks: [front, back]
    configs: [{source: nginx, target: /etc/shop/nginx.conf, mode: 0440}]
    volumes: ["site:/srv/site:ro"]
    healthcheck: {test: ["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80"], interval: 200ms, timeout: 5s, retries: 100}
    stop_grace_period: 1s
  prepare:
    image: services
    command: ["bash", "-c", "echo \"$$GREETING\" > /srv/site/index.html"]
    environment: {GREETING: "the shop is open"}
    network_mode: none
    volumes: ["site:/srv/site"]
  db:
    image: services
    command:
      - bash
      - -c
      - |
        mkdir -p /data && chown postgres /data && exec setpriv --reuid=postgres --regid=postgres --clear-groups bash -c '
          PATH=$$PATH:/usr/lib/postgresql/15/bin
          test -e /data/db || initdb -D /data/db -A scram-sha-256 --pwfile=<(echo "$$PASSWORD") >/dev/null
          grep -q scram-all /data/db/pg_hba.conf || echo "host all all all scram-sha-256 # scram-all" >> /data/db/pg_hba.conf
          exec postgres -D /data/db -h "*" -c unix_socket_directories=/tmp'
    entrypoint: ["bash", "-c", "PASSWORD=$$(cat /run/secrets/password) exec \"$$@\"", "--"]
    secrets: [password]
    networks: {back: {aliases: [database]}}
    volumes: ["rows:/data"]
    healthcheck:
      test: ["CMD-SHELL", "/usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1"]
      interval: 1s
      timeout: 5s
      retries: 100
      start_period: 60s
      start_interval: 200ms
    stop_signal: SIGINT
    stop_grace_period: 10s
  cache:
    image: redis
    command: redis-server --save "" --bind 0.0.0.0 --protected-mode no
    networks: [back]
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 200ms, timeout: 5s, retries: 100}
    deploy: {resources: {limits: {memory: 128M, cpus: "0.5"}}}
    stop_grace_period: 1s
  worker:
    image: redis
    command: sleep infinity
    networks: [back]
    depends_on: [cache]
    init: true
    stop_grace_period: 0s
  tools:
    image: services
    profiles: [debug]
    command: sleep infinity
    networks: [back]
    stop_grace_period: 0s
    secrets: [{source: password, target: /etc/the-password}]
networks:
  front: {}
  back: {internal: true}
volumes:
  site: {}
  rows: {labels: {kept: "no"}}
configs:
  nginx: {file: ./nginx.conf}
secrets:
  password: {file: ./password.txt}
"#;

/// Compose's own wait, which ends with an error where a service does not become healthy.
const UP: [&str; 5] = ["up", "-d", "--wait", "--wait-timeout", "120"];

const NGINX: &str = "events {}\nhttp { access_log /dev/stdout; server { listen 80; root /srv/site; } }\n";

#[test]
fn a_project_lives_by_our_command_line() {
    lives(Cli::Corten);
}

#[test]
fn a_project_lives_by_dockers() {
    if CLIS.into_iter().any(|cli| cli == Cli::Docker) {
        lives(Cli::Docker);
    }
}

/// The project on a host, by one command line.
struct Shop<'a> {
    host: &'a Host,
    project: Project<'a>,
    cli: Cli,
}

/// Web server, database and cache come up in order, serve and go.
fn lives(cli: Cli) {
    let host = Host::new();
    if !compose::install(&host) {
        return;
    }
    host.give(&fixtures::debian_with("nginx-light,postgresql", Packing::Zstd), "services");
    host.give(&fixtures::debian_with("redis-server", Packing::Zstd), "redis");
    let host = host.set_apart();
    let project = Project::new(&host, "shop", PROJECT);
    std::fs::write(project.folder().join("nginx.conf"), NGINX).expect("write a file");
    std::fs::write(project.folder().join("password.txt"), "s3cret\n").expect("write a file");
    let shop = Shop { host: &host, project, cli };
    shop.run(&UP).ok();
    shop.came_in_order();
    shop.serves();
    shop.grows_and_shrinks();
    shop.is_looked_at();
    shop.goes_and_comes_again();
}

impl Shop<'_> {
    fn run(&self, args: &[&str]) -> Cmd {
        self.project.compose(self.cli, args).limit(kit::pypi::INSTALL)
    }

    /// Docker's own command about what Compose made.
    fn docker(&self, args: &[&str]) -> String {
        self.host.cli(self.cli, args).ok()
    }

    /// The names of the services in a state.
    fn services(&self, filter: &str) -> String {
        let said = self.run(&["ps", "--services", "--filter", filter]).ok();
        let mut names: Vec<&str> = said.lines().collect();
        names.sort_unstable();
        names.dedup();
        names.join(" ")
    }

    /// What the web server gives.
    fn page(&self) -> String {
        let port = self.run(&["port", "web", "80"]).ok();
        let url = format!("http://127.0.0.1:{}/", port.rsplit(':').next().expect("a port"));
        self.host.program("curl", ["-sS", "--fail", "--max-time", "10", &url]).run().text().to_owned()
    }

    /// What the database answers to who has the secret.
    fn sql(&self, question: &str) -> String {
        let ask = "PGPASSWORD=$(cat /run/secrets/password) psql -h database -U postgres -tA -c \"$0\"";
        self.run(&["exec", "-T", "db", "bash", "-c", ask, question]).ok()
    }

    /// Nothing was started before what it needs was healthy or had ended well.
    fn came_in_order(&self) {
        for name in ["db", "cache"] {
            let container = format!("shop-{name}-1");
            assert_eq!(self.docker(&["inspect", "-f", "{{.State.Health.Status}}", &container]), "healthy");
        }
        let now = self.docker(&["info", "-f", "{{.SystemTime}}"]);
        let format = "{{.Actor.Attributes.name}} {{.Action}}";
        let told = self.docker(&["events", "--since", "0", "--until", &now, "--format", format]);
        let place = |line: &str| {
            told.lines().position(|said| said == line).unwrap_or_else(|| panic!("no {line}: {told}"))
        };
        let web = place("shop-web-1 start");
        for name in
            ["shop-db-1 health_status: healthy", "shop-cache-1 health_status: healthy", "shop-prepare-1 die"]
        {
            assert!(place(name) < web, "{name}");
        }
        // The tools are of a profile that was not asked for; what prepares has done so.
        assert_eq!(self.services("status=running"), "cache db web worker");
        let prepared = self.run(&["ps", "-a", "--format", "{{.Service}} {{.ExitCode}}", "prepare"]).ok();
        assert_eq!(prepared, "prepare 0");
    }

    fn serves(&self) {
        assert_eq!(self.page(), "the shop is open");
        self.sql("create table sold(what text)");
        self.sql("insert into sold values ('a lamp')");
        let without = ["exec", "-T", "db", "psql", "-wh", "db", "-U", "postgres", "-c", "select 1"];
        self.run(&without).fails(2, "password");
        let redis = |args: &[&str]| {
            let command = ["exec", "-T", "worker", "redis-cli", "-h", "cache"];
            self.run(&[&command, args].concat()).ok()
        };
        assert_eq!((redis(&["set", "lamp", "lit"]), redis(&["get", "lamp"])), ("OK".into(), "lit".into()));
        // Each is on the networks that it names, and the one that is internal leads nowhere.
        self.run(&["exec", "-T", "cache", "getent", "hosts", "web"]).ok();
        let networks = ["inspect", "-f", "{{len .NetworkSettings.Networks}}", "shop-web-1", "shop-cache-1"];
        assert_eq!(self.docker(&networks), "2\n1");
        let routes = self.run(&["exec", "-T", "cache", "cat", "/proc/net/route"]).ok();
        assert!(!routes.lines().any(|line| line.split_whitespace().nth(1) == Some("00000000")), "{routes}");
        let secret = ["exec", "-T", "web", "test", "-e", "/run/secrets/password"];
        self.run(&secret).fails(1, "");
    }

    /// Three workers, then one.
    fn grows_and_shrinks(&self) {
        let workers = || self.run(&["ps", "-q", "worker"]).ok().lines().count();
        self.run(&["up", "-d", "--no-recreate", "--scale", "worker=3"]).ok();
        assert_eq!(workers(), 3);
        let third = ["exec", "-T", "--index", "3", "worker", "redis-cli", "-h", "cache", "incr", "seen"];
        assert_eq!(self.run(&third).ok(), "1");
        self.run(&["scale", "worker=1"]).ok();
        assert_eq!(workers(), 1);
    }

    fn is_looked_at(&self) {
        wait_for("the page in the log", || {
            let log = self.run(&["logs", "--no-color", "web"]).ok();
            log.contains("\"GET / HTTP/1.1\" 200").then_some(())
        });
        assert!(self.run(&["logs", "--no-color", "--tail", "5", "cache", "db"]).ok().contains("cache-1"));
        self.run(&["--profile", "debug", "up", "-d", "tools"]).ok();
        assert_eq!(self.run(&["exec", "-T", "tools", "cat", "/etc/the-password"]).ok(), "s3cret");
        assert!(self.run(&["top", "cache"]).ok().contains("redis-server"));
        let copy = self.project.folder().join("page");
        self.run(&["cp", "web:/srv/site/index.html", &copy.display().to_string()]).ok();
        assert_eq!(std::fs::read_to_string(copy).expect("a copy"), "the shop is open\n");
        self.run(&["pause", "cache"]).ok();
        assert_eq!(self.services("status=paused"), "cache");
        self.run(&["unpause", "cache"]).ok();
    }

    /// One service is made anew alone, and the rows are still there after all went and came.
    fn goes_and_comes_again(&self) {
        let others = || self.run(&["ps", "-q", "db", "cache"]).ok();
        let ids = others();
        self.run(&[&UP[..], &["--force-recreate", "--no-deps", "web"]].concat()).ok();
        assert_eq!(others(), ids);
        self.run(&["--profile", "debug", "down"]).ok();
        assert_eq!(self.docker(&["ps", "-aq"]), "");
        self.run(&UP).ok();
        assert_eq!(self.sql("select what from sold"), "a lamp");
        self.run(&["stop"]).ok();
        assert_eq!(self.services("status=running"), "");
        self.run(&["start"]).ok();
        assert_eq!(self.services("status=running"), "cache db web worker");
        wait_for("the page again", || (self.page() == "the shop is open").then_some(()));
        self.run(&["down", "-v", "--remove-orphans"]).ok();
        assert_eq!(self.docker(&["ps", "-aq"]), "");
        assert_eq!(self.docker(&["volume", "ls", "-q"]), "");
        assert!(!self.docker(&["network", "ls"]).contains("shop"));
    }
}

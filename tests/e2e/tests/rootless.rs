//! An ordinary user's own daemon, connected with the host's network by pasta.

use std::mem::ManuallyDrop;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kit::fixtures;
use kit::served::Served;
use kit::{Cmd, Neighbour, wait_for};

/// The user, who has no entry on the machine: files that say so are mounted over its own.
const USER: u32 = 1789;
const NAME: &str = "rootless-test";
/// Mounts what such a user needs, and goes on as that user.
const BECOME: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
for file in passwd subuid subgid; do mount --bind "$ROOT/$file" "/etc/$file"; done
exec setpriv --reuid=1789 --regid=1789 --clear-groups "$@"
"#;

/// A user on a host with a neighbour.
struct User {
    root: tempfile::TempDir,
    host: Neighbour,
    neighbour: Neighbour,
}

impl User {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("ctu").tempdir().expect("a user on a host");
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755))
            .expect("a user on a host");
        let passwd = std::fs::read_to_string("/etc/passwd").expect("a user on a host");
        let write = |name: &str, text: String| {
            std::fs::write(root.path().join(name), text).expect("a user on a host");
        };
        write("passwd", format!("{passwd}{NAME}:x:{USER}:{USER}::/:/bin/sh\n"));
        for name in ["subuid", "subgid"] {
            write(name, format!("{NAME}:500000:65536\n"));
        }
        for name in ["home", "run"] {
            let path = root.path().join(name);
            std::fs::create_dir(&path).expect("a user on a host");
            std::os::unix::fs::chown(&path, Some(USER), Some(USER)).expect("a user on a host");
        }
        // Where a build lies nobody else may look.
        std::fs::copy(kit::binary(), root.path().join("corten")).expect("a user on a host");
        let host = Neighbour::alone();
        let neighbour = Neighbour::of(&host.namespace(), "192.0.2");
        host.program("ip", ["route", "add", "default", "via", "192.0.2.2"]).ok();
        Self { root, host, neighbour }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn environment(&self) -> Vec<String> {
        let set = |name: &str, path: &Path| format!("{name}={}", path.display());
        vec![
            set("ROOT", self.root.path()),
            set("HOME", &self.path("home")),
            set("XDG_RUNTIME_DIR", &self.path("run")),
        ]
    }

    fn args(&self, path: Option<&str>, args: &[&str]) -> Vec<String> {
        let mut all = vec!["env".to_owned()];
        all.extend(self.environment());
        all.extend(["unshare", "--mount", "sh", "-c", BECOME, "sh", "env"].map(str::to_owned));
        all.extend(path.map(|path| format!("PATH={path}")));
        all.push(self.path("corten").display().to_string());
        all.extend(args.iter().map(ToString::to_string));
        all
    }

    fn daemon(&self, registry: &str) -> Daemon {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("a user on a host");
        let args = self.args(None, &["daemon", "-D", "--insecure-registry", registry]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.host.command(&args);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a user on a host")).stderr(log);
        let mut child = command.spawn().expect("a user on a host");
        wait_for("the daemon's socket", || {
            if let Some(status) = child.try_wait().expect("a user on a host") {
                panic!("{status}: {}", std::fs::read_to_string(self.path("log")).expect("a user on a host"));
            }
            std::os::unix::net::UnixStream::connect(self.path("run/corten/corten.sock")).ok()
        });
        Daemon(child)
    }

    fn corten(&self, args: &[&str]) -> Cmd {
        let args = self.args(None, args);
        let (program, rest) = args.split_first().expect("a user on a host");
        self.host.program(program, rest)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let Ok(text) = std::fs::read_to_string(self.path("run/corten/namespaces")) else { return };
        if let Some(pid) = text.split(' ').next() {
            let _ = Command::new("kill").arg(pid).status();
        }
    }
}

/// A daemon that is killed when this is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_ordinary_user_has_containers_on_networks_and_publishes_ports() {
    if !Path::new("/usr/bin/pasta").exists() {
        return kit::skip("rootless", "pasta is not installed");
    }
    let user = User::new();
    let image = fixtures::busybox();
    let address = Ipv4Addr::new(192, 0, 2, 2);
    // It is in another network namespace than this thread, and has to be ended there.
    let served = ManuallyDrop::new(user.neighbour.inside(|| Served::at(address, &[("fixture", &image)])));
    let registry = served.host();
    let daemon = user.daemon(&registry);
    let name = format!("{registry}/fixture:latest");
    user.corten(&["pull", "-q", &name]).ok();
    user.corten(&["tag", &name, "busybox"]).ok();
    assert!(user.corten(&["info"]).ok().contains("rootless"));

    // Root inside is the user, and others are of the user's range.
    let said = user
        .corten(&[
            "run",
            "--rm",
            "-v",
            &format!("{}:/home", user.path("home").display()),
            "busybox",
            "sh",
            "-c",
            "id -u; touch /home/made; su -s /bin/sh daemon -c 'id -u'; cat /proc/self/uid_map",
        ])
        .ok();
    let mut lines = said.lines();
    assert_eq!((lines.next(), lines.next()), (Some("0"), Some("1")), "{said}");
    assert!(said.contains("1789") && said.contains("500000"), "{said}");
    let made = std::fs::metadata(user.path("home/made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);

    // Out, and names.
    let (address, port) = registry.split_once(':').unwrap();
    let ask = format!(
        "printf 'GET /v2/ HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc {address} {port}; cat /etc/resolv.conf"
    );
    let said = user.corten(&["run", "--rm", "busybox", "sh", "-c", &ask]).ok();
    assert!(said.contains("HTTP/1.") && said.contains("nameserver 169.254.1.1"), "{said}");
    user.corten(&["network", "create", "web"]).ok();
    user.corten(&["run", "-d", "--name", "db", "--network", "web", "busybox", "sleep", "1000"]).ok();
    user.corten(&["run", "--rm", "--network", "web", "busybox", "ping", "-c", "1", "-W", "5", "db"]).ok();

    // In, from the host and from a neighbour, where it is published for them.
    let script = "mkdir /w; echo here > /w/index.html; exec httpd -f -p 80 -h /w";
    let publish = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:80",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    user.corten(&publish).ok();
    let fetch =
        |from: &Neighbour, url: &str| from.program("curl", ["-sS", "--max-time", "3", url]).run().stdout;
    let all = [
        (&user.host, "http://127.0.0.1:8080/"),
        (&user.host, "http://127.0.0.1:8081/"),
        (&user.neighbour, "http://192.0.2.1:8080/"),
    ];
    for (from, url) in all {
        wait_for(url, || (fetch(from, url) == "here\n").then_some(()));
    }
    assert_eq!(fetch(&user.neighbour, "http://192.0.2.1:8081/"), "");

    // What the user cannot have on the host.
    let mut taken = user.host.command(&["busybox", "nc", "-l", "-p", "9090"]).spawn().unwrap();
    wait_for("somebody at the port", || {
        user.host.program("ss", ["-ltn"]).ok().contains(":9090").then_some(())
    });
    let run = |port: &str| user.corten(&["run", "--rm", "-p", port, "busybox", "true"]);
    run("9090:80").fails(125, "failed to bind host port 0.0.0.0:9090/tcp: address already in use");
    run("80:80").fails(125, "cannot expose privileged port 80");
    run("8080:80").fails(125, "port is already allocated");
    taken.kill().unwrap();
    taken.wait().unwrap();

    // All of it outlives the daemon, and is the next one's.
    drop(daemon);
    assert_eq!(fetch(&user.host, "http://127.0.0.1:8080/"), "here\n");
    let daemon = user.daemon(&registry);
    assert_eq!(user.corten(&["exec", "web", "cat", "/w/index.html"]).ok(), "here");
    user.corten(&["rm", "-f", "web", "db"]).ok();
    // The port is to be had again at once.
    user.corten(&["run", "--rm", "-p", "8080:80", "busybox", "true"]).ok();
    drop(daemon);
    user.neighbour.inside(|| drop(ManuallyDrop::into_inner(served)));
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let user = User::new();
    let tools = user.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let said = |path: &str, word: &str| {
        let args = user.args(Some(path), &["daemon"]);
        let (program, rest) = args.split_first().unwrap();
        user.host.program(program, rest).fails(1, word);
    };
    let path = tools.display().to_string();
    said(&path, "a daemon without root needs newuidmap, which is not installed (Debian: apt install uidmap)");
    for name in ["newuidmap", "newgidmap"] {
        std::os::unix::fs::symlink(Path::new("/usr/bin").join(name), tools.join(name)).unwrap();
    }
    said(&path, "a daemon without root needs pasta, which is not installed (Debian: apt install passt)");
    std::fs::write(user.path("subuid"), "").unwrap();
    std::fs::write(tools.join("pasta"), "").unwrap();
    said(&path, "user rootless-test has no ids to give to containers in /etc/subuid (usermod --add-subuids");
    let args = user.args(None, &["daemon", "-H", "tcp://127.0.0.1:2375"]);
    let (program, rest) = args.split_first().unwrap();
    user.host.program(program, rest).fails(1, "listens on unix sockets only");
}

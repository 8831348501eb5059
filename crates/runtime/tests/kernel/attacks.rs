//! Root filesystems and configurations that are out to harm the host. Each must fail, or have no effect outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bundle::{Bundle, possible, text};
use serde_json::json;

const CANARY: &str = "as it was\n";

/// A directory of the host that must stay as it is.
struct Canary {
    directory: tempfile::TempDir,
    core_pattern: String,
}

impl Canary {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), CANARY).unwrap();
        fs::create_dir(directory.path().join("empty")).unwrap();
        Self { directory, core_pattern: fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read_to_string(self.path("file")).unwrap(), CANARY);
        assert_eq!(fs::read_dir(self.path("empty")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 2);
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), self.core_pattern);
    }
}

fn without_mount(bundle: &mut Bundle, destination: &str) {
    bundle.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != destination);
}

/// Swaps `path` between what `first` and `second` make, for as long as `race` takes.
fn swap_while(path: &Path, first: impl Fn(&Path) + Sync, second: impl Fn(&Path) + Sync, race: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let scratch = path.with_extension("swap");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for make in [&first as &dyn Fn(&Path), &second] {
                    make(&scratch);
                    if fs::rename(&scratch, path).is_err() {
                        let _ = fs::remove_dir_all(path);
                        let _ = fs::rename(&scratch, path);
                    }
                }
            }
        });
        race();
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn masked_null_swap() {
    if !possible() {
        return;
    }
    let canary = Canary::new();
    let mut bundle = Bundle::script("echo evil > /etc/mask-me; stat -c %t:%T /etc/mask-me");
    fs::write(bundle.rootfs().join("etc/mask-me"), CANARY).unwrap();
    // Its own /dev, where null is what the attacker wants it to be.
    for destination in ["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        without_mount(&mut bundle, destination);
    }
    bundle.config["linux"]["maskedPaths"] = json!(["/etc/mask-me"]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    let null = bundle.rootfs().join("dev/null");
    symlink("/proc/sys/kernel/core_pattern", &null).unwrap();
    assert!(bundle.refusal().contains("is there already and is something else"));
    canary.assert_untouched();
    let link = |path: &Path| drop(symlink(canary.path("file"), path));
    let device = |path: &Path| {
        let root = sys::path::Root::open(path.parent().unwrap()).unwrap();
        let mode = sys::path::Mode::from_raw_mode(0o666);
        let _ = root.mknod(
            path.file_name().unwrap(),
            sys::path::FileType::CharacterDevice,
            mode,
            sys::fsx::makedev(1, 3),
        );
    };
    swap_while(&null, link, device, || {
        for _ in 0..20 {
            let output = bundle.run();
            if output.status.success() {
                assert_eq!(text(&output), "1:3\n", "masked by the real one");
            }
        }
    });
    canary.assert_untouched();
}

#[test]
fn console_swap() {
    if !possible() {
        return;
    }
    let canary = Canary::new();
    // Without a devpts the terminal would come from a file of the attacker's.
    let mut bundle = Bundle::script("echo evil > /dev/console");
    bundle.config["process"]["terminal"] = true.into();
    without_mount(&mut bundle, "/dev/pts");
    without_mount(&mut bundle, "/dev");
    fs::create_dir(bundle.rootfs().join("dev/pts")).unwrap();
    let ptmx = bundle.rootfs().join("dev/pts/ptmx");
    symlink("/dev/ptmx", &ptmx).unwrap();
    bundle.refusal();
    fs::remove_file(&ptmx).unwrap();
    fs::write(&ptmx, "").unwrap();
    assert!(bundle.refusal().contains("not on a devpts"));
    // A console that leads outward: bound inside the root, or refused.
    let mut bundle = Bundle::script("echo evil > /dev/console");
    bundle.config["process"]["terminal"] = true.into();
    without_mount(&mut bundle, "/dev");
    symlink(canary.path("file"), bundle.rootfs().join("dev/console")).unwrap();
    bundle.run();
    canary.assert_untouched();
}

#[test]
fn fake_proc() {
    if !possible() {
        return;
    }
    let canary = Canary::new();
    let bundle = Bundle::new(&["true"]);
    fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    symlink("etc", bundle.rootfs().join("proc")).unwrap();
    assert!(bundle.refusal().contains("must be mounted on ordinary directory"));
    // A tree that looks like procfs, in which files lead elsewhere.
    let mut bundle = Bundle::new(&["true"]);
    let fake = bundle.path().join("fake");
    fs::create_dir_all(fake.join("sys/net/ipv4")).unwrap();
    fs::create_dir_all(fake.join("self/attr")).unwrap();
    symlink(canary.path("file"), fake.join("sys/net/ipv4/ip_forward")).unwrap();
    symlink(canary.path("file"), fake.join("self/oom_score_adj")).unwrap();
    for mount in bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/proc" {
            *mount = json!({"destination": "/proc", "type": "bind", "source": fake, "options": ["rbind"]});
        }
    }
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bundle.config["process"]["oomScoreAdj"] = 100.into();
    assert!(bundle.refusal().contains("not of type proc"));
    canary.assert_untouched();
    // Something else over a file of the real one.
    let mut bundle = Bundle::new(&["true"]);
    let over = json!({"destination": "/proc/sys/net", "type": "bind", "source": fake, "options": ["rbind"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(over);
    assert!(bundle.refusal().contains("inside /proc"));
}

#[test]
fn dev_symlink() {
    if !possible() {
        return;
    }
    for name in ["dev", "proc", "sys", "etc"] {
        let canary = Canary::new();
        let mut bundle = Bundle::new(&["true"]);
        bundle.config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/etc/hosts", "type": "bind", "source": "/etc/hostname", "options": ["bind", "ro"]}),
        );
        for target in [
            canary.path("empty"),
            Path::new("../../../..").join(canary.path("empty").strip_prefix("/").unwrap()),
        ] {
            let link = bundle.rootfs().join(name);
            let _ = fs::remove_dir(&link);
            let _ = fs::remove_file(&link);
            symlink(target, &link).unwrap();
            bundle.run();
            canary.assert_untouched();
        }
    }
}

#[test]
fn mkdir_race() {
    if !possible() {
        return;
    }
    let canary = Canary::new();
    let mut bundle = Bundle::new(&["true"]);
    let volume = bundle.path().join("volume");
    fs::create_dir(&volume).unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/swap/new/deep", "type": "bind", "source": volume, "options": ["rbind"]}),
    );
    let outward = canary.path("empty");
    let link = |path: &Path| drop(symlink(&outward, path));
    let directory = |path: &Path| drop(fs::create_dir(path));
    swap_while(&bundle.rootfs().join("swap"), link, directory, || {
        for _ in 0..30 {
            bundle.run();
        }
    });
    canary.assert_untouched();
}

#[test]
fn fd_cwd() {
    if !possible() {
        return;
    }
    let bundle = &mut Bundle::new(&["pwd"]);
    for number in 0..24 {
        bundle.config["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        bundle.refusal();
        bundle.config["process"]["cwd"] = format!("/proc/self/fd/{number}/../../../usr").into();
        bundle.refusal();
    }
    bundle.config["process"]["cwd"] = "/".into();
    // A program found through a descriptor of ours would be the host's.
    for number in 3..24 {
        for path in ["/usr/bin/id", "/1/root/usr/bin/id", "/../../../../usr/bin/id"] {
            bundle.config["process"]["args"] = json!([format!("/proc/self/fd/{number}{path}")]);
            bundle.refusal();
        }
    }
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.start();
    for number in 3..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = bundle.command(&["exec", "--cwd", &cwd, &bundle.id(), "pwd"]).output().unwrap();
        assert!(!output.status.success(), "{cwd}: {output:?}");
    }
}

#[test]
fn self_exe() {
    if !possible() {
        return;
    }
    let before = fs::read(crate::bundle::program()).unwrap();
    // Whoever enters is waited for; its program is held open, and written to once it does not run any more.
    let mut bundle = Bundle::script(
        "while :; do for p in /proc/[0-9]*; do test $p = /proc/1 && continue; \
           { exec 3< $p/exe && cat $p/cmdline >> /tmp/held; while test -e $p; do :; done; echo evil > /proc/self/fd/3; } 2>/dev/null; \
         done; done",
    );
    let powerful = json!(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": powerful, "effective": powerful, "permitted": powerful});
    bundle.start();
    let script = bundle.rootfs().join("bin/evil");
    fs::write(&script, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let held = || fs::read_to_string(bundle.rootfs().join("tmp/held")).unwrap_or_default();
    let of_runtime = || held().matches("/proc/self/exe").count() + held().matches("features").count();
    for _ in 0..200 {
        bundle.command(&["exec", &bundle.id(), "/bin/evil"]).output().unwrap();
        bundle.command(&["exec", &bundle.id(), "/proc/self/exe", "features"]).output().unwrap();
        // It has had its chances.
        if of_runtime() >= 8 {
            break;
        }
    }
    assert!(of_runtime() > 0, "the attacker never saw the runtime: {}", held());
    assert!(fs::read(crate::bundle::program()).unwrap() == before, "the runtime's own file was changed");
}

#[test]
fn uid_wrap() {
    if !possible() {
        return;
    }
    for uid in [
        json!(4_294_967_296u64),
        json!(4_294_967_295u64),
        json!(-1),
        json!(18_446_744_069_414_584_320u64),
        json!("0"),
    ] {
        let mut bundle = Bundle::new(&["id", "-u"]);
        bundle.config["process"]["user"]["uid"] = uid;
        bundle.refusal();
    }
}

#[test]
fn inherited_caps() {
    if !possible() {
        return;
    }
    let bundle = Bundle::script("grep -E 'CapInh|CapAmb' /proc/self/status");
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    assert_eq!(bundle.output(), none);
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    assert_eq!(bundle.ok(&["exec", &bundle.id(), "grep", "-E", "CapInh|CapAmb", "/proc/self/status"]), none);
}

#[test]
fn exec_watched() {
    if !possible() {
        return;
    }
    // A debugger in the container looks at every process as soon as it sees one: none has rights that are not the container's.
    let mut bundle = Bundle::script(
        "while test ! -e /tmp/stop; do for p in /proc/[0-9]*; do test $p = /proc/1 && continue; \
           echo $(grep -E 'Name|CapPrm|CapBnd' $p/status) >> /tmp/seen; \
         done; done 2>/dev/null",
    );
    let few = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": few, "effective": few, "permitted": few});
    bundle.start();
    let seen = || fs::read_to_string(bundle.rootfs().join("tmp/seen")).unwrap_or_default();
    let of_runtime = || seen().lines().filter(|line| line.contains("Name: runtime ")).count();
    for _ in 0..200 {
        bundle.ok(&["exec", &bundle.id(), "true"]);
        if of_runtime() >= 3 {
            break;
        }
    }
    assert!(of_runtime() > 0, "the debugger never saw the runtime");
    fs::write(bundle.rootfs().join("tmp/stop"), "").unwrap();
    let allowed = u64::from(1u32 << 19 | 1 << 1);
    for line in seen().lines() {
        let sets = line.split_whitespace().filter_map(|word| u64::from_str_radix(word, 16).ok());
        assert!(
            sets.into_iter()
                .filter(|set| line.contains(&format!("{set:016x}")))
                .all(|set| set & !allowed == 0),
            "{line}"
        );
    }
}

#[test]
fn exec_environment() {
    if !possible() {
        return;
    }
    // A debugger in the container reads the environment of every process that it sees: none is the caller's. What the runtime itself
    // looks up stays, and tells that it was seen.
    let mut bundle = Bundle::script(
        "while test ! -e /tmp/stop; do for p in /proc/[0-9]*; do \
           { read -r all < $p/environ; case \"$all\" in *RUNTIME_DIR=*) echo \"$all\" >> /tmp/seen;; esac; } \
         done; done 2>/dev/null",
    );
    let few = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": few, "effective": few, "permitted": few});
    bundle.start();
    let seen = || fs::read_to_string(bundle.rootfs().join("tmp/seen")).unwrap_or_default();
    for _ in 0..300 {
        let mut exec = bundle.command(&["exec", &bundle.id(), "true"]);
        exec.env("SECRET", "hunter2").env("XDG_RUNTIME_DIR", "/nowhere");
        assert!(exec.output().unwrap().status.success());
        if seen().lines().count() >= 10 {
            break;
        }
    }
    assert!(!seen().is_empty(), "the debugger never saw the runtime");
    fs::write(bundle.rootfs().join("tmp/stop"), "").unwrap();
    assert!(!seen().contains("hunter2"), "it read the environment of whoever asked for the exec");
}

#[test]
fn state_perms() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    // What is above lets everybody through: it is the records that are closed.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.path(), open).unwrap();
    let state = bundle.path().join("state");
    for path in [state.clone(), state.join(bundle.id()), state.join(bundle.id()).join("state.json")] {
        let mut look = std::process::Command::new("setpriv");
        look.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat", path.to_str().unwrap()]);
        let output = look.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && (error.contains("denied") || path == state), "{error}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{} is {mode:o}", path.display());
    }
}

//! AppArmor: the profile that a configuration or an `exec` names is the one the program runs under.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::bundle::{Bundle, possible};

const CURRENT: &str = "/proc/self/attr/current";

/// Profiles of these tests. Loading them again changes nothing, so that tests do not mind each other.
const PROFILES: &str = "
profile corten-test-one flags=(attach_disconnected, mediate_deleted) { file, capability, network, signal, ptrace,
    deny /tmp/secret rw, }
profile corten-test-two flags=(attach_disconnected, mediate_deleted) { file, capability, network, signal, ptrace, }
";

/// Whether AppArmor is there, with the profiles loaded; prints what is missing.
fn loaded() -> bool {
    let on =
        std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.trim() == "Y");
    if !on {
        println!("skipped: apparmor");
        return false;
    }
    let mut parser =
        Command::new("apparmor_parser").args(["-rK"]).stdin(Stdio::piped()).spawn().expect("apparmor_parser");
    parser.stdin.take().unwrap().write_all(PROFILES.as_bytes()).unwrap();
    assert!(parser.wait().unwrap().success());
    true
}

#[test]
fn a_profile_confines_the_container_and_exec_may_name_another() {
    if !possible() || !loaded() {
        return;
    }
    let mut bundle = Bundle::script("cat /proc/self/attr/current; exec sleep 1000");
    bundle.config["process"]["apparmorProfile"] = "corten-test-one".into();
    bundle.start();
    let id = bundle.id();
    assert_eq!(bundle.ok(&["exec", &id, "cat", CURRENT]), "corten-test-one (enforce)\n");
    let other = bundle.ok(&["exec", "--apparmor", "corten-test-two", &id, "cat", CURRENT]);
    assert_eq!(other, "corten-test-two (enforce)\n");
    let secret = |flags: &[&str]| {
        let mut args = vec!["exec"];
        args.extend(flags);
        args.extend([id.as_str(), "sh", "-c", "echo x >/tmp/secret"]);
        bundle.command(&args).output().unwrap().status.success()
    };
    assert!(!secret(&[]), "the profile denies it");
    assert!(secret(&["--apparmor", "corten-test-two"]), "and the other does not");
    let failed = bundle.command(&["exec", "--apparmor", "corten-no-such", &id, "true"]).output().unwrap();
    let error = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && error.contains("corten-no-such is not loaded"), "{error}");
}

#[test]
fn the_first_program_is_confined() {
    if !possible() || !loaded() {
        return;
    }
    let mut bundle = Bundle::new(&["cat", CURRENT]);
    bundle.config["process"]["apparmorProfile"] = "corten-test-one".into();
    assert_eq!(bundle.output(), "corten-test-one (enforce)\n");
    // With no-new-privileges a change to a profile is still one that we make.
    bundle.config["process"]["noNewPrivileges"] = true.into();
    assert_eq!(bundle.output(), "corten-test-one (enforce)\n");
    bundle.config["process"]["apparmorProfile"] = "unconfined".into();
    assert_eq!(bundle.output(), "unconfined\n");
}

#[test]
fn a_profile_that_cannot_be_put_on_is_refused() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    bundle.config["process"]["apparmorProfile"] = "corten-no-such".into();
    let expected = if loaded() { "corten-no-such is not loaded" } else { "process.apparmorProfile" };
    let error = bundle.refusal();
    assert!(error.contains(expected), "{error}");
}

//! Hooks that run inside, under what the container is under.

use serde_json::json;

use crate::bundle::{Bundle, possible};

#[test]
fn a_hook_of_the_start_needs_nothing_that_only_making_its_state_takes() {
    if !possible() {
        return;
    }
    for no_new_privileges in [true, false] {
        let mut bundle = Bundle::script("cat /tmp/first /tmp/second; ls /tmp");
        bundle.config["process"]["noNewPrivileges"] = no_new_privileges.into();
        // The filter holds for what the hook does: it is the container's program, as far as anybody knows.
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["memfd_create", "pwrite64", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
        });
        let hook =
            |script: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]});
        bundle.config["hooks"]["startContainer"] = json!([
            hook("grep -o '\"status\":\"[a-z]*\"' > /tmp/first; mkdir /tmp/made; true"),
            hook("grep -o '\"pid\":[0-9]*' > /tmp/second"),
        ]);
        assert_eq!(bundle.output(), "\"status\":\"created\"\n\"pid\":1\nfirst\nsecond\n");
    }
}

#[test]
fn a_failure_is_told_whatever_is_in_the_way_of_clearing_up_after_it() {
    if !possible() {
        return;
    }
    let mut bundle = Bundle::new(&["true"]);
    let more = bundle.path().join("state").join(bundle.id()).join("more");
    let script = format!("touch {}; exit 3", more.display());
    bundle.config["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    let output = bundle.run();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("createRuntime hook /bin/sh: exit status: 3"), "{error}");
    assert!(more.exists(), "nothing was in the way");
    bundle.ok(&["delete", "--force", &bundle.id()]);
    bundle.assert_nothing_left();
}

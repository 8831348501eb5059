//! What steps may do only where the user and the engine allow it; and what base images want to be done.

use std::fs;
use std::path::PathBuf;

use kit::{Cmd, Host};

fn folder(host: &Host, dockerfile: &str) -> PathBuf {
    let path = host.root().join("context");
    fs::create_dir_all(&path).expect("a directory");
    fs::write(path.join("Dockerfile"), dockerfile).expect("a file");
    path
}

fn build(host: &Host, folder: &PathBuf, more: &[&str]) -> Cmd {
    let args =
        ["build", "--network", "none", "--no-cache"].into_iter().chain(more.iter().copied()).chain(["."]);
    host.corten(args).current_dir(folder)
}

/// Lets an engine be started with these settings.
fn restart(host: &mut Host, settings: &str) {
    fs::write(host.root().join("daemon.json"), settings).expect("write daemon.json");
    host.kill_daemon();
    host.start_daemon();
}

const INSECURE: &str = "FROM busybox\nRUN grep CapEff /proc/self/status >/by-itself\n\
    RUN --security=insecure grep CapEff /proc/self/status >/caps && mkdir /m && mount -t tmpfs none /m && echo mounted >/done\n\
    RUN --security=sandbox ! mount -t tmpfs none /m\n";

#[test]
fn steps_are_confined_unless_user_and_engine_allow_it() {
    let mut host = Host::with_busybox();
    let context = folder(&host, INSECURE);
    build(&host, &context, &[]).fails(1, "security.insecure is not allowed");
    let denied = "granting entitlement security.insecure is not allowed by build daemon configuration";
    build(&host, &context, &["--allow", "security.insecure"]).fails(1, denied);
    restart(&mut host, r#"{"builder": {"entitlements": {"security-insecure": true}}}"#);
    // What the engine allows is for those who ask for it.
    build(&host, &context, &[]).fails(1, "security.insecure is not allowed");
    build(&host, &context, &["--allow", "security.insecure", "-t", "free"]).ok();
    let script = "cat /done; cmp -s /caps /by-itself || echo more";
    assert_eq!(
        host.corten(["run", "--rm", "--network", "none", "free", "sh", "-c", script]).ok(),
        "mounted\nmore"
    );
    build(&host, &context, &["--allow", "device"]).fails(1, "the entitlement device is not implemented");
    restart(&mut host, r#"{"builder": {"entitlements": {"network-host": false}}}"#);
    let context = folder(&host, "FROM busybox\nRUN --network=host true\n");
    let denied = "granting entitlement network.host is not allowed by build daemon configuration";
    build(&host, &context, &["--allow", "network.host"]).fails(1, denied);
    host.corten(["build", "--network", "host", "."])
        .env("DOCKER_BUILDKIT", "0")
        .current_dir(&context)
        .fails(1, denied);
}

#[test]
fn triggers_are_refused_where_somebody_builds_on_them() {
    let host = Host::with_busybox();
    let tag = |name: &str, text: &str| {
        let context = folder(&host, text);
        build(&host, &context, &["-t", name]).ok();
    };
    tag("other", "FROM busybox\nRUN echo other >/file\n");
    tag("unknown", "FROM busybox\nONBUILD FROBNICATE a b\n");
    assert_eq!(
        host.corten(["image", "inspect", "-f", "{{json .Config.OnBuild}}", "unknown"]).ok(),
        "[\"FROBNICATE a b\"]"
    );
    let context = folder(&host, "FROM unknown\n");
    build(&host, &context, &[]).fails(1, "unknown instruction: FROBNICATE");
    // Images that nobody names but the trigger.
    tag(
        "far",
        "FROM busybox\nONBUILD COPY --from=other /file /copied\nONBUILD RUN --mount=type=bind,from=other,target=/o cat /o/file >/seen\n",
    );
    tag("on-far", "FROM far\nRUN cat /copied /seen >/both\n");
    let show = |image: &str| host.corten(["run", "--rm", "--network", "none", image, "cat", "/both"]).ok();
    assert_eq!(show("on-far"), "other\nother");
    assert_eq!(host.corten(["image", "inspect", "-f", "{{json .Config.OnBuild}}", "on-far"]).ok(), "null");
}

//! Builds: Dockerfiles become images, by the classic API and the clients that speak it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kit::{CLIS, Cli, Cmd, Host, wait_for};

/// A directory with a Dockerfile and some files.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new(host: &Host, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> Self {
        let path = host.root().join(name);
        fs::create_dir_all(&path).expect("a directory");
        let folder = Self { path };
        folder.write("Dockerfile", dockerfile);
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn build(&self, host: &Host, cli: Cli, more: &[&str]) -> Cmd {
        let args = ["build", "--network", "none"].into_iter().chain(more.iter().copied()).chain(["."]);
        host.cli(cli, args).env("DOCKER_BUILDKIT", "0").current_dir(&self.path)
    }

    fn corten(&self, host: &Host, more: &[&str]) -> Cmd {
        self.build(host, Cli::Corten, more)
    }
}

fn run(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
}

fn inspect(host: &Host, name: &str, format: &str) -> String {
    host.corten(["image", "inspect", "--format", format, name]).ok()
}

/// What is below a directory of the engine's.
fn below(host: &Host, path: &str) -> usize {
    fs::read_dir(host.data_root().join(path)).map_or(0, Iterator::count)
}

#[test]
fn a_dockerfile_becomes_an_image() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS base\nENV GREETING=hello\nWORKDIR /srv/app\nRUN echo $GREETING >greeting && echo said\n\
        COPY a.txt sub/ /data/\nCMD [\"cat\", \"/srv/app/greeting\"]\nLABEL of=test\nEXPOSE 80\nUSER 7:8\n";
    let files = [("a.txt", "alpha"), ("sub/b.txt", "beta"), ("sub/deep/c", "gamma")];
    for cli in CLIS {
        let name = format!("made-{cli:?}").to_lowercase();
        let folder = Folder::new(&host, &name, text, &files);
        let said = folder.build(&host, cli, &["-t", &name, "--no-cache"]).ok();
        assert!(said.contains("Step 1/9 : FROM busybox AS base"), "{said}");
        assert!(said.contains("said\n"), "{said}");
        assert!(said.contains(&format!("Successfully tagged {name}:latest")), "{said}");
        assert_eq!(host.corten(["run", "--rm", "--network", "none", &name]).ok(), "hello");
        let look = "cat /data/a.txt /data/b.txt /data/deep/c; stat -c '%u %g %a' /data/a.txt /data; pwd; id -u; ls / | tr '\\n' ' '";
        assert_eq!(
            run(&host, &name, look),
            "alphabetagamma0 0 644\n0 0 755\n/srv/app\n7\nbin data dev etc home proc root srv sys tmp usr var "
        );
        let shown = "{{.Config.Cmd}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Labels.of}} {{json .Config.ExposedPorts}} {{len .RootFS.Layers}}";
        assert_eq!(
            inspect(&host, &name, shown),
            "[cat /srv/app/greeting] 7:8 /srv/app test {\"80/tcp\":{}} 4"
        );
        // The second time nothing is made again, and the image is the same.
        let id = inspect(&host, &name, "{{.Id}}");
        let again = folder.build(&host, cli, &["-t", "again"]).ok();
        assert_eq!(again.matches("Using cache").count(), 3, "{again}");
        assert_eq!(inspect(&host, "again", "{{.Id}}"), id);
    }
    wait_for("contexts to be gone", || (below(&host, "build/contexts") == 0).then_some(()));
    assert_eq!(below(&host, "snapshots"), 0);
}

#[test]
fn stages_that_nothing_needs_are_skipped_and_files_go_from_one_to_another() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS unused\nRUN false\nFROM busybox AS maker\nRUN mkdir -p /out/in && echo made >/out/file && \
        chown 3:4 /out/file && ln -s file /out/link && chmod 4711 /out/file\nFROM scratch AS files\nCOPY --from=maker /out /\n\
        FROM busybox\nCOPY --from=files / /got/\nCOPY --from=maker --chown=5:6 --chmod=600 /out/file /owned\n\
        COPY --from=busybox /bin/busybox /second\nENTRYPOINT [\"sh\"]\n";
    let folder = Folder::new(&host, "stages", text, &[]);
    folder.corten(&host, &["-t", "stages"]).ok();
    assert_eq!(
        run_entry(
            &host,
            "stages",
            "cat /got/link; stat -c '%u %g %a' /got/file /owned; readlink /got/link; ls -d /got/in; stat -c %a /second"
        ),
        "made\n3 4 4711\n5 6 600\nfile\n/got/in\n755"
    );
    let error = folder.corten(&host, &["--target", "unused"]).fails(1, "returned a non-zero code: 1");
    assert!(error.stderr.contains("The command '/bin/sh -c false' returned a non-zero code: 1"), "{error:?}");
    folder.corten(&host, &["--target", "nothing"]).fails(1, "target stage \"nothing\" could not be found");
}

fn run_entry(host: &Host, image: &str, script: &str) -> String {
    host.corten(["run", "--rm", "--network", "none", image, "-c", script]).ok()
}

#[test]
fn files_are_copied_as_buildkit_copies_them() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN mkdir /there && ln -s there /linked && echo old >/there/a.txt\n\
        COPY a.txt /file\nCOPY a.txt /new/dir/\nCOPY *.txt /glob/\nCOPY sub /linked\nCOPY sub /sub2/\nCOPY a.txt /there\n\
        WORKDIR /w\nCOPY a.txt b.txt ./\nCOPY . all\nCOPY --exclude=*.txt sub /ex/\nCOPY [\"with space\", \"/space\"]\n\
        COPY <<one <<\"two\" /here/\nit is $PATH_LIKE\none\nit is $HOME\ntwo\nADD archive.tar /unpacked/\nADD a.txt /added\n\
        COPY archive.tar /packed\n";
    let files = [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("sub/c.txt", "c"),
        ("sub/d/e", "e"),
        ("with space", "space"),
        ("hidden/x", "x"),
        (".dockerignore", "hidden\n.dockerignore\nDockerfile\n"),
    ];
    let folder = Folder::new(&host, "copies", text, &files);
    Cmd::new("tar").args(["-C", "sub", "-cf", "archive.tar", "c.txt", "d"]).current_dir(&folder.path).ok();
    folder.corten(&host, &["-t", "copies"]).ok();
    let found = run(
        &host,
        "copies",
        "cd /; for f in file new glob there sub2 w ex space here unpacked added; do find $f | sort | tr '\\n' ' '; done; cat there/a.txt; \
         stat -c %F packed; cat here/one here/two; test -L linked && echo link",
    );
    assert_eq!(
        found,
        "file new new/dir new/dir/a.txt glob glob/a.txt glob/b.txt there there/a.txt there/c.txt there/d there/d/e sub2 \
         sub2/c.txt sub2/d sub2/d/e w w/a.txt w/all w/all/a.txt w/all/archive.tar w/all/b.txt w/all/sub w/all/sub/c.txt \
         w/all/sub/d w/all/sub/d/e \"w/all/with space\" w/b.txt ex ex/d ex/d/e space here here/one here/two unpacked \
         unpacked/c.txt unpacked/d unpacked/d/e added aregular file\nit is \nit is $HOME\nlink"
            .replace("\"w/all/with space\"", "w/all/with space")
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let host = Host::with_busybox();
    let folder = Folder::new(
        &host,
        "wrong",
        "FROM busybox\n",
        &[("kept", "x"), ("a/secret.key", "y"), (".dockerignore", "**/*.key\n")],
    );
    for (dockerfile, told) in [
        ("FROM busybox\nRUNN x\n", "unknown instruction: RUNN (did you mean RUN?)"),
        ("FROM busybox\nCOPY nothere /x\n", "\"/nothere\": not found"),
        ("FROM busybox\nCOPY a b c\n", "the destination must be a directory and end with a /"),
        ("FROM busybox\nCOPY --from=nowhere.invalid/x /a /b\n", "nowhere.invalid"),
        ("# syntax=example.com/other\nFROM busybox\n", "syntax=example.com/other"),
        ("FROM busybox\nRUN --security=insecure true\n", "security.insecure is not allowed"),
        ("FROM busybox\nRUN exit 3\n", "returned a non-zero code: 3"),
        ("FROM busybox\nUSER nobody-here\nRUN true\n", "unable to find user nobody-here"),
        ("FROM busybox\nADD git://127.0.0.1:1/x /x\n", "failed to fetch git://127.0.0.1:1/x"),
        ("FROM busybox\nCOPY --chown=nobody-here kept /x\n", "unable to find user nobody-here"),
        ("FROM busybox\nRUN /not/there\n", "returned a non-zero code: 127"),
    ] {
        folder.write("Dockerfile", dockerfile);
        for cli in CLIS {
            // The real client ends as the step did.
            let code = told.split("code: ").nth(1).and_then(|code| code.parse().ok());
            let code = code.filter(|_| matches!(cli, Cli::Docker)).unwrap_or(1);
            let failed = folder.build(&host, cli, &["-t", "wrong"]).fails(code, told);
            assert!(!failed.stderr.contains("panicked"), "{failed:?}");
        }
    }
    host.corten(["image", "inspect", "wrong"]).fails(1, "No such image");
    folder.write("Dockerfile", "FROM busybox\nCOPY a/secret.key /x\n");
    // The context is sent without it, by either client: what hides it is said by who sees it.
    folder.corten(&host, &[]).fails(1, "\"/a/secret.key\": not found");
    folder.corten(&host, &["-t", "myImage:1.01"]).fails(1, "myimage:1.01");
    folder.corten(&host, &["--secret", "id=x"]).fails(1, "--secret needs BuildKit's API");
    wait_for("what was begun to be gone", || (below(&host, "snapshots") == 0).then_some(()));
}

#[test]
fn variables_have_values_and_the_history_tells_of_them() {
    let host = Host::with_busybox();
    let text = "ARG BASE=busybox\nFROM ${BASE}\nARG VERSION=1\nARG EMPTY\nENV A=${VERSION:-x} B=\"b c\"\n\
        RUN echo $VERSION $A $B $EMPTY >/seen\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $0 >/shell\nHEALTHCHECK --interval=5s CMD true\n\
        STOPSIGNAL SIGINT\nVOLUME /vol\nONBUILD RUN echo trigger >/triggered\nENTRYPOINT echo hi\n";
    let folder = Folder::new(&host, "variables", text, &[]);
    folder.corten(&host, &["-t", "variables", "--build-arg", "VERSION=2", "--label", "own=label"]).ok();
    let shown = "{{.Config.Env}} {{.Config.StopSignal}} {{json .Config.Volumes}} {{.Config.Entrypoint}} {{.Config.Labels.own}} {{.Config.OnBuild}}";
    let config = inspect(&host, "variables", shown);
    assert!(config.contains("A=2 B=b c"), "{config}");
    assert!(
        config.ends_with("SIGINT {\"/vol\":{}} [/bin/sh -ec echo hi] label [RUN echo trigger >/triggered]"),
        "{config}"
    );
    let seen =
        host.corten(["run", "--rm", "--network", "none", "--entrypoint", "cat", "variables", "/seen"]).ok();
    assert_eq!(seen, "2 2 b c");
    let history = host.corten(["history", "--no-trunc", "--format", "{{.CreatedBy}}", "variables"]).ok();
    assert!(
        history.contains("RUN |1 VERSION=2 /bin/sh -c echo $VERSION $A $B $EMPTY >/seen # buildkit"),
        "{history}"
    );
    // Another value, another result; what does not see it is as before.
    let again = folder.corten(&host, &["-t", "variables", "--build-arg", "VERSION=2"]).ok();
    assert_eq!(again.matches("Using cache").count(), 2, "{again}");
    let other = folder.corten(&host, &["-t", "variables", "--build-arg", "VERSION=3"]).ok();
    assert_eq!(other.matches("Using cache").count(), 0, "{other}");
    let child = Folder::new(&host, "child", "FROM variables\nCMD [\"x\"]\n", &[]);
    child.corten(&host, &["-t", "child"]).ok();
    let seen =
        host.corten(["run", "--rm", "--network", "none", "--entrypoint", "cat", "child", "/triggered"]).ok();
    assert_eq!(seen, "trigger");
    assert_eq!(inspect(&host, "child", "{{.Config.OnBuild}}"), "[]");
    child.corten(&host, &["--build-arg", "NOBODY=asks", "-t", "child"]).ok();
}

#[test]
fn the_cache_knows_files_by_their_content_and_survives() {
    let mut host = Host::with_busybox();
    let text = "FROM busybox\nCOPY src /src\nRUN cat /src/* >/all\n";
    let folder = Folder::new(&host, "cache", text, &[("src/a", "one"), ("src/b", "two"), ("beside", "x")]);
    folder.corten(&host, &["-t", "cache"]).ok();
    let id = inspect(&host, "cache", "{{.Id}}");
    host.kill_daemon();
    host.start_daemon();
    // Another time, and another file that nobody copies.
    folder.write("src/a", "one");
    folder.write("beside", "y");
    let said = folder.corten(&host, &["-t", "cache"]).ok();
    assert_eq!(said.matches("Using cache").count(), 2, "{said}");
    assert_eq!(inspect(&host, "cache", "{{.Id}}"), id);
    folder.write("src/a", "other");
    let said = folder.corten(&host, &["-t", "cache"]).ok();
    assert_eq!(said.matches("Using cache").count(), 0, "{said}");
    assert_eq!(run(&host, "cache", "cat /all"), "othertwo");
    let said = folder.corten(&host, &["-t", "cache", "--no-cache"]).ok();
    assert_eq!(said.matches("Using cache").count(), 0, "{said}");
    host.corten(["rmi", "-f", "cache"]).ok();
    let pruned = host.corten(["builder", "prune", "-af"]).ok();
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    let said = folder.corten(&host, &["-t", "cache"]).ok();
    assert_eq!(said.matches("Using cache").count(), 0, "{said}");
}

#[test]
fn mounts_of_steps_leave_nothing_behind() {
    let host = Host::with_busybox();
    let text = "FROM busybox AS lib\nRUN mkdir /lib2 && echo lib >/lib2/x\nFROM busybox\n\
        RUN --mount=type=bind,source=in,target=/ctx --mount=type=bind,from=lib,source=/lib2,target=/l cat /ctx/f /l/x >/seen\n\
        RUN --mount=type=cache,target=/root/cache echo kept >>/root/cache/log; --mount 2>/dev/null; true\n\
        RUN --mount=type=cache,target=/root/cache cat /root/cache/log >>/seen\n\
        RUN --mount=type=tmpfs,target=/t echo x >/t/x\n\
        RUN <<EOF\n#!/bin/sh\necho script >>/seen\nEOF\nRUN <<EOF\necho shell >>/seen\nEOF\n";
    let folder = Folder::new(&host, "mounts", text, &[("in/f", "file\n")]);
    folder.corten(&host, &["-t", "mounts"]).ok();
    assert_eq!(
        run(&host, "mounts", "cat /seen; ls -d /ctx /l /t /root/cache 2>&1 | grep -v 'No such'; true"),
        "file\nlib\nkept\nscript\nshell"
    );
    wait_for("what was mounted to be gone", || (below(&host, "snapshots") == 0).then_some(()));
}

#[test]
fn files_from_elsewhere_are_what_was_asked_for() {
    let host = Host::with_busybox();
    let server =
        kit::http::Server::start(|_, _| kit::http::Answer::new(200, "text/plain", "from elsewhere\n"));
    let url = format!("http://{}/file.txt?of=us", server.address());
    let right = kit::fixtures::digest(b"from elsewhere\n");
    let wrong = kit::fixtures::digest(b"something else");
    let text =
        |digest: &str| format!("FROM busybox\nADD --checksum={digest} {url} /srv/\nADD {url} /named\n");
    let folder = Folder::new(&host, "elsewhere", &text(&right), &[]);
    for cli in CLIS {
        folder.build(&host, cli, &["-t", "elsewhere"]).ok();
        let files = run(&host, "elsewhere", "cat /srv/file.txt /named; stat -c '%a %u' /named");
        assert_eq!(files, "from elsewhere\nfrom elsewhere\n600 0");
    }
    folder.write("Dockerfile", &text(&wrong));
    for cli in CLIS {
        let refused = folder.build(&host, cli, &[]).run();
        let why = format!("digest mismatch {right}: {wrong}");
        assert!(refused.code != 0 && format!("{refused}").contains(&why), "{refused}");
    }
}

#[test]
fn the_hosts_network_is_for_those_whom_the_user_allows_it() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN --network=host readlink /proc/self/ns/net\n";
    let folder = Folder::new(&host, "hosts", text, &[]);
    for cli in CLIS {
        let refused = folder.build(&host, cli, &[]).run();
        assert!(
            refused.code != 0 && format!("{refused}").contains("network.host is not allowed"),
            "{refused}"
        );
    }
    let own = host.program("readlink", ["/proc/self/ns/net"]).ok();
    let build = ["build", "--no-cache", "--network", "host", "."];
    for cli in CLIS {
        let said = host.cli(cli, build);
        let said = said.env("DOCKER_BUILDKIT", "0").current_dir(&folder.path).run();
        assert!(said.code == 0 && format!("{said}").contains(&own), "{said}, and not {own}");
    }
    let said = host.corten(build).current_dir(&folder.path).run();
    assert!(said.code == 0 && format!("{said}").contains(&own), "{said}, and not {own}");
}

#[test]
fn a_build_that_is_given_up_leaves_nothing() {
    let mut host = Host::with_busybox();
    let folder = Folder::new(&host, "long", "FROM busybox\nRUN echo begun && sleep 1000\n", &[]);
    let steps = |host: &Host| fs::read_dir(host.exec_root().join("c")).map_or(0, Iterator::count);
    let client = folder.corten(&host, &[]).limit(Duration::from_secs(60)).spawn();
    wait_for("the step to run", || (steps(&host) == 1).then_some(()));
    client.signal(rustix::process::Signal::KILL);
    wait_for("the step to end", || (steps(&host) == 0).then_some(()));
    wait_for("its files to go", || {
        (below(&host, "snapshots") + below(&host, "build/contexts") == 0).then_some(())
    });
    let client = folder.corten(&host, &[]).limit(Duration::from_secs(60)).spawn();
    wait_for("the step to run", || (steps(&host) == 1).then_some(()));
    host.kill_daemon();
    drop(client);
    host.start_daemon();
    wait_for("the step to end", || (steps(&host) == 0).then_some(()));
    wait_for("its files to go", || {
        (below(&host, "snapshots") + below(&host, "build/contexts") == 0).then_some(())
    });
}

#[test]
fn long_chains_and_many_stages_are_built() {
    let host = Host::with_busybox();
    let chain: String = (0..60).map(|number| format!("RUN echo {number} >>/log\n")).collect();
    let folder = Folder::new(&host, "chain", &format!("FROM busybox\n{chain}"), &[]);
    folder.corten(&host, &["-t", "chain"]).ok();
    assert_eq!(run(&host, "chain", "wc -l </log; tail -n 1 /log"), "60\n59");
    assert_eq!(inspect(&host, "chain", "{{len .RootFS.Layers}}"), "61");
    let stages: String =
        (0..12).map(|number| format!("FROM busybox AS s{number}\nRUN echo {number} >/f\n")).collect();
    let copies: String = (0..12).map(|number| format!("COPY --from=s{number} /f /all/{number}\n")).collect();
    let folder = Folder::new(
        &host,
        "many",
        &format!("{stages}FROM scratch\n{copies}FROM busybox\nCOPY --from=12 / /\n"),
        &[],
    );
    folder.corten(&host, &["-t", "many"]).ok();
    assert_eq!(run(&host, "many", "cat /all/* | sort -n | tail -n 1; ls /all | wc -l"), "11\n12");
}

#[test]
fn equal_steps_of_builds_that_go_on_at_once_are_made_once() {
    let host = Host::with_busybox();
    let text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id && sleep 1\n";
    let folder = Folder::new(&host, "once", text, &[]);
    let builds: Vec<_> =
        ["one", "two", "three"].map(|name| folder.corten(&host, &["-t", name]).spawn()).into();
    for build in builds {
        build.wait().expect_code(0);
    }
    let ids = ["one", "two", "three"].map(|name| run(&host, name, "cat /id"));
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn an_id_alone_is_told_and_texts_come_from_standard_input() {
    let host = Host::with_busybox();
    let folder = Folder::new(&host, "quiet", "FROM busybox\nRUN echo x >/x\n", &[("f", "file")]);
    for cli in CLIS {
        let id = folder.build(&host, cli, &["-q", "-t", "quiet", "--iidfile", "id"]).ok();
        assert_eq!(id, inspect(&host, "quiet", "{{.Id}}"));
        assert_eq!(fs::read_to_string(folder.path.join("id")).expect("an id").trim(), id);
        let args = ["build", "--network", "none", "-t", "text", "-"];
        let text = host.cli(cli, args).env("DOCKER_BUILDKIT", "0").stdin("FROM busybox\nRUN echo text >/x\n");
        text.ok();
        assert_eq!(run(&host, "text", "cat /x"), "text");
        folder.write("../outside", "FROM busybox\nCOPY . /all\n");
        folder.build(&host, cli, &["-f", "../outside", "-t", "outside"]).ok();
        assert_eq!(run(&host, "outside", "cd /all; ls -A"), "Dockerfile\nf\nid");
    }
}

use super::*;
use proptest::prelude::*;

fn changed(changes: &[&str]) -> Result<ContainerConfig, String> {
    let mut config = ContainerConfig {
        env: vec!["PATH=/bin".into(), "A=one two".into()],
        cmd: Some(vec!["sh".into()]),
        working_dir: "/srv".into(),
        ..Default::default()
    };
    apply(&mut config, &changes.join("\n"))?;
    Ok(config)
}

fn refused(change: &str) -> String {
    changed(&[change]).unwrap_err()
}

#[test]
fn commands_have_two_forms() {
    let config = changed(&[r#"CMD ["a", "b c"]"#]).unwrap();
    assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
    let config = changed(&["cmd echo $A 'x'"]).unwrap();
    assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo $A 'x'"]);
    let config = changed(&[r#"ENTRYPOINT ["/e"]"#]).unwrap();
    assert_eq!((config.entrypoint.unwrap(), config.cmd), (vec!["/e".to_owned()], None));
    let config = changed(&[r#"CMD ["x"]"#, r#"ENTRYPOINT ["/e"]"#]).unwrap();
    assert_eq!(config.cmd.unwrap(), ["x"]);
    assert_eq!(changed(&["ENTRYPOINT []"]).unwrap().entrypoint, None);
}

#[test]
fn pairs_have_quotes_and_variables() {
    let config = changed(&[r#"ENV B="$A three" C='$A' D=x\ y E=${Z:-dflt}${A:+set} A=new"#]).unwrap();
    assert_eq!(config.env, ["PATH=/bin", "A=new", "B=one two three", "C=$A", "D=x y", "E=dfltset"]);
    let config = changed(&["ENV OLD a \"b c\" $PATH"]).unwrap();
    assert_eq!(config.env.last().unwrap(), "OLD=a b c /bin");
    let config = changed(&["LABEL a=1 \"b c\"=\"d e\" \\\n f=g", "# a remark", "LABEL h i j"]).unwrap();
    let labels: Vec<(&str, &str)> = config.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("a", "1"), ("b c", "d e"), ("f", "g"), ("h", "i j")]);
}

#[test]
fn ports_volumes_and_the_rest() {
    let config = changed(&["EXPOSE 80 53/udp 8000-8002", "VOLUME /a $PATH", r#"VOLUME ["/b c"]"#]).unwrap();
    let keys: Vec<&String> = config.exposed_ports.keys().collect();
    assert_eq!(keys, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
    assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/a", "/b c", "/bin"]);
    let config = changed(&["WORKDIR x/../y", "USER $A:g", "STOPSIGNAL SIGUSR1", "ONBUILD RUN x"]).unwrap();
    assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/srv/y", "one two:g"));
    assert_eq!((config.stop_signal.as_str(), config.on_build[0].as_str()), ("SIGUSR1", "RUN x"));
    assert_eq!(changed(&["WORKDIR /../../etc/"]).unwrap().working_dir, "/etc");
    let config = changed(&["HEALTHCHECK --interval=5s --retries=3 CMD curl -f x"]).unwrap();
    let check = config.healthcheck.unwrap();
    assert_eq!((check.interval, check.retries), (5_000_000_000, 3));
    assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
    assert_eq!(changed(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap().test, ["NONE"]);
}

#[test]
fn what_is_not_taken_is_refused_in_dockers_words() {
    for (change, told) in [
        ("RUN x", "RUN is not a valid change command"),
        ("from scratch", "from is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "can't find = in \"B\". Must be of the form: name=value"),
        ("ENV =x", "ENV names can not be blank"),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE x", "invalid containerPort: x"),
        ("EXPOSE 80/icmp", "invalid proto: icmp"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("STOPSIGNAL SIGNONE", "SIGNONE"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK FOO x", "Unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("CMD --x y", "unknown flag: --x"),
        ("ENV A='x", "unexpected end of statement while looking for matching single-quote"),
        ("ENV A=${B:?gone}", "B: gone"),
    ] {
        let error = refused(change);
        assert!(error.contains(told), "{change}: {error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "([A-Za-z${}:+?\"'\\\\=\\[\\]#, \n-]|ENV|LABEL|HEALTHCHECK){0,60}") {
        let mut config = ContainerConfig::default();
        let _ = apply(&mut config, &text);
    }
}

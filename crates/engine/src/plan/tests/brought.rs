//! What other containers and devices bring into a plan.

use super::*;

#[test]
fn what_is_shared_with_another_container() {
    let mut record = record();
    record.host.pid_mode = "container:a".into();
    record.host.ipc_mode = "container:b".into();
    record.host.resources.init = Some(true);
    let request = Request {
        record: &record,
        identity: &identity(),
        paths: &paths(),
        host: &machine(),
        cgroup: Path::new("/corten/0123"),
        network: None,
        pid: Some(Path::new("/proc/1/fd/7")),
        ipc: Some(Path::new("/proc/1/fd/8")),
    };
    let plan = plan_start(&request, &resolved()).unwrap();
    let namespaces = json(&plan, "/linux/namespaces");
    let path = |kind: &str| {
        namespaces.as_array().unwrap().iter().find(|one| one["type"] == kind).unwrap()["path"].clone()
    };
    assert_eq!((path("pid"), path("ipc")), ("/proc/1/fd/7".into(), "/proc/1/fd/8".into()));
    assert_eq!(path("uts"), Value::Null);
    let lent: Vec<_> = plan.binds.iter().filter(|bind| bind.lent).map(|bind| bind.index).collect();
    let [index] = lent[..] else { panic!("{lent:?}") };
    assert_eq!(json(&plan, &format!("/mounts/{index}/destination")), "/dev/shm");
    // It would not be the first process there.
    assert_eq!(strings(&plan, "/process/args"), ["sleep", "1"]);
}

#[test]
fn what_a_device_brings() {
    let mut resolved = resolved();
    resolved.injected = Injected {
        env: vec!["PATH=/vendor".into(), "NEW=1".into()],
        groups: vec![44],
        mounts: vec![cdi::Mount {
            host_path: "/tool".into(),
            container_path: "/usr/tool".into(),
            options: vec!["ro".into()],
            kind: String::new(),
        }],
        hooks: vec![cdi::Hook {
            hook_name: "createRuntime".into(),
            path: "/bin/hook".into(),
            ..cdi::Hook::default()
        }],
        ..Injected::default()
    };
    let plan = try_plan(&record(), &identity(), &machine(), &resolved).unwrap();
    let env = strings(&plan, "/process/env");
    assert_eq!(env.iter().filter(|entry| entry.starts_with("PATH=")).collect::<Vec<_>>(), ["PATH=/vendor"]);
    assert!(env.contains(&"NEW=1".to_owned()));
    assert_eq!(json(&plan, "/process/user/additionalGids"), serde_json::json!([0, 1, 10, 44]));
    assert_eq!(options_at(&plan, "/usr/tool"), "bind,ro");
    assert!(plan.binds.iter().any(|bind| bind.source == Path::new("/tool") && !bind.lent));
    assert_eq!(json(&plan, "/hooks/createRuntime/0/path"), "/bin/hook");
}

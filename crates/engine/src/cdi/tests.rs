//! Catalogues of folders.

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("write");
    }
    directory
}

fn request(driver: &str, ids: &[&str], count: i64) -> Resources {
    let capabilities = if driver == DRIVER { Vec::new() } else { vec![vec!["gpu".to_owned()]] };
    let request = DeviceRequest {
        driver: driver.into(),
        count,
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        capabilities,
        ..DeviceRequest::default()
    };
    Resources { device_requests: vec![request], ..Resources::default() }
}

const ONE: &str = r#"
cdiVersion: 0.6.0
kind: vendor.com/thing
containerEdits:
  env: [COMMON=1]
devices:
- name: "0"
  containerEdits:
    env: [ZERO=1]
    deviceNodes:
    - path: /dev/inside
      hostPath: /dev/null
      permissions: rw
    additionalGids: [0, 44]
- name: other
  containerEdits:
    env: [OTHER=1]
    deviceNodes: [{path: /dev/made, type: c, major: 1, minor: 5, fileMode: 0600, uid: 7}]
"#;

#[test]
fn devices_are_found_and_what_is_common_comes_once() {
    let first = folder(&[("a.yaml", ONE), ("notes.txt", "no description")]);
    let folders = [first.path().to_owned(), first.path().join("not-there")];
    let found =
        find(&folders, &request(DRIVER, &["vendor.com/thing=other", "vendor.com/thing=0"], 0)).unwrap();
    assert_eq!(found.env, ["COMMON=1", "OTHER=1", "ZERO=1"]);
    assert_eq!(found.groups, [44]);
    let [made, null] = found.devices.as_slice() else { panic!("{found:?}") };
    assert_eq!((made.path.to_str(), made.minor, made.mode, made.uid), (Some("/dev/made"), 5, 0o600, 7));
    assert_eq!(
        (null.path.to_str(), null.major, null.minor, null.access.as_str()),
        (Some("/dev/inside"), 1, 3, "rw")
    );
    assert_eq!(names(&folders), ["vendor.com/thing=0", "vendor.com/thing=other"]);
    let text = find(&folders, &request(DRIVER, &["vendor.com/thing=9"], 0)).unwrap_err().to_string();
    assert_eq!(text, "CDI device injection failed: unresolvable CDI devices vendor.com/thing=9");
}

#[test]
fn a_later_folder_counts_more_and_doubts_are_refused() {
    let other = ONE.replace("ZERO=1", "ZERO=2");
    let (early, late) = (folder(&[("a.yaml", ONE)]), folder(&[("b.yaml", &other)]));
    let folders = [early.path().to_owned(), late.path().to_owned()];
    let asked = request(DRIVER, &["vendor.com/thing=0"], 0);
    assert!(find(&folders, &asked).unwrap().env.contains(&"ZERO=2".to_owned()));
    let twice = folder(&[("a.yaml", ONE), ("b.yaml", &other)]);
    let text = find(&[twice.path().to_owned()], &asked).unwrap_err().to_string();
    assert!(text.contains("described twice"), "{text}");
}

#[test]
fn graphics_cards_by_number_name_or_all() {
    let gpus = r#"{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[
        {"name":"0","containerEdits":{"env":["A=0"]}},{"name":"1","containerEdits":{"env":["A=1"]}},
        {"name":"all","containerEdits":{"env":["A=all"]}}]}"#;
    let directory = folder(&[("nvidia.json", gpus)]);
    let folders = [directory.path().to_owned()];
    let env =
        |driver, ids: &[&str], count| find(&folders, &request(driver, ids, count)).map(|found| found.env);
    assert_eq!(env("", &[], -1).unwrap(), ["A=all"]);
    assert_eq!(env("nvidia", &[], 2).unwrap(), ["A=0", "A=1"]);
    assert_eq!(env("", &["1"], 0).unwrap(), ["A=1"]);
    assert!(env("", &[], 3).unwrap_err().to_string().contains("nvidia.com/gpu=2"));
    assert_eq!(
        env("amd", &[], -1).unwrap_err().to_string(),
        "could not select device driver \"amd\" with capabilities: [[gpu]]"
    );
    assert_eq!(
        find(&[], &request("", &[], -1)).unwrap_err().to_string(),
        "could not select device driver \"\" with capabilities: [[gpu]]"
    );
}

#[test]
fn descriptions_that_cannot_be_followed_are_refused() {
    for (from, to, text) in [
        ("0.6.0", "9.9.9", "unknown version"),
        ("vendor.com/thing", "vendor.com", "invalid kind"),
        ("name: other", "name: \"a/b\"", "invalid device name"),
        ("name: other", "name: \"0\"", "described twice"),
        ("COMMON=1", "COMMON", "invalid variable"),
        ("path: /dev/inside", "path: /dev/../etc/x", "invalid path of a device"),
        ("permissions: rw", "permissions: rx", "invalid permissions"),
        ("containerEdits:\n  env", "unknown: 1\ncontainerEdits:\n  env", "unknown field"),
        ("env: [OTHER=1]", "mounts: [{hostPath: a, containerPath: /b}]", "invalid mount"),
        ("env: [OTHER=1]", "hooks: [{hookName: sometimes, path: /bin/true}]", "invalid hook"),
        ("env: [OTHER=1]", "netDevices: [{hostInterfaceName: a, name: b}]", "unknown field"),
    ] {
        let changed = ONE.replacen(from, to, 1);
        assert_ne!(changed, ONE);
        let error = Spec::parse(changed.as_bytes()).unwrap_err();
        assert!(error.contains(text), "{text}: {error}");
    }
}

//! `--device`, `--device-cgroup-rule`, `--gpus`.

use api::container::{DeviceMapping, DeviceRequest};

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// Whether a device is named by the container device interface: `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    match text.split_once('=') {
        Some((kind, name)) => !kind.starts_with('/') && kind.contains('/') && !name.is_empty(),
        None => false,
    }
}

fn is_mode(text: &str) -> bool {
    !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b"rwm".contains(&b))
}

fn parse(text: &str) -> std::result::Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, inside, mode) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (host, inside, mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if host.is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let inside = if inside.is_empty() { host } else { inside };
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: inside.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// The check of `--device-cgroup-rule`: `c 7:* rwm`.
pub(super) fn check_rule(text: &str) -> std::result::Result<(), String> {
    let number = |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let parts: Vec<&str> = text.split(' ').collect();
    let good = match parts[..] {
        ["a" | "b" | "c", numbers, mode] => {
            is_mode(mode)
                && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// The check of `--gpus`.
pub(super) fn check_gpus(text: &str) -> std::result::Result<(), String> {
    gpus(text).map(drop)
}

fn gpus(text: &str) -> std::result::Result<DeviceRequest, String> {
    let mut request = DeviceRequest { capabilities: vec![vec!["gpu".into()]], ..DeviceRequest::default() };
    let count = |text: &str| match text {
        "all" => Ok(-1),
        number => number.parse().map_err(|_| {
            format!("invalid count ({number}): value must be either \"all\" or an integer: invalid syntax")
        }),
    };
    request.count = 1;
    for field in super::mount::fields(text)? {
        match field.split_once('=') {
            None => request.count = count(&field)?,
            Some(("count", value)) => request.count = count(value)?,
            Some(("driver", value)) => value.clone_into(&mut request.driver),
            Some(("device", value)) => {
                request.device_ids = value.split(',').map(str::to_owned).collect();
                request.count = 0;
            }
            Some(("capabilities", value)) => {
                request.capabilities[0] = value.split(',').chain(["gpu"]).map(str::to_owned).collect();
                request.capabilities[0].dedup();
            }
            Some(("options", value)) => {
                for option in value.split(',') {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    request.options.insert(key.to_owned(), value.to_owned());
                }
            }
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    Ok(request)
}

/// The devices of the host.
pub(super) fn mappings(parsed: &Parsed) -> Result<Vec<DeviceMapping>> {
    parsed
        .list("device")
        .filter(|text| !is_cdi(text))
        .map(|text| parse(text).map_err(Error::Message))
        .collect()
}

/// The devices that drivers give.
pub(super) fn requests(parsed: &Parsed) -> Result<Vec<DeviceRequest>> {
    let mut all: Vec<DeviceRequest> =
        parsed.list("gpus").map(|text| gpus(text).map_err(Error::Message)).collect::<Result<_>>()?;
    let device_ids: Vec<String> =
        parsed.list("device").filter(|text| is_cdi(text)).map(str::to_owned).collect();
    if !device_ids.is_empty() {
        all.push(DeviceRequest { driver: "cdi".into(), device_ids, ..DeviceRequest::default() });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let shown = |text: &str| {
            parse(text)
                .map(|d| format!("{} {} {}", d.path_on_host, d.path_in_container, d.cgroup_permissions))
        };
        assert_eq!(shown("/dev/a").unwrap(), "/dev/a /dev/a rwm");
        assert_eq!(shown("/dev/a:r").unwrap(), "/dev/a /dev/a r");
        assert_eq!(shown("/dev/a:/dev/b:rw").unwrap(), "/dev/a /dev/b rw");
        assert_eq!(shown("/dev/a:/dev/b:x").unwrap_err(), "bad mode specified: x");
        assert_eq!(shown("a:b:c:d").unwrap_err(), "bad format for path: a:b:c:d");
        assert!(is_cdi("vendor.com/class=all") && !is_cdi("/dev/x=y"));
    }

    #[test]
    fn rules_and_gpus() {
        check_rule("c 7:* rwm").unwrap();
        assert!(
            check_rule("x 7:* rwm").is_err()
                && check_rule("c 7 rwm").is_err()
                && check_rule("c 7:1 q").is_err()
        );
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("\"device=0,1\"").unwrap().device_ids, ["0", "1"]);
        assert!(gpus("x").is_err());
    }
}

//! Network devices of the host that move into the container, with their addresses (`linux.netDevices`).

use std::collections::HashMap;
use std::os::fd::AsFd;

use oci::runtime::LinuxNetDevice;
use sys::netlink::route::{self, Address, Route};

use crate::error::{Context as _, Error};

/// Devices for one container: each is a conversation of a few messages with the kernel.
const DEVICES_MAX: usize = 256;

/// A device to move.
#[derive(Debug)]
pub(crate) struct Device {
    name: String,
    inside: String,
    index: u32,
    addresses: Vec<Address>,
}

/// Checks the names.
pub(crate) fn check(devices: &HashMap<String, LinuxNetDevice>) -> Result<(), Error> {
    if devices.len() > DEVICES_MAX {
        return Err(Error::Invalid(format!("linux.netDevices: more than {DEVICES_MAX}")));
    }
    let mut names: Vec<&str> = devices.iter().map(|(name, device)| name_inside(name, device)).collect();
    for name in devices.keys().map(String::as_str).chain(names.iter().copied()) {
        if !route::is_device_name(name) {
            return Err(Error::Invalid(format!("linux.netDevices: {name:?} cannot be the name of a device")));
        }
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Invalid(format!("linux.netDevices: two devices would be {:?}", pair[0]))),
        None => Ok(()),
    }
}

fn name_inside<'a>(name: &'a str, device: &'a LinuxNetDevice) -> &'a str {
    device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name)
}

/// Finds the devices of the caller's network namespace, and what addresses they have: they lose them on the way.
pub(crate) fn find(devices: Option<&HashMap<String, LinuxNetDevice>>) -> Result<Vec<Device>, Error> {
    let Some(devices) = devices.filter(|devices| !devices.is_empty()) else { return Ok(Vec::new()) };
    let route = Route::open().on("open", "the route socket")?;
    let find = |(name, device): (&String, &LinuxNetDevice)| {
        let index = route.index(name).on("find", format!("network device {name}"))?;
        let addresses = route.addresses(index).on("list the addresses of", name)?;
        Ok(Device { name: name.clone(), inside: name_inside(name, device).to_owned(), index, addresses })
    };
    devices.iter().map(find).collect()
}

/// Moves them into a network namespace.
pub(crate) fn move_into(devices: &[Device], namespace: impl AsFd) -> Result<(), Error> {
    let route = Route::open().on("open", "the route socket")?;
    devices.iter().try_for_each(|device| {
        let moved = route.move_device(device.index, &namespace, &device.inside);
        moved.on("move network device", format!("{} into the container as {}", device.name, device.inside))
    })
}

/// Gives them their addresses again, and switches them on; the caller is in their new namespace.
pub(crate) fn settle(devices: &[Device]) -> Result<(), Error> {
    let route = Route::open().on("open", "the route socket")?;
    for device in devices {
        let name = &device.inside;
        let index = route.index(name).on("find", format!("network device {name}"))?;
        for address in &device.addresses {
            route.add_address(index, address).on("give its address to", name)?;
        }
        route.set_up(index).on("switch on", name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str) -> HashMap<String, LinuxNetDevice> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_are_checked_inside_and_outside() {
        check(&devices(r#"{"eth1": {}, "eth2": {"name": "net0"}}"#)).unwrap();
        for wrong in [
            r#"{"a/b": {}}"#,
            r#"{"eth0": {"name": "a b"}}"#,
            r#"{"eth0": {"name": "x"}, "eth1": {"name": "x"}}"#,
            r#"{"eth0": {}, "eth1": {"name": "eth0"}}"#,
        ] {
            check(&devices(wrong)).unwrap_err();
        }
    }
}

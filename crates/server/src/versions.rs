//! Older versions of the API. The engine speaks the newest types; each file here holds what one version changed, and
//! takes it back for clients that speak an older one. An answer passes them from the newest downwards, a request from
//! the oldest upwards.

mod v1_40;
mod v1_41;
mod v1_42;
mod v1_43;
mod v1_44;
mod v1_45;
mod v1_46;
mod v1_48;
mod v1_49;
mod v1_50;
mod v1_51;
mod v1_52;
mod v1_53;

use crate::reply::{Answer, Reply};
use api::ApiVersion;
use api::container::CreateRequest;
use serde::Serialize;
use serde_json::{Map, Value};

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Version,
    Info,
    DiskUsage,
    Event,
    Network,
    ContainerSummary,
    ContainerInspect,
    ImageSummary,
    ImageInspect,
}

/// A JSON object.
type Object = Map<String, Value>;
/// Takes back what one version changed in an answer.
type TakeBack = fn(Resource, &mut Object);
/// Makes up for what one version changed in a request.
type BringUp = fn(&mut CreateRequest);

/// What versions changed in answers, newest first.
const ANSWERS: [(u16, TakeBack); 11] = [
    (53, v1_53::answer),
    (52, v1_52::answer),
    (51, v1_51::answer),
    (50, v1_50::answer),
    (49, v1_49::answer),
    (48, v1_48::answer),
    (46, v1_46::answer),
    (45, v1_45::answer),
    (44, v1_44::answer),
    (43, v1_43::answer),
    (42, v1_42::answer),
];

/// What a client of that version is told.
pub(crate) fn convert<T: Serialize>(version: ApiVersion, resource: Resource, value: &T) -> Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    take_back(version, resource, &mut value);
    value
}

fn take_back(version: ApiVersion, resource: Resource, value: &mut Value) {
    if let Value::Object(object) = value {
        if resource == Resource::DiskUsage {
            items(version, object);
        }
        for (_, change) in ANSWERS.iter().filter(|(minor, _)| version.before(*minor)) {
            change(resource, object);
        }
    }
}

/// The containers and images that are listed with their use of the disk look as they do in their own lists.
fn items(version: ApiVersion, usage: &mut Object) {
    for (name, resource) in
        [("ContainerUsage", Resource::ContainerSummary), ("ImageUsage", Resource::ImageSummary)]
    {
        let listed = object(usage, name).and_then(|usage| usage.get_mut("Items"));
        for item in listed.and_then(Value::as_array_mut).into_iter().flatten() {
            // Here they are counted in every version.
            let users = item.get("Containers").cloned();
            take_back(version, resource, item);
            if let (Some(users), Some(item)) = (users, item.as_object_mut()) {
                item.insert("Containers".to_owned(), users);
            }
        }
    }
}

/// Answers with a value.
pub(crate) fn json<T: Serialize>(version: ApiVersion, resource: Resource, value: &T) -> Answer {
    if version == api::version::MAX {
        Reply::json(value)
    } else {
        Reply::json(&convert(version, resource, value))
    }
}

/// Answers with a list.
pub(crate) fn json_list<T: Serialize>(version: ApiVersion, resource: Resource, list: &[T]) -> Answer {
    if version == api::version::MAX {
        return Reply::json(&list);
    }
    Reply::json(&list.iter().map(|value| convert(version, resource, value)).collect::<Vec<_>>())
}

/// Makes a request to create a container mean in the newest version what it means in that one.
pub(crate) fn upgrade_create(version: ApiVersion, body: &mut CreateRequest) {
    let older: [(u16, BringUp); 5] = [
        (40, v1_40::create),
        (41, v1_41::create),
        (42, v1_42::create),
        (43, v1_43::create),
        (44, v1_44::create),
    ];
    for (_, change) in older.iter().filter(|(minor, _)| version.before(*minor)) {
        change(body);
    }
    if version.before(45) {
        v1_45::create(body);
    }
    // Fields that are gone mean nothing from then on.
    if version.from(42) {
        v1_42::forget(body);
    }
    if version.from(52) {
        v1_52::forget(body);
    }
}

/// An object in an object.
fn object<'a>(parent: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    parent.get_mut(name).and_then(Value::as_object_mut)
}

/// The objects in a list or a map in an object.
fn objects<'a>(parent: &'a mut Object, name: &str) -> Box<dyn Iterator<Item = &'a mut Object> + 'a> {
    match parent.get_mut(name) {
        Some(Value::Array(list)) => Box::new(list.iter_mut().filter_map(Value::as_object_mut)),
        Some(Value::Object(map)) => Box::new(map.values_mut().filter_map(Value::as_object_mut)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Puts fields where they are not.
fn fill<const N: usize>(object: &mut Object, fields: [(&str, Value); N]) {
    for (name, value) in fields {
        object.entry(name).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_version_is_told_everything() {
        let image = api::image::Summary { descriptor: Some(Default::default()), ..Default::default() };
        let told = convert(api::version::MAX, Resource::ImageSummary, &image);
        assert!(told.get("Descriptor").is_some() && told.get("VirtualSize").is_none());
        let told = convert(ApiVersion::v1(43), Resource::ImageSummary, &image);
        assert!(told.get("Descriptor").is_none() && told["VirtualSize"] == told["Size"]);
    }

    #[test]
    fn an_event_tells_old_clients_twice() {
        let mut event =
            api::event::Message { kind: "container".into(), action: "start".into(), ..Default::default() };
        event.actor.id = "abc".into();
        event.actor.attributes.insert("image".into(), "busybox".into());
        let old = convert(ApiVersion::v1(51), Resource::Event, &event);
        assert_eq!(
            (&old["status"], &old["id"], &old["from"]),
            (&json!("start"), &json!("abc"), &json!("busybox"))
        );
        let new = convert(ApiVersion::v1(52), Resource::Event, &event);
        assert!(new.get("status").is_none());
    }

    #[test]
    fn old_clients_find_their_defaults() {
        let upgraded = |minor| {
            let mut body = CreateRequest { host_config: Some(Default::default()), ..Default::default() };
            upgrade_create(ApiVersion::v1(minor), &mut body);
            body.host_config.unwrap()
        };
        assert_eq!(upgraded(40).cgroupns_mode, "host");
        assert_eq!(upgraded(41).cgroupns_mode, "");
        assert_eq!(upgraded(39).ipc_mode, "shareable");
        assert_eq!(upgraded(40).ipc_mode, "");
    }

    #[test]
    fn a_container_tells_old_clients_of_its_first_network() {
        let mut container = api::container::Inspect { id: "0123456789abcdef".into(), ..Default::default() };
        container.storage = Some(Default::default());
        container.network_settings.networks.insert(
            "bridge".into(),
            api::network::EndpointSettings { ip_address: "172.17.0.2".into(), ..Default::default() },
        );
        container.network_settings.networks.insert("mine".into(), Default::default());
        let old = convert(ApiVersion::v1(44), Resource::ContainerInspect, &container);
        assert_eq!(old["NetworkSettings"]["IPAddress"], "172.17.0.2");
        // Names are for networks that somebody made.
        let aliases = |network: &str| &old["NetworkSettings"]["Networks"][network]["Aliases"];
        assert_eq!((aliases("bridge"), aliases("mine")), (&Value::Null, &json!(["0123456789ab"])));
        assert!(old.get("GraphDriver").is_some() && old.get("Storage").is_none());
        let new = convert(ApiVersion::v1(52), Resource::ContainerInspect, &container);
        assert!(new["NetworkSettings"].get("IPAddress").is_none() && new.get("Storage").is_some());
    }
}

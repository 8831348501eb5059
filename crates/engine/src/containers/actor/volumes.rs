//! What is told of volumes when a container begins and ends to use them.

use std::collections::BTreeMap;

use super::Actor;
use crate::containers::record::MountKind;
use crate::events::Subject;

impl Actor {
    /// A run has begun.
    pub(super) fn tell_mounts(&self) {
        for mount in &self.record.mounts {
            let point = &mount.point;
            let more = [
                ("destination", point.destination.clone()),
                ("propagation", point.propagation.clone()),
                ("read/write", point.rw.to_string()),
            ];
            self.tell_volume(&mount.kind, &point.name, &point.driver, "mount", &more);
        }
    }

    /// A run has ended.
    pub(super) fn tell_unmounts(&self) {
        for mount in &self.record.mounts {
            self.tell_volume(&mount.kind, &mount.point.name, &mount.point.driver, "unmount", &[]);
        }
    }

    fn tell_volume(&self, kind: &MountKind, name: &str, driver: &str, action: &str, more: &[(&str, String)]) {
        if !matches!(kind, MountKind::Volume { .. }) {
            return;
        }
        let own = [("driver", driver.to_owned()), ("container", self.record.id.clone())];
        let attributes: BTreeMap<String, String> =
            own.iter().chain(more).map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        self.context.events.emit(Subject::Volume, action, name, attributes);
    }
}

//! `features` of `daemon.json`, by dockerd's names: what there is anyway, what can be switched off, and what there is not.

use std::collections::BTreeMap;

use super::Error;
use super::containers::Containers;

/// Those that there are.
const KNOWN: &str = "buildkit, cdi and containerd-snapshotter";

/// What is said of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Whether devices may be given by the names of their descriptions.
    pub has_cdi: bool,
    /// What is said of containerd's store, which changes nothing.
    pub snapshotter: Option<bool>,
}

impl Features {
    /// Those of the file.
    pub(super) fn of(said: &BTreeMap<String, bool>) -> Result<Self, Error> {
        let refuse = |text: String| Err(Error::Usage(text));
        let mut features = Self { has_cdi: true, snapshotter: None };
        for (name, on) in said {
            match (name.as_str(), *on) {
                ("buildkit", true) => {}
                ("buildkit", false) => {
                    return refuse(
                        "the feature \"buildkit\" cannot be switched off: leave it out; clients choose by DOCKER_BUILDKIT=0"
                            .to_owned(),
                    );
                }
                ("cdi", on) => features.has_cdi = on,
                ("containerd-snapshotter", on) => features.snapshotter = Some(on),
                (other, _) => {
                    return refuse(format!("the feature {other:?} is not supported: there are {KNOWN}"));
                }
            }
        }
        Ok(features)
    }

    /// What it makes of containers' settings.
    pub(super) fn shape(self, mut containers: Containers) -> Containers {
        if !self.has_cdi {
            containers.cdi_dirs.clear();
        }
        containers
    }
}

#[cfg(test)]
mod tests {
    use super::super::containers::{self, ContainerFile, ContainerFlags};
    use super::*;

    fn of(said: &[(&str, bool)]) -> Result<Features, String> {
        let said = said.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect();
        Features::of(&said).map_err(|error| error.to_string())
    }

    #[test]
    fn features_are_taken_or_refused_by_name() {
        let all = of(&[("buildkit", true), ("cdi", false), ("containerd-snapshotter", false)]).unwrap();
        assert_eq!(all, Features { has_cdi: false, snapshotter: Some(false) });
        assert!(of(&[]).unwrap().has_cdi);
        let containers = containers::merge(ContainerFlags::default(), ContainerFile::default()).unwrap();
        assert!(!containers.cdi_dirs.is_empty());
        assert!(all.shape(containers.clone()).cdi_dirs.is_empty());
        assert_eq!(of(&[("cdi", true)]).unwrap().shape(containers.clone()), containers);
        assert!(of(&[("buildkit", false)]).unwrap_err().contains("\"buildkit\" cannot be switched off"));
        let told = of(&[("time-travel", true)]).unwrap_err();
        assert!(told.contains("the feature \"time-travel\" is not supported: there are buildkit"), "{told}");
    }
}

//! What the daemon is told of builds, by dockerd's names.

use serde::Deserialize;

use super::Error;
use super::texts::parse_bytes;

/// What is said of builds.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct BuilderFile {
    entitlements: EntitlementsFile,
    gc: GcFile,
}

/// What builds keep, by dockerd's names.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct GcFile {
    enabled: Option<bool>,
    default_keep_storage: Option<String>,
    default_max_used_space: Option<String>,
}

#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct EntitlementsFile {
    network_host: Option<bool>,
    security_insecure: Option<bool>,
}

impl BuilderFile {
    /// What builds may keep.
    pub(super) fn cache(&self) -> Result<engine::BuildCache, Error> {
        let default = engine::BuildCache::default();
        // The second is the first's newer name.
        let given = self.gc.default_max_used_space.as_deref().or(self.gc.default_keep_storage.as_deref());
        let bytes_max = given.map(parse_bytes).transpose()?.and_then(|bytes| u64::try_from(bytes).ok());
        Ok(engine::BuildCache { is_bounded: self.gc.enabled.unwrap_or(default.is_bounded), bytes_max })
    }

    /// What steps may be allowed.
    pub(super) fn entitlements(&self) -> engine::Entitlements {
        let default = engine::Entitlements::default();
        engine::Entitlements {
            network_host: self.entitlements.network_host.unwrap_or(default.network_host),
            security_insecure: self.entitlements.security_insecure.unwrap_or(default.security_insecure),
        }
    }
}

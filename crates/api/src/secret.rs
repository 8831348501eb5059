//! Secrets: this engine's own, below `/corten/secrets`. Docker's `/secrets` are those of a swarm.

use std::collections::BTreeMap;

record! {
    /// A secret, without what it is.
    pub struct Secret {
        /// Its identifier.
        #[serde(rename = "ID")]
        pub id: String,
        /// Its name.
        pub name: String,
        /// RFC 3339.
        pub created_at: String,
        /// The labels.
        pub labels: BTreeMap<String, String>,
        /// Bytes.
        pub size: u64,
    }

    /// A secret that a container sees as a file below `/run/secrets`.
    pub struct SecretMount {
        /// The secret's name.
        pub source: String,
        /// The file's name; empty for the secret's.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// Who owns the file.
        #[serde(rename = "UID", skip_serializing_if = "crate::null::is_default")]
        pub uid: u32,
        /// Which group.
        #[serde(rename = "GID", skip_serializing_if = "crate::null::is_default")]
        pub gid: u32,
        /// Its permission bits; 0444 where there are none.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mode: Option<u32>,
    }
}

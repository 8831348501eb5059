//! What happened.

use std::collections::BTreeMap;

record! {
    /// One event of `GET /events`.
    pub struct Message {
        /// `container`, `image`, `volume`, `network`, `daemon`, …
        #[serde(rename = "Type")]
        pub kind: String,
        /// `create`, `start`, `die`, … ; some carry more after a colon.
        pub action: String,
        /// Whom it happened to.
        pub actor: Actor,
        /// `local` or `swarm`.
        #[serde(rename = "scope")]
        pub scope: String,
        /// Seconds since 1970.
        #[serde(rename = "time")]
        pub time: i64,
        /// Nanoseconds since 1970.
        #[serde(rename = "timeNano")]
        pub time_nano: i64,
    }

    /// Whom an event happened to.
    pub struct Actor {
        /// Its id; a volume's name, an image's reference.
        #[serde(rename = "ID")]
        pub id: String,
        /// Labels and more.
        pub attributes: BTreeMap<String, String>,
    }
}

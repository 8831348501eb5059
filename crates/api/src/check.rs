//! `POST /corten/check`: whether the engine's store is whole. An endpoint of our own; its answer is JSON, one line after another.

record! {
    /// One line: how far it is, or at last the report, or why there is none.
    pub struct Line {
        /// How far it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub progress: Option<Progress>,
        /// What was found.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub report: Option<Report>,
        /// Why the check ended without a report.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub error: String,
    }

    /// How far a check is.
    pub struct Progress {
        /// Bytes that were read.
        pub bytes: u64,
        /// Bytes there are to be read.
        pub total: u64,
    }

    /// What a check has found.
    pub struct Report {
        /// Whether nothing is wrong, or after a repair nothing any more.
        pub clean: bool,
        /// What was found.
        pub problems: Vec<Problem>,
        /// What is left of it after a repair.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub left: Option<Vec<Problem>>,
        /// Problems that were too many to be told.
        pub untold: u64,
        /// Images that were looked at.
        pub images: u64,
        /// Blobs that were looked at.
        pub blobs: u64,
        /// Layers that were looked at.
        pub layers: u64,
        /// Snapshots that were looked at.
        pub snapshots: u64,
        /// Bytes that were read and hashed.
        pub bytes: u64,
    }

    /// Something that is wrong.
    pub struct Problem {
        /// What kind of wrong, in one word.
        pub fault: String,
        /// What it is about: a digest, an identifier, a path below the data root.
        pub what: String,
        /// What is wrong with it.
        pub detail: String,
    }
}

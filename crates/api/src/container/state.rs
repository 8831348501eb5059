//! How a container is doing.

record! {
    /// How a container is doing.
    pub struct State {
        /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
        pub status: String,
        /// Whether it runs; true while paused and while restarting too.
        pub running: bool,
        /// Whether it is paused.
        pub paused: bool,
        /// Whether it waits to be started again.
        pub restarting: bool,
        /// Whether the kernel killed it for memory.
        #[serde(rename = "OOMKilled")]
        pub oom_killed: bool,
        /// Whether its removal failed half-way.
        pub dead: bool,
        /// Its first process on the host; 0 where it does not run.
        pub pid: i64,
        /// Of its last run.
        pub exit_code: i64,
        /// Why it could not be started.
        pub error: String,
        /// RFC 3339; the year 1 where it never was.
        pub started_at: String,
        /// RFC 3339; the year 1 where it never was.
        pub finished_at: String,
        /// Where there is a health check.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub health: Option<Health>,
    }

    /// What the health check found.
    pub struct Health {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
        /// The last probes, oldest first.
        pub log: Vec<HealthcheckResult>,
    }

    /// One probe.
    pub struct HealthcheckResult {
        /// RFC 3339.
        pub start: String,
        /// RFC 3339.
        pub end: String,
        /// 0 healthy, 1 unhealthy, 2 reserved, else the probe failed.
        pub exit_code: i64,
        /// The probe's output, cut.
        pub output: String,
    }

    /// The health in lists.
    pub struct HealthSummary {
        /// `none`, `starting`, `healthy` or `unhealthy`.
        pub status: String,
        /// Failures in a row.
        pub failing_streak: i64,
    }
}

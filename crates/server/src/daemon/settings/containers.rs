//! What the daemon is told of all containers: by dockerd's names where it has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use engine::config::{RealTime, Runtime};
use serde::Deserialize;

use super::Error;

/// The keys in `daemon.json`.
pub(super) const KEYS: &[&str] = &[
    "default-pids-limit",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cdi-spec-dirs",
    "runtimes",
    "default-runtime",
];
/// What no honest service needs: the largest ones have a thread for each of two or three thousand connections. A fork bomb
/// that reaches it costs the host some 100 MiB, and leaves an eighth of the process numbers of even the smallest kernels'
/// 32,768 taken.
const PIDS_LIMIT: i64 = 4096;
/// The runtime that is built in.
const OWN: &str = "corten";
/// Where the specification of the container device interface has them; what is in the later one counts.
const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The flags.
#[derive(Args, Debug, Default, Clone)]
pub struct ContainerFlags {
    /// Processes that a container may have where it does not say; -1 for as many as it likes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub default_pids_limit: Option<i64>,
    /// Period of real-time scheduling of all containers together, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<i64>,
    /// How much of it they may run
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<i64>,
    /// Folder with descriptions of devices (CDI), in place of /etc/cdi and /var/run/cdi; may be repeated
    #[arg(long = "cdi-spec-dir", value_name = "DIRECTORY")]
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// OCI runtime with runc's command line, for `--runtime NAME`; may be repeated
    #[arg(long = "add-runtime", value_name = "NAME=PATH")]
    pub runtimes: Vec<String>,
    /// Runtime of containers that name none
    #[arg(long, value_name = "NAME")]
    pub default_runtime: Option<String>,
}

/// Their part of `daemon.json`.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct ContainerFile {
    default_pids_limit: Option<i64>,
    cpu_rt_period: Option<i64>,
    cpu_rt_runtime: Option<i64>,
    cdi_spec_dirs: Vec<PathBuf>,
    runtimes: BTreeMap<String, RuntimeEntry>,
    default_runtime: Option<String>,
}

#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct RuntimeEntry {
    path: PathBuf,
    runtime_args: Vec<String>,
}

/// What is said of all containers, merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containers {
    /// How many processes each may have; `None` for as many as it likes.
    pub pids_limit: Option<i64>,
    /// Real-time scheduling.
    pub real_time: RealTime,
    /// Where devices are described.
    pub cdi_dirs: Vec<PathBuf>,
    /// Runtimes beside the engine's own.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The one of containers that name none; empty for the engine's own.
    pub default_runtime: String,
}

impl ContainerFlags {
    /// The file's key and the value of each option that was given.
    pub(super) fn given(&self) -> Vec<(&'static str, String)> {
        let number = |value: Option<i64>| value.map(|value| value.to_string());
        let folders = (!self.cdi_spec_dirs.is_empty()).then(|| format!("{:?}", self.cdi_spec_dirs));
        let given = [
            ("default-pids-limit", number(self.default_pids_limit)),
            ("cpu-rt-period", number(self.cpu_rt_period)),
            ("cpu-rt-runtime", number(self.cpu_rt_runtime)),
            ("cdi-spec-dirs", folders),
            ("runtimes", (!self.runtimes.is_empty()).then(|| format!("{:?}", self.runtimes))),
            ("default-runtime", self.default_runtime.clone()),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Takes each option from where it was given, and fills in the defaults.
pub(super) fn merge(flags: ContainerFlags, file: ContainerFile) -> Result<Containers, Error> {
    let pids_limit = flags.default_pids_limit.or(file.default_pids_limit).unwrap_or(PIDS_LIMIT);
    let real_time = RealTime {
        period_us: flags.cpu_rt_period.or(file.cpu_rt_period).unwrap_or(0),
        runtime_us: flags.cpu_rt_runtime.or(file.cpu_rt_runtime).unwrap_or(0),
    };
    if real_time.period_us < 0 || real_time.runtime_us < 0 {
        return Err(Error::Usage("cpu real-time period and runtime must not be negative".to_owned()));
    }
    if real_time.period_us != 0 && real_time.runtime_us > real_time.period_us {
        return Err(Error::Usage(
            "cpu real-time runtime cannot be higher than cpu real-time period".to_owned(),
        ));
    }
    let folders = if flags.cdi_spec_dirs.is_empty() { file.cdi_spec_dirs } else { flags.cdi_spec_dirs };
    let folders = if folders.is_empty() { CDI_DIRS.map(PathBuf::from).to_vec() } else { folders };
    // As with dockerd, one empty folder switches it off.
    let named = folders.into_iter().filter(|folder| !folder.as_os_str().is_empty());
    let runtimes = runtimes(flags.runtimes, file.runtimes)?;
    let default_runtime = flags.default_runtime.or(file.default_runtime).unwrap_or_default();
    if !matches!(default_runtime.as_str(), "" | OWN) && !runtimes.contains_key(&default_runtime) {
        return Err(Error::Usage(format!("specified default runtime '{default_runtime}' does not exist")));
    }
    Ok(Containers {
        runtimes,
        default_runtime,
        pids_limit: Some(pids_limit).filter(|limit| *limit > 0),
        real_time,
        cdi_dirs: named.map(super::absolute).collect::<Result<_, _>>()?,
    })
}

/// The runtimes of flags and file, each with a path that leads to a program.
fn runtimes(
    flags: Vec<String>,
    file: BTreeMap<String, RuntimeEntry>,
) -> Result<BTreeMap<String, Runtime>, Error> {
    let mut all: BTreeMap<String, Runtime> = file
        .into_iter()
        .map(|(name, entry)| (name, Runtime { path: entry.path, arguments: entry.runtime_args }))
        .collect();
    for text in flags {
        let (name, path) = text
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or_else(|| Error::Usage(format!("invalid runtime argument: {text}")))?;
        all.insert(name.to_owned(), Runtime { path: path.into(), arguments: Vec::new() });
    }
    for (name, runtime) in &mut all {
        if name == OWN {
            return Err(Error::Usage(format!("runtime name '{name}' is reserved")));
        }
        runtime.path = program(&runtime.path).ok_or_else(|| {
            Error::Usage(format!("invalid runtime '{name}': {} is no program", runtime.path.display()))
        })?;
    }
    Ok(all)
}

/// Where a program is: a name alone is looked for where programs are.
fn program(path: &Path) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if path.components().count() > 1 || path.is_absolute() {
        return super::absolute(path.to_owned()).ok().filter(|path| is_program(path));
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search).map(|folder| folder.join(path)).find(|path| is_program(path))
}

#[cfg(test)]
impl ContainerFlags {
    /// With every flag given.
    pub(super) fn of_everything() -> Self {
        Self {
            default_pids_limit: Some(1),
            cpu_rt_period: Some(1),
            cpu_rt_runtime: Some(1),
            cdi_spec_dirs: vec!["/".into()],
            runtimes: vec!["a".into()],
            default_runtime: Some("a".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_limit_unless_it_is_lifted() {
        let limit = |n| {
            let flags = ContainerFlags { default_pids_limit: n, ..Default::default() };
            merge(flags, ContainerFile::default()).unwrap().pids_limit
        };
        assert_eq!((limit(None), limit(Some(7)), limit(Some(-1))), (Some(4096), Some(7), None));
    }

    #[test]
    fn real_time_fits_into_its_period() {
        let flags = |period, runtime| ContainerFlags {
            cpu_rt_period: Some(period),
            cpu_rt_runtime: Some(runtime),
            ..Default::default()
        };
        assert!(merge(flags(1000, 2000), ContainerFile::default()).is_err());
        assert!(merge(flags(-1, 0), ContainerFile::default()).is_err());
        assert_eq!(merge(flags(2000, 1000), ContainerFile::default()).unwrap().real_time.runtime_us, 1000);
    }

    #[test]
    fn runtimes_are_programs_with_names_of_their_own() {
        let with = |flags: &[&str], default: &str| {
            let flags = ContainerFlags {
                runtimes: flags.iter().map(|text| (*text).to_owned()).collect(),
                default_runtime: Some(default.to_owned()),
                ..Default::default()
            };
            merge(flags, ContainerFile::default())
        };
        let found = with(&["mine=sh", "other=/bin/sh"], "mine").unwrap();
        assert!(found.runtimes["mine"].path.is_absolute() && found.default_runtime == "mine");
        let text = |flags: &[&str], default: &str| with(flags, default).unwrap_err().to_string();
        assert_eq!(text(&[], "mine"), "specified default runtime 'mine' does not exist");
        assert_eq!(text(&["corten=/bin/sh"], ""), "runtime name 'corten' is reserved");
        assert_eq!(text(&["mine"], ""), "invalid runtime argument: mine");
        assert_eq!(text(&["mine=/etc"], ""), "invalid runtime 'mine': /etc is no program");
        let file = r#"{"runtimes":{"mine":{"path":"/bin/sh","runtimeArgs":["-x"]}}}"#;
        let merged = merge(ContainerFlags::default(), serde_json::from_str(file).unwrap()).unwrap();
        assert_eq!(merged.runtimes["mine"].arguments, ["-x"]);
        let shim = r#"{"runtimes":{"mine":{"runtimeType":"io.containerd.kata.v2"}}}"#;
        assert!(serde_json::from_str::<ContainerFile>(shim).unwrap_err().to_string().contains("runtimeType"));
    }
}

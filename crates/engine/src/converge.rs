//! What is found when the daemon starts, and what becomes of it.
//!
//! Level-triggered: it looks at what there is, not at how it came about. Every container with a record is asked for by its
//! supervisor's socket; where nobody answers, the file `exit` tells how it ended; where there is none, its cgroup is killed and the
//! end counts as unknown. What has no record is half-made, and removed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runtime::cgroup::Cgroup;

use crate::blocking;
use crate::containers::actor::{Actor, Found};
use crate::containers::record::{Paths, Record};
use crate::containers::state::{EXIT_UNKNOWN, Exit};
use crate::context::{CONTAINER, Context};
use crate::error::{Error, Result};
use crate::supervisor::{self, Shim, State};

/// How long a supervisor may take to make a container whose daemon died meanwhile.
const MAKING: Duration = Duration::from_secs(10);
/// How long all supervisors together may take to answer before the daemon serves without the rest.
const ADOPTION: Duration = Duration::from_secs(5);
/// How long to leave a supervisor alone that was asked and did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often to try to remove the directory of a supervisor that is about to end: for a second.
const SWEEPS: u32 = 200;
/// How long to leave a supervisor alone in between: it does not tell when it is done.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The end of a run of which nobody tells.
pub(crate) fn unknown_exit() -> Exit {
    Exit { code: EXIT_UNKNOWN, oom: false, at: Timestamp::now(), unknown: true }
}

/// How a run ended whose supervisor is gone; kills what it left behind.
pub(crate) fn exit_of(paths: &Paths, cgroup: &Path) -> Result<Exit> {
    let found = shim::exit::read_exit(&paths.run)
        .map_err(|e| Error::io("read", &paths.run.join(shim::exit::EXIT), e))?;
    kill(cgroup)?;
    Ok(found.map_or_else(unknown_exit, |exit| Exit {
        code: exit.code,
        oom: exit.oom,
        at: Timestamp::from_nanosecond(i128::from(exit.finished_ns)).unwrap_or_else(|_| Timestamp::now()),
        unknown: false,
    }))
}

fn kill(cgroup: &Path) -> Result<()> {
    group(cgroup)?.map_or(Ok(()), |group| group.kill_all().map_err(Error::runtime))
}

/// The cgroup of a run; none where no run can have been in such a one: the runtime has refused it.
fn group(cgroup: &Path) -> Result<Option<Cgroup>> {
    match Cgroup::open(cgroup) {
        Ok(group) => Ok(Some(group)),
        Err(runtime::Error::Invalid(_)) => Ok(None),
        Err(error) => Err(Error::runtime(error)),
    }
}

/// Removes what a run leaves: processes, cgroup, runtime directory.
pub(crate) fn sweep(paths: &Paths, cgroup: &Path) -> Result<()> {
    let removed = group(cgroup)?.map_or(Ok(()), |group| group.kill_and_remove().map_err(Error::runtime));
    let mut tries = 0;
    loop {
        match std::fs::remove_dir_all(&paths.run) {
            // A supervisor that could not start its container is still writing down why.
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty && tries < SWEEPS => {
                tries += 1;
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &paths.run, e));
            }
            _ => return removed,
        }
    }
}

/// Adopts what runs, removes what is half-made, and gives every record its actor.
pub(crate) async fn run(context: &Arc<Context>) -> Result<()> {
    let shared = Arc::clone(context);
    let records = blocking::run("read the containers' records", move || load(&shared)).await?;
    for record in &records {
        context.index.take_name(&record.name, &record.id)?;
    }
    // Supervisors answer side by side, and one that does not answer holds up itself alone: its container's actor goes on asking,
    // and whatever is asked of that container waits.
    let mut looked = Vec::with_capacity(records.len());
    for record in records {
        let (told, heard) = tokio::sync::oneshot::channel();
        Actor::spawn(context, record, Found::NotYet(told));
        looked.push(heard);
    }
    let all = futures_util::future::join_all(looked);
    if tokio::time::timeout(ADOPTION, all).await.is_err() {
        tracing::warn!("not all supervisors answer: their containers are as their records say until they do");
    }
    let shared = Arc::clone(context);
    blocking::run("make networks again", move || {
        shared.networks.converge();
        let running: HashSet<String> = shared
            .index
            .all()
            .iter()
            .map(|handle| handle.record())
            .filter(|record| record.life.pid().is_some())
            .map(|record| record.id.clone())
            .collect();
        shared.volumes.settle_holds(&|id| running.contains(id))
    })
    .await
}

/// Tells every container that the daemon serves: restart policies, and removals that were cut short. Not waited for.
pub(crate) async fn begin(context: &Arc<Context>) {
    let networks = Arc::clone(&context.networks);
    let settled = blocking::run("see to the networks of what runs", move || {
        networks.settle();
        Ok(())
    });
    // What fails is said there.
    let _ = settled.await;
    let shared = Arc::clone(context);
    context.tasks.spawn(async move { crate::order::tell(&shared).await });
    let volumes = Arc::clone(&context.volumes);
    // Plugins may take their time, and the daemon does not wait for them.
    let settling = blocking::run("settle volumes with their plugins", move || volumes.settle_plugins());
    context.tasks.spawn(async move {
        if let Err(error) = settling.await {
            tracing::warn!(error = %error.chain(), "volumes of plugins are not settled");
        }
    });
    crate::containers::commit::release(context).await;
}

/// All records, the oldest first; what lies about without a record is removed.
fn load(context: &Context) -> Result<Vec<Record>> {
    let rows = context.store.transaction(|tx| tx.records(CONTAINER))?;
    let mut records = Vec::with_capacity(rows.len());
    for row in &rows {
        match serde_json::from_slice::<Record>(&row.json) {
            Ok(record) => records.push(record),
            // It is left alone, for a person or a newer version to look at.
            Err(error) => tracing::error!(id = %row.id, %error, "cannot read a container's record"),
        }
    }
    let ids: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let known = |name: &str| ids.contains(name);
    let data = context.config.data_root.join("containers");
    for name in orphans(&data, &known)? {
        tracing::info!(id = name, "removing a container that was never finished");
        let path = data.join(&name);
        // What cannot be removed now is found again at the next start.
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove it");
        }
    }
    let run = context.config.exec_root.join("c");
    for name in orphans(&run, &known)? {
        tracing::warn!(id = name, "removing what runs without a record");
        let cgroup = cgroup_of(&run.join(&name)).unwrap_or_else(|| context.default_cgroup(&name));
        if let Err(error) = sweep(&context.paths(&name), &cgroup) {
            tracing::error!(id = name, error = %error.chain(), "something is left of a container without a record");
        }
    }
    Ok(records)
}

/// The cgroup of a run whose record is gone, as its runtime was told.
fn cgroup_of(run: &Path) -> Option<PathBuf> {
    let spec: oci::runtime::Spec =
        serde_json::from_slice(&std::fs::read(run.join("config.json")).ok()?).ok()?;
    spec.linux().as_ref()?.cgroups_path().clone()
}

/// The names of directories that look like containers' and are nobody's. Other names are not ours.
fn orphans(dir: &Path, known: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| Error::io("list", dir, e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let id = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if id && !known(name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The supervisor's answer; while it is in the middle of making the container, it is asked again.
async fn connect(run: &Path) -> Result<(Shim, supervisor::Events, supervisor::Status), supervisor::Error> {
    let (shim, events, mut status) = supervisor::connect(run).await?;
    let deadline = tokio::time::Instant::now() + MAKING;
    while status.state == State::Creating && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK_AGAIN).await;
        status = shim.status().await?;
    }
    Ok((shim, events, status))
}

/// What became of a container while no daemon looked. A supervisor that is there and says nothing, or nothing we understand,
/// is asked for as long as it takes: its container runs, and nobody may end it for that.
pub(crate) async fn look(context: &Arc<Context>, record: &Record) -> Found {
    let paths = context.paths(&record.id);
    let cgroup = context.cgroup(record);
    if !paths.run.exists() && record.life.pid().is_none() {
        return Found::Nothing;
    }
    let connected = loop {
        match connect(&paths.run).await {
            Err(error @ (supervisor::Error::Silent | supervisor::Error::Protocol(_))) => {
                tracing::error!(id = %record.id, %error, "a supervisor does not answer as it should");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            other => break other,
        }
    };
    match connected {
        Ok((shim, events, status)) if matches!(status.state, State::Running | State::Stopped) => {
            let group = cgroup.clone();
            let paused = blocking::run("look whether a container is paused", move || {
                let group = Cgroup::open(&group).map_err(Error::runtime)?;
                group.is_paused().map_err(Error::runtime)
            });
            let paused = paused.await.unwrap_or_else(|error| {
                tracing::warn!(id = %record.id, error = %error.chain(), "cannot tell whether it is paused");
                false
            });
            return Found::Alive { shim, events, status: Box::new(status), paused };
        }
        // Made, and never told to start: nobody ever will.
        Ok(_) => {}
        Err(supervisor::Error::Connect { .. }) => {}
        Err(error) => tracing::error!(id = %record.id, %error, "a supervisor does not answer as it should"),
    }
    let ran = record.life.pid().is_some();
    let ended = blocking::run("find out how a container ended", move || {
        let exit = exit_of(&paths, &cgroup)?;
        if !ran && exit.unknown {
            // The daemon died while it was starting it: it never ran.
            sweep(&paths, &cgroup)?;
            return Ok(None);
        }
        Ok(Some(exit))
    });
    match ended.await {
        Ok(Some(exit)) => Found::Ended(exit),
        Ok(None) => Found::Nothing,
        Err(error) => {
            tracing::error!(id = %record.id, error = %error.chain(), "cannot clear up after a supervisor");
            if ran { Found::Ended(unknown_exit()) } else { Found::Nothing }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_a_cgroup_that_cannot_be_is_cleared_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { state: dir.path().join("state"), run: dir.path().join("run") };
        std::fs::create_dir(&paths.run).unwrap();
        sweep(&paths, Path::new("/../../x/0123")).unwrap();
        assert!(!paths.run.exists());
    }
}

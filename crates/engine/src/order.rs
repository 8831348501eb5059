//! In which order containers are started with the daemon: none before those that it was declared to need.
//!
//! A container needs those that it is linked with, those whose namespaces or volumes it uses, and those that a project's file names
//! (Compose writes them into a label). Each waits for what it needs and for nothing else; a circle is cut where it closes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::containers::Record;
use crate::containers::actor::Command;
use crate::containers::index::{Handle, Index};
use crate::context::Context;
use crate::health::Status;

/// Whose project a container is of.
const PROJECT: &str = "com.docker.compose.project";
/// Which of its services it is.
const SERVICE: &str = "com.docker.compose.service";
/// Which services it needs: `name:condition:restart`, with commas.
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The condition that is more than having been started.
const HEALTHY: &str = "service_healthy";
/// How long one waits for all the others to become healthy, until it is started all the same.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);
/// How long one waits for the start of another to be tried: that one may itself wait for others to become healthy.
const START_PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a container needs another for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// That its start was tried.
    Started,
    /// That it is healthy.
    Healthy,
}

/// What each container needs, by ids.
type Needs = BTreeMap<String, BTreeMap<String, Need>>;

/// Tells every container that the daemon serves, each after those that it needs.
pub(crate) async fn tell(context: &Arc<Context>) {
    let handles = context.index.all();
    let records: Vec<Arc<Record>> = handles.iter().map(|handle| handle.record()).collect();
    let mut needs = needs(&context.index, &records);
    cut(&mut needs);
    let told: BTreeMap<String, watch::Sender<bool>> =
        handles.iter().map(|handle| (handle.id.clone(), watch::Sender::new(false))).collect();
    let mut tasks = JoinSet::new();
    for handle in handles {
        let waits: Vec<_> = needs
            .remove(&handle.id)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(id, need)| {
                let other = context.index.find(&id).ok()?;
                Some((told.get(&id)?.subscribe(), other, need))
            })
            .collect();
        let Some(own) = told.get(&handle.id).cloned() else { continue };
        let closing = context.closing.clone();
        tasks.spawn(async move {
            let telling = async {
                let mut unhealthy = Vec::new();
                for (mut told, other, need) in waits {
                    // Who is gone is not waited for; nor, for ever, is one whose supervisor says nothing.
                    if tokio::time::timeout(START_PATIENCE, told.wait_for(|told| *told)).await.is_err() {
                        tracing::warn!(id = %other.id, "what needs it is started, although it has not been heard of");
                    }
                    if need == Need::Healthy {
                        unhealthy.push(other);
                    }
                }
                // All that it needs become healthy at the same time, and share its patience.
                let deadline = Instant::now() + HEALTH_PATIENCE;
                for other in unhealthy {
                    healthy(&other, deadline).await;
                }
                let (done, heard) = oneshot::channel();
                if handle.mailbox.send(Command::DaemonStarted(done)).await.is_ok() {
                    let _ = heard.await;
                }
                own.send_replace(true);
            };
            closing.run_until_cancelled(telling).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Waits until a container is healthy, or will not be.
async fn healthy(other: &Handle, deadline: Instant) {
    while Instant::now() < deadline {
        let record = other.record();
        let (Some(health), Some(_)) = (&record.health, record.life.pid()) else { return };
        if health.status == Status::Healthy {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    tracing::warn!(id = %other.id, "what needs it is started, although it has not become healthy");
}

fn needs(index: &Index, records: &[Arc<Record>]) -> Needs {
    let mut all = Needs::new();
    for record in records {
        let mut own: BTreeMap<String, Need> = BTreeMap::new();
        let host = &record.host;
        let joined = [&host.network_mode, &host.ipc_mode, &host.pid_mode]
            .into_iter()
            .filter_map(|mode| mode.strip_prefix("container:"));
        let linked = host.links.iter().map(|link| link.split(':').next().unwrap_or_default());
        let lent = host.volumes_from.iter().map(|from| from.split(':').next().unwrap_or_default());
        for name in joined.chain(linked).chain(lent) {
            if let Ok(other) = index.find(name) {
                own.insert(other.id.clone(), Need::Started);
            }
        }
        for (service, need) in services(record) {
            let project = record.config.labels.get(PROJECT);
            let of = |other: &&Arc<Record>| {
                other.config.labels.get(PROJECT) == project
                    && other.config.labels.get(SERVICE) == Some(&service)
            };
            for other in records.iter().filter(of) {
                let known = own.entry(other.id.clone()).or_insert(need);
                *known = (*known).max(need);
            }
        }
        own.remove(&record.id);
        all.insert(record.id.clone(), own);
    }
    all
}

/// The services that a container's project says that it needs.
fn services(record: &Record) -> Vec<(String, Need)> {
    let labels = &record.config.labels;
    let Some(text) = labels.get(DEPENDS_ON).filter(|_| labels.contains_key(PROJECT)) else {
        return Vec::new();
    };
    let service = |one: &str| {
        let mut parts = one.split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let need = if parts.next() == Some(HEALTHY) { Need::Healthy } else { Need::Started };
        Some((name.to_owned(), need))
    };
    text.split(',').filter_map(service).collect()
}

/// Cuts circles: of containers that need each other, one does not wait.
fn cut(needs: &mut Needs) {
    let mut done = BTreeSet::new();
    for id in needs.keys().cloned().collect::<Vec<_>>() {
        let mut path: Vec<(String, Vec<String>)> = Vec::new();
        let next = |needs: &Needs, id: &str| -> Vec<String> {
            needs.get(id).map(|own| own.keys().cloned().collect()).unwrap_or_default()
        };
        if done.contains(&id) {
            continue;
        }
        path.push((id.clone(), next(needs, &id)));
        while let Some((here, todo)) = path.last_mut() {
            let here = here.clone();
            let Some(other) = todo.pop() else {
                done.insert(here);
                path.pop();
                continue;
            };
            if path.iter().any(|(on_path, _)| *on_path == other) {
                tracing::warn!(id = here, needs = other, "containers need each other: one does not wait");
                if let Some(own) = needs.get_mut(&here) {
                    own.remove(&other);
                }
            } else if !done.contains(&other) {
                let todo = next(needs, &other);
                path.push((other, todo));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;
    use tokio::sync::mpsc;

    fn container(index: &Index, id: &str, change: impl FnOnce(&mut Record)) -> Arc<Record> {
        let mut record = record();
        (record.id, record.name) = (format!("{id}{id}{id}"), id.to_owned());
        change(&mut record);
        let record = Arc::new(record);
        index.take_name(id, &record.id).unwrap();
        index.insert(Arc::new(Handle::new(Arc::clone(&record), mpsc::channel(1).0)));
        record
    }

    fn shown(needs: &Needs, id: &str) -> Vec<(String, Need)> {
        needs[&format!("{id}{id}{id}")]
            .iter()
            .map(|(id, need)| (id[..id.len() / 3].to_owned(), *need))
            .collect()
    }

    #[test]
    fn what_is_declared_is_needed() {
        let index = Index::default();
        let service = |name: &'static str, depends: &'static str| {
            move |record: &mut Record| {
                for (key, value) in [(PROJECT, "p"), (SERVICE, name), (DEPENDS_ON, depends)] {
                    record.config.labels.insert(key.into(), value.into());
                }
            }
        };
        let records = [
            container(&index, "a", service("db", "")),
            container(&index, "b", service("db", "")),
            container(
                &index,
                "c",
                service("web", "db:service_healthy:false,cache:service_started:true,gone:x"),
            ),
            container(&index, "d", service("cache", "")),
            container(&index, "e", |record| {
                record.config.labels.extend([
                    (PROJECT.to_owned(), "other".to_owned()),
                    (DEPENDS_ON.to_owned(), "db".to_owned()),
                ]);
            }),
            container(&index, "f", |record| {
                record.host.links = vec!["a:alias".into(), "nobody".into()];
                record.host.network_mode = "container:ddd".into();
                record.host.volumes_from = vec!["f:ro".into(), "e:ro".into()];
            }),
        ];
        let needs = needs(&index, &records);
        let pair = |id: &str, need| (id.to_owned(), need);
        assert_eq!(
            shown(&needs, "c"),
            [pair("a", Need::Healthy), pair("b", Need::Healthy), pair("d", Need::Started)]
        );
        assert!(shown(&needs, "a").is_empty() && shown(&needs, "e").is_empty());
        assert_eq!(
            shown(&needs, "f"),
            [pair("a", Need::Started), pair("d", Need::Started), pair("e", Need::Started)]
        );
    }

    #[test]
    fn circles_are_cut_and_chains_are_not() {
        let edge = |from: &str, to: &[&str]| {
            (from.to_owned(), to.iter().map(|to| ((*to).to_owned(), Need::Started)).collect())
        };
        let mut needs: Needs =
            [edge("a", &["b"]), edge("b", &["c"]), edge("c", &["a"]), edge("d", &["a", "c"])].into();
        cut(&mut needs);
        let edges: usize = needs.values().map(BTreeMap::len).sum();
        assert_eq!(edges, 4);
        assert_eq!(needs["d"].len(), 2);
        let mut again = needs.clone();
        cut(&mut again);
        assert_eq!(again, needs);
    }
}

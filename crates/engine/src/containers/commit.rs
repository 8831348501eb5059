//! `POST /commit`: an image of what a container has made of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::container::{Config, HealthConfig};
use jiff::Timestamp;
use oci::image::config::Empty;
use oci::image::{ContainerConfig, Healthcheck, History, ImageConfig};
use oci::{Digest, Reference};
use storage::Resource;
use tokio::sync::oneshot;

use super::Containers;
use super::create::merge;
use super::export::{collect, whole};
use crate::containers::actor::Command;
use crate::containers::record::Record;
use crate::containers::state::Phase;
use crate::context::Context;
use crate::images::assemble;
use crate::{Error, Result, blocking, instructions};

/// The file in a container's runtime directory that says that it stands still for a commit alone.
const MARK: &str = "committing";

/// What to make of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The container.
    pub container: String,
    /// The image's repository; empty for none.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// A remark.
    pub comment: String,
    /// Who makes it.
    pub author: String,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
    /// Instructions that change the configuration.
    pub changes: Vec<String>,
    /// The configuration over that of the container.
    pub config: Option<Config>,
}

impl Containers {
    /// Makes an image of a container; its id.
    pub async fn commit(&self, options: CommitOptions) -> Result<Digest> {
        let handle = self.find(&options.container)?;
        let _alone = handle.committing.lock().await;
        let record = handle.record();
        whole(&record, "commit")?;
        let name = assemble::name(&options.repo, &options.tag)?;
        let config = config(&record, &options)?;
        // Before it stands still, which is not to last longer for those before it.
        let place = blocking::place().await?;
        let held = options.pause && matches!(record.life.phase, Phase::Running { .. });
        let mark = self.context.paths(&record.id).run.join(MARK);
        let held = held && self.hold(&record, &mark).await?;
        let (context, of) = (Arc::clone(&self.context), Arc::clone(&record));
        let named = name.clone();
        let made = blocking::run_at(place, "commit a container", move || {
            let made = make(&context, &of, &options, config, named.as_ref());
            collect(&context.store);
            made
        })
        .await;
        if held {
            if let Err(error) = self.unpause(&record.id).await {
                tracing::warn!(container = record.name, error = error.chain(), "it stays paused");
            }
            unmark(&mark).await?;
        }
        let (id, comment) = made?;
        let mut more =
            BTreeMap::from([("comment".to_owned(), comment), ("imageID".to_owned(), id.to_string())]);
        if let Some(name) = &name {
            more.insert("imageRef".to_owned(), name.to_string());
        }
        self.context.tell(&record, "commit", more);
        Ok(id)
    }
}

impl Containers {
    /// Makes a container stand still, and notes why: a daemon that dies now would leave it so.
    async fn hold(&self, record: &Record, mark: &Path) -> Result<bool> {
        let path = mark.to_owned();
        blocking::run("note a commit", move || {
            std::fs::write(&path, "").map_err(|e| Error::io("write", &path, e))
        })
        .await?;
        // One that has just ended stands still as well.
        let held = self.pause(&record.id).await.is_ok();
        if !held {
            unmark(mark).await?;
        }
        Ok(held)
    }
}

async fn unmark(mark: &Path) -> Result<()> {
    let mark = mark.to_owned();
    blocking::run("note a commit's end", move || match std::fs::remove_file(&mark) {
        // The container has ended, and its directory has gone.
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &mark, e)),
        _ => Ok(()),
    })
    .await
}

/// Lets go on what an earlier daemon has made to stand still for a commit that died with it.
pub(crate) async fn release(context: &Context) {
    for handle in context.index.all() {
        let mark = context.paths(&handle.id).run.join(MARK);
        if !mark.exists() {
            continue;
        }
        let (reply, answer) = oneshot::channel();
        let sent = handle.mailbox.send(Command::Unpause(reply)).await;
        if sent.is_ok()
            && let Ok(Err(error)) = answer.await
        {
            tracing::debug!(id = handle.id, error = error.chain(), "it did not stand still");
        }
        if let Err(error) = unmark(&mark).await {
            tracing::warn!(error = error.chain(), "left behind");
        }
    }
}

/// The image's configuration: that of the request, changed by its instructions, over the container's.
fn config(record: &Record, options: &CommitOptions) -> Result<ContainerConfig> {
    let base = of_container(&record.config);
    let mut asked = options.config.as_ref().map_or_else(|| base.clone(), of_container);
    instructions::apply(&mut asked, &options.changes)?;
    // The same rules by which a container's configuration goes over its image's.
    Ok(of_container(&merge::over_image(to_container(asked), &base)))
}

/// What of a container's configuration an image has.
pub(crate) fn of_container(config: &Config) -> ContainerConfig {
    let list = |words: &Vec<String>| Some(words.clone()).filter(|words| !words.is_empty());
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.keys().map(|port| (port.clone(), Empty)).collect(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: config.volumes.keys().map(|path| (path.clone(), Empty)).collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build.clone(),
        shell: list(&config.shell),
        args_escaped: config.args_escaped,
    }
}

fn to_container(config: ContainerConfig) -> Config {
    Config {
        user: config.user,
        exposed_ports: config.exposed_ports.into_keys().map(|port| (port, Default::default())).collect(),
        env: config.env,
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: config.volumes.into_keys().map(|path| (path, Default::default())).collect(),
        working_dir: config.working_dir,
        labels: config.labels,
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.map(|check| HealthConfig {
            test: check.test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        on_build: config.on_build,
        shell: config.shell.unwrap_or_default(),
        args_escaped: config.args_escaped,
        ..Config::default()
    }
}

/// Everything that touches the disk.
fn make(
    context: &Context,
    record: &Record,
    options: &CommitOptions,
    config: ContainerConfig,
    name: Option<&Reference>,
) -> Result<(Digest, String)> {
    let store = &context.store;
    let gone = || Error::not_found(format!("No such image: {}", record.image.id));
    let id = Digest::parse(&record.image.id).map_err(|_| gone())?;
    let lease = store.passing_lease("commit a container")?;
    // What the new image has of the old one stays, whoever removes that meanwhile.
    let base = store.transaction(|tx| {
        let image = tx.image(&id)?;
        let mut manifests = image.into_iter().flat_map(|image| image.image.manifests);
        let base = manifests.find(|here| here.digest.as_str() == record.image.manifest);
        for layer in base.iter().flat_map(|base| &base.layers) {
            tx.hold(&lease, &Resource::Blob(layer.digest.clone()))?;
            tx.hold(&lease, &Resource::Layer(layer.diff_id.clone()))?;
        }
        Ok(base)
    })?;
    let base = base.ok_or_else(gone)?;
    let mut out: ImageConfig = context.images.config(&base.config)?.as_ref().clone();
    let layer = store.pack_layer(&lease, store.snapshot_tree(&lease, &record.id)?)?;
    let mut layers = base.layers.clone();
    let empty_layer = assemble::is_empty(&layer);
    if !empty_layer {
        out.rootfs.diff_ids.push(layer.diff_id.clone());
        layers.push(layer);
    }
    let now = Timestamp::now().to_string();
    out.created = Some(now.clone());
    out.author = Some(options.author.clone()).filter(|author| !author.is_empty());
    out.history.push(History {
        created: Some(now),
        created_by: record.config.cmd.clone().unwrap_or_default().join(" "),
        author: options.author.clone(),
        comment: options.comment.clone(),
        empty_layer,
    });
    out.config = config;
    let mut image = assemble::assemble(store, &lease, &out, layers)?;
    image.parent = Some(id);
    assemble::record(store, &image, name)?;
    drop(lease);
    let subject = crate::events::Subject::Image;
    context.events.emit(subject, "create", image.id.as_str(), assemble::told(name, &image.id));
    if name.is_some() {
        context.events.emit(subject, "tag", image.id.as_str(), assemble::told(name, &image.id));
    }
    context.flush_later();
    Ok((image.id, options.comment.clone()))
}

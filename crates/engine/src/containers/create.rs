//! Making a container: nothing of it is left when a step fails.

pub mod merge;
pub mod mounts;
pub mod refuse;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::container::{Config, CreateRequest, CreateResponse, HostConfig, NetworkingConfig};
use jiff::Timestamp;
use storage::{NewRecord, Resource};

use crate::containers::actor::{Actor, Found};
use crate::containers::files;
use crate::containers::index::Index;
use crate::containers::record::{ImageRef, MountKind, MountRecord, Record};
use crate::containers::state::Life;
use crate::containers::{lender, linked};
use crate::context::{CONTAINER, Context, encode};
use crate::error::{Error, Result};
use crate::images::Resolved;
use crate::networks::{Places, ports};
use crate::selinux::Labels;
use crate::volumes::{Unrecorded, Volumes};
use crate::{blocking, names, plan};

use mounts::Wanted;

/// The size of `/dev/shm` where nobody says: Docker's.
const SHM_BYTES: i64 = 64 << 20;
/// Made-up names are tried this often without a number at their end.
const PLAIN_NAMES: u32 = 8;
/// And this often in all: then something else is wrong.
const NAMES_MAX: u32 = 1000;
const MAC_MOVED: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
const NO_HEALTH: &str = "the image's health check is not run: health checks are not available yet";

/// Makes a container.
pub(crate) async fn run(
    context: Arc<Context>,
    name: Option<String>,
    platform: Option<String>,
    body: CreateRequest,
) -> Result<CreateResponse> {
    refuse::check(&body, context.host.cpus)?;
    let name = name.map(|name| names::check(&name).map(str::to_owned)).transpose()?;
    let id = names::new_id()?;
    let image = context.images.resolve(&body.config.image, platform.as_deref()).await?;
    let name = match name {
        Some(name) => Name::take(&context.index, name, &id)?,
        None => Name::make_up(&context.index, &id)?,
    };
    let shared = Arc::clone(&context);
    let (record, warnings, name) = blocking::run("create a container", move || {
        let (record, warnings) = make(&shared, id, &name, &image, body)?;
        Ok((record, warnings, name))
    })
    .await?;
    let created = record.clone();
    Actor::spawn(&context, record, Found::Nothing);
    name.keep();
    context.tell(&created, "create", BTreeMap::new());
    Ok(CreateResponse { id: created.id, warnings })
}

/// A name that is taken, and given back unless the container comes to be, or to bear it.
#[derive(Debug)]
pub(super) struct Name {
    index: Arc<Index>,
    name: String,
    id: String,
    kept: bool,
}

impl Name {
    /// Takes this name.
    pub(super) fn take(index: &Arc<Index>, name: String, id: &str) -> Result<Self> {
        index.take_name(&name, id)?;
        Ok(Self { index: Arc::clone(index), name, id: id.to_owned(), kept: false })
    }

    /// Takes one that nobody has.
    fn make_up(index: &Arc<Index>, id: &str) -> Result<Self> {
        for attempt in 0..NAMES_MAX {
            let name = names::made_up(attempt.saturating_sub(PLAIN_NAMES))?;
            if let Ok(name) = Self::take(index, name, id) {
                return Ok(name);
            }
        }
        Err(Error::system("cannot find a name that is free"))
    }

    /// The name itself.
    pub(super) fn text(&self) -> &str {
        &self.name
    }

    /// It is the container's now.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.kept {
            self.index.free_name(&self.name, &self.id);
        }
    }
}

/// Everything that touches the disk.
fn make(
    context: &Context,
    id: String,
    name: &Name,
    image: &Resolved,
    body: CreateRequest,
) -> Result<(Record, Vec<String>)> {
    let image_name = body.config.image.clone();
    let mut networking = body.networking_config.clone();
    let (mut config, mut host, mut warnings) = complete(context, &id, body, image);
    warnings.extend(move_mac(&mut config, &host, &mut networking)?);
    refuse::strings(&config)?;
    plan::check(&host, &context.host)?;
    let wishes = ports::wishes(&host, &config)?;
    let attachments = context.networks.attachments(&host, networking.as_ref())?;
    if !wishes.is_empty() && !context.networks.has_bridge(&attachments) {
        let mode = &host.network_mode;
        warnings.push(format!("Published ports are discarded when using {mode} network mode"));
    }
    warnings.extend(context.networks.foreign_warnings(&attachments, &wishes));
    if let Some(mode) = lender::resolve(&context.index, &host.network_mode)? {
        host.network_mode = mode;
    }
    host.links = linked::resolve(&context.index, &host.network_mode, &host.links)?;
    let args = merge::arguments(&config)?;
    let wanted = mounts::all(&config, &host)?;
    sources_exist(&wanted)?;

    // After a loss of power some may have to be unpacked again.
    context.store.restore_layers(&image.manifest.layers)?;
    let prepared = context.store.prepare_snapshot(&id, &image.manifest.diff_ids())?;
    let mut record = Record {
        created: Timestamp::now(),
        image: image_ref(image_name, image),
        labels: labels(context, &host, &id)?,
        mounts: Vec::new(),
        attachments,
        places: Places::default(),
        life: Life::default(),
        name: name.name.clone(),
        id,
        config,
        host,
        args,
    };
    let mut undo = Undo { context, record: &record.id.clone(), made: Made::default(), kept: false };
    for wanted in wanted {
        let mount = volume_for(&context.volumes, wanted, &mut undo.made)?;
        record.mounts.push(mount);
    }
    files::make_state_dir(&context.paths(&record.id))?;
    let json = encode(&record)?;
    context.store.transaction(|tx| {
        let new = NewRecord { kind: CONTAINER, id: &record.id, name: Some(&record.name), json: &json };
        for volume in &undo.made.anonymous {
            crate::volumes::record(tx, volume)?;
        }
        // A volume that was found before may have been removed since.
        crate::volumes::check_mounts(tx, &record.mounts)?;
        tx.insert_record(&new)?;
        tx.set_record_resources(CONTAINER, &record.id, &[Resource::Snapshot(record.id.clone())])?;
        tx.add_snapshot(prepared)
    })?;
    undo.kept = true;
    for volume in &undo.made.anonymous {
        context.volumes.made(&volume.name);
    }
    drop(undo);
    Ok((record, warnings))
}

/// The hardware address of the container as a whole is that of its first network; the warning that it is better said there.
fn move_mac(
    config: &mut Config,
    host: &HostConfig,
    networking: &mut Option<NetworkingConfig>,
) -> Result<Option<String>> {
    let mac = std::mem::take(&mut config.mac_address);
    if mac.is_empty() {
        return Ok(None);
    }
    let mode = host.network_mode.as_str();
    if crate::networks::plain_id(mode).is_some() {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    let endpoints = &mut networking.get_or_insert_default().endpoints_config;
    let key =
        [mode, "default"].into_iter().find(|key| endpoints.contains_key(*key)).unwrap_or(mode).to_owned();
    let own = &mut endpoints.entry(key).or_default().mac_address;
    if !own.is_empty() && *own != mac {
        return Err(Error::invalid(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    *own = mac;
    Ok(Some(MAC_MOVED.to_owned()))
}

/// What SELinux calls it, where that is on. What shares the host's processes or memory cannot be kept apart from them.
fn labels(context: &Context, host: &HostConfig, id: &str) -> Result<Labels> {
    let Some(policy) = &context.host.selinux else { return Ok(Labels::default()) };
    let mut options = plan::SecurityOptions::parse(&host.security_opt)?.labels;
    if host.privileged || host.pid_mode == "host" || host.ipc_mode == "host" {
        options.push("disable".to_owned());
    }
    let taken =
        |level: &str| context.index.all().iter().any(|handle| handle.record().labels.level() == level);
    policy.labels(&options, id, taken)
}

/// The volumes that were made for a container.
#[derive(Default)]
struct Made {
    named: Vec<String>,
    /// Recorded together with the container.
    anonymous: Vec<Unrecorded>,
}

/// What a creation that failed has made so far: removed again. The snapshot looks after itself.
struct Undo<'a> {
    context: &'a Context,
    record: &'a str,
    made: Made,
    kept: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let volumes = &self.context.volumes;
        let named = self.made.named.iter().map(|name| (name, volumes.remove_blocking(name)));
        let anonymous = self.made.anonymous.iter().map(|volume| (&volume.name, volumes.give_up(volume)));
        for (volume, removed) in named.chain(anonymous) {
            if let Err(error) = removed {
                tracing::warn!(volume, error = %error.chain(), "cannot remove a volume");
            }
        }
        let _ = std::fs::remove_dir_all(self.context.paths(self.record).state);
    }
}

fn image_ref(name: String, image: &Resolved) -> ImageRef {
    ImageRef {
        name,
        id: image.id.to_string(),
        manifest: image.manifest.digest.to_string(),
        manifest_size: image.manifest.size,
        manifest_type: image.manifest.media_type.clone(),
        platform: image.manifest.platform.clone(),
    }
}

/// The request with everything filled in that it leaves to the image and to us.
fn complete(
    context: &Context,
    id: &str,
    body: CreateRequest,
    image: &Resolved,
) -> (Config, HostConfig, Vec<String>) {
    let mut warnings = Vec::new();
    let own_health = body.config.healthcheck.is_some();
    let mut config = merge::over_image(body.config, &image.config.config);
    if !own_health && config.healthcheck.as_ref().is_some_and(|check| !refuse::health_is_off(check)) {
        warnings.push(NO_HEALTH.to_owned());
    }
    let mut host = body.host_config.unwrap_or_default();
    if matches!(host.network_mode.as_str(), "" | "default") {
        let mode = if config.network_disabled { "none" } else { context.networks.default_mode() };
        mode.clone_into(&mut host.network_mode);
    }
    for (field, default) in [
        (&mut host.ipc_mode, "private"),
        (&mut host.cgroupns_mode, "private"),
        (&mut host.log_config.driver, "json-file"),
        (&mut host.runtime, "corten"),
        (&mut host.restart_policy.name, "no"),
    ] {
        if field.is_empty() {
            default.clone_into(field);
        }
    }
    if host.shm_size == 0 {
        host.shm_size = context.config.default_shm_size_bytes.unwrap_or(SHM_BYTES);
    }
    let limits = &mut host.resources;
    if limits.memory > 0 && limits.memory_swap == 0 && context.host.swap_limit {
        limits.memory_swap = limits.memory.saturating_mul(2);
    }
    limits.memory_swappiness = limits.memory_swappiness.filter(|swappiness| *swappiness != -1);
    limits.pids_limit = limits.pids_limit.filter(|limit| *limit > 0);
    if config.hostname.is_empty() {
        let shares = host.network_mode == "host" || host.uts_mode == "host";
        let own = id.get(..12).unwrap_or(id);
        if shares { &context.host.name } else { own }.clone_into(&mut config.hostname);
    }
    (config, host, warnings)
}

/// `--mount` wants its source to be there; `-v` makes it at the start.
fn sources_exist(wanted: &[Wanted]) -> Result<()> {
    for wanted in wanted.iter().filter(|wanted| wanted.must_exist) {
        let source = &wanted.record.point.source;
        if !Path::new(source).try_exists().unwrap_or(false) {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {source}"
            )));
        }
    }
    Ok(())
}

/// The mount as it is remembered; a volume that is not there is made, and noted.
fn volume_for(volumes: &Volumes, wanted: Wanted, made: &mut Made) -> Result<MountRecord> {
    let mut mount = wanted.record;
    let (MountKind::Volume { .. }, Some(new)) = (&mount.kind, wanted.volume) else { return Ok(mount) };
    if mount.point.name.is_empty() {
        let volume = volumes.make_anonymous(new.labels, new.options)?;
        mount.point.name.clone_from(&volume.name);
        mount.point.source.clone_from(&volume.mountpoint);
        made.anonymous.push(volume);
        return Ok(mount);
    }
    let volume = volumes.ensure_blocking(&mount.point.name, new.labels, new.options)?;
    mount.point.name = volume.name;
    mount.point.source = volume.mountpoint;
    if volume.new {
        made.named.push(mount.point.name.clone());
    }
    Ok(mount)
}

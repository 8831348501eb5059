//! Making a container: nothing of it is left when a step fails.

mod inherited;
pub mod merge;
pub mod mounts;
pub mod refuse;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use api::container::{Config, CreateRequest, CreateResponse, HostConfig, NetworkingConfig};
use jiff::Timestamp;
use storage::{NewRecord, PreparedSnapshot, Resource};

use crate::containers::actor::{Actor, Found};
use crate::containers::files;
use crate::containers::index::Index;
use crate::containers::record::{ImageRef, MountKind, MountRecord, Record};
use crate::containers::state::Life;
use crate::containers::{joins, lender, linked, runtimes};
use crate::context::{CONTAINER, Context, encode};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::images::Resolved;
use crate::networks::{Places, ports};
use crate::selinux::Labels;
use crate::volumes::{Unrecorded, Volumes};
use crate::{blocking, names, plan};

use mounts::Wanted;

/// The size of `/dev/shm` where nobody says: Docker's.
pub(crate) const SHM_BYTES: i64 = 64 << 20;
/// Made-up names are tried this often without a number at their end.
const PLAIN_NAMES: u32 = 8;
/// And this often in all: then something else is wrong.
const NAMES_MAX: u32 = 1000;
const MAC_MOVED: &str = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";

/// Makes a container.
pub(crate) async fn run(
    context: Arc<Context>,
    name: Option<String>,
    platform: Option<String>,
    body: CreateRequest,
) -> Result<CreateResponse> {
    refuse::check(&body, context.host.cpus)?;
    runtimes::check(&context.config, body.host_config.as_ref().map_or("", |host| &host.runtime))?;
    let name = name.map(|name| names::check(&name).map(str::to_owned)).transpose()?;
    let id = names::new_id()?;
    let image = context.images.resolve(&body.config.image, platform.as_deref()).await?;
    let mut mounted = BTreeMap::new();
    for mount in body.host_config.iter().flat_map(|host| &host.mounts).filter(|mount| mount.kind == "image") {
        // Not "not found": a client would pull the container's own image, and try again.
        let found =
            context.images.resolve(&mount.source, None).await.map_err(|error| {
                Error::invalid(format!("invalid mount config for type \"image\": {error}"))
            })?;
        mounted.insert(mount.source.clone(), found);
    }
    let name = match name {
        Some(name) => Name::take(&context.index, name, &id)?,
        None => Name::make_up(&context.index, &id)?,
    };
    let shared = Arc::clone(&context);
    let (record, warnings, name) = blocking::run("create a container", move || {
        let (record, warnings) = make(&shared, id, &name, &Images { own: &image, mounted: &mounted }, body)?;
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

/// The images that a container is made from.
struct Images<'a> {
    /// What its root filesystem is.
    own: &'a Resolved,
    /// What is mounted in it, by the names in the request.
    mounted: &'a BTreeMap<String, Resolved>,
}

/// Everything that touches the disk.
fn make(
    context: &Context,
    id: String,
    name: &Name,
    images: &Images<'_>,
    body: CreateRequest,
) -> Result<(Record, Vec<String>)> {
    let image = images.own;
    let image_name = body.config.image.clone();
    let mut networking = body.networking_config.clone();
    let swap_given = body.host_config.as_ref().is_some_and(|host| host.resources.memory_swap != 0);
    let (mut config, mut host) = complete(context, &id, body, image);
    // With what the daemon adds to them.
    crate::logging::check(&host.log_config)?;
    let mut warnings = Vec::new();
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
    joins::resolve(&context.index, &mut host)?;
    host.links = linked::resolve(&context.index, &host.network_mode, &host.links)?;
    let args = merge::arguments(&config)?;
    let wanted = inherited::all(&config, &host, &context.index)?;
    sources_exist(&wanted)?;
    context.secrets.exist(&host.secrets)?;

    // After a loss of power some may have to be unpacked again.
    context.store.restore_layers(&image.manifest.layers)?;
    let prepared = context.store.prepare_snapshot(&id, &image.manifest.diff_ids())?;
    if let Some(bytes) = refuse::storage(&host)? {
        limit(&prepared, bytes)?;
    }
    let mut record = Record {
        created: Timestamp::now(),
        image: image_ref(image_name, image),
        labels: labels(context, &host, &id)?,
        mounts: Vec::new(),
        next: None,
        attachments,
        places: Places::default(),
        life: Life::default(),
        health: None,
        name: name.name.clone(),
        id,
        config,
        host,
        swap_given,
        args,
    };
    let mut undo = Undo { context, record: &record.id.clone(), made: Made::default(), kept: false };
    let mut snapshots = vec![prepared];
    for wanted in wanted {
        let mut mount = volume_for(&context.volumes, wanted, &mut undo.made)?;
        if let MountKind::Image { snapshot, .. } = &mut mount.kind {
            let image =
                images.mounted.get(&mount.point.name).ok_or_else(|| Error::system("an image is missing"))?;
            context.store.restore_layers(&image.manifest.layers)?;
            *snapshot = format!("{}-image-{}", record.id, snapshots.len());
            snapshots.push(context.store.prepare_snapshot(snapshot, &image.manifest.diff_ids())?);
            mount.point.source = image.id.to_string();
        }
        record.mounts.push(mount);
    }
    crate::secrets::check_place(&record.host.secrets, &record.mounts)?;
    let kept: Vec<Resource> = snapshots.iter().map(|made| Resource::Snapshot(made.id().to_owned())).collect();
    files::make_state_dir(&context.paths(&record.id))?;
    let json = encode(&record)?;
    context.store.transaction(|tx| {
        let new = NewRecord { kind: CONTAINER, id: &record.id, name: Some(&record.name), json: &json };
        for volume in &undo.made.anonymous {
            crate::volumes::record(tx, volume)?;
        }
        // A volume that was found before may have been removed since.
        crate::volumes::check_mounts(tx, &record.mounts)?;
        crate::secrets::check_uses(tx, &record.host.secrets)?;
        tx.insert_record(&new)?;
        tx.set_record_resources(CONTAINER, &record.id, &kept)?;
        snapshots.into_iter().try_for_each(|made| tx.add_snapshot(made))
    })?;
    undo.kept = true;
    if let Err(error) = files::mark(&context.store.mounts(&record.id)?) {
        tracing::warn!(id = %record.id, %error, "the container has no /.dockerenv");
    }
    for volume in &undo.made.anonymous {
        context.volumes.made(volume);
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

/// Bounds what a container writes; in Docker's words where the filesystem cannot.
fn limit(prepared: &PreparedSnapshot, bytes: u64) -> Result<()> {
    prepared.limit(bytes).map_err(|error| match error {
        storage::Error::NoQuota => {
            Error::invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
        }
        other => other.into(),
    })
}

/// What SELinux calls it, where that is on. What shares the host's processes or memory cannot be kept apart from them.
fn labels(context: &Context, host: &HostConfig, id: &str) -> Result<Labels> {
    let Some(policy) = &context.host.selinux else { return Ok(Labels::default()) };
    let mut options = plan::SecurityOptions::parse(&host.security_opt)?.labels;
    if host.privileged || host.pid_mode == "host" || host.ipc_mode == "host" {
        options.push("disable".to_owned());
    } else if options.is_empty()
        && let Some(other) = joins::other(&context.index, host)
    {
        return Ok(other.labels.clone());
    }
    let taken =
        |level: &str| context.index.all().iter().any(|handle| handle.record().labels.level() == level);
    policy.labels(&options, id, taken)
}

/// The volumes that were made for a container.
#[derive(Default)]
pub(super) struct Made {
    /// Recorded already.
    pub named: Vec<String>,
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
        let named = self.made.named.iter().map(|name| (name, volumes.remove_blocking(name, false)));
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
fn complete(context: &Context, id: &str, body: CreateRequest, image: &Resolved) -> (Config, HostConfig) {
    let mut config = merge::over_image(body.config, &image.config.config);
    let mut host = body.host_config.unwrap_or_default();
    host.log_config = crate::logging::over_defaults(host.log_config, &context.config.log);
    if matches!(host.network_mode.as_str(), "" | "default") {
        let mode = if config.network_disabled { "none" } else { context.networks.default_mode() };
        mode.clone_into(&mut host.network_mode);
    }
    for (field, default) in [
        (&mut host.ipc_mode, "private"),
        (&mut host.cgroupns_mode, "private"),
        (&mut host.runtime, runtimes::default(&context.config)),
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
    if context.host.cgroup_version != 2 {
        limits.oom_kill_disable.get_or_insert(false);
    }
    // The docker command line cannot say "nothing": 0 is what it sends then. No limit is -1.
    limits.pids_limit = match limits.pids_limit {
        None | Some(0) => context.config.pids_limit.filter(|_| counts_processes(&context.host)),
        Some(limit) => Some(limit).filter(|limit| *limit > 0),
    };
    if config.hostname.is_empty() {
        let shares = host.network_mode == "host" || host.uts_mode == "host";
        let own = id.get(..12).unwrap_or(id);
        if shares { &context.host.name } else { own }.clone_into(&mut config.hostname);
    }
    (config, host)
}

/// Whether there is a limit of processes where nobody asks for one: an ordinary user's engine may have been given no right
/// to set it.
pub(crate) fn counts_processes(machine: &Host) -> bool {
    machine.can("pids") && !machine.rootless
}

/// `--mount` wants its source to be there; `-v` makes it at the start.
pub(super) fn sources_exist(wanted: &[Wanted]) -> Result<()> {
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

/// What is missing is not the image, which a client would pull and try again.
fn not_the_image(error: Error) -> Error {
    if error.kind() == crate::Kind::NotFound { Error::invalid(error.to_string()) } else { error }
}

/// The mount as it is remembered; a volume that is not there is made, and noted.
pub(super) fn volume_for(volumes: &Volumes, wanted: Wanted, made: &mut Made) -> Result<MountRecord> {
    let mut mount = wanted.record;
    let (MountKind::Volume { .. }, Some(new)) = (&mount.kind, wanted.volume) else { return Ok(mount) };
    if mount.point.name.is_empty() {
        let volume = volumes.make_anonymous(new).map_err(not_the_image)?;
        mount.point.name.clone_from(&volume.name);
        mount.point.source.clone_from(&volume.mountpoint);
        mount.point.driver.clone_from(&volume.driver);
        made.anonymous.push(volume);
        return Ok(mount);
    }
    let volume = volumes.ensure_blocking(&mount.point.name, new).map_err(not_the_image)?;
    if volume.new {
        made.named.push(volume.name.clone());
    }
    if volume.frozen && mount.point.rw {
        return Err(Error::invalid(format!(
            "volume {} is a snapshot: mount it read-only, or make a volume of it with \"volume clone\"",
            volume.name
        )));
    }
    mount.point.name = volume.name;
    mount.point.source = volume.mountpoint;
    mount.point.driver = volume.driver;
    Ok(mount)
}

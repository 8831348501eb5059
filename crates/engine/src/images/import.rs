//! `POST /images/create?fromSrc=…`: an image of one layer, from an archive of a root filesystem.

use std::io::{self, Read};
use std::sync::Arc;

use api::stream::{Progress, ProgressDetail};
use jiff::Timestamp;
use oci::image::{History, ImageConfig};
use oci::{Platform, Reference};

use super::load::refused;
use super::{Images, Shared, assemble, show};
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::instructions;
use crate::pipe::{self, Inlet};
use crate::progress::{Lines, Telling};

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What to import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Where it comes from, for the history: `-` or a URL.
    pub source: String,
    /// The image's repository; empty for none.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// A remark.
    pub message: String,
    /// Instructions that change the configuration.
    pub changes: Vec<String>,
    /// What it runs on; this machine's where nothing is said.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of an archive.
    pub fn import(&self, options: ImportOptions, archive: Inlet) -> Result<Telling> {
        let name = assemble::name(&options.repo, &options.tag)?;
        let mut config = ImageConfig::default();
        instructions::apply(&mut config.config, &options.changes)?;
        let shared = Arc::clone(&self.shared);
        Ok(Telling::start(&self.tasks, "import an image", move |lines| {
            let outcome = shared.import(&options, config, name.as_ref(), archive, &lines);
            if outcome.is_err() {
                shared.store.gc()?;
            }
            outcome
        }))
    }
}

impl Images {
    /// The same of what a URL leads to. A source without a scheme is a file of the web's, as in Docker.
    pub async fn import_from(&self, mut options: ImportOptions) -> Result<Telling> {
        if !options.source.contains("://") {
            options.source = format!("http://{}", options.source);
        }
        let source = std::mem::take(&mut options.source);
        // The history goes where the image goes: what is a secret of the URL stays here.
        let told = registry::client::shown_url(&source);
        options.source.clone_from(&told);
        // What is wrong with the rest is told before anything is fetched.
        assemble::name(&options.repo, &options.tag)?;
        let mut fetch = self.puller.client().fetch(&source).await?;
        let total = fetch.length().unwrap_or(0);
        let (feeder, inlet) = pipe::inlet();
        let telling = self.import(options, inlet)?;
        let news = telling.counter();
        self.tasks.spawn(async move {
            news.tell(Progress { status: format!("Downloading from {told}"), ..Default::default() });
            let mut current = 0;
            loop {
                match fetch.chunk().await {
                    Ok(Some(bytes)) => {
                        current += bytes.len() as u64;
                        news.tell(counted("Importing", current, total));
                        if !feeder.send(bytes).await {
                            return;
                        }
                    }
                    Ok(None) => return feeder.end().await,
                    Err(error) => {
                        return feeder.fail(io::Error::other(Error::from(error).chain())).await;
                    }
                }
            }
        });
        Ok(telling)
    }
}

fn counted(status: &str, current: u64, total: u64) -> Progress {
    Progress {
        status: status.to_owned(),
        progress_detail: Some(ProgressDetail {
            current: show::signed(current),
            total: show::signed(total),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Why an archive cannot be read: by what is in it, or by how it comes.
fn unread(error: io::Error) -> Error {
    match error.downcast::<storage::Error>() {
        Ok(own) => refused(own),
        Err(error) => Error::system("cannot read the archive").with_source(error),
    }
}

impl Shared {
    fn import(
        &self,
        options: &ImportOptions,
        mut config: ImageConfig,
        name: Option<&Reference>,
        archive: Inlet,
        lines: &Lines,
    ) -> Result<()> {
        let store = &self.store;
        let lease = store.passing_lease("import an image")?;
        let mut spool = store.spool_layer(&lease)?;
        let mut archive = storage::archive::layer_source(archive, store.limits()).map_err(refused)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => spool.write(&buffer[..length]).map_err(refused)?,
                Err(error) => return Err(unread(error)),
            }
        }
        let layer = spool.commit().map_err(refused)?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let now = Timestamp::now().to_string();
        let comment = match options.message.as_str() {
            "" => format!("Imported from {}", options.source),
            message => message.to_owned(),
        };
        config.created = Some(now.clone());
        config.architecture = platform.architecture;
        config.os = platform.os;
        config.variant = platform.variant;
        config.rootfs.diff_ids = vec![layer.diff_id.clone()];
        config.history = vec![History { created: Some(now), comment, ..History::default() }];
        let image = assemble::assemble(store, &lease, &config, vec![layer])?;
        assemble::record(store, &image, name)?;
        drop(lease);
        lines.line(Progress { status: image.id.to_string(), ..Default::default() });
        let shown = name.map_or_else(|| image.id.to_string(), Reference::familiar);
        self.events.emit(Subject::Image, "import", &shown, assemble::told(name, &image.id));
        Ok(store.flush()?)
    }
}

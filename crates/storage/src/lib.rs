//! Content-addressed blobs, layers, snapshots, image records and metadata in one garbage-collected store on a directory.
//!
//! ```text
//! <data root>/
//!   lock                                   held by the one process that has the store open
//!   meta.db                                what there is, and what refers to what
//!   content/blobs/<function>/<digits>      blobs, byte for byte as they came
//!   content/ingest/<function>-<digits>/    blobs on their way; a later try goes on where an earlier one stopped
//!   content/uploads/<id>                   blobs on their way into the registry, whose names come last
//!   layers/<number>/                       unpacked layers, each by itself, called by diff id
//!   snapshots/<id>/{fs,work}               what containers write
//!   trash/                                 what is being removed
//! ```
//!
//! A pull, from beginning to end:
//!
//! ```no_run
//! # use storage::*; use std::time::Duration;
//! # fn pull(manifest: &[u8], config: &[u8], layer: Expected, body: &mut dyn Iterator<Item = Vec<u8>>, image: NewImage) -> Result<()> {
//! let store = Store::open("/var/lib/corten".as_ref())?;
//! let lease = store.lease("pull debian:12", Duration::from_secs(24 * 3600))?; // keeps what follows
//! store.put_blob(&lease, "application/vnd.oci.image.manifest.v1+json", manifest)?;
//! store.put_blob(&lease, "application/vnd.oci.image.config.v1+json", config)?;
//! let mut writer = store.write_layer(&lease, layer)?;                // one a layer, side by side
//! // ask the registry for the bytes from writer.offset() on
//! for bytes in body {
//!     writer.write(&bytes)?;
//! }
//! writer.commit(None)?;                                              // verified, and unpacked already
//! store.durable_transaction(|tx| {
//!     tx.put_image(&image)?;
//!     tx.tag_image("docker.io/library/debian:12", &image.id)
//! })?;
//! drop(lease);
//! store.flush()
//! # }
//! ```
//!
//! All calls block; an asynchronous program makes them on threads for that.

pub mod apply;
pub mod archive;
mod check;
mod content;
mod decompress;
mod discard;
mod error;
mod fix;
mod forget;
mod gc;
mod hash;
mod images;
mod layers;
mod leases;
pub mod pack;
pub mod quota;
mod reaper;
mod records;
mod repack;
mod repositories;
mod reserve;
mod restore;
mod schema;
mod snapshots;
mod store;
mod transaction;
pub mod transfer;
mod unpack;
mod uploads;

pub use apply::Limits;
pub use check::{CheckOptions, Checked, Fault, PROBLEMS_MAX, Problem, Progress};
pub use content::{BlobInfo, Class, Expected, Ingest};
pub use error::{Error, Result};
pub use gc::{Collected, Totals};
pub use images::{Image, ImageLayer, NewImage, PlatformManifest};
pub use layers::{IMAGE_LAYERS_MAX, Layer, LayerWriter};
pub use leases::Lease;
pub use records::{NewRecord, Record};
pub use repack::{Packing, Repacked};
pub use repositories::{Content, KeptManifest, NewManifest, Pruned, Pruning, Referrer};
pub use snapshots::{Mounts, PreparedSnapshot};
pub use store::Store;
pub use transaction::{Durability, Resource, Tx};
pub use uploads::{REPOSITORY_UPLOADS_MAX, UPLOADS_MAX, Upload};

//! An image as an archive for the client, or as blobs in a store of its own.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use build::output::{ArchiveOutput, Export, PIECES_MAX, Piece};
use build::request::SourceError;
use oci::{Digest, Reference};
use tokio::sync::mpsc;

use super::super::result::Built;
use super::super::tell::Voice;
use super::attest;
use super::documents::{self, Assembled, Wanted};
use super::{Response, noted, part_of, told};
use crate::blocking;
use crate::error::{Error, Result};
use crate::images::{Format, SaveOptions};
use crate::pipe::Flow;

/// What clients call the store that an image goes to which is no archive.
const STORE: &str = "export";
/// Bytes of a blob read at once.
const PIECE_BYTES: usize = 512 << 10;

/// Sends an image to the client.
pub(super) async fn send(
    built: &Arc<Built>,
    number: usize,
    output: &ArchiveOutput,
    export: &Export,
    voice: &Voice,
) -> Result<Response> {
    let names = output.names.clone();
    // Docker's archives have none; what nobody has asked for is left out of them.
    let statements = attest::is_wanted(built, !output.docker);
    if output.docker && statements {
        return Err(Error::invalid("docker exporter does not support attestations: use type=oci"));
    }
    let (own, export) = (Arc::clone(built), export.clone());
    let wanted = Wanted { form: output.form.clone(), names: names.clone(), statements };
    let work =
        blocking::run_long("put an image together", move || documents::assemble(&own, &wanted, &export));
    let assembled = part_of(voice, "exporting layers", work).await?;
    if output.docker && assembled.image.manifests.len() > 1 {
        return Err(Error::invalid(
            "docker exporter does not currently support exporting manifest lists: use type=oci",
        ));
    }
    noted(voice, &format!("exporting manifest {}", assembled.top.digest)).await;
    if output.directory {
        let blobs = blobs(&assembled);
        part_of(voice, "copying blobs", async {
            for (digest, size) in blobs {
                write(built, STORE, &digest, size).await?;
            }
            Ok(())
        })
        .await?;
    } else {
        let sent = archive(built, number, output, &assembled, &names);
        part_of(voice, "sending tarball", sent).await?;
    }
    let shown: Vec<String> = names.iter().map(ToString::to_string).collect();
    told(&assembled, &shown)
}

async fn archive(
    built: &Arc<Built>,
    number: usize,
    output: &ArchiveOutput,
    assembled: &Assembled,
    names: &[Reference],
) -> Result<()> {
    let format = if output.docker { Format::Both } else { Format::Oci };
    let options = SaveOptions { format, ..SaveOptions::default() };
    let remarks = assembled.remarks.clone();
    let images = &built.context.images;
    let flow = images.archive(&assembled.image, names, remarks, &options, Arc::clone(&built.lease)).await?;
    let mut about = BTreeMap::new();
    if let Some(name) = names.first() {
        about.insert("image.name".to_owned(), name.to_string());
    }
    stream(built, number, about, flow).await
}

/// Hands a stream to the client.
pub(super) async fn stream(
    built: &Built,
    number: usize,
    about: BTreeMap<String, String>,
    mut flow: Flow,
) -> Result<()> {
    let (sender, pieces) = mpsc::channel::<Piece>(PIECES_MAX);
    let mut failed = None;
    let feeding = async {
        while let Some(piece) = flow.next().await {
            let piece = match piece {
                Ok(bytes) => Ok(Vec::from(bytes)),
                Err(error) => {
                    let told = SourceError(error.chain());
                    failed = Some(error);
                    Err(told)
                }
            };
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let (taken, ()) = tokio::join!(built.client()?.archive(number, about, pieces), feeding);
    match failed {
        Some(error) => Err(error),
        None => taken.map_err(|error| Error::invalid(format!("cannot send the result: {error}"))),
    }
}

/// All blobs of an image, what leads to others behind those.
fn blobs(assembled: &Assembled) -> Vec<(Digest, u64)> {
    let mut blobs: Vec<(Digest, u64)> = Vec::new();
    let mut add = |digest: &Digest, size: u64| {
        if blobs.iter().all(|(known, _)| known != digest) {
            blobs.push((digest.clone(), size));
        }
    };
    for manifest in &assembled.image.manifests {
        manifest.layers.iter().for_each(|layer| add(&layer.digest, layer.size));
        add(&manifest.config, manifest.config_size);
        add(&manifest.digest, manifest.size);
    }
    for (digest, size) in &assembled.others {
        add(digest, *size);
    }
    add(&assembled.image.id, assembled.image.size);
    blobs
}

/// Writes a blob of ours into a store of the client's, unless it is there.
pub(in crate::builds) async fn write(built: &Built, store: &str, digest: &Digest, size: u64) -> Result<()> {
    let failed = |error: SourceError| Error::invalid(format!("cannot write {digest} to the client: {error}"));
    let client = built.client()?;
    if client.blob_size(store, digest).await.map_err(failed)? == Some(size) {
        return Ok(());
    }
    let (sender, pieces) = mpsc::channel::<Piece>(PIECES_MAX);
    let mut file = built.context.store.open_blob(digest)?;
    let unreadable = format!("cannot read {digest}");
    let reading = blocking::run_paced("read a blob", move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let length = match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::system(unreadable).with_source(error)),
            };
            // Who takes them no more has said why.
            if sender.blocking_send(Ok(buffer[..length].to_vec())).is_err() {
                return Ok(());
            }
        }
    });
    let (written, read) = tokio::join!(client.write_blob(store, digest, size, pieces), reading);
    read?;
    written.map_err(failed)
}

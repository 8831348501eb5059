//! Unpacks layers from files into a new store, a given number at a time, and prints how long it took: the part of a pull that is
//! the store's.
//!
//! `unpack <new data root> <at a time> <layer file>…`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oci::Digest;
use storage::{Error, Expected, Store};

/// What a network read gives.
const READ_BYTES: usize = 64 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(root), Some(parallel)) = (args.next(), args.next()) else {
        return Err("usage: unpack <new data root> <at a time> <layer file>…".into());
    };
    let files: Vec<PathBuf> = args.map(PathBuf::from).collect();
    let expected = files.iter().map(|file| expect(file)).collect::<Result<Vec<_>, _>>()?;
    let store = Store::open(Path::new(&root))?;
    let lease = store.lease("unpack", Duration::from_secs(3600))?;
    let work = Mutex::new(files.iter().zip(expected));
    let start = Instant::now();
    let outcome: Result<(), Error> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel.parse().unwrap_or(3))
            .map(|_| {
                scope.spawn(|| {
                    while let Some((file, expected)) = { work.lock().ok().and_then(|mut work| work.next()) } {
                        unpack(&store, &lease, file, expected)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Interrupted)))
    });
    outcome?;
    let seconds = start.elapsed().as_secs_f64();
    let totals = store.totals()?;
    println!(
        "{seconds:.2} s: {} layers, {} MB compressed, {} MB on disk",
        totals.layers,
        totals.blob_bytes >> 20,
        totals.layer_bytes >> 20
    );
    Ok(())
}

fn expect(file: &Path) -> Result<Expected, Box<dyn std::error::Error>> {
    let output = std::process::Command::new("sha256sum").arg(file).output()?;
    let hex = String::from_utf8(output.stdout)?;
    let digest = Digest::from_sha256_hex(hex.split(' ').next().unwrap_or_default())?;
    Ok(Expected { digest, size: file.metadata()?.len(), media_type: String::new() })
}

fn unpack(store: &Store, lease: &storage::Lease, file: &Path, expected: Expected) -> Result<(), Error> {
    let mut writer = store.write_layer(lease, expected)?;
    let error = |source| Error::Io { verb: "read", path: file.to_owned(), source };
    let mut input = File::open(file).map_err(error)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match input.read(&mut buffer).map_err(error)? {
            0 => break,
            length => writer.write(&buffer[..length])?,
        }
    }
    writer.commit(None)?;
    Ok(())
}

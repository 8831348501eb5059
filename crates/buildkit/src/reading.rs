//! Files of a result, as the gateway reads them: no link in them leads out of it.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;

use bollard_buildkit_proto::fsutil::types::Stat;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::FileRange;
use build::ignore::Ignore;
use sys::fsx::{self, FileType};
use sys::path::{Root, read_link_at};
use tokio::sync::oneshot;

use crate::builder::SharedBuilt;
use crate::error::{Error, Result};
use crate::filesend::mode;

/// Bytes of a file in one answer: what a message holds.
const CONTENT_BYTES_MAX: u64 = 15 << 20;
/// Entries of a directory in one answer.
const ENTRIES_MAX: usize = 50_000;

/// Lets something look at a result, and gives what it has seen.
async fn seen<T: Send + 'static>(
    built: &SharedBuilt,
    path: &str,
    look: impl FnOnce(&Root, &str) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, answer) = oneshot::channel();
    let path = match path.trim_matches('/') {
        "" => ".".to_owned(),
        path => path.to_owned(),
    };
    let work = Box::new(move |root: &Root| {
        // Who has gone wants no answer.
        let _ = sender.send(look(root, &path));
    });
    built.look(work).await.map_err(|failure| Error::Build(failure.message))?;
    answer.await.map_err(|_| Error::Gone("a look at a result".to_owned()))?
}

fn failed(verb: &'static str, path: &str) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Error::Unknown(format!("{verb} {path}: no such file or directory")),
        _ => Error::Build(format!("{verb} {path}: {error}")),
    }
}

/// The content of a file, or a part of it.
pub(crate) async fn content(built: &SharedBuilt, path: &str, range: Option<FileRange>) -> Result<Vec<u8>> {
    let number = |value: i64| {
        u64::try_from(value)
            .map_err(|_| Error::Invalid("a range of a file has no negative numbers".to_owned()))
    };
    let (offset, length) = match &range {
        None => (0, None),
        Some(range) => (number(range.offset)?, Some(number(range.length)?)),
    };
    let most = length.unwrap_or(CONTENT_BYTES_MAX).min(CONTENT_BYTES_MAX);
    seen(built, path, move |root, path| {
        let mut file = root.open_regular(path).map_err(failed("open", path))?;
        let bytes = file.metadata().map_err(failed("open", path))?.len();
        if length.is_none() && bytes > most
            || length.is_some_and(|length| length > most && bytes - offset.min(bytes) > most)
        {
            return Err(Error::Invalid(format!(
                "{path} is larger than an answer may be: ask for {CONTENT_BYTES_MAX} bytes of it at a time"
            )));
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed("read", path))?;
        let mut content = Vec::new();
        file.take(most).read_to_end(&mut content).map_err(failed("read", path))?;
        Ok(content)
    })
    .await
}

/// What is in a directory; of a pattern, what matches it.
pub(crate) async fn entries(built: &SharedBuilt, path: &str, pattern: &str) -> Result<Vec<Stat>> {
    let pattern = Some(pattern).filter(|pattern| !pattern.is_empty());
    let wanted = pattern.map(|pattern| Ignore::from_patterns([pattern])).transpose();
    let wanted = wanted.map_err(|error| Error::Invalid(format!("invalid pattern: {error}")))?;
    seen(built, path, move |root, path| {
        let dir = root.open_dir(path).map_err(failed("open", path))?;
        let mut names: Vec<_> =
            fsx::list(&dir).map_err(failed("read", path))?.into_iter().map(|one| one.name).collect();
        names.sort();
        let is_wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.hides(name).is_some());
        let mut entries = Vec::new();
        for name in names {
            let shown = name.to_string_lossy().into_owned();
            if !is_wanted(&shown) {
                continue;
            }
            if entries.len() >= ENTRIES_MAX {
                return Err(Error::Invalid(format!(
                    "{path} has more than {ENTRIES_MAX} entries: ask by a pattern"
                )));
            }
            let stat = fsx::stat_at(&dir, &name).map_err(failed("stat", path))?;
            let mut entry = told(shown, &stat);
            if fsx::kind(&stat) == FileType::Symlink {
                let link = read_link_at(dir.as_fd(), &name).map_err(failed("read", path))?;
                entry.linkname = String::from_utf8_lossy(link.as_os_str().as_bytes()).into_owned();
            }
            entries.push(entry);
        }
        Ok(entries)
    })
    .await
}

/// What something is; of a link, what it leads to.
pub(crate) async fn about(built: &SharedBuilt, path: &str) -> Result<Stat> {
    seen(built, path, |root, path| {
        let stat = root.stat(path).map_err(failed("stat", path))?;
        let name = path.rsplit('/').next().unwrap_or(path);
        Ok(told(name.to_owned(), &stat))
    })
    .await
}

fn told(path: String, stat: &fsx::Stat) -> Stat {
    let is_file = fsx::kind(stat) == FileType::RegularFile;
    Stat {
        path,
        mode: mode(stat).unwrap_or_default(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if is_file { stat.st_size } else { 0 },
        mod_time: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        ..Stat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Built, Failure, Look, Told};
    use build::output::Export;
    use build::progress::Teller;
    use build::request::Task;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::Arc;

    /// A result that is a directory.
    struct Files(PathBuf);

    impl Built for Files {
        fn export<'a>(&'a self, _: &'a Export, _: Teller) -> Task<'a, std::result::Result<Told, Failure>> {
            Box::pin(async { Ok(Told::new()) })
        }

        fn look(&self, look: Look) -> Task<'_, std::result::Result<(), Failure>> {
            Box::pin(async move {
                look(&Root::open(&self.0).unwrap());
                Ok(())
            })
        }
    }

    #[tokio::test]
    async fn links_lead_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(root.join("etc/release"), "inside").unwrap();
        symlink("etc/release", root.join("link")).unwrap();
        symlink("/../../etc/release", root.join("up")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        let outside = dir.path().join("secret");
        symlink(&outside, root.join("far")).unwrap();
        let built: SharedBuilt = Arc::new(Files(root));
        for path in ["link", "/up", "/etc/../../../etc/release"] {
            assert_eq!(content(&built, path, None).await.unwrap(), b"inside", "{path}");
        }
        for path in ["out", "far", "../secret", &outside.display().to_string()] {
            assert!(matches!(content(&built, path, None).await, Err(Error::Unknown(_))), "{path}");
            assert!(about(&built, path).await.is_err(), "{path}");
        }
        let all = entries(&built, "", "").await.unwrap();
        let links: Vec<_> = all.iter().map(|one| (one.path.as_str(), one.linkname.as_str())).collect();
        assert_eq!(links[2], ("link", "etc/release"));
        assert_eq!(links[3], ("out", "../secret"));
        assert_eq!(about(&built, "link").await.unwrap().size, 6);
    }

    #[tokio::test]
    async fn what_is_too_large_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("large")).unwrap();
        file.set_len(CONTENT_BYTES_MAX + 10).unwrap();
        let built: SharedBuilt = Arc::new(Files(dir.path().to_owned()));
        let range = |offset: u64, length: u64| {
            Some(FileRange { offset: i64::try_from(offset).unwrap(), length: i64::try_from(length).unwrap() })
        };
        assert!(content(&built, "large", None).await.is_err());
        assert!(content(&built, "large", range(0, CONTENT_BYTES_MAX + 1)).await.is_err());
        let last = content(&built, "large", range(CONTENT_BYTES_MAX, CONTENT_BYTES_MAX)).await.unwrap();
        assert_eq!(last.len(), 10);
        let most = content(&built, "large", range(0, CONTENT_BYTES_MAX)).await.unwrap();
        assert_eq!(most.len() as u64, CONTENT_BYTES_MAX);
    }
}

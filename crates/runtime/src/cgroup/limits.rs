//! Writing limits so that one that is refused leaves the others as they were.

use std::io;
use std::path::{Path, PathBuf};

use oci::runtime::LinuxRdma;

use super::{is_gone, open_and_write, read};
use crate::error::Error;

/// Sets limits one after the other, and remembers what they were.
#[derive(Debug)]
pub(super) struct Writer {
    /// What to write to take them back, in the order in which they were set. A group that has just been made needs none.
    undo: Option<Vec<(PathBuf, String)>>,
}

impl Writer {
    /// For a group that has just been made, or for one that lives.
    pub(super) fn new(fresh: bool) -> Self {
        Self { undo: (!fresh).then(Vec::new) }
    }

    /// Whether the group has just been made.
    pub(super) fn is_fresh(&self) -> bool {
        self.undo.is_none()
    }

    /// Sets what `field` of the configuration asks for.
    pub(super) fn write(&mut self, field: &str, path: &Path, value: &str) -> Result<(), Error> {
        self.remember(path, &[]);
        attempt(field, path, value).map_err(explain)
    }

    /// As [`Writer::write`], where the kernel may lack the file; returns whether it has it.
    pub(super) fn write_if_there(&mut self, field: &str, path: &Path, value: &str) -> Result<bool, Error> {
        self.remember(path, &[]);
        match attempt(field, path, value) {
            Err(Error::Limit { source, .. }) if is_gone(&source) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Sets the entry `key` (a device, say) of a file that has one for each; `none` stands for no entry.
    pub(super) fn write_entry(
        &mut self,
        field: &str,
        path: &Path,
        key: &str,
        value: &str,
        none: &str,
    ) -> Result<(), Error> {
        self.remember(path, &[format!("{key} {none}")]);
        attempt(field, path, &format!("{key} {value}")).map_err(explain)
    }

    /// Sets what is taken back by other means, or not at all.
    pub(super) fn write_only(&mut self, field: &str, path: &Path, value: &str) -> Result<(), Error> {
        attempt(field, path, value)
    }

    /// Has `value` written to `path` when things are taken back, before what was asked for earlier.
    pub(super) fn take_back_with(&mut self, path: &Path, value: &str) {
        self.undo.iter_mut().for_each(|undo| undo.push((path.to_owned(), value.to_owned())));
    }

    /// Notes the lines of a file, after `before` when they are written back.
    fn remember(&mut self, path: &Path, before: &[String]) {
        let Some(undo) = &mut self.undo else { return };
        // One that cannot be read is not restored either.
        let Ok(content) = read(path) else { return };
        // Taken back from the last to the first.
        let lines: Vec<&str> = content.lines().filter(|line| !line.trim().is_empty()).collect();
        undo.extend(lines.iter().rev().map(|line| (path.to_owned(), (*line).to_owned())));
        undo.extend(before.iter().map(|line| (path.to_owned(), line.clone())));
    }

    /// Takes back what was set, as far as the kernel lets it.
    pub(super) fn take_back(&mut self) {
        for (path, value) in self.undo.iter_mut().flat_map(|undo| undo.drain(..).rev()) {
            // The error to report is the one that led here.
            let _ = open_and_write(&path, &value);
        }
    }
}

/// Says what it means that a group lacks a file.
fn explain(error: Error) -> Error {
    match error {
        Error::Limit { field, path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Error::Invalid(format!(
                "{field}: {} is not there: the kernel has no such limit, or the groups above do not pass its controller on",
                path.display()
            ))
        }
        other => other,
    }
}

/// Refuses limits on memory, and on memory and swap together, that are below what is in use.
pub(super) fn check_usage(limit: Option<i64>, sum: Option<i64>, usage: u64) -> Result<(), Error> {
    for (field, value) in [("limit", limit), ("swap", sum)] {
        if let Some(value) = value.and_then(|value| u64::try_from(value).ok())
            && value <= usage
        {
            return Err(Error::Invalid(format!(
                "linux.resources.memory.{field}: {value} is not above what is in use, {usage}"
            )));
        }
    }
    Ok(())
}

/// A page size is part of a file name.
pub(super) fn page_size(text: &str) -> Result<&str, Error> {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(text);
    }
    Err(Error::Invalid(format!("linux.resources.hugepageLimits: page size {text:?}")))
}

/// The limits of one RDMA device, as both versions take them behind its name.
pub(super) fn rdma_line(device: &str, limits: LinuxRdma) -> Result<String, Error> {
    if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Invalid(format!("linux.resources.rdma: device {device:?}")));
    }
    let handles = limits.hca_handles().map(|n| format!("hca_handle={n}"));
    let objects = limits.hca_objects().map(|n| format!("hca_object={n}"));
    if handles.is_none() && objects.is_none() {
        return Err(Error::Invalid(format!("linux.resources.rdma: {device:?} has no limit")));
    }
    Ok([handles, objects].into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// Whether the kernel found the value wrong, as it does with one that does not fit another.
pub(super) fn is_invalid(error: &io::Error) -> bool {
    const EINVAL: i32 = 22;
    error.raw_os_error() == Some(EINVAL)
}

fn attempt(field: &str, path: &Path, value: &str) -> Result<(), Error> {
    open_and_write(path, value).map_err(|source| Error::Limit {
        field: format!("linux.resources.{field}"),
        value: value.to_owned(),
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_set_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&a, "1\n").unwrap();
        fs::write(&b, "").unwrap();
        let mut writer = Writer::new(false);
        writer.write("a", &a, "2").unwrap();
        writer.write_entry("b", &b, "8:0", "5", "0").unwrap();
        assert!(!writer.write_if_there("c", &directory.path().join("c"), "3").unwrap());
        assert_eq!(
            (fs::read_to_string(&a).unwrap(), fs::read_to_string(&b).unwrap()),
            ("2\n".into(), "8:0 5".into())
        );
        let error = writer.write("c.d", &directory.path().join("c"), "3").unwrap_err().chain();
        assert!(error.starts_with("linux.resources.c.d: /") && error.contains("is not there"), "{error}");
        let error = writer.write("c.d", directory.path(), "3").unwrap_err().chain();
        assert!(error.starts_with("linux.resources.c.d: cannot write \"3\" to /"), "{error}");
        writer.take_back();
        assert_eq!(
            (fs::read_to_string(&a).unwrap(), fs::read_to_string(&b).unwrap()),
            ("1\n".into(), "8:0 0".into())
        );
    }

    #[test]
    fn a_new_group_remembers_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "1").unwrap();
        let mut writer = Writer::new(true);
        writer.write("a", &file, "2").unwrap();
        writer.take_back();
        assert_eq!(fs::read_to_string(&file).unwrap(), "2");
    }
}

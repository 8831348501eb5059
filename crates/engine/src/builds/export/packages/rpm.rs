//! Packages of RPM: a database of SQLite's with one header for each.
//!
//! The database is out of an image, and may be made to harm who reads it: it is read in memory, by one plain query, with its size, its
//! rows and the steps of the query bounded, and nothing that its schema defines beside a table is run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{PACKAGES_MAX, Package};
use crate::error::{Error, Result};

/// The database's name in its directory, and what it has written and not taken in yet.
pub(super) const DATABASE: &str = "rpmdb.sqlite";
pub(super) const JOURNAL: &str = "rpmdb.sqlite-wal";
/// Databases of older kinds: Berkeley's, and RPM's own.
pub(super) const OLDER: [&str; 2] = ["Packages", "Packages.db"];

/// Where a database says how it is written to, and what it says if that is without a journal beside it.
const JOURNALING: std::ops::Range<usize> = 18..20;
const PLAIN: u8 = 1;
/// How often the query is looked at, in steps of SQLite's machine, and how often at most: a package takes a few dozen of them.
const STEPS: i32 = 1000;
const LOOKS_MAX: u64 = 100_000;
/// Bytes of a header: one lists all files of its package.
const HEADER_BYTES_MAX: usize = 16 << 20;

/// What the fields of a header are called.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;
/// What kinds of fields there are: a number of 32 bits, and a text.
const NUMBER: u32 = 4;
const TEXT: u32 = 6;
/// Bytes of what stands before a header's fields, and of what tells of one.
const HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 16;
/// What keys are called that lie among the packages.
const KEY: &str = "gpg-pubkey";

/// The packages of a database.
///
/// # Errors
/// It is none, or not one of RPM's.
pub(super) fn packages(mut database: Vec<u8>) -> Result<Vec<Package>> {
    // A database in memory has no journal beside it.
    if let Some(journaling) = database.get_mut(JOURNALING) {
        journaling.fill(PLAIN);
    }
    let broken = |error: rusqlite::Error| {
        Error::invalid("the image's database of RPM cannot be read").with_source(error)
    };
    let headers = headers(&database).map_err(broken)?;
    if headers.len() > PACKAGES_MAX {
        return Err(Error::invalid(format!("an SBOM has {PACKAGES_MAX} packages at most")));
    }
    let one = |header: &Vec<u8>| {
        package(header).ok_or_else(|| Error::invalid("the image's database of RPM has a header that is none"))
    };
    let all = headers.iter().map(one).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().filter(|package| package.name != KEY).collect())
}

fn headers(database: &[u8]) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut connection = Connection::open_in_memory()?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.deserialize_read_exact("main", database, database.len(), true)?;
    let looks = Arc::new(AtomicU64::new(0));
    connection.progress_handler(STEPS, Some(move || looks.fetch_add(1, Ordering::Relaxed) >= LOOKS_MAX))?;
    let table =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'Packages' AND rootpage > 0";
    if connection.query_row(table, [], |row| row.get::<_, i64>(0))? != 1 {
        return Err(rusqlite::Error::QueryReturnedNoRows);
    }
    let most = i64::try_from(PACKAGES_MAX).unwrap_or(i64::MAX).saturating_add(1);
    let bytes_max = i64::try_from(HEADER_BYTES_MAX).unwrap_or(i64::MAX);
    let mut query = connection.prepare("SELECT blob FROM Packages WHERE length(blob) <= ?1 LIMIT ?2")?;
    let rows = query.query_map([bytes_max, most], |row| row.get(0))?;
    rows.collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// What a header says of its package: how many fields it has and how many bytes they take, what each is and where, and the bytes.
fn package(header: &[u8]) -> Option<Package> {
    let fields = usize::try_from(number(header, 0)?).ok()?;
    let start = fields.checked_mul(ENTRY_BYTES)?.checked_add(HEAD_BYTES)?;
    let (entries, data) = (header.get(HEAD_BYTES..start)?, header.get(start..)?);
    let mut package = Package::default();
    let mut release = String::new();
    for entry in entries.chunks_exact(ENTRY_BYTES) {
        let (tag, kind) = (number(entry, 0)?, number(entry, 4)?);
        let place = || usize::try_from(number(entry, 8)?).ok();
        let text = || {
            let bytes = data.get(place()?..)?;
            let end = bytes.iter().position(|byte| *byte == 0)?;
            Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
        };
        match (tag, kind) {
            (NAME, TEXT) => package.name = text()?,
            (VERSION, TEXT) => package.version = text()?,
            (RELEASE, TEXT) => release = text()?,
            (ARCHITECTURE, TEXT) => package.architecture = text()?,
            (LICENSE, TEXT) => package.license = text()?,
            (EPOCH, NUMBER) => package.epoch = Some(number(data, place()?)?),
            _ => {}
        }
    }
    if !release.is_empty() {
        package.version = format!("{}-{release}", package.version);
    }
    Some(package).filter(|package| !package.name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header as RPM writes it.
    fn header(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
        let (mut entries, mut data) = (Vec::new(), Vec::new());
        let mut add = |tag: u32, kind: u32, bytes: &[u8]| {
            let at = u32::try_from(data.len()).unwrap();
            entries.extend([tag, kind, at, 1].iter().flat_map(|number| number.to_be_bytes()));
            data.extend(bytes);
        };
        if let Some(epoch) = epoch {
            add(EPOCH, NUMBER, &epoch.to_be_bytes());
        }
        for (tag, text) in texts {
            add(*tag, TEXT, format!("{text}\0").as_bytes());
        }
        let count = u32::try_from(entries.len() / ENTRY_BYTES).unwrap();
        let size = u32::try_from(data.len()).unwrap();
        [count.to_be_bytes().to_vec(), size.to_be_bytes().to_vec(), entries, data].concat()
    }

    fn bash() -> Vec<u8> {
        let texts = [
            (NAME, "bash"),
            (VERSION, "5.2"),
            (RELEASE, "3.el9"),
            (ARCHITECTURE, "x86_64"),
            (LICENSE, "GPL"),
        ];
        header(&texts, Some(1))
    }

    /// A database as RPM has it: with a journal beside it.
    fn database(schema: &str, headers: &[Vec<u8>]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        let connection = Connection::open(&path).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        connection.execute_batch(schema).unwrap();
        for header in headers {
            connection.execute("INSERT INTO Packages (blob) VALUES (?)", [header]).unwrap();
        }
        drop(connection);
        std::fs::read(path).unwrap()
    }

    const TABLE: &str = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)";

    #[test]
    fn packages_are_read() {
        let key = header(&[(NAME, KEY), (VERSION, "1")], None);
        let found = packages(database(TABLE, &[bash(), key])).unwrap();
        let [package] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((package.name.as_str(), package.version.as_str()), ("bash", "5.2-3.el9"));
        assert_eq!(
            (package.epoch, package.architecture.as_str(), package.license.as_str()),
            (Some(1), "x86_64", "GPL")
        );
    }

    #[test]
    fn what_is_no_database_is_told() {
        for bytes in [Vec::new(), vec![0; 4096], b"SQLite format 3\0 and nothing".to_vec()] {
            assert!(packages(bytes).is_err());
        }
        assert!(packages(database("CREATE TABLE Other (blob BLOB)", &[])).is_err());
        let wrong = database(TABLE, &[b"no header".to_vec()]);
        assert!(packages(wrong).unwrap_err().chain().contains("a header that is none"));
        // What never ends is not waited for.
        let endless = "CREATE VIEW Packages AS WITH RECURSIVE n(blob) AS (SELECT x'00' UNION ALL SELECT blob FROM n) SELECT blob FROM n";
        assert!(packages(database(endless, &[])).is_err());
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(at in 0_usize..100, byte: u8, cut in 0_usize..100, tail in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut header = bash();
            let place = at % header.len();
            header[place] = byte;
            package(&header);
            header.truncate(cut);
            header.extend(&tail);
            package(&header);
            package(&tail);
        }
    }
}

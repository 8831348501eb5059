//! The engine's own durable documents: containers, volumes, and what else it names.

use rusqlite::{OptionalExtension, Row, params};

use crate::error::{Error, Result};
use crate::store::now_ns;
use crate::transaction::{Resource, Tx};

const OWNER: &str = "record";

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What kind of thing: `container`, `volume`, …
    pub kind: &'static str,
    /// Its identifier, unique within its kind.
    pub id: String,
    /// Its name, if it has one, unique within its kind.
    pub name: Option<String>,
    /// The document itself.
    pub json: Vec<u8>,
    /// When it was first put, in nanoseconds since 1970.
    pub created_ns: i64,
}

/// A document to be put.
#[derive(Debug, Clone)]
pub struct NewRecord<'a> {
    /// What kind of thing.
    pub kind: &'static str,
    /// Its identifier.
    pub id: &'a str,
    /// Its name.
    pub name: Option<&'a str>,
    /// The document.
    pub json: &'a [u8],
}

impl Tx<'_> {
    /// Puts a document, replacing the one with the same identifier. What it kept alive it goes on keeping; see [`Tx::set_record_resources`].
    ///
    /// A name that another one has is [`Error::Exists`].
    pub fn put_record(&self, record: &NewRecord<'_>) -> Result<()> {
        self.check_record_name(record.kind, record.id, record.name)?;
        let now = now_ns();
        self.sql
            .prepare_cached(
                "INSERT INTO records (kind, id, name, json, created_ns, updated_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                 ON CONFLICT (kind, id) DO UPDATE SET name = ?3, json = ?4, updated_ns = ?5",
            )?
            .execute(params![record.kind, record.id, record.name, record.json, now])?;
        Ok(())
    }

    /// As [`Tx::put_record`], but one with the same identifier is [`Error::Exists`].
    pub fn insert_record(&self, record: &NewRecord<'_>) -> Result<()> {
        if self.record(record.kind, record.id)?.is_some() {
            return Err(Error::Exists { what: record.kind, id: record.id.to_owned(), holder: None });
        }
        self.put_record(record)
    }

    fn check_record_name(&self, kind: &'static str, id: &str, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        let holder: Option<String> = self
            .sql
            .prepare_cached("SELECT id FROM records WHERE kind = ? AND name = ? AND id <> ?")?
            .query_row(params![kind, name, id], |row| row.get(0))
            .optional()?;
        match holder {
            Some(_) => Err(Error::Exists { what: kind, id: name.to_owned(), holder }),
            None => Ok(()),
        }
    }

    /// Sets what garbage collection keeps for the sake of this document.
    pub fn set_record_resources(&self, kind: &'static str, id: &str, resources: &[Resource]) -> Result<()> {
        self.set_refs(OWNER, &owner(kind, id), resources)
    }

    /// The document with this identifier.
    pub fn record(&self, kind: &'static str, id: &str) -> Result<Option<Record>> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT id, name, json, created_ns FROM records WHERE kind = ? AND id = ?")?;
        Ok(statement.query_row(params![kind, id], |row| read(kind, row)).optional()?)
    }

    /// The document with this name.
    pub fn record_by_name(&self, kind: &'static str, name: &str) -> Result<Option<Record>> {
        let mut statement = self
            .sql
            .prepare_cached("SELECT id, name, json, created_ns FROM records WHERE kind = ? AND name = ?")?;
        Ok(statement.query_row(params![kind, name], |row| read(kind, row)).optional()?)
    }

    /// The document with this identifier, this name, or an identifier that alone begins so: what a user may type.
    pub fn find_record(&self, kind: &'static str, text: &str) -> Result<Record> {
        if let Some(record) = self.record(kind, text)? {
            return Ok(record);
        }
        if let Some(record) = self.record_by_name(kind, text)? {
            return Ok(record);
        }
        // An identifier is hexadecimal: what is not begins none, and needs no escaping in a pattern.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::not_found(kind, text));
        }
        let mut statement = self.sql.prepare_cached(
            "SELECT id, name, json, created_ns FROM records WHERE kind = ?1 AND id >= ?2 AND id < ?2 || 'g' LIMIT 2",
        )?;
        let mut found = statement
            .query_map(params![kind, text], |row| read(kind, row))?
            .collect::<Result<Vec<_>, _>>()?;
        match (found.pop(), found.is_empty()) {
            (Some(record), true) => Ok(record),
            (None, _) => Err(Error::not_found(kind, text)),
            (Some(_), false) => Err(Error::Ambiguous { what: kind, id: text.to_owned() }),
        }
    }

    /// All documents of a kind, oldest first.
    pub fn records(&self, kind: &'static str) -> Result<Vec<Record>> {
        let mut statement = self.sql.prepare_cached(
            "SELECT id, name, json, created_ns FROM records WHERE kind = ? ORDER BY created_ns, id",
        )?;
        let records =
            statement.query_map(params![kind], |row| read(kind, row))?.collect::<Result<Vec<_>, _>>()?;
        Ok(records)
    }

    /// Gives a document another name.
    pub fn rename_record(&self, kind: &'static str, id: &str, name: Option<&str>) -> Result<()> {
        self.check_record_name(kind, id, name)?;
        let changed = self
            .sql
            .prepare_cached("UPDATE records SET name = ?, updated_ns = ? WHERE kind = ? AND id = ?")?
            .execute(params![name, now_ns(), kind, id])?;
        if changed == 0 { Err(Error::not_found(kind, id)) } else { Ok(()) }
    }

    /// Removes a document, and with it what it kept alive; whether there was one.
    pub fn delete_record(&self, kind: &'static str, id: &str) -> Result<bool> {
        self.clear_refs(OWNER, &owner(kind, id))?;
        let changed = self
            .sql
            .prepare_cached("DELETE FROM records WHERE kind = ? AND id = ?")?
            .execute(params![kind, id])?;
        Ok(changed > 0)
    }
}

fn owner(kind: &str, id: &str) -> String {
    format!("{kind}/{id}")
}

fn read(kind: &'static str, row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record { kind, id: row.get(0)?, name: row.get(1)?, json: row.get(2)?, created_ns: row.get(3)? })
}

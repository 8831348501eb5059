//! Files with holes: GNU's old format and its three PAX formats.

use std::io::BufRead;

use super::header::{self, Header};
use super::{Archive, Entry};
use crate::archive::pax::decimal;
use crate::error::{Error, Result};

/// Segments of one file: a terabyte written in a pattern of 1 MiB has as many.
const SEGMENTS_MAX: usize = 1 << 20;

/// A part of a file that has content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// A file with holes: its segments' content follows without gaps in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sparse {
    /// The file's length.
    pub size: u64,
    /// The parts with content, in order and apart from each other.
    pub segments: Vec<Segment>,
}

impl Sparse {
    fn new(size: u64, pairs: &[(u64, u64)], content: u64) -> Result<Self> {
        let invalid = || Error::layer("invalid map of a sparse file");
        if pairs.len() > SEGMENTS_MAX {
            return Err(too_many());
        }
        if i64::try_from(size).is_err() {
            return Err(invalid());
        }
        let (mut end, mut total) = (0u64, 0u64);
        let mut segments = Vec::new();
        for (offset, length) in pairs.iter().copied() {
            if offset < end {
                return Err(invalid());
            }
            end = offset.checked_add(length).filter(|end| *end <= size).ok_or_else(invalid)?;
            total += length;
            if length > 0 {
                segments.push(Segment { offset, length });
            }
        }
        if total != content {
            return Err(invalid());
        }
        Ok(Self { size, segments })
    }
}

fn too_many() -> Error {
    Error::Limit { what: "number of segments of a sparse file", limit: SEGMENTS_MAX as u64 }
}

/// What `GNU.sparse.*` records say.
#[derive(Debug, Default)]
pub struct SparseMap {
    pub name: Option<Vec<u8>>,
    major: Option<u64>,
    size: Option<u64>,
    numbers: Vec<u64>,
}

impl SparseMap {
    /// Takes one record, its key without `GNU.sparse.`.
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| Error::layer("invalid map of a sparse file"));
        match key {
            b"name" if !value.is_empty() && !value.contains(&0) => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            // Format 0.0: pairs of records. Format 0.1: one list.
            b"offset" | b"numbytes" => self.numbers.push(number()?),
            b"map" => {
                for value in value.split(|byte| *byte == b',').filter(|value| !value.is_empty()) {
                    self.numbers
                        .push(decimal(value).ok_or_else(|| Error::layer("invalid map of a sparse file"))?);
                }
            }
            _ => {}
        }
        if self.numbers.len() > 2 * SEGMENTS_MAX { Err(too_many()) } else { Ok(()) }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>> {
    if !numbers.len().is_multiple_of(2) {
        return Err(Error::layer("invalid map of a sparse file"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

impl<R: BufRead> Archive<R> {
    /// The map of GNU's old format: in the header, and in blocks between header and content.
    pub(super) fn gnu_sparse(&mut self, header: &Header) -> Result<Sparse> {
        let (mut found, size, mut more) = header.gnu_sparse()?;
        while more {
            let block = self.read_block()?.ok_or_else(|| Error::layer("map of a sparse file is cut off"))?;
            found.extend(header::segments(&block[..504])?);
            more = block[504] != 0;
            if found.len() > SEGMENTS_MAX {
                return Err(too_many());
            }
        }
        let unsigned =
            |value: i64| u64::try_from(value).map_err(|_| Error::layer("invalid map of a sparse file"));
        let pairs = found
            .into_iter()
            .map(|(offset, length)| Ok((unsigned(offset)?, unsigned(length)?)))
            .collect::<Result<Vec<_>>>()?;
        Sparse::new(unsigned(size)?, &pairs, self.content)
    }

    /// The map of the PAX formats; that of format 1.0 stands at the content's beginning, a number a line.
    pub(super) fn pax_sparse(&mut self, map: &SparseMap, entry: &mut Entry) -> Result<()> {
        let Some(size) = map.size else { return Ok(()) };
        if map.major != Some(1) {
            entry.sparse = Some(Sparse::new(size, &pairs(&map.numbers)?, self.content)?);
            return Ok(());
        }
        let mut lines = Lines { text: Vec::new(), at: 0 };
        let count = lines.number(self)?;
        if count > SEGMENTS_MAX as u64 {
            return Err(too_many());
        }
        let mut numbers = Vec::new();
        for _ in 0..2 * count {
            numbers.push(lines.number(self)?);
        }
        entry.size = self.content;
        entry.sparse = Some(Sparse::new(size, &pairs(&numbers)?, self.content)?);
        Ok(())
    }
}

/// Lines with numbers in the blocks of an entry's content.
struct Lines {
    text: Vec<u8>,
    at: usize,
}

impl Lines {
    fn number<R: BufRead>(&mut self, archive: &mut Archive<R>) -> Result<u64> {
        loop {
            if let Some(length) = self.text[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = &self.text[self.at..self.at + length];
                self.at += length + 1;
                return decimal(line).ok_or_else(|| Error::layer("invalid map of a sparse file"));
            }
            if self.text.len() - self.at > super::BLOCK {
                return Err(Error::layer("invalid map of a sparse file"));
            }
            self.text.drain(..self.at);
            self.at = 0;
            self.text.extend_from_slice(&archive.read_content_block()?);
        }
    }
}

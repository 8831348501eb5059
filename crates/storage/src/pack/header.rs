//! The blocks before an entry's content.

use std::io;

use sys::fsx::Time;

use super::BLOCK;
use crate::archive::{Entry, Kind, Sparse};

/// What a name's field holds.
const NAME_BYTES: usize = 100;
/// The largest owner that seven octal digits hold.
const ID_MAX: u32 = 0o777_7777;
/// The largest size and time that eleven octal digits hold.
const LONG_MAX: u64 = 0o777_7777_7777;

/// Bytes to stand before the content, and how many of them count as content (the map of a file with holes).
pub fn encode(entry: &Entry) -> io::Result<(Vec<u8>, u64)> {
    if entry.path.contains(&0) || entry.link.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name with a zero byte"));
    }
    let mut records = Vec::new();
    let mut path = entry.path.clone();
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let map = entry.sparse.as_ref().map(sparse_map).unwrap_or_default();
    if let Some(sparse) = &entry.sparse {
        record(&mut records, b"GNU.sparse.major", b"1");
        record(&mut records, b"GNU.sparse.minor", b"0");
        record(&mut records, b"GNU.sparse.name", &path);
        record(&mut records, b"GNU.sparse.realsize", sparse.size.to_string().as_bytes());
        path = [b"GNUSparseFile.0/", short(&path)].concat();
    } else if !fits(&path) {
        record(&mut records, b"path", &path);
    }
    if !fits(&entry.link) {
        record(&mut records, b"linkpath", &entry.link);
    }
    let size = if entry.kind == Kind::File { entry.size + map.len() as u64 } else { 0 };
    if size > LONG_MAX {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    for (name, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > ID_MAX {
            record(&mut records, name, id.to_string().as_bytes());
        }
    }
    let seconds = u64::try_from(entry.mtime.seconds).ok().filter(|seconds| *seconds <= LONG_MAX);
    if seconds.is_none() || entry.mtime.nanoseconds > 0 {
        record(&mut records, b"mtime", time(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        // An equals sign would end the name.
        if !name.contains(&b'=') && !name.contains(&0) {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
    }
    let mut blocks = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let own = [b"PaxHeaders.0/", short(&path)].concat();
        blocks.extend(block(&own, b'x', 0o644, (0, 0), records.len() as u64, 0, &[], (0, 0)));
        blocks.extend_from_slice(&records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    let ids = (entry.uid.min(ID_MAX), entry.gid.min(ID_MAX));
    let (kind, mode, size) = (kind(entry.kind), entry.mode & 0o7777, size.min(LONG_MAX));
    blocks.extend(block(&path, kind, mode, ids, size, seconds.unwrap_or(0), &entry.link, entry.device));
    blocks.extend_from_slice(&map);
    Ok((blocks, map.len() as u64))
}

/// Whether a name can stand in the header itself.
fn fits(name: &[u8]) -> bool {
    name.len() <= NAME_BYTES && name.is_ascii()
}

/// The end of a name, for headers that stand for others.
fn short(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if last.is_ascii() { &last[..last.len().min(64)] } else { b"x" }
}

fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// Seconds with their decimals, as PAX has them.
fn time(time: Time) -> String {
    let (mut seconds, mut nanoseconds) = (time.seconds, time.nanoseconds);
    let sign = if seconds < 0 {
        if nanoseconds > 0 {
            (seconds, nanoseconds) = (seconds + 1, 1_000_000_000 - nanoseconds);
        }
        "-"
    } else {
        ""
    };
    if nanoseconds == 0 {
        return format!("{sign}{}", seconds.unsigned_abs());
    }
    format!("{sign}{}.{nanoseconds:09}", seconds.unsigned_abs())
}

/// Appends `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.extend_from_slice(&[b" ", key, b"=", value, b"\n"].concat());
}

/// The map of a file with holes, filled up to whole blocks.
fn sparse_map(sparse: &Sparse) -> Vec<u8> {
    let mut map = format!("{}\n", sparse.segments.len()).into_bytes();
    for segment in &sparse.segments {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.length).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

#[expect(clippy::too_many_arguments, reason = "they are the fields of the header")]
fn block(
    path: &[u8],
    kind: u8,
    mode: u32,
    (uid, gid): (u32, u32),
    size: u64,
    mtime: u64,
    link: &[u8],
    (major, minor): (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &path[..path.len().min(NAME_BYTES)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, format!("{uid:07o}").as_bytes());
    put(116, format!("{gid:07o}").as_bytes());
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{mtime:011o}").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(NAME_BYTES)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", major.min(ID_MAX)).as_bytes());
    put(337, format!("{:07o}", minor.min(ID_MAX)).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

use super::*;
use proptest::prelude::*;

/// A header block with a right checksum.
pub(crate) fn header(name: &str, kind: u8, size: u64, fill: impl FnOnce(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    fill(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

/// Content, filled up to whole blocks.
pub(crate) fn padded(content: &[u8]) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().next_multiple_of(BLOCK), 0);
    padded
}

/// A line of an extended header.
pub(crate) fn record(text: &str) -> String {
    let mut length = text.len() + 2;
    while format!("{length} {text}\n").len() != length {
        length += 1;
    }
    format!("{length} {text}\n")
}

fn read(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut archive = Archive::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut content = Vec::new();
        archive.data(|piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        entries.push((entry, content));
    }
    Ok(entries)
}

#[test]
fn plain_files_and_long_names() {
    let long = "d/".repeat(80) + "file";
    let pax_line = format!("{} path={long}\n", long.len() + 10);
    let archive = [
        header("a", b'0', 3, |_| ()),
        padded(b"abc"),
        header("././@LongLink", b'L', long.len() as u64 + 1, |_| ()),
        padded(format!("{long}\0").as_bytes()),
        header("short", b'0', 0, |_| ()),
        header("PaxHeaders/x", b'x', pax_line.len() as u64, |_| ()),
        padded(pax_line.as_bytes()),
        header("short", b'5', 0, |_| ()),
        header("name", b'0', 0, |block| block[345..351].copy_from_slice(b"prefix")),
        vec![0; 1024],
    ]
    .concat();
    let entries = read(&archive).unwrap();
    let names: Vec<&[u8]> = entries.iter().map(|(entry, _)| &entry.path[..]).collect();
    assert_eq!(names, [b"a", long.as_bytes(), long.as_bytes(), b"prefix/name"]);
    assert_eq!(entries[0].1, b"abc");
    assert_eq!(entries[2].0.kind, Kind::Directory);
}

#[test]
fn ends_of_archives() {
    let one = header("a", b'0', 0, |_| ());
    assert_eq!(read(b"").unwrap().len(), 0);
    assert_eq!(read(&one).unwrap().len(), 1, "no end marker");
    assert_eq!(read(&[&one[..], &[0; 512]].concat()).unwrap().len(), 1, "half an end marker");
    assert!(read(&[&one[..], &[0; 512], &one].concat()).is_err(), "entries behind the end");
    assert!(read(&one[..300]).is_err(), "cut off");
    assert!(read(&header("a", b'0', 10, |_| ())).is_err(), "content missing");
    assert!(read(&header("a", b'x', 10, |_| ())).is_err());
    let mut wrong = one;
    wrong[0] = b'b';
    assert!(read(&wrong).is_err(), "wrong checksum");
}

#[test]
fn claims_are_not_believed() {
    // A header that announces a long name of 8 GiB must not make us allocate it.
    let big = header("x", b'L', 0, |block| block[124..136].copy_from_slice(b"77777777777\0"));
    assert!(matches!(read(&big).unwrap_err(), Error::Limit { .. }));
    let unknown = header("x", b'Z', 0, |_| ());
    assert!(read(&unknown).unwrap_err().to_string().contains("unsupported kind of entry"));
    let wrapping =
        header("x", b'0', 0, |block| block[108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff"));
    assert!(read(&wrapping).unwrap_err().to_string().contains("owner out of range"));
    let negative = header("x", b'0', 0, |block| block[124..136].fill(0xff));
    assert!(read(&negative).is_err());
    let many = header("x", b'L', 0, |_| ()).repeat(20);
    assert!(read(&many).is_err());
}

#[test]
fn sparse_maps() {
    let lines = b"2\n0\n3\n1000\n2\n";
    let records =
        ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=real", "GNU.sparse.realsize=2000"];
    let records = records.map(record).concat();
    let content = [padded(lines), padded(b"abcde")].concat();
    let archive = [
        header("x", b'x', records.len() as u64, |_| ()),
        padded(records.as_bytes()),
        header("GNUSparseFile.1/real", b'0', 512 + 5, |_| ()),
        content,
        vec![0; 1024],
    ]
    .concat();
    let entries = read(&archive).unwrap();
    assert_eq!(entries[0].0.path, b"real");
    assert_eq!(entries[0].1, b"abcde");
    let sparse = entries[0].0.sparse.as_ref().unwrap();
    assert_eq!(sparse.size, 2000);
    assert_eq!(sparse.segments, [Segment { offset: 0, length: 3 }, Segment { offset: 1000, length: 2 }]);

    // Overlapping, beyond the end, more than there is.
    for map in ["0,3,1,2", "1999,5", "0,3", "0,5,", "9223372036854775807,5", "0"] {
        let records = record("GNU.sparse.size=2000") + &record(&format!("GNU.sparse.map={map}"));
        let archive = [
            header("x", b'x', records.len() as u64, |_| ()),
            padded(records.as_bytes()),
            header("f", b'0', 5, |_| ()),
            padded(b"abcde"),
        ]
        .concat();
        let outcome = read(&archive);
        assert_eq!(outcome.is_ok(), map == "0,5,", "{map}: {outcome:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_headers_are_read_or_refused(at in 0usize..512, byte: u8, kind: u8) {
        let good = header("some/name", kind, 5, |block| block[at] = byte);
        let _ = read(&[good, padded(b"5 a=\n"), vec![0; 1024]].concat());
    }
}

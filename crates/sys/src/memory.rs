//! Giving memory back to the kernel.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

/// The size of a page.
const PAGE: usize = 4096;

/// Zeroes `buffer` and gives the whole pages within it back to the kernel: they cost nothing until they are
/// written again.
pub fn discard(buffer: &mut [u8]) {
    let start = buffer.as_ptr().addr();
    let head = start.next_multiple_of(PAGE) - start;
    if head >= buffer.len() {
        buffer.fill(0);
        return;
    }
    let (edge, rest) = buffer.split_at_mut(head);
    let whole = rest.len() / PAGE * PAGE;
    let (pages, tail) = rest.split_at_mut(whole);
    edge.fill(0);
    tail.fill(0);
    if pages.is_empty() {
        return;
    }
    // SAFETY: the range is exactly the exclusive borrow `pages`, page-aligned, private anonymous heap memory;
    // after the call it reads as zeroes, which are valid bytes.
    let done = unsafe { libc::madvise(pages.as_mut_ptr().cast(), pages.len(), libc::MADV_DONTNEED) };
    if done != 0 {
        pages.fill(0);
    }
}

/// Drops the clean pages of this executable's code and constants from memory; they come back from the page
/// cache when they are touched. `start` and `end` are addresses of a mapping of the executable file.
/// Returns whether the kernel agreed.
fn drop_clean(start: usize, end: usize) -> bool {
    // SAFETY: the callers pass the bounds of a file mapping without write permission, whose pages can always
    // be read again from the file with the same content.
    unsafe { libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED) == 0 }
}

/// Drops the pages of all read-only mappings of this process's executable from memory, and returns the tables
/// of freed heap to the kernel. Meant for a process that is about to sleep for long.
pub fn drop_text() {
    let Ok(maps) = std::fs::read("/proc/self/maps") else { return };
    for line in maps.split(|b| *b == b'\n') {
        let Some((start, end)) = read_only_file(line) else { continue };
        drop_clean(start, end);
    }
    // SAFETY: glibc's malloc_trim only releases free pages of the heap.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The bounds of the mapping described by a line of `/proc/self/maps`, if it is a private mapping of a file
/// that cannot be written.
fn read_only_file(line: &[u8]) -> Option<(usize, usize)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let range = fields.next()?;
    let permissions = fields.next()?.as_bytes();
    let inode = fields.nth(2)?;
    if inode == "0" || permissions.get(1) != Some(&b'-') || permissions.get(3) != Some(&b'p') {
        return None;
    }
    // A segment that was written before it became read-only (RELRO) must keep its pages.
    if permissions.get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discarded_bytes_are_zero_and_their_neighbours_are_not() {
        let mut bytes = vec![7_u8; 10 * PAGE];
        discard(&mut bytes[100..9 * PAGE + 5]);
        assert!(bytes[..100].iter().all(|b| *b == 7));
        assert!(bytes[100..9 * PAGE + 5].iter().all(|b| *b == 0));
        assert!(bytes[9 * PAGE + 5..].iter().all(|b| *b == 7));
        discard(&mut bytes[3..10]);
        bytes[100] = 1;
    }

    #[test]
    fn only_code_of_files_is_chosen() {
        let text = b"00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon";
        assert_eq!(read_only_file(text), Some((0x0040_0000, 0x0045_2000)));
        assert_eq!(read_only_file(b"00651000-00652000 r--p 00051000 08:02 173521 /x"), None);
        assert_eq!(read_only_file(b"7fff-8000 r-xp 00000000 00:00 0 [vdso]"), None);
        drop_text();
        assert!(read_only_file(b"").is_none());
    }
}

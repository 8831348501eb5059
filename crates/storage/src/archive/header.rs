//! The 512-byte header block.

use sys::fsx::Time;

use super::Kind;
use crate::error::{Error, Result};

/// The unit that archives are made of.
pub const BLOCK: usize = 512;

/// Offsets and lengths.
type Pairs = Vec<(i64, i64)>;

/// A header whose checksum is right.
#[derive(Debug)]
pub struct Header {
    block: [u8; BLOCK],
}

impl Header {
    /// Checks the sum over the block.
    pub fn new(block: [u8; BLOCK]) -> Result<Self> {
        let header = Self { block };
        let stated = number(&header.block[148..156])?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in header.block.iter().enumerate() {
            // The field itself counts as spaces. Old writers summed signed bytes.
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(i8::from_ne_bytes([byte]));
        }
        if stated != unsigned && stated != signed {
            return Err(Error::layer("invalid tar header: wrong checksum"));
        }
        Ok(header)
    }

    /// The byte that says what the entry is.
    pub fn kind_byte(&self) -> u8 {
        self.block[156]
    }

    fn is_gnu(&self) -> bool {
        &self.block[257..265] == b"ustar  \0"
    }

    fn is_ustar(&self) -> bool {
        &self.block[257..263] == b"ustar\0"
    }

    /// The short name, with the prefix where there is one.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.block[..100]);
        let prefix = if self.is_ustar() { text(&self.block[345..500]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The short target of a link.
    pub fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    /// Permissions.
    pub fn mode(&self) -> Result<i64> {
        number(&self.block[100..108])
    }

    /// The owner.
    pub fn uid(&self) -> Result<i64> {
        number(&self.block[108..116])
    }

    /// The group.
    pub fn gid(&self) -> Result<i64> {
        number(&self.block[116..124])
    }

    /// Bytes of content.
    pub fn size(&self) -> Result<u64> {
        u64::try_from(number(&self.block[124..136])?)
            .map_err(|_| Error::layer("invalid tar header: negative size"))
    }

    /// Modification time.
    pub fn mtime(&self) -> Result<Time> {
        Ok(Time { seconds: number(&self.block[136..148])?, nanoseconds: 0 })
    }

    /// A device's numbers; zero for everything else, whose fields may hold anything.
    pub fn device(&self, kind: Kind) -> Result<(u32, u32)> {
        if !matches!(kind, Kind::Char | Kind::Block) || !(self.is_gnu() || self.is_ustar()) {
            return Ok((0, 0));
        }
        // What a device number has room for in the kernel: 12 and 20 bits.
        let part = |field: &[u8], bits: u32| {
            let value = number(field)?;
            u32::try_from(value)
                .ok()
                .filter(|value| *value < 1 << bits)
                .ok_or_else(|| Error::layer("invalid tar header: device number out of range"))
        };
        Ok((part(&self.block[329..337], 12)?, part(&self.block[337..345], 20)?))
    }

    /// GNU's old map of a sparse file: up to four segments, the real size, and whether more segments follow.
    pub fn gnu_sparse(&self) -> Result<(Pairs, i64, bool)> {
        let segments = segments(&self.block[386..482])?;
        Ok((segments, number(&self.block[483..495])?, self.block[482] != 0))
    }
}

/// The segments of a block of GNU's old map, up to the first empty one.
pub fn segments(map: &[u8]) -> Result<Pairs> {
    let mut segments = Vec::new();
    for pair in map.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        segments.push((number(&pair[..12])?, number(&pair[12..])?));
    }
    Ok(segments)
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal digits, or in GNU's binary form for what does not fit.
fn number(field: &[u8]) -> Result<i64> {
    let invalid = || Error::layer("invalid tar header: not a number");
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { *byte };
            value = value << 8 | i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return Err(invalid());
            }
        }
        return Ok(value as i64);
    }
    let mut value = 0i64;
    let digits = field.iter().skip_while(|byte| matches!(byte, b' ' | 0));
    for byte in digits.take_while(|byte| !matches!(byte, b' ' | 0)) {
        if !matches!(byte, b'0'..=b'7') {
            return Err(invalid());
        }
        // Twelve digits have 36 bits: this cannot overflow.
        value = value << 3 | i64::from(byte - b'0');
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x01").unwrap(), 1);
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe").unwrap(), -2);
        assert!(number(b"12a4567\0").is_err());
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}

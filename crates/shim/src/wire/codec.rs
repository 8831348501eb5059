//! Integers, strings and lists as bytes.

/// Why bytes could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Does not begin as one of our connections does.
    #[error("not a connection of this protocol")]
    Magic,
    /// A version from before the oldest that is understood.
    #[error("protocol version {0} is not understood")]
    Version(u16),
    /// A type that does not exist.
    #[error("unknown type {0}")]
    Unknown(u8),
    /// Too long, or too short to be.
    #[error("impossible length {0}")]
    Length(usize),
    /// Ends too early, or too late.
    #[error("fields do not fill the frame")]
    Truncated,
    /// A string that is not UTF-8.
    #[error("text is not utf-8")]
    Text,
}

/// Appends fields to a buffer.
#[derive(Debug)]
pub struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends a truth value.
    pub fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    /// Appends a 16-bit number.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a 32-bit number.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a signed 32-bit number.
    pub fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a 64-bit number.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends a signed 64-bit number.
    pub fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends bytes with their length. What is too long for the length field is too long for a frame as well, where it
    /// is refused.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    /// Appends text with its length.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// Appends the number of the entries of a list; the entries follow.
    pub fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }
}

/// Takes fields from bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*chunk)
    }

    /// Takes a byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.chunk::<1>()?[0])
    }

    /// Takes a truth value.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Unknown(other)),
        }
    }

    /// Takes a 16-bit number.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    /// Takes a 32-bit number.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    /// Takes a signed 32-bit number.
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_le_bytes(self.chunk()?))
    }

    /// Takes a 64-bit number.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    /// Takes a signed 64-bit number.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.chunk()?))
    }

    /// Takes bytes with their length.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Takes text with its length.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// Takes the number of the entries of a list of which each has at least `least` bytes, so that a lie cannot make
    /// the receiver reserve more than it was sent.
    pub fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count > self.0.len() / least.max(1) {
            return Err(Malformed::Length(count));
        }
        Ok(count)
    }

    /// Makes sure that nothing is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Truncated) }
    }
}

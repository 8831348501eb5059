//! The words of criu's own protocol (`criu swrk`): Protocol Buffers, as far as they are needed.
//!
//! A message is a sequence of fields; each has a number and either an integer or bytes, and those may be a message again. A field that
//! is not known is skipped, so that versions understand each other.

/// Kinds of requests and of answers (`criu_req_type`).
pub(super) const DUMP: u64 = 1;
pub(super) const RESTORE: u64 = 2;
pub(super) const PRE_DUMP: u64 = 4;
pub(super) const NOTIFY: u64 = 6;

/// Fields of `criu_req`.
const REQUEST_TYPE: u32 = 1;
const REQUEST_OPTIONS: u32 = 2;
const REQUEST_NOTIFIED: u32 = 3;

/// How an integer and how bytes are announced, in the lowest bits of a field's key.
const INTEGER: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, kind: u64) {
        self.varint(u64::from(field) << 3 | kind);
    }

    /// Adds an integer.
    pub(super) fn integer(&mut self, field: u32, value: u64) {
        self.key(field, INTEGER);
        self.varint(value);
    }

    /// Adds a truth; what is not said is false.
    pub(super) fn truth(&mut self, field: u32, value: bool) {
        if value {
            self.integer(field, 1);
        }
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Adds a text.
    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Adds a message.
    pub(super) fn message(&mut self, field: u32, value: &Self) {
        self.bytes(field, &value.0);
    }
}

/// A request with options.
pub(super) fn request(kind: u64, options: &Writer) -> Vec<u8> {
    let mut request = Writer::default();
    request.integer(REQUEST_TYPE, kind);
    request.message(REQUEST_OPTIONS, options);
    request.0
}

/// The answer to a notice.
pub(super) fn notified(success: bool) -> Vec<u8> {
    let mut request = Writer::default();
    request.integer(REQUEST_TYPE, NOTIFY);
    request.integer(REQUEST_NOTIFIED, success.into());
    request.0
}

/// What criu says (`criu_resp`).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) kind: u64,
    pub(super) success: bool,
    /// The first process that was restored.
    pub(super) restored: Option<i32>,
    /// A point that was reached, and the process that it is about.
    pub(super) notice: Option<(String, i32)>,
    /// Why it failed, where the version of criu says so.
    pub(super) reason: Option<String>,
}

/// One field: an integer, or bytes.
enum Value<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

/// Reads a message field by field.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        const BYTES_MAX: usize = 10;
        let mut value = 0;
        for (at, byte) in self.0.iter().take(BYTES_MAX).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field and its number; `None` if the message is damaged.
    fn next(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            INTEGER => Value::Integer(self.varint()?),
            BYTES => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED_64 => Value::Bytes(self.take(8)?),
            FIXED_32 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

impl Answer {
    /// Reads a message; `None` if it is none.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        let mut reader = Reader(message);
        while !reader.is_done() {
            match reader.next()? {
                (1, Value::Integer(kind)) => answer.kind = kind,
                (2, Value::Integer(success)) => answer.success = success != 0,
                (4, Value::Bytes(message)) => answer.restored = number(message, 1)?,
                (5, Value::Bytes(message)) => answer.notice = Some(notice(message)?),
                (9, Value::Bytes(text)) => answer.reason = Some(String::from_utf8_lossy(text).into_owned()),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// The integer in a field of a message, if it is there; `None` if the message is damaged.
fn number(message: &[u8], field: u64) -> Option<Option<i32>> {
    let mut reader = Reader(message);
    let mut found = None;
    while !reader.is_done() {
        match reader.next()? {
            (at, Value::Integer(value)) if at == field => found = Some(i32::try_from(value).ok()?),
            _ => {}
        }
    }
    Some(found)
}

fn notice(message: &[u8]) -> Option<(String, i32)> {
    let pid = number(message, 2)?.unwrap_or(0);
    let mut reader = Reader(message);
    let mut script = String::new();
    while !reader.is_done() {
        if let (1, Value::Bytes(text)) = reader.next()? {
            script = String::from_utf8_lossy(text).into_owned();
        }
    }
    Some((script, pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_protoc_writes() {
        let mut options = Writer::default();
        options.integer(1, 300);
        options.truth(3, true);
        options.truth(4, false);
        options.text(10, "dump.log");
        let expected = b"\x08\x01\x12\x0f\x08\xac\x02\x18\x01\x52\x08dump.log";
        assert_eq!(request(DUMP, &options), expected);
        assert_eq!(notified(false), b"\x08\x06\x18\x00");
    }

    #[test]
    fn answers_are_read_and_unknown_fields_skipped() {
        let restored = b"\x08\x02\x10\x01\x22\x03\x08\xac\x02\x38\x05\xa2\x06\x02xy";
        let answer = Answer::parse(restored).unwrap();
        assert_eq!((answer.kind, answer.success, answer.restored), (RESTORE, true, Some(300)));
        let notice = b"\x08\x06\x10\x01\x2a\x0a\x0a\x06script\x10\x07";
        assert_eq!(Answer::parse(notice).unwrap().notice, Some(("script".to_owned(), 7)));
        let failed = b"\x08\x01\x10\x00\x4a\x03why";
        assert_eq!(Answer::parse(failed).unwrap().reason.as_deref(), Some("why"));
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        for damaged in
            [&b"\x08"[..], b"\x22\x7f\x08", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b"]
        {
            assert_eq!(Answer::parse(damaged), None, "{damaged:?}");
        }
    }
}

//! D-Bus messages: a header that says what it is, and values.

use super::Malformed;
use super::value::{Decoder, Encoder, Value};

/// The longest message that is read or written: answers to what is asked here take a few hundred bytes, and the signals that come
/// between them a few thousand.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The part of a message's header that says how long the message is.
pub const FIXED_BYTES: usize = 16;

const VERSION: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A method is called.
    Call,
    /// It has returned.
    Return,
    /// It has failed.
    Error,
    /// Something has happened.
    Signal,
    /// To be ignored, says the specification.
    Other(u8),
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number.
    pub serial: u32,
    /// The number of the call that it answers.
    pub reply_to: Option<u32>,
    /// Whom a call is for.
    pub destination: Option<String>,
    /// Who sent it, by the name that the bus gave them and nobody else has.
    pub sender: Option<String>,
    /// The object that is called, or that something happened to.
    pub path: Option<String>,
    /// The interface of the method or signal.
    pub interface: Option<String>,
    /// The method or signal.
    pub member: Option<String>,
    /// The name of an error.
    pub error: Option<String>,
    /// Arguments or results.
    pub body: Vec<Value>,
}

impl Message {
    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut body = Encoder::default();
        self.body.iter().try_for_each(|value| body.value(value))?;
        let signature: String = self.body.iter().map(Value::signature).collect();
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
            Kind::Other(other) => other,
        };
        let mut header = Encoder { bytes: vec![b'l', kind, 0, VERSION] };
        header.u32(body.bytes.len() as u32);
        header.u32(self.serial);
        let text = |text: &Option<String>| text.clone().map(Value::Text);
        let fields = [
            (PATH, self.path.clone().map(Value::Path)),
            (INTERFACE, text(&self.interface)),
            (MEMBER, text(&self.member)),
            (ERROR_NAME, text(&self.error)),
            (REPLY_SERIAL, self.reply_to.map(Value::U32)),
            (DESTINATION, text(&self.destination)),
            (SIGNATURE, (!signature.is_empty()).then_some(Value::Signature(signature))),
        ];
        let field = |(code, value): (u8, Option<Value>)| {
            value.map(|value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]))
        };
        header.value(&Value::Array("(yv)".into(), fields.into_iter().filter_map(field).collect()))?;
        header.align(8);
        header.bytes.extend(body.bytes);
        if header.bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed("a message that is too long"));
        }
        Ok(header.bytes)
    }

    /// How long the message is that begins with these bytes.
    pub fn length(fixed: &[u8; FIXED_BYTES]) -> Result<usize, Malformed> {
        let mut decoder = Decoder::new(fixed, is_big_endian(fixed[0])?);
        decoder.u32()?;
        let body = decoder.u32()? as usize;
        decoder.u32()?;
        let fields = decoder.u32()? as usize;
        let header = FIXED_BYTES.checked_add(fields).map(|length| length.next_multiple_of(8));
        let length = header.and_then(|header| header.checked_add(body));
        length.filter(|length| *length <= MESSAGE_BYTES_MAX).ok_or(Malformed("a message that is too long"))
    }

    /// The message that these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed = bytes.first_chunk().ok_or(Malformed("a message without a header"))?;
        if Self::length(fixed)? != bytes.len() {
            return Err(Malformed("a message of another length than it says"));
        }
        let big_endian = is_big_endian(fixed[0])?;
        let mut decoder = Decoder::new(bytes, big_endian);
        let kind = match fixed[1] {
            0 => return Err(Malformed("a message of no kind")),
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            other => Kind::Other(other),
        };
        if fixed[3] != VERSION {
            return Err(Malformed("a message of another version"));
        }
        decoder.u32()?;
        decoder.u32()?;
        let serial = decoder.u32()?;
        let mut message = Self::new(kind, serial);
        let mut signature = String::new();
        let fields = decoder.values("a(yv)")?;
        for field in fields.into_iter().flat_map(elements) {
            message.take_field(field, &mut signature)?;
        }
        decoder.align(8)?;
        // The body's alignment counts from its beginning, which is on a boundary.
        let body = bytes.get(decoder.position()..).unwrap_or_default();
        let mut decoder = Decoder::new(body, big_endian);
        message.body = decoder.values(&signature)?;
        if decoder.position() != body.len() {
            return Err(Malformed("a message with more than its signature says"));
        }
        Ok(message)
    }

    /// One without fields.
    pub(super) fn new(kind: Kind, serial: u32) -> Self {
        Self {
            kind,
            serial,
            reply_to: None,
            destination: None,
            sender: None,
            path: None,
            interface: None,
            member: None,
            error: None,
            body: Vec::new(),
        }
    }

    fn take_field(&mut self, field: Value, signature: &mut String) -> Result<(), Malformed> {
        let Value::Struct(parts) = field else { return Err(Malformed("a header's field")) };
        let Ok([Value::Byte(code), Value::Variant(value)]) = <[Value; 2]>::try_from(parts) else {
            return Err(Malformed("a header's field"));
        };
        match (code, *value) {
            (PATH, Value::Path(path)) => self.path = Some(path),
            (INTERFACE, Value::Text(text)) => self.interface = Some(text),
            (MEMBER, Value::Text(text)) => self.member = Some(text),
            (ERROR_NAME, Value::Text(text)) => self.error = Some(text),
            (REPLY_SERIAL, Value::U32(serial)) => self.reply_to = Some(serial),
            (DESTINATION, Value::Text(text)) => self.destination = Some(text),
            (SIGNATURE, Value::Signature(text)) => *signature = text,
            (SENDER, Value::Text(text)) => self.sender = Some(text),
            (PATH..=SENDER | SIGNATURE, _) => return Err(Malformed("a header's field of another type")),
            // What is unknown is to be ignored.
            _ => {}
        }
        Ok(())
    }
}

fn elements(value: Value) -> Vec<Value> {
    match value {
        Value::Array(_, values) => values,
        _ => Vec::new(),
    }
}

fn is_big_endian(mark: u8) -> Result<bool, Malformed> {
    match mark {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(Malformed("a byte order that does not exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Message {
        Message {
            destination: Some("org.freedesktop.DBus".into()),
            path: Some("/org/freedesktop/DBus".into()),
            interface: Some("org.freedesktop.DBus".into()),
            member: Some("Hello".into()),
            ..Message::new(Kind::Call, 1)
        }
    }

    /// Worked out by hand: each field begins on a boundary of 8, and the header ends on one.
    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let mut expected = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0".to_vec();
        expected.extend(b"\x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0");
        expected.extend(b"\x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        expected.extend(b"\x03\x01s\0\x05\0\0\0Hello\0\0\0");
        expected.extend(b"\x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0");
        let bytes = hello().encode().unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(Message::decode(&bytes).unwrap(), hello());
    }

    #[test]
    fn the_body_is_behind_the_header() {
        let mut message = hello();
        message.body = vec![Value::U64(7), Value::text("x")];
        let bytes = message.encode().unwrap();
        assert_eq!(bytes[4..8], 14_u32.to_le_bytes());
        assert_eq!(Message::length(bytes.first_chunk().unwrap()).unwrap(), bytes.len());
        assert_eq!(Message::decode(&bytes).unwrap(), message);
    }

    #[test]
    fn wrong_headers_are_refused() {
        let bytes = hello().encode().unwrap();
        for (at, byte) in [(0, b'x'), (1, 0), (3, 2), (4, 1), (7, 0xff), (15, 0xff), (18, b's')] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            Message::decode(&wrong).unwrap_err();
        }
        Message::decode(&bytes[..15]).unwrap_err();
        Message::decode(&bytes[..bytes.len() - 1]).unwrap_err();
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_refused(mut bytes: Vec<u8>, valid_start: bool) {
            if valid_start && bytes.len() >= 16 {
                bytes[..4].copy_from_slice(b"l\x02\0\x01");
                let fields = bytes[12] & 0x7f;
                bytes[12..16].copy_from_slice(&[fields, 0, 0, 0]);
            }
            if let Ok(message) = Message::decode(&bytes) {
                let again = message.encode().unwrap();
                prop_assert_eq!(format!("{:?}", Message::decode(&again).unwrap()), format!("{message:?}"));
            }
        }

        #[test]
        fn a_damaged_message_is_read_or_refused(at: proptest::sample::Index, byte: u8) {
            let mut message = hello();
            message.body = vec![Value::Array("(sv)".into(), vec![Value::Struct(vec![
                Value::text("Delegate"),
                Value::Variant(Box::new(Value::Bool(true))),
            ])])];
            let mut bytes = message.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::decode(&bytes);
        }
    }
}

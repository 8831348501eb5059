//! D-Bus values: what they are, their signatures, and their bytes.

use super::Malformed;

/// How deep arrays and structures may lie in each other: the specification's 32 of each kind.
const DEPTH_MAX: usize = 64;

/// The longest array, as the specification has it.
const ARRAY_BYTES_MAX: usize = 64 << 20;

/// The longest signature, as the specification has it.
const SIGNATURE_BYTES_MAX: usize = 255;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `h`, the index of a descriptor
    Fd(u32),
    /// `a`, with the signature of its elements, as it may have none
    Array(String, Vec<Self>),
    /// `(…)`
    Struct(Vec<Self>),
    /// `{…}`, an element of an array only
    Entry(Box<(Self, Self)>),
    /// `v`
    Variant(Box<Self>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The signature of its type.
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::F64(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Fd(_) => "h".into(),
            Self::Variant(_) => "v".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Entry(entry) => format!("{{{}{}}}", entry.0.signature(), entry.1.signature()),
        }
    }
}

/// The boundary on which a type begins, by the first letter of its signature.
fn alignment(first: u8) -> Result<usize, Malformed> {
    Ok(match first {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => return Err(Malformed("a type that does not exist")),
    })
}

/// The length of the first complete type in a signature. A dictionary's entry is one only as the element of an array.
fn first_type(signature: &[u8], in_array: bool, depth: usize) -> Result<usize, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed("types that are nested too deeply"));
    }
    let at = |index: usize| signature.get(index..).unwrap_or_default();
    match signature.first() {
        None => Err(Malformed("a signature that ends too early")),
        Some(b'a') => Ok(1 + first_type(at(1), true, depth + 1)?),
        Some(b'(') => {
            let mut length = 1;
            while signature.get(length) != Some(&b')') {
                length += first_type(at(length), false, depth + 1)?;
            }
            if length == 1 { Err(Malformed("a structure without fields")) } else { Ok(length + 1) }
        }
        Some(b'{') if in_array => {
            if !matches!(
                signature.get(1),
                Some(
                    b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'h'
                )
            ) {
                return Err(Malformed("a dictionary's key that is not a basic type"));
            }
            let length = 2 + first_type(at(2), false, depth + 1)?;
            if signature.get(length) == Some(&b'}') {
                Ok(length + 1)
            } else {
                Err(Malformed("a dictionary's entry"))
            }
        }
        Some(b'{') => Err(Malformed("an entry outside a dictionary")),
        Some(first) => alignment(*first).map(|_| 1),
    }
}

/// The complete types that a signature consists of.
fn types(signature: &str) -> Result<Vec<&str>, Malformed> {
    if signature.len() > SIGNATURE_BYTES_MAX {
        return Err(Malformed("a signature that is too long"));
    }
    let mut found = Vec::new();
    let mut rest = signature;
    while !rest.is_empty() {
        let length = first_type(rest.as_bytes(), false, 0)?;
        let (first, behind) = rest.split_at_checked(length).ok_or(Malformed("a signature"))?;
        found.push(first);
        rest = behind;
    }
    Ok(found)
}

/// Writes values. Alignment is counted from the beginning.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    pub(super) bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn align(&mut self, boundary: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(boundary), 0);
    }

    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.fixed(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    pub(super) fn value(&mut self, value: &Value) -> Result<(), Malformed> {
        match value {
            Value::Byte(value) => self.bytes.push(*value),
            Value::Bool(value) => self.u32((*value).into()),
            Value::I16(value) => self.fixed(value.to_le_bytes()),
            Value::U16(value) => self.fixed(value.to_le_bytes()),
            Value::I32(value) => self.fixed(value.to_le_bytes()),
            Value::U32(value) | Value::Fd(value) => self.u32(*value),
            Value::I64(value) => self.fixed(value.to_le_bytes()),
            Value::U64(value) => self.fixed(value.to_le_bytes()),
            Value::F64(value) => self.fixed(value.to_le_bytes()),
            Value::Text(text) | Value::Path(text) if text.contains('\0') => {
                return Err(Malformed("a text with a NUL byte"));
            }
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(signature) => {
                types(signature)?;
                self.signature(signature);
            }
            Value::Array(element, values) => self.array(element, values)?,
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().try_for_each(|field| self.value(field))?;
            }
            Value::Entry(entry) => {
                self.align(8);
                self.value(&entry.0)?;
                self.value(&entry.1)?;
            }
            Value::Variant(inner) => {
                let signature = inner.signature();
                types(&signature)?;
                self.signature(&signature);
                self.value(inner)?;
            }
        }
        Ok(())
    }

    fn array(&mut self, element: &str, values: &[Value]) -> Result<(), Malformed> {
        if values.iter().any(|value| value.signature() != element) {
            return Err(Malformed("an array of different types"));
        }
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        // The padding before the first element does not count.
        self.align(alignment(element.bytes().next().unwrap_or_default())?);
        let begin = self.bytes.len();
        values.iter().try_for_each(|value| self.value(value))?;
        let length = self.bytes.len() - begin;
        if length > ARRAY_BYTES_MAX {
            return Err(Malformed("an array that is too long"));
        }
        self.bytes[length_at..length_at + 4].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }
}

/// Reads values of bytes that may be anything.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn align(&mut self, boundary: usize) -> Result<(), Malformed> {
        let padding = self.at.next_multiple_of(boundary) - self.at;
        if self.take(padding)?.iter().any(|byte| *byte != 0) {
            return Err(Malformed("padding that is not zero"));
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed("a length"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("an end that comes too early"))?;
        self.at = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.align(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    fn text_of(&mut self, length: usize) -> Result<String, Malformed> {
        let text =
            std::str::from_utf8(self.take(length)?).map_err(|_| Malformed("a text that is not UTF-8"))?;
        if text.contains('\0') || self.take(1)? != [0] {
            return Err(Malformed("a text that does not end where it says"));
        }
        Ok(text.to_owned())
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.u32()? as usize;
        self.text_of(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?.into();
        let signature = self.text_of(length)?;
        types(&signature)?;
        Ok(signature)
    }

    /// The values of a whole signature.
    pub(super) fn values(&mut self, signature: &str) -> Result<Vec<Value>, Malformed> {
        types(signature)?.into_iter().map(|one| self.value(one, 0)).collect()
    }

    fn value(&mut self, signature: &str, depth: usize) -> Result<Value, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("values that are nested too deeply"));
        }
        let inner = |from: usize, back: usize| {
            signature.get(from..signature.len() - back).ok_or(Malformed("a signature"))
        };
        Ok(match signature.bytes().next().unwrap_or_default() {
            b'y' => Value::Byte(self.byte()?),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("a boolean that is neither")),
            },
            b'n' => Value::I16(i16::from_le_bytes(self.fixed()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.fixed()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.fixed()?)),
            b'u' => Value::U32(self.u32()?),
            b'h' => Value::Fd(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.fixed()?)),
            b't' => Value::U64(u64::from_le_bytes(self.fixed()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.fixed()?)),
            b's' => Value::Text(self.text()?),
            b'o' => Value::Path(self.text()?),
            b'g' => Value::Signature(self.signature()?),
            b'a' => self.array(inner(1, 0)?, depth)?,
            b'(' => {
                self.align(8)?;
                let fields = types(inner(1, 1)?)?;
                Value::Struct(
                    fields.into_iter().map(|one| self.value(one, depth + 1)).collect::<Result<_, _>>()?,
                )
            }
            b'{' => {
                self.align(8)?;
                let key = self.value(signature.get(1..2).ok_or(Malformed("a signature"))?, depth + 1)?;
                Value::Entry(Box::new((key, self.value(inner(2, 1)?, depth + 1)?)))
            }
            b'v' => {
                let signature = self.signature()?;
                match types(&signature)?.as_slice() {
                    [one] => Value::Variant(Box::new(self.value(one, depth + 1)?)),
                    _ => return Err(Malformed("a variant that is not one value")),
                }
            }
            _ => return Err(Malformed("a type that does not exist")),
        })
    }

    fn array(&mut self, element: &str, depth: usize) -> Result<Value, Malformed> {
        let length = self.u32()? as usize;
        self.align(alignment(element.bytes().next().unwrap_or_default())?)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(Malformed("an array that is longer than the message"))?;
        let mut values = Vec::new();
        // Every element takes at least one byte, so this is bounded by the message.
        while self.at < end {
            values.push(self.value(element, depth + 1)?);
        }
        if self.at != end {
            return Err(Malformed("an array that does not end where it says"));
        }
        Ok(Value::Array(element.to_owned(), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(values: &[Value]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        values.iter().for_each(|value| encoder.value(value).unwrap());
        encoder.bytes
    }

    /// Bytes worked out by hand from the specification's rules.
    #[test]
    fn bytes_are_those_of_the_specification() {
        assert_eq!(encoded(&[Value::text("foo")]), b"\x03\0\0\0foo\0");
        assert_eq!(encoded(&[Value::Byte(1), Value::U32(2)]), b"\x01\0\0\0\x02\0\0\0");
        // The specification's own example: an array of one 64-bit number has 4 bytes of padding that its length does not count.
        let array = Value::Array("x".into(), vec![Value::I64(5)]);
        assert_eq!(encoded(&[array]), b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
        // Also one without elements.
        assert_eq!(encoded(&[Value::Array("x".into(), vec![])]), b"\0\0\0\0\0\0\0\0");
        let variant = Value::Variant(Box::new(Value::Bool(true)));
        assert_eq!(encoded(&[variant]), b"\x01b\0\0\x01\0\0\0");
        let property = Value::Struct(vec![Value::text("A"), Value::Variant(Box::new(Value::U64(7)))]);
        let properties = Value::Array("(sv)".into(), vec![property]);
        let expected = b"\x18\0\0\0\0\0\0\0\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0";
        assert_eq!(encoded(&[properties])[..], expected[..8 + 0x18]);
        assert_eq!(encoded(&[Value::Signature("a{sv}".into())]), b"\x05a{sv}\0");
        let entry = Value::Entry(Box::new((Value::Byte(9), Value::Path("/".into()))));
        assert_eq!(
            encoded(&[Value::Array("{yo}".into(), vec![entry])]),
            b"\x0a\0\0\0\0\0\0\0\x09\0\0\0\x01\0\0\0/\0"
        );
    }

    #[test]
    fn values_come_back_as_they_were() {
        let values = vec![
            Value::Byte(255),
            Value::I16(-2),
            Value::U16(65535),
            Value::I32(-3),
            Value::F64(0.5),
            Value::Bool(false),
            Value::Fd(3),
            Value::text("grüße"),
            Value::Array("(sv)".into(), vec![]),
            Value::Array("ay".into(), vec![Value::Array("y".into(), vec![Value::Byte(1)])]),
            Value::Variant(Box::new(Value::Variant(Box::new(Value::Struct(vec![Value::I64(i64::MIN)]))))),
            Value::Array(
                "{sv}".into(),
                vec![Value::Entry(Box::new((
                    Value::text("k"),
                    Value::Variant(Box::new(Value::Signature("(ii)".into()))),
                )))],
            ),
        ];
        let signature: String = values.iter().map(Value::signature).collect();
        assert_eq!(signature, "ynqidbhsa(sv)aayva{sv}");
        assert_eq!(Decoder::new(&encoded(&values), false).values(&signature).unwrap(), values);
        // Numbers of a message from a machine of the other byte order.
        assert_eq!(
            Decoder::new(b"\0\x01\0\0\0\0\0\x02", true).values("qu").unwrap(),
            [Value::U16(1), Value::U32(2)]
        );
    }

    #[test]
    fn signatures_that_are_none_are_refused() {
        for wrong in [
            "a",
            "(",
            "()",
            "(i",
            "{sv}",
            "a{vs}",
            "a{s}",
            "a{sv",
            "z",
            "i)",
            "a{sii}",
            &"a".repeat(100),
            &"y".repeat(256),
        ] {
            assert!(types(wrong).is_err(), "{wrong}");
        }
        assert_eq!(types("ia{s(ii)}v").unwrap(), ["i", "a{s(ii)}", "v"]);
    }

    #[test]
    fn bytes_that_contradict_themselves_are_refused() {
        for (wrong, signature) in [
            (&b"\x03\0\0\0fo\0"[..], "s"),
            (b"\x02\0\0\0foo\0", "s"),
            (b"\x03\0\0\0f\0o\0", "s"),
            (b"\x01\0\0\0\xff\0", "s"),
            (b"\xff\xff\xff\xffab", "s"),
            (b"\x02\0\0\0", "b"),
            (b"\x01\x01\0\0\0\0\0\0", "yu"),
            (b"\x05\0\0\0\x01\0\0\0\x02\0\0\0", "ai"),
            (b"\xff\xff\xff\xff", "ay"),
            (b"\x02ii\0\0\0\0\0\0\0\0", "v"),
            (b"\x00\0", "v"),
        ] {
            assert!(Decoder::new(wrong, false).values(signature).is_err(), "{wrong:?}");
        }
        let nested = b"\x01v\0".repeat(100);
        assert!(Decoder::new(&nested, false).values("v").is_err());
    }
}

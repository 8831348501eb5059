//! What a daemon and a shim say to each other: pure encoding and decoding, bounded. The conversation is described in
//! `docs/design/processes.md`.

mod codec;
mod message;

pub(crate) use message::{get_option, get_size, get_streams, put_option, put_size, put_streams};

pub use codec::{Malformed, Reader, Writer};
pub use message::{
    ExecSpec, ExecStatus, Exit, Failure, Message, Size, Stage, State, Status, Streams, Target,
};

/// The version of the protocol that this build speaks.
pub const VERSION: u16 = 2;
/// The first version that knows [`Message::Probe`].
pub const PROBES: u16 = 2;
/// The oldest version that this build understands.
pub const OLDEST: u16 = 1;
/// What every connection begins with.
pub const MAGIC: [u8; 4] = *b"CRTN";
/// The length of a hello.
pub const HELLO: usize = 8;
/// The longest frame: an exec's `process` object or a launch with many layers is a few kilobytes; the rest is there so
/// that long environments fit.
pub const MAX_FRAME: usize = 1 << 20;
/// Length, request id and type.
pub const HEADER: usize = 9;
/// The request id of events.
pub const EVENT: u32 = 0;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Frames both ways.
    Control,
    /// One `Attach` and its answer, then plain streams.
    Attach,
}

/// The first eight bytes of a connection, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The sender's protocol version.
    pub version: u16,
    /// What the connection is for.
    pub kind: Kind,
}

impl Hello {
    /// A hello of this build.
    pub const fn new(kind: Kind) -> Self {
        Self { version: VERSION, kind }
    }

    /// The bytes of it.
    pub const fn encode(self) -> [u8; HELLO] {
        let [m0, m1, m2, m3] = MAGIC;
        let [v0, v1] = self.version.to_le_bytes();
        let kind = match self.kind {
            Kind::Control => 0,
            Kind::Attach => 1,
        };
        [m0, m1, m2, m3, v0, v1, kind, 0]
    }

    /// Understands a hello of any version that this build can talk to.
    pub fn decode(bytes: [u8; HELLO]) -> Result<Self, Malformed> {
        let [m0, m1, m2, m3, v0, v1, kind, zero] = bytes;
        if [m0, m1, m2, m3] != MAGIC || zero != 0 {
            return Err(Malformed::Magic);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version < OLDEST {
            return Err(Malformed::Version(version));
        }
        let kind = match kind {
            0 => Kind::Control,
            1 => Kind::Attach,
            other => return Err(Malformed::Unknown(other)),
        };
        Ok(Self { version, kind })
    }
}

/// One framed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which request it is, or answers; [`EVENT`] for events.
    pub id: u32,
    /// What it says.
    pub message: Message,
}

impl Frame {
    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.push(self.message.tag());
        self.message.encode(&mut Writer::new(out));
        let length = out.len() - start - 4;
        if length > MAX_FRAME {
            out.truncate(start);
            return Err(Malformed::Length(length));
        }
        let length = u32::try_from(length).map_err(|_| Malformed::Length(length))?;
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// The length of the frame that `bytes` begin with, as soon as enough of it is there to know.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if !(HEADER - 4..=MAX_FRAME).contains(&length) {
            return Err(Malformed::Length(length));
        }
        Ok(Some(length + 4))
    }

    /// Understands exactly one whole frame.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if Self::length(bytes)? != Some(bytes.len()) {
            return Err(Malformed::Truncated);
        }
        let mut reader = Reader::new(&bytes[4..]);
        let id = reader.u32()?;
        let tag = reader.u8()?;
        let message = Message::decode(tag, &mut reader)?;
        reader.end()?;
        Ok(Self { id, message })
    }
}

#[cfg(test)]
mod tests;

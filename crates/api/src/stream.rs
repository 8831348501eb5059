//! Framings of streams: multiplexed output, and progress as lines of JSON.

use crate::Error;

/// The content type of a stream without frames, of a container with a terminal.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// The content type of a stream in frames.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// The length of a frame's header.
pub const HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine, to be told and to end the stream.
    System = 3,
}

/// A frame's header: the stream, three zeros, and the payload's length in big-endian order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream.
    pub stream: Stream,
    /// Bytes of payload that follow.
    pub length: u32,
}

impl Header {
    /// The header's bytes.
    pub fn encode(self) -> [u8; HEADER] {
        let [a, b, c, d] = self.length.to_be_bytes();
        [self.stream as u8, 0, 0, 0, a, b, c, d]
    }

    /// Reads a header.
    pub fn decode(bytes: [u8; HEADER]) -> Result<Self, Error> {
        let [stream, _, _, _, a, b, c, d] = bytes;
        let stream = match stream {
            0 => Stream::Stdin,
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::System,
            other => return Err(Error::Stream(other)),
        };
        Ok(Self { stream, length: u32::from_be_bytes([a, b, c, d]) })
    }
}

/// Appends a frame with its payload.
pub fn frame(out: &mut Vec<u8>, stream: Stream, payload: &[u8]) {
    for part in payload.chunks(u32::MAX as usize) {
        out.extend_from_slice(&Header { stream, length: part.len() as u32 }.encode());
        out.extend_from_slice(part);
    }
}

record! {
    /// One line of a stream of progress (pull, push, load, build).
    pub struct Progress {
        /// Text of a build.
        #[serde(rename = "stream", skip_serializing_if = "String::is_empty")]
        pub stream: String,
        /// What is done.
        #[serde(rename = "status", skip_serializing_if = "String::is_empty")]
        pub status: String,
        /// How far it is.
        #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
        pub progress_detail: Option<ProgressDetail>,
        /// The same as a bar, of versions before 1.48.
        #[serde(rename = "progress", skip_serializing_if = "String::is_empty")]
        pub progress: String,
        /// The layer.
        #[serde(rename = "id", skip_serializing_if = "String::is_empty")]
        pub id: String,
        /// Who tells.
        #[serde(rename = "from", skip_serializing_if = "String::is_empty")]
        pub from: String,
        /// Seconds since 1970.
        #[serde(rename = "time", skip_serializing_if = "crate::null::is_default")]
        pub time: i64,
        /// Nanoseconds since 1970.
        #[serde(rename = "timeNano", skip_serializing_if = "crate::null::is_default")]
        pub time_nano: i64,
        /// What went wrong; the last line.
        #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
        pub error_detail: Option<ErrorDetail>,
        /// The same, of versions before 1.52.
        #[serde(rename = "error", skip_serializing_if = "String::is_empty")]
        pub error: String,
        /// What only some clients understand.
        #[serde(rename = "aux", skip_serializing_if = "Option::is_none")]
        pub aux: Option<serde_json::Value>,
    }

    /// How far something is.
    pub struct ProgressDetail {
        /// So far.
        #[serde(rename = "current", skip_serializing_if = "crate::null::is_default")]
        pub current: i64,
        /// Of how much; 0 where not known.
        #[serde(rename = "total", skip_serializing_if = "crate::null::is_default")]
        pub total: i64,
        /// Seconds since 1970.
        #[serde(rename = "start", skip_serializing_if = "crate::null::is_default")]
        pub start: i64,
        /// Whether a count says nothing.
        #[serde(rename = "hidecounts", skip_serializing_if = "crate::null::is_default")]
        pub hide_counts: bool,
        /// Of what; empty for bytes.
        #[serde(rename = "units", skip_serializing_if = "String::is_empty")]
        pub units: String,
    }

    /// What went wrong.
    pub struct ErrorDetail {
        /// An exit code.
        #[serde(rename = "code", skip_serializing_if = "crate::null::is_default")]
        pub code: i64,
        /// One line.
        #[serde(rename = "message")]
        pub message: String,
    }
}

impl Progress {
    /// The last line of a stream that failed.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail { code: 0, message: message.clone() }),
            error: message,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back(bytes in any::<[u8; HEADER]>()) {
            match Header::decode(bytes) {
                Ok(header) => {
                    let again = header.encode();
                    prop_assert_eq!(again[0], bytes[0]);
                    prop_assert_eq!(&again[4..], &bytes[4..]);
                }
                Err(error) => prop_assert_eq!(error, Error::Stream(bytes[0])),
            }
        }
    }

    #[test]
    fn a_frame_is_header_and_payload() {
        let mut out = Vec::new();
        frame(&mut out, Stream::Stderr, b"hi");
        frame(&mut out, Stream::Stdout, b"");
        assert_eq!(out, [2, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    }

    #[test]
    fn progress_leaves_out_what_is_not_there() {
        let line = Progress { status: "Pulling".into(), id: "abc".into(), ..Progress::default() };
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"status":"Pulling","id":"abc"}"#);
    }
}

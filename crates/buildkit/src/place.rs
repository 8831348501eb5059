//! Where in a Dockerfile something went wrong, as BuildKit's errors carry it: a detail of the gRPC status, which clients show as an excerpt.

use std::borrow::Cow;

use bollard_buildkit_proto::google::protobuf::Any;
use bollard_buildkit_proto::google::rpc;
use build::Span;
use build::request::Document;
use prost::Message as _;
use tonic::{Code, Status};

/// What the detail is called; its value is JSON, which the name says.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
/// Details that are looked at, and bytes of one: a Dockerfile is far smaller.
const DETAILS_MAX: usize = 16;
const DETAIL_BYTES_MAX: usize = 8 << 20;

/// Bytes of a message, and of a file that goes with it: both travel in headers, written out several times.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
const TEXT_BYTES_MAX: usize = 1 << 20;

/// A place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub name: String,
    /// What it says.
    pub text: String,
    /// The first line that is meant; lines count from 1.
    pub first_line: usize,
    /// The last one.
    pub last_line: usize,
}

impl Place {
    /// A part of a text.
    pub(crate) fn of(document: &Document, span: Span) -> Self {
        let last = span.end.saturating_sub(1).max(span.start);
        let place = document.source().place(Span::new(span.start, last));
        let files = document.files();
        let (name, text) = files.get(place.file).copied().unwrap_or_default();
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            first_line: place.start.line,
            last_line: place.end.line,
        }
    }
}

/// As BuildKit writes it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Source {
    info: Info,
    ranges: Vec<Range>,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Info {
    filename: String,
    /// In base64.
    data: String,
    language: String,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Position {
    line: usize,
}

/// The status of a failure at a place.
pub(crate) fn status(message: &str, place: &Place) -> Status {
    use base64::Engine as _;
    let message = &*short(message);
    if place.text.len() > TEXT_BYTES_MAX {
        return Status::unknown(message);
    }
    let source = Source {
        info: Info {
            filename: place.name.clone(),
            data: base64::engine::general_purpose::STANDARD.encode(&place.text),
            language: "Dockerfile".to_owned(),
        },
        ranges: vec![Range {
            start: Position { line: place.first_line },
            end: Position { line: place.last_line },
        }],
    };
    // Strings and numbers can always be written.
    let value = serde_json::to_vec(&source).unwrap_or_default();
    let details = rpc::Status {
        code: Code::Unknown.into(),
        message: message.to_owned(),
        details: vec![Any { type_url: SOURCE.to_owned(), value }],
    };
    Status::with_details(Code::Unknown, message, details.encode_to_vec().into())
}

/// A message without its middle, where it is longer than may be sent.
pub(crate) fn short(message: &str) -> Cow<'_, str> {
    if message.len() <= MESSAGE_BYTES_MAX {
        return Cow::Borrowed(message);
    }
    let (head, tail) =
        (message.floor_char_boundary(MESSAGE_BYTES_MAX / 2), message.len() - MESSAGE_BYTES_MAX / 2);
    Cow::Owned(format!("{} … {}", &message[..head], &message[message.ceil_char_boundary(tail)..]))
}

/// The places that a failure names.
pub fn places(status: &Status) -> Vec<Place> {
    let Ok(status) = rpc::Status::decode(status.details()) else { return Vec::new() };
    let details = status.details.into_iter().take(DETAILS_MAX);
    details
        .filter(|detail| detail.type_url == SOURCE && detail.value.len() <= DETAIL_BYTES_MAX)
        .filter_map(|detail| serde_json::from_slice::<Source>(&detail.value).ok())
        .filter_map(read)
        .collect()
}

fn read(source: Source) -> Option<Place> {
    use base64::Engine as _;
    let range = source.ranges.first()?;
    let text = base64::engine::general_purpose::STANDARD.decode(&source.info.data).ok()?;
    Some(Place {
        name: source.info.filename,
        text: String::from_utf8_lossy(&text).into_owned(),
        first_line: range.start.line,
        last_line: range.end.line,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_with_a_status() {
        let place = Place {
            name: "web.Dockerfile".to_owned(),
            text: "FROM a\nRUN b\n".to_owned(),
            first_line: 2,
            last_line: 2,
        };
        let status = status("exit code: 1", &place);
        assert_eq!((status.code(), status.message()), (Code::Unknown, "exit code: 1"));
        assert_eq!(places(&status), [place]);
        assert_eq!(places(&Status::unknown("x")), []);
        let odd = Status::with_details(Code::Unknown, "x", b"\xff\xff".to_vec().into());
        assert_eq!(places(&odd), []);
    }
}

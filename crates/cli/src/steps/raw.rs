//! Messages as JSON, a line each, in the form of BuildKit's `SolveStatus`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildkit::client::Timestamp;
use buildkit::client::api::StatusResponse;
use jiff::Timestamp as Time;
use serde_json::{Map, Value, json};

/// A message's line.
pub(super) fn line(message: &StatusResponse) -> String {
    let mut object = Map::new();
    let mut put = |name: &str, list: Vec<Value>| {
        if !list.is_empty() {
            object.insert(name.to_owned(), Value::Array(list));
        }
    };
    let vertexes = message.vertexes.iter().map(|vertex| {
        without_nothing(json!({
            "digest": vertex.digest,
            "inputs": vertex.inputs,
            "name": vertex.name,
            "started": time(vertex.started.as_ref()),
            "completed": time(vertex.completed.as_ref()),
            "cached": vertex.cached,
            "error": vertex.error,
        }))
    });
    put("vertexes", vertexes.collect());
    let statuses = message.statuses.iter().map(|status| {
        without_nothing(json!({
            "id": status.id,
            "vertex": status.vertex,
            "name": status.name,
            "total": status.total,
            "current": status.current,
            "timestamp": time(status.timestamp.as_ref()),
            "started": time(status.started.as_ref()),
            "completed": time(status.completed.as_ref()),
        }))
    });
    put("statuses", statuses.collect());
    let logs = message.logs.iter().map(|log| {
        without_nothing(json!({
            "vertex": log.vertex,
            "stream": log.stream,
            "data": STANDARD.encode(&log.msg),
            "timestamp": time(log.timestamp.as_ref()),
        }))
    });
    put("logs", logs.collect());
    let warnings = message.warnings.iter().map(|warning| {
        without_nothing(json!({
            "vertex": warning.vertex,
            "level": warning.level,
            "short": STANDARD.encode(&warning.short),
            "detail": warning.detail.iter().map(|line| STANDARD.encode(line)).collect::<Vec<_>>(),
            "url": warning.url,
            "sourceInfo": warning.info.as_ref().map(|info| json!({
                "filename": info.filename,
                "data": STANDARD.encode(&info.data),
                "language": info.language,
            })),
            "range": warning.ranges.iter().map(|range| json!({
                "start": {"line": range.start.as_ref().map_or(0, |at| at.line)},
                "end": {"line": range.end.as_ref().map_or(0, |at| at.line)},
            })).collect::<Vec<_>>(),
        }))
    });
    put("warnings", warnings.collect());
    format!("{}\n", Value::Object(object))
}

fn time(at: Option<&Timestamp>) -> Option<String> {
    let at = at?;
    Time::new(at.seconds, at.nanos).ok().map(|time| time.to_string())
}

/// Go's `omitempty`.
fn without_nothing(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| match value {
            Value::Null => false,
            Value::Bool(is) => *is,
            Value::Number(number) => number.as_i64() != Some(0),
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(_) => true,
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::{at, said, vertex, vertexes};
    use super::*;
    use buildkit::client::api::Vertex;

    #[test]
    fn as_buildkit_writes_it() {
        let message = vertexes(vec![Vertex { started: at(10, 5_000_000), ..vertex("sha256:a", "RUN x") }]);
        let read = |line: String| serde_json::from_str::<Value>(line.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(
            read(line(&message)),
            json!({"vertexes": [{"digest": "sha256:a", "name": "RUN x", "started": "1970-01-01T00:00:10.005Z"}]})
        );
        assert_eq!(
            read(line(&said("sha256:a", "hi\n"))),
            json!({"logs": [{"vertex": "sha256:a", "data": "aGkK", "timestamp": "1970-01-01T00:00:10.25Z"}]})
        );
    }
}

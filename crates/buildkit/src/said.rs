//! What clients say, read without doing any of it: for those who try what strangers may send.

use std::collections::HashMap;

use hyper::HeaderMap;
use tonic::metadata::MetadataMap;

use crate::error::Result;
use crate::filesync::Ask;
use crate::options::Options;
use crate::session::Introduction;

/// Reads what the gateway's `Solve` asks of a frontend.
///
/// # Errors
/// It is wrong, or asks for what there is not.
pub fn frontend(name: &str, options: &HashMap<String, String>) -> Result<build::Request> {
    Options::read(name, options).map(|options| options.request)
}

/// Reads the headers with which a session begins.
///
/// # Errors
/// They are wrong.
pub fn introduction(headers: &HeaderMap) -> Result<Introduction> {
    Introduction::read(headers)
}

/// Reads the headers by which files are asked for.
///
/// # Errors
/// They are wrong.
pub fn ask(headers: HeaderMap) -> Result<Ask> {
    Ask::read(&MetadataMap::from_headers(headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "filename",
            "target",
            "platform",
            "context",
            "contextsubdir",
            "context:base",
            "context:base::linux/arm64",
            "context:base:input",
            "dockerfilekey",
            "contextkey",
            "build-arg:A",
            "label:l",
            "no-cache",
            "image-resolve-mode",
            "force-network-mode",
            "add-hosts",
            "shm-size",
            "ulimit",
            "cgroup-parent",
            "multi-platform",
            "attest:sbom",
            "attest:provenance",
            "cache-imports",
            "cache-from",
            "hostname",
            "requestid",
            "frontend.caps",
            "source",
            "build-arg:SOURCE_DATE_EPOCH",
            "build-arg:BUILDKIT_SYNTAX",
            "build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        ]);
        prop_oneof![8 => known.prop_map(str::to_owned), 1 => "[a-z:.-]{0,12}"]
    }

    fn any_value() -> impl Strategy<Value = String> {
        let telling = prop::sample::select(vec![
            "",
            "1",
            "true",
            "0",
            "-1",
            "99999999999999999999",
            "linux/arm64",
            "linux/arm64,linux/amd64",
            "../..",
            "/",
            "a=b,c=d",
            "docker-image://a",
            "git://x#y:../z",
            "local:a",
            "oci-layout://a",
            "[{\"Type\":\"registry\"}]",
            "[",
            "nofile=1:0",
            "a=[::1]",
            "host",
            "\0",
            "mode=max,inline-only=true",
            "https://a/b.tar",
            "input:x",
            "é\u{1b}[0m",
        ]);
        prop_oneof![4 => telling.prop_map(str::to_owned), 1 => any::<String>()]
    }

    proptest! {
        #[test]
        fn whatever_is_asked_is_read_the_same_or_refused_in_one_line(
            options in prop::collection::hash_map(any_key(), any_value(), 0..8),
        ) {
            let read = || frontend("dockerfile.v0", &options);
            match (read(), read()) {
                (Ok(one), Ok(other)) => prop_assert_eq!(format!("{:?}", one), format!("{:?}", other)),
                (Err(_), Err(error)) => prop_assert!(!error.chain().is_empty()),
                (one, other) => prop_assert!(false, "{one:?} {other:?}"),
            }
        }

        #[test]
        fn whatever_headers_say_is_bounded(
            values in prop::collection::vec((0..8usize, prop::collection::vec(any::<u8>(), 0..40)), 0..80),
        ) {
            const NAMES: [&str; 8] = [
                "x-docker-expose-session-uuid", "x-docker-expose-session-sharedkey", "x-docker-expose-session-grpc-method",
                "x-corten-session-directory", "dir-name", "followpaths", "followpaths-encoded", "exclude-patterns",
            ];
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(HeaderName::from_static(NAMES[name]), value);
                }
            }
            if let Ok(introduction) = introduction(&headers) {
                prop_assert!(!introduction.id().is_empty());
                prop_assert!(introduction.methods.len() <= 64);
            }
            let _ = ask(headers);
        }
    }
}

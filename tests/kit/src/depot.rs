//! A registry in memory that takes what it is given: uploads in one piece or in several, which go on where a connection
//! broke. Debian's registry begins those anew.

use std::collections::HashMap;
use std::io::{BufReader, Read as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::fixtures::digest;
use crate::http::{Answer, Head, Server};

/// What it has.
#[derive(Debug, Default)]
struct Content {
    uploads: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
    begun: usize,
}

/// How it does what the specification leaves open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ways {
    /// Locations are absolute URLs.
    pub absolute: bool,
    /// The smallest piece of an upload that it takes.
    pub chunk_min: Option<u64>,
    /// The most of a request's body that it takes.
    pub chunk_max: Option<usize>,
}

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct Depot {
    server: Server,
    content: Arc<Mutex<Content>>,
}

impl Depot {
    /// A registry that is empty.
    pub fn start(ways: Ways) -> Self {
        let content: Arc<Mutex<Content>> = Arc::default();
        let shared = content.clone();
        let server = Server::raw(move |head, stream| serve(&shared, ways, &head, stream));
        Self { server, content }
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// A blob that it has.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        self.content.lock().expect("the content").blobs.get(digest).cloned()
    }

    /// A manifest that it has, by tag or digest.
    pub fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.content.lock().expect("the content").manifests.get(name).cloned()
    }

    /// How many uploads were begun.
    pub fn begun(&self) -> usize {
        self.content.lock().expect("the content").begun
    }

    /// Forgets uploads that have begun.
    pub fn forget(&self) {
        self.content.lock().expect("the content").uploads.clear();
    }
}

fn serve(shared: &Mutex<Content>, ways: Ways, head: &Head, mut stream: BufReader<TcpStream>) {
    let (length, mut body) = (head.content_length().unwrap_or(0), Vec::new());
    let max = ways.chunk_max.map_or(u64::MAX, |max| max as u64);
    let _ = stream.by_ref().take(length.min(max)).read_to_end(&mut body);
    let _ = std::io::copy(&mut stream.by_ref().take(length.saturating_sub(max)), &mut std::io::sink());
    let whole = body.len() as u64 == length.min(max);
    let answer = shared.lock().expect("the content").answer(ways, head, body);
    // Who was cut off hears nothing.
    if whole {
        answer.send(head, stream.get_mut());
    }
}

fn refuse(status: u16, code: &str) -> Answer {
    Answer::json(status, &serde_json::json!({"errors": [{"code": code, "message": "no"}]}))
}

impl Content {
    fn answer(&mut self, ways: Ways, head: &Head, body: Vec<u8>) -> Answer {
        let parts: Vec<&str> = head.path().trim_start_matches("/v2/").split('/').collect();
        match (head.method.as_str(), parts.as_slice()) {
            ("POST", [.., "blobs", "uploads", ""]) => {
                self.begun += 1;
                let id = self.begun.to_string();
                self.uploads.insert(id.clone(), Vec::new());
                self.taken(ways, head, &id, 202)
            }
            (method, [.., "blobs", "uploads", id]) => {
                let id = (*id).to_owned();
                let Some(upload) = self.uploads.get_mut(&id) else {
                    return refuse(404, "BLOB_UPLOAD_UNKNOWN");
                };
                match method {
                    "GET" => self.taken(ways, head, &id, 204),
                    "DELETE" => {
                        self.uploads.remove(&id);
                        Answer::new(204, "text/plain", "")
                    }
                    "PATCH" => {
                        let range = head.header("content-range").and_then(|range| range.split_once('-'));
                        let start = range.and_then(|(start, _)| start.parse().ok());
                        if start != Some(upload.len()) {
                            return refuse(416, "RANGE_INVALID");
                        }
                        upload.extend_from_slice(&body);
                        self.taken(ways, head, &id, 202)
                    }
                    "PUT" => self.finish(head, &id, &body),
                    _ => refuse(405, "UNSUPPORTED"),
                }
            }
            (_, [.., "blobs", name]) => match self.blobs.get(*name) {
                Some(bytes) => Answer::new(200, "application/octet-stream", bytes.clone()),
                None => refuse(404, "BLOB_UNKNOWN"),
            },
            ("PUT", [.., "manifests", name]) => {
                let name = (*name).to_owned();
                let of = digest(&body);
                self.manifests.insert(of.clone(), body.clone());
                self.manifests.insert(name, body);
                Answer::new(201, "text/plain", "").with("Docker-Content-Digest", &of)
            }
            (_, [.., "manifests", name]) => match self.manifests.get(*name) {
                Some(bytes) => Answer::new(200, "application/vnd.oci.image.manifest.v1+json", bytes.clone())
                    .with("Docker-Content-Digest", &digest(bytes)),
                None => refuse(404, "MANIFEST_UNKNOWN"),
            },
            _ => refuse(404, "NAME_UNKNOWN"),
        }
    }

    /// Where an upload is, and how far.
    fn taken(&self, ways: Ways, head: &Head, id: &str, status: u16) -> Answer {
        let length = self.uploads.get(id).map_or(0, Vec::len);
        let base = match (ways.absolute, head.header("host")) {
            (true, Some(host)) => format!("http://{host}"),
            _ => String::new(),
        };
        let path = head.path().split("/blobs/").next().unwrap_or_default();
        let mut answer = Answer::new(status, "text/plain", "")
            .with("Location", &format!("{base}{path}/blobs/uploads/{id}?state=x"))
            .with("Range", &format!("0-{}", length.saturating_sub(1)));
        if let Some(min) = ways.chunk_min {
            answer = answer.with("OCI-Chunk-Min-Length", &min.to_string());
        }
        answer
    }

    fn finish(&mut self, head: &Head, id: &str, body: &[u8]) -> Answer {
        let mut bytes = self.uploads.remove(id).unwrap_or_default();
        bytes.extend_from_slice(body);
        let of = digest(&bytes);
        let query = head.query().replace("%3A", ":").replace("%3a", ":");
        if !query.split('&').any(|pair| pair.strip_prefix("digest=") == Some(of.as_str())) {
            return refuse(400, "DIGEST_INVALID");
        }
        self.blobs.insert(of.clone(), bytes);
        Answer::new(201, "text/plain", "").with("Docker-Content-Digest", &of)
    }
}

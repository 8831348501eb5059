//! A proxy in front of a registry that misbehaves as it is told, and remembers what it was asked.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::http::{Answer, Head, Server};

/// How an answer goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    CutAfter(u64),
    /// This answer instead of the registry's.
    Instead(Answer),
    /// The body never ends: after the registry's bytes come more.
    Endless,
    /// One byte of the body, at this offset, is another.
    Corrupt(u64),
    /// This header has another value (none: it is left out).
    Header(&'static str, Option<String>),
    /// The body comes at so many bytes a second.
    Slow(u64),
    /// The body stops after so many bytes, until [`Faulty::release`].
    Hold(u64),
    /// `Range` is ignored: the body starts from the beginning.
    NoRange,
    /// The connection ends after so many bytes of what is sent to the registry.
    CutUpload(u64),
    /// What is sent to the registry stops after so many bytes, until [`Faulty::release`].
    HoldUpload(u64),
}

/// When a fault happens.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The request's method and path, with a blank between them, contain this.
    pub path: String,
    /// What happens.
    pub fault: Fault,
    /// How often; after that the rule is spent.
    pub times: u32,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Content-Range` header.
    pub content_range: Option<String>,
    /// Bytes of the answer's body that were sent on.
    pub sent: u64,
    /// Bytes of the request's body that came.
    pub received: u64,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    asked: Vec<Asked>,
    released: bool,
    held: u32,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A running proxy; it ends when dropped.
#[derive(Debug)]
pub struct Faulty {
    server: Server,
    shared: Shared,
}

impl Faulty {
    /// A proxy of the registry at `upstream` (`127.0.0.1:port`).
    pub fn start(upstream: &str) -> Self {
        let upstream: SocketAddr = upstream.parse().expect("an address");
        Self::run(Some(upstream))
    }

    /// No registry at all: only [`Fault::Instead`] answers, 404 otherwise.
    pub fn alone() -> Self {
        Self::run(None)
    }

    fn run(upstream: Option<SocketAddr>) -> Self {
        let shared: Shared = Arc::default();
        let state = shared.clone();
        let server = Server::raw(move |head, stream| serve(upstream, &state, &head, stream));
        Self { server, shared }
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// Lets the next `times` requests go wrong whose method and path (`GET /v2/…`) contain `path`. Rules are tried in the order they came.
    pub fn fault(&self, path: &str, fault: Fault, times: u32) {
        self.lock().rules.push(Rule { path: path.into(), fault, times });
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// How many bytes were sent of bodies whose path contains `path`.
    pub fn sent(&self, path: &str) -> u64 {
        self.lock().asked.iter().filter(|asked| asked.path.contains(path)).map(|asked| asked.sent).sum()
    }

    /// How many bytes came with requests whose method and path contain `path`.
    pub fn received(&self, path: &str) -> u64 {
        let state = self.lock();
        let asked =
            state.asked.iter().filter(|asked| format!("{} {}", asked.method, asked.path).contains(path));
        asked.map(|asked| asked.received).sum()
    }

    /// Waits until `count` answers are held, for at most half a minute.
    pub fn wait_held(&self, count: u32) {
        let (state, timeout) = self
            .shared
            .1
            .wait_timeout_while(self.lock(), Duration::from_secs(30), |state| state.held < count)
            .expect("the state");
        drop(state);
        assert!(!timeout.timed_out(), "nobody asked for what is held");
    }

    /// Lets held answers go on, now and from now on.
    pub fn release(&self) {
        self.lock().released = true;
        self.shared.1.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.0.lock().expect("the state")
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.release();
    }
}

fn serve(upstream: Option<SocketAddr>, shared: &Shared, head: &Head, client: BufReader<TcpStream>) {
    let (index, fault) = {
        let mut state = shared.0.lock().expect("the state");
        state.asked.push(Asked {
            method: head.method.clone(),
            path: head.target.clone(),
            range: head.header("range").map(str::to_owned),
            authorization: head.header("authorization").map(str::to_owned),
            content_range: head.header("content-range").map(str::to_owned),
            sent: 0,
            received: 0,
        });
        let index = state.asked.len() - 1;
        let line = format!("{} {}", head.method, head.path());
        let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && line.contains(&rule.path));
        let fault = rule.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        });
        (index, fault)
    };
    if let Some(Fault::Instead(answer)) = &fault {
        instead(answer, head, client);
        return;
    }
    let Some(upstream) = upstream else {
        instead(&Answer::json(404, &serde_json::json!({"errors": []})), head, client);
        return;
    };
    let Ok(server) = TcpStream::connect(upstream) else { return };
    forward(shared, index, fault.as_ref(), head, client, server);
}

/// Answers for the registry; what comes with the request is read, so that the answer is.
fn instead(answer: &Answer, head: &Head, mut client: BufReader<TcpStream>) {
    let length = head.content_length().unwrap_or(0);
    let _ = std::io::copy(&mut client.by_ref().take(length), &mut std::io::sink());
    answer.send(head, client.get_mut());
}

/// Sends the request on, and the answer back with its fault.
fn forward(
    shared: &Shared,
    index: usize,
    fault: Option<&Fault>,
    head: &Head,
    mut client: BufReader<TcpStream>,
    mut server: TcpStream,
) {
    let mut request = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    for (name, value) in &head.headers {
        let dropped = name == "connection" || (name == "range" && matches!(fault, Some(Fault::NoRange)));
        if !dropped {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("connection: close\r\n\r\n");
    if server.write_all(request.as_bytes()).is_err()
        || !pass_body(shared, index, fault, head, &mut client, &mut server)
    {
        return;
    }
    let mut client = client.into_inner();
    let mut server = BufReader::new(server);
    let Some(answer) = Head::read(&mut server) else { return };
    let endless = matches!(fault, Some(Fault::Endless));
    let mut text = format!("HTTP/1.1 {} Answer\r\n", answer.target);
    for (name, value) in &answer.headers {
        let changed = matches!(fault, Some(Fault::Header(header, _)) if header.eq_ignore_ascii_case(name));
        let dropped = name == "connection" || changed || (endless && name == "content-length");
        if !dropped {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(Fault::Header(name, Some(value))) = fault {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // A body without length and chunks ends with the connection, which is all that "endless" needs.
    text.push_str("connection: close\r\n\r\n");
    if client.write_all(text.as_bytes()).is_err() || head.method == "HEAD" {
        return;
    }
    let mut at = 0_u64;
    let mut buffer = vec![0; 16 << 10];
    let mut left = answer.content_length().unwrap_or(u64::MAX);
    loop {
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match server.read(&mut buffer[..want]) {
            Ok(0) | Err(_) if endless => buffer.len(),
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        let mut end = read as u64;
        match fault {
            Some(Fault::CutAfter(limit)) => end = end.min(limit.saturating_sub(at)),
            Some(Fault::Corrupt(offset)) if (at..at + end).contains(offset) => {
                let index = usize::try_from(offset - at).expect("within the buffer");
                buffer[index] ^= 0x55;
            }
            Some(Fault::Slow(rate)) => {
                std::thread::sleep(Duration::from_secs_f64(read as f64 / (*rate).max(1) as f64));
            }
            Some(Fault::Hold(limit)) if at + end > *limit => hold(shared),
            _ => {}
        }
        let part = &buffer[..usize::try_from(end).expect("within the buffer")];
        if client.write_all(part).is_err() {
            return;
        }
        at += end;
        left = left.saturating_sub(read as u64);
        shared.0.lock().expect("the state").asked[index].sent = at;
        if end < read as u64 || (left == 0 && !endless) {
            return;
        }
    }
}

/// Sends what comes with a request on; false where it ends there.
fn pass_body(
    shared: &Shared,
    index: usize,
    fault: Option<&Fault>,
    head: &Head,
    client: &mut BufReader<TcpStream>,
    server: &mut TcpStream,
) -> bool {
    let (mut left, mut at) = (head.content_length().unwrap_or(0), 0_u64);
    let mut buffer = vec![0; 16 << 10];
    let mut held = false;
    while left > 0 {
        let mut want = left.min(buffer.len() as u64);
        match fault {
            Some(Fault::CutUpload(limit)) if at >= *limit => return false,
            Some(Fault::CutUpload(limit)) => want = want.min(limit - at),
            Some(Fault::HoldUpload(limit)) if at >= *limit && !held => {
                held = true;
                hold(shared);
            }
            _ => {}
        }
        let want = usize::try_from(want).expect("within the buffer");
        let read = match client.read(&mut buffer[..want]) {
            Ok(0) | Err(_) => return false,
            Ok(read) => read,
        };
        if server.write_all(&buffer[..read]).is_err() {
            // The registry has answered early, perhaps.
            return true;
        }
        (left, at) = (left - read as u64, at + read as u64);
        shared.0.lock().expect("the state").asked[index].received = at;
    }
    true
}

/// Waits for the release.
fn hold(shared: &Shared) {
    let mut state = shared.0.lock().expect("the state");
    state.held += 1;
    shared.1.notify_all();
    let _state = shared.1.wait_while(state, |state| !state.released).expect("the state");
}

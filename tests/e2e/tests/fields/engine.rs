//! Two engines that are asked the same: ours, and Debian's dockerd in a world of its own.

use std::path::PathBuf;

use kit::dockerd::Dockerd;
use kit::{Cmd, Host};
use serde_json::Value;

/// An engine by its socket.
pub struct Engine {
    /// What it is called in messages.
    pub name: &'static str,
    socket: PathBuf,
}

impl Engine {
    /// Ours.
    pub fn of_host(host: &Host) -> Self {
        Self { name: "Corten", socket: host.socket() }
    }

    /// Debian's.
    pub fn of_dockerd(dockerd: &Dockerd) -> Self {
        Self { name: "Docker", socket: dockerd.socket() }
    }

    /// Sends a request in version 1.41 and reads the answer's status and JSON; what has none is null.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let socket = self.socket.display().to_string();
        let url = format!("http://engine/v1.41{path}");
        let args =
            ["-sS", "--max-time", "60", "-w", "\n%{http_code}", "--unix-socket", &socket, "-X", method, &url];
        let mut curl = Cmd::new("curl").args(args);
        if let Some(body) = body {
            curl = curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let said = curl.ok();
        let (text, status) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
        let status = status.parse().unwrap_or_else(|error| panic!("{path}: {error}: {said}"));
        (status, serde_json::from_str(text).unwrap_or(Value::Null))
    }

    /// Sends a request and gives the answer as it is: the status, the head, the body.
    pub fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let socket = self.socket.display().to_string();
        // As a person would type it who knows what has to be escaped.
        let path = path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
        let url = format!("http://engine/v1.41{path}");
        let how: &[&str] = if method == "HEAD" { &["-I"] } else { &["-i", "-X", method] };
        let mut curl =
            Cmd::new("curl").args(["-sS", "-g", "--max-time", "60", "--unix-socket", &socket]).args(how);
        if !body.is_empty() {
            curl = curl.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        let said = curl.args([&url]).ok().replace('\r', "");
        let (head, text) = said.split_once("\n\n").unwrap_or((&said, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_owned(), text.to_owned())
    }

    /// What is at a path.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{}: {path}: {answer}", self.name);
        answer
    }

    /// Does something that must work.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, Some(body));
        assert!(status < 300, "{}: {path}: {status} {answer}", self.name);
        answer
    }

    /// The lines of JSON at a path that ends.
    pub fn lines(&self, path: &str) -> Vec<Value> {
        let url = format!("http://engine/v1.41{path}");
        let socket = self.socket.display().to_string();
        let text = Cmd::new("curl").args(["-sS", "--max-time", "60", "--unix-socket", &socket, &url]).ok();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of json")).collect()
    }
}

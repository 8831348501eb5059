//! A token server as registries use them: checks a name and a password, and signs what their bearer may do.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::http::{Answer, Head, Server};

/// The refresh token that it takes in place of a password.
pub const REFRESH_TOKEN: &str = "refresh-me";

/// A running token server; it ends when dropped.
#[derive(Debug)]
pub struct TokenServer {
    server: Server,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Signer {
    dir: PathBuf,
    username: String,
    password: String,
}

impl TokenServer {
    /// Signs with `ca.key` of this folder; knows one user. Anonymous ones may pull from repositories below `public/`.
    pub fn start(dir: &Path, username: &str, password: &str) -> Self {
        let signer =
            Signer { dir: dir.to_owned(), username: username.to_owned(), password: password.to_owned() };
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let server = Server::start(move |head, body| {
            log.lock().expect("the log").push(format!("{} {}", head.method, head.target));
            signer.answer(head, body)
        });
        Self { server, asked }
    }

    /// The realm of the challenges that lead here.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// What was asked so far: method and target of each request.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the log").clone()
    }
}

impl Signer {
    fn answer(&self, head: &Head, body: &[u8]) -> Answer {
        let form = String::from_utf8_lossy(body).into_owned();
        let query = if head.method == "POST" { form.as_str() } else { head.query() };
        let parameters = parse(query);
        let known = match head.header("authorization").and_then(|value| value.strip_prefix("Basic ")) {
            Some(pair) => {
                let expected = STANDARD.encode(format!("{}:{}", self.username, self.password));
                if pair != expected {
                    return Answer::json(401, &json!({"details": "incorrect username or password"}));
                }
                true
            }
            None => match parameters.get("refresh_token") {
                Some(token) if token == REFRESH_TOKEN => true,
                Some(_) => return Answer::json(401, &json!({"details": "invalid refresh token"})),
                None => false,
            },
        };
        let mut access = Vec::new();
        // Several may come one by one, or with blanks between them.
        let scopes = pairs(query).filter(|(name, _)| name == "scope").map(|(_, scope)| scope);
        for scope in scopes.flat_map(|scopes| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>()) {
            let mut parts = scope.splitn(3, ':');
            if let (Some(kind), Some(name), Some(actions)) = (parts.next(), parts.next(), parts.next()) {
                let granted: Vec<&str> = actions
                    .split(',')
                    .filter(|action| known || (name.starts_with("public/") && *action == "pull"))
                    .collect();
                access.push(json!({"type": kind, "name": name, "actions": granted}));
            }
        }
        let mut answer = json!({"token": self.sign(&access), "expires_in": 300});
        if known && parameters.get("offline_token").is_some_and(|wanted| wanted == "true") {
            answer["refresh_token"] = REFRESH_TOKEN.into();
        }
        Answer::json(200, &answer)
    }

    fn sign(&self, access: &[serde_json::Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let pem = fs::read_to_string(self.dir.join("ca.crt")).expect("read the certificate");
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
        let claims = json!({
            "iss": "tests", "sub": self.username, "aud": "tests", "jti": format!("{now}"),
            "iat": now, "nbf": now - 10, "exp": now + 300, "access": access,
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.dir.join("ca.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start openssl");
        std::io::Write::write_all(&mut openssl.stdin.take().expect("a pipe"), signed.as_bytes())
            .expect("write to openssl");
        let out = openssl.wait_with_output().expect("wait for openssl");
        assert!(out.status.success(), "openssl cannot sign");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(&out.stdout))
    }
}

fn parse(query: &str) -> HashMap<String, String> {
    pairs(query).collect()
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (unescape(name), unescape(value)))
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

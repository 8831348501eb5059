//! `WWW-Authenticate`: what a registry wants to see before it answers.

use std::collections::HashMap;

/// More challenges than any registry sends; the rest is not read.
const CHALLENGES_MAX: usize = 8;

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// The scheme in lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    /// The parameters, names in lower case.
    pub(crate) parameters: HashMap<String, String>,
}

impl Challenge {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// Reads one header's value. Total: what cannot be read ends the list.
pub(crate) fn parse(value: &str) -> Vec<Challenge> {
    let mut rest = value;
    let mut challenges: Vec<Challenge> = Vec::new();
    while challenges.len() < CHALLENGES_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            // `name=value` belongs to the challenge before it.
            Some(value) => {
                let Some((value, after)) = self::value(value.trim_start()) else { break };
                let Some(last) = challenges.last_mut() else { break };
                last.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = after;
            }
            None => {
                challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: HashMap::new() });
                rest = after;
            }
        }
    }
    challenges
}

/// What the fuzzer gives.
#[doc(hidden)]
pub fn fuzz(value: &str) {
    assert!(parse(value).len() <= CHALLENGES_MAX);
}

/// An RFC 9110 token and what follows it.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted URLs are sent by some registries, so everything up to a comma or blank counts.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_bearer_challenge() {
        let all = parse(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].scheme, "bearer");
        assert_eq!(all[0].get("realm"), Some("https://auth.example/token"));
        assert_eq!(all[0].get("service"), Some("registry.example"));
        assert_eq!(all[0].get("scope"), Some("repository:a/b:pull,push"));
    }

    #[test]
    fn reads_several_challenges_in_one_value() {
        let all = parse(r#"Negotiate, Basic realm="a \"b\" c", BEARER realm = x , service=y"#);
        let schemes: Vec<_> = all.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer"]);
        assert_eq!(all[1].get("realm"), Some("a \"b\" c"));
        assert_eq!(all[2].get("realm"), Some("x"));
        assert_eq!(all[2].get("service"), Some("y"));
    }

    #[test]
    fn survives_nonsense() {
        for text in ["", ",,,", "=", "Basic realm=\"open", "\"", "a=b", "Basic \u{e9}=1", "\\"] {
            let _ = parse(text);
        }
        assert!(parse("a=b").is_empty());
        assert_eq!(parse("Basic realm=\"open")[0].parameters.len(), 0);
        assert_eq!(parse(&"x ,".repeat(1000)).len(), CHALLENGES_MAX);
    }
}

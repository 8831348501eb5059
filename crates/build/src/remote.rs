//! Where contexts and `ADD` come from elsewhere: repositories of git and files on the net, by their addresses.

use crate::dockerfile::mount::truth;

/// Letters of an address and of what it names.
const LETTERS_MAX: usize = 4096;
/// How the address of an archive begins that the client itself gives, as BuildKit's clients write it.
const UPLOAD: &str = "http://buildkit-session/";

/// An address that leads to something elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A repository.
    Git(Git),
    /// A file.
    Http(String),
}

/// A repository, and what of it is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Git {
    /// Where it is, without what is meant of it.
    pub url: String,
    /// A branch, a tag, another reference or a commit; the repository's own branch if nothing is said.
    pub reference: Option<String>,
    /// A directory of it.
    pub subdir: Option<String>,
    /// The commit that it has to be, or its first letters.
    pub checksum: Option<String>,
    /// Whether `.git` is kept.
    pub keep_git_dir: Option<bool>,
    /// Whether the repositories within it are fetched.
    pub submodules: Option<bool>,
}

impl Remote {
    /// What an address leads to; nothing if it is none: a path, perhaps.
    ///
    /// # Errors
    /// It is one of git, and wrong.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.len() > LETTERS_MAX || text.chars().any(|letter| letter.is_control() || letter == ' ') {
            return Ok(None);
        }
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let (scheme, rest) = match address.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None if is_secure_copy(address) => return git(address, None, fragment).map(Some),
            None => return Ok(None),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let is_web = matches!(scheme.as_str(), "http" | "https");
        if is_web && !path.ends_with(".git") {
            return Ok(Some(Self::Http(text.to_owned())));
        }
        if !is_web && !matches!(scheme.as_str(), "git" | "ssh") {
            return Ok(None);
        }
        let host = path.split('/').next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        if !host.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '[') {
            return Err(format!("invalid git address {:?}: it names no host", shown(text)));
        }
        git(&format!("{scheme}://{path}"), query, fragment).map(Some)
    }

    /// The same for a build's context, which may be a repository of GitHub's without `https://`.
    ///
    /// # Errors
    /// It is one of git, and wrong.
    pub fn parse_context(text: &str) -> Result<Option<Self>, String> {
        if text.starts_with("github.com/") { Self::parse_github(text) } else { Self::parse(text) }
    }

    fn parse_github(text: &str) -> Result<Option<Self>, String> {
        let (path, fragment) = text.split_once('#').map_or((text, None), |(path, rest)| (path, Some(rest)));
        git(&format!("https://{path}"), None, fragment).map(Some)
    }
}

/// Which archive of the client's an address means, if it means one: it is nowhere on the net.
pub fn upload(address: &str) -> Option<&str> {
    let name = address.strip_prefix(UPLOAD)?;
    Some(name).filter(|name| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric()))
}

/// The address of an archive of the client's.
pub fn upload_address(name: &str) -> String {
    format!("{UPLOAD}{name}")
}

/// An address as it may be told: without a name and a password.
pub fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match host.rsplit_once('@') {
        // On the web a name alone may be a token as well; an image's digest is behind the same letter.
        Some((user, _)) if scheme.starts_with("http") || user.contains(':') && !scheme.contains('-') => {
            format!("{scheme}://xxxxx@{}", &rest[user.len() + 1..])
        }
        _ => text.to_owned(),
    }
}

/// A text as it may be told: the addresses in it without names and passwords.
pub fn redacted(text: &str) -> String {
    let mut told = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        told.push_str(head);
        let end = tail
            .find(|letter: char| letter.is_whitespace() || "/?#\"'`,<>|&;()".contains(letter))
            .unwrap_or(tail.len());
        rest = match tail[..end].rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                told.push_str("xxxxx");
                &tail[user.len()..]
            }
            _ => tail,
        };
    }
    told + rest
}

/// `git@example.com:team/project`: what `scp` understands.
fn is_secure_copy(address: &str) -> bool {
    let Some((user, rest)) = address.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let is_name = |text: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter))
    };
    is_name(user) && is_name(host) && !path.is_empty() && !path.starts_with('-')
}

fn git(url: &str, query: Option<&str>, fragment: Option<&str>) -> Result<Remote, String> {
    let mut git = Git { url: url.to_owned(), ..Git::default() };
    if let Some(fragment) = fragment {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        git.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        git.subdir = Some(subdir.to_owned()).filter(|subdir| !subdir.is_empty());
    }
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        take(&mut git, key, &decoded(value)?)?;
    }
    if git.reference.is_none() {
        git.reference.clone_from(&git.checksum);
    }
    if let Some(reference) = &git.reference {
        check_reference(reference)?;
    }
    if let Some(checksum) = &git.checksum {
        check_commit(checksum)?;
    }
    Ok(Remote::Git(git))
}

fn take(git: &mut Git, key: &str, value: &str) -> Result<(), String> {
    if value.is_empty() && !matches!(key, "keep-git-dir" | "submodules") {
        return Err(format!("query {key:?} has no value"));
    }
    let flag = || match value {
        "" => Ok(Some(true)),
        value => truth(value).map(Some).ok_or_else(|| format!("invalid {key} value: {value:?}")),
    };
    let full = |prefix: &str| {
        if value.starts_with(prefix) { value.to_owned() } else { format!("{prefix}{value}") }
    };
    let (place, value, name) = match key {
        "ref" => (&mut git.reference, value.to_owned(), "ref"),
        "tag" => (&mut git.reference, full("refs/tags/"), "ref"),
        "branch" => (&mut git.reference, full("refs/heads/"), "ref"),
        "subdir" => (&mut git.subdir, value.to_owned(), "subdir"),
        "checksum" | "commit" => (&mut git.checksum, value.to_owned(), "checksum"),
        "keep-git-dir" => {
            git.keep_git_dir = flag()?;
            return Ok(());
        }
        "submodules" => {
            git.submodules = flag()?;
            return Ok(());
        }
        _ => return Err(format!("unexpected query {key:?}")),
    };
    match place {
        Some(other) if *other != value => Err(format!("{name} conflicts: {other:?} vs {value:?}")),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// A value of a query.
fn decoded(value: &str) -> Result<String, String> {
    let wrong = || format!("invalid query value {value:?}");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let number = high.zip(low).map(|(high, low)| high * 16 + low);
                number.and_then(|number| u8::try_from(number).ok()).ok_or_else(wrong)?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Refuses what is no name of a reference: nothing that the program `git` could take for anything else.
fn check_reference(reference: &str) -> Result<(), String> {
    let is_odd = |letter: char| letter.is_control() || " ~^:?*[\\".contains(letter);
    if reference.starts_with(['-', '/', '+'])
        || reference.contains("..")
        || reference.contains("@{")
        || reference.chars().any(is_odd)
    {
        return Err(format!("invalid git reference {reference:?}"));
    }
    Ok(())
}

/// Refuses what is no commit, nor the first letters of one.
pub fn check_commit(commit: &str) -> Result<(), String> {
    const LEAST: usize = 7;
    const WHOLE: [usize; 2] = [40, 64];
    let is_hex = commit.chars().all(|letter| matches!(letter, '0'..='9' | 'a'..='f'));
    if is_hex && (LEAST..=WHOLE[1]).contains(&commit.len()) {
        return Ok(());
    }
    Err(format!("invalid checksum {commit:?}: a commit is expected, or its first {LEAST} letters or more"))
}

/// What a checksum of a file is, as it is asked for.
const CHECKSUM: &str =
    "sha256: and 64 hexadecimal digits in small letters, the one algorithm that the engine takes";

impl Remote {
    /// Looks whether what is there can have such a checksum: a file has a digest, a repository a commit.
    ///
    /// # Errors
    /// It cannot: why not, and what would be one.
    pub fn check_checksum(&self, checksum: &str) -> Result<(), (String, String)> {
        match self {
            Self::Http(_) => check_digest(checksum).map_err(|message| (message, CHECKSUM.to_owned())),
            Self::Git(_) => {
                check_commit(checksum).map_err(|message| (message, "letters of a commit's hash".to_owned()))
            }
        }
    }
}

fn check_digest(checksum: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("invalid checksum {checksum:?}: {why}"));
    match oci::Digest::parse(checksum) {
        Ok(digest) if digest.algorithm() == oci::Algorithm::Sha256 => Ok(()),
        Ok(_) => wrong("unsupported digest algorithm"),
        Err(error) => wrong(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn git_of(text: &str) -> Git {
        match Remote::parse_context(text).unwrap() {
            Some(Remote::Git(git)) => git,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn texts_are_told_without_passwords() {
        for (text, told) in [
            ("ADD https://h/f https://u:p@h/f /", "ADD https://h/f https://xxxxx@h/f /"),
            (
                r#"ADD ["http://a:b@h:1/x","ssh://c:d@e@h/y", "/"]"#,
                r#"ADD ["http://xxxxx@h:1/x","ssh://xxxxx@h/y", "/"]"#,
            ),
            ("RUN curl 'https://u:@h'|sh", "RUN curl 'https://xxxxx@h'|sh"),
            ("ADD ssh://git@h:22/r https://u@h/:@ a@b:c /", "ADD ssh://git@h:22/r https://u@h/:@ a@b:c /"),
            ("://", "://"),
        ] {
            assert_eq!(redacted(text), told);
        }
    }

    #[test]
    fn addresses_are_told_apart() {
        let some = |text: &str| Some(text.to_owned());
        for (text, url, reference, subdir) in [
            ("https://example.com/a/b.git", "https://example.com/a/b.git", None, None),
            ("https://example.com/b.git#v1", "https://example.com/b.git", some("v1"), None),
            (
                "https://example.com/b.git#v1:sub/dir",
                "https://example.com/b.git",
                some("v1"),
                some("sub/dir"),
            ),
            ("https://example.com/b.git#:sub", "https://example.com/b.git", None, some("sub")),
            ("http://u:p@example.com:80/b.git", "http://u:p@example.com:80/b.git", None, None),
            ("git://example.com/b#main", "git://example.com/b", some("main"), None),
            ("ssh://git@example.com:2222/b", "ssh://git@example.com:2222/b", None, None),
            ("git@example.com:a/b.git#x/y", "git@example.com:a/b.git", some("x/y"), None),
            ("github.com/a/b#v2", "https://github.com/a/b", some("v2"), None),
            (
                "https://example.com/b.git?tag=v1&subdir=a%2Fb",
                "https://example.com/b.git",
                some("refs/tags/v1"),
                some("a/b"),
            ),
            (
                "https://example.com/b.git?branch=refs/heads/m",
                "https://example.com/b.git",
                some("refs/heads/m"),
                None,
            ),
        ] {
            let git = git_of(text);
            assert_eq!((git.url.as_str(), git.reference, git.subdir), (url, reference, subdir), "{text}");
        }
        let git = git_of("https://e.com/b.git?commit=0123456789abcdef&keep-git-dir&submodules=false");
        assert_eq!(git.checksum, git.reference);
        assert_eq!((git.keep_git_dir, git.submodules), (Some(true), Some(false)));
        for text in ["https://example.com/b.tar.gz", "http://example.com/x?y=z.git"] {
            assert_eq!(Remote::parse(text).unwrap(), Some(Remote::Http(text.to_owned())));
        }
        for text in [
            "file:///srv/b.git",
            "ext::sh -c x",
            "./b.git",
            "b.git",
            "a@b",
            "/x@y:z",
            "github.com/a/b",
            "--upload-pack=x@h:y",
            "u@-oProxyCommand=x:y",
        ] {
            assert_eq!(Remote::parse(text).unwrap(), None, "{text}");
        }
    }

    #[test]
    fn what_clients_give_themselves_is_told_apart() {
        assert_eq!(upload(&upload_address("abc2")), Some("abc2"));
        for other in ["http://buildkit-session/", "http://buildkit-session/a/../b", "http://e.com/abc", "abc"]
        {
            assert_eq!(upload(other), None, "{other}");
        }
        assert!(matches!(Remote::parse_context(&upload_address("abc2")), Ok(Some(Remote::Http(_)))));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, words) in [
            ("https://e.com/b.git#--upload-pack=x", "invalid git reference"),
            ("https://e.com/b.git#a..b", "invalid git reference"),
            ("https://e.com/b.git?ref=a#b", "ref conflicts"),
            ("https://e.com/b.git?ref", "query \"ref\" has no value"),
            ("https://e.com/b.git?branch=a&tag=b", "ref conflicts"),
            ("https://e.com/b.git?other=1", "unexpected query \"other\""),
            ("https://e.com/b.git?submodules=maybe", "invalid submodules value: \"maybe\""),
            ("https://e.com/b.git?commit=xyz", "invalid checksum"),
            ("https://e.com/b.git?subdir=%zz", "invalid query value"),
            ("ssh://-oProxyCommand=x/b", "names no host"),
            ("git://u@-x/b", "names no host"),
        ] {
            let error = Remote::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_told() {
        assert_eq!(shown("https://u:p@e.com/b.git#x"), "https://xxxxx@e.com/b.git#x");
        assert_eq!(shown("ssh://git@e.com/b"), "ssh://git@e.com/b");
        assert_eq!(shown("git@e.com:b"), "git@e.com:b");
    }

    proptest! {
        #[test]
        fn nothing_that_is_taken_looks_like_an_option(text in "(git|ssh|https?|file)?(://)?[-a-z@:./#?=&%+\\[]{0,24}(\\.git)?[-#:a-z.]{0,8}") {
            if let Ok(Some(Remote::Git(git))) = Remote::parse(&text) {
                prop_assert!(!git.url.starts_with('-'));
                prop_assert!(git.reference.is_none_or(|reference| !reference.starts_with('-')));
            }
            shown(&text);
        }
    }
}

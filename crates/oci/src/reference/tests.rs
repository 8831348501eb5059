//! Docker's own cases, and properties.

use super::*;
use proptest::prelude::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn canonical_and_familiar_forms() {
    let pinned = format!("debian@sha256:{HEX}");
    let both = format!("localhost:5000/a/b:v1@sha256:{HEX}");
    let cases = [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("a/b/c", "docker.io/a/b/c:latest", "a/b/c:latest"),
        ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
        ("Upper/app", "Upper/app:latest", "Upper/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("[fd00::2]/app", "[fd00::2]/app:latest", "[fd00::2]/app:latest"),
        ("quay.io/x__y/a-----b.c", "quay.io/x__y/a-----b.c:latest", "quay.io/x__y/a-----b.c:latest"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"),
        (&pinned, &format!("docker.io/library/debian@sha256:{HEX}"), &pinned),
        (&both, &both, &both),
    ];
    for (text, canonical, familiar) in cases {
        let reference = Reference::parse_familiar(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(Reference::parse_familiar(canonical).unwrap(), reference);
        assert_eq!(Reference::parse_familiar(familiar).unwrap(), reference);
    }
}

#[test]
fn parts() {
    let reference = Reference::parse_familiar(&format!("localhost:5000/a/b:v1@sha256:{HEX}")).unwrap();
    assert_eq!(reference.domain(), "localhost:5000");
    assert_eq!(reference.path(), "a/b");
    assert_eq!(reference.tag(), Some("v1"));
    assert_eq!(reference.digest().unwrap().hex(), HEX);
    assert_eq!(reference.target(), format!("sha256:{HEX}"));
    assert_eq!(reference.without_digest().target(), "v1");
    assert_eq!(reference.name_only().to_string(), "localhost:5000/a/b");
    assert_eq!(reference.name_only().with_tag("x").unwrap().to_string(), "localhost:5000/a/b:x");
    assert_eq!(reference.with_tag("-x").unwrap_err().to_string(), "invalid tag format");
}

#[test]
fn refused_in_dockers_words() {
    let long = "a".repeat(256);
    let long_tag = format!("a:{}", "t".repeat(129));
    let cases = [
        ("", "invalid reference format"),
        (":latest", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a-", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:-x", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a@b", "invalid reference format"),
        ("../etc", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("https://quay.io/a", "invalid reference format"),
        ("-foo.com/a", "invalid reference format"),
        ("foo.com:port/a", "invalid reference format"),
        ("[::1/a", "invalid reference format"),
        ("[::1]x/a", "invalid reference format"),
        ("foo_bar.com/a", "invalid reference format"),
        (&long_tag, "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
        ("user/Foo:Tag", "invalid reference format: repository name (user/Foo) must be lowercase"),
        ("quay.io/Foo", "invalid reference format: repository name (Foo) must be lowercase"),
        (&long, "repository name must not be more than 255 characters"),
        (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        ("a@sha256:abcdabcdabcdabcdabcdabcdabcdabcd", "invalid checksum digest length"),
        ("a@md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest algorithm"),
    ];
    for (text, words) in cases {
        assert_eq!(Reference::parse_familiar(text).unwrap_err().to_string(), words, "{text:?}");
    }
}

#[test]
fn ids_are_told_from_names() {
    let id = Digest::from_sha256_hex(HEX).unwrap();
    assert_eq!(AnyReference::parse(HEX).unwrap(), AnyReference::Digest(id.clone()));
    assert_eq!(AnyReference::parse(&format!("sha256:{HEX}")).unwrap(), AnyReference::Digest(id));
    assert!(matches!(AnyReference::parse("e3b0c44298fc").unwrap(), AnyReference::Named(_)));
}

proptest! {
    #[test]
    fn any_text_parses_stably_or_fails(text in "[a-zA-Z0-9_.:/@\\[\\]-]{0,80}|.{0,80}") {
        if let Ok(reference) = Reference::parse_familiar(&text) {
            prop_assert_eq!(Reference::parse_familiar(&reference.to_string()).unwrap(), reference.clone());
            prop_assert_eq!(Reference::parse_familiar(&reference.familiar()).unwrap(), reference.clone());
            prop_assert!(!reference.path().split('/').any(|part| part.is_empty() || part.starts_with('.')));
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }
    }

    #[test]
    fn names_of_the_grammar_are_accepted(
        domain in "([a-z0-9]{1,8}\\.[a-z]{2,3}|localhost)(:[0-9]{1,5})?",
        path in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,5}){0,3}(/[a-z0-9]{1,5}){0,3}",
        tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}",
    ) {
        let text = format!("{domain}/{path}:{tag}");
        let reference = Reference::parse_familiar(&text).unwrap();
        prop_assert_eq!(reference.to_string(), text);
        prop_assert_eq!(reference.tag(), Some(tag.as_str()));
    }
}

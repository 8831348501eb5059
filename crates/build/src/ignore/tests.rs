use proptest::prelude::*;

use super::*;

fn hidden(patterns: &str, path: &str) -> bool {
    Ignore::parse(patterns).expect("good patterns").hides(path).is_some()
}

#[test]
fn paths_are_cleaned() {
    let table = [
        ("", "."),
        (".", "."),
        ("./a", "a"),
        ("a//b/", "a/b"),
        ("a/../b", "b"),
        ("../a", "../a"),
        ("a/../../b", "../b"),
        ("/../a", "/a"),
        ("/", "/"),
        ("a/./b/..", "a"),
    ];
    for (path, expected) in table {
        assert_eq!(clean(path), expected, "{path:?}");
    }
}

#[test]
fn files_are_hidden() {
    let table = [
        ("a", "a", true),
        ("a", "ab", false),
        ("a", "x/a", false),
        ("a", "a/b/c", true),
        ("/a", "a", true),
        ("./a/", "a", true),
        ("  a  ", "a", true),
        ("# a\na", "a", true),
        ("# a", "# a", false),
        ("*", "a", true),
        ("*", "a/b", true),
        ("*.md", "a.md", true),
        ("*.md", "x/a.md", false),
        ("*/a", "x/a", true),
        ("*/a", "a", false),
        ("a?", "ab", true),
        ("a?", "a/", false),
        ("**", "a/b", true),
        ("**/a", "a", true),
        ("**/a", "x/y/a", true),
        ("**/a", "xa", false),
        ("**a", "xa", true),
        ("**/*.go", "x/y.go", true),
        ("**/*.go", "y.go", true),
        ("a/**", "a/b", true),
        ("a/**", "a", false),
        ("a**", "abc/d", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a**/b", "a/b", true),
        ("a**/b", "ab", true),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        (r"a\*", "a*", true),
        (r"a\*", "ab", false),
        ("a.b", "axb", false),
        ("a\n!a/b", "a/b", false),
        ("a\n!a/b", "a/c", true),
        ("*\n!x", "x", false),
        ("*\n!x\nx/y", "x/y", true),
        ("!a", "a", false),
        ("! a\n", "a", false),
        ("a\n!a\na", "a", true),
        ("**/.git\n!keep/.git", "keep/.git/x", false),
        ("../a", "a", false),
    ];
    for (patterns, path, expected) in table {
        assert_eq!(hidden(patterns, path), expected, "{patterns:?} {path:?}");
    }
}

#[test]
fn the_rule_is_named() {
    let ignore = Ignore::parse("# head\n\n*.log\n!keep.log\n  tmp/ \n").expect("good patterns");
    let rule = ignore.hides("tmp/x").expect("it is hidden");
    assert_eq!((rule.line, rule.text.as_str()), (5, "tmp/"));
    assert!(ignore.hides("keep.log").is_none());
    assert!(ignore.has_exceptions());
}

#[test]
fn wrong_patterns_are_refused() {
    for text in ["!", "! ", "[a", "[]", "[a-]", "a\\", "[-a]"] {
        assert!(Ignore::parse(text).is_err(), "{text:?}");
    }
    assert!(Ignore::parse(&"a\n".repeat(PATTERNS_MAX + 1)).is_err());
    assert!(Ignore::parse(&"a".repeat(PATTERN_LETTERS_MAX + 1)).is_err());
    assert!(Ignore::parse(&" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
}

#[test]
fn names_match() {
    let table = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[^c]", "abc", false),
        ("a\\*b", "a*b", true),
        ("a???b", "aéèêb", true),
        ("a[^a]b", "a☺b", true),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[x\\-]", "-", true),
        ("*x", "xxx", true),
        ("a[^x]b", "a/b", false),
        ("]", "]", true),
    ];
    for (pattern, name, expected) in table {
        assert_eq!(Glob::parse(pattern).expect(pattern).matches(name), expected, "{pattern} {name}");
    }
    for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a["] {
        assert!(Glob::parse(pattern).is_err(), "{pattern}");
    }
    assert!(Glob::is_pattern("a[b") && !Glob::is_pattern("a\\*b"));
}

#[test]
fn no_pattern_is_slow() {
    let started = std::time::Instant::now();
    let pattern = "a*".repeat(200) + "b";
    assert!(!Glob::parse(&pattern).expect("a pattern").matches(&"a".repeat(4000)));
    let pattern = "**/a".repeat(200) + "/**/b";
    assert!(!hidden(&pattern, &"a/".repeat(40)));
    assert!(started.elapsed().as_secs() < 30);
}

proptest! {
    #[test]
    fn nothing_panics(patterns in "(?s).{0,60}", path in ".{0,30}") {
        if let Ok(ignore) = Ignore::parse(&patterns) {
            let _ = ignore.hides(&path);
        }
        if let Ok(glob) = Glob::parse(&patterns) {
            let _ = glob.matches(&path);
        }
        prop_assert_eq!(clean(&clean(&path)), clean(&path));
    }

    /// A walk from above says what asking for a path says.
    #[test]
    fn walks_agree(patterns in "(!?[ab*/?]{1,6}\n){1,4}", path in "[ab](/[ab]){0,4}") {
        let Ok(ignore) = Ignore::parse(&patterns) else { return Ok(()) };
        let mut above = Above::default();
        let mut hidden = None;
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let (found, next) = ignore.hides_below(&path[..end], &above);
            hidden = found.map(|rule| rule.line);
            above = next;
        }
        prop_assert_eq!(hidden.is_some(), ignore.hides(&path).is_some(), "{:?} {}", patterns, path);
    }
}

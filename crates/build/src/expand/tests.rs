use proptest::prelude::*;

use super::*;

fn environment() -> Environment {
    Environment::from_entries([
        "x=value",
        "empty=",
        "path=/usr/local/lib/a.tar.gz",
        "two=a b",
        "quoted=\"q\"",
        "lines=one\ntwo",
        "foo=abcabc",
    ])
}

fn text(word: &str) -> Result<String, String> {
    Lexer::new('\\').process(word, &environment()).map(|done| done.text).map_err(|error| error.reason)
}

#[test]
fn words_are_expanded() {
    let table = [
        ("plain", "plain"),
        ("$x", "value"),
        ("${x}s", "values"),
        ("$xs", ""),
        ("$", "$"),
        ("$ x", "$ x"),
        ("a$", "a$"),
        ("$1", ""),
        ("$12x", "x"),
        ("$$", ""),
        (r"\$x", "$x"),
        (r"\\$x", r"\value"),
        ("'$x'", "$x"),
        ("\"$x\"", "value"),
        (r#""\$x \" \n""#, r#"$x " \n"#),
        ("'a'\"b\"c", "abc"),
        (r"a\", "a"),
        ("${x:-other}", "value"),
        ("${none:-other}", "other"),
        ("${none-other}", "other"),
        ("${empty:-other}", "other"),
        ("${empty-other}", ""),
        ("${x:+other}", "other"),
        ("${empty:+other}", ""),
        ("${empty+other}", "other"),
        ("${none+other}", ""),
        ("${x:?no}", "value"),
        ("${empty?no}", ""),
        ("${none:-${none:-${x}}}", "value"),
        ("${none:-'a b'}", "a b"),
        ("${none:-\"$x}\"}", "value}"),
        (r"${none:-a\}b}", "a}b"),
        ("${path#*/}", "usr/local/lib/a.tar.gz"),
        ("${path##*/}", "a.tar.gz"),
        ("${path%.*}", "/usr/local/lib/a.tar"),
        ("${path%%.*}", "/usr/local/lib/a"),
        ("${path#nothing}", "/usr/local/lib/a.tar.gz"),
        ("${path%/?.*}", "/usr/local/lib"),
        ("${foo/b/X}", "aXcabc"),
        ("${foo//b/X}", "aXcaXc"),
        ("${foo//b/}", "acac"),
        ("${foo//?/-}", "------"),
        ("${foo/a*b/X}", "Xc"),
        ("${foo//*/X}", "X"),
        (r"${path//\//-}", "-usr-local-lib-a.tar.gz"),
        ("${foo//b/$x}", "avaluecavaluec"),
        ("${lines/o*o/X}", "one\ntwo"),
        ("${lines/*/X}", "X\ntwo"),
        ("${none#x}", ""),
        ("${none/a/b}", ""),
    ];
    for (word, expected) in table {
        assert_eq!(text(word).as_deref(), Ok(expected), "{word}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let table = [
        ("${", "syntax error: missing '}'"),
        ("${x", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${{x}", "syntax error: bad substitution"),
        ("${x:-y", "syntax error: missing '}'"),
        ("${x/y", "syntax error: missing '/' in ${}"),
        ("${x/y/z", "syntax error: missing '}'"),
        ("${x^y}", "unsupported modifier (^) in substitution"),
        ("${x:^y}", "unsupported modifier (:^) in substitution"),
        ("${none?}", "none: is not allowed to be unset"),
        ("${none:?who are you}", "none: who are you"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        (r"${x#\a}", r"invalid pattern (\a) in substitution: invalid escape '\a'"),
        ("'x", "unexpected end of statement while looking for matching single-quote"),
        ("\"x", "unexpected end of statement while looking for matching double-quote"),
    ];
    for (word, expected) in table {
        assert_eq!(text(word), Err(expected.to_owned()), "{word}");
    }
    let error = Lexer::new('\\').process("${", &environment()).unwrap_err();
    assert_eq!(error.to_string(), "failed to process \"${\": syntax error: missing '}'");
}

#[test]
fn words_are_divided() {
    let table: [(&str, &[&str]); 8] = [
        ("a  b", &["a", "b"]),
        ("$two", &["a", "b"]),
        ("\"$two\"", &["a b"]),
        ("x$two", &["xa", "b"]),
        ("'a b' c", &["a b", "c"]),
        (r"a\ b", &["a b"]),
        ("\"\"", &[]),
        ("$none", &[]),
    ];
    for (word, expected) in table {
        let done = Lexer::new('\\').process(word, &environment()).unwrap();
        assert_eq!(done.words, expected, "{word}");
    }
}

#[test]
fn other_ways_of_reading() {
    let environment = environment();
    let keep = Lexer { quotes: Quotes::Keep, keep_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    let table = [
        (r#"<<"E" $n ${n} ${n:-$x} \$"#, r#"<<"E" $n ${n} ${n:-value} \$"#),
        ("'$x'", "'$x'"),
        ("${n/a/b} ${n%x}", "${n/a/b} ${n%x}"),
    ];
    for (word, expected) in table {
        assert_eq!(keep.process(word, &environment).unwrap().text, expected, "{word}");
    }
    let contents = Lexer::of_contents().process("it's \"$x\" \\$x", &environment).unwrap();
    assert_eq!(contents.text, "it's \"value\" $x");
    let backtick = Lexer::new('`').process(r"c:\dir `$x $x", &environment).unwrap();
    assert_eq!(backtick.text, r"c:\dir $x value");
    assert_eq!(backtick.matched.iter().collect::<Vec<_>>(), ["x"]);
    let asked = Lexer::new('\\').process("$a ${b:-$c}", &environment).unwrap();
    assert_eq!(asked.unmatched.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn growth_and_depth_are_bounded() {
    let mut environment = Environment::new();
    environment.set("x", &"y".repeat(1 << 16));
    let word = "$x".repeat(100);
    assert!(Lexer::new('\\').process(&word, &environment).unwrap_err().reason.contains("longer than"));
    let deep = "${a:-".repeat(100_000);
    assert!(Lexer::new('\\').process(&deep, &environment).is_err());
    let nested = format!("{}z{}", "${a:-".repeat(60), "}".repeat(60));
    assert_eq!(Lexer::new('\\').process(&nested, &environment).unwrap().text, "z");
    let started = std::time::Instant::now();
    let pattern = format!("${{x//{}z/r}}", "*y".repeat(50));
    let _ = Lexer::new('\\').process(&pattern, &environment);
    assert!(started.elapsed().as_secs() < 60);
}

proptest! {
    #[test]
    fn nothing_panics(word in ".{0,64}", escape in prop::sample::select(vec!['\\', '`'])) {
        let _ = Lexer::new(escape).process(&word, &environment());
    }

    #[test]
    fn syntax_does_not_panic(word in r#"[$x{}:/#%*?+'" \\-]{0,40}"#) {
        let _ = Lexer::new('\\').process(&word, &environment());
        let keep = Lexer { quotes: Quotes::Keep, keep_escapes: true, keep_unset: true, ..Lexer::new('\\') };
        let _ = keep.process(&word, &environment());
    }

    /// A slow matcher of stars and question marks agrees on what is cut.
    #[test]
    fn cuts_are_right(pattern in "[ab*?]{0,5}", value in "[ab]{0,8}") {
        let mut environment = Environment::new();
        environment.set("v", &value);
        let cut = |modifier: &str| Lexer::new('\\').process(&format!("${{v{modifier}{pattern}}}"), &environment).unwrap().text;
        let beginnings: Vec<usize> = (0..=value.len()).filter(|at| slow(&pattern, &value[..*at])).collect();
        let ends: Vec<usize> = (0..=value.len()).filter(|at| slow(&pattern, &value[*at..])).collect();
        prop_assert_eq!(cut("##"), &value[beginnings.last().copied().unwrap_or(0)..]);
        prop_assert_eq!(cut("%%"), &value[..ends.first().copied().unwrap_or(value.len())]);
        prop_assert_eq!(cut("#"), &value[beginnings.first().copied().unwrap_or(0)..]);
        prop_assert_eq!(cut("%"), &value[..ends.last().copied().unwrap_or(value.len())]);
    }
}

fn slow(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some('*'), None) => slow(&pattern[1..], text),
        (Some('*'), Some(_)) => slow(&pattern[1..], text) || slow(pattern, &text[1..]),
        (Some(_), None) => false,
        (Some(wanted), Some(letter)) => {
            (wanted == '?' || wanted == letter) && slow(&pattern[1..], &text[1..])
        }
    }
}

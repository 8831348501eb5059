//! Text to tokens.

/// A token: what it is, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The bytes of the source it covers.
    pub(super) span: (usize, usize),
    pub(super) line: usize,
    /// Whether a space stands before it.
    pub(super) spaced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text outside of actions.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// `.Name`.
    Field(String),
    /// `.`.
    Dot,
    /// `$name`.
    Variable(String),
    /// A name or a keyword.
    Word(String),
    /// A quoted text or a character.
    Text2(String),
    Int(i128),
    Float(f64),
    Pipe,
    Left,
    Right,
    Declare,
    Assign,
    Comma,
}

pub(super) type Fault = (usize, String);

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Token>,
    parens: usize,
}

/// The tokens of a template.
pub(super) fn lex(source: &str) -> Result<Vec<Token>, Fault> {
    let mut lexer = Lexer { source, at: 0, tokens: Vec::new(), parens: 0 };
    lexer.text()?;
    Ok(lexer.tokens)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer<'_> {
    fn line(&self, at: usize) -> usize {
        self.source[..at].matches('\n').count() + 1
    }

    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn fault<T>(&self, at: usize, text: impl Into<String>) -> Result<T, Fault> {
        Err((self.line(at), text.into()))
    }

    fn push(&mut self, kind: Kind, start: usize, spaced: bool) {
        let line = self.line(start);
        self.tokens.push(Token { kind, span: (start, self.at), line, spaced });
    }

    fn text(&mut self) -> Result<(), Fault> {
        let mut trim = false;
        loop {
            let start = self.at;
            let open = self.rest().find("{{");
            let end = open.map_or(self.source.len(), |offset| start + offset);
            let mut text = &self.source[start..end];
            if trim {
                text = text.trim_start_matches(is_space);
            }
            let marker = open.is_some()
                && self.source[end + 2..].starts_with('-')
                && self.source[end + 3..].starts_with(is_space);
            if marker {
                text = text.trim_end_matches(is_space);
            }
            let text = text.to_owned();
            self.at = end;
            if !text.is_empty() {
                self.push(Kind::Text(text), start, false);
            }
            if open.is_none() {
                return Ok(());
            }
            self.at = end + if marker { 4 } else { 2 };
            trim = match self.comment(end)? {
                Some(trim) => trim,
                None => {
                    let after = self.at;
                    self.at = end + 2;
                    self.push(Kind::Open, end, false);
                    self.at = after;
                    self.action(end)?
                }
            };
        }
    }

    /// Skips a comment; tells whether the text behind it is trimmed.
    fn comment(&mut self, open: usize) -> Result<Option<bool>, Fault> {
        if !self.rest().starts_with("/*") {
            return Ok(None);
        }
        let Some(end) = self.rest().find("*/") else { return self.fault(open, "unclosed comment") };
        self.at += end + 2;
        if self.rest().starts_with("}}") {
            self.at += 2;
            return Ok(Some(false));
        }
        let trimmed = self.rest().trim_start_matches(is_space);
        if trimmed.len() < self.rest().len() && trimmed.starts_with("-}}") {
            self.at = self.source.len() - trimmed.len() + 3;
            return Ok(Some(true));
        }
        self.fault(open, "comment ends before closing delimiter")
    }

    /// Reads up to `}}`; tells whether the text behind it is trimmed.
    fn action(&mut self, open: usize) -> Result<bool, Fault> {
        loop {
            let before = self.at;
            while self.rest().starts_with(is_space) {
                self.at += 1;
            }
            let spaced = self.at > before;
            let start = self.at;
            let trim = spaced && self.rest().starts_with("-}}");
            if trim || self.rest().starts_with("}}") {
                if self.parens > 0 {
                    return self.fault(start, "unclosed left paren");
                }
                self.at += if trim { 3 } else { 2 };
                self.push(Kind::Close, start, spaced);
                return Ok(trim);
            }
            let Some(first) = self.rest().chars().next() else { return self.fault(open, "unclosed action") };
            let kind = self.token(first, open)?;
            self.push(kind, start, spaced);
        }
    }

    fn token(&mut self, first: char, open: usize) -> Result<Kind, Fault> {
        let start = self.at;
        self.at += first.len_utf8();
        let next = self.rest().chars().next();
        match first {
            '|' => Ok(Kind::Pipe),
            '(' => {
                self.parens += 1;
                Ok(Kind::Left)
            }
            ')' if self.parens == 0 => self.fault(start, "unexpected right paren"),
            ')' => {
                self.parens -= 1;
                Ok(Kind::Right)
            }
            ',' => Ok(Kind::Comma),
            '=' => Ok(Kind::Assign),
            ':' if next == Some('=') => {
                self.at += 1;
                Ok(Kind::Declare)
            }
            ':' => self.fault(start, "expected :="),
            '"' | '`' | '\'' => self.quoted(first, start, open),
            '.' if next.is_some_and(|c| c.is_ascii_digit()) => self.number(start),
            // Go reads a point at the very end as the beginning of a number.
            '.' if next.is_none() => self.fault(start, "illegal number syntax: \".\""),
            '.' => {
                let name = self.word();
                Ok(if name.is_empty() { Kind::Dot } else { Kind::Field(name) })
            }
            '$' => Ok(Kind::Variable(format!("${}", self.word()))),
            '+' | '-' | '0'..='9' => self.number(start),
            c if is_word(c) => {
                self.at = start;
                let word = self.word();
                if let Some(c) = self.rest().chars().next()
                    && !is_space(c)
                    && !".,|:)(=".contains(c)
                    && !self.rest().starts_with("}}")
                {
                    return self.fault(start, format!("bad character {}", unicode(c)));
                }
                Ok(Kind::Word(word))
            }
            c => self.fault(start, format!("unexpected {} in command", quoted_char(c))),
        }
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    fn quoted(&mut self, quote: char, start: usize, open: usize) -> Result<Kind, Fault> {
        let unclosed = match quote {
            '`' => "unterminated raw quoted string",
            '\'' => "unterminated character constant",
            _ => "unterminated quoted string",
        };
        let mut out = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else { return self.fault(open, unclosed) };
            self.at += c.len_utf8();
            match c {
                _ if c == quote => break,
                '\n' if quote != '`' => return self.fault(open, unclosed),
                '\\' if quote != '`' => match self.escape() {
                    Some(c) => out.push(c),
                    None => return self.fault(start, "invalid syntax"),
                },
                c => out.push(c),
            }
        }
        if quote != '\'' {
            return Ok(Kind::Text2(out));
        }
        let mut chars = out.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(Kind::Int(i128::from(u32::from(c)))),
            _ => self.fault(start, format!("malformed character constant: {}", &self.source[start..self.at])),
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        let digits = match c {
            'a' => return Some('\x07'),
            'b' => return Some('\x08'),
            'f' => return Some('\x0c'),
            'n' => return Some('\n'),
            'r' => return Some('\r'),
            't' => return Some('\t'),
            'v' => return Some('\x0b'),
            '\\' | '"' | '\'' => return Some(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let code = u32::from_str_radix(self.rest().get(..digits)?, 16).ok()?;
        self.at += digits;
        char::from_u32(code)
    }

    fn number(&mut self, start: usize) -> Result<Kind, Fault> {
        self.at = start;
        let rest = self.rest();
        let mut end = 0;
        let mut previous = ' ';
        for c in rest.chars() {
            let sign = matches!(c, '+' | '-') && (end == 0 || matches!(previous, 'e' | 'E'));
            if !(sign || c == '.' || is_word(c)) {
                break;
            }
            end += c.len_utf8();
            previous = c;
        }
        let text = rest[..end].to_owned();
        self.at += end;
        let plain = text.replace('_', "");
        let (negative, digits) = match plain.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, plain.strip_prefix('+').unwrap_or(&plain)),
        };
        let lower = digits.to_ascii_lowercase();
        let whole = match lower.get(..2) {
            Some("0x") => i128::from_str_radix(&lower[2..], 16).ok(),
            Some("0b") => i128::from_str_radix(&lower[2..], 2).ok(),
            Some("0o") => i128::from_str_radix(&lower[2..], 8).ok(),
            _ if lower.starts_with(|c: char| c.is_ascii_digit()) => lower.parse().ok(),
            _ => None,
        };
        if let Some(value) = whole {
            return Ok(Kind::Int(if negative { -value } else { value }));
        }
        match lower.parse::<f64>() {
            Ok(value) if lower.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
                Ok(Kind::Float(if negative { -value } else { value }))
            }
            _ => self.fault(start, format!("bad number syntax: {text:?}")),
        }
    }
}

fn unicode(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

fn quoted_char(c: char) -> String {
    format!("{c:?}").trim_matches('\'').to_owned()
}

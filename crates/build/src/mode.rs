//! `--chmod`: permissions in octal, or as changes: `u=rwX,go=rX`.

/// Letters of a value: more clauses say nothing new.
const LETTERS_MAX: usize = 256;
/// The twelve bits of a mode.
const BITS_MAX: u32 = 0o7777;
const EXECUTE: u32 = 0o111;

/// What becomes of the permissions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// They are these.
    Absolute(u32),
    /// They are changed, one change after the other.
    Changes(Vec<Change>),
}

/// How bits are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

/// Which bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    /// These.
    Plain(u32),
    /// Those to execute, of directories and of what somebody may execute already: `X`.
    Executable,
    /// Those of a class, by how far its bits are to the left.
    Of(u32),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Bits of those that are meant.
    who: u32,
    operator: Operator,
    bits: Vec<Bits>,
}

/// Bits of a class, with the special one that goes with it.
const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;

impl Mode {
    /// Reads a value.
    ///
    /// # Errors
    /// In BuildKit's words where it is a number, and what was expected where it is not.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with(|letter: char| letter.is_ascii_digit()) {
            let octal = text.chars().all(|letter| letter.is_digit(8));
            let number = if octal { u32::from_str_radix(text, 8).ok() } else { None };
            let number = number.filter(|mode| *mode <= BITS_MAX);
            return number.map(Self::Absolute).ok_or_else(|| {
                format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            });
        }
        let wrong = || {
            format!(
                "invalid chmod parameter: '{text}'. it should be octal, or changes such as u=rwX,go=rX or +x"
            )
        };
        if text.is_empty() || text.len() > LETTERS_MAX {
            return Err(wrong());
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut changes).ok_or_else(wrong)?;
        }
        Ok(Self::Changes(changes))
    }

    /// What becomes of a mode's twelve bits.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Absolute(absolute) => *absolute,
            Self::Changes(changes) => {
                changes.iter().fold(mode & BITS_MAX, |mode, change| change.apply(mode, is_directory))
            }
        }
    }
}

fn read_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let mut letters = clause.chars().peekable();
    let mut who = 0;
    while let Some(class) = letters.next_if(|letter| matches!(letter, 'u' | 'g' | 'o' | 'a')) {
        who |= match class {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHERS,
            _ => BITS_MAX,
        };
    }
    if who == 0 {
        who = BITS_MAX;
    }
    letters.peek()?;
    while let Some(operator) = letters.next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => return None,
        };
        let mut bits = Vec::new();
        while let Some(letter) = letters.next_if(|letter| !matches!(letter, '+' | '-' | '=')) {
            bits.push(match letter {
                'r' => Bits::Plain(0o444),
                'w' => Bits::Plain(0o222),
                'x' => Bits::Plain(EXECUTE),
                's' => Bits::Plain(0o6000),
                't' => Bits::Plain(0o1000),
                'X' => Bits::Executable,
                'u' => Bits::Of(6),
                'g' => Bits::Of(3),
                'o' => Bits::Of(0),
                _ => return None,
            });
        }
        changes.push(Change { who, operator, bits });
    }
    Some(())
}

impl Change {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let bits = self.bits.iter().fold(0, |bits, one| {
            bits | match one {
                Bits::Plain(bits) => *bits,
                Bits::Executable if is_directory || mode & EXECUTE != 0 => EXECUTE,
                Bits::Executable => 0,
                // What one class may, for all: who is meant decides.
                Bits::Of(shift) => ((mode >> shift) & 0o7) * EXECUTE,
            }
        }) & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => (mode & !self.who) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn changes_are_made() {
        let table = [
            ("755", 0o600, false, 0o755),
            ("04711", 0o600, false, 0o4711),
            ("+x", 0o644, false, 0o755),
            ("u+x,go-w", 0o666, false, 0o744),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a=r", 0o777, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("o=g,g=", 0o640, false, 0o604),
            ("u+s", 0o755, false, 0o4755),
            ("+s", 0o755, false, 0o6755),
            ("+t", 0o777, true, 0o1777),
            ("u-s+w", 0o4555, false, 0o755),
            ("u=rw+x-r", 0o077, false, 0o377),
            ("-X", 0o711, false, 0o600),
        ];
        for (text, before, is_directory, after) in table {
            let changed = Mode::parse(text).unwrap().apply(before, is_directory);
            assert_eq!(changed, after, "{text} of {before:o} is {changed:o}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for text in
            ["", "9", "8", "77777", "0x1", "x", "u", "u+q", "u+x,", ",u+x", "u~x", "rwx", &"+x,".repeat(99)]
        {
            let error = Mode::parse(text).unwrap_err();
            assert!(error.starts_with("invalid chmod parameter: "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_the_bits_comes_of_any_value(text in "[ugoa+=,rwxXst0-9-]{0,12}", mode in 0u32..0o10000, directory: bool) {
            if let Ok(read) = Mode::parse(&text) {
                prop_assert!(read.apply(mode, directory) <= BITS_MAX);
            }
        }

        #[test]
        fn octal_is_itself(wanted in 0u32..0o10000, mode in 0u32..0o10000) {
            prop_assert_eq!(Mode::parse(&format!("{wanted:o}")).unwrap().apply(mode, true), wanted);
        }
    }
}

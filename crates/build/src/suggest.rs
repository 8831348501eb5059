//! What somebody may have meant.

/// Further away than this is another word.
const DISTANCE_MAX: usize = 2;
/// Longer words than this nobody mistypes by two letters and is helped by being told.
const LETTERS_MAX: usize = 128;
/// Options that are looked at: what helps somebody is among fewer.
const OPTIONS_MAX: usize = 10_000;

/// The option nearest to a word, if one is near. An option that is the word itself answers nothing: then the word was not the
/// mistake.
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>, cased: bool) -> Option<String> {
    let fold = |text: &str| if cased { text.to_owned() } else { text.to_lowercase() };
    let wanted: Vec<char> = fold(word).chars().collect();
    if wanted.len() > LETTERS_MAX {
        return None;
    }
    let mut best: Option<(usize, String)> = None;
    for option in options.into_iter().take(OPTIONS_MAX) {
        let option = fold(option);
        let letters: Vec<char> = option.chars().take(LETTERS_MAX + 1).collect();
        if letters == wanted {
            return None;
        }
        if letters.len().abs_diff(wanted.len()) > DISTANCE_MAX || letters.len() > LETTERS_MAX {
            continue;
        }
        let far = distance(&wanted, &letters);
        if far <= DISTANCE_MAX && best.as_ref().is_none_or(|(least, _)| far < *least) {
            best = Some((far, option));
        }
    }
    best.map(|(_, option)| if cased { option } else { like(&option, word) })
}

/// An image's name with the name of its repository in small letters, if that is a name and another one: tags have capitals.
pub fn image_name(name: &str) -> Option<String> {
    let repository = name.split_once('@').map_or(name, |(name, _)| name);
    let last = repository.rfind('/').map_or(0, |slash| slash + 1);
    let end = repository[last..].find(':').map_or(repository.len(), |colon| last + colon);
    let lower = format!("{}{}", name[..end].to_lowercase(), &name[end..]);
    (lower != name && oci::Reference::parse_named(&lower).is_ok()).then_some(lower)
}

/// The suggestion as it is added to a message.
pub fn hint(found: Option<String>) -> String {
    found.map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
}

/// A word in capitals if another is.
fn like(word: &str, other: &str) -> String {
    if other == other.to_uppercase() && other != other.to_lowercase() {
        word.to_uppercase()
    } else {
        word.to_owned()
    }
}

/// How many letters have to be changed, added or taken away.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, a) in one.iter().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (left, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[left + 1];
            row[left + 1] = change.min(diagonal + 1).min(row[left] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_in_small_letters_and_tags_are_not() {
        let offered = |name| image_name(name);
        assert_eq!(offered("myImage:1.01").as_deref(), Some("myimage:1.01"));
        assert_eq!(offered("Host:5000/Team/App:RC1").as_deref(), Some("host:5000/team/app:RC1"));
        assert_eq!(offered("host:5000/App").as_deref(), Some("host:5000/app"));
        assert_eq!(offered("fine:RC1"), None);
        assert_eq!(offered("No Name"), None);
    }

    #[test]
    fn near_words_are_offered() {
        let names = ["FROM", "RUN", "COPY"];
        assert_eq!(nearest("FRMO", names, false).as_deref(), Some("FROM"));
        assert_eq!(nearest("frmo", names, false).as_deref(), Some("from"));
        assert_eq!(nearest("Copi", names, false).as_deref(), Some("copy"));
        assert_eq!(nearest("RUN", names, false), None);
        assert_eq!(nearest("INSTALL", names, false), None);
        assert_eq!(nearest("frmo", names, true), None);
        assert_eq!(nearest(&"x".repeat(100_000), names, true), None);
    }
}

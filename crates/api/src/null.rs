//! How `null`, nothing and an empty list are read and written.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// Reads a value, taking `null` for the default as Go does.
pub(crate) fn or_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// What can be written as `null` because it holds nothing.
pub(crate) trait Empty {
    /// Whether it holds nothing.
    fn holds_nothing(&self) -> bool;
}

impl<T> Empty for Vec<T> {
    fn holds_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Empty for BTreeMap<K, V> {
    fn holds_nothing(&self) -> bool {
        self.is_empty()
    }
}

/// Writes an empty list or map as `null`, which is what Go makes of one that was never made.
pub(crate) fn if_empty<S, T>(value: &T, output: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize + Empty,
{
    if value.holds_nothing() { output.serialize_none() } else { value.serialize(output) }
}

/// Whether a value is its type's default, for fields that Go marks `omitempty`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads a command line given as a list or, as old clients do, as one string.
pub(crate) fn words<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<Option<String>>),
    }
    Ok(match Option::<Words>::deserialize(input)? {
        None => None,
        Some(Words::One(word)) => Some(vec![word]),
        Some(Words::Many(words)) => Some(words.into_iter().map(Option::unwrap_or_default).collect()),
    })
}

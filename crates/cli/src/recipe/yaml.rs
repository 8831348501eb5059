//! Values as YAML: lists and maps in lines, texts in quotes, which every reader takes for texts.

use serde_json::Value;

/// The document.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value, 0);
    text
}

fn put(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&format!("{indent}{}:", key_of(key)));
                behind(text, value, depth);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                text.push_str(&format!("{indent}-"));
                behind(text, value, depth);
            }
        }
        other => text.push_str(&format!("{indent}{other}\n")),
    }
}

fn behind(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            put(text, value, depth + 1);
        }
        Value::Array(list) if !list.is_empty() => {
            text.push('\n');
            put(text, value, depth + 1);
        }
        // JSON is YAML.
        other => text.push_str(&format!(" {other}\n")),
    }
}

fn key_of(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !matches!(
            key.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_maps_are_lines() {
        let value = json!({"a": [1, "x: y", {"b": null, "c": []}], "on": true, "d e": {}});
        let want = "a:\n  - 1\n  - \"x: y\"\n  -\n    b: null\n    c: []\n\"on\": true\n\"d e\": {}\n";
        assert_eq!(write(&value), want);
    }
}

//! `--secret`.

use buildkit::client::{Secret, Secrets};

use crate::error::{Error, Result};

/// Reads `id=NAME[,type=file|env][,src=FILE|,env=VARIABLE]`. Without a source it is the variable of its name, or else the file.
///
/// # Errors
/// It is wrong, or its variable or file is not there.
pub(super) fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Secrets> {
    words.map(one).collect()
}

fn one(text: &str) -> Result<(String, Secret)> {
    let refuse = |why: &str| Error::Message(format!("invalid --secret {text:?}: {why}"));
    let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| refuse("use id=NAME,src=FILE"))?;
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            "type" => return Err(refuse("the type is file or env")),
            "src" | "source" => source = Some(value),
            "env" => variable = Some(value),
            _ => return Err(refuse(&format!("there is no field {key:?} (id, type, src, env)"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| refuse("it has no id: use id=NAME"))?;
    let of_environment = |name: &str| {
        let value =
            std::env::var_os(name).ok_or_else(|| refuse(&format!("the variable {name} is not set")))?;
        Ok(Secret::Value(std::os::unix::ffi::OsStringExt::into_vec(value)))
    };
    let of_file = |path: &str| {
        let path = std::fs::canonicalize(path)
            .map_err(|error| refuse(&format!("cannot read {path}: {}", error.kind())))?;
        Ok(Secret::File(path))
    };
    let secret = match (kind, source, variable) {
        (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => of_environment(name),
        (Some("env"), None, None) => of_environment(id),
        (_, Some(path), None) => of_file(path),
        (None, None, None) if std::env::var_os(id).is_some() => of_environment(id),
        (_, None, None) => of_file(id),
        (_, _, Some(_)) => Err(refuse("it has a file and a variable: leave one out")),
    };
    Ok((id.to_owned(), secret?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "x").unwrap();
        let shown = file.display();
        for text in [format!("id=a,src={shown}"), format!("type=file,source={shown},id=a")] {
            assert_eq!(one(&text).unwrap().1, Secret::File(file.canonicalize().unwrap()));
        }
        for text in ["id=p,env=PATH", "id=p,type=env,src=PATH", "id=PATH,type=env", "id=PATH"] {
            assert!(matches!(one(text).unwrap().1, Secret::Value(value) if !value.is_empty()), "{text}");
        }
        for (text, word) in [
            ("src=x", "no id"),
            ("id=a,src=/nowhere/x", "cannot read"),
            ("id=a,env=NOT_SET_ANYWHERE", "is not set"),
            ("id=a,type=other", "file or env"),
            ("id=a,dst=/x", "no field"),
            ("x", "use id"),
            ("id=a,src=/x,env=PATH", "leave one out"),
        ] {
            assert!(one(text).unwrap_err().to_string().contains(word), "{text}");
        }
    }
}

//! As a command line.

use super::{Recipe, flags, quoted};

/// One line that a shell (bash, where a seccomp profile is in it) reads.
pub(super) fn write(recipe: &Recipe) -> String {
    let mut words = vec!["corten".to_owned(), "run".to_owned()];
    let config = &recipe.config;
    match (config.attach_stdin, config.attach_stdout, config.attach_stderr) {
        (_, false, false) => words.push("--detach".to_owned()),
        (_, true, true) => {}
        (_, stdout, _) => words.push(format!("--attach={}", if stdout { "stdout" } else { "stderr" })),
    }
    for word in flags::all(recipe).0 {
        words.push(match word.value {
            None => format!("--{}", word.flag),
            Some(value) => match profile(word.flag, &value) {
                // A profile is in a file when it is asked for: here the shell makes one.
                Some(profile) => format!("--security-opt=seccomp=<(printf %s {})", quoted(profile)),
                None => quoted(&format!("--{}={value}", word.flag)),
            },
        });
    }
    words.push(quoted(&recipe.image));
    words.extend(recipe.program().1.iter().map(|word| quoted(word)));
    words.join(" ") + "\n"
}

/// A seccomp profile that the option holds itself.
pub(super) fn profile<'a>(flag: &str, value: &'a str) -> Option<&'a str> {
    let profile = value.strip_prefix("seccomp=").or_else(|| value.strip_prefix("seccomp:"))?;
    (flag == "security-opt" && profile.trim_start().starts_with('{')).then_some(profile)
}

//! Completion for shells: small scripts that ask the hidden `__complete` command, which reads the same tables as
//! everything else.

use client::query::Query;

use crate::command::{Action, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::{Flag, Group, Kind};
use crate::globals;
use crate::session::Session;

/// The script for a shell.
pub fn script(shell: &str, program: &str) -> Result<String> {
    let template = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        other => return Err(Error::Message(format!("unsupported shell type {other:?}: bash, zsh or fish"))),
    };
    Ok(template
        .replace("@P@", program)
        .replace("@F@", &program.replace(|c: char| !c.is_ascii_alphanumeric(), "_")))
}

const BASH: &str = r#"# bash completion for @P@
_@F@_complete() {
    local cur words
    cur="${COMP_WORDS[COMP_CWORD]}"
    local IFS=$'\n'
    words=($("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "$cur" 2>/dev/null | cut -f1))
    COMPREPLY=($(compgen -W "${words[*]}" -- "$cur"))
    if [ ${#COMPREPLY[@]} -eq 0 ]; then
        compopt -o default
    fi
    case "${COMPREPLY[0]}" in *=) compopt -o nospace ;; esac
}
complete -F _@F@_complete @P@
"#;

const ZSH: &str = r#"#compdef @P@
# zsh completion for @P@
_@F@_complete() {
    local -a lines described
    local line
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        [ -n "$line" ] || continue
        described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if (( ${#described} )); then
        _describe 'values' described
    else
        _files
    fi
}
if [ "$funcstack[1]" = "_@P@" ]; then
    _@F@_complete
else
    compdef _@F@_complete @P@
fi
"#;

const FISH: &str = r#"# fish completion for @P@
function __@F@_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c @P@ -e
complete -c @P@ -f -a '(__@F@_complete)'
"#;

/// Where the typed words have led.
struct Place<'a> {
    command: &'static Command,
    groups: Vec<&'a [Group]>,
    args: usize,
}

/// The lines that complete the last of the words: `word<TAB>what it is`.
pub async fn complete(session: &Session, words: &[String]) -> String {
    let (current, before) =
        words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let place = walk(before);
    if let Some(flag) = before.last().and_then(|word| takes_value(&place, word)) {
        return values(session, flag).await.join("\n");
    }
    let mut lines: Vec<String> = Vec::new();
    if current.starts_with('-') {
        for flag in place.groups.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.flags) {
            if !flag.hidden {
                lines.push(format!("--{}\t{}", flag.long, flag.help));
            }
        }
        lines.push("--help\tPrint usage".into());
    } else if let Action::Group(children) = place.command.action {
        lines.extend(
            children
                .iter()
                .filter(|child| !child.hidden)
                .map(|child| format!("{}\t{}", child.name, child.about)),
        );
        if place.command.name.is_empty() {
            lines.extend(
                crate::plugins::all(session)
                    .into_iter()
                    .map(|plugin| format!("{}\t{}", plugin.name, plugin.about)),
            );
        }
    } else if place.args == 0 || place.command.interspersed {
        lines = objects(session, place.command.completes).await;
    }
    lines.retain(|line| line.starts_with(current));
    lines.sort();
    lines.join("\n")
}

fn walk(words: &[String]) -> Place<'static> {
    let mut place = Place { command: crate::commands::root(), groups: vec![globals::FLAGS], args: 0 };
    let mut skip = false;
    for word in words {
        if std::mem::take(&mut skip) {
            continue;
        }
        if word.starts_with('-') {
            skip = takes_value(&place, word).is_some();
        } else if let Some(child) = place.command.child(word) {
            place.command = child;
            place.groups = vec![child.flags];
        } else {
            place.args += 1;
        }
    }
    place
}

/// The flag that waits for its value behind `word`.
fn takes_value<'a>(place: &Place<'a>, word: &str) -> Option<&'a Flag> {
    let mut all = place.groups.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.flags);
    let flag = match word.strip_prefix("--") {
        Some(name) => all.find(|flag| flag.long == name),
        None => {
            let letter = word.strip_prefix('-')?.chars().last()?;
            all.find(|flag| flag.short == Some(letter))
        }
    }?;
    (flag.kind != Kind::Bool).then_some(flag)
}

async fn values(session: &Session, flag: &Flag) -> Vec<String> {
    let fixed = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match flag.long {
        "pull" => fixed(&["always", "missing", "never"]),
        "restart" => fixed(&["no", "always", "on-failure", "unless-stopped"]),
        "log-level" => fixed(&["debug", "info", "warn", "error", "fatal"]),
        "signal" | "stop-signal" => fixed(&["HUP", "INT", "KILL", "QUIT", "STOP", "TERM", "USR1", "USR2"]),
        "network" => objects(session, Completes::Networks).await,
        "context" => objects(session, Completes::Contexts).await,
        "volumes-from" | "link" => objects(session, Completes::Containers).await,
        _ => Vec::new(),
    }
}

/// Objects of the daemon. One that does not answer completes nothing; it is not started for this.
async fn objects(session: &Session, kind: Completes) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "Name")]
        name: String,
    }
    if kind == Completes::Contexts {
        let mut names = vec![client::context::DEFAULT.to_owned()];
        names.extend(session.store.list().unwrap_or_default().into_iter().map(|meta| meta.name));
        return names;
    }
    let Ok(target) = session.target() else { return Vec::new() };
    let client = client::Client::new(
        target,
        client::Options { user_agent: "Corten-Client".into(), ..Default::default() },
    );
    match kind {
        Completes::Containers | Completes::Running => {
            let query = Query::new().flag("all", kind == Completes::Containers);
            let list: Vec<api::container::Summary> =
                client.get("/containers/json", query).await.unwrap_or_default();
            list.into_iter()
                .filter_map(|container| {
                    let name = container.names.into_iter().next()?;
                    Some(format!("{}\t{}", name.trim_start_matches('/'), container.image))
                })
                .collect()
        }
        Completes::Images => {
            let list: Vec<api::image::Summary> =
                client.get("/images/json", Query::new()).await.unwrap_or_default();
            list.into_iter()
                .flat_map(|image| image.repo_tags)
                .filter(|tag| !tag.starts_with("<none>"))
                .collect()
        }
        Completes::Volumes => {
            let list: api::volume::List = client.get("/volumes", Query::new()).await.unwrap_or_default();
            list.volumes.into_iter().map(|volume| volume.name).collect()
        }
        Completes::Networks => {
            let list: Vec<Named> = client.get("/networks", Query::new()).await.unwrap_or_default();
            list.into_iter().map(|network| network.name).collect()
        }
        Completes::Nothing | Completes::Contexts => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(words: &[&str]) -> Place<'static> {
        walk(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_lead_to_a_command() {
        assert_eq!(place(&["-H", "ps", "container", "ls", "-a"]).command.name, "ls");
        assert_eq!(place(&["run", "-it", "--name", "ps"]).command.name, "run");
        assert!(takes_value(&place(&["run"]), "--name").is_some());
        assert!(takes_value(&place(&["run"]), "--rm").is_none());
        assert!(takes_value(&place(&["run"]), "-ite").is_some());
    }

    #[test]
    fn scripts_name_the_program() {
        for shell in ["bash", "zsh", "fish"] {
            let text = script(shell, "corten").unwrap();
            assert!(text.contains("corten") && !text.contains('@'.to_string().repeat(2).as_str()), "{text}");
            assert!(!text.contains("@P@") && !text.contains("@F@"));
        }
        assert!(script("tcsh", "corten").is_err());
    }
}

//! `--help` of each command.

/// The text for `command`, if there is such a one.
pub(super) fn of(command: &str) -> Option<&'static str> {
    TEXTS.iter().find(|(name, _)| *name == command).map(|(_, text)| *text)
}

const TEXTS: &[(&str, &str)] = &[
    (
        "create",
        "\
Usage: corten runtime create [options] ID

Makes a container from a bundle: a directory with a config.json. Its program waits to be started.

  -b, --bundle DIR         the bundle (default: the working directory)
  --console-socket PATH    where the terminal is sent, if the configuration asks for one
  --pid-file FILE          where the number of the first process is written
  --preserve-fds N         so many descriptors, from 3 on, stay open for the program
  --no-pivot               change the root by chroot(2), where the host's root is a ramfs
  --no-new-keyring         keep the caller's session keyring
  --no-subreaper           nothing: this runtime never becomes one

Without a console socket the configuration must not ask for a terminal (process.terminal: false).

Example:
  corten runtime create --bundle /srv/web --pid-file /run/web.pid web && corten runtime start web",
    ),
    (
        "run",
        "\
Usage: corten runtime run [options] ID

Makes a container, starts it, waits for its end and deletes it; the exit code is its own.

  -d, --detach             return as soon as it runs, and leave it
  --keep                   do not delete it
  …                        and the options of create

Example:
  mkdir -p box/rootfs && tar -C box/rootfs -xf root.tar && \\
  corten runtime spec --bundle box && corten runtime run --bundle box shell",
    ),
    ("start", "Usage: corten runtime start ID\n\nExecutes the program of a container that was made."),
    (
        "exec",
        "\
Usage: corten runtime exec [options] ID PROGRAM [ARGUMENT...]
       corten runtime exec [options] --process FILE ID

Executes a further program in a container. What is not said is as for the container's first process.

  -p, --process FILE       an OCI process object in JSON (\"-\": standard input)
  -u, --user UID[:GID]     who it is
  -g, --additional-gids N  a supplementary group; may be repeated
  --cwd DIR                its working directory
  -e, --env NAME=VALUE     its environment, beside the container's; may be repeated
  -c, --cap NAME           a capability it has as well; may be repeated
  --no-new-privs           it cannot gain rights
  --apparmor PROFILE       its AppArmor profile
  --process-label LABEL    its SELinux label
  --cgroup [CTRL,...:]PATH a group below the container's; may be repeated
  -t, --tty                with a terminal
  --console-socket PATH    where the terminal is sent
  -d, --detach             return as soon as it runs
  --pid-file FILE          where its number is written
  --preserve-fds N         so many descriptors, from 3 on, stay open for it
  --ignore-paused          also in a container that is frozen: it waits until that goes on
  --no-subreaper           nothing: this runtime never becomes one

Example:
  corten runtime exec --tty --user 1000:1000 web sh",
    ),
    ("state", "Usage: corten runtime state ID\n\nShows the state of a container, as the specification has it."),
    (
        "kill",
        "\
Usage: corten runtime kill [options] ID [SIGNAL]

Sends a signal (TERM, if none is said) to the first process of a container.

  -a, --all                to all its processes

Example:
  corten runtime kill web HUP",
    ),
    (
        "delete",
        "\
Usage: corten runtime delete [options] ID

Takes away what is left of a container that has ended.

  -f, --force              end it first, and clear also what an interrupted create has left",
    ),
    ("pause", "Usage: corten runtime pause ID\n\nFreezes all processes of a container."),
    ("resume", "Usage: corten runtime resume ID\n\nLets the processes of a frozen container go on."),
    (
        "list",
        "\
Usage: corten runtime list [options]

  -f, --format table|json
  -q, --quiet              names alone",
    ),
    (
        "ps",
        "\
Usage: corten runtime ps [options] ID

Lists the processes of a container, by their numbers on the host.

  -f, --format table|json",
    ),
    (
        "update",
        "\
Usage: corten runtime update [options] ID

Changes the limits of a container that runs. What is not said stays.

  -r, --resources FILE     all from a file, in the JSON of linux.resources (\"-\": standard input)
  -m, --memory BYTES       also with k, m, g behind it; -1 for no limit
  --memory-swap BYTES      memory and swap together
  --memory-reservation BYTES
  --pids-limit N
  --cpu-quota, --cpu-period, --cpu-burst MICROSECONDS
  --cpu-rt-period, --cpu-rt-runtime MICROSECONDS
  --cpu-share N, --cpu-idle 0|1
  --cpuset-cpus LIST, --cpuset-mems LIST
  --blkio-weight N
  --l3-cache-schema, --mem-bw-schema LINE
                           of its own group of resctrl, where linux.intelRdt made one

Example:
  corten runtime update --memory 256m --pids-limit 200 web",
    ),
    (
        "events",
        "\
Usage: corten runtime events [options] ID

Shows in JSON what a container uses, every few seconds, and when its memory runs out, until it ends.

  --interval TIME          how often (default: 5s)
  --stats                  once, and no more",
    ),
    (
        "checkpoint",
        "\
Usage: corten runtime checkpoint [options] ID

Writes the processes of a container to files, by the host's criu, and stops it; delete and restore are what comes then.

  --image-path DIR         where the files go (default: checkpoint)
  --work-path DIR          where criu's log goes (default: beside the files)
  --parent-path DIR        an earlier checkpoint, relative to the image path: what it has is not written again
  --leave-running          let it go on afterwards
  --pre-dump               write its memory alone, and let it go on
  --tcp-established        also with connections of TCP
  --tcp-skip-in-flight     leave out those that are just being made
  --ext-unix-sk            also with unix sockets whose other end is outside
  --shell-job              also with a terminal of the host's
  --file-locks             also with locks on files
  --manage-cgroups-mode soft|full|strict|ignore
                           what becomes of groups below its own (default: soft)
  --auto-dedup             take out of the parent's files what is written again
  --empty-ns network       leave what is in its network namespace to others
  --page-server, --lazy-pages, --status-fd
                           refused: all is written to files

Example:
  corten runtime checkpoint --image-path /srv/web/images web && runtime delete web",
    ),
    (
        "restore",
        "\
Usage: corten runtime restore [options] ID

Makes a container again from a checkpoint and its bundle, waits for its end and deletes it.

  -b, --bundle DIR         the bundle (default: the working directory)
  --image-path DIR         where the files are (default: checkpoint)
  --work-path DIR          where criu's log goes (default: beside the files)
  -d, --detach             return as soon as it runs, and leave it
  --pid-file FILE          where the number of the first process is written
  --console-socket PATH    where its terminal is sent
  --tcp-established, --ext-unix-sk, --shell-job, --file-locks, --manage-cgroups-mode, --empty-ns
                           as at the checkpoint
  --auto-dedup             take out of the files what has been read
  --lsm-profile TYPE:NAME  another profile of AppArmor, or label of SELinux, than it had
  --no-subreaper           nothing: this runtime never becomes one
  --no-pivot, --lazy-pages, --lsm-mount-context
                           refused

Example:
  corten runtime restore --detach --bundle /srv/web --image-path /srv/web/images web",
    ),
    (
        "spec",
        "\
Usage: corten runtime spec [options]

Writes config.json, an example of a configuration: a shell with few rights.

  -b, --bundle DIR         where (default: the working directory)
  --rootless               one for an ordinary user",
    ),
    ("features", "Usage: corten runtime features\n\nShows in JSON what this runtime can do."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_every_option_is_explained() {
        use crate::command::{checkpoint, exec, run, update};
        let all = [
            ("create", run::FLAGS),
            ("exec", exec::FLAGS),
            ("update", update::FLAGS),
            ("checkpoint", checkpoint::CHECKPOINT_FLAGS),
            ("restore", checkpoint::RESTORE_FLAGS),
        ];
        for (command, flags) in all {
            let text = of(command).unwrap();
            for flag in flags {
                let own = command == "create" && matches!(flag.name(), "detach" | "keep");
                assert!(own || text.contains(&format!("--{}", flag.name())), "{command} --{}", flag.name());
            }
        }
        let listed = crate::command::USAGE
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty());
        for line in listed {
            let name = line.split_whitespace().next().unwrap();
            assert!(of(name).is_some_and(|text| text.starts_with("Usage: corten runtime ")), "{name}");
        }
        assert_eq!(of("nothing"), None);
    }
}

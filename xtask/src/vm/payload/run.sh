# Runs in the machine as root, in a unit of its own. The last line that it prints decides.

# As the user: in a group below theirs, as a group with processes in it passes no controllers on.
if [ "$1" = below ]; then
    shift
    theirs=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
    mkdir "$theirs/tests" && echo $$ >"$theirs/tests/cgroup.procs" && exec "$@"
    exit
fi

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb RUST_BACKTRACE=1
# Ours alone: every start of `docker` takes seconds under emulation. The runtime without the engine around it is a fifth as large.
export CORTEN_TEST_CLIS=corten CORTEN_TEST_PROGRAMS=/payload/programs RUNTIME_UNDER_TEST=/payload/debug/examples/runtime
# Where tests can link to it: it takes long to copy, and to translate each copy of it.
cp /payload/debug/probe /tmp/probe
export RUNTIMES_PROBE=/tmp/probe
# What is slow here is no failure.
export CORTEN_TEST_PATIENCE=4
ip link set lo up

jobs=0
failed=

# job NAME WHO PROGRAM ARGUMENT…
job() {
    name=$1
    shift
    echo "=== $name, after $(cut -d. -f1 /proc/uptime) s"
    jobs=$((jobs + 1))
    "$@" || failed="$failed $name"
}

as_root() {
    timeout --kill-after=5 @SECONDS@ "$@"
}

# What a login gives a user: a systemd of their own, with the group that it looks after; and a unit whose group is theirs.
as_tester() (
    export XDG_RUNTIME_DIR=/run/user/1000
    install -d -m 700 -o tester -g tester $XDG_RUNTIME_DIR
    user="systemd-run --quiet --collect --uid=tester --property=Delegate=yes --property=RuntimeMaxSec=@SECONDS@
        --setenv=PATH --setenv=XDG_RUNTIME_DIR --setenv=RUST_BACKTRACE --setenv=CORTEN_TEST_PATIENCE"
    $user --unit=tester-systemd --service-type=notify /lib/systemd/systemd --user --unit=basic.target || exit
    $user --wait --pipe sh "$0" below "$@"
    ended=$?
    systemctl stop tester-systemd
    exit $ended
)

@JOBS@
echo "=== the end, after $(cut -d. -f1 /proc/uptime) s"
if [ -n "$failed" ]; then
    echo "@FAILED@$failed"
else
    echo "@PASSED@ $jobs"
fi

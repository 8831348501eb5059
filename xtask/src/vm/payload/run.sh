# Runs in the machine as root, in a unit of its own. The last line that it prints decides.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb RUST_BACKTRACE=1
# Ours alone: every start of `docker` takes seconds under emulation. The runtime without the engine around it is a fifth as large.
export CORTEN_TEST_CLIS=corten CORTEN_TEST_PROGRAMS=/payload/programs RUNTIME_UNDER_TEST=/payload/debug/examples/runtime
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

# A unit of the user's own, whose cgroup is theirs.
as_tester() {
    install -d -m 700 -o tester -g tester /run/user/1000
    timeout --kill-after=5 @SECONDS@ systemd-run --quiet --wait --pipe --collect --uid=tester --property=Delegate=yes \
        --setenv=PATH="$PATH" --setenv=HOME=/home/tester --setenv=XDG_RUNTIME_DIR=/run/user/1000 "$@"
}

@JOBS@
echo "=== the end, after $(cut -d. -f1 /proc/uptime) s"
if [ -n "$failed" ]; then
    echo "@FAILED@$failed"
else
    echo "@PASSED@ $jobs"
fi

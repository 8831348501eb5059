//! The shim's own tests once more, with real containers: the supervisor's creator, runtime included, in the place of the
//! stand-in.

#[path = "../../../shim/tests/shim/attach.rs"]
mod attach;
#[path = "../../../shim/tests/shim/basics.rs"]
mod basics;
#[path = "../../../shim/tests/shim/bench.rs"]
mod bench;
#[path = "../../../shim/tests/shim/exec.rs"]
mod exec;
#[path = "../../../shim/tests/shim/host.rs"]
mod host;
#[path = "../../../shim/tests/shim/logs.rs"]
mod logs;

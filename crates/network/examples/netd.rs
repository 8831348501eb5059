//! `corten netd` alone, for tests: the arguments are the same.

fn main() {
    std::process::exit(network::netd::main(std::env::args_os().skip(2)));
}

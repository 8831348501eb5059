//! The runtime's command line as a program of its own, for its tests and for comparing it with others.

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let code = match arguments.split_first() {
        // The container's reaper, which is the same binary in the engine as well.
        Some((first, rest)) if first == "init" => runtime::init::main(rest.to_vec()),
        _ => runtime::command::main(arguments),
    };
    std::process::ExitCode::from(code as u8)
}

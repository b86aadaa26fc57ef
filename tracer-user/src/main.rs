//! The `tracer` binary: nothing but a door to `cli`.

fn main() -> std::process::ExitCode {
    tracer_user::cli::main()
}

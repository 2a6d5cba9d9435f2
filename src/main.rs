//! The `tauscore` command.

fn main() -> std::process::ExitCode {
    tauscore::cli::main()
}

//! The `anybit` program: parses the command line, prints errors, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    anybit_cli::main()
}

#[path = "cli/mod.rs"]
mod anybit_cli;

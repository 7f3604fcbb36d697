//! The federation's command line, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    fedctl::main()
}

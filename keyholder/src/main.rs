//! Keyholder's executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = keyholder::cluster::launch::intercept() {
        return code;
    }
    ExitCode::SUCCESS
}

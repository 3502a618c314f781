//! `settings`: which settings there are, for whoever writes a configuration or audits how one is judged. Reads none: they are compiled in.

use std::{fmt::Write as _, process::ExitCode};

use serde::Serialize;

use super::{failure::Exit, output::Voice};
use crate::config::{self, Setting};

/// The settings as data.
#[derive(Serialize)]
struct Listed {
    settings: Vec<Setting>,
}

/// Lists them.
pub(super) fn list(voice: Voice) -> ExitCode {
    let listed = Listed { settings: config::settings() };
    let mut words = String::new();
    for Setting { name, variable, form } in &listed.settings {
        // Writing to a string does not fail.
        let _ = writeln!(words, "{name:<28} {form:<7} {}", variable.as_deref().unwrap_or("in the file alone"));
    }
    voice.say(&listed, words.trim_end());
    Exit::Done.into()
}

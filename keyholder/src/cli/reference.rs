//! What shells and `man` know of the command line. Both are made from its definition, so neither can say what is not so.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use serde::Serialize;

use super::{
    args::Cli,
    failure::{Exit, Failure},
    output::Voice,
};

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

/// Says the completions of a shell.
pub(super) fn completions(shell: Shell, voice: Voice) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyholder", &mut script);
    let not_text = |error| Failure::because(Exit::Other, "the completions are no text", error);
    let script = String::from_utf8(script).map_err(not_text)?;
    let said = Completions { shell: shell.to_string(), script };
    voice.say(&said, said.script.trim_end());
    Ok(Exit::Done.into())
}

#[derive(Serialize)]
struct Written {
    pages: Vec<PathBuf>,
}

/// Writes the manual's pages into a folder.
pub(super) fn man(folder: &Path, voice: Voice) -> Result<ExitCode, Failure> {
    let written = write(folder).map_err(|error| {
        Failure::because(Exit::Other, format!("the manual cannot be written to {}", folder.display()), error)
    })?;
    let words = format!("{} pages are in {}.", written.len(), folder.display());
    voice.say(&Written { pages: written }, &words);
    Ok(Exit::Done.into())
}

fn write(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let made = !folder.is_dir();
    fs::create_dir_all(folder)?;
    if made {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    let mut written = Vec::new();
    for (name, page) in pages()? {
        let path = folder.join(name);
        fs::write(&path, page)?;
        // This process writes for itself alone unless it is told otherwise; a manual is for everybody.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        written.push(path);
    }
    Ok(written)
}

/// Every page by its file's name: the whole, and each command that is for persons.
pub(super) fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    add(&root, "keyholder", &mut pages)?;
    Ok(pages)
}

fn add(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let source = format!("keyholder {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).title(name.to_uppercase()).source(source).manual("Keyholder");
    let mut page = Vec::new();
    man.render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        add(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

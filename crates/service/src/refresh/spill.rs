//! The state folder's part of the journal: answers of token endpoints, sealed, on this node's disk until the database has them.
//!
//! A file is written beside its place, synced, renamed, and its folder synced, before the database is told, and is removed after. It
//! holds nothing in the clear: the tokens are sealed as they will be stored, and the whole is authenticated under a key that is derived
//! from the root key, so that a changed file is not believed. Processes may share a state folder: each works in a numbered folder of
//! its own, whose lock it holds, and takes over the files of folders whose lock nobody holds.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::id::{ConnectionId, DataKeyId, LinkId, WorkspaceId};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use store::credential::{NewCredential, Renewed, SealedField, Stored};
use time::OffsetDateTime;

use crate::custody::Custody;

/// The form of a file. Another is one that this version cannot read.
const FORMAT: u8 = 1;
/// The most processes that share a state folder.
const SLOTS: u32 = 256;
/// The largest file that is read: two tokens of 64 KiB in base64, and some room.
const MOST_BYTES: u64 = 512 * 1024;
const UNREADABLE: &str = ".unreadable";
const NEW: &str = ".new";

/// A provider's answer, with everything that is needed to settle it later.
pub(super) struct Spilled {
    pub(super) workspace: WorkspaceId,
    /// The provider file's name, to which the seal is bound.
    pub(super) provider: String,
    /// The link whose code was exchanged for it. Such an answer is stored by its own callback or by nobody.
    pub(super) link: Option<LinkId>,
    pub(super) renewed: Renewed,
}

/// A file's name: the connection, and the right by which the answer came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    connection: ConnectionId,
    right: Right,
}

/// By what a provider was asked: each asks once, so that no two answers of a connection have one name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Right {
    /// A refresh, under the lease with this fence.
    Lease(i64),
    /// An owner's consent, by this link.
    Consent(LinkId),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.right {
            Right::Lease(fence) => write!(f, "{}.{fence}", self.connection),
            Right::Consent(link) => write!(f, "{}.{link}", self.connection),
        }
    }
}

impl Name {
    pub(super) fn of_lease(connection: ConnectionId, fence: i64) -> Self {
        Self { connection, right: Right::Lease(fence) }
    }

    pub(super) fn of_consent(connection: ConnectionId, link: LinkId) -> Self {
        Self { connection, right: Right::Consent(link) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (connection, right) = text.split_once('.')?;
        let right = match right.parse() {
            Ok(fence) => Right::Lease(fence),
            Err(_) => Right::Consent(right.parse().ok()?),
        };
        Some(Self { connection: connection.parse().ok()?, right })
    }

    pub(super) fn connection(&self) -> ConnectionId {
        self.connection
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u8,
    workspace: WorkspaceId,
    connection: ConnectionId,
    provider: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<LinkId>,
    fence: i64,
    version: i64,
    consent: i64,
    after_refusal: bool,
    #[serde(with = "time::serde::rfc3339")]
    issued_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    access: Token,
    refresh: Option<Token>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    data_key: DataKeyId,
    sealed: String,
}

impl Token {
    fn of(field: &SealedField) -> Self {
        Self { data_key: field.key, sealed: STANDARD.encode(&field.sealed) }
    }

    fn field(&self) -> Option<SealedField> {
        Some(SealedField { sealed: STANDARD.decode(&self.sealed).ok()?, key: self.data_key })
    }
}

impl Spilled {
    pub(super) fn name(&self) -> Name {
        let connection = self.renewed.connection;
        self.link
            .map_or_else(|| Name::of_lease(connection, self.renewed.fence), |link| Name::of_consent(connection, link))
    }

    /// The pair as custody opens it.
    pub(super) fn as_stored(&self) -> Stored {
        let new = &self.renewed.new;
        Stored {
            connection: self.renewed.connection,
            provider: self.provider.clone(),
            state: domain::connection::State::Inert,
            access: new.access.clone(),
            refresh: new.refresh.clone(),
            version: self.renewed.version + 1,
            expires_at: new.expires_at,
        }
    }

    /// One line of JSON, and one with its keyed digest.
    pub(super) fn encode(&self, custody: &Custody) -> io::Result<Vec<u8>> {
        let renewed = &self.renewed;
        let mut text = serde_json::to_vec(&Document {
            format: FORMAT,
            workspace: self.workspace,
            connection: renewed.connection,
            provider: self.provider.clone(),
            link: self.link,
            fence: renewed.fence,
            version: renewed.version,
            consent: renewed.consent,
            after_refusal: renewed.after_refusal,
            issued_at: renewed.new.issued_at,
            expires_at: renewed.new.expires_at,
            access: Token::of(&renewed.new.access),
            refresh: renewed.new.refresh.as_ref().map(Token::of),
        })?;
        let digest = STANDARD.encode(digest(custody, &text));
        text.push(b'\n');
        text.extend_from_slice(digest.as_bytes());
        text.push(b'\n');
        Ok(text)
    }

    /// What [`Spilled::encode`] wrote; nothing, where a byte of it is another.
    pub(super) fn decode(custody: &Custody, file: &[u8]) -> Option<Self> {
        let text = file.strip_suffix(b"\n")?;
        let line = text.iter().position(|byte| *byte == b'\n')?;
        let (text, said) = (text.get(..line)?, text.get(line + 1..)?);
        if STANDARD.decode(said).ok()?.as_slice() != digest(custody, text) {
            return None;
        }
        let document: Document = serde_json::from_slice(text).ok().filter(|it: &Document| it.format == FORMAT)?;
        let refresh = match &document.refresh {
            Some(token) => Some(token.field()?),
            None => None,
        };
        let new = NewCredential {
            access: document.access.field()?,
            refresh,
            issued_at: document.issued_at,
            expires_at: document.expires_at,
        };
        let renewed = Renewed {
            connection: document.connection,
            fence: document.fence,
            version: document.version,
            consent: document.consent,
            after_refusal: document.after_refusal,
            new,
        };
        Some(Self { workspace: document.workspace, provider: document.provider, link: document.link, renewed })
    }
}

fn digest(custody: &Custody, text: &[u8]) -> [u8; 32] {
    custody.digest(&[b"keyholder spilled answer", text])
}

/// The files of this process. Its calls block on the disk.
pub struct Spills {
    root: PathBuf,
    own: PathBuf,
    /// Held for as long as the process works in the folder; it ends with the process, however that ends.
    _lock: File,
}

impl Spills {
    /// Takes a folder of its own in `state_dir/spill`, the first that nobody works in, with whatever is left there.
    ///
    /// # Errors
    /// The folder cannot be made or locked, others than this process's user may look into it, or 256 processes share it already.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let root = state_dir.join("spill");
        private_folder(&root)?;
        for number in 0..SLOTS {
            let own = root.join(number.to_string());
            private_folder(&own)?;
            if let Some(lock) = lock(&own)? {
                sync_folder(&root)?;
                let spills = Self { root, own, _lock: lock };
                spills.keep_unfinished(&spills.own)?;
                return Ok(spills);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many processes share the state folder"))
    }

    /// What the processes that share a state folder keep there: how many files wait, and how many are kept aside. For whoever looks from
    /// outside: it takes no lock and changes nothing.
    ///
    /// # Errors
    /// The folder cannot be read. One that is not there holds nothing.
    pub fn census(state_dir: &Path) -> io::Result<(usize, usize)> {
        let root = state_dir.join("spill");
        let (mut waiting, mut aside) = (0, 0);
        if !root.try_exists()? {
            return Ok((waiting, aside));
        }
        for slot in names(&root)?.iter().filter(|slot| slot.parse::<u32>().is_ok()) {
            for name in names(&root.join(slot))? {
                waiting += usize::from(Name::parse(&name).is_some());
                aside += usize::from(name.ends_with(UNREADABLE));
            }
        }
        Ok((waiting, aside))
    }

    /// Writes a file, durable when this returns.
    pub(super) fn write(&self, name: &Name, document: &[u8]) -> io::Result<()> {
        let path = self.own.join(name.to_string());
        let beside = self.own.join(format!("{name}{NEW}"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(document)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(&self.own)
    }

    /// What a file holds, if it is still there.
    pub(super) fn read(&self, name: &Name) -> io::Result<Option<Vec<u8>>> {
        let mut document = Vec::new();
        match File::open(self.own.join(name.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?.take(MOST_BYTES).read_to_end(&mut document)?,
        };
        Ok(Some(document))
    }

    /// Removes a file. That it is gone already is no error. It need not be durable: a file that comes back is found to be superseded.
    pub(super) fn remove(&self, name: &Name) -> io::Result<()> {
        match fs::remove_file(self.own.join(name.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a file aside for somebody to look at: it is not tried again.
    pub(super) fn set_aside(&self, name: &Name) -> io::Result<()> {
        fs::rename(self.own.join(name.to_string()), self.own.join(format!("{name}{UNREADABLE}")))?;
        sync_folder(&self.own)
    }

    /// The files that wait.
    pub(super) fn waiting(&self) -> io::Result<Vec<Name>> {
        Ok(names(&self.own)?.iter().filter_map(|name| Name::parse(name)).collect())
    }

    /// The files of one connection that wait.
    pub(super) fn of_connection(&self, connection: ConnectionId) -> io::Result<Vec<Name>> {
        let mut waiting = self.waiting()?;
        waiting.retain(|name| name.connection == connection);
        Ok(waiting)
    }

    /// Removes what is kept aside of a connection that is gone: there is nothing left that it could be of use for.
    pub(super) fn remove_unreadable(&self, connection: ConnectionId) -> io::Result<()> {
        for name in names(&self.own)? {
            let aside = name.strip_suffix(UNREADABLE).and_then(Name::parse);
            if aside.is_some_and(|aside| aside.connection == connection) {
                fs::remove_file(self.own.join(name))?;
            }
        }
        Ok(())
    }

    /// How many files are kept aside.
    pub(super) fn unreadable(&self) -> io::Result<usize> {
        Ok(names(&self.own)?.iter().filter(|name| name.ends_with(UNREADABLE)).count())
    }

    /// Takes over what processes have left that are gone: the files of folders whose lock nobody holds. A folder that cannot be used keeps
    /// nobody from the others.
    ///
    /// # Errors
    /// The folder of all cannot be read. For how many of the others it failed is the answer.
    pub(super) fn adopt(&self) -> io::Result<u32> {
        let mut failed = 0;
        for name in names(&self.root)? {
            let folder = self.root.join(&name);
            if !name.parse::<u32>().is_ok_and(|number| number < SLOTS) || folder == self.own {
                continue;
            }
            if let Err(error) = self.adopt_one(&folder) {
                failed += 1;
                tracing::error!(folder = %folder.display(), %error, "what a process left in the state folder cannot be taken over");
            }
        }
        Ok(failed)
    }

    fn adopt_one(&self, folder: &Path) -> io::Result<()> {
        let Some(_lock) = lock(folder)? else { return Ok(()) };
        self.keep_unfinished(folder)?;
        let left = names(folder)?;
        for name in left.iter().filter(|name| Name::parse(name.trim_end_matches(UNREADABLE)).is_some()) {
            fs::rename(folder.join(name), self.own.join(name))?;
        }
        sync_folder(&self.own)
    }

    /// A file that was written and not renamed may be whole: it is looked at as one that was.
    #[expect(clippy::unused_self, reason = "only who holds a folder's lock may")]
    fn keep_unfinished(&self, folder: &Path) -> io::Result<()> {
        for name in names(folder)? {
            if let Some(finished) = name.strip_suffix(NEW) {
                fs::rename(folder.join(&name), folder.join(finished))?;
            }
        }
        sync_folder(folder)
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Makes a folder that only this process's user may use, and believes no other: one that was there before may be somebody else's.
fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let path = path.display();
        let fault = format!("{path} must be a folder of this process's user that is open to nobody else (mode 0700)");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, fault));
    }
    Ok(())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder's lock, if nobody holds it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use domain::clock::Clock;

    use super::*;

    fn name(fence: i64) -> Name {
        Name::of_lease(ConnectionId::new(&Clock::system()), fence)
    }

    #[test]
    fn processes_that_share_a_folder_do_not_meet_and_the_last_one_inherits() {
        let state = tempfile::tempdir().unwrap();
        let one = Spills::open(state.path()).unwrap();
        let two = Spills::open(state.path()).unwrap();
        assert_ne!(one.own, two.own);
        let (first, second) = (name(1), name(2));
        one.write(&first, b"one").unwrap();
        two.write(&second, b"two").unwrap();
        two.adopt().unwrap();
        assert!(two.waiting().unwrap() == [second.clone()], "a folder whose process lives is not touched");
        // The first process dies between writing and renaming another file.
        fs::write(one.own.join(format!("{}{NEW}", name(3))), b"three").unwrap();
        drop(one);
        two.adopt().unwrap();
        assert_eq!(two.waiting().unwrap().len(), 3);
        assert_eq!(two.read(&first).unwrap().as_deref(), Some(b"one".as_slice()));
        drop(two);
        // Whoever comes next takes the first folder, and everything with it.
        let three = Spills::open(state.path()).unwrap();
        three.adopt().unwrap();
        assert_eq!((three.waiting().unwrap().len(), three.of_connection(first.connection).unwrap().len()), (3, 1));
        three.set_aside(&first).unwrap();
        three.remove(&second).unwrap();
        three.remove(&second).unwrap();
        assert_eq!((three.waiting().unwrap().len(), three.unreadable().unwrap()), (1, 1));
    }

    #[test]
    fn files_are_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        let spills = Spills::open(state.path()).unwrap();
        let name = name(7);
        spills.write(&name, b"sealed").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&spills.own.join(name.to_string())), mode(&spills.own)), (0o600, 0o700));
        for folder in [spills.own.clone(), spills.root.clone()] {
            drop(Spills::open(state.path()).unwrap());
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
            assert!(Spills::open(state.path()).is_err(), "others may look into {}", folder.display());
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    #[test]
    fn a_folder_that_cannot_be_taken_over_keeps_nobody_from_the_others() {
        let state = tempfile::tempdir().unwrap();
        let [one, two, three] = [(); 3].map(|()| Spills::open(state.path()).unwrap());
        for (spills, fence) in [(&one, 1), (&two, 2)] {
            spills.write(&name(fence), b"left").unwrap();
        }
        // A file stands where the first one's lock was, and what is no process's folder lies beside them.
        let (broken, left) = (one.own.join("lock"), one.own.clone());
        drop((one, two));
        fs::remove_file(&broken).unwrap();
        fs::create_dir(&broken).unwrap();
        fs::create_dir(state.path().join("spill").join("lost+found")).unwrap();
        assert_eq!(three.adopt().unwrap(), 1);
        assert_eq!((three.waiting().unwrap().len(), names(&left).unwrap().len()), (1, 2));
        assert!(!state.path().join("spill/lost+found/lock").exists());
    }

    #[test]
    fn what_was_kept_aside_goes_with_its_connection() {
        let state = tempfile::tempdir().unwrap();
        let spills = Spills::open(state.path()).unwrap();
        let (gone, other) = (name(1), name(2));
        for name in [&gone, &other] {
            spills.write(name, b"sealed").unwrap();
            spills.set_aside(name).unwrap();
        }
        spills.remove_unreadable(gone.connection).unwrap();
        assert_eq!(names(&spills.own).unwrap().iter().filter(|name| name.ends_with(UNREADABLE)).count(), 1);
        assert!(spills.own.join(format!("{other}{UNREADABLE}")).exists());
    }
}

//! The keyring on a real file system.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    thread,
    time::Duration,
};

use domain::id::WorkspaceId;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::data_key::{DataKey, UnwrapError, WrappedDataKey};

type Edit = fn(&mut Value);

const LOCAL: Environment = Environment::Local;

/// A folder with a root key, where a keyring will be.
struct Room {
    folder: TempDir,
    root: RootKey,
    clock: Clock,
}

impl Room {
    fn new() -> Self {
        let noon = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        Self { folder: TempDir::new().unwrap(), root: RootKey::generate(), clock: Clock::set(noon) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keyring.json")
    }

    fn create(&self) -> Keyring {
        Keyring::create(&self.path(), &self.root, LOCAL, &self.clock).unwrap()
    }

    fn open(&self) -> Result<Keyring, KeyringError> {
        Keyring::open(&self.path(), &self.root, LOCAL)
    }

    /// Rewrites the file by hand.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        let mut document = serde_json::from_slice(&fs::read(self.path()).unwrap()).unwrap();
        edit(&mut document);
        fs::write(self.path(), document.to_string()).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn wrapped(keyring: &Keyring) -> (DataKey, WrappedDataKey) {
    let clock = Clock::system();
    let key = DataKey::generate(WorkspaceId::new(&clock), &clock);
    let wrapped = key.wrap(keyring).unwrap();
    (key, wrapped)
}

fn unwrap_error(keyring: &Keyring, (key, wrapped): &(DataKey, WrappedDataKey)) -> Option<UnwrapError> {
    wrapped.unwrap(keyring, key.workspace(), key.id()).err()
}

#[test]
fn a_keyring_is_made_once_and_opened_again() {
    let room = Room::new();
    assert!(matches!(room.open(), Err(KeyringError::Missing { .. })));
    let keyring = Keyring::open_or_create(&room.path(), &room.root, LOCAL, &room.clock).unwrap();
    let first = Epoch { id: EpochId(1), state: EpochState::Active, created_at: room.clock.now() };
    assert_eq!((keyring.current(), keyring.epochs(), keyring.environment()), (EpochId(1), vec![first], LOCAL));

    let sealed = wrapped(&keyring);
    for again in [room.open(), Keyring::open_or_create(&room.path(), &room.root, LOCAL, &room.clock)] {
        assert_eq!(unwrap_error(&again.unwrap(), &sealed), None);
    }
    let made = Keyring::create(&room.path(), &room.root, LOCAL, &room.clock);
    assert!(matches!(made, Err(KeyringError::Exists { .. })));
}

#[test]
fn what_is_there_is_never_taken_for_nothing() {
    let room = Room::new();
    symlink(room.folder.path().join("nowhere"), room.path()).unwrap();
    let made = Keyring::open_or_create(&room.path(), &room.root, LOCAL, &room.clock);
    assert!(matches!(made, Err(KeyringError::Missing { .. })), "{made:?}");
    fs::remove_file(room.path()).unwrap();
    fs::write(room.path(), "").unwrap();
    fs::set_permissions(room.path(), Permissions::from_mode(0o600)).unwrap();
    let made = Keyring::open_or_create(&room.path(), &room.root, LOCAL, &room.clock);
    assert!(matches!(made, Err(KeyringError::Malformed { .. })), "{made:?}");
    assert_eq!(fs::read(room.path()).unwrap(), b"");
}

#[test]
fn the_race_for_the_first_keyring_has_one_winner() {
    let room = Room::new();
    let keyrings: Vec<_> = thread::scope(|scope| {
        let open = || Keyring::open_or_create(&room.path(), &room.root, LOCAL, &room.clock).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sealed = wrapped(&keyrings[0]);
    assert!(keyrings.iter().all(|keyring| unwrap_error(keyring, &sealed).is_none()));
}

#[test]
fn another_root_key_or_environment_is_named() {
    let room = Room::new();
    room.create();
    let other = Keyring::open(&room.path(), &RootKey::generate(), LOCAL).unwrap_err();
    assert!(matches!(other, KeyringError::OtherRootKey { .. }));
    assert!(other.to_string().ends_with("was made under another root key than the one configured"), "{other}");

    let other = Keyring::open(&room.path(), &room.root, Environment::Production).unwrap_err();
    assert!(other.to_string().ends_with("is of the environment local, and this installation is production"), "{other}");

    // Nor does it help to rewrite the file's own word.
    room.edit(|document| document["environment"] = json!("production"));
    let other = Keyring::open(&room.path(), &room.root, Environment::Production).unwrap_err();
    assert!(matches!(other, KeyringError::OtherRootKey { .. }));
}

#[test]
fn a_file_that_others_can_read_or_change_is_refused() {
    let room = Room::new();
    room.create();
    assert_eq!(room.files(), ["keyring.json", "keyring.json.lock"]);
    for name in room.files() {
        let mode = fs::metadata(room.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    for bit in 0..9 {
        let mode = 0o600 | 1 << bit;
        fs::set_permissions(room.path(), Permissions::from_mode(mode)).unwrap();
        match room.open() {
            Err(KeyringError::Permissions { mode: found, .. }) => assert_eq!((found, bit < 6), (mode, true)),
            opened => assert!(opened.is_ok() && bit >= 6, "{mode:o}"),
        }
    }
    fs::set_permissions(room.path(), Permissions::from_mode(0o640)).unwrap();
    let message = room.open().unwrap_err().to_string();
    assert!(message.ends_with("is open to others (mode 640); only its owner may read it: chmod 600"), "{message}");
}

#[test]
fn a_file_that_is_not_a_keyring_is_refused_without_quoting_it() {
    let room = Room::new();
    room.create();
    let good: Value = serde_json::from_slice(&fs::read(room.path()).unwrap()).unwrap();
    let with = |field: &str, value: Value| {
        let mut document = good.clone();
        document[field] = value;
        document.to_string()
    };
    let table = [
        (String::new(), "malformed"),
        ("1234567890123456789012345678901234567890".into(), "malformed"),
        ("secretsecret".into(), "malformed"),
        ("[]".into(), "malformed"),
        (good.to_string().replacen("\"format\":1", "\"format\":1,\"format\":1", 1), "malformed"),
        (with("surprise", json!(1)), "malformed"),
        (with("environment", json!("moon")), "malformed"),
        (with("epochs", json!([{"id": 1}])), "malformed"),
        (with("format", json!(2)), "has format 2"),
        (with("mac", json!("zz")), "damaged"),
        (with("mac", json!("")), "damaged"),
        (with("epochs", json!([])), "damaged"),
        (" ".repeat(1 << 20) + &good.to_string(), "too large"),
    ];
    for (contents, reason) in table {
        fs::write(room.path(), &contents).unwrap();
        let message = room.open().unwrap_err().to_string();
        assert!(message.contains(reason), "{contents:.80}: {message}");
        assert!(!message.contains("secretsecret") && !message.contains("12345"), "{message}");
    }
    fs::remove_file(room.path()).unwrap();
    fs::create_dir(room.path()).unwrap();
    assert!(matches!(room.open(), Err(KeyringError::NotAFile { .. })));
}

#[test]
fn every_word_of_the_file_is_authenticated() {
    let room = Room::new();
    let keyring = room.create();
    let second = keyring.new_epoch(&room.clock).unwrap();
    keyring.activate(second).unwrap();
    let good = fs::read(room.path()).unwrap();
    let table: [(&str, Edit); 7] = [
        ("an id", |document| document["epochs"][1]["id"] = json!(3)),
        ("a state", |document| document["epochs"][1]["state"] = json!("announced")),
        ("a time", |document| document["epochs"][0]["created_at"] = json!("2020-01-01T00:00:00Z")),
        ("keys exchanged", |document| {
            let keys = [0, 1].map(|at| document["epochs"][at]["key"].clone());
            [document["epochs"][1]["key"], document["epochs"][0]["key"]] = keys;
        }),
        ("an epoch lost", |document| drop(document["epochs"].as_array_mut().unwrap().pop())),
        ("a key lost", |document| drop(document["epochs"][0].as_object_mut().unwrap().remove("key"))),
        ("an epoch destroyed", |document| {
            document["epochs"][0]["state"] = json!("destroyed");
            document["epochs"][0].as_object_mut().unwrap().remove("key");
        }),
    ];
    for (what, edit) in table {
        fs::write(room.path(), &good).unwrap();
        assert!(room.open().is_ok());
        room.edit(edit);
        assert!(matches!(room.open(), Err(KeyringError::Damaged { .. })), "{what}");
    }
}

#[test]
fn no_key_lies_in_the_file_in_the_clear() {
    let room = Room::new();
    let keyring = room.create();
    let contents = fs::read_to_string(room.path()).unwrap();
    let (_, key) = keyring.wrapping_key();
    for secret in [key.as_bytes(), room.root.derive(crate::Purpose::KeyringWrap, LOCAL).as_bytes()] {
        assert!(!contents.contains(&hex::encode(secret)));
        // 24 bytes are 32 characters of base64 in each alignment.
        for from in 0..3 {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &secret[from..from + 24]);
            assert!(!contents.contains(&text));
        }
    }
}

#[test]
fn an_epoch_is_announced_then_wraps_then_ends() {
    let room = Room::new();
    let keyring = room.create();
    let node = room.open().unwrap();
    let old = wrapped(&keyring);

    room.clock.advance(Duration::from_hours(1));
    let second = keyring.new_epoch(&room.clock).unwrap();
    assert_eq!((second, keyring.current()), (EpochId(2), EpochId(1)), "announced, and not yet in use");
    assert_eq!(keyring.epochs()[1].created_at, room.clock.now());

    node.reload().unwrap();
    keyring.activate(second).unwrap();
    keyring.activate(second).unwrap();
    let new = wrapped(&keyring);
    assert_eq!((keyring.current(), new.1.epoch), (second, second));
    assert_eq!(unwrap_error(&node, &new), None, "a node that has reported the epoch opens what is wrapped under it");
    assert_eq!(node.current(), EpochId(1), "and goes on with its own until it reloads");

    assert!(matches!(keyring.destroy(second), Err(KeyringError::CurrentEpoch(_))));
    assert!(matches!(keyring.destroy(EpochId(9)), Err(KeyringError::UnknownEpoch(_))));
    assert!(matches!(keyring.activate(EpochId(9)), Err(KeyringError::UnknownEpoch(_))));
    assert_eq!(unwrap_error(&keyring, &old), None);
    keyring.destroy(EpochId(1)).unwrap();
    keyring.destroy(EpochId(1)).unwrap();
    assert!(matches!(keyring.activate(EpochId(1)), Err(KeyringError::DestroyedEpoch(_))));
    for keyring in [&keyring, &room.open().unwrap()] {
        assert_eq!(unwrap_error(keyring, &old), Some(UnwrapError::DestroyedEpoch(EpochId(1))));
        assert_eq!(unwrap_error(keyring, &new), None);
    }

    assert_eq!(unwrap_error(&node, &old), None, "what a node holds in memory it holds until it reloads");
    node.reload().unwrap();
    assert_eq!(unwrap_error(&node, &old), Some(UnwrapError::DestroyedEpoch(EpochId(1))));
    let states = [(EpochId(1), EpochState::Destroyed), (second, EpochState::Active)];
    assert!(node.epochs().iter().map(|epoch| (epoch.id, epoch.state)).eq(states));
    assert_eq!(keyring.new_epoch(&room.clock).unwrap(), EpochId(3), "no number is given twice");
}

#[test]
fn a_destroyed_key_is_in_the_file_in_no_form() {
    let room = Room::new();
    let keyring = room.create();
    let before = fs::read_to_string(room.path()).unwrap();
    let document: Value = serde_json::from_str(&before).unwrap();
    let key = document["epochs"][0]["key"].as_str().unwrap();
    let second = keyring.new_epoch(&room.clock).unwrap();
    keyring.activate(second).unwrap();
    assert!(fs::read_to_string(room.path()).unwrap().contains(key));
    keyring.destroy(EpochId(1)).unwrap();
    for name in room.files() {
        assert!(!fs::read_to_string(room.folder.path().join(name)).unwrap().contains(key));
    }
}

#[test]
fn a_change_is_made_to_the_file_as_it_is_now() {
    let room = Room::new();
    let (one, other) = (room.create(), room.open().unwrap());
    assert_eq!(one.new_epoch(&room.clock).unwrap(), EpochId(2));
    assert_eq!(other.new_epoch(&room.clock).unwrap(), EpochId(3), "the other's epoch is not overwritten");
    one.reload().unwrap();
    assert_eq!(one.epochs(), other.epochs());
}

#[test]
fn an_older_file_is_not_taken_back() {
    let room = Room::new();
    let keyring = room.create();
    let second = keyring.new_epoch(&room.clock).unwrap();
    keyring.activate(second).unwrap();
    let before = fs::read(room.path()).unwrap();
    keyring.destroy(EpochId(1)).unwrap();
    fs::write(room.path(), before).unwrap();
    assert!(matches!(keyring.reload(), Err(KeyringError::RolledBack { .. })));
    assert!(matches!(keyring.new_epoch(&room.clock), Err(KeyringError::RolledBack { .. })));
    assert_eq!(keyring.epochs()[0].state, EpochState::Destroyed);
}

#[test]
fn a_failed_reload_leaves_what_was_known() {
    let room = Room::new();
    let keyring = room.create();
    let sealed = wrapped(&keyring);
    fs::write(room.path(), "{").unwrap();
    assert!(matches!(keyring.reload(), Err(KeyringError::Malformed { .. })));
    fs::remove_file(room.path()).unwrap();
    assert!(matches!(keyring.reload(), Err(KeyringError::Missing { .. })));
    assert_eq!(unwrap_error(&keyring, &sealed), None);
}

#[test]
fn the_file_is_replaced_and_never_written_in_place() {
    let room = Room::new();
    let keyring = room.create();
    // A second name for the old file: writing in place would show through it.
    let old = room.folder.path().join("old");
    fs::hard_link(room.path(), &old).unwrap();
    let before = fs::read(&old).unwrap();
    // What a process left that died while writing is in nobody's way.
    let left = room.folder.path().join("keyring.json.new");
    fs::write(&left, "half a keyr").unwrap();
    keyring.new_epoch(&room.clock).unwrap();
    assert_eq!(fs::read(&old).unwrap(), before);
    assert_ne!(fs::read(room.path()).unwrap(), before);
    assert_eq!(room.files(), ["keyring.json", "keyring.json.lock", "old"]);
    assert_eq!(room.open().unwrap().epochs().len(), 2);
}

#[test]
fn readers_and_writers_at_once_lose_nothing() {
    const EACH: usize = 10;
    let room = Room::new();
    let keyrings: Vec<_> = [room.create()].into_iter().chain((0..3).map(|_| room.open().unwrap())).collect();
    let sealed = wrapped(&keyrings[0]);
    thread::scope(|scope| {
        let write = |keyring: &Keyring| {
            (0..EACH).for_each(|_| keyring.activate(keyring.new_epoch(&room.clock).unwrap()).unwrap());
        };
        let writers: Vec<_> = keyrings[..2].iter().map(|keyring| scope.spawn(move || write(keyring))).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            for keyring in &keyrings[2..] {
                keyring.reload().unwrap();
                assert_eq!(unwrap_error(keyring, &sealed), None);
                assert_eq!(unwrap_error(keyring, &wrapped(keyring)), None);
            }
        }
    });
    let ids: Vec<_> = room.open().unwrap().epochs().into_iter().map(|epoch| epoch.id.get()).collect();
    assert!(ids.into_iter().eq(1..=21));
}

#[test]
fn a_keyring_prints_no_key() {
    let room = Room::new();
    let keyring = room.create();
    let text = format!("{keyring:?}");
    assert!(text.contains("EpochId(1)") && !text.contains("key:") && !text.contains("wrap"), "{text}");
}

//! The desired state on disk: an append-only log, rewritten when most of it is history.

mod record;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use federation_runtime::files::{self, Access};
use hub_protocol::Key;
use hub_protocol::agent::{Desired, Entry, Persist};
use prost::Message as _;
use proto::v1;

use record::{Found, decode, encode, whole_record_within};

/// The log is rewritten when it is this large and more than twice what is live.
const COMPACT_FROM: u64 = 1 << 20;
/// Why the desired state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading at the start.
    #[error("cannot read the desired state in {path}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in the middle was changed, or a newer version wrote it. To cut it off there would lose what was written since: the
    /// epoch below which no hub is obeyed, removals that were under way, copies that were stopped.
    #[error(
        "{path} cannot be understood from octet {at} on ({why}), and what follows must not be lost. Start the version that wrote it; or put \
         back the file as it was when this agent last ended (an older copy would apply what was wanted then); or move it away: the agent then \
         obeys whichever hub its certificate leads to, at any epoch, and is sent everything that is wanted here; copies in the member stay \
         meanwhile, and the hub asks again for removals that it has no answer to"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it begins, octets.
        at: u64,
        /// What is wrong there.
        why: &'static str,
    },
    /// Writing a change.
    #[error("cannot write the desired state to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    file: File,
    length: u64,
    live: HashMap<Key, u64>,
    live_bytes: u64,
}

impl Store {
    /// Opens the log in `directory` and reads it. A torn end, as a power cut leaves it, is cut off: what was in it is sent again
    /// by the hub, which compares digests at every connection. An end is torn if no whole record follows.
    ///
    /// # Errors
    /// When the log cannot be read, or is damaged elsewhere than at its end, or holds what a newer version wrote.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Desired, v1::KeptPlans), Error> {
        let path = directory.join("log");
        let failed = |source| Error::Read { path: path.clone(), source };
        // Secrets are inside.
        files::private_directory(directory).map_err(failed)?;
        let mut file = files::open_private(&path, OpenOptions::new().read(true).append(true).create(true))
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut entries: HashMap<Key, Entry> = HashMap::new();
        let (mut epoch, mut incarnation) = (0, String::new());
        let kept = read_plans(&directory.join("plans"))?;
        let mut rest = bytes.as_slice();
        loop {
            let at = (bytes.len() - rest.len()) as u64;
            let damaged = |why| Error::Damaged { path: path.clone(), at, why };
            let persist = match decode(rest) {
                Found::Record(persist, after) => {
                    rest = after;
                    *persist
                }
                Found::Unknown => return Err(damaged("a record that this version does not know")),
                Found::Nothing if whole_record_within(rest) => return Err(damaged("a damaged record")),
                Found::Nothing => break,
            };
            match persist {
                Persist::Put(entry) => {
                    entries.insert(entry.key.clone(), entry);
                }
                Persist::Forget(key) => {
                    entries.remove(&key);
                }
                Persist::Meta { epoch: newest, incarnation: from } => (epoch, incarnation) = (newest, from),
                // In a file of their own.
                Persist::Plans(_) => {}
            }
        }
        let length = (bytes.len() - rest.len()) as u64;
        if !rest.is_empty() {
            tracing::warn!(path = %path.display(), bytes = rest.len(), "the log of the desired state ends in the middle of a record; that end is dropped");
            file.set_len(length).map_err(failed)?;
        }
        let mut store = Self { path, file, length, live: HashMap::new(), live_bytes: 0 };
        for entry in entries.values() {
            store.account(&Persist::Put(entry.clone()), encode(&Persist::Put(entry.clone())).len() as u64);
        }
        let mut desired = Desired::load(epoch, incarnation, entries.into_values());
        if let Some(acted) = &kept.acted {
            desired.restore(acted);
        }
        Ok((store, desired, kept))
    }

    /// Writes a batch; it is on disk when this returns.
    pub(crate) fn append(&mut self, batch: &[Persist]) -> Result<(), Error> {
        let mut bytes = Vec::new();
        // Before the log: an act is known before its objects are applied.
        let plans = batch.iter().rev().find_map(|persist| match persist {
            Persist::Plans(kept) => Some(kept),
            _ => None,
        });
        if let Some(kept) = plans {
            let path = self.path.with_file_name("plans");
            files::replace(&path, &kept.encode_to_vec(), Access::Private)
                .map_err(|source| Error::Write { path, source })?;
        }
        for persist in batch.iter().filter(|persist| !matches!(persist, Persist::Plans(_))) {
            let record = encode(persist);
            self.account(persist, record.len() as u64);
            bytes.extend_from_slice(&record);
        }
        self.length += bytes.len() as u64;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    /// Whether [`Store::compact`] is worth its while.
    pub(crate) fn is_bloated(&self) -> bool {
        self.length > COMPACT_FROM && self.length > 2 * self.live_bytes
    }

    /// Rewrites the log from what is live.
    pub(crate) fn compact(&mut self, desired: &Desired) -> Result<(), Error> {
        let fresh = self.path.with_extension("new");
        let failed = |source| Error::Write { path: fresh.clone(), source };
        let mut bytes =
            encode(&Persist::Meta { epoch: desired.epoch(), incarnation: desired.incarnation().to_owned() });
        for entry in desired.iter() {
            bytes.extend_from_slice(&encode(&Persist::Put(entry.clone())));
        }
        let mut file =
            files::open_private(&fresh, OpenOptions::new().write(true).create(true).truncate(true))
                .map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&fresh, &self.path).map_err(failed)?;
        if let Some(parent) = self.path.parent() {
            File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(failed)?;
        self.length = bytes.len() as u64;
        Ok(())
    }

    fn account(&mut self, persist: &Persist, size: u64) {
        let old = match persist {
            Persist::Put(entry) => {
                self.live_bytes += size;
                self.live.insert(entry.key.clone(), size)
            }
            Persist::Forget(key) => self.live.remove(key),
            Persist::Meta { .. } | Persist::Plans(_) => None,
        };
        self.live_bytes -= old.unwrap_or(0);
    }
}

/// The contingency plans; none where there are none yet, or where the file is no such thing: the hub sends them again.
fn read_plans(path: &Path) -> Result<v1::KeptPlans, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(v1::KeptPlans::decode(bytes.as_slice()).unwrap_or_else(|error| {
            tracing::error!(path = %path.display(), %error, "the contingency plans on disk cannot be read");
            v1::KeptPlans::default()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(v1::KeptPlans::default()),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use hub_protocol::agent::State;
    use hub_protocol::content_hash;

    use super::*;

    fn entry(name: &str, generation: i64) -> Entry {
        Entry {
            key: Key {
                version: "v1".into(),
                resource: "configmaps".into(),
                name: name.into(),
                ..Key::default()
            },
            uid: format!("uid-{name}"),
            generation,
            epoch: 7,
            manifest: Bytes::from(vec![b'x'; 100]),
            conflict: v1::ConflictPolicy::Adopt,
            lease_ms: 30_000,
            stopped: true,
            floor: 0,
            state: State::Held,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, desired, _) = Store::open(directory.path()).unwrap();
        assert_eq!(desired.iter().count(), 0);
        let meta = Persist::Meta { epoch: 9, incarnation: "i".into() };
        store.append(&[Persist::Put(entry("a", 1)), Persist::Put(entry("b", 1)), meta]).unwrap();
        let removing = Entry { state: State::Removing, ..entry("a", 1) };
        store.append(&[Persist::Put(removing), Persist::Forget(entry("b", 1).key)]).unwrap();
        let (_, desired, _) = Store::open(directory.path()).unwrap();
        assert_eq!((desired.epoch(), desired.incarnation()), (9, "i"));
        assert_eq!(
            desired.iter().map(|entry| (entry.uid.as_str(), entry.state)).collect::<Vec<_>>(),
            [("uid-a", State::Removing)]
        );
    }

    #[test]
    fn a_torn_end_is_dropped_at_every_length() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _, _) = Store::open(directory.path()).unwrap();
        store.append(&[Persist::Put(entry("a", 1))]).unwrap();
        let first = fs::metadata(directory.path().join("log")).unwrap().len();
        store.append(&[Persist::Put(entry("b", 1))]).unwrap();
        let whole = fs::read(directory.path().join("log")).unwrap();
        for cut in first as usize..whole.len() {
            fs::write(directory.path().join("log"), &whole[..cut]).unwrap();
            let (mut store, desired, _) = Store::open(directory.path()).unwrap();
            assert_eq!(desired.iter().count(), 1, "cut at {cut}");
            store.append(&[Persist::Put(entry("c", 1))]).unwrap();
            assert_eq!(Store::open(directory.path()).unwrap().1.iter().count(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn plans_and_what_was_done_by_them_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _, kept) = Store::open(directory.path()).unwrap();
        assert_eq!(kept, v1::KeptPlans::default());
        let raised = v1::Raised { key: Some(entry("a", 1).key.into()), uid: "uid-a".into(), replicas: 4 };
        let acted = v1::Acted { revision: 3, raised: vec![raised], ..v1::Acted::default() };
        let plans = v1::KeptPlans { acted: Some(acted), revision: 3, ..v1::KeptPlans::default() };
        store.append(&[Persist::Put(entry("a", 1)), Persist::Plans(Box::new(plans.clone()))]).unwrap();
        let (_, desired, kept) = Store::open(directory.path()).unwrap();
        assert_eq!((kept, desired.get(&entry("a", 1).key).unwrap().floor), (plans, 4));
        fs::write(directory.path().join("plans"), [0xff; 3]).unwrap();
        let (_, desired, kept) = Store::open(directory.path()).unwrap();
        assert_eq!((kept, desired.iter().count()), (v1::KeptPlans::default(), 1));
    }

    #[test]
    fn damage_before_the_end_is_refused_and_nothing_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let (mut store, _, _) = Store::open(directory.path()).unwrap();
        store.append(&[Persist::Put(entry("a", 1))]).unwrap();
        let first = fs::metadata(&log).unwrap().len() as usize;
        store.append(&[Persist::Put(entry("b", 1))]).unwrap();
        let second = fs::metadata(&log).unwrap().len() as usize;
        store.append(&[Persist::Meta { epoch: 9, incarnation: "i".into() }]).unwrap();
        let whole = fs::read(&log).unwrap();
        for octet in first..second {
            let mut flipped = whole.clone();
            flipped[octet] ^= 1 << (octet % 8);
            fs::write(&log, &flipped).unwrap();
            let refused = Store::open(directory.path()).unwrap_err();
            assert!(
                matches!(refused, Error::Damaged { at, .. } if at == first as u64),
                "octet {octet}: {refused}"
            );
            assert_eq!(fs::read(&log).unwrap(), flipped, "octet {octet}");
        }
        // With nothing behind it, it may be torn.
        for octet in second..whole.len() {
            let mut flipped = whole.clone();
            flipped[octet] ^= 1 << (octet % 8);
            fs::write(&log, &flipped).unwrap();
            assert_eq!(Store::open(directory.path()).unwrap().1.iter().count(), 2, "octet {octet}");
        }
    }

    #[test]
    fn what_a_newer_version_wrote_is_refused_also_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let (mut store, _, _) = Store::open(directory.path()).unwrap();
        store.append(&[Persist::Put(entry("a", 1))]).unwrap();
        let header = br#"{"Lease":{"epoch":9}}"#;
        let mut bytes = fs::read(&log).unwrap();
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&content_hash(header).to_le_bytes());
        bytes.extend_from_slice(header);
        fs::write(&log, &bytes).unwrap();
        let refused = Store::open(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("does not know") && refused.contains("move it away"), "{refused}");
        assert_eq!(fs::read(&log).unwrap(), bytes);
    }

    #[test]
    fn nobody_else_reads_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("desired");
        let log = directory.join("log");
        let modes =
            || [&directory, &log].map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o777);
        let (mut store, desired, _) = Store::open(&directory).unwrap();
        assert_eq!(modes(), [0o700, 0o600], "when it is made");
        fs::write(directory.join("log.new"), "of a crash").unwrap();
        fs::set_permissions(directory.join("log.new"), fs::Permissions::from_mode(0o644)).unwrap();
        store.compact(&desired).unwrap();
        assert_eq!(modes(), [0o700, 0o600], "after compaction");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o644)).unwrap();
        Store::open(&directory).unwrap();
        assert_eq!(modes(), [0o700, 0o600], "where an earlier version made it");
    }

    #[test]
    fn compaction_keeps_what_is_live() {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, mut desired, _) = Store::open(directory.path()).unwrap();
        for generation in 1..9000 {
            store.append_unsynced(&[Persist::Put(entry("a", generation))]);
        }
        assert!(store.is_bloated());
        desired = Desired::load(desired.epoch(), "i".into(), [entry("a", 9000)]);
        store.compact(&desired).unwrap();
        assert!(!store.is_bloated());
        store.append(&[Persist::Put(entry("b", 1))]).unwrap();
        let (_, again, _) = Store::open(directory.path()).unwrap();
        assert_eq!(again.iter().count(), 2);
        assert_eq!(again.incarnation(), "i");
    }

    impl Store {
        fn append_unsynced(&mut self, batch: &[Persist]) {
            for persist in batch {
                let record = encode(persist);
                self.account(persist, record.len() as u64);
                self.length += record.len() as u64;
                self.file.write_all(&record).unwrap();
            }
        }
    }
}

//! The vault, attacked: whatever is changed about a blob or its place, it does not open.

use std::path::Path;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use uuid::Uuid;

use super::*;
use crate::keyring::KeyRing;
use crate::wrapping::RingFile;

fn ring() -> KeyRing {
    let folder = tempfile::tempdir().unwrap();
    KeyRing::init(&folder.path().join("ring")).unwrap()
}

/// A vault over this ring, with methods that do not wait: a file answers at once.
struct Direct(Vault);

fn vault(ring: KeyRing) -> Direct {
    Direct(Vault::new(Arc::new(RingFile::new(ring))))
}

fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}

impl Direct {
    fn new_data_key(&self, tenant: TenantId) -> Result<(DataKey, Wrapped), VaultError> {
        now(self.0.new_data_key(tenant))
    }

    fn unwrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<DataKey, VaultError> {
        now(self.0.unwrap(tenant, wrapped))
    }

    fn rewrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<Wrapped, VaultError> {
        now(self.0.rewrap(tenant, wrapped))
    }
}

fn tenant(number: u128) -> TenantId {
    TenantId(Uuid::from_u128(number))
}

fn token(text: &str) -> RefreshToken {
    RefreshToken::new(text).unwrap()
}

fn place(number: u128) -> Place<'static> {
    Place::of_refresh_token(tenant(number), "client", 7)
}

#[test]
fn what_is_sealed_opens_in_its_own_place_and_looks_different_each_time() {
    let vault = vault(ring());
    let (key, wrapped) = vault.new_data_key(tenant(1)).unwrap();
    let one = key.seal(&place(1), &token("0.AX-a-token")).unwrap();
    let two = key.seal(&place(1), &token("0.AX-a-token")).unwrap();
    assert_ne!(one, two);
    assert_eq!(one.len(), SHORTEST + "0.AX-a-token".len());
    // As after a restart: the data key comes out of its wrapping.
    let again = vault.unwrap(tenant(1), &wrapped.blob).unwrap();
    assert_eq!(again.open(&place(1), &one).unwrap().expose_secret(), "0.AX-a-token");
    assert_eq!(again.open(&place(1), &two).unwrap().expose_secret(), "0.AX-a-token");
}

/// Flips every bit of a blob, one after the other.
fn every_flip(blob: &mut [u8], mut opens: impl FnMut(&[u8]) -> bool) {
    for bit in 0..blob.len() * 8 {
        blob[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(blob), "bit {bit} of {} bytes", blob.len());
        blob[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(opens(blob), "untouched it opens");
}

#[test]
fn i15_no_flipped_bit_of_a_thousand_blobs_passes() {
    let vault = vault(ring());
    for number in 1..=1000 {
        let (key, mut wrapped) = vault.new_data_key(tenant(number)).unwrap();
        let text = "x".repeat(usize::try_from(number % 50).unwrap() + 1);
        let mut sealed = key.seal(&place(number), &token(&text)).unwrap();
        every_flip(&mut sealed, |blob| key.open(&place(number), blob).is_ok());
        if number % 10 == 0 {
            every_flip(&mut wrapped.blob, |blob| vault.unwrap(tenant(number), blob).is_ok());
        }
    }
}

#[test]
fn i15_no_older_version_opens_in_the_place_of_another() {
    let (key, _) = vault(ring()).new_data_key(tenant(1)).unwrap();
    let at = |version| Place::of_refresh_token(tenant(1), "client", version);
    let sealed: Vec<_> = (1..=50).map(|version| (version, key.seal(&at(version), &token("t")).unwrap())).collect();
    for (stands, _) in &sealed {
        for (version, blob) in &sealed {
            assert_eq!(key.open(&at(*stands), blob).is_ok(), stands == version, "version {version} in the place of {stands}");
        }
    }
}

#[test]
fn a_rewrapped_key_is_the_same_key_under_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (old, both) = (folder.path().join("old"), folder.path().join("both"));
    let before = vault(KeyRing::init(&old).unwrap());
    let (key, wrapped) = before.new_data_key(tenant(1)).unwrap();
    let sealed = key.seal(&place(1), &token("t")).unwrap();
    let new_id = KeyRing::init(&both).unwrap().active_id();
    let text = std::fs::read_to_string(&both).unwrap() + &std::fs::read_to_string(&old).unwrap();
    std::fs::write(&both, text).unwrap();
    let after = vault(KeyRing::load(&both).unwrap());
    let rewrapped = after.rewrap(tenant(1), &wrapped.blob).unwrap();
    assert_eq!(rewrapped.key_id, new_id);
    assert!(after.unwrap(tenant(1), &rewrapped.blob).unwrap().open(&place(1), &sealed).is_ok());
    assert!(after.rewrap(tenant(2), &wrapped.blob).is_err(), "not for another tenant");
    assert_eq!(before.unwrap(tenant(1), &rewrapped.blob).map(drop), Err(VaultError::OtherKey(new_id)));
}

#[test]
fn a_key_that_was_just_brought_into_the_file_is_found_there_and_none_gets_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("ring"), folder.path().join("other"));
    let vault = vault(KeyRing::init(&path).unwrap());
    let (_, ours) = vault.new_data_key(tenant(1)).unwrap();
    let theirs = self::vault(KeyRing::init(&other).unwrap());
    let (_, foreign) = theirs.new_data_key(tenant(2)).unwrap();
    let (old, new) = (std::fs::read_to_string(&path).unwrap(), std::fs::read_to_string(&other).unwrap());
    // A ring that would take a key away is not taken into use by the way.
    std::fs::write(&path, &new).unwrap();
    assert!(vault.unwrap(tenant(2), &foreign.blob).is_err());
    assert!(vault.unwrap(tenant(1), &ours.blob).is_ok());
    std::fs::write(&path, new + &old).unwrap();
    assert!(vault.unwrap(tenant(2), &foreign.blob).is_ok());
    assert!(vault.unwrap(tenant(1), &ours.blob).is_ok());
}

#[test]
fn i15_no_pair_of_rows_can_be_swapped() {
    let vault = vault(ring());
    let rows: Vec<_> = (1..=50)
        .map(|number| {
            let (key, wrapped) = vault.new_data_key(tenant(number)).unwrap();
            let sealed = key.seal(&place(number), &token("t")).unwrap();
            (number, key, wrapped.blob, sealed)
        })
        .collect();
    for (number, key, wrapped, _) in &rows {
        for (other, _, others_wrapped, others_sealed) in &rows {
            let same = number == other;
            assert_eq!(key.open(&place(*number), others_sealed).is_ok(), same, "{other} in the place of {number}");
            assert_eq!(vault.unwrap(tenant(*number), others_wrapped).is_ok(), same, "key of {other} in the place of {number}");
            // Even with its own data key, a blob does not open for another tenant.
            assert_eq!(vault.unwrap(tenant(*other), wrapped).is_ok(), same);
        }
    }
}

#[test]
fn i15_every_part_of_the_place_counts() {
    let (key, _) = vault(ring()).new_data_key(tenant(1)).unwrap();
    let here = place(1);
    let sealed = key.seal(&here, &token("t")).unwrap();
    let elsewhere = [
        Place { table: "tenant_key", ..here },
        Place { column: "previous", ..here },
        Place { tenant: tenant(2), ..here },
        Place { kind: "client-secret", ..here },
        Place { client_id: "clienT", ..here },
        Place { version: 8, ..here },
        Place { version: 6, ..here },
        // Lengths are part of it: letters do not move from one field to the next.
        Place { table: "tenant_secretsealed", column: "", ..here },
        Place { kind: "refresh-tokenc", client_id: "lient", ..here },
    ];
    assert!(key.open(&here, &sealed).is_ok());
    for place in elsewhere {
        assert_eq!(key.open(&place, &sealed).map(drop), Err(VaultError::Refused), "{place:?}");
    }
}

#[test]
fn another_ring_opens_nothing_and_names_the_key_that_would() {
    let ours = ring();
    let id = ours.active_id();
    let (_, wrapped) = vault(ours).new_data_key(tenant(1)).unwrap();
    assert_eq!(wrapped.key_id, id);
    assert_eq!(vault(ring()).unwrap(tenant(1), &wrapped.blob).map(drop), Err(VaultError::OtherKey(id)));
}

#[test]
fn the_first_key_seals_and_all_open() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, both) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("both"));
    let old_vault = vault(KeyRing::init(&old).unwrap());
    let new_id = KeyRing::init(&new).unwrap().active_id();
    let (_, wrapped_before) = old_vault.new_data_key(tenant(1)).unwrap();
    // Copied, so that the file keeps its mode.
    std::fs::copy(&new, &both).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, read(&new) + &read(&old)).unwrap();
    let vault = vault(KeyRing::load(&both).unwrap());
    assert!(vault.unwrap(tenant(1), &wrapped_before.blob).is_ok());
    assert_eq!(vault.new_data_key(tenant(2)).unwrap().1.key_id, new_id);
}

#[test]
fn a_cut_blob_is_an_error_and_never_a_panic() {
    let vault = vault(ring());
    let (key, wrapped) = vault.new_data_key(tenant(1)).unwrap();
    let sealed = key.seal(&place(1), &token("0.AX-a-token")).unwrap();
    for length in 0..sealed.len() {
        assert!(key.open(&place(1), &sealed[..length]).is_err());
    }
    for length in 0..wrapped.blob.len() {
        assert!(vault.unwrap(tenant(1), &wrapped.blob[..length]).is_err());
    }
    let mut longer = sealed;
    longer.push(0);
    assert!(key.open(&place(1), &longer).is_err());
}

#[test]
fn a_later_format_says_so() {
    let (key, _) = vault(ring()).new_data_key(tenant(1)).unwrap();
    let mut blob = key.seal(&place(1), &token("t")).unwrap();
    blob[4] = 2;
    assert_eq!(key.open(&place(1), &blob).map(drop), Err(VaultError::UnknownFormat { format: 2, algorithm: 1 }));
}

#[test]
fn an_import_is_recognised_under_its_own_key_only() {
    let vault = vault(ring());
    let (key, _) = vault.new_data_key(tenant(1)).unwrap();
    let (other, _) = vault.new_data_key(tenant(2)).unwrap();
    let mac = key.import_mac(&token("t"));
    assert!(key.is_import(&token("t"), &mac));
    assert!(!key.is_import(&token("u"), &mac));
    assert!(!other.is_import(&token("t"), &mac));
    assert!(!key.is_import(&token("t"), &mac[..31]));
    assert!(!key.is_import(&token("t"), &[]));
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), with_header: bool) {
        static VAULT: LazyLock<Direct> = LazyLock::new(|| vault(ring()));
        let (key, _) = VAULT.new_data_key(tenant(1)).unwrap();
        if with_header && bytes.len() >= HEADER_BYTES {
            bytes[..4].copy_from_slice(MAGIC);
            bytes[4..6].copy_from_slice(&[1, 1]);
            bytes[6..14].copy_from_slice(&key.0.id.0);
        }
        proptest::prop_assert!(key.open(&place(1), &bytes).is_err());
        proptest::prop_assert!(VAULT.unwrap(tenant(1), &bytes).is_err());
    }
}

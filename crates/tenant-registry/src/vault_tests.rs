//! The vault, attacked: whatever is changed about a blob or its place, it does not open.

use std::path::Path;
use std::sync::LazyLock;

use uuid::Uuid;

use super::*;

fn ring() -> KeyRing {
    let folder = tempfile::tempdir().unwrap();
    KeyRing::init(&folder.path().join("ring")).unwrap()
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
    let vault = Vault::new(ring());
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

#[test]
fn i15_no_flipped_bit_passes() {
    let vault = Vault::new(ring());
    for number in 1..=40 {
        let (key, wrapped) = vault.new_data_key(tenant(number)).unwrap();
        let text = "x".repeat(usize::try_from(number).unwrap() * 3);
        let sealed = key.seal(&place(number), &token(&text)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut blob = sealed.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&place(number), &blob).is_err(), "bit {bit}");
        }
        for bit in 0..wrapped.blob.len() * 8 {
            let mut blob = wrapped.blob.clone();
            blob[bit / 8] ^= 1 << (bit % 8);
            assert!(vault.unwrap(tenant(number), &blob).is_err(), "bit {bit} of a wrapped key");
        }
    }
}

#[test]
fn i15_no_pair_of_rows_can_be_swapped() {
    let vault = Vault::new(ring());
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
    let (key, _) = Vault::new(ring()).new_data_key(tenant(1)).unwrap();
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
    let (_, wrapped) = Vault::new(ours).new_data_key(tenant(1)).unwrap();
    assert_eq!(wrapped.key_id, id);
    assert_eq!(Vault::new(ring()).unwrap(tenant(1), &wrapped.blob).map(drop), Err(VaultError::OtherKey(id)));
}

#[test]
fn the_first_key_seals_and_all_open() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new, both) = (folder.path().join("old"), folder.path().join("new"), folder.path().join("both"));
    let old_vault = Vault::new(KeyRing::init(&old).unwrap());
    let new_id = KeyRing::init(&new).unwrap().active_id();
    let (_, wrapped_before) = old_vault.new_data_key(tenant(1)).unwrap();
    // Copied, so that the file keeps its mode.
    std::fs::copy(&new, &both).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&both, read(&new) + &read(&old)).unwrap();
    let vault = Vault::new(KeyRing::load(&both).unwrap());
    assert!(vault.unwrap(tenant(1), &wrapped_before.blob).is_ok());
    assert_eq!(vault.new_data_key(tenant(2)).unwrap().1.key_id, new_id);
}

#[test]
fn a_cut_blob_is_an_error_and_never_a_panic() {
    let vault = Vault::new(ring());
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
    let (key, _) = Vault::new(ring()).new_data_key(tenant(1)).unwrap();
    let mut blob = key.seal(&place(1), &token("t")).unwrap();
    blob[4] = 2;
    assert_eq!(key.open(&place(1), &blob).map(drop), Err(VaultError::UnknownFormat { format: 2, algorithm: 1 }));
}

#[test]
fn an_import_is_recognised_under_its_own_key_only() {
    let vault = Vault::new(ring());
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
        static VAULT: LazyLock<Vault> = LazyLock::new(|| Vault::new(ring()));
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

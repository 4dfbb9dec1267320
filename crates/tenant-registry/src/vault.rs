//! Sealing: what is written to the database in place of a secret.
//!
//! Every tenant has a data key of its own, 256 random bits. It seals the tenant's secrets, and is
//! itself sealed ("wrapped") by the first key of the key ring. Removing a tenant destroys its data
//! key, and with it everything sealed under it; a token that a new sign-in or import brings comes with a new data
//! key; rotating the ring rewraps data keys only. What wraps them is behind
//! a trait ([`KeyWrapping`]), so that a key service can take the place of the ring.
//!
//! # Byte format
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `TOCS` |
//! | 4 | 1 | format version: 1 |
//! | 5 | 1 | algorithm: 1 = AES-256-GCM with a random 96-bit nonce |
//! | 6 | 8 | id of the key that sealed it: a ring key or a data key |
//! | 14 | 12 | nonce |
//! | 26 | n | ciphertext |
//! | 26 + n | 16 | authentication tag |
//!
//! The key is looked up by its id; keys are never tried in turn.
//!
//! # What a blob is bound to
//!
//! The associated data are these fields, each preceded by its length as 4 bytes, big endian: the first
//! 14 bytes of the blob (format, algorithm, key id), table, column, tenant, kind, client id, version
//! (8 bytes, big endian). A blob that was moved to another row or column, or an older one put back
//! beside a newer version number, therefore does not open. What this cannot see is somebody with
//! write access who puts back a whole older *row*, version number included: that takes a high-water
//! mark outside of the row.
//!
//! Random nonces are safe far beyond 2^32 seals under one key, which is a refresh every second for
//! 136 years.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use domain::{RefreshToken, TenantId};
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::keyring::KeyId;
use crate::wrapping::KeyWrapping;

const MAGIC: &[u8; 4] = b"TOCS";
const FORMAT: u8 = 1;
const AES_256_GCM_RANDOM_NONCE: u8 = 1;
const KEY_ID_AT: usize = 6;
const HEADER_BYTES: usize = 14;
const TAG_BYTES: usize = 16;
const SHORTEST: usize = HEADER_BYTES + NONCE_LEN + TAG_BYTES;

/// Why something does not open, or cannot be sealed. Never says anything about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Too short, or does not begin as a sealed value does.
    #[error("the stored value is not one that tocsin sealed")]
    NotSealed,
    /// Written by a later version of tocsin.
    #[error("the stored value has format {format}, algorithm {algorithm}, which this version of tocsin does not know")]
    UnknownFormat {
        /// Byte 4.
        format: u8,
        /// Byte 5.
        algorithm: u8,
    },
    /// Sealed under a key that is not at hand.
    #[error("the stored value is sealed under key {0}, which is not at hand")]
    OtherKey(KeyId),
    /// Altered, moved from another row, or older than its row.
    #[error("the stored value was altered, moved from another place or rolled back: it does not open")]
    Refused,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// The place a sealed value belongs to: it opens there and nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) table: &'a str,
    pub(crate) column: &'a str,
    pub(crate) tenant: TenantId,
    pub(crate) kind: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) version: i64,
}

impl<'a> Place<'a> {
    /// Where a data key lies.
    pub(crate) fn of_data_key(tenant: TenantId) -> Self {
        Place { table: "tenant_key", column: "wrapped", tenant, kind: "data-key", client_id: "", version: 0 }
    }

    /// Where a refresh token lies. The column `previous` takes over what was sealed for `sealed`, with
    /// its version number, so both are one place.
    pub(crate) fn of_refresh_token(tenant: TenantId, client_id: &'a str, version: i64) -> Self {
        Place { table: "tenant_secret", column: "sealed", tenant, kind: REFRESH_TOKEN, client_id, version }
    }

    /// Where a refresh token lies that has not been proved yet. Of what kind it is says the sign-in that brought it, so
    /// that no other one can pass it off as its own.
    pub(crate) fn of_candidate(tenant: TenantId, sign_in: &'a str, client_id: &'a str, version: i64) -> Self {
        Place { table: "candidate", column: "sealed", tenant, kind: sign_in, client_id, version }
    }

    fn associated_data(&self, header: &[u8]) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 7] = [
            header,
            self.table.as_bytes(),
            self.column.as_bytes(),
            self.tenant.0.as_bytes(),
            self.kind.as_bytes(),
            self.client_id.as_bytes(),
            &version,
        ];
        let mut data = Vec::with_capacity(160);
        for field in fields {
            // No field comes near 4 GB: the longest is a client id out of the configuration.
            data.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            data.extend_from_slice(field);
        }
        data
    }
}

/// The kind of secret that `tocsin.tenant_secret` holds.
pub(crate) const REFRESH_TOKEN: &str = "refresh-token";

/// A 256-bit key with its id.
pub(crate) struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; 32]>,
}

impl Key {
    pub(crate) fn new(id: KeyId, bytes: Zeroizing<[u8; 32]>) -> Self {
        Self { id, bytes }
    }

    fn cipher(&self) -> LessSafeKey {
        // Fails for a wrong key length only, and 32 bytes are the right one.
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.bytes.as_slice()).expect("an AES-256 key has 32 bytes"))
    }

    pub(crate) fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
        let mut blob = Vec::with_capacity(SHORTEST + plain.len());
        blob.extend_from_slice(MAGIC);
        blob.extend_from_slice(&[FORMAT, AES_256_GCM_RANDOM_NONCE]);
        blob.extend_from_slice(&self.id.0);
        let associated = Aad::from(place.associated_data(&blob));
        blob.extend_from_slice(&nonce);
        // The plain text is encrypted where it will stay: no copy of it is left behind.
        let body_at = blob.len();
        blob.extend_from_slice(plain);
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), associated, &mut blob[body_at..])
            .map_err(|_| VaultError::Refused)?;
        blob.extend_from_slice(tag.as_ref());
        Ok(blob)
    }

    pub(crate) fn open(&self, place: &Place<'_>, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let sealed_by = key_of(blob)?;
        if sealed_by != self.id {
            return Err(VaultError::OtherKey(sealed_by));
        }
        let (header, rest) = blob.split_at(HEADER_BYTES);
        let (nonce, body) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::NotSealed)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = self
            .cipher()
            .open_in_place(nonce, Aad::from(place.associated_data(header)), &mut plain)
            .map_err(|_| VaultError::Refused)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// Which key sealed this blob; checks everything that can be checked without it.
pub(crate) fn key_of(blob: &[u8]) -> Result<KeyId, VaultError> {
    if blob.len() < SHORTEST || !blob.starts_with(MAGIC) {
        return Err(VaultError::NotSealed);
    }
    let (format, algorithm) = (blob[4], blob[5]);
    if (format, algorithm) != (FORMAT, AES_256_GCM_RANDOM_NONCE) {
        return Err(VaultError::UnknownFormat { format, algorithm });
    }
    let mut id = [0; 8];
    id.copy_from_slice(&blob[KEY_ID_AT..HEADER_BYTES]);
    Ok(KeyId(id))
}

/// The key of one tenant, in the clear. It lives for the length of one operation.
pub(crate) struct DataKey(Key);

impl DataKey {
    fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Key { id: KeyId::derive("tocsin 2026-08 data key id", bytes.as_slice()), bytes })
    }

    /// Seals a refresh token for its row.
    pub(crate) fn seal(&self, place: &Place<'_>, token: &RefreshToken) -> Result<Vec<u8>, VaultError> {
        self.0.seal(place, token.expose_secret().as_bytes())
    }

    /// Opens what [`DataKey::seal`] made for the same place.
    pub(crate) fn open(&self, place: &Place<'_>, blob: &[u8]) -> Result<RefreshToken, VaultError> {
        let plain = self.0.open(place, blob)?;
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::NotSealed)?;
        RefreshToken::new(text).ok_or(VaultError::NotSealed)
    }

    /// Recognises a token that was imported before, without telling it to anybody who has no key.
    pub(crate) fn import_mac(&self, token: &RefreshToken) -> [u8; 32] {
        let key = Zeroizing::new(blake3::derive_key("tocsin 2026-08 import mac", self.0.bytes.as_slice()));
        *blake3::keyed_hash(&key, token.expose_secret().as_bytes()).as_bytes()
    }

    /// Whether `token` is the one that `mac` was made of; takes the same time either way.
    pub(crate) fn is_import(&self, token: &RefreshToken, mac: &[u8]) -> bool {
        self.import_mac(token).ct_eq(mac).into()
    }
}

/// Makes and opens data keys. Holds what wraps them; prints as nothing.
pub(crate) struct Vault {
    wrapping: Arc<dyn KeyWrapping>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.key_ids()).finish()
    }
}

/// A data key as it is stored.
pub(crate) struct Wrapped {
    pub(crate) key_id: KeyId,
    pub(crate) blob: Vec<u8>,
}

impl Vault {
    pub(crate) fn new(wrapping: Arc<dyn KeyWrapping>) -> Self {
        Self { wrapping }
    }

    /// The keys at hand, the one that wraps first.
    pub(crate) fn key_ids(&self) -> Vec<KeyId> {
        self.wrapping.ids()
    }

    /// A fresh data key for a tenant, and the form in which it is stored.
    pub(crate) async fn new_data_key(&self, tenant: TenantId) -> Result<(DataKey, Wrapped), VaultError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| VaultError::NoRandomness)?;
        let wrapped = self.wrapping.wrap(tenant, &bytes).await?;
        Ok((DataKey::new(bytes), wrapped))
    }

    /// Opens the data key of a tenant with whichever key wrapped it.
    pub(crate) async fn unwrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<DataKey, VaultError> {
        Ok(DataKey::new(self.wrapping.unwrap(tenant, wrapped).await?))
    }

    /// Wraps a data key anew, with the key that wraps now. What is sealed under the data key stays as it is.
    pub(crate) async fn rewrap(&self, tenant: TenantId, wrapped: &[u8]) -> Result<Wrapped, VaultError> {
        let bytes = self.wrapping.unwrap(tenant, wrapped).await?;
        self.wrapping.wrap(tenant, &bytes).await
    }
}

#[cfg(test)]
#[path = "vault_tests.rs"]
mod tests;

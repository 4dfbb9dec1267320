//! Reading answers without trusting their size.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{Failure, Reply};

/// Of an answer that says why not, this much is looked at.
const ERROR_BODY: usize = 64 * 1024;
/// Nothing that the sign-in service answers comes near this.
const SECRET_BODY: usize = 256 * 1024;
/// How much is reserved on the word of a `Content-Length` header.
const TRUSTED_LENGTH: u64 = 8 * 1024 * 1024;

/// Reads a page. The limit counts what comes out of decompression, so a bomb is cut off while it
/// unfolds.
pub(crate) async fn read_page_body(mut reply: Reply, limit: usize) -> Result<Bytes, Failure> {
    let announced = reply.content_length().unwrap_or(0).min(TRUSTED_LENGTH);
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(limit));
    while let Some(chunk) = reply.response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    // Records are slices of the page and keep all of it alive: it should not be half air.
    body.shrink_to_fit();
    Ok(Bytes::from(body))
}

/// Reads the start of an answer that says why not; what breaks off is simply shorter.
pub(crate) async fn read_error_body(mut reply: Reply) -> Bytes {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = reply.response.chunk().await {
        let room = ERROR_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == ERROR_BODY {
            break;
        }
    }
    Bytes::from(body)
}

/// Reads an answer with secrets into memory that is wiped afterwards and never moved meanwhile.
pub(crate) async fn read_secret_body(mut reply: Reply) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut body = Zeroizing::new(Vec::with_capacity(SECRET_BODY));
    while let Some(chunk) = reply.response.chunk().await? {
        if body.len() + chunk.len() > SECRET_BODY {
            return Err(Failure::TooLarge(SECRET_BODY));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

//! Tokens that look like Microsoft's: three readable parts. The last part is not a signature anybody could
//! check from outside, but the simulator recognises its own work by it.

use crate::dice::Dice;
use crate::json::Json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Makes and recognises the tokens of one simulator.
#[derive(Debug)]
pub(crate) struct Mint {
    key: aws_lc_rs::hmac::Key,
    marker: String,
}

impl Mint {
    pub(crate) fn new(seed: u64, marker: Option<&str>) -> Mint {
        let key = Dice::of(&[seed, 0x3147]).bytes(32);
        Mint { key: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key), marker: marker.unwrap_or_default().to_owned() }
    }

    pub(crate) fn marker(&self) -> &str {
        &self.marker
    }

    /// A readable token with these claims.
    pub(crate) fn jwt(&self, claims: impl FnOnce(&mut Json)) -> String {
        let header = URL_SAFE_NO_PAD
            .encode(br#"{"typ":"JWT","alg":"RS256","x5t":"k7Bq0Jv3s0zTnQm1wXhYd2uPZ4c","kid":"k7Bq0Jv3s0zTnQm1wXhYd2uPZ4c"}"#);
        let payload = URL_SAFE_NO_PAD.encode(Json::render(700, claims));
        let signed = format!("{header}.{payload}");
        let seal = self.seal(signed.as_bytes(), 256);
        format!("{signed}.{}{seal}", self.marker)
    }

    /// The claims of a token, if it is one of ours.
    pub(crate) fn read(&self, token: &str) -> Option<serde_json::Value> {
        let (signed, seal) = token.rsplit_once('.')?;
        if seal != format!("{}{}", self.marker, self.seal(signed.as_bytes(), 256)) {
            return None;
        }
        let (_, payload) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// A text of about 4/3 of `length` characters that only this simulator can make for these bytes.
    pub(crate) fn seal(&self, of: &[u8], length: usize) -> String {
        let mut bytes = aws_lc_rs::hmac::sign(&self.key, of).as_ref().to_vec();
        let mut parts = [0_u64; 4];
        for (part, chunk) in parts.iter_mut().zip(bytes.chunks_exact(8)) {
            *part = chunk.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        }
        bytes.extend(Dice::of(&parts).bytes(length.saturating_sub(32)));
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

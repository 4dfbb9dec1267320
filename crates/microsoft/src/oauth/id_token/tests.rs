//! Everything that a forger, a mix-up or a wrong clock can do to an id token.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256, RsaEncoding,
};
use serde_json::{Value, json};
use std::sync::LazyLock;
use uuid::Uuid;

use super::*;

const TENANT: TenantId = TenantId(Uuid::from_u128(0xb3c1));
const CLIENT: &str = "11111111-2222-3333-4444-555555555555";
const NONCE: &str = "the-nonce";
const NOW: i64 = 1_795_262_400;

/// Ours, and one of somebody else. Making RSA keys takes its time.
static KEYS: LazyLock<[KeyPair; 2]> = LazyLock::new(|| [(); 2].map(|()| KeyPair::generate(KeySize::Rsa2048).unwrap()));
static CURVE: LazyLock<EcdsaKeyPair> = LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

fn issuer() -> String {
    format!("https://login.test/{TENANT}/v2.0")
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Modulus and exponent out of the key's DER: two integers in a sequence, the first of 257 bytes with its zero.
fn components(key: &KeyPair) -> (String, String) {
    let der = key.public_key().as_ref();
    let exponent = &der[der.len() - 3..];
    let modulus = &der[der.len() - 5 - 256..der.len() - 5];
    (encode(modulus), encode(exponent))
}

fn jwk(key: &KeyPair, kid: &str, more: &[(&str, &str)]) -> Value {
    let (n, e) = components(key);
    let mut jwk = json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e });
    for (name, value) in more {
        jwk[*name] = json!(value);
    }
    jwk
}

fn keys() -> Keys {
    let curve = CURVE.public_key().as_ref();
    let set = json!({ "keys": [
        jwk(&KEYS[0], "ours", &[("issuer", "https://login.test/{tenantid}/v2.0")]),
        jwk(&KEYS[0], "elsewhere", &[("issuer", "https://login.test/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0")]),
        jwk(&KEYS[0], "ps-only", &[("alg", "PS256")]),
        { "kty": "EC", "crv": "P-256", "kid": "curve", "x": encode(&curve[1..33]), "y": encode(&curve[33..65]) },
    ]});
    Keys::read(set.to_string().as_bytes()).unwrap()
}

fn claims() -> Value {
    json!({ "iss": issuer(), "aud": CLIENT, "exp": NOW + 3600, "nbf": NOW, "iat": NOW, "nonce": NONCE, "tid": TENANT.to_string(),
            "oid": "00000000-0000-0000-0000-00000000000a", "name": "Jo", "preferred_username": "jo@customer.test" })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signed_by(key: &KeyPair, encoding: &'static dyn RsaEncoding, header: &Value, claims: impl AsRef<[u8]>) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", encode(signature))
}

fn signed(claims: &Value) -> String {
    signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &json!({ "alg": "RS256", "kid": "ours", "typ": "JWT" }), claims.to_string())
}

fn expected() -> Expected<'static> {
    static ISSUER: LazyLock<String> = LazyLock::new(issuer);
    Expected { tenant: TENANT, issuer: &ISSUER, client_id: CLIENT, nonce: Some(NONCE), now: Ticks(NOW * 10_000_000) }
}

fn checked(token: &str) -> Result<Account, Flaw> {
    check(token, &keys(), &expected())
}

#[test]
fn what_is_right_in_every_way_is_believed() {
    let account = |oid: Option<&str>, name: Option<&str>| Account { oid: oid.map(str::to_owned), name: name.map(str::to_owned) };
    let (oid, name) = (Some("00000000-0000-0000-0000-00000000000a"), Some("jo@customer.test"));
    let person = account(oid, name);
    assert_eq!(checked(&signed(&claims())), Ok(person.clone()));
    for right in
        [with("aud", json!([CLIENT])), with("azp", json!(CLIENT)), without("nbf"), without("iat"), with("exp", json!(NOW as f64 + 0.5))]
    {
        assert_eq!(checked(&signed(&right)), Ok(person.clone()), "{right}");
    }
    assert_eq!(checked(&signed(&with("tid", json!(TENANT.to_string().to_uppercase())))), Ok(person.clone()), "a GUID has no case");
    assert_eq!(checked(&signed(&without("oid"))), Ok(account(None, name)));
    assert_eq!(checked(&signed(&with("oid", json!("<b>Jo</b>")))), Ok(account(None, name)), "what is no id is not passed on");
    for strange in [json!("jo\u{1b}[2J@customer.test"), json!("jo\u{202e}"), json!(""), json!("j".repeat(300))] {
        assert_eq!(checked(&signed(&with("preferred_username", strange.clone()))), Ok(account(oid, None)), "{strange}");
    }
    let mut older = without("preferred_username");
    older["upn"] = json!("jo_other.test#EXT#@customer.test");
    assert_eq!(checked(&signed(&older)), Ok(account(oid, Some("jo_other.test#EXT#@customer.test"))), "guests have such names");
    let pss = signed_by(&KEYS[0], &RSA_PSS_SHA256, &json!({ "alg": "PS256", "kid": "ps-only" }), claims().to_string());
    assert_eq!(checked(&pss), Ok(person.clone()));
    let message = format!("{}.{}", encode(json!({ "alg": "ES256", "kid": "curve" }).to_string()), encode(claims().to_string()));
    let signature = CURVE.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    assert_eq!(checked(&format!("{message}.{}", encode(signature))), Ok(person.clone()));
    // An issuer may be spelled for every tenant, and a device code has no nonce.
    let templated = Expected { issuer: "https://login.test/{tenantid}/v2.0", nonce: None, ..expected() };
    assert_eq!(check(&signed(&without("nonce")), &keys(), &templated), Ok(person));
}

#[test]
fn a_claim_that_is_wrong_or_missing_is_refused_by_its_own_check() {
    let other = Uuid::from_u128(7).to_string();
    let cases = [
        (with("iss", json!("https://login.test/v2.0")), Flaw::Issuer),
        (with("iss", json!(format!("https://login.test/{other}/v2.0"))), Flaw::Issuer),
        (with("iss", json!(format!("{}/", issuer()))), Flaw::Issuer),
        (with("iss", json!(issuer().to_uppercase())), Flaw::Issuer),
        (with("iss", json!("https://login.test/{tenantid}/v2.0")), Flaw::Issuer),
        (with("iss", json!(format!("http://login.test/{TENANT}/v2.0"))), Flaw::Issuer),
        (with("aud", json!(other)), Flaw::Audience),
        (with("aud", json!("")), Flaw::Audience),
        (with("aud", json!([])), Flaw::Audience),
        (with("aud", json!([CLIENT, other])), Flaw::Audience),
        (with("aud", json!(["x"])), Flaw::Audience),
        (with("azp", json!(other)), Flaw::Audience),
        (with("exp", json!(NOW - 300)), Flaw::Expired),
        (with("exp", json!(0)), Flaw::Expired),
        (with("exp", json!(-1)), Flaw::Expired),
        (with("nbf", json!(NOW + 301)), Flaw::NotYet),
        (with("iat", json!(NOW + 301)), Flaw::NotYet),
        (with("nonce", json!("another")), Flaw::Nonce),
        (with("nonce", json!("")), Flaw::Nonce),
        (with("nonce", json!(NONCE.to_uppercase())), Flaw::Nonce),
        (without("nonce"), Flaw::Nonce),
        (with("tid", json!(other)), Flaw::Tenant),
        (with("tid", json!("contoso.test")), Flaw::Tenant),
        (without("tid"), Flaw::Tenant),
        (without("iss"), Flaw::Unreadable),
        (without("aud"), Flaw::Unreadable),
        (without("exp"), Flaw::Unreadable),
        (with("exp", json!("3600")), Flaw::Unreadable),
        (with("exp", json!(null)), Flaw::Unreadable),
        (with("aud", json!({ "x": CLIENT })), Flaw::Unreadable),
        (with("iss", json!(7)), Flaw::Unreadable),
        (with("tid", json!([TENANT.to_string()])), Flaw::Unreadable),
    ];
    for (claims, flaw) in cases {
        assert_eq!(checked(&signed(&claims)), Err(flaw), "{claims}");
    }
    for (near, flaw) in [("exp", NOW - 299), ("nbf", NOW + 300), ("iat", NOW + 300)] {
        assert!(checked(&signed(&with(near, json!(flaw)))).is_ok(), "clocks may be five minutes apart: {near}");
    }
}

#[test]
fn nothing_of_a_token_counts_whose_signature_is_not_right() {
    let good = signed(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let with_header = |header: Value| format!("{}.{payload}.{signature}", encode(header.to_string()));
    let right = json!({ "alg": "RS256", "kid": "ours" });
    let secret_of_a_fool = {
        // The oldest trick: the public key as the secret of a symmetric signature.
        let message = format!("{}.{payload}", encode(json!({ "alg": "HS256", "kid": "ours" }).to_string()));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, KEYS[0].public_key().as_ref());
        format!("{message}.{}", encode(aws_lc_rs::hmac::sign(&key, message.as_bytes())))
    };
    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[100] ^= 1;
    let duplicate = claims().to_string().replacen('{', &format!(r#"{{"tid":"{}","#, Uuid::nil()), 1);
    let cases = [
        (String::new(), Flaw::Missing),
        ("garbage".to_owned(), Flaw::Unreadable),
        (message.to_owned(), Flaw::Unreadable),
        (format!("{good}.x"), Flaw::Unreadable),
        (format!("!.{payload}.{signature}"), Flaw::Unreadable),
        (format!("{}.{payload}.{signature}", encode("no json")), Flaw::Unreadable),
        (format!("{}.{payload}.{signature}", encode([0xff, 0xfe])), Flaw::Unreadable),
        (format!("{}.{payload}.{signature}", encode(r#"{"alg":"RS256","kid":"ours","crit":["exp"],"exp":1}"#)), Flaw::Unreadable),
        ("x.".repeat(2) + &"A".repeat(LONGEST), Flaw::Unreadable),
        (format!("{}.{payload}.", encode(json!({ "alg": "none", "kid": "ours" }).to_string())), Flaw::Algorithm),
        (format!("{}.{payload}.", encode(json!({ "alg": "None" }).to_string())), Flaw::Algorithm),
        (with_header(json!({ "kid": "ours" })), Flaw::Algorithm),
        (with_header(json!({ "alg": 5, "kid": "ours" })), Flaw::Algorithm),
        (with_header(json!({ "alg": "rs256", "kid": "ours" })), Flaw::Algorithm),
        (secret_of_a_fool, Flaw::Algorithm),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA384, &json!({ "alg": "RS384", "kid": "ours" }), claims().to_string()), Flaw::Algorithm),
        (with_header(json!({ "alg": "RS256" })), Flaw::UnfitKey),
        (with_header(json!({ "alg": "RS256", "kid": 1 })), Flaw::UnfitKey),
        (with_header(json!({ "alg": "RS256", "kid": "curve" })), Flaw::UnfitKey),
        (with_header(json!({ "alg": "RS256", "kid": "ps-only" })), Flaw::UnfitKey),
        (with_header(json!({ "alg": "RS256", "kid": "../ours" })), Flaw::UnknownKey),
        (with_header(json!({ "alg": "RS256", "kid": "ours", "x": 1 })), Flaw::Signature),
        (with_header(json!({ "alg": "PS256", "kid": "ours" })), Flaw::Signature),
        (format!("{message}."), Flaw::Signature),
        (format!("{message}.{}", encode(flipped)), Flaw::Signature),
        (format!("{message}.{}", &signature[..signature.len() - 4]), Flaw::Signature),
        (format!("{message}.!!"), Flaw::Signature),
        (format!("{header}.{}.{signature}", encode(with("tid", json!(TENANT.to_string())).to_string() + " ")), Flaw::Signature),
        (signed_by(&KEYS[1], &RSA_PKCS1_SHA256, &right, claims().to_string()), Flaw::Signature),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &json!({ "alg": "RS256", "kid": "elsewhere" }), claims().to_string()), Flaw::Issuer),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &right, "no json"), Flaw::Unreadable),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &right, "[]"), Flaw::Unreadable),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &right, [0xff]), Flaw::Unreadable),
        (signed_by(&KEYS[0], &RSA_PKCS1_SHA256, &right, duplicate), Flaw::Unreadable),
    ];
    for (token, flaw) in cases {
        assert_eq!(checked(&token), Err(flaw), "{}", &token[..token.len().min(400)]);
    }
    assert_eq!(check(&good, &Keys::default(), &expected()), Err(Flaw::UnknownKey));
    let another_app = Expected { client_id: "another", ..expected() };
    assert_eq!(check(&good, &keys(), &another_app), Err(Flaw::Audience));
}

#[test]
fn every_flaw_has_a_code_and_tells_a_stranger_nothing() {
    use Flaw::{Algorithm, Audience, Expired, Issuer, Missing, Nonce, NotYet, Signature, Tenant, UnfitKey, UnknownKey, Unreadable};
    for flaw in [Missing, Unreadable, Algorithm, UnknownKey, UnfitKey, Signature, Issuer, Audience, Expired, NotYet, Nonce, Tenant] {
        let error = SignInError::from(flaw);
        let trouble = error.trouble();
        assert!(trouble.code.unwrap().starts_with("id-token-") && trouble.action.starts_with("you"));
        assert_eq!(error.outside(), SignInError::from(Flaw::Nonce).outside(), "the same for all");
        assert!(!error.is_dead_token());
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic_and_none_are_believed(token in ".{0,200}", set in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Keys::read(&set);
        proptest::prop_assert!(checked(&token).is_err());
        let good = signed(&claims());
        let (message, _) = good.rsplit_once('.').unwrap();
        let forged = format!("{message}.{token}");
        proptest::prop_assert!(checked(&forged).is_err());
    }
}

//! Signed events: `t=<seconds>,v1=<hex HMAC-SHA256 of "t.body">`, the scheme that Stripe made common.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::Millis;

/// What we read of an event: enough to know which intent to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookEvent {
    pub id: String,
    pub kind: String,
    pub intent_id: Option<String>,
    pub refund_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    #[error("the signature header is not of the form t=…,v1=…")]
    Malformed,
    #[error("the event was signed too long ago, or in the future")]
    WrongTime,
    #[error("the event was not signed with the secret of this endpoint")]
    WrongSecret,
}

/// How far the signer's clock may be from ours; a replayed event is refused after it.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The header for `body`, signed at `now`.
pub(super) fn sign(secret: &str, body: &[u8], now: Millis) -> String {
    let seconds = now.0.div_euclid(1_000);
    let signature = mac(secret, &seconds.to_string(), body).finalize().into_bytes();
    format!("t={seconds},v1={}", hex(&signature))
}

/// Checks a header against the body as it arrived, in constant time. Any of several `v1` may match: a provider signs with
/// the old and the new secret while a secret is replaced.
pub(super) fn verify(secret: &str, header: &str, body: &[u8], now: Millis) -> Result<WebhookEvent, BadSignature> {
    let parts = || header.split(',').filter_map(|it| it.trim().split_once('='));
    let time = parts().find(|(key, _)| *key == "t").ok_or(BadSignature::Malformed)?.1;
    let seconds: i64 = time.parse().map_err(|_| BadSignature::Malformed)?;
    let signatures: Vec<Vec<u8>> = parts().filter(|(key, _)| *key == "v1").filter_map(|(_, it)| unhex(it)).collect();
    if signatures.is_empty() {
        return Err(BadSignature::Malformed);
    }
    let mac = mac(secret, time, body);
    if !signatures.iter().any(|it| mac.clone().verify_slice(it).is_ok()) {
        return Err(BadSignature::WrongSecret);
    }
    let signed = Millis(seconds.saturating_mul(1_000));
    if signed.since(now).max(now.since(signed)) > TOLERANCE {
        return Err(BadSignature::WrongTime);
    }
    Ok(read(body))
}

/// Reads a signed body leniently: an event that cannot be read was still sent, and refusing it would only have it sent
/// again for three days. Its body names it then.
fn read(body: &[u8]) -> WebhookEvent {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |path: &str| event.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let object = text("/data/object/id");
    let named = |prefix: &str| object.clone().filter(|it| it.starts_with(prefix));
    WebhookEvent {
        id: text("/id").unwrap_or_else(|| format!("unnamed_{}", hex(&Sha256::digest(body)))),
        kind: text("/type").unwrap_or_else(|| "unreadable".into()),
        intent_id: named("pi_").or_else(|| text("/data/object/payment_intent")),
        refund_id: named("re_"),
    }
}

fn mac(secret: &str, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let key: Hmac<Sha256> = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    key.chain_update(time).chain_update(".").chain_update(body)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|it| it.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let digits = digits.filter(|it| it.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|it| it[0] << 4 | it[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    #[test]
    fn a_signature_holds_for_its_body_its_secret_and_its_time() {
        let body = br#"{"id":"evt_1","type":"payment_intent.succeeded","data":{"object":{"id":"pi_1"}}}"#;
        let header = sign("s", body, NOW);
        let event = verify("s", &header, body, NOW + Duration::from_secs(299)).unwrap();
        assert_eq!((event.id.as_str(), event.intent_id.as_deref(), event.refund_id), ("evt_1", Some("pi_1"), None));
        let (time, signature) = header.split_once(',').unwrap();
        let rotated = format!("{time},v1=00,v1=zz,v0=1,{signature}");
        assert!(verify("s", &rotated, body, NOW).is_ok());
        for (secret, header, body, now, expected) in [
            ("other", header.as_str(), body.as_slice(), NOW, BadSignature::WrongSecret),
            ("s", &header, b"{}", NOW, BadSignature::WrongSecret),
            ("s", &header.replace("t=17", "t=18"), body, NOW, BadSignature::WrongSecret),
            ("s", &header, body, NOW + Duration::from_secs(302), BadSignature::WrongTime),
            ("s", &header, body, NOW - Duration::from_secs(302), BadSignature::WrongTime),
            ("s", signature, body, NOW, BadSignature::Malformed),
            ("s", time, body, NOW, BadSignature::Malformed),
            ("s", "", body, NOW, BadSignature::Malformed),
        ] {
            assert_eq!(verify(secret, header, body, now), Err(expected), "{header}");
        }
    }

    #[test]
    fn a_signed_body_is_read_as_far_as_it_can_be() {
        let refund =
            read(br#"{"id":"evt_2","type":"refund.failed","data":{"object":{"id":"re_1","payment_intent":"pi_1"}}}"#);
        assert_eq!((refund.intent_id.as_deref(), refund.refund_id.as_deref()), (Some("pi_1"), Some("re_1")));
        let noise = read(b"\xff not JSON");
        assert_eq!((noise.kind.as_str(), noise.intent_id), ("unreadable", None));
        assert_eq!(noise.id, read(b"\xff not JSON").id);
        assert_ne!(noise.id, read(b"other noise").id);
    }
}

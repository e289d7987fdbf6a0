//! Signatures and secrets as Standard Webhooks 1.0 has them.
//!
//! A secret is made from the server's key and a name that the database keeps: it can be told again, and nobody can steal it
//! from the database. Another `SHOWCART_SECRET` makes other secrets.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::Endpoint;
use crate::auth::Keys;
use crate::clock::Millis;

/// For so long the secret before a rotation goes on signing beside the new one.
pub(super) const OVERLAP: Duration = Duration::from_secs(24 * 3_600);

/// The secret of this name, as a shop is told it.
pub(super) fn secret(keys: &Keys, name: &str) -> String {
    format!("whsec_{}", STANDARD.encode(key(keys, name)))
}

fn key(keys: &Keys, name: &str) -> [u8; 32] {
    keys.derive_key(&format!("webhook secret {name}"))
}

/// The value of `webhook-signature`: a signature by each secret that is good at the time, separated by spaces.
pub(super) fn signatures(keys: &Keys, endpoint: &Endpoint, id: &str, at: Millis, body: &str) -> String {
    let before = endpoint.rotated_at.filter(|it| at < *it + OVERLAP).and(endpoint.secret_before.as_deref());
    let by = |name: &str| signature(&key(keys, name), id, at, body);
    match before {
        Some(before) => format!("{} {}", by(&endpoint.secret), by(before)),
        None => by(&endpoint.secret),
    }
}

/// The value of `webhook-timestamp`.
pub(super) fn seconds(at: Millis) -> i64 {
    at.0.div_euclid(1_000)
}

fn signature(key: &[u8], id: &str, at: Millis, body: &str) -> String {
    let mac: Hmac<Sha256> = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    let mac = mac.chain_update(format!("{id}.{}.", seconds(at))).chain_update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of Standard Webhooks are tested with.
    #[test]
    fn the_standards_own_example_is_signed_as_it_says() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", Millis(1_614_265_330_999), r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

//! Who asks: HS256 JSON Web Tokens, minted by the shop's back end or by `showcart token`, and the roles in them.
//!
//! A guest is a viewer without an account: an id that this server signed for one browser. Guests watch, and vote where the
//! show says so; they never buy.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::clock::Millis;
use crate::config::Config;
use crate::error::{Code, Result, problem};
use crate::ids::{BuyerId, ShowId};
use crate::live::Action;

/// What a token allows. `desk` is host, moderator or service; see each route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs shows.
    Host,
    /// Runs what is on screen; no money, no stock.
    Moderator,
    /// Reads figures, orders and events.
    Analyst,
    /// Watches, votes and buys; the subject is the shop's name for the buyer.
    Viewer,
    /// The shop's back office: everything a host may do, in every show.
    Service,
    /// Watches; signed by this server for one browser.
    Guest,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Host => "host",
            Role::Moderator => "moderator",
            Role::Analyst => "analyst",
            Role::Viewer => "viewer",
            Role::Service => "service",
            Role::Guest => "guest",
        }
    }

    /// Sees what happens behind the screen: orders, GMV.
    pub fn sees_desk(self) -> bool {
        matches!(self, Role::Host | Role::Moderator | Role::Analyst | Role::Service)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Role> {
        [Role::Host, Role::Moderator, Role::Analyst, Role::Viewer, Role::Service]
            .into_iter()
            .find(|it| it.as_str() == text)
            .context("a role is host, moderator, analyst, viewer or service")
    }
}

/// The claims that we read and write; times are seconds, as RFC 7519 has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    sub: BuyerId,
    role: Role,
    /// The show that the token is for; absent for all shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    show: Option<ShowId>,
    exp: i64,
}

/// A caller whose token was checked.
#[derive(Debug, Clone)]
pub struct Caller {
    pub subject: BuyerId,
    pub role: Role,
    show: Option<ShowId>,
    pub expires_at: Millis,
}

impl Caller {
    /// What this caller did, for the desk's record.
    pub fn did(&self, action: &'static str, what: impl fmt::Display) -> Action {
        Action { by: self.subject.to_string(), role: self.role.to_string(), action, what: what.to_string() }
    }
}

/// Signs and checks tokens.
pub struct Keys {
    key: Hmac<Sha256>,
}

const SECRET_MIN: usize = 32;
/// The only header that is written, and the only algorithm that is read.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

impl Keys {
    /// The given secret, or the one that the data folder keeps.
    ///
    /// # Errors
    /// A secret that is too short, a data folder that cannot be written.
    pub async fn open(config: &Config) -> anyhow::Result<Keys> {
        Keys::of(config.secret.as_deref(), &config.data_dir).await
    }

    /// The same for a command that has no other settings.
    ///
    /// # Errors
    /// See [`Keys::open`].
    pub async fn of(secret: Option<&str>, data_dir: &Path) -> anyhow::Result<Keys> {
        let secret = match secret {
            Some(secret) => secret.to_owned(),
            None => kept_secret(data_dir).await?,
        };
        anyhow::ensure!(secret.len() >= SECRET_MIN, "the secret needs at least {SECRET_MIN} characters");
        Ok(Keys { key: Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length") })
    }

    /// A token for `subject`; `show` limits it to one show.
    pub fn mint(&self, subject: &BuyerId, role: Role, show: Option<ShowId>, expires_at: Millis) -> String {
        let claims = Claims { sub: subject.clone(), role, show, exp: expires_at.0.div_euclid(1_000) };
        let claims = serde_json::to_vec(&claims).expect("claims are plain text and numbers");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.key.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A secret for another purpose, so that one setting is enough.
    pub fn derive(&self, purpose: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.derive_key(purpose))
    }

    /// The same as bytes.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.key.clone().chain_update(purpose).finalize().into_bytes().into()
    }

    /// # Errors
    /// `unauthorized` when the token is not one of ours, `token_expired` when it was.
    pub fn check(&self, token: &str, now: Millis) -> Result<Caller> {
        let bad = || problem(Code::Unauthorized, "The token is not one that this server's secret signed.");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(bad)?;
        let (header, claims) = signed.split_once('.').ok_or_else(bad)?;
        let bytes = |it: &str| URL_SAFE_NO_PAD.decode(it).map_err(|_| bad());
        let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| bad())?;
        if header.alg != "HS256" {
            return Err(bad());
        }
        self.key.clone().chain_update(signed).verify_slice(&bytes(signature)?).map_err(|_| bad())?;
        let claims: Claims = serde_json::from_slice(&bytes(claims)?)
            .map_err(|error| problem(Code::Unauthorized, format!("The token's claims cannot be read: {error}.")))?;
        let expires_at = Millis(claims.exp.saturating_mul(1_000));
        if expires_at <= now {
            return Err(problem(Code::TokenExpired, "The token has expired; ask the shop for a new one."));
        }
        Ok(Caller { subject: claims.sub, role: claims.role, show: claims.show, expires_at })
    }
}

/// Secrets of servers that were given none: made once, readable by the owner only.
async fn kept_secret(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("secret");
    match tokio::fs::read_to_string(&path).await {
        Ok(secret) => Ok(secret.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tokio::fs::create_dir_all(data_dir).await.context("making the data folder")?;
            let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
            let mut options = tokio::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path).await?;
            tokio::io::AsyncWriteExt::write_all(&mut file, secret.as_bytes()).await?;
            file.sync_all().await?;
            Ok(secret)
        }
        Err(error) => Err(error).context("reading the secret of the data folder"),
    }
}

impl Caller {
    /// The show that the token is for; none when it is for all shows.
    pub fn only_show(&self) -> Option<ShowId> {
        self.show
    }

    fn require(&self, show: Option<ShowId>, allowed: bool, what: &str) -> Result<()> {
        if let (Some(mine), Some(show)) = (self.show, show)
            && mine != show
        {
            return Err(problem(Code::Forbidden, "The token is for another show."));
        }
        if !allowed {
            let article = if self.role == Role::Analyst { "An" } else { "A" };
            return Err(problem(Code::Forbidden, format!("{article} {} may not {what}.", self.role)));
        }
        Ok(())
    }

    /// Making shows, importing catalogues, looking after webhooks: tokens that are not limited to one show.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_manage(&self) -> Result<()> {
        self.require(None, matches!(self.role, Role::Host | Role::Service), "manage shows, catalogues and webhooks")?;
        if self.show.is_some() {
            let detail = "The token is for one show; shows, catalogues and webhooks want one that is for all.";
            return Err(problem(Code::Forbidden, detail));
        }
        Ok(())
    }

    /// Money, stock, and the show itself.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_host(&self, show: ShowId) -> Result<()> {
        self.require(Some(show), matches!(self.role, Role::Host | Role::Service), "run the show's sales")
    }

    /// What is on screen.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_stage(&self, show: ShowId) -> Result<()> {
        let allowed = matches!(self.role, Role::Host | Role::Moderator | Role::Service);
        self.require(Some(show), allowed, "change what is on screen")
    }

    /// Orders, GMV, events.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn may_see_desk(&self, show: ShowId) -> Result<()> {
        self.require(Some(show), self.role.sees_desk(), "see what the desk sees")
    }

    /// # Errors
    /// `forbidden`: guests and the desk do not buy.
    pub fn may_buy(&self, show: ShowId) -> Result<()> {
        self.require(Some(show), self.role == Role::Viewer, "buy; buying needs the token of a viewer")
    }

    /// # Errors
    /// `forbidden`: the desk does not vote. Whether guests may is the show's to say.
    pub fn may_vote(&self, show: ShowId) -> Result<()> {
        self.require(Some(show), matches!(self.role, Role::Viewer | Role::Guest), "vote")
    }

    /// # Errors
    /// `forbidden`: a token for another show.
    pub fn may_watch(&self, show: ShowId) -> Result<()> {
        self.require(Some(show), true, "watch")
    }
}

/// How long a guest's id is good for; a browser that comes back later is a new guest.
pub const GUEST_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A value of a query string; tokens and positions need no percent-decoding.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .filter_map(|it| it.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keys() -> Keys {
        Keys::open(&Config { secret: Some("k".repeat(40)), ..Config::default() }).await.unwrap()
    }

    #[tokio::test]
    async fn a_token_says_who_and_what_and_until_when() {
        let keys = keys().await;
        let (show, other) = (ShowId::new(), ShowId::new());
        let token = keys.mint(&"ann".parse().unwrap(), Role::Moderator, Some(show), Millis(10_000));
        let caller = keys.check(&token, Millis(9_999)).unwrap();
        assert!(caller.may_stage(show).is_ok() && caller.may_see_desk(show).is_ok());
        for refused in [caller.may_host(show), caller.may_buy(show), caller.may_stage(other), caller.may_manage()] {
            assert_eq!(refused.unwrap_err().code(), Code::Forbidden);
        }
        assert_eq!(keys.check(&token, Millis(10_000)).unwrap_err().code(), Code::TokenExpired);
    }

    #[tokio::test]
    async fn forged_tokens_are_refused() {
        let keys = keys().await;
        let token = keys.mint(&"ann".parse().unwrap(), Role::Host, None, Millis(10_000));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let claims = signed.split_once('.').unwrap().1;
        let none = format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
        for forged in [format!("{signed}.AAAA"), none, "".into(), "..".into(), token[1..].to_owned()] {
            assert_eq!(keys.check(&forged, Millis(0)).unwrap_err().code(), Code::Unauthorized, "{forged}");
        }
    }

    #[tokio::test]
    async fn a_short_secret_is_refused() {
        let config = Config { secret: Some("short".into()), ..Config::default() };
        assert!(Keys::open(&config).await.is_err());
    }
}

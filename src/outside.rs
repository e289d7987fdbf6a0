//! Calls to addresses that shops name: only to public ones, unless a setting allows others. Otherwise whoever may name an
//! address could have this server call its own neighbours, and learn from the answers.
//!
//! A name is resolved here, its addresses are looked at, and the connection goes to one of those that were: a name that
//! leads elsewhere a moment later leads nobody astray. Redirects are not followed, and no proxy is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response, Uri};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// A name that nobody resolves in this time has no address.
const RESOLVE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
/// Connections to one host that wait for the next call, and for how long: many servers hang up after five seconds, and a call
/// that meets just that has failed.
const IDLE_MAX: usize = 8;
const IDLE: Duration = Duration::from_secs(4);

/// Why an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is no http or https address with a host")]
    Malformed,
    #[error("an address has no user and no password in it")]
    Credentials,
    #[error(
        "without TLS events go to loopback only, and only where the server's settings allow it; give an https address"
    )]
    Plain,
    #[error("{0} has no address")]
    Unknown(String),
    #[error("{0} is not a public address")]
    NotPublic(String),
}

/// The client; cloning it is cheap and shares its connections.
#[derive(Clone)]
pub struct Outside {
    private_networks: bool,
    /// Made when first used: reading the system's root certificates takes a while, and most servers call nobody.
    clients: Arc<OnceLock<Clients>>,
}

struct Clients {
    plain: Client<HttpConnector<Resolver>, Full<Bytes>>,
    /// None when this machine has no root certificates.
    tls: Option<Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this server has no root certificates, without which no https address can be trusted")]
    NoRoots,
    #[error("{}", chain(.0))]
    Http(#[from] Error),
}

/// An error of the client with what led to it: by itself it only says which step failed.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(it) = cause {
        text.push_str(": ");
        text.push_str(&it.to_string());
        cause = it.source();
    }
    text
}

impl Outside {
    pub fn new(private_networks: bool) -> Outside {
        Outside { private_networks, clients: Arc::default() }
    }

    /// Whether the address may be called, as its name leads now.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self, url: &str) -> Result<(), Refused> {
        let host = self.admit(url)?;
        if host.parse::<IpAddr>().is_err() {
            let resolver = Resolver { private_networks: self.private_networks };
            resolver.addresses(host.to_owned()).await?;
        }
        Ok(())
    }

    /// The host of an address that may be called as far as its text shows.
    fn admit(&self, url: &str) -> Result<String, Refused> {
        let url: reqwest::Url = url.parse().map_err(|_| Refused::Malformed)?;
        let host = url.host_str().filter(|it| !it.is_empty()).ok_or(Refused::Malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Malformed);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let literal = host.parse::<IpAddr>().ok();
        let is_loopback = literal.map_or(host == "localhost", |it| it.to_canonical().is_loopback());
        if url.scheme() == "http" && !(self.private_networks && is_loopback) {
            return Err(Refused::Plain);
        }
        match literal {
            Some(it) if !self.private_networks && !is_public(it) => Err(Refused::NotPublic(host)),
            _ => Ok(host),
        }
    }

    /// Sends a request; the caller bounds the time.
    ///
    /// # Errors
    /// See [`Failed`].
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let uri: &Uri = request.uri();
        self.admit(&uri.to_string())?;
        let clients = self.clients.get_or_init(|| Clients::new(self.private_networks));
        if uri.scheme_str() == Some("http") {
            return Ok(clients.plain.request(request).await?);
        }
        Ok(clients.tls.as_ref().ok_or(Failed::NoRoots)?.request(request).await?)
    }
}

impl Clients {
    fn new(private_networks: bool) -> Clients {
        let connector = || {
            let mut connector = HttpConnector::new_with_resolver(Resolver { private_networks });
            connector.enforce_http(false);
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(CONNECT));
            connector
        };
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_MAX);
        let tls = match HttpsConnectorBuilder::new().with_native_roots() {
            Ok(it) => Some(builder.build(it.https_only().enable_http1().wrap_connector(connector()))),
            Err(error) => {
                tracing::error!(%error, "no root certificates: no https address can be called");
                None
            }
        };
        Clients { plain: builder.build(connector()), tls }
    }
}

/// Resolves names to those of their addresses that may be called.
#[derive(Clone)]
struct Resolver {
    private_networks: bool,
}

impl Resolver {
    async fn addresses(self, host: String) -> Result<Vec<SocketAddr>, Refused> {
        let found: Vec<SocketAddr> =
            match tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host.as_str(), 0))).await {
                Ok(Ok(found)) => found.collect(),
                _ => Vec::new(),
            };
        let (called, refused): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|it| self.private_networks || is_public(it.ip().to_canonical()));
        match (called.is_empty(), refused.is_empty()) {
            (false, _) => Ok(called),
            (true, false) => Err(Refused::NotPublic(host)),
            (true, true) => Err(Refused::Unknown(host)),
        }
    }
}

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let addresses = self.clone().addresses(name.as_str().to_owned());
        Box::pin(async move { Ok(addresses.await?.into_iter()) })
    }
}

/// Whether an address is somebody's on the Internet: not this machine's, not a neighbour's, and none that carries another one
/// inside. (IANA's special-purpose registries, 2026.)
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(it) => !NOT_PUBLIC.iter().any(|(net, bits)| within_v4(it, *net, *bits)),
        // Everything that is given out lies in 2000::/3: mapped and translated IPv4 and whatever is local do not.
        IpAddr::V6(it) => {
            within_v6(it, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)
                && !NOT_PUBLIC_V6.iter().any(|(net, bits)| within_v6(it, *net, *bits))
        }
    }
}

const NOT_PUBLIC: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Between a carrier and its customers.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local: the metadata of clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and everything above.
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

const NOT_PUBLIC_V6: &[(Ipv6Addr, u32)] = &[
    // Protocol assignments: Teredo carries IPv4.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4 carries IPv4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

fn within_v4(ip: Ipv4Addr, net: Ipv4Addr, bits: u32) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0
}

fn within_v6(ip: Ipv6Addr, net: Ipv6Addr, bits: u32) -> bool {
    (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "2003::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }

    #[tokio::test]
    async fn an_address_is_refused_for_its_text_or_for_where_it_leads() {
        let (guarded, open) = (Outside::new(false), Outside::new(true));
        for (url, refused) in [
            ("shop.example/hooks", Refused::Malformed),
            ("ftp://shop.example/hooks", Refused::Malformed),
            ("https://", Refused::Malformed),
            ("https://user@8.8.8.8/", Refused::Credentials),
            ("https://user:pass@8.8.8.8/", Refused::Credentials),
            ("http://8.8.8.8/", Refused::Plain),
            ("http://127.0.0.1/", Refused::Plain),
            ("https://127.0.0.1/", Refused::NotPublic("127.0.0.1".into())),
            // Other ways to write it.
            ("https://2130706433/", Refused::NotPublic("127.0.0.1".into())),
            ("https://0x7f.1/", Refused::NotPublic("127.0.0.1".into())),
            ("https://127.0.0.1./", Refused::NotPublic("127.0.0.1".into())),
            ("https://[::1]/", Refused::NotPublic("::1".into())),
            ("https://[::ffff:10.0.0.1]/", Refused::NotPublic("::ffff:a00:1".into())),
            ("https://169.254.169.254/latest/meta-data", Refused::NotPublic("169.254.169.254".into())),
            ("https://localhost/", Refused::NotPublic("localhost".into())),
        ] {
            assert_eq!(guarded.check(url).await, Err(refused), "{url}");
        }
        assert_eq!(guarded.check("https://8.8.8.8/hooks").await, Ok(()));
        for url in
            ["http://127.0.0.1:8080/", "http://localhost/", "http://[::1]/", "https://10.0.0.1/", "https://localhost/"]
        {
            assert_eq!(open.check(url).await, Ok(()), "{url}");
        }
        assert_eq!(open.check("http://10.0.0.1/").await, Err(Refused::Plain));
        // What was let in once is looked at again.
        for url in ["https://127.0.0.1/", "https://localhost:1/", "http://127.0.0.1:1/"] {
            let request = Request::post(url).body(Full::default()).unwrap();
            let failed = guarded.call(request).await.unwrap_err().to_string();
            assert!(failed.contains("not a public address") || failed.contains("TLS"), "{url}: {failed}");
        }
    }
}

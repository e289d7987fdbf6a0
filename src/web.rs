//! The built pages: what viewers see, the host's control panel, the dashboard. They come from a folder (`web/dist`, made by
//! `npm run build` in `web/`), so that this program is built without Node; see [`crate::page`] for servers without it.
//!
//! They take their tokens from the address behind the `#`, which browsers keep to themselves, and speak to the same API and
//! socket as everybody else. Scripts may be loaded by pages of any origin, because shops put the viewer's element on theirs;
//! what such a page may then ask of the API is decided by `ALLOWED_ORIGINS`.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use tower_http::services::ServeDir;

use crate::app::App;
use crate::error::{Code, Error, problem};

/// Nothing but our own files runs or is shown here; the sandbox is another origin that the pages call, and pictures, streams
/// and servers may be elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; connect-src 'self' http: https: ws: wss:; \
                      img-src https: http: data:; media-src 'self' https: http: blob:; font-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; script-src 'self'";
/// Names of files in `assets` change with what is in them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Asked for again each time, and sent only when it has changed.
const ASK: &str = "no-cache";

/// Says whether `folder` holds the pages, before anybody comes for them.
pub fn check(folder: &Path) -> anyhow::Result<()> {
    ensure!(
        folder.join("index.html").is_file(),
        "WEB_DIR is {}, and there is no index.html: build the pages (`npm ci && npm run build` in web/) and name web/dist, or \
         leave it unset for one plain page",
        folder.display()
    );
    Ok(())
}

/// The pages of `folder`, and whatever they load; the build has scripts and styles also compressed, for phones on slow lines.
pub fn pages(folder: &Path) -> Router<App> {
    let page = |name: &str| -> MethodRouter {
        let file: Arc<Path> = folder.join(name).into();
        get(move |headers: HeaderMap| async move { page(&file, &headers).await })
    };
    let files = |folder: &Path| ServeDir::new(folder).precompressed_gzip().precompressed_br();
    let named = Router::new()
        .route_service("/", page("index.html"))
        .route_service("/desk", page("desk.html"))
        .route_service("/dashboard", page("dashboard.html"))
        .route_service("/embed", page("embed.html"))
        .route_service("/{file}", files(folder));
    let assets = Router::new().nest_service("/assets", files(&folder.join("assets")));
    public(named, ASK).merge(public(assets, FOR_EVER))
}

/// A page under a policy that lets the script run which stands in it, and no other: read each time, because a page and its
/// policy must be of one build.
async fn page(file: &Path, asked: &HeaderMap) -> Response {
    match tokio::fs::read_to_string(file).await {
        Ok(html) => {
            let mut policy = POLICY.to_owned();
            for script in scripts(&html) {
                policy.push_str(&format!(" 'sha256-{}'", STANDARD.encode(Sha256::digest(script))));
            }
            let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&html)));
            let header = |text| HeaderValue::try_from(text).expect("letters, digits and punctuation");
            let (policy, etag) = (header(policy), header(etag));
            let is_known = asked.get_all(header::IF_NONE_MATCH).iter().any(|it| *it == etag);
            // With the policy in both cases: what comes with a 304 replaces what a browser has kept.
            let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::ETAG, etag)];
            if is_known {
                (StatusCode::NOT_MODIFIED, headers).into_response()
            } else {
                (headers, Html(html)).into_response()
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
        Err(error) => Error::from(anyhow::Error::from(error)).into_response(),
    }
}

/// The text of each script that stands in a page, as our build writes them.
fn scripts(html: &str) -> impl Iterator<Item = &str> {
    let elements = html.split("<script").skip(1).filter_map(|it| it.split_once('>'));
    elements.filter_map(|(_, rest)| rest.split_once("</script>")).map(|(script, _)| script).filter(|it| !it.is_empty())
}

/// Streams of `folder`, below `/media`. Playlists change all the time.
pub fn media(folder: &Path) -> Router<App> {
    public(Router::new().nest_service("/media", ServeDir::new(folder)), ASK)
}

/// Says of what was found how long it may be kept, who may load it and what it may load.
fn public(files: Router<App>, cache: &'static str) -> Router<App> {
    files.layer(map_response(move |mut response: Response| async move {
        match response.status() {
            it if it.is_success() || it == StatusCode::NOT_MODIFIED => {}
            StatusCode::NOT_FOUND => return problem(Code::NotFound, "There is no such file.").into_response(),
            StatusCode::METHOD_NOT_ALLOWED => {
                return problem(Code::MethodNotAllowed, "The path exists, the method does not.").into_response();
            }
            // Of what went wrong nothing may be kept.
            _ => return response,
        }
        let headers = [
            (header::CACHE_CONTROL, cache),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let policy = response.headers_mut().entry(header::CONTENT_SECURITY_POLICY);
        policy.or_insert(HeaderValue::from_static(POLICY));
        response
    }))
}

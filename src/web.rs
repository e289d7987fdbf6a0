//! The built pages: what viewers see, the host's control panel, the dashboard. They come from a folder (`web/dist`, made by
//! `npm run build` in `web/`), so that this program is built without Node; see [`crate::page`] for servers without it.
//!
//! They take their tokens from the address behind the `#`, which browsers keep to themselves, and speak to the same API and
//! socket as everybody else. Scripts may be loaded by pages of any origin, because shops put the viewer's element on theirs;
//! what such a page may then ask of the API is decided by `ALLOWED_ORIGINS`.

use std::path::Path;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use tower_http::services::{ServeDir, ServeFile};

use crate::app::App;
use crate::error::{Code, problem};

/// Nothing but our own files runs or is shown here; the sandbox is another origin that the pages call, and pictures, streams
/// and servers may be elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' http: https: ws: wss:; \
                      img-src https: http: data:; media-src 'self' https: http: blob:; font-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";
/// Names of files in `assets` change with what is in them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Asked for again each time, and sent only when it has changed.
const ASK: &str = "no-cache";

/// The pages of `folder`, and whatever they load.
pub fn pages(folder: &Path) -> Router<App> {
    let page = |name| ServeFile::new(folder.join(name)).precompressed_gzip();
    let files = |folder: &Path| ServeDir::new(folder).precompressed_gzip();
    let named = Router::new()
        .route_service("/", page("index.html"))
        .route_service("/desk", page("desk.html"))
        .route_service("/dashboard", page("dashboard.html"))
        .route_service("/embed", page("embed.html"))
        .route_service("/{file}", files(folder));
    let assets = Router::new().nest_service("/assets", files(&folder.join("assets")));
    public(named, ASK).merge(public(assets, FOR_EVER))
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
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }))
}

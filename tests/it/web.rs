//! The built pages and streams: files that a server finds in its folders, and nothing else.

use reqwest::Client;

use crate::harness::{Backend, Process};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_pages_are_served_with_a_strict_policy_and_nothing_outside_their_folder_is() {
    let outside = tempfile::tempdir().unwrap();
    let web = outside.path().join("dist");
    std::fs::create_dir_all(web.join("assets")).unwrap();
    std::fs::write(outside.path().join("secret"), "the shop's secret").unwrap();
    // A page with a script in it, by its own hash: `printf 1+1 | openssl dgst -sha256 -binary | base64`.
    let viewer = r#"<script type="module" async>1+1</script><script src="/a.js"></script>"#;
    for (name, text) in [("index.html", viewer), ("desk.html", "desk"), ("element.js", "1"), ("assets/a-1f.js", "2")] {
        std::fs::write(web.join(name), text).unwrap();
    }
    let media = outside.path().join("media");
    std::fs::create_dir(&media).unwrap();
    std::fs::write(media.join("live.m3u8"), "#EXTM3U").unwrap();
    let (web, media) = (web.display().to_string(), media.display().to_string());
    let server = Process::serve(Backend::Sqlite, &[("WEB_DIR", &web), ("MEDIA_DIR", &media)]).await;
    let http = Client::new();
    let get = async |path: &str| {
        let response = http.get(server.url(path)).send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        let headers = ["content-type", "cache-control", "content-security-policy", "access-control-allow-origin"];
        (response.status().as_u16(), headers.map(header), response.text().await.unwrap())
    };
    for (path, kind, cache, text) in [
        ("/", "text/html", "no-cache", viewer),
        ("/desk", "text/html", "no-cache", "desk"),
        ("/element.js", "text/javascript", "no-cache", "1"),
        ("/assets/a-1f.js", "text/javascript", "public, max-age=31536000, immutable", "2"),
        ("/media/live.m3u8", "audio/x-mpegurl", "no-cache", "#EXTM3U"),
    ] {
        let (status, [found_kind, found_cache, policy, origin], found) = get(path).await;
        assert_eq!((status, &*found, found_cache.as_deref()), (200, text, Some(cache)), "{path}");
        let found_kind = found_kind.unwrap();
        assert!(found_kind.starts_with(kind), "{path} is {found_kind}");
        let policy = policy.unwrap();
        let scripts = policy.split("script-src ").nth(1).unwrap();
        let own = " 'sha256-Shsh2HauAMjtXE0c3gnGH4phtQ/jcKgBsQwzmDHzcKs='";
        assert_eq!(scripts, format!("'self'{}", if path == "/" { own } else { "" }), "{path}");
        assert_eq!(origin.as_deref(), Some("*"));
    }
    for path in [
        "/dashboard",
        "/assets/none.js",
        "/assets/..%2f..%2fsecret",
        "/..%2fsecret",
        "/media/..%2fsecret",
        "/nothing.js",
    ] {
        let (status, [kind, cache, ..], text) = get(path).await;
        assert_eq!((status, kind.as_deref(), cache), (404, Some("application/problem+json"), None), "{path}: {text}");
    }
    let post = http.post(server.url("/element.js")).send().await.unwrap();
    assert_eq!((post.status().as_u16(), post.headers().get("cache-control")), (405, None));
    // A browser that takes a compressed copy gets it, and caches are told that others may not.
    for (kind, end) in [("br", "br"), ("gzip", "gz")] {
        std::fs::write(format!("{web}/element.js.{end}"), format!("as {kind}")).unwrap();
        let response = http.get(server.url("/element.js")).header("accept-encoding", kind).send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!([header("content-encoding"), header("vary")], [kind, "accept-encoding"]);
        assert_eq!(header("content-type"), "text/javascript");
        assert_eq!(response.text().await.unwrap(), format!("as {kind}"));
    }
    assert_eq!(get("/element.js").await.2, "1");
    // A page that has not changed is not sent again, and one that has is.
    let etag = http.get(server.url("/")).send().await.unwrap().headers()["etag"].clone();
    let again = async || http.get(server.url("/")).header("if-none-match", &etag).send().await.unwrap().status();
    assert_eq!(again().await, 304);
    std::fs::write(format!("{web}/index.html"), "another").unwrap();
    assert_eq!(again().await, 200);
    // What is not a file stays what it was.
    assert_eq!(get("/healthz").await.2, "ok\n");
    let shows = get("/v1/shows").await;
    assert_eq!((shows.0, shows.1[3].as_deref()), (401, None));
}

#[tokio::test]
async fn a_folder_without_pages_is_refused_at_the_start() {
    let server = Process::serve(Backend::Sqlite, &[]).await;
    let empty = tempfile::tempdir().unwrap();
    let folder = empty.path().to_str().unwrap();
    let done = server.command(&["serve", "--web-dir", folder, "--data-dir", folder]).await;
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("npm run build"), "{said}");
}

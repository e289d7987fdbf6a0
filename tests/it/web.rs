//! The built pages and streams: files that a server finds in its folders, and nothing else.

use reqwest::Client;

use crate::harness::{Backend, Process};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_pages_are_served_with_a_strict_policy_and_nothing_outside_their_folder_is() {
    let outside = tempfile::tempdir().unwrap();
    let web = outside.path().join("dist");
    std::fs::create_dir_all(web.join("assets")).unwrap();
    std::fs::write(outside.path().join("secret"), "the shop's secret").unwrap();
    for (name, text) in [("index.html", "viewer"), ("desk.html", "desk"), ("element.js", "1"), ("assets/a-1f.js", "2")]
    {
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
        ("/", "text/html", "no-cache", "viewer"),
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
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
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
    // What is not a file stays what it was.
    assert_eq!(get("/healthz").await.2, "ok\n");
    let shows = get("/v1/shows").await;
    assert_eq!((shows.0, shows.1[3].as_deref()), (401, None));
}

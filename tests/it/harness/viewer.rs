//! A viewer as a front-end would write one, by the protocol page: it applies what it may, and fails on a gap.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use showcart::ids::ShowId;
use showcart::live::Event;
use showcart::scene::Scene;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Door, PATIENCE};

/// A socket without any understanding of what it says.
pub(crate) struct Raw {
    pub(crate) ws: WebSocketStream<TcpStream>,
}

impl Raw {
    pub(crate) async fn connect(door: &Door, show: ShowId, query: &str) -> Raw {
        Raw::try_connect(door, show, query, &[]).await.expect("the server upgrades")
    }

    pub(crate) async fn try_connect(
        door: &Door,
        show: ShowId,
        query: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Raw, Error> {
        Raw::at(door, &live(show, query), headers).await
    }

    /// Connects to any path.
    pub(crate) async fn at(door: &Door, path: &str, headers: &[(&'static str, &str)]) -> Result<Raw, Error> {
        let tcp = TcpStream::connect(door.address).await?;
        Raw::over(tcp, &format!("ws://{}{path}", door.address), headers).await
    }

    /// Connects with a receive buffer of the smallest kind, so that not reading is felt at once.
    pub(crate) async fn connect_narrow(door: &Door, show: ShowId, query: &str) -> Raw {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("before connecting it may be chosen");
        let tcp = socket.connect(door.address).await.expect("the server accepts");
        let url = format!("ws://{}{}", door.address, live(show, query));
        Raw::over(tcp, &url, &[]).await.expect("the server upgrades")
    }

    async fn over(tcp: TcpStream, url: &str, headers: &[(&'static str, &str)]) -> Result<Raw, Error> {
        let mut request = url.into_client_request().expect("a valid address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a valid header"));
        }
        let (ws, _) = client_async(request, tcp).await?;
        Ok(Raw { ws })
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.ws.send(Message::text(message.to_string())).await.expect("an open socket");
    }

    /// The next message; the close code as an error.
    pub(crate) async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.ws.next()).await.expect("the server says something");
            match message {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |it| it.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(1006),
            }
        }
    }

    /// Skips to the next message of this type.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|code| panic!("closed with {code} instead of {kind}"));
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// The close code, whatever is said before it.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }
}

fn live(show: ShowId, query: &str) -> String {
    format!("/v1/shows/{show}/live?{query}")
}

pub(crate) struct Viewer {
    raw: Raw,
    pub(crate) epoch: String,
    pub(crate) position: i64,
    pub(crate) resumed: bool,
    pub(crate) hello: Value,
    pub(crate) scene: Option<Scene>,
    pub(crate) gauges: BTreeMap<String, (i64, Value)>,
    /// Entries that came, in order.
    pub(crate) entries: Vec<Value>,
    pub(crate) own: Vec<Value>,
    pub(crate) mine: Option<Value>,
    pub(crate) snapshots: usize,
}

impl Viewer {
    /// Connects; `query` holds the token and the position to resume from, if any.
    pub(crate) async fn connect(door: &Door, show: ShowId, query: &str) -> Viewer {
        Viewer::greeted(Raw::connect(door, show, query).await).await
    }

    /// Connects to a server that may not be there, or not for long; the close code if it does not say hello.
    pub(crate) async fn try_connect(door: &Door, show: ShowId, query: &str) -> Result<Viewer, u16> {
        let mut raw = Raw::try_connect(door, show, query, &[]).await.map_err(|_| 1006_u16)?;
        let hello = raw.next().await?;
        Ok(Viewer::told(raw, hello))
    }

    /// Takes over a socket that has heard nothing yet.
    async fn greeted(mut raw: Raw) -> Viewer {
        let hello = raw.next().await.unwrap_or_else(|code| panic!("closed with {code} instead of a hello"));
        Viewer::told(raw, hello)
    }

    fn told(raw: Raw, hello: Value) -> Viewer {
        assert_eq!(hello["type"], "hello");
        Viewer {
            raw,
            epoch: hello["epoch"].as_str().expect("a hello names the epoch").to_owned(),
            position: 0,
            resumed: hello["resumed"] == true,
            hello,
            scene: None,
            gauges: BTreeMap::new(),
            entries: Vec::new(),
            own: Vec::new(),
            mine: None,
            snapshots: 0,
        }
    }

    /// Connects and waits for the picture.
    pub(crate) async fn join(door: &Door, show: ShowId, query: &str) -> Viewer {
        let mut viewer = Viewer::connect(door, show, query).await;
        viewer.until(|it| it.scene.is_some()).await;
        viewer
    }

    /// Joins with a receive buffer of the smallest kind.
    pub(crate) async fn join_narrow(door: &Door, show: ShowId, query: &str) -> Viewer {
        let mut viewer = Viewer::greeted(Raw::connect_narrow(door, show, query).await).await;
        viewer.until(|it| it.scene.is_some()).await;
        viewer
    }

    /// Comes back with what it had.
    pub(crate) async fn resume(self, door: &Door, show: ShowId, query: &str) -> Viewer {
        // Whoever has no picture yet has no position either.
        let since = self.scene.is_some().then(|| format!("&since={}.{}", self.epoch, self.position));
        let query = format!("{query}{}", since.unwrap_or_default());
        self.over_to(Viewer::connect(door, show, &query).await)
    }

    /// As [`Viewer::resume`], at a server that may not be there; then it keeps what it has.
    pub(crate) async fn try_resume(self, door: &Door, show: ShowId) -> Result<Viewer, Viewer> {
        let since = self.scene.is_some().then(|| format!("since={}.{}", self.epoch, self.position));
        match Viewer::try_connect(door, show, &since.unwrap_or_default()).await {
            Ok(next) => Ok(self.over_to(next)),
            Err(_) => Err(self),
        }
    }

    fn over_to(self, mut next: Viewer) -> Viewer {
        if next.resumed {
            next.position = self.position;
            next.scene = self.scene;
            next.gauges = self.gauges;
        }
        next
    }

    /// Hears one message; the close code if the socket ends.
    pub(crate) async fn hear_next(&mut self) -> Result<(), u16> {
        let message = self.raw.next().await?;
        self.hear(&message);
        Ok(())
    }

    /// Hears until `enough`.
    pub(crate) async fn until(&mut self, mut enough: impl FnMut(&Viewer) -> bool) {
        while !enough(self) {
            let message =
                self.raw.next().await.unwrap_or_else(|code| panic!("closed with {code}, having {:?}", self.entries));
            self.hear(&message);
        }
    }

    /// The close code, whatever is said before it.
    pub(crate) async fn closed(&mut self) -> u16 {
        self.raw.closed().await
    }

    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        self.raw.next_of(kind).await
    }

    fn hear(&mut self, message: &Value) {
        let number = |name: &str| message[name].as_i64().unwrap_or_else(|| panic!("{name} in {message}"));
        match message["type"].as_str() {
            Some("snapshot") => {
                self.snapshots += 1;
                self.epoch = message["epoch"].as_str().expect("a snapshot names its epoch").to_owned();
                self.position = number("seq");
                self.scene = Some(serde_json::from_value(message["scene"].clone()).expect("a scene"));
                self.gauges.clear();
                self.take_gauges(&message["gauges"]);
            }
            Some("frame") => {
                let (after, upto) = (number("after"), number("upto"));
                assert!(after <= self.position, "a gap: at {}, got {message}", self.position);
                for entry in message["entries"].as_array().into_iter().flatten() {
                    let seq = entry["seq"].as_i64().expect("an entry has a seq");
                    assert!(after < seq && seq <= upto, "{message}");
                    if seq > self.position {
                        let event: Event = serde_json::from_value(entry.clone()).expect("a known event");
                        self.scene.as_mut().expect("the picture comes first").apply(&event);
                        self.entries.push(entry.clone());
                    }
                }
                self.position = self.position.max(upto);
                self.take_gauges(&message["gauges"]);
            }
            Some("own") => self.own.extend(message["entries"].as_array().cloned().unwrap_or_default()),
            Some("mine") => self.mine = Some(message.clone()),
            _ => {}
        }
    }

    fn take_gauges(&mut self, gauges: &Value) {
        for (name, triple) in gauges.as_object().into_iter().flatten() {
            let version = triple[0].as_i64().expect("a gauge has a version");
            if self.gauges.get(name).is_none_or(|(known, _)| *known < version) {
                self.gauges.insert(name.clone(), (version, triple[1].clone()));
            }
        }
    }

    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.entries.iter().filter_map(|it| it["type"].as_str()).collect()
    }

    /// What is pinned, by its title.
    pub(crate) fn pinned(&self) -> Option<&str> {
        Some(&*self.scene.as_ref()?.pin.as_ref()?.product.title)
    }
}

/// Asks for the time and waits for the answer: whatever was sent before has arrived then.
pub(crate) fn time_question(echo: u64) -> Value {
    json!({ "type": "time", "echo": echo })
}

//! Several nodes, each a process of its own, on a PostgreSQL and a Redis of their own.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::postgres::Postgres;
use super::{Backend, Door, Process, Redis};

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Process>,
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    directory: Nodes,
}

/// Where the nodes are, for those who go on asking while nodes die and come back.
#[derive(Clone)]
pub(crate) struct Nodes {
    addresses: Arc<RwLock<Vec<SocketAddr>>>,
    door: Door,
}

/// A request to a node that does not answer is given up after this time; another node is asked then.
const REQUEST: Duration = Duration::from_secs(12);

impl Cluster {
    /// Starts so many nodes; `settings` may differ from node to node.
    pub(crate) async fn start(count: usize, settings: impl Fn(usize) -> Vec<(&'static str, String)>) -> Cluster {
        Cluster::with_redis(count, Redis::start(), |redis| redis.address(), settings).await
    }

    /// As [`Cluster::start`], with Redis at the address that `reached` makes of it.
    pub(crate) async fn with_redis(
        count: usize,
        redis: Redis,
        reached: impl Fn(&Redis) -> String,
        settings: impl Fn(usize) -> Vec<(&'static str, String)>,
    ) -> Cluster {
        let postgres = Postgres::start().await;
        let balancer = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let webhooks = format!("http://{}", balancer.local_addr().expect("a bound socket has an address"));
        let shared = [
            ("DATABASE_URL", postgres.fresh_database().await),
            ("REDIS_URL", reached(&redis)),
            ("WEBHOOK_BASE_URL", webhooks),
        ];
        let mut nodes: Vec<Process> = Vec::with_capacity(count);
        for index in 0..count {
            let all = [shared.to_vec(), settings(index)].concat();
            let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
            nodes.push(match nodes.first() {
                None => Process::serve(Backend::Postgres, &all).await,
                Some(first) => first.beside(&all).await,
            });
        }
        let addresses = nodes.iter().map(|it| it.address).collect();
        let http = reqwest::Client::builder().timeout(REQUEST).build().expect("a client");
        let directory =
            Nodes { addresses: Arc::new(RwLock::new(addresses)), door: Door { http, ..(*nodes[0]).clone() } };
        tokio::spawn(balance(balancer, directory.clone()));
        Cluster { nodes, redis, postgres, directory }
    }

    /// Gives up sooner on nodes that do not answer.
    pub(crate) fn impatient(self, request: Duration) -> Cluster {
        let http = reqwest::Client::builder().timeout(request).build().expect("a client");
        Cluster { directory: Nodes { door: Door { http, ..self.directory.door }, ..self.directory }, ..self }
    }

    pub(crate) fn nodes(&self) -> Nodes {
        self.directory.clone()
    }

    /// Kills a node without any farewell.
    pub(crate) async fn kill(&mut self, index: usize) {
        self.nodes[index].kill().await;
    }

    /// Starts a node that has ended.
    pub(crate) async fn start_again(&mut self, index: usize) {
        self.nodes[index].restart(&[]).await;
        self.directory.addresses.write().unwrap()[index] = self.nodes[index].address;
    }
}

impl Nodes {
    pub(crate) fn count(&self) -> usize {
        self.addresses.read().unwrap().len()
    }

    /// The door of one of them, by a number that may be larger than their count.
    pub(crate) fn door(&self, number: usize) -> Door {
        let address = self.addresses.read().unwrap()[number % self.count()];
        Door { address, ..self.door.clone() }
    }
}

/// What stands in front of nodes: brings each connection to one that takes it.
async fn balance(listener: TcpListener, nodes: Nodes) {
    for turn in 0.. {
        let Ok((mut client, _)) = listener.accept().await else { return };
        let nodes = nodes.clone();
        tokio::spawn(async move {
            for number in turn..turn + nodes.count() {
                if let Ok(mut node) = TcpStream::connect(nodes.door(number).address).await {
                    // Whoever hangs up first ends it for both.
                    tokio::io::copy_bidirectional(&mut client, &mut node).await.ok();
                    return;
                }
            }
        });
    }
}

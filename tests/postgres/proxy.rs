//! Stands between a store and the server, counts the statements that go by, and fails one of them.
//!
//! The question for the schema's version, with which every call begins, is not counted: where its connection breaks, the call
//! takes another one, and does not fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Config;

use crate::server::Server;

/// What happens to the statement that is to fail.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection is cut before the statement reaches the server.
    Cut,
    /// The server ends the connection (`pg_terminate_backend`) before it gets the statement.
    Terminate,
    /// The connection is cut when the server has done the statement, before it can say so.
    CutAfter,
}

/// What a dropped transaction sends, at a time of its own: no call waits for it.
const ROLLBACK: &[u8] = b"ROLLBACK";
const VERSION: &[u8] = b"max(number), 0) FROM rollmark.migrations";
/// No statement is to fail.
const NONE: u32 = u32::MAX;

pub struct Proxy {
    pub config: Config,
    /// How many statements there were.
    count: AtomicU32,
    /// The number of the statement that fails.
    failing: AtomicU32,
    server: Server,
    fault: Fault,
}

impl Proxy {
    pub async fn start(server: &Server, fault: Fault) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").port(listener.local_addr().unwrap().port());
        config.user(server.config.get_user().unwrap()).dbname(server.config.get_dbname().unwrap());
        if let Some(password) = server.config.get_password() {
            config.password(password);
        }
        let (count, failing) = (AtomicU32::new(0), AtomicU32::new(NONE));
        let proxy = Arc::new(Self { config, count, failing, server: server.clone(), fault });
        let shared = Arc::clone(&proxy);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.serve(client).await });
            }
        });
        proxy
    }

    /// Counts from 0 again, and lets no statement fail.
    pub fn reset(&self) {
        self.failing.store(NONE, Ordering::SeqCst);
        self.count.store(0, Ordering::SeqCst);
    }

    pub fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Lets the statement of this number fail, counted from now and from 1.
    pub fn fail_at(&self, number: u32) {
        self.reset();
        self.failing.store(number, Ordering::SeqCst);
    }

    async fn serve(&self, client: TcpStream) {
        let address = match (&self.server.config.get_hosts()[0], self.server.config.get_ports().first()) {
            (tokio_postgres::config::Host::Tcp(host), port) => (host.clone(), *port.unwrap_or(&5432)),
            (other, _) => panic!("the tests reach a server by TCP, not by {other:?}"),
        };
        let server = TcpStream::connect(address).await.unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let process = Arc::new(AtomicI32::new(0));
        let its_process = Arc::clone(&process);
        let is_mute = Arc::new(AtomicBool::new(false));
        let is_muted = Arc::clone(&is_mute);
        let back = tokio::spawn(async move {
            while let Some(message) = message(&mut from_server, true).await {
                if let [b'K', _, _, _, _, a, b, c, d, ..] = message[..] {
                    its_process.store(i32::from_be_bytes([a, b, c, d]), Ordering::SeqCst);
                }
                if !is_muted.load(Ordering::SeqCst) && to_client.write_all(&message).await.is_err() {
                    break;
                }
            }
            // Where this ends the client sees that the connection is closed.
            if is_muted.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        });
        let (mut is_started, mut is_version) = (false, false);
        while let Some(message) = message(&mut from_client, is_started).await {
            is_started = true;
            if message.first() == Some(&b'P') {
                is_version = message.windows(VERSION.len()).any(|window| window == VERSION);
            }
            // A simple query, or the end of an extended one.
            let is_rollback = message.windows(ROLLBACK.len()).any(|window| window == ROLLBACK);
            let is_statement =
                !is_rollback && matches!((message.first(), is_version), (Some(b'Q'), _) | (Some(b'S'), false));
            let fails =
                is_statement && self.count.fetch_add(1, Ordering::SeqCst) + 1 == self.failing.load(Ordering::SeqCst);
            if fails {
                match self.fault {
                    Fault::Cut => break,
                    Fault::Terminate => {
                        let process = process.load(Ordering::SeqCst);
                        self.server.terminate(process).await;
                        // The server only signals it, and a commit is quick.
                        self.server.wait_until_gone(process).await;
                    }
                    Fault::CutAfter => {
                        is_mute.store(true, Ordering::SeqCst);
                        let _ = to_server.write_all(&message).await;
                        // The server closes its side when it has done the statement and reads the end.
                        let _ = to_server.shutdown().await;
                        self.server.wait_until_gone(process.load(Ordering::SeqCst)).await;
                        break;
                    }
                }
            }
            if to_server.write_all(&message).await.is_err() {
                break;
            }
        }
        back.abort();
    }
}

/// The next message; a client's first one has no type.
async fn message(from: &mut (impl AsyncReadExt + Unpin), is_started: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if is_started { 5 } else { 4 }];
    from.read_exact(&mut message).await.ok()?;
    let length: [u8; 4] = message[message.len() - 4..].try_into().unwrap();
    let start = message.len();
    message.resize(start + u32::from_be_bytes(length) as usize - 4, 0);
    from.read_exact(&mut message[start..]).await.ok()?;
    Some(message)
}

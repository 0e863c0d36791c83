//! Starts a made-up school, syncs it into a store, and serves a portal's pages from that store.

use rollmark_portal::{Failure, Portal};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = std::env::temp_dir().join(format!("rollmark-portal-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let portal = Portal::start(&folder, chrono::Utc::now).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    println!("The office's page: http://127.0.0.1:8080/");
    axum::serve(listener, portal.router()).await?;
    Ok(())
}

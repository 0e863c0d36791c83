//! `PostgresStore` on a real server: the one that `ROLLMARK_TEST_POSTGRES` names, such as
//! `postgres://postgres@127.0.0.1:5432/postgres`. Each test makes a database of its own there and drops it. Without a server
//! the tests are reported as ignored.

mod command;
mod contract;
mod failures;
mod portal;
mod proxy;
mod sample;
mod server;

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::ExitCode;

use futures::FutureExt;
use libtest_mimic::{Arguments, Completion, Trial};
use server::Server;

/// A test that gets a database of its own.
fn on_server<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Server) -> F + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let Ok(url) = std::env::var("ROLLMARK_TEST_POSTGRES") else {
            return Ok(Completion::ignored_with("ROLLMARK_TEST_POSTGRES names no server"));
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
        runtime.block_on(async {
            let server = Server::create(&url).await;
            let outcome = AssertUnwindSafe(test(server.clone())).catch_unwind().await;
            server.drop().await;
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
        });
        Ok(Completion::Completed)
    })
}

fn main() -> ExitCode {
    let tests =
        [contract::tests(), command::tests(), failures::tests(), portal::tests()].into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

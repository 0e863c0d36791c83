//! The command with `--store postgres://…`.

use std::io::{Read, Write};
use std::process::{Command, Output};

use libtest_mimic::Trial;
use rollmark::model::StudentId;
use rollmark::testing::FakeSchool;
use rollmark::testing::simulator::Simulator;
use tokio_postgres::config::Host;

use crate::on_server;
use crate::server::Server;

const TODAY: &str = "2026-11-20";
const PASSWORD: &str = "hunter2";

pub fn tests() -> Vec<Trial> {
    vec![
        on_server("every_subcommand_takes_the_store", every_subcommand_takes_the_store),
        on_server("a_dry_run_makes_nothing", a_dry_run_makes_nothing),
        on_server("what_is_wrong_is_said_in_a_line_without_the_password", what_is_wrong_is_said),
        // Its server is one of its own.
        Trial::test("the_password_comes_from_where_it_is_named", || {
            the_password_comes_from_where_it_is_named();
            Ok(())
        }),
    ]
}

fn address(server: &Server) -> String {
    let Host::Tcp(host) = &server.config.get_hosts()[0] else { panic!("a server by TCP") };
    let port = server.config.get_ports().first().copied().unwrap_or(5432);
    let (user, database) = (server.config.get_user().unwrap(), server.config.get_dbname().unwrap());
    format!("postgres://{user}@{host}:{port}/{database}")
}

/// Runs the command with full logs; the server's own password, if it needs one, comes from the environment.
fn command(server: &Server, line: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollmark"));
    if let Some(password) = server.config.get_password() {
        command.env("PGPASSWORD", std::str::from_utf8(password).unwrap());
    }
    command.env("RUST_LOG", "trace").args(line.split_whitespace()).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

async fn every_subcommand_takes_the_store(server: Server) {
    let today = TODAY.parse().unwrap();
    let simulator = Simulator::start(FakeSchool::demo(today)).await.unwrap();
    let student: StudentId = FakeSchool::demo(today).registrations()[0].student.clone();
    let (url, key, store) = (simulator.url(), simulator.api_key(), address(&server));
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let tenant = ["--url", &url, "--api-key", &key, "--store", &store];
    let kept = ["--store", &store];
    let run = |line: &str, more: &[&str]| succeeded(&command(&server, line, more));

    let marks = run(&format!("sync --today {TODAY} --marks -"), &tenant);
    assert!(marks.lines().count() > 100);
    let by_sql = server.client().await.query_typed("SELECT * FROM rollmark.marks WHERE school = 'school'", &[]).await;
    assert_eq!(by_sql.unwrap().len(), marks.lines().count());
    simulator.change(|school| school.demo_changes(today));
    let saved = ["--save-plan", plan.to_str().unwrap()];
    run(&format!("sync --today {TODAY} --dry-run"), &[&tenant[..], &saved].concat());
    run(&format!("apply {}", plan.display()), &kept);
    assert!(run("history --json", &kept).contains("\"number\":2"));
    assert!(run(&format!("history --student {student}"), &kept).contains(", run 1 at "));
    let diagnosis = run(&format!("diagnose --student {student} --date {TODAY} --today {TODAY} --json"), &tenant);
    assert!(diagnosis.contains("findings"));
    let check = command(&server, &format!("check --today {TODAY} --json"), &tenant);
    assert!(text(&check.stdout).contains("\"students\""), "{}", text(&check.stderr));
    assert!(run(&format!("summary --from 2026-11-01 --to {TODAY} --json"), &kept).contains("\"total\""));
    assert!(run(&format!("erase --student {student} --yes"), &kept).contains("is erased"));
    assert!(run("prune --before 2026-01-01 --yes", &kept).contains("0 changes"));
}

async fn a_dry_run_makes_nothing(server: Server) {
    let simulator = Simulator::start(FakeSchool::demo(TODAY.parse().unwrap())).await.unwrap();
    let (url, key, store) = (simulator.url(), simulator.api_key(), address(&server));
    let tenant = ["--url", &url, "--api-key", &key, "--store", &store];
    assert!(succeeded(&command(&server, &format!("sync --today {TODAY} --dry-run"), &tenant)).contains("added"));
    succeeded(&command(&server, "history", &["--store", &store]));
    for line in ["erase --student 1 --yes", "prune --before 2026-01-01 --yes"] {
        let output = command(&server, line, &["--store", &store]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("error: the database holds no store (schema rollmark); check --store"));
    }
    let schemas = "SELECT FROM pg_namespace WHERE nspname = 'rollmark'";
    assert!(server.client().await.query_typed(schemas, &[]).await.unwrap().is_empty());
}

async fn what_is_wrong_is_said(server: Server) {
    let address = address(&server);
    let (user, rest) = address.split_once('@').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, PASSWORD).unwrap();
    let file = ["--store-password-file", secret.to_str().unwrap()];
    for (store, more, code, says) in [
        (format!("{user}:{PASSWORD}@{rest}"), &[][..], 2, "give it by PGPASSWORD or --store-password-file"),
        (format!("postgres://{PASSWORD}@:x"), &[], 2, "not the address of a database"),
        (format!("{address}_missing"), &file, 1, "the database is not there; create it first"),
        ("postgres://portal@127.0.0.1:1/marks".to_owned(), &file, 1, "check that the server runs"),
        ("sqlite:marks.db".to_owned(), &file, 2, "--store-password-file is for a store postgres://"),
        ("memory".to_owned(), &[], 2, "say sqlite:PATH or postgres://USER@HOST:PORT/DATABASE"),
    ] {
        let output = command(&server, "history", &[&["--store", &store][..], more].concat());
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{store}: {errors}");
        let lines: Vec<&str> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(matches!(lines[..], [line] if line.contains(says)), "{store}: {errors}");
        assert!(!errors.contains(PASSWORD) && !text(&output.stdout).contains(PASSWORD), "{store}: {errors}");
    }
}

/// A server that asks for a password, and the passwords that it is given.
fn asking() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("postgres://portal@{}/marks", listener.local_addr().unwrap());
    let (given, passwords) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut read = |head: usize| {
                let mut length = vec![0; head + 4];
                stream.read_exact(&mut length)?;
                let count = u32::from_be_bytes(length[head..].try_into().unwrap()) as usize - 4;
                let mut message = vec![0; count];
                stream.read_exact(&mut message)?;
                // A request for the password in clear text.
                stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
                Ok::<_, std::io::Error>(message)
            };
            // The greeting has no kind before its length.
            if read(0).is_ok()
                && let Ok(password) = read(1)
            {
                given.send(String::from_utf8_lossy(&password).trim_end_matches('\0').to_owned()).unwrap();
            }
        }
    });
    (address, passwords)
}

fn the_password_comes_from_where_it_is_named() {
    let (address, passwords) = asking();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let services =
        at("services", "[other]\npassword=of-another\n\n[portal]\n# ours\nhost=elsewhere\npassword = of-the-service\n");
    let file = at("password", "of-the-file\n");
    let named = format!("{address}?service=portal&connect_timeout=5");
    for (store, variables, flags, expected) in [
        (&address, &[("PGPASSWORD", "of-the-variable")][..], &[][..], "of-the-variable"),
        (&address, &[("PGPASSWORD", "of-the-variable"), ("PGSERVICE", "portal")], &[], "of-the-service"),
        (&named, &[], &[], "of-the-service"),
        (&named, &[], &["--store-password-file", &file], "of-the-file"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollmark"));
        command.env_remove("PGPASSWORD").env_remove("PGSERVICE").env("PGSERVICEFILE", &services);
        command.args(["history", "--store", store]).args(flags).envs(variables.iter().copied());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "the server knows nobody");
        assert_eq!(passwords.recv().unwrap(), expected);
        assert!(!text(&output.stderr).contains(expected));
        while passwords.try_recv().is_ok() {}
    }
    for (service, says) in [("missing", "has no service missing"), ("portal", "can't be read")] {
        let path = if service == "portal" { "/nowhere/services" } else { &services };
        let mut command = Command::new(env!("CARGO_BIN_EXE_rollmark"));
        command.args(["history", "--store", &address]).env("PGSERVICE", service).env("PGSERVICEFILE", path);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
}

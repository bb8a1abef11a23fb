//! The web configuration and its files, read again when they change; a bad one changes nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::rig::{Ca, Directory, HASH, Server, get, status};

const TLS: &str = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";

/// Waits until the server says of a change how it went. It looks at its files once a second, when somebody comes.
fn outcome(server: &Server) -> Result<String, String> {
    let start = Instant::now();
    loop {
        drop(server.connect());
        if let Some(outcome) = server.source.outcomes.lock().expect("nobody panics").pop() {
            return outcome;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "nobody looks at the files");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_certificate_is_shown_from_the_next_connection_on() {
    let (old, new, directory) = (Ca::new(), Ca::new(), Directory::new());
    let identity = old.sign();
    directory.write("cert.pem", &identity.cert);
    directory.write("key.pem", &identity.key);
    let server = Server::start(Some(&directory.write("web.yml", TLS)));
    assert!(server.secured(old.client(None), &get("/", "")).is_ok());
    // Between the two it is not right, and that is not in force.
    let identity = new.sign();
    directory.write("cert.pem", &identity.cert);
    assert!(outcome(&server).expect_err("half of it").contains("issued together"));
    assert!(server.secured(old.client(None), &get("/", "")).is_ok());
    directory.write("key.pem", &identity.key);
    assert_eq!(outcome(&server).expect("all of it"), "TLS, 0 users");
    assert!(server.secured(new.client(None), &get("/", "")).is_ok());
    assert!(server.secured(old.client(None), &get("/", "")).is_err());
}

#[test]
fn a_user_who_is_taken_out_is_none_any_more() {
    let directory = Directory::new();
    let users = |names: &[&str]| {
        let lines: Vec<String> = names.iter().map(|name| format!("  {name}: {HASH}\n")).collect();
        directory.write("web.yml", &format!("basic_auth_users:\n{}", lines.concat()))
    };
    let server = Server::start(Some(&users(&["alice", "bob"])));
    let alice = get("/", "authorization: Basic YWxpY2U6dGVzdA==\r\n");
    assert_eq!(status(&server.say(&alice)), "200");
    users(&["bob"]);
    assert_eq!(outcome(&server).expect("it is right"), "plain HTTP, 1 users");
    assert_eq!(status(&server.say(&alice)), "401");
}

#[test]
fn a_file_that_is_bad_or_gone_opens_nothing() {
    let directory = Directory::new();
    let file = format!("basic_auth_users:\n  alice: {HASH}\n");
    let server = Server::start(Some(&directory.write("web.yml", &file)));
    directory.write("web.yml", "basic_auth_users:\n  alice: oops\n");
    assert!(outcome(&server).expect_err("it is wrong").contains("line 2"));
    assert_eq!(status(&server.get("/")), "401");
    directory.remove("web.yml");
    assert!(outcome(&server).expect_err("it is gone").contains("No such file"));
    assert_eq!(status(&server.get("/")), "401");
    directory.write("web.yml", &file);
    assert!(outcome(&server).is_ok());
}

//! Basic authentication: who has the password gets in, nobody else does, and guessing costs the watching nothing.

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::rig::{Directory, HASH, Server, get, status};

fn server(directory: &Directory) -> Server {
    let file = format!("basic_auth_users:\n  alice: {HASH}\n");
    Server::start(Some(&directory.write("web.yml", &file)))
}

fn authorization(credentials: &str) -> String {
    format!("authorization: Basic {}\r\n", BASE64_STANDARD.encode(credentials))
}

fn ask(server: &Server, path: &str, credentials: &str) -> String {
    status(&server.say(&get(path, &authorization(credentials)))).to_owned()
}

const PATHS: [&str; 7] =
    ["/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/groups", "/api/v1/violations", "/no-such-page"];

#[test]
fn every_page_wants_the_password() {
    let directory = Directory::new();
    let server = server(&directory);
    for path in PATHS {
        let answer = server.get(path);
        assert_eq!(status(&answer), "401", "{path}");
        assert!(answer.to_lowercase().contains("www-authenticate: basic realm="), "{answer}");
    }
    assert_eq!(server.source.renders.load(std::sync::atomic::Ordering::Relaxed), 0);
    for path in &PATHS[..6] {
        assert_eq!(ask(&server, path, "alice:test"), "200", "{path}");
    }
}

#[test]
fn what_is_not_the_password_is_refused() {
    let directory = Directory::new();
    let server = server(&directory);
    // Known by now; it must not let anybody else in.
    assert_eq!(ask(&server, "/", "alice:test"), "200");
    for wrong in [
        "alice:Test",
        "alice:",
        ":test",
        "bob:test",
        "alice:test:",
        "alicetest",
        "",
        "alice\0:test",
        "Alice:test",
    ] {
        assert_eq!(ask(&server, "/", wrong), "401", "{wrong:?}");
    }
    for header in [
        "authorization: Basic\r\n",
        "authorization: Basic !!!\r\n",
        "authorization: Bearer YWxpY2U6dGVzdA==\r\n",
        "authorization: YWxpY2U6dGVzdA==\r\n",
        "authorization: Basic \u{fc}\r\n",
    ] {
        assert_eq!(status(&server.say(&get("/", header))), "401", "{header}");
    }
    assert_eq!(status(&server.say(&get("/", "authorization: bAsIc YWxpY2U6dGVzdA==\r\n"))), "200");
}

/// By the time alone a name can't be guessed: somebody's hash is looked at in any case.
#[test]
fn a_user_that_there_is_not_takes_the_time_of_a_wrong_password() {
    /// No processor looks at a hash of cost 10 in less; an answer without one takes a tenth of it.
    const HASHED: Duration = Duration::from_millis(15);
    let directory = Directory::new();
    let hash = bcrypt::hash("test", 10).expect("a hash");
    let file = directory.write("web.yml", &format!("basic_auth_users:\n  alice: {hash}\n"));
    let server = Server::start(Some(&file));
    for credentials in ["alice:wrong", "bob:wrong", "bob:test"] {
        let start = Instant::now();
        assert_eq!(ask(&server, "/", credentials), "401");
        assert!(start.elapsed() > HASHED, "{credentials}: {:?}", start.elapsed());
    }
}

/// Passwords are looked at beside the serving: who is known gets his answer meanwhile, and of those who guess some are
/// sent away.
#[test]
fn a_flood_of_guesses_holds_up_nobody_who_is_known() {
    let directory = Directory::new();
    let hash = bcrypt::hash("test", 9).expect("a hash");
    let file = directory.write("web.yml", &format!("basic_auth_users:\n  alice: {hash}\n"));
    let server = &Server::start(Some(&file));
    assert_eq!(ask(server, "/-/healthy", "alice:test"), "200");
    thread::scope(|scope| {
        let guess = |number: usize| scope.spawn(move || ask(server, "/", &format!("alice:{number}")));
        let guesses: Vec<_> = (0..24).map(guess).collect();
        let mut served = 0;
        while guesses.iter().any(|guess| !guess.is_finished()) {
            assert_eq!(ask(server, "/-/healthy", "alice:test"), "200");
            served += 1;
        }
        let told: Vec<String> = guesses.into_iter().map(|guess| guess.join().expect("an answer")).collect();
        let count = |status: &str| told.iter().filter(|told| *told == status).count();
        // At least those that may wait are looked at.
        assert!(count("401") >= 8 && count("503") > 0 && count("401") + count("503") == 24, "{told:?}");
        assert!(served > 0);
    });
}

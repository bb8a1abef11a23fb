//! Sockets that a service manager hands over: this test program runs once more, with descriptors as systemd passes them.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use monitor::{
    kernel::activation,
    web::{self, Current},
};

use super::rig::Counting;

/// Runs a command whose descriptors 3 and 4 are these; `pid`: whom the variables name, of the shell's.
fn handed(pid: &str, count: u8, first: OwnedFd, second: OwnedFd, command: &[&str]) -> Child {
    // What comes as stdin and stdout goes where systemd has it; stdout is stderr's then.
    let script = format!(
        "LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=one:two exec \"$@\" 3<&0 4>&1 </dev/null >&2"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).args(command).stdin(first).stdout(second).stderr(Stdio::piped());
    shell.spawn().expect("a shell")
}

fn again(test: &str, pid: &str, first: TcpListener, second: TcpListener) -> Child {
    let program = std::env::current_exe().expect("this program");
    let program = program.to_str().expect("a path in UTF-8");
    handed(pid, 2, first.into(), second.into(), &[program, "--exact", test, "--nocapture"])
}

fn listening() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port")
}

fn is_the_child() -> bool {
    std::env::var_os("LISTEN_PID").is_some()
}

#[test]
fn pages_are_served_on_each_socket_that_was_handed_over() {
    if is_the_child() {
        let listeners = activation::handed().expect("sockets");
        assert_eq!(listeners.len(), 2);
        assert_eq!(activation::handed().expect("none").len(), 0, "they are taken once");
        let current = Current::open(None).expect("no configuration");
        web::start(listeners, Arc::new(Counting::default()), current).expect("it starts");
        // Until the test has seen enough.
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let (one, two) = (listening(), listening());
    let addresses = [&one, &two].map(|listener| listener.local_addr().expect("an address"));
    let mut child = again("handed::pages_are_served_on_each_socket_that_was_handed_over", "$$", one, two);
    let answers = addresses.map(|address| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer).expect("an answer")
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.0 200 OK"), "{answer}");
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    if is_the_child() {
        assert_eq!(activation::handed().expect("none").len(), 0);
        return;
    }
    let child = again("handed::sockets_for_another_process_are_left_alone", "1", listening(), listening());
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The daemon's one line and its exit code, before it has touched the kernel.
fn refused(count: u8, first: impl Into<OwnedFd>) -> (Option<i32>, String) {
    let nothing = File::open("/dev/null").expect("/dev/null");
    let daemon = [env!("CARGO_BIN_EXE_iommu-watch"), "daemon"];
    let output =
        handed("$$", count, first.into(), nothing.into(), &daemon).wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_daemon_says_what_is_wrong_with_what_it_is_handed_and_does_not_start() {
    let path = std::env::temp_dir().join(format!("iommu-watch-handed-{}", std::process::id()));
    let unix = UnixListener::bind(&path).expect("a socket");
    std::fs::remove_file(&path).expect("its name");
    for (what, said) in [
        (
            refused(1, File::open("/dev/null").expect("/dev/null")),
            "`one`, which is no socket; give ListenStream= ",
        ),
        (refused(1, unix), "`one`, which is a Unix socket; give ListenStream= "),
        (refused(2, listening()), "`two`, which is no socket; give ListenStream= "),
        // There are no nine.
        (refused(9, listening()), "(LISTEN_FDS) can't be used: Bad file descriptor"),
    ] {
        let (code, line) = what;
        assert!(line.contains(said), "{line}");
        assert_eq!((code, line.lines().count()), (Some(2), 1), "{line}");
    }
}

//! Against a socket that takes what journald takes.

use std::{
    collections::BTreeMap,
    io::{IoSliceMut, Read, Seek},
    os::fd::AsRawFd,
    path::PathBuf,
    time::Instant,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{
    super::{
        spool::{Spool, tests::Folder},
        stdout::Outlet,
    },
    *,
};

const VIOLATION: &str = r#"{"kind":"violation","check":"pasid-left-on-release","severity":"critical","fingerprint":"b0f9c4b27825154a","group":7,"devices":["0000:01:00.0","0000:01:00.1"],"iommu_driver":null,"pasid":[5,6],"summary":"it was left","implied":[]}"#;

type Fields = BTreeMap<String, Vec<String>>;

struct Journald {
    folder: Folder,
    socket: UnixDatagram,
}

impl Journald {
    fn new() -> Journald {
        let folder = Folder::new();
        std::fs::create_dir_all(&folder.0).expect("a directory");
        let socket = listening(&folder.0.join("socket"));
        Journald { folder, socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.0.join("socket")
    }

    fn sink(&self) -> Journal {
        Journal::at(&self.path()).expect("a socket")
    }

    fn next(&self) -> Fields {
        fields(&self.datagram())
    }

    /// A datagram, or what is in the memory that came instead of one.
    fn datagram(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let came =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::empty());
        bytes.truncate(came.expect("a datagram").bytes);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    let sealed = rustix::fs::fcntl_get_seals(&descriptor).expect("its seals");
                    assert!(sealed.contains(SealFlags::WRITE), "journald takes no other");
                    let mut file = File::from(descriptor);
                    file.rewind().expect("its start");
                    file.read_to_end(&mut bytes).expect("what is in it");
                }
            }
        }
        bytes
    }
}

fn listening(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    socket
}

/// As journald reads them.
fn fields(mut entry: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while let Some(end) = entry.iter().position(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(&entry[..end]).into_owned();
        entry = &entry[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let (length, rest) = entry.split_first_chunk::<8>().expect("a length");
                let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
                entry = rest.strip_prefix(b"\n").expect("an end");
                (line, String::from_utf8_lossy(value).into_owned())
            }
        };
        fields.entry(name).or_default().push(value);
    }
    fields
}

#[test]
fn a_violation_is_found_by_its_fields_and_read_by_its_message() -> io::Result<()> {
    let journald = Journald::new();
    let lines = format!("{VIOLATION}\nnot json\n");
    assert_eq!(journald.sink().write_some(lines.as_bytes())?, VIOLATION.len() + 1, "a line at a time");
    let told = journald.next();
    let is = |name: &str| told.get(name).map(|values| values.join(" ")).unwrap_or_default();
    for (name, value) in [
        ("MESSAGE", "critical: pasid-left-on-release: it was left"),
        ("PRIORITY", "2"),
        ("MESSAGE_ID", "ad3f55b12b5a4d00b7c145b915b3dbe6"),
        ("SYSLOG_IDENTIFIER", "iommu-watch"),
        ("IOMMU_WATCH_KIND", "violation"),
        ("IOMMU_WATCH_CHECK", "pasid-left-on-release"),
        ("IOMMU_WATCH_SEVERITY", "critical"),
        ("IOMMU_WATCH_FINGERPRINT", "b0f9c4b27825154a"),
        ("IOMMU_WATCH_GROUP", "7"),
        ("IOMMU_WATCH_DEVICE", "0000:01:00.0 0000:01:00.1"),
        ("IOMMU_WATCH_PASID", "5 6"),
        ("IOMMU_WATCH_JSON", VIOLATION),
    ] {
        assert_eq!(is(name), value, "{name}");
    }
    assert!(!told.contains_key("IOMMU_WATCH_IOMMU_DRIVER"), "what is null is no field");
    Ok(())
}

#[test]
fn each_kind_has_its_priority_and_its_message() {
    for (line, priority, message) in [
        (r#"{"kind":"violation","check":"c","severity":"warning","summary":"s"}"#, "4", "warning: c: s"),
        (
            r#"{"kind":"violation","check":"c","severity":"critical","summary":"s","expected":{"reason":"r"}}"#,
            "6",
            "critical: c: s (expected: r)",
        ),
        (
            r#"{"kind":"resolved","check":"c","severity":"critical","group":7,"devices":["d"],"reason":"cleared"}"#,
            "5",
            "resolved: c on group 7 (d): cleared",
        ),
        (r#"{"kind":"loss","count":3,"stage":"ring"}"#, "4", "3 events were lost (ring)"),
        (r#"{"kind":"suppressed","lines":2,"reason":"rate"}"#, "4", "2 lines are missing here (rate)"),
        (
            r#"{"kind":"check-state","check":"c","severity":"critical","state":"off","reason":"r"}"#,
            "6",
            "c is off: r",
        ),
        ("half of {", "6", "half of {"),
        (
            r#"{"kind":"violation","check":"c","severity":"info","summary":"two\nlines"}"#,
            "6",
            "info: c: two\nlines",
        ),
    ] {
        let told = fields(&entry::of_line(line.as_bytes()));
        assert_eq!((told["PRIORITY"][0].as_str(), told["MESSAGE"][0].as_str()), (priority, message));
    }
}

#[test]
fn what_is_too_long_for_a_datagram_comes_as_memory() -> io::Result<()> {
    let journald = Journald::new();
    let sink = journald.sink();
    // Root may have more than the bound for others.
    set_socket_send_buffer_size(&sink.socket, 4 << 10)?;
    let line = format!(r#"{{"kind":"violation","summary":"{}"}}"#, "x".repeat(300 << 10));
    assert_eq!(sink.write_some(line.as_bytes())?, line.len());
    assert_eq!(journald.next()["IOMMU_WATCH_JSON"], [line]);
    Ok(())
}

#[test]
fn a_journal_that_is_full_or_away_is_not_waited_for_and_takes_more_later() -> io::Result<()> {
    let journald = Journald::new();
    let sink = journald.sink();
    let (line, start) = (format!("{VIOLATION}\n"), Instant::now());
    let refused = loop {
        assert!(start.elapsed() < Duration::from_secs(30), "it is never full");
        if let Err(error) = sink.write_some(line.as_bytes()) {
            break error.kind();
        }
    };
    assert_eq!(refused, io::ErrorKind::WouldBlock);
    journald.next();
    assert_eq!(sink.write_some(line.as_bytes())?, line.len());

    let path = journald.path();
    assert!(Journal::open(&path).is_ok());
    let Journald { folder, socket } = journald;
    drop(socket);
    assert!(Journal::open(&path).is_err(), "then lines go to stdout");
    let away = |sink: &Journal| sink.write_some(line.as_bytes()).map_err(|error| error.kind());
    assert_eq!(away(&sink), Err(io::ErrorKind::WouldBlock), "nobody has the socket open");
    std::fs::remove_file(&path)?;
    assert_eq!(away(&sink), Err(io::ErrorKind::WouldBlock), "it is not there");
    let journald = Journald { folder, socket: listening(&path) };
    assert_eq!(away(&sink), Ok(line.len()));
    assert_eq!(journald.next()["IOMMU_WATCH_CHECK"], ["pasid-left-on-release"]);
    Ok(())
}

#[test]
fn lines_that_a_journal_does_not_take_wait_in_the_spool_and_come_in_order() -> io::Result<()> {
    let (journald, spool) = (Journald::new(), Folder::new());
    std::fs::remove_file(journald.path())?;
    let directory = spool.0.clone();
    let opener = Box::new(move || Spool::open(&directory, 1 << 20));
    let outlet = Outlet::start(journald.sink(), Some(opener), None)?;
    for number in 0..3 {
        outlet.send(format!("{{\"kind\":\"loss\",\"count\":{number}}}\n"))?;
    }
    let start = Instant::now();
    while outlet.spooled().map(|spool| spool.lines) != Some(3) {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "they are not in the spool: {:?}",
            outlet.spooled()
        );
        thread::sleep(Duration::from_millis(10));
    }
    let journald = Journald { socket: listening(&journald.path()), ..journald };
    let came: Vec<String> = (0..3).map(|_| journald.next()["IOMMU_WATCH_JSON"][0].clone()).collect();
    assert_eq!(came, [0, 1, 2].map(|number| format!("{{\"kind\":\"loss\",\"count\":{number}}}")));
    assert_eq!((outlet.dropped(), outlet.close(Duration::from_secs(10))), (0, Ok(())));
    Ok(())
}

#[test]
fn an_output_is_the_journal_where_the_environment_names_it() -> io::Result<()> {
    let (output, other) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
    let is = fstat(&output)?;
    let stream = format!("{}:{}", is.st_dev, is.st_ino);
    assert!(output.as_raw_fd() >= 0 && names(&stream, &output));
    assert!(!names(&stream, &other), "it was redirected since");
    for malformed in ["", ":", "1", "a:b", "-1:2"] {
        assert!(!names(malformed, &output), "{malformed}");
    }
    Ok(())
}

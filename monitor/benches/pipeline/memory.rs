//! Memory of a live PASID: a second process holds a watcher and nothing else, and is sent the records.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::process::{Command, Stdio};

use monitor::event;
use monitor::input::Input;

use crate::Scale;
use crate::measure::resident;
use crate::script::Workload;
use crate::subject::{pasids, watcher};
use crate::world::Batch;

/// The argument by which this program is the second process.
pub const CHILD: &str = "--memory-child";
/// In place of a record's length: say how much memory there is now.
const SAMPLE: u32 = 0;

pub struct Memory {
    /// Of what kind the PASIDs are.
    pub what: &'static str,
    pub live: usize,
    /// RssAnon with every group known and no PASID, and with all of them.
    pub before: u64,
    pub after: u64,
}

impl Memory {
    pub fn bytes_per_pasid(&self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / self.live as f64
    }
}

/// Attaches as many PASIDs as the scale has at most, all by tenants or all by SVA binds.
pub fn measure(what: &'static str, scale: Scale, sva: bool) -> Memory {
    let live = scale.live[2];
    eprintln!("bench: memory of {live} PASIDs ({what})");
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(program)
        .arg(CHILD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let mut to = BufWriter::new(child.stdin.take().expect("a pipe"));
    send(&mut to, scale, live, sva).expect("the second process reads");
    drop(to);
    let output = child.wait_with_output().expect("the second process ends");
    assert!(output.status.success(), "the second process failed");
    let text = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<u64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [before, after, counted] = numbers[..] else { panic!("three numbers, not {text:?}") };
    assert_eq!(counted, live as u64, "PASIDs that the second process has");
    Memory { what, live, before, after }
}

fn send(to: &mut impl Write, scale: Scale, live: usize, sva: bool) -> io::Result<()> {
    let mut workload = Workload::new(scale.groups);
    let mut batch = Batch::default();
    workload.world.snapshot(&mut batch);
    put(to, &batch)?;
    to.write_all(&SAMPLE.to_ne_bytes())?;
    loop {
        batch.clear();
        let more = workload.fill(live, crate::BATCH, &mut batch, Some(sva));
        put(to, &batch)?;
        if !more {
            return to.write_all(&SAMPLE.to_ne_bytes());
        }
    }
}

fn put(to: &mut impl Write, batch: &Batch) -> io::Result<()> {
    for record in batch.records() {
        to.write_all(&(record.len() as u32).to_ne_bytes())?;
        to.write_all(record)?;
    }
    Ok(())
}

/// The second process: takes in records, and prints what it was asked for.
pub fn child() {
    let mut watcher = watcher();
    let mut from = BufReader::new(io::stdin().lock());
    let mut record = Vec::new();
    let mut len = [0; 4];
    while from.read_exact(&mut len).is_ok() {
        match u32::from_ne_bytes(len) {
            SAMPLE => println!("{}", resident()),
            len => {
                record.resize(len as usize, 0);
                from.read_exact(&mut record).expect("a whole record");
                let event = event::decode(&record).expect("a record");
                let now = event.mono_ns;
                watcher.take(Input::Event(event), now);
                watcher.take(Input::Settled, now);
            }
        }
    }
    println!("{}", pasids(&watcher));
}

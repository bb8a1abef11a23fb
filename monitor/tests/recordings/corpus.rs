//! What fuzzing has found to matter, replayed. `fuzz/README.md` says how the files come to be.

use std::fs;
use std::path::Path;

use crate::harness;

/// Each file of a corpus through its target; gives back how much was said in all.
fn each(corpus: &str, run: fn(&[u8]) -> usize) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/corpus").join(corpus);
    let files = fs::read_dir(&folder).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let mut count = 0;
    let said = files.map(|file| {
        count += 1;
        run(&fs::read(file).expect("a file"))
    });
    let said = said.sum();
    assert!(count > 20, "{count} files in {}", folder.display());
    said
}

#[test]
fn no_file_of_the_corpus_brings_the_reader_down() {
    let said = each("file", harness::file);
    assert!(said > 10_000, "the corpus doesn't get behind the checksums: {said} bytes said");
}

#[test]
fn no_sequence_of_the_corpus_brings_the_model_down() {
    let said = each("events", harness::events);
    assert!(said > 10_000, "the corpus doesn't get into the model: {said} bytes said");
}

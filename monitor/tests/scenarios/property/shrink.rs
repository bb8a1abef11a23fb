//! The fewest moves that still fail.

use super::program::Program;
use super::run::Run;

/// How many shorter programs are tried.
const TRIES: usize = 4000;

/// A failure of another kind is another failure: its first words tell.
fn same_kind(one: &str, other: &str) -> bool {
    one.split(':').next() == other.split(':').next()
}

/// Leaves out ever smaller runs of moves, as long as the property fails the same way.
pub fn shrink(
    mut program: Program,
    mut error: String,
    property: &impl Fn(&Program, &mut Run) -> Result<(), String>,
) -> (Program, String) {
    let mut tries = 0;
    let mut length = program.moves.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = program.moves.len();
        while at < program.moves.len() && tries < TRIES {
            tries += 1;
            let mut shorter = program.clone();
            shorter.moves.drain(at..(at + length).min(program.moves.len()));
            match property(&shorter, &mut shorter.replay()) {
                Err(found) if same_kind(&found, &error) => (program, error) = (shorter, found),
                _ => at += length,
            }
        }
        if tries >= TRIES || length == 1 && program.moves.len() == before {
            return (program, error);
        }
        length = (length / 2).max(1);
    }
}

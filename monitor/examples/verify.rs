//! Gives the running kernel's verifier the programs on functions of another kernel, by its BTF: `verify FILE PREFIX`, with
//! the beginning of the hooks' names. Says of each how many instructions were gone through, or why it is refused.

use std::process::ExitCode;

use monitor::kernel::{btf::Btf, trial};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, prefix] = arguments.as_slice() else {
        eprintln!("usage: verify FILE PREFIX");
        return ExitCode::FAILURE;
    };
    let types = match std::fs::read(file).map_err(|error| error.to_string()) {
        Ok(bytes) => Btf::parse(bytes).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    let verdicts = types.and_then(|types| {
        trial::verify(&types, |hook| hook.name().starts_with(prefix.as_str()))
            .map_err(|error| error.to_string())
    });
    match verdicts {
        Ok(verdicts) => {
            for (program, verdict) in &verdicts {
                match verdict {
                    Ok(verified) => println!("{program}: {verified} instructions verified"),
                    Err(error) => println!("{program}: refused: {error}"),
                }
            }
            let right = !verdicts.is_empty() && verdicts.iter().all(|(_, verdict)| verdict.is_ok());
            if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("verify: {file}: {error}");
            ExitCode::FAILURE
        }
    }
}

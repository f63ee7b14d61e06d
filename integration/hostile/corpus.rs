//! The kept inputs: one folder a target, one file an input, named for what is in it.

use std::path::PathBuf;

pub fn folder(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("integration/hostile/corpus")
        .join(target)
}

/// Name and content of every input of `target`, in order.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, std::fs::read(file.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

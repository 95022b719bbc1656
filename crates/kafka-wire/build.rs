//! Makes Rust types of the messages in `schema/`.
//!
//! Not here: the form of those files (`build/schema.rs`), what is made of them
//! (`build/generate.rs`).

#[path = "build/generate.rs"]
mod generate;
#[path = "build/schema.rs"]
mod schema;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    let mut files: Vec<PathBuf> = std::fs::read_dir("schema")
        .expect("the crate has a folder `schema`")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    files.sort();
    let mut messages = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        match schema::parse(&text) {
            Ok(found) => messages.extend(found),
            Err(why) => panic!("{}: {why}", file.display()),
        }
    }
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(PathBuf::from(out).join("messages.rs"), generate::all(&messages))
        .expect("it can be written");
}

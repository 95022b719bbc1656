//! ms
fn main() {}

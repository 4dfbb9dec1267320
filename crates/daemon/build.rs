//! The migrations are part of the executable: build it again when one is added.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}

//! The page is embedded in the binary (`include_dir!`), which cargo does not see by itself.

fn main() {
    println!("cargo::rerun-if-changed=web");
}

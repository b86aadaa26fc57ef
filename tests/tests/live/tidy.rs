//! The rules a program can check, as a test: the same function as `cargo xtask tidy`.

#[test]
fn the_checkout_keeps_its_rules() {
    let violations = xtask::tidy::check(xtask::project::root()).expect("the checkout can be read");
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

//! Where files end that no gateway needs, and what other systems put into files.

use super::{loaded, mistakes, settings};

#[test]
fn bounds_end_what_no_gateway_needs() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for letter in 'b'..='z' {
        let before = char::from_u32(u32::from(letter) - 1).unwrap();
        let aliases = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{letter}: &{letter} [{aliases}]\n"));
    }
    assert!(mistakes(&bomb).contains("too much with all aliases written out"));
    assert!(mistakes("a: &a [*a]").contains("an alias within what it stands for"));
    let (open, close) = ("[".repeat(20), "]".repeat(20));
    let deep = format!("a: &a {open}{close}\nb: {open}*a{close}\n");
    assert!(
        mistakes(&deep).contains("nested more than 32 deep"),
        "{}",
        mistakes(&deep)
    );
    assert!(mistakes(&"[".repeat(100)).contains("nested more than 32 deep"));
    assert!(mistakes(&"[".repeat(100_000)).contains("not YAML"));
    assert!(mistakes(&"- ".repeat(10_000)).contains("nested more than 32 deep"));
    assert!(mistakes(&" ".repeat((1 << 20) + 1)).contains("more than 1048576 octets"));
    let many = "{targets: http://h},".repeat(1001);
    assert!(mistakes(&format!("routes: [{many}]")).contains("a list of 1001; allowed are 1000"));
    let many = "http://h,".repeat(257);
    assert!(mistakes(&format!("routes: [{{targets: [{many}]}}]")).contains("allowed are 1 to 256"));
    assert!(loaded("").unwrap_err().contains("no route"));
}

#[test]
fn marks_and_line_ends_of_other_systems_mean_nothing() {
    let found = settings("\u{feff}routes:\r\n- targets: http://h\r\n  path: /a\r\n");
    assert_eq!(found.routes[0].path, "/a");
    assert_eq!(found.routes[0].line, 2);
}

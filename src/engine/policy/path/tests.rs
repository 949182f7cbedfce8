use super::*;

fn below(path: &str, raw: &str, root: &str) -> String {
    let scope = ScopePath {
        path,
        raw_path: Some(raw.as_bytes()),
        root_path: root,
    };
    String::from_utf8_lossy(&below_mount(&scope)).into_owned()
}

#[test]
fn the_mount_is_cut_and_octets_stay() {
    assert_eq!(
        below("/auth/a/b c", "/auth/a%2Fb%20c", "/auth"),
        "/a%2Fb%20c"
    );
    assert_eq!(below("/auth//x", "/auth//x", "/auth"), "//x");
    assert_eq!(below("/auth", "/auth", "/auth"), "");
    assert_eq!(below("/auth/", "/auth/", "/auth/"), "/");
    assert_eq!(below("/auth/x", "/%61uth/x", "/auth"), "/x");
}

#[test]
fn without_a_mount_nothing_is_cut() {
    assert_eq!(below("/login", "/login", ""), "/login");
    assert_eq!(
        below("/authx/login", "/authx/login", "/auth"),
        "/authx/login"
    );
    assert_eq!(below("/a b", "/a%20b", ""), "/a%20b");
}

#[test]
fn a_server_root_path_may_stand_in_the_path_or_not() {
    assert_eq!(
        below("/outer/svc/login", "/outer/svc/login", "/outer/svc"),
        "/login"
    );
    assert_eq!(below("/svc/login", "/svc/login", "/outer/svc"), "/login");
}

#[test]
fn a_cut_and_normalised_path_is_found_in_the_raw_one() {
    assert_eq!(below("/login/", "/svc/login", ""), "/login");
    assert_eq!(below("/login/", "/svc/login/", ""), "/login/");
    assert_eq!(below("/a/b/", "/svc/a%2Fb", ""), "/a%2Fb");
    assert_eq!(below("/login/", "/svc//login", ""), "//login");
    assert_eq!(below("/", "/svc/", ""), "/");
    assert_eq!(below("/", "/svc", ""), "");
    assert_eq!(below("/", "/", ""), "/");
    assert_eq!(below("/login/", "/srv/svc/login", "/srv"), "/login");
}

#[test]
fn what_is_not_utf_8_is_found_again() {
    assert_eq!(below("/\u{FFFD}/x", "/%FF/x", "/\u{FFFD}"), "/x");
    assert_eq!(
        below(
            "/a\u{FFFD}\u{FFFD}b/%",
            "/a%ff%FEb/%25",
            "/a\u{FFFD}\u{FFFD}b"
        ),
        "/%25"
    );
    // A character that is cut short is replaced once.
    assert_eq!(
        below("/\u{FFFD}/\u{FFFD}", "/%E2%82/%E2", "/\u{FFFD}"),
        "/%E2"
    );
    assert_eq!(below("/\u{FFFD}", "/%F0%9F%98", "/\u{FFFD}"), "");
    assert_eq!(below("/\u{FFFD}/", "/svc/%FF", ""), "/%FF");
    assert_eq!(below("/\u{FFFD}", "/svc/%FF%FF", ""), "/svc/%FF%FF");
}

#[test]
fn an_absolute_target_is_read_as_its_path() {
    assert_eq!(below("http://h:1/a//b", "http://h:1/a//b", ""), "/a//b");
    assert_eq!(below("http://h", "http://h", ""), "");
    assert_eq!(below("*", "*", ""), "*");
}

#[test]
fn a_query_in_raw_path_is_not_path() {
    assert_eq!(below("/auth/x", "/auth/x?y=1", "/auth"), "/x");
}

#[test]
fn without_raw_path_the_decoded_one_is_encoded() {
    let scope = ScopePath {
        path: "/auth/€ %?",
        raw_path: None,
        root_path: "/auth",
    };
    assert_eq!(&*below_mount(&scope), b"/%E2%82%AC%20%25%3F");
}

#[test]
fn climbing_is_seen_in_every_spelling() {
    for path in [
        "/..",
        "/../x",
        "/a/../../x",
        "/%2e%2E/x",
        "/.%2e/x",
        "/..%2fx",
        "/a/..%5C..\\x",
        "/..;a=b/x",
        "//../x",
        "/./../x",
        "..?x/y",
    ] {
        assert!(climbs(path.as_bytes()), "{path}");
    }
    for path in [
        "/",
        "",
        "/a/..",
        "/a/../b",
        "/...",
        "/..a",
        "/a%2F..",
        "/.",
        "/a.b/%20",
        "/..%3F",
        "/x?/../..",
    ] {
        assert!(!climbs(path.as_bytes()), "{path}");
    }
}

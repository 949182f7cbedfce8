//! One target: its URL, its Host, and how paths are joined to it octet by octet.

use asgi_relay::engine::policy::path::request_target;
use asgi_relay::engine::policy::request::BadRequest;
use asgi_relay::engine::target::Target;
use http::HeaderValue;
use http::uri::PathAndQuery;

fn joined(base: &str, prefix: &str, path: &str, query: &str) -> String {
    match Target::parse(base, prefix) {
        Ok(target) => match target.join(path.as_bytes(), query.as_bytes()) {
            Ok(target) => target.as_str().to_owned(),
            Err(error) => format!("{error:?}"),
        },
        Err(error) => error.to_string(),
    }
}

#[test]
fn base_prefix_and_path_are_joined_octet_by_octet() {
    assert_eq!(joined("http://h", "/", "/x", ""), "/x");
    assert_eq!(joined("http://h/", "", "", ""), "/");
    assert_eq!(
        joined("http://h/base", "/", "/x", "a=%2F&b"),
        "/base/x?a=%2F&b"
    );
    assert_eq!(
        joined("http://h/base/", "//api//v1/", "/x", ""),
        "/base/api/v1/x"
    );
    assert_eq!(joined("http://h", "api", "", ""), "/api");
    assert_eq!(joined("http://h", "/api", "/", ""), "/api/");
    assert_eq!(
        joined("http://h/b%20c", "/", "//a%2Fb%20c", ""),
        "/b%20c//a%2Fb%20c"
    );
    assert_eq!(joined("http://h/api", "/", "/../x", ""), "PathEscape");
    assert_eq!(joined("http://h", "/", "/a#b", ""), "Target");
    assert_eq!(joined("http://h", "/", "/a\rb", ""), "Target");
    assert_eq!(joined("http://h", "/", "/a", "b c"), "Target");
}

#[test]
fn octets_that_a_uri_cannot_carry_are_encoded() {
    assert_eq!(
        joined("http://h", "/", "/<a`>", "q=\"<%3C"),
        "/%3Ca%60%3E?q=%22%3C%3C"
    );
    assert_eq!(joined("http://h", "/", "/{a|b}", "^"), "/{a|b}?^");
    assert_eq!(joined("http://h", "/", "/€", ""), "/€");
    let target = request_target(b"/\xe9".to_vec());
    assert_eq!(target.ok().as_ref().map(PathAndQuery::as_str), Some("/%E9"));
}

#[test]
fn authorities_keep_their_port() {
    let authority = |url: &str| Target::parse(url, "/").map(|t| t.authority().clone());
    assert_eq!(
        authority("http://h:8000"),
        Ok(HeaderValue::from_static("h:8000"))
    );
    assert_eq!(
        authority("https://h:443"),
        Ok(HeaderValue::from_static("h"))
    );
    assert_eq!(
        authority("wss://[::1]:9"),
        Ok(HeaderValue::from_static("[::1]:9"))
    );
    assert_eq!(
        authority("http+unix://%2Frun%2Fa.sock"),
        Ok(HeaderValue::from_static("localhost"))
    );
}

#[test]
fn bad_targets_are_told_apart() {
    for (url, words) in [
        ("", "not an absolute URL"),
        ("h:8000", "not an absolute URL"),
        ("http:///h/base", "not an absolute URL"),
        // A host `$` for who forgives the slashes, and one behind them for others.
        ("ws:$://h", "not an absolute URL"),
        ("http:h/://x", "not an absolute URL"),
        ("http://h\\base", "not an absolute URL"),
        ("ftp://x", "scheme \"ftp\""),
        ("http://", "not an absolute URL"),
        ("http://h:99999", "not an absolute URL"),
        ("http://h:0", "port 0"),
        ("http://u:p@h", "user information"),
        ("http://h/?x=1", "query"),
        ("http://h/#x", "fragment"),
        ("http://h/a/../b", "dot segments"),
        ("http://h /", "white space"),
        ("http+unix://", "socket path"),
    ] {
        let error = Target::parse(url, "/")
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert!(
            error.as_ref().is_err_and(|e| e.contains(words)),
            "{url}: {error:?}"
        );
    }
}

#[test]
fn a_path_is_moved_from_one_base_to_another() {
    let rebased = |from: &str, to: &str, path: &str| {
        let (from, to) = (
            Target::parse(from, "/v1").unwrap(),
            Target::parse(to, "/v1").unwrap(),
        );
        let joined = from.join(path.as_bytes(), b"q=1").unwrap();
        to.rebased(&joined, &from, path.is_empty())
            .unwrap()
            .as_str()
            .to_owned()
    };
    assert_eq!(
        rebased("http://a/base", "http://b", "/x%2F"),
        "/v1/x%2F?q=1"
    );
    assert_eq!(
        rebased("http://a", "http://b/other", "/x"),
        "/other/v1/x?q=1"
    );
    assert_eq!(rebased("http://a", "http://b", "/x"), "/v1/x?q=1");
    assert_eq!(
        Target::parse("http://a/base", "/v1").unwrap().own_base(),
        "/base"
    );
}

/// The mount itself is each target's base, with a slash only where the client sent one, whichever
/// target a request was prepared for.
#[test]
fn the_mount_is_the_same_path_at_a_target_whoever_comes_first() {
    let bare = |text: &str| Target::parse(text, "/").unwrap();
    let (none, one, other) = (
        bare("http://a"),
        bare("http://b/one"),
        bare("http://c/other"),
    );
    for (asked, at_none, at_one) in [
        ("", "/?q", "/one?q"),
        ("/", "/?q", "/one/?q"),
        ("//", "//?q", "/one//?q"),
    ] {
        for from in [&none, &one, &other] {
            let joined = from.join(asked.as_bytes(), b"q").unwrap();
            let at = |to: &Target| to.rebased(&joined, from, asked.is_empty()).unwrap();
            assert_eq!(at(&none), at_none, "{asked:?} from {from}");
            assert_eq!(at(&one), at_one, "{asked:?} from {from}");
        }
    }
}

#[test]
fn what_gets_too_long_for_a_target_goes_nowhere_else() {
    let (short, long) = (
        Target::parse("http://a", "").unwrap(),
        Target::parse("http://b/tenant", "").unwrap(),
    );
    let longest = [b"/".as_slice(), &[b'x'; 65_526]].concat();
    let joined = short.join(&longest, b"").unwrap();
    assert_eq!(
        long.rebased(&joined, &short, false),
        Ok(format!("/tenant{}", joined.as_str()).parse().unwrap())
    );
    let joined = short.join(&[&*longest, b"x"].concat(), b"").unwrap();
    assert_eq!(
        long.rebased(&joined, &short, false),
        Err(BadRequest::Target)
    );
}

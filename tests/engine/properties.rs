//! `invariants` with input that proptest makes up: mostly plausible, sometimes hostile.

use asgi_relay::engine::policy::path::{ScopePath, below_mount, climbs};
use asgi_relay::engine::policy::redirect::redirect;
use asgi_relay::engine::policy::retry::RetryPolicy;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use proptest::collection::vec;
use proptest::prelude::*;
use url::Url;

use crate::invariants;

/// Octets with a taste for what parsers stumble over.
fn octets(length: usize) -> impl Strategy<Value = Vec<u8>> {
    let special = prop::sample::select(b"/.%?#;\\:=, 2eEfF\r\n\0\xe2\x82\xac".to_vec());
    vec(prop_oneof![3 => special, 1 => any::<u8>()], 0..length)
}

/// A path as clients send it, dot segments in several spellings among its segments.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let dots = prop::sample::select(vec![
        ".", "..", "%2e", "%2E.", "..%2f", "%5C..", "..;a=b", "",
    ]);
    let segment = prop_oneof![
        1 => dots.prop_map(str::to_owned),
        2 => "[a-z0-9%~;:@!]{0,6}",
    ];
    vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")).into_bytes())
}

fn base() -> impl Strategy<Value = String> {
    let path = "(/[a-z.%0-9\\\\]{0,4}){0,3}/?";
    let scheme = "(http|https|ws|wss|HTTP):/{1,3}";
    (scheme, "[a-z]{1,5}(:[0-9]{1,5})?", path)
        .prop_map(|(scheme, host, path)| scheme + &host + &path)
}

/// Header lines of the kinds that the policies treat apart.
fn lines() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![
        4 => prop::sample::select(vec![
            "Host", "Connection", "connection", "Keep-Alive", "TE", "Upgrade", "Cookie", "cookie",
            "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Extra", "X-Dropped",
            "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Proxy-Authorization",
            "Proxy-Connection", "Set-Cookie", "X-A",
            "X_Forwarded-For", "X_Extra", "x_dropped", "Content_Length", "Keep_Alive",
        ]).prop_map(str::to_owned),
        1 => "[A-Za-z_-]{1,8}",
    ];
    let value = prop_oneof![
        4 => prop::sample::select(vec![
            "close", "keep-alive, X-A", "x-a,  cookie , ,(", "chunked", "Chunked ", "gzip", "0", "17",
            "17, 17", "1, 2", "", "a=b; Domain=x", "h:1", "set-cookie", "host, content-length",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => octets(8),
    ];
    vec((name.prop_map(String::into_bytes), value), 0..12)
}

fn cookie() -> impl Strategy<Value = Vec<u8>> {
    let attribute = prop::sample::select(vec![
        "; Domain=x.org",
        ";domain = .x.org ",
        "; DOMAIN",
        "; Domain=",
        ";Domain ",
        "; Path=/",
        "; Secure",
        ";",
        "; Domainx=1",
        "; domain==,=",
    ]);
    ("[a-z]{0,6}(=[ -:<-~]{0,5})?", vec(attribute, 0..5))
        .prop_map(|(pair, attributes)| (pair + &attributes.concat()).into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn targets_keep_their_octets_and_stay_below_the_base(
        base in base(), prefix in "(/{0,2}[a-z%2.]{0,3}){0,3}", path in path(), query in "[ -~]{0,8}",
    ) {
        invariants::target_join(&base, &prefix, &path, query.as_bytes());
    }

    #[test]
    fn no_octets_of_path_or_query_break_the_joining(path in octets(24), query in octets(12)) {
        invariants::target_join("http://h/base", "/api", &path, &query);
    }

    #[test]
    fn a_base_url_means_what_other_readers_take_it_for(text in base()) {
        invariants::base_url(&text);
    }

    #[test]
    fn a_socket_is_shown_as_it_was_given(name in "[ -~]{1,8}", base in "(/[a-z]{1,3}){0,2}") {
        let hexadecimal: String = name.bytes().map(|octet| format!("%{octet:02X}")).collect();
        invariants::base_url(&format!("http+unix://{hexadecimal}{base}"));
    }

    #[test]
    fn no_text_as_a_base_url_breaks_the_parser(text in "\\PC{0,12}", scheme in "(http://|ws:|https+unix://)?") {
        invariants::base_url(&(scheme + &text));
    }

    #[test]
    fn what_is_below_a_mount_is_what_the_client_sent(
        mount in "(/[a-z€ ]{1,4}){0,2}", below in path(),
    ) {
        let raw: String = mount.bytes().map(|octet| format!("%{octet:02x}")).collect();
        let raw = raw.replace("%2f", "/").into_bytes();
        let decoded: Vec<u8> = percent_encoding::percent_decode(&[&*raw, &below].concat()).collect();
        let path = String::from_utf8_lossy(&decoded);
        let raw_path = [&*raw, &below].concat();
        let scope = ScopePath { path: &path, raw_path: Some(&raw_path), root_path: &mount };
        prop_assert_eq!(&*below_mount(&scope), &*below);
    }

    #[test]
    fn no_scope_breaks_the_search_for_the_mount(
        path in "[/a€%?.;]{0,8}", raw in octets(12), root in "[/a€%?.;]{0,6}",
    ) {
        invariants::mounts(&path, &raw, &root);
    }

    #[test]
    fn a_path_without_two_dots_climbs_nowhere(path in "[/a-z.]{0,12}") {
        prop_assume!(!path.contains(".."));
        prop_assert!(!climbs(path.as_bytes()));
    }

    #[test]
    fn the_request_policy_is_idempotent_and_lets_nothing_through(lines in lines(), multiplexed: bool) {
        invariants::header_policy(&lines, multiplexed);
    }

    #[test]
    fn the_response_policy_is_idempotent_and_lets_nothing_through(lines in lines(), status in 0_u16..1000) {
        invariants::response_policy(status, &lines);
    }

    #[test]
    fn cookies_lose_or_change_their_domain_alone(line in cookie(), domain in "[a-z.]{0,6}") {
        invariants::cookie_rewrite(&line, domain.as_bytes());
    }

    #[test]
    fn no_line_breaks_the_rewriting_of_cookies(line in octets(24), domain in octets(6)) {
        invariants::cookie_rewrite(&line, &domain);
    }

    #[test]
    fn a_redirect_leads_to_an_absolute_url(location in octets(24), status in 200_u16..400) {
        let current = Url::parse("http://h:8000/a/b?c").unwrap();
        let Ok(location) = HeaderValue::from_bytes(&location) else { return Ok(()) };
        let headers = HeaderMap::from_iter([(LOCATION, location)]);
        let status = StatusCode::from_u16(status).unwrap();
        if let Some(next) = redirect(&Method::POST, &current, status, &headers) {
            prop_assert!(matches!(next.url.scheme(), "http" | "https") && next.url.has_host());
            prop_assert_eq!(next.url.fragment(), None);
            prop_assert_eq!(next.keeps_body, next.method == Method::POST);
        }
    }

    #[test]
    fn no_factor_breaks_the_backoff(factor: f64, number: u32) {
        let policy = RetryPolicy {
            max_retries: 0, backoff_factor: factor, statuses: vec![], kinds: vec![], non_idempotent: false,
        };
        prop_assert!(policy.backoff(number).as_secs() <= 31_536_000);
    }
}

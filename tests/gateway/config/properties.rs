//! What holds for every text: it is read or refused, never with a panic, and a mistake has its place.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::mistakes;

/// Texts without a mistake, to start from.
fn seeds() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    let mut texts = Vec::new();
    for folder in ["pyserve", "mistakes", "valid"] {
        for entry in fs::read_dir(tests.join(folder)).unwrap() {
            let file = entry.unwrap().path();
            if file
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                texts.push(fs::read_to_string(file).unwrap());
            }
        }
    }
    texts
}

fn every_mistake_has_a_place(text: &str) {
    for line in mistakes(text).lines() {
        assert!(line.starts_with("gateway.yaml:"), "{line}\nof {text:?}");
    }
}

/// Characters that mean something in YAML, and some that do not.
const SYNTAX: &str = r#"[-?:,\[\]{}#&*!|>'"%@` \n\t~$a1.é\u{0}\u{85}\u{2028}\u{feff}\\/]{0,200}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        every_mistake_has_a_place(&text);
    }

    #[test]
    fn any_syntax_is_read_or_refused(text in SYNTAX) {
        every_mistake_has_a_place(&text);
        every_mistake_has_a_place(&format!("routes:\n- targets: http://h\n  path: {text}"));
    }

    #[test]
    fn a_changed_file_is_read_or_refused(
        seed in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..6_usize, SYNTAX), 1..6),
    ) {
        let seeds = seeds();
        let mut text: Vec<char> = seeds[seed.index(seeds.len())].chars().collect();
        for (at, length, with) in changes {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.splice(start..end, with.chars().take(4));
        }
        every_mistake_has_a_place(&text.into_iter().collect::<String>());
    }
}

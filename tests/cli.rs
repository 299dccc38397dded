//! Transcripts of the command line: what a person types, and what comes back.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/cli/*.toml").case("tests/cli/*.trycmd").run();
}

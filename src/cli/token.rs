//! The token that both sides of a session between hosts know.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use super::UsageError;
use crate::files;

/// Where the token comes from.
#[derive(Debug, Clone, Args)]
#[group(id = "secret")]
pub struct Arguments {
    /// What both sides know; RDMADOCTOR_TOKEN otherwise. Other users of this host can see it here.
    #[arg(long, value_name = "TEXT", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Longest file with one, in bytes.
const LONGEST: u64 = 4096;

/// A shorter one could be guessed, and so could one of fewer characters that differ.
const SHORTEST: usize = 12;
const DIFFERENT: usize = 6;

impl Arguments {
    /// The token that was given, if one was.
    pub fn token(&self) -> anyhow::Result<Option<String>> {
        let given = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let wrong = |why: String| UsageError(format!("cannot read --token-file {}: {why}", path.display()));
                let bytes = files::bytes(path, LONGEST).map_err(|error| wrong(error.to_string()))?;
                Some(String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?)
            }
            (None, None) => std::env::var("RDMADOCTOR_TOKEN").ok(),
        };
        let given = given.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        match given.as_deref().and_then(weakness) {
            Some(why) => {
                Err(UsageError(format!("the token can be guessed: {why}; `rdmadoctor peer` without one makes and prints a random one"))
                    .into())
            }
            None => Ok(given),
        }
    }
}

/// Why somebody could guess a token, if they could.
fn weakness(token: &str) -> Option<String> {
    let characters: Vec<char> = token.chars().collect();
    if characters.len() < SHORTEST {
        return Some(format!("it has {} characters, and at least {SHORTEST} are needed", characters.len()));
    }
    let different = characters.iter().collect::<BTreeSet<_>>().len();
    if different < DIFFERENT {
        return Some(format!("it has {different} different characters, and at least {DIFFERENT} are needed"));
    }
    is_run(&characters).then(|| "its characters follow each other in their order".to_owned())
}

/// Whether each character is the next one, or each the one before: of digits 0 comes after 9, of letters a after z.
fn is_run(characters: &[char]) -> bool {
    let next = |of: char| match of.to_ascii_lowercase() {
        '9' => '0',
        'z' => 'a',
        other => char::from_u32(u32::from(other) + 1).unwrap_or(other),
    };
    let follows = |first: &char, second: &char| next(*first) == second.to_ascii_lowercase();
    let pairs = || characters.iter().zip(characters.iter().skip(1));
    pairs().all(|(first, second)| follows(first, second)) || pairs().all(|(first, second)| follows(second, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_guessed_is_no_token() {
        for (token, what) in [
            ("aaaaaaaaaaaa", "1 different"),
            ("abababababab", "2 different"),
            ("abcdeabcdeab", "5 different"),
            ("correct hor", "11 characters"),
            ("äöüäöüäöüäö", "11 characters"),
            ("abcdefghijkl", "order"),
            ("ABCdefghijkl", "order"),
            ("lkjihgfedcba", "order"),
            ("123456789012", "order"),
            ("210987654321", "order"),
            ("uvwxyzabcdefgh", "order"),
        ] {
            let why = weakness(token).unwrap_or_else(|| panic!("{token}"));
            assert!(why.contains(what), "{token}: {why}");
        }
        for token in ["correct horse", "abcdefabcdef", "abcdefghijkm", "1234567890123456789x", "0f3a5c7e9b1d"] {
            assert_eq!(weakness(token), None, "{token}");
        }
    }
}

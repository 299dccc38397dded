//! The token that both sides of a session between hosts know.

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

/// A shorter one could be guessed.
const SHORTEST: usize = 12;

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
        if let Some(token) = &given
            && token.len() < SHORTEST
        {
            return Err(UsageError(format!("the token has {} characters; at least {SHORTEST} are needed", token.len())).into());
        }
        Ok(given)
    }
}

//! The two tokens of a registration: the focus shows one, the homeserver the other.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rand::{Rng as _, distr::Alphanumeric};
use serde::{Deserialize, Serialize};

use crate::config::{Appservice, Config, Secret};

/// Letters and digits of a token: 48 of 62 are 285 bits, which nobody guesses.
const TOKEN_CHARACTERS: usize = 48;

/// What the focus and its homeserver know each other by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Shown by the focus.
    pub as_token: Secret,
    /// Shown by the homeserver.
    pub hs_token: Secret,
}

/// Why there are no tokens. Both are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// They are to be kept in the store, and cannot be read or written there.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The file in the store holds something else.
    #[error(
        "{} holds no tokens; remove it, print the registration again and give it to the homeserver",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// As in the file.
#[derive(Deserialize, Serialize)]
struct Kept {
    as_token: String,
    hs_token: String,
}

impl Tokens {
    /// The configured tokens, or those in the store; random ones are made and kept there the first time.
    ///
    /// # Errors
    /// What is wrong with the file in the store.
    pub fn load(config: &Config, appservice: &Appservice) -> Result<Self, TokensError> {
        if let (Some(as_token), Some(hs_token)) = (&appservice.as_token, &appservice.hs_token) {
            return Ok(Self {
                as_token: as_token.clone(),
                hs_token: hs_token.clone(),
            });
        }
        let path = config.matrix.store.join("appservice.json");
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Kept>(&bytes) {
                Ok(kept) => Ok(kept.into()),
                Err(_) => Err(TokensError::Damaged { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kept = Kept {
                    as_token: random_token(),
                    hs_token: random_token(),
                };
                let made = config.matrix.create_store();
                match made.and_then(|()| write(&path, &kept)) {
                    Ok(()) => Ok(kept.into()),
                    Err(error) => Err(TokensError::Io { path, error }),
                }
            }
            Err(error) => Err(TokensError::Io { path, error }),
        }
    }
}

impl From<Kept> for Tokens {
    fn from(kept: Kept) -> Self {
        Self {
            as_token: Secret::new(kept.as_token),
            hs_token: Secret::new(kept.hs_token),
        }
    }
}

fn random_token() -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(TOKEN_CHARACTERS)
        .map(char::from)
        .collect()
}

/// Writes a file that only this user can read. Whoever came first wins: what another process has just printed stays true.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::appservice::registration::tests::config_in;

    #[test]
    fn random_tokens_are_made_once_and_kept_for_nobody_else_to_read() {
        let folder =
            std::env::temp_dir().join(format!("weir-tokens-{:016x}", rand::random::<u64>()));
        let (config, appservice) = config_in(&folder, "");
        let tokens = Tokens::load(&config, &appservice).expect("new tokens");
        assert_eq!(tokens.as_token.expose().len(), 48);
        assert_ne!(tokens.as_token, tokens.hs_token);
        assert_eq!(
            Tokens::load(&config, &appservice).expect("the same"),
            tokens
        );
        let file = folder.join("appservice.json");
        let mode = fs::metadata(&file).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{tokens:?}").contains(tokens.as_token.expose()));

        fs::write(&file, "{}").expect("written");
        let error = Tokens::load(&config, &appservice).expect_err("damaged");
        assert!(matches!(error, TokensError::Damaged { .. }), "{error}");
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn configured_tokens_need_no_file() {
        let folder = Path::new("/nonexistent/weir");
        let (config, appservice) = config_in(
            folder,
            "as_token = \"0123456789abcdefA\"\nhs_token = \"0123456789abcdefH\"",
        );
        let tokens = Tokens::load(&config, &appservice).expect("as configured");
        assert_eq!(tokens.as_token.expose(), "0123456789abcdefA");
        assert_eq!(tokens.hs_token.expose(), "0123456789abcdefH");
    }
}

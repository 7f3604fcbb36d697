//! Static bearer tokens: kube-apiserver's `--token-auth-file`, lines of `token,user,uid,"group1,group2"`.

use std::{collections::HashMap, path::Path, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::User;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("cannot read the token file {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is not of the format.
    #[error(
        "token file, line {line}: want token,user,uid[,\"group1,group2\"]; token and uid may be empty, the user not"
    )]
    Line {
        /// Counted from 1.
        line: usize,
    },
}

/// Users by the SHA-256 of their tokens: neither the map's timing nor its memory gives tokens away.
#[derive(Clone, Debug, Default)]
pub struct Tokens(HashMap<[u8; 32], Arc<User>>);

impl Tokens {
    /// Reads a token file.
    pub fn load(path: &Path) -> Result<Self, TokenFileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TokenFileError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text)
    }

    /// Parses a token file. As in kube-apiserver a line without a token is passed over, and of two lines with one token the later counts.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut users = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let cells = cells(line);
            let [token, user, uid, rest @ ..] = cells.as_slice() else {
                return Err(TokenFileError::Line { line: index + 1 });
            };
            if user.is_empty() {
                return Err(TokenFileError::Line { line: index + 1 });
            }
            if token.is_empty() {
                tracing::warn!(line = index + 1, "the token file has a line without a token");
                continue;
            }
            let groups = rest.first().into_iter().flat_map(|groups| groups.split(','));
            let groups = groups.map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned);
            let mut user = User::new(user, groups);
            user.uid.clone_from(uid);
            users.insert(digest(token), Arc::new(user));
        }
        Ok(Self(users))
    }

    /// The user of a token.
    pub fn find(&self, token: &str) -> Option<Arc<User>> {
        self.0.get(&digest(token)).cloned()
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// One CSV line; a cell may stand in double quotes.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for character in line.trim().chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => {
                if let Some(cell) = cells.last_mut() {
                    cell.push(character);
                }
            }
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_user_and_groups() {
        let tokens = Tokens::parse("t1,alice,1,\"system:masters,dev\"\nt2,bob,2\n").unwrap();
        assert!(tokens.find("t1").unwrap().is_in("dev"));
        assert_eq!(tokens.find("t2").unwrap().name, "bob");
        assert!(tokens.find("t3").is_none());
    }

    /// The file of Kubernetes' own command suite gives its administrator no uid.
    #[test]
    fn a_user_may_be_without_a_uid_and_a_line_without_a_token() {
        let tokens = Tokens::parse("admin-token,admin,,\"system:masters\"\n,nobody,1\n").unwrap();
        let admin = tokens.find("admin-token").unwrap();
        assert!(admin.is_in("system:masters") && admin.uid.is_empty());
        assert!(tokens.find("").is_none());
        assert!(Tokens::parse("t1,,1\n").is_err());
    }

    #[test]
    fn a_short_line_is_named() {
        let error = Tokens::parse("t1,alice,1\nt2,bob\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}

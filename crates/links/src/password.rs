//! Members' passwords: argon2id (RFC 9106) with the crate's defaults, which are OWASP's (19 MiB, 2 passes, 1 lane).

use argon2::password_hash::SaltString;
use argon2::{Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _};

/// Fewest characters of a password (NIST SP 800-63B-4 asks for 15 where it is the only factor; a phone's keyboard is
/// why it is not more here, and attempts are limited).
pub const PASSWORD_MIN_CHARS: usize = 12;

/// Longest password, in bytes: what is longer is not hashed.
pub const PASSWORD_MAX_BYTES: usize = 1024;

/// The hash that is worked through for a member that does not exist, so that the time taken does not tell who does.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$dmVzdGlidWxlLW5vYm9keQ$AnVVyMDHwxcEw0YuURIUs1Ydr+wUV9RAcnqZz9+jrtc";

/// Why a password was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short.
    #[error("the password is too short: use {PASSWORD_MIN_CHARS} characters or more")]
    TooShort,
    /// Too long.
    #[error("the password is too long: use at most {PASSWORD_MAX_BYTES} bytes")]
    TooLong,
    /// argon2 failed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Hashes a new password with a salt of 16 random bytes; gives the text that is kept (PHC string).
///
/// # Errors
/// When the password is too short or too long.
pub fn hash(password: &str, salt: &[u8; 16]) -> Result<String, PasswordError> {
    if password.chars().count() < PASSWORD_MIN_CHARS {
        return Err(PasswordError::TooShort);
    }
    if password.len() > PASSWORD_MAX_BYTES {
        return Err(PasswordError::TooLong);
    }
    phc(password, salt).map_err(PasswordError::Hash)
}

/// The text that is kept of something secret.
pub(crate) fn phc(secret: &str, salt: &[u8; 16]) -> Result<String, String> {
    let failed = |e: argon2::password_hash::Error| e.to_string();
    let salt = SaltString::encode_b64(salt).map_err(failed)?;
    let hash = Argon2::default().hash_password(secret.as_bytes(), &salt).map_err(failed)?;
    Ok(hash.to_string())
}

/// Whether a password fits what is kept. With nothing kept it takes as long, and is false.
pub fn verify(password: &str, kept: Option<&str>) -> bool {
    let password = if password.len() > PASSWORD_MAX_BYTES { "" } else { password };
    let parsed = PasswordHash::new(kept.unwrap_or(NOBODY));
    let fits = parsed.is_ok_and(|p| Argon2::default().verify_password(password.as_bytes(), &p).is_ok());
    fits && kept.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_a_member_fits() {
        let kept = hash("correct horse battery", &[7; 16]).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify("correct horse battery", Some(&kept)));
        assert!(!verify("correct horse batterz", Some(&kept)));
        assert!(!verify("", Some(&kept)));
        assert!(!verify("correct horse battery", None));
        assert_eq!(hash("short", &[7; 16]), Err(PasswordError::TooShort));
        assert_eq!(hash(&"x".repeat(PASSWORD_MAX_BYTES + 1), &[7; 16]), Err(PasswordError::TooLong));
        // Nobody's hash is one that can be worked through, with the same cost.
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let member = PasswordHash::new(&kept).unwrap();
        assert_eq!((nobody.algorithm, nobody.version), (member.algorithm, member.version));
        assert_eq!(nobody.params.to_string(), member.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), member.hash.unwrap().len());
    }
}

//! The signing key, and the signed checkpoint (C2SP tlog-checkpoint, signed-note).

use ed25519_dalek::Signer as _;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::Checkpoint;

use crate::digest::Digest;
use crate::limits::{INTEGER_MAX, ORIGIN_MAX_CHARS};

/// What every origin begins with.
const ORIGIN_PREFIX: &str = "vestibule/";

/// Algorithm number of Ed25519 in a verifier key (C2SP signed-note).
const ED25519: u8 = 1;

/// An Ed25519 key under the name of a log. Its `Debug` shows no secret.
pub struct SigningKey {
    origin: String,
    id: u32,
    key: ed25519_dalek::SigningKey,
}

/// A log can't have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an origin: `vestibule/` and then 1 to {ORIGIN_MAX_CHARS} of a-z, 0-9")]
pub struct KeyError;

/// A checkpoint that can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The verifier key is not readable.
    #[error("the verifier key is not readable: it has the form `origin+hash+base64`")]
    Key(#[source] signed_note::VerifierError),
    /// Not a signed note, or not signed by this key.
    #[error("the checkpoint is not signed by the key of this log")]
    Signature(#[source] signed_note::NoteError),
    /// Signed, but not a checkpoint.
    #[error("the signed note is not a checkpoint")]
    Malformed,
    /// A checkpoint of another log, signed by the same key.
    #[error("the checkpoint is one of `{0}`, not of this log")]
    Origin(String),
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Name of the log.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// Root hash of the tree.
    pub root: Digest,
}

impl SigningKey {
    /// The key of a log, from its 32 secret bytes.
    ///
    /// # Errors
    /// When the origin is not `vestibule/` and 1 to 64 of `a-z 0-9`.
    pub fn new(origin: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let random = origin.strip_prefix(ORIGIN_PREFIX).ok_or(KeyError)?;
        let fits = (1..=ORIGIN_MAX_CHARS).contains(&random.len())
            && random.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !fits {
            return Err(KeyError);
        }
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = [&[ED25519], key.verifying_key().as_bytes().as_slice()].concat();
        Ok(Self { origin: origin.to_owned(), id: signed_note::key_id(origin, &public), key })
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public verifier key, as in `vestibule/abc+1234abcd+AR...` (C2SP signed-note).
    pub fn verifier_key(&self) -> String {
        signed_note::new_ed25519_verifier_key(&self.origin, &self.key.verifying_key())
    }

    /// The signed checkpoint of a tree, as text.
    pub(crate) fn sign(&self, size: u64, root: Digest) -> Result<String, CheckpointError> {
        let checkpoint =
            Checkpoint::new(&self.origin, size, root.into(), "").map_err(|_| CheckpointError::Malformed)?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(CheckpointError::Signature)?;
        note.add_sigs(&[self]).map_err(CheckpointError::Signature)?;
        String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::Malformed)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.origin)
    }
}

impl signed_note::Signer for SigningKey {
    fn name(&self) -> &str {
        &self.origin
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.key.try_sign(msg)?.to_vec())
    }
}

/// Checks the signature of a checkpoint and reads it. Cosignatures by other keys may stand beside ours.
///
/// # Errors
/// When the key is not readable, the text is not a checkpoint of the key's log, or its signature is wrong.
pub fn verify_checkpoint(text: &str, verifier_key: &str) -> Result<Head, CheckpointError> {
    let verifier = StandardVerifier::new(verifier_key).map_err(CheckpointError::Key)?;
    let origin = signed_note::Verifier::name(&verifier).to_owned();
    let note = Note::from_bytes(text.as_bytes()).map_err(CheckpointError::Signature)?;
    note.verify(&VerifierList::new(vec![Box::new(verifier)])).map_err(CheckpointError::Signature)?;
    let head = read_checkpoint(note.text())?;
    if head.origin == origin { Ok(head) } else { Err(CheckpointError::Origin(head.origin)) }
}

/// The origin that a stored checkpoint names, before its signature can be checked.
pub(crate) fn claimed_origin(text: &str) -> Result<String, CheckpointError> {
    let note = Note::from_bytes(text.as_bytes()).map_err(CheckpointError::Signature)?;
    Ok(read_checkpoint(note.text())?.origin)
}

fn read_checkpoint(text: &[u8]) -> Result<Head, CheckpointError> {
    let checkpoint = Checkpoint::from_bytes(text).map_err(|_| CheckpointError::Malformed)?;
    // The tree's arithmetic is safe up to here, and no honest log is larger.
    if checkpoint.size() > INTEGER_MAX.unsigned_abs() {
        return Err(CheckpointError::Malformed);
    }
    Ok(Head { origin: checkpoint.origin().to_owned(), size: checkpoint.size(), root: Digest::new(checkpoint.hash().0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    #[test]
    fn the_checkpoint_is_a_signed_note() {
        let key = SigningKey::new("vestibule/k3x9", &SEED).unwrap();
        let root = Digest::of(b"root");
        let text = key.sign(42, root).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("vestibule/k3x9"));
        assert_eq!(lines.next(), Some("42"));
        assert_eq!(lines.next(), Some("SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I="));
        assert_eq!(lines.next(), Some(""));
        assert!(lines.next().unwrap().starts_with("— vestibule/k3x9 "));
        assert_eq!(lines.next(), None);
        let head = Head { origin: "vestibule/k3x9".into(), size: 42, root };
        assert_eq!(verify_checkpoint(&text, &key.verifier_key()).unwrap(), head);

        let other = SigningKey::new("vestibule/k3x9", &[8; 32]).unwrap();
        assert!(verify_checkpoint(&text, &other.verifier_key()).is_err());
        assert!(verify_checkpoint(&text.replacen("42", "43", 1), &key.verifier_key()).is_err());
        assert!(verify_checkpoint(&text, "nonsense").is_err());
        assert!(!format!("{key:?}").contains('7'));
    }

    #[test]
    fn an_origin_says_nothing_of_the_household() {
        for bad in
            ["", "vestibule/", "example.com/x", "vestibule/Müller", "vestibule/a b", "vestibule/a+b", "vestibule/A"]
        {
            assert_eq!(SigningKey::new(bad, &SEED).err(), Some(KeyError), "{bad}");
        }
    }
}

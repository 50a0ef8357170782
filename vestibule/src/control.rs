//! The running hub's control socket: the command line asks, the hub does. One JSON request per connection, one JSON
//! answer. The socket lies in the data directory with mode 0600: whoever may read the directory's files may ask.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use crate::commands::Request;
use crate::core::Core;

/// Name of the socket in the data directory.
pub const SOCKET: &str = "control.sock";

/// Longest request or answer, in bytes.
const MESSAGE_MAX_BYTES: u64 = 64 << 20;

/// How long the command line waits for the hub.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait after the kernel refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Longest path that a Unix socket can have on Linux, with its final zero.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// What the hub answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// Done.
    Done(Value),
    /// Not done, and why.
    Failed(String),
}

/// Where the socket of a data directory is. A path that is too long for a socket is led through `/proc`.
fn path(data: &Path) -> PathBuf {
    data.join(SOCKET)
}

/// Asks the hub that runs on this data directory; `None` when none runs.
///
/// # Errors
/// The hub's own word, or what went wrong on the way.
pub fn ask(data: &Path, request: &Request) -> Option<Result<Value, String>> {
    let stream = UnixStream::connect(path(data)).ok()?;
    Some(talk(stream, request))
}

fn talk(mut stream: UnixStream, request: &Request) -> Result<Value, String> {
    let failed = |e: std::io::Error| format!("the running hub did not answer: {e}");
    stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    let mut line = serde_json::to_vec(request).map_err(|e| e.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MESSAGE_MAX_BYTES)).read_line(&mut answer).map_err(failed)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Done(value)) => Ok(value),
        Ok(Answer::Failed(text)) => Err(text),
        Err(_) => Err("the running hub gave no answer; its log says why".into()),
    }
}

/// Answers on the control socket until the task is dropped.
///
/// # Errors
/// When the socket can't be made.
pub async fn serve(core: Arc<Core>) -> Result<(), String> {
    let path = path(core.data());
    if path.as_os_str().len() > SOCKET_PATH_MAX_BYTES {
        return Err(format!("`{}` is too long for a socket: choose a shorter data directory", path.display()));
    }
    // The directory is locked by this process: a socket that is there is left over from a hub that was killed.
    let _ = std::fs::remove_file(&path);
    let failed = |e: std::io::Error| format!("`{}` can't be made: {e}", path.display());
    let listener = tokio::net::UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of file handles: trying at once again would only burn the processor.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let core = Arc::clone(&core);
            tokio::spawn(async move {
                if let Err(error) = answer(&core, stream).await {
                    tracing::debug!(%error, "a control connection broke");
                }
            });
        }
    });
    Ok(())
}

async fn answer(core: &Core, stream: tokio::net::UnixStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    tokio::io::BufReader::new(reader.take(MESSAGE_MAX_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(request) => match core.carry_out(request).await {
            Ok(value) => Answer::Done(value),
            Err(text) => Answer::Failed(text),
        },
        Err(error) => Answer::Failed(format!("the hub does not understand this command (another version?): {error}")),
    };
    let mut bytes = serde_json::to_vec(&answer)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    writer.shutdown().await
}

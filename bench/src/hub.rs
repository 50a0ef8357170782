//! The programs under measurement: a broker, and the release build of the hub with its data on a disk.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::Fail;

/// Length of the tick in which Linux tells a process's time, USER_HZ, in microseconds.
const TICK_US: u64 = 10_000;

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its owner.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    /// Starts it. Its lines are read from standard error, or from standard output.
    pub fn start(mut command: Command, from_stdout: bool) -> Result<Self, Fail> {
        command.stdin(Stdio::null());
        if from_stdout {
            command.stdout(Stdio::piped());
        } else {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
        let pipe: Box<dyn std::io::Read + Send> = match (child.stdout.take(), child.stderr.take()) {
            (Some(out), _) => Box::new(out),
            (_, Some(err)) => Box::new(err),
            _ => return Err("no pipe".into()),
        };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Waits for a line with this text; gives what follows it.
    pub fn wait_for(&self, text: &str) -> Result<String, Fail> {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                return Err(format!("no `{text}` came; there was: {}", seen.join(" / ")).into());
            };
            if let Some((_, rest)) = line.split_once(text) {
                return Ok(rest.trim().to_owned());
            }
            seen.push(line);
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits.
    pub fn stop(mut self) -> Result<(), Fail> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !status.success() {
            return Err("the process had ended already".into());
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Mosquitto with an unbounded queue: nothing may be lost on the way.
pub struct Broker {
    _process: Process,
    /// Its port.
    pub port: u16,
}

impl Broker {
    /// Starts one on a free port.
    pub fn start(folder: &Path) -> Result<Self, Fail> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = folder.join("mosquitto.conf");
        std::fs::write(
            &config,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"),
        )?;
        let program = std::env::var_os("VESTIBULE_MOSQUITTO").unwrap_or_else(|| "/usr/sbin/mosquitto".into());
        let mut command = Command::new(program);
        command.arg("-c").arg(&config);
        let process = Process::start(command, false)?;
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begin.elapsed() > PATIENCE {
                return Err("mosquitto does not listen; `cargo xtask peers` installs it".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _process: process, port })
    }
}

/// The hub's program: beside this one.
pub fn program() -> Result<PathBuf, Fail> {
    let path = std::env::current_exe()?.with_file_name("vestibule");
    if path.is_file() { Ok(path) } else { Err(format!("`{}` is not built", path.display()).into()) }
}

/// A running hub.
pub struct Hub {
    process: Process,
    data: PathBuf,
    /// Where partners ask.
    pub partners: SocketAddr,
    /// Where the household looks.
    pub console: SocketAddr,
    /// Milliseconds from its start until it said that it is ready.
    pub ready_ms: f64,
}

impl Hub {
    /// Starts it.
    pub fn start(data: &Path, mqtt_port: u16) -> Result<Self, Fail> {
        Self::start_with(data, mqtt_port, &[])
    }

    /// The same, with more settings.
    pub fn start_with(data: &Path, mqtt_port: u16, more: &[(&str, &str)]) -> Result<Self, Fail> {
        let mut command = Command::new(program()?);
        command.args(["serve", "--data"]).arg(data);
        command
            .env("VESTIBULE__MQTT__URL", format!("mqtt://127.0.0.1:{mqtt_port}"))
            .env("VESTIBULE__CONSOLE__LISTEN", "127.0.0.1:0")
            .env("VESTIBULE__PARTNERS__LISTEN", "127.0.0.1:0")
            .env("RUST_LOG", "warn")
            .envs(more.iter().copied());
        let begin = Instant::now();
        let process = Process::start(command, false)?;
        let address = |url: String| url.trim_start_matches("http://").trim_end_matches('/').parse::<SocketAddr>();
        let console = address(process.wait_for("console: ")?)?;
        let partners = address(process.wait_for("partners: ")?)?;
        process.wait_for("ready")?;
        let ready_ms = begin.elapsed().as_secs_f64() * 1000.0;
        Ok(Self { process, data: data.to_owned(), partners, console, ready_ms })
    }

    /// Runs a command of the command line on it.
    pub fn cli(&self, args: &[&str]) -> Result<String, Fail> {
        let out = Command::new(program()?).args(args).arg("--data").arg(&self.data).output()?;
        if !out.status.success() {
            return Err(format!("{args:?}: {}", String::from_utf8_lossy(&out.stderr)).into());
        }
        Ok(String::from_utf8(out.stdout)?)
    }

    /// The same, as JSON.
    pub fn cli_json(&self, args: &[&str]) -> Result<Value, Fail> {
        Ok(serde_json::from_str(&self.cli(&[args, &["--json"]].concat())?)?)
    }

    /// Waits until `devices` says what is wanted.
    pub fn wait_devices(&self, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value, Fail> {
        let begin = Instant::now();
        loop {
            let devices = self.cli_json(&["devices"])?;
            if wanted(&devices) {
                return Ok(devices);
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("the devices never became what they should: {devices}").into());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// A metric by name.
    pub async fn metric(&self, name: &str) -> Result<u64, Fail> {
        let text = crate::get(self.console, "/metrics").await?;
        let name = format!("vestibule_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name)).ok_or_else(|| format!("no metric {name}"))?;
        Ok(line.trim().parse()?)
    }

    /// Its memory in KiB: resident now.
    pub fn memory_kib(&self) -> u64 {
        let field = crate::machine::field(&format!("/proc/{}/status", self.process.id()), "VmRSS");
        field.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0)
    }

    /// Microseconds that it has been on a core, to the hundredth of a second: of the whole process, since its threads come
    /// and go and those that have ended count.
    pub fn cpu_micros(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        // The name in brackets may hold anything; utime and stime are the 12th and 13th field after it (proc_pid_stat(5)).
        let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_US
    }

    /// A connection that reads the record's file.
    pub fn record(&self) -> Result<Connection, Fail> {
        read_only(&self.data.join("vestibule.db"))
    }

    /// The history's file.
    pub fn history(&self) -> PathBuf {
        self.data.join("history.db")
    }

    /// Stops it in order.
    pub fn stop(self) -> Result<(), Fail> {
        self.process.stop()
    }
}

/// A connection that only reads.
pub fn read_only(file: &Path) -> Result<Connection, Fail> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Bytes of all files of a folder.
pub fn folder_bytes(folder: &Path) -> Result<u64, Fail> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let meta = entry?.metadata()?;
        if meta.is_file() {
            sum += meta.len();
        }
    }
    Ok(sum)
}

/// A folder on the disk where the programs are built, emptied at the end.
pub fn folder() -> Result<tempfile::TempDir, Fail> {
    let beside = std::env::current_exe()?;
    let beside = beside.parent().ok_or("this program is in no folder")?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(beside)?)
}

/// Starts this program again, as another process with another part.
pub fn again(part: &[&str]) -> Result<Process, Fail> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(part);
    Process::start(command, true)
}

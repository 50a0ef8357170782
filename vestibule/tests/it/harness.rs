//! A hub, a broker and a directory of their own for each test; all ports are free ones.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    command.env_remove("RUST_LOG");
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    program().args(args).output().expect("the program runs")
}

/// Runs it, asserts success, and gives its standard output.
pub fn run_ok(args: &[&str]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Runs it and reads its standard output as JSON.
pub fn run_json(args: &[&str]) -> Value {
    let out = run_ok(args);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
}

/// Whether tests run in their full form (`cargo xtask soak`) and not in the short one (`cargo xtask test`).
pub fn full() -> bool {
    std::env::var_os("VESTIBULE_FORM").is_some_and(|form| form == "full")
}

/// Numbers that look random and are the same each time (SplitMix64): what failed once fails again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut first = Self(seed);
        Self(first.next())
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below the limit")
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A process that ends with the test.
pub struct Process {
    pub child: Child,
    /// Lines of its standard error, as they come.
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that holds this text and gives what follows it.
    pub fn wait_for(&mut self, text: &str) -> String {
        match self.wait_for_or_end(text) {
            Some(rest) => rest,
            None => panic!("no `{text}` on standard error; there was:\n{}", self.seen.join("\n")),
        }
    }

    /// Waits for a line that holds this text and has not been read yet.
    pub fn wait_for_next(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("another line");
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    /// The same; none when it does not come before the program ends.
    pub fn wait_for_or_end(&mut self, text: &str) -> Option<String> {
        if let Some(rest) = self.seen.iter().find_map(|l| l.split_once(text).map(|(_, r)| r.to_owned())) {
            return Some(rest);
        }
        loop {
            let line = self.lines.recv_timeout(PATIENCE).ok()?;
            self.seen.push(line.clone());
            if let Some((_, rest)) = line.split_once(text) {
                return Some(rest.to_owned());
            }
        }
    }

    /// All that it has said on standard error; to be asked when it has ended.
    pub fn said(&mut self) -> String {
        self.seen.extend(self.lines.iter());
        self.seen.join("\n")
    }

    /// Whether it has ended within this time.
    pub fn wait_until_dead(&mut self, patience: Duration) -> bool {
        let pause = Duration::from_millis(2);
        for _ in 0..patience.as_millis() / pause.as_millis() {
            if self.child.try_wait().expect("a child").is_some() {
                return true;
            }
            std::thread::sleep(pause);
        }
        false
    }

    /// Sends a signal by name, as in `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago, for programs that can't be told to choose one.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A program of Debian's, by the variable that `cargo xtask test` sets, or where Debian puts it.
pub fn peer(variable: &str, places: &[&str]) -> PathBuf {
    let found = std::env::var_os(variable).map(PathBuf::from).into_iter().chain(places.iter().map(PathBuf::from));
    let found = found.into_iter().find(|p| p.is_file());
    found.unwrap_or_else(|| panic!("{} is not installed: `cargo xtask test` installs it", places[0]))
}

/// Mosquitto on a free port.
pub struct Mosquitto {
    process: Process,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        std::fs::write(
            dir.path().join("mosquitto.conf"),
            format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"),
        )
        .expect("written");
        Self { process: Self::launch(dir.path()), port, dir }
    }

    fn launch(dir: &Path) -> Process {
        let program = peer("VESTIBULE_MOSQUITTO", &["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"]);
        let mut command = Command::new(program);
        command.arg("-v").arg("-c").arg(dir.join("mosquitto.conf"));
        let mut process = Process::start(command);
        process.wait_for("running");
        process
    }

    /// Kills it and starts it again on the same port: it has forgotten everything.
    pub fn restart(&mut self) {
        self.kill();
        self.again();
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        let _ = self.process.child.wait();
    }

    /// Starts it again on the same port after it was killed.
    pub fn again(&mut self) {
        self.process = Self::launch(self.dir.path());
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

/// A hub on a data directory.
pub struct Hub {
    pub process: Process,
    pub data: PathBuf,
    /// `http://127.0.0.1:PORT` of the household's listener.
    pub console: String,
    /// `http://127.0.0.1:PORT` of the partners' listener.
    pub partners: String,
}

impl Hub {
    /// `vestibule serve` with a broker that is there already.
    pub fn start(data: &Path, mqtt: &str) -> Self {
        let mut command = program();
        command.args(["serve", "--data"]).arg(data);
        command.env("VESTIBULE__MQTT__URL", mqtt);
        Self::spawn(command, data)
    }

    /// The same, with points at which a test can make it fail.
    pub fn start_with(data: &Path, mqtt: &str, faults: &Faults) -> Self {
        Self::spawn(faults.serve(data, mqtt), data)
    }

    /// Any command that serves on free ports.
    pub fn spawn(command: Command, data: &Path) -> Self {
        Self::try_spawn(command, data).unwrap_or_else(|said| panic!("it did not come up; it said:\n{said}"))
    }

    /// The same; what it said, when it ends instead.
    pub fn try_spawn(mut command: Command, data: &Path) -> Result<Self, String> {
        command.env("VESTIBULE__CONSOLE__LISTEN", "127.0.0.1:0").env("VESTIBULE__PARTNERS__LISTEN", "127.0.0.1:0");
        let mut process = Process::start(command);
        let url = |rest: String| rest.trim().trim_end_matches('/').to_owned();
        let words = ["console: ", "partners: ", "ready"].map(|word| process.wait_for_or_end(word).map(url));
        match words {
            [Some(console), Some(partners), Some(_)] => Ok(Self { process, data: data.to_owned(), console, partners }),
            _ => {
                let _ = process.child.kill();
                Err(process.said())
            }
        }
    }

    /// Stops it as a person would, and waits until it has.
    pub fn stop(&mut self) {
        self.process.signal("TERM");
        assert_eq!(self.process.child.wait().expect("it ends").code(), Some(0));
    }

    /// Runs a command of the command line on this hub's directory.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut all = args.to_vec();
        let data = self.data.display().to_string();
        all.extend(["--data", &data]);
        run_ok(&all)
    }

    /// The same, read as JSON.
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        let out = self.cli(&all);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }

    /// The ledger's rows.
    pub fn ledger(&self) -> Vec<Value> {
        let out = self.cli(&["ledger", "list", "--json"]);
        out.lines().map(|l| serde_json::from_str(l).expect("JSON Lines")).collect()
    }

    /// Waits until a command of the command line says what is wanted.
    pub fn wait_until(&self, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            last = self.cli_json(args);
            if wanted(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{args:?} never said what was wanted; last: {last}");
    }
}

/// Asks the hub that runs on a data directory, over its control socket; an error is the hub's own word, or empty when it
/// is gone.
pub fn control(data: &Path, request: &Value) -> Result<Value, String> {
    use std::io::Write as _;
    let mut answer = String::new();
    let mut talk = || -> std::io::Result<()> {
        let mut stream = std::os::unix::net::UnixStream::connect(data.join("control.sock"))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        BufReader::new(stream).read_line(&mut answer).map(|_| ())
    };
    talk().map_err(|_| String::new())?;
    let answer: Value = serde_json::from_str(&answer).map_err(|_| String::new())?;
    match answer.get("failed") {
        Some(word) => Err(word.as_str().unwrap_or_default().to_owned()),
        None => Ok(answer["done"].clone()),
    }
}

/// Points at which a test makes the hub fail, wait or die: see the crate `faults`.
pub struct Faults {
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Faults {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { file: dir.path().join("faults"), _dir: dir }
    }

    /// Arms points, one a line as `POINT ACTION FROM TIMES`, in place of those before; counts and hits begin anew.
    pub fn arm(&self, plan: &str) {
        replace(&self.file, plan);
        let _ = std::fs::remove_file(self.file.with_extension("hit"));
    }

    /// `vestibule serve` with these points in it.
    pub fn serve(&self, data: &Path, mqtt: &str) -> Command {
        let mut command = program();
        command.args(["serve", "--data"]).arg(data);
        command.env("VESTIBULE__MQTT__URL", mqtt).env("VESTIBULE_FAULTS", &self.file);
        command
    }

    /// How often points have acted since they were armed.
    pub fn hits(&self) -> usize {
        std::fs::read_to_string(self.file.with_extension("hit")).map_or(0, |hits| hits.lines().count())
    }
}

/// Publishes what is written to it, line by line, on one topic, at QoS 1 and not retained.
pub struct Publisher {
    child: Child,
}

impl Publisher {
    pub fn start(port: u16, topic: &str) -> Self {
        let program = peer("VESTIBULE_MOSQUITTO_PUB", &["/usr/bin/mosquitto_pub"]);
        let child = Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", topic, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub runs");
        Self { child }
    }

    pub fn publish(&mut self, payload: &str) {
        use std::io::Write as _;
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(format!("{payload}\n").as_bytes()).expect("mosquitto_pub reads");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts a file in the place of another at once: whoever reads it sees one or the other.
pub fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, file).expect("renamed");
}

/// Status and body of a GET request.
pub fn get(url: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let rest = url.strip_prefix("http://").expect("a URL");
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(h, p)| (h, p));
    let mut stream = std::net::TcpStream::connect(host).expect("the listener is up");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Publishes one retained message at QoS 1, as a device would.
pub fn publish(port: u16, topic: &str, payload: &str) {
    let program = peer("VESTIBULE_MOSQUITTO_PUB", &["/usr/bin/mosquitto_pub"]);
    let status = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-r", "-t", topic, "-m", payload])
        .status();
    assert!(status.expect("mosquitto_pub runs").success());
}

/// Announces so many thermostats, `t0` and on: 20.5 degrees, heating to 20.
pub fn thermostats(port: u16, count: usize) {
    for i in 0..count {
        publish(
            port,
            &format!("homeassistant/climate/t{i}/config"),
            &format!(
                r#"{{"name":"T{i}","uniq_id":"t{i}","dev":{{"ids":["t{i}"],"name":"T{i}"}},"modes":["off","heat"],
                "mode_stat_t":"t{i}/mode","mode_cmd_t":"t{i}/mode/set","temp_stat_t":"t{i}/sp","temp_cmd_t":"t{i}/sp/set",
                "curr_temp_t":"t{i}/temp"}}"#
            ),
        );
        publish(port, &format!("t{i}/temp"), "20.5");
        publish(port, &format!("t{i}/sp"), "20");
        publish(port, &format!("t{i}/mode"), "heat");
    }
}

/// Publishes many retained messages over one connection, and comes back when the broker has them: MQTT 3.1.1 by hand, since
/// a program for each message takes minutes.
pub fn publish_all(port: u16, messages: impl IntoIterator<Item = (String, String)>) {
    use std::io::{Read as _, Write as _};
    let field = |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat();
    let packet = |first: u8, body: &[u8]| {
        let (mut length, mut out) = (body.len(), vec![first]);
        loop {
            let byte = u8::try_from(length % 128).expect("seven bits");
            length /= 128;
            out.push(if length > 0 { byte | 128 } else { byte });
            if length == 0 {
                return [out, body.to_vec()].concat();
            }
        }
    };
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("the broker is up");
    let connect = [&field(b"MQTT")[..], &[4, 2, 0, 60], &field(b"many")].concat();
    let mut bytes = packet(0x10, &connect);
    for (topic, payload) in messages {
        bytes.extend(packet(0x31, &[&field(topic.as_bytes())[..], payload.as_bytes()].concat()));
    }
    bytes.extend([0xc0, 0]);
    stream.write_all(&bytes).expect("sent");
    // CONNACK, then the answer to the ping, which stands behind all messages.
    let mut answers = [0; 6];
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.read_exact(&mut answers).expect("answers");
    assert_eq!(answers, [0x20, 2, 0, 0, 0xd0, 0]);
}

/// A subscriber at QoS 1 whose messages come as `TOPIC QOS PAYLOAD` lines.
pub struct Subscriber {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Subscriber {
    pub fn start(port: u16, filter: &str) -> Self {
        let program = peer("VESTIBULE_MOSQUITTO_SUB", &["/usr/bin/mosquitto_sub"]);
        // A retained marker tells when the subscription is in force.
        let marker = format!("test/marker/{}", free_port());
        publish(port, &marker, "here");
        let mut child = Command::new(program)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-q",
                "1",
                "-F",
                "%t %q %p",
                "-t",
                filter,
                "-t",
                &marker,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub runs");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        while lines.recv_timeout(PATIENCE).expect("the marker comes") != format!("{marker} 1 here") {}
        Self { child, lines }
    }

    /// The next message.
    pub fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a message comes")
    }

    /// Messages that came until a last one, published now, comes.
    pub fn until_now(&self, port: u16, topic: &str) -> Vec<String> {
        publish(port, topic, "end");
        let mut all = Vec::new();
        loop {
            let line = self.next();
            if line.ends_with(" end") {
                return all;
            }
            all.push(line);
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Notes aloud that a test could not run, for `cargo xtask test` to count.
pub fn skipped(name: &str, reason: &str) {
    eprintln!("SKIPPED: {name}: {reason}");
    if let Some(path) = std::env::var_os("VESTIBULE_SKIPS") {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips");
        writeln!(file, "{name}: {reason}").expect("written");
    }
}

/// The folder of recordings, if there is one.
pub fn recordings() -> Option<PathBuf> {
    std::env::var_os("VESTIBULE_RECORDINGS").map(PathBuf::from).filter(|p| p.is_dir())
}

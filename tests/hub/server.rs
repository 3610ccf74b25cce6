//! A hub on 127.0.0.1 that answers as huggingface.co does, and as it does on bad days.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came in.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// What is sent back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
}

impl Answer {
    pub(crate) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// A server that runs until the test ends.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up ends its own connection only.
                let _ = serve(stream, &seen, &answer);
            }
        });
        Self { address, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Requests for the content of a file.
    pub(crate) fn gets(&self, file: &str) -> Vec<Request> {
        let of = |request: &Request| request.method == "GET" && request.path.ends_with(&format!("/{file}"));
        self.requests().into_iter().filter(of).collect()
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(&Request) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.by_ref().read_line(&mut line)?;
        match line.trim().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let request = Request { method, path, headers };
    seen.lock().unwrap().push(request.clone());
    let Answer { status, headers, body, cut } = answer(&request);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} X\r\nconnection: close\r\n")?;
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        write!(stream, "content-length: {}\r\n", body.len())?;
    }
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])?;
    }
    stream.flush()
}

/// The file that a path asks for, of `org/name` at [`COMMIT`].
pub(crate) fn file_of(path: &str) -> Option<&str> {
    path.strip_prefix(&format!("/org/name/resolve/{COMMIT}/"))
}

/// Answers as the hub does for the repository `org/name` with `files`.
pub(crate) fn repository(files: &BTreeMap<String, Vec<u8>>, request: &Request) -> Answer {
    if request.path.starts_with("/api/models/org/name/revision/main?") {
        let list: Vec<_> = files
            .iter()
            .map(|(name, bytes)| serde_json::json!({ "rfilename": name, "size": bytes.len() }))
            .collect();
        let list = serde_json::json!({ "id": "org/name", "sha": COMMIT, "siblings": list });
        return Answer { body: list.to_string().into_bytes(), ..Answer::of(200) };
    }
    let Some(bytes) = file_of(&request.path).and_then(|file| files.get(file)) else {
        return Answer::of(404);
    };
    let etag = format!("\"{}\"", blake3::hash(bytes).to_hex());
    let from = request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match from.map(|from| from.parse::<usize>().unwrap()) {
        Some(from) => Answer { body: bytes[from..].to_vec(), ..Answer::of(206) }
            .with("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .with("etag", etag),
        None => Answer { body: bytes.clone(), ..Answer::of(200) }.with("etag", etag),
    }
}

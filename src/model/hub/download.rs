//! Downloads into the cache: every file under a temporary name beside its place, resumed where it was interrupted,
//! and in place only when it is whole.

use super::files::Wanted;
use super::{Event, Hub, HubId, is_relative};
use crate::error::{Error, Result, invalid};
use crate::model::atomic;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Redirects that are followed, as browsers do.
const REDIRECTS: usize = 20;
/// Times that a file is begun or gone on with.
const ATTEMPTS: u64 = 4;
/// How long the hub may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest text that is kept in memory: lists of files and indexes.
const TEXT_LIMIT: u64 = 64 << 20;

/// Requests to the hub.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    agent: ureq::Agent,
}

/// A file as the hub describes it.
struct Remote {
    url: String,
    /// Name of the blob.
    etag: String,
    bytes: Option<u64>,
}

impl<'a> Client<'a> {
    /// # Errors
    /// When the file with certificates has none.
    pub(super) fn new(hub: &'a Hub) -> Result<Self> {
        let roots = hub.certificates.as_deref().map(certificates).transpose()?.unwrap_or(RootCerts::WebPki);
        let config = ureq::Agent::config_builder()
            // Followed here: the token is for the hub alone, and the description of a file is in the first answer.
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("anybit/", env!("CARGO_PKG_VERSION")))
            // Lengths then are those of the files.
            .accept_encoding("identity")
            .build();
        Ok(Self { hub, agent: ureq::Agent::new_with_config(config) })
    }

    /// Downloads what is missing of a model, see [`Hub::locate`].
    pub(super) fn fetch(
        &self,
        hub: &Hub,
        id: &HubId,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<PathBuf> {
        let name = format!("{}@{}", id.repo, id.revision);
        let (commit, sizes) = self.list(id, &name)?;
        let repo = hub.cache.join(id.folder());
        let snapshot = repo.join("snapshots").join(&commit);
        let url = |file: &str| format!("{}/{}/resolve/{commit}/{file}", hub.endpoint, id.repo);
        let names: BTreeSet<String> = sizes.keys().cloned().collect();
        let wanted = match &id.file {
            Some(file) if !names.contains(file) => {
                let near = crate::error::closest_names(file, names.iter().map(String::as_str), 3).join(", ");
                invalid!("{name} has no file {file}; near names: {near}");
            }
            Some(file) => Wanted::File(file.clone()),
            None => Wanted::among(&names, &name, &mut |index| {
                let response = self.get(&url(index), None, &format!("{index} of {name}"))?;
                text(response, index)
            })?,
        };
        let (files, path) = match wanted {
            Wanted::File(file) => (vec![file.clone()], snapshot.join(file)),
            Wanted::Folder { files, .. } => (files, snapshot.clone()),
        };
        let missing: Vec<&String> = files.iter().filter(|file| !snapshot.join(file).is_file()).collect();
        if let Some(file) = missing.iter().find(|file| !names.contains(**file)) {
            invalid!("{name} is incomplete on {}: its index names {file}, which is not there", hub.endpoint);
        }
        if !missing.is_empty() {
            let bytes = missing.iter().map(|file| sizes[file.as_str()]).sum();
            on_event(Event::Begin { files: missing.len(), bytes, from: &hub.endpoint, into: &snapshot });
        }
        for file in missing {
            on_event(Event::File(file));
            let what = format!("{file} of {name}");
            let blob = self.download(&repo, &url(file), &what, on_event)?;
            link(&blob, &snapshot.join(file))?;
        }
        // Last, so that a branch never points at a snapshot of which only a part is here.
        if id.revision != commit {
            let reference = repo.join("refs").join(&id.revision);
            make_folder_of(&reference)?;
            atomic::write(&reference, commit.as_bytes())?;
        }
        Ok(path)
    }

    /// Commit of a revision, and its files with their sizes where the hub says them.
    fn list(&self, id: &HubId, name: &str) -> Result<(String, BTreeMap<String, Option<u64>>)> {
        let revision = id.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}?blobs=true", self.hub.endpoint, id.repo);
        let response = self.get(&url, None, name)?;
        let list = text(response, name)?;
        let wrong = || Error::Unavailable(format!("{url} does not answer as a hub does; check HF_ENDPOINT"));
        let list: Value = serde_json::from_slice(&list).map_err(|_| wrong())?;
        let commit = list["sha"].as_str().filter(|sha| is_relative(sha) && !sha.contains('/'));
        let commit = commit.ok_or_else(wrong)?.to_owned();
        let siblings = list["siblings"].as_array().ok_or_else(wrong)?;
        // Names that mean something to a file system or in an address are not asked for.
        let named =
            siblings.iter().filter_map(|file| Some((file["rfilename"].as_str()?, file["size"].as_u64())));
        let files = named.filter(|(file, _)| is_relative(file)).map(|(file, size)| (file.to_owned(), size));
        Ok((commit, files.collect()))
    }

    /// Downloads a file to its blob.
    fn download(
        &self,
        repo: &Path,
        url: &str,
        what: &str,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<PathBuf> {
        let remote = self.describe(url, what)?;
        let blob = repo.join("blobs").join(&remote.etag);
        let partial = repo.join("blobs").join(format!("{}.incomplete", remote.etag));
        make_folder_of(&blob)?;
        let _lock = self.lock(repo, &remote.etag)?;
        // Another program may have been faster; two files of a repository may have the same content.
        if blob.is_file() {
            on_event(Event::Bytes(remote.bytes.unwrap_or(0) as i64));
            return Ok(blob);
        }
        let mut attempt = 1;
        while let Err(error) = self.transfer(&remote, &partial, what, on_event) {
            if attempt == ATTEMPTS || !matches!(error, Error::Unavailable(_)) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(250 * attempt * attempt));
            attempt += 1;
        }
        std::fs::rename(&partial, &blob).map_err(|cause| Error::io("cannot write", &blob, cause))?;
        Ok(blob)
    }

    /// Goes on with `partial` until it is whole.
    fn transfer(
        &self,
        remote: &Remote,
        partial: &Path,
        what: &str,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let io = |cause| Error::io("cannot write", partial, cause);
        let mut file = OpenOptions::new().append(true).create(true).open(partial).map_err(io)?;
        let mut have = file.metadata().map_err(io)?.len();
        if remote.bytes.is_none_or(|bytes| have > bytes) {
            have = 0;
        }
        let mut body = None;
        if remote.bytes != Some(have) || have == 0 {
            let response = self.get(&remote.url, (have > 0).then_some(have), what)?;
            if have > 0 && !continues(&response, have) {
                have = 0;
            }
            body = Some(response.into_body().into_reader());
        }
        file.set_len(have).map_err(io)?;
        on_event(Event::Bytes(have as i64));
        let mut buffer = vec![0; 1 << 16];
        while let Some(body) = &mut body {
            let failed = |why: &dyn std::fmt::Display, have: u64| {
                let of = remote.bytes.map_or(String::new(), |bytes| format!(" of {bytes}"));
                Error::Unavailable(format!("the download of {what} broke off after {have}{of} bytes: {why}"))
            };
            let read = body.read(&mut buffer);
            let count = match read {
                Ok(0) if remote.bytes.is_some_and(|bytes| bytes != have) => {
                    on_event(Event::Bytes(-(have as i64)));
                    return Err(failed(&"the connection was closed", have));
                }
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    on_event(Event::Bytes(-(have as i64)));
                    return Err(failed(&error, have));
                }
            };
            if remote.bytes.unwrap_or(TEXT_LIMIT) - have < count as u64 {
                drop(file);
                std::fs::remove_file(partial).map_err(io)?;
                invalid!("{what} is longer than the hub says; try again later");
            }
            file.write_all(&buffer[..count]).map_err(io)?;
            have += count as u64;
            on_event(Event::Bytes(count as i64));
        }
        file.sync_all().map_err(io)
    }

    /// Blob name and size of a file, from the first answer that has them.
    fn describe(&self, url: &str, what: &str) -> Result<Remote> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.send(&at, true, None, what)?;
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let length = header("x-linked-size").or_else(|| header("content-length"));
            let etag = header("x-linked-etag").or_else(|| header("etag"));
            let is_described = header("x-linked-etag").is_some();
            match redirect(&response, &at)? {
                Some(next) if !is_described => at = next,
                next => {
                    // A redirect has a length of its own, that of its page.
                    let length = if next.is_some() { header("x-linked-size") } else { length };
                    let etag = etag.unwrap_or_default().trim_start_matches("W/").trim_matches('"');
                    let is_plain = is_relative(etag) && !etag.contains('/') && etag.len() <= 128;
                    // Blobs are named by content; where the hub does not say it, by where they come from.
                    let other = || blake3::hash(url.as_bytes()).to_hex().to_string();
                    let etag = if is_plain { etag.to_owned() } else { other() };
                    let bytes = length.and_then(|length| length.parse().ok());
                    return Ok(Remote { url: url.to_owned(), etag, bytes });
                }
            }
        }
        Err(Error::Unavailable(format!("{what}: {url} leads from one address to the next without end")))
    }

    /// The answer to a request, redirects followed. `from` asks for the bytes from there on.
    fn get(&self, url: &str, from: Option<u64>, what: &str) -> Result<Response<Body>> {
        let mut at = url.to_owned();
        for _ in 0..REDIRECTS {
            let response = self.send(&at, false, from, what)?;
            match redirect(&response, &at)? {
                Some(next) => at = next,
                None => return Ok(response),
            }
        }
        Err(Error::Unavailable(format!("{what}: {url} leads from one address to the next without end")))
    }

    /// One request; an answer that is neither content nor a redirect is an error.
    fn send(&self, url: &str, head: bool, from: Option<u64>, what: &str) -> Result<Response<Body>> {
        let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
        if let Some(token) = self.hub.token.as_ref().filter(|_| origin(url) == origin(&self.hub.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(from) = from {
            request = request.header("range", format!("bytes={from}-"));
        }
        let host = origin(url);
        let response = request.call().map_err(|error| {
            Error::Unavailable(format!(
                "cannot download {what} from {host}: {error}; check the network, or set HF_HUB_OFFLINE=1 and give a \
                 local folder"
            ))
        })?;
        match response.status().as_u16() {
            200..=399 => Ok(response),
            401 | 403 => Err(Error::Invalid(format!(
                "{host} refuses {what} ({}): there is no such model, or it is private or gated: accept its terms on \
                 {}/{} and set HF_TOKEN",
                response.status(),
                self.hub.endpoint,
                what.rsplit(' ').next().unwrap_or(what).split('@').next().unwrap_or_default(),
            ))),
            404 => Err(Error::Invalid(format!("{host} has no {what}; check name and revision"))),
            _ => Err(Error::Unavailable(format!(
                "cannot download {what} from {host}: it answers {}; try again later",
                response.status()
            ))),
        }
    }

    /// Keeps other programs from writing the same blob, where the file system can lock.
    fn lock(&self, repo: &Path, etag: &str) -> Result<Option<File>> {
        let folder = self.hub.cache.join(".locks").join(repo.file_name().unwrap_or_default());
        let path = folder.join(format!("{etag}.lock"));
        make_folder_of(&path)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|cause| Error::io("cannot write", &path, cause))?;
        Ok(file.lock().is_ok().then_some(file))
    }
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<RootCerts> {
    let bytes =
        std::fs::read(path).map_err(|cause| Error::io("cannot read the certificates", path, cause))?;
    let items = parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = items.collect();
    if certificates.is_empty() {
        invalid!(
            "{} has no certificates; want a PEM file, or SSL_CERT_FILE, REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE unset",
            path.display()
        );
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The content of a small answer.
fn text(response: Response<Body>, what: &str) -> Result<Vec<u8>> {
    let mut body = response.into_body();
    body.with_config().limit(TEXT_LIMIT).read_to_vec().map_err(|error| {
        Error::Unavailable(format!("the download of {what} broke off: {error}; try again later"))
    })
}

/// Whether an answer begins at byte `from`.
fn continues(response: &Response<Body>, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    response.status().as_u16() == 206
        && range.is_some_and(|range| range.trim_start().starts_with(&format!("bytes {from}-")))
}

/// `https://host:port` of an address.
fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

/// Where an answer sends to, if it does.
fn redirect(response: &Response<Body>, from: &str) -> Result<Option<String>> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    let next = match location {
        Some(location) if location.starts_with("//") => None,
        Some(location) if location.starts_with('/') => Some(format!("{}{location}", origin(from))),
        Some(location) if location.starts_with("https://") => Some(location.to_owned()),
        // From an open connection to another one, never from a safe one to an open one.
        Some(location) if location.starts_with("http://") && from.starts_with("http://") => {
            Some(location.to_owned())
        }
        _ => None,
    };
    match next {
        Some(next) => Ok(Some(next)),
        None => Err(Error::Unavailable(format!(
            "{} answers {} with the location `{}`, which leads nowhere; try again later",
            origin(from),
            response.status(),
            location.unwrap_or_default()
        ))),
    }
}

fn make_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|cause| Error::io("cannot make the folder", folder, cause))
}

/// Makes `path` the file in `blob`: by a relative link, or where the system has none by moving it.
fn link(blob: &Path, path: &Path) -> Result<()> {
    make_folder_of(path)?;
    let io = |cause| Error::io("cannot write", path, cause);
    // What is in the way is a link to a blob that is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let repo = blob.parent().and_then(Path::parent).unwrap_or(blob);
    let depth =
        path.parent().and_then(|folder| folder.strip_prefix(repo).ok()).map_or(0, |p| p.components().count());
    let mut target: PathBuf = std::iter::repeat_n("..", depth).collect();
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&target, path);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&target, path);
    linked.or_else(|_| std::fs::rename(blob, path)).map_err(io)
}

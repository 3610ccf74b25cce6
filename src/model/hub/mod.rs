//! Models by the name they have on the Hugging Face hub: `org/name`, `org/name@revision`, `org/name:FILE`.
//!
//! They are looked for in the cache that other programs share, laid out as in
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>: `models--org--name/refs/REVISION` holds the commit
//! that a branch or tag pointed at, `snapshots/COMMIT` its files as links to `blobs`. What is not there is downloaded
//! into it. A snapshot with config, weights and tokenizer is used as it is, without a word to the network; whether
//! the branch has moved since is not asked.

mod download;
mod files;

use crate::error::{Error, Result, invalid};
use download::Client;
use files::Wanted;
use std::path::{Path, PathBuf};

/// A model on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// One file of the repository instead of the folder it is.
    pub file: Option<String>,
}

impl HubId {
    /// Reads `org/name[@revision][:FILE]`; `None` where the text cannot be meant so, as paths are no names.
    ///
    /// # Errors
    /// When only the revision or the file is malformed.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let (front, file) = match text.split_once(':') {
            Some((front, file)) => (front, Some(file)),
            None => (text, None),
        };
        let (repo, revision) = match front.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (front, None),
        };
        let is_path = file.is_none() && revision.is_none() && files::has_weight_ending(repo);
        match repo.split_once('/') {
            Some((org, name)) if is_name(org) && is_name(name) && !is_path => {}
            _ => return Ok(None),
        }
        let revision = revision.unwrap_or("main");
        if !is_relative(revision) {
            invalid!("`{text}`: the revision `{revision}` is none; want a branch, a tag or a commit");
        }
        if let Some(file) = file.filter(|file| !is_relative(file)) {
            invalid!(
                "`{text}`: `{file}` names no file of a repository; want e.g. model.gguf or folder/model.gguf"
            );
        }
        Ok(Some(Self { repo: repo.to_owned(), revision: revision.to_owned(), file: file.map(str::to_owned) }))
    }

    /// The folder of the repository in the cache.
    fn folder(&self) -> String {
        format!("models--{}", self.repo.replace('/', "--"))
    }
}

/// The hub's rule for organisations and models: letters, digits, `-`, `_` and `.`, neither `--` nor `..`.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&text.len())
        && text.chars().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

/// Whether `text` is a relative path that stays where it starts and means the same in URLs and file systems.
fn is_relative(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+=".contains(c);
    text.len() <= 255
        && text.split('/').all(|part| !part.is_empty() && part.chars().all(plain) && !part.starts_with(".."))
        && text.split('/').all(|part| part != ".")
}

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A download begins.
    Begin {
        /// Files that are missing here.
        files: usize,
        /// Their size together, where the hub says it.
        bytes: Option<u64>,
        /// Address of the hub.
        from: &'a str,
        /// The folder they go to.
        into: &'a Path,
    },
    /// The next file begins.
    File(&'a str),
    /// So many more bytes are here; negative where a file begins anew.
    Bytes(i64),
    /// Something a person should know.
    Note(&'a str),
}

/// Where models are looked for.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The cache folder, `…/huggingface/hub`.
    pub cache: PathBuf,
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// Sent to the hub, and to nobody else, to open gated and private models.
    pub token: Option<String>,
    /// Never ask the network.
    pub offline: bool,
    /// PEM file with the certificates that are trusted instead of Mozilla's, as proxies of organisations need it.
    pub certificates: Option<PathBuf>,
}

impl Hub {
    /// As the environment says: the cache from `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME` or
    /// the home folder; `HF_ENDPOINT`; `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN` or the file that `hf auth login` leaves;
    /// `HF_HUB_OFFLINE`; certificates from `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`.
    ///
    /// # Errors
    /// When there is no home folder, or the endpoint is no address.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let user = || folder("HOME").or_else(|| folder("USERPROFILE"));
        let home = folder("HF_HOME").or_else(|| {
            let caches = folder("XDG_CACHE_HOME").or_else(|| user().map(|user| user.join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        });
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| home.as_ref().map(|home| home.join("hub")));
        let Some(cache) = cache else {
            invalid!("no folder for models of the hub: HOME is not set; set HF_HOME to a folder");
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            invalid!("HF_ENDPOINT is `{endpoint}`; want an address that begins with https:// or http://");
        }
        let token_file = || {
            let path = folder("HF_TOKEN_PATH").or_else(|| home.as_ref().map(|home| home.join("token")))?;
            std::fs::read_to_string(path).ok()
        };
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(token_file);
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            invalid!("the token in HF_TOKEN has characters that no token has; copy it anew");
        }
        let is_true =
            |value: String| ["1", "on", "yes", "true"].contains(&value.trim().to_ascii_lowercase().as_str());
        let offline = variable("HF_HUB_OFFLINE").is_some_and(is_true);
        let bundles = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
        let certificates = bundles.into_iter().find_map(folder);
        Ok(Self { cache, endpoint, token, offline, certificates })
    }

    /// The folder, or with [`HubId::file`] the file, of a model, downloaded where it is not in the cache.
    ///
    /// # Errors
    /// When a file the model needs is neither in the cache nor to be had; the message names it. An interrupted
    /// download goes on where it was at the next call.
    pub fn locate(&self, id: &HubId, on_event: &mut dyn FnMut(Event<'_>)) -> Result<PathBuf> {
        let (missing, fallback) = match self.cached(id)? {
            Cached::Complete(path) => return Ok(path),
            // Some models have no tokenizer at all, and this may be one of them.
            Cached::NoTokenizer(path) => ("a tokenizer".to_owned(), Some(path)),
            Cached::Incomplete(missing) => (missing, None),
        };
        if self.offline {
            return fallback.ok_or_else(|| {
                Error::Unavailable(format!(
                    "{missing}; HF_HUB_OFFLINE forbids to download it: unset it, or put the model into {}",
                    self.cache.display()
                ))
            });
        }
        let fetched = Client::new(self).and_then(|client| client.fetch(self, id, on_event));
        match (fetched, fallback) {
            (Ok(path), _) => Ok(path),
            (Err(error), Some(path)) => {
                on_event(Event::Note(&format!("{} has no tokenizer here, and {error}", id.repo)));
                Ok(path)
            }
            (Err(error @ Error::Invalid(_)), None) => Err(error),
            (Err(error), None) => Err(Error::Unavailable(format!("{missing}; {error}"))),
        }
    }

    /// What the cache has of a model.
    fn cached(&self, id: &HubId) -> Result<Cached> {
        let name = format!("{}@{}", id.repo, id.revision);
        let repo = self.cache.join(id.folder());
        let is_commit = id.revision.len() == 40 && id.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = match std::fs::read_to_string(repo.join("refs").join(&id.revision)) {
            Ok(commit) if is_relative(commit.trim()) => Some(commit.trim().to_owned()),
            _ => is_commit.then(|| id.revision.clone()),
        };
        let Some(commit) = commit else {
            let wanted = id.file.as_deref().unwrap_or("config.json");
            return Ok(Cached::Incomplete(format!(
                "{wanted} of {name} is neither a local path nor in the cache: {} does not exist",
                repo.join("refs").join(&id.revision).display()
            )));
        };
        let snapshot = repo.join("snapshots").join(commit);
        if let Some(file) = &id.file {
            let path = snapshot.join(file);
            if path.is_file() {
                return Ok(Cached::Complete(path));
            }
            return Ok(Cached::Incomplete(format!(
                "{file} of {name} is not in the cache: {}",
                path.display()
            )));
        }
        let here = files::present(&snapshot)?;
        let wanted = Wanted::among(&here, &name, &mut |index| {
            let path = snapshot.join(index);
            std::fs::read(&path).map_err(|cause| Error::io("cannot read", &path, cause))
        });
        Ok(match wanted {
            Ok(Wanted::File(file)) => Cached::Complete(snapshot.join(file)),
            Ok(Wanted::Folder { files, has_tokenizer }) => {
                match files.iter().find(|file| !here.contains(*file)) {
                    Some(file) => Cached::Incomplete(format!(
                        "the snapshot of {name} is incomplete: {file} is missing in {}",
                        snapshot.display()
                    )),
                    None if has_tokenizer => Cached::Complete(snapshot),
                    None => Cached::NoTokenizer(snapshot),
                }
            }
            Err(error) => Cached::Incomplete(format!("{error}; looked in {}", snapshot.display())),
        })
    }
}

/// What the cache has of a model.
enum Cached {
    Complete(PathBuf),
    /// All but a tokenizer.
    NoTokenizer(PathBuf),
    /// What is missing, and where it was looked for.
    Incomplete(String),
}

/// `name` for the snapshot folder `…/models--org--name/snapshots/COMMIT` of a cache.
pub(super) fn name_of_snapshot(folder: &Path) -> Option<String> {
    let snapshots = folder.parent()?;
    let repo = snapshots.parent()?.file_name()?.to_str()?;
    let is_snapshot = snapshots.file_name()? == "snapshots" && repo.starts_with("models--");
    is_snapshot.then(|| repo.rsplit("--").next().unwrap_or(repo).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_told_from_paths() {
        let id = |text: &str| HubId::parse(text).unwrap().map(|id| (id.repo, id.revision, id.file));
        let of = |repo: &str, revision: &str, file: Option<&str>| {
            Some((repo.to_owned(), revision.to_owned(), file.map(str::to_owned)))
        };
        assert_eq!(id("org/name"), of("org/name", "main", None));
        assert_eq!(id("Qwen/Qwen2.5-0.5B"), of("Qwen/Qwen2.5-0.5B", "main", None));
        assert_eq!(id("org/name@refs/pr/1"), of("org/name", "refs/pr/1", None));
        assert_eq!(id("org/name:q/a.gguf"), of("org/name", "main", Some("q/a.gguf")));
        assert_eq!(id("a/b@v1:m.gguf"), of("a/b", "v1", Some("m.gguf")));
        for path in [
            "",
            "name",
            "./name",
            "/org/name",
            "a/b/c",
            "~/models",
            "../name",
            "org/",
            "/name",
            "a/..",
            "org/a--b",
            "org/a b",
            "org/model.safetensors",
            "out/model.GGUF",
            "C:\\a/b",
            "org/name/",
            "-a/b",
            "a/b.",
        ] {
            assert_eq!(id(path), None, "{path}");
        }
        for wrong in
            ["a/b@", "a/b@../../x", "a/b@a//b", "a/b:", "a/b:/etc/passwd", "a/b:../x", "a/b@x y", "a/b@."]
        {
            assert!(HubId::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_say_where_to_look() {
        let hub = |set: &[(&str, &str)]| {
            let of =
                |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            Hub::from_variables(&of)
        };
        let cache = |set: &[(&str, &str)]| hub(set).unwrap().cache;
        let all = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "/3"),
            ("XDG_CACHE_HOME", "/4"),
            ("HOME", "/5"),
        ];
        let folders =
            ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"].map(PathBuf::from);
        for (first, folder) in folders.into_iter().enumerate() {
            assert_eq!(cache(&all[first..]), folder);
        }
        assert!(hub(&[]).is_err());
        let hub = |set: &[(&str, &str)]| hub(&[set, &[("HOME", "/5")]].concat());
        let plain = hub(&[]).unwrap();
        assert_eq!(
            (plain.endpoint.as_str(), plain.token, plain.offline),
            ("https://huggingface.co", None, false)
        );
        let set = hub(&[("HF_ENDPOINT", "http://a:1/x/"), ("HF_TOKEN", " t\n"), ("HF_HUB_OFFLINE", "Yes")]);
        let set = set.unwrap();
        assert_eq!(
            (set.endpoint.as_str(), set.token.as_deref(), set.offline),
            ("http://a:1/x", Some("t"), true)
        );
        assert!(!hub(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        assert_eq!(hub(&[]).unwrap().certificates, None);
        let bundle = hub(&[("REQUESTS_CA_BUNDLE", "/ca.pem")]).unwrap().certificates;
        assert_eq!(bundle, Some(PathBuf::from("/ca.pem")));
        assert!(hub(&[("HF_ENDPOINT", "ftp://x")]).is_err());
        assert!(hub(&[("HF_TOKEN", "a\u{7}b")]).is_err());
    }

    #[test]
    fn snapshots_are_named_by_their_repository() {
        let name = |path: &str| name_of_snapshot(Path::new(path));
        assert_eq!(name("/c/models--org--a.b/snapshots/0123"), Some("a.b".to_owned()));
        assert_eq!(name("/c/models/snapshots/0123"), None);
        assert_eq!(name("/c/models--org--a/0123"), None);
        assert_eq!(name("/"), None);
    }
}

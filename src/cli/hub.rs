//! Models by their name on the Hugging Face hub, with what is said while they are downloaded.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anybit::model::hub::{Event, Hub, HubId};
use anyhow::Result;
use indicatif::ProgressBar;

use super::common;

/// Whether `path` is no path here but the name of a model on the hub.
pub(crate) fn is_id(path: &Path) -> bool {
    !path.exists() && path.to_str().is_some_and(|text| matches!(HubId::parse(text), Ok(Some(_))))
}

/// `path` itself where it exists or cannot be the name of a model, else where the model of that name is, which may be
/// downloaded for it.
pub(crate) fn local(path: &Path) -> Result<Cow<'_, Path>> {
    if path.exists() {
        return Ok(Cow::Borrowed(path));
    }
    let Some(id) = path.to_str().map(HubId::parse).transpose()?.flatten() else {
        return Ok(Cow::Borrowed(path));
    };
    fetch(path, &id).map(Cow::Owned)
}

/// The same for the --model of a verb that wants a path.
pub(crate) fn localize(model: &mut Option<PathBuf>) -> Result<()> {
    if let Some(path) = model {
        *path = local(path)?.into_owned();
    }
    Ok(())
}

fn fetch(path: &Path, id: &HubId) -> Result<PathBuf> {
    let mut bar: Option<ProgressBar> = None;
    let located = Hub::from_env()?.locate(id, &mut |event| match event {
        Event::Begin { files, bytes, from, into } => {
            let size = bytes.map_or(String::new(), |bytes| format!(", {}", common::bytes(bytes)));
            let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
            eprintln!(
                "NOTE: {}: downloading {files}{size} from {from} to {}",
                path.display(),
                into.display()
            );
            bar = Some(common::progress(bytes.unwrap_or(0), "downloading"));
        }
        Event::File(name) => {
            if let Some(bar) = &bar {
                bar.set_message(name.to_owned());
            }
        }
        Event::Bytes(count) => {
            if let Some(bar) = &bar {
                bar.set_position(bar.position().saturating_add_signed(count));
            }
        }
        Event::Note(note) => eprintln!("NOTE: {note}"),
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    Ok(located?)
}

//! Files that the example binaries write.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

type Failure = Box<dyn Error + Send + Sync>;

/// Prints for people on standard output. A reader that has gone away is no failure.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", plain(text));
}

/// Prints for programs, likewise.
pub fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)?;
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

/// A text whose ids and codes come from outside, without what a terminal would act on.
pub fn plain(text: &str) -> String {
    let acts = |letter: char| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|letter| if acts(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// A file that takes its place only when it is whole.
pub struct Output {
    file: tempfile::NamedTempFile,
    path: PathBuf,
}

impl Output {
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let path = if path == Path::new("-") { Path::new("/dev/stdout") } else { path };
        // What is not a plain file (standard output, a pipe) has no place to move to.
        let is_plain = path.is_file() || !path.exists();
        let folder = match path.parent() {
            _ if !is_plain => std::env::temp_dir(),
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            return Err(format!("the folder {} is not there; create it first", folder.display()).into());
        }
        let file = tempfile::NamedTempFile::new_in(&folder)
            .map_err(|error| format!("can't write in the folder {}: {error}", folder.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub fn write(&mut self, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), Failure> {
        let write = || {
            self.file.as_file().set_len(0)?;
            std::io::Seek::rewind(&mut self.file)?;
            let mut buffered = std::io::BufWriter::new(&mut self.file);
            fill(&mut buffered)?;
            buffered.flush()
        };
        write().map_err(|error| format!("can't write {}: {error}", self.path.display()).into())
    }

    pub fn put(mut self) -> Result<(), Failure> {
        let path = self.path;
        let failed = |error: std::io::Error| format!("can't write {}: {error}", path.display());
        if path.is_file() || !path.exists() {
            let target = path.canonicalize().unwrap_or_else(|_| path.clone());
            self.file.persist(target).map_err(|error| failed(error.error))?;
            return Ok(());
        }
        std::io::Seek::rewind(&mut self.file).map_err(failed)?;
        let mut target = std::fs::OpenOptions::new().write(true).open(&path).map_err(failed)?;
        std::io::copy(&mut self.file, &mut target).map_err(failed)?;
        Ok(())
    }
}

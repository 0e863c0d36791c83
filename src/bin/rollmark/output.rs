//! What the command prints, and the files that it writes.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Style};
use rollmark::codes::{Class, CodeTable, MarkClass};
use rollmark::model::Mark;
use rollmark::store::MarkCounts;
use serde::Serialize;
use tempfile::NamedTempFile;

/// What ends a subcommand.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Ends the program with 2 and one line.
pub fn wrong_flags(message: String) -> ! {
    tell_error(&message);
    std::process::exit(2)
}

/// The colours of a terminal.
pub const RED: Style = AnsiColor::Red.on_default().bold();
pub const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub const GREEN: Style = AnsiColor::Green.on_default().bold();

/// Prints the error line.
pub fn tell_error(message: &str) {
    let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {}", plain(message));
}

/// Prints one line for people that begins with a word in colour.
pub fn say_in_colour(colour: Style, word: &str, rest: &str) {
    let _ = writeln!(anstream::stdout(), "{colour}{}{colour:#}{}", plain(word), plain(rest));
}

/// Prints one line for people on standard output. A reader that has gone away is no failure.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{}", plain(line));
}

/// Prints one line for people on standard error, likewise.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{}", plain(line));
}

/// Prints for programs on standard output. A reader that has gone away is no failure.
pub fn say_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = json(&serde_json::to_string(value)?);
    say_text(format!("{text}\n").as_bytes()).map(|_| ())
}

/// Prints a text as it is, likewise.
pub fn say_text(text: &[u8]) -> Result<u8, Failure> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(cannot_write("standard output", &error)),
        _ => Ok(0),
    }
}

/// Asks whether to go on. Where nobody can be asked, and where the answer is another than yes, the program ends.
pub async fn confirm(what: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        wrong_flags(format!("{what} There is no terminal to confirm on; pass --yes to go on"));
    }
    tell(&format!("{what} Type yes to go on:"));
    // On a thread of its own, so that a signal still ends the program.
    let mut answer = String::new();
    let answer = tokio::task::spawn_blocking(move || io::stdin().read_line(&mut answer).map(|_| answer)).await??;
    if answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err("nothing was deleted".into()) }
}

/// What was done to marks, for people.
pub fn change_counts(marks: &MarkCounts) -> String {
    let MarkCounts { added, changed, removed, withheld, .. } = marks;
    format!("{added} added, {changed} changed, {removed} removed, {withheld} withheld")
}

/// What a mark counts as, beside the mark in JSON. `Display` says it to people.
#[derive(Serialize)]
pub struct Meaning {
    edition: String,
    code: Option<String>,
    meaning: Option<String>,
    class: Option<Class>,
    late: bool,
    warning: Option<String>,
}

impl Meaning {
    /// None where a register was not taken.
    pub fn of(table: &CodeTable, mark: &Mark) -> Option<Self> {
        let class = table.class_of(mark);
        let (code, late) = match &class {
            MarkClass::NotTaken => return None,
            MarkClass::Of { code, late, .. } => (code.as_ref().map(|found| found.row.code.to_string()), *late),
            _ => (None, false),
        };
        Some(Self {
            edition: table.edition().to_owned(),
            code,
            meaning: class.meaning().map(str::to_owned),
            class: class.class(),
            late,
            warning: class.warning().map(ToString::to_string),
        })
    }
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(class) = self.class else { return write!(f, "has no class in {}", self.edition) };
        write!(f, "counts as {}", class.name().replace('_', " "))?;
        if let Some(meaning) = &self.meaning {
            write!(f, ": {meaning}")?;
        }
        write!(f, " ({}", self.edition)?;
        if let Some(warning) = &self.warning {
            write!(f, "; {warning}")?;
        }
        f.write_str(")")
    }
}

/// A value that comes from outside, without what a terminal would act on and without what could look like a second line.
pub fn plain(value: &str) -> String {
    value.chars().map(|letter| if acts(letter) { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// JSON whose texts name such characters by number; its own line feeds stay.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && acts(letter) {
            safe += &format!("\\u{:04x}", u32::from(letter));
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Control, bidirectional and line-breaking characters, and those that take no room.
fn acts(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}'
        )
}

/// Whether an output goes to standard output, however it is spelled; that is then no place for people's text.
pub fn is_standard_output(path: &Path) -> bool {
    let stdout = Path::new(STANDARD_OUTPUT);
    let is_device = || stdout.metadata().is_ok_and(|file| is_device(&file));
    path == Path::new("-") || (file_id(path).is_some() && file_id(path) == file_id(stdout) && !is_device())
}

const STANDARD_OUTPUT: &str = "/dev/stdout";

/// A file that a run needs, so that no output may replace it, and what it is.
pub type Needed = (PathBuf, &'static str);

const STORE: &str = "the store's own file";

/// Refuses one target for two outputs, a needed file as a target, and targets and stores in the folder of kept replies.
///
/// The error is a wrong flag.
pub fn check_targets(targets: &[&Path], needed: &[Needed], replies: Option<&Path>) -> Result<(), String> {
    let replies = replies.and_then(|folder| resolved(folder).ok());
    let is_among_replies = |path: &&Path| {
        let path = resolved(path).ok();
        replies.as_deref().zip(path).is_some_and(|(folder, path)| path.starts_with(folder))
    };
    let stores = needed.iter().filter(|(_, what)| *what == STORE).map(|(file, _)| file.as_path());
    if let Some(path) = targets.iter().copied().chain(stores).find(is_among_replies) {
        return Err(format!("{} is in the folder of the saved replies; name another place", path.display()));
    }
    let identities: Vec<Identity> = targets.iter().map(|target| Identity::of(target)).collect();
    let needed: Vec<(Identity, &str)> = needed.iter().map(|(file, what)| (Identity::of(file), *what)).collect();
    for (number, identity) in identities.iter().enumerate() {
        let target = targets[number].display();
        if let Some((_, what)) = needed.iter().find(|(file, _)| file.is(identity)) {
            return Err(format!("{target} is {what}; name another file for the output"));
        }
        if identities[..number].iter().any(|other| other.is(identity)) {
            return Err(format!("{target} is named for two outputs; name another file for one of them"));
        }
    }
    Ok(())
}

/// The store's file, and those that SQLite keeps beside it.
pub fn store_files(store: &Path) -> impl Iterator<Item = Needed> {
    let store = resolved(store).unwrap_or_else(|_| store.to_owned()).into_os_string();
    ["", "-wal", "-shm", "-journal"].into_iter().map(move |ending| {
        let mut file = store.clone();
        file.push(ending);
        (file.into(), STORE)
    })
}

/// What a path means, however it is spelled.
struct Identity {
    path: Option<PathBuf>,
    file: Option<(u64, u64)>,
}

impl Identity {
    fn of(path: &Path) -> Self {
        let path = if path == Path::new("-") { Path::new(STANDARD_OUTPUT) } else { path };
        Self { path: resolved(path).ok(), file: file_id(path) }
    }

    fn is(&self, other: &Self) -> bool {
        (self.path.is_some() && self.path == other.path) || (self.file.is_some() && self.file == other.file)
    }
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.metadata().ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<(u64, u64)> {
    None
}

/// The path without links; also where a link leads to a file that is still to be made.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            match (path.read_link(), path.file_name()) {
                (Ok(target), _) => resolved(&folder.join(target)),
                (_, Some(name)) => Ok(folder.canonicalize()?.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    }
}

/// Something to write to. It is opened and filled early, so that what can't be written shows early, and put in its place
/// at the end. Dropped before that, it leaves nothing.
pub struct Output {
    /// As messages name it.
    name: String,
    place: Place,
}

enum Place {
    /// A file beside the target takes its place when it is whole.
    File { content: NamedTempFile, target: PathBuf, existing: Option<File> },
    /// Standard output, a pipe or a device has no place to move to.
    Stream { content: Vec<u8>, target: Box<dyn Write + Send>, folder: Option<PathBuf>, held: Option<File> },
}

impl Output {
    pub async fn open(path: &Path) -> Result<Self, Failure> {
        if is_standard_output(path) {
            let name = "standard output".to_owned();
            let place = Place::standard_output().map_err(|error| cannot_write(&name, &error))?;
            return Ok(Self { name, place });
        }
        let name = path.display().to_string();
        let asked = path.to_owned();
        // A named pipe opens once somebody reads it.
        let opened = tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(asked)).await?;
        let place = match opened {
            Ok(file) => Place::existing(path, file),
            Err(error) if error.kind() == ErrorKind::NotFound => Place::new(path),
            Err(error) => Err(error),
        };
        let place = place.map_err(|error| cannot_write(&name, &error))?;
        Ok(Self { name, place })
    }

    /// Replaces what was written so far.
    pub fn write(&mut self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let write = || match &mut self.place {
            Place::File { content, .. } => {
                let file = content.as_file_mut();
                file.rewind()?;
                let mut buffered = io::BufWriter::new(&mut *file);
                fill(&mut buffered)?;
                buffered.flush()?;
                drop(buffered);
                // What was there before is cut off only now, so that a shorter text never needs new room.
                let length = file.stream_position()?;
                file.set_len(length)?;
                file.sync_all()
            }
            Place::Stream { content, folder, held, .. } => {
                content.clear();
                fill(content)?;
                if let Some(Ok(mut trial)) = folder.as_deref().map(tempfile::tempfile_in) {
                    trial.write_all(content)?;
                    trial.sync_all()?;
                    *held = Some(trial);
                }
                Ok(())
            }
        };
        write().map_err(|error| cannot_write(&self.name, &error))
    }

    pub fn is_file(&self) -> bool {
        matches!(self.place, Place::File { .. })
    }

    /// Puts it in its place. For a file this is done at once, when the future is first polled.
    pub async fn put(self) -> Result<(), Failure> {
        let put = match self.place {
            Place::File { content, target, existing } => replace(content, &target, existing),
            Place::Stream { content, mut target, held, .. } => {
                drop(held);
                tokio::task::spawn_blocking(move || {
                    target.write_all(&content)?;
                    target.flush()
                })
                .await?
            }
        };
        put.map_err(|error| cannot_write(&self.name, &error))
    }
}

fn cannot_write(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => format!("can't write {name}: its folder is not there; create it first"),
        ErrorKind::IsADirectory => format!("can't write {name}: it is a folder; name a file"),
        ErrorKind::BrokenPipe => format!("can't write {name}: its reader has gone away"),
        // What made the temporary file adds its path.
        _ => format!("can't write {name}: {}", error.to_string().split(" at path ").next().unwrap_or_default()),
    }
    .into()
}

fn replace(mut content: NamedTempFile, target: &Path, existing: Option<File>) -> io::Result<()> {
    let error = match content.persist(target) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    // A file that can be written but not replaced: a mount point, or another owner's in a shared folder.
    let Some(mut existing) = existing else { return Err(error.error) };
    content = error.file;
    content.rewind()?;
    existing.set_len(0)?;
    io::copy(&mut content, &mut existing)?;
    existing.sync_all()
}

impl Place {
    fn standard_output() -> io::Result<Self> {
        let stdout = Path::new(STANDARD_OUTPUT);
        let mut target: Box<dyn Write + Send> = Box::new(io::stdout());
        let mut folder = None;
        match stdout.metadata() {
            // A full disk shows in the folder of the file.
            Ok(file) if file.is_file() => {
                folder = stdout.canonicalize().ok().and_then(|file| file.parent().map(Path::to_owned));
            }
            Ok(file) if is_device(&file) && !io::stdout().is_terminal() => try_device(&mut target)?,
            _ => {}
        }
        Ok(Self::Stream { content: Vec::new(), target, folder, held: None })
    }

    fn existing(path: &Path, mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_file() {
            let target = path.canonicalize()?;
            let content = beside(&target)?;
            keep_owner_and_mode(content.as_file(), &metadata)?;
            return Ok(Self::File { content, target, existing: Some(file) });
        }
        if is_device(&metadata) && !file.is_terminal() {
            try_device(&mut file)?;
        }
        Ok(Self::Stream { content: Vec::new(), target: Box::new(file), folder: None, held: None })
    }

    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(ErrorKind::IsADirectory.into());
        }
        let target = resolved(path)?;
        Ok(Self::File { content: beside(&target)?, target, existing: None })
    }
}

/// A new file of an own name in the target's folder, for its owner only.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let folder = target.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".rollmark-").tempfile_in(folder)
}

/// Whether a device takes anything can only be known by writing to it.
fn try_device(device: &mut impl Write) -> io::Result<()> {
    device.write_all(b"\n")?;
    device.flush()
}

#[cfg(unix)]
fn is_device(file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    file.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_device(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(unix)]
fn keep_owner_and_mode(file: &File, of: &std::fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    // Only root can give a file away; a group can be one of one's own.
    let _ = fchown(file, Some(of.uid()), Some(of.gid())).or_else(|_| fchown(file, None, Some(of.gid())));
    file.set_permissions(std::fs::Permissions::from_mode(of.mode() & 0o777))
}

#[cfg(not(unix))]
fn keep_owner_and_mode(_: &File, _: &std::fs::Metadata) -> io::Result<()> {
    Ok(())
}

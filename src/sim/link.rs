//! Messages between processes, over Unix sockets in a common directory.
//!
//! Each process (more precisely: each installation) takes one of 1024 places in the directory: a socket named after the place's number,
//! which makes the upper part of its queue-pair numbers. So a number alone tells where its queue pair is. A process asks over
//! connections of its own and answers over those of others, each with its own threads, so nobody ever waits for a socket while it
//! holds the lock.
//!
//! A frame is the length of its head (4 bytes), the length of its payload (8 bytes), the head as JSON, and the payload.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::connect::Word;
use super::provider::Provider;
use super::responder::{Answer, Message};
use crate::verbs::Gid;

/// The smallest queue-pair number: 0 and 1 are the management queue pairs, and devices give none near them.
pub const FIRST_QPN: u32 = 0x11;

const PLACES: u32 = 1024;
/// Queue-pair numbers have 24 bits, of which the upper 10 are the place.
const PER_PLACE: u32 = 1 << 14;
/// Longest path of a socket (unix(7)), without the byte that ends it.
const PATH_BYTES: usize = 107;

/// The part of a network that this process has.
pub struct Network {
    directory: PathBuf,
    place: u32,
    listener: UnixListener,
    links: Mutex<HashMap<u32, Arc<Link>>>,
}

/// A connection on which this process asks.
struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<WaitingFor>,
}

/// Who waits for an answer, by the token of the question.
#[derive(Default)]
struct WaitingFor {
    is_closed: bool,
    askers: HashMap<u64, u32>,
}

#[derive(Serialize, Deserialize)]
enum Question {
    /// Of a queue pair, which waits for the answer.
    Data { token: u64, message: Message },
    /// Of a connection; nobody waits.
    Connection(Word),
}

#[derive(Serialize, Deserialize)]
struct Reply {
    token: u64,
    answer: Answer,
}

impl Network {
    /// Takes a place in a directory, which is made if it is not there.
    pub fn join(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        // Held until the place is taken, so that two processes do not both find one free.
        let _lock = lock_directory(directory)?;
        for place in 0..PLACES {
            let path = path_of(directory, place);
            match UnixStream::connect(&path) {
                Ok(_) => continue,
                // Its process is dead.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    if !fs::symlink_metadata(&path)?.file_type().is_socket() {
                        return Err(foreign(&path, "is no socket"));
                    }
                    fs::remove_file(&path)?;
                }
                Err(_) => {}
            }
            let listener = UnixListener::bind(&path)?;
            return Ok(Self { directory: directory.to_owned(), place, listener, links: Mutex::default() });
        }
        Err(io::Error::other(format!("all {PLACES} places of {} are taken", directory.display())))
    }

    /// The numbers that this process gives to its queue pairs.
    pub fn qpns(&self) -> Range<u32> {
        let first = self.place * PER_PLACE;
        first.max(FIRST_QPN)..first + PER_PLACE
    }

    /// The number to begin with.
    pub fn first_qpn(&self) -> u32 {
        self.qpns().start
    }

    /// Begins to answer others.
    pub fn serve(&'static self, provider: &'static Provider) -> io::Result<()> {
        let accept = move || {
            for connection in self.listener.incoming().map_while(Result::ok) {
                // Without a thread for it, the other side sees the connection close.
                let _ = thread::Builder::new().name("sim-answer".to_owned()).spawn(move || answer(provider, connection));
            }
        };
        thread::Builder::new().name("sim-listen".to_owned()).spawn(accept).map(|_| ())
    }

    /// Sends a message of a queue pair to the process of its destination; the answer comes back to the queue pair, if it waits for one.
    pub fn send(&'static self, provider: &'static Provider, qpn: u32, token: u64, mut message: Message) -> io::Result<()> {
        let link = self.link(provider, message.dst_qpn / PER_PLACE)?;
        let payload = std::mem::take(&mut message.payload);
        let frame = frame(&Question::Data { token, message }, &payload)?;
        {
            let mut waiting = lock(&link.waiting);
            if waiting.is_closed {
                return Err(ErrorKind::BrokenPipe.into());
            }
            waiting.askers.insert(token, qpn);
        }
        link.frames.send(frame).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    /// Tells another process something of a connection.
    pub fn tell(&'static self, provider: &'static Provider, place: u32, word: Word) -> io::Result<()> {
        let frame = frame(&Question::Connection(word), &[])?;
        self.link(provider, place)?.frames.send(frame).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    /// The number of this process's place.
    pub fn place(&self) -> u32 {
        self.place
    }

    /// Says that this process listens at addresses.
    pub fn open_listener(&self, addresses: &[SocketAddr]) -> io::Result<()> {
        for (index, address) in addresses.iter().enumerate() {
            // A file with this process's own number is one that a dead process left: who listens here, the bindings tell.
            if self.listener(*address).is_some_and(|place| place != self.place) {
                self.close_listener(&addresses[..index]);
                return Err(io::Error::from_raw_os_error(libc::EADDRINUSE));
            }
            let mut file = own_file(&self.path_of_listener(*address), true)?;
            file.set_len(0)?;
            file.write_all(self.place.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Says that it does no longer.
    pub fn close_listener(&self, addresses: &[SocketAddr]) {
        for address in addresses {
            // Whoever finds it finds nobody behind it.
            let _ = fs::remove_file(self.path_of_listener(*address));
        }
    }

    /// The place of the living process that listens at an address.
    pub fn listener(&self, address: SocketAddr) -> Option<u32> {
        let mut place = String::new();
        own_file(&self.path_of_listener(address), false).ok()?.take(16).read_to_string(&mut place).ok()?;
        let place = place.parse().ok()?;
        (place == self.place || UnixStream::connect(path_of(&self.directory, place)).is_ok()).then_some(place)
    }

    /// Whether a modelled host of this network has an address.
    pub fn has_host_at(&self, gid: Gid) -> bool {
        super::seat::has(&self.directory, gid)
    }

    /// Whether any process listens at any port of an address.
    pub fn has_listener_at(&self, address: IpAddr) -> bool {
        let prefix = format!("listener-{address}-");
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok);
        entries.map(|entry| entry.file_name()).any(|name| name.to_str().is_some_and(|name| name.starts_with(&prefix)))
    }

    fn path_of_listener(&self, address: SocketAddr) -> PathBuf {
        self.directory.join(format!("listener-{}-{}", address.ip(), address.port()))
    }

    fn link(&'static self, provider: &'static Provider, place: u32) -> io::Result<Arc<Link>> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&place) {
            return Ok(link.clone());
        }
        let mut writer = UnixStream::connect(path_of(&self.directory, place))?;
        let reader = writer.try_clone()?;
        let (frames, queue) = mpsc::channel::<Vec<u8>>();
        let link = Arc::new(Link { frames, waiting: Mutex::default() });
        let write = move || {
            for frame in queue {
                if writer.write_all(&frame).is_err() {
                    // The reader sees it too, and ends the link.
                    return;
                }
            }
        };
        let read = {
            let link = link.clone();
            move || {
                take_answers(provider, &link, reader);
                lock(&self.links).remove(&place);
                let askers = {
                    let mut waiting = lock(&link.waiting);
                    waiting.is_closed = true;
                    std::mem::take(&mut waiting.askers)
                };
                for (token, qpn) in askers {
                    provider.lock().take_late_answer(qpn, token, Answer::Silence);
                }
            }
        };
        thread::Builder::new().name("sim-write".to_owned()).spawn(write)?;
        thread::Builder::new().name("sim-read".to_owned()).spawn(read)?;
        links.insert(place, link.clone());
        Ok(link)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why something in the directory is left alone.
pub fn foreign(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!(
        "{} {what}, so rdmadoctor leaves it alone; give --sim-network a directory that nothing else uses",
        path.display()
    ))
}

/// Opens a file of this program's in a directory that others may write to. A link, what is no regular file, and a file of another user are
/// left alone; nothing is waited for.
pub fn own_file(path: &Path, is_made: bool) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(is_made).truncate(false).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => foreign(path, "is a link"),
        _ => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
    })?;
    let metadata = file.metadata()?;
    match () {
        () if !metadata.is_file() => Err(foreign(path, "is no regular file")),
        () if metadata.nlink() != 1 => Err(foreign(path, "has a second name")),
        () if metadata.uid() != Uid::effective().as_raw() => Err(foreign(path, "belongs to another user")),
        () => Ok(file),
    }
}

/// Locks a directory where processes meet, until what it gives is dropped.
pub fn lock_directory(directory: &Path) -> io::Result<Flock<File>> {
    let file = own_file(&directory.join("lock"), true)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))
}

/// Whether the path of a directory leaves room for the names of sockets.
pub fn has_room_for_sockets(directory: &Path) -> bool {
    path_of(directory, PLACES - 1).as_os_str().len() <= PATH_BYTES
}

fn path_of(directory: &Path, place: u32) -> PathBuf {
    directory.join(format!("{place}.sock"))
}

/// Answers one other process until it goes away.
fn answer(provider: &'static Provider, connection: UnixStream) {
    let Ok(mut writer) = connection.try_clone() else { return };
    let mut reader = BufReader::new(connection);
    while let Ok((question, payload)) = read_frame::<Question>(&mut reader) {
        let (token, mut message) = match question {
            Question::Data { token, message } => (token, message),
            Question::Connection(word) => {
                provider.lock().hear(word);
                continue;
            }
        };
        message.payload = payload;
        let mut answer = provider.lock().respond(message);
        let payload = if let Answer::Done(bytes) = &mut answer { std::mem::take(bytes) } else { Vec::new() };
        let Ok(frame) = frame(&Reply { token, answer }, &payload) else { return };
        if writer.write_all(&frame).is_err() {
            return;
        }
    }
}

fn take_answers(provider: &'static Provider, link: &Link, connection: UnixStream) {
    let mut reader = BufReader::new(connection);
    while let Ok((Reply { token, mut answer }, payload)) = read_frame::<Reply>(&mut reader) {
        if let Answer::Done(bytes) = &mut answer {
            *bytes = payload;
        }
        let asker = lock(&link.waiting).askers.remove(&token);
        if let Some(qpn) = asker {
            provider.lock().take_late_answer(qpn, token, answer);
        }
    }
}

fn frame(head: &impl Serialize, payload: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    let mut frame = Vec::with_capacity(12 + head.len() + payload.len());
    frame.extend_from_slice(&u32::try_from(head.len()).map_err(io::Error::other)?.to_ne_bytes());
    frame.extend_from_slice(&(payload.len() as u64).to_ne_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload);
    Ok(frame)
}

fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<(T, Vec<u8>)> {
    let (mut head, mut payload) = ([0; 4], [0; 8]);
    from.read_exact(&mut head)?;
    from.read_exact(&mut payload)?;
    let mut head = vec![0; u32::from_ne_bytes(head) as usize];
    from.read_exact(&mut head)?;
    let mut payload = vec![0; usize::try_from(u64::from_ne_bytes(payload)).map_err(io::Error::other)?];
    from.read_exact(&mut payload)?;
    Ok((serde_json::from_slice(&head)?, payload))
}

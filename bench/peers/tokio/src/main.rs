//! Echo and HTTP servers on Tokio, written the plain way: the contestant of the network bench.
//!
//! One thread: the current-thread runtime. More: the multi-thread runtime with that many workers.
//! The HTTP server parses with httparse, answers all complete requests of a read with one write,
//! and sends the same bytes as every other contestant.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::exit;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{signal, SignalKind};

const BUFFER: usize = 16384;
const MAX_HEADERS: usize = 64;
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

#[derive(Clone, Copy)]
enum Mode {
    Echo,
    Http,
}

struct Options {
    port: u16,
    threads: usize,
    mode: Mode,
}

fn usage() -> ! {
    eprintln!("usage: pica-peer-tokio [--port P] [--threads N] [--mode echo|http]");
    exit(2)
}

fn options() -> Options {
    let mut options = Options { port: 0, threads: 1, mode: Mode::Echo };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_else(|| usage());
        match (name.as_str(), value.as_str()) {
            ("--port", text) => options.port = text.parse().unwrap_or_else(|_| usage()),
            ("--threads", text) => options.threads = text.parse().unwrap_or_else(|_| usage()),
            ("--mode", "echo") => options.mode = Mode::Echo,
            ("--mode", "http") => options.mode = Mode::Http,
            _ => usage(),
        }
    }
    options
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

/// Parses one request at the start of `bytes`: its length, or None when it is not complete yet.
fn request_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let mut out = Vec::with_capacity(BUFFER);
    loop {
        let n = stream.read(&mut buffer[filled..]).await?;
        if n == 0 {
            return Ok(()); // the end of the stream, or a head that fills the whole buffer
        }
        filled += n;
        let mut parsed = 0;
        while let Some(length) = request_length(&buffer[parsed..filled])? {
            parsed += length;
            out.extend_from_slice(RESPONSE);
        }
        buffer.copy_within(parsed..filled, 0);
        filled -= parsed;
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.listen(4096)
}

async fn accept_all(listener: TcpListener, mode: Mode) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A connection that breaks is over; the load counts it.
            let _ = match mode {
                Mode::Echo => echo(stream).await,
                Mode::Http => http(stream).await,
            };
        });
    }
}

async fn serve(port: u16, mode: Mode) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let listener = listen(port)?;
    println!("listening {}", listener.local_addr()?.port());
    io::stdout().flush()?;
    // A task of its own, so that on the multi-thread runtime it runs on a worker.
    let accepting = tokio::spawn(accept_all(listener, mode));
    tokio::select! {
        _ = term.recv() => Ok(()),
        ended = accepting => ended?,
    }
}

fn main() -> io::Result<()> {
    let options = options();
    let mut builder = if options.threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    if options.threads > 1 {
        builder.worker_threads(options.threads);
    }
    builder.enable_all().build()?.block_on(serve(options.port, options.mode))
}
